"""Canary formats: text with holes, the size of their randomness space, and the fills as integers.

A fill is an index in `[0, space_size)`, read as a mixed-radix number over the holes with the first hole
most significant. Everything here is exact at any size: no float stands for |R|, and a draw is a bijection
of distinct indices. This file knows no tokenizer, no dataset and no model.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..arguments import check_instance, check_int, check_list, is_unicode
from ..errors import FormatError, is_int, kind, shown
from .decodability import overlap
from .template import (
    BUILT_IN_SPACES,
    HOLE_IN_TEXT,
    LUHN,
    Hole,
    Literal,
    Piece,
    check_luhn,
    check_source,
    checked_spaces,
    departure_of,
    entries_of,
    hole_texts,
    parse,
    read_choices,
    write,
)


@dataclass(frozen=True)
class CanaryFormat:
    """Text with holes: the shape of a canary, and the space R from which its fills are drawn (§4.1).

    Holes are `{name}` or `{name:n}` (n independent draws side by side); `{{` and `}}` are braces. Built-in
    names are `digit`, `lower`, `upper`, `letter` (A-Z then a-z), `alnum` (0-9, A-Z, a-z), `hex` (0-9, a-f) and
    `luhn`: the check digit over the run of digits, spaces and hyphens that ends at it, which has one value and
    so leaves |R| as it is.

    Args:
        template: the text with holes.
        source: what is read before the canary is written, by an encoder or, of a causal model, as the prompt: a second
            template whose holes repeat those of `template` (matched by name, equal names by order), some of them or
            all, but each of them whole; or a fixed text.
        spaces: own alphabets, name to a list of distinct non-empty strings; they may not redefine a built-in.

    Raises:
        FormatError: the template cannot be read, has no hole, or two fills would give the same text; a source with
            other holes, or with a part of one.

    Example:
        >>> pin = CanaryFormat("My PIN is {digit:4}")
        >>> pin.space_size
        10000
        >>> pin.render(42)
        'My PIN is 0042'
        >>> pin.parse("My PIN is 0042")
        42
        >>> CanaryFormat("{name} moved", spaces={"name": ["Ada", "Alan"]}).render(1)
        'Alan moved'
    """

    template: str
    source: str | None = field(default=None, kw_only=True)
    spaces: Mapping[str, Sequence[str]] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spaces", checked_spaces(self.spaces))
        pieces = parse(self.template, "template", self.spaces)
        if not any(isinstance(piece, Hole) for piece in pieces):
            raise FormatError(
                "template",
                "at least one hole, such as {digit:4}",
                f"a text of {len(self.template)} characters without one",
                "Put a hole where the canary is to be random.",
            )
        check_luhn(pieces, self.template)
        if overlap(pieces, whole=True):
            raise FormatError(
                "template",
                "one text for each fill",
                f"{shown(self.template)}, where two fills give the same text",
                "Separate holes whose entries differ in length by fixed text that no entry contains.",
            )
        if self.source is not None:
            check_source(self.source_pieces, pieces, self.source)

    def __hash__(self) -> int:
        return hash((self.template, self.source, tuple(sorted((self.spaces or {}).items()))))

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The template, read: literals and single draws, in order."""
        return parse(self.template, "template", self.spaces)

    @cached_property
    def source_pieces(self) -> tuple[Piece, ...]:
        """The source, read; empty without one."""
        if self.source is None or (isinstance(self.source, str) and not self.source):
            return ()
        return parse(self.source, "source", self.spaces)

    @cached_property
    def holes(self) -> tuple[Hole, ...]:
        """The single draws of the template, check digits among them."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Hole))

    @cached_property
    def _radices(self) -> tuple[int, ...]:
        return tuple(1 if hole.is_check_digit else len(hole.space) for hole in self.holes)

    @property
    def most_bytes(self) -> int:
        """A bound: no candidate has more bytes in UTF-8, and so hardly more tokens.

        Example:
            >>> CanaryFormat("pin {digit:4}").most_bytes
            8
        """
        return _most_bytes(self.pieces)

    @property
    def most_source_bytes(self) -> int:
        """The same of the sources; 0 without one.

        Example:
            >>> CanaryFormat("pin {digit:4}", source="whose is {digit:4}?").most_source_bytes
            14
        """
        return _most_bytes(self.source_pieces)

    @cached_property
    def space_size(self) -> int:
        """|R|, the number of fills, exact at any size."""
        return math.prod(self._radices)

    @cached_property
    def prefix_free(self) -> bool:
        """Whether no candidate is a proper prefix of another, so that every candidate ends where its text ends."""
        return not overlap(self.pieces, whole=False)

    def check_prefix_free(self) -> None:
        """Refuse a format whose candidates cannot be compared, because some go on where others have ended.

        Raises:
            FormatError: a candidate is a prefix of another.
        """
        if not self.prefix_free:
            raise FormatError(
                "format",
                "candidates that are not prefixes of one another",
                f"{shown(self.template)}, where one is",
                "End the template in fixed text that no entry contains, such as a full stop or a line end; or give "
                "end=True, where it can be given, so that the end token tells them apart.",
            )

    def check_top_k(self, top_k: int) -> int:
        """How many candidates, of as many as there are.

        Raises:
            ArgumentError: not 1 to |R|.
        """
        return check_int("top_k", top_k, least=1, most=self.space_size, remedy="Ask for as many as the format has.")

    def check_fixed(self, argument: str, text: object) -> None:
        """Refuse a hole in what stands beside every fill, where it would be read as the characters that it is.

        Args:
            argument: what the text was given as.
            text: any; what is no text has no holes. Other braces, and doubled ones, are text.

        Raises:
            FormatError: it has a hole.

        Example:
            >>> CanaryFormat("Mon code est {digit:4}.").check_fixed("source", "My code is 1234.")
        """
        known = {**BUILT_IN_SPACES, LUHN: "", **(self.spaces or {})}
        found = HOLE_IN_TEXT.finditer(text) if isinstance(text, str) else iter(())
        hole = next((match for match in found if match["name"] in known), None)
        if hole is not None:
            raise FormatError(
                argument,
                "fixed text, the same for every fill",
                f"the hole {hole.group()}",
                "Write out what stands there. Where the source repeats the fill, give it to the format, "
                "CanaryFormat(..., source=...): measure_exposure scores each fill with its own.",
            )

    def render(self, fill: int) -> str:
        """The candidate of `fill`, an int in `[0, space_size)`.

        Raises:
            FormatError: `fill` is not an int or lies outside the space.
        """
        return write(self.pieces, self._choices(fill))

    def entries(self, fill: int) -> list[str]:
        """What each hole holds, check digits among them.

        Raises:
            FormatError: `fill` is not an int or lies outside the space.

        Example:
            >>> CanaryFormat("no {digit}-{luhn}").entries(4)
            ['4', '2']
        """
        return hole_texts(self.pieces, self._choices(fill))

    @property
    def source_varies(self) -> bool:
        """Whether the source has holes, so that each fill has a source of its own (§6.4)."""
        return any(isinstance(piece, Hole) for piece in self.source_pieces)

    def render_source(self, fill: int) -> str | None:
        """The source of `fill`, or None when the format has no source.

        Raises:
            FormatError: `fill` is not an int or lies outside the space.
        """
        choices = self._choices(fill)
        if self.source is None:
            return None
        by_name: dict[str, list[str]] = {}
        for hole, text in zip(self.holes, hole_texts(self.pieces, choices), strict=True):
            by_name.setdefault(hole.name, []).append(text)
        repeated = {name: iter(texts) for name, texts in by_name.items()}
        return "".join(p.text if isinstance(p, Literal) else next(repeated[p.name]) for p in self.source_pieces)

    def parse(self, text: str) -> int:
        """The fill whose candidate is `text`: the inverse of `render`.

        Raises:
            FormatError: `text` is no candidate of this format.

        Example:
            >>> CanaryFormat("{digit:2}-{digit:2}").parse("12-34")
            1234
        """
        choices = read_choices(self.pieces, text) if isinstance(text, str) else None
        if choices is None:
            raise FormatError(
                "text",
                f"a candidate of {shown(self.template)}",
                departure_of(self.pieces, text) if isinstance(text, str) else kind(text),
                "Give all of the text, every hole filled, with nothing before and nothing after.",
            )
        return self._fill_of(choices)

    def sample(self, n: int, seed: int | str, exclude: Iterable[int] = ()) -> list[int]:
        """`n` distinct fills, uniform over the space without those in `exclude`, in random order.

        A sparse Fisher-Yates shuffle over the indices that remain: every ordered sample has the same probability,
        for |R| from 1 to far beyond 64 bits, with memory O(n + len(exclude)).

        Args:
            n: how many fills.
            seed: an int, or a text that names the draw; the same seed gives the same fills.
            exclude: fills that must not come out.

        Raises:
            FormatError: fewer than `n` fills remain, or an argument is no int.

        Example:
            >>> sorted(CanaryFormat("{digit}").sample(8, seed=0, exclude=[3, 7]))
            [0, 1, 2, 4, 5, 6, 8, 9]
        """
        listed = check_list("exclude", exclude, "a list of fills", "Leave it out for none.")
        taken = sorted({self.checked_fill(fill, "exclude") for fill in listed})
        free = self.space_size - len(taken)
        if not is_int(n) or n < 0:
            raise FormatError("n", "a whole number, 0 or more", shown(n), "Give the number of fills to draw.")
        if not is_int(seed) and not (isinstance(seed, str) and is_unicode(seed)):
            raise FormatError("seed", "an int or a str", shown(seed), "Give a fixed seed, so that the draw repeats.")
        if n > free:
            raise FormatError(
                "n",
                f"at most {shown(free)}, the fills of {shown(self.template)} that remain "
                f"(|R| = {shown(self.space_size)}, {len(taken)} excluded)",
                shown(n),
                "Draw fewer, or give the format more or wider holes.",
            )
        # Gap j holds the fills between the excluded ones: the i-th remaining fill is i plus the excluded below it.
        shifts = [fill - below for below, fill in enumerate(taken)]
        n, seed = int(n), seed if isinstance(seed, str) else int(seed)
        return [index + bisect.bisect_right(shifts, index) for index in _sample_indices(n, free, seed)]

    def candidates(self) -> Iterator[str]:
        """Every candidate in the order of its fill, lazily.

        Example:
            >>> list(CanaryFormat("bit {b}", spaces={"b": ["0", "1"]}).candidates())
            ['bit 0', 'bit 1']
        """
        if any(hole.is_check_digit for hole in self.holes):
            yield from (write(self.pieces, choices) for choices in itertools.product(*map(range, self._radices)))
        else:
            written = ((piece.text,) if isinstance(piece, Literal) else piece.space for piece in self.pieces)
            yield from map("".join, itertools.product(*written))

    def covering_candidates(self) -> list[str]:
        """As few candidates as can be in which every entry of every hole occurs: what a tokenizer is checked on.

        Example:
            >>> CanaryFormat("{b}{digit}", spaces={"b": "xy"}).covering_candidates()[:3]
            ['x0', 'y1', 'x2']
        """
        return [self.render(fill) for fill in self.covering_fills()]

    def covering_fills(self, most: int | None = None) -> list[int]:
        """The fills of the covering candidates, or the first of them.

        Args:
            most: how many, at most; None is all.
        """
        count = max(self._radices)
        return [
            self._fill_of([number % radix for radix in self._radices])
            for number in range(count if most is None else min(count, most))
        ]

    def neighbour(self, fill: int, generator: random.Random) -> int:
        """A fill that differs from this one in one entry, drawn at random; itself if no hole has another.

        Args:
            fill: of this format.
            generator: to draw with.

        Raises:
            FormatError: `fill` is not an int or lies outside the space.

        Example:
            >>> import random
            >>> CanaryFormat("{b} 1", spaces={"b": ["yes", "no"]}).neighbour(0, random.Random(0))
            1
        """
        choices = list(self._choices(fill))
        holes = [hole for hole, radix in enumerate(self._radices) if radix > 1]
        if holes:
            hole = generator.choice(holes)
            choices[hole] = (choices[hole] + generator.randrange(1, self._radices[hole])) % self._radices[hole]
        return self._fill_of(choices)

    def checked_fill(self, fill: int, argument: str = "fill") -> int:
        """A fill of this format, as one of Python's numbers.

        Raises:
            FormatError: it is not an int or lies outside the space.
        """
        if not is_int(fill) or not 0 <= fill < self.space_size:
            raise FormatError(
                argument,
                f"a fill of {shown(self.template)}: an int in [0, {shown(self.space_size)})",
                ("one below 0" if fill < 0 else "one that is |R| or more") if is_int(fill) else kind(fill),
                "Count from 0: the first fill is 0, and the last one less than their number.",
            )
        return int(fill)

    def _fill_of(self, choices: Iterable[int]) -> int:
        """The fill of these entries of the holes, a check digit's being 0."""
        fill = 0
        for radix, choice in zip(self._radices, choices, strict=True):
            fill = fill * radix + choice
        return fill

    def _choices(self, fill: int) -> tuple[int, ...]:
        rest, choices = self.checked_fill(fill, "fill"), []
        for radix in reversed(self._radices):
            rest, choice = divmod(rest, radix)
            choices.append(choice)
        return tuple(reversed(choices))


def _most_bytes(pieces: Iterable[Piece]) -> int:
    return sum(max(len(entry.encode()) for entry in entries_of(piece)) for piece in pieces)


def _sample_indices(n: int, size: int, seed: int | str) -> Iterator[int]:
    """`n` distinct indices below `size`: a Fisher-Yates shuffle that stores only the places it moved."""
    # As text, because random.Random takes a seed and its negative for the same.
    generator = random.Random(seed if isinstance(seed, str) else hex(seed))
    moved: dict[int, int] = {}
    for index in range(n):
        other = generator.randrange(index, size)
        yield moved.get(other, other)
        moved[other] = moved.pop(index, index)


def check_format(format: object) -> None:
    """Refuse a format's text alone.

    Raises:
        ArgumentTypeError: it is no format.
    """
    check_instance("format", format, CanaryFormat, "a CanaryFormat", "Write CanaryFormat(...) around the text.")

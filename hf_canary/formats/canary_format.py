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
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..arguments import check_instance, check_int
from ..errors import FormatError, is_int, kind, shown

_DIGITS = "0123456789"
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()

BUILT_IN_SPACES: Mapping[str, str] = {
    "digit": _DIGITS,
    "lower": _LOWER,
    "upper": _UPPER,
    "letter": _UPPER + _LOWER,
    "alnum": _DIGITS + _UPPER + _LOWER,
    "hex": _DIGITS + "abcdef",
}
LUHN = "luhn"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_HOLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_-]*)(?::(?P<count>[0-9]+))?")
# What is doubled on both sides is text.
_HOLE_IN_TEXT = re.compile(r"\{\{[^{}]*\}\}|\{" + _HOLE.pattern + r"\}")
_BRACE = re.compile(r"[{}]")
_MAX_COUNT = 10_000


@dataclass(frozen=True)
class Literal:
    """Fixed text, never empty."""

    text: str


@dataclass(frozen=True)
class Hole:
    """One independent draw from `space`; a check digit (`name == "luhn"`) has no space of its own."""

    name: str
    space: tuple[str, ...]

    @property
    def is_check_digit(self) -> bool:
        return self.name == LUHN

    @cached_property
    def index(self) -> dict[str, int]:
        return {choice: number for number, choice in enumerate(self.space)}

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        return tuple(sorted({len(choice) for choice in self.space}))


Piece = Literal | Hole


# The Luhn sums modulo 10 of a run of digits, with its last digit doubled and with it not doubled.
LuhnSums = tuple[int, int]


def luhn_sums(text: str, sums: LuhnSums = (0, 0)) -> LuhnSums:
    """The sums of the run of digits, spaces and hyphens that ends a text of sums `sums` followed by `text`."""
    doubled, plain = sums
    for character in text:
        if character in _DIGITS:
            digit = int(character)
            doubled, plain = (sum(divmod(2 * digit, 10)) + plain) % 10, (digit + doubled) % 10
        elif character not in " -":
            doubled, plain = 0, 0
    return doubled, plain


def luhn_digit(sums: LuhnSums) -> str:
    """The Luhn check digit (ISO/IEC 7812-1, annex B) of a run with these sums.

    Example:
        >>> luhn_digit(luhn_sums("card 7992739871"))
        '3'
    """
    return str(-sums[0] % 10)


@dataclass(frozen=True)
class CanaryFormat:
    """Text with holes: the shape of a canary, and the space R from which its fills are drawn (§4.1).

    Holes are `{name}` or `{name:n}` (n independent draws side by side); `{{` and `}}` are braces. Built-in
    names are `digit`, `lower`, `upper`, `letter` (A-Z then a-z), `alnum` (0-9, A-Z, a-z), `hex` (0-9, a-f) and
    `luhn`: the check digit over the run of digits, spaces and hyphens that ends at it, which has one value and
    so leaves |R| as it is.

    Args:
        template: the text with holes.
        source: for encoder-decoder models, a second template whose holes repeat those of `template`
            (matched by name, equal names by order), or a fixed text.
        spaces: own alphabets, name to a list of distinct non-empty strings; they may not redefine a built-in.

    Raises:
        FormatError: the template cannot be read, has no hole, or two fills would give the same text.

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
        object.__setattr__(self, "spaces", _checked_spaces(self.spaces))
        pieces = _parsed(self.template, "template", self.spaces)
        if not any(isinstance(piece, Hole) for piece in pieces):
            raise FormatError(
                "template",
                "at least one hole, such as {digit:4}",
                f"a text of {len(self.template)} characters without one",
                "Put a hole where the canary is to be random.",
            )
        _check_luhn(pieces, self.template)
        if _overlap(pieces, whole=True):
            raise FormatError(
                "template",
                "one text for each fill",
                f"{shown(self.template)}, where two fills give the same text",
                "Separate holes whose entries differ in length by fixed text that no entry contains.",
            )
        if self.source is not None:
            _check_source(self.source_pieces, pieces, self.source)

    def __hash__(self) -> int:
        return hash((self.template, self.source, tuple(sorted((self.spaces or {}).items()))))

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The template, read: literals and single draws, in order."""
        return _parsed(self.template, "template", self.spaces)

    @cached_property
    def source_pieces(self) -> tuple[Piece, ...]:
        """The source, read; empty without one."""
        return _parsed(self.source, "source", self.spaces) if self.source else ()

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
        return sum(max(len(entry.encode()) for entry in entries_of(piece)) for piece in self.pieces)

    @cached_property
    def space_size(self) -> int:
        """|R|, the number of fills, exact at any size."""
        return math.prod(self._radices)

    @cached_property
    def prefix_free(self) -> bool:
        """Whether no candidate is a proper prefix of another, so that every candidate ends where its text ends."""
        return not _overlap(self.pieces, whole=False)

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

    def check_top_k(self, top_k: int) -> None:
        """Refuse no candidates, and more than there are.

        Raises:
            ArgumentError: not 1 to |R|.
        """
        check_int("top_k", top_k, least=1, most=self.space_size, remedy="|R| is the most; without it it is one.")

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
        found = _HOLE_IN_TEXT.finditer(text) if isinstance(text, str) else iter(())
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
        return _written(self.pieces, self._choices(fill))

    def entries(self, fill: int) -> list[str]:
        """What each hole holds, check digits among them.

        Raises:
            FormatError: `fill` is not an int or lies outside the space.

        Example:
            >>> CanaryFormat("no {digit}-{luhn}").entries(4)
            ['4', '2']
        """
        return _hole_texts(self.pieces, self._choices(fill))

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
        for hole, text in zip(self.holes, _hole_texts(self.pieces, choices), strict=True):
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
        choices = _read(self.pieces, text) if isinstance(text, str) else None
        if choices is None:
            raise FormatError(
                "text",
                f"a candidate of {shown(self.template)}",
                _departure(self.pieces, text) if isinstance(text, str) else kind(text),
                "Give the text as render() writes it, nothing before and nothing after.",
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
        taken = sorted({self._checked(fill, "exclude") for fill in exclude})
        free = self.space_size - len(taken)
        if not is_int(n) or n < 0:
            raise FormatError("n", "a whole number, 0 or more", shown(n), "Give the number of fills to draw.")
        if not is_int(seed) and not isinstance(seed, str):
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
        return [index + bisect.bisect_right(shifts, index) for index in _sample_indices(n, free, seed)]

    def candidates(self) -> Iterator[str]:
        """Every candidate in the order of its fill, lazily.

        Example:
            >>> list(CanaryFormat("bit {b}", spaces={"b": ["0", "1"]}).candidates())
            ['bit 0', 'bit 1']
        """
        if any(hole.is_check_digit for hole in self.holes):
            yield from (_written(self.pieces, choices) for choices in itertools.product(*map(range, self._radices)))
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

    def _checked(self, fill: int, argument: str) -> int:
        if not is_int(fill) or not 0 <= fill < self.space_size:
            raise FormatError(
                argument,
                f"a fill of {shown(self.template)}: an int in [0, {shown(self.space_size)})",
                ("one below 0" if fill < 0 else "one that is |R| or more") if is_int(fill) else kind(fill),
                "Use a fill that sample() or parse() gave for this format.",
            )
        return int(fill)

    def _fill_of(self, choices: Iterable[int]) -> int:
        """The fill of these entries of the holes, a check digit's being 0."""
        fill = 0
        for radix, choice in zip(self._radices, choices, strict=True):
            fill = fill * radix + choice
        return fill

    def _choices(self, fill: int) -> tuple[int, ...]:
        rest, choices = self._checked(fill, "fill"), []
        for radix in reversed(self._radices):
            rest, choice = divmod(rest, radix)
            choices.append(choice)
        return tuple(reversed(choices))


def _sample_indices(n: int, size: int, seed: int | str) -> Iterator[int]:
    """`n` distinct indices below `size`: a Fisher-Yates shuffle that stores only the places it moved."""
    # As text, because random.Random takes a seed and its negative for the same.
    generator = random.Random(seed if isinstance(seed, str) else hex(seed))
    moved: dict[int, int] = {}
    for place in range(n):
        other = generator.randrange(place, size)
        yield moved.get(other, other)
        moved[other] = moved.pop(place, place)


def _checked_spaces(spaces: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]] | None:
    if spaces is None:
        return None
    if not isinstance(spaces, Mapping):
        raise FormatError(
            "spaces", 'a dict such as {"word": ["red", "blue"]}', shown(spaces), "Name each alphabet by its hole."
        )
    checked = {}
    for name, entries in spaces.items():
        argument = f"spaces[{shown(name)}]"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise FormatError(argument, "a plain name", shown(name), "Use letters, digits, _ and -.")
        if name in BUILT_IN_SPACES or name == LUHN:
            raise FormatError(argument, "a name of your own", f"the built-in {name!r}", "Choose another name.")
        if not isinstance(entries, (str, list, tuple)):
            raise FormatError(argument, "a list of strings", shown(entries), "List the values in a fixed order.")
        entries = tuple(entries)
        if not entries or not all(isinstance(entry, str) and entry for entry in entries):
            raise FormatError(
                argument, "a list of non-empty strings", shown(entries), "List every value that the hole may take."
            )
        if len(set(entries)) < len(entries):
            twice = next(entry for entry in entries if entries.count(entry) > 1)
            raise FormatError(argument, "distinct entries", f"{shown(twice)} twice", "Remove the repeated entry.")
        checked[name] = entries
    return checked or None


def _parsed(template: str, argument: str, spaces: Mapping[str, Sequence[str]] | None) -> tuple[Piece, ...]:
    if not isinstance(template, str):
        raise FormatError(argument, "a str", shown(template), "Give the text with holes.")
    pieces: list[Piece] = []
    literal = ""
    at = 0
    while at < len(template):
        character = template[at]
        if template[at : at + 2] in ("{{", "}}"):
            literal, at = literal + character, at + 2
        elif character == "{":
            end = template.find("}", at)
            if literal:
                pieces.append(Literal(literal))
                literal = ""
            pieces += _hole_draws(template, at, end, argument, spaces)
            at = end + 1
        elif character == "}":
            raise FormatError(
                argument,
                "every } to close a hole",
                f"a lone }} at character {at} of {shown(template)}",
                "Write }} for a brace in the text.",
            )
        else:
            brace = _BRACE.search(template, at)
            end = brace.start() if brace else len(template)
            literal, at = literal + template[at:end], end
    if literal:
        pieces.append(Literal(literal))
    return tuple(pieces)


def _hole_draws(
    template: str, at: int, end: int, argument: str, spaces: Mapping[str, Sequence[str]] | None
) -> list[Hole]:
    """The draws of the hole that opens at `at` and closes at `end` (-1: it does not)."""
    if end < 0:
        raise FormatError(
            argument,
            "every { to be closed",
            f"an unclosed {{ at character {at} of {shown(template)}",
            "Close the hole, or write {{ for a brace in the text.",
        )
    inside = template[at + 1 : end]
    match = _HOLE.fullmatch(inside)
    if not match:
        raise FormatError(
            argument,
            "holes like {digit} or {digit:4}",
            f"{shown('{' + inside + '}')} at character {at}",
            "A hole is a name and, after a colon, a number; attributes, indices and conversions have no meaning here.",
        )
    name, digits = match["name"], (match["count"] or "1").lstrip("0") or "0"
    count = int(digits) if len(digits) <= len(str(_MAX_COUNT)) else _MAX_COUNT + 1
    known = {**BUILT_IN_SPACES, LUHN: "", **(spaces or {})}
    if name not in known:
        raise FormatError(
            argument,
            f"one of the alphabets {shown(list(known))}" if spaces else f"one of the alphabets {', '.join(known)}",
            f"the unknown name {shown(name)}",
            "Correct it, or give its entries: spaces={name: [...]}.",
        )
    if not 1 <= count <= _MAX_COUNT:
        raise FormatError(
            argument, f"1 to {_MAX_COUNT} draws in a hole", shown("{" + inside + "}"), "Change the number."
        )
    return [Hole(name, tuple(known[name]))] * count


def _check_luhn(pieces: tuple[Piece, ...], template: str) -> None:
    """A check digit is over something: what stands before it, spaces and hyphens aside, always ends in a digit."""
    for position, piece in enumerate(pieces):
        if not (isinstance(piece, Hole) and piece.is_check_digit):
            continue
        for before in reversed(pieces[:position]):
            ends = [before.text] if isinstance(before, Literal) else list(before.space) or ["0"]
            stripped = [end.rstrip(" -") for end in ends]
            if any(stripped):
                break
        else:
            stripped = [""]
        if not all(end and end[-1] in _DIGITS for end in stripped):
            raise FormatError(
                "template",
                "digits before {luhn}, on every fill",
                shown(template),
                "Put the check digit after the digits that it checks.",
            )


def _check_source(source_pieces: tuple[Piece, ...], pieces: tuple[Piece, ...], source: str) -> None:
    def counts(some: tuple[Piece, ...]) -> dict[str, int]:
        names = [piece.name for piece in some if isinstance(piece, Hole)]
        return {name: names.count(name) for name in names}

    available = counts(pieces)
    for name, count in counts(source_pieces).items():
        if count > available.get(name, 0):
            raise FormatError(
                "source",
                "holes that repeat those of the template",
                f"{count} of {shown(name)} in {shown(source)} where the template has {available.get(name, 0)}",
                "Repeat holes of the template, or write fixed text.",
            )


def _hole_texts(pieces: Sequence[Piece], choices: Sequence[int]) -> list[str]:
    holes = [piece for piece in pieces if isinstance(piece, Hole)]
    if not any(hole.is_check_digit for hole in holes):
        return [hole.space[choice] for hole, choice in zip(holes, choices, strict=True)]
    texts: list[str] = []
    sums: LuhnSums = (0, 0)
    for piece in pieces:
        if isinstance(piece, Literal):
            sums = luhn_sums(piece.text, sums)
        else:
            texts.append(luhn_digit(sums) if piece.is_check_digit else piece.space[choices[len(texts)]])
            sums = luhn_sums(texts[-1], sums)
    return texts


def _written(pieces: Sequence[Piece], choices: Sequence[int]) -> str:
    texts = iter(_hole_texts(pieces, choices))
    return "".join(piece.text if isinstance(piece, Literal) else next(texts) for piece in pieces)


def _read(pieces: Sequence[Piece], text: str) -> list[int] | None:
    """The choice of every hole for which `pieces` write `text`, or None. A unique one, by construction."""
    # reached[i]: the ends that the first i pieces can reach, each with the start and choice that led there.
    reached: list[dict[int, tuple[int, int]]] = [{0: (0, 0)}]
    for piece in pieces:
        ends: dict[int, tuple[int, int]] = {}
        for start in reached[-1]:
            for end, choice in _readings(piece, text, start):
                ends[end] = (start, choice)
        reached.append(ends)
    if len(text) not in reached[-1]:
        return None
    choices, end = [], len(text)
    for piece, ends in zip(reversed(pieces), reversed(reached), strict=False):
        end, choice = ends[end]
        if isinstance(piece, Hole):
            choices.append(choice)
    return choices[::-1]


def _departure(pieces: Sequence[Piece], text: str) -> str:
    """Where a text ceases to be a candidate, without a word of it."""

    def shared(literal: str, start: int) -> int:
        pairs = enumerate(zip(literal, text[start:], strict=False))
        return next((at for at, (one, other) in pairs if one != other), min(len(literal), len(text) - start))

    starts, furthest = {0}, 0
    for piece in pieces:
        if isinstance(piece, Literal):
            furthest = max(start + shared(piece.text, start) for start in starts)
        starts = {end for start in starts for end, _ in _readings(piece, text, start)}
        if not starts:
            break
        furthest = max(starts)
    return f"one of {len(text)} characters, of which the first {furthest} fit"


def _readings(piece: Piece, text: str, start: int) -> Iterator[tuple[int, int]]:
    """Where `piece` can end when it starts at `start`, with the choice made."""
    if isinstance(piece, Literal):
        if text.startswith(piece.text, start):
            yield start + len(piece.text), 0
    elif piece.is_check_digit:
        if text[start : start + 1] == luhn_digit(luhn_sums(text[:start])):
            yield start + 1, 0
    else:
        for length in piece.lengths:
            choice = piece.index.get(text[start : start + length])
            if choice is not None and start + length <= len(text):
                yield start + length, choice


def entries_of(piece: Piece) -> tuple[str, ...]:
    """What one piece can write; a check digit may be any digit."""
    if isinstance(piece, Literal):
        return (piece.text,)
    return tuple(_DIGITS) if piece.is_check_digit else piece.space


class _Entries:
    """What one piece can write, indexed by prefix."""

    def __init__(self, piece: Piece) -> None:
        entries = entries_of(piece)
        self._set = frozenset(entries)
        self._sorted = sorted(entries)
        self._lengths = sorted({len(entry) for entry in entries})

    def leads(self) -> set[str]:
        """What one entry has written beyond another that it begins with."""
        found: set[str] = set()
        begun: list[str] = []  # those that an entry begins with: sorted, they stand before it
        for entry in self._sorted:
            while begun and not entry.startswith(begun[-1]):
                begun.pop()
            found.update(entry[len(other) :] for other in begun)
            begun.append(entry)
        return found

    def compatible(self, text: str) -> Iterator[str]:
        """The entries that begin `text` or begin with it."""
        yield from (text[:cut] for cut in self._lengths if cut < len(text) and text[:cut] in self._set)
        at = bisect.bisect_left(self._sorted, text)
        yield from itertools.takewhile(lambda entry: entry.startswith(text), itertools.islice(self._sorted, at, None))


def _overlap(pieces: Sequence[Piece], *, whole: bool) -> bool:
    """Whether two different fills give one text (`whole`), or one text a proper prefix of the other (not `whole`).

    Follows two readings from the hole where they first differ. In a state `(behind, ahead, lead)` both have written
    the same text, except that the second has written `lead` more, and they go on at these pieces. This is the
    dangling-suffix test of Sardinas and Patterson (1953) along the pieces. A check digit counts as any digit, so
    that a template is refused rather than wrongly accepted.
    """
    end = len(pieces)
    of_piece = {piece: _Entries(piece) for piece in set(pieces)}
    entries = [of_piece[piece] for piece in pieces]
    pending = [(at + 1, at + 1, lead) for at, written in enumerate(entries) for lead in written.leads()]
    seen = set(pending)
    while pending:
        behind, ahead, lead = pending.pop()
        if not lead and behind == ahead:
            if whole:
                return True
        elif behind == end or (not lead and ahead == end):
            if not whole:
                return True
        else:
            for entry in entries[behind].compatible(lead):
                if len(entry) <= len(lead):
                    state = (behind + 1, ahead, lead[len(entry) :])
                else:
                    state = (ahead, behind + 1, entry[len(lead) :])
                if state not in seen:
                    seen.add(state)
                    pending.append(state)
    return False


def check_format(format: object) -> None:
    """Refuse a format's text alone.

    Raises:
        ArgumentTypeError: it is no format.
    """
    check_instance("format", format, CanaryFormat, "a CanaryFormat", "Write CanaryFormat(...) around the text.")

"""Templates: a text with holes as its pieces, which write a text and read it. Knows no fill and no |R|."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import FormatError, shown

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
HOLE_IN_TEXT = re.compile(r"\{\{[^{}]*\}\}|\{" + _HOLE.pattern + r"\}")


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


def checked_spaces(spaces: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]] | None:
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
            ((twice, _),) = Counter(entries).most_common(1)
            raise FormatError(argument, "distinct entries", f"{shown(twice)} twice", "Remove the repeated entry.")
        checked[name] = entries
    return checked or None


def parse(template: str, argument: str, spaces: Mapping[str, Sequence[str]] | None) -> tuple[Piece, ...]:
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


def check_luhn(pieces: tuple[Piece, ...], template: str) -> None:
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


def check_source(source_pieces: tuple[Piece, ...], pieces: tuple[Piece, ...], source: str) -> None:
    """A source repeats holes of the template whole: one that ends within a hole has left out a part by mistake."""
    ends = _ends_of_holes(pieces)
    for name, (*_, count) in _ends_of_holes(source_pieces).items():
        if count not in ends.get(name, []):
            available = ends.get(name, [0])[-1]
            inside = f", in holes that end after {', '.join(map(str, ends[name]))}" if count < available else ""
            raise FormatError(
                "source",
                "holes that repeat those of the template, each of them whole",
                f"{count} of {shown(name)} in {shown(source)} where the template has {available}{inside}",
                "Repeat holes of the template, or write fixed text.",
            )


def _ends_of_holes(pieces: tuple[Piece, ...]) -> dict[str, list[int]]:
    """By name, after how many draws of it a hole ends; draws side by side are of one hole."""
    ends: dict[str, list[int]] = {}
    for name, draws in itertools.groupby(pieces, lambda piece: piece.name if isinstance(piece, Hole) else None):
        if name is not None:
            before = ends.setdefault(name, [])
            before.append((before[-1] if before else 0) + len(list(draws)))
    return ends


def hole_texts(pieces: Sequence[Piece], choices: Sequence[int]) -> list[str]:
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


def write(pieces: Sequence[Piece], choices: Sequence[int]) -> str:
    """The text of pieces, of whose holes each has one choice; a check digit follows from what stands before it."""
    texts = iter(hole_texts(pieces, choices))
    return "".join(piece.text if isinstance(piece, Literal) else next(texts) for piece in pieces)


def read_choices(pieces: Sequence[Piece], text: str) -> list[int] | None:
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


def departure_of(pieces: Sequence[Piece], text: str) -> str:
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

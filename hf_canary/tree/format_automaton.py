"""A format as an automaton over characters: where a candidate stands that has been written so far, and what may follow.

Places are numbers. Knows pieces, entries and check digits; no tokenizer.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from ..formats.canary_format import CanaryFormat
from ..formats.template import Literal, LuhnSums, Piece, entries_of, luhn_digit, luhn_sums

_DIGITS = "0123456789"
_ENDS_RUN = -1


class Place(NamedTuple):
    """Where a beginning of candidates ends.

    Args:
        piece: which of the pieces is being written.
        written: of its entry so far.
        sums: the Luhn sums that a coming check digit will be over, as far as they matter to it: 0 where one does not,
            None where neither does, so that beginnings which differ only there are in one place.
    """

    piece: int
    written: str
    sums: LuhnSums | None


class FormatAutomaton:
    """A format, after some fixed text, as an automaton over its characters.

    Args:
        format: any.
        context: fixed text before it.

    Attributes:
        pieces: those of the format, the context first if there is one.
        start: the place before the first character.
    """

    def __init__(self, format: CanaryFormat, context: str = "") -> None:
        self.pieces: tuple[Piece, ...] = (*((Literal(context),) if context else ()), *format.pieces)
        kinds = {piece: PieceEntries(piece) for piece in set(self.pieces)}
        self._entries = [kinds[piece] for piece in self.pieces]
        self._num_before = len(self.pieces) - len(format.pieces)
        self._wanted = [frozenset[int]()] * self._num_before + _wanted_sums(format.pieces)
        self._numbers: dict[Place, int] = {}
        self._places: list[Place] = []
        self._moves: dict[int, list[tuple[str, int]]] = {}
        self.start = self._number(Place(0, "", self._kept((0, 0), 0, "")))

    def moves(self, number: int) -> list[tuple[str, int]]:
        """(character, place behind it) of all that may come next: on in an entry, behind it, or both."""
        if number not in self._moves:
            self._moves[number] = [(c, self._number(place)) for c, place in self._find_moves(self._places[number])]
        return self._moves[number]

    def is_end(self, number: int) -> bool:
        """Whether a candidate ends here."""
        return self._places[number].piece == len(self.pieces)

    def place(self, number: int) -> Place:
        """What a number stands for."""
        return self._places[number]

    def in_literal(self, piece: int, length: int) -> int:
        """The place behind so many characters of a piece of fixed text before which no digits matter."""
        (text,) = entries_of(self.pieces[piece])
        number = self._number(Place(piece, "", self._kept((0, 0), piece, "")))
        for character in text[:length]:
            number = dict(self.moves(number))[character]
        return number

    def has_sums(self, piece: int) -> bool:
        """Whether digits before a piece matter to a check digit that comes later."""
        return bool(self._wanted[piece])

    def completions(self, number: int) -> int:
        """How many candidates go on from a place, at most: one that ends is counted though others go on from it."""
        place = self._places[number]
        if place.piece == len(self.pieces):
            return 1
        behind = math.prod(entries.size for entries in self._entries[place.piece + 1 :])
        return behind * self._entries[place.piece].count(place.written)

    def _number(self, place: Place) -> int:
        if place not in self._numbers:
            self._numbers[place] = len(self._places)
            self._places.append(place)
        return self._numbers[place]

    def _find_moves(self, place: Place) -> Iterator[tuple[str, Place]]:
        number, written, sums = place
        if number == len(self.pieces):
            return
        entries = self._entries[number]
        for character in entries.next_characters(written, luhn_digit(sums or (0, 0))):
            grown = written + character
            # The context is no part of a check digit's run.
            moved = luhn_sums(character, sums or (0, 0)) if number >= self._num_before else (0, 0)
            longer, whole = entries.state(grown)
            if longer:
                yield character, Place(number, grown, self._kept(moved, number, grown))
            if whole:
                yield character, Place(number + 1, "", self._kept(moved, number + 1, ""))

    def _kept(self, sums: LuhnSums, piece: int, written: str) -> LuhnSums | None:
        """Of the sums what matters to a check digit that comes."""
        wanted = self._wanted[piece]
        if written and piece >= self._num_before:
            wanted = self._wanted[piece + 1]
            wanted = wanted and _before_digits(wanted, self._entries[piece].digits, written)
        return (sums[0] * (0 in wanted), sums[1] * (1 in wanted)) if wanted else None


def _wanted_sums(pieces: Sequence[Piece]) -> list[frozenset[int]]:
    """Before each piece, and behind the last: which of the two Luhn sums a later check digit depends on.

    With each digit the two change places; what is neither a digit, a space nor a hyphen ends the run.
    """
    wanted = [frozenset[int]()]
    for piece in reversed(pieces):
        if is_check(piece):
            wanted.append(frozenset({0}) | _before_digits(wanted[-1], 1, ""))
        else:
            wanted.append(wanted[-1] and _before_digits(wanted[-1], _digits_in(piece), ""))
    return wanted[::-1]


def _before_digits(wanted: frozenset[int], digits: int | None, written: str) -> frozenset[int]:
    """Which sums are wanted before so many digits, of which some are written; None where it may be any number."""
    if not wanted or (digits == _ENDS_RUN and not written):
        return frozenset()
    if digits is None or digits == _ENDS_RUN:
        return frozenset({0, 1})
    swapped = (digits - sum(c in _DIGITS for c in written)) % 2
    return frozenset(which ^ swapped for which in wanted)


def _digits_in(piece: Piece) -> int | None:
    """How many digits each entry has, or that each ends the run; None where entries differ."""
    kinds = {
        _ENDS_RUN if set(entry) - set(_DIGITS + " -") else sum(c in _DIGITS for c in entry)
        for entry in entries_of(piece)
    }
    return kinds.pop() if len(kinds) == 1 else None


class PieceEntries:
    """What one piece can write, by prefix."""

    def __init__(self, piece: Piece) -> None:
        self._piece, self._is_check = piece, is_check(piece)
        self._is_single = not self._is_check and all(len(entry) == 1 for entry in entries_of(piece))
        self._sorted = sorted(entries_of(piece))
        self._set = frozenset(self._sorted)
        self._next: dict[str, list[str]] = {}

    @cached_property
    def digits(self) -> int | None:
        """How many digits each entry has, or that each ends the run; None where entries differ."""
        return 1 if self._is_check else _digits_in(self._piece)

    def next_characters(self, written: str, check_digit: str) -> str | list[str]:
        """What may come next in an entry that begins so."""
        if self._is_check:
            return check_digit
        if written not in self._next:
            self._next[written] = list(self._find_next(written))
        return self._next[written]

    def _find_next(self, written: str) -> Iterator[str]:
        at, length = bisect.bisect_left(self._sorted, written), len(written)
        if at < len(self._sorted) and self._sorted[at] == written:
            at += 1
        while at < len(self._sorted) and self._sorted[at].startswith(written):
            character = self._sorted[at][length]
            yield character
            at = bisect.bisect_right(self._sorted, written + character + "\U0010ffff", at)

    def state(self, written: str) -> tuple[bool, bool]:
        """Whether entries go on from here, and whether one ends here."""
        if self._is_check or self._is_single:
            return False, True
        return bool(self.next_characters(written, "")), written in self._set

    @property
    def size(self) -> int:
        """How many entries there are to choose from."""
        return 1 if self._is_check else len(self._sorted)

    def count(self, written: str) -> int:
        """How many of them begin so."""
        if self._is_check:
            return 1
        low = bisect.bisect_left(self._sorted, written)
        return bisect.bisect_right(self._sorted, written + "\U0010ffff", low) - low

    def rest(self, written: str, check_digit: str, generator: random.Random) -> str:
        """How an entry that begins so may go on, by chance."""
        if self._is_check:
            return check_digit
        low = bisect.bisect_left(self._sorted, written)
        high = bisect.bisect_right(self._sorted, written + "\U0010ffff", low)
        return self._sorted[generator.randrange(low, high)][len(written) :]


def is_check(piece: Piece) -> bool:
    """Whether a piece is a check digit."""
    return not isinstance(piece, Literal) and piece.is_check_digit

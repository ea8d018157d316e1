"""A format as an automaton over characters: where a candidate stands that has been written so far, and what may follow.

States are numbers. Knows pieces, entries and check digits; no tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...formats.canary_format import CanaryFormat
from ...formats.template import Literal, LuhnSums, Piece, entries_of, luhn_digit, luhn_sums
from .piece_entries import DIGITS, ENDS_RUN, digits_in, is_check, piece_entries


class FormatState(NamedTuple):
    """Where a beginning of candidates ends.

    Args:
        piece: which of the pieces is being written.
        written: of its entry so far.
        sums: the Luhn sums that a coming check digit will be over, as far as they matter to it: 0 where one does not,
            None where neither does, so that beginnings which differ only there are in one state.
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
        start: the state before the first character.
    """

    def __init__(self, format: CanaryFormat, context: str = "") -> None:
        self.pieces: tuple[Piece, ...] = (*((Literal(context),) if context else ()), *format.pieces)
        kinds = {piece: piece_entries(piece) for piece in set(self.pieces)}
        self._entries = [kinds[piece] for piece in self.pieces]
        self._num_before = len(self.pieces) - len(format.pieces)
        self._wanted = [frozenset[int]()] * self._num_before + _wanted_sums(format.pieces)
        self._numbers: dict[FormatState, int] = {}
        self._states: list[FormatState] = []
        self._moves: dict[int, list[tuple[str, int]]] = {}
        self.start = self._number(FormatState(0, "", self._sums_that_matter((0, 0), 0, "")))

    def moves(self, number: int) -> list[tuple[str, int]]:
        """(character, state behind it) of all that may come next: on in an entry, behind it, or both."""
        if number not in self._moves:
            self._moves[number] = [(c, self._number(state)) for c, state in self._find_moves(self._states[number])]
        return self._moves[number]

    def is_end(self, number: int) -> bool:
        """Whether a candidate ends here."""
        return self._states[number].piece == len(self.pieces)

    def state(self, number: int) -> FormatState:
        """What a number stands for."""
        return self._states[number]

    def in_literal(self, piece: int, length: int) -> int:
        """The state behind so many characters of a piece of fixed text before which no digits matter."""
        (text,) = entries_of(self.pieces[piece])
        number = self._number(FormatState(piece, "", self._sums_that_matter((0, 0), piece, "")))
        for character in text[:length]:
            number = dict(self.moves(number))[character]
        return number

    def has_sums(self, piece: int) -> bool:
        """Whether digits before a piece matter to a check digit that comes later."""
        return bool(self._wanted[piece])

    def completions(self, number: int) -> int:
        """How many candidates go on from a state, at most: one that ends is counted though others go on from it."""
        state = self._states[number]
        if state.piece == len(self.pieces):
            return 1
        behind = math.prod(entries.size for entries in self._entries[state.piece + 1 :])
        return behind * self._entries[state.piece].count(state.written)

    def _number(self, state: FormatState) -> int:
        if state not in self._numbers:
            self._numbers[state] = len(self._states)
            self._states.append(state)
        return self._numbers[state]

    def _find_moves(self, state: FormatState) -> Iterator[tuple[str, FormatState]]:
        number, written, sums = state
        if number == len(self.pieces):
            return
        entries = self._entries[number]
        for character in entries.next_characters(written, luhn_digit(sums or (0, 0))):
            grown = written + character
            # The context is no part of a check digit's run.
            moved = luhn_sums(character, sums or (0, 0)) if number >= self._num_before else (0, 0)
            longer, whole = entries.status(grown)
            if longer:
                yield character, FormatState(number, grown, self._sums_that_matter(moved, number, grown))
            if whole:
                yield character, FormatState(number + 1, "", self._sums_that_matter(moved, number + 1, ""))

    def _sums_that_matter(self, sums: LuhnSums, piece: int, written: str) -> LuhnSums | None:
        """Of the sums what matters to a check digit that comes."""
        wanted = self._wanted[piece]
        if written and piece >= self._num_before:
            wanted = self._wanted[piece + 1]
            wanted = wanted and _before_digits(wanted, self._entries[piece].digits, written)
        return (sums[0] * (0 in wanted), sums[1] * (1 in wanted)) if wanted else None


def _wanted_sums(pieces: Sequence[Piece]) -> list[frozenset[int]]:
    """Before each piece, and behind the last: which of the two Luhn sums a later check digit depends on.

    With each digit the two change places; what is neither a digit, a space nor a hyphen ends the run. Of
    `x{digit}-{digit}{luhn}`, from before `x` to behind the check digit:

           x   {digit}   -   {digit}   {luhn}
        {}   {0}      {1} {1}       {0}       {}

    The check digit depends on sum 0, and what becomes sum 0 by the digit before it was sum 1 there.
    """
    wanted = [frozenset[int]()]
    for piece in reversed(pieces):
        if is_check(piece):
            wanted.append(frozenset({0}) | _before_digits(wanted[-1], 1, ""))
        else:
            wanted.append(wanted[-1] and _before_digits(wanted[-1], digits_in(piece), ""))
    return wanted[::-1]


def _before_digits(wanted: frozenset[int], digits: int | None, written: str) -> frozenset[int]:
    """Which sums are wanted before so many digits, of which some are written; None where it may be any number."""
    if not wanted or (digits == ENDS_RUN and not written):
        return frozenset()
    if digits is None or digits == ENDS_RUN:
        return frozenset({0, 1})
    swapped = (digits - sum(c in DIGITS for c in written)) % 2
    return frozenset(which ^ swapped for which in wanted)

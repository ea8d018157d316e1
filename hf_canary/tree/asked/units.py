"""A format as an automaton over the units in which a tokenizer writes its characters.

Knows pieces, entries and units; which tokens are canonical is not known here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from ...formats.canary_format import CanaryFormat
from ...formats.template import LuhnSums, luhn_digit, luhn_sums
from ..automaton.piece_entries import is_check, piece_entries
from .vocabulary import ENDING, Trie, Units


class UnitState(NamedTuple):
    """Where one reading of a prefix stands.

    Args:
        piece: which of the format's pieces is being written.
        written: characters of its entry so far.
        sums: the Luhn sums that a coming check digit will be over; None when none comes, so that prefixes which differ
            only there are in one state.
        pending: units of the last character that are still to come.
        unseen: whether the last character left no trace; a token that follows may still show it, as in WordPiece.
    """

    piece: int
    written: str
    sums: LuhnSums | None
    pending: Units
    unseen: bool = False


# The states at which a prefix's readings stand, each with one text that leads there.
Readings = dict[UnitState, str]


class FormatUnits:
    """A format as an automaton over the units of its characters.

    Args:
        format: any.
        surfaces: what each character is written as.

    Attributes:
        some_leave_none: whether nothing is written for some character.
    """

    def __init__(self, format: CanaryFormat, surfaces: Mapping[str, tuple[Units, ...]]) -> None:
        self._pieces = format.pieces
        self._surfaces = surfaces
        self.some_leave_none = any(() in written for written in surfaces.values())
        kinds = {piece: piece_entries(piece) for piece in set(format.pieces)}
        self._entries = [kinds[piece] for piece in format.pieces]
        self._steps: dict[UnitState, list[tuple[str, UnitState, str]]] = {}
        self._following: dict[frozenset[UnitState], dict[int, list[tuple[UnitState, UnitState, str]]]] = {}

    def start(self, lead: Units) -> Readings:
        """The readings of nothing: with and without what the tokenizer puts before a text's first character."""
        first = UnitState(0, "", (0, 0) if self._last_check >= 0 else None, ())
        return self.closed(dict.fromkeys([first, first._replace(pending=lead)], ""))

    def ended(self, state: UnitState) -> bool:
        """Whether a candidate ends here."""
        return state.piece == len(self._pieces) and not state.pending

    def following(self, states: frozenset[UnitState], trie: Trie) -> dict[int, list[tuple[UnitState, UnitState, str]]]:
        """Each token whose units the format allows: from which state it leads to which, and the characters begun."""
        if states not in self._following:
            moves: dict[int, list[tuple[UnitState, UnitState, str]]] = {}
            for origin in states:
                waiting: list[tuple[Trie, UnitState, str]] = [(trie, origin, "")]
                while waiting:
                    node, state, text = waiting.pop()
                    for unit, after, characters in self._moves(state):
                        below = node.get(unit)
                        if below is None:
                            continue
                        waiting.append((below, after, text + characters))
                        for token in below.get(ENDING, ()):
                            moves.setdefault(token, []).append((origin, after, text + characters))
            self._following[states] = moves
        return self._following[states]

    def after(self, readings: Readings, trie: Trie) -> dict[int, dict[UnitState, list[str]]]:
        """Each token that the format allows next: the states after it, and the texts that lead there.

        They are several where candidates differ in characters that leave no trace, or that are written alike.
        """
        following = self.following(frozenset(readings), trie)
        return {token: self._moved(readings, moves) for token, moves in following.items()}

    def after_token(self, readings: Readings, token: int, trie: Trie) -> dict[UnitState, list[str]]:
        """The same of one token that the format allows."""
        return self._moved(readings, self.following(frozenset(readings), trie)[token])

    def _moved(self, readings: Readings, moves: list[tuple[UnitState, UnitState, str]]) -> dict[UnitState, list[str]]:
        moved: dict[UnitState, list[str]] = {}
        for origin, after, text in moves:
            texts = moved.setdefault(after, [])
            if readings[origin] + text not in texts:
                texts.append(readings[origin] + text)
        return moved

    def is_space_next(self, state: UnitState) -> bool:
        """Whether the next character can only be a space, with which tokens begin that say so."""
        return not state.pending and all(
            character == " " and () not in self._surfaces[character] for character, _ in self._written(state)
        )

    def completed(self, state: UnitState, generator: random.Random) -> str:
        """Characters that make a whole candidate from here, by chance."""
        number, written, sums, *_ = state
        text = ""
        while number < len(self._pieces):
            rest = self._entries[number].rest(written, luhn_digit(sums or (0, 0)), generator)
            text, sums, number, written = text + rest, luhn_sums(rest, sums or (0, 0)), number + 1, ""
        return text

    def completions(self, state: UnitState) -> int:
        """How many candidates go on from here."""
        behind = math.prod(entries.size for entries in self._entries[state.piece + 1 :])
        return behind * self._entries[state.piece].count(state.written) if state.piece < len(self._entries) else 1

    @cached_property
    def _last_check(self) -> int:
        return max((at for at, piece in enumerate(self._pieces) if is_check(piece)), default=-1)

    def _moves(self, state: UnitState) -> list[tuple[str, UnitState, str]]:
        """(unit, state after it, character begun) from a state."""
        if state not in self._steps:
            self._steps[state] = list(self._find_moves(state))
        return self._steps[state]

    def _find_moves(self, state: UnitState) -> Iterator[tuple[str, UnitState, str]]:
        if state.pending:
            yield state.pending[0], state._replace(pending=state.pending[1:], unseen=False), ""
            return
        for character, after in self._written(state):
            for units in self._surfaces[character]:
                if units:
                    yield units[0], after._replace(pending=units[1:]), character

    def _written(self, state: UnitState) -> Iterator[tuple[str, UnitState]]:
        """One character more, and where that leads: on in the entry, behind it, or both."""
        number, written, sums, *_ = state
        if number == len(self._pieces):
            return
        for character in self._entries[number].next_characters(written, luhn_digit(sums or (0, 0))):
            grown = written + character
            moved = luhn_sums(character, sums or (0, 0))
            longer, whole = self._entries[number].status(grown)
            if longer:
                yield character, UnitState(number, grown, moved if number <= self._last_check else None, ())
            if whole:
                yield character, UnitState(number + 1, "", moved if number < self._last_check else None, ())

    def closed(self, readings: Readings) -> Readings:
        """With the states behind characters that leave no trace."""
        closed = dict(readings)
        pending = list(readings) if self.some_leave_none else []
        while pending:
            state = pending.pop()
            if state.pending:
                continue
            for character, after in self._written(state):
                after = after._replace(unseen=True)
                if () in self._surfaces[character] and after not in closed:
                    closed[after] = closed[state] + character
                    pending.append(after)
        return closed

"""A format as an automaton over the units in which a tokenizer writes its characters.

Knows pieces, entries and units; which tokens are canonical is not known here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from ..formats.canary_format import CanaryFormat
from ..formats.template import LuhnSums, luhn_digit, luhn_sums
from .asked_vocabulary import ENDING, Trie, Units
from .format_automaton import PieceEntries, is_check


class UnitPlace(NamedTuple):
    """Where one reading of a prefix stands.

    Args:
        piece: which of the format's pieces is being written.
        written: characters of its entry so far.
        sums: the Luhn sums that a coming check digit will be over; None when none comes, so that prefixes which differ
            only there are in one place.
        pending: units of the last character that are still to come.
        unseen: whether the last character left no trace; a token that follows may still show it, as in WordPiece.
    """

    piece: int
    written: str
    sums: LuhnSums | None
    pending: Units
    unseen: bool = False


# The places at which a prefix's readings stand, each with one text that leads there.
Readings = dict[UnitPlace, str]


class FormatUnits:
    """A format as an automaton over the units of its characters.

    Args:
        format: any.
        surfaces: what each character is written as.
    """

    def __init__(self, format: CanaryFormat, surfaces: Mapping[str, tuple[Units, ...]]) -> None:
        self._pieces = format.pieces
        self._surfaces = surfaces
        self._some_leave_none = any(() in written for written in surfaces.values())
        shared = {piece: PieceEntries(piece) for piece in set(format.pieces)}
        self._entries = [shared[piece] for piece in format.pieces]
        self._steps: dict[UnitPlace, list[tuple[str, UnitPlace, str]]] = {}
        self._candidates: dict[frozenset[UnitPlace], dict[int, list[tuple[UnitPlace, UnitPlace, str]]]] = {}

    def start(self, lead: Units) -> Readings:
        """The readings of nothing: with and without what the tokenizer puts before a text's first character."""
        first = UnitPlace(0, "", (0, 0) if self._last_check >= 0 else None, ())
        return self.closed(dict.fromkeys([first, first._replace(pending=lead)], ""))

    def ended(self, place: UnitPlace) -> bool:
        """Whether a candidate ends here."""
        return place.piece == len(self._pieces) and not place.pending

    def following(self, places: frozenset[UnitPlace], trie: Trie) -> dict[int, list[tuple[UnitPlace, UnitPlace, str]]]:
        """Each token whose units the format allows: from which place it leads to which, and the characters begun."""
        if places not in self._candidates:
            found: dict[int, list[tuple[UnitPlace, UnitPlace, str]]] = {}
            for origin in places:
                waiting: list[tuple[Trie, UnitPlace, str]] = [(trie, origin, "")]
                while waiting:
                    node, place, text = waiting.pop()
                    for unit, after, characters in self._moves(place):
                        below = node.get(unit)
                        if below is None:
                            continue
                        waiting.append((below, after, text + characters))
                        for token in below.get(ENDING, ()):
                            found.setdefault(token, []).append((origin, after, text + characters))
            self._candidates[places] = found
        return self._candidates[places]

    def after(self, readings: Readings, trie: Trie) -> dict[int, dict[UnitPlace, list[str]]]:
        """Each token that the format allows next: the places after it, and the texts that lead there.

        They are several where candidates differ in characters that leave no trace, or that are written alike.
        """
        following = self.following(frozenset(readings), trie)
        return {token: self._moved(readings, moves) for token, moves in following.items()}

    def after_token(self, readings: Readings, token: int, trie: Trie) -> dict[UnitPlace, list[str]]:
        """The same of one token that the format allows."""
        return self._moved(readings, self.following(frozenset(readings), trie)[token])

    def _moved(self, readings: Readings, moves: list[tuple[UnitPlace, UnitPlace, str]]) -> dict[UnitPlace, list[str]]:
        moved: dict[UnitPlace, list[str]] = {}
        for origin, after, text in moves:
            texts = moved.setdefault(after, [])
            if readings[origin] + text not in texts:
                texts.append(readings[origin] + text)
        return moved

    def is_space_next(self, place: UnitPlace) -> bool:
        """Whether the next character can only be a space, with which tokens begin that say so."""
        return not place.pending and all(
            character == " " and () not in self._surfaces[character] for character, _ in self._written(place)
        )

    def completed(self, place: UnitPlace, generator: random.Random) -> str:
        """Characters that make a whole candidate from here, by chance."""
        number, written, sums, *_ = place
        text = ""
        while number < len(self._pieces):
            rest = self._entries[number].rest(written, luhn_digit(sums or (0, 0)), generator)
            text, sums, number, written = text + rest, luhn_sums(rest, sums or (0, 0)), number + 1, ""
        return text

    def completions(self, place: UnitPlace) -> int:
        """How many candidates go on from here."""
        behind = math.prod(entries.size for entries in self._entries[place.piece + 1 :])
        return behind * self._entries[place.piece].count(place.written) if place.piece < len(self._entries) else 1

    @cached_property
    def _last_check(self) -> int:
        return max((at for at, piece in enumerate(self._pieces) if is_check(piece)), default=-1)

    def _moves(self, place: UnitPlace) -> list[tuple[str, UnitPlace, str]]:
        """(unit, place after it, character begun) from a place."""
        if place not in self._steps:
            self._steps[place] = list(self._find_moves(place))
        return self._steps[place]

    def _find_moves(self, place: UnitPlace) -> Iterator[tuple[str, UnitPlace, str]]:
        if place.pending:
            yield place.pending[0], place._replace(pending=place.pending[1:], unseen=False), ""
            return
        for character, after in self._written(place):
            for units in self._surfaces[character]:
                if units:
                    yield units[0], after._replace(pending=units[1:]), character

    def _written(self, place: UnitPlace) -> Iterator[tuple[str, UnitPlace]]:
        """One character more, and where that leads: on in the entry, behind it, or both."""
        number, written, sums, *_ = place
        if number == len(self._pieces):
            return
        for character in self._entries[number].next_characters(written, luhn_digit(sums or (0, 0))):
            grown = written + character
            moved = luhn_sums(character, sums or (0, 0))
            longer, whole = self._entries[number].state(grown)
            if longer:
                yield character, UnitPlace(number, grown, moved if number <= self._last_check else None, ())
            if whole:
                yield character, UnitPlace(number + 1, "", moved if number < self._last_check else None, ())

    def closed(self, readings: Readings) -> Readings:
        """With the places behind characters that leave no trace."""
        closed = dict(readings)
        pending = list(readings) if self._some_leave_none else []
        while pending:
            place = pending.pop()
            if place.pending:
                continue
            for character, after in self._written(place):
                after = after._replace(unseen=True)
                if () in self._surfaces[character] and after not in closed:
                    closed[after] = closed[place] + character
                    pending.append(after)
        return closed

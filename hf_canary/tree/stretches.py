"""A format cut into stretches, each of which is spelled whatever stands around it.

Between holes there is often a position where words are cut for certain, and where the tokenizer's stages stand alike
for all fills: as before the space of `{name} lives in {town}`. What follows there depends on nothing before. Knows the
format's characters and the tokenizer's stages; not how words are encoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..formats.template import Literal, entries_of
from ..tokenization.stages import Cut, Pipeline, Symbol, Symbols
from .format_automaton import FormatAutomaton
from .piece_entries import is_check

_MOST = 64  # stretches

States = frozenset[int]
Begins = frozenset[tuple[int, Symbols]]


@dataclass(frozen=True)
class Stretch:
    """A part of a format that is spelled whatever stands around it, since words are cut at both of its ends.

    Args:
        lead: the first character, if it has been read.
        start: the format's state behind it.
        begins: all ways in which the stages may stand there, as far as they have guessed: the state, and what they have
            already written of the stretch.
        stop: the format's state in which it ends; None is the end of the format.
        behind: the character that follows there.
        choices: what may stand in it, one behind the other, the lead included; None where a check digit says more.
        num_texts: how many texts it has.
        has_lists: whether one of its holes has entries of several characters.
    """

    lead: str
    start: int
    begins: Begins
    stop: int | None
    behind: str
    choices: tuple[tuple[str, ...], ...] | None
    num_texts: int
    has_lists: bool


@dataclass(frozen=True)
class _Seam:
    """Where stretches meet: before a character of fixed text, and how it goes on behind it."""

    piece: int
    at: int
    begins: Begins


def before_last_cut(written: Sequence[Symbol]) -> tuple[Symbols, Symbols | None]:
    """What stands before the last cut, and what behind it; nothing behind if there is no cut."""
    cuts = [at for at, symbol in enumerate(written) if isinstance(symbol, Cut)]
    return (tuple(written[: cuts[-1]]), tuple(written[cuts[-1] + 1 :])) if cuts else (tuple(written), None)


def num_shared(one: str, other: str) -> int:
    """How many first characters two texts share."""
    at = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        at += 1
    return at


def stretches_of(automaton: FormatAutomaton, words: Pipeline) -> list[Stretch]:
    """The stretches of a format, in order.

    Args:
        automaton: the format's.
        words: the tokenizer's stages, from characters to words.
    """
    seams = _chosen(list(_seams(automaton, words)), automaton)
    seams = seams[:: 1 + len(seams) // _MOST]
    stretches: list[Stretch] = []
    begins: Begins = frozenset({(words.start, ())})
    lead, start, first = "", automaton.start, (0, 0)
    for seam in seams:
        text, last = _text(automaton, seam.piece), (seam.piece, seam.at)
        stop = automaton.in_literal(seam.piece, seam.at)
        stretches.append(Stretch(lead, start, begins, stop, text[seam.at], *_content(automaton, first, last)))
        lead, start = text[seam.at], automaton.in_literal(seam.piece, seam.at + 1)
        begins, first = seam.begins, last
    last = (len(automaton.pieces), 0)
    stretches.append(Stretch(lead, start, begins, None, "", *_content(automaton, first, last)))
    return stretches


def _content(
    automaton: FormatAutomaton, first: tuple[int, int], last: tuple[int, int]
) -> tuple[tuple[tuple[str, ...], ...] | None, int, bool]:
    """What may stand between two positions, (piece, character); how many texts that makes; whether there are lists."""
    choices = []
    for number in range(first[0], min(last[0] + 1, len(automaton.pieces))):
        piece = automaton.pieces[number]
        begin = first[1] if number == first[0] else 0
        stop = last[1] if number == last[0] else None
        choices.append(
            tuple(entry[begin:stop] for entry in entries_of(piece)) if begin or stop is not None else entries_of(piece)
        )
    pieces = automaton.pieces[first[0] : last[0]]
    holes = [piece for piece in pieces if not isinstance(piece, Literal) and not is_check(piece)]
    has_lists = any(len(entry) > 1 for hole in holes for entry in entries_of(hole))
    has_check = any(map(is_check, pieces))
    return None if has_check else tuple(choices), math.prod(len(entries_of(hole)) for hole in holes), has_lists


def _text(automaton: FormatAutomaton, piece: int) -> str:
    (text,) = entries_of(automaton.pieces[piece])
    return text


def _chosen(seams: list[_Seam], automaton: FormatAutomaton) -> list[_Seam]:
    """Of those between two holes the first and the last: so holes alike make stretches alike."""
    chosen = []
    for at, seam in enumerate(seams):
        before = automaton.pieces[(seams[at - 1].piece if at else 0) : seam.piece]
        behind = automaton.pieces[seam.piece : (seams[at + 1].piece if at + 1 < len(seams) else None)]
        if any(not isinstance(piece, Literal) for piece in (*before, *behind)):
            chosen.append(seam)
    return chosen


def _seams(automaton: FormatAutomaton, words: Pipeline) -> Iterator[_Seam]:
    """All positions in fixed text at which every fill is cut and the stages stand alike behind the next character."""
    walk = _Walk(words)
    states: States = frozenset({words.start})
    for number, piece in enumerate(automaton.pieces):
        if not isinstance(piece, Literal):
            states = walk.through_hole(states, ("0123456789" if is_check(piece) else entries_of(piece)))
            continue
        is_free = not automaton.has_sums(number)
        for at, character in enumerate(piece.text):
            behind = walk.common(states, character) if is_free and (number, at) != (0, 0) else None
            if behind is not None:
                yield _Seam(number, at, behind)
            states = walk.step(states, character)


class _Walk:
    """Sets of states of the stages, character by character."""

    def __init__(self, words: Pipeline) -> None:
        self._words = words
        self._numbers: dict[States, int] = {}
        self._states: list[States] = []
        self._steps: list[dict[str, int]] = []

    def step(self, states: States, character: str) -> States:
        return self._states[self._step(self._number(states), character)]

    def through_hole(self, states: States, entries: Sequence[str]) -> States:
        """Behind any of these entries."""
        start, steps = self._number(states), self._steps
        ends: set[int] = set()
        for entry in entries:
            at = start
            for character in entry:
                after = steps[at].get(character)
                at = self._step(at, character) if after is None else after
            ends.add(at)
        return States().union(*(self._states[end] for end in ends))

    def _number(self, states: States) -> int:
        if states not in self._numbers:
            self._numbers[states] = len(self._states)
            self._states.append(states)
            self._steps.append({})
        return self._numbers[states]

    def _step(self, number: int, character: str) -> int:
        steps = self._steps[number]
        if character not in steps:
            read = self._words.read
            steps[character] = self._number(
                frozenset(after for state in self._states[number] for after, _ in read(state, character))
            )
        return steps[character]

    def common(self, states: States, character: str) -> Begins | None:
        """How the stages stand behind a character, if it is alike for all fills and all are cut before it; and if what
        stands before the cut is certain, and no guess.
        """
        common: Begins | None = None
        for state in states:
            guesses = [(after, *before_last_cut(written)) for after, written in self._words.read(state, character)]
            if not guesses:
                continue  # a guess that is refuted here
            behind = frozenset((after, written) for after, _, written in guesses if written is not None)
            if (
                common not in (None, behind)
                or len(behind) < len(guesses)
                or len({before for _, before, _ in guesses}) > 1
            ):
                return None
            common = behind
        return common

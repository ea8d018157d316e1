"""Seams of a format: positions at which every fill is cut between words, and goes on alike.

Theory. The stages of a tokenizer are read along the format for all fills at once, as a set of states. Before a
character of fixed text stands a seam if, from each of these states, the stages write a cut before the character, and
stand alike behind it: in the same states, with the same already written. Then nothing that stands before the seam
matters to what comes behind, and nothing behind it to what stands before, but that one character. No digits before it
may matter to a check digit behind it, either.

In `{name} lives in {town}` the tokenizers that begin words with a space have a seam before each of the three spaces.
Between two holes the first and the last are enough. Knows the format's characters and the tokenizer's stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...formats.template import Literal, entries_of
from ...tokenization.stages import Cut, Pipeline, Symbol, Symbols
from .format_automaton import FormatAutomaton
from .piece_entries import DIGITS, is_check

States = frozenset[int]
Begins = frozenset[tuple[int, Symbols]]


@dataclass(frozen=True)
class Seam:
    """Where stretches meet: before a character of fixed text.

    Args:
        piece: the text, by its index among the format's pieces.
        position: of the character in it.
        begins: all ways in which the stages may stand behind the character: the state, and what they have written.
    """

    piece: int
    position: int
    begins: Begins


def before_last_cut(written: Sequence[Symbol]) -> tuple[Symbols, Symbols | None]:
    """What stands before the last cut, and what behind it; nothing behind if there is no cut."""
    cuts = [at for at, symbol in enumerate(written) if isinstance(symbol, Cut)]
    return (tuple(written[: cuts[-1]]), tuple(written[cuts[-1] + 1 :])) if cuts else (tuple(written), None)


def seams_of(automaton: FormatAutomaton, words: Pipeline) -> list[Seam]:
    """Of the seams between two holes the first and the last: so holes alike make stretches alike.

    Args:
        automaton: the format's.
        words: the tokenizer's stages, from characters to words.
    """
    seams = list(_all_seams(automaton, words))
    chosen = []
    for index, seam in enumerate(seams):
        before = automaton.pieces[(seams[index - 1].piece if index else 0) : seam.piece]
        behind = automaton.pieces[seam.piece : (seams[index + 1].piece if index + 1 < len(seams) else None)]
        if any(not isinstance(piece, Literal) for piece in (*before, *behind)):
            chosen.append(seam)
    return chosen


def _all_seams(automaton: FormatAutomaton, words: Pipeline) -> Iterator[Seam]:
    """All of them."""
    walk = _Walk(words)
    states: States = frozenset({words.start})
    for number, piece in enumerate(automaton.pieces):
        if not isinstance(piece, Literal):
            states = walk.through_hole(states, (DIGITS if is_check(piece) else entries_of(piece)))
            continue
        is_free = not automaton.has_sums(number)
        for position, character in enumerate(piece.text):
            behind = walk.common(states, character) if is_free and (number, position) != (0, 0) else None
            if behind is not None:
                yield Seam(number, position, behind)
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
            state = start
            for character in entry:
                after = steps[state].get(character)
                state = self._step(state, character) if after is None else after
            ends.add(state)
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

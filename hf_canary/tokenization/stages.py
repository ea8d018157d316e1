"""A tokenizer's way from characters to the units of its vocabulary, as stages that each read one symbol at a time.

What a tokenizer makes of a character may depend on what follows. A stage that cannot know yet *guesses*: it goes on in
several ways, and refutes those that turn out wrong. Exactly one way survives for each text. So what stages do to all
fills of a format can be followed character by character. This file knows no kind of tokenizer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

State = Hashable


class Unfollowed(Exception):
    """A part of a tokenizer that is not followed exactly. The argument names the part."""


@dataclass(frozen=True)
class Atom:
    """A token that stands by itself, whatever stands beside it: an added token, or a word that is one entry."""

    id: int


class Cut:
    """Between two symbols: what stands before is a piece of its own, and what follows is another."""

    def __repr__(self) -> str:
        return "CUT"


CUT = Cut()
# A character, or a unit of the vocabulary; a token that is finished; the end of a piece.
Symbol = str | Atom | Cut
Symbols = tuple[Symbol, ...]
Transition = tuple[State, Symbols]


class Stage(Protocol):
    """One part of a tokenizer, as it reads the characters of one piece after the other.

    Attributes:
        start: the state before the first character of the text.
        restart: the same of every piece behind a cut, or behind an atom, that a stage before this one made.
    """

    start: State
    restart: State

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        """All ways to go on behind one character more: the state, and what is written. None refutes the guesses."""
        ...

    def end(self, state: State) -> Sequence[tuple[Symbol, ...]]:
        """All ways to end the piece here: what is still written. None refutes the guesses. An empty piece has one."""
        ...


class Pipeline:
    """Stages one behind the other, as one.

    A cut that a stage writes ends the piece of all that follow. A state is a number, that stands for a state of each.

    Args:
        stages: in order.

    Attributes:
        size: how many stages there are.
        start: the state before the first character.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages, self.size = tuple(stages), len(stages)
        self._numbers: dict[tuple[State, ...], int] = {}
        self._states: list[tuple[State, ...]] = []
        self._read: list[dict[str, list[tuple[int, Symbols]]]] = []
        self._end: dict[int, list[Symbols]] = {}
        self.start = self.number(tuple(stage.start for stage in stages))

    def number(self, states: tuple[State, ...]) -> int:
        """The state that stands for these."""
        if states not in self._numbers:
            self._numbers[states] = len(self._states)
            self._states.append(states)
            self._read.append({})
        return self._numbers[states]

    def states(self, number: int) -> tuple[State, ...]:
        """What a state stands for."""
        return self._states[number]

    def read(self, state: int, symbol: str) -> list[tuple[int, Symbols]]:
        """As of a stage."""
        known = self._read[state]
        if symbol not in known:
            transitions = self._through(self._states[state], (symbol,), 0)
            known[symbol] = list(dict.fromkeys((self.number(after), written) for after, written in transitions))
        return known[symbol]

    def through(self, state: int, symbols: Symbols, first: int) -> list[tuple[int, Symbols]]:
        """All ways to go on behind symbols that come to a stage by its number: the state, and what the last writes."""
        transitions = self._through(self._states[state], symbols, first)
        return list(dict.fromkeys((self.number(after), written) for after, written in transitions))

    def end(self, state: int) -> list[Symbols]:
        """As of a stage, of the whole text."""
        if state not in self._end:
            self._end[state] = list(dict.fromkeys(self._ended(self._states[state], 0)))
        return self._end[state]

    def _through(
        self, states: tuple[State, ...], symbols: Symbols, first: int
    ) -> Iterator[tuple[tuple[State, ...], Symbols]]:
        if first == len(self._stages) or not symbols:
            yield states, symbols
            return
        for own, written in self._read_all(first, states[first], symbols):
            for after, out in self._through(states, written, first + 1):
                yield (*after[:first], own, *after[first + 1 :]), out

    def _read_all(self, number: int, own: State, symbols: Symbols) -> Iterator[Transition]:
        """What one stage makes of symbols."""
        if not symbols:
            yield own, ()
            return
        stage, (symbol, *rest) = self._stages[number], symbols
        transitions: Sequence[Transition]
        if isinstance(symbol, str):
            transitions = stage.read(own, symbol)
        else:
            transitions = [(stage.restart, (*written, symbol)) for written in stage.end(own)]
        for after, written in transitions:
            for last, more in self._read_all(number, after, tuple(rest)):
                yield last, (*written, *more)

    def _ended(self, states: tuple[State, ...], first: int) -> Iterator[Symbols]:
        if first == len(self._stages):
            yield ()
            return
        for written in self._stages[first].end(states[first]):
            for after, out in self._through(states, written, first + 1):
                for rest in self._ended(after, first + 1):
                    yield (*out, *rest)

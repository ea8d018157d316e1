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
Way = tuple[State, tuple[Symbol, ...]]


class Stage(Protocol):
    """One part of a tokenizer, as it reads the characters of one piece after the other.

    Attributes:
        start: the state before the first character of the text.
        restart: the same of every piece behind a cut, or behind an atom, that a stage before this one made.
    """

    start: State
    restart: State

    def read(self, state: State, symbol: str) -> Sequence[Way]:
        """All ways to go on behind one character more: the state, and what is written. None refutes the guesses."""
        ...

    def end(self, state: State) -> Sequence[tuple[Symbol, ...]]:
        """All ways to end the piece here: what is still written. None refutes the guesses. An empty piece has one."""
        ...


class Pipeline:
    """Stages one behind the other, as one.

    A cut that a stage writes ends the piece of all that follow. The state is that of each stage.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)
        self.start: tuple[State, ...] = tuple(stage.start for stage in stages)
        self._read: dict[tuple[tuple[State, ...], str], list[tuple[tuple[State, ...], tuple[Symbol, ...]]]] = {}
        self._end: dict[tuple[State, ...], list[tuple[Symbol, ...]]] = {}

    def read(self, state: tuple[State, ...], symbol: str) -> list[tuple[tuple[State, ...], tuple[Symbol, ...]]]:
        """As of a stage."""
        key = (state, symbol)
        if key not in self._read:
            self._read[key] = list(dict.fromkeys(self._through(state, (symbol,), 0)))
        return self._read[key]

    def end(self, state: tuple[State, ...]) -> list[tuple[Symbol, ...]]:
        """As of a stage, of the whole text."""
        if state not in self._end:
            self._end[state] = list(dict.fromkeys(self._ended(state, 0)))
        return self._end[state]

    def _through(
        self, state: tuple[State, ...], symbols: tuple[Symbol, ...], first: int
    ) -> Iterator[tuple[tuple[State, ...], tuple[Symbol, ...]]]:
        """What the stages from `first` on make of symbols."""
        if first == len(self._stages) or not symbols:
            yield state, symbols
            return
        for own, written in self._read_all(first, state[first], symbols):
            for after, out in self._through(state, written, first + 1):
                yield (*after[:first], own, *after[first + 1 :]), out

    def _read_all(self, number: int, own: State, symbols: Sequence[Symbol]) -> Iterator[Way]:
        """What one stage makes of symbols."""
        if not symbols:
            yield own, ()
            return
        stage, (symbol, *rest) = self._stages[number], symbols
        ways: Sequence[Way]
        if isinstance(symbol, str):
            ways = stage.read(own, symbol)
        else:
            ways = [(stage.restart, (*written, symbol)) for written in stage.end(own)]
        for after, written in ways:
            for last, more in self._read_all(number, after, rest):
                yield last, (*written, *more)

    def _ended(self, state: tuple[State, ...], first: int) -> Iterator[tuple[Symbol, ...]]:
        if first == len(self._stages):
            yield ()
            return
        for written in self._stages[first].end(state[first]):
            for after, out in self._through(state, written, first + 1):
                for rest in self._ended(after, first + 1):
                    yield (*out, *rest)

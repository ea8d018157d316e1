"""Prefixes of tokens as states, and what may follow each: found by asking, or without where each character is a token.

Knows the readings of prefixes; not how a tree is walked.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..parts import Edges, Path
from .questions import Answer
from .readings import OPEN_END, PrefixRule, ReadingSteps, can_be_asked
from .units import Readings, UnitState
from .vocabulary import ENDING, Trie, Vocabulary

_WITNESSES = 6

# (token, state behind it, whether a candidate ends there)
_Edge = tuple[int, int, bool]
# Of each token the states of units that it may lead to, each with a text, of which it is not known yet whether the
# encoding of some candidate goes on so.
_Unsettled = Mapping[int, list[tuple[UnitState, str]]]


@dataclass(frozen=True)
class Prefix:
    """A state: the readings of a prefix, and the tokens since the context of one prefix that leads here."""

    readings: Readings
    path: Path


class PrefixStates:
    """Prefixes by number; those behind which the same follows have one."""

    def __init__(self) -> None:
        self._prefixes: list[Prefix] = []
        self._numbers: dict[Any, int] = {}

    def number(self, prefix: Prefix, word: Any = None) -> int:
        """The number of a state; `word` is what of the tokens before matters to what may follow: all, if None."""
        key = (frozenset(prefix.readings), _all_of(prefix.path) if word is None else word)
        if key not in self._numbers:
            self._numbers[key] = len(self._prefixes)
            self._prefixes.append(prefix)
        return self._numbers[key]

    def prefix(self, state: int) -> Prefix:
        """One that leads to a state."""
        return self._prefixes[state]


class Automaton(Protocol):
    """What may follow prefixes.

    Attributes:
        states: that have been met.
        steps: by which prefixes are read.
    """

    states: PrefixStates
    steps: ReadingSteps

    def edges(self, state: int) -> Edges:
        """What may follow a state."""
        ...


class SingleAutomaton:
    """Where each character is one token and no token writes several: what the format allows may follow.

    Args:
        steps: that know these tokens alone.
        end: a token behind each candidate.
    """

    def __init__(self, steps: ReadingSteps, end: int | None) -> None:
        self.steps, self._end = steps, end
        self.states = PrefixStates()
        self._edges: dict[int, Edges] = {}

    def edges(self, state: int) -> Edges:
        if state not in self._edges:
            self._edges[state] = _as_edges(self._follows(self.states.prefix(state)))
        return self._edges[state]

    def _follows(self, prefix: Prefix) -> Iterator[_Edge]:
        ended = self.steps.units.ended
        if self._end is not None and any(map(ended, prefix.readings)):
            yield self._end, -1, True
        for token, readings in self.steps.after(prefix.path, prefix.readings).items():
            goes_on = self._end is not None or not all(map(ended, readings))
            is_leaf = self._end is None and any(map(ended, readings))
            yield token, self.states.number(Prefix(readings, ()), ()) if goes_on else -1, is_leaf


class AskedAutomaton:
    """Where the tokenizer is asked.

    Args:
        steps: by which prefixes are read.
        vocabulary: the tokenizer's.
        end: a token behind each candidate.
    """

    def __init__(self, steps: ReadingSteps, vocabulary: Vocabulary, end: int | None) -> None:
        self.steps, self.vocabulary, self.end = steps, vocabulary, end
        self.states = PrefixStates()
        self._edges: dict[int, Edges] = {}

    def edges(self, state: int) -> Edges:
        """As of an automaton.

        Raises:
            UntoldDeadEnds: it is not known, and would take too long to find out.
        """
        return self.edges_by(state, self.steps)

    def edges_by(self, state: int, steps: ReadingSteps) -> Edges:
        """The same, asked by steps that may be those of a search."""
        if state not in self._edges:
            self._edges[state] = _as_edges(_Expansion(self, self.states.prefix(state), steps).follows())
        return self._edges[state]


class _Expansion:
    """One prefix while it is found out what may follow.

    Args:
        automaton: to which it belongs.
        prefix: any.
        steps: by which it is read on.
    """

    def __init__(self, automaton: AskedAutomaton, prefix: Prefix, steps: ReadingSteps) -> None:
        self._automaton, self._prefix, self._steps = automaton, prefix, steps
        self._path, self._units, self._questions = prefix.path, steps.units, steps.questions

    def follows(self) -> Iterator[_Edge]:
        """What may follow, in any order."""
        states, end = self._automaton.states, self._automaton.end
        if end is not None and self._ends_here():
            yield end, -1, True
        after = self._steps.after(self._path, self._prefix.readings)
        ends = self._ends(after)
        words = self._begun(after)
        for token, readings in after.items():
            is_leaf = token in ends and end is None
            child = Prefix(readings, (*self._path, token))
            if token in words:
                yield token, states.number(child, words[token]), is_leaf
            elif token in ends:
                yield token, -1 if is_leaf else states.number(child), is_leaf

    def _ends_here(self) -> bool:
        """Whether the prefix is the encoding of a candidate."""
        text = next((text for state, text in self._prefix.readings.items() if self._units.ended(state)), None)
        return text is not None and self._questions.ask([text])[0].tokens == self._path

    def _ends(self, after: Mapping[int, Readings]) -> set[int]:
        """The tokens at which a candidate ends whose encoding is this."""
        asked = [
            (token, text)
            for token, readings in after.items()
            for state, text in readings.items()
            if self._units.ended(state)
        ]
        answers = self._questions.ask_whole([text for _, text in asked])
        return {
            token for (token, _), answer in zip(asked, answers, strict=True) if answer.tokens == (*self._path, token)
        }

    def _begun(self, after: Mapping[int, Readings]) -> dict[int, Any]:
        """The tokens with which the encoding of some candidate goes on, and what of the tokens matters from then on.

        A candidate that begins so is a witness. Where chance finds none, a prefix that is not its own text's encoding
        begins no other's; of what is left, the tokens that may follow are looked for in turn.
        """
        generator = random.Random(0)
        unsettled: _Unsettled = {
            token: going_on
            for token, readings in after.items()
            if (going_on := [(state, text) for state, text in readings.items() if not self._units.ended(state)])
        }
        words: dict[int, Any] = {}
        for attempt in range(_WITNESSES):
            asked = [(token, *texts[attempt % len(texts)]) for token, texts in unsettled.items() if token not in words]
            candidates = [text + self._units.completed(state, generator) for _, state, text in asked]
            for (token, state, text), answer in zip(asked, self._questions.ask_whole(candidates), strict=True):
                if answer.goes_on_from((*self._path, token)):
                    words[token] = self._what_matters(answer, (*self._path, token), state, text)
            if attempt == 0:
                unsettled = self._without_broken(unsettled, words)
        for token in unsettled.keys() - words.keys():
            if self._goes_on(token, after[token]):
                words[token] = _all_of((*self._path, token))
        return words

    def _goes_on(self, token: int, readings: Readings) -> bool:
        """Whether the encoding of some candidate goes on behind a token, of which chance found none.

        Raises:
            UntoldDeadEnds: too many texts would have to be asked; the same again for any other such token.
        """
        steps = self._steps.within_search()
        state = self._automaton.states.number(Prefix(readings, (*self._path, token)))
        return len(self._automaton.edges_by(state, steps).tokens) > 0

    def _without_broken(self, unsettled: _Unsettled, words: Mapping[int, Any]) -> _Unsettled:
        """Without the readings whose text is encoded otherwise than by the prefix."""
        if self._steps.prefix_rule is PrefixRule.NOWHERE:
            return unsettled
        asked = [
            (token, state, text)
            for token, texts in unsettled.items()
            if token not in words
            for state, text in texts
            if can_be_asked(state, text) and not OPEN_END.search(text)
        ]
        answers = self._questions.ask([text for *_, text in asked])
        broken = {
            (token, state)
            for (token, state, _), answer in zip(asked, answers, strict=True)
            if answer.tokens != (*self._path, token)
        }
        left = {token: [each for each in texts if (token, each[0]) not in broken] for token, texts in unsettled.items()}
        return {token: texts for token, texts in left.items() if texts}

    def _what_matters(self, answer: Answer, path: Path, state: UnitState, text: str) -> Any:
        """What of the tokens matters to what may follow: those of the last word, since words are encoded each alone.

        Of a word of merges, its last token and its length say as much as all of them; and where only a space can
        follow, with which a word begins, nothing does.
        """
        if answer.words is None or OPEN_END.search(text):
            return _all_of(path)
        end, word = len(path), answer.words[len(path) - 1]
        begin = next(index for index, other in enumerate(answer.words) if other == word)
        if len(answer.words) > end and answer.words[end] != word and self._units.is_space_next(state):
            return ()
        vocabulary = self._automaton.vocabulary
        if vocabulary.is_pairwise:
            tokens = self._questions.tokenizer.convert_ids_to_tokens(path[begin:])
            return "last", path[-1], sum(len(vocabulary.units(token)) for token in tokens)
        return "word", path[begin:]


def _all_of(path: Path) -> tuple[str, Path]:
    return "all", path  # no word of the same tokens, behind which something else may follow


def _as_edges(follows: Iterable[_Edge]) -> Edges:
    ascending = sorted(follows)
    return Edges(
        np.array([token for token, _, _ in ascending], dtype=np.int64),
        np.array([after for _, after, _ in ascending], dtype=np.int64),
        np.array([is_leaf for _, _, is_leaf in ascending], dtype=np.bool_),
    )


def are_single(trie: Trie, units: Iterable[str]) -> bool:
    """Whether each of these units is one token, and no token is made of several of them."""
    units = list(units)
    if any(len(trie.get(unit, {}).get(ENDING, ())) != 1 for unit in units):
        return False
    pending = [trie[unit][other] for unit in units for other in units if other in trie[unit]]
    while pending:
        node = pending.pop()
        if ENDING in node:
            return False
        pending += [node[unit] for unit in units if unit in node]
    return True

"""The parts of a token tree one behind the other, as one automaton.

Theory. Each encoding of a format is a row of encodings, one of each part, and each such row is an encoding; so the tree
is the parts' automata, of which each begins where the one before may end. Leaves are then counted by a product, unless
two rows are the same tokens: as `a` + `bc` and `ab` + `c` are, if the first part has `a` and `ab`. That needs a part
that may end and go on with a token with which the next one begins; the parts say which tokens those are
(`open_tokens`), and where the two sets have none in common, rows and leaves are one to one. Else leaves are counted by
going through all states, if there are few.

A state is a part with a state of it, or several of these where tokens may be read in several ways. As a number, the
part stands in the high bits: state 7 of part 2 is 2 << 56 | 7 = 144_115_188_075_855_879. Several have 127 there, of
which there is no part, and below it the index of their list. Knows no format and no tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from .automaton.bottom_up import bottom_up
from .parts import Edges, Follows, Part, Path, merged

_MOST_COUNTED = 100_000  # edges that are looked at to count leaves
_CACHE = 1 << 26  # bytes of edges that are kept

_PART_BITS = 56
_LOCAL = (1 << _PART_BITS) - 1
_SEVERAL = 127  # the part of states that stand in several parts


class Row:
    """Parts in a row: each row of encodings, one of each part, is a leaf.

    Args:
        parts: fewer than 126.
        end: a token behind the last; None if there is none.

    Attributes:
        parts: as given.
        start: the state before the first token.
        depth: the most tokens that a leaf has: a bound.
    """

    def __init__(self, parts: Sequence[Part], end: int | None) -> None:
        self.parts, self._end = parts, end
        self._edges: dict[int, Edges] = {}
        self._num_bytes = 0
        # Of lists that many states of a part have in common; they are kept here too, so that their ids stay theirs.
        self._edges_of_lists: dict[tuple[int, int], tuple[Follows, Edges]] = {}
        self._several: list[tuple[int, ...]] = []
        self._several_numbers: dict[tuple[int, ...], int] = {}
        self.depth = sum(part.depth for part in parts) + (end is not None)
        elements, _ = self._behind_part(-1)
        self.start = self._state(elements)

    def edges(self, state: int) -> Edges:
        """What may follow a state."""
        if state not in self._edges:
            edges = self._joined([self._of_element(*element) for element in self._elements(state)])
            self._num_bytes += edges.num_bytes
            while self._edges and self._num_bytes > _CACHE:
                self._num_bytes -= self._edges.pop(next(iter(self._edges))).num_bytes
            self._edges[state] = edges
        return self._edges[state]

    def leads(self, state: int, path: Sequence[int]) -> bool:
        """Whether a leaf is this many tokens behind a state."""
        states, is_leaf = [state], False
        for token in path:
            states, is_leaf = self._after(states, token)
        return is_leaf

    def most_below(self, state: int) -> int:
        """How many texts begin with what leads to a state, at most, but for what is encoded alike."""
        return sum(self._most_below(part, local) for part, local in self._elements(state))

    def readings(self, tokens: Sequence[int]) -> list[tuple[str, int]]:
        """The texts whose encodings make a leaf: some of them, and how many each stands for."""
        if self._end is None:
            return list(self._readings(0, tokens))
        return list(self._readings(0, tokens[:-1])) if tokens and tokens[-1] == self._end else []

    @cached_property
    def counted_leaves(self) -> int | None:
        """How many leaves there are; None if it would take too long to find out."""
        if not self.may_overlap:
            return self.most_leaves
        return self._counted(_MOST_COUNTED)

    @cached_property
    def most_leaves(self) -> int:
        """The same, at most: as many as the parts' encodings make, of which two rows may be the same."""
        return math.prod(part.num_encodings for part in self.parts)

    @cached_property
    def most_copies(self) -> int | None:
        """How many texts one leaf has, at most; None if parts overlap, so that theirs do not say."""
        if len(self.parts) > 1 and self.may_overlap:
            return None
        return math.prod(part.most_copies for part in self.parts)

    @cached_property
    def may_overlap(self) -> bool:
        """Whether a part may go on with a token with which the next one begins, or as much is not known of it."""
        for number, part in enumerate(self.parts):
            tokens = part.open_tokens
            if tokens is None:
                return True
            elements, _ = self._behind_part(number) if tokens else ([], False)
            if elements and not tokens.isdisjoint(self.edges(self._state(elements)).tokens.tolist()):
                return True
        return False

    def to_branch(self) -> tuple[Path, int]:
        """The tokens up to where leaves first differ, or to before the last token of the only one, and the state."""
        state, tokens = self.start, list[int]()
        while True:
            edges = self.edges(state)
            if len(edges.tokens) != 1 or edges.states[0] < 0 or edges.is_leaf[0]:
                return tuple(tokens), state
            tokens.append(int(edges.tokens[0]))
            state = int(edges.states[0])

    def _counted(self, most: int) -> int | None:
        """The leaves, by going through all states; None where that is more than so many edges."""
        below, num_edges = {-1: 0}, 0
        for state in bottom_up([self.start], self._behind):
            edges = self.edges(state)
            num_edges += len(edges.tokens)
            if num_edges > most:
                return None
            below[state] = int(edges.is_leaf.sum()) + sum(map(below.__getitem__, edges.states.tolist()))
        return below[self.start]

    def _behind(self, state: int) -> list[int]:
        """The states that follow one."""
        states = np.unique(self.edges(state).states)
        return states[states >= 0].tolist()  # type: ignore[no-any-return]

    def _state(self, elements: Sequence[tuple[int, int]]) -> int:
        """The number of a state that is these: (part, state of it)."""
        numbers = sorted({part << _PART_BITS | local for part, local in elements})
        if len(numbers) == 1:
            return numbers[0]
        key = tuple(numbers)
        if key not in self._several_numbers:
            self._several_numbers[key] = len(self._several)
            self._several.append(key)
        return _SEVERAL << _PART_BITS | self._several_numbers[key]

    def _elements(self, state: int) -> list[tuple[int, int]]:
        numbers = self._several[state & _LOCAL] if state >> _PART_BITS == _SEVERAL else (state,)
        return [(number >> _PART_BITS, number & _LOCAL) for number in numbers]

    def _behind_part(self, number: int) -> tuple[list[tuple[int, int]], bool]:
        """Where leaves go on behind a part, and whether one ends there; parts may be empty."""
        following = number + 1
        if following == len(self.parts):
            return ([], True) if self._end is None else ([(following, 0)], False)
        part = self.parts[following]
        elements = [(following, part.start)] if len(part.follows(part.start).tokens) else []
        more, is_leaf = self._behind_part(following) if part.ends(part.start) else ([], False)
        return [*elements, *more], is_leaf

    def _of_element(self, number: int, local: int) -> Edges:
        if number == len(self.parts):
            return Edges(np.array([self._end]), np.array([-1]), np.array([True]))
        selection = self.parts[number].selection(local)
        if selection is None:
            return self._of_follows(number, self.parts[number].follows(local))
        follows, indices = selection
        key = (number, id(follows))
        if key not in self._edges_of_lists:
            self._edges_of_lists[key] = follows, self._of_follows(number, follows)
        return self._edges_of_lists[key][1].take(indices)

    def _of_follows(self, number: int, follows: Follows) -> Edges:
        on = follows.states >= 0
        states = np.where(on, number << _PART_BITS | follows.states, -1)
        elements, is_leaf = self._behind_part(number)
        if elements:
            behind = self._state(elements)
            states[follows.ends & ~on] = behind
            for at in np.flatnonzero(follows.ends & on).tolist():
                states[at] = self._state([*elements, *self._elements(int(states[at]))])
        return Edges(follows.tokens, states, follows.ends if is_leaf else np.zeros(len(on), dtype=bool))

    def _joined(self, lists: Sequence[Edges]) -> Edges:
        if len(lists) == 1:
            return lists[0]
        follows = merged([Follows(edges.tokens, edges.states, edges.is_leaf) for edges in lists], self._join)
        return Edges(follows.tokens, follows.states, follows.ends)

    def _join(self, states: Sequence[int]) -> int:
        return self._state([element for state in states for element in self._elements(state)])

    def _after(self, states: Sequence[int], token: int) -> tuple[list[int], bool]:
        """The states behind a token, and whether a leaf ends there."""
        behind: list[int] = []
        is_end = False
        for number, local in (element for state in states for element in self._elements(state)):
            if number == len(self.parts):
                is_end |= token == self._end
                continue
            after = self.parts[number].after(local, token)
            if after is None:
                continue
            behind.append(number << _PART_BITS | after[0])
            if after[1]:
                elements, is_leaf = self._behind_part(number)
                behind += [self._state([element]) for element in elements]
                is_end |= is_leaf
        return behind, is_end

    def _most_below(self, number: int, local: int) -> int:
        return self.parts[number].most_below(local) if number < len(self.parts) else 1

    def _readings(self, number: int, tokens: Sequence[int]) -> Iterator[tuple[str, int]]:
        """From a part on."""
        if number == len(self.parts):
            if not tokens:
                yield "", 1
            return
        part = self.parts[number]
        for length in self._lengths(part, tokens, is_last=number == len(self.parts) - 1):
            first = part.read(tokens[:length])
            if first is not None:
                for text, count in self._readings(number + 1, tokens[length:]):
                    yield first[0] + text, first[1] * count

    def _lengths(self, part: Part, tokens: Sequence[int], *, is_last: bool) -> Iterator[int]:
        """How many of the tokens may be a part's."""
        state = part.start
        if part.ends(state) and (not is_last or not tokens):
            yield 0
        for length, token in enumerate(tokens, start=1):
            after = part.after(state, token)
            if after is None:
                return
            state, ends = after
            if ends and (not is_last or length == len(tokens)):
                yield length

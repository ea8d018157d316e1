"""What a kind of model says of a word: which tokens may stand side by side in it, as a state and what it leads to.

Knows entries and units; no words, no pre-tokenizer and no format. A new kind of model is one class more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .bpe import Candidates, Merges
from .stages import Stage
from .vocabulary import Ints, Trie

Bools = NDArray[np.bool_]

_FEW = 32  # so many pairs are quicker asked one by one
FRESH = 0  # the state before a word's first token

# Beginnings of entries, each with the best score at the boundary where it begins.
UnderWay = tuple[tuple[int, float], ...]
StagesFor = Callable[[frozenset[str]], tuple[Sequence[Stage], Sequence[Stage]]]


class Entries:
    """Entries that may come next, ascending by id.

    Args:
        tokens: (n,) their ids.
        nodes: (n,) where they end in the tree of the vocabulary.
    """

    def __init__(self, tokens: Ints, nodes: Ints) -> None:
        self.tokens, self.nodes = tokens, nodes
        self._merges: Merges | None = None

    def by_place(self, merges: Merges) -> Candidates:
        """As BPE needs them."""
        if self._merges is not merges:
            self._merges, self._candidates = merges, merges.candidates(self.tokens)
        return self._candidates

    def take(self, which: Ints) -> Entries:
        """Some of them."""
        return Entries(self.tokens[which], self.nodes[which])


class WordRule(Protocol):
    """Which tokens follow one another within a word.

    Attributes:
        first: the entries that begin a word.
        further: those that go on in one.
    """

    first: Trie
    further: Trie

    @property
    def unended(self) -> AbstractSet[int]:
        """States in which a word may not end."""
        ...

    def stages(self, alphabet: frozenset[str]) -> tuple[Sequence[Stage], Sequence[Stage]]:
        """What cuts the pre-tokenizer's words further, for all that matters, and what makes units of their characters.

        Args:
            alphabet: the characters that may come.
        """
        ...

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        """Which of these may come next in a word, the first ones in state `FRESH`: their places among those given,
        ascending, and the state behind each.
        """
        ...

    def step(self, state: int, token: int) -> int:
        """The state behind one entry, or -1 if it may not follow."""
        ...

    def is_plain(self, state: int) -> bool:
        """Whether the state behind what follows depends on that alone."""
        ...

    def behind_plain(self, entries: Entries) -> Ints:
        """(n,) the state behind each of these, if they follow a plain state."""
        ...

    def allowed(self, state: int, entries: Entries) -> Bools:
        """(n,) which of these may follow a plain state."""
        ...

    def allowed_behind(self, states: Ints, token: int) -> Bools:
        """(n,) which of some plain states an entry may follow."""
        ...


class MergedWords:
    """BPE: a token may follow another if the two are the encoding of their letters (see `bpe`).

    With `ignore_merges`, a word that is an entry as a whole is that one token, whatever merges make of its letters. So
    a word may not end behind just the tokens that merges make of such an entry: with `důležité` an entry that no merges
    reach, the word is that token, while `důležitého` is `dů le ž ité ho`, which begins with its letters' encoding. The
    state is the last token, and beside it how much of such a forbidden ending has been written.

    Args:
        merges: of the vocabulary.
        first: entries that begin a word, those of `whole` too.
        further: entries that go on in one.
        stages: to the units of the entries.
        whole: entry → what merges make of its letters.
    """

    def __init__(
        self, merges: Merges, first: Trie, further: Trie, stages: StagesFor, whole: Mapping[int, Sequence[int]]
    ) -> None:
        self.first, self.further, self.stages, self._merges = first, further, stages, merges
        self._behind_first = np.arange(merges.size) + 1
        self._closed = merges.size + 1
        self._last: list[int] = []  # of each beginning of a forbidden ending
        self._on: list[dict[int, int]] = []
        self.unended: set[int] = set()
        for entry, tokens in whole.items():
            self._forbid(tokens)
            self._behind_first[entry] = self._closed

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        if state == FRESH:
            return np.arange(len(entries.tokens)), self._behind_first[entries.tokens]
        if state == self._closed:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        if self.is_plain(state):
            which = np.flatnonzero(self.allowed(state, entries))
            return which, entries.tokens[which] + 1
        begun = state - self._closed - 1
        which = np.flatnonzero(self._may_follow(self._last[begun], entries))
        behind = entries.tokens[which] + 1
        for token, number in self._on[begun].items():
            behind[entries.tokens[which] == token] = number
        return which, behind

    def step(self, state: int, token: int) -> int:
        if state == FRESH:
            return self._behind_first.item(token)
        if state == self._closed:
            return -1
        begun = state - self._closed - 1
        last = self._last[begun] if begun >= 0 else state - 1
        if not self._merges.reached[token] or not self._merges.may_follow_this(last, token):
            return -1
        return self._on[begun].get(token, token + 1) if begun >= 0 else token + 1

    def is_plain(self, state: int) -> bool:
        return FRESH < state < self._closed

    def behind_plain(self, entries: Entries) -> Ints:
        return entries.tokens + 1

    def allowed(self, state: int, entries: Entries) -> Bools:
        return self._may_follow(state - 1, entries)

    def allowed_behind(self, states: Ints, token: int) -> Bools:
        allowed = self._merges.may_follow(states - 1, np.array([token]))
        return allowed & bool(self._merges.reached[token])

    def _may_follow(self, last: int, entries: Entries) -> Bools:
        if len(entries.tokens) == 1:
            return np.array([self.step(last + 1, int(entries.tokens[0])) >= 0])
        if len(entries.tokens) <= _FEW:
            allowed = self._merges.may_follow(np.array([last]), entries.tokens)
        else:
            allowed = self._merges.may_follow_one(last, entries.by_place(self._merges))
        return allowed & self._merges.reached[entries.tokens] if self.unended else allowed

    def _forbid(self, tokens: Sequence[int]) -> None:
        """A word may not be these tokens alone."""
        state = FRESH
        for token in tokens:
            begun = state - self._closed - 1
            on = int(self._behind_first[token]) if state == FRESH else self._on[begun].get(token, 0)
            if on <= self._closed:
                on = self._closed + 1 + len(self._last)
                self._last.append(token)
                self._on.append({})
                if state == FRESH:
                    self._behind_first[token] = on
                else:
                    self._on[begun][token] = on
            state = on
        self.unended.add(state)


class _NothingPlain:
    """Of rules whose states all say more than what came last."""

    unended: frozenset[int] = frozenset()
    first: Trie
    further: Trie

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        """As of a rule."""
        raise NotImplementedError

    def step(self, state: int, token: int) -> int:
        node = (self.first if state == FRESH else self.further).node(token)
        which, states = self.after(state, Entries(np.array([token]), np.array([node])))
        return int(states[0]) if len(which) else -1

    def is_plain(self, state: int) -> bool:
        return False

    def behind_plain(self, entries: Entries) -> Ints:
        raise NotImplementedError

    def allowed(self, state: int, entries: Entries) -> Bools:
        raise NotImplementedError

    def allowed_behind(self, states: Ints, token: int) -> Bools:
        raise NotImplementedError


class WholeWordRule(_NothingPlain):
    """Word-level models: a word is one token, which a stage has found; nothing follows in it."""

    def __init__(self, stages: StagesFor) -> None:
        self.first = self.further = Trie({})
        self.stages = stages

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)


class LongestMatches(_NothingPlain):
    """WordPiece: at each place of a word the longest entry that fits.

    So a token is right when none that goes on from it fits the letters that follow. The state is the set of entries'
    beginnings that must never become an entry: places in the tree of the vocabulary, each of which moves on with the
    letters until nothing goes on from there. With `un` and `unable`: behind `un` the letters `able` must not come.
    """

    def __init__(self, first: Trie, further: Trie, stages: StagesFor) -> None:
        self.first, self.further, self.stages = first, further, stages
        self._sets: list[frozenset[tuple[bool, int]]] = [frozenset(), frozenset()]
        self._numbers: dict[frozenset[tuple[bool, int]], int] = {frozenset(): 1}
        self._moved: dict[tuple[bool, int], tuple[Ints, Ints, dict[int, int]]] = {}

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        if state == FRESH:
            return np.arange(len(entries.tokens)), self._behind(entries, is_first=True, moved=())
        below = self._order[0][entries.nodes]
        allowed = np.ones(len(entries.tokens), dtype=bool)
        moved = []
        for place in self._sets[state]:
            low, high, on = self._move(place)
            for begin, end in zip(low.tolist(), high.tolist(), strict=True):
                allowed &= (below < begin) | (below >= end)
            moved.append((place[0], on))
        which = np.flatnonzero(allowed)
        return which, self._behind(entries.take(which), is_first=False, moved=moved)

    def _behind(self, entries: Entries, *, is_first: bool, moved: Sequence[tuple[bool, dict[int, int]]]) -> Ints:
        """(n,) the states: what goes on from each entry, and from what stood before."""
        trie = self.first if is_first else self.further
        goes_on = trie.first_child[entries.nodes + 1] > trie.first_child[entries.nodes]
        states = np.empty(len(entries.nodes), dtype=np.int64)
        for at, (node, more) in enumerate(zip(entries.nodes.tolist(), goes_on.tolist(), strict=True)):
            places = {(is_first, node)} if more else set()
            places |= {(side, on[node]) for side, on in moved if node in on}
            states[at] = self._number(frozenset(places))
        return states

    def _number(self, places: frozenset[tuple[bool, int]]) -> int:
        if places not in self._numbers:
            self._numbers[places] = len(self._sets)
            self._sets.append(places)
        return self._numbers[places]

    @cached_property
    def _order(self) -> tuple[Ints, Ints]:
        """(n_nodes,) where each node of `further` is met from the top, and how many are met from it on down: so what is
        below one is an interval.
        """
        trie = self.further
        below = np.ones(trie.num_nodes, dtype=np.int64)
        for node in range(trie.num_nodes - 1, 0, -1):
            below[trie.parent[node]] += below[node]
        order = np.zeros(trie.num_nodes, dtype=np.int64)
        before = np.cumsum(below) - below
        for node in range(1, trie.num_nodes):
            parent = trie.parent[node]
            order[node] = order[parent] + 1 + before[node] - before[trie.first_child[parent]]
        return order, below

    def _move(self, place: tuple[bool, int]) -> tuple[Ints, Ints, dict[int, int]]:
        """What letters do to a place: the intervals of nodes of `further` behind which it is an entry, and where it
        stands at the others.
        """
        if place not in self._moved:
            order, size = self._order
            trie = self.first if place[0] else self.further
            low, high, on = [], [], {}
            pending = [(place[1], Trie.root)]
            while pending:
                mine, other = pending.pop()
                for child in range(int(trie.first_child[mine]), int(trie.first_child[mine + 1])):
                    same = self.further.child(other, chr(int(trie.unit[child])))
                    if same < 0:
                        continue
                    if trie.entry[child] >= 0:
                        low.append(int(order[same]))
                        high.append(int(order[same] + size[same]))
                    else:
                        on[same] = child
                        pending.append((child, same))
            self._moved[place] = np.array(low, dtype=np.int64), np.array(high, dtype=np.int64), on
        return self._moved[place]


class BestPaths(_NothingPlain):
    """Unigram: of all ways to cut a word into entries, the one with the greatest sum of scores.

    The best way to a boundary depends on what stands before it alone: so what an encoding begins with is the encoding
    of its own letters, and the state is the beginnings of entries that are under way, each with the best score at the
    boundary where it begins. Of equal sums the entry that begins first is taken. Sums are added up in the model's
    order, so that they round as its own do.
    """

    def __init__(self, trie: Trie, scores: NDArray[np.float64], stages: StagesFor) -> None:
        self.first = self.further = trie
        self.stages = stages
        of_entries = np.where(trie.entry >= 0, scores[trie.entry], np.nan)
        self._score_of: list[float] = of_entries.tolist()
        fresh: UnderWay = ((Trie.root, 0.0),)
        self._states = [fresh]
        self._numbers = {fresh: FRESH}
        self._children: dict[int, dict[int, int]] = {}

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        known: dict[int, tuple[UnderWay, bool]] = {Trie.root: (self._states[state], True)}
        which, behind = [], []
        for at, node in enumerate(entries.nodes.tolist()):
            under_way, is_best = self._to(node, known)
            if is_best:
                which.append(at)
                behind.append(self._number(under_way))
        return np.array(which, dtype=np.int64), np.array(behind, dtype=np.int64)

    def _to(self, node: int, known: dict[int, tuple[UnderWay, bool]]) -> tuple[UnderWay, bool]:
        """What is under way behind the units of a node, and whether its entry ends the best way there."""
        way = []
        while node not in known:
            way.append(node)
            node = int(self.first.parent[node])
        for node in reversed(way):
            known[node] = self._step(known[int(self.first.parent[node])][0], node)
        return known[node]

    def _step(self, under_way: UnderWay, node: int) -> tuple[UnderWay, bool]:
        unit = int(self.first.unit[node])
        best, is_best, on = -np.inf, False, []
        for begun, score in under_way:  # in the order in which they begin
            child = self._children_of(begun).get(unit)
            if child is None:
                continue
            on.append((child, score))
            ends = self._score_of[child]  # no number where no entry ends, which is above nothing
            if score + ends > best:
                best, is_best = score + ends, child == node
        return (*on, (Trie.root, best)), is_best

    def _children_of(self, node: int) -> dict[int, int]:
        """Unit → node."""
        if node not in self._children:
            children = range(int(self.first.first_child[node]), int(self.first.first_child[node + 1]))
            self._children[node] = {int(self.first.unit[child]): child for child in children}
        return self._children[node]

    def _number(self, under_way: UnderWay) -> int:
        if under_way not in self._numbers:
            self._numbers[under_way] = len(self._states)
            self._states.append(under_way)
        return self._numbers[under_way]

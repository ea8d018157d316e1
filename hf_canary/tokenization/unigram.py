"""Unigram: of all ways to cut a word into entries, the one with the greatest sum of scores (Kudo, ACL 2018).

The best way to a boundary depends on what stands before it alone: so what an encoding begins with is the encoding of
its own letters, and the state is the beginnings of entries that are under way, each with the best score at the boundary
where it begins. Of equal sums the entry that begins first is taken. Sums are added up in the model's order, so that
they round as its own do. Whether an encoding goes on from such a boundary is watched letter by letter: of the best ways
that are under way some go over it, until all do or none. This file knows no pre-tokenizer and no format.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bools, Ints
from .best_paths import Beginnings, LetterMasks, Spelled, UnderWay
from .letters import Letters, NeverSpelled
from .stages import Stage
from .vocabulary import Trie, byte_entry, byte_unit, spelled
from .word_rule import FRESH, Config, Entries, NothingPlain, StagesFor, Watch, check_options

_UNKNOWN_COSTS = 10.0  # what is taken off for a character that is no entry, beside the least score

_FRESH: UnderWay = ((Trie.root, 0.0),)
_MOST_KNOWN = 100_000  # states of which it is remembered what they hold


class BestPaths(NothingPlain):
    """Words of best paths.

    Args:
        trie: the entries.
        scores: (n,) of each id.
        stages: to the units of the entries.
        unknown: the token of characters that are none.
    """

    has_watches = True

    def __init__(self, trie: Trie, scores: NDArray[np.float64], stages: StagesFor, unknown: int | None) -> None:
        self.first = self.further = trie
        self.stages, self.unknown = stages, unknown
        of_entries = np.where(trie.entry >= 0, scores[trie.entry], -np.inf)
        self._scores = np.append(of_entries, -np.inf)
        self._score_of: list[float] = of_entries.tolist()
        self._children: dict[int, dict[int, int]] = {}
        self._parent: list[int] = trie.parent.tolist()
        self._unit: list[int] = trie.unit.tolist()
        # States are numbered by where they come from: those behind one state side by side, whether they come or not.
        # What they hold is found anew when it is asked for, since most are never gone to.
        self._first = [FRESH]
        self._origins: list[tuple[int, Entries]] = []
        self._begun: dict[tuple[int, int], int] = {}
        self._steps: dict[tuple[int, int], int] = {}
        self._known: dict[int, UnderWay] = {}
        self._num_states = 1
        self._beginnings: dict[int, Beginnings] = {}
        self._letters: dict[tuple[str, ...], LetterMasks] = {}
        self._last: tuple[tuple[int, int], Spelled] | None = None

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        key = (state, id(entries))
        if key not in self._begun:
            self._begun[key] = self._numbered(state, entries)
        best = np.flatnonzero(self._spelled(state, entries).is_best)
        return best, self._begun[key] + best

    def _spelled(self, state: int, entries: Entries) -> Spelled:
        """What becomes of entries behind a state; of what was asked last, it is remembered."""
        key = (state, id(entries))
        if self._last is None or self._last[0] != key:
            self._last = key, self._beginnings_of(entries).behind(self._under_way(state))
        return self._last[1]

    def _beginnings_of(self, entries: Entries) -> Beginnings:
        if id(entries) not in self._beginnings:  # which stay, since they are kept with the states behind them
            self._beginnings[id(entries)] = Beginnings(self.first, self._scores, entries.nodes)
        return self._beginnings[id(entries)]

    def surely_on(self, states: Ints, letters: Sequence[str]) -> Bools:
        block = bisect.bisect_right(self._first, int(states[0])) - 1
        first, (before, entries) = self._first[block], self._origins[block - 1]
        key = tuple(letters)
        if key not in self._letters:
            self._letters[key] = LetterMasks(self.first, letters)
        those = self._letters[key]
        going_on = self._beginnings_of(entries).going_on(those)[states - first]
        indices, nodes = self._spelled(before, entries).others
        at = np.minimum(np.searchsorted(states, first + indices), len(states) - 1)
        asked = states[at] == first + indices
        np.bitwise_or.at(going_on, at[asked], those.behind[nodes[asked]])
        return np.asarray(going_on != those.all)

    def step(self, state: int, token: int) -> int:
        node = self.first.node(token)
        if node < 0 or not self._to(node, {Trie.root: (self._under_way(state), True)})[1]:
            return -1
        key = (state, node)
        if key not in self._steps:
            self._steps[key] = self._numbered(state, Entries(np.array([token]), np.array([node])))
        return self._steps[key]

    def _numbered(self, state: int, entries: Entries) -> int:
        """The first of the numbers of the states behind a state and some entries."""
        first = self._num_states
        self._first.append(first)
        self._origins.append((state, entries))
        self._num_states += len(entries.tokens)
        return first

    def _under_way(self, state: int) -> UnderWay:
        """What a state holds: by the entries that lead to it, from the last known one on."""
        way = []
        while state != FRESH and state not in self._known:
            block = bisect.bisect_right(self._first, state) - 1
            before, entries = self._origins[block - 1]
            way.append((state, entries.nodes.item(state - self._first[block])))
            state = before
        if len(self._known) > _MOST_KNOWN:
            self._known = {state: self._known[state]} if state != FRESH else {}
        under_way = _FRESH if state == FRESH else self._known[state]
        for state, node in reversed(way):
            under_way, _ = self._to(node, {Trie.root: (under_way, True)})
            self._known[state] = under_way
        return under_way

    def _to(self, node: int, known: dict[int, tuple[UnderWay, bool]]) -> tuple[UnderWay, bool]:
        """What is under way behind the units of a node, and whether its entry ends the best way there."""
        way = []
        while node not in known:
            way.append(node)
            node = self._parent[node]
        for node in reversed(way):
            known[node] = self._step(known[self._parent[node]][0], node)
        return known[node]

    def _step(self, under_way: UnderWay, node: int) -> tuple[UnderWay, bool]:
        unit = self._unit[node]
        best, is_best, on = -np.inf, False, []
        for begun, score in under_way:  # in the order in which they begin
            child = self._children_of(begun).get(unit)
            if child is None:
                continue
            on.append((child, score))
            ends = self._score_of[child]
            if score + ends > best:
                best, is_best = score + ends, child == node
        return (*on, (Trie.root, best)), is_best

    def watch(self, state: int) -> Watch:
        *under_way, (root, best) = self._under_way(state)
        ways = (*((node, score, False) for node, score in under_way), (root, best, True))
        return Watch(ways, is_kept=True, is_sure=False, is_lost=False)

    def watched(self, watch: Watch, letter: str) -> Watch:
        unit = ord(letter)
        best, is_kept, num_kept = -np.inf, False, 0
        ways: list[tuple[int, float, bool]] = []
        for begun, score, keeps in watch.ways:  # in the order in which they begin
            child = self._children_of(begun).get(unit)
            if child is None:
                continue
            ways.append((child, score, keeps))
            num_kept += keeps
            score += self._score_of[child]
            if score > best:
                best, is_kept = score, keeps
        is_sure, is_lost = is_kept and num_kept == len(ways), not (is_kept or num_kept)
        ways.append((Trie.root, best, is_kept))
        return Watch(tuple(ways), is_kept, is_sure, is_lost)

    def likeliest(self, watch: Watch, letters: Sequence[str]) -> Iterator[str]:
        others = [self._children_of(node) for node, _, keeps in watch.ways if not keeps]
        later = []
        for letter in letters:
            if any(ord(letter) in children for children in others):
                later.append(letter)
            else:  # behind it no other way goes on
                yield letter
        yield from later

    def _children_of(self, node: int) -> dict[int, int]:
        """Unit → node."""
        if node not in self._children:
            children = range(int(self.first.first_child[node]), int(self.first.first_child[node + 1]))
            self._children[node] = {self._unit[child]: child for child in children}
        return self._children[node]


def best_paths(model: Config) -> BestPaths:
    """The rule of a Unigram model."""
    check_options(model, ("type", "vocab", "unk_id", "byte_fallback"))
    entries = {entry: id for id, (entry, _) in enumerate(model["vocab"]) if entry and id != model["unk_id"]}
    scores = np.array([score for _, score in model["vocab"]], dtype=np.float64)
    single = {entry for entry in entries if len(entry) == 1}
    byte_ids = {
        spelling: id for entry, id in entries.items() if (spelling := spelled(entry, bytes_alone=True)) != entry
    }
    has_bytes = bool(model.get("byte_fallback")) and len(byte_ids) == 256
    letters = Letters(single, bytes_known=byte_ids if has_bytes else ())
    if has_bytes:
        # A character that is no entry costs what an unknown one does, and is its bytes.
        lowest = float(scores.min()) - _UNKNOWN_COSTS
        scores = scores.copy()
        for spelling, id in byte_ids.items():
            scores[id] = 0.0 if 0x80 <= ord(spelling) - ord(byte_unit(0)) < 0xC0 else lowest
        entries = {
            "".join(unit for character in entry for unit in letters.units(character)): id
            for entry, id in entries.items()
            if spelled(entry, bytes_alone=True) == entry
        } | byte_ids

    unknown: int | None = model["unk_id"]
    # Written out, these are entries to the model, of scores that are not those of what they stand for.
    written_out = [byte_entry(byte) for byte in range(256)] if has_bytes else []
    written_out += [] if unknown is None else [model["vocab"][unknown][0]]
    spellings = ["".join(unit for letter in entry for unit in letters.units(letter)) for entry in written_out]
    stages: list[Stage] = [letters, NeverSpelled(spellings)] if spellings else [letters]
    return BestPaths(Trie(entries), scores, lambda _: ([], stages), unknown)

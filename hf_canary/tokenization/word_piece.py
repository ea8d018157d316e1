"""WordPiece: at each position of a word the longest entry that fits (Song et al., EMNLP 2021, arXiv 2012.15524).

So a token is right when none that goes on from it fits the letters that follow. The state is the set of entries'
beginnings that must never become an entry: nodes in the tree of the vocabulary, each of which moves on with the
letters until nothing goes on from there. With `un` and `unable` entries: behind `un` the letters `able` must not come.
This file knows no pre-tokenizer and no format.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ..arrays import Ints
from .letters import Letters
from .stages import Unfollowed
from .vocabulary import Trie
from .word_rule import FRESH, Config, Entries, NothingPlain, StagesFor, check_options


class LongestMatches(NothingPlain):
    """Words of longest matches.

    Args:
        first: entries that begin a word.
        further: entries that go on in one, without their mark.
        stages: to the units of the entries.
        unknown: the token of a word that no entries make.
    """

    def __init__(self, first: Trie, further: Trie, stages: StagesFor, unknown: int | None) -> None:
        self.first, self.further, self.stages, self.unknown = first, further, stages, unknown
        self._sets: list[frozenset[tuple[bool, int]]] = [frozenset(), frozenset()]
        self._numbers: dict[frozenset[tuple[bool, int]], int] = {frozenset(): 1}
        self._moved: dict[tuple[bool, int], tuple[Ints, Ints, dict[int, int]]] = {}

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        if state == FRESH:
            return np.arange(len(entries.tokens)), self._behind(entries, is_first=True, moved=())
        below = self._order[0][entries.nodes]
        allowed = np.ones(len(entries.tokens), dtype=bool)
        moved = []
        for beginning in self._sets[state]:
            low, high, on = self._move(beginning)
            for begin, end in zip(low.tolist(), high.tolist(), strict=True):
                allowed &= (below < begin) | (below >= end)
            moved.append((beginning[0], on))
        which = np.flatnonzero(allowed)
        return which, self._behind(entries.take(which), is_first=False, moved=moved)

    def _behind(self, entries: Entries, *, is_first: bool, moved: Sequence[tuple[bool, dict[int, int]]]) -> Ints:
        """(n,) the states: what goes on from each entry, and from what stood before."""
        trie = self.first if is_first else self.further
        goes_on = trie.first_child[entries.nodes + 1] > trie.first_child[entries.nodes]
        states = np.empty(len(entries.nodes), dtype=np.int64)
        for at, (node, more) in enumerate(zip(entries.nodes.tolist(), goes_on.tolist(), strict=True)):
            beginnings = {(is_first, node)} if more else set()
            beginnings |= {(side, on[node]) for side, on in moved if node in on}
            states[at] = self._number(frozenset(beginnings))
        return states

    def _number(self, beginnings: frozenset[tuple[bool, int]]) -> int:
        if beginnings not in self._numbers:
            self._numbers[beginnings] = len(self._sets)
            self._sets.append(beginnings)
        return self._numbers[beginnings]

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

    def _move(self, beginning: tuple[bool, int]) -> tuple[Ints, Ints, dict[int, int]]:
        """What letters do to a beginning: the intervals of nodes of `further` behind which it is an entry, and its
        node behind the others.
        """
        if beginning not in self._moved:
            order, size = self._order
            trie = self.first if beginning[0] else self.further
            low, high, on = [], [], {}
            pending = [(beginning[1], Trie.root)]
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
            self._moved[beginning] = np.array(low, dtype=np.int64), np.array(high, dtype=np.int64), on
        return self._moved[beginning]


def longest_matches(model: Config) -> LongestMatches:
    """The rule of a WordPiece model.

    Raises:
        Unfollowed: its pieces within a word have no mark.
    """
    check_options(model, ("type", "vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word"))
    prefix: str = model["continuing_subword_prefix"]
    vocab: dict[str, int] = model["vocab"]
    if not prefix:
        raise Unfollowed("its pieces within a word, which have no mark")
    first = {entry: id for entry, id in vocab.items() if entry}
    further = {
        entry.removeprefix(prefix): id for entry, id in vocab.items() if entry.startswith(prefix) and entry != prefix
    }
    single, more = ({entry for entry in entries if len(entry) == 1} for entries in (first, further))
    letters = Letters(single, more, most=model["max_input_chars_per_word"])
    return LongestMatches(Trie(first), Trie(further), lambda _: ([], [letters]), vocab.get(model["unk_token"]))

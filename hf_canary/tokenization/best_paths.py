"""Many entries spelled at once behind one beginning of a word: which of them end the best way to where they end.

Letter by letter for all of them together, in arrays. Where the ways inside the new letters stand does not depend on
what came before, and is found once for each list of entries; their scores do. Knows scores and the tree of a
vocabulary; no tokenizer and no rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bools, Floats, Ints
from .vocabulary import Trie

Masks = NDArray[np.uint64]

# Beginnings of entries, each with the best score at the boundary where it begins, in the order in which they begin. The
# last is the one that begins here.
UnderWay = tuple[tuple[int, float], ...]

_MOST_LETTERS = 64  # of a mask


@dataclass(frozen=True)
class _Level:
    """The beginnings of some entries that have so many letters.

    Args:
        before: (n,) the column of each without its last letter, in the level before; ascending.
        units: (n,) the last letter.
        nodes: (n_letters, n) where the ways stand that begin at its boundaries, the first letter's first; -1 for none.
        scores: (n_letters, n) of the entries that end there; −inf where none does.
        entries: (n,) the index of each among the entries; -1 for what is none.
    """

    before: Ints
    units: Ints
    nodes: Ints
    scores: Floats
    entries: Ints


@dataclass(frozen=True)
class Spelled:
    """What becomes of entries behind one beginning of a word.

    Args:
        is_best: (n,) whether each ends the best way to where it ends.
        others: indices of entries behind which a way of the beginning still goes on, and where in the vocabulary it
            stands: two arrays, an entry perhaps several times.
    """

    is_best: Bools
    others: tuple[Ints, Ints]


class LetterMasks:
    """Letters as bits, and what of them may follow each node of a vocabulary.

    Args:
        trie: the vocabulary's.
        letters: some; of too many the first are taken.

    Attributes:
        all: the mask of all of them.
        behind: (n_nodes + 1,) the mask of those that may follow a node; none behind node -1.
    """

    def __init__(self, trie: Trie, letters: Sequence[str]) -> None:
        letters = letters[:_MOST_LETTERS]
        self.all = np.uint64((1 << len(letters)) - 1)
        bits = np.zeros(0x110000, dtype=np.uint64)
        bits[list(map(ord, letters))] = np.uint64(1) << np.arange(len(letters), dtype=np.uint64)
        self.behind = np.zeros(trie.num_nodes + 1, dtype=np.uint64)
        parents = np.flatnonzero(np.diff(trie.first_child) > 0)
        if len(parents):
            of_nodes = bits[np.maximum(trie.unit, 0)]
            self.behind[parents] = np.bitwise_or.reduceat(of_nodes, trie.first_child[parents])


class Beginnings:
    """The beginnings of some entries, level by level.

    Args:
        trie: the vocabulary's.
        scores: (n_nodes + 1,) of the entry that ends at each node; −inf where none does, and at node -1.
        nodes: (n,) where the entries end, all different.
    """

    def __init__(self, trie: Trie, scores: Floats, nodes: Ints) -> None:
        self._trie, self._scores, self._size = trie, scores, len(nodes)
        self._levels: list[_Level] = []
        self._masks: dict[int, Masks] = {}
        order = np.argsort(nodes)
        needed = [np.sort(nodes)]
        while len(needed[-1]):
            parents = np.unique(trie.parent[needed[-1]])
            needed.append(parents[parents != Trie.root])
        rest = np.unique(np.concatenate(needed))
        last, ways = np.array([Trie.root]), np.empty((0, 1), dtype=np.int64)
        while len(rest):
            # Nodes are numbered level by level, so that those of one parent stand side by side.
            count = int(np.searchsorted(trie.parent[rest], last[-1], side="right"))
            level, rest = rest[:count], rest[count:]
            before, units = np.searchsorted(last, trie.parent[level]), trie.unit[level]
            on = trie.behind(ways[:, before], units)
            ways = np.concatenate([on, trie.behind(np.zeros((1, count), dtype=np.int64), units)])
            at = np.minimum(np.searchsorted(nodes[order], level), len(nodes) - 1)
            entries = np.where(nodes[order][at] == level, order[at], -1)
            self._levels.append(_Level(before, units, ways, scores[ways], entries))
            last = level

    def behind(self, under_way: UnderWay) -> Spelled:
        """What becomes of the entries behind a beginning of a word."""
        *earlier, (_, score) = under_way
        starts, best = np.empty((0, 1)), np.array([score])
        column = np.zeros(len(earlier), dtype=np.int64)
        node = np.array([node for node, _ in earlier], dtype=np.int64)
        begun = np.array([score for _, score in earlier], dtype=np.float64)
        is_best = np.zeros(self._size, dtype=bool)
        others: list[tuple[Ints, Ints]] = []
        for level in self._levels:
            starts = np.concatenate([starts, best[None]]).take(level.before, axis=1)
            sums = starts + level.scores
            best = sums.max(axis=0)
            is_first = sums[0] == best  # of equal ones that which begins first
            if len(node):
                column, node, begun = self._on(level, column, node, begun)
                of_earlier = np.full(len(best), -np.inf)
                np.maximum.at(of_earlier, column, begun + self._scores[node])
                is_first &= of_earlier < best
                best = np.maximum(best, of_earlier)
                entries = level.entries[column]
                others.append((entries[entries >= 0], node[entries >= 0]))
            is_best[level.entries[level.entries >= 0]] = is_first[level.entries >= 0]
        if not others:
            nothing = np.empty(0, dtype=np.int64)
            return Spelled(is_best, (nothing, nothing))
        return Spelled(is_best, (np.concatenate([a for a, _ in others]), np.concatenate([b for _, b in others])))

    def _on(self, level: _Level, column: Ints, node: Ints, begun: Floats) -> tuple[Ints, Ints, Floats]:
        """Ways that began before the new letters, one letter more: the column of the level, the node, the score."""
        low, high = np.searchsorted(level.before, column), np.searchsorted(level.before, column, side="right")
        counts = high - low
        which = np.repeat(np.arange(len(column)), counts)
        column = np.arange(len(which)) + (low - np.cumsum(counts) + counts)[which]
        node = self._trie.behind(node[which], level.units[column])
        alive = node >= 0
        return column[alive], node[alive], begun[which][alive]

    def going_on(self, letters: LetterMasks) -> Masks:
        """(n,) the letters with which, behind each entry, some way goes on that began at or after its first letter."""
        key = id(letters)
        if key not in self._masks:
            masks = np.zeros(self._size, dtype=np.uint64)
            for level in self._levels:
                some = level.entries >= 0
                masks[level.entries[some]] = np.bitwise_or.reduce(letters.behind[level.nodes[:, some]], axis=0)
            self._masks[key] = masks
        return self._masks[key]

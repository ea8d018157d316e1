"""Trees by the batch: what follows many nodes at once, in the tree of listed sequences or in that of a format.

Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ..arrays import Ints
from ..tree.token_tree import TokenTree
from .tree_attention import Paths


@dataclass(frozen=True)
class Runs:
    """Tokens that follow a node's first one without a branch; `tokens` is padded on the right."""

    tokens: Ints  # (n_nodes, longest)
    lengths: Ints


@dataclass(frozen=True)
class Children:
    """What follows after some nodes' runs, side by side; all arrays have one entry for each child.

    Args:
        parents: which of the nodes asked for, ascending.
        tokens: the child's first token.
        nodes: the child's number, or -1 where nothing follows its first token.
        leaves: the number of the leaf that ends at its first token, or -1.
    """

    parents: Ints
    tokens: Ints
    nodes: Ints
    leaves: Ints


def children_of(tree: TokenTree, states: Ints) -> Children:
    """What follows some states of a format's tree; they have no runs, and their leaves no numbers: 0 for each."""
    # Nodes in the states 7 3 7, where 3 has the children a b and 7 has c: the distinct states are 3 7, their children
    # a b c side by side.
    #   parents   0 1 1 2   which node each child is of
    #   at        2 0 1 2   which of a b c it is: where its state's begin, and how many of the node's stand before it
    distinct, which = np.unique(states, return_inverse=True)
    edges = [tree.edges(int(state)) for state in distinct]
    counts = np.array([len(out.tokens) for out in edges])
    parents = np.repeat(np.arange(len(states)), counts[which])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])[which]
    before = np.repeat(np.cumsum(counts[which]) - counts[which], counts[which])
    at = np.repeat(starts, counts[which]) + np.arange(len(parents)) - before
    return Children(
        parents,
        np.concatenate([out.tokens for out in edges])[at],
        np.concatenate([out.states for out in edges])[at],
        np.concatenate([np.where(out.is_leaf, 0, -1) for out in edges])[at],
    )


class Listed:
    """The tree of listed sequences: nodes are the longest runs without a branch, leaves are numbered as they sort.

    Attributes:
        root: the node after the prompt, whose run has been read.
        levels: how many nodes stand on the longest way to a leaf, at most.
        inverse: (n_sequences,) the leaf of each given sequence; equal ones share it.
        count: how many leaves there are.
        longest: the most tokens of a sequence.
    """

    root = 0

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        self._sorted, self.inverse = _sorted_distinct(sequences)
        self._whole = Paths.of(self._sorted)
        self._lengths = self._whole.lengths
        self.count, self.longest = len(self._lengths), int(self._lengths.max())
        self._build()

    @cached_property
    def prompt(self) -> list[int]:
        """What all sequences share."""
        return [int(token) for token in self._sorted[0, : self._end[0]]]

    @property
    def paths(self) -> Paths:
        """The sequences after the prompt."""
        length = len(self.prompt)
        return Paths(self._sorted[:, length:], self._lengths - length, np.maximum(self._whole.num_common - length, 0))

    def run_lengths(self, nodes: Ints) -> Ints:
        """How many tokens follow each node's first one, up to where the tree branches or a leaf ends."""
        return np.asarray(self._end[nodes] - self._begin[nodes] - 1)

    def runs(self, nodes: Ints) -> Runs:
        """These tokens."""
        lengths = self.run_lengths(nodes)
        width = int(lengths.max(initial=0))
        columns = self._begin[nodes, None] + 1 + np.arange(width)
        columns = np.minimum(columns, self._sorted.shape[1] - 1)
        return Runs(np.maximum(self._sorted[self._low[nodes, None], columns], 0), lengths)

    def leaves(self, nodes: Ints) -> Ints:
        """The leaf that ends with each node's run, or -1."""
        return self._leaf[nodes]

    def tails(self, nodes: Ints) -> NDArray[np.bool_]:
        """Whether nothing follows after a run: it ends in a leaf alone."""
        return np.asarray(self._child_start[nodes] == self._child_stop[nodes])

    def children(self, nodes: Ints) -> Children:
        """What follows after the runs."""
        counts = self._child_stop[nodes] - self._child_start[nodes]
        parents = np.repeat(np.arange(len(nodes)), counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        number = np.repeat(self._child_start[nodes], counts) + np.arange(len(parents)) - before
        only_first = self._end[number] == self._begin[number] + 1
        childless = self._child_stop[number] == self._child_start[number]
        return Children(
            parents,
            self._sorted[self._low[number], self._begin[number]],
            np.where(only_first & childless, -1, number),
            np.where(only_first & childless, self._leaf[number], -1),
        )

    def _build(self) -> None:
        """Level by level: a node is an interval of sorted sequences that share a prefix, and ends where they part."""
        num_common = np.append(self._whole.num_common[1:], 0)  # with the sequence behind
        low, high, begin = np.array([0]), np.array([self.count]), np.array([0])
        levels = []
        first_of_level = 0
        while len(low):
            end = np.where(high - low > 1, _range_minima(num_common, low, high - 1), self._lengths[low])
            is_leaf = self._lengths[low] == end
            size = high - low
            # Inside each interval, a child begins where the prefix shared with the sequence before is no longer.
            index = np.repeat(low, size) + np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
            owner = np.repeat(np.arange(len(low)), size)
            begins = (index == low[owner]) | (num_common[index - 1] == end[owner])
            begins &= ~((index == low[owner]) & is_leaf[owner])
            child_low, child_owner = index[begins], owner[begins]
            following = np.append(child_low[1:], 0)
            last = np.append(child_owner[1:] != child_owner[:-1], True) if len(child_owner) else child_owner == 0
            child_high = np.where(last, high[child_owner], following)
            counts = np.bincount(child_owner, minlength=len(low))
            first_child = first_of_level + len(low) + np.cumsum(counts) - counts
            levels.append((low, begin, end, np.where(is_leaf, low, -1), first_child, first_child + counts))
            first_of_level += len(low)
            low, high, begin = child_low, child_high, end[child_owner]
        self.levels = len(levels)
        arrays = (np.concatenate(column) for column in zip(*levels, strict=True))
        self._low, self._begin, self._end, self._leaf, self._child_start, self._child_stop = arrays


def _sorted_distinct(sequences: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """(n, longest) distinct sequences in lexicographic order, padded with -1, and each given one's place."""
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    padded = np.full((len(sequences), int(lengths.max())), -1, dtype=np.int64)
    flat = np.fromiter(chain.from_iterable(sequences), dtype=np.int64, count=lengths.sum())
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = flat
    _, first, inverse = np.unique(sort_keys(padded), return_index=True, return_inverse=True)
    return padded[first], inverse


def sort_keys(padded: Ints) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """(n,) bytes, most significant first, that compare as the tokens of (n, longest) sequences do; padding, which is
    -1, comes before every token.
    """
    return np.ascontiguousarray((padded + 1).astype(">u4")).view(np.dtype((np.void, 4 * padded.shape[1])))[:, 0]


def _range_minima(values: Ints, low: Ints, high: Ints) -> Ints:
    """The least of values[low:high] for each of some disjoint ascending ranges; anything for an empty one."""
    bounds = np.stack([low, high], axis=1).ravel()
    return np.minimum.reduceat(values, np.minimum(bounds, len(values) - 1))[::2]

"""Many branches read in one row, each apart from the others by a mask (tree attention), by models that can do so.

Neighbours in lexicographic order stand in one row, so that what they share is read once; where a row ends, the next one
reads again the few tokens that its first path shares with the row before. Knows tokens and costs; knows no text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Ints
from ..inference.batching import in_batches
from ..inference.language_model import Session

# Tokens of a row: more share more, and see more that is not theirs.
ROW = 64


@dataclass(frozen=True)
class Paths:
    """Distinct token sequences after a prompt, in lexicographic order.

    Args:
        tokens: (n_paths, longest) padded with -1.
        lengths: (n_paths,)
        num_common: (n_paths,) how many first tokens each has in common with the one before; 0 for the first.
    """

    tokens: Ints
    lengths: Ints
    num_common: Ints

    @classmethod
    def of(cls, tokens: Ints) -> Paths:
        """From the padded tokens alone."""
        differ = tokens[1:] != tokens[:-1]
        num_common = np.zeros(len(tokens), dtype=np.int64)
        num_common[1:] = differ.argmax(axis=1)
        return cls(tokens, (tokens >= 0).sum(axis=1), num_common)

    def __getitem__(self, chosen: slice) -> Paths:
        return Paths(self.tokens[chosen], self.lengths[chosen], self.num_common[chosen])

    @property
    def fed(self) -> Ints:
        """How many of each one's tokens are read; the last is not, unless the next path goes on from it."""
        extended = np.append(self.num_common[1:] == self.lengths[:-1], False)
        return np.asarray(np.maximum(self.lengths - ~extended, 0))


def score_packed(session: Session, paths: Paths) -> Iterator[tuple[slice, Floats]]:
    """The bits of each path's tokens after the prompt, batch by batch.

    Yields:
        Which paths, and their (n,) summed bits.
    """
    fed = paths.fed
    return _batches(session, paths, fed, lambda chosen, firsts: _score(session, paths[chosen], fed[chosen], firsts))


def read_behind(session: Session, paths: Paths, picks: Ints) -> Iterator[tuple[slice, Floats]]:
    """The bits of tokens that may follow each path, none of which is empty, batch by batch.

    Args:
        session: after the prompt.
        paths: after it.
        picks: (n_paths, n) the tokens.

    Yields:
        Which paths, and (n_paths, n) bits of the tokens behind them.
    """

    def read(chosen: slice, firsts: Ints) -> Floats:
        row = _Rows.of(paths[chosen], paths.lengths[chosen], firsts)
        last = row.edge[np.arange(len(row.edge)), paths.lengths[chosen] - 1]
        return session.read_packed(*row.packed(paths[chosen]), row.number[last], row.slot[last], picks[chosen])

    return _batches(session, paths, paths.lengths, read)


def _batches(
    session: Session, paths: Paths, fed: Ints, read: Callable[[slice, Ints], Floats]
) -> Iterator[tuple[slice, Floats]]:
    """As many rows at once as there is memory for; `read` is told which paths, and with which of them rows begin."""
    starts = _starts(paths, fed)
    width = max(ROW, int(fed.max()))

    def read_rows(rows: range) -> tuple[slice, Floats]:
        chosen = slice(int(starts[rows.start]), int(starts[rows.stop]))
        return chosen, read(chosen, starts[rows.start : rows.stop] - starts[rows.start])

    return in_batches(range(len(starts) - 1), lambda _: session.packed_at_once(width), read_rows, session.limit)


def _starts(paths: Paths, fed: Ints) -> Ints:
    """Where each row begins, and the end: as many paths as fit, each with what the one before has not read."""
    read = np.cumsum(np.maximum(fed - paths.num_common, 0))  # after each path, if all stood in one row
    starts = [0]
    while starts[-1] < len(fed):
        first = starts[-1]
        most = read[first] + max(0, ROW - int(fed[first]))
        starts.append(max(first + 1, int(np.searchsorted(read, most, side="right"))))
    return np.array(starts)


def _score(session: Session, paths: Paths, fed: Ints, firsts: Ints) -> Floats:
    """One forward pass for the sums of whole paths."""
    rows = _Rows.of(paths, fed, firsts)
    path, column = rows.path, rows.column
    parent = np.where(column > 0, rows.edge[path, column - 1], -1)
    bits = np.empty(len(path))
    first = column == 0
    bits[first] = session.bits(paths.tokens[path[first], 0])
    if not first.all():
        after = parent[~first]
        picks = paths.tokens[path[~first], column[~first]]
        bits[~first] = session.read_packed(*rows.packed(paths), rows.number[~first], rows.slot[after], picks)
    costs = np.zeros(len(path))
    for depth in range(paths.tokens.shape[1]):
        here = np.flatnonzero(column == depth)
        costs[here] = bits[here] + (costs[parent[here]] if depth else 0.0)
    last = rows.edge[np.arange(len(paths.tokens)), np.maximum(paths.lengths, 1) - 1]
    return np.where(paths.lengths > 0, costs[last] if len(costs) else 0.0, 0.0)


@dataclass(frozen=True)
class _Rows:
    """Where the tokens of some paths stand in rows: an edge is a token that the path before does not share.

    Args:
        edge: (n_paths, longest) the number of the edge of each path's tokens, its own or of those before.
        path: (n_edges,) whose own each is,
        column: (n_edges,) and after how many others it comes.
        number: (n_edges,) the row of each.
        slot: (n_edges,) its place there, if it is read.
        is_read: (n_edges,) whether it is.
    """

    edge: Ints
    path: Ints
    column: Ints
    number: Ints
    slot: Ints
    is_read: NDArray[np.bool_]

    @classmethod
    def of(cls, paths: Paths, fed: Ints, firsts: Ints) -> _Rows:
        """Of paths that each have so many tokens read; `firsts` begin rows, and share nothing with the row before."""
        # Paths 5 6 7, 5 6 8 and 9 1 2 in one row, of which the last tokens are not read:
        #   edge   0 1 2   0 1 3   4 5 6   each one's own tokens are numbered; what it shares has the number from before
        #   slot   0 1 –   0 1 –   2 3 –   the row holds 5 6 9 1
        #   so that 6 sees 5, 1 sees 9, and the bits of 7 and 8 are both read behind slot 1.
        columns = np.arange(paths.tokens.shape[1])
        num_common = paths.num_common.copy()
        num_common[firsts] = 0
        new = (columns >= num_common[:, None]) & (columns < paths.lengths[:, None])
        number = np.full(new.shape, -1)
        number[new] = np.arange(new.sum())
        edge = np.maximum.accumulate(number, axis=0)
        path, column = np.nonzero(new)
        row = np.searchsorted(firsts, path, side="right") - 1
        is_read = column < fed[path]
        slot = np.cumsum(is_read) - 1
        slot -= np.searchsorted(row[is_read], np.arange(len(firsts)))[row]
        return cls(edge, path, column, row, slot, is_read)

    def packed(self, paths: Paths) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """(rows, width) tokens and depths, and who is whose ancestor, of the tokens that are read."""
        path, column = self.path[self.is_read], self.column[self.is_read]
        row, slot = self.number, self.slot
        own = self.edge[path, column]
        count, width = int(row.max()) + 1, int(slot[own].max()) + 1
        tokens = np.zeros((count, width), dtype=np.int64)
        depths = np.full((count, width), -1)
        tokens[row[own], slot[own]] = paths.tokens[path, column]
        depths[row[own], slot[own]] = column
        ancestors = np.zeros((count, width, width), dtype=bool)
        ancestors[:, np.arange(width), np.arange(width)] = True  # also of padding, which must see something
        for depth in range(int(column.max())):
            deeper = np.flatnonzero(column > depth)
            above = self.edge[path[deeper], depth]
            ancestors[row[own[deeper]], slot[own[deeper]], slot[above]] = True
        return tokens, depths, ancestors

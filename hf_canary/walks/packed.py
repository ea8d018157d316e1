"""The score walk for models that read many branches in one row, each apart from the others by a mask (tree attention).

Neighbours in lexicographic order stand in one row, so that what they share is read once; where a row ends, the next one
reads again the few tokens that its first path shares with the row before. Knows tokens and costs; knows no text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..language_model import Floats, Session
from ..states import Ints

# Tokens of a row: more share more, and see more that is not theirs. Longer paths are better read by themselves.
ROW = 64
LONGEST = 48


@dataclass(frozen=True)
class Paths:
    """Distinct token sequences after a prompt, in lexicographic order.

    Args:
        tokens: (n_paths, longest) padded with -1.
        lengths: (n_paths,)
        shared: (n_paths,) how many first tokens each has in common with the one before; 0 for the first.
    """

    tokens: Ints
    lengths: Ints
    shared: Ints

    @classmethod
    def of(cls, tokens: Ints) -> Paths:
        """From the padded tokens alone."""
        differ = tokens[1:] != tokens[:-1]
        shared = np.zeros(len(tokens), dtype=np.int64)
        shared[1:] = differ.argmax(axis=1)
        return cls(tokens, (tokens >= 0).sum(axis=1), shared)

    def __getitem__(self, chosen: slice) -> Paths:
        return Paths(self.tokens[chosen], self.lengths[chosen], self.shared[chosen])

    @property
    def fed(self) -> Ints:
        """How many of each one's tokens are read; the last is not, unless the next path goes on from it."""
        extended = np.append(self.shared[1:] == self.lengths[:-1], False)
        return np.asarray(np.maximum(self.lengths - ~extended, 0))


def score_packed(session: Session, paths: Paths) -> Iterator[tuple[slice, Floats]]:
    """The bits of each path's tokens after the prompt, batch by batch.

    Yields:
        Which paths, and their (n,) summed bits.
    """
    starts = _rows(paths)
    width = max(ROW, int(paths.fed.max()))
    at = 0
    while at < len(starts) - 1:
        size = session.packed_at_once(width)
        rows = starts[at : at + size + 1]
        chosen = slice(int(rows[0]), int(rows[-1]))
        try:
            costs = _read(session, paths[chosen], rows[:-1] - rows[0])
        except Exception as error:
            if not session.halve(len(rows) - 1, error):
                raise
            continue
        yield chosen, costs
        at += size


def _rows(paths: Paths) -> Ints:
    """Where each row begins, and the end: as many paths as fit, each with what the one before has not read."""
    fed = paths.fed
    read = np.cumsum(np.maximum(fed - paths.shared, 0))  # after each path, if all stood in one row
    starts = [0]
    while starts[-1] < len(fed):
        first = starts[-1]
        most = read[first] + max(0, ROW - int(fed[first]))
        starts.append(max(first + 1, int(np.searchsorted(read, most, side="right"))))
    return np.array(starts)


def _read(session: Session, paths: Paths, firsts: Ints) -> Floats:
    """One forward pass; `firsts` are the paths with which rows begin, and these share nothing with the row before."""
    count, longest = paths.tokens.shape
    columns = np.arange(longest)
    shared = paths.shared.copy()
    shared[firsts] = 0
    # Edges, numbered as they stand: each token of a path that the one before does not have.
    new = (columns >= shared[:, None]) & (columns < paths.lengths[:, None])
    number = np.full(new.shape, -1)
    number[new] = np.arange(new.sum())
    edge = np.maximum.accumulate(number, axis=0)  # of each path's tokens, its own and those before
    path, column = np.nonzero(new)
    parent = np.where(column > 0, edge[path, column - 1], -1)
    row = np.searchsorted(firsts, path, side="right") - 1
    is_fed = column < paths.fed[path]
    slot = np.cumsum(is_fed) - 1
    slot -= np.searchsorted(row[is_fed], np.arange(len(firsts)))[row]
    bits = np.empty(len(path))
    first = column == 0
    bits[first] = session.bits(paths.tokens[path[first], 0])
    if not first.all():
        packed = _pack(paths, edge, path[is_fed], column[is_fed], row, slot, len(firsts))
        after = parent[~first]
        picks = paths.tokens[path[~first], column[~first]]
        bits[~first] = session.read_packed(*packed, row[~first], slot[after], picks)
    costs = np.zeros(len(path))
    for place in range(longest):
        here = np.flatnonzero(column == place)
        costs[here] = bits[here] + (costs[parent[here]] if place else 0.0)
    last = edge[np.arange(count), np.maximum(paths.lengths, 1) - 1]
    return np.where(paths.lengths > 0, costs[last] if len(costs) else 0.0, 0.0)


def _pack(
    paths: Paths, edge: Ints, path: Ints, column: Ints, row: Ints, slot: Ints, num_rows: int
) -> tuple[Ints, Ints, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """(rows, width) tokens and depths, and who is whose ancestor, of the tokens that are read."""
    own = edge[path, column]
    width = int(slot[own].max()) + 1
    tokens = np.zeros((num_rows, width), dtype=np.int64)
    depths = np.full((num_rows, width), -1)
    tokens[row[own], slot[own]] = paths.tokens[path, column]
    depths[row[own], slot[own]] = column
    ancestors = np.zeros((num_rows, width, width), dtype=bool)
    ancestors[:, np.arange(width), np.arange(width)] = True  # also of padding, which must see something
    for place in range(int(column.max())):
        deeper = np.flatnonzero(column > place)
        above = edge[path[deeper], place]
        ancestors[row[own[deeper]], slot[own[deeper]], slot[above]] = True
    return tokens, depths, ancestors

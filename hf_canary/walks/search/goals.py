"""What a search is for: the cheapest leaves, one leaf after another, or how many cost at most as much as some.

A goal is offered the leaves that a search finds, and says up to which cost it wants to hear of more. Knows costs and
tokens; knows no model, no tree and no order.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...arrays import Floats, Ints
from ...estimators.exposures import SAME
from ..branches import sort_keys

# About what Python takes for one leaf that waits in a heap, beside its tokens.
_WAITING_BYTES = 160


class Goal(Protocol):
    """What is searched for."""

    @property
    def bound(self) -> float:
        """Leaves and prefixes that cost more are of no interest; it never rises."""
        ...

    @property
    def best(self) -> float:
        """Bits of what a search can show of it while it runs."""
        ...

    @property
    def dropped(self) -> float:
        """Bits of the cheapest leaf that was offered and is not kept; infinite when there is none."""
        ...

    @property
    def num_bytes(self) -> int:
        """What the leaves take that are kept."""
        ...

    def offer(self, costs: Floats, paths: Ints) -> None:
        """Leaves within the bound.

        Args:
            costs: (n,) bits.
            paths: (n, depth) tokens, padded with -1.
        """
        ...

    def leaves_out(self, costs: Floats, paths: Ints) -> NDArray[np.bool_]:
        """Whether prefixes that cost just as much as the bound are of no interest either."""
        ...


class Cheapest:
    """The goal of an extraction: the `top_k` cheapest leaves; of equal cost those whose tokens come first.

    Args:
        top_k: how many.
        depth: the most tokens of one.
        leaf_bytes: what is made of each in the end takes beside its tokens.

    Attributes:
        costs: (n,) bits, ascending.
        paths: (n, depth) tokens, padded with -1.
    """

    def __init__(self, top_k: int, depth: int, leaf_bytes: int = 0) -> None:
        self._top_k, self._leaf_bytes = top_k, leaf_bytes
        self.costs: Floats = np.empty(0)
        self.paths: Ints = np.empty((0, depth), dtype=np.int64)
        self.dropped = math.inf

    @property
    def best(self) -> float:
        """Of the cheapest leaf."""
        return float(self.costs[0]) if len(self.costs) else math.inf

    @property
    def bound(self) -> float:
        return float(self.costs[-1]) if len(self.costs) == self._top_k else math.inf

    @property
    def num_bytes(self) -> int:
        joined = 2 * (self.costs.nbytes + self.paths.nbytes)  # twice, while more are joined to them
        return joined + self._leaf_bytes * len(self.costs)

    @property
    def leaves(self) -> list[list[int]]:
        """The tokens of each."""
        return [[token for token in path if token >= 0] for path in self.paths.tolist()]

    def offer(self, costs: Floats, paths: Ints) -> None:
        if not len(costs):
            return
        costs, paths = np.concatenate([self.costs, costs]), np.concatenate([self.paths, paths])
        order = by_cost(costs, paths)
        if len(order) > self._top_k:
            self.dropped = min(self.dropped, float(costs[order[self._top_k]]))
        kept = order[: self._top_k]
        self.costs, self.paths = costs[kept], paths[kept]

    def leaves_out(self, costs: Floats, paths: Ints) -> NDArray[np.bool_]:
        """All that begins with a prefix comes behind it, so that its own tokens decide."""
        last = tuple(self.paths[-1].tolist())
        return np.array([tuple(path) > last for path in paths.tolist()], dtype=bool)

    def save(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint."""
        return {"costs": self.costs, "paths": self.paths, "dropped": np.array([self.dropped])}

    def load(self, saved: dict[str, NDArray[Any]]) -> None:
        """What `save` gave."""
        self.costs, self.paths, self.dropped = saved["costs"], saved["paths"], float(saved["dropped"][0])


class Ascending:
    """The goal of who takes one leaf after another, the cheapest first, without saying how many."""

    bound = dropped = math.inf

    def __init__(self) -> None:
        self._heap: list[tuple[float, bytes]] = []

    @property
    def best(self) -> float:
        """Of the cheapest leaf that was not taken."""
        return self._heap[0][0] if self._heap else math.inf

    @property
    def num_bytes(self) -> int:
        return len(self._heap) * (_WAITING_BYTES + len(self._heap[0][1])) if self._heap else 0

    def offer(self, costs: Floats, paths: Ints) -> None:
        keys: list[bytes] = sort_keys(paths).tolist()  # type: ignore[assignment]
        for cost, key in zip(costs.tolist(), keys, strict=True):
            heapq.heappush(self._heap, (cost, key))

    def leaves_out(self, costs: Floats, paths: Ints) -> NDArray[np.bool_]:
        return np.zeros(len(costs), dtype=bool)

    def final(self, least: float) -> Iterator[tuple[float, list[int]]]:
        """Take the leaves that no other can come before, when what is open costs at least so much: bits and tokens."""
        while self._heap and self.best < least:
            cost, key = heapq.heappop(self._heap)
            yield cost, [token - 1 for token in np.frombuffer(key, dtype=">u4").tolist() if token]


class Counting:
    """The goal of a count: how many fills cost at most as much as each of some known leaves, itself among them.

    What a known leaf costs is learned from the walk itself, so that it and the others are read alike. Until `settle`
    says up to which of them is counted, all leaves are wanted.

    Args:
        known: (n, depth) tokens of the known leaves, padded with -1.
        copies_of: (m, depth) tokens → (m,) how many fills each stands for.

    Attributes:
        own: (n,) bits of each known leaf; NaN before it is found.
        up_to: bits that are counted up to.
        is_settled: whether `settle` was called.
    """

    dropped = math.inf

    def __init__(self, known: Ints, copies_of: Callable[[Ints], Floats]) -> None:
        self._fill_paths, self._copies_of = known, copies_of
        self._keys = sort_keys(known)
        self._waiting: list[tuple[Floats, Floats]] = []
        self._edges = self._counts = np.empty(0)
        self.fill_costs: Floats = np.full(len(known), np.nan)
        self.up_to = self.bound = math.inf
        self.is_settled = False

    @property
    def best(self) -> float:
        """What is counted up to."""
        return self.up_to

    @property
    def num_bytes(self) -> int:
        return sum(costs.nbytes + copies.nbytes for costs, copies in self._waiting)

    def offer(self, costs: Floats, paths: Ints) -> None:
        if not len(costs):
            return
        copies = self._copies_of(paths)
        if self.is_settled:
            self._count(costs, copies)
            return
        self._waiting.append((costs, copies))
        keys = sort_keys(paths)
        for leaf in np.flatnonzero(np.isin(keys, self._keys)).tolist():
            self.fill_costs[self._keys == keys[leaf]] = costs[leaf]

    def settle(self, up_to: float) -> None:
        """Count from now on, up to a cost; known leaves that were not found cost more bits than there are."""
        self.fill_costs[np.isnan(self.fill_costs)] = math.inf
        self.narrow(up_to)
        finite = self.fill_costs[np.isfinite(self.fill_costs)]
        self._edges = np.unique(np.concatenate([finite - SAME, finite, finite + SAME]))
        self._counts = np.zeros(len(self._edges) + 1)  # between two edges
        self.is_settled = True
        for costs, copies in self._waiting:
            self._count(costs, copies)
        self._waiting.clear()

    def narrow(self, up_to: float) -> None:
        """Count no further than this from now on."""
        self.up_to, self.bound = up_to, up_to + SAME

    @property
    def reach(self) -> Floats:
        """(n,) bits up to which every leaf must be known for each known leaf's rank and ties."""
        return self.fill_costs + SAME

    def counted(self, number: int) -> int:
        """Fills that were found at or below the cost of a known leaf, and those that cost as much but for rounding."""
        return self._counted(self.fill_costs[number] + SAME)

    def likelier(self, number: int) -> int:
        """Fills that were found below the cost of a known leaf by more than rounding, and those encoded as it."""
        copies = int(self._copies_of(self._fill_paths[number : number + 1])[0])
        return self._counted(self.fill_costs[number] - SAME) + copies

    def ties(self, number: int) -> int:
        """Fills that cost as much as a known leaf, but for rounding, without those that are encoded as it."""
        return self.counted(number) - self.likelier(number)

    def leaves_out(self, costs: Floats, paths: Ints) -> NDArray[np.bool_]:
        """None: a leaf that costs as much as the bound is counted."""
        return np.zeros(len(costs), dtype=bool)

    def save(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint; once it is settled."""
        return {"own": self.fill_costs, "up_to": np.array([self.up_to]), "counts": self._counts}

    def load(self, saved: dict[str, NDArray[Any]]) -> None:
        """What `save` gave; also what is counted up to, which draws of another machine may see otherwise."""
        self.fill_costs = saved["own"]
        self.settle(float(saved["up_to"][0]))
        self._counts = saved["counts"]

    def _count(self, costs: Floats, copies: Floats) -> None:
        between = np.searchsorted(self._edges, costs, side="left")
        self._counts += np.bincount(between, weights=copies, minlength=len(self._counts))

    def _counted(self, edge: float) -> int:
        return int(self._counts[: np.searchsorted(self._edges, edge) + 1].sum())


def by_cost(costs: Floats, paths: Ints) -> Ints:
    """The order of leaves: by cost, then by tokens."""
    order = np.argsort(costs, kind="stable")
    if (np.diff(costs[order]) == 0).any():
        order = np.lexsort((*paths.T[::-1], costs))
    return order

"""The search walk: prefixes are expanded in batches, until what is open can change nothing, or a cap is reached.

An edge costs the bits of its token, never less than 0, so that no leaf below a prefix is cheaper than the prefix. Hence
a leaf is final once the cheapest open prefix costs as much (§8.2), at any batch size and in any order. Orders: *by
cost*, which needs the fewest expansions when nothing is known; *by depth*, which needs the least memory, and no more
expansions where a bound is known. A dive, narrow and to the bottom, finds a bound first. What a search is for (the
cheapest leaves, the number of leaves below a bound) is its goal. Knows tokens and costs; no text and no tokenizer.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..clock import Clock
from ..language_model import Floats, LanguageModel, Session
from ..states import Ints, Rows
from ..token_tree import TokenTree
from .branches import Automaton, Children
from .expand import expander
from .frontier import NOTHING, PREFIX, ByCost, ByDepth, Order, Parents, Prefixes

STRATEGIES = ("auto", "best-first", "depth-first", "paper")

_FIRST_BATCH = 32
# A dive takes the cheapest so many at each depth, and expands so many in all, about.
_DIVE_WIDTH, _DIVE = (16, 128), 600
# Children of one prefix that are opened at once: the others wait in one entry, for the price of reading it again.
_OPENED = 256
# Of the memory: for what is open in order of cost, for what is open in order of depth, and for a pass of the model.
_BY_COST, _BY_DEPTH, MODEL_SHARE = 0.5, 0.25, 0.25
# What an open prefix takes beside its own bytes, while it is sorted; and about what a state of the tree takes.
_WHILE_SORTED, _TREE_STATE_BYTES = 2.0, 2000

_MOST_BITS = sys.float_info.max
_NO_TOKENS: Ints = np.empty(0, dtype=np.int64)


class Goal(Protocol):
    """What is searched for."""

    @property
    def bound(self) -> float:
        """Leaves and prefixes that cost more are of no interest; it never rises."""
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

    Attributes:
        costs: (n,) bits, ascending.
        paths: (n, depth) tokens, padded with -1.
        dropped: bits of the cheapest leaf that was found and is not among these.
    """

    def __init__(self, top_k: int, depth: int) -> None:
        self._top_k = top_k
        self.costs: Floats = np.empty(0)
        self.paths: Ints = np.empty((0, depth), dtype=np.int64)
        self.dropped = math.inf

    @property
    def best(self) -> float:
        """Bits of the cheapest; infinite when there is none."""
        return float(self.costs[0]) if len(self.costs) else math.inf

    @property
    def bound(self) -> float:
        return float(self.costs[-1]) if len(self.costs) == self._top_k else math.inf

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

    bound = math.inf

    def __init__(self) -> None:
        self._found: list[tuple[float, tuple[int, ...]]] = []

    @property
    def best(self) -> float:
        """Bits of the cheapest that was not taken."""
        return self._found[0][0] if self._found else math.inf

    def offer(self, costs: Floats, paths: Ints) -> None:
        for cost, path in zip(costs.tolist(), paths.tolist(), strict=True):
            heapq.heappush(self._found, (cost, tuple(path)))

    def leaves_out(self, costs: Floats, paths: Ints) -> NDArray[np.bool_]:
        return np.zeros(len(costs), dtype=bool)

    def final(self, least: float) -> Iterator[tuple[float, tuple[int, ...]]]:
        """Take the leaves that no other can come before, when what is open costs at least so much."""
        while self._found and self.best < least:
            yield heapq.heappop(self._found)


def by_cost(costs: Floats, paths: Ints) -> Ints:
    """The order of leaves: by cost, then by tokens."""
    order = np.argsort(costs, kind="stable")
    if (np.diff(costs[order]) == 0).any():
        order = np.lexsort((*paths.T[::-1], costs))
    return order


@dataclass(frozen=True)
class Progress:
    """What a search can say while it runs.

    Args:
        expanded: prefixes whose children were read.
        open: prefixes that wait.
        best: bits of the cheapest leaf so far; infinite when there is none.
        bound: bits that every leaf costs at least which has not been found.
        seconds: since it began.
        expected: how many prefixes will be expanded, where that was foreseen; else 0.
    """

    expanded: int
    open: int
    best: float
    bound: float
    seconds: float = 0.0
    expected: float = 0.0

    @property
    def rate(self) -> float:
        """Prefixes a second."""
        return self.expanded / self.seconds if self.seconds else 0.0


class Search:
    """A search that goes on by the batch, and can be asked in between what is proven.

    Args:
        language_model: the model, in evaluation.
        session: after the tree's prompt, for its depth, for rows of mixed age.
        tree: of a format and the model's tokenizer.
        goal: what is searched for.
        strategy: `auto`: a dive, then by cost, by depth once memory is scarce; `best-first`: by cost alone;
            `depth-first`: a dive, then by depth; `paper`: by cost in full batches, pruning nothing.
        max_memory: bytes that open prefixes may take.

    Attributes:
        expanded: prefixes whose children were read, the root among them.
        out_of_memory: whether the next batch would take more than it may, so that there was none.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        session: Session,
        tree: TokenTree,
        goal: Goal,
        *,
        strategy: str = "auto",
        max_memory: int,
    ) -> None:
        self._session, self._tree, self._goal, self._strategy = session, tree, goal, strategy
        self._max_memory = max_memory
        self._depth = tree.depth
        self._branches = Automaton(tree)
        self._expand = expander(language_model, session, tree.depth)
        self._most = session.rows_at_once(1)
        self._parents = Parents(tree.depth)
        self._opened: dict[int, Ints] = {}
        self._numbered = 0
        self._pruned = math.inf
        self._dived = -1 if strategy in ("auto", "depth-first") else tree.depth
        self._order: Order = ByCost() if strategy in ("best-first", "paper") else ByDepth()
        self._enough = math.inf
        self.expanded = 0
        self.out_of_memory = False
        self._row_bytes = self._parents.row_bytes(self._expand.root)
        root = np.zeros(1, dtype=PREFIX)
        root["parent"], root["token"], root["state"], root["rest"] = -1, -1, tree.root, -1
        self._order.push(root)

    @property
    def least(self) -> float:
        """Bits of the cheapest open prefix: every leaf not found costs at least so many, unless it was of no
        interest.
        """
        return self._order.least

    @property
    def pruned(self) -> float:
        """Bits of the cheapest prefix that was of no interest."""
        return self._pruned

    @property
    def open(self) -> int:
        """How many prefixes wait."""
        return len(self._order)

    @property
    def is_over(self) -> bool:
        """Whether nothing that is open is of interest: the rule that proves."""
        return self.least > self._goal.bound or not self.open

    @property
    def is_done(self) -> bool:
        """Whether to end: when it is over; by the paper's rule, once as many prefixes again have been expanded as it
        took to find the leaves.
        """
        if self._strategy != "paper":
            return self.is_over
        return self.expanded >= self._enough or not self.open

    def step(self, most: float = math.inf) -> None:
        """Expand one batch, of so many prefixes at most; none where it is over, or out of memory."""
        batch = self._next_batch(most)
        if not len(batch):
            return
        children = self._branches.children(batch["state"].astype(np.int64))
        lengths = batch["depth"].astype(np.int64)
        paths = self._paths(batch)
        if batch["parent"][0] < 0:
            costs, states = self._session.bits(children.tokens), self._expand.root
        else:
            before = batch["parent"].astype(np.int64)
            costs, states = self._expand(
                lambda mine: self._parents.states(before[mine]), batch["cost"], paths, lengths, children
            )
        self.expanded += len(batch)
        self._find(batch, paths, lengths, children, costs)
        self._open(batch, paths, children, costs, states)
        if self._strategy != "paper":
            self._settle_ties()
        elif self._enough == math.inf and self._goal.bound < math.inf:
            self._enough = 2 * self.expanded

    def open_prefixes(self) -> Iterator[Prefixes]:
        """What waits."""
        yield from self._order.chunks()

    def save(self) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        """All that a search knows but for its goal: numbers and arrays."""
        numbers, open_children, rows = self._parents.save()
        chunks = self._order.chunks()
        arrays = {
            "open": np.concatenate([NOTHING, *chunks]).view(np.uint8).reshape(-1, PREFIX.itemsize),
            "chunks": np.array([len(chunk) for chunk in chunks], dtype=np.int64),
            "parents": numbers,
            "open_children": open_children,
            "opened_of": np.array(list(self._opened), dtype=np.int64),
            "opened_count": np.array([len(tokens) for tokens in self._opened.values()], dtype=np.int64),
            "opened": np.concatenate([_NO_TOKENS, *self._opened.values()]),
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        numbers_alone = {
            "expanded": self.expanded,
            "dived": self._dived,
            "by_depth": float(isinstance(self._order, ByDepth)),
            "pivot": self._order.pivot,
            "pruned": self._pruned,
            "numbered": self._numbered,
            "enough": self._enough,
        }
        return numbers_alone, tensors | {f"row{number}": tensor for number, tensor in enumerate(rows)}

    def load(self, numbers: dict[str, float], tensors: dict[str, torch.Tensor]) -> None:
        """What `save` gave."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items() if not name.startswith("row")}
        self.expanded, self._dived = int(numbers["expanded"]), int(numbers["dived"])
        self._pruned, self._numbered = numbers["pruned"], int(numbers["numbered"])
        self._enough = numbers["enough"]
        self._order = ByDepth() if numbers["by_depth"] else ByCost()
        opened = np.split(arrays["opened"], np.cumsum(arrays["opened_count"])[:-1])
        self._opened = dict(zip(arrays["opened_of"].tolist(), opened, strict=False))
        rows = [tensors[f"row{number}"] for number in range(len(tensors) - len(arrays))]
        devices = [tensor.device for tensor in self._expand.root.tensors] + [torch.device("cpu")]
        rows = [row.to(device) for row, device in zip(rows, devices, strict=False)]
        self._parents.load(arrays["parents"], arrays["open_children"], rows)
        prefixes = np.ascontiguousarray(arrays["open"]).view(PREFIX).reshape(-1).copy()
        prefixes["state"] = self._states_after(self._paths(prefixes))
        self._order.restore(np.split(prefixes, np.cumsum(arrays["chunks"])[:-1]), numbers["pivot"])

    def _states_after(self, paths: Ints) -> Ints:
        """(n,) the tree's states after these tokens; it numbers them as they are visited, in each run anew."""
        states = np.full(len(paths), self._tree.root)
        for tokens in paths.T:
            on = np.flatnonzero(tokens >= 0)
            pairs, which = np.unique(np.column_stack([states[on], tokens[on]]), axis=0, return_inverse=True)
            after = np.empty(len(pairs), dtype=np.int64)
            for number, (state, token) in enumerate(pairs.tolist()):
                edges = self._tree.edges(state)
                after[number] = edges.states[np.searchsorted(edges.tokens, token)]
            states[on] = after[which.reshape(-1)]
        return states

    def _next_batch(self, most: float) -> Prefixes:
        """The prefixes that are expanded next: of interest all, and none of them the root unless it is alone."""
        self._make_room()
        while len(self._order) and not self.out_of_memory:
            taken = self._pop(int(min(most, self._size(), self._enough - self.expanded)))
            if self._strategy == "paper":
                return self._root_alone(taken)
            keep = taken["key"] <= self._goal.bound
            ties = np.flatnonzero(taken["key"] == self._goal.bound)
            if len(ties):
                keep[ties] = ~self._goal.leaves_out(taken["cost"][ties], self._paths(taken[ties]))
            self._leave(taken[~keep])
            if keep.any():
                return self._root_alone(taken[keep])
        return NOTHING

    def _root_alone(self, batch: Prefixes) -> Prefixes:
        """What follows the root is read from the prompt, and not in a batch with others."""
        is_root = batch["depth"] == 0
        if len(batch) == 1 or not is_root.any():
            return batch
        self._order.push(batch[is_root])
        others: Prefixes = batch[~is_root]
        return others

    def _pop(self, size: int) -> Prefixes:
        if self._dived < self._depth:
            assert isinstance(self._order, ByDepth)
            least, most = _DIVE_WIDTH
            taken = self._order.pop_below(self._dived, min(size, max(least, min(most, _DIVE // self._depth))))
            if len(taken):
                self._dived = int(taken["depth"][0])
                return taken
            self._dived = self._depth
            if self._strategy == "auto":
                self._reorder(ByCost())
        return self._order.pop(size)

    def _size(self) -> int:
        if isinstance(self._order, ByDepth) and self._dived >= self._depth:
            # All that a batch opens at each depth must fit.
            each = self._depth * (self._row_bytes + 16 * PREFIX.itemsize)
            return max(1, min(self._most, int(_BY_DEPTH * self._max_memory / each)))
        if self._strategy == "paper":
            return self._most
        # Batches grow with the search: an easy one stays near the fewest expansions, a long one has full batches.
        return min(self._most, max(_FIRST_BATCH, self.expanded // 4))

    def _make_room(self) -> None:
        if self._num_bytes <= _BY_COST * self._max_memory:
            return
        if self._strategy != "paper":
            self._leave(self._order.cut(self._goal.bound))
        if isinstance(self._order, ByCost) and self._num_bytes > _BY_COST * self._max_memory:
            if self._strategy == "auto":
                self._reorder(ByDepth())
            else:
                self.out_of_memory = True
        if self._num_bytes > (_BY_COST + _BY_DEPTH) * self._max_memory:
            self.out_of_memory = True

    @property
    def _num_bytes(self) -> int:
        of_open = int(_WHILE_SORTED * PREFIX.itemsize * len(self._order))
        return of_open + self._parents.num_bytes + _TREE_STATE_BYTES * self._tree.num_states

    def _reorder(self, order: Order) -> None:
        chunks = self._order.chunks()[::-1]
        self._order = order  # what was pushed is not kept twice
        while chunks:
            order.push(chunks.pop())

    def _settle_ties(self) -> None:
        """Where the cheapest open prefixes cost just as much as the bound, their tokens say whether they matter."""
        while len(self._order) and self.least == self._goal.bound and isinstance(self._order, ByCost):
            taken = self._order.pop(_FIRST_BATCH)
            ties = taken["key"] == self._goal.bound
            out = np.zeros(len(taken), dtype=bool)
            out[ties] = self._goal.leaves_out(taken["cost"][ties], self._paths(taken[ties]))
            self._order.push(taken[~out])
            self._leave(taken[out])
            if not out.all():
                return

    def _paths(self, prefixes: Prefixes) -> Ints:
        """(n, depth) tokens."""
        paths = self._parents.paths(prefixes["parent"].astype(np.int64))
        inner = np.flatnonzero(prefixes["depth"] > 0)
        paths[inner, prefixes["depth"][inner] - 1] = prefixes["token"][inner]
        return paths

    def _leave(self, prefixes: Prefixes) -> None:
        """Prefixes of no interest."""
        if len(prefixes):
            self._pruned = min(self._pruned, float(prefixes["key"].min()))
            for number in prefixes["rest"][prefixes["rest"] >= 0].tolist():
                del self._opened[number]
            self._parents.release(prefixes)

    def _find(self, batch: Prefixes, paths: Ints, lengths: Ints, children: Children, costs: Floats) -> None:
        """Offer the children that are leaves; those of a prefix that is read again were offered before."""
        leaves = np.flatnonzero((children.leaves >= 0) & (batch["rest"][children.parents] < 0))
        within = costs[leaves] <= min(self._goal.bound, _MOST_BITS)
        self._pruned = min(self._pruned, float(costs[leaves[~within]].min(initial=math.inf)))
        found = leaves[within]
        parents = children.parents[found]
        longer = paths[parents]
        longer[np.arange(len(found)), lengths[parents]] = children.tokens[found]
        self._goal.offer(costs[found], longer)

    def _open(self, batch: Prefixes, paths: Ints, children: Children, costs: Floats, states: Rows) -> None:
        """Open the children that are worth it: of a prefix with very many, the cheapest, and the prefix once more."""
        inner = np.flatnonzero(self._not_opened(batch, children))
        within = costs[inner] <= (_MOST_BITS if self._strategy == "paper" else min(self._goal.bound, _MOST_BITS))
        self._pruned = min(self._pruned, float(costs[inner[~within]].min(initial=math.inf)))
        inner = inner[within]
        again, waiting, inner = self._put_off(batch, children, costs, inner)
        parents = children.parents[inner]
        counts = np.bincount(parents, minlength=len(batch))
        rows = np.flatnonzero(counts)
        if len(rows):
            numbers = np.full(len(batch), -1)
            numbers[rows] = self._parents.add(paths[rows], counts[rows], states.select(rows))
            opened = np.zeros(len(inner), dtype=PREFIX)
            opened["key"] = opened["cost"] = costs[inner]
            opened["parent"], opened["depth"] = numbers[parents], batch["depth"][parents] + 1
            opened["token"], opened["state"], opened["rest"] = children.tokens[inner], children.nodes[inner], -1
            self._order.push(opened)
        self._order.push(waiting)
        self._parents.release(np.delete(batch, again))

    def _not_opened(self, batch: Prefixes, children: Children) -> NDArray[np.bool_]:
        """(n_children,) whether more follows each, but for those that were opened before."""
        inner = children.nodes >= 0
        for row in np.flatnonzero(batch["rest"] >= 0).tolist():
            mine = slice(*np.searchsorted(children.parents, [row, row + 1]).tolist())
            inner[mine] &= ~np.isin(children.tokens[mine], self._opened[int(batch["rest"][row])])
        return inner

    def _put_off(self, batch: Prefixes, children: Children, costs: Floats, inner: Ints) -> tuple[Ints, Prefixes, Ints]:
        """Where too many children are worth opening: which rows wait once more, as what, and the children for now."""
        rows = np.flatnonzero(np.bincount(children.parents[inner], minlength=len(batch)) > _OPENED)
        waiting = batch[rows]
        now = np.ones(len(inner), dtype=bool)
        for place, row in enumerate(rows.tolist()):
            mine = np.flatnonzero(children.parents[inner] == row)
            mine = mine[np.argsort(costs[inner[mine]], kind="stable")]
            now[mine[_OPENED:]] = False
            before = self._opened.get(int(batch["rest"][row]), _NO_TOKENS)
            self._opened[self._numbered] = np.concatenate([before, children.tokens[inner[mine[:_OPENED]]]])
            waiting["key"][place], waiting["rest"][place] = costs[inner[mine[_OPENED]]], self._numbered
            self._numbered += 1
        for number in batch["rest"][batch["rest"] >= 0].tolist():
            del self._opened[number]
        return rows, waiting, inner[now]


def go_on(
    search: Search,
    *,
    max_expanded: float | None = None,
    clock: Clock | None = None,
    interrupted: Callable[[], bool] | None = None,
    after_each: Callable[[], object] | None = None,
) -> str:
    """Expand until it is over, or as far as it may go.

    Args:
        search: which.
        max_expanded: prefixes in all.
        clock: how long it may take; the root is read in any case.
        interrupted: whether it was asked to end.
        after_each: called after each batch.

    Returns:
        What ended it before it was over: `max_expanded`, `max_seconds`, `max_memory`, `interrupted`; else nothing.
    """
    most = math.inf if max_expanded is None else max_expanded
    while not search.is_done:
        if search.expanded:
            if interrupted is not None and interrupted():
                return "interrupted"
            if search.expanded >= most:
                return "max_expanded"
            if clock is not None and not clock.left:
                return "max_seconds"
        search.step(most - search.expanded)
        if search.out_of_memory:
            return "max_memory"
        if after_each is not None:
            after_each()
    return ""

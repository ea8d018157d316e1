"""The search walk: prefixes are expanded in batches, until what is open can change nothing, or a cap is reached.

Orders: *by cost*, which needs the fewest expansions when nothing is known; *by depth*, which needs the least memory,
and no more expansions where a bound is known. A dive, narrow and to the bottom, finds a bound first. What a search is
for is its goal, when it ends its stop rule. Knows tokens and costs; no text and no tokenizer.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...arrays import Floats, Ints
from ...inference.language_model import LanguageModel, Session
from ...inference.states import Rows
from ...tree.token_tree import TokenTree
from ..branches import Children, children_of, sort_keys
from .expand import expander
from .frontier import NOTHING, PREFIX, ByCost, ByDepth, Opened, Order, Parents, Prefixes
from .goals import Goal
from .stop_rule import PapersRule, is_proven
from .strategy import STRATEGIES, Strategy

_FIRST_BATCH = 32
# A dive takes the cheapest so many at each depth, and expands so many in all, about.
_DIVE_WIDTH, _DIVE = (16, 128), 600
# Of the memory: for what is open in order of cost, for what is open in order of depth, and for a pass of the model.
_BY_COST, _BY_DEPTH, MODEL = 0.5, 0.25, 0.25
# ... and of what is open in order of cost, for the children of one batch.
_ONE_BATCH = 0.1
# What an open prefix takes beside its own bytes, while it is sorted.
_WHILE_SORTED = 2.0

_MOST_BITS = sys.float_info.max
_FIRST = -math.inf  # the key of a prefix that is read before all others, whatever it costs


@dataclass(frozen=True)
class Progress:
    """What a search can say while it runs.

    Args:
        expanded: prefixes whose children were read.
        open: prefixes that wait.
        best: bits of the cheapest leaf so far; infinite when there is none.
        bound: bits that every leaf costs at least which is not among those that were asked for.
        seconds: since this run's walk began.
        expected: how many prefixes will be expanded, where that was foreseen; else 0.
        before: how many of those expanded are an earlier run's, from whose checkpoint this one goes on.
    """

    expanded: int
    open: int
    best: float
    bound: float
    seconds: float = 0.0
    expected: float = 0.0
    before: int = 0

    @property
    def rate(self) -> float:
        """Prefixes a second, in this run."""
        return (self.expanded - self.before) / self.seconds if self.seconds else 0.0


class Search:
    """A search that goes on by the batch, and can be asked in between what is proven.

    Args:
        language_model: the model, in evaluation.
        session: after the tree's prompt, for its depth, for rows of mixed age.
        tree: of a format and the model's tokenizer.
        goal: what is searched for.
        strategy: how it goes.
        max_memory: bytes that open prefixes may take, and what the goal keeps.
        first: (n, depth) tokens of leaves, padded with -1, that are sought out before anything else, whatever they
            cost.

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
        strategy: Strategy = STRATEGIES["auto"],
        max_memory: int,
        first: Ints | None = None,
    ) -> None:
        self._session, self._tree, self._goal, self._strategy = session, tree, goal, strategy
        self._max_memory = max_memory
        self._depth = tree.depth
        self._expand = expander(language_model, session)
        self._most = session.rows_at_once(1)
        self._parents = Parents(tree.depth)
        self._opened = Opened()
        self._pruned = math.inf
        self._dived = -1 if strategy.dives else tree.depth
        self._order: Order = ByCost() if strategy.by_cost and not strategy.dives else ByDepth()
        self._papers_rule = PapersRule()
        self._widest = 1
        self.expanded = 0
        self.out_of_memory = False
        self._row_bytes = self._parents.row_bytes(self._expand.root)
        self._on_the_way = _beginnings(first)
        root = np.zeros(1, dtype=PREFIX)
        root["parent"], root["token"], root["state"], root["rest"] = -1, -1, tree.root, -1
        root["key"] = 0.0 if first is None else _FIRST
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
    def lower_bound(self) -> float:
        """Bits that every leaf costs at least which the goal does not keep."""
        return max(0.0, min(self.least, self.pruned, self._goal.dropped))

    @property
    def is_on_the_way(self) -> bool:
        """Whether the leaves that are sought out first were not all found yet."""
        return self.least == _FIRST

    @property
    def layout(self) -> str:
        """What is kept of a prefix that was read; a checkpoint can be gone on from with the same alone."""
        states = [f"{tensor.dtype} {list(tensor.shape[1:])}" for tensor in self._expand.root.tensors]
        return f"a state ({', '.join(states)})" if states else "nothing but tokens"

    @property
    def open(self) -> int:
        """How many prefixes wait."""
        return len(self._order)

    @property
    def is_over(self) -> bool:
        """Whether nothing that is open is of interest: what was found is proven."""
        return is_proven(self.least, self._goal.bound, self.open)

    @property
    def is_done(self) -> bool:
        """Whether to end, by the rule of the strategy."""
        return self.is_over if self._strategy.proves else self._papers_rule.is_done(self.expanded, self.open)

    def step(self, most: float = math.inf) -> None:
        """Expand one batch, of so many prefixes at most; none where it is over, or out of memory."""
        batch = self._next_batch(most)
        if not len(batch):
            return
        children = children_of(self._tree, batch["state"].astype(np.int64))
        lengths = batch["depth"].astype(np.int64)
        paths = self._paths(batch)
        if batch["parent"][0] < 0:
            costs, states = self._expand.first(children.tokens), self._expand.root
        else:
            before = batch["parent"].astype(np.int64)
            costs, states = self._expand(
                lambda mine: self._parents.states(before[mine]), batch["cost"], paths, lengths, children
            )
        self.expanded += len(batch)
        self._find(batch, paths, lengths, children, costs)
        self._open(batch, paths, children, costs, states)
        if self._strategy.proves:
            self._settle_ties()
        else:
            self._papers_rule.note(self.expanded, self._goal.bound)

    @property
    def is_deep(self) -> bool:
        """Whether the deepest prefixes come first, now and until the end."""
        return isinstance(self._order, ByDepth) and self._dived >= self._depth

    def go_deep(self) -> None:
        """The deepest prefixes first, from now on: in the least memory."""
        self._reorder(ByDepth())

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
        } | self._opened.save()
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        numbers_alone = {
            "expanded": self.expanded,
            "dived": self._dived,
            "by_depth": float(isinstance(self._order, ByDepth)),
            "pivot": self._order.pivot,
            "pruned": self._pruned,
            "enough": self._papers_rule.enough,
            "widest": self._widest,
        }
        return numbers_alone, tensors | {f"row{number}": tensor for number, tensor in enumerate(rows)}

    def load(self, numbers: dict[str, float], tensors: dict[str, torch.Tensor]) -> None:
        """What `save` gave."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items() if not name.startswith("row")}
        self.expanded, self._dived = int(numbers["expanded"]), int(numbers["dived"])
        self._pruned, self._papers_rule.enough = numbers["pruned"], numbers["enough"]
        self._widest = int(numbers["widest"])
        self._order = ByDepth() if numbers["by_depth"] else ByCost()
        self._opened.load(arrays)
        rows = [tensors[f"row{number}"] for number in range(len(tensors) - len(arrays))]
        devices = [tensor.device for tensor in self._expand.root.tensors] + [torch.device("cpu")]
        rows = [row.to(device) for row, device in zip(rows, devices, strict=True)] if rows else []
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
            taken = self._pop(int(min(most, self._size(), self._papers_rule.enough - self.expanded)))
            if not self._strategy.proves:
                return self._root_alone(taken)
            if taken["key"][0] == _FIRST:
                first = taken["key"] == _FIRST
                self._order.push(taken[~first])
                return self._root_alone(taken[first])
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
            if self._strategy.by_cost:
                self._reorder(ByCost())
        return self._order.pop(size)

    def _size(self) -> int:
        if self.is_deep:
            # All that a batch opens at each depth must fit.
            each = self._depth * (self._row_bytes + 16 * PREFIX.itemsize)
            return max(1, min(self._most, int(_BY_DEPTH * self._max_memory / each)))
        each = self._row_bytes + int(_WHILE_SORTED * PREFIX.itemsize) * self._widest
        most = max(1, min(self._most, int(_ONE_BATCH * self._max_memory / each)))
        if not self._strategy.proves:
            return most
        # Batches grow with the search: an easy one stays near the fewest expansions, a long one has full batches.
        return min(most, max(_FIRST_BATCH, self.expanded // 4))

    def _make_room(self) -> None:
        if self._num_bytes <= _BY_COST * self._max_memory:
            return
        if self._strategy.proves:
            self._leave(self._order.cut(self._goal.bound))
        if isinstance(self._order, ByCost) and self._num_bytes > _BY_COST * self._max_memory:
            if self._strategy.goes_deep:
                self.go_deep()
            else:
                self.out_of_memory = True
        if self._num_bytes > (_BY_COST + _BY_DEPTH) * self._max_memory:
            self.out_of_memory = True

    @property
    def _num_bytes(self) -> int:
        of_open = int(_WHILE_SORTED * PREFIX.itemsize * len(self._order))
        return of_open + self._parents.num_bytes + self._goal.num_bytes

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
            self._opened.forget(prefixes)
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
        is_new = self._opened.is_new(batch, children.parents, children.tokens)
        inner = np.flatnonzero((children.nodes >= 0) & is_new)
        within = costs[inner] <= (min(self._goal.bound, _MOST_BITS) if self._strategy.proves else _MOST_BITS)
        self._pruned = min(self._pruned, float(costs[inner[~within]].min(initial=math.inf)))
        inner = inner[within]
        keys = self._keys(batch, paths, children, costs, inner)
        again, waiting, now = self._opened.put_off(batch, children.parents[inner], children.tokens[inner], keys)
        inner, keys = inner[now], keys[now]
        parents = children.parents[inner]
        self._widest = max(self._widest, -(-len(inner) // len(batch)))
        counts = np.bincount(parents, minlength=len(batch))
        rows = np.flatnonzero(counts)
        if len(rows):
            numbers = np.full(len(batch), -1)
            numbers[rows] = self._parents.add(paths[rows], counts[rows], states.select(rows))
            opened = np.zeros(len(inner), dtype=PREFIX)
            opened["key"], opened["cost"] = keys, costs[inner]
            opened["parent"], opened["depth"] = numbers[parents], batch["depth"][parents] + 1
            opened["token"], opened["state"], opened["rest"] = children.tokens[inner], children.nodes[inner], -1
            self._order.push(opened)
        self._order.push(waiting)
        self._parents.release(np.delete(batch, again))

    def _keys(self, batch: Prefixes, paths: Ints, children: Children, costs: Floats, inner: Ints) -> Floats:
        """(n_inner,) where each child stands in the order: by its cost, or before all others."""
        keys = costs[inner]
        on_the_way = np.flatnonzero(batch["key"][children.parents[inner]] == _FIRST)
        if len(on_the_way):
            parents = children.parents[inner[on_the_way]]
            longer = paths[parents]
            longer[np.arange(len(parents)), batch["depth"][parents]] = children.tokens[inner[on_the_way]]
            keys[on_the_way[np.isin(sort_keys(longer), self._on_the_way)]] = _FIRST
        return keys


def _beginnings(leaves: Ints | None) -> NDArray[np.void]:
    """What some leaves begin with, as `sort_keys`."""
    if leaves is None:
        return sort_keys(np.empty((0, 1), dtype=np.int64))
    depth = leaves.shape[1]
    cut = [np.where(np.arange(depth) < length, leaves, -1) for length in range(1, depth + 1)]
    return np.unique(sort_keys(np.concatenate(cut)))

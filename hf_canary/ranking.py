"""Exact ranks by a walk: how many candidates cost no more than a fill, without looking at all of R.

Joins tree and model to the search walk, whose goal here is a number of leaves and not the leaves. Foresees from draws
how much work that is. Knows no canary and no estimator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .drawing import Drawing
from .ladder import Floats, Ints
from .language_model import LanguageModel, Session
from .token_tree import TokenTree, padded
from .walks.frontier import Prefixes
from .walks.search import Search, go_on

# Costs of one candidate in two walks differ by less than the one; candidates that differ by less than the other are as
# likely, as far as float32 can tell. In bits. Weights of half precision differ by more from batch to batch: a rank is
# then that of the costs as this walk has them.
_SLACK, _TIE = 1e-2, 1e-4
# What is foreseen from so many draws may be too little by a fifth.
_FORESEEN = 1.25
_NEAR = 2**20  # costs that are kept one by one


@dataclass(frozen=True)
class Rank:
    """How many candidates are at least as likely as a fill, itself among them (Definition 2); 1 is the likeliest.

    Args:
        rank: as this walk has the costs; None where a cap ended it.
        low: what the rank is at least: proven, also where a cap ended the walk.
        high: what it is at most.
        ties: others that cost the same, but for rounding.
        expanded: prefixes that were read for all the fills together.
    """

    rank: int | None
    low: int
    high: int
    ties: int
    expanded: int


class Counting:
    """The goal of a count: how many leaves cost at most as much as each of some known ones.

    Leaves whose cost is near a known one's are kept by their costs, until the known one itself is found; the others are
    only counted. All costs are after the prompt.

    Args:
        known: (n, depth) tokens of the known leaves, padded with -1.
        costs: (n,) their bits, but for a hundredth.
        copies_of: (m, depth) tokens → (m,) how many fills each stands for.
        bound: what is counted up to.
    """

    def __init__(self, known: Ints, costs: Floats, copies_of: Callable[[Ints], Floats], bound: float) -> None:
        self._known, self._copies_of, self.bound = known, copies_of, bound
        self._keys = _keys(known)
        self._low = costs - _SLACK
        self._order = np.argsort(self._low, kind="stable")
        self._below = np.zeros(len(known) + 1)  # of the leaves between the windows, by how many windows lie below
        self._near = np.empty((0, 2))  # cost and copies
        self._own = np.full(len(known), np.nan)

    @property
    def best(self) -> float:
        """What is counted up to."""
        return self.bound

    @property
    def own(self) -> Floats:
        """(n,) what each known leaf costs in this walk; NaN before it is found."""
        return self._own

    def offer(self, costs: Floats, paths: Ints) -> None:
        """Count some leaves."""
        if not len(costs):
            return
        copies = self._copies_of(paths)
        low = self._low[self._order]
        windows = np.searchsorted(low, costs, side="right")
        self._below += np.bincount(windows, weights=copies, minlength=len(self._below))
        near = (windows > 0) & (costs <= low[np.maximum(windows - 1, 0)] + 2 * _SLACK)
        self._near = np.concatenate([self._near, np.column_stack([costs, copies])[near]])
        if len(self._near) > _NEAR:
            self._near = _merged(self._near)
        keys = _keys(paths[near])
        for row in np.flatnonzero(np.isin(keys, self._keys)):
            leaf = np.flatnonzero(near)[row]
            self._own[(self._known == paths[leaf]).all(axis=1)] = costs[leaf]

    def leaves_out(self, costs: Floats, paths: Ints) -> NDArray[np.bool_]:
        """None: a leaf that costs as much as the bound is counted."""
        return np.zeros(len(costs), dtype=bool)

    def counted(self, number: int, cost: float) -> int:
        """Leaves at or below a cost within a hundredth of that of a known leaf."""
        place = int(np.flatnonzero(self._order == number)[0])
        surely = self._below[: place + 1].sum()
        costs, copies = self._near.T
        return int(surely + copies[(costs >= self._low[number]) & (costs <= cost)].sum())

    def ties(self, number: int) -> int:
        """Fills that cost as much as a known leaf, but for rounding, without those that are encoded as it."""
        costs, copies = self._near.T
        near = copies[np.abs(costs - self._own[number]) <= _TIE].sum()
        return int(near - self._copies_of(self._known[number : number + 1])[0])

    def save(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint."""
        costs = np.append(self._low, self.bound)
        return {"costs": costs, "below": self._below, "near": self._near, "own": self._own}

    def load(self, saved: dict[str, NDArray[Any]]) -> None:
        """What `save` gave; also what it was counted up to, which draws of another machine may see otherwise."""
        self._low, self.bound = saved["costs"][:-1], float(saved["costs"][-1])
        self._order = np.argsort(self._low, kind="stable")
        self._below, self._near, self._own = saved["below"], saved["near"], saved["own"]


def _merged(near: Floats) -> Floats:
    """Equal costs as one."""
    costs, which = np.unique(near[:, 0], return_inverse=True)
    return np.column_stack([costs, np.bincount(which, weights=near[:, 1])])


def _keys(paths: Ints) -> Ints:
    """(n_paths,) a number for each path: equal for equal ones, and almost never for others."""
    factors = np.random.default_rng(0).integers(1, 2**62, size=paths.shape[1])
    return np.asarray((paths + 1) @ factors)


class Ranking:
    """The ranks of some fills, before, while and after they are counted.

    Args:
        language_model: the model, in evaluation.
        session: after the tree's prompt, for rows of mixed age.
        tree: of the format.
        fills: whose ranks are asked for.
        costs: (n_fills,) their bits after the prompt, but for a hundredth.
        bound: up to which of these costs is counted.
        max_memory: bytes that open prefixes may take.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        session: Session,
        tree: TokenTree,
        fills: Sequence[int],
        costs: Floats,
        bound: float,
        *,
        max_memory: int,
    ) -> None:
        self._tree, self._fills, self._costs = tree, fills, costs
        known = padded(tree.paths([tree.format.render(fill) for fill in fills]), tree.depth)
        self.goal = Counting(known, costs, tree.copies_of, bound + _SLACK)
        self.search = Search(language_model, session, tree, self.goal, strategy="depth-first", max_memory=max_memory)

    def ranks(self) -> list[Rank]:
        """What is known by now."""
        return [self._rank(number, cost) for number, cost in enumerate(self._costs.tolist())]

    def _rank(self, number: int, cost: float) -> Rank:
        expanded, space = self.search.expanded, self._tree.format.space_size
        if cost == math.inf:
            return Rank(space, space, space, 0, expanded)
        own = float(self.goal.own[number])
        copies = int(self._tree.copies(self._fills[number]))
        if self.search.is_over and not math.isnan(own):
            rank = self.goal.counted(number, own)
            return Rank(rank, rank, rank, self.goal.ties(number), expanded)
        least = self.goal.counted(number, -math.inf) + copies
        if not math.isnan(own):
            least = max(least, self.goal.counted(number, own))
        above = cost + _SLACK
        if above <= self.goal.bound:
            most = self.goal.counted(number, above) + self._still_open(above)
        else:
            most = self._at_most(space, above)
        return Rank(None, least, max(least, min(space, most)), 0, expanded)

    def _still_open(self, cost: float) -> int:
        """Fills at or below a cost that may stand below open prefixes, at most."""
        return sum(self._below_these(chunk, cost) for chunk in self.search.open_prefixes())

    def _below_these(self, prefixes: Prefixes, cost: float) -> int:
        some = prefixes[prefixes["key"] <= cost]
        return sum(
            self._at_most(self._tree.most_below(state), cost - bits)
            for state, bits in zip(some["state"].tolist(), some["cost"].tolist(), strict=True)
        )

    def _at_most(self, fills: int, bits: float) -> int:
        """Of so many fills those that have 2^−bits of the probability each: together they have 1 at most."""
        if bits > math.log2(fills) + 1:
            return fills
        return min(fills, int(2.0 ** (bits + 1e-6)) * int(self._tree.most_copies))


def foreseen(drawing: Drawing, cost: float) -> float:
    """How many prefixes are read to count up to a cost of a known fill, as far as draws foresee (Knuth 1975)."""
    return drawing.expected_expansions(cost + _SLACK)


def countable(drawing: Drawing, max_expanded: float) -> float:
    """The greatest cost of a known fill up to which so many prefixes will do; of none, the least cost of all."""
    finite = sorted(cost for cost in drawing.known_costs.tolist() if math.isfinite(cost))
    within = [cost for cost in finite if _FORESEEN * foreseen(drawing, cost) <= max_expanded]
    return max(within, default=min(finite, default=0.0))


def count_ranks(
    language_model: LanguageModel,
    session: Session,
    tree: TokenTree,
    fills: Sequence[int],
    costs: Floats,
    *,
    max_expanded: float = math.inf,
) -> list[Rank]:
    """The rank of each fill, by one walk over all candidates up to the costliest of them.

    Costs are compared as this walk has them, those of the fills too. All processes do a share.

    Args:
        language_model: the model, in evaluation.
        session: after the tree's prompt, for rows of mixed age.
        tree: of the format.
        fills: whose ranks are asked for.
        costs: (n_fills,) their bits after the prompt, but for a hundredth.
        max_expanded: prefixes that may be read; the ranks are bounds if that is too few.
    """
    bound, max_memory = float(costs.max()), language_model.max_memory
    ranking = Ranking(language_model, session, tree, fills, costs, bound, max_memory=max_memory)
    go_on(ranking.search, max_expanded=max_expanded)
    return ranking.ranks()

"""Exact ranks by a walk: how many candidates cost no more than a fill, without looking at all of R.

Joins tree and model to the search walk, whose goal here is a number of leaves and not the leaves. Foresees from draws
how much work that is. Knows no canary and no estimator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AnySize
from ..estimators.exposures import SAME
from ..inference.language_model import LanguageModel, Session
from ..runtime.deadline import Deadline
from ..tree.token_tree import TokenTree, padded
from ..walks.search.frontier import Prefixes
from ..walks.search.goals import Counting
from ..walks.search.run import go_on
from ..walks.search.search import Search
from ..walks.search.strategy import Strategy
from .sampling import SampledFills

# Costs of one candidate in two walks differ by less than this, in bits, but in half precision.
_SLACK = 1e-2
# What is foreseen from so many draws may be too little by a fifth.
FORESEEN = 1.25
# Prefixes beside those of the fills, and a part of the time, after which what is memorised is counted.
_FIRST, _FIRST_SHARE = 256, 0.25
# The cheapest first: so cheap fills have their ranks early, and dear ones the best bounds that a cap leaves.
_COUNTING = Strategy(dives=False, by_cost=True, goes_deep=True)


@dataclass(frozen=True, repr=False)
class Rank(AnySize):
    """How many candidates are at least as likely as a fill, itself among them (Definition 2); 1 is the likeliest.

    Args:
        rank: with all ties, which count against the fill; None where a cap ended the walk. It is |R| for a fill of
            probability 0: all are at least as likely.
        low: what the rank is at least: proven, also where a cap ended the walk. Ties are not in it.
        high: what it is at most.
        ties: others that cost the same, but for rounding (`exposures.SAME`), of which nobody knows which are likelier;
            none for a fill of probability 0.
        expanded: prefixes that the walk has read for all the fills together, without the draws that foresee its work.
        expected: prefixes that it was foreseen to take to count up to this fill; None where nothing was foreseen, since
            a few hundred were enough, or there was no time.
        stopped: what ended the walk before its end, as in `Extraction`; empty if nothing did.
        is_possible: whether the model gives the fill any probability, as far as is known.
    """

    rank: int | None
    low: int
    high: int
    ties: int
    expanded: int
    expected: float | None = None
    stopped: str = ""
    is_possible: bool = True


def impossible(space_size: int, expanded: int = 0, stopped: str = "") -> Rank:
    """The rank of a fill of probability 0."""
    return Rank(space_size, space_size, space_size, 0, expanded, None, stopped, is_possible=False)


class Ranking:
    """The ranks of some fills, before, while and after they are counted.

    `count` does it at once. Step by step: first a `first_pass`, which is enough where a fill is memorised; then the
    search goes on by itself, and `narrow` says after each batch what is not worth its while.

    Args:
        language_model: the model, in evaluation.
        session: after the tree's prompt, for rows of mixed age.
        tree: of the format.
        fills: whose ranks are asked for.
        max_memory: bytes that open prefixes may take.

    Attributes:
        search: the walk.
        goal: what it has counted.
        expected: (n_fills,) prefixes that counting up to each is foreseen to take; 0 before it is foreseen.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        session: Session,
        tree: TokenTree,
        fills: Sequence[int],
        *,
        max_memory: int,
    ) -> None:
        self._tree, self._fills = tree, fills
        tree.check(fills)
        known = padded(tree.paths([tree.format.render(fill) for fill in fills]), tree.depth)
        self.goal = Counting(known, tree.copies_of)
        self.search = Search(
            language_model,
            session,
            tree,
            self.goal,
            strategy=_COUNTING,
            max_memory=max_memory,
            first=known,
        )
        self.expected = np.zeros(len(fills))
        # Rank and ties of what an earlier walk has counted; 0 for the others.
        self._earlier = np.zeros((len(fills), 2), dtype=np.int64)

    def seek(self, *, max_expanded: float = math.inf, deadline: Deadline | None = None) -> str:
        """Find the fills, whatever they cost, to count up to the costliest that is possible at all.

        Args:
            max_expanded: prefixes in all.
            deadline: how long it may take.

        Returns:
            What ended it before; nothing where all are found.
        """
        search = self.search
        stopped = go_on(search, max_expanded=max_expanded, deadline=deadline, until=lambda: not search.is_on_the_way)
        if not stopped:
            possible = self.goal.fill_costs[np.isfinite(self.goal.fill_costs)]
            self.goal.settle(float(possible.max(initial=0.0)))
        return stopped

    def first_pass(self, *, max_expanded: float = math.inf, deadline: Deadline | None = None) -> str:
        """As `seek`, and then a few hundred prefixes; what ended it, if it may not go on."""
        stopped = self.seek(max_expanded=max_expanded, deadline=deadline)
        if stopped:
            return stopped
        end = min(max_expanded, self.search.expanded + _FIRST)
        stopped = go_on(self.search, max_expanded=end, deadline=deadline and deadline.part(_FIRST_SHARE))
        is_end = stopped == "max_memory" or (stopped == "max_expanded" and end == max_expanded)
        return stopped if is_end else ""

    def count(self, *, max_expanded: float = math.inf, deadline: Deadline | None = None) -> list[Rank]:
        """As `seek`, and then to the end, or as far as it may go."""
        stopped = self.seek(max_expanded=max_expanded, deadline=deadline)
        return self.ranks(stopped or go_on(self.search, max_expanded=max_expanded, deadline=deadline))

    def foresee(self, sampled: SampledFills) -> None:
        """How much work each will be, as far as draws foresee it (Knuth 1975)."""
        self.expected = np.array([sampled.expected_expansions(cost + _SLACK) for cost in self.goal.fill_costs])

    @property
    def is_foreseen(self) -> bool:
        """Whether `foresee` was called, in this run or an earlier one."""
        return bool(self.expected.any())

    def narrow(self, max_expanded: float) -> None:
        """Once the deepest prefixes come first, ranks are known at the end alone: leave out fills that need more."""
        if self.search.is_deep:
            self.goal.narrow(min(self.goal.up_to, self.countable(max_expanded)))

    def countable(self, max_expanded: float) -> float:
        """Bits of the costliest fill for which so many prefixes will do; where they do for none that is not counted
        yet, of the cheapest of these.
        """
        own, within = self.goal.fill_costs, self._within(max_expanded)
        return float(own[within].max() if within.any() else own[self._are_open].min(initial=self.goal.up_to))

    def begin_anew(self, other: Ranking, max_expanded: float) -> bool:
        """Whether so many prefixes would do for a fill that another walk, now over, has left out. If so, what that has
        counted is taken over, and its forecast.
        """
        if not other.search.is_over or not other._within(max_expanded).any():
            return False
        self.expected = other.expected
        found = [(rank.rank or 0, rank.ties) for rank in other.ranks()]
        self._earlier = np.where(np.isfinite(other.goal.fill_costs)[:, None], np.array(found, dtype=np.int64), 0)
        return True

    @property
    def _are_open(self) -> NDArray[np.bool_]:
        """(n_fills,) whether they are possible, and neither this walk nor an earlier one has their ranks."""
        return np.asarray(np.isfinite(self.goal.fill_costs) & ~self._are_counted & (self._earlier[:, 0] == 0))

    def _within(self, max_expanded: float) -> NDArray[np.bool_]:
        """(n_fills,) which of the open ones so many prefixes will do for, as far as is foreseen."""
        return np.asarray(self._are_open & (FORESEEN * self.expected <= max_expanded))

    @property
    def work(self) -> float:
        """How many prefixes the count is foreseen to take."""
        return float(self.expected[self.goal.fill_costs <= self.goal.up_to].max(initial=0.0))

    def ranks(self, stopped: str = "") -> list[Rank]:
        """What is known by now, and what ended it."""
        stopped = stopped or ("" if self._tree.is_certain else "tokenizer")
        return [self._rank(number, cost, stopped) for number, cost in enumerate(self.goal.fill_costs.tolist())]

    def save(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint; once it is settled."""
        return self.goal.save() | {"expected": self.expected, "earlier": self._earlier}

    def load(self, saved: dict[str, NDArray[Any]]) -> None:
        """What `save` gave."""
        self.goal.load(saved)
        self.expected, self._earlier = saved["expected"], saved["earlier"]

    def _rank(self, number: int, own: float, stopped: str) -> Rank:
        space, forecast = self._tree.format.space_size, float(self.expected[number]) or None
        if self.goal.is_settled and own == math.inf:
            return impossible(space, self.search.expanded, stopped)
        rank, ties = self._rank_and_ties(number)
        low, high = (rank - ties, rank) if rank else self._bounds(number, own)
        if not self._tree.is_certain:  # all that is counted is there, and perhaps more
            return Rank(None, low, space, 0, self.search.expanded, forecast, stopped)
        return Rank(rank or None, low, high, ties, self.search.expanded, forecast, stopped)

    def _rank_and_ties(self, number: int) -> tuple[int, int]:
        """Rank and ties of a fill, if this walk or an earlier one has counted them; else 0."""
        if self.goal.is_settled and self._are_counted[number]:
            return self.goal.counted(number), self.goal.ties(number)
        rank, ties = self._earlier[number].tolist()
        return rank, ties

    def _bounds(self, number: int, own: float) -> tuple[int, int]:
        """What the rank is at least and at most, in a tree with all leaves."""
        space, reach = self._tree.format.space_size, own + SAME
        if not self.goal.is_settled:
            return 1, space
        counted = self.goal.counted(number)
        above = self._at_most(space, reach) if own > self.goal.up_to else counted + self._still_open(reach)
        return self.goal.likelier(number), max(counted, min(space, above))

    @property
    def _are_counted(self) -> NDArray[np.bool_]:
        """(n_fills,) whether nothing that is open or was left out can be as cheap."""
        return np.asarray(self.search.lower_bound > self.goal.reach)

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

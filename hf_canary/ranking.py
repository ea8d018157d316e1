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

from .clock import Clock
from .drawing import Drawing
from .language_model import LanguageModel, Session
from .token_tree import TokenTree, padded
from .walks.frontier import Prefixes
from .walks.goals import Counting
from .walks.search import Search, Strategy, go_on

# Costs of one candidate in two walks differ by less than this, in bits, but in half precision.
_SLACK = 1e-2
# What is foreseen from so many draws may be too little by a fifth.
_FORESEEN = 1.25
# The cheapest first: so cheap fills have their ranks early, and dear ones the best bounds that a cap leaves.
_COUNTING = Strategy(dives=False, by_cost=True, goes_deep=True)


@dataclass(frozen=True)
class Rank:
    """How many candidates are at least as likely as a fill, itself among them (Definition 2); 1 is the likeliest.

    Args:
        rank: as this walk has the costs; None where a cap ended it.
        low: what the rank is at least: proven, also where a cap ended the walk.
        high: what it is at most.
        ties: others that cost the same, but for rounding.
        expanded: prefixes that were read for all the fills together.
        expected: prefixes that it was foreseen to take to count up to this fill; 0 where nothing was foreseen.
    """

    rank: int | None
    low: int
    high: int
    ties: int
    expanded: int
    expected: float = 0.0


class Ranking:
    """The ranks of some fills, before, while and after they are counted.

    First `seek`, which reads the way to each fill; then `settle`, once it is known what they cost; then the search goes
    on by itself, and `narrow` says after each batch what is not worth its while.

    Args:
        language_model: the model, in evaluation.
        session: after the tree's prompt, for rows of mixed age.
        tree: of the format.
        fills: whose ranks are asked for.
        max_memory: bytes that open prefixes may take.

    Attributes:
        search: the walk.
        goal: what it has counted.
        expected: (n_fills,) prefixes that counting up to each is foreseen to take.
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

    def seek(self, *, max_expanded: float | None = None, clock: Clock | None = None) -> bool:
        """Find the fills, whatever they cost; False if it was ended before."""
        return not go_on(
            self.search, max_expanded=max_expanded, clock=clock, until=lambda: not self.search.is_on_the_way
        )

    def foresee(self, drawing: Drawing) -> None:
        """How much work each will be, as far as draws foresee it (Knuth 1975)."""
        self.expected = np.array([drawing.expected_expansions(cost + _SLACK) for cost in self.goal.own])

    def settle(self) -> None:
        """Count from now on, up to the costliest fill that is possible at all."""
        possible = self.goal.own[np.isfinite(self.goal.own)]
        self.goal.settle(float(possible.max(initial=0.0)))

    def narrow(self, max_expanded: float) -> None:
        """Once the deepest prefixes come first, ranks are known at the end alone: leave out fills that need more."""
        if self.search.is_deep:
            self.goal.narrow(min(self.goal.up_to, self.countable(max_expanded)))

    def countable(self, max_expanded: float) -> float:
        """Bits of the costliest fill for which so many prefixes will do; where they do for none that is not counted
        yet, of the cheapest of these.
        """
        own = self.goal.own
        is_open = np.isfinite(own) & ~self._are_counted
        within = own[is_open & (_FORESEEN * self.expected <= max_expanded)]
        return float(within.max() if len(within) else own[is_open].min(initial=self.goal.up_to))

    @property
    def work(self) -> float:
        """How many prefixes the count is foreseen to take."""
        return float(self.expected[self.goal.own <= self.goal.up_to].max(initial=0.0))

    def ranks(self) -> list[Rank]:
        """What is known by now."""
        return [self._rank(number, cost) for number, cost in enumerate(self.goal.own.tolist())]

    def save(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint; once it is settled."""
        return self.goal.save() | {"expected": self.expected}

    def load(self, saved: dict[str, NDArray[Any]]) -> None:
        """What `save` gave."""
        self.goal.load(saved)
        self.expected = saved["expected"]

    def _rank(self, number: int, own: float) -> Rank:
        expanded, space = self.search.expanded, self._tree.format.space_size
        expected = float(self.expected[number])
        if not self.goal.is_settled:
            return Rank(None, 1, space, 0, expanded, expected)
        if own == math.inf:
            return Rank(space, space, space, 0, expanded, expected)
        counted = self.goal.counted(number)
        if self._are_counted[number]:
            return Rank(counted, counted, counted, self.goal.ties(number), expanded, expected)
        if own > self.goal.up_to:
            return Rank(None, counted, max(counted, self._at_most(space, own)), 0, expanded, expected)
        return Rank(None, counted, min(space, counted + self._still_open(own)), 0, expanded, expected)

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


def count_ranks(
    language_model: LanguageModel,
    session: Session,
    tree: TokenTree,
    fills: Sequence[int],
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
        max_expanded: prefixes that may be read; the ranks are bounds if that is too few.
    """
    ranking = Ranking(language_model, session, tree, fills, max_memory=language_model.max_memory)
    if ranking.seek(max_expanded=max_expanded):
        ranking.settle()
        go_on(ranking.search, max_expanded=max_expanded)
    return ranking.ranks()

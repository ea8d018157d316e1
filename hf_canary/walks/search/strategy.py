"""How a search may go. Plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Strategy:
    """How a search goes.

    Args:
        dives: whether a narrow dive to the bottom finds a bound first.
        by_cost: whether the cheapest prefixes come first then, or the deepest.
        goes_deep: whether the deepest come first once memory is scarce; if not, it ends there.
        proves: whether it leaves out what can change nothing, and ends when nothing else is open; if not, it is the
            paper's: it reads all, and ends after as many expansions again as it took to find the leaves.
    """

    dives: bool
    by_cost: bool
    goes_deep: bool = False
    proves: bool = True


STRATEGIES = {
    "auto": Strategy(dives=True, by_cost=True, goes_deep=True),
    "best-first": Strategy(dives=False, by_cost=True),
    "depth-first": Strategy(dives=True, by_cost=False),
    "paper": Strategy(dives=False, by_cost=True, proves=False),
}

"""When a search ends: by the rule that proves, or by the paper's (§8.2). Costs and counts in; knows no tree, no model.

An edge costs the bits of its token, never less than 0, so that no leaf below a prefix is cheaper than the prefix. So
once the cheapest open prefix costs more than the dearest leaf that is of interest, so does every leaf that was not
found, whatever the order in which prefixes were expanded, and in whatever batches. What costs just as much is settled
before: it is expanded, or left out since its tokens come later.

    >>> is_proven(least=7.5, bound=7.0, num_open=900), is_proven(least=6.5, bound=7.0, num_open=1)
    (True, False)
"""

from __future__ import annotations

import math


def is_proven(least: float, bound: float, num_open: int) -> bool:
    """Whether nothing that is open can change what was found.

    Args:
        least: bits of the cheapest open prefix.
        bound: bits up to which leaves are of interest: of the dearest leaf that is kept, or that a rank is counted for.
            What costs just as much may be one of them.
        num_open: how many prefixes are open.
    """
    return least > bound or not num_open


class PapersRule:
    """After as many expansions again as it took to find the leaves. It proves nothing.

    Attributes:
        enough: expansions after which it ends; infinite until the leaves are found.
    """

    def __init__(self) -> None:
        self.enough = math.inf

    def note(self, expanded: int, bound: float) -> None:
        """What a search has expanded so far, and its bound: finite once all leaves that are wanted are found."""
        if self.enough == math.inf and bound < math.inf:
            self.enough = 2 * expanded

    def is_done(self, expanded: int, num_open: int) -> bool:
        """Whether a search ends that has expanded so many, and has so many open."""
        return expanded >= self.enough or not num_open

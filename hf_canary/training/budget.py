"""How long a measurement may take, and the time that measurements have taken. Takes none."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..arguments import check_number, check_seconds
from ..runtime.deadline import agreed


class OverheadBudget:
    """Seconds that a measurement may take, of a limit for each and a share of the training's time for all.

    Args:
        max_seconds: for each measurement; None for no limit.
        max_overhead: for all measurements together, as a share of the time since the start, theirs included; None for
            none.
        now: a clock, in seconds.

    Raises:
        ArgumentError: a limit that is not above 0, or a share that is not between 0 and 1.

    Example:
        >>> times = iter([0.0, 99.0])
        >>> budget = OverheadBudget(None, 0.01, now=lambda: next(times))
        >>> budget.begin(least=0.1)
        >>> budget.seconds()  # 1 of 100 seconds: 99 of training and one of measuring
        1.0
    """

    def __init__(
        self, max_seconds: float | None, max_overhead: float | None, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_seconds = check_seconds(max_seconds)
        self._share = check_number(
            "max_overhead",
            max_overhead,
            lambda share: 0.0 < share < 1.0,
            "a share of the training's time, between 0 and 1",
            optional=True,
            remedy="0.01 is one per cent; without it there is no limit.",
        )
        self._now = now
        self._began, self._spent, self._least, self._earned = 0.0, 0.0, 0.0, 0.0

    def __repr__(self) -> str:
        """What several processes must have alike; the seconds themselves may differ, and are agreed upon."""
        return f"{self._max_seconds is None} {self._share}"

    def begin(self, *, least: float) -> None:
        """The training starts; the shortest measurement is thought to take so many seconds."""
        self._began, self._spent, self._least = self._now(), 0.0, agreed(least)

    def seconds(self) -> float | None:
        """What the next measurement may take, the same in every process; None for no limit, 0 where it must be left
        out.
        """
        if self._share is None:
            return self._max_seconds
        passed = agreed(self._now() - self._began)
        earned = self._earned = max(0.0, (self._share * passed - self._spent) / (1.0 - self._share))
        if earned < self._least:
            return 0.0
        return earned if self._max_seconds is None else min(earned, self._max_seconds)

    @property
    def each(self) -> float | None:
        """What a measurement may take outside of a training."""
        return self._max_seconds

    @property
    def is_share(self) -> bool:
        """Whether all measurements together have a limit."""
        return self._share is not None

    @property
    def too_little(self) -> str:
        """The seconds that there were at the last question, and those that the shortest is thought to take."""
        return f"{self._earned:.2g} s, and the shortest takes about {self._least:.2g} s."

    def charge(self, seconds: float, allowed: float | None) -> None:
        """A measurement has taken so many seconds: if more than was allowed, so many are needed; if less, no more."""
        if self._share is None or allowed is None:
            return
        seconds = agreed(seconds)
        self._spent += seconds
        self._least = seconds if seconds > allowed else min(self._least, seconds)

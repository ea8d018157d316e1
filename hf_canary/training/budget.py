"""The time that measurements may take and have taken. Takes none, and does not know what a measurement is."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..arguments import check_number, check_seconds


class OverheadBudget:
    """Seconds that each measurement may take, and the share of a training's time that all of them are to take.

    Args:
        max_seconds: for each measurement; None for no limit.
        max_overhead: for all measurements together, as a share of the training's time, theirs included; None for none.
        now: a clock, in seconds.

    Raises:
        ArgumentError: a limit that is not above 0, or a share that is not between 0 and 1.

    Attributes:
        max_seconds: as given.
        share: `max_overhead`, as given.

    Example:
        >>> times = iter([5.0, 105.0, 105.0])
        >>> budget = OverheadBudget(None, 0.01, now=lambda: next(times))
        >>> budget.begin()
        >>> budget.charge(2.0)
        >>> budget.taken()  # 2 of 100 seconds
        (2.0, 0.02)
        >>> budget.left()
        98.0
    """

    def __init__(
        self, max_seconds: float | None, max_overhead: float | None, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_seconds = check_seconds(max_seconds)
        self.share = check_number(
            "max_overhead",
            max_overhead,
            lambda share: 0.0 < share < 1.0,
            "a share of the training's time, between 0 and 1",
            optional=True,
            remedy="0.01 is one per cent; with None each measurement is a full one.",
        )
        self._now = now
        self._began, self._spent = 0.0, 0.0

    def __repr__(self) -> str:
        """What several processes must have alike; the seconds themselves may differ, and are agreed upon."""
        return f"{self.max_seconds is None} {self.share}"

    def begin(self) -> None:
        """The training starts."""
        self._began, self._spent = self._now(), 0.0

    def charge(self, seconds: float) -> None:
        """A measurement has taken so many seconds."""
        self._spent += seconds

    def taken(self) -> tuple[float, float]:
        """The seconds that measurements took since the training began, and their share of the time since then."""
        passed = self._now() - self._began
        return self._spent, self._spent / passed if passed else 0.0

    def left(self) -> float:
        """The seconds that went to the training itself."""
        return self._now() - self._began - self._spent

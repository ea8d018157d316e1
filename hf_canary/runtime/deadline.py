"""A time that work must fit into, the same in every process. Knows nothing of the work."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from .processes import all_reduce_sum

# What part of the time left a step may plan for: its speed is foreseen from the step before.
_PLANNED = 0.8


def agreed(number: float) -> float:
    """The mean over the processes of a number that each of them has measured."""
    return all_reduce_sum(number) / all_reduce_sum(1.0)


class Deadline:
    """How much of a time is left.

    Args:
        seconds: None for no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._began = time.monotonic()
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    @property
    def passed(self) -> float:
        """Seconds since it was made, in this process."""
        return time.monotonic() - self._began

    @property
    def is_limited(self) -> bool:
        """Whether there is an end."""
        return self._end < math.inf

    def least(self, share: float, of_all: float) -> Deadline:
        """A clock for a share of what is left, and for a part of the whole time at least, though it be over."""
        return Deadline(max(self.left * share, (self._end - self._began) * of_all)) if self.is_limited else self

    @property
    def left(self) -> float:
        """Seconds, the same in every process; 0 when it is over."""
        return max(0.0, agreed(self._end - time.monotonic())) if self.is_limited else math.inf

    def part(self, share: float) -> Deadline:
        """A clock for a share of what is left."""
        return Deadline(self.left * share) if self.is_limited else self

    def fits(self, seconds_each: float) -> float:
        """How many pieces of work of so many seconds may be planned for."""
        return _PLANNED * self.left / max(seconds_each, 1e-9)

    def blocks(self, count: int, first: int) -> Iterator[slice]:
        """The numbers below `count` in blocks that fit: all at once without a limit; otherwise `first` of them, and
        then as many as the time that the last block took lets expect, up to twice as many each time.

        Example:
            >>> list(Deadline().blocks(1000, first=10))
            [slice(0, 1000, None)]
        """
        at, size = 0, min(count, first) if self.is_limited else count
        while size > 0:
            began = time.monotonic()
            yield slice(at, at + size)
            at += size
            if at == count:
                break
            seconds = agreed(time.monotonic() - began)
            size = min(2 * size, count - at, int(self.fits(seconds / size)))

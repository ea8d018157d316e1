"""Work in batches, as large as memory allows: where it runs out, a batch is read again in halves. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from accelerate.utils.memory import should_reduce_batch_size

Result = TypeVar("Result")


class Sliceable(Protocol):
    """What waits: rows that can be counted, and taken from the first on."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: slice, /) -> Any: ...


class BatchLimit:
    """How many rows one pass may have; half as many each time that memory has run out.

    Args:
        rows: at most, to begin with.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def halve(self, rows: int, error: Exception) -> bool:
        """Take half of so many rows from now on, if the error says that memory ran out; False if it says something
        else, or if one row is too much.
        """
        if not should_reduce_batch_size(error):
            return False
        self.rows = max(1, rows // 2)
        return rows > 1


def in_batches(
    waiting: Sliceable, size_of: Callable[[Any], int], read: Callable[[Any], Result], limit: BatchLimit
) -> Iterator[Result]:
    """What is read of all that waits, in order, one batch after the other.

    Args:
        waiting: all of it.
        size_of: what waits → how many of the first go into a batch, one at least; asked anew before each batch, since
            the limit may have fallen.
        read: a batch → what comes of it; it must leave nothing behind when it fails.
        limit: halved where memory runs out, before the same rows are read once more.

    Raises:
        Exception: what `read` raises, but where memory runs out for more than one row.

    Example:
        >>> limit = BatchLimit(3)
        >>> list(in_batches(range(7), lambda waiting: limit.rows, list, limit))
        [[0, 1, 2], [3, 4, 5], [6]]
    """
    while len(waiting):
        batch = waiting[: size_of(waiting)]
        try:
            result = read(batch)
        except Exception as error:
            if not limit.halve(len(batch), error):
                raise
            continue
        yield result
        waiting = waiting[len(batch) :]

"""Where in a dataset the copies go: a uniformly random merge of copies with rows, or random rows to go into.

Numbers only. Knows no text and no dataset.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..arrays import Ints
from ..errors import ArgumentError, shown

# Part of the fingerprint of every mapped dataset: raise it when the same arguments give other rows.
VERSION = 2

WHEN = {"uniform": (0.0, 1.0), "early": (0.0, 0.1), "late": (0.9, 1.0)}
MODES = ("rows", "splice")


@dataclass(frozen=True)
class Positions:
    """Where each copy goes: one entry for each, in the order of the rows.

    Args:
        num_rows: rows of the dataset that the copies go into.
        rows: (copies,) row numbers, ascending: the row that a copy stands before (`num_rows`: behind the last), or that
            it goes into.
        which: (copies,) the number of the canary.
        spots: (copies,) where within its row a spliced copy goes, as a share of the spots that the row has; else 0.
    """

    num_rows: int
    rows: Ints = field(repr=False)
    which: Ints = field(repr=False)
    spots: NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def between(self, start: int, stop: int, *, is_last: bool) -> range:
        """The numbers of the copies that belong to the rows from `start` to `stop`.

        Args:
            start: the first row number.
            stop: the first row number that is no longer meant.
            is_last: whether these are the last rows; the copies behind the last row belong to them.
        """
        stop = self.num_rows + 1 if is_last else stop
        first, last = np.searchsorted(self.rows, (start, stop))
        return range(int(first), int(last))

    @property
    def after_insertion(self) -> Ints:
        """(copies,) the row numbers of the copies themselves, where each has become a row of its own."""
        return self.rows + np.arange(len(self.rows))


def draw_positions(
    repetitions: Sequence[int], num_rows: int, seed: str, *, when: tuple[float, float], splice: bool
) -> Positions:
    """Positions for `repetitions[k]` copies of each canary k, all ways of doing so equally likely.

    Args:
        repetitions: copies of each canary.
        num_rows: rows of the dataset.
        seed: the same one gives the same positions, in every process.
        when: the part of the dataset, in shares of its rows.
        splice: whether the copies go into rows, different ones while there are enough; else between them.
    """
    which = [number for number, copies in enumerate(repetitions) for _ in range(copies)]
    generator = random.Random(seed)
    generator.shuffle(which)
    first = min(int(when[0] * num_rows), num_rows - 1)
    count = max(int(when[1] * num_rows), first + 1) - first
    if splice:
        rounds, rest = divmod(len(which), count)
        rows = sorted([*range(count)] * rounds + generator.sample(range(count), rest))
    else:
        merged = sorted(generator.sample(range(count + len(which)), len(which)))
        rows = [index - copies_before for copies_before, index in enumerate(merged)]
    return Positions(
        num_rows,
        np.array(rows, dtype=np.int64) + first,
        np.array(which, dtype=np.int64),
        np.array([generator.random() if splice else 0.0 for _ in rows]),
    )


def part(when: str | tuple[float, float]) -> tuple[float, float]:
    """The part of the dataset that `when` names, in shares of its rows.

    Raises:
        ArgumentError: it names none.
    """
    if isinstance(when, str) and when in WHEN:
        return WHEN[when]
    try:
        first, last = (float(share) for share in when)
    except (TypeError, ValueError):
        first, last = 1.0, 0.0
    if not 0.0 <= first < last <= 1.0:
        raise ArgumentError(
            "when",
            f"one of {', '.join(map(repr, WHEN))}, or two shares of the dataset, such as (0.2, 0.3)",
            shown(when),
            "It says in which part of the data the copies stand, if they are read in order.",
        )
    return first, last

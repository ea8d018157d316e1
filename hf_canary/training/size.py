"""How large the measurements of a training are: chosen once, before its first step, so that they compare.

Knows seconds and shares; reads no model and no data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..canaries import CanarySet
from ..measurement.encoded_format import possible_references
from .record import SIZE

FULL = 10_000
SIZES = (FULL, 3_000, 1_000, 256)  # references of each format
_ABOUT, _LITTLE = 2.0, 0.01  # a share is corrected if it is off by this factor, and not less than this
_WORTH_SAYING = 1.0  # seconds
DRAWS, COUNTING = 2_000, 0.1  # with a full measurement: half the samples of `measure_exposure`, a tenth of its counting


@dataclass(frozen=True)
class Size:
    """Of all measurements of a training.

    Args:
        num_references: random candidates of each format.
        is_given: whether that was asked for by hand.
        num_measurements: that the training has, at most.
        share: of the training's time that they take, as foreseen; NaN where it was not.
    """

    num_references: int
    is_given: bool = False
    num_measurements: int = 0
    share: float = math.nan

    @property
    def num_draws(self) -> int:
        """In proportion to the references."""
        return num_draws(self.num_references)

    def record(self) -> dict[str, Any]:
        """Its line in the record of the training, in which nothing depends on a clock."""
        return {"role": SIZE, "num_references": self.num_references, "num_measurements": self.num_measurements}

    def in_words(self, canaries: CanarySet, wanted: float | None) -> str:
        """One line for the start of a training.

        Args:
            canaries: that are measured.
            wanted: the share that measurements may take; None for any.
        """
        most = max(
            possible_references(self.num_references, format, 2 * sum(each.format == format for each in canaries))
            for format in canaries.formats
        )
        times = "1 measurement" if self.num_measurements == 1 else f"{self.num_measurements:,} measurements"
        each = " each" if self.num_measurements != 1 else ""
        line = f"exposure: {times} of {most:,} references{each}"
        if math.isnan(self.share):
            return line
        line += f", {percent(self.share)} of the training"
        if self.is_given or wanted is None or self.share <= wanted:
            return line
        where = f"where max_overhead is {100 * wanted:g} %"
        return f"{line}, {where}: the fewest that say something; measure less often, with measure_at="

    def corrected(self, seconds: float, steps: float) -> Size | None:
        """With the share that it takes, once that is known; None where it is about what was foreseen, or little time.

        Args:
            seconds: that one measurement takes.
            steps: that all steps take, in seconds.

        Example:
            >>> size = Size(256, num_measurements=10, share=0.05)
            >>> size.corrected(1.0, steps=150.0), size.corrected(10.0, steps=100.0).share
            (None, 0.5)
        """
        measuring = self.num_measurements * seconds
        share = share_of(measuring, steps)
        is_about = self.share / _ABOUT <= share <= self.share * _ABOUT or max(share, self.share) < _LITTLE
        return None if is_about or measuring < _WORTH_SAYING else replace(self, share=share)


def num_draws(num_references: int) -> int:
    """How many draws a measurement of so many references makes, of which a full one makes `DRAWS`."""
    return max(1, DRAWS * min(num_references, FULL) // FULL)


def share_of(measuring: float, training: float) -> float:
    """Of the time of both, in seconds, what measuring takes."""
    return measuring / (measuring + training) if measuring + training else 0.0


def chosen(seconds: Mapping[int, float], training: float, num_measurements: int, wanted: float) -> Size:
    """The largest size with which all measurements take no more than the share that is wanted; else the least.

    Args:
        seconds: that one measurement takes, by size.
        training: seconds of all steps.
        num_measurements: that are made.
        wanted: their share of the time of both.

    Example:
        >>> seconds = {10_000: 60.0, 3_000: 20.0, 1_000: 8.0, 256: 3.0}
        >>> chosen(seconds, training=1000.0, num_measurements=6, wanted=0.05).num_references
        1000
    """
    sizes = [
        Size(size, False, num_measurements, share_of(num_measurements * each, training))
        for size, each in sorted(seconds.items(), reverse=True)
    ]
    return next((size for size in sizes if size.share <= wanted), sizes[-1])  # also where nothing is known


def percent(share: float) -> str:
    """In words, no more exact than it is known."""
    if share < 0.001:
        return "less than 0.1 %"
    return f"about {100 * share:.1g} %" if share < 0.1 else f"about {100 * share:.0f} %"

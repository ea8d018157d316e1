"""Intervals of what many numbers come to: of a median, and of the mean of differences. Numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from ..arrays import Floats
from .exposures import CONFIDENCE


def median_interval(lows: Sequence[float], highs: Sequence[float]) -> tuple[float, float, float]:
    """The ends of an interval of the median, and its confidence: the j-th values from both ends.

    j is the greatest with P[Bin(n, ½) < j] ≤ 2.5 %, and 1 where there is none: it takes six values for 95 %. Values
    that are only known to lie between `lows` and `highs` enter with the end that is farther out.

    Example:
        >>> low, high, confidence = median_interval(range(10), range(10))
        >>> low, high, round(confidence, 3)
        (1, 8, 0.979)
    """
    count = len(lows)
    if not count:
        return math.nan, math.nan, 0.0
    number = max(1, int(stats.binom.ppf((1.0 - CONFIDENCE) / 2.0, count, 0.5)))
    confidence = 1.0 - 2.0 * float(stats.binom.cdf(number - 1, count, 0.5))
    return sorted(lows)[number - 1], sorted(highs)[-number], max(0.0, confidence)


def mean_interval(differences: Floats) -> tuple[float, float, float]:
    """The mean, and the ends of its 95 % interval by Student's t; NaN where there are too few.

    Example:
        >>> import numpy as np
        >>> [round(end, 3) for end in mean_interval(np.array([1.0, 2.0, 3.0]))]
        [2.0, -0.484, 4.484]
    """
    if not differences.size:
        return math.nan, math.nan, math.nan
    mean = float(differences.mean())
    if differences.size == 1:
        return mean, math.nan, math.nan
    far = float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, differences.size - 1) * stats.sem(differences))
    return mean, mean - far, mean + far

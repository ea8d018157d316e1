"""Were the twins drawn as the references were? An exact permutation test, and the mean that is to be expected.

Twins and references of a format are uniform draws from the same fills: any of them might have been the twins. Numbers
only: this file has never heard of a canary, and does not know which exposures were estimated from the same costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..arrays import LN2, Floats
from .exposures import SAME

NEVER_SEEN = 1.0 / LN2
"""The mean exposure, in bits, of a fill that the model never saw, in a large space: its rank is uniform."""

_LARGE = 2**50
# The sums of a test's scores are told apart to so many steps.
_STEPS = 2048


def expected_mean(space_size: int) -> float:
    """The mean exposure of a fill never seen, in bits: log2|R| − log2(|R|!) / |R|; 1.44 in a large space.

    Example:
        >>> round(expected_mean(20), 2), round(expected_mean(10**9), 2)
        (1.27, 1.44)
    """
    if space_size >= _LARGE:
        return NEVER_SEEN
    return math.log2(space_size) - math.lgamma(space_size + 1) / LN2 / space_size


def permutation_p(strata: Sequence[tuple[Floats, Floats]]) -> float:
    """How often twins that are like references would stand so far from them, in either direction: exact at any |R|.

    A twin has the score log2(N / its place among the N twins and references of its format), rounded to steps; a sum of
    these is the statistic. Its law is that of as many fills taken from all N at random, counted out, which supposes
    nothing of the costs and takes into account that all twins share the references. Twice the smaller tail; where ties
    leave the places open, the largest value that any order gives.

    Args:
        strata: for each format, and each context that twins of it stand behind, (n_twins,) and (n_references,)
            log-perplexities in bits. No fill is in two of them.

    Returns:
        At most 1; NaN where there is nothing to compare, or a twin's cost is no number.

    Example:
        >>> round(permutation_p([(np.array([1.0]), np.arange(2.0, 21.0))]), 3)  # the likeliest of twenty
        0.1
    """
    strata = [(twins, references) for twins, references in strata if twins.size and references.size]
    if not strata or any(np.isnan(twins).any() or np.isnan(references).any() for twins, references in strata):
        return math.nan
    steps = _steps([(twins.size, twins.size + references.size) for twins, references in strata])
    law, fewest, most = np.ones(1), 0, 0
    for twins, references in strata:
        scores = _scores(twins.size + references.size, steps)
        last, first = _places(twins, references)
        law = np.convolve(law, _law_of_sum(twins.size, scores.size, steps))
        fewest, most = fewest + int(scores[last - 1].sum()), most + int(scores[first - 1].sum())
    return _two_sided(law, fewest, most)


def _two_sided(law: Floats, fewest: int, most: int) -> float:
    """Twice the smaller tail, for a sum between two ends: the largest."""
    at_most, at_least = np.cumsum(law), np.cumsum(law[::-1])[::-1]
    tails = np.minimum(at_most, at_least)[fewest : most + 1]
    return float(min(1.0, 2.0 * tails.max()))


def _places(twins: Floats, references: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n_twins,) the last and the first place that each may have among all, 1 being the likeliest."""
    everyone = np.sort(np.concatenate([twins, references]))
    last = np.searchsorted(everyone, twins + SAME, side="right")
    first = np.searchsorted(everyone, np.where(np.isfinite(twins), twins - SAME, twins), side="left") + 1
    return last, first


def _steps(sizes: Sequence[tuple[int, int]]) -> float:
    """Steps to a bit, so that the sums have about so many."""
    return _STEPS / max(1.0, sum(twins * math.log2(everyone) for twins, everyone in sizes))


def _scores(everyone: int, steps: float) -> NDArray[np.int64]:
    """(n,) the scores of the places, the first one's first, in steps."""
    bits = math.log2(everyone) - np.log2(np.arange(1, everyone + 1))
    return np.asarray(np.rint(steps * bits), dtype=np.int64)


@lru_cache(maxsize=32)
def _law_of_sum(twins: int, everyone: int, steps: float) -> Floats:
    """(n_sums,) the probabilities of sums of so many different places' scores.

    That is the coefficient of y^twins in Π over the places of (1 + y q^score). Places of one score are taken together:
    Σ_j C(m, j) y^j q^(j score). All terms are positive, so that the far tails are right too.
    """
    values, counts = np.unique(_scores(everyone, steps), return_counts=True)
    largest = int(np.sort(_scores(everyone, steps))[-twins:].sum())
    sums = np.zeros((twins + 1, largest + 1))
    sums[0, 0] = 1.0
    unit = math.log(twins / everyone)  # so that no coefficient grows beyond a float
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        before = sums.copy()
        for taken in range(1, min(twins, count) + 1):
            weight = math.exp(_log_choose(count, taken) + taken * unit)
            shift = value * taken
            if shift > largest:
                break
            sums[taken:, shift:] += weight * before[: twins + 1 - taken, : largest + 1 - shift]
    law = sums[twins]
    return np.asarray(law / law.sum())


def _log_choose(count: int, taken: int) -> float:
    return float(special.gammaln(count + 1) - special.gammaln(taken + 1) - special.gammaln(count - taken + 1))

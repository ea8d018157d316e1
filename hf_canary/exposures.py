"""Exposure from log-perplexities: numbers in, estimates with intervals out.

All log-perplexities are in bits, lower means better memorised; exposure is in bits, higher means better memorised,
between 0 and log2|R| except for the skew-normal estimate, which has no upper bound. Order in is order out. This
file has never heard of a model, a format or a tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from .errors import DataError, shown

Floats = NDArray[np.float64]

CENSORED = "censored"
BEYOND_SPACE = "beyond log2|R|"
CONDITIONAL = "interval assumes the skew-normal"
NOT_FINITE = "not finite"
NOT_FITTED = "not fitted"

_LN2 = math.log(2.0)
_FEWEST_TO_FIT = 50
# Above this share of the space Clopper-Pearson, which assumes draws with replacement, is wider than it need be.
_HYPERGEOMETRIC_SHARE = 0.1
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True)
class Estimate:
    """An estimate of exposure in bits, its interval, and what a reader must know about it.

    Args:
        value: the estimate; NaN where there is none, and then `flags` says why.
        low: lower end of the interval.
        high: upper end of the interval.
        flags: words such as `censored`: no reference was as likely, so the true exposure is `value` or more.
    """

    value: float
    low: float
    high: float
    flags: tuple[str, ...] = ()


def exposure_of_rank(rank: int, space_size: int) -> float:
    """log2|R| − log2 rank (Definition 4), in bits, for ints of any size.

    Example:
        >>> exposure_of_rank(1, 1024), exposure_of_rank(1024, 1024)
        (10.0, 0.0)
    """
    return math.log2(space_size) - math.log2(rank)


def sampled(
    log_perplexities: ArrayLike,
    references: ArrayLike,
    space_size: int,
    *,
    known: ArrayLike | None = None,
    confidence: float = 0.95,
) -> list[Estimate]:
    """Exposure by Theorem 1: the share of random candidates at least as likely as the canary.

    The candidates in `known` (all canaries and twins of the format) have known costs and are counted exactly; only
    the rank among the rest of R is estimated from `references`. The interval is Clopper and Pearson's (1934) for
    that share, the hypergeometric one where the references are more than a tenth of the rest, and has width zero
    where they are all of it. With no reference at or below the canary the estimate is `censored`: the true exposure
    may be anything from `low` to `high`.

    Args:
        log_perplexities: (n_canaries,) in bits, lower means better memorised.
        references: (n_references,) in bits, of distinct uniform draws from R without `known`.
        space_size: |R|.
        known: (n_known,) in bits, the costs of the candidates that were taken out of the draw, the measured ones
            among them; None means just `log_perplexities`.
        confidence: of the two-sided interval.

    Returns:
        One estimate for each canary, in order, in bits, higher means better memorised.

    Raises:
        DataError: no references, NaN among them, more of them than R has, or a value that is no number.

    Example:
        >>> sampled([3.0], [1.0, 2.0, 4.0, 5.0], space_size=5)[0].value == exposure_of_rank(3, 5)
        True
    """
    costs = _numbers(log_perplexities, "log_perplexities")
    pool = np.sort(_references(references))
    taken = costs if known is None else _numbers(known, "known")
    taken = np.sort(taken[~np.isnan(taken)])
    rest = space_size - (costs.size if known is None else np.size(known))
    if pool.size == 0 and rest > 0:
        raise DataError("references", "at least one log-perplexity", "none", "Score random candidates of the format.")
    if pool.size > rest:
        raise DataError(
            "references",
            f"at most {shown(rest)}, the candidates of R that are neither canary nor twin",
            f"{pool.size}",
            "Draw references without replacement, and leave out the canaries and twins.",
        )

    def one(cost: float) -> Estimate:
        if math.isnan(cost):
            return _nothing(NOT_FINITE)
        hits = int(np.searchsorted(pool, cost, side="right"))
        counted = max(1, int(np.searchsorted(taken, cost, side="right")))
        value, low, high = (
            _exposure_of_share(counted, rest, share, space_size)
            for share in _shares(hits, pool.size, rest, 1.0 - confidence)
        )
        return Estimate(value, low, high, (CENSORED,) if hits == 0 and pool.size < rest else ())

    return [one(cost) for cost in costs.tolist()]


def _shares(hits: int, n: int, size: int, alpha: float) -> tuple[float, float, float]:
    """Share of the rest of R at or below the cost: a point, the upper end and the lower end of its interval."""
    if n == size:
        share = hits / n if n else 0.0
        return share, share, share
    point = (hits + 0.5) / (n + 0.5) if hits else 1.0 / (n + 1.0)
    if n > _HYPERGEOMETRIC_SHARE * size:
        fewest, most = hypergeometric_interval(hits, n, size, alpha)
        return min(max(point, fewest / size), most / size), most / size, fewest / size
    upper = float(stats.beta.ppf(1.0 - alpha / 2.0, hits + 1, n - hits)) if hits < n else 1.0
    lower = float(stats.beta.ppf(alpha / 2.0, hits, n - hits + 1)) if hits else 0.0
    return point, upper, lower


def hypergeometric_interval(hits: int, n: int, size: int, alpha: float) -> tuple[int, int]:
    """How many of `size` are marked, when `hits` of `n` drawn without replacement are: the exact interval."""

    def first(holds: Callable[[int], bool]) -> int:
        low, high = hits, size - n + hits
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(middle) else (middle + 1, high)
        return low

    fewest = first(lambda marked: stats.hypergeom.sf(hits - 1, size, marked, n) > alpha / 2.0)
    too_many = first(lambda marked: stats.hypergeom.cdf(hits, size, marked, n) <= alpha / 2.0)
    most = too_many if stats.hypergeom.cdf(hits, size, too_many, n) > alpha / 2.0 else too_many - 1
    return fewest, max(most, fewest)


def _exposure_of_share(counted: int, rest: int, share: float, space_size: int) -> float:
    """Exposure when `counted` known candidates and a `share` of the `rest` are at or below the cost."""
    below = share * rest if rest < 2**1000 else None
    if below is not None and below == round(below):
        return exposure_of_rank(counted + round(below), space_size)
    # Quotients of ints are rounded once, at any size; a share of 0 was answered above or is answered here.
    probability = counted / space_size + rest / space_size * share
    return -math.log2(probability) if probability > 0.0 else exposure_of_rank(counted, space_size)


@dataclass(frozen=True)
class SkewNormal:
    """A skew-normal law of log-perplexities (§4.2): shape α, location ξ and scale ω, the last two in bits."""

    shape: float
    location: float
    scale: float

    @classmethod
    def fit(cls, references: ArrayLike) -> SkewNormal:
        """The maximum-likelihood fit, started from the moments.

        Raises:
            DataError: too few references, or references that no skew-normal describes: constant, two-valued,
                infinite, NaN.
        """
        pool = _references(references)
        reason = _why_not_fitted(pool)
        if reason:
            raise DataError("references", "at least 50 finite log-perplexities that vary", reason, "Draw more of them.")
        # In the units of the sample, where the optimiser's steps fit.
        centre, spread = float(pool.mean()), float(pool.std())
        standard = (pool - centre) / spread
        start = _from_moments(float(stats.skew(standard)))
        shape, location, scale = stats.skewnorm.fit(standard, start.shape, loc=start.location, scale=start.scale)
        return cls(float(shape), centre + spread * float(location), spread * float(scale))

    def density(self, log_perplexities: ArrayLike) -> Floats:
        """ρ, per bit, at each log-perplexity."""
        return np.asarray(
            stats.skewnorm.pdf(np.asarray(log_perplexities, np.float64), self.shape, self.location, self.scale),
            dtype=np.float64,
        )

    def tail_bits(self, log_perplexities: ArrayLike) -> Floats:
        """−log2 ∫_{−∞}^{c} ρ, in bits, for each c: the extrapolated exposure (§4.2), finite however far the tail."""
        z = (np.atleast_1d(np.asarray(log_perplexities, dtype=np.float64)) - self.location) / self.scale
        return -_log_cdf(z, self.shape) / _LN2


def skewnorm(
    log_perplexities: ArrayLike, references: ArrayLike, space_size: int, *, confidence: float = 0.95
) -> list[Estimate]:
    """The paper's estimate by extrapolation (§4.2): exposure ≈ −log2 of the fitted skew-normal's mass at or below c.

    It is finite far beyond the references, and only as right there as the skew-normal is. The interval (delta
    method) covers the sampling error of the fit alone and is flagged so; a value past log2|R| is flagged, not cut.

    Args:
        log_perplexities: (n_canaries,) in bits, lower means better memorised.
        references: (n_references,) in bits, of uniform draws from R.
        space_size: |R|, for the flag.
        confidence: of the two-sided interval.

    Returns:
        One estimate for each canary, in order, in bits, higher means better memorised. References that no
        skew-normal describes give NaN, flagged `not fitted: reason`.

    Raises:
        DataError: no references, NaN among them, or a value that is no number.
    """
    costs = _numbers(log_perplexities, "log_perplexities")
    pool = _references(references)
    reason = _why_not_fitted(pool)
    if reason:
        return [_nothing(f"{NOT_FITTED}: {reason}") for _ in costs]
    law = SkewNormal.fit(pool)
    finite = np.where(np.isfinite(costs), costs, law.location)
    values = law.tail_bits(finite)
    errors = _standard_errors(law, pool, finite) * float(stats.norm.ppf(0.5 + confidence / 2.0))
    limit = math.log2(space_size)

    def one(cost: float, value: float, error: float) -> Estimate:
        if not math.isfinite(cost):
            return Estimate(0.0, 0.0, 0.0) if cost > 0 else _nothing(NOT_FINITE)
        flags = (CONDITIONAL, BEYOND_SPACE) if value > limit else (CONDITIONAL,)
        return Estimate(value, max(0.0, value - error), value + error, flags)

    return [one(*each) for each in zip(costs.tolist(), values.tolist(), errors.tolist(), strict=True)]


def _from_moments(skewness: float) -> SkewNormal:
    """The skew-normal of mean 0, deviation 1 and this skewness, clipped to what a skew-normal can have."""
    bounded = min(max(skewness, -0.99), 0.99)
    ratio = abs(bounded) ** (2.0 / 3.0)
    delta = math.copysign(math.sqrt(math.pi / 2.0 * ratio / (ratio + ((4.0 - math.pi) / 2.0) ** (2.0 / 3.0))), bounded)
    scale = 1.0 / math.sqrt(1.0 - 2.0 * delta**2 / math.pi)
    return SkewNormal(delta / math.sqrt(1.0 - delta**2), -scale * delta * math.sqrt(2.0 / math.pi), scale)


def _log_cdf(z: Floats, shape: float) -> Floats:
    """Ln F(z) of the standard skew-normal: below the mode ln F(z) = g(z) + ln ∫_0^∞ exp(g(z−u) − g(z)) du.

    There g = ln 2 + ln φ + ln Φ(α·) increases, so that the integrand falls from 1; u = v / max(g′(z), ½) with
    v ∈ [0, 40]. At and above the mode the probability is large and scipy's value is used.
    """

    def g(t: Floats) -> Floats:
        return np.asarray(_LN2 + stats.norm.logpdf(t) + special.log_ndtr(shape * t), dtype=np.float64)

    # φ(t)/Φ(t) by logarithms: both vanish far to the left, their quotient does not.
    mills = np.exp(stats.norm.logpdf(shape * z) - special.log_ndtr(shape * z))
    slope = -z + shape * mills
    left = slope > 0.5
    result = np.asarray(stats.skewnorm.logcdf(np.where(left, 0.0, z), shape), dtype=np.float64)
    if np.any(left):
        start = z[left]
        stretch = 1.0 / np.maximum(slope[left], 0.5)
        v = 20.0 * (_NODES + 1.0)
        falls = np.exp(g(start[:, None] - stretch[:, None] * v) - g(start)[:, None])
        result[left] = g(start) + np.log(20.0 * stretch * (falls @ _WEIGHTS))
    return result


def _standard_errors(law: SkewNormal, pool: Floats, costs: Floats) -> Floats:
    """Standard error of `law.tail_bits(costs)` by the delta method, information from the outer product of scores."""
    z = (pool - law.location) / law.scale
    pull = np.exp(stats.norm.logpdf(law.shape * z) - special.log_ndtr(law.shape * z))
    scores = np.stack([z * pull, z - law.shape * pull, z * z - 1.0 - law.shape * z * pull], axis=1)
    covariance = np.linalg.pinv(scores.T @ scores, rcond=1e-12, hermitian=True)
    step = 1e-4 * np.array([1.0 + abs(law.shape), law.scale, 1.0])

    def moved(shape: float, location: float, log_scale: float) -> Floats:
        return SkewNormal(law.shape + shape, law.location + location, law.scale * math.exp(log_scale)).tail_bits(costs)

    # Parameters: α, ξ/ω and ln ω, in the units of the scores.
    gradient = np.stack(
        [(moved(*(step * axis)) - moved(*(-step * axis))) / (2.0 * (step @ axis)) for axis in np.eye(3)], axis=1
    ) * np.array([1.0, law.scale, 1.0])
    return np.asarray(np.sqrt(np.maximum(np.einsum("ci,ij,cj->c", gradient, covariance, gradient), 0.0)))


def _why_not_fitted(pool: Floats) -> str:
    """Why no skew-normal can be fitted, or nothing."""
    if pool.size < _FEWEST_TO_FIT:
        return f"{pool.size} references, fewer than {_FEWEST_TO_FIT}"
    if not np.all(np.isfinite(pool)):
        return "infinite references"
    distinct = np.unique(pool).size
    if distinct < 3 or float(pool.std()) <= 1e-9 * float(np.abs(pool).max()):
        return f"references of {distinct} distinct value{'s' if distinct > 1 else ''}"
    return ""


def _nothing(flag: str) -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, (flag,))


def _numbers(values: ArrayLike, argument: str) -> Floats:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(argument, "numbers, in bits", shown(values), "Give one log-perplexity for each.") from error
    if numbers.ndim != 1:
        raise DataError(argument, "one axis", f"an array of shape {numbers.shape}", "Give a flat list.")
    return numbers


def _references(values: ArrayLike) -> Floats:
    pool = _numbers(values, "references")
    if np.isnan(pool).any():
        first = int(np.flatnonzero(np.isnan(pool))[0])
        raise DataError("references", "numbers", f"NaN at {first}", "Find out why the model's scores are no numbers.")
    return pool

"""Exposure from log-perplexities: numbers in, estimates with intervals out.

All log-perplexities are in bits, lower means better memorised; exposure is in bits, higher means better memorised,
between 0 and log2|R| except for the skew-normal estimate, which has no upper bound. Order in is order out. This
file has never heard of a model, a format or a tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from .errors import DataError, is_int, shown

Floats = NDArray[np.float64]

CENSORED = "censored"
BEYOND_SPACE = "beyond log2|R|"
CONDITIONAL = "interval assumes the skew-normal"
NOT_FINITE = "not finite"
NOT_FITTED = "not fitted"

_LN2, _SQRT2 = math.log(2.0), math.sqrt(2.0)
_FEWEST_TO_FIT = 50
# Where so many times the references are more than the rest of R, Clopper-Pearson, which assumes draws with
# replacement, is wider than it need be.
_HYPERGEOMETRIC_SHARE = 10
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True)
class Estimate:
    """An estimate of exposure in bits, its interval, and what a reader must know about it.

    Args:
        value: the estimate; NaN where there is none, and then `flags` says why.
        low: lower end of the interval.
        high: upper end of the interval.
        flags: words such as `censored`: no reference was as likely, so that only `low` is sure.
    """

    value: float
    low: float
    high: float
    flags: tuple[str, ...] = ()


def exposure_of_rank(rank: int | Fraction, space_size: int) -> float:
    """log2|R| − log2 rank (Definition 4), in bits, at any size; an estimated rank may be a fraction.

    Example:
        >>> exposure_of_rank(1, 1024), exposure_of_rank(1024, 1024)
        (10.0, 0.0)
    """
    return math.log2(space_size) - math.log2(rank.numerator) + math.log2(rank.denominator)


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
    space_size, alpha = _space(space_size), _error_rate(confidence)
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
            exposure_of_rank(counted + below, space_size) for below in _rest_below(hits, pool.size, rest, alpha)
        )
        return Estimate(value, low, high, (CENSORED,) if hits == 0 and pool.size < rest else ())

    return [one(cost) for cost in costs.tolist()]


def _rest_below(hits: int, n: int, rest: int, alpha: float) -> tuple[Fraction, Fraction, Fraction]:
    """How many of the `rest` of R are at or below a cost: a point, and the upper and lower end of its interval."""
    if n == rest:
        exactly = Fraction(hits)
        return exactly, exactly, exactly
    point = rest * (Fraction(2 * hits + 1, 2 * n + 1) if hits else Fraction(1, n + 1))
    if n * _HYPERGEOMETRIC_SHARE > rest:
        fewest, most = hypergeometric_interval(hits, n, rest, alpha)
        return min(max(point, Fraction(fewest)), Fraction(most)), Fraction(most), Fraction(fewest)
    upper = float(stats.beta.ppf(1.0 - alpha / 2.0, hits + 1, n - hits)) if hits < n else 1.0
    lower = float(stats.beta.ppf(alpha / 2.0, hits, n - hits + 1)) if hits else 0.0
    return point, rest * Fraction(upper), rest * Fraction(lower)


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
    space_size, alpha = _space(space_size), _error_rate(confidence)
    costs = _numbers(log_perplexities, "log_perplexities")
    pool = _references(references)
    reason = _why_not_fitted(pool)
    if reason:
        return [_nothing(f"{NOT_FITTED}: {reason}") for _ in costs]
    law = SkewNormal.fit(pool)
    finite = np.where(np.isfinite(costs), costs, law.location)
    values = law.tail_bits(finite)
    errors = _standard_errors(law, pool, finite) * float(stats.norm.ppf(1.0 - alpha / 2.0))
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
    """Ln F(z) of the standard skew-normal, to full accuracy in both tails and for any shape."""
    # Left of the mode the tail's own form; elsewhere F is large, and for α < 0 the mirrored law says how far from 1.
    tail = (z < 0.0) & ((shape >= 0.0) | (-z + shape * _mills(shape * z) > 0.5))
    result = np.empty_like(z)
    result[tail] = _log_left_tail(z[tail], shape)
    others = z[~tail]
    result[~tail] = (
        np.log(_cdf_at_positive(others, shape)) if shape >= 0.0 else np.log1p(-np.exp(_log_cdf(-others, -shape)))
    )
    return result


def _log_left_tail(z: Floats, shape: float) -> Floats:
    """Ln F(z) = g(z) + ln ∫_0^∞ exp(g(z−u) − g(z)) du, where g = ln 2 + ln φ + ln Φ(α·) increases up to z.

    The integrand falls from 1; u = v / max(g′(z), ½) with v ∈ [0, 40].
    """
    start = z[:, None]
    stretch = 1.0 / np.maximum(-start + shape * _mills(shape * start), 0.5)
    u = stretch * 20.0 * (_NODES + 1.0)
    falls = np.exp(start * u - u * u / 2.0 + _log_ndtr_change(shape * start, -shape * u, left=shape >= 0.0))
    at_z = _LN2 + stats.norm.logpdf(z) + special.log_ndtr(shape * z)
    return np.asarray(at_z + np.log(20.0 * stretch[:, 0] * (falls @ _WEIGHTS)))


def _cdf_at_positive(z: Floats, shape: float) -> Floats:
    """F(z) = arctan(1/α)/π + ∫_0^z 2φ(s)Φ(αs) ds for z, α ≥ 0; from s = 10/α on Φ(αs) is 1."""
    bend = np.minimum(z, 10.0 / max(shape, 1.0))
    s = bend[:, None] / 2.0 * (_NODES + 1.0)
    curved = bend * ((stats.norm.pdf(s) * special.ndtr(shape * s)) @ _WEIGHTS)
    straight = special.erf(z / _SQRT2) - special.erf(bend / _SQRT2)
    return np.asarray(np.minimum(math.atan2(1.0, shape) / math.pi + curved + straight, 1.0))


def _mills(t: Floats) -> Floats:
    """φ(t) / Φ(t), also where both vanish."""
    return np.asarray(math.sqrt(2.0 / math.pi) / special.erfcx(-t / _SQRT2))


def _log_ndtr_change(t: Floats, by: Floats, *, left: bool) -> Floats:
    """The change of ln Φ from t to t + by; on the left of 0 without the cancellation of two large numbers."""
    if left:
        return -t * by - by * by / 2.0 + np.log(special.erfcx(-(t + by) / _SQRT2) / special.erfcx(-t / _SQRT2))
    return np.asarray(special.log_ndtr(t + by) - special.log_ndtr(t))


def _standard_errors(law: SkewNormal, pool: Floats, costs: Floats) -> Floats:
    """Standard error of `law.tail_bits(costs)` by the delta method, information from the outer product of scores."""
    z = (pool - law.location) / law.scale
    pull = _mills(law.shape * z)
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


def _error_rate(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise DataError("confidence", "a number between 0 and 1", shown(confidence), "Give 0.95 for 95 %.")
    return 1.0 - confidence


def _space(space_size: int) -> int:
    if not is_int(space_size) or space_size < 1:
        raise DataError(
            "space_size", "|R|, a whole number, 1 or more", shown(space_size), "Give the format's space_size, an int."
        )
    return int(space_size)


def _numbers(values: ArrayLike, argument: str) -> Floats:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
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

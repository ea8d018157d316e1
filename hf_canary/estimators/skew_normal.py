"""The skew-normal law of log-perplexities (§4.2): its fit, its tail, how well it fits and how sure the fit is.

Numbers in, numbers out: costs are log-perplexities in bits. This file has never heard of a canary or of exposure.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from ..arrays import LN2, Floats
from ..errors import DataError

_SQRT2 = math.sqrt(2.0)
_HALF_LN_2PI = 0.5 * math.log(2.0 * math.pi)
_FEWEST_TO_FIT = 50
# The search for the likeliest law runs over so many bins of a larger sample; its last steps are taken on all of it.
_BINS = 4096
_LAST_STEPS = 4
# asinh of the steepest shape: to any sample that fits into a memory, a half-normal.
_STEEPEST = 20.0
# The skewness of the law that a search starts from, and asinh of a shape that is as good as 0.
_START, _ALMOST_NORMAL = 0.7, 0.2
# A² of samples of 1,000 from their own fits, exceeded with these probabilities, by shape; 6,000 samples each
# (benchmarks/misfit_table.py).
_MISFIT_PS = (0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.025, 0.01, 0.005, 0.001)
_SHAPES = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 300.0)
_MISFITS = (
    (0.169, 0.213, 0.281, 0.379, 0.502, 0.587, 0.681, 0.795, 0.846, 1.078),
    (0.165, 0.211, 0.279, 0.375, 0.495, 0.591, 0.679, 0.784, 0.885, 1.057),
    (0.167, 0.209, 0.278, 0.371, 0.482, 0.568, 0.660, 0.793, 0.891, 1.204),
    (0.167, 0.212, 0.285, 0.383, 0.516, 0.609, 0.722, 0.873, 0.988, 1.254),
    (0.175, 0.228, 0.314, 0.441, 0.600, 0.718, 0.854, 1.035, 1.197, 1.603),
    (0.192, 0.253, 0.357, 0.526, 0.748, 0.933, 1.136, 1.414, 1.629, 2.173),
    (0.219, 0.301, 0.439, 0.666, 0.981, 1.248, 1.485, 1.915, 2.183, 2.836),
    (0.259, 0.352, 0.521, 0.785, 1.132, 1.431, 1.771, 2.201, 2.603, 3.162),
)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True)
class SkewNormal:
    """A skew-normal law of log-perplexities (§4.2): shape α, location ξ and scale ω, the last two in bits."""

    shape: float
    location: float
    scale: float

    @classmethod
    def fit(cls, references: ArrayLike) -> SkewNormal:
        """The maximum-likelihood fit: Newton's steps within a trust region, from both signs of the shape.

        Args:
            references: (n_references,) log-perplexities in bits.

        Raises:
            DataError: too few references, or references that no skew-normal describes: constant, two-valued,
                infinite, NaN.

        Example:
            >>> law = SkewNormal.fit(np.random.default_rng(0).normal(60.0, 5.0, size=10_000))
            >>> bool(40.0 < law.location < 80.0)
            True
        """
        pool = np.asarray(references, dtype=np.float64)
        reason = why_not_fitted(pool)
        if reason:
            raise DataError("references", "at least 50 finite log-perplexities that vary", reason, "Draw more of them.")
        # In the units of the sample, where the steps fit.
        centre, spread = float(pool.mean()), float(pool.std())
        standard = (pool - centre) / spread
        law = _maximised(standard)
        return cls(law.shape, centre + spread * law.location, spread * law.scale)

    def standardised(self, log_perplexities: ArrayLike) -> Floats:
        """Z = (c − ξ) / ω."""
        return (np.asarray(log_perplexities, dtype=np.float64) - self.location) / self.scale

    def density(self, log_perplexities: ArrayLike) -> Floats:
        """ρ, per bit, at each log-perplexity."""
        z = self.standardised(log_perplexities)
        logs = LN2 - _HALF_LN_2PI - z * z / 2.0 + special.log_ndtr(self.shape * z)
        return np.asarray(np.exp(logs) / self.scale)

    def tail_bits(self, log_perplexities: ArrayLike) -> Floats:
        """−log2 ∫_{−∞}^{c} ρ, in bits, for each c: the extrapolated exposure (§4.2), finite however far the tail."""
        return -_log_cdf(np.atleast_1d(self.standardised(log_perplexities)), self.shape) / LN2

    def draws(self, count: int, generator: np.random.Generator) -> Floats:
        """`count` independent draws: ξ + ω (δ|X| + √(1−δ²) Y), X and Y standard normal (Azzalini 1985)."""
        delta = self.shape / math.hypot(1.0, self.shape)
        x, y = generator.standard_normal((2, count))
        return np.asarray(self.location + self.scale * (delta * np.abs(x) + math.sqrt(1.0 - delta * delta) * y))


def why_not_fitted(pool: Floats) -> str:
    """Why no skew-normal can be fitted to these log-perplexities, or nothing."""
    if pool.size < _FEWEST_TO_FIT:
        return f"{pool.size} references, fewer than {_FEWEST_TO_FIT}"
    if not np.all(np.isfinite(pool)):
        return "infinite references"
    low, high = float(pool.min()), float(pool.max())
    if np.count_nonzero((pool != low) & (pool != high)) == 0:
        return f"references of {1 if low == high else 2} distinct value{'' if low == high else 's'}"
    spread = float(pool.std()) if high - low < 1e150 else math.inf
    if not 1e-9 * max(abs(low), abs(high)) < spread < math.inf or spread < 1e-150:
        return "references that differ by next to nothing" if spread < 1.0 else "references too far apart"
    return ""


def standard_errors(law: SkewNormal, pool: Floats, log_perplexities: Floats) -> Floats:
    """Standard errors, in bits, of `law.tail_bits` by the delta method; information from the outer product of scores.

    Args:
        law: fitted to `pool`.
        pool: (n_references,) log-perplexities.
        log_perplexities: (n,) finite, where the tail is read.
    """
    z = law.standardised(pool)
    pull = _mills(law.shape * z)
    scores = np.stack([z * pull, z - law.shape * pull, z * z - 1.0 - law.shape * z * pull])
    covariance = np.linalg.pinv(scores @ scores.T, rcond=1e-12, hermitian=True)
    step = 1e-4 * np.array([1.0 + abs(law.shape), law.scale, 1.0])

    def moved(shape: float, location: float, log_scale: float) -> Floats:
        other = SkewNormal(law.shape + shape, law.location + location, law.scale * math.exp(log_scale))
        return other.tail_bits(log_perplexities)

    # Parameters: α, ξ/ω and ln ω, in the units of the scores.
    gradient = np.stack(
        [(moved(*(step * axis)) - moved(*(-step * axis))) / (2.0 * (step @ axis)) for axis in np.eye(3)], axis=1
    ) * np.array([1.0, law.scale, 1.0])
    return np.asarray(np.sqrt(np.maximum(np.einsum("ci,ij,cj->c", gradient, covariance, gradient), 0.0)))


def misfit(law: SkewNormal, pool: Floats) -> float:
    """How far the sample lies from its fitted law: A² of Anderson and Darling (1954), in which the tails weigh most.

    A² = −n − Σ_i (2i−1) (ln F(z_i) + ln(1 − F(z_{n+1−i}))) / n, i = 1…n in ascending order.
    """
    z = np.sort(law.standardised(pool))
    twice = 2.0 * special.owens_t(z, law.shape)
    below = np.log(np.maximum(special.ndtr(z) - twice, 1e-300))
    above = np.log(np.maximum(special.ndtr(-z) + twice, 1e-300))
    odd = 2.0 * np.arange(z.size) + 1.0
    return float(-z.size - odd @ (below + above[::-1]) / z.size)


def misfit_p(distance: float, shape: float) -> float:
    """How often a sample of a skew-normal of this shape lies as far from its own fit, from a table.

    A plain test against the fitted law is not valid, since the fit follows the sample. Between the table's entries
    ln p is linear in A², and A² in asinh|α|. Samples of fewer than 300 have longer tails than those of the table.
    """
    steepness = math.asinh(abs(shape))
    quantiles = [float(np.interp(steepness, np.arcsinh(_SHAPES), column)) for column in np.array(_MISFITS).T]
    logs = np.log(_MISFIT_PS)
    if distance <= quantiles[0]:
        return 1.0 + (_MISFIT_PS[0] - 1.0) * max(0.0, distance) / quantiles[0]
    if distance >= quantiles[-1]:  # on the line of the last two
        slope = (logs[-1] - logs[-2]) / (quantiles[-1] - quantiles[-2])
        return float(np.exp(logs[-1] + slope * (distance - quantiles[-1])))
    return float(np.exp(np.interp(distance, quantiles, logs)))


def refits(law: SkewNormal, count: int, repeats: int, seed: int) -> tuple[list[SkewNormal], Floats]:
    """The parametric bootstrap: laws fitted to samples of `count` drawn from `law`, and the misfit of each."""
    generator = np.random.default_rng(random.Random(f"refits {seed}").getrandbits(128))
    laws, misfits = [], np.empty(repeats)
    for number in range(repeats):
        sample = law.draws(count, generator)
        laws.append(SkewNormal.fit(sample))
        misfits[number] = misfit(laws[-1], sample)
    return laws, misfits


def _from_moments(bounded: float) -> SkewNormal:
    """The skew-normal of mean 0, deviation 1 and this skewness, which must be below 0.995."""
    ratio = abs(bounded) ** (2.0 / 3.0)
    delta = math.copysign(math.sqrt(math.pi / 2.0 * ratio / (ratio + ((4.0 - math.pi) / 2.0) ** (2.0 / 3.0))), bounded)
    scale = 1.0 / math.sqrt(1.0 - 2.0 * delta**2 / math.pi)
    return SkewNormal(delta / math.sqrt(1.0 - delta**2), -scale * delta * math.sqrt(2.0 / math.pi), scale)


def _maximised(sample: Floats) -> SkewNormal:
    """The likeliest law for a sample of mean 0 and deviation 1.

    The likelihood may have a peak on either side of shape 0, and one at a shape without bound in either direction: the
    half-normals, whose likelihood is known without a search.
    """
    values, counts = _binned(sample)
    likelihood = _Likelihood(values, counts)
    skewness = math.copysign(_START, float((sample**3).mean()))
    peaks = [_peak(likelihood, skewness), _peak(likelihood, -skewness, gives_up=True)]
    at = min(peaks, key=likelihood.value)
    if values.size < sample.size:
        curvature, likelihood = likelihood.hessian(at), _Likelihood(sample, None)
        at = _stepped(likelihood, curvature, at)
    laws = [(likelihood.value(at), SkewNormal(_shape(at[0]), float(at[1]), math.exp(float(at[2]))))]
    laws += [_half_normal(float(sample.min()), 1.0), _half_normal(float(sample.max()), -1.0)]
    return min(laws, key=lambda each: each[0])[1]


def _peak(likelihood: _Likelihood, skewness: float, *, gives_up: bool = False) -> Floats:
    """Where the likelihood is at a peak, from the law of mean 0, deviation 1 and this skewness.

    Args:
        likelihood: of the sample.
        skewness: to start from.
        gives_up: whether to end once the shape falls to almost 0: the way takes long, and there is a saddle, which
            is never likelier than the peak on the side of the sample's own skewness.
    """
    start = _from_moments(skewness)

    def ends(intermediate_result: Any) -> None:
        if gives_up and math.copysign(1.0, skewness) * intermediate_result.x[0] < _ALMOST_NORMAL:
            raise StopIteration

    found = optimize.minimize(
        likelihood.value,
        np.array([math.asinh(start.shape), start.location, math.log(start.scale)]),
        jac=likelihood.gradient,
        hess=likelihood.hessian,
        method="trust-exact",
        callback=ends,
        options={"gtol": 1e-9, "maxiter": 200},
    )
    return np.asarray(found.x)


def _half_normal(end: float, sign: float) -> tuple[float, SkewNormal]:
    """The likeliest half-normal law that begins (or, of negative sign, ends) at a sample's outermost value, and what
    `_Likelihood.value` is for it: ln ω + ½, ω² = mean (z − end)² = 1 + end², for a sample of mean 0 and deviation 1.
    """
    scale = math.hypot(1.0, end)
    shape = _shape(sign * _STEEPEST)
    # A little beyond the value, where Φ(αz) is 1 and not ½.
    return math.log(scale) + 0.5, SkewNormal(shape, end - 10.0 * scale / shape, scale)


def _stepped(likelihood: _Likelihood, curvature: Floats, at: Floats) -> Floats:
    """A few of Newton's steps, as long as they lead up; the curvature is that at the start."""
    value = likelihood.value(at)
    for _ in range(_LAST_STEPS):
        step = np.linalg.lstsq(curvature, likelihood.gradient(at), rcond=None)[0]
        if np.abs(step).max() < 1e-9:
            break
        further = at - step
        if not likelihood.value(further) < value:
            break
        at, value = further, likelihood.value(further)
    return at


def _binned(sample: Floats) -> tuple[Floats, Floats | None]:
    """A large sample as the middles of narrow bins, and how many lie in each; not where a few values far out make the
    bins so wide that most are empty.
    """
    if sample.size <= 2 * _BINS:
        return sample, None
    low, high = float(sample.min()), float(sample.max())
    bins = np.minimum(((sample - low) * (_BINS / (high - low))).astype(np.int64), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    values = np.bincount(bins, weights=sample, minlength=_BINS)
    filled = counts > 0
    if np.count_nonzero(filled) < _BINS // 16:
        return sample, None
    return values[filled] / counts[filled], counts[filled].astype(np.float64)


class _Likelihood:
    """The mean of −ln ρ over a sample, in (asinh α, ξ, ln ω), with its first and second derivatives.

    Per value: ln ω + z²/2 − ln Φ(αz), a constant aside. asinh, so that a shape that grows without bound stays in reach.
    """

    def __init__(self, sample: Floats, counts: Floats | None) -> None:
        self._sample = sample
        self._shares = None if counts is None else counts / counts.sum()
        self._at: Floats | None = None

    def value(self, at: Floats) -> float:
        self._move(at)
        return float(at[2]) + self._mean(self._z * self._z) / 2.0 - self._mean(self._log_ndtr)

    def gradient(self, at: Floats) -> Floats:
        self._move(at)
        z, pull = self._z, self._pull
        slope = z - self._alpha * pull
        return np.array(
            [
                -self._stretch * self._mean(z * pull),
                -self._mean(slope) / self._omega,
                1.0 - self._mean(z * slope),
            ]
        )

    def hessian(self, at: Floats) -> Floats:
        self._move(at)
        z, pull, alpha, omega, stretch = self._z, self._pull, self._alpha, self._omega, self._stretch
        bend = -pull * (alpha * z + pull)  # the derivative of φ/Φ
        slope, curve = z - alpha * pull, 1.0 - alpha * alpha * bend
        by_shape = -pull - alpha * z * bend  # of the slope
        shape_shape = stretch * stretch * self._mean(-z * z * bend) + alpha * self._mean(-z * pull)
        shape_location = -stretch * self._mean(by_shape) / omega
        shape_scale = -stretch * self._mean(z * by_shape)
        location_location = self._mean(curve) / omega**2
        location_scale = self._mean(curve * z + slope) / omega
        scale_scale = self._mean(z * slope + z * z * curve)
        return np.array(
            [
                [shape_shape, shape_location, shape_scale],
                [shape_location, location_location, location_scale],
                [shape_scale, location_scale, scale_scale],
            ]
        )

    def _move(self, at: Floats) -> None:
        if self._at is not None and np.array_equal(at, self._at):
            return
        self._at = at.copy()
        # A step too far is refused for its value, and must have one.
        self._alpha, self._omega = _shape(at[0]), math.exp(min(max(float(at[2]), -300.0), 300.0))
        self._stretch = math.hypot(1.0, self._alpha) if abs(at[0]) < _STEEPEST else 0.0
        self._z = (self._sample - at[1]) / self._omega
        t = self._alpha * self._z
        self._log_ndtr = special.log_ndtr(t)
        # φ/Φ; the exponent is a difference of large numbers far on the left, where −t is as good.
        self._pull = np.where(t < -1e5, -t, np.exp(np.minimum(-t * t / 2.0 - self._log_ndtr - _HALF_LN_2PI, 700.0)))

    def _mean(self, values: Any) -> float:
        return float(values.mean() if self._shares is None else self._shares @ values)


def _shape(asinh: float) -> float:
    return math.sinh(min(max(float(asinh), -_STEEPEST), _STEEPEST))


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
    at_z = LN2 + stats.norm.logpdf(z) + special.log_ndtr(shape * z)
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

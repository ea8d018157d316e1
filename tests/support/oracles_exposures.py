"""Naive twins of the exposure estimators: counting, enumeration, bisection and thirty digits.

Slow and plain on purpose, and independent of hf_canary: nothing here imports it. Bits throughout; lower costs are
better memorised, higher exposures too.
"""

import math
from fractions import Fraction

import mpmath
import numpy as np

DIGITS = 30


def rank(cost, costs_of_space):
    """Definition 2: how many candidates of R, all of them given, are at least as likely."""
    return sum(1 for other in costs_of_space if other <= cost)


def exposure(rank, space_size):
    """Definition 4: log2|R| − log2 rank, by thirty digits; `rank` may be a fraction."""
    with mpmath.workdps(DIGITS):
        numerator, denominator = Fraction(rank).as_integer_ratio()
        return float(mpmath.log(mpmath.mpf(space_size) * denominator / numerator, 2))


def hypergeometric_pmf(hits, size, marked, n):
    """P[hits of the n drawn without replacement are marked], when `marked` of `size` are; a Fraction."""
    if hits > marked or n - hits > size - marked:
        return Fraction(0)
    return Fraction(math.comb(marked, hits) * math.comb(size - marked, n - hits), math.comb(size, n))


def hypergeometric_pmfs(size, marked, n):
    """(n + 1,) float64: that probability for each number of hits, from the quotients of neighbours."""
    fewest, most = max(0, n - (size - marked)), min(n, marked)
    k = np.arange(fewest, most, dtype=float)
    logs = np.log(marked - k) + np.log(n - k) - np.log(k + 1) - np.log(size - marked - n + k + 1)
    weights = np.concatenate([[0.0], np.cumsum(logs)])
    weights = np.exp(weights - weights.max())
    pmfs = np.zeros(n + 1)
    pmfs[fewest : most + 1] = weights / weights.sum()
    return pmfs


def hypergeometric_interval(hits, n, size, alpha):
    """The counts of marked ones under which neither tail from `hits` on is α/2 or less: every count is tried."""
    half = Fraction(alpha) / 2
    kept = [
        marked
        for marked in range(hits, size - n + hits + 1)
        if sum(hypergeometric_pmf(k, size, marked, n) for k in range(hits, n + 1)) > half
        and sum(hypergeometric_pmf(k, size, marked, n) for k in range(hits + 1)) > half
    ]
    return min(kept), max(kept)


def clopper_pearson(hits, n, alpha):
    """The shares p at which P[X ≥ hits] and P[X ≤ hits], X ~ Bin(n, p), are α/2: by bisection; 0 and 1 at the ends."""

    def tail(p, ks):
        return mpmath.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in ks)

    def crossing(rises, ks):
        low, high = mpmath.mpf(0), mpmath.mpf(1)
        for _ in range(70):
            middle = (low + high) / 2
            if (tail(middle, ks) < alpha / 2) == rises:
                low = middle
            else:
                high = middle
        return float(low)

    with mpmath.workdps(30):
        lower = crossing(True, range(hits, n + 1)) if hits else 0.0
        upper = crossing(False, range(hits + 1)) if hits < n else 1.0
    return lower, upper


def skew_normal_tail_bits(z, shape):
    """−log2 ∫_{−∞}^{z} 2φ(t)Φ(shape·t) dt by quadrature at thirty digits, sure to 1e-6 bits by its own estimate."""
    with mpmath.workdps(DIGITS):
        z, shape = mpmath.mpf(z), mpmath.mpf(shape)

        def density(t):
            return mpmath.npdf(t) * mpmath.erfc(-shape * t / mpmath.sqrt(2))

        # Cut where the integrand may bend: about 0, where Φ steps, and below z, in steps from fine to coarse.
        steepness = 1 + abs(z) * (1 + (shape**2 if shape > 0 and z < 0 else 0))
        cuts = {z - mpmath.mpf(2) ** k / steepness for k in range(-2, 10)}
        cuts |= {sign * 3 * 4**k / (1 + abs(shape)) for k in range(2) for sign in (-1, 0, 1)}
        cuts |= {z - k for k in (1, 3, 6, 12)} if steepness < 8 else set()
        points = [*sorted(cut for cut in cuts if cut < z), z]
        # By the largest of the cuts: quadrature stops at an absolute error.
        height = max(density(point) for point in points)
        mass, error = mpmath.quad(lambda t: density(t) / height, points, error=True)
        # Below the lowest cut: Φ(shape·t) ≤ Φ(shape·lowest) if shape > 0, and ≤ 1.
        lowest = points[0]
        left_out = 2 * mpmath.ncdf(lowest) * (mpmath.ncdf(shape * lowest) if shape > 0 else 1) / height
        if error + left_out > 5e-7 * mass:
            raise ArithmeticError(f"the oracle is not sure at z={z}, shape={shape}")
        return float(-mpmath.log(mass * height, 2))


def skew_normal_log_likelihood(values, shape, location, scale):
    """Σ ln ρ(value), ρ the skew-normal density written out: 2/ω φ(z) Φ(αz), Φ through erfc in float64."""
    total = 0.0
    for value in np.asarray(values, dtype=float).tolist():
        z = (value - location) / scale
        cdf = 0.5 * math.erfc(-shape * z / math.sqrt(2.0))
        log_cdf = math.log(cdf) if cdf > 1e-300 else float(mpmath.log(mpmath.ncdf(shape * z)))
        total += math.log(2.0 / scale) - 0.5 * z * z - 0.5 * math.log(2.0 * math.pi) + log_cdf
    return total


def skew_normal_draws(shape, location, scale, n, generator):
    """Draws by Azzalini's construction: δ|X| + √(1−δ²)·Y with X, Y standard normal and δ = α/√(1+α²)."""
    delta = shape / math.sqrt(1.0 + shape * shape)
    x, y = generator.standard_normal((2, n))
    return location + scale * (delta * np.abs(x) + math.sqrt(1.0 - delta * delta) * y)


def skew_normal_standard_error(values, shape, location, scale, cost):
    """Of the tail bits at `cost` by the delta method: every derivative a difference quotient, in (α, ξ, ω).

    The information is the sum of the outer products of the scores of the single values.
    """
    at = np.array([shape, location, scale])
    steps = 1e-4 * np.diag([1.0, scale, scale])

    def slopes(function):
        return np.array([(function(*(at + step)) - function(*(at - step))) / (2 * step.max()) for step in steps])

    scores = np.array([slopes(lambda *law, one=one: skew_normal_log_likelihood([one], *law)) for one in values])
    gradient = slopes(lambda a, xi, omega: skew_normal_tail_bits((cost - xi) / omega, a))
    return math.sqrt(gradient @ np.linalg.solve(scores.T @ scores, gradient))


def three(estimate):
    return estimate.value, estimate.low, estimate.high


def is_nothing(estimate):
    return all(map(math.isnan, three(estimate)))

"""Exposures against definitions counted out, closed forms, enumeration and thirty digits; see oracles_exposures.py."""

import dataclasses
import itertools
import math
from functools import cache

import mpmath
import numpy as np
import pytest
from scipy import stats

from hf_canary.errors import ArgumentError, DataError
from hf_canary.estimators.exposures import (
    BEYOND_SPACE,
    CENSORED,
    CONDITIONAL,
    IMPOSSIBLE,
    NOT_FINITE,
    NOT_FITTED,
    POOR_FIT,
    TIES,
    Estimate,
    enough,
    exact,
    exposure_of_rank,
    hypergeometric_interval,
    prefer,
    sampled,
    skewnorm,
)
from hf_canary.estimators.skew_normal import SkewNormal, misfit_p
from tests.support import oracles_exposures as oracle
from tests.support.oracles_exposures import is_nothing, three

HUGE = 10**400  # far beyond float64
BEST = -1.0  # a cost below all others; where it alone is `known`, the canary counts only itself


# ---------------------------------------------------------------------------------------------- exposure_of_rank


@pytest.mark.parametrize("space_size", [1, 2, 3, 10**4, 10**9, 2**64 - 1, HUGE])
def test_exposure_of_rank_ends(space_size):
    """The likeliest candidate has log2|R|, the least likely has 0."""
    assert exposure_of_rank(1, space_size) == pytest.approx(oracle.exposure(1, space_size), rel=1e-15)
    assert exposure_of_rank(space_size, space_size) == 0.0


def test_exposure_of_rank_falls_with_rank():
    """A worse rank is a lower exposure, strictly."""
    exposures = [exposure_of_rank(rank, 1000) for rank in range(1, 1001)]
    assert all(better > worse for better, worse in itertools.pairwise(exposures))
    assert exposure_of_rank(10**399, HUGE) > exposure_of_rank(2 * 10**399, HUGE)


@pytest.mark.parametrize("doublings", [0, 1, 7, 500])
def test_one_bit_halves_the_rank(doublings):
    """Rank 2^j of 2^m is m − j bits, exactly."""
    assert exposure_of_rank(2**doublings, 2**1000) == 1000.0 - doublings


# ---------------------------------------------------------------------------------------------- sampled: exact


def test_all_of_r_may_be_canaries():
    """Where R has nothing but canaries no reference is needed, and order in is order out."""
    estimates = sampled([3.0, 1.0, 2.0, 2.0], [], 4)
    assert [e.value for e in estimates] == pytest.approx([oracle.exposure(rank, 4) for rank in (4, 1, 3, 3)])


def test_known_defaults_to_the_canaries():
    """Without `known` the measured canaries alone were taken out of the draw."""
    canaries, references = [4.0, 2.5, 9.0], [1.0, 3.0, 5.0, 7.0, 9.5]
    assert sampled(canaries, references, 100) == sampled(canaries, references, 100, known=canaries)
    assert sampled(canaries, references, 100) != sampled(canaries, references, 100, known=[*canaries, 2.0])


def test_no_canaries_no_estimates():
    """Nothing in, nothing out."""
    assert sampled([], [1.0, 2.0], 10) == []


# ---------------------------------------------------------------------------------------------- sampled: the point


@pytest.mark.parametrize(("space_size", "n"), [(10**6, 1000), (10**9, 400), (HUGE, 200)])
def test_known_candidates_are_counted_exactly(space_size, n):
    """The rank is #{known ≤ c} + (|R| − |K|)·(k + ½)/(n + ½), by thirty digits, ties among the known counted."""
    known = [1.0, 5.0, 5.0, 5.0, 8.0, 2000.0, 2000.0]
    references = np.arange(n) + 6.5
    for cost, at_or_below, hits in [(8.0, 5, 2), (2000.0, 7, n), (7.0, 4, 1)]:
        with mpmath.workdps(450):
            share = (mpmath.mpf(hits) + 0.5) / (n + 0.5)
            truth = float(-mpmath.log((at_or_below + (space_size - 7) * share) / space_size, 2))
        (estimate,) = sampled([cost], references, space_size, known=known)
        assert estimate.value == pytest.approx(truth, abs=1e-12)
        assert estimate.flags == ((TIES,) if known.count(cost) > 1 else ())


@pytest.mark.parametrize("space_size", [10**3, 10**6, 10**30, 10**301, 10**307, 10**320, 10**323, HUGE])
def test_upper_end_without_a_hit_is_the_known_rank(space_size):
    """Without a hit the rank may be as good as the known candidates leave it, and no better, at any |R|; a known one
    that ties may be behind.
    """
    estimates = sampled([5.0, 2.0, 1.0], [7.0, 8.0, 9.0], space_size, known=[1.0, 2.0, 5.0, 5.0])
    truth = [oracle.exposure(rank, space_size) for rank in (3, 2, 1)]
    assert [e.high for e in estimates] == pytest.approx(truth, rel=1e-14)
    assert max(e.high for e in estimates) <= math.log2(space_size)


def test_censored_value_is_one_part_in_n_plus_one():
    """Without a hit the value is what a rank of #known + rest/(n + 1) has: about log2(n + 1) in a large space."""
    (large,) = sampled([BEST], np.arange(1000.0), 10**15)
    assert large.value == pytest.approx(math.log2(1001), abs=1e-9)
    (small,) = sampled([BEST], np.arange(9.0), 101)
    assert small.value == pytest.approx(oracle.exposure(1 + 10, 101), abs=1e-12)
    assert large.flags == small.flags == (CENSORED,)


def test_known_fills_count_in_what_is_printed_without_a_hit():
    """|R| = 10^5, n = 10^4, 24 known: 13.15 bits for the likeliest and 12.80 for the fourth, as the docs say."""
    known = np.arange(24.0)
    values = [estimate.value for estimate in sampled(known, np.full(10_000, 99.0), 10**5, known=known)]
    for place in (1, 4):
        truth = math.log2(10**5) - math.log2(place + (10**5 - 24) / 10_001)
        assert values[place - 1] == pytest.approx(truth, abs=1e-9)
    assert [round(values[0], 2), round(values[3], 2)] == [13.15, 12.80]


def test_ten_thousand_references_without_a_hit():
    """They prove 11.40 bits two-sided at 95 %: −log2(1 − 0.025^(1/10,000)), the closed form of Clopper-Pearson."""
    (estimate,) = sampled([BEST], np.arange(10_000.0), 10**30)
    assert estimate.low == pytest.approx(-math.log2(-math.expm1(math.log(0.025) / 10_000)), abs=1e-9)
    assert estimate.low >= 11.40
    assert estimate.value == pytest.approx(math.log2(10_001), abs=1e-9)


@pytest.mark.parametrize(("size", "marked", "n"), [(12, 4, 3), (12, 1, 5), (10, 9, 4), (9, 0, 2)])
def test_rank_from_hits_is_unbiased(size, marked, n):
    """Over every possible draw of references the rank #known + rest·k/n, k read off the value, averages to the rank."""
    costs = np.arange(size, dtype=float)
    canary = marked - 0.5
    ranks = []
    for references in itertools.combinations(costs, n):
        (estimate,) = sampled([canary], references, size + 1)
        share = ((size + 1) * 2.0**-estimate.value - 1) / size
        hits = 0 if CENSORED in estimate.flags else share * (n + 0.5) - 0.5
        if CENSORED not in estimate.flags and estimate.low < estimate.value < estimate.high:
            assert hits == pytest.approx(round(hits), abs=1e-9)
        ranks.append(1 + size * sum(reference <= canary for reference in references) / n)
    assert np.mean(ranks) == pytest.approx(marked + 1)


@pytest.mark.parametrize(("space_size", "n", "rank"), [(10**4, 400, 501), (10**6, 1000, 20_001), (10**9, 400, 10**8)])
def test_exposure_is_nearly_unbiased(space_size, n, rank):
    """With 20 hits or more to be expected the mean exposure over all draws, summed exactly, is right to 0.01 bits."""
    values = np.array([e.value for e in by_hits(space_size, n)])
    mean = float(oracle.hypergeometric_pmfs(space_size - 1, rank - 1, n) @ values)
    assert mean == pytest.approx(oracle.exposure(rank, space_size), abs=0.01)


# ---------------------------------------------------------------------------------------------- sampled: the interval


@cache
def by_hits(space_size, n, confidence=0.95):
    """The estimate for each number of hits 0…n among n references, for a canary that alone is known."""
    return sampled(np.arange(n + 1) - 0.5, np.arange(float(n)), space_size, known=[BEST], confidence=confidence)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(
    ("hits", "n"), [(0, 1), (1, 1), (0, 20), (1, 20), (3, 20), (19, 20), (20, 20), (7, 90), (45, 90)]
)
def test_interval_solves_the_binomial_tails(hits, n, confidence):
    """Where the space is large the interval is Clopper and Pearson's, each end where a binomial tail is α/2."""
    space_size = 10**12
    lower, upper = oracle.clopper_pearson(hits, n, 1 - confidence)
    estimate = by_hits(space_size, n, confidence)[hits]
    assert estimate.low == pytest.approx(-math.log2(1 / space_size + (1 - 1 / space_size) * upper), abs=1e-8)
    assert estimate.high == pytest.approx(-math.log2(1 / space_size + (1 - 1 / space_size) * lower), abs=1e-8)


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.3137])
def test_hypergeometric_interval_tries_every_count(alpha):
    """For every small population, draw and number of hits: the counts that neither tail refutes."""
    for size in range(1, 11):
        for n in range(1, size + 1):
            for hits in range(n + 1):
                expected = oracle.hypergeometric_interval(hits, n, size, alpha)
                assert hypergeometric_interval(hits, n, size, alpha) == expected, (hits, n, size)


@pytest.mark.parametrize(
    ("n", "hypergeometric"), [(5, False), (6, False), (7, True), (12, True), (40, True), (59, True)]
)
def test_which_interval(n, hypergeometric):
    """Up to a tenth of the rest of R Clopper-Pearson, above it the hypergeometric interval, which is narrower."""
    rest = 60
    for hits, estimate in enumerate(by_hits(rest + 1, n)):
        if hypergeometric:
            fewest, most = oracle.hypergeometric_interval(hits, n, rest, 0.05)
        else:
            fewest, most = (rest * share for share in oracle.clopper_pearson(hits, n, 0.05))
        low, high = (-math.log2((1 + marked) / (rest + 1)) for marked in (most, fewest))
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-9)


def test_one_candidate_short_of_all():
    """With one candidate of R unseen the rank is known to one, and the interval says just that."""
    for hits, estimate in enumerate(by_hits(21, 19)[:-1]):
        ends = oracle.exposure(hits + 2, 21), oracle.exposure(hits + 1, 21)
        assert (estimate.low, estimate.high) == pytest.approx(ends, abs=1e-9)


def test_the_value_is_never_outside_its_interval():
    """Also where hypergeometric ends are so close that they leave out what the share of hits suggests."""
    for space_size, n, confidence in [(51, 49, 0.95), (41, 39, 0.5), (41, 30, 0.2), (12, 7, 0.1)]:
        for estimate in by_hits(space_size, n, confidence):
            assert estimate.low <= estimate.value <= estimate.high
    closest = by_hits(51, 49)[0]
    assert three(closest) == (oracle.exposure(1, 51),) * 3
    assert closest.flags == (CENSORED,)


@pytest.mark.parametrize(("size", "n"), [(1, 1), (7, 3), (12, 12), (60, 25)])
def test_the_oracle_knows_the_hypergeometric_law(size, n):
    """The quotients of neighbours give the probabilities that binomial coefficients give."""
    for marked in range(size + 1):
        counted = [float(oracle.hypergeometric_pmf(hits, size, marked, n)) for hits in range(n + 1)]
        np.testing.assert_allclose(oracle.hypergeometric_pmfs(size, marked, n), counted, rtol=1e-11)


GRID = [(11, 1), (20, 10), (100, 5), (100, 12), (100, 60), (1000, 90), (1000, 300), (10**6, 300), (10**9, 1000)]


@pytest.mark.parametrize(("space_size", "n"), GRID)
def test_coverage_summed_exactly(space_size, n):
    """At any rank the 95 % interval holds the true exposure with probability 0.95 or more: a sum, not a simulation."""
    low, high = (np.array([getattr(e, end) for e in by_hits(space_size, n)]) for end in ("low", "high"))
    ranks = range(1, space_size + 1) if space_size <= 1000 else np.geomspace(1, space_size, 400).astype(int).tolist()
    for rank in ranks:
        truth = exposure_of_rank(rank, space_size)
        holds = (low - 1e-9 <= truth) & (truth <= high + 1e-9)
        assert float(oracle.hypergeometric_pmfs(space_size - 1, rank - 1, n) @ holds) >= 0.95, f"rank {rank}"


def test_coverage_is_not_bought_with_width():
    """At a rank of the grid the coverage is below 0.97: the interval is not wider than it need be."""
    space_size, n, rank = 10**9, 1000, 3 * 10**8
    truth = exposure_of_rank(rank, space_size)
    holds = np.array([e.low <= truth <= e.high for e in by_hits(space_size, n)])
    assert float(oracle.hypergeometric_pmfs(space_size - 1, rank - 1, n) @ holds) < 0.97


def test_more_confidence_is_a_wider_interval():
    """Intervals of growing confidence lie in one another."""
    for hits in (0, 1, 10, 20):
        narrow, middle, wide = (by_hits(10**6, 20, confidence)[hits] for confidence in (0.5, 0.95, 0.999))
        assert wide.low < middle.low < narrow.low or hits == 20
        assert wide.high > middle.high > narrow.high or hits == 0
        assert narrow.value == middle.value == wide.value


# ---------------------------------------------------------------------------------------------- sampled: laws


def test_null_law():
    """A canary never seen has a uniform rank: mean exposure log2|R| − log2(|R|!)/|R|, 1.44 bits; P(≥ e) = 2^−e."""
    size = 1024
    exposures = np.array([e.value for e in sampled(np.arange(float(size)), [], size)])
    assert exposures.mean() == pytest.approx(math.log2(size) - math.lgamma(size + 1) / math.log(2) / size, abs=1e-9)
    assert exposures.mean() == pytest.approx(1 / math.log(2), abs=0.01)
    for bits in range(11):
        assert np.mean(exposures >= bits - 1e-9) == 2.0**-bits


@pytest.mark.parametrize("estimator", [sampled, skewnorm])
def test_nan_canary_harms_nobody_else(estimator):
    """A canary whose cost is no number gets NaN and a flag; the others' estimates are as if it were unlikely."""
    references = np.random.default_rng(0).normal(50, 5, 300)
    with_nan = estimator([30.0, math.nan, 55.0], references, 10**6)
    without = estimator([30.0, math.inf, 55.0], references, 10**6)
    assert [with_nan[0], with_nan[2]] == [without[0], without[2]]
    assert is_nothing(with_nan[1])
    assert with_nan[1].flags == (NOT_FINITE,)


def test_nan_among_the_known_is_counted_as_a_member_of_r():
    """A known candidate without a number is at or below nobody, and was still taken out of the draw."""
    assert sampled([3.0], [1.0, 4.0], 5, known=[3.0, math.nan, 9.0]) == sampled([3.0], [1.0, 4.0], 5, known=[3.0, 8, 9])


def test_infinite_costs_are_legal():
    """An infinite cost is a cost: unlikelier than every finite one, tied with another infinite one."""
    costs = [math.inf, 1.0, 2.0, math.inf, 3.0]
    estimates = sampled(costs[:2], costs[2:], 5)
    assert [e.value for e in estimates] == [0.0, pytest.approx(math.log2(5))]
    finite, infinite = sampled([2.5, math.inf], [1.0, 2.0, math.inf, math.inf], 10**6)
    assert finite.value == sampled([2.5, 9.0], [1.0, 2.0, 3.0, 4.0], 10**6)[0].value
    assert three(infinite) == (0.0, 0.0, 0.0)
    assert infinite.flags == (IMPOSSIBLE,)


def test_known_without_the_canary_still_counts_it():
    """A canary counts itself even where rounding has made its own entry among the known a little larger."""
    assert sampled([1.0], [2.0, 3.0], 3, known=[1.0 + 1e-12]) == sampled([1.0], [2.0, 3.0], 3, known=[1.0])


@pytest.mark.parametrize("estimator", [sampled, skewnorm])
@pytest.mark.parametrize(
    ("canaries", "references", "argument"),
    [
        ([1.0], [2.0, math.nan], "references"),
        ([1.0], [[2.0, 3.0]], "references"),
        ([[1.0]], [2.0, 3.0], "log_perplexities"),
        (np.ones((2, 2)), [2.0, 3.0], "log_perplexities"),
        (1.0, [2.0, 3.0], "log_perplexities"),
        ("abc", [2.0, 3.0], "log_perplexities"),
        (["unlikely"], [2.0, 3.0], "log_perplexities"),
        ([1.0], ["unlikely"], "references"),
        ([1.0], None, "references"),
        ([[1.0], [1.0, 2.0]], [2.0, 3.0], "log_perplexities"),
    ],
)
def test_what_is_no_list_of_numbers_is_refused(estimator, canaries, references, argument):
    """NaN references, more axes than one, and what is no number raise a DataError that names the argument."""
    with pytest.raises(DataError) as caught:
        estimator(canaries, references, 100)
    assert caught.value.argument == argument


def test_nan_reference_is_named():
    """The error says where the first NaN is."""
    with pytest.raises(DataError, match="NaN at 2"):
        sampled([1.0], [1.0, 2.0, math.nan, math.nan], 100)


@pytest.mark.parametrize(
    ("references", "known"), [([], None), ([1.0] * 10, None), ([1.0] * 8, [1.0, 2.0, 3.0]), ([1.0], [[1.0]])]
)
def test_references_must_fit_into_r(references, known):
    """No references where there are candidates left, or more of them than are left, raise a DataError."""
    with pytest.raises(DataError):
        sampled([1.0], references, 10, known=known)
    assert len(sampled([1.0], [1.0] * 9, 10)) == 1
    assert len(sampled([1.0], [1.0] * 7, 10, known=[1.0, 2.0, 3.0])) == 1


def test_estimates_are_frozen():
    """An estimate is a value."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Estimate(1.0, 0.0, 2.0).value = 3.0


# ---------------------------------------------------------------------------------------------- the skew-normal law


@pytest.mark.parametrize(("shape", "z"), [(0.0, -3.0), (0.0, 2.0), (1.0, -20.0), (-1.0, -1.5), (-1.0, 0.5)])
def test_the_oracle_knows_the_closed_forms(shape, z):
    """The quadrature of the oracle gives Φ(z) for shape 0, Φ(z)² for 1 and 1 − (1 − Φ(z))² for −1."""
    phi = mpmath.ncdf(z)
    mass = {0.0: phi, 1.0: phi**2, -1.0: phi * (2 - phi)}[shape]
    assert oracle.skew_normal_tail_bits(z, shape) == pytest.approx(float(-mpmath.log(mass, 2)), abs=1e-6)


@pytest.mark.parametrize("shape", [0.0, 1.0, -1.0])
def test_tail_bits_closed_forms(shape):
    """Φ(z), Φ(z)² and Φ(z)(2 − Φ(z)) for shapes 0, 1 and −1, to 1e-6 bits, from z = −60 (2,600 or 5,200 bits) on."""
    z = np.concatenate([np.linspace(-60, -3, 115), np.linspace(-3, 6, 181)])
    with mpmath.workdps(30):
        phi = [mpmath.ncdf(each) for each in z.tolist()]
        power = {0.0: lambda p: p, 1.0: lambda p: p * p, -1.0: lambda p: p * (2 - p)}[shape]
        truth = np.array([float(-mpmath.log(power(p), 2)) for p in phi])
    np.testing.assert_allclose(SkewNormal(shape, 0.0, 1.0).tail_bits(z), truth, atol=1e-6)


@pytest.mark.parametrize("shape", [0.0, 0.5, 3.0, 30.0, 1e3, 1e5, 1e9, -0.5, -3.0, -30.0, -1e3, -1e5, -1e9])
def test_tail_bits_are_finite_and_fall(shape):
    """From z = −60 to 10 the bits are finite, never negative, and never rise with the log-perplexity."""
    z = np.unique(np.concatenate([np.linspace(-60, 10, 3001), np.linspace(-10, 10, 801) / max(1.0, abs(shape))]))
    bits = SkewNormal(shape, 0.0, 1.0).tail_bits(z)
    assert np.isfinite(bits).all()
    assert bits.min() >= 0.0
    assert np.all(np.diff(bits) <= 1e-9 * (1 + bits[1:]))


@pytest.mark.parametrize("shape", [-5.0, -0.5, 0.0, 2.0, 5.0])
def test_near_the_centre_scipy_agrees(shape):
    """Where probabilities are large, −log2 of scipy's cumulative probability; location and scale as scipy's."""
    law = SkewNormal(shape, 80.0, 7.0)
    x = law.location + law.scale * np.linspace(-1.5, 3, 46)
    np.testing.assert_allclose(law.tail_bits(x), -stats.skewnorm.logcdf(x, shape, 80.0, 7.0) / math.log(2), atol=1e-6)


def test_density_is_the_slope_of_the_tail():
    """ρ(c), written out, is the derivative of 2^−tail_bits(c)."""
    law = SkewNormal(2.5, 60.0, 4.0)
    x, step = np.linspace(55, 75, 41), 1e-4
    slope = (2.0 ** -law.tail_bits(x + step) - 2.0 ** -law.tail_bits(x - step)) / (2 * step)
    np.testing.assert_allclose(law.density(x), slope, atol=1e-8)
    written = [math.exp(oracle.skew_normal_log_likelihood([each], 2.5, 60.0, 4.0)) for each in x]
    np.testing.assert_allclose(law.density(x), written, rtol=1e-10)


# ---------------------------------------------------------------------------------------------- the fit


@pytest.mark.parametrize("shape", [3.0, -3.0])
def test_skewnorm_follows_scale_and_place(shape):
    """a·x + b on canaries and references leaves value and interval as they are: exposure has no unit of cost."""
    references = oracle.skew_normal_draws(shape, 50.0, 10.0, 800, np.random.default_rng(3))
    canaries = np.array([30.0, 45.0, 60.0])
    expected = np.array([three(e) for e in skewnorm(canaries, references, 10**9)])
    for a, b in [(0.01, 0.0), (7.5, -300.0), (1e4, 1e6)]:
        moved = np.array([three(e) for e in skewnorm(a * canaries + b, a * references + b, 10**9)])
        np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=1e-3)


def test_skewnorm_interval_is_that_of_a_normal_error():
    """The half-widths at two confidences stand as the normal quantiles do, about the value."""
    references = np.random.default_rng(5).normal(60, 6, 500)
    (usual,), (wide,) = (skewnorm([40.0], references, 10**9, confidence=c) for c in (0.95, 0.99))
    assert (wide.high - wide.value) / (usual.high - usual.value) == pytest.approx(2.5758 / 1.95996, rel=1e-4)
    assert usual.high - usual.value == pytest.approx(usual.value - usual.low)


def test_skewnorm_extrapolates_and_flags():
    """Past log2|R| the value stands and is flagged; every interval is flagged as conditional on the law."""
    references = np.random.default_rng(5).normal(60, 6, 500)
    near, far = skewnorm([55.0, 10.0], references, 1000)
    assert near.flags == (CONDITIONAL,)
    assert far.flags == (CONDITIONAL, BEYOND_SPACE)
    assert far.value > math.log2(1000)
    assert skewnorm([10.0], references, HUGE)[0].flags == (CONDITIONAL,)
    assert far.value == pytest.approx(SkewNormal.fit(references).tail_bits([10.0])[0])
    for space_size, past in [(math.floor(2.0**near.value), True), (math.ceil(2.0**near.value), False)]:
        assert (BEYOND_SPACE in skewnorm([55.0], references, space_size)[0].flags) == past


def test_skewnorm_of_the_unlikeliest():
    """A cost far above all references has exposure 0, and none goes below; an infinite one has exactly 0."""
    references = np.random.default_rng(5).normal(60, 6, 500)
    high, infinite, minus = skewnorm([90.0, math.inf, -math.inf], references, 1000)
    assert high.low == 0.0
    assert 0.0 <= high.value < 1e-4
    assert three(infinite) == (0.0, 0.0, 0.0)
    assert is_nothing(minus)
    assert minus.flags == (NOT_FINITE,)


@pytest.mark.parametrize(
    ("references", "reason"),
    [
        ([7.0] * 100, "1 distinct value"),
        ([0.0] * 100, "1 distinct value"),
        ([7.0, 8.0] * 50, "2 distinct values"),
        (list(range(49)), "49 references"),
        ([], "0 references"),
        ([*range(99), math.inf], "infinite"),
        (np.tile([1.0, 1.0 + 1e-15, 1.0 + 1e-14], 40), "next to nothing"),
        (np.linspace(-1e200, 1e200, 60), "too far apart"),
    ],
)
def test_what_is_not_fitted(references, reason):
    """References that no skew-normal describes give NaN and say why; the fit itself raises the same."""
    for estimate in skewnorm([3.0, math.nan], references, 1000):
        assert is_nothing(estimate)
        (flag,) = estimate.flags
        assert flag.startswith(f"{NOT_FITTED}: ")
        assert reason in flag
    with pytest.raises(DataError, match=reason):
        SkewNormal.fit(references)


def test_fifty_references_and_three_values_are_enough():
    """The refusals go no further than they say."""
    assert skewnorm([-10.0], list(range(50)), 1000)[0].value > 0
    assert skewnorm([-10.0], [1.0, 2.0, 3.0] * 20, 1000)[0].value > 0


@pytest.mark.parametrize("estimator", [sampled, skewnorm])
@pytest.mark.parametrize("space_size", [1e6, 0, -5, "many", True, None])
def test_a_space_is_a_whole_number_of_candidates(estimator, space_size):
    """A float is refused by name, and so is a space without candidates."""
    with pytest.raises(ArgumentError, match="space_size"):
        estimator([1.0], np.linspace(2.0, 3.0, 60), space_size)


@pytest.mark.parametrize("estimator", [sampled, skewnorm])
@pytest.mark.parametrize("confidence", [95, 0.0, 1.0, -1.0, float("nan")])
def test_a_confidence_is_a_share(estimator, confidence):
    """95 is a slip for 0.95, and said to be one."""
    with pytest.raises(ArgumentError, match="confidence"):
        estimator([1.0], np.linspace(2.0, 3.0, 60), 10**6, confidence=confidence)


# ---------------------------------------------------------------------------------------------- how well it fits


def test_the_table_is_continuous_and_falls():
    """From 1 at no misfit on, through the table's entries and beyond its ends, for any shape between."""
    for shape in [0.0, -0.7, 4.0, 50.0, 1e6]:
        values = [misfit_p(distance, shape) for distance in np.linspace(0.0, 6.0, 400)]
        assert values[0] == 1.0
        assert all(0.0 < after <= before for before, after in itertools.pairwise(values))
        assert max(before - after for before, after in itertools.pairwise(values)) < 0.1
    assert misfit_p(0.8, 0.0) == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize("bootstrap", [0, 120])
def test_what_does_not_fit_is_flagged(bootstrap):
    """Two heaps are no skew-normal, and the estimate says so; one heap is."""
    generator = np.random.default_rng(0)
    heaps = np.concatenate([generator.normal(40, 1, 300), generator.normal(60, 1, 300)])
    for references, fits in ((heaps, False), (generator.normal(40, 3, 600), True)):
        (estimate,) = skewnorm([30.0], references, 10**9, bootstrap=bootstrap)
        assert (POOR_FIT in estimate.flags) is not fits
        assert (estimate.details["fit_p"] > 0.02) is fits
        assert estimate.status == "extrapolated"


def test_draws_of_a_law_follow_it():
    """20,000 draws against scipy's integral of the same law."""
    law = SkewNormal(-4.0, 10.0, 3.0)
    sample = law.draws(20_000, np.random.default_rng(0))
    assert stats.kstest(sample, "skewnorm", args=(-4.0, 10.0, 3.0)).pvalue > 1e-3


# ---------------------------------------------------------------------------------------------- exact, and which


def test_exact_wants_all_of_r():
    """One candidate short is refused, with the number that is missing."""
    assert exact([2.0], [1.0, 3.0], 3)[0].value == pytest.approx(math.log2(3 / 2))
    with pytest.raises(DataError, match="1 fewer"):
        exact([2.0], [1.0], 3)


@pytest.mark.parametrize(
    ("hits", "status"),
    [(0, "censored"), (1, "interval only"), (9, "interval only"), (10, "rough"), (29, "rough"), (30, "reliable")],
)
def test_what_hits_are_worth(hits, status):
    """By how many references are as likely: ten and thirty are the marks."""
    (estimate,) = sampled([0.5 + hits], np.arange(1.0, 1001.0), 10**9)
    assert estimate.details["hits"] == hits
    assert estimate.status == status
    assert enough(estimate) is (status == "reliable")


@pytest.mark.parametrize("bootstrap", [-1, 1, 98, 2.5, True])
def test_a_bootstrap_of_too_few_could_refuse_no_fit(bootstrap):
    """... and is refused itself."""
    with pytest.raises(ArgumentError, match="bootstrap"):
        skewnorm([1.0], np.linspace(2.0, 3.0, 60), 10**6, bootstrap=bootstrap)


def test_any_seed_will_do():
    """A negative one too."""
    references = np.random.default_rng(0).normal(40, 3, 200)
    one, other = (skewnorm([30.0], references, 10**6, bootstrap=99, seed=seed)[0] for seed in (-1, 1))
    assert one.low != other.low


def estimate_with(**details):
    return Estimate(5.0, details.pop("low", 4.0), 6.0, (), details.pop("status", ""), details)


@pytest.mark.parametrize(
    ("hits", "effective", "low", "chosen"),
    [
        (40, 200.0, 4.0, "sampled"),  # enough is enough
        (29, 35.0, 4.0, "importance"),
        (29, 12.0, 4.0, "sampled"),
        (5, 9.0, 4.0, "importance"),
        (5, 2.0, 4.0, "sampled"),
        (1, 40.0, 4.0, "importance"),
        (0, 1.0, 4.0, "importance"),
        (1, 0.0, 4.0, "sampled"),
        (10, 10.0, 4.0, "importance"),
        (0, 0.0, 4.5, "importance"),
        (0, 0.0, 3.5, "sampled"),
    ],
)
def test_the_choice_is_by_hits(hits, effective, low, chosen):
    """Whoever rests on more; without any, whose interval ends higher."""
    status = "reliable" if hits >= 30 else "rough" if hits >= 10 else "interval only" if hits else "censored"
    by_references = estimate_with(hits=hits, status=status)
    method, reason = prefer(by_references, estimate_with(effective_hits=effective, low=low))
    assert method == chosen
    assert f"{hits} reference" in reason

"""Exposures and fits on samples drawn at random, against ranks counted out, scipy's fits, and coverages."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from hf_canary.estimators.exposures import (
    CENSORED,
    IMPOSSIBLE,
    NOT_FITTED,
    TIES,
    exposure_of_rank,
    sampled,
    skewnorm,
)
from hf_canary.estimators.skew_normal import SkewNormal, misfit, misfit_p
from tests.support import oracles_exposures as oracle
from tests.support.oracles_exposures import is_nothing, three
from tests.support.repetitions import times

HUGE = 10**400  # far beyond float64


@given(st.data())
@settings(deadline=None, max_examples=times(100))
def test_exposure_of_rank_is_definition_4(data):
    """log2|R| − log2 rank to a few units in the last place of log2|R|, for ints of any size."""
    space_size = data.draw(st.one_of(st.integers(1, 10**6), st.integers(1, HUGE)))
    rank = data.draw(st.integers(1, space_size))
    error = exposure_of_rank(rank, space_size) - oracle.exposure(rank, space_size)
    assert abs(error) <= 4 * math.ulp(1.0 + math.log2(space_size))


def test_all_of_r_gives_definition_2():
    """With all of R scored the estimate is the rank counted out, ties against the canary; of width zero but for ties,
    for which the upper end is the rank without them.
    """
    for seed in range(times(300)):
        generator = np.random.default_rng(seed)
        size = int(generator.integers(1, 60))
        costs = generator.integers(0, generator.integers(1, 40), size).astype(float)  # few values, so that many tie
        canaries = int(generator.integers(1, size + 1))
        twins = int(generator.integers(0, size - canaries + 1))
        known = costs[: canaries + twins]
        estimates = sampled(costs[:canaries], generator.permutation(costs[canaries + twins :]), size, known=known)
        for cost, estimate in zip(costs[:canaries], estimates, strict=True):
            truth = oracle.exposure(oracle.rank(cost, costs), size)
            ties = int((costs == cost).sum()) - 1
            without = oracle.exposure(oracle.rank(cost, costs) - ties, size)
            assert three(estimate) == pytest.approx((truth, truth, without), abs=1e-12), seed
            assert estimate.low == estimate.value, seed
            assert estimate.flags == ((TIES,) if ties else ()), seed
            assert estimate.details["ties"] == ties, seed


# |R| from tiny to far beyond float64, and close to where float64 ends and where it loses digits.
SIZES = st.one_of(
    st.integers(2, 200),
    st.integers(2**52, 2**66),
    st.integers(10**306, 10**309),
    st.integers(10**319, 10**325),
    st.integers(200, HUGE),
)


@given(st.data())
@settings(deadline=None, max_examples=times(300))
def test_always_ordered_and_within_the_space(data):
    """0 ≤ low ≤ value ≤ high ≤ log2|R|, at any |R|; `censored` exactly where no reference is at or below."""
    space_size = data.draw(SIZES)
    cost = st.integers(0, 12).map(float) | st.just(math.inf)
    canaries = data.draw(st.lists(cost, min_size=1, max_size=4))
    twins = data.draw(st.lists(cost, max_size=3))
    rest = space_size - len(canaries) - len(twins)
    assume(rest >= 1)
    references = data.draw(st.lists(cost, min_size=1, max_size=min(rest, 40)))
    confidence = data.draw(st.sampled_from([0.5, 0.95, 0.9999]))
    estimates = sampled(canaries, references, space_size, known=canaries + twins, confidence=confidence)
    for canary, estimate in zip(canaries, estimates, strict=True):
        assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= math.log2(space_size)
        missed = all(reference > canary for reference in references) and len(references) < rest
        tied = [*canaries, *twins, *references].count(canary) > 1
        if canary == math.inf:
            assert estimate.flags == (IMPOSSIBLE,)
        else:
            assert estimate.flags == (CENSORED,) * missed + (TIES,) * tied


COSTS = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=30)


@given(canaries=COSTS, references=COSTS, data=st.data())
@settings(deadline=None, max_examples=times(60))
def test_order_of_references_is_nothing_and_order_of_canaries_is_kept(canaries, references, data):
    """Shuffled references change nothing; shuffled canaries give shuffled estimates."""
    expected = sampled(canaries, references, 1000)
    assert sampled(canaries, data.draw(st.permutations(references)), 1000) == expected
    order = data.draw(st.permutations(range(len(canaries))))
    assert sampled([canaries[i] for i in order], references, 1000) == [expected[i] for i in order]


@given(
    canaries=COSTS,
    references=COSTS,
    factor=st.sampled_from([2.0**-10, 0.25, 1.0, 3.0, 2.0**30]),
    shift=st.integers(-1000, 1000),
)
@settings(deadline=None, max_examples=times(60))
def test_increasing_map_changes_nothing(canaries, references, factor, shift):
    """Only the order of the costs counts, so that a·cost + b gives the same estimates, if they are no ties then."""
    moved = ([factor * (cost + shift) for cost in group] for group in (canaries, references))
    assert sampled(*moved, 1000) == sampled(canaries, references, 1000)


@pytest.mark.parametrize("shape", [-4.0, 1.5, 4.0])
def test_fit_recovers_the_parameters(shape):
    """From 20,000 draws: the shape to a tenth of it, location and scale to a twentieth of the scale."""
    references = oracle.skew_normal_draws(shape, 90.0, 12.0, 20_000, np.random.default_rng(7))
    law = SkewNormal.fit(references)
    assert law.shape == pytest.approx(shape, rel=0.1)
    assert law.location == pytest.approx(90.0, abs=0.6)
    assert law.scale == pytest.approx(12.0, rel=0.05)


def assorted_samples():
    generator = np.random.default_rng(11)
    return {
        "normal": generator.normal(40, 3, 400),
        "shape 5": oracle.skew_normal_draws(5.0, 100.0, 20.0, 400, generator),
        "shape -5": oracle.skew_normal_draws(-5.0, 100.0, 20.0, 400, generator),
        "gamma, skew above 0.995": 30 + generator.gamma(2.0, 5.0, 400),
        "gamma reflected, skew below -0.995": 300 - generator.gamma(2.0, 5.0, 400),
        "exponential": 30 + generator.exponential(5.0, 400),
        "lognormal": np.exp(generator.normal(0, 0.8, 400)),
        "uniform": generator.uniform(10, 20, 400),
        "two heaps": np.concatenate([generator.normal(40, 1, 200), generator.normal(60, 1, 200)]),
        "coarse": np.round(generator.normal(40, 3, 400)),
    }


def test_the_assortment_has_extreme_skews_of_both_signs():
    """Beyond 0.995, where no skew-normal has the sample's skew and a fit from the moments alone gets stuck."""
    skews = [float(stats.skew(sample)) for sample in assorted_samples().values()]
    assert max(skews) > 0.995
    assert min(skews) < -0.995


@pytest.mark.parametrize("name", assorted_samples())
def test_fit_is_no_less_likely_than_scipys(name):
    """The likelihood of the fit is that of scipy's own fit or better, to a millionth."""
    sample = assorted_samples()[name]
    law = SkewNormal.fit(sample)
    ours = oracle.skew_normal_log_likelihood(sample, law.shape, law.location, law.scale)
    scipys = oracle.skew_normal_log_likelihood(sample, *map(float, stats.skewnorm.fit(sample)))
    assert ours >= scipys - 1e-6 * abs(scipys)


def likeliest_of_many_starts(sample):
    """The largest log-likelihood that scipy's simplex finds for ln 2/ω φ(z) Φ(αz), from shapes of both signs."""
    centre, spread = sample.mean(), sample.std()

    def cost(law):
        z = (sample - law[1]) / math.exp(law[2])
        logs = special.log_ndtr(math.sinh(law[0]) * z) - z * z / 2.0
        return -logs.sum() + sample.size * (law[2] + 0.5 * math.log(2.0 * math.pi) - math.log(2.0))

    found = []
    for steepness in (-4.0, -1.5, -0.5, 0.5, 1.5, 4.0):
        delta = math.tanh(steepness)  # α / √(1 + α²)
        scale = spread / math.sqrt(1.0 - 2.0 * delta**2 / math.pi)
        start = [steepness, centre - scale * delta * math.sqrt(2.0 / math.pi), math.log(scale)]
        found.append(-optimize.minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-5}).fun)
    return max(found)


def log_likelihood(law, sample):
    return stats.skewnorm.logpdf(sample, law.shape, law.location, law.scale).sum()


def test_heavy_tails_are_fitted_from_both_sides():
    """Of a sample whose skewness comes from a few values far out, the peak on the other side is 17.4 nats likelier."""
    sample = 50 + 5 * np.random.default_rng(7).standard_t(3, 10_000)
    law = SkewNormal.fit(sample)
    assert law.shape == pytest.approx(-0.79, abs=0.005)
    other = SkewNormal(0.677267, 45.705221, 9.550221)  # the peak on the side of the skewness
    assert log_likelihood(law, sample) - log_likelihood(other, sample) == pytest.approx(17.4, abs=0.05)
    assert log_likelihood(law, sample) >= likeliest_of_many_starts(sample) - 1e-3


def test_flat_samples_are_fitted_from_both_sides():
    """Of a sample without tails a half-normal is likelier than all that is close to a normal: 20 nats and more. Its
    likelihood is n ln(2/ω) − n/2 ln 2π − n/2, ω² the mean square from its end.
    """
    sample = 50 + 5 * np.random.default_rng(12).random(300)
    law = SkewNormal.fit(sample)
    omega = math.sqrt(((sample - sample.max()) ** 2).mean())
    closed = 300 * (math.log(2 / omega) - 0.5 * math.log(2 * math.pi) - 0.5)
    assert log_likelihood(law, sample) == pytest.approx(closed, abs=1e-3)
    assert closed > likeliest_of_many_starts(sample) - 1e-3
    assert closed > stats.norm.logpdf(sample, sample.mean(), sample.std()).sum() + 20
    assert law.tail_bits([sample.min() - 0.5])[0] == pytest.approx(
        -stats.halfnorm.logsf(sample.max() - sample.min() + 0.5, scale=omega) / math.log(2), abs=1e-3
    )


@pytest.mark.parametrize("seed", range(2))
def test_no_start_leads_to_a_likelier_law(seed):
    """Of samples with no tails, heavy ones, two heaps, values far out and none of it, of either sign: the likelihood is
    that of the best of many starts, to half a nat where it has many peaks, and beyond the half-normals'.
    """
    generator = np.random.default_rng(seed)
    n = 60 if seed % 2 else 250
    heaps = generator.normal(size=n) + generator.choice([0.0, 5.0], n)
    samples = {
        "uniform": generator.random(n),
        "t": generator.standard_t(2, n),
        "exponential": -generator.exponential(size=n),
        "gamma": generator.gamma(3.0, size=n),
        "heaps": heaps,
        "far out": np.concatenate([generator.exponential(size=n - 2), [-30.0, -29.0]]),
        "normal": generator.normal(size=n),
        "skew-normal": oracle.skew_normal_draws(-4.0, 0.0, 1.0, n, generator),
    }
    for name, sample in samples.items():
        ours = log_likelihood(SkewNormal.fit(sample), sample)
        many = name in ("uniform", "heaps")
        assert ours >= likeliest_of_many_starts(sample) - (0.5 if many else 1e-3), name
        for end in (sample.min(), sample.max()):
            omega = math.sqrt(((sample - end) ** 2).mean())
            assert ours >= n * (math.log(2 / omega) - 0.5 * math.log(2 * math.pi) - 0.5) - 1e-3, name


@pytest.mark.parametrize("shape", [3.0, -3.0])
def test_skewnorm_interval_coverage(shape):
    """At 12 bits, of 100 fits to 2,000 draws 85 intervals of 95 % or more hold the truth (99 and 94 here); seeded.

    The interval is as wide as the spread of the estimates says, to a factor of 1.5 either way.
    """
    truth = SkewNormal(shape, 50.0, 10.0)
    low, high = 50.0 - 200.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if truth.tail_bits(middle)[0] > 12.0 else (low, middle)
    generator = np.random.default_rng(17)
    draws = (oracle.skew_normal_draws(shape, 50.0, 10.0, 2000, generator) for _ in range(times(100)))
    estimates = [skewnorm([low], references, 10**9)[0] for references in draws]
    assert sum(e.low <= 12.0 <= e.high for e in estimates) >= times(85)
    claimed = np.median([(e.high - e.low) / (2 * 1.96) for e in estimates])
    assert claimed == pytest.approx(np.std([e.value for e in estimates]), rel=0.5)


def degenerate_samples(rounds):
    """15 ugly samples a round."""
    generator = np.random.default_rng(23)
    for number in range(rounds):
        n = int(generator.integers(3, 150))
        power = number % 20
        yield generator.exponential(size=n)
        yield -generator.exponential(size=n)
        yield np.abs(generator.normal(size=n))
        yield np.exp(3 * generator.normal(size=n))
        yield generator.standard_cauchy(n)
        yield generator.geometric(0.5, n).astype(float)
        yield generator.integers(0, power + 1, n).astype(float)
        yield np.append(np.zeros(n), 10.0**power)
        yield np.append(generator.normal(size=n), 10.0**power)
        yield 1e6 + 1e-3 * generator.integers(0, 3, n)
        yield 1e-300 * generator.random(n)
        yield 10.0 ** generator.integers(90, 300) * generator.random(n)
        yield 5e-324 * generator.integers(0, 5, n)
        yield np.append(generator.normal(size=n), math.inf)
        yield np.concatenate([generator.normal(size=n), 100 + generator.normal(size=n)])


def test_degenerate_references_give_numbers_or_a_reason():
    """Hundreds of ugly samples, or 10,000 with LAWS=34: every estimate is finite and ordered, or NaN and flagged; no
    error, no warning.
    """
    for number, references in enumerate(degenerate_samples(times(20))):
        finite = references[np.isfinite(references)]
        costs = [finite.min() - 0.3 * abs(finite.min()), np.median(finite), 2 * finite.max(), 0.0, -100.0, math.nan]
        *estimates, nothing = skewnorm(costs, references, 10**9)
        assert is_nothing(nothing)
        for estimate in estimates:
            if is_nothing(estimate):
                assert any(flag.startswith(NOT_FITTED) for flag in estimate.flags), number
            else:
                assert np.isfinite(three(estimate)).all(), (number, estimate)
                assert 0.0 <= estimate.low <= estimate.value <= estimate.high, (number, estimate)
                assert 0.0 <= estimate.details["fit_p"] <= 1.0, (number, estimate)
        *estimates, nothing = sampled(costs, references, 10**9)
        assert is_nothing(nothing)
        for estimate in estimates:
            assert np.isfinite(three(estimate)).all(), (number, estimate)
            assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= math.log2(10**9), (number, estimate)


@pytest.mark.parametrize("shape", [0.0, -2.0, 6.0])
def test_the_value_of_a_fit_is_uniform_where_the_law_is_true(shape):
    """400 samples of 500: P[fit_p ≤ p] = p, which a plain test after fitting is far from."""
    values, plain = [], []
    generator = np.random.default_rng(5)
    for _ in range(400):
        sample = oracle.skew_normal_draws(shape, 60.0, 8.0, 500, generator)
        law = SkewNormal.fit(sample)
        values.append(misfit_p(misfit(law, sample), law.shape))
        plain.append(stats.kstest(sample, "skewnorm", args=(law.shape, law.location, law.scale)).pvalue)
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert stats.kstest(plain, "uniform").pvalue < 1e-10


def test_bootstrap_coverage():
    """Of 25 samples of a true skew-normal the interval holds its tail in at least 20, of more as often."""
    shape, held, count = 2.5, 0, times(25)
    truth = oracle.skew_normal_tail_bits((30.0 - 50.0) / 10.0, shape)
    generator = np.random.default_rng(8)
    for number in range(count):
        references = oracle.skew_normal_draws(shape, 50.0, 10.0, 1000, generator)
        (estimate,) = skewnorm([30.0], references, 10**9, bootstrap=99, seed=number)
        held += estimate.low <= truth <= estimate.high
    assert held >= stats.binom.ppf(2e-3, count, 0.95)


@pytest.mark.parametrize("shape", [0.3, -2.0, 40.0])
def test_large_samples_are_fitted_as_well(shape):
    """Beyond 8,192 values the search runs over bins, and ends on the sample itself: the slope there is none."""
    references = oracle.skew_normal_draws(shape, 70.0, 4.0, 30_000, np.random.default_rng(4))
    law = SkewNormal.fit(references)
    at = np.array([law.shape, law.location, law.scale])

    def likelihood(change):
        return float(stats.skewnorm.logpdf(references, *(at * (1 + change))).sum())

    for axis in np.eye(3):
        assert likelihood(0 * axis) >= max(likelihood(1e-4 * axis), likelihood(-1e-4 * axis))


@pytest.mark.parametrize("far", [50.0, 1e3, 1e4, 1e6])
def test_a_large_sample_with_one_value_far_out(far):
    """Bins as wide as the sample is would hide it: fitted as well as by scipy all the same."""
    references = np.append(np.random.default_rng(0).normal(60.0, 4.0, 20_000), 60.0 + far)
    law = SkewNormal.fit(references)
    ours = stats.skewnorm.logpdf(references, law.shape, law.location, law.scale).sum()
    assert ours >= stats.skewnorm.logpdf(references, *stats.skewnorm.fit(references)).sum() - 1e-3


@pytest.mark.parametrize(("shape", "n"), [(0.0, 60), (2.0, 60), (-5.0, 300), (30.0, 50), (-30.0, 300)])
def test_small_samples_too_have_several_peaks(shape, n):
    """The likelihood of a small sample may have a peak at a shape without bound, and a higher or lower one before it:
    of 500 samples each the forty most skewed are fitted no worse than by scipy.
    """
    generator = np.random.default_rng(n)
    samples = [oracle.skew_normal_draws(shape, 0.0, 1.0, n, generator) for _ in range(times(500))]
    for sample in sorted(samples, key=lambda each: abs(stats.skew(each)))[-times(40) :]:
        law = SkewNormal.fit(sample)
        ours = stats.skewnorm.logpdf(sample, law.shape, law.location, law.scale).sum()
        assert ours >= stats.skewnorm.logpdf(sample, *stats.skewnorm.fit(sample)).sum() - 1e-3

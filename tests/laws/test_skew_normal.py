"""The skew-normal law and its fit: against thirty digits, scipy's fits, many starts, and a coverage that is known."""

import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from hf_canary.estimators.exposures import (
    skewnorm,
)
from hf_canary.estimators.skew_normal import SkewNormal, misfit, misfit_p
from tests.support import oracles_exposures as oracle
from tests.support.oracles_exposures import three
from tests.support.repetitions import times


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


def z_at_about(bits, shape):
    """Where the left tail weighs roughly so many bits: the exponent alone, z²/2 or (1 + α²)z²/2."""
    return -math.sqrt(2 * math.log(2) * bits / (1 + max(shape, 0.0) ** 2))


@pytest.mark.parametrize("shape", [-100.0, -3.0, 0.3, 3.0, 10.0, 1000.0])
def test_tail_bits_to_three_thousand_bits(shape):
    """Within 1e-3 bits (1e-12 when this was written) of a quadrature to thirty digits, from 1 to 3,000 bits."""
    z = [z_at_about(bits, shape) for bits in (1, 6, 25, 300, 3000)]
    truth = [oracle.skew_normal_tail_bits(each, shape) for each in z]
    assert max(truth) > 3000
    np.testing.assert_allclose(SkewNormal(shape, 0.0, 1.0).tail_bits(z), truth, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [-1000.0, -10.0, 10.0, 100.0, 1000.0, 1e5, 1e7])
def test_tail_bits_about_the_mode(shape):
    """As right about zero and about the mode as in the tail, however steep the law: likelihoods favour steep ones."""
    z = [step / abs(shape) for step in (-2, 0.5, 2, 3.7)] + ([0.7] if shape > 0 else [-0.7])
    truth = [oracle.skew_normal_tail_bits(each, shape) for each in z]
    np.testing.assert_allclose(SkewNormal(shape, 0.0, 1.0).tail_bits(z), truth, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("shape", "cost"), [(3.0, 36.0), (-2.0, 15.0), (1.0, 55.0)])
def test_skewnorm_interval_is_the_delta_methods(shape, cost):
    """The half-width is 1.96 standard errors, worked out from difference quotients alone, to one in a hundred."""
    references = oracle.skew_normal_draws(shape, 50.0, 10.0, 400, np.random.default_rng(29))
    law = SkewNormal.fit(references)
    (estimate,) = skewnorm([cost], references, 10**30)
    error = oracle.skew_normal_standard_error(references.tolist(), law.shape, law.location, law.scale, cost)
    assert (estimate.high - estimate.value) / 1.95996 == pytest.approx(error, rel=0.01)


def test_the_misfit_is_anderson_and_darlings():
    """A² by its definition, with the law's integral by thirty digits at every value."""
    references = oracle.skew_normal_draws(3.0, 50.0, 10.0, 12, np.random.default_rng(1))
    law = SkewNormal(2.0, 51.0, 9.0)
    below = [2.0 ** -oracle.skew_normal_tail_bits((x - 51.0) / 9.0, 2.0) for x in sorted(references)]
    terms = [(2 * i + 1) * (math.log(below[i]) + math.log1p(-below[-1 - i])) for i in range(12)]
    assert misfit(law, references) == pytest.approx(-12 - math.fsum(terms) / 12, rel=1e-6)


def test_the_bootstrap_is_the_law_of_the_fit():
    """Its interval about the value is that of the delta method where that is right, and repeats by seed; its fit_p is a
    share of the samples.
    """
    references = oracle.skew_normal_draws(3.0, 50.0, 10.0, 4000, np.random.default_rng(2))
    (delta,), (booted,), (same,), (other,) = (
        skewnorm([30.0], references, 10**9, bootstrap=count, seed=seed)
        for count, seed in ((0, 0), (200, 0), (200, 0), (200, 1))
    )
    assert three(booted) == three(same)
    assert booted.low != other.low
    assert booted.value == delta.value
    assert booted.high - booted.low == pytest.approx(delta.high - delta.low, rel=0.25)
    assert booted.details["fit_p"] * 201 == pytest.approx(round(booted.details["fit_p"] * 201))
    assert booted.details["fit_p"] == pytest.approx(delta.details["fit_p"], abs=0.15)

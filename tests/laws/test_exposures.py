"""Exposures on samples drawn at random, against ranks counted out: ordered, finite, and the same however they come."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hf_canary.estimators.exposures import (
    CENSORED,
    IMPOSSIBLE,
    NOT_FITTED,
    TIES,
    exposure_of_rank,
    sampled,
    skewnorm,
)
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

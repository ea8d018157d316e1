"""What the draws say of a rank: unbiased, within its interval, from better shares; closed forms and brute force."""

import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from hf_canary.errors import DataError
from hf_canary.estimators import exposures
from hf_canary.estimators import importance_sampling as ladder
from hf_canary.estimators.exposures import exposure_of_rank, importance
from hf_canary.estimators.importance_sampling import (
    BETAS,
    ImportanceSamples,
    apportioned,
    better_shares,
    expected_expansions,
    fay_feuer,
    log_mixture,
    share_below,
)
from tests.support import oracles_ladder
from tests.support.worlds import SPACES, impossible, world

EQUAL = np.full(len(BETAS), 1 / len(BETAS))


def synthetic(space=1000, count=900, seed=0, spread=6.0, known=()):
    """Draws from a space without a tree: every rung draws by p^β, independently of any walk."""
    generator = np.random.default_rng(seed)
    bits = np.sort(generator.normal(12.0 + math.log2(space), spread, space))
    logs = np.log(2.0) * -bits
    log_q = np.stack([beta * logs - np.logaddexp.reduce(beta * logs) for beta in BETAS], axis=1)
    counts = apportioned(EQUAL, count)
    drawn = np.concatenate(
        [generator.choice(space, size, p=np.exp(log_q[:, rung])) for rung, size in enumerate(counts)]
    )
    draws = ImportanceSamples(
        bits[drawn],
        log_q[drawn],
        counts,
        np.ones(count, dtype=np.int64),
        drawn,
        np.isin(drawn, known),
        math.log(space),
    )
    return bits, log_q, draws


# ---------------------------------------------------------------------------------------------- weights


def test_weights_are_the_mixtures():
    """Each weight is 1 / (|R| Σ s_k q_k), written out; none passes 1/s_0, and no hit passes B."""
    _, _, draws = synthetic()
    by_hand = [1.0 / (1000 * math.fsum(draws.shares * np.exp(row))) for row in draws.log_q]
    np.testing.assert_allclose(np.exp(draws.log_weights), by_hand)
    assert max(by_hand) <= 1.0 / draws.shares[0]


# ---------------------------------------------------------------------------------------------- the estimate


def test_canaries_and_twins_are_counted_and_not_estimated():
    """With all of the likelier candidates known there is no hit: at best they are all, and the rank is their number.
    That is proven where one hit could not have stood for a fill.
    """
    bits, _, draws = synthetic(known=range(20))
    bits = bits - 4.0  # the likeliest costs next to nothing
    moved = ImportanceSamples(
        draws.costs - 4.0, draws.log_q, draws.counts, draws.copies, draws.leaves, draws.known, draws.log_space
    )
    estimates = importance(bits[:20], moved, 1000, known=bits[:20], own_log_weights=np.full(20, -20.0))
    proven = [math.exp(moved.log_largest(cost)) * 1000 * math.log(40) / len(moved) < 1 for cost in bits[:20]]
    assert proven[0]
    assert not proven[-1]
    for rank, (estimate, is_proven) in enumerate(zip(estimates, proven, strict=True), start=1):
        assert estimate.high == pytest.approx(math.log2(1000 / rank))
        assert (estimate.low == estimate.high) is is_proven
        assert estimate.status == (exposures.RELIABLE if is_proven else exposures.CENSORED)
        assert estimate.flags == (() if is_proven else (exposures.CENSORED,))


def test_the_value_is_the_weighted_count():
    """Counted + |R| Σ w / N, worked out draw by draw; the status by (Σw)² / Σw²."""
    bits, _, draws = synthetic(known=[30, 700])
    costs = bits[[30, 700]]
    for number, estimate in enumerate(importance(costs, draws, 1000)):
        hits = [(w, leaf) for w, cost, leaf in zip(np.exp(draws.log_weights), draws.costs, draws.leaves, strict=True)
                if cost <= costs[number] and leaf not in (30, 700)]  # fmt: skip
        total, squares = sum(w for w, _ in hits), sum(w * w for w, _ in hits)
        assert estimate.value == pytest.approx(-math.log2((1 + number) / 1000 + total / len(draws)))
        assert estimate.details["hits"] == len(hits)
        assert estimate.details["distinct_hits"] == len({leaf for _, leaf in hits})
        assert estimate.details["effective_hits"] == pytest.approx(total**2 / squares)
        enough = estimate.details["effective_hits"]
        assert estimate.status == ("reliable" if enough >= 30 else "rough" if enough >= 10 else "interval only")


def test_copies_count_as_often_as_they_are():
    """Fills that are encoded alike cost the same, and a draw of their encoding stands for all of them."""
    here = world("wordpiece", "table", "the pin {x}{x} is", spaces=SPACES)
    by_cost = sorted(here.candidates, key=lambda each: each.bits)
    assert {each.copies for each in by_cost} == {1, 2, 4}
    own = by_cost[4]
    fill = here.fill(own.path)
    sampled = here.draws([fill], 20_000)
    truth = oracles_ladder.rank(here.candidates, own.bits)
    (estimate,) = importance(
        sampled.canary_costs, sampled.samples, 16, known_copies=[own.copies], own_log_weights=sampled.canary_log_weights
    )
    assert estimate.value == pytest.approx(exposure_of_rank(truth, 16), abs=0.1)
    assert estimate.low <= exposure_of_rank(truth, 16) <= estimate.high
    assert here.tree.copies(fill) == own.copies
    assert sum(here.tree.copies(here.fill(each.path)) for each in by_cost) == here.format.space_size == 16


def test_spaces_beyond_float64():
    """|R| = 10^400 and costs of thousands of bits: numbers, in order, and the value where the weights put it."""
    bits, log_q, draws = synthetic()
    huge, more = 10**400, math.log(10**400) - math.log(1000)
    log_q = draws.log_q - more
    log_q[:, 0] = -math.log(huge)
    moved = ImportanceSamples(draws.costs, log_q, draws.counts, draws.copies, draws.leaves, draws.known, math.log(huge))
    small = importance(bits[[50, 500]], draws, 1000)
    for number, estimate in enumerate(importance(bits[[50, 500]], moved, huge, known=[])):
        assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= math.log2(huge)
        assert math.isfinite(estimate.value)
        assert estimate.value == pytest.approx(small[number].value, abs=0.2)


def test_no_hit_ends_at_what_one_more_would_have_said():
    """Without a hit the interval's lower end is B ln(2/α)/N, however little the canary itself weighs; the value is that
    of one hit.
    """
    bits, _, draws = synthetic(known=range(1000))
    cost = bits[300]
    bound = math.exp(draws.log_largest(cost))
    for weights in ([-1.0], None):
        (estimate,) = importance([cost], draws, 1000, own_log_weights=weights)
        most = math.floor(1000 * bound * math.log(2 / 0.05) / len(draws))
        assert most > 0
        assert estimate.low == pytest.approx(math.log2(1000 / (1 + most)))
        assert estimate.value == pytest.approx(math.log2(1000 / (1 + 1000 * bound / len(draws))))
        assert estimate.high == pytest.approx(math.log2(1000))
        assert estimate.status == estimate.flags[0] == exposures.CENSORED


def test_what_is_impossible_or_no_number():
    """Infinite cost is the last rank; NaN is nothing and harms nobody; all of R known is exact."""
    bits, _, draws = synthetic()
    last, nothing, other = importance([math.inf, math.nan, bits[100]], draws, 1000)
    assert last.value == last.low == last.high == 0.0
    assert math.isnan(nothing.value)
    assert nothing.flags == (exposures.NOT_FINITE,)
    assert other == importance([bits[100]], draws, 1000, known=[math.inf, math.nan, bits[100]])[0]
    assert importance([1.0, 2.0], draws, 2)[1].value == 0.0


@pytest.mark.parametrize(
    ("options", "argument"),
    [({"known_copies": [1, 1]}, "known_copies"), ({"own_log_weights": [1, 1]}, "own_log_weights")],
)
def test_arrays_that_do_not_match_are_refused(options, argument):
    """By the name of the argument."""
    _, _, draws = synthetic()
    with pytest.raises(DataError, match=argument):
        importance([1.0], draws, 1000, **options)


# ---------------------------------------------------------------------------------------------- the interval


@pytest.mark.parametrize("hits", [1, 3, 10, 100])
def test_equal_weights_give_garwoods_interval(hits):
    """The exact Poisson interval: P[X ≥ hits] = α/2 at the lower end, P[X ≤ hits] = α/2 at the upper."""
    low, high = fay_feuer(2.0 * hits, 4.0 * hits, 2.0, 0.05)
    with mpmath.workdps(30):
        upper_tail = mpmath.gammainc(hits, 0, low / 2.0, regularized=True)
        lower_tail = mpmath.gammainc(hits + 1, high / 2.0, mpmath.inf, regularized=True)
    assert float(upper_tail) == pytest.approx(0.025, rel=1e-6)
    assert float(lower_tail) == pytest.approx(0.025, rel=1e-6)


def test_fay_feuer_by_its_formula():
    """Unequal weights: the quantiles of the two gamma laws, found by bisection at thirty digits."""
    weights = np.array([0.5, 1.0, 3.0, 0.1])
    y, v, m = weights.sum(), (weights**2).sum(), 3.0
    low, high = fay_feuer(y, v, m, 0.1)

    def quantile(p, shape, scale):
        with mpmath.workdps(30):
            lo, hi = mpmath.mpf(0), mpmath.mpf(1000)
            for _ in range(100):
                middle = (lo + hi) / 2
                below = mpmath.gammainc(shape, 0, middle / scale, regularized=True) < p
                lo, hi = (middle, hi) if below else (lo, middle)
            return float(lo)

    assert low == pytest.approx(quantile(0.05, y**2 / v, v / y), rel=1e-9)
    assert high == pytest.approx(quantile(0.95, (y + m) ** 2 / (v + m**2), (v + m**2) / (y + m)), rel=1e-9)


def test_more_confidence_is_a_wider_interval():
    """... around the same value."""
    bits, _, draws = synthetic()
    narrow, wide = (importance([bits[300]], draws, 1000, confidence=confidence)[0] for confidence in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high


# ---------------------------------------------------------------------------------------------- shares and work


def test_better_shares_make_ranks_surer():
    """By the exact standard errors: of every canary smaller than with equal shares, and on the whole much smaller."""
    here = world("characters", "table", "the pin is {digit:3}", seed=2, spread=2.0)
    by_cost = sorted(here.candidates, key=lambda each: each.bits)
    own = [by_cost[place] for place in (3, 15, 60)]
    sampled = here.draws([here.fill(each.path) for each in own], 1800)
    shares = better_shares(sampled.samples, sampled.canary_costs, sampled.counted)
    assert shares.sum() == pytest.approx(1.0)
    assert shares.min() >= 0.3 / 9 - 1e-12
    ratios = [
        oracles_ladder.standard_error(here.candidates, shares, each.bits, 1)
        / oracles_ladder.standard_error(here.candidates, EQUAL, each.bits, 1)
        for each in own
    ]
    assert max(ratios) < 1.0
    assert np.mean(ratios) < 0.85


def test_a_pilot_is_part_of_the_draws():
    """From 2,000 draws on a quarter is drawn with equal shares, the rest with better ones; all of them count."""
    here = world("characters", "lstm", "the pin is {digit:3}", seed=2)
    few, many = here.draws([3], 1999).samples, here.draws([3], 2000).samples
    assert few.counts.max() - few.counts.min() <= 1
    assert many.counts.sum() == len(many) == 2000
    assert many.counts.min() >= 500 // 9
    assert many.counts.max() - many.counts.min() > 100


def test_shares_without_hits_are_equal():
    """Where the pilot found nothing, there is nothing to learn from."""
    bits, _, draws = synthetic()
    np.testing.assert_array_equal(better_shares(draws, np.array([bits[0] - 1.0]), np.ones(1)), EQUAL)
    np.testing.assert_array_equal(better_shares(draws, np.array([np.inf]), np.ones(1)), EQUAL)


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_draws_are_apportioned_whole(count):
    """As many as asked, none off by one or more."""
    shares = np.array([0.37, 0.21, 0.21, 0.2, 0.01])
    found = apportioned(shares, count)
    assert found.sum() == count
    assert np.abs(found - shares * count).max() < 1.0


def test_only_the_shares_of_the_rungs_that_drew_matter():
    """A rung without draws has no share; its probabilities are not looked at."""
    prefix_costs, log_q = np.array([[1.0], [2.0]]), np.array([[[-1.0, 0.0]], [[-1.0, 0.0]]])
    log_mixed = log_mixture(log_q, np.array([2, 0]))
    assert expected_expansions(prefix_costs, log_mixed, 1.5) == pytest.approx(1.0 + math.e / 2)


def test_the_rungs_are_as_documented():
    """Uniform fills first, the model itself among them, sharper ones last."""
    assert BETAS == oracles_ladder.BETAS
    assert ladder.BETAS[0] == 0.0
    assert stats.rankdata(BETAS).tolist() == list(range(1, 10))


def test_as_likely_is_a_hit():
    """Ties count against the canary (Definition 2)."""
    _, _, draws = synthetic()
    cost = float(np.median(draws.costs))
    at = ImportanceSamples(
        np.full(len(draws), cost), draws.log_q, draws.counts, draws.copies, draws.leaves, draws.known, draws.log_space
    )
    assert at.hits(cost).all()
    assert not at.hits(np.nextafter(cost, 0.0)).any()


def test_the_bound_knows_of_copies():
    """Where fills are encoded alike, a hit stands for all of them: none weighs more than the bound."""
    here = world("wordpiece", "table", "the pin {x}{x} is", spaces=SPACES)
    draws = here.draws([0], 900).samples
    assert draws.most_copies == 4
    cost = 30.0
    by_hand = 1.0 / (draws.shares[0] + draws.shares[6] * 16 * 2.0**-cost / 4)
    assert math.exp(draws.log_largest(cost)) == pytest.approx(by_hand)
    for cost in np.quantile(draws.costs, [0.1, 0.5, 1.0]):
        assert draws.log_weights[draws.hits(cost)].max(initial=-np.inf) <= draws.log_largest(cost) + 1e-9


def test_share_below_counts_outside_alone():
    """Known candidates are no hits."""
    bits, _, draws = synthetic(known=range(0, 1000, 2))
    share = share_below(draws, bits[500], 0.05, one_more=0.0)
    assert share.hits == int(((draws.costs <= bits[500]) & (draws.leaves % 2 == 1)).sum())


# ---------------------------------------------------------------------------------------------- laws


def test_order_of_draws_is_nothing_and_order_of_canaries_is_kept():
    """Draws in any order say the same; canaries in any order get their own."""
    bits, _, draws = synthetic(known=[30, 200, 700])
    costs = bits[[30, 200, 700]]
    expected = importance(costs, draws, 1000)
    order = np.random.default_rng(0).permutation(len(draws))
    shuffled = ImportanceSamples(
        draws.costs[order],
        draws.log_q[order],
        draws.counts,
        draws.copies,
        draws.leaves[order],
        draws.known[order],
        draws.log_space,
    )
    for one, other in zip(importance(costs, shuffled, 1000), expected, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
    assert importance(costs[::-1], draws, 1000) == expected[::-1]


def test_one_more_hit_weighs_what_the_canary_does():
    """A canary that weighs more than any hit widens the interval, by the formula; a lighter one changes nothing."""
    bits, _, draws = synthetic()
    cost = bits[300]
    weights = np.exp(draws.log_weights[draws.costs <= cost])
    heavy = 4.0 * weights.max()
    light, none, wide, proven = (
        importance([cost], draws, 1000, known=[], own_log_weights=own)[0]
        for own in ([-9.0], [math.log(weights.max())], [math.log(heavy)], None)
    )
    assert light == none
    _, high = fay_feuer(weights.sum(), (weights**2).sum(), heavy, 0.05)
    assert wide.low == pytest.approx(math.log2(1000 / (1 + math.floor(1000 * high / len(draws)))))
    assert proven.low <= wide.low < none.low


def test_dead_ends_are_no_hits_whatever_the_canary_costs():
    """Not even of an impossible one; and they leave the pilot's shares finite."""
    here = impossible()
    sampled = here.draws([333, 0], 2400)  # three threes are impossible
    assert np.isinf(sampled.canary_costs[0])
    assert np.isfinite(sampled.samples.log_weights).all()
    assert sampled.samples.counts.sum() == 2400
    first, other = importance(sampled.canary_costs, sampled.samples, 1000, own_log_weights=sampled.canary_log_weights)
    assert first.value == 0.0
    assert math.isfinite(other.value)


def test_each_canary_pulls_the_shares_by_its_own_rank():
    """A canary of a low rank pulls as hard as one of a high rank, whose draws weigh far more; and one whose rank is
    known but for a little pulls little.
    """
    bits, _, draws = synthetic(count=8000)
    costs = bits[[2, 600]]
    together, low, high = (better_shares(draws, some, np.ones(len(some))) for some in (costs, costs[:1], costs[1:]))
    assert np.abs(low - high).max() > 0.1
    for rung in np.flatnonzero(np.abs(low - high) > 0.1):
        assert min(low[rung], high[rung]) - 0.05 <= together[rung] <= max(low[rung], high[rung]) + 0.05
        assert abs(together[rung] - high[rung]) > 0.02
    known = better_shares(draws, costs, np.array([300.0, 1.0]))
    assert np.abs(known - high).max() < np.abs(together - high).max()


def test_increasing_maps_of_cost_change_nothing():
    """With the canaries' own weights, costs only say who is likelier: 3c + 7 says the same."""
    bits, _, draws = synthetic(known=[30, 700])
    costs, weights = bits[[30, 700]], [-1.0, 0.5]
    moved = ImportanceSamples(
        3 * draws.costs + 7, draws.log_q, draws.counts, draws.copies, draws.leaves, draws.known, draws.log_space
    )
    assert importance(3 * costs + 7, moved, 1000, own_log_weights=weights) == importance(
        costs, draws, 1000, own_log_weights=weights
    )

"""Ranks from draws on hundreds of random models: unbiased, within their intervals; brute force knows the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from hf_canary.estimators.importance_sampling import (
    BETAS,
    fay_feuer,
)
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.tree.token_tree import padded
from hf_canary.walks.sample import Plan, sample
from tests.support import oracles_ladder
from tests.support.repetitions import times
from tests.support.worlds import SPACES, TREES, impossible, prefix_costs, world


@pytest.mark.parametrize("seed", range(10))
def test_no_hit_weighs_more_than_the_bound(seed):
    """B of a cost, for draws of a tree: whatever the hit, and tight where only the uniform rung can draw it."""
    here = world("gpt2", "table", "the {digit:2} is", seed=seed, spread=0.5 + seed / 2)
    draws = here.draws([0], 900).samples
    for cost in np.quantile(draws.costs, [0.01, 0.1, 0.5, 1.0]):
        hits = draws.hits(cost)
        bound = draws.log_largest(cost)
        assert draws.log_weights[hits].max(initial=-np.inf) <= bound + 1e-9
        by_hand = 1.0 / (draws.shares[0] + draws.shares[6] * 100 * 2.0**-cost)
        assert math.exp(bound) == pytest.approx(by_hand)
    assert math.exp(draws.log_largest(10_000.0)) == pytest.approx(1.0 / draws.shares[0])


def ranks_and_errors(here, sampled, places):
    """(estimate, truth, its standard error by brute force) at these places of the order by cost."""
    draws = sampled.samples
    by_cost = sorted(here.candidates, key=lambda each: each.bits)
    for place in places:
        bits = by_cost[place].bits
        hits = draws.costs <= bits + 1e-4
        found = float(np.exp(draws.log_weights[hits]).sum()) * here.format.space_size / len(draws)
        error = oracles_ladder.standard_error(here.candidates, draws.shares, bits, len(draws))
        yield found, oracles_ladder.rank(here.candidates, bits), error


@pytest.mark.parametrize("batch", range(10))
def test_unbiased_on_two_hundred_models(batch):
    """Likely and very unlikely fills, sub-word trees, every exposure: within six standard errors of the rank.

    The standard error is exact: every candidate's probability under every rung is known.
    """
    deviations = []
    for number in range(times(20) * batch, times(20) * (batch + 1)):
        kind, template = TREES[number % 4]
        here = world(kind, "table", template, seed=number, spread=[0.3, 1.0, 2.0, 4.0, 8.0][number % 5], spaces=SPACES)
        sampled = here.draws([0], 450, seed=number)
        count = len(here.candidates)
        places = sorted({0, 1, 2, 4, count // 16, count // 4, count // 2, count - 1} & set(range(count)))
        for found, truth, error in ranks_and_errors(here, sampled, places):
            assert abs(found - truth) <= 6 * error + 1e-6 * truth
            if error > 1e-6 * truth:
                deviations.append((found - truth) / error)
    # Neither too high nor too low on the whole: places of one model come together, so that some slack is needed.
    assert abs(np.mean(deviations)) < 0.5
    assert 0.5 < np.std(deviations) < 1.5


def test_the_model_alone_fails_where_the_ladder_does_not():
    """Fills that the model finds very unlikely: draws from it alone miss most of what is as likely as a canary."""
    here = world("characters", "table", "the pin is {digit:2}", seed=5, spread=12.0)
    by_cost = sorted(here.candidates, key=lambda each: each.bits)
    bits, truth = by_cost[60].bits, 61
    sampled = here.draws([0], 900)
    (found, _, error) = next(ranks_and_errors(here, sampled, [60]))
    assert abs(math.log2(found / truth)) < 0.5
    alone = np.zeros(len(BETAS))
    alone[BETAS.index(1.0)] = 1.0
    assert oracles_ladder.standard_error(here.candidates, alone, bits, 900) > 20 * error


@pytest.mark.parametrize("expected", [1.0, 4.0, 15.0])
def test_coverage_of_weighted_poisson_sums(expected):
    """Simulated without any of our code but the interval: at least 95 %, less three standard errors."""
    generator = np.random.default_rng(3)
    covered, repeats = 0, times(3000)
    for _ in range(repeats):
        weights = generator.choice([0.2, 1.0, 2.0], size=generator.poisson(expected))
        if weights.size:
            low, high = fay_feuer(weights.sum(), (weights**2).sum(), 2.0, 0.05)
        else:
            low, high = 0.0, 2.0 * math.log(2 / 0.05)
        covered += low <= expected * (3.2 / 3) <= high
    assert covered >= repeats * 0.95 - 3 * math.sqrt(repeats * 0.05 * 0.95)


@pytest.mark.parametrize("seed", range(6))
def test_unbiased_with_a_pilot(seed):
    """The shares of later draws follow from the pilot's: still within six standard errors of the rank."""
    kind, template = TREES[seed % 4]
    here = world(kind, "table", template, seed=seed, spread=[1.0, 4.0, 8.0][seed % 3], spaces=SPACES)
    by_cost = sorted(here.candidates, key=lambda each: each.bits)
    sampled = here.draws([here.fill(by_cost[len(by_cost) // 20].path)], 2400, seed=seed)
    count = len(by_cost)
    for found, truth, error in ranks_and_errors(here, sampled, sorted({0, 1, 4, count // 16, count // 2, count - 1})):
        assert abs(found - truth) <= 6 * error + 1e-6 * truth


@pytest.mark.parametrize("rung", range(9))
def test_each_rung_draws_by_its_law(rung):
    """4,000 draws of one rung alone, counted by encoding, against q (chi-square)."""
    here = world("gpt2", "table", "the {c}{digit}.", spaces={"c": ["1", "12", "a"]}, spread=1.0)
    count, depth = 4000, here.tree.depth
    generator = np.random.default_rng(rung)
    given = np.full((count, depth), -1)
    if rung == 0:
        texts = [here.format.render(int(fill)) for fill in generator.integers(0, here.format.space_size, count)]
        given = padded(here.tree.paths(texts), depth)
    plan = Plan(np.array(oracles_ladder.BETAS[1:]), np.full(count, rung - 1), given, generator.random((count, depth)))
    with evaluating(here.model) as bare:
        drawn = sample(LanguageModel(bare).session(here.tree.prompt, depth), here.tree, plan)
    assert drawn.ended.all()
    paths = [tuple(token for token in path if token >= 0) for path in drawn.paths.tolist()]
    expected = np.array([count * np.exp(each.log_q[rung]) for each in here.candidates])
    seen = np.array([paths.count(each.path) for each in here.candidates])
    assert seen.sum() == count
    common = expected >= 5
    seen, expected = np.append(seen[common], seen[~common].sum()), np.append(expected[common], expected[~common].sum())
    assert stats.chisquare(seen, np.maximum(expected, 1e-9), sum_check=False).pvalue > 1e-4


@pytest.mark.parametrize(("kind", "template"), TREES[:3])
@pytest.mark.parametrize("quantile", [0.05, 0.3, 1.0])
def test_the_work_of_counting_is_foreseen(kind, template, quantile):
    """Expected expansions against the inner prefixes that cost no more, counted: close, and unbiased on the whole."""
    foreseen, true = [], []
    for seed in range(6):
        here = world(kind, "table", template, seed=seed, spread=1.5, spaces=SPACES)
        bits = float(np.quantile([each.bits for each in here.candidates], quantile))
        sampled = here.draws([0], 1500, seed=seed)
        costs = prefix_costs(here)
        true.append(sum(cost <= bits for cost in costs))
        foreseen.append(sampled.expected_expansions(bits))
    np.testing.assert_allclose(foreseen, true, rtol=0.5)
    assert sum(foreseen) == pytest.approx(sum(true), rel=0.15)


def test_foreseen_work_of_dead_ends():
    """What is impossible need not be read."""
    here = impossible()
    sampled = here.draws([0], 1500)
    assert 1.0 <= sampled.expected_expansions(-1.0) == 1.0
    assert sampled.expected_expansions(1e9) <= 1 + 9 + 81 + 5


WORLDS = {
    "LSTM, characters": ("characters", "lstm", "the pin is {digit:2}"),
    "attention, characters": ("characters", "gpt2", "the pin is {digit:2}."),
    "state space": ("characters", "jamba", "the pin is {digit:2}"),
    "digits that merge": ("gpt2", "llama", "the pin is {digit:3}."),
    "words": ("unigram", "gpt2", "the {w} is {w} the"),
    "collisions": ("wordpiece", "table", "the pin {x}{x} is"),
    "bytes": ("byte-fallback", "table", "the {c}{digit} is"),
}


@pytest.fixture(scope="module", params=WORLDS)
def any_world(request):
    return world(*WORLDS[request.param], spaces=SPACES)


def test_draws_are_what_brute_force_says_of_them(any_world):
    """Of every draw: its cost, how likely each rung was to draw it, how many fills it is, whether it is a canary's."""
    chosen = any_world.candidates[:: max(1, len(any_world.candidates) // 5)]
    known = [any_world.fill(each.path) for each in chosen]
    sampled = any_world.draws(known, 300)
    draws = sampled.samples
    assert len(draws) == 300
    assert draws.counts.sum() == 300
    by_cost = sorted(any_world.candidates, key=lambda each: each.bits)
    costs = np.array([each.bits for each in by_cost])
    for number, cost in enumerate(draws.costs.tolist()):
        near = by_cost[int(np.abs(costs - cost).argmin())]
        assert cost == pytest.approx(near.bits, abs=1e-3)
        np.testing.assert_allclose(draws.log_q[number], near.log_q, atol=1e-3)
        assert draws.copies[number] == near.copies
        assert draws.known[number] == (near.path in {each.path for each in chosen})
    np.testing.assert_allclose(sampled.canary_costs, [each.bits for each in chosen], atol=1e-3)
    own = oracles_ladder.weights(chosen, draws.shares) / any_world.format.space_size
    np.testing.assert_allclose(sampled.canary_log_weights, np.log(own), atol=1e-3)

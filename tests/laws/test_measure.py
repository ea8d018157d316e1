"""Every estimator holds the exact exposure, on every kind of model."""

import math

import numpy as np
import pytest

from hf_canary import CanaryFormat, CanarySet, measure_exposure
from hf_canary.estimators.exposures import SAME
from tests.support import oracles


def test_every_estimator_holds_the_exact_one(model, tokenizer):
    """On |R| = 1,000, with 150 references and 600 draws: brute force lies in the intervals, and exactly where said."""
    format = CanaryFormat("the pin is {digit:3}")
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=5, seed=4)
    names = ["auto", "exact", "sampled", "importance"]
    options = {"num_references": 150, "num_draws": 600, "seed": 1}
    report = measure_exposure(model, tokenizer, canaries, estimators=names, **options)
    costs = np.array(oracles.brute_force(model, tokenizer, list(format.candidates())))
    held = dict.fromkeys(names, 0)
    for each in report:
        fill = next(canary.fill for canary in canaries if canary.id == each.canary_id)
        truth = math.log2(1000) - math.log2((costs <= costs[fill] + SAME).sum())
        held[each.estimator] += each.low - 1e-6 <= truth <= each.high + 1e-6
        if each.method == "exact":
            assert each.low == each.value == pytest.approx(truth)
            assert each.high == pytest.approx(math.log2(1000) - math.log2(1 + (costs < costs[fill] - SAME).sum()))
        assert each.log_perplexity == pytest.approx(costs[fill], abs=1e-3)
    assert held["exact"] == 5
    assert min(held.values()) >= 4

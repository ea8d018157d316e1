"""Lower ends of exposures are no higher than the intervals', and lower where less error is allowed."""

import math

from hf_canary import CanaryFormat, CanarySet, measure_exposure
from tests.support import oracles


def test_lower_ends_hold_where_the_interval_does(tokenizer):
    """Draws: at an error of 2.5 % no higher than the interval's own; at less it is lower, and below the exact value."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:4}"), repetitions=(1,), per_repetition=6, seed=2)
    model = oracles.small_model("gpt2", len(tokenizer))
    options = {"estimators": ["importance", "skewnorm"], "num_references": 50, "num_draws": 400}
    same = measure_exposure(model, tokenizer, canaries, error=0.025, **options)
    less = measure_exposure(model, tokenizer, canaries, error=0.0001, **options)
    exact = measure_exposure(model, tokenizer, canaries, estimators=["exact"])
    truth = {each.canary_id: each.value for each in exact}
    for one, other in zip(same, less, strict=True):
        if one.estimator == "skewnorm":
            assert math.isnan(one.at_least)
        else:
            assert one.at_least <= one.low + 1e-9
            assert other.at_least < one.at_least or one.at_least == 0
            assert other.at_least <= truth[other.canary_id] + 1e-6

"""How often 95 % intervals hold the truth: on models whose ranks are known, over a grid of exposures from 0 to log2|R|.

By the script that makes the tables of docs/results.md. A trained LSTM, whose fills are likely; sharp and flat random
models, sub-words among them.
"""

import math

import pytest
from scipy import stats
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_canary import CanaryFormat
from hf_canary.inference.evaluation import evaluating
from tests.support import oracles
from tests.support.repetitions import times
from tests.support.scripts import load
from tests.support.tokenizers_of_all_kinds import KINDS

script = load("benchmarks/coverage.py")
SEEDS = times(25)
CASES = {
    "trained LSTM": ("The random number is {digit:4}", 400, 2000),
    "random LSTM": ("the pin is {digit:4}.", 400, 2000),
    "sub-words, attention": ("the pin is {digit:4}.", 400, 1000),
    "unlikely fills": ("the {l}{l}{l} is", 400, 1000),
}


@pytest.fixture(scope="module")
def estimates(request):
    """(exposures of the grid, what each estimator said of it, seed by seed)."""
    template, num_references, num_draws = CASES[request.param]
    if request.param == "trained LSTM":
        checkpoint = request.getfixturevalue("demo")[0] / "left here" / "checkpoint"
        model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    else:
        kind, name = {
            "random LSTM": ("characters", "lstm"),
            "sub-words, attention": ("gpt2", "llama"),
            "unlikely fills": ("unigram", "gru"),
        }[request.param]
        tokenizer = KINDS[kind]()
        model = oracles.small_model(name, max(tokenizer.get_vocab().values()) + 1, seed=3)
    format = CanaryFormat(template, spaces={"l": [*"abcdefghijklmnopqrstuvw"]})
    with evaluating(model.eval()) as bare:
        space = script.Space(bare, tokenizer, format, 1.5)
        assert space.exposures.max() == math.log2(space.size)
        return space.exposures, [script.estimates_of(space, seed, num_references, num_draws) for seed in range(SEEDS)]


@pytest.mark.parametrize("estimates", CASES, indirect=True)
def test_intervals_hold_the_truth(estimates):
    """Sampled and auto at 95 % or above but for chance; importance at 93 % with ten effective hits or more, and the
    interval for verdicts at 95 %. Places of the grid share their draws: they are judged one by one and together.
    """
    truths, said = estimates
    limits = {"sampled": 0.95, "auto": 0.95, "importance": 0.93, "proven": 0.95}
    for name, nominal in limits.items():
        held, of = 0, 0
        for place, truth in enumerate(truths.tolist()):
            these = [each[name][place] for each in said]
            if name in ("importance", "proven"):
                these = [one for one in these if script.hits_of(one) >= 10]
            here = sum(script.covers(one, truth) for one in these)
            if these:
                assert here >= stats.binom.ppf(1e-4, len(these), nominal), (name, truth, here, len(these))
            held, of = held + here, of + len(these)
        assert held / of >= nominal - 3 * math.sqrt(nominal * (1 - nominal) / of), (name, held / of)
    for name in ("sampled", "importance", "proven", "auto"):
        for each in said:
            for one in each[name]:
                assert 0.0 <= one.low <= one.value <= one.high <= truths.max()


@pytest.mark.parametrize("estimates", ["trained LSTM"], indirect=True)
def test_the_ladder_is_closer_where_it_matters(estimates):
    """Beyond what 400 references can show, its errors are small ones; those of the skew-normal are not."""
    truths, said = estimates

    def worst(name):
        return max(
            abs(sum(each[name][place].value - truth for each in said) / SEEDS)
            for place, truth in enumerate(truths.tolist())
            if truth > 8.0
        )

    assert worst("importance") < 0.5 < worst("skewnorm")
    assert worst("auto") < 0.5

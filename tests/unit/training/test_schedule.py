"""What a measurement needs beside the measurement: when, how long, what is kept, what is written, who is above a
threshold.
"""

import dataclasses
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from hf_canary import CanaryFormat, CanarySet, measure_exposure
from hf_canary.errors import ArgumentError
from hf_canary.training.budget import OverheadBudget
from hf_canary.training.preserve import preserve_training_state
from hf_canary.training.schedule import Schedule
from hf_canary.training.threshold import Threshold, bits_against_chance
from tests.support import oracles


@pytest.mark.parametrize(
    ("when", "steps"),
    [
        (None, set()),
        ("evaluation", set()),
        ("epoch", {5, 10, 15}),
        (4, {4, 8, 12, 16}),
        (1, set(range(1, 18))),
        ([0, 3, 10], {0, 3, 10}),
        ((7,), {7}),
    ],
)
def test_when_to_measure(when, steps):
    """Of a training of 17 steps in epochs of 5, and with evaluations."""
    schedule = Schedule(when)
    schedule.begin(has_evaluations=True)
    due = {step for step in range(18) if schedule.is_due(step, ends_epoch=step % 5 == 0)}
    assert due == steps
    assert schedule.at_evaluations == (when in (None, "evaluation"))


def test_without_evaluations_each_epoch_is_measured():
    """... unless something else was asked for; and with them again in the next training."""
    schedule, asked = Schedule(), Schedule("evaluation")
    for each in (schedule, asked):
        each.begin(has_evaluations=False)
    assert schedule.is_due(5, ends_epoch=True)
    assert not schedule.at_evaluations
    assert not asked.is_due(5, ends_epoch=True)
    schedule.begin(has_evaluations=True)
    assert schedule.at_evaluations
    assert not schedule.is_due(5, ends_epoch=True)


@pytest.mark.parametrize("when", ["epochs", 0, -1, 1.5, True, [], [1, -1], [1.5], {"a": 1}, object()])
def test_no_other_times(when):
    """A typed error that names the argument."""
    with pytest.raises(ArgumentError, match="measure_at"):
        Schedule(when)


def test_what_was_spent_is_a_share_of_the_time_since_the_training_began():
    """By a clock of our own; what was spent before does not count."""
    now = [5.0]
    budget = OverheadBudget(None, 0.01, now=lambda: now[0])
    budget.charge(3.0)
    budget.begin()
    assert budget.taken() == (0.0, 0.0)  # no time has passed
    now[0] = 105.0
    assert budget.taken() == (0.0, 0.0)
    budget.charge(10.0)
    budget.charge(15.0)
    assert budget.taken() == (25.0, 0.25)


@pytest.mark.parametrize(
    "wrong", [(0, None), (-1, None), ("x", None), (None, 0.0), (None, 1.0), (None, 5), (True, None)]
)
def test_no_other_limits(wrong):
    """A typed error that names the argument."""
    with pytest.raises(ArgumentError, match="max_"):
        OverheadBudget(*wrong)


class Everything(nn.Module):
    """Parts in different modes, a frozen weight, buffers of every kind."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout()
        self.register_buffer("replaced", torch.ones(2))
        self.register_buffer("unsaved", torch.ones(2), persistent=False)
        self.register_buffer("none", None)
        self.norm.weight.requires_grad_(False)
        self.drop.eval()


@pytest.mark.parametrize("ending", [None, ValueError, KeyboardInterrupt])
def test_all_is_left_as_it_was_found(ending):
    """Modes of every part, gradients wanted, buffers' contents and selves, three random states; also after errors."""
    model = Everything()
    buffers = {name: (buffer, buffer.clone()) for name, buffer in model.named_buffers()}
    modes = [module.training for module in model.modules()]
    states = [torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()]
    try:
        with preserve_training_state(model):
            model.norm(torch.randn(4, 3))
            model.replaced = torch.zeros(5)
            model.unsaved.add_(1)
            model.train(not model.training)
            for parameter in model.parameters():
                parameter.requires_grad_(not parameter.requires_grad)
            np.random.rand(), random.random()
            if ending is not None:
                raise ending
    except (ValueError, KeyboardInterrupt):
        assert ending is not None
    assert [module.training for module in model.modules()] == modes
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["norm.weight"]
    assert {name for name, _ in model.named_buffers()} == set(buffers)
    for name, buffer in model.named_buffers():
        assert buffer is buffers[name][0]
        assert torch.equal(buffer, buffers[name][1]), name
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]


def test_the_chances_of_error_are_five_per_cent_in_all():
    """Over any number of canaries, and measurements without end."""
    threshold = Threshold(5.0, "warn")
    for canaries in (1, 12):
        spent = sum(threshold.error(number, canaries) * canaries for number in range(1, 100_001))
        assert 0.0499 < spent < 0.05
    assert Threshold(None, "warn").error(1, 12) is None


def test_the_chance_of_canaries_never_seen():
    """Fills drawn at random, all different, pass the threshold so often."""
    canaries = CanarySet.draw(
        [CanaryFormat("{digit:2}."), CanaryFormat("x{digit}.")], repetitions=(1,), per_repetition=2, seed=0
    )
    generator = np.random.default_rng(0)
    sizes = [format.space_size for format in canaries.formats]
    ranks = [1 + generator.random((40_000, size)).argsort(axis=1)[:, :2] for size in sizes]
    exposures = [np.log2(size / rank).max(axis=1) for size, rank in zip(sizes, ranks, strict=True)]
    for bits in (2.0, 3.0, 5.0, 9.0):
        often = np.any([exposure >= bits for exposure in exposures], axis=0).mean()
        assert Threshold(bits, "warn").by_chance(canaries) == pytest.approx(often, abs=0.01)
    assert Threshold(7.0, "warn").by_chance(canaries) == 0.0


def test_the_chance_over_many_measurements_is_a_bound():
    """Fills whose exposure wanders, or is drawn anew at each measurement, are above the threshold at some measurement
    no more often; and as often where those above it are others at each measurement. More measurements are more chance.
    """
    size, canaries = 256, CanarySet.draw(CanaryFormat("{hex:2}."), repetitions=(1,), per_repetition=3, seed=0)
    generator = np.random.default_rng(0)
    threshold, measurements = Threshold(4.0, "warn"), 6
    bound = threshold.by_chance(canaries, measurements)
    fills = np.array([generator.choice(size, 3, replace=False) for _ in range(8000)])
    costs = generator.normal(size=(measurements, size))
    others = np.stack([np.roll(np.arange(size), 16 * number) for number in range(measurements)])
    orders = {"wandering": costs.cumsum(axis=0), "anew": costs, "others at each measurement": others}
    often = {}
    for name, by_measurement in orders.items():
        ranks = 1 + by_measurement.argsort(axis=1).argsort(axis=1)
        often[name] = (math.log2(size) - np.log2(ranks[:, fills]) >= 4.0).any(axis=(0, 2)).mean()
    assert often["wandering"] < often["anew"] < bound
    assert often["others at each measurement"] == pytest.approx(bound, abs=0.02)
    assert threshold.by_chance(canaries, 1) < often["wandering"]
    assert threshold.by_chance(canaries, 16) == threshold.by_chance(canaries, 10**6) == 1.0


@pytest.mark.parametrize(("canaries", "measurements"), [(1, 1), (4, 6), (12, 22), (48, 100)])
def test_bits_against_chance_solve_the_bound(canaries, measurements):
    """1 − (1 − n 2^−b)^M is the chance at that b; the table in docs/training.md has it, rounded up."""
    bits = bits_against_chance(canaries, measurements, 0.05)
    assert 1 - (1 - measurements * 2.0**-bits) ** canaries == pytest.approx(0.05, rel=1e-9)
    if canaries > 1:
        docs = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
        (row,) = [line for line in docs.splitlines() if line.startswith(f"| {canaries} |")]
        assert f"| {math.ceil(10 * bits) / 10:.1f} |" in row


@pytest.mark.parametrize(("bits", "action"), [(0, "warn"), (-1, "warn"), ("5", "warn"), (5.0, "end"), (5.0, None)])
def test_no_other_thresholds(bits, action):
    """A typed error that names the argument."""
    with pytest.raises(ArgumentError, match=r"threshold|on_exceed"):
        Threshold(bits, action)


@pytest.mark.parametrize(
    ("answer", "stops"),
    [(True, True), (np.True_, True), (False, False), (None, False), ("told the team", False), (3, False)],
)
def test_a_function_stops_a_training_by_true_alone(answer, stops):
    """Many return what some call gave them, which was not meant so; it is asked with the report and the ids."""
    asked = []
    threshold = Threshold(5.0, lambda *given: asked.append(given) or answer)
    assert threshold.stops("report", ["f0-x1-0"]) is stops
    assert asked == [("report", ["f0-x1-0"])]


def test_who_is_above_is_trained_on_and_surely_so(tokenizer):
    """By the lower end of the main estimator; a canary that never came to the model is likely by chance alone."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:5}"), repetitions=(1,), per_repetition=4, seed=1)
    model = oracles.small_model("lstm", len(tokenizer), seed=4)
    names = ["sampled", "auto"]
    report = measure_exposure(model, tokenizer, canaries, estimators=names, num_references=500, error=0.001)
    lows = {each.canary_id: each.at_least for each in report if each.estimator == "auto"}
    first, second, *_ = sorted(lows, key=lows.get, reverse=True)
    threshold = Threshold(lows[second], "warn")
    assert sorted(threshold.exceeded(report)) == sorted([first, second])
    assert threshold.exceeded(dataclasses.replace(report, dead={first: "missing"})) == [second]
    assert Threshold(lows[first] + 1e-6, "warn").exceeded(report) == []
    assert Threshold(None, "warn").exceeded(report) == []


def test_lower_ends_by_their_closed_form(tokenizer):
    """One-sided Clopper and Pearson at the error asked for, from hits counted here; counted ranks have no error."""
    format = CanaryFormat("the pin is {digit:5}")
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=4, seed=1)
    model = oracles.small_model("lstm", len(tokenizer), seed=4)
    error = 0.001
    report = measure_exposure(
        model, tokenizer, canaries, estimators=["sampled", "exact"], num_references=500, error=error
    )
    costs = [e.log_perplexity for e in report if e.estimator == "sampled"]
    known = costs + [e.log_perplexity for e in report.twins if e.estimator == "sampled"]
    rest = format.space_size - len(known)
    for each in report:
        if each.estimator == "exact":
            assert each.at_least == each.low
            continue
        hits = int((report.references[format] <= each.log_perplexity).sum())
        most = stats.beta.ppf(1 - error, hits + 1, 500 - hits)
        rank = sum(cost <= each.log_perplexity for cost in known) + math.floor(most * rest)
        assert each.at_least == pytest.approx(math.log2(format.space_size / rank), abs=1e-3)
        assert each.at_least < each.low
    plain = measure_exposure(model, tokenizer, canaries, estimators=["sampled"], num_references=500)
    assert all(math.isnan(each.at_least) for each in plain)


@pytest.mark.parametrize("error", [0.0, 0.5, -1.0, "x", 1])
def test_no_other_chance_of_error(tokenizer, lstm, error):
    """A typed error before any work."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:4}"), seed=2)
    with pytest.raises(ArgumentError, match="error"):
        measure_exposure(lstm, tokenizer, canaries, error=error)

"""The metric for `evaluate`: an adapter, so that its numbers are those of the estimators and nothing is added."""

import importlib.util
import math
import re
from pathlib import Path

import evaluate
import numpy as np
import pytest

from hf_canary import EXPOSURE_METRIC
from hf_canary.errors import ArgumentError, CanaryError, DataError
from hf_canary.estimators import exposures

SPACE_SIZE = 10**6


@pytest.fixture(scope="module")
def metric():
    return evaluate.load(EXPOSURE_METRIC)


@pytest.fixture
def shuffled():
    """Costs of 3 canaries among 200 references, in mixed order: the columns, and the two groups in that order."""
    generator = np.random.default_rng(4)
    costs = generator.normal(60, 6, 203).tolist()
    costs[7], costs[100], costs[150] = 70.0, 30.0, 55.0
    is_canary = [number in (7, 100, 150) for number in range(203)]
    return costs, is_canary, [70.0, 30.0, 55.0], [cost for cost, own in zip(costs, is_canary, strict=True) if not own]


def columns(estimates):
    return {
        "exposure": [e.value for e in estimates],
        "low": [e.low for e in estimates],
        "high": [e.high for e in estimates],
        "status": [e.status for e in estimates],
        "flags": [list(e.flags) for e in estimates],
    }


@pytest.mark.parametrize("estimator", ["sampled", "skewnorm"])
def test_same_numbers_as_the_function(metric, shuffled, estimator):
    """Value, interval and flags are those of the estimator, canaries in order, float64 to the last digit."""
    costs, is_canary, canaries, references = shuffled
    result = metric.compute(log_perplexities=costs, is_canary=is_canary, space_size=SPACE_SIZE, estimator=estimator)
    assert result == columns(getattr(exposures, estimator)(canaries, references, SPACE_SIZE))
    assert np.argsort(result["exposure"]).tolist() == [0, 2, 1]


def test_sampled_unless_asked_otherwise(metric, shuffled):
    """Without an estimator the one with the exact interval is used."""
    costs, is_canary, canaries, references = shuffled
    result = metric.compute(log_perplexities=costs, is_canary=is_canary, space_size=SPACE_SIZE)
    assert result == columns(exposures.sampled(canaries, references, SPACE_SIZE))


def test_all_of_a_space_is_exact(metric):
    """`exact` and `auto` where every sequence is given; `exact` refuses where one is missing, `auto` samples."""
    costs, is_canary = [3.0, 1.0, 2.0, 5.0], [True, False, True, False]
    for estimator in ("exact", "auto"):
        result = metric.compute(log_perplexities=costs, is_canary=is_canary, space_size=4, estimator=estimator)
        assert result == columns(exposures.exact([3.0, 2.0], [1.0, 5.0], 4))
        assert result["status"] == ["exact", "exact"]
    columns_of = {"log_perplexities": costs, "is_canary": is_canary, "space_size": 5}
    assert metric.compute(**columns_of, estimator="auto") == columns(exposures.sampled([3.0, 2.0], [1.0, 5.0], 5))
    with pytest.raises(DataError, match="1 fewer"):
        metric.compute(**columns_of, estimator="exact")


def test_options_reach_the_estimators(metric, shuffled):
    """Confidence and bootstrap, as the functions take them."""
    costs, is_canary, canaries, references = shuffled
    given = {"log_perplexities": costs, "is_canary": is_canary, "space_size": SPACE_SIZE, "confidence": 0.8}
    expected = exposures.sampled(canaries, references, SPACE_SIZE, confidence=0.8)
    assert metric.compute(**given, estimator="sampled") == columns(expected)
    expected = exposures.skewnorm(canaries, references, SPACE_SIZE, confidence=0.8, bootstrap=99)
    assert metric.compute(**given, estimator="skewnorm", bootstrap=99) == columns(expected)


def test_batches_add_up(metric, shuffled):
    """Added in batches and one by one, the same as given at once."""
    costs, is_canary, canaries, references = shuffled
    for start in range(0, 200, 50):
        batch = slice(start, start + 50)
        metric.add_batch(log_perplexities=costs[batch], is_canary=is_canary[batch])
    for cost, own in zip(costs[200:], is_canary[200:], strict=True):
        metric.add(log_perplexities=cost, is_canary=own)
    assert metric.compute(space_size=SPACE_SIZE) == columns(exposures.sampled(canaries, references, SPACE_SIZE))


def test_a_result_is_worked_out_by_hand(metric):
    """Rank 1 of 5 is log2 5 bits, rank 5 of 5 is 0, with all of R given."""
    costs = [31.0, 40.0, 41.5, 39.8, 42.1]
    likeliest, unlikeliest = (
        metric.compute(log_perplexities=costs, is_canary=[cost == own for cost in costs], space_size=5)
        for own in (31.0, 42.1)
    )
    assert likeliest["exposure"] == likeliest["low"] == likeliest["high"] == [pytest.approx(math.log2(5))]
    assert unlikeliest["exposure"] == [0.0]
    assert likeliest["flags"] == [[]]


def test_unknown_estimator_is_refused(metric):
    """The error is the package's own and names the choices."""
    with pytest.raises(ArgumentError, match="'auto', 'exact', 'sampled', 'skewnorm'") as caught:
        metric.compute(log_perplexities=[1.0, 2.0], is_canary=[True, False], space_size=10, estimator="best")
    assert caught.value.argument == "estimator"


@pytest.mark.parametrize("costs", [[1.0, math.nan], [1.0]])
def test_what_the_estimator_refuses_the_metric_refuses(metric, costs):
    """NaN references and none at all raise the estimator's own error."""
    is_canary = [True, False][: len(costs)]
    with pytest.raises(CanaryError):
        metric.compute(log_perplexities=costs, is_canary=is_canary, space_size=10)


def test_what_cannot_be_is_refused(metric):
    """Log-likelihoods for log-perplexities, which would turn the ranks around; and nothing marked as a canary."""
    with pytest.raises(DataError, match="never negative"):
        metric.compute(log_perplexities=[-31.0, -40.0], is_canary=[True, False], space_size=10)
    with pytest.raises(DataError, match="is_canary"):
        metric.compute(log_perplexities=[31.0, 40.0], is_canary=[False, False], space_size=10)


def test_nan_canary_is_flagged(metric):
    """A canary without a number has NaN and a flag in its place."""
    result = metric.compute(log_perplexities=[math.nan, 2.0, 1.0], is_canary=[True, False, True], space_size=10)
    assert math.isnan(result["exposure"][0])
    assert result["flags"][0] == [exposures.NOT_FINITE]
    assert result["exposure"][1] > 0


def app():
    """The page's module, as a Space runs it."""
    spec = importlib.util.spec_from_file_location("app", Path(EXPOSURE_METRIC) / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_says_what_the_metric_says(metric):
    """Text in, rows out; the same numbers."""
    rows = app().exposures("31.0, 45.2", "40 41.5\n39.8 42.1;44", "10**4", "sampled")
    expected = exposures.sampled([31.0, 45.2], [40, 41.5, 39.8, 42.1, 44], 10**4)
    for row, estimate in zip(rows, expected, strict=True):
        assert row[1:3] == [f"{estimate.value:.2f}", f"{estimate.low:.2f} to {estimate.high:.2f}"]
    assert rows[0][3] == "censored"
    with pytest.raises(ValueError, match="canaries must be numbers"):
        app().exposures("many", "40", "10**4", "sampled")
    with pytest.raises(ValueError, match="size of the space"):
        app().exposures("31", "40", "a lot", "sampled")
    with pytest.raises(ValueError, match="size of the space"):
        app().exposures("31", "40", "10**99999999", "sampled")


def test_the_folder_can_be_published_as_a_space():
    """Its head names the page, the page's needs are listed, and each file is there."""
    folder = Path(EXPOSURE_METRIC)
    head = (folder / "README.md").read_text(encoding="utf-8").split("---")[1]
    assert "sdk: gradio" in head
    assert "app_file: app.py" in head
    assert "sdk_version: " in head
    needs = (folder / "requirements.txt").read_text(encoding="utf-8").split()
    assert needs == ["hf_canary", "gradio"]
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "README.md",
        "app.py",
        "canary_exposure.py",
        "requirements.txt",
    }


def test_the_card_runs(capsys):
    """The Python block of the metric's README runs as it stands and prints what it says."""
    card = (Path(EXPOSURE_METRIC) / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    assert exposures.CENSORED in capsys.readouterr().out


def test_the_description_says_unit_and_direction(metric):
    """What `evaluate` shows of the metric names bits, and which end is memorised."""
    assert "bits" in metric.inputs_description
    assert "lower: better memorised" in metric.inputs_description
    assert "higher: better memorised" in metric.inputs_description
    assert "carlini2019secret" in metric.citation

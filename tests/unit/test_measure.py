"""Log-perplexity and exposure of real models: equal to the slow way, and leaving everything as it was."""

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from tokenizers import Regex, pre_tokenizers

import hf_canary.models as models
from hf_canary import CanaryFormat, CanarySet, extract, log_perplexity, measure_exposure
from hf_canary.errors import ArgumentError, CanaryError, FormatError, ModelError
from hf_canary.estimators.exposures import CENSORED, sampled
from hf_canary.extraction import exact_rank
from hf_canary.measure import Measurement
from hf_canary.measurement import observations
from hf_canary.measurement.checks import check_measurable
from hf_canary.reporting.exposure import Exposure
from hf_canary.reporting.exposure_report import ExposureReport
from hf_canary.reporting.summaries import summary_keys
from hf_canary.tokenization.contexts import Context, SourceContext
from hf_canary.tree.token_tree import TokenTree
from tests.support import oracles
from tests.support.errors import check_error
from tests.support.tokenizers_of_all_kinds import KINDS, letters_alone, without_bos


@pytest.mark.keeps_random_state
def test_log_perplexity_is_definition_1(model, tokenizer):
    """In bits, summed over the tokens after BOS, in the order given, duplicates too."""
    texts = ["the pin is 1", "a", "the pin", "a", "zzzz zz"]
    np.testing.assert_allclose(
        log_perplexity(model, tokenizer, texts), oracles.brute_force(model, tokenizer, texts), atol=1e-3
    )


def test_context_conditions_and_is_not_summed(model, tokenizer):
    """Px(context + text) = Px(context) + Px(text | context)."""
    whole = log_perplexity(model, tokenizer, ["the pin is 12"])[0]
    parts = log_perplexity(model, tokenizer, ["the pin"])[0] + log_perplexity(
        model, tokenizer, [" is 12"], context="the pin"
    )
    assert whole == pytest.approx(parts[0], abs=1e-3)


def test_without_bos_a_recurrent_model_starts_from_its_initial_state(lstm, tokenizer):
    """The first token's cost is that under h = 0."""
    bare = without_bos(tokenizer)
    ids = bare("the").input_ids
    first = -torch.log_softmax(lstm.lm_head.bias.double(), -1)[ids[0]].item() / math.log(2)
    expected = first + oracles.teacher_forced_bits(lstm, ids, 1)
    assert log_perplexity(lstm, bare, ["the"])[0] == pytest.approx(expected, abs=1e-3)


def test_without_bos_a_transformer_conditions_on_the_first_token(tokenizer):
    """... which all texts must share; where they do not, the error names the remedy."""
    bare, model = without_bos(tokenizer), oracles.small_model("gpt2", len(tokenizer))
    found = log_perplexity(model, bare, ["the pin", "the"])
    expected = [oracles.teacher_forced_bits(model, bare(text).input_ids, 1) for text in ("the pin", "the")]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    with pytest.raises(ModelError, match="context"):
        log_perplexity(model, bare, ["the", "pin"])


def test_exposure_of_a_small_space_is_that_of_brute_force(model, tokenizer):
    """With more references asked for than there are, every candidate is scored and the exposure is exact."""
    format = CanaryFormat("the pin is {digit:2}")
    canaries = CanarySet.draw(format, repetitions=(1, 3), per_repetition=2, seed=1)
    report = measure_exposure(model, tokenizer, canaries, estimators=["auto", "sampled"], num_references=1000)
    costs = np.array(oracles.brute_force(model, tokenizer, list(format.candidates())))
    for canary, exposure, twin in zip(canaries, list(report)[::2], report.twins[::2], strict=True):
        assert exposure.canary_id == twin.canary_id == canary.id
        for fill, found in ((canary.fill, exposure), (canary.twin, twin)):
            rank = int((costs <= costs[fill] + 1e-6).sum())
            assert found.value == found.low == found.high == pytest.approx(math.log2(100) - math.log2(rank))
            assert found.log_perplexity == pytest.approx(costs[fill], abs=1e-3)
            assert found.num_references == 100 - 8
            assert found.flags == ()


def test_sampled_exposure_covers_the_exact_one(lstm, tokenizer):
    """On a space that can be enumerated, the 95 % intervals of 300 references hold the exact exposures."""
    format = CanaryFormat("the pin is {digit:4}")
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=40, seed=2)
    exact = measure_exposure(lstm, tokenizer, canaries, estimators=["sampled"], num_references=10**6)
    sampled = measure_exposure(lstm, tokenizer, canaries, estimators=["sampled"], num_references=300)
    held = [a.low - 1e-9 <= b.value <= a.high + 1e-9 for a, b in zip(sampled, exact, strict=True)]
    assert sum(held) >= 34  # 38 expected; the shared references make misses come together


def test_references_are_no_canaries_and_repeat_by_seed(lstm, tokenizer):
    """The same seed scores the same references; another seed others."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:4}"), per_repetition=1, seed=3)
    one, same, other = (
        measure_exposure(lstm, tokenizer, canaries, num_references=200, bootstrap=0, seed=seed).references[
            canaries.formats[0]
        ]
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert set(one) != set(other)


def test_several_formats_are_each_measured_in_their_own_space(lstm, tokenizer):
    """Two formats with unlike costs: each canary is ranked among the fills of its own."""
    formats = [CanaryFormat("pin {digit}"), CanaryFormat("the pin is {lower:2}.")]
    canaries = CanarySet.draw(formats, repetitions=(1,), per_repetition=2, seed=0)
    report = measure_exposure(lstm, tokenizer, canaries, estimators=["auto"], num_references=10_000)
    for canary, exposure in zip(canaries, report, strict=True):
        costs = np.array(oracles.brute_force(lstm, tokenizer, list(canary.format.candidates())))
        rank = int((costs <= costs[canary.fill] + 1e-6).sum())
        assert exposure.value == pytest.approx(math.log2(canary.format.space_size / rank))


def test_model_and_random_state_are_left_as_they_were(tokenizer):
    """Modes, weights, gradients and torch's generator, also after a failure."""
    model = oracles.small_model("lstm", len(tokenizer))
    model.train()
    model.model.dropouts.eval()
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:4}"), per_repetition=1, seed=3)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = torch.random.get_rng_state()
    measure_exposure(model, tokenizer, canaries, num_references=100)
    with pytest.raises(ModelError):
        log_perplexity(model, tokenizer, ["Ω"])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_summary_and_file(lstm, tokenizer, tmp_path):
    """The summary's keys are those announced; its numbers are those of the exposures; the file is strict JSON."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:5}"), repetitions=(1, 2), per_repetition=3, seed=0)
    report = measure_exposure(lstm, tokenizer, canaries, num_references=100)
    summary = report.summary()
    assert list(summary) == summary_keys([f"x{copies}" for copies in canaries.repetitions])
    auto = [e.value for e in report if e.estimator == "auto"]
    skewed = [e.value for e in report if e.estimator == "skewnorm"]
    assert summary["exposure_mean"] == pytest.approx(np.mean(auto))
    assert summary["exposure_max"] == max(auto)
    assert summary["exposure_censored"] == sum("censored" in e.flags for e in report if e.estimator == "auto")
    assert summary["exposure_x2"] == np.median(auto[3:])
    assert summary["exposure_skewnorm_x1"] == np.median(skewed[:3])
    assert summary["exposure_twin_mean"] == pytest.approx(
        np.mean([e.value for e in report.twins if e.estimator == "auto"])
    )
    assert all(type(value) is float for value in summary.values())
    report.save(tmp_path / "report.json")
    saved = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert len(saved["exposures"]) == 2 * len(report)
    assert not any(canary.text in (tmp_path / "report.json").read_text() for canary in canaries)


def test_what_cannot_be_fitted_is_nan_and_null(lstm, tokenizer, tmp_path):
    """Too few references for a skew-normal: NaN in the summary, null in the file, the reason in the flags."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit}"), repetitions=(1,), per_repetition=1, seed=0)
    report = measure_exposure(lstm, tokenizer, canaries)
    assert math.isnan(report.summary()["exposure_skewnorm_mean"])
    assert report.exposures[1].flags[0].startswith("not fitted: 8 references")
    assert report.as_json()["summary"]["exposure_skewnorm_mean"] is None


@pytest.mark.parametrize(
    "request_",
    [
        {"estimators": ["best"]},
        {"estimators": "auto"},
        {"estimators": []},
        {"estimators": ["auto", "auto"]},
        {"seed": 1.5},
        {"num_references": 0},
        {"num_references": 2.5},
    ],
)
def test_bad_requests(lstm, tokenizer, request_):
    """Each is an ArgumentError before the model is touched."""
    canaries = CanarySet.draw(CanaryFormat("pin {digit:2}"), per_repetition=1, seed=0)
    with pytest.raises(ArgumentError):
        measure_exposure(lstm, tokenizer, canaries, **request_)


def test_candidates_that_are_prefixes_are_not_measured(lstm, tokenizer):
    """`1` can never cost more than `12`: a rank among both would mean nothing."""
    format = CanaryFormat("pin {w}", spaces={"w": ["1", "12", "13", "14", "15", "16"]})
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=1, seed=0)
    with pytest.raises(FormatError, match="prefixes"):
        measure_exposure(lstm, tokenizer, canaries)


@pytest.mark.parametrize(
    ("values", "marked"), [([3, 5, 13, 13], True), ([3, 5, 6, 13], False), ([3, 13, 13], True), ([3, 5, 13], False)]
)
def test_a_median_with_a_censored_part_is_marked(values, marked):
    """Also where the median lies between a value that is known and one that is not."""
    canaries = CanarySet.draw(CanaryFormat("{digit:4}"), repetitions=(1,), per_repetition=len(values), seed=0)
    exposures = tuple(
        Exposure(canary.id, "auto", float(value), 0.0, 13.3, 1.0, 9, (CENSORED,) if value == 13 else ())
        for canary, value in zip(canaries, values, strict=True)
    )
    report = ExposureReport(exposures, exposures, canaries, (), 0.0)
    assert report.levels[0].censored == {"auto": marked}


def test_an_empty_set_has_no_exposure(lstm, tokenizer):
    """... and asking for it is a mistake."""
    with pytest.raises(ArgumentError, match="canaries"):
        measure_exposure(lstm, tokenizer, CanarySet((), 0))


def test_empty_texts_are_an_error_and_no_texts_are_none(lstm, tokenizer):
    """An empty text has no log-perplexity; an empty list has an empty answer."""
    with pytest.raises(ArgumentError, match=r"texts\[1\]"):
        log_perplexity(lstm, tokenizer, ["a", ""])
    assert log_perplexity(lstm, tokenizer, []).shape == (0,)


def test_the_check_before_training_sees_what_a_measurement_would(lstm, tokenizer):
    """A character of the alphabet that no canary happens to hold, and logits that are NaN."""
    rare = CanaryFormat("{c:3}.", spaces={"c": [*"abcdefghij", "Ω"]})
    draws = (CanarySet.draw(rare, per_repetition=1, seed=seed) for seed in range(100))
    without = next(drawn for drawn in draws if not any("Ω" in c.text + c.twin_text for c in drawn))
    with pytest.raises(ModelError, match=r"U\+03A9"):
        check_measurable(lstm, tokenizer, without)
    broken = oracles.small_model("lstm", len(tokenizer))
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(CanaryError, match="NaN"):
        check_measurable(broken, tokenizer, CanarySet.draw(CanaryFormat("pin {digit:2}"), per_repetition=1, seed=0))


# ---------------------------------------------------------------------------------------------- which estimator


def test_auto_says_which_and_why(lstm, tokenizer):
    """Sampled with enough hits; counted where that is cheap; draws where it is not; never the skew-normal."""
    format = CanaryFormat("the pin is {digit:6}")
    likely = extract_fills(lstm, tokenizer, format, 3)
    drawn = CanarySet.draw(format, repetitions=(1,), per_repetition=3, seed=5)
    canaries = CanarySet(tuple(replace(c, fill=f) for c, f in zip(drawn, likely, strict=True)), drawn.seed)
    cheap, dear = (
        measure_exposure(lstm, tokenizer, canaries, estimators=["auto"], num_references=count) for count in (2000, 60)
    )
    for number, each in enumerate(cheap):
        assert (each.method, each.status) == ("exact", "exact")
        assert each.reason == f"{number + 1} counted"
        assert each.num_references == 10**6 - 6
        assert each.value == pytest.approx(math.log2(10**6 / (number + 1)))
    assert {each.method for each in dear} == {"importance"}
    assert all("0 references" in each.reason and "draw" in each.reason for each in dear)
    for each in cheap.twins:
        if each.details.get("hits", 0) >= 30:
            assert (each.method, each.status, each.reason) == (
                "sampled",
                "reliable",
                f"{each.details['hits']:,} references",
            )
    assert {each.method for each in (*cheap, *dear, *cheap.twins, *dear.twins)} <= {"sampled", "importance", "exact"}


def extract_fills(model, tokenizer, format, count):
    return [candidate.fill for candidate in extract(model, tokenizer, format, top_k=count).candidates]


def test_a_space_that_is_all_scored_is_exact(lstm, tokenizer):
    """... and auto says that every candidate was."""
    canaries = CanarySet.draw(CanaryFormat("pin {digit:2}"), repetitions=(1,), per_repetition=2, seed=0)
    for each in measure_exposure(lstm, tokenizer, canaries, estimators=["auto", "exact"]):
        assert (each.method, each.status) == ("exact", "exact")
    assert each.num_references == 96


def test_draws_are_made_only_where_they_are_needed(lstm, tokenizer):
    """One reference set and at most one set of draws a format, whatever the number of canaries; the cost is said."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:4}"), repetitions=(1,), per_repetition=4, seed=9)
    names = ["sampled", "skewnorm"]
    without = measure_exposure(lstm, tokenizer, canaries, estimators=names, num_references=500, bootstrap=0)
    one, two = (
        measure_exposure(
            lstm, tokenizer, canaries, estimators=[*more, *names], num_references=500, num_draws=300, bootstrap=0
        )
        for more in (["importance"], ["importance", "auto", "exact"])
    )
    drawn = {each.token_rows for each in one if each.estimator == "importance"}
    assert drawn == {one.token_rows}
    assert without.token_rows < one.token_rows <= two.token_rows
    assert {each.token_rows for each in one if each.estimator == "sampled"} == {without.token_rows}
    assert {each.num_references for each in one if each.estimator == "importance"} == {300}


def test_collisions_are_said_and_counted(lstm):
    """A tokenizer that lowers capitals: fills that are encoded alike cost the same, and all of them count."""
    tokenizer = KINDS["wordpiece"]()
    model = oracles.TableModel(len(tokenizer))
    format = CanaryFormat("the pin {x}{x}{x} is", spaces={"x": [*"aAbB3"]})
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=3, seed=1)
    report = measure_exposure(
        model, tokenizer, canaries, estimators=["exact", "importance"], num_references=20, num_draws=3000, context="the"
    )
    costs = log_perplexity(model, tokenizer, list(format.candidates()), context="the")
    for each in report:
        fill = next(canary.fill for canary in canaries if canary.id == each.canary_id)
        truth = math.log2(125) - math.log2((costs <= costs[fill] + 1e-6).sum())
        assert each.flags[-1] == "collisions: 27 different encodings"
        assert each.value == pytest.approx(truth, abs=1e-6 if each.estimator == "exact" else 0.25)


def test_canaries_that_are_encoded_alike_count_once(lstm):
    """`a` and `A` in the hole of a tokenizer that lowers capitals: one encoding, two fills, and a rank of both."""
    tokenizer = KINDS["wordpiece"]()
    model = oracles.TableModel(len(tokenizer), seed=3)
    format = CanaryFormat("the pin {x} is", spaces={"x": [*"aAbB3kKmM9"]})
    drawn = CanarySet.draw(format, repetitions=(1,), per_repetition=2, seed=1)
    alike = CanarySet((replace(drawn[0], fill=0, twin=1), replace(drawn[1], fill=2, twin=9)), 1)
    costs = log_perplexity(model, tokenizer, list(format.candidates()), context="the")
    report = measure_exposure(
        model, tokenizer, alike, estimators=["importance"], num_references=2, num_draws=3000, context="the"
    )
    for each, fill in zip((*report, *report.twins), (0, 2, 1, 9), strict=True):
        truth = math.log2(10) - math.log2((costs <= costs[fill] + 1e-6).sum())
        assert each.low - 1e-9 <= truth <= each.high + 1e-9
        assert each.value == pytest.approx(truth, abs=0.2)


def test_every_estimate_says_that_there_are_collisions(lstm):
    """In whatever order the estimators are asked for."""
    tokenizer = KINDS["wordpiece"]()
    model = oracles.TableModel(len(tokenizer))
    format = CanaryFormat("the pin {x}{x}{x} is", spaces={"x": [*"aAbB3"]})
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=2, seed=1)
    names = ["sampled", "importance"]
    report = measure_exposure(model, tokenizer, canaries, estimators=names, num_references=20, context="the")
    assert all(each.flags[-1].startswith("collisions: 27") for each in (*report, *report.twins))


def test_ranks_are_counted_once(lstm, tokenizer):
    """`auto` and `exact` share the walk."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:5}"), repetitions=(1,), per_repetition=3, seed=2)
    alone, both = (
        measure_exposure(lstm, tokenizer, canaries, estimators=names, num_references=3)
        for names in (["exact"], ["exact", "auto"])
    )
    assert both.token_rows == alone.token_rows
    assert {each.status for each in both if each.estimator == "exact"} == {"exact"}


# ---------------------------------------------------------------------------------------------- time


def slowed(model, monkeypatch, seconds_a_row):
    """The same model, that takes so long for each row of a call."""
    forward = type(model).forward

    def slow(self, input_ids=None, **options):
        time.sleep(seconds_a_row * input_ids.shape[0])
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(model), "forward", slow)
    return model


def test_samples_shrink_to_the_time(lstm, tokenizer, monkeypatch):
    """Fewer references and draws, wider intervals, and about the time that was given; the same seed's first ones."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:7}"), repetitions=(1,), per_repetition=3, seed=2)
    options = {"estimators": ["sampled", "importance"], "num_references": 6000, "num_draws": 3000}
    whole = measure_exposure(lstm, tokenizer, canaries, **options)
    slow = slowed(lstm, monkeypatch, 2e-4)
    began = time.monotonic()
    short = measure_exposure(slow, tokenizer, canaries, max_seconds=1.5, **options)
    assert time.monotonic() - began < 2.5
    (references,) = short.references.values()
    assert 200 < len(references) < 6000
    (all_references,) = whole.references.values()
    np.testing.assert_allclose(references, all_references[: len(references)], atol=1e-3)
    for one, other in zip(whole, short, strict=True):
        if one.low < one.high and not math.isnan(other.value):
            assert other.high - other.low > one.high - one.low


def test_without_time_the_canaries_are_scored_all_the_same(lstm, tokenizer):
    """A millisecond: the first block of references and nothing else, for each format."""
    formats = [CanaryFormat("the pin is {digit:6}"), CanaryFormat("the pin {lower:5}.")]
    canaries = CanarySet.draw(formats, repetitions=(1,), per_repetition=2, seed=2)
    report = measure_exposure(lstm, tokenizer, canaries, max_seconds=1e-3)
    assert [len(references) for references in report.references.values()] == [256, 256]
    measured = [each for each in (*report, *report.twins) if each.estimator == "auto"]
    assert not any(math.isnan(each.value) for each in measured)
    assert {each.method for each in measured} == {"sampled"}
    none = measure_exposure(lstm, tokenizer, canaries, max_seconds=1e-3, estimators=["importance", "exact"])
    assert all(math.isnan(each.value) and each.flags[0].startswith("no time") for each in none)


def test_a_tokenizer_that_drops_the_secret_is_refused(lstm):
    """All candidates would cost the same, and canaries would seem to be forgotten."""
    tokenizer = letters_alone("thepinsĠ")
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:6}"), repetitions=(1,), per_repetition=2, seed=0)
    with pytest.raises(ModelError, match="writes nothing for '0'"):
        measure_exposure(lstm, tokenizer, canaries, estimators=["sampled"], num_references=60)


@pytest.mark.parametrize(("number", "name"), [(1, "the twin of f0-x1-0"), (2, "f0-x1-1")])
def test_a_canary_that_costs_otherwise_in_the_tree_is_an_error(lstm, tokenizer, monkeypatch, number, name):
    """A third of a bit more as a text than as a leaf: the tree's leaf would not be its encoding. It is named; also
    where there are just a canary and its twin.
    """
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:5}"), repetitions=(1,), per_repetition=number, seed=0)
    options = {"estimators": ["importance"], "num_references": 20, "num_draws": 200}
    measure_exposure(lstm, tokenizer, canaries, **options)
    score = observations.score_encoded

    def dearer(*given, **how):
        costs = score(*given, **how)
        return costs + 0.35 * (np.arange(len(costs)) == 1)

    monkeypatch.setattr(observations, "score_encoded", dearer)
    with pytest.raises(ModelError, match=f"{name} as its parts"):
        measure_exposure(lstm, tokenizer, canaries, **options)


def test_a_canary_that_is_no_leaf_is_an_error(lstm, tokenizer, monkeypatch):
    """Never a number; and named by its id, not by its text."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:5}"), repetitions=(1,), per_repetition=2, seed=0)
    lost = canaries[1].text
    leads = TokenTree.leads

    def without(tree, path):
        return leads(tree, path) and tree.text(path) != lost

    monkeypatch.setattr(TokenTree, "leads", without)
    with pytest.raises(ModelError, match="encodes f0-x1-1 as") as caught:
        measure_exposure(lstm, tokenizer, canaries, estimators=["importance"], num_references=20, num_draws=200)
    assert lost not in str(caught.value)


@pytest.mark.parametrize("num_draws", [1, 2, 3])
def test_draws_may_be_few(lstm, tokenizer, num_draws):
    """One alone is from the uniform rung, of whose prefixes nobody knows how many fills begin so; none is NaN's."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:3}"), repetitions=(1,), per_repetition=2, seed=0)
    report = measure_exposure(lstm, tokenizer, canaries, num_references=20, num_draws=num_draws)
    for each in report:
        assert math.isnan(each.value) == (each.estimator == "skewnorm" and math.isnan(each.low))
        assert each.estimator == "skewnorm" or each.low <= each.value <= each.high


def test_a_tree_that_cannot_be_derived_is_none():
    """Of a pattern that may match nothing: what needs no tree is measured, and the reason is said."""
    tokenizer = letters_alone()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("(?=7)"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    model = oracles.small_model("lstm", len(tokenizer), 0)
    canaries = CanarySet.draw(CanaryFormat("{digit:6}"), repetitions=(1,), per_repetition=4, seed=0)
    options = {"num_references": 20, "num_draws": 300}
    report = measure_exposure(model, tokenizer, canaries, estimators=["auto", "importance", "exact"], **options)
    for each in (*report, *report.twins):
        assert "a match of no character" in each.reason
        assert math.isnan(each.value) == (each.estimator != "auto")
        assert each.method == ("sampled" if each.estimator == "auto" else each.estimator)
    alone = measure_exposure(model, tokenizer, canaries, estimators=["sampled"], **options)
    assert [each.value for each in report if each.estimator == "auto"] == [each.value for each in alone]


@pytest.mark.parametrize(
    "request_",
    [
        {"max_seconds": 0},
        {"max_seconds": math.inf},
        {"max_seconds": math.nan},
        {"max_seconds": True},
        {"max_seconds": "1"},
        {"num_draws": 0},
        {"bootstrap": -1},
        {"bootstrap": 1.5},
        {"bootstrap": 9},
    ],
)
def test_bad_numbers_are_refused_by_name(lstm, tokenizer, request_):
    """Before any work."""
    canaries = CanarySet.draw(CanaryFormat("pin {digit:2}"), per_repetition=1, seed=0)
    with pytest.raises(ArgumentError, match=next(iter(request_))):
        measure_exposure(lstm, tokenizer, canaries, **request_)


# ---------------------------------------------------------------------------------------------- sources (§6.4)


@pytest.fixture(scope="module", params=[("lstm", True), ("gru", False)], ids=["attention", "thought"])
def translating(request, words):
    return oracles.small_translation(*request.param, len(words), seed=2).eval()


@pytest.fixture(scope="module")
def words():
    return models.word_tokenizer(["the pin is 0 1 2 3 4 5 6 7 8 9", "le code est ."] * 3, end_token=True)


def pair_costs(model, tokenizer, format):
    """Each pair of source and target alone."""
    found = []
    for fill in range(format.space_size):
        source = tokenizer(format.render_source(fill)).input_ids
        target = tokenizer(format.render(fill), add_special_tokens=False).input_ids
        found.append(oracles.log_perplexity_slowly(model, target, 0, source))
    return np.array(found)


def test_canaries_in_source_and_target(translating, words):
    """Each candidate is scored with its own source (Definition 2 over pairs); there is no tree of them."""
    format = CanaryFormat("le code est {digit}{digit}.", source="the pin is {digit}{digit}.")
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=3, seed=1)
    costs = pair_costs(translating, words, format)
    exact = measure_exposure(translating, words, canaries, estimators=["auto", "exact"])
    for each in exact:
        fill = next(canary.fill for canary in canaries if canary.id == each.canary_id)
        assert each.value == pytest.approx(math.log2(100) - math.log2((costs <= costs[fill] + 1e-6).sum()))
        assert each.log_perplexity == pytest.approx(costs[fill], abs=1e-3)
    names = ["auto", "importance", "exact"]
    by_references = measure_exposure(translating, words, canaries, estimators=names, num_references=40)
    for each in by_references:
        if each.estimator == "auto":
            assert each.method == "sampled"
        else:
            assert math.isnan(each.value)
            assert each.flags[0].startswith("each fill has its own source")
            assert ("num_references=100 scores all" in each.flags[0]) is (each.estimator == "exact")


def test_a_fixed_source_has_a_tree(translating, words):
    """One source for all: draws and counted ranks, equal to brute force."""
    format = CanaryFormat("le code est {digit}{digit}.", source="the pin is")
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=3, seed=1)
    costs = pair_costs(translating, words, format)
    names = ["exact", "importance"]
    report = measure_exposure(translating, words, canaries, estimators=names, num_references=10, num_draws=3000)
    for each in report:
        fill = next(canary.fill for canary in canaries if canary.id == each.canary_id)
        truth = math.log2(100) - math.log2((costs <= costs[fill] + 1e-6).sum())
        assert each.value == pytest.approx(truth, abs=1e-6 if each.estimator == "exact" else 0.3)


def test_an_encoder_decoder_needs_sources(translating, words):
    """Where none is read: said before any work."""
    canaries = CanarySet.draw(CanaryFormat("le code est {digit:2}."), repetitions=(1,), per_repetition=1, seed=1)
    for call in (measure_exposure, check_measurable):
        with pytest.raises(FormatError, match="source"):
            call(translating, words, canaries)


# ---------------------------------------------------------------------------------------------- sources as prompts


def rank_of(costs, fill):
    """By brute force; the others that are as likely as the canary, to rounding, count."""
    return int((costs <= costs[fill] + 1e-4).sum())


@pytest.mark.parametrize("before", ["", "q: "])
@pytest.mark.parametrize("begins", [True, False])
def test_each_fill_stands_behind_its_own_source(model, tokenizer, before, begins):
    """Of a causal model, as of an encoder-decoder: the rank among all fills, each behind its own prompt, whatever
    the prompts share; nothing, where the tokenizer begins no text by itself.
    """
    tokenizer = tokenizer if begins else without_bos(tokenizer)
    words = ["a", "be", "the", "pin", "cats", "dog", "is", "what", "not", "o"]
    format = CanaryFormat("the pin is {w}{digit}.", source="{w} or what?", spaces={"w": words})
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=3, seed=1)
    texts = [f"{before}{format.render_source(fill)} - " for fill in range(100)]
    costs = np.array(oracles.brute_force(model, tokenizer, [format.render(n) for n in range(100)], texts))
    given = f"{before}{format.source} - "
    report = measure_exposure(model, tokenizer, canaries, context=given, estimators=["auto", "exact", "importance"])
    for each in report:
        fill = next(canary.fill for canary in canaries if canary.id == each.canary_id)
        assert each.log_perplexity == pytest.approx(costs[fill], abs=1e-3)
        if each.estimator == "importance":
            assert each.flags[0].startswith("each fill has its own source")
        else:
            assert each.value == pytest.approx(math.log2(100 / rank_of(costs, fill)), abs=1e-9)
            assert each.status == "exact"
    assert "behind a source of its own" in str(report)
    (group,) = report.groups
    assert group.context == SourceContext(before, " - ")


class Repeating(oracles.TableModel):
    """Finds the first of some tokens that it has read likely, and all others alike."""

    def __init__(self, vocab_size, tokens):
        super().__init__(vocab_size)
        self.tokens = tokens

    def logits_after(self, prefix):
        logits = torch.zeros(self.vocab_size)
        read = [token for token in prefix if token in self.tokens]
        logits[read[:1]] = 9.0
        return logits


def test_what_a_source_tells_is_no_memory(tokenizer):
    """A model that repeats what it was asked for and knows nothing: behind its own prompt a canary is one of all, and
    behind the prompt of the canary all others would be unlikely.
    """
    format = CanaryFormat("no {digit}{lower}", source="{digit}: ")
    model = Repeating(len(tokenizer), tokenizer("0123456789", add_special_tokens=False).input_ids)
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=4, seed=1)
    report = measure_exposure(model, tokenizer, canaries, estimators=["auto"])
    for each, canary in zip(report, canaries, strict=True):
        assert (each.low, each.high) == (0.0, math.log2(260))  # all are alike
        (rank,) = exact_rank(model, tokenizer, format, [canary.fill], source=canary.source)
        assert (rank.rank, rank.ties) == (26, 25)  # log2(10) bits, of which none was learned


@pytest.mark.parametrize("given", [None, "", "a cat. "])
def test_a_fixed_source_is_the_prompt(lstm, tokenizer, given):
    """Unless another context is given; draws and counted ranks are there, as there is one tree."""
    format = CanaryFormat("the pin is {digit:3}", source="what is it? ")
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=2, seed=1)
    bare = CanarySet(tuple(canary.seen_as(CanaryFormat(format.template)) for canary in canaries), canaries.seed)
    text = "what is it? " if given is None else given
    how = {"num_references": 20, "estimators": ["exact", "importance"], "num_draws": 100}
    expected = measure_exposure(lstm, tokenizer, bare, context=text, **how)
    found = measure_exposure(lstm, tokenizer, canaries, context=given, **how)
    assert [each.value for each in found] == pytest.approx([each.value for each in expected], abs=1e-6)
    if given is None:
        prefixed = measure_exposure(lstm, tokenizer, canaries, source_prefix="a: ", **how)
        expected = measure_exposure(lstm, tokenizer, bare, context="a: what is it? ", **how)
        assert [each.value for each in prefixed] == pytest.approx([each.value for each in expected], abs=1e-6)


def test_contexts_without_the_source_are_refused(lstm, tokenizer):
    """Where each fill has its own: in words; nothing, and tokens, are what they are. Before any work."""
    format = CanaryFormat("the pin is {digit} {digit}", source="pin {digit}?")
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=2, seed=1)
    for context, error in (
        ("the cat. ", ArgumentError),
        ("pin 7? ", ArgumentError),
        ("pin {digit}? {digit} ", FormatError),
    ):
        for call in (measure_exposure, check_measurable):
            with pytest.raises(error) as caught:
                call(lstm, tokenizer, canaries, context=context)
            check_error(caught.value, error, "context")
    for context in ("", Context(tuple(tokenizer("pin 7? ").input_ids))):
        for each in measure_exposure(lstm, tokenizer, canaries, context=context, estimators=["sampled"]):
            canary = next(canary for canary in canaries if canary.id == each.canary_id)
            (expected,) = log_perplexity(lstm, tokenizer, [canary.text], context=context)
            assert each.log_perplexity == pytest.approx(expected, abs=1e-3)
    with pytest.raises(ArgumentError) as caught:
        log_perplexity(lstm, tokenizer, ["a"], context=SourceContext("a", "b"))
    check_error(caught.value, ArgumentError, "context")
    with pytest.raises(ArgumentError) as caught:
        Measurement(canaries, tokenizer).measure(lstm)
    check_error(caught.value, ArgumentError, "target")


# ---------------------------------------------------------------------------------------------- bits and the null


def test_the_bits_of_a_fill_are_what_follows_the_shared_text(model, tokenizer):
    """Teacher forcing, token by token, from the first hole on; and so many samples give even odds."""
    format = CanaryFormat("the pin is {digit:3}.")
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=2, seed=3)
    report = measure_exposure(model, tokenizer, canaries, estimators=["sampled"], num_references=50)
    for canary in canaries:
        ids = tokenizer(canary.text).input_ids
        expected = oracles.teacher_forced_bits(model, ids, len(ids) - 4)
        assert report.fill_bits[canary.id] == pytest.approx(expected, abs=1e-3)


def test_what_was_never_inserted_has_the_null_law(lstm, tokenizer):
    """Ten thousand uninserted fills of 10^6 under a model: exposures are exponential with mean 1.44 bits (KS)."""
    format = CanaryFormat("the pin is {digit:6}")
    fills = format.sample(20_000, "null")
    costs = log_perplexity(lstm, tokenizer, [format.render(fill) for fill in fills])
    exposures = [each.value for each in sampled(costs[:10_000], costs[10_000:], format.space_size)]
    assert np.mean(exposures) == pytest.approx(1 / math.log(2), abs=0.06)
    # Those who share references deviate together, by as much again as each by itself.
    assert stats.kstest(np.array(exposures), "expon", args=(0, 1 / math.log(2))).statistic < 1.95 * math.sqrt(
        2 / 10_000
    )


def test_what_cannot_be_measured_is_said_of_its_format():
    """Of two formats one is a single token, before which a tokenizer without a BOS puts nothing."""
    tokenizer = letters_alone()
    model = oracles.small_model("gpt2", len(tokenizer), seed=1).eval()
    formats = [CanaryFormat("the pin is {digit:3}"), CanaryFormat("{digit}")]
    canaries = CanarySet.draw(formats, repetitions=(1,), per_repetition=1, seed=2)
    with pytest.raises(
        ModelError, match=r"got no context, in the format '\{digit\}'\. Give context=: what stands before it"
    ):
        check_measurable(model, tokenizer, canaries)


def test_without_a_tree_what_needs_one_is_refused_before_any_work(monkeypatch):
    """Not scored for a minute and then without an estimate; other estimators go without it, and say so in few words."""
    tokenizer = letters_alone()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"(\d)\1"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    model = oracles.small_model("lstm", len(tokenizer), seed=1).eval()
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:5}"), repetitions=(1,), per_repetition=2, seed=2)
    both = measure_exposure(model, tokenizer, canaries, num_references=50, estimators=["auto", "exact"])
    reason = next(each.reason for each in both if each.estimator == "exact")
    assert "no token tree: a part that is not followed: the escape \\1" in reason
    assert len(reason) < 150
    formats = [CanaryFormat("the pin is {digit:3}"), CanaryFormat("the pin is {digit:5}")]
    mixed = CanarySet.draw(formats, repetitions=(1,), per_repetition=1, seed=2)
    values = [each.value for each in measure_exposure(model, tokenizer, mixed, num_references=50, estimators=["exact"])]
    assert [math.isnan(value) for value in values] == [False, True]
    monkeypatch.setattr(model, "forward", lambda *_, **__: pytest.fail("the model was asked"))
    for estimators in (["exact"], ["importance", "exact"]):
        with pytest.raises(ModelError, match="a part that is not followed"):
            measure_exposure(model, tokenizer, canaries, num_references=50, estimators=estimators)

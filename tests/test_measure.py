"""Log-perplexity and exposure of real models: equal to the slow way, and leaving everything as it was."""

import json
import math

import numpy as np
import pytest
import torch

from hf_canary import CanaryFormat, CanarySet, log_perplexity, measure_exposure
from hf_canary.errors import CanaryError, DataError, FormatError, ModelError
from hf_canary.exposures import CENSORED
from hf_canary.measure import check_measurable
from hf_canary.results import Exposure, ExposureReport, summary_keys
from tests import oracles


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


def without_bos(tokenizer):
    """The same tokenizer, that puts nothing first."""
    from tokenizers import processors

    import hf_canary.models as models

    bare = models.character_tokenizer([c for c in tokenizer.get_vocab() if len(c) == 1])
    bare.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")
    return bare


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
        measure_exposure(lstm, tokenizer, canaries, num_references=200, seed=seed).references[canaries.formats[0]]
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
    assert list(summary) == summary_keys(canaries)
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
        {"num_references": 0},
        {"num_references": 2.5},
    ],
)
def test_bad_requests(lstm, tokenizer, request_):
    """Each is a DataError before the model is touched."""
    canaries = CanarySet.draw(CanaryFormat("pin {digit:2}"), per_repetition=1, seed=0)
    with pytest.raises(DataError):
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
    report = ExposureReport(exposures, exposures, canaries, {}, 0.0)
    assert report.levels[0].censored is marked


def test_an_empty_set_has_no_exposure(lstm, tokenizer):
    """... and asking for it is a mistake."""
    with pytest.raises(DataError, match="canaries"):
        measure_exposure(lstm, tokenizer, CanarySet((), 0))


def test_empty_texts_are_an_error_and_no_texts_are_none(lstm, tokenizer):
    """An empty text has no log-perplexity; an empty list has an empty answer."""
    with pytest.raises(DataError, match=r"texts\[1\]"):
        log_perplexity(lstm, tokenizer, ["a", ""])
    assert log_perplexity(lstm, tokenizer, []).shape == (0,)


def test_the_check_before_training_sees_what_a_look_would(lstm, tokenizer):
    """A character of the alphabet that no canary happens to hold, and logits that are NaN."""
    rare = CanaryFormat("{c:3}.", spaces={"c": [*"abcdefghij", "Ω"]})
    draws = (CanarySet.draw(rare, per_repetition=1, seed=seed) for seed in range(100))
    without = next(drawn for drawn in draws if not any("Ω" in c.text + c.twin_text for c in drawn))
    with pytest.raises(ModelError, match="Ω"):
        check_measurable(lstm, tokenizer, without)
    broken = oracles.small_model("lstm", len(tokenizer))
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(CanaryError, match="NaN"):
        check_measurable(broken, tokenizer, CanarySet.draw(CanaryFormat("pin {digit:2}"), per_repetition=1, seed=0))

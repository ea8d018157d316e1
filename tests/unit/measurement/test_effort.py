"""What a measurement will take, against what it takes."""

import itertools
import random

import pytest

from hf_canary import CanaryFormat, CanarySet
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.measure import Measurement
from hf_canary.measurement import effort
from hf_canary.measurement.effort import expected_token_rows, rows_of_measurement, seconds_a_row, seconds_a_token
from tests.support import oracles
from tests.support.tokenizers_of_all_kinds import KINDS


def num_prefixes(sequences):
    """Different ones that have a next token."""
    return len({tuple(each[:length]) for each in sequences for length in range(1, len(each))})


@pytest.mark.parametrize("digits", [2, 3, 6, 12])
@pytest.mark.parametrize("count", [64, 256, 1_000, 5_000])
def test_rows_of_random_numbers(digits, count):
    """From 256 numbers, with prefixes in common, for as many as are wanted; of all that there are it knows no more."""
    generator = random.Random(0)
    numbers = [[10, 11, *(generator.randrange(10) for _ in range(digits)), 12] for _ in range(5_000)]
    assert expected_token_rows(numbers[:256], count) == pytest.approx(num_prefixes(numbers[:count]), rel=0.1)


def test_all_alike_and_all_different():
    """The ends of what is possible, and lengths that differ."""
    assert expected_token_rows([[1, 2, 3]] * 9, 1_000) == 2
    different = [[number, 1, 2] for number in range(50)]
    assert expected_token_rows(different, 1_000) == 2_000
    mixed = [[number] if number % 2 else [number, 1] for number in range(50)]
    assert expected_token_rows(mixed, 1_000) == 500


@pytest.mark.parametrize("kind", ["characters", "gpt2", "unigram"])
def test_rows_of_a_measurement(kind):
    """Scored, drawn and counted: what a measurement takes is no more, and not much less."""
    tokenizer = KINDS[kind]()
    model = oracles.small_model("gpt2", len(tokenizer))
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:5}"), repetitions=(1, 2), per_repetition=1, seed=0)
    for references, draws in itertools.product((300, 2_000), (200, 1_000)):
        measurement = Measurement(canaries, tokenizer, num_references=references, num_draws=draws, bootstrap=0)
        (encoded_format,) = measurement.encoded_formats
        scored = rows_of_measurement(encoded_format, references, 0, 0.0)
        report = measurement.measure(model)
        taken = {each.estimator: each.token_rows for each in report}
        assert taken["skewnorm"] == pytest.approx(scored, rel=0.15)
        assert taken["auto"] <= 1.25 * rows_of_measurement(encoded_format, references, draws, 20.0)


@pytest.mark.parametrize("target", [True, False])
def test_of_each_fill_with_a_source_of_its_own(target):
    """Read one by one; of a decoder what it writes is counted, of a causal model the source, too."""
    canaries = CanarySet.draw(CanaryFormat("pin {digit:4}", source="the pin {digit:4}"), per_repetition=1, seed=0)
    tokenizer = KINDS["gpt2"]()
    size = len(tokenizer)
    model = oracles.small_translation("gru", True, size) if target else oracles.small_model("gpt2", size)
    measurement = Measurement(canaries, tokenizer, num_references=300, bootstrap=0, target=target)
    (encoded_format,) = measurement.encoded_formats
    expected = pytest.approx(rows_of_measurement(encoded_format, 300, 1_000, 5.0), rel=0.1)
    assert all(each.token_rows == expected for each in measurement.measure(model) if each.estimator == "skewnorm")


def test_a_row_takes_what_more_of_them_take(monkeypatch):
    """By a clock that each call of the model moves by 1 and each token that it is given by 0.01: the prompt and the
    check of the cache, which each scoring here has, are left out; one pass for a batch.
    """
    tokenizer = KINDS["characters"]()
    model = oracles.small_model("gpt2", len(tokenizer))
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:5}"), per_repetition=1, seed=0)
    (encoded_format,) = Measurement(canaries, tokenizer, num_references=300).encoded_formats
    scorings, original, passed = [], effort.score_encoded, [0.0]

    def forward(_, given, options):
        passed[0] += 1.0 + 0.01 * options["input_ids"].numel()

    model.register_forward_pre_hook(forward, with_kwargs=True)
    monkeypatch.setattr(
        effort, "score_encoded", lambda *given, **how: scorings.append(len(given[1])) or original(*given, **how)
    )
    monkeypatch.setattr(effort.time, "perf_counter", lambda: passed[0])
    with evaluating(model) as bare:
        language_model = LanguageModel(bare)
        seconds_a_row(language_model, encoded_format)
        assert scorings == [2, 8, 32]  # which took long enough
        scorings.clear()
        monkeypatch.setattr(effort, "_LONG_ENOUGH", 2.0)  # less than each scoring takes, more than eight fills add
        assert seconds_a_row(LanguageModel(bare), encoded_format) == pytest.approx(0.01, rel=0.5)
        assert scorings == [2, 8, 32, 128]
        scorings.clear()
        monkeypatch.setattr(effort, "_LONG_ENOUGH", 1e9)
        found = seconds_a_row(LanguageModel(bare), encoded_format)
        assert scorings == [2, 8, 32, 128, 256]
        assert found == pytest.approx(0.01, rel=0.1)  # and no calls, of which the last two scorings have as many
        clock = itertools.count()
        monkeypatch.setattr(effort.time, "perf_counter", lambda: float(next(clock)))
        assert seconds_a_token(language_model, 3, 7) == pytest.approx(1 / 21)


def test_where_more_fills_have_hardly_more_prefixes(monkeypatch):
    """By the same clock: they are compared with fills of clearly fewer prefixes, not with the last but one, beside
    which the calls of all would be taken for what a row or two takes.
    """
    tokenizer = KINDS["characters"]()
    model = oracles.small_model("lstm", len(tokenizer))
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:3}"), per_repetition=1, seed=0)
    (encoded_format,) = Measurement(canaries, tokenizer, num_references=300).encoded_formats
    passed = [0.0]

    def forward(_, given, options):
        passed[0] += 1.0 + 0.1 * options["input_ids"].numel()

    model.register_forward_pre_hook(forward, with_kwargs=True)
    monkeypatch.setattr(effort.time, "perf_counter", lambda: passed[0])
    monkeypatch.setattr(effort, "_LONG_ENOUGH", 1e9)
    with evaluating(model) as bare:
        assert seconds_a_row(LanguageModel(bare), encoded_format) == pytest.approx(0.1, rel=0.3)


def test_what_is_lost_in_noise_is_not_believed(monkeypatch):
    """More fills that take as long as fewer say no more than that no row takes longer than a scoring."""
    readings = iter([(1.0, 4), (1.04, 14), (0.99, 40), (1.02, 100), (1.05, 210)])
    passed, told = [0.0], []

    def scored(language_model, *_, **__):
        seconds, rows = next(readings)
        told.append((seconds, rows))
        passed[0] += seconds
        language_model.token_rows += rows

    monkeypatch.setattr(effort, "_LONG_ENOUGH", 0.03)
    monkeypatch.setattr(effort, "score_encoded", scored)
    monkeypatch.setattr(effort.time, "perf_counter", lambda: passed[0])
    tokenizer = KINDS["characters"]()
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:5}"), per_repetition=1, seed=0)
    (encoded_format,) = Measurement(canaries, tokenizer, num_references=300).encoded_formats
    with evaluating(oracles.small_model("lstm", len(tokenizer))) as bare:
        found = seconds_a_row(LanguageModel(bare), encoded_format)
    assert len(told) == 5
    assert found == pytest.approx(1.05 / 210)

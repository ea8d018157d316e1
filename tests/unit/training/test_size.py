"""How large measurements are: by seconds and shares of our own, and in trainings."""

import functools
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_canary import CanaryFormat, CanarySet
from hf_canary.measure import Measurement
from hf_canary.measurement import effort
from hf_canary.training import foresight, run
from hf_canary.training.foresight import mean_length
from hf_canary.training.record import SIZE, Record
from hf_canary.training.size import SIZES, Size, chosen, num_draws, percent, share_of
from tests.support import oracles
from tests.support.small_training import CANARIES, LETTERS, entries, lstm, rows, watched

SECONDS = st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4).map(sorted)


@given(SECONDS, st.floats(1e-3, 1e6), st.integers(1, 50), st.floats(0.001, 0.5))
def test_the_largest_that_fits_is_chosen(times, training, count, wanted):
    """All that are larger take too much; and it fits, unless it is the least."""
    seconds = dict(zip(sorted(SIZES), times, strict=True))
    size = chosen(seconds, training, count, wanted)
    shares = {each: count * seconds[each] / (count * seconds[each] + training) for each in SIZES}
    assert size.share == pytest.approx(shares[size.num_references])
    assert size.share <= wanted or size.num_references == min(SIZES)
    assert all(shares[each] > wanted for each in SIZES if each > size.num_references)


def test_draws_are_in_proportion(monkeypatch):
    """Of 2,000 beside 10,000 references, and no more beside more; one at least."""
    monkeypatch.setattr("hf_canary.training.size.DRAWS", 2_000)
    assert [num_draws(count) for count in (20_000, 10_000, 3_000, 256, 1)] == [2_000, 2_000, 600, 51, 1]
    assert share_of(0.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("size", "wanted", "words"),
    [
        (
            Size(3000, False, 6, 0.042),
            0.05,
            "exposure: 6 measurements of 3,000 references each, about 4 % of the training",
        ),
        (Size(10_000, False, 1, 0.0004), 0.05, "1 measurement of 9,992 references, less than 0.1 %"),
        (Size(256, False, 40, 0.311), 0.05, "about 31 % of the training, where max_overhead is 5 %: the fewest that"),
        (
            Size(256, True, 40, 0.311),
            0.05,
            "exposure: 40 measurements of 256 references each, about 31 % of the training",
        ),
        (Size(256, False, 40), 0.05, "40 measurements of 256 references each"),
    ],
)
def test_a_line_says_it(size, wanted, words):
    """How many, how large, and how much of the time; what is given by hand, or not foreseen, is no reproach."""
    line = size.in_words(CANARIES, wanted)
    assert words in line
    assert ("max_overhead" in line) == ("max_overhead" in words)


def test_numbers_in_words():
    """No more exact than they are known."""
    assert [percent(each) for each in (0.0001, 0.004, 0.056, 0.31, 0.998)] == [
        "less than 0.1 %", "about 0.4 %", "about 6 %", "about 31 %", "about 100 %",
    ]  # fmt: skip


@pytest.fixture
def taking(monkeypatch):
    """A function that says how many seconds a full measurement takes where all steps take 100; others in proportion."""

    def take(full):
        def foreseen(at, measurement, loader, sizes, batch_size):
            return {size: full * size / 10_000 for size in sizes}, 100.0

        monkeypatch.setattr(run, "foreseen", foreseen)

    return take


@pytest.mark.parametrize(
    ("full", "options", "expected"),
    [
        (1.0, {}, 10_000),
        (10.0, {}, 1_000),
        (100.0, {}, 256),
        (10.0, {"max_overhead": 0.2}, 10_000),
        (10.0, {"max_overhead": None}, 10_000),
        (1e9, {"max_seconds": 2.0}, 10_000),  # two of them take four seconds
        (1e9, {"num_references": 61}, 61),
    ],
)
def test_the_size_is_chosen_and_kept(tmp_path, taking, full, options, expected, capsys):
    """Of two measurements; the record has the size, the first line says it, and a training that goes on keeps it,
    whatever a measurement takes by then.
    """
    taking(full)
    options = {"measure_at": [2, 3, 10], "num_references": None, **options}
    saved = {"eval_strategy": "no", "save_strategy": "steps", "save_steps": 4}
    trainer, callback = watched(tmp_path, options=options, max_steps=4, **saved)
    trainer.train()
    possible = min(expected, 10_000 - 8)
    assert callback.num_references == expected
    if "max_seconds" not in options:
        assert {len(costs) for costs in callback.report.references.values()} == {possible}
    sizes = [line["num_references"] for line in Record(tmp_path).lines() if line.get("role") == SIZE]
    assert sizes == [expected]
    assert f"of {possible:,} references" in capsys.readouterr().out.split("step 2 ")[0]  # before the first measurement
    taking(1.0 if expected < 10_000 else 1e6)
    trainer, callback = watched(tmp_path, options=options, max_steps=10, **saved)
    trainer.train(resume_from_checkpoint=True)
    assert callback.num_references == expected
    assert [line["num_references"] for line in Record(tmp_path).lines() if line.get("role") == SIZE] == [expected]


def test_a_failure_to_foresee_is_told_and_the_least_is_measured(tmp_path, monkeypatch, caplog):
    """A training does not end for it, unless it is to."""

    def fails(*_):
        raise RuntimeError("no clock")

    monkeypatch.setattr(run, "foreseen", fails)
    trainer, callback = watched(tmp_path, options={"num_references": None}, num_train_epochs=1)
    trainer.train()
    assert callback.num_references == 256
    assert "could not be foreseen" in caplog.text
    assert math.isfinite(entries(trainer)[-1]["eval_exposure_mean"])
    trainer, _ = watched(tmp_path, options={"strict": True}, num_train_epochs=1)
    with pytest.raises(RuntimeError, match="no clock"):
        trainer.train()


def test_what_is_foreseen_is_what_it_takes(tmp_path, monkeypatch):
    """By a clock that counts the tokens that the model reads: a measurement takes its token rows, whatever is read
    besides to try a cache; and the steps three times their batches.
    """
    options = {"num_references": 3_000, "measure_at": [24]}
    model = functools.partial(oracles.small_model, "gpt2", len(LETTERS))
    trainer, callback = watched(tmp_path, options=options, num_train_epochs=3, model=model, eval_strategy="no")
    read, found, original = [0], [], run.foreseen
    trainer.model.register_forward_pre_hook(
        lambda _, args, given: read.__setitem__(0, read[0] + given["input_ids"].numel()), with_kwargs=True
    )
    monkeypatch.setattr(effort.time, "perf_counter", lambda: float(read[0]))
    monkeypatch.setattr(effort, "_LONG_ENOUGH", 500.0)
    monkeypatch.setattr("hf_canary.training.size.DRAWS", 1)  # neither draws nor counts, which nothing here needs
    monkeypatch.setattr("hf_canary.training.foresight.COUNTING", 0.0)
    monkeypatch.setattr(run, "foreseen", lambda *given: found.append(original(*given)) or found[-1])
    trainer.train()
    ((seconds, training),) = found
    assert seconds[3_000] == pytest.approx(callback.report.token_rows, rel=0.5)
    assert training == 24 * 3 * 4 * mean_length(trainer.get_train_dataloader())


@pytest.mark.parametrize(
    ("foreseen", "seconds", "steps", "share"),
    [
        (0.05, 1.0, 120.0, None),  # 0.077
        (0.05, 1.0, 80.0, 10 / 90),
        (0.30, 1.0, 80.0, 10 / 90),
        (0.20, 1.0, 80.0, None),
        (0.05, 0.09, 1.0, None),  # less than a second of all
        (1e-5, 1.0, 1e4, None),  # a thousandth, foreseen as less than that
        (math.nan, 1.0, 80.0, 10 / 90),
    ],
)
def test_a_share_is_corrected_where_it_matters(foreseen, seconds, steps, share):
    """Ten measurements: by a factor of two, and not where both are little."""
    found = Size(256, num_measurements=10, share=foreseen).corrected(seconds, steps)
    assert (found is None) == (share is None)
    assert share is None or found == Size(256, num_measurements=10, share=pytest.approx(share))


@pytest.mark.parametrize("resumed", [False, True])
def test_what_was_foreseen_wrongly_is_corrected_once(tmp_path, monkeypatch, capsys, resumed):
    """After the first measurement behind a step, by the steps since the training began or went on."""
    monkeypatch.setattr("hf_canary.training.size._WORTH_SAYING", 0.0)
    monkeypatch.setattr(run, "foreseen", lambda *_: ({40: 1e-6}, 1.0))
    saved = {"eval_strategy": "no", "save_strategy": "steps", "save_steps": 2}
    asked = []
    corrected = Size.corrected
    monkeypatch.setattr(Size, "corrected", lambda *given: asked.append(given[1:]) or corrected(*given))
    for steps in (2, 6) if resumed else (6,):
        capsys.readouterr(), asked.clear()
        trainer, callback = watched(tmp_path, options={"measure_at": [0, 2, 4, 6]}, max_steps=steps, **saved)
        clock = iter(range(1000))  # a tenth of a second for each time that somebody asks
        monkeypatch.setattr(callback._plan.budget, "_now", lambda clock=clock: 0.1 * next(clock))
        monkeypatch.setattr(callback._plan.budget, "charge", lambda _: None)
        trainer.train(resume_from_checkpoint=resumed and steps == 6)
        said = capsys.readouterr().out
        assert "less than 0.1 % of the training" in said
        assert said.count("of the training, now that steps are timed") == 1
    ((_, all_steps),) = asked
    assert all_steps == pytest.approx(0.2 if resumed else 0.3)


def test_rows_are_as_long_as_they_are():
    """On average of the first ones; a stream's rows are not read for it."""

    class Loader:
        dataset = rows()

    lengths = [len(row["input_ids"]) for row in list(rows())[:32]]
    assert mean_length(Loader) == round(sum(lengths) / len(lengths))
    Loader.dataset = rows().to_iterable_dataset()
    assert mean_length(Loader) == mean_length(None) == 128


def test_twins_and_canaries_are_no_references():
    """Of a small format there are as many references as other fills."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:2}"), repetitions=(1, 2), per_repetition=2, seed=0)
    assert "of 92 references" in Size(10_000, False, 3, 0.01).in_words(canaries, 0.05)


def test_what_a_row_takes_is_told_by_the_format_that_has_most(monkeypatch):
    """A format of a hundred fills has hardly a row, and all that a scoring takes beside rows would be taken for it."""
    canaries = CanarySet.draw([CanaryFormat("the pin is {digit:2}"), CanaryFormat("row {digit:6}")], per_repetition=1)
    measurement, asked = Measurement(canaries, LETTERS, num_references=256), []
    monkeypatch.setattr(foresight, "seconds_a_row", lambda _, encoded_format: asked.append(encoded_format) or 1e-5)
    at = SimpleNamespace(
        args=SimpleNamespace(gradient_accumulation_steps=1, per_device_train_batch_size=2),
        model=lstm(),
        state=SimpleNamespace(max_steps=3),
    )
    foresight.foreseen(at, measurement, SimpleNamespace(dataset=rows()), [256], None)
    assert [each.format.template for each in asked] == ["row {digit:6}"]

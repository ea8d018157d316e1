"""The callback: its numbers are those of a measurement, they are where they should be, and training does not notice."""

import json
import logging
import math

import pytest
from transformers import EarlyStoppingCallback, TrainerCallback

import hf_canary.models as models
from hf_canary import CanaryFormat, CanarySet, ExposureCallback
from hf_canary.callback import RECORD_FILE
from hf_canary.errors import ArgumentError, CanaryError, ModelError
from hf_canary.training.public import public_keys, public_summary
from tests.support.small_training import (
    CANARIES,
    LETTERS,
    entries,
    exposure_callback,
    make_trainer,
    measured,
    records,
    steps,
)
from tests.support.tokenizers_of_all_kinds import letters_alone


class Steps(TrainerCallback):
    """Counts what a training did."""

    def __init__(self):
        self.steps = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1


def test_the_last_measurement_equals_one_made_afterwards(tmp_path, capsys):
    """Every evaluation's one entry in the log holds all keys; the last has the values of measure_exposure."""
    callback = exposure_callback()
    trainer = make_trainer(tmp_path, callbacks=[callback])
    trainer.train()
    assert len(entries(trainer)) == len(entries(trainer, "eval_loss")) == 2
    expected = public_summary(measured(trainer.model))
    for name in public_keys(CANARIES):
        assert all(type(entry[f"eval_{name}"]) is float for entry in entries(trainer, "eval_loss"))
        if name != "exposure_seconds":
            assert entries(trainer)[-1][f"eval_{name}"] == pytest.approx(expected[name], nan_ok=True)
    assert round(callback.report.summary()["exposure_mean"], 1) == entries(trainer)[-1]["eval_exposure_mean"]
    printed = [line for line in capsys.readouterr().out.splitlines() if "exposure (bits)" in line]
    assert len(printed) == 2
    assert f"{expected['exposure_x2']:.1f}" in printed[-1]
    assert "eval loss" in printed[-1]


def test_the_record_has_each_measurement_and_no_text(tmp_path):
    """One line for each measurement, canary, twin and estimator, for the owner alone; an earlier training's is set
    aside.
    """
    for _ in range(2):
        make_trainer(tmp_path, callbacks=[exposure_callback()]).train()
    assert {path.name for path in tmp_path.glob("*exposure*")} == {RECORD_FILE, "_exposure.1.jsonl"}
    texts = [path.read_text() for path in tmp_path.glob("*exposure*")]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.glob("*exposure*"))
    text = texts[0]
    lines = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert [lines.pop(0)["role"] for _ in range(2)] == ["contexts", "size"]
    measurements = [line for line in lines if line["role"] == "measurement"]
    lines = [line for line in lines if line["role"] != "measurement"]
    assert [line["step"] for line in measurements] == [8, 16]
    assert {line["provenance"]["canaries"]["fingerprint"] for line in measurements} == {CANARIES.fingerprint}
    assert {line["canaries"] for line in lines + measurements} == {CANARIES.digest[:16]}
    assert len(lines) == 2 * len(CANARIES) * 2 * 2
    assert {line["step"] for line in lines} == {8, 16}
    assert {line["canary_id"] for line in lines} == {canary.id for canary in CANARIES}
    assert not any(canary.text in text or canary.twin_text in text for canary in CANARIES)


def test_measurements_before_the_start_stay_in_the_record(tmp_path):
    """A baseline at step 0 is kept; a torn last line of a killed run is not."""
    trainer = make_trainer(tmp_path, callbacks=[exposure_callback()])
    trainer.evaluate()
    with (tmp_path / RECORD_FILE).open("a") as record:
        record.write('{"step": 0, "torn')
    trainer.train()
    assert steps(tmp_path) == [0, 8, 16]


def test_a_baseline_outlives_a_training_that_fails(tmp_path):
    """Which is refused, or breaks off: what was measured before it is that of the next, not an earlier training's."""

    class Break(TrainerCallback):
        def on_step_begin(self, *_, **__):
            raise KeyError("broken")

    callback = exposure_callback()
    trainer = make_trainer(tmp_path, callbacks=[callback])
    trainer.evaluate()
    breaks = Break()
    trainer.add_callback(breaks)
    with pytest.raises(KeyError, match="broken"):
        trainer.train()
    trainer.remove_callback(breaks)
    trainer.train()
    assert steps(tmp_path) == [0, 8, 16]
    assert not list(tmp_path.glob("_exposure.*.jsonl"))


@pytest.mark.parametrize("bound", [False, True])
def test_exposure_can_choose_the_best_model(tmp_path, bound):
    """metric_for_best_model sees the keys, and the checkpoint chosen has the least exposure of all measurements."""
    trainer = make_trainer(
        tmp_path,
        num_train_epochs=3,
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="exposure_mean",
        greater_is_better=False,
    )
    trainer.add_callback(exposure_callback(trainer=trainer) if bound else exposure_callback())
    trainer.train()
    seen = [entry["eval_exposure_mean"] for entry in entries(trainer)]
    assert trainer.state.best_metric == min(seen)
    found = public_summary(measured(trainer.model))["exposure_mean"]
    assert found == pytest.approx(min(seen))
    # After training the weights are the best ones at the same step: a further evaluation measures anew.
    for _ in range(2):
        assert trainer.evaluate()["eval_exposure_mean"] == pytest.approx(min(seen))


def test_bound_to_the_trainer_every_reader_sees_the_numbers(tmp_path, monkeypatch):
    """TensorBoard, early stopping listed before us, and one entry in the log."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    trainer = make_trainer(
        tmp_path,
        callbacks=[EarlyStoppingCallback(1, 100.0)],
        report_to="tensorboard",
        num_train_epochs=4,
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_exposure_mean",
        greater_is_better=False,
    )
    trainer.add_callback(exposure_callback(trainer=trainer))
    trainer.train()
    assert len(entries(trainer)) == 2  # stopped: no measurement could better the first by 100 bits
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    written = [event.value for event in events.Scalars("eval/exposure_mean")]
    assert written == pytest.approx([entry["eval_exposure_mean"] for entry in entries(trainer)])


def test_unbound_beside_a_reporter_says_what_it_cannot_reach(tmp_path, monkeypatch, caplog):
    """... and how to reach it; once."""
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    make_trainer(tmp_path, callbacks=[exposure_callback()], report_to="tensorboard").train()
    assert sum("trainer=trainer" in record.message for record in caplog.records) == 1


def test_several_evaluation_sets_are_one_measurement(tmp_path):
    """The keys go to the step's first evaluation, and only there."""
    callback = exposure_callback()
    trainer = make_trainer(tmp_path, callbacks=[callback], num_train_epochs=1)
    trainer.eval_dataset = {"one": trainer.eval_dataset, "two": trainer.eval_dataset}
    trainer.train()
    holding = [entry for entry in trainer.state.log_history if any("exposure_mean" in name for name in entry)]
    assert [next(name for name in entry if name.endswith("exposure_mean")) for entry in holding] == [
        "eval_one_exposure_mean"
    ]


def test_a_failing_measurement_does_not_end_the_training(tmp_path, caplog):
    """Its keys are there and NaN, the error is logged and recorded, the next measurement is tried."""

    class Spoil(TrainerCallback):
        def on_epoch_end(self, args, state, control, model=None, **kwargs):
            if state.epoch == 1:
                self.kept = model.lm_head.weight.clone()
                model.lm_head.weight.data.fill_(float("nan"))

        def on_epoch_begin(self, args, state, control, model=None, **kwargs):
            if hasattr(self, "kept"):
                model.lm_head.weight.data.copy_(self.kept)

    trainer = make_trainer(tmp_path, callbacks=[Spoil(), exposure_callback()], optim="sgd", learning_rate=1e-3)
    trainer.train()
    first, second = entries(trainer)
    for name in public_keys(CANARIES):
        assert math.isnan(first[f"eval_{name}"])
    assert second["eval_exposure_mean"] >= 0
    assert any("measurement at step 8 failed" in record.message for record in caplog.records)
    lines = records(tmp_path)
    assert lines[0]["role"] == "failure"
    assert {line["step"] for line in lines[1:]} == {16}


def test_an_error_that_is_not_ours_does_not_end_the_training_either(tmp_path, monkeypatch, caplog):
    """Out of memory in a measurement, say; the traceback is logged and the last report is no older one."""

    def run_out(*args, **kwargs):
        raise RuntimeError("out of memory")

    callback = exposure_callback()
    trainer = make_trainer(tmp_path, callbacks=[callback])
    monkeypatch.setattr("hf_canary.training.run.Measurement.measure", run_out)
    trainer.train()
    assert math.isnan(entries(trainer)[-1]["eval_exposure_mean"])
    assert any(record.exc_info and "out of memory" in record.message for record in caplog.records)
    assert callback.report is None


@pytest.mark.parametrize("wrong", [{"num_references": 0}, {"num_references": "many"}, {"batch_size": 0}])
def test_wrong_arguments_are_refused_before_any_training(wrong):
    """... when the callback is made."""
    with pytest.raises(CanaryError, match=next(iter(wrong))):
        ExposureCallback(CANARIES, **wrong)
    with pytest.raises(ArgumentError, match="canaries"):
        ExposureCallback(CanarySet((), 0))


def broken_model():
    model = models.LSTMForCausalLM(models.LSTMConfig(vocab_size=len(LETTERS), hidden_size=8))
    model.lm_head.weight.data.fill_(float("nan"))
    return model


@pytest.mark.parametrize("fault", ["no tokenizer", "unknown character", "unwritten digits", "NaN"])
def test_what_would_fail_every_measurement_fails_before_the_first_step(tmp_path, fault):
    """The error is typed and comes before any training."""
    counting = Steps()
    trainer = make_trainer(tmp_path, callbacks=[counting], model=broken_model if fault == "NaN" else None)
    canaries = CANARIES
    if fault == "no tokenizer":
        trainer.callback_handler.processing_class = None
    elif fault == "unknown character":
        canaries = CanarySet.draw(CanaryFormat("Ω is {digit:4}"), per_repetition=1, seed=0)
    tokenizer = letters_alone("abcdefghijklmnopqrstuvwxyzĠ") if fault == "unwritten digits" else None
    trainer.add_callback(ExposureCallback(canaries, tokenizer=tokenizer, num_references=60))
    with pytest.raises(ModelError):
        trainer.train()
    assert counting.steps == 0


def test_a_processor_gives_its_tokenizer(tmp_path):
    """`processing_class` may be a processor that holds the tokenizer; an explicit tokenizer wins."""

    class Processor:
        tokenizer = LETTERS

    trainer = make_trainer(tmp_path, callbacks=[exposure_callback()], num_train_epochs=1)
    trainer.callback_handler.processing_class = Processor()
    trainer.train()
    assert "eval_exposure_mean" in entries(trainer, "eval_loss")[-1]


def test_where_it_would_never_measure_it_says_so(tmp_path, caplog):
    """A callback that does nothing must not do so silently."""
    with caplog.at_level(logging.WARNING):
        make_trainer(tmp_path, callbacks=[exposure_callback(measure_at="evaluation")], eval_strategy="no").train()
    assert any("eval_strategy" in record.message for record in caplog.records)

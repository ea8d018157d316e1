"""When the callback measures, what it decides, what it may cost, and what happens when a run breaks off."""

import json
import logging
import math
import os
import re
import signal
import time

import matplotlib.image
import pytest
import torch
from transformers import DataCollatorForLanguageModeling, TrainerCallback

from hf_canary import CanaryFormat, CanarySet, ExposureCallback
from hf_canary.callback import RECORD_FILE
from hf_canary.errors import ArgumentError, CanaryError, DataError
from hf_canary.training.public import public_keys, public_summary
from tests.support.repetitions import times
from tests.support.small_training import (
    CANARIES,
    FORMAT,
    LETTERS,
    STEPS,
    entries,
    make_trainer,
    measured,
    records,
    rows,
    steps,
    values,
    watched,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize(
    ("evaluated", "when", "expected"),
    [
        ({"eval_strategy": "no"}, None, [8, 16]),
        ({"eval_strategy": "no"}, "epoch", [8, 16]),
        ({"eval_strategy": "no"}, 5, [5, 10, 15]),
        ({"eval_strategy": "no"}, [0, 3, 16], [0, 3, 16]),
        ({"eval_strategy": "no", "max_steps": 5}, 1, [1, 2, 3, 4, 5]),
        ({"eval_strategy": "no", "max_steps": 11}, "epoch", [8, 11]),
        ({"eval_strategy": "epoch"}, None, [8, 16]),
        ({"eval_strategy": "epoch"}, 4, [4, 8, 12, 16]),
        ({"eval_strategy": "epoch", "eval_delay": 2}, 4, [4, 8, 12, 16]),
        ({"eval_strategy": "steps", "eval_steps": 6}, None, [6, 12, 16]),
        ({"eval_strategy": "steps", "eval_steps": 6}, 4, [4, 8, 12, 16]),
        ({"eval_strategy": "steps", "eval_steps": 4}, "epoch", [8, 16]),
        ({"eval_strategy": "steps", "eval_steps": 6, "eval_on_start": True}, None, [0, 6, 12, 16]),
        ({"eval_strategy": "steps", "eval_steps": 6, "eval_on_start": True}, [0, 12], [0, 12]),
    ],
)
def test_it_measures_when_it_is_asked_to(tmp_path, bound, evaluated, when, expected):
    """One log entry and one block of the record for each step asked for; in the evaluation's own where there is one."""
    trainer, _ = watched(tmp_path, bound=bound, options={"measure_at": when}, **evaluated)
    trainer.train()
    assert steps(tmp_path) == expected
    assert len(records(tmp_path)) == len(expected) * len(CANARIES) * 2 * 2
    found = [entry["step"] for entry in entries(trainer)]
    assert found == expected
    evaluations = {entry["step"] for entry in entries(trainer, "eval_loss")}
    for entry in entries(trainer):
        assert ("eval_loss" in entry) == (entry["step"] in evaluations) or entry["step"] == 0
        assert all(type(entry[f"eval_{name}"]) is float for name in public_keys(CANARIES))
        assert isinstance(entry["epoch"], (int, float))
    last = public_summary(measured(trainer.model))
    if expected[-1] == trainer.state.global_step:
        assert entries(trainer)[-1]["eval_exposure_skewnorm_mean"] == pytest.approx(last["exposure_skewnorm_mean"])


@pytest.mark.parametrize(
    ("evaluated", "when", "expected"),
    [
        ({"eval_strategy": "no"}, [0, 3], [0, 3]),
        ({"eval_strategy": "epoch"}, 4, [4, 8]),
        ({"eval_strategy": "steps", "eval_steps": 6, "eval_on_start": True}, None, [0, 6, 8]),
    ],
)
def test_a_second_training_in_the_folder_leaves_the_record_as_the_first_did(tmp_path, evaluated, when, expected):
    """What it will write anew is dropped when it starts."""
    for _ in range(2):
        watched(tmp_path, options={"measure_at": when}, max_steps=8, **evaluated)[0].train()
        assert steps(tmp_path) == expected
        assert len(records(tmp_path)) == len(expected) * len(CANARIES) * 2 * 2


def test_measurements_of_their_own_reach_the_reporters(tmp_path, monkeypatch):
    """With the trainer given, TensorBoard has them at their steps, and the training's loss as without them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    trainer, _ = watched(
        tmp_path, bound=True, options={"measure_at": 3}, eval_strategy="no", report_to="tensorboard", logging_steps=3
    )
    trainer.train()
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [event.step for event in events.Scalars("eval/exposure_mean")] == [3, 6, 9, 12, 15]
    assert [event.step for event in events.Scalars("train/loss")] == [3, 6, 9, 12, 15]


@pytest.mark.parametrize("bound", [False, True])
def test_the_best_model_has_its_key_at_each_evaluation(tmp_path, bound):
    """... whatever `measure_at` says, since a missing key would end the training."""
    trainer, _ = watched(
        tmp_path,
        bound=bound,
        options={"measure_at": 5},
        eval_strategy="steps",
        eval_steps=2,
        save_steps=2,
        save_strategy="best",
        metric_for_best_model="eval_exposure_mean",
        greater_is_better=False,
    )
    trainer.train()
    assert {entry["step"] for entry in entries(trainer)} == {*range(2, 17, 2), 5, 10, 15}
    assert trainer.state.best_metric == min(e["eval_exposure_mean"] for e in entries(trainer, "eval_loss"))


class Memorised(TrainerCallback):
    """Makes the first canary certain after a step, by a head that knows its last digit alone."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            model.lm_head.bias.data[LETTERS(CANARIES[0].text).input_ids] += 50.0


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("evaluated", [{"eval_strategy": "no"}, {"eval_strategy": "steps", "eval_steps": 2}])
def test_beyond_the_threshold_the_training_stops(tmp_path, bound, evaluated, caplog):
    """At the first measurement at which a canary is surely beyond it, and not before; the log names it."""
    trainer = make_trainer(tmp_path, callbacks=[Memorised(5)], learning_rate=1e-4, **evaluated)
    options = {"measure_at": 2, "threshold": 5.0, "on_exceed": "stop", "num_references": 2_000}
    callback = ExposureCallback(CANARIES, trainer=trainer if bound else None, **options)
    trainer.add_callback(callback)
    trainer.train()
    assert trainer.state.global_step == 6
    assert steps(tmp_path) == [2, 4, 6]
    (said,) = [record.message for record in caplog.records if "exposure of 5.0 bits and more" in record.message]
    assert CANARIES[0].id in said
    above = [each.canary_id for each in callback.report if each.at_least >= 5.0 and each.estimator == "auto"]
    assert all(name in said for name in above)
    assert not any(f"{each.at_least:.1f}" in said for each in callback.report)  # which is in the record alone


def test_beyond_the_threshold_it_only_warns_or_asks(tmp_path, caplog):
    """A warning at each measurement, or a function of the report and the ids; what it returns decides."""
    asked = []

    def ask(report, above):
        asked.append((report.summary()["exposure_max"], above))
        return len(asked) == 2

    options = {"measure_at": 2, "threshold": 5.0, "num_references": 2_000}
    for action, last in (("warn", 2 * STEPS), (ask, 8)):
        trainer = make_trainer(tmp_path, callbacks=[Memorised(5)], learning_rate=1e-4, eval_strategy="no")
        trainer.add_callback(ExposureCallback(CANARIES, on_exceed=action, **options))
        trainer.train()
        assert trainer.state.global_step == last
    assert sum("exposure of 5.0 bits and more" in record.message for record in caplog.records) == 6
    assert len(asked) == 2
    assert all(maximum >= 5.0 and CANARIES[0].id in above for maximum, above in asked)


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize(
    ("measure_at", "arguments"),
    [(when, {"eval_strategy": "no"}) for when in (1, 4, "epoch", [0, 2, 99])]
    + [(None, {"eval_strategy": "epoch"}), ([3], {"eval_strategy": "epoch"})]
    + [(None, {"eval_strategy": "steps", "eval_steps": 3, "eval_on_start": True})],
)
def test_a_threshold_that_chance_passes_is_told(tmp_path, caplog, bound, measure_at, arguments):
    """When the training starts, for all measurements that it will have: 1 − (1 − n 2^−b)^M, M the canaries, n the
    measurements. Not before, when nobody knows how many these are.
    """
    trainer, _ = watched(tmp_path, bound=bound, options={"measure_at": measure_at, "threshold": 4.0}, **arguments)
    assert "none was ever seen" not in caplog.text
    trainer.train()
    count = len({line["step"] for line in records(tmp_path)})
    assert count
    (line,) = [each.getMessage() for each in caplog.records if "% at one)" in each.getMessage()]
    chance = 1 - (1 - min(1.0, count / 16)) ** len(CANARIES)
    assert f"{len(CANARIES)} canaries and {count} measurements" in line
    assert f"{100 * chance:.0f} % at most ({100 * (1 - (15 / 16) ** len(CANARIES)):.1f} % at one)" in line
    bits = math.log2(count / (1 - 0.95 ** (1 / len(CANARIES))))
    assert f"For 5 % it takes {math.ceil(10 * bits) / 10:.1f} bits" in line


def test_a_threshold_that_chance_does_not_pass_is_not_told(tmp_path, caplog):
    """A threshold for as many measurements as there are says nothing."""
    trainer, _ = watched(tmp_path, options={"measure_at": 1, "threshold": 10.4}, eval_strategy="no")
    trainer.train()
    assert "% at one)" not in caplog.text


def test_a_measurement_in_a_hurry_says_so(tmp_path, capsys):
    """Fewer references than asked for, in the line and in the record; the same keys."""
    trainer, callback = watched(tmp_path, options={"max_seconds": 0.02, "num_references": 9_000}, eval_strategy="no")
    trainer.train()
    counts = {len(costs) for costs in callback.report.references.values()}
    assert max(counts) < 9_000
    printed = [line for line in capsys.readouterr().out.splitlines() if "exposure (bits)" in line]
    assert all("in time for" in line for line in printed)
    assert f"in time for {max(counts):,} references" in printed[-1]
    assert all(line["num_references"] <= 9_000 for line in records(tmp_path))
    assert math.isfinite(entries(trainer)[-1]["eval_exposure_mean"])


@pytest.mark.parametrize("prefix", ["", "eval_"])
def test_a_key_that_is_none_cannot_choose(tmp_path, prefix):
    """Known before the first step, and not after the first evaluation."""
    wrong = {"metric_for_best_model": f"{prefix}exposure_x64", "greater_is_better": False}
    trainer, _ = watched(tmp_path, save_strategy="epoch", load_best_model_at_end=True, **wrong)
    with pytest.raises(DataError, match=r"eval_exposure_x2.*exposure_x64"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_what_chooses_the_wrong_way_is_told(tmp_path, caplog):
    """The most memorised is kept; else nothing is said."""
    chosen = {"metric_for_best_model": "exposure_mean", "save_strategy": "epoch", "load_best_model_at_end": True}
    watched(tmp_path / "a", greater_is_better=False, **chosen)[0].train()
    assert "metric_for_best_model" not in caplog.text
    watched(tmp_path / "b", **chosen)[0].train()
    assert "greater_is_better=False" in caplog.text


def test_a_training_does_not_go_on_with_other_canaries(tmp_path):
    """Two sets would make one curve of the record; in another folder, or from the beginning, any set will do."""
    other = CanarySet.draw(FORMAT, repetitions=(1, 2), per_repetition=2, seed=1)
    trainer, _ = watched(tmp_path, **SAVED, eval_strategy="epoch")
    trainer.evaluate()  # a baseline, at step 0
    trainer.train()
    trainer = make_trainer(tmp_path, **SAVED, eval_strategy="epoch")
    trainer.add_callback(ExposureCallback(other, num_references=60))
    with pytest.raises(DataError, match=r"goes on from step \d+; got another"):
        trainer.train(resume_from_checkpoint=True)
    with (tmp_path / RECORD_FILE).open("a") as record:
        record.write('{"canaries": "a line of somebody else"}\n')
    trainer.train()
    assert {line["canaries"] for line in records(tmp_path) if line.get("step")} == {other.digest[:16]}
    trainer.train(resume_from_checkpoint=True)  # with its own


def test_each_measurement_has_its_own_share_of_the_error(tmp_path):
    """Measurement j decides by the lower ends at 6/(πj)² of the five per cent, a fourth of it for each of four
    canaries.
    """
    trainer, callback = watched(tmp_path, options={"measure_at": 4, "threshold": 9.0}, max_steps=8, eval_strategy="no")
    trainer.train()
    ends = [
        [each.at_least for each in measured(trainer.model, error=0.05 * 6 / (math.pi * j) ** 2 / 4)] for j in (1, 2)
    ]
    found = [each.at_least for each in callback.report]
    assert found == pytest.approx(ends[1], nan_ok=True)
    assert found != pytest.approx(ends[0], nan_ok=True)


def test_a_strict_run_ends_when_a_measurement_fails(tmp_path, monkeypatch):
    """The error comes out of train(), and the model is as it was."""

    def run_out(*args, **kwargs):
        raise RuntimeError("out of memory")

    trainer, _ = watched(tmp_path, options={"strict": True})
    monkeypatch.setattr("hf_canary.training.run.Measurement.measure", run_out)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.train()
    assert trainer.state.global_step == STEPS


def test_a_strict_run_does_not_start_without_canaries(tmp_path):
    """Nothing is trained, and no hook is left."""
    gone = rows().filter(lambda row: LETTERS.decode(row["input_ids"][1:]) != CANARIES[0].text)
    both = gone.filter(lambda row: LETTERS.decode(row["input_ids"][1:]) != CANARIES[1].text)
    trainer, _ = watched(tmp_path, options={"strict": True}, data=both)
    with pytest.raises(DataError, match="inserted 1 times"):
        trainer.train()
    assert trainer.state.global_step == 0
    assert not trainer.model._forward_pre_hooks
    trainer, _ = watched(tmp_path, options={"strict": True}, data=gone)
    trainer.train()  # another of the same level is left


def test_a_record_that_cannot_be_written_costs_no_numbers(tmp_path, caplog):
    """A full disk, say: the numbers are in the log, and the error too; a strict run ends."""
    (tmp_path / RECORD_FILE).mkdir()
    trainer, _ = watched(tmp_path, eval_strategy="no", options={"measure_at": 3})
    with pytest.raises(IsADirectoryError):
        trainer.train()  # known before the first step
    (tmp_path / RECORD_FILE).rmdir()

    class Block(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            if state.global_step == 0:
                (tmp_path / RECORD_FILE).unlink()
                (tmp_path / RECORD_FILE).mkdir()

    for strict in (False, True):
        trainer, _ = watched(
            tmp_path, eval_strategy="no", options={"measure_at": 3, "strict": strict}, callbacks=[Block()]
        )
        if strict:
            with pytest.raises(IsADirectoryError):
                trainer.train()
        else:
            trainer.train()
            assert math.isfinite(entries(trainer)[-1]["eval_exposure_mean"])
            assert "could not be written" in caplog.text
        (tmp_path / RECORD_FILE).rmdir()


def test_the_measurements_are_drawn_at_the_end(tmp_path):
    """On request, beside the record."""
    trainer, _ = watched(tmp_path, options={"plot": True, "measure_at": 4}, eval_strategy="no")
    trainer.train()
    assert min(matplotlib.image.imread(tmp_path / "_exposure.png").shape[:2]) > 400


SAVED = {"save_strategy": "steps", "save_steps": 3, "dropout": 0.2}


@pytest.mark.parametrize(
    ("evaluated", "when"),
    [
        ({"eval_strategy": "no"}, 2),
        ({"eval_strategy": "steps", "eval_steps": 2}, None),
        ({"eval_strategy": "epoch"}, 3),
    ],
)
def test_a_resumed_run_measures_as_one_that_was_not_interrupted(tmp_path, evaluated, when):
    """The same references, no measurement lost or doubled, the same numbers and copies, to the last bit."""
    whole, _ = watched(tmp_path / "whole", options={"measure_at": when}, **SAVED, **evaluated)
    whole.train()

    class Interrupt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 8 and not args.resume_from_checkpoint:
                raise KeyboardInterrupt

    folder = tmp_path / "interrupted"
    first, _ = watched(folder, options={"measure_at": when}, callbacks=[Interrupt()], **SAVED, **evaluated)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    again, _ = watched(folder, options={"measure_at": when}, **SAVED, **evaluated)
    again.train(resume_from_checkpoint=True)
    assert steps(folder) == steps(tmp_path / "whole")
    assert values(folder) == values(tmp_path / "whole")
    exposures = [[e["eval_exposure_mean"] for e in entries(trainer)] for trainer in (whole, again)]
    assert exposures[0] == exposures[1]


def undated(line: str) -> str:
    """A line of a record without the time of its measurement."""
    return re.sub(r'"date": "[^"]*"', '"date": ""', line)


def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path):
    """SIGKILL at any moment: the record's whole lines are right, and after going on it is that of one go."""
    options = {"options": {"measure_at": 1}, "eval_strategy": "no", **SAVED}
    whole, _ = watched(tmp_path / "whole", **options)
    whole.train()
    for number, seconds in enumerate((0.4, 1.1) * times(1)):
        folder = tmp_path / str(number)
        child = os.fork()
        if not child:
            torch.set_num_threads(1)
            watched(folder, **options)[0].train()
            os._exit(0)
        for _ in range(6_000):  # until a checkpoint is whole
            if (folder / RECORD_FILE).exists() and (folder / "checkpoint-3" / "trainer_state.json").exists():
                break
            time.sleep(0.01)
        time.sleep(seconds / 10)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        lines, whole_lines = (
            [
                json.loads(undated(line)) | {"training": ""}
                for line in (place / RECORD_FILE).read_text().split("\n")[:-1]
            ]
            for place in (folder, tmp_path / "whole")
        )
        assert lines == whole_lines[: len(lines)]
        for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))[1:]:
            if not (checkpoint / "trainer_state.json").exists():  # torn by the kill, as the trainer writes it
                os.rename(checkpoint, folder / f"torn-{checkpoint.name}")
        again, _ = watched(folder, **options)
        again.train(resume_from_checkpoint=str(max(folder.glob("checkpoint-*"), key=lambda p: int(p.name[11:]))))
        assert values(folder) == values(tmp_path / "whole")


@pytest.mark.parametrize(
    "wrong",
    [
        {"measure_at": "often"},
        {"threshold": -1},
        {"on_exceed": "end"},
        {"max_seconds": 0},
        {"max_overhead": 2},
        {"seed": "x"},
    ],
)
def test_wrong_arguments_are_refused_at_once(wrong):
    """When the callback is made, and by name."""
    with pytest.raises(CanaryError, match=next(iter(wrong))):
        ExposureCallback(CANARIES, **wrong)


def test_what_was_trained_beside_its_base(tmp_path):
    """A model with adapters: its own exposures, and those of its base, which are the same at each measurement;
    gradients are wanted of the adapters alone, as before.
    """
    import peft

    from tests.support import oracles

    def adapted():
        base = oracles.small_model("gpt2", len(LETTERS))
        return peft.get_peft_model(base, peft.LoraConfig(target_modules=["c_attn"], r=2, fan_in_fan_out=True))

    trainer, callback = watched(
        tmp_path,
        model=adapted,
        options={"measure_at": 4},
        eval_strategy="epoch",
        learning_rate=0.05,
        num_train_epochs=4,
    )
    base = measured(oracles.small_model("gpt2", len(LETTERS)))
    trainer.train()
    found = entries(trainer)
    of_base = base.summary()["exposure_mean"]
    assert all(entry["eval_exposure_base_mean"] == pytest.approx(of_base, abs=0.051) for entry in found)
    of_last = measured(trainer.model).summary()["exposure_mean"]
    assert found[-1]["eval_exposure_mean"] == pytest.approx(of_last, abs=0.051)
    assert callback.report.summary()["exposure_mean"] == pytest.approx(of_last, abs=1e-3)
    assert callback.base_report.summary()["exposure_mean"] == pytest.approx(of_base, abs=1e-3)
    assert abs(found[-1]["eval_exposure_mean"] - found[-1]["eval_exposure_base_mean"]) > 0.05
    costs = {each.canary_id: each.log_perplexity for each in base}
    lines = [line for line in records(tmp_path) if line["role"] == "canary"]
    assert all(line["base_log_perplexity"] == pytest.approx(costs[line["canary_id"]], abs=1e-3) for line in lines)
    assert all(p.requires_grad == ("lora_" in name) for name, p in trainer.model.named_parameters())
    assert callback.base_report is not None


def test_measurements_leave_what_trl_gathers(tmp_path):
    """SFTTrainer averages its own figures between logs; a measurement of ours in between does not empty them."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from tests.support import oracles

    def logged(when):
        torch.manual_seed(0)
        trainer = SFTTrainer(
            model=oracles.small_model("gpt2", len(LETTERS), seed=1),
            args=SFTConfig(
                output_dir=str(tmp_path), bf16=False, gradient_checkpointing=False, max_steps=6, logging_steps=3,
                per_device_train_batch_size=4, report_to="none", use_cpu=True, disable_tqdm=True, max_length=32,
            ),
            train_dataset=CANARIES.inject(Dataset.from_dict({"text": ["row of text"] * 20})),
            processing_class=LETTERS,
        )  # fmt: skip
        if when:
            trainer.add_callback(ExposureCallback(CANARIES, trainer=trainer, measure_at=when, num_references=40))
        trainer.train()
        times = ("runtime", "per_second")
        return [
            {name: value for name, value in entry.items() if not name.endswith(times)}
            for entry in trainer.state.log_history
            if not any("exposure" in name for name in entry)
        ]

    assert logged(1) == logged(None)


def test_a_second_format_and_a_measurement_at_each_step(tmp_path, caplog):
    """Figure 8: exposure after every batch, of two formats at once."""
    formats = [CanaryFormat("the pin is {digit:4}"), CanaryFormat("row {digit:3} of")]
    canaries = CanarySet.draw(formats, repetitions=(1, 4), per_repetition=1, seed=5)
    trainer = make_trainer(tmp_path, eval_strategy="no", max_steps=5)
    with caplog.at_level(logging.ERROR):
        trainer.add_callback(ExposureCallback(canaries, measure_at=1, num_references=50, presence=False))
        trainer.train()
    assert not caplog.records
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert {line["canary_id"] for line in records(tmp_path)} == {canary.id for canary in canaries}


RUNS = {
    "gpt2": ("gpt2", {}),
    "llama": ("llama", {}),
    "lstm": (None, {}),
    "bfloat16": ("llama", {"bf16": True}),
    "compiled": (None, {"torch_compile": True, "torch_compile_backend": "eager", "max_steps": 2}),
    "accumulation": ("gpt2", {"gradient_accumulation_steps": 2}),
    "stream": ("llama", {"max_steps": 16}),
}


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's compiler warns of itself
@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("kind", RUNS)
def test_wherever_it_runs_the_last_measurement_equals_one_made_afterwards(tmp_path, kind, bound):
    """The values of a measurement of the model that train() leaves, and every copy seen in the batches."""
    from datasets import Dataset

    from tests.support import oracles

    name, arguments = RUNS[kind]
    model = None if name is None else lambda: oracles.small_model(name, len(LETTERS))
    data = Dataset.from_list(list(rows())).to_iterable_dataset(num_shards=2) if kind == "stream" else None
    trainer, callback = watched(tmp_path, bound=bound, model=model, data=data, learning_rate=1e-3, **arguments)
    trainer.train()
    expected = measured(trainer.model).summary()
    found = callback.report.summary()
    for key in public_keys(CANARIES):
        if key != "exposure_seconds":
            assert found[key] == pytest.approx(expected[key], nan_ok=True, abs=1e-6), key
            assert entries(trainer)[-1][f"eval_{key}"] == pytest.approx(found[key], nan_ok=True, abs=0.1), key
    copies = [callback.report.copies[canary.id] for canary in CANARIES]
    if kind == "compiled":  # a hook would be compiled with the model
        assert all(("copies_trained" in each) == bound for each in copies)
    else:
        assert [each["copies_trained"] for each in copies] == [2 * canary.repetitions for canary in CANARIES]


def test_the_numbers_of_an_invalid_run_are_in_no_record(tmp_path):
    """Not one value that could be drawn; what it rests on stays."""
    gone = rows().filter(lambda row: "pin" not in LETTERS.decode(row["input_ids"]))
    trainer, _ = watched(tmp_path, data=gone, num_train_epochs=1)
    trainer.train()
    lines = records(tmp_path)
    assert {line["valid"] for line in lines} == {False}
    assert {(line["value"], line["low"], line["high"], line["at_least"], line["status"]) for line in lines} == {
        (None, None, None, None, "invalid")
    }
    assert all(line["log_perplexity"] > 0 for line in lines)


class Drawing:
    """A collator with a random state of its own, as some that mask have."""

    def __init__(self):
        import numpy as np

        self.generator = np.random.default_rng(0)
        self.collate = DataCollatorForLanguageModeling(LETTERS, mlm=False)

    def __call__(self, features):
        batch = self.collate(features)
        hidden = torch.from_numpy(self.generator.random(batch["labels"].shape) < 0.3)
        batch["labels"][hidden] = -100
        return batch


def test_a_collator_with_a_random_state_of_its_own(tmp_path):
    """The check before the first step makes no draw from it."""
    losses = []
    for watches in (False, True):
        trainer = make_trainer(tmp_path, max_steps=3, logging_steps=1, eval_strategy="no")
        trainer.data_collator = Drawing()
        if watches:
            trainer.add_callback(ExposureCallback(CANARIES, measure_at=3, num_references=50))
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("bound", [False, True])
def test_resumed_and_evaluated_at_the_start(tmp_path, bound):
    """The measurement at the checkpoint's step is taken anew, and stands in the record once."""
    options = {
        "eval_strategy": "steps",
        "eval_steps": 4,
        "eval_on_start": True,
        "save_steps": 4,
        "save_strategy": "steps",
    }
    watched(tmp_path, bound=bound, max_steps=8, **options)[0].train()
    trainer, callback = watched(tmp_path, bound=bound, max_steps=12, **options)
    trainer.train(resume_from_checkpoint=True)
    assert steps(tmp_path) == [0, 4, 8, 12]
    assert len(records(tmp_path)) == 4 * len(CANARIES) * 4
    copies = callback.report.copies
    assert all(c.repetitions <= copies[c.id]["copies_trained"] <= 2 * c.repetitions for c in CANARIES)


@pytest.mark.parametrize("bound", [False, True])
def test_a_further_evaluation_set_can_choose_the_best_model(tmp_path, bound):
    """Its key is there, though the step's measurement is the first set's."""
    trainer, _ = watched(
        tmp_path,
        bound=bound,
        save_strategy="epoch",
        metric_for_best_model="eval_two_exposure_mean",
        greater_is_better=False,
    )
    trainer.eval_dataset = {"one": trainer.eval_dataset, "two": trainer.eval_dataset}
    trainer.train()
    found = [entry["eval_two_exposure_mean"] for entry in entries(trainer, "eval_two_exposure_mean")]
    assert found == [entry["eval_one_exposure_mean"] for entry in entries(trainer, "eval_one_exposure_mean")]
    assert trainer.state.best_metric == min(found)


def test_measures_of_the_users_own_with_a_runtime(tmp_path):
    """The prefix is the evaluation's, whatever keys of theirs end alike."""
    trainer, _ = watched(tmp_path, num_train_epochs=1)
    trainer.compute_metrics = lambda _: {"inference_runtime": 1.0}
    trainer.train()
    assert len(entries(trainer)) == 1


def test_after_a_training_each_evaluation_is_measured(tmp_path):
    """Under any prefix."""
    for bound in (False, True):
        trainer, _ = watched(tmp_path, bound=bound, options={"measure_at": [4]})
        assert math.isfinite(trainer.evaluate()["eval_exposure_mean"])
        trainer.train()
        assert math.isfinite(trainer.evaluate()["eval_exposure_mean"])
        assert math.isfinite(trainer.evaluate(metric_key_prefix="test")["test_exposure_mean"])


def test_biases_trained_beside_adapters_are_no_part_of_the_base(tmp_path):
    """The base is that of before the first step."""
    import peft

    from tests.support import oracles

    def adapted():
        base = oracles.small_model("gpt2", len(LETTERS))
        config = peft.LoraConfig(target_modules=["c_attn"], r=2, fan_in_fan_out=True, bias="all")
        return peft.get_peft_model(base, config)

    trainer, callback = watched(
        tmp_path, model=adapted, options={"measure_at": [16]}, eval_strategy="no", learning_rate=0.05
    )
    with pytest.warns(UserWarning, match="bias"):
        trainer.train()
    expected = measured(oracles.small_model("gpt2", len(LETTERS)))
    for one, other in zip(callback.base_report, expected, strict=True):
        assert one.log_perplexity == pytest.approx(other.log_perplexity, abs=1e-3)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"threshold": 20.0}, "threshold"),
        ({"on_exceed": "stop"}, "on_exceed"),
        ({"threshold": 5.0, "on_exceed": lambda report: True}, "on_exceed"),
    ],
)
def test_guards_that_cannot_work_are_refused(wrong, word):
    """A threshold beyond log2|R|, an action without one, a function that cannot be called so."""
    with pytest.raises(ArgumentError, match=word):
        ExposureCallback(CANARIES, **wrong)


def test_numpys_truth_stops_too(tmp_path):
    """`on_exceed` may answer with what a comparison of arrays gives."""
    import numpy as np

    options = {"measure_at": 1, "threshold": 0.001, "on_exceed": lambda report, above: np.mean([1.0]) > 0}
    trainer, _ = watched(tmp_path, options=options, eval_strategy="no")
    trainer.train()
    assert trainer.state.global_step == 1


def test_steps_beyond_the_training_are_told(tmp_path, caplog):
    """A callback that never measures says so."""
    trainer, _ = watched(tmp_path, options={"measure_at": 1_000}, eval_strategy="no", max_steps=2)
    trainer.train()
    assert "within the 2 steps" in caplog.text

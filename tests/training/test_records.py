"""Records of many trainings: trials, folds, cells of a notebook, one folder, a full disk. Each is whole, and each line
says of which training, trial, step and canary it is.
"""

import copy
import errno
import json
import shutil

import optuna
import pytest
from datasets import Dataset
from huggingface_hub.utils import filter_repo_objects
from transformers import Trainer, TrainerCallback, set_seed

from hf_canary import CanarySet, ExposureCallback
from hf_canary.errors import ArgumentError
from hf_canary.training import record as room
from hf_canary.training.contexts import Recorded
from hf_canary.training.fingerprints import fingerprint_of
from hf_canary.training.record import RECORD_FILE, Record
from tests.support.full_disk import FullDisk
from tests.support.small_training import (
    CANARIES,
    FORMAT,
    LETTERS,
    STEPS,
    entries,
    exposure_callback,
    lstm,
    make_trainer,
    records,
    steps,
    values,
    watched,
)

OF_A_STEP = len(CANARIES) * 2 * 2  # lines
FOLDS = 3


def names(place):
    """Of the trainings that a record has lines of."""
    return {line["training"] for line in map(json.loads, (place).read_text().splitlines())}


def asides(folder):
    """What was set aside there, in order."""
    return sorted(folder.glob("_exposure.*.jsonl"))


def is_whole(place, expected):
    """Whether a record has each line of a training's steps once, all of one training and these canaries."""
    lines = records(place)
    keys = {(line["step"], line["role"], line["canary_id"], line["estimator"]) for line in lines}
    return (
        steps(place) == expected
        and len(keys) == len(lines) == len(expected) * OF_A_STEP
        and {line["canaries"] for line in lines} == {CANARIES.digest[:16]}
        and len({line["training"] for line in lines}) == 1
    )


# ------------------------------------------------------------------------------------------------------------- a search


def searched(folder, arguments=None, *, bound=False):
    """A trainer that makes its model anew for each training, watched."""
    made = make_trainer(folder, num_train_epochs=1, save_strategy="epoch", **(arguments or {}))
    trainer = Trainer(
        model_init=lambda: lstm(),
        args=made.args,
        train_dataset=made.train_dataset,
        eval_dataset=made.eval_dataset,
        processing_class=LETTERS,
        data_collator=made.data_collator,
    )
    trainer.add_callback(exposure_callback(trainer=trainer if bound else None))
    return trainer


def search(trainer, **options):
    """Three trials; the parameters of each."""
    tried = []

    def space(trial):
        trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True)
        tried.append(trial)
        return trial.params

    options = {"sampler": optuna.samplers.RandomSampler(seed=1)} | options
    best = trainer.hyperparameter_search(
        space, lambda metrics: metrics["eval_exposure_mean"], n_trials=3, direction="minimize", **options
    )
    return {trial.number: trial.params for trial in tried}, best


@pytest.fixture(autouse=True)
def _optuna_is_quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize("way", ["unbound", "bound", "named"])
def test_each_trial_of_a_search_has_its_record(tmp_path, way):
    """Beside the trial's checkpoints and under its name: the numbers of a training alone with these hyperparameters.
    None of it is uploaded with `output_dir`.
    """
    out = tmp_path / "out"
    trainer = searched(out, bound=way == "bound")
    options = {"hp_name": lambda trial: f"rate/{trial.number}"} if way == "named" else {}
    params, best = search(trainer, **options)
    trials = {number: f"rate/{number}" if way == "named" else f"run-{number}" for number in range(3)}
    files = {number: out / f"_exposure.{trial.replace('/', '-')}.jsonl" for number, trial in trials.items()}
    assert set(out.glob("*exposure*")) == set(files.values())
    for number, file in files.items():
        assert is_whole(file, [STEPS])
        first, *_ = map(json.loads, file.read_text().splitlines())
        assert (first["role"], first["hyperparameters"]) == ("trial", params[number])
        assert {line["trial"] for line in records(file)} == {trials[number]}
        checkpoint = out / trials[number] / f"checkpoint-{STEPS}"
        assert fingerprint_of(str(checkpoint)) == CANARIES.fingerprint
        if way == "unbound":
            searched(tmp_path / str(number), params[number]).train()
            assert values(file) == values(tmp_path / str(number))
            for place in (checkpoint, checkpoint.parent):
                assert Recorded(place).file == file
    assert len(set.union(*map(names, files.values()))) == 3
    assert best.objective == pytest.approx(min(best_of(file) for file in files.values()), abs=0.051)
    inside = [str(path.relative_to(out)) for path in out.rglob("*")]
    uploaded = set(filter_repo_objects(inside, ignore_patterns=["_*", "checkpoint-*"]))  # as Trainer pushes
    assert not any("exposure" in path for path in uploaded)
    assert any(path.startswith(trials[0]) for path in uploaded)  # a record in there would be


def best_of(file):
    """The mean exposure that a record has."""
    found = [line["value"] for line in records(file) if line["role"] == "canary" and line["estimator"] == "auto"]
    return sum(found) / len(found)


def test_trials_that_end_early_and_searches_one_after_the_other(tmp_path):
    """A trial that is pruned, and one that fails, have a record of what they measured; a second search in the folder
    sets those of the first aside, and a training after it has its own.
    """

    class Second(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 1

    class Third(TrainerCallback):
        def on_epoch_end(self, args, state, control, **kwargs):
            if state.trial_params["learning_rate"] == failing:
                raise RuntimeError("out of memory")

    trainer = searched(tmp_path, {"eval_strategy": "steps", "eval_steps": 4})
    failing = None
    params, _ = search(trainer, pruner=Second())
    trials = [tmp_path / f"_exposure.run-{number}.jsonl" for number in range(3)]
    assert [steps(file) for file in trials] == [[4, 8], [4], [4, 8]]
    first = [file.read_bytes() for file in trials]
    failing = params[2]["learning_rate"]
    trainer.add_callback(Third())
    search(trainer, catch=(RuntimeError,))
    assert [steps(file) for file in trials] == [[4, 8], [4, 8], [4, 8]]
    assert [file.with_suffix(".1.jsonl").read_bytes() for file in trials] == first
    failing = None
    trainer.pop_callback(Third)
    trainer.train()
    assert is_whole(tmp_path / RECORD_FILE, [4, 8])
    assert all("trial" not in line for line in records(tmp_path))
    files = [*tmp_path.glob("_exposure*.jsonl")]
    assert len(files) == 7
    assert sum(len(names(file)) for file in files) == len(set.union(*map(names, files))) == 7


# -------------------------------------------------------------------------------------------------------------- folds


class Reports(TrainerCallback):
    """Sees what is logged, as reporters do."""

    def __init__(self, seen):
        self.seen = seen

    def on_log(self, args, state, control, logs, **kwargs):
        self.seen += [logs["eval_exposure_mean"]] if "eval_exposure_mean" in logs else []


@pytest.mark.parametrize("folder", ["each its own", "one"])
@pytest.mark.parametrize("way", ["unbound for all", "bound for all", "bound for each"])
def test_folds(tmp_path, folds_alone, way, folder):
    """The trainer that trains is measured, whichever the callback was given: its log, its record, its numbers, and its
    reporters, if the callback was given any trainer.
    """
    places = [tmp_path / (str(fold) if folder == "each its own" else "all") for fold in range(FOLDS)]
    trainers = [make_trainer(place, num_train_epochs=1, seed=fold) for fold, place in enumerate(places)]
    callback = None
    for trainer in trainers:
        if callback is None or way == "bound for each":
            callback = exposure_callback(trainer=None if way == "unbound for all" else trainer)
        trainer.add_callback(callback)
    found, reported = [], []
    for trainer, place in zip(trainers, places, strict=True):
        trainer.add_callback(Reports(reported))
        set_seed(0)
        trainer.train()
        assert is_whole(place, [STEPS])
        found.append(values(place))
        (entry,) = entries(trainer)
        assert "eval_loss" in entry
        assert entry["eval_exposure_mean"] == pytest.approx(best_of(place / RECORD_FILE), abs=0.051)
    assert [len(entries(trainer)) for trainer in trainers] == [1] * FOLDS
    assert found == folds_alone
    assert len(reported) == (0 if way == "unbound for all" else FOLDS)
    if folder == "one":
        files = [*asides(places[0]), places[0] / RECORD_FILE]
        assert [values(file) for file in files] == found
        assert len(set.union(*map(names, files))) == FOLDS


def behind(text):
    """The rows of a training, each behind a text."""
    texts = CANARIES.inject(Dataset.from_dict({"text": ["row"] * 24}))
    return texts.map(lambda row: {"input_ids": LETTERS(text + row["text"])["input_ids"]}, remove_columns=["text"])


@pytest.fixture(scope="module")
def folds_alone(tmp_path_factory):
    """What the records of folds say that have each a callback and a folder."""
    folders = [tmp_path_factory.mktemp("alone") for _ in range(FOLDS)]
    for fold, folder in enumerate(folders):
        trainer = make_trainer(folder, num_train_epochs=1, seed=fold, callbacks=[exposure_callback()])
        set_seed(0)
        trainer.train()
    return [values(folder) for folder in folders]


def test_what_stood_before_canaries_in_one_fold_is_not_taken_for_the_next(tmp_path):
    """Of a stream nothing is known before its batches: the record of a second fold says so."""
    callback = exposure_callback(measure_at=[STEPS])
    data, stream = behind("row -> "), behind("text -> ").to_iterable_dataset()
    make_trainer(tmp_path / "read", data=data, num_train_epochs=1, callbacks=[callback]).train()
    make_trainer(tmp_path / "stream", data=stream, max_steps=STEPS, eval_strategy="no", callbacks=[callback]).train()
    for folder, text, step in (("read", "row -> ", 0), ("stream", "text -> ", STEPS)):
        lines = map(json.loads, (tmp_path / folder / RECORD_FILE).read_text().splitlines())
        assert [line["step"] for line in lines if line["role"] == "contexts"] == [step]
        contexts, _, _ = Recorded(tmp_path / folder).of_canaries(CANARIES)
        assert {LETTERS.decode(context.ids, skip_special_tokens=True) for context in contexts} == {text}


# ----------------------------------------------------------------------------------------------------------- notebooks


@pytest.mark.parametrize(
    ("anew", "bound", "when"),
    [
        ("both", False, None),
        ("both", True, 4),
        ("trainer", False, 4),
        ("trainer", True, None),
        ("trainer", True, 4),
        ("neither", False, 4),
        ("neither", True, None),
    ],
)
def test_a_cell_that_is_run_again(tmp_path, anew, bound, when, caplog):
    """With trainer and callback made anew, the trainer alone, or none of them: both trainings are measured, logged and
    recorded, and the numbers of the second are those of the first where its model is.
    """
    expected = [8, 16] if when is None else [4, 8, 12, 16]
    trainer = callback = None
    for number in range(2):
        if trainer is None or anew != "neither":
            trainer = make_trainer(tmp_path)
            if callback is None or anew == "both":
                callback = exposure_callback(trainer=trainer if bound else None, measure_at=when)
            trainer.add_callback(callback)
            assert not trainer.evaluate().keys().isdisjoint(["eval_exposure_mean"])  # a baseline
        trainer.train()
        assert len(entries(trainer)) == len(expected)
        has_baseline = number == 0 or anew != "neither"
        assert is_whole(tmp_path / RECORD_FILE, [0] * has_baseline + expected)
    (aside,) = asides(tmp_path)
    assert is_whole(aside, [0, *expected])
    assert names(aside).isdisjoint(names(tmp_path / RECORD_FILE))
    assert (values(aside) == values(tmp_path)) == (anew != "neither")
    assert "not added to it" not in caplog.text


def test_a_callback_that_follows_its_trainers_back_and_forth(tmp_path):
    """Evaluated by turns: each in its own folder, once for each evaluation."""
    trainers = [make_trainer(tmp_path / str(number), seed=number) for number in range(2)]
    callback = exposure_callback(trainer=trainers[0])
    for trainer in trainers:
        trainer.add_callback(callback)
    for trainer in (*trainers, *trainers):
        assert "eval_exposure_mean" in trainer.evaluate()
    for number, trainer in enumerate(trainers):
        lines = records(tmp_path / str(number))
        assert len(lines) == 2 * OF_A_STEP
        assert len({line["training"] for line in lines}) == 2
        assert len(entries(trainer)) == 2
        trainer.train()
        assert is_whole(tmp_path / str(number) / RECORD_FILE, [8, 16])


# -------------------------------------------------------------------------------------------- several in one trainer


@pytest.mark.parametrize(("bound", "when"), [(False, None), (True, None), (False, 4), (True, [0, 3, 8])])
def test_a_callback_that_is_added_twice_measures_once(tmp_path, bound, when):
    """As one that was added once."""
    once, _ = watched(tmp_path / "once", bound=bound, options={"measure_at": when}, num_train_epochs=1)
    twice, callback = watched(tmp_path / "twice", bound=bound, options={"measure_at": when}, num_train_epochs=1)
    twice.add_callback(callback)
    for trainer in (once, twice):
        trainer.evaluate()
        trainer.train()
    assert values(tmp_path / "twice") == values(tmp_path / "once")
    assert [entry["step"] for entry in entries(twice)] == [entry["step"] for entry in entries(once)]


@pytest.mark.parametrize("other", [CANARIES, CanarySet.draw(FORMAT, repetitions=(1, 2), per_repetition=2, seed=1)])
@pytest.mark.parametrize("bound", [False, True])
def test_two_callbacks_of_one_trainer_are_refused(tmp_path, bound, other, caplog):
    """Before the first step and before anything is written; one that was taken away measures nothing any more."""
    trainer, first = watched(tmp_path, bound=bound)
    trainer.add_callback(ExposureCallback(other, trainer=trainer if bound else None, num_references=60))
    with pytest.raises(ArgumentError, match="one ExposureCallback to a trainer"):
        trainer.train()
    assert trainer.state.global_step == 0
    assert not (tmp_path / RECORD_FILE).exists()
    trainer.remove_callback(first)
    trainer.train()
    assert len(records(tmp_path)) == 2 * OF_A_STEP
    assert {line["canaries"] for line in records(tmp_path)} == {other.digest[:16]}
    assert "not added to it" not in caplog.text


def test_a_callback_that_is_not_added_says_so(tmp_path, caplog):
    """Once: it was given the trainer, and the trainer not it."""
    trainer = make_trainer(tmp_path)
    exposure_callback(trainer=trainer)
    trainer.train()
    assert caplog.text.count("not added to it") == 1
    assert not entries(trainer)
    assert not (tmp_path / RECORD_FILE).exists()


class Logs(TrainerCallback):
    """Logs something of its own, or the evaluation's metrics once more, when an evaluation is over."""

    def __init__(self, again):
        self.again = again

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.trainer.log(dict(metrics) if self.again else {"other": 1.0})


@pytest.mark.parametrize("again", [False, True])
def test_the_log_has_the_exposures_whatever_others_log(tmp_path, again):
    """In the evaluation's own entry, and in no other."""
    logs = Logs(again)
    logs.trainer = trainer = make_trainer(tmp_path, callbacks=[logs, exposure_callback()])
    trainer.train()
    assert [entry["step"] for entry in entries(trainer)] == [8, 16]
    evaluated = [entry for entry in entries(trainer, "eval_loss") if entry["step"] == 8]
    assert len(evaluated) == 1 + again
    assert "eval_exposure_mean" in evaluated[0]


def test_an_evaluation_after_the_training_is_told_from_one_in_it(tmp_path):
    """Whose weights may be those of an earlier step: the measurement says that it came after, at the same step."""
    trainer, _ = watched(
        tmp_path,
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="exposure_mean",
        greater_is_better=False,
    )
    trainer.evaluate()
    trainer.train()
    assert not any("after_training" in line for line in records(tmp_path))
    trainer.evaluate()
    found = [(line["step"], line["after_training"]) for line in records(tmp_path) if "after_training" in line]
    assert found == [(16, True)] * OF_A_STEP
    assert len({line["training"] for line in records(tmp_path)}) == 1
    trainer.train()
    assert len(records(asides(tmp_path)[0])) == 4 * OF_A_STEP
    assert is_whole(tmp_path / RECORD_FILE, [8, 16])


class Controls(TrainerCallback):
    """Gives the trainer a control of its own, as a callback may."""

    def on_step_end(self, args, state, control, **kwargs):
        return copy.copy(control)


@pytest.mark.parametrize("bound", [False, True])
def test_a_trainer_is_known_by_more_than_its_control(tmp_path, bound):
    """A control that another callback has made anew does not make another trainer."""
    trainer, callback = watched(tmp_path, bound=bound, callbacks=[Controls()], options={"measure_at": 4})
    trainer.train()
    assert is_whole(tmp_path / RECORD_FILE, [4, 8, 12, 16])
    assert callback.report.copies[CANARIES[0].id]["copies_trained"] == 2 * CANARIES[0].repetitions


# ----------------------------------------------------------------------------------------------------------- one folder


def test_a_training_that_goes_on_from_an_early_step_loses_no_line(tmp_path):
    """The record of the first is whole in another file; the second's has its lines until that step, and its own."""
    saved = {"num_train_epochs": 6, "save_strategy": "epoch"}
    watched(tmp_path, **saved)[0].train()
    first = (tmp_path / RECORD_FILE).read_bytes()
    assert is_whole(tmp_path / RECORD_FILE, [8, 16, 24, 32, 40, 48])
    watched(tmp_path, **saved)[0].train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    (aside,) = asides(tmp_path)
    assert aside.read_bytes() == first
    assert is_whole(tmp_path / RECORD_FILE, [8, 16, 24, 32, 40, 48])
    assert values(tmp_path) == values(aside)


def test_a_training_goes_on_beside_another_in_the_folder(tmp_path):
    """From its own checkpoint, after another training began there: no line of the other is taken for its own."""
    watched(tmp_path, num_train_epochs=2, save_strategy="epoch")[0].train()
    shutil.copytree(tmp_path / "checkpoint-8", tmp_path / "kept")
    (one,) = names(tmp_path / RECORD_FILE)
    watched(tmp_path, num_train_epochs=1, seed=7)[0].train()
    (other,) = names(tmp_path / RECORD_FILE)
    watched(tmp_path, num_train_epochs=2)[0].train(resume_from_checkpoint=str(tmp_path / "kept"))
    first, second = asides(tmp_path)
    assert is_whole(first, [8, 16])
    assert is_whole(second, [8])
    assert is_whole(tmp_path / RECORD_FILE, [16])
    assert [names(file) for file in (first, second, tmp_path / RECORD_FILE)] == [{one}, {other}, {one}]


def test_two_trainings_at_once_in_one_folder(tmp_path):
    """A folder of one record; each line says whose it is, and all are there. Each draws its own."""

    class Within(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 10:
                watched(tmp_path, num_train_epochs=1, seed=7)[0].train()

    outer, _ = watched(tmp_path, callbacks=[Within()])
    outer.train()
    lines = [line for file in (*asides(tmp_path), tmp_path / RECORD_FILE) for line in records(file)]
    by_training = {}
    for line in lines:
        by_training.setdefault(line["training"], []).append(line["step"])
    assert sorted(by_training.values()) == [[8] * OF_A_STEP, [8] * OF_A_STEP + [16] * OF_A_STEP]


# --------------------------------------------------------------------------------------------------- broken and full


@pytest.mark.parametrize(
    ("broken", "strict"),
    [
        (b'\xff\xfe{"step": 1}', False),
        (b'\xff\xfe{"step": 1}', True),
        (b'{"step": ' + b"9" * 5_000 + b"}", False),
        (b"[" * 100_000, False),
        (b'{"step": 0, "role": "canary"}', True),
    ],
    ids=["no text", "no text, strict", "digits", "deep", "a field, strict"],
)
def test_what_cannot_be_read_keeps_no_training_from_starting(tmp_path, strict, broken, caplog):
    """A new one, or one that goes on: it is set aside to the byte, and said, and the lines beside it stay."""
    saved = {"save_strategy": "epoch", "options": {"strict": strict}}
    (tmp_path / RECORD_FILE).write_bytes(broken + b"\n")
    watched(tmp_path, **saved)[0].train()
    assert (tmp_path / "_exposure.1.jsonl").read_bytes() == broken + b"\n"
    assert "unreadable is in _exposure.1.jsonl" in caplog.text
    assert is_whole(tmp_path / RECORD_FILE, [8, 16])
    with (tmp_path / RECORD_FILE).open("ab") as file:
        file.write(broken)
    trainer, callback = watched(tmp_path, num_train_epochs=3, **saved)
    trainer.train(resume_from_checkpoint=True)
    assert (tmp_path / "_exposure.2.jsonl").read_bytes() == broken + b"\n"
    assert is_whole(tmp_path / RECORD_FILE, [8, 16, 24])
    copies = callback.report.copies
    assert [copies[canary.id]["copies_trained"] for canary in CANARIES] == [3 * c.repetitions for c in CANARIES]


def test_contexts_that_cannot_be_read_are_not_known(tmp_path, caplog):
    """Of a stream that goes on: it is said, and its batches tell anew."""
    options = {"eval_strategy": "no", "options": {"measure_at": 4}, "save_strategy": "steps", "save_steps": 4}
    stream = behind("row -> ").to_iterable_dataset
    watched(tmp_path, data=stream(), max_steps=8, **options)[0].train()
    text = (tmp_path / RECORD_FILE).read_text()
    assert '"contexts": [' in text
    (tmp_path / RECORD_FILE).write_text(text.replace('"contexts": [', '"contexts": [7, '))
    watched(tmp_path, data=stream(), max_steps=12, **options)[0].train(resume_from_checkpoint=True)
    assert "What stood before the canaries so far is not known" in caplog.text
    assert is_whole(tmp_path / RECORD_FILE, [4, 8, 12])


def test_what_a_stream_has_told_outlives_a_measurement_that_is_taken_anew(tmp_path):
    """The measurement at the step that a training goes on from, taken again: behind the same, with the same numbers."""
    options = {"eval_strategy": "steps", "eval_steps": 8, "eval_on_start": True, "save_strategy": "steps"}
    stream = behind("row -> ").to_iterable_dataset
    watched(tmp_path, data=stream(), max_steps=8, save_steps=8, **options)[0].train()
    watched(tmp_path, data=stream(), max_steps=9, save_steps=8, **options)[0].train(resume_from_checkpoint=True)
    (aside,) = asides(tmp_path)
    assert is_whole(aside, [0, 8])
    assert is_whole(tmp_path / RECORD_FILE, [0, 8, 9])
    first, again = (
        {(line["canary_id"], line["role"]): line["log_perplexity"] for line in records(file) if line["step"] == 8}
        for file in (aside, tmp_path / RECORD_FILE)
    )
    assert again == first


@pytest.mark.parametrize("strict", [False, True])
def test_a_full_disk_costs_no_line(tmp_path, monkeypatch, strict, caplog):
    """Full within a line of the second measurement, with room again at the fourth: as if it had always had room. If it
    stays full, the record has the measurements before, whole, and the log says what it lacks; a strict run ends.
    """
    options = {"eval_strategy": "no", "options": {"measure_at": 4, "strict": strict}}
    watched(tmp_path / "whole", **options)[0].train()
    whole = values(tmp_path / "whole")
    disk = FullDisk()
    monkeypatch.setattr(room, "os", disk.os)

    class Fills(TrainerCallback):
        def __init__(self, room_again):
            self.room_again = room_again

        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 5:
                disk.room = 1_000
            if state.global_step == 13 and self.room_again:
                disk.room = None

    for room_again in (True, False):
        disk.room, folder = None, tmp_path / str(room_again)
        trainer, _ = watched(folder, callbacks=[Fills(room_again)], **options)
        if strict:
            with pytest.raises(OSError, match="No space") as error:
                trainer.train()
            assert error.value.errno == errno.ENOSPC
            assert trainer.state.global_step == 8
        else:
            trainer.train()
            assert len(entries(trainer)) == 4
            assert caplog.text.count("could not be written: [Errno 28]") == 2 + 3 * (not room_again)
        expected = whole if room_again and not strict else whole[:OF_A_STEP]
        assert values(folder) == expected
        assert Record(folder).lines()[-1]["step"] == expected[-1]["step"]
    assert ("are in no record" in caplog.text) == (not strict)


def test_a_picture_is_of_one_training(tmp_path, monkeypatch):
    """Of those in one folder, that which draws it; a trial's has the trial's name."""
    drawn = []
    monkeypatch.setattr(
        "hf_canary.reporting.plots.exposure_over_training",
        lambda lines, size, file: drawn.append(({line["training"] for line in lines}, file.name)),
    )

    class Within(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 10:
                watched(tmp_path, num_train_epochs=1, seed=7)[0].train()

    watched(tmp_path, callbacks=[Within()], options={"plot": True})[0].train()
    ((whose, name),) = drawn
    assert len(whose) == 1
    assert name == "_exposure.png"

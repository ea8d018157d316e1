"""The callback tells dead canaries from live ones, on real trainings of every kind; and training does not notice."""

import json
import logging
import math
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf_canary import CanaryFormat, CanarySet, ExposureCallback
from hf_canary.callback import RECORD_FILE
from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
from hf_canary.presence import Presence
from hf_canary.presence.report import CanaryPresence
from hf_canary.training.moment import Moment
from hf_canary.training.public import public_keys
from hf_canary.training.record import NOTES
from hf_canary.training.run import TrainingRun
from tests.support import oracles

pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")

FORMAT = CanaryFormat("the pin is {digit:4}")
CANARIES = CanarySet.draw(FORMAT, repetitions=(1, 3), per_repetition=2, seed=0)
LETTERS = character_tokenizer(["the pin is 0123456789 row of text q: a"])
DEFAULTS = {
    "per_device_train_batch_size": 4,
    "num_train_epochs": 2,
    "eval_strategy": "epoch",
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
}


def corpus() -> Dataset:
    return CANARIES.inject(Dataset.from_dict({"text": [f"row {n} of text" for n in range(20)]}))


def tokenised(texts: Dataset, **options) -> Dataset:
    return texts.map(lambda row: {"input_ids": LETTERS(row["text"], **options)["input_ids"]}, remove_columns=["text"])


def blocks(texts: Dataset, size: int) -> Dataset:
    flat = [token for row in tokenised(texts)["input_ids"] for token in [*row, LETTERS.eos_token_id]]
    return Dataset.from_dict({"input_ids": [flat[at : at + size] for at in range(0, len(flat), size)]})


def without(texts: Dataset, *numbers: int) -> Dataset:
    gone = {CANARIES[number].text for number in numbers}
    return texts.filter(lambda row: row["text"] not in gone)


def trained(folder, rows, *, bound=False, callback=None, collator=None, evaluation=None, dropout=0.0, **arguments):
    """A small training, and its callback."""
    set_seed(0)
    model = LSTMForCausalLM(
        LSTMConfig(vocab_size=len(LETTERS), hidden_size=16, embedding_size=8, dropout=dropout, pad_token_id=0)
    )
    callbacks = [] if callback is None or bound else [callback(None)]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **(DEFAULTS | arguments)),
        train_dataset=rows,
        eval_dataset=evaluation or tokenised(Dataset.from_dict({"text": ["row 1"]})),
        processing_class=LETTERS,
        data_collator=collator or DataCollatorForLanguageModeling(LETTERS, mlm=False),
        callbacks=callbacks,
    )
    if bound:
        callbacks = [callback(trainer)]
        trainer.add_callback(callbacks[0])
    trainer.train()
    return trainer, callbacks[0] if callbacks else None


def watching(trainer, **options):
    return ExposureCallback(CANARIES, trainer=trainer, num_references=40, **options)


def records(folder) -> list[dict]:
    lines = map(json.loads, (folder / RECORD_FILE).read_text().splitlines())
    return [line for line in lines if line["role"] not in (*NOTES, "measurement")]


def last_entry(trainer) -> dict:
    return [entry for entry in trainer.state.log_history if "eval_loss" in entry][-1]


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_copies_are_counted_as_they_are_trained_on(tmp_path, bound, accumulation):
    """Each epoch has all of them, beside those that were asked for and found."""
    trainer, callback = trained(
        tmp_path,
        tokenised(corpus()),
        bound=bound,
        callback=watching,
        gradient_accumulation_steps=accumulation,
    )
    assert all(each.live == each.repetitions for each in callback.presence)
    for epoch in (1, 2):
        here = [r for r in records(tmp_path) if r["epoch"] == epoch and r["role"] == "canary"]
        assert here
        for record in here:
            assert record["copies_found"] == record["repetitions"]
            assert record["copies_trained"] == epoch * record["repetitions"]
            assert record["dead"] == ""
            assert "valid" not in record
    assert callback.report.is_valid
    assert math.isfinite(last_entry(trainer)["eval_exposure_x3"])
    assert not trainer.model._forward_pre_hooks


FINE = "all 8 copies of 4 canaries found in the training data"


@pytest.mark.parametrize("bound", [False, True])
def test_all_is_well_is_said_once(tmp_path, bound, caplog, capsys):
    """Before the first step, at the log level of everybody; nothing is warned of then."""
    trained(tmp_path, tokenised(corpus()), bound=bound, callback=watching, num_train_epochs=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines.count(FINE) == 1
    assert lines.index(FINE) < next(at for at, line in enumerate(lines) if "exposure (bits)" in line)
    assert not [record for record in caplog.records if record.name.startswith("hf_canary")]


@pytest.mark.parametrize("process", [0, 1])
def test_one_process_says_that_all_is_well(process, capsys):
    """The main one."""
    run = TrainingRun(ExposureCallback(CANARIES)._plan, LETTERS)
    state = SimpleNamespace(is_world_process_zero=process == 0, is_local_process_zero=process == 0)
    at = Moment(
        SimpleNamespace(torch_compile=True, disable_tqdm=False),
        state,
        None,
        oracles.small_model("lstm", len(LETTERS)),
        LETTERS,
    )
    run.read_data(at, SimpleNamespace(dataset=tokenised(corpus()), collate_fn=None))
    assert capsys.readouterr().out.count(FINE) == (process == 0)


def test_reading_the_data_is_told_of_as_it_goes_on(tmp_path, capsys, monkeypatch):
    """By a bar, and of many rows by a line before, without a terminal too."""
    bars = []

    class Watching(ExposureCallback):
        @contextmanager
        def watch(self, *, quiet, doing="Exposure", unit="texts", total=None):
            counts = []
            yield counts.append
            bars.append((doing, unit, total, sum(counts)))

    for many, said in ((28, 0), (27, 1)):
        monkeypatch.setattr("hf_canary.training.run._MANY_ROWS", many)
        bars.clear()
        rows = tokenised(corpus()).select(range(26))
        trained(
            tmp_path,
            rows,
            bound=True,
            callback=lambda trainer: Watching(CANARIES, trainer=trainer, num_references=40),
            num_train_epochs=1,
        )
        assert bars[0] == ("Looking for canaries", "rows", 27, 27)
        assert {bar[:3] for bar in bars[1:]} == {("Exposure", "texts", None)}
        assert capsys.readouterr().out.count("exposure: the canaries are looked for in 27 rows") == said


@pytest.mark.parametrize("bound", [False, True])
def test_one_dead_canary_is_named_and_left_out(tmp_path, bound, caplog, capsys):
    """Its level lives on the other; the mean and the median are of those that live. All is not well then."""
    with caplog.at_level(logging.WARNING, logger="hf_canary"):
        trainer, callback = trained(tmp_path, tokenised(without(corpus(), 0, 3)), bound=bound, callback=watching)
    dead = {CANARIES[0].id: "missing", CANARIES[3].id: "missing"}
    assert callback.report.dead == dead
    assert callback.report.is_valid
    values = {e.canary_id: e.value for e in callback.report if e.estimator == "auto"}
    entry = last_entry(trainer)
    assert entry["eval_exposure_x1"] == round(values[CANARIES[1].id], 1)
    assert entry["eval_exposure_x3"] == round(values[CANARIES[2].id], 1)
    assert entry["eval_exposure_mean"] == round((values[CANARIES[1].id] + values[CANARIES[2].id]) / 2, 1)
    assert (
        f"missing: {CANARIES[0].id} (0 of 1 left), {CANARIES[3].id} (0 of 3 left). To mend it: inject before"
        in caplog.text
    )
    assert "INVALID" not in caplog.text
    assert "copies of 4 canaries" not in capsys.readouterr().out
    assert not any(canary.text in caplog.text for canary in CANARIES)
    for record in records(tmp_path):
        if record["role"] == "canary":
            assert record["dead"] == dead.get(record["canary_id"], "")
    assert "dead: missing" in str(callback.report)


CASES = {
    "max_length": (lambda: tokenised(corpus(), truncation=True, max_length=12), {}, "truncated", "raise max_length"),
    "blocks": (lambda: blocks(corpus(), 7), {}, "split", "pack whole documents"),
    "filtered": (lambda: tokenised(without(corpus(), 0, 1, 2, 3)), {}, "missing", "inject before"),
    "not injected": (lambda: tokenised(Dataset.from_dict({"text": ["row 1"] * 9})), {}, "missing", "inject before"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bound", [False, True])
def test_a_run_whose_canaries_are_dead_is_invalid(tmp_path, case, bound, caplog, capsys):
    """In the log, in every record, and every key is NaN; training goes on."""
    make, options, reason, remedy = CASES[case]
    with caplog.at_level(logging.WARNING, logger="hf_canary"):
        trainer, callback = trained(tmp_path, make(), bound=bound, callback=watching, **options)
    assert trainer.state.epoch == 2
    assert callback.report.dead == {canary.id: reason for canary in CANARIES}
    assert not callback.report.is_valid
    assert f"{reason}: " in caplog.text
    assert remedy in caplog.text
    assert "INVALID" in caplog.text
    for name in public_keys(CANARIES):
        assert math.isnan(last_entry(trainer)[f"eval_{name}"])
    assert {record["valid"] for record in records(tmp_path)} == {False}
    shown = [line for line in capsys.readouterr().out.splitlines() if "exposure (bits)" in line]
    assert shown
    assert all("INVALID" in line and "nan" not in line for line in shown)


def test_masked_canaries_are_dead(tmp_path, caplog):
    """Where the collator's labels leave them out, in the data and in the batches."""

    def masking(rows):
        made = DataCollatorForLanguageModeling(LETTERS, mlm=False)(rows)
        made["labels"][:, 10:] = -100
        return made

    with caplog.at_level(logging.WARNING, logger="hf_canary"):
        _, callback = trained(tmp_path, tokenised(corpus()), callback=watching, collator=masking)
    assert callback.report.dead == {canary.id: "masked" for canary in CANARIES}
    assert all(copies == {"copies_found": 0, "copies_trained": 0} for copies in callback.report.copies.values())
    assert "train on all tokens" in caplog.text


@pytest.mark.parametrize("bound", [False, True])
def test_a_stream_is_judged_by_its_batches(tmp_path, bound):
    """It is not read ahead; a canary that was in no batch of the first epoch is dead."""
    for number, rows in enumerate((corpus(), without(corpus(), 0))):
        stream = tokenised(rows).to_iterable_dataset()
        _, callback = trained(
            tmp_path / str(number),
            stream,
            bound=bound,
            callback=watching,
            max_steps=14,
            eval_strategy="steps",
            eval_steps=7,
        )
        assert callback.presence is None
        assert callback.report.dead == ({} if number == 0 else {CANARIES[0].id: "in no batch"})
        assert callback.report.copies[CANARIES[2].id]["copies_trained"] == 6


def test_canaries_in_the_evaluation_data_are_told(tmp_path, caplog):
    """Where the trainer is known, which has them."""
    rows = tokenised(corpus())
    with caplog.at_level(logging.WARNING, logger="hf_canary"):
        trained(tmp_path, rows, bound=True, callback=watching, evaluation=rows)
    assert "in the evaluation data" in caplog.text


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_does_not_notice(tmp_path, bound, dropout):
    """With the checks, without them, and without the callback: the same weights, bit by bit."""
    weights = []
    for number, callback in enumerate((watching, lambda trainer: watching(trainer, presence=False), None)):
        trainer, _ = trained(
            tmp_path / str(number),
            tokenised(corpus()),
            bound=bound and callback is not None,
            callback=callback,
            dropout=dropout,
        )
        weights.append(trainer.model.state_dict())
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], other[name]) for name in weights[0])


def test_a_check_that_fails_ends_nothing(tmp_path, caplog):
    """It is said, and the exposures are as they are."""

    def broken(rows):
        if len(rows) == 1:
            raise OSError("no rows one by one")
        return DataCollatorForLanguageModeling(LETTERS, mlm=False)(rows)

    with caplog.at_level(logging.WARNING):
        trainer, callback = trained(
            tmp_path,
            tokenised(corpus()).select(range(26)),
            callback=watching,
            collator=broken,
            per_device_train_batch_size=13,
            evaluation=tokenised(Dataset.from_dict({"text": ["row 1", "row 2"]})),
        )
    assert "OSError" in caplog.text
    assert callback.presence.is_valid
    assert math.isfinite(last_entry(trainer)["eval_exposure_mean"])


def test_a_decoders_canaries_are_in_its_labels(tmp_path):
    """With Seq2SeqTrainer; a source that was cut off makes them dead."""
    format = CanaryFormat("the pin is {digit:4}", source="q: {digit:4}")
    canaries = CanarySet.draw(format, repetitions=(1, 3), per_repetition=2, seed=0)
    pairs = Dataset.from_dict({"source": ["row 1", "row 2"] * 6, "target": ["a row", "text"] * 6})
    injected = canaries.inject(pairs, "target", source_column="source")
    for number, (length, is_valid) in enumerate(((40, True), (4, False))):
        rows = injected.map(
            lambda row, length=length: {
                "input_ids": LETTERS(row["source"], truncation=True, max_length=length)["input_ids"],
                "labels": LETTERS(text_target=row["target"])["input_ids"],
            },
            remove_columns=injected.column_names,
        )
        callback = ExposureCallback(canaries, num_references=40)
        trainer = Seq2SeqTrainer(
            model=oracles.small_translation("gru", True, len(LETTERS)),
            args=Seq2SeqTrainingArguments(output_dir=str(tmp_path / str(number)), **DEFAULTS),
            train_dataset=rows,
            eval_dataset=rows.select(range(2)),
            processing_class=LETTERS,
            data_collator=DataCollatorForSeq2Seq(LETTERS),
            callbacks=[callback],
        )
        trainer.train()
        assert callback.presence.is_valid == is_valid
        assert callback.report.is_valid == is_valid
        if is_valid:
            assert all(c["copies_trained"] == 2 * c["copies_found"] for c in callback.report.copies.values())


PACKINGS = {
    "rows": ({}, ""),
    "packed whole": ({"packing": True, "packing_strategy": "bfd", "max_length": 64}, ""),
    "packed and cut": ({"packing": True, "packing_strategy": "wrapped", "max_length": 9}, "split"),
    "cut": ({"max_length": 13}, "truncated"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("bound", [False, True])
def test_sft(tmp_path, packing, bound):
    """TRL's SFTTrainer, packing on and off."""
    from trl import SFTConfig, SFTTrainer

    options, fate = PACKINGS[packing]
    callback = ExposureCallback(CANARIES, num_references=40)
    trainer = SFTTrainer(
        model=oracles.small_model("gpt2", len(LETTERS), seed=1),
        args=SFTConfig(output_dir=str(tmp_path), bf16=False, gradient_checkpointing=False, **(DEFAULTS | options)),
        train_dataset=corpus(),
        eval_dataset=Dataset.from_dict({"text": ["row 1", "row 2"]}),
        processing_class=LETTERS,
        callbacks=[] if bound else [callback],
    )
    if bound:
        callback = ExposureCallback(CANARIES, trainer=trainer, num_references=40)
        trainer.add_callback(callback)
    trainer.train()
    if not fate:
        assert all(each.live == each.repetitions for each in callback.presence)
        assert all(c["copies_trained"] == 2 * c["copies_found"] for c in callback.report.copies.values())
        return
    assert {each.reason for each in callback.presence} == {fate}
    assert not callback.report.is_valid


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("side", "is_valid"), [("completion", True), ("prompt", False)])
def test_sft_on_completions_alone(tmp_path, side, is_valid):
    """A canary in the prompt is masked there; in the completion it is trained on."""
    from trl import SFTConfig, SFTTrainer

    rows = Dataset.from_dict({"prompt": ["q: row"] * 12, "completion": [" a row of text"] * 12})
    if side == "completion":
        injected = CANARIES.inject(rows, "completion")
        injected = injected.map(lambda row: {"prompt": row["prompt"] or "q: "})
    else:
        injected = CANARIES.inject(rows, make_row=lambda canary: {"prompt": canary.text, "completion": " a row"})
    callback = ExposureCallback(CANARIES, num_references=40)
    trainer = SFTTrainer(
        model=oracles.small_model("gpt2", len(LETTERS), seed=1),
        args=SFTConfig(
            output_dir=str(tmp_path), bf16=False, gradient_checkpointing=False, completion_only_loss=True, **DEFAULTS
        ),
        train_dataset=injected,
        eval_dataset=rows.select(range(2)),
        processing_class=LETTERS,
        callbacks=[callback],
    )
    trainer.train()
    assert callback.presence.is_valid == is_valid
    assert {each.reason for each in callback.presence} == {"" if is_valid else "masked"}
    trained_on = [c["copies_trained"] for c in callback.report.copies.values()]
    assert trained_on == [2 * canary.repetitions * is_valid for canary in CANARIES]


@pytest.mark.parametrize("has_record", [True, False])
def test_a_resumed_run_does_not_blame_what_it_has_not_seen(tmp_path, has_record):
    """Copies go on from the record's; without it nothing is said of them, and no canary is dead for it."""
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 7, "max_steps": 7}
    trained(tmp_path, tokenised(corpus()), callback=watching, **options)
    trainer, _ = trained(tmp_path / "other", tokenised(corpus()), callback=watching, **(options | {"max_steps": 1}))
    set_seed(0)
    callback = ExposureCallback(CANARIES, num_references=40)
    again = Trainer(
        model=trainer.model,
        args=TrainingArguments(output_dir=str(tmp_path), **(DEFAULTS | options | {"max_steps": 9})),
        train_dataset=tokenised(corpus()),
        eval_dataset=tokenised(Dataset.from_dict({"text": ["row 1"]})),
        processing_class=LETTERS,
        data_collator=DataCollatorForLanguageModeling(LETTERS, mlm=False),
        callbacks=[callback],
    )
    if not has_record:
        (tmp_path / RECORD_FILE).unlink()
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 9
    assert callback.report.dead == {}
    copies = [callback.report.copies[canary.id] for canary in CANARIES]
    if has_record:  # one epoch has all of them, and two steps of the next have not
        trained_on = [
            each["copies_trained"] - canary.repetitions for each, canary in zip(copies, CANARIES, strict=True)
        ]
        assert min(trained_on) == 0
        assert all(0 <= count <= canary.repetitions for count, canary in zip(trained_on, CANARIES, strict=True))
    else:
        assert not any("copies_trained" in each for each in copies)


def test_batches_know_better_than_the_check(tmp_path, monkeypatch):
    """A canary that was trained on lives, whatever was found in the data before, as where rows are made as they go."""
    none = Presence(tuple(CanaryPresence(canary.id, canary.repetitions) for canary in CANARIES), 1)
    monkeypatch.setattr("hf_canary.training.copies._presence_in", lambda *_, **__: none)
    _, callback = trained(tmp_path, tokenised(without(corpus(), 1)), callback=watching)
    assert callback.presence is none
    assert callback.report.dead == {CANARIES[1].id: "missing"}
    assert callback.report.copies[CANARIES[2].id] == {"copies_found": 0, "copies_trained": 6}


def test_where_labels_do_not_reach_the_model_nothing_is_said_of_batches(tmp_path):
    """As with label smoothing, where the trainer takes them out: no copies are counted, and none is dead for it."""
    options = {"label_smoothing_factor": 0.1}
    _, callback = trained(tmp_path, tokenised(corpus()), callback=watching, **options)
    assert callback.report.dead == {}
    assert callback.report.is_valid
    assert all(set(copies) == {"copies_found"} for copies in callback.report.copies.values())
    _, callback = trained(tmp_path / "bound", tokenised(corpus()), bound=True, callback=watching, **options)
    assert all(copies["copies_trained"] == 2 * copies["copies_found"] for copies in callback.report.copies.values())


def test_data_that_cannot_be_read_are_judged_by_the_batches(tmp_path, caplog):
    """Rows of text that the collator tokenises; and evaluation data of that kind."""

    def tokenising(rows):
        return DataCollatorForLanguageModeling(LETTERS, mlm=False)([LETTERS(row["text"]) for row in rows])

    evaluation = Dataset.from_dict({"text": ["row 1"]})
    for number, bound in enumerate((False, True)):
        with caplog.at_level(logging.WARNING):
            _, callback = trained(
                tmp_path / str(number),
                without(corpus(), 0),
                bound=bound,
                callback=watching,
                collator=tokenising,
                evaluation=evaluation,
                remove_unused_columns=False,
            )
        assert "could not be checked" in caplog.text
        assert callback.presence is None
        assert callback.report.dead == {CANARIES[0].id: "in no batch"}

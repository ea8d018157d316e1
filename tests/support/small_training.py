"""A small training with canaries in its data, the same at every call."""

import json
from functools import cache
from pathlib import Path

from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments, set_seed

import hf_canary.models as models
from hf_canary import CanaryFormat, CanarySet, ExposureCallback
from hf_canary.callback import RECORD_FILE
from hf_canary.measure import Measurement
from hf_canary.training import size
from hf_canary.training.record import NOTES

size.DRAWS = 300 * size.FULL // 60  # 300 beside 60 references; how well draws estimate is tested where they are made

FORMAT = CanaryFormat("the pin is {digit:4}")
CANARIES = CanarySet.draw(FORMAT, repetitions=(1, 2), per_repetition=2, seed=0)
LETTERS = models.character_tokenizer(["the pin is 0123456789", "row of text ->"])
STEPS = 8  # of an epoch


@cache
def rows():
    """30 rows of token ids, 6 of them canaries'."""
    texts = CANARIES.inject(Dataset.from_dict({"text": [f"row {n} of the text" for n in range(24)]}))
    return texts.map(lambda row: {"input_ids": LETTERS(row["text"])["input_ids"]}, remove_columns=["text"])


def lstm(dropout=0.0):
    return models.LSTMForCausalLM(
        models.LSTMConfig(
            vocab_size=len(LETTERS),
            hidden_size=16,
            embedding_size=8,
            dropout=dropout,
            pad_token_id=0,
            bos_token_id=LETTERS.bos_token_id,
            eos_token_id=LETTERS.eos_token_id,
        )
    )


def make_trainer(folder, *, model=None, dropout=0.0, callbacks=(), data=None, **arguments):
    set_seed(0)
    model = lstm(dropout) if model is None else model()
    data = rows() if data is None else data
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(**(defaults | arguments)),
        train_dataset=data,
        eval_dataset=rows().select(range(6)),
        processing_class=LETTERS,
        data_collator=DataCollatorForLanguageModeling(LETTERS, mlm=False),
        callbacks=list(callbacks),
    )


def watched(folder, *, bound=False, options=None, **arguments):
    """A trainer that is watched, and the callback."""
    trainer = make_trainer(folder, **arguments)
    callback = exposure_callback(trainer=trainer if bound else None, **(options or {}))
    trainer.add_callback(callback)
    return trainer, callback


def exposure_callback(**options):
    return ExposureCallback(CANARIES, **({"num_references": 60} | options))


def measured(model, tokenizer=LETTERS, canaries=CANARIES, num_references=60, error=None, context=None):
    """What a measurement says of a model, as thorough as one of the callback."""
    options = {"num_draws": size.num_draws(num_references), "bootstrap": 0, "counting": size.COUNTING}
    options["context"] = context
    return Measurement(canaries, tokenizer, num_references=num_references, **options).measure(model, error=error)


def entries(trainer, key="eval_exposure_mean"):
    """The log entries that hold a key."""
    return [entry for entry in trainer.state.log_history if key in entry]


def steps(place):
    """The steps of the record's measurements, in order."""
    found = [line["step"] for line in records(place)]
    return [step for number, step in enumerate(found) if number == 0 or found[number - 1] != step]


def records(place):
    """The measurements of a record, by its folder or itself."""
    file = Path(place) / RECORD_FILE if Path(place).is_dir() else Path(place)
    lines = map(json.loads, file.read_text().splitlines())
    return [line for line in lines if line.get("role") not in (*NOTES, "measurement")]


def values(place):
    """What a record says, without how long it took, and of which training it is."""
    gone = {"token_rows", "training", "trial"}
    return [{name: value for name, value in line.items() if name not in gone} for line in records(place)]

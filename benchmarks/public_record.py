"""What somebody gains who has a model and all that is uploaded with it: bits less to guess than from the model alone.

Trains a small LSTM with canaries, each inserted another number of times, and measures them as it trains: as natural
secrets, of which at least four are summed up as one, and as drawn canaries, with four or with one to a level. Then
programs look for each fill. One has the model: it tries candidates from the likeliest on. One has the log, too: it
tries those whose exposure is next to what is published of the canary's level, and in turn those that are likely. One
has the weights of every measurement besides, as a Hub repository keeps them that is pushed to at each save, and
compares with all measurements. One has the private record, and takes the candidates next to that log-perplexity.

    python benchmarks/public_record.py
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import tempfile
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments, set_seed

from hf_canary import CanaryFormat, CanarySet, ExposureCallback, log_perplexity
from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
from hf_canary.training.public import public_levels
from hf_canary.training.record import RECORD_FILE

FORMAT = CanaryFormat("the pin is {digit:5}")


def trained(folder, repetitions, per_repetition, epochs, rows=400, seed=None, kind="drawn"):
    """A trainer after its training, its canaries, and the tokenizer."""
    canaries = CanarySet.draw(FORMAT, repetitions=repetitions, per_repetition=per_repetition, seed=seed)
    canaries = dataclasses.replace(canaries, kind=kind)
    tokenizer = character_tokenizer(["the pin is 0123456789", "row of text ->"])
    texts = canaries.inject(Dataset.from_dict({"text": [f"row {n} of the text" for n in range(rows)]}))
    set_seed(0)
    model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=64, embedding_size=16, pad_token_id=0))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=epochs,
            per_device_train_batch_size=16,
            learning_rate=5e-3,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            logging_strategy="no",
            eval_strategy="no",
            save_strategy="epoch",
        ),
        train_dataset=texts.map(
            lambda row: {"input_ids": tokenizer(row["text"])["input_ids"]}, remove_columns=["text"]
        ),
        processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        callbacks=[ExposureCallback(canaries, num_references=2_000)],
    )
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    return trainer, canaries, tokenizer


def exposures(model, tokenizer):
    """(|R|,) log-perplexities and exposures of all candidates, by their exact ranks."""
    costs = log_perplexity(model, tokenizer, list(FORMAT.candidates()))
    rank = np.empty(len(costs))
    rank[np.argsort(costs, kind="stable")] = np.arange(1, len(costs) + 1)
    return costs, np.log2(len(costs)) - np.log2(rank)


def gains(trainer, canaries, tokenizer, *, with_weights=False):
    """For each canary: log2 of the guesses that the model alone takes, with the log, and with the weights of all
    measurements (NaN unless asked for); and whether it is among the three that the private record says.
    """
    costs, exposure = exposures(trainer.model, tokenizer)
    folder = Path(trainer.args.output_dir)
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    measurements = [entry for entry in log if "eval_exposure_mean" in entry]
    lines = [json.loads(line) for line in (folder / RECORD_FILE).read_text().splitlines()]
    private = {line["canary_id"]: line for line in lines if line["role"] == "canary"}  # the last measurement's
    of_measurements = []
    if with_weights:
        for entry in measurements:
            saved = LSTMForCausalLM.from_pretrained(folder / f"checkpoint-{entry['step']}")
            of_measurements.append(exposures(saved, tokenizer)[1])
    level_of = {copies: name for name, levels in public_levels(canaries).items() for copies in levels}
    found = []
    for canary in canaries:
        level = f"eval_exposure_{level_of[canary.repetitions]}"
        keys = [key for key in (level, f"{level}_low", f"{level}_high", "eval_exposure_max") if key in measurements[-1]]
        own = exposure[canary.fill]
        alone = len(costs) * 2.0**-own
        near = min(
            1 + int((np.abs(exposure - measurements[-1][key]) < abs(own - measurements[-1][key])).sum()) for key in keys
        )
        all_near = np.nan
        if with_weights:
            pairs = zip(of_measurements, measurements, strict=True)
            apart = np.sum([np.minimum(1.0, np.abs(each - entry[keys[0]])) for each, entry in pairs], axis=0)
            all_near = np.log2(2 * min(alone, 1 + int((apart < apart[canary.fill]).sum())))
        closest = np.argsort(np.abs(costs - private[canary.id]["log_perplexity"]))[:3]
        # The lists are tried in turn.
        found.append((np.log2(alone), np.log2((1 + len(keys)) * min(alone, near)), all_near, canary.fill in closest))
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--trainings", type=int, default=2)
    given = options.parse_args()
    logging.disable(logging.WARNING)
    one_a_level = (1, 2, 3, 4, 6, 8, 12, 16)
    for name, kind, repetitions, per_level in (
        ("natural, of eight levels of one", "natural", one_a_level, 1),
        ("drawn, four to a level", "drawn", (1, 4), 4),
        ("drawn, one to a level", "drawn", one_a_level, 1),
    ):
        found = []
        for _ in range(given.trainings):
            with tempfile.TemporaryDirectory() as folder:
                found += gains(*trained(folder, repetitions, per_level, given.epochs, kind=kind), with_weights=True)
        alone, public, weights, away = map(np.array, zip(*found, strict=True))
        print(
            f"{name}: {alone.mean():.1f} bits to guess from the model alone, {int((alone == 0.0).sum())} of "
            f"{len(found)} by the first guess; with the log {_gained(alone, public)}; with all weights "
            f"{_gained(alone, weights)}, {int((weights <= 1.0).sum())} by the first two guesses; by the private record "
            f"{int(away.sum())} by the first three"
        )


def _gained(alone, more) -> str:
    return f"{(alone - more).mean():.1f} less on average and {(alone - more).max():.1f} at most"


if __name__ == "__main__":
    main()

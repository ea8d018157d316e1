"""What somebody gains who has a model and all that is uploaded with it: bits less to guess than from the model alone.

Trains a small LSTM with canaries, each inserted another number of times, and measures them as it trains. Then three
programs look for each fill. One has the model: it tries candidates from the likeliest on. One has what `push_to_hub`
uploads besides (the log, `hf_canary.json`): it tries candidates whose exposure is next to the one that is published,
and in turn those that are likely. One has the private record, and takes the candidate of that log-perplexity.

    python benchmarks/public_record.py
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments, set_seed

from hf_canary import CanaryFormat, CanarySet, ExposureCallback, log_perplexity
from hf_canary.looks.record import RECORD_FILE
from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer

FORMAT = CanaryFormat("the pin is {digit:5}")


def trained(folder, repetitions, per_repetition, epochs, rows=400):
    """A trainer after its training, its canaries, and the tokenizer."""
    canaries = CanarySet.draw(FORMAT, repetitions=repetitions, per_repetition=per_repetition)
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


def gains(trainer, canaries, tokenizer):
    """For each canary: log2 of the guesses that the model alone takes, and with what is public; whether the private
    record gives it away.
    """
    costs = log_perplexity(trainer.model, tokenizer, list(FORMAT.candidates()))
    order = np.argsort(costs, kind="stable")
    rank = np.empty(len(costs))
    rank[order] = np.arange(1, len(costs) + 1)
    exposure = np.log2(len(costs)) - np.log2(rank)
    folder = Path(trainer.args.output_dir)
    public = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    said = next(entry for entry in reversed(public) if "eval_exposure_mean" in entry)
    lines = [json.loads(line) for line in (folder / RECORD_FILE).read_text().splitlines()]
    private = {line["canary_id"]: line for line in lines if line["role"] == "canary"}  # the last look's
    found = []
    for canary in canaries:
        alone = rank[canary.fill]
        published = [
            value for key, value in said.items() if key in (f"eval_exposure_x{canary.repetitions}", "eval_exposure_max")
        ]
        near = min(
            1 + int((np.abs(exposure - value) < abs(exposure[canary.fill] - value)).sum()) for value in published
        )
        # Those at the same distance are tried in any order; and the three lists in turn.
        with_public = min(alone, near)
        given_away = int(np.argmin(np.abs(costs - private[canary.id]["log_perplexity"]))) == canary.fill
        found.append((np.log2(alone), np.log2(3 * with_public), given_away))
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--trainings", type=int, default=3)
    given = options.parse_args()
    logging.disable(logging.WARNING)
    for per_level, repetitions in ((1, (1, 2, 3, 4, 6, 8, 12, 16)), (4, (1, 4))):
        all_found = []
        for _ in range(given.trainings):
            with tempfile.TemporaryDirectory() as folder:
                all_found += gains(*trained(folder, repetitions, per_level, given.epochs))
        gained = [alone - public for alone, public, _ in all_found]
        print(
            f"{per_level} a level: {sum(away for *_, away in all_found)} of {len(all_found)} given away by the private "
            f"record; with what is public {statistics.fmean(gained):.1f} bits less to guess on average, "
            f"{max(gained):.1f} at most, of {statistics.fmean(alone for alone, *_ in all_found):.1f}"
        )


if __name__ == "__main__":
    main()

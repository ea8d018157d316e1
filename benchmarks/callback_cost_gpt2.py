"""What measurements cost the training of a model of GPT-2's size, on any device, and a measurement against the naive
one.

    python benchmarks/callback_cost_gpt2.py --steps 400

Trains GPT-2's architecture from random weights on made-up text with canaries in it. First that it is the same training
with and without measurements, weight for weight, in float32 and bfloat16, where kernels are deterministic. Then the
share of train()'s wall time that measurements take: four in a run, with 10,000 references and with as many as the
callback chooses. Then a measurement with all references against scoring them one by one.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import tempfile
import time
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
from callback_cost import Timed, one_by_one
from transformers import (
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf_canary import CanaryFormat, CanarySet
from hf_canary.measure import Measurement
from hf_canary.models import character_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FORMAT = CanaryFormat("my number is {digit:9}.")


def data(tokenizer: Any, canaries: CanarySet, rows: int) -> list[dict[str, Any]]:
    """Rows of random words, and the canaries among them."""
    generator = random.Random(0)
    texts = [
        " ".join("".join(generator.choices(LETTERS, k=generator.randint(2, 8))) for _ in range(40)) for _ in range(rows)
    ]
    texts += [canary.text for canary in canaries for _ in range(canary.repetitions)]
    generator.shuffle(texts)
    return [{"input_ids": tokenizer(text, truncation=True, max_length=256).input_ids} for text in texts]


def trained(
    tokenizer: Any, rows: Any, sizes: dict[str, int], folder: str, callback: Any = None, **arguments: Any
) -> Any:
    set_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=256, **sizes))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            folder,
            per_device_train_batch_size=16,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=not torch.accelerator.is_available(),
            **arguments,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        callbacks=[callback] if callback is not None else [],
    )
    began = time.perf_counter()
    trainer.train()
    return trainer, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--num-references", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=20, help="of the references one in so many is scored by itself")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    sizes = {"n_embd": options.width, "n_layer": options.layers, "n_head": 12}
    canaries = CanarySet.draw(FORMAT, repetitions=(1, 4, 16), per_repetition=4, seed=0)
    tokenizer = character_tokenizer([LETTERS + " my number is 0123456789."])
    rows = data(tokenizer, canaries, 4_000)
    count = {"num_references": options.num_references, "presence": False}

    with tempfile.TemporaryDirectory() as folder:
        torch.use_deterministic_algorithms(True)
        for name, precision in (("float32", {}), ("bfloat16", {"bf16": True})):
            small = {"n_embd": 96, "n_layer": 2, "n_head": 4}
            plain, _ = trained(tokenizer, rows, small, folder, max_steps=30, **precision)
            again, _ = trained(tokenizer, rows, small, folder, max_steps=30, **precision)
            callback = Timed(canaries, measure_at=3, **count)
            measured, _ = trained(tokenizer, rows, small, folder, callback, max_steps=30, **precision)
            weights = [each.model.state_dict() for each in (plain, again, measured)]
            repeats, same = (all(torch.equal(weights[0][k], other[k]) for k in weights[0]) for other in weights[1:])
            print(
                f"{name}: the training repeats itself: {repeats}; with {callback.measurements} measurements it is the "
                f"same: {same}"
            )
        torch.use_deterministic_algorithms(False)

        every = options.steps // 4
        trained(tokenizer, rows, sizes, folder, max_steps=10, bf16=True)  # warm
        for asked in (options.num_references, None):
            callback = Timed(canaries, measure_at=every, num_references=asked, presence=False)
            trainer, total = trained(tokenizer, rows, sizes, folder, callback, max_steps=options.steps, bf16=True)
            share = 100 * callback.seconds / total
            times = f"{callback.seconds:.1f} of {total:.1f} s: {share:.2f} %"
            print(f"measurements of {callback.num_references} references: {callback.measurements}, {times}")

    model = trainer.model
    measurement = Measurement(canaries, tokenizer, num_references=options.num_references, num_draws=2_000, bootstrap=0)
    known = [canary.fill for canary in canaries] + [canary.twin for canary in canaries]
    fills = FORMAT.sample(options.num_references, "references 0", exclude=known)[:: options.every]
    measurement.measure(model)
    began = time.perf_counter()
    measurement.measure(model)
    ours = time.perf_counter() - began
    texts = [FORMAT.render(fill) for fill in fills]
    one_by_one(model, tokenizer, texts[:20])
    began = time.perf_counter()
    one_by_one(model, tokenizer, texts)
    naive = (time.perf_counter() - began) * options.num_references / len(texts)
    ratio = f"a measurement {ours:.2f} s, one by one {naive:.1f} s: {naive / ours:.0f} times"
    print(f"{options.num_references:,} references: {ratio}")


if __name__ == "__main__":
    main()

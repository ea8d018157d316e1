"""What a measurement costs on models of three sizes: token rows counted, seconds predicted from a dense rate.

    python benchmarks/measurement_cost.py TOKENIZER...

Each TOKENIZER is a folder with a tokenizer.json. A small model with its vocabulary is measured at each size that the
callback may choose, with twelve canaries of nine digits behind one context, of which a third is memorised: that says
how many token rows a measurement takes, which a larger model would take as well. A token row costs two operations for
each weight. Rates of operations are given, in 10^9 a second: of this machine's processor they are measured. What calls
of a model take beside their arithmetic is left out, which on an accelerator is most of it for a small model.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from hf_canary import CanaryFormat, CanarySet
from hf_canary.measure import Measurement
from hf_canary.training.size import COUNTING, SIZES, num_draws

MODELS = {"135M": 0.135, "1B": 1.0, "7B": 7.0}  # 10^9 weights
STEPS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizers", nargs="+", type=Path)
    parser.add_argument(
        "--gpu-rate", type=float, default=400_000.0, help="10^9 operations a second; bfloat16, one H100"
    )
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.manual_seed(0)

    rates = {f"{torch.get_num_threads()} cores": dense_rate(), "GPU": options.gpu_rate}
    table = Table("tokenizer", "references", "token rows", *(f"{size}, {at}" for at in rates for size in MODELS))
    for folder in options.tokenizers:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        canaries = CanarySet.draw(CanaryFormat(" The random number is {digit:9}"), per_repetition=4, seed=0)
        model = memorising(tokenizer, canaries)
        for size in SIZES:
            rows = token_rows(model, tokenizer, canaries, size)
            seconds = [2 * rows * weights / rate for rate in rates.values() for weights in MODELS.values()]
            table.add_row(folder.name, f"{size:,}", f"{rows:,}", *map(in_words, seconds))
    Console(width=140).print(table)
    print("operations a second:", ", ".join(f"{at} {rate:,.0f}·10^9" for at, rate in rates.items()))


def in_words(seconds: float) -> str:
    """To two digits, in a unit that people have a feeling for."""
    unit, name = next((each for each in ((3600.0, "h"), (60.0, "min")) if seconds >= 2 * each[0]), (1.0, "s"))
    return f"{float(f'{seconds / unit:.2g}'):g} {name}"


def memorising(tokenizer: PreTrainedTokenizerFast, canaries: CanarySet) -> GPT2LMHeadModel:
    """A small model that has learned the canaries of the highest level by heart."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    most = max(canaries.repetitions)
    rows = [tokenizer(canary.text)["input_ids"] for canary in canaries if canary.repetitions == most]
    for step in range(STEPS):
        ids = torch.tensor([rows[step % len(rows)]])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def token_rows(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, canaries: CanarySet, size: int) -> int:
    """Of one measurement as the callback makes it."""
    measurement = Measurement(
        canaries, tokenizer, num_references=size, num_draws=num_draws(size), bootstrap=0, counting=COUNTING
    )
    return measurement.measure(model).token_rows


def dense_rate() -> float:
    """10^9 operations a second of a product of matrices, as large as those of a model of 10^9 weights."""
    left, right = torch.randn(512, 2048), torch.randn(2048, 8192)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - began)
    return 2 * 512 * 2048 * 8192 / min(times) / 1e9


if __name__ == "__main__":
    main()

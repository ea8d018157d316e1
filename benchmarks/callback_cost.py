"""What measurements cost a training: the demonstration's run, with and without a limit, and a measurement against the
naive one.

    python benchmarks/callback_cost.py

Trains the paper's LSTM as `hf-canary demo` does, twice: looking once an epoch with 10,000 references, and with as many
as the callback chooses. Prints the share of the wall time of train() that its measurements took. Then times a
measurement at the trained model, with all 10,000 references, against scoring them one by one, as tools do that know no
batches; every so many of them is timed, and the same values are asked of both.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from hf_canary import CanaryFormat, CanarySet, ExposureCallback, demo
from hf_canary.measure import Measurement
from hf_canary.models import character_tokenizer


class Timed(ExposureCallback):
    """The callback, which adds up how long its measurements took."""

    seconds, measurements = 0.0, 0

    def _measure(self, *args: Any) -> None:
        began = time.perf_counter()
        super()._measure(*args)
        self.seconds, self.measurements = self.seconds + time.perf_counter() - began, self.measurements + 1

    def show(self, *_: Any) -> None:
        """Say nothing: the shares are what is printed."""


def train(folder: Path, corpus: str | None, epochs: int, **options: Any) -> tuple[Any, Any, CanarySet]:
    """The demonstration's training; prints the measurements' share."""
    settings = demo.Settings(folder, corpus=corpus, epochs=epochs)
    with demo._quiet():
        rows = demo._rows(settings.corpus)
        split = rows.train_test_split(test_size=0.05, seed=0)
        canaries = CanarySet.draw(CanaryFormat(demo.TEMPLATE), repetitions=(1, 4, 16, 64), per_repetition=3, seed=0)
        train_rows = canaries.inject(split["train"])
        tokenizer = character_tokenizer([*rows["text"], *canaries.formats[0].covering_candidates()])
        trainer = demo._trainer(settings, demo._model(settings, tokenizer), tokenizer, train_rows, split["test"])
        callback = Timed(canaries, **options)
        trainer.add_callback(callback)
        began = time.perf_counter()
        trainer.train()
        total = time.perf_counter() - began
    print(
        f"{callback.measurements} measurements of {callback.num_references:,} references: {callback.seconds:.1f} of "
        f"{total:.1f} s: {100 * callback.seconds / total:.2f} %"
    )
    return trainer.model, tokenizer, canaries


@torch.no_grad()
def one_by_one(model: Any, tokenizer: Any, texts: list[str]) -> list[float]:
    """Bits of each text, by a forward pass of its own."""
    model.eval()
    bits = []
    for text in tqdm(texts, leave=False, disable=None):
        ids = tokenizer(text, return_tensors="pt").input_ids.to(model.device)
        loss = model(input_ids=ids, labels=ids).loss
        bits.append(loss.item() * (ids.shape[1] - 1) / np.log(2.0))
    return bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="a text file; the demonstration's own text without it")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--every", type=int, default=10, help="of the references one in so many is scored by itself")
    parser.add_argument("--num-references", type=int, default=10_000, help="of the measurements that are not chosen")
    options = parser.parse_args()
    logging.disable(logging.WARNING)

    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder, "chosen"), options.corpus, options.epochs)
        asked = {"num_references": options.num_references}
        model, tokenizer, canaries = train(Path(folder, "default"), options.corpus, options.epochs, **asked)

    (format,) = canaries.formats
    many = {"num_references": options.num_references, "bootstrap": 0}
    whole = Measurement(canaries, tokenizer, num_draws=2_000, counting=0.1, **many)
    alike = Measurement(canaries, tokenizer, estimators=["sampled", "skewnorm"], **many)
    known = [canary.fill for canary in canaries] + [canary.twin for canary in canaries]
    fills = format.sample(options.num_references, "references 0", exclude=known)[:: options.every]
    texts = [format.render(fill) for fill in fills]
    seconds: dict[str, list[float]] = {"a measurement": [], "its references and fits alone": [], "one by one": []}
    for _ in range(3):
        for name, measurement in zip(seconds, (whole, alike), strict=False):
            began = time.perf_counter()
            report = measurement.measure(model)
            seconds[name].append(time.perf_counter() - began)
        began = time.perf_counter()
        bits = one_by_one(model, tokenizer, texts)
        seconds["one by one"].append((time.perf_counter() - began) * options.num_references / len(fills))
    np.testing.assert_allclose(bits, report.references[format][:: options.every], atol=1e-2)
    for name, times in seconds.items():
        ratio = np.median(np.divide(seconds["one by one"], times))
        print(f"{options.num_references:,} references, {name}: {np.median(times):.2f} s; one by one {ratio:.1f} times")


if __name__ == "__main__":
    main()

"""Extraction against exposure (Figure 11): how many prefixes are expanded until a canary of some exposure is found.

    python examples/paper/extraction.py --model FOLDER --text ptb.train.txt --epochs 4 --draw

A trained character model reads on in a text in which canaries stand 1 to 32 times; after each epoch the rank of each is
counted, by a walk over what is as likely, and what that took is what a search takes until it comes to the canary.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import hf_canary.models  # noqa: F401 (registers the paper's architectures)
from hf_canary import CanaryFormat, CanarySet, exact_rank, extract


class Extracting(TrainerCallback):  # type: ignore[misc]
    """After each epoch, what it takes to come to each canary, and to the likeliest fill of all."""

    def __init__(self, canaries: CanarySet, tokenizer: Any, max_expanded: int) -> None:
        self.canaries, self.tokenizer, self.max_expanded = canaries, tokenizer, max_expanded
        self.points: list[dict[str, Any]] = []
        self.likeliest: list[dict[str, Any]] = []

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        (format,) = self.canaries.formats
        for canary in self.canaries:
            began = time.monotonic()
            (rank,) = exact_rank(model, self.tokenizer, format, [canary.fill], max_expanded=self.max_expanded)
            if rank.rank is None:
                continue
            exposure = math.log2(format.space_size) - math.log2(rank.rank)
            point = {"epoch": state.epoch, "repetitions": canary.repetitions, "rank": rank.rank, "exposure": exposure}
            self.points.append(point | {"expanded": rank.expanded, "seconds": time.monotonic() - began})
            print(json.dumps(self.points[-1]), flush=True)
        found = {
            name: extract(model, self.tokenizer, format, strategy=name, max_expanded=self.max_expanded)
            for name in ("auto", "paper")
        }
        fills = {candidate.fill for candidate in found["auto"].candidates}
        self.likeliest.append(
            {"epoch": state.epoch, "a canary": bool(fills & {canary.fill for canary in self.canaries})}
            | {"certified": found["auto"].certified}
            | {name: each.expanded for name, each in found.items()}
        )
        print(json.dumps(self.likeliest[-1]), flush=True)


def draw(results: dict[str, Any], path: Path) -> None:
    """Expanded prefixes over exposure, on a logarithmic axis, coloured by how often the canary was inserted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    points = results["points"]
    marks = axes.scatter(
        [point["exposure"] for point in points],
        [point["expanded"] for point in points],
        c=[math.log2(point["repetitions"]) for point in points],
        cmap="viridis",
        vmin=0,
        vmax=5,
        s=26,
    )
    bar = figure.colorbar(marks, ax=axes, label="inserted")
    bar.set_ticks([0, 1, 2, 3, 4, 5], labels=["1", "2", "4", "8", "16", "32"])
    axes.axhline(results["space_size"], color="grey", linewidth=0.8, linestyle="--")
    axes.annotate("all candidates", (0.98, results["space_size"] / 3), xycoords=("axes fraction", "data"), ha="right")
    axes.set(yscale="log", xlabel="exposure (bits)", ylabel="prefixes expanded until the canary is found")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=140)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a trained character model, with its tokenizer")
    parser.add_argument("--text", required=True, help="what it reads on, a text in each line")
    parser.add_argument("--format", default="the random number is {digit:9}")
    parser.add_argument("--max-lines", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--max-expanded", type=int, default=500_000, help="canaries that take more are left out")
    parser.add_argument("--out", type=Path, default=Path("extraction"))
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, use_safetensors=True)
    format = CanaryFormat(options.format)
    canaries = CanarySet.draw(format, repetitions=(1, 2, 4, 8, 16, 32), per_repetition=3, seed=0)
    lines = load_dataset("text", data_files=options.text, split="train")
    rows = canaries.inject(lines.select(range(min(options.max_lines, len(lines)))), seed=0)
    tokens = rows.map(lambda row: tokenizer(row["text"], truncation=True, max_length=200), remove_columns="text")
    extracting = Extracting(canaries, tokenizer, options.max_expanded)
    Trainer(
        model=model,
        args=TrainingArguments(
            str(options.out),
            num_train_epochs=options.epochs,
            learning_rate=options.learning_rate,
            per_device_train_batch_size=64,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=tokens.filter(lambda row: len(row["input_ids"]) > 1),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        callbacks=[extracting],
    ).train()
    results = {"points": extracting.points, "likeliest": extracting.likeliest, "space_size": format.space_size}
    options.out.mkdir(exist_ok=True, parents=True)
    (options.out / "points.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    if options.draw:
        draw(results, options.out / "extraction-against-exposure.png")


if __name__ == "__main__":
    main()

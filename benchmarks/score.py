"""What the score walk costs against scoring each text by itself, in batches, as one would write it by hand.

    python benchmarks/score.py [--checkpoint FOLDER]

On the paper's LSTM 2×200 and, with --checkpoint, on a transformer of yours. Each job prints seconds and the ratio of
the two; what is compared is checked to be equal. The naive way is timed at its best batch size, on a part of the
texts where there are many, and scaled to all. Limits are those that we hold ourselves to; where one is missed the
script ends with 1.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from hf_canary import CanaryFormat, log_perplexity
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.models import character_tokenizer, config_file
from hf_canary.tokenization.encoding import encode
from hf_canary.walks.score import score

BATCHES = (64, 256, 1024)
PART = 4096  # texts on which the naive way is timed, of a hundred thousand


@dataclass(frozen=True)
class Line:
    """One comparison."""

    job: str
    ours: float
    other: float
    limit: float

    @property
    def ratio(self) -> float:
        return self.other / self.ours


@torch.no_grad()
def naive(model: Any, tokenizer: Any, texts: Sequence[str], batch_size: int) -> np.ndarray:
    """Bits of each text after its first token: pad, mask, one forward pass for each batch."""
    costs = []
    for at in range(0, len(texts), batch_size):
        batch = tokenizer(list(texts[at : at + batch_size]), return_tensors="pt", padding=True, padding_side="right")
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1]
        following = batch.input_ids[:, 1:]
        nats = -logits.float().log_softmax(-1).gather(-1, following[..., None])[..., 0]
        costs.append((nats * batch.attention_mask[:, 1:]).sum(1).double() / np.log(2.0))
    return torch.cat(costs).numpy()


@torch.no_grad()
def perplexity_metric(model: Any, tokenizer: Any, texts: Sequence[str], batch_size: int = 16) -> np.ndarray:
    """The logic of evaluate's perplexity, with its batch size, written anew; bits instead of a mean of nats."""
    encodings = tokenizer(list(texts), add_special_tokens=True, padding=True, return_tensors="pt")
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    costs = []
    for at in range(0, len(texts), batch_size):
        ids = encodings.input_ids[at : at + batch_size]
        mask = encodings.attention_mask[at : at + batch_size]
        logits = model(ids, attention_mask=mask).logits[..., :-1, :].contiguous()
        costs += ((loss(logits.transpose(1, 2), ids[:, 1:]) * mask[:, 1:]).sum(1) / np.log(2.0)).tolist()
    return np.array(costs)


def timed(job: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result)."""
    started = time.perf_counter()
    result = job()
    return time.perf_counter() - started, result


def best_naive(model: Any, tokenizer: Any, texts: Sequence[str]) -> tuple[float, np.ndarray]:
    """(seconds for a text, costs) at the best batch size."""
    naive(model, tokenizer, texts[:64], 64)
    runs = [timed(lambda size=size: naive(model, tokenizer, texts, size)) for size in BATCHES]
    seconds, costs = min(runs, key=lambda run: run[0])
    return seconds / len(texts), costs


def all_fills(model: Any, tokenizer: Any, digits: int) -> Line:
    """Every fill of so many digits."""
    format = CanaryFormat(f"The random number is {{digit:{digits}}}")

    texts = list(format.candidates())

    def ours() -> np.ndarray:
        return log_perplexity(model, tokenizer, texts)

    ours()
    seconds, costs = timed(ours)
    some = format.sample(min(PART, format.space_size), 0)
    each, theirs = best_naive(model, tokenizer, [texts[fill] for fill in some])
    check_equal(costs[some], theirs)
    return Line(f"all fills of {digits} digits", seconds, each * format.space_size, 30.0)


def check_equal(ours: Any, theirs: Any) -> None:
    """The naive way sums the beginning otherwise, which all texts share: differences are compared."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert len(ours) > 1
    np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], atol=1e-2)


def random_fills(model: Any, tokenizer: Any, texts: list[str]) -> list[Line]:
    """Fills of nine digits after some text."""
    log_perplexity(model, tokenizer, texts)
    runs = [timed(lambda: log_perplexity(model, tokenizer, texts)) for _ in BATCHES]  # as often as the naive way
    seconds, ours = min(runs, key=lambda run: run[0])
    each, theirs = best_naive(model, tokenizer, texts)
    check_equal(ours, theirs)
    metric, costs = timed(lambda: perplexity_metric(model, tokenizer, texts[:PART]))
    check_equal(ours[:PART], costs)
    job = f"{len(texts)} fills of 9 digits"
    return [
        Line(f"{job}, naive batched", seconds, each * len(texts), 4.0),
        Line(f"{job}, evaluate's perplexity", seconds, metric / min(PART, len(texts)) * len(texts), 5.0),
    ]


def throughput(model: Any, tokenizer: Any, texts: list[str]) -> Line:
    """Microseconds for a token row of the walk, against those of the best dense forward pass over the same texts."""
    batch = tokenizer(texts[:2048], return_tensors="pt", padding=True, padding_side="right")
    ids, real = batch.input_ids, int(batch.attention_mask.sum())
    encoding = encode(tokenizer, texts)
    dense, walked = [], []
    with evaluating(model) as bare:
        for _ in range(3):
            for size in BATCHES:
                seconds, _ = timed(lambda size=size: [bare(input_ids=part).logits for part in ids.split(size)])
                dense.append(seconds / real)
            view = LanguageModel(bare)
            seconds, _ = timed(lambda view=view: score(view.session, encoding.sequences, encoding.conditioned))
            walked.append(seconds / view.token_rows)
    return Line("a token row (µs), dense forward pass", min(walked) * 1e6, min(dense) * 1e6, 0.7)


def main(
    checkpoint: Annotated[Path | None, typer.Option(help="Folder of a causal model with its tokenizer.")] = None,
    threads: Annotated[int, typer.Option(help="Of torch; 0 leaves it to torch.")] = 0,
    digits: Annotated[int, typer.Option(help="Of the job that scores all fills.")] = 5,
    count: Annotated[int, typer.Option(help="Of the random fills.")] = 10_000,
) -> None:
    """Compare the score walk with the naive way."""
    if threads:
        torch.set_num_threads(threads)
    table = Table("model", "job", "ours (s)", "other (s)", "ratio", "at least")
    missed = False
    format = CanaryFormat("As you know, the random number is {digit:9}")
    texts = [format.render(fill) for fill in format.sample(count, 0)]
    for name, model, tokenizer in models(checkpoint):
        lines = [all_fills(model, tokenizer, digits), *random_fills(model, tokenizer, texts)]
        for line in [*lines, throughput(model, tokenizer, texts)]:
            missed |= line.ratio < line.limit
            table.add_row(
                name, line.job, f"{line.ours:.3f}", f"{line.other:.3f}", f"{line.ratio:.2f}", f"{line.limit:g}"
            )
    Console().print(table)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    raise typer.Exit(int(missed))


def models(checkpoint: Path | None) -> list[tuple[str, Any, Any]]:
    """(name, model, tokenizer)."""
    tokenizer = character_tokenizer(["As you know, The random number is 0123456789 abcdefghijklmnopqrstuvwxyz"])
    config = AutoConfig.from_pretrained(config_file("lstm-2x200"), vocab_size=len(tokenizer))
    found = [("lstm-2x200", AutoModelForCausalLM.from_config(config).eval(), tokenizer)]
    if checkpoint is not None:
        model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
        other = AutoTokenizer.from_pretrained(checkpoint)
        other.pad_token = other.pad_token or other.eos_token
        found.append((checkpoint.name, model, other))
    return found


if __name__ == "__main__":
    typer.run(main)

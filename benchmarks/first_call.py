"""What the first call costs on a model of SmolLM2-135M's size, whose cache is tried before it is relied on.

    python benchmarks/first_call.py TOKENIZER [--threads 2] [--format TEMPLATE]

The weights are random, since they change no time; the tokenizer is any of about fifty thousand entries. Each count of
references is scored by a model that nobody has asked yet, then by the same once more, and by the naive loop of
`score.py` at its best batch size, turn by turn; the ratio of a turn is of times that lie side by side. With
--cpu-seconds they are the processor's, which other work on the machine moves less. Costs are compared first. Limits are
those that we hold ourselves to; where one is missed the script ends with 1.
"""

import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from score import check_equal, naive
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from hf_canary import CanaryFormat, log_perplexity
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.scoring import score_texts

BATCHES = (8, 32, 128)
FORMAT = "The random number is {digit:9}"
# References → (how often, on how many of them the naive loop is timed, at least so many times as fast at first).
JOBS = {100: (5, 100, 1.7), 300: (3, 300, 2.0), 1000: (2, 300, 2.0), 10_000: (1, 300, 2.0)}


def model_of_size(vocab_size: int) -> Any:
    """SmolLM2-135M, untrained."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rope_theta=100_000.0,
        tie_word_embeddings=True,
        initializer_range=0.041666666666666664,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def timer(of_processor: bool) -> Callable[[Callable[[], Any]], tuple[float, Any]]:
    """Gives (seconds, result) of a job."""
    clock = time.process_time if of_processor else time.perf_counter

    def timed(job: Callable[[], Any]) -> tuple[float, Any]:
        started = clock()
        result = job()
        return clock() - started, result

    return timed


def rows_of_a_check(model: Any, tokenizer: Any, texts: list[str]) -> int:
    """Token rows that a call feeds beyond those of the walk, and of padding."""
    fed: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, args, options: fed.append(options["input_ids"].numel()), with_kwargs=True
    )
    with evaluating(model) as bare:
        view = LanguageModel(bare, batch_size=1)  # one packed row is padded with nothing
        score_texts(view, tokenizer, texts)
    hook.remove()
    return sum(fed) - view.token_rows


def main(
    tokenizer: Annotated[Path, typer.Argument(help="Folder of a tokenizer.")],
    threads: Annotated[int, typer.Option(help="Of torch; 0 leaves it to torch.")] = 0,
    cpu_seconds: Annotated[bool, typer.Option(help="Of the processor; take one thread.")] = False,
    format: Annotated[str, typer.Option(help="Of the references; a longer fill makes a dearer check.")] = FORMAT,
    most: Annotated[int, typer.Option(help="Counts of references up to this.")] = max(JOBS),
) -> None:
    """Compare a first call and a warm one with the naive loop."""
    if threads:
        torch.set_num_threads(threads)
    timed = timer(cpu_seconds)
    words = AutoTokenizer.from_pretrained(tokenizer)
    words.pad_token = words.pad_token or words.eos_token
    model = model_of_size(len(words))
    canary_format = CanaryFormat(format)
    texts = [canary_format.render(fill) for fill in canary_format.sample(max(JOBS), 0)]
    check_equal(log_perplexity(model, words, texts[:100]), naive(model, words, texts[:100], 32))
    times = {size: timed(lambda size=size: naive(model, words, texts[:100], size))[0] for size in BATCHES}
    best = min(times, key=lambda size: times[size])
    print(f"a check: {rows_of_a_check(model, words, texts[:10])} token rows; the naive loop's best batch: {best}")
    table = Table("references", "first (s)", "warm (s)", "naive (s)", "first, ratio", "warm, ratio", "at least")
    missed = False
    for count, (turns, part, limit) in JOBS.items():
        if count > most:
            break
        runs = []
        for _ in range(turns):
            fresh = copy.deepcopy(model)
            first, ours = timed(lambda fresh=fresh, count=count: log_perplexity(fresh, words, texts[:count]))
            seconds, theirs = timed(lambda part=part: naive(model, words, texts[:part], best))
            warm, _ = timed(lambda fresh=fresh, count=count: log_perplexity(fresh, words, texts[:count]))
            check_equal(ours[:part], theirs)
            other = seconds / part * count
            runs.append((first, warm, other, other / first, other / warm))
        medians = [statistics.median(column) for column in zip(*runs, strict=True)]
        missed |= medians[3] < limit
        table.add_row(str(count), *(f"{value:.2f}" for value in medians), f"{limit:g}")
    Console().print(table)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    raise typer.Exit(int(missed))


if __name__ == "__main__":
    typer.run(main)

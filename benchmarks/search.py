"""What extraction and exact ranks cost on a checkpoint: prefixes expanded, seconds, and memory.

Expanded prefixes are compared with the fewest that any search can do with, which are those that cost no more than the
answer: `optimum`. With --one-at-a-time, seconds are compared with Dijkstra's algorithm as one would write it by hand,
one forward pass for each prefix. With --canaries the rank of each canary is counted by itself. With --memory each
strategy searches where all fills cost the same, so that nothing can be left out, in a process of its own.

    python benchmarks/search.py --model FOLDER --format "The random number is {digit:9}" --one-at-a-time --memory
"""

from __future__ import annotations

import argparse
import heapq
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import hf_canary.models  # noqa: F401 (registers the paper's architectures)
from hf_canary import CanaryFormat, CanarySet, log_perplexity
from hf_canary.extraction import Extraction, exact_rank, extract
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.states import containers_copied
from hf_canary.tree.token_tree import TokenTree
from hf_canary.walks.search.search import Progress
from hf_canary.walks.search.strategy import STRATEGIES

RANK_LIMIT = 1_000_000  # prefixes of one count
MEMORY, MEMORY_SECONDS = 256 * 2**20, 40.0
SAME = 1e-3  # bits by which costs of one text may differ from batch to batch


def timed(job: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result)."""
    began = time.perf_counter()
    result = job()
    return time.perf_counter() - began, result


def quickest(job: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result) of the best of three: other work may run beside it."""
    return min((timed(job) for _ in range(3)), key=lambda run: run[0])


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """In markdown, row by row as they come."""
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def allowed(optimum: int) -> float:
    """How many prefixes `auto` may expand."""
    return 1.25 * optimum + 1000


@dataclass(frozen=True)
class Naive:
    """What Dijkstra's algorithm did, one prefix after another.

    Args:
        text: the answer; empty where it was not reached.
        expanded: prefixes that were read.
    """

    text: str
    expanded: int


def naive_search(model: Any, tokenizer: Any, format: CanaryFormat, most: int) -> Naive:
    """Dijkstra's algorithm by hand: a heap of prefixes, each with the cache after its parent."""
    tree, number = TokenTree(format, tokenizer), count()
    open_prefixes: list[tuple[float, int, list[int], int, Any]] = [(0.0, next(number), [], tree.root, None)]
    expanded = 0
    while expanded < most:
        cost, _, path, state, cache = heapq.heappop(open_prefixes)
        if state < 0:
            return Naive(tree.text(path), expanded)
        expanded += 1
        tokens = path[-1:] if path else tree.prompt
        # The cache puts new tensors in place of the old ones, so that children may share what the parent has.
        out = model(input_ids=torch.tensor([tokens]), past_key_values=containers_copied(cache), use_cache=True)
        bits = -out.logits[0, -1].log_softmax(-1) / math.log(2.0)
        edges = tree.edges(state)
        after = zip(edges.tokens.tolist(), edges.states.tolist(), edges.is_leaf.tolist(), strict=True)
        for (token, child, is_leaf), more in zip(after, bits[edges.tokens].tolist(), strict=True):
            if is_leaf:
                heapq.heappush(open_prefixes, (cost + more, next(number), [*path, token], -1, None))
            if child >= 0:
                heapq.heappush(open_prefixes, (cost + more, next(number), [*path, token], child, out.past_key_values))
    return Naive("", expanded)


class Checkpoint:
    """A model with its tokenizer and a format."""

    def __init__(self, folder: str, template: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.format = CanaryFormat(template)

    def extract(self, **options: Any) -> Extraction:
        """The likeliest fill, by the search alone."""
        return extract(self.model, self.tokenizer, self.format, num_references=0, **options)

    def naive(self, most: int) -> Naive:
        """The same by hand."""
        with evaluating(self.model) as bare:
            return naive_search(bare, self.tokenizer, self.format, most)

    def count(self, fill: int) -> int:
        """How many prefixes cost no more than a fill and a hundredth of a bit."""
        (rank,) = exact_rank(self.model, self.tokenizer, self.format, [fill])
        assert rank.rank == 1
        return rank.expanded

    def costs_as(self, text: str, other: str) -> bool:
        """Whether two texts are equally likely."""
        first, second = log_perplexity(self.model, self.tokenizer, [text, other])
        return abs(first - second) < SAME


def strategies(checkpoint: Checkpoint, optimum: int, batch_sizes: Sequence[int]) -> None:
    """Expanded prefixes and seconds of each strategy; `paper` proves nothing, and may miss the answer."""
    answer = checkpoint.extract()
    expanded: dict[tuple[str, int], int] = {}

    def rows() -> Iterable[list[str]]:
        for size in batch_sizes:
            for strategy in ("best-first",) if size == 1 else STRATEGIES:
                seconds, found = quickest(lambda s=strategy, n=size: checkpoint.extract(strategy=s, batch_size=n))
                is_answer = checkpoint.costs_as(found.candidates[0].text, answer.candidates[0].text)
                assert is_answer or strategy == "paper"
                expanded[strategy, size] = found.expanded
                share = found.expanded / allowed(optimum)
                answers = "yes" if is_answer else "no"
                yield [str(size), strategy, f"{found.expanded:,}", f"{share:.2f}", f"{seconds:.3f}", answers]

    print_table(["batch", "strategy", "expanded", "of 1.25 optimum + 1000", "seconds", "the likeliest"], rows())
    most = max(batch_sizes)
    if most > 1:
        ratio = expanded["paper", most] / expanded["auto", most]
        print(f"\nat batch {most:,} the paper's rule expands {ratio:.2f} times what auto does")


def compare_seconds(checkpoint: Checkpoint, optimum: int, most: int) -> None:
    """Seconds of `auto` against one prefix after another, in turns; extrapolated where that was cut short."""
    turns = [(timed(lambda: checkpoint.naive(most)), timed(checkpoint.extract)) for _ in range(3)]
    (theirs, naive), (ours, found) = (min(runs, key=lambda run: run[0]) for runs in zip(*turns, strict=True))
    each = theirs / naive.expanded
    if naive.text:
        assert checkpoint.costs_as(naive.text, found.candidates[0].text)
        how = f"found the same after {naive.expanded:,} prefixes"
    else:
        theirs = each * optimum
        how = f"stopped after {naive.expanded:,} of {optimum:,} prefixes, seconds extrapolated"
    print(f"\none at a time: {theirs:.3f} s, {1e3 * each:.2f} ms a prefix; {how}")
    ratios = [f"{run[0][0] / run[0][1].expanded * optimum / run[1][0]:.1f}" for run in turns]
    print(f"auto: {ours:.3f} s, {found.expanded:,} prefixes")
    print(f"ratio {theirs / ours:.1f}; turn by turn {', '.join(ratios)}")


def ranks(checkpoint: Checkpoint, canaries: CanarySet) -> None:
    """The rank of each canary, counted by itself."""

    def rows() -> Iterable[list[str]]:
        for canary in sorted(canaries, key=lambda canary: -canary.repetitions):
            options: dict[str, Any] = {"max_expanded": RANK_LIMIT}
            model, tokenizer = checkpoint.model, checkpoint.tokenizer
            seconds, (rank,) = timed(
                lambda c=canary, o=options: exact_rank(model, tokenizer, c.format, [c.fill], **o)  # noqa: B023
            )
            known = f"{rank.rank:,}" if rank.rank else f"{rank.low:,} to {rank.high:,}"
            foreseen = f"{rank.expected:,.0f}" if rank.expected else "–"
            yield [canary.id, str(canary.repetitions), known, f"{rank.expanded:,}", foreseen, f"{seconds:.2f}"]

    print_table(["canary", "repetitions", "rank", "expanded", "foreseen", "seconds"], rows())


def resident(what: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


def without_preference(checkpoint: Checkpoint) -> None:
    """Every token is as likely as any other, wherever."""
    head = checkpoint.model.get_output_embeddings()
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)


def memory_of(folder: str, template: str, strategy: str) -> list[str]:
    """A row of the table: what a search took that could leave nothing out. To be run in a process of its own."""
    checkpoint = Checkpoint(folder, template)
    without_preference(checkpoint)
    whole, open_at_most = checkpoint.format, 0
    checkpoint.format = CanaryFormat(template[: template.index("{")] + "{digit:2}")
    checkpoint.extract(strategy=strategy)
    checkpoint.format = whole

    def watch(progress: Progress) -> None:
        nonlocal open_at_most
        open_at_most = max(open_at_most, progress.open)

    Path("/proc/self/clear_refs").write_text("5")  # what was taken at most is forgotten
    before = resident("VmRSS")
    found = checkpoint.extract(strategy=strategy, max_memory=MEMORY, max_seconds=MEMORY_SECONDS, progress=watch)
    grown = resident("VmHWM") - before
    amounts = [f"{found.expanded:,}", f"{open_at_most:,}", f"{grown / 2**20:.0f}", f"{grown / MEMORY:.2f}"]
    return [strategy, found.stopped or "no", *amounts]


def memory(folder: str, template: str) -> None:
    """Growth of resident memory where every fill costs the same."""
    header = ["strategy", "stopped by", "expanded", "open at most", "MiB more", f"of {MEMORY // 2**20} MiB"]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        names = ("best-first", "auto", "depth-first")
        print_table(header, (processes.submit(memory_of, folder, template, name).result() for name in names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder with a causal checkpoint, or a Hub id")
    parser.add_argument("--format", default="The random number is {digit:9}")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256, 1024], help="1 is best-first alone")
    parser.add_argument("--one-at-a-time", action="store_true", help="compare with one forward pass for each prefix")
    parser.add_argument("--max-naive", type=int, default=3000, help="prefixes of that")
    parser.add_argument("--canaries", help="a file of a CanarySet, whose ranks are counted")
    parser.add_argument("--memory", action="store_true", help="how much of it a search takes")
    arguments = parser.parse_args()
    checkpoint = Checkpoint(arguments.model, arguments.format)
    answer = checkpoint.extract()
    assert answer.certified
    optimum = checkpoint.count(answer.candidates[0].fill)
    print(f"optimum: {optimum:,} prefixes; {allowed(optimum):,.0f} allowed")
    strategies(checkpoint, optimum, arguments.batch_sizes)
    if arguments.one_at_a_time:
        compare_seconds(checkpoint, optimum, arguments.max_naive)
    if arguments.canaries:
        ranks(checkpoint, CanarySet.load(arguments.canaries))
    if arguments.memory:
        memory(arguments.model, arguments.format)
    print(f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()

"""Run by test_processes.py in several processes at once: writes what each of them got."""

import json
import sys

import numpy as np
import torch
from torch.distributed.fsdp import fully_shard

from hf_canary import CanaryFormat, CanarySet, exact_rank, extract, log_perplexity, measure_exposure
from hf_canary.presence.batches import TrainedCopies
from hf_canary.presence.token_search import Occurrences
from hf_canary.runtime.processes import from_main, num_processes, split_over_processes
from hf_canary.walks.search.checkpoint import digest_of_model
from tests.support import oracles
from tests.support.tokenizers_of_all_kinds import KINDS

CANARIES = CanarySet.draw(CanaryFormat("the pin is {digit:4}"), repetitions=(1, 2), per_repetition=2, seed=3)
REQUEST = {"estimators": ["auto", "importance", "exact"], "num_references": 150, "num_draws": 300}
TEXTS = [CanaryFormat("the pin is {digit:3}").render(fill) for fill in range(0, 1000, 10)]


def main(out: str) -> None:
    processes = num_processes()
    rank = torch.distributed.get_rank()
    tokenizer = oracles.models.character_tokenizer(["the pin is 0123456789"])
    model = oracles.small_model("gpt2", len(tokenizer))
    # Different batches in each process, so that they call the model unequally often.
    options = {"batch_size": 7 if rank else 3}
    found = {"processes": processes, "plain": log_perplexity(model, tokenizer, TEXTS, **options).tolist()}
    found["few"] = log_perplexity(model, tokenizer, TEXTS[:1], **options).tolist()
    found["measured"] = measured(model, tokenizer)
    found["searched"] = searched(model, tokenizer, f"{out}-kept")
    subwords = KINDS["gpt2"]()
    of_subwords = oracles.small_model("gpt2", len(subwords))
    found["measured in sub-words"] = measured(of_subwords, subwords)
    in_time = measure_exposure(model, tokenizer, CANARIES, max_seconds=0.3 + 0.2 * rank, num_references=50_000)
    found["in time"] = [[e.low, e.value, e.high, e.num_references] for e in in_time if e.estimator == "auto"]
    digest = digest_of_model(model)
    for each in (model, of_subwords):
        for layer in each.transformer.h:
            fully_shard(layer)
        fully_shard(each)
    found["same digest"] = digest_of_model(model) == digest
    found["sharded"] = log_perplexity(model, tokenizer, TEXTS, **options).tolist()
    found["sharded few"] = log_perplexity(model, tokenizer, TEXTS[:1], **options).tolist()
    found["sharded measured"] = measured(model, tokenizer)
    found["sharded measured in sub-words"] = measured(of_subwords, subwords)
    found["sharded searched"] = searched(model, tokenizer, f"{out}-kept-sharded")
    try:
        split_over_processes(7, failing_on_the_last, lambda: None)
    except Exception as error:
        found["failing"] = type(error).__name__
    found["trained on"] = trained_on(tokenizer, rank)
    try:
        from_main(failing_on_the_main_one)
    except Exception as error:
        found["failing main"] = type(error).__name__
    with open(f"{out}-{rank}", "w", encoding="utf-8") as file:
        json.dump(found, file)


def measured(model, tokenizer):
    """Values and intervals of all estimates."""
    report = measure_exposure(model, tokenizer, CANARIES, **REQUEST)
    return [[e.low, e.value, e.high, e.num_references] for e in (*report, *report.twins)]


def searched(model, tokenizer, kept):
    """What is found and counted, in one go and stopped by a cap in between, with a checkpoint to go on from."""
    (format,), found = CANARIES.formats, []
    for strategy in ("auto", "best-first", "depth-first"):
        whole = extract(model, tokenizer, format, top_k=5, strategy=strategy)
        file = f"{kept}-{strategy}"
        capped = extract(model, tokenizer, format, top_k=5, strategy=strategy, max_expanded=30, checkpoint=file)
        again = extract(model, tokenizer, format, top_k=5, strategy=strategy, checkpoint=file)
        for each in (whole, capped, again):
            fills = [[candidate.fill, candidate.log_perplexity] for candidate in each.candidates]
            found.append([fills, each.certified, each.expanded, each.lower_bound])
    ranks = exact_rank(model, tokenizer, format, [17, 4242, 9000])
    capped = exact_rank(model, tokenizer, format, [17, 4242, 9000], max_expanded=100, checkpoint=f"{kept}-ranks")
    again = exact_rank(model, tokenizer, format, [17, 4242, 9000], max_expanded=200, checkpoint=f"{kept}-ranks")
    found.append([[rank.rank, rank.low, rank.high, rank.ties, rank.expanded] for rank in (*ranks, *capped, *again)])
    return found


def trained_on(tokenizer, rank):
    """Before any batch, and after two copies in one process and one in the other, and one more in the first alone."""
    copies = TrainedCopies(CANARIES, tokenizer, Occurrences(CANARIES, tokenizer, target=False))
    before = copies.counts()
    ids = torch.tensor(tokenizer([CANARIES[0].text])["input_ids"])
    copies.see({"input_ids": ids.repeat(2 - rank, 1), "labels": ids.repeat(2 - rank, 1)})
    copies.see({"input_ids": ids, "labels": None})  # nobody knows what the loss is of
    first = copies.counts()
    if rank == 0:
        copies.see({"input_ids": ids, "labels": ids})
    return [before, first, copies.counts()]


def failing_on_the_main_one():
    raise Unsendable(lambda: None)


class Unsendable(Exception):
    """What no other process can be sent, since it holds a function without a name."""


def failing_on_the_last(numbers):
    if 6 in numbers:
        raise LookupError
    return np.zeros(len(numbers))


if __name__ == "__main__":
    main(sys.argv[1])

"""How often the 95 % intervals hold the truth, and how far the estimates are from it, on models whose ranks are known.

Every candidate of a format is scored; fills whose exposures stand on a grid from 0 to log2|R| are taken for canaries,
each by itself; then each estimator found at them with many seeds. `auto` is without counted ranks here, which would
always be right.

    python benchmarks/coverage.py --model FOLDER --format "The random number is {digit:5}" --seeds 200
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

import hf_canary.models  # noqa: F401 (registers the paper's architectures)
from hf_canary import CanaryFormat
from hf_canary.estimators import exposures
from hf_canary.estimators.exposures import Estimate, exposure_of_rank
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel, Session
from hf_canary.measurement.sampling import SampledFills, draw
from hf_canary.runtime.deadline import Deadline
from hf_canary.tree.token_tree import TokenTree
from hf_canary.walks.score import score


class Space:
    """All candidates of a format with their costs, and a grid of them."""

    def __init__(self, model: Any, tokenizer: Any, format: CanaryFormat, steps: float) -> None:
        self.language_model = LanguageModel(model)
        self.tree = TokenTree(format, tokenizer)
        self.session = self.language_model.session(self.tree.prompt, self.tree.depth)
        prompt, paths = self.tree.prompt, self.tree.paths(list(format.candidates()))
        costs = score(self.language_model.session, [[*prompt, *path] for path in paths], len(prompt))
        order = np.argsort(costs, kind="stable")
        self.costs, self.size = costs[order], format.space_size
        assert len(costs) == self.size
        most = math.log2(self.size)
        wanted = np.unique(np.round(2.0 ** (most - np.arange(0.0, most + steps, steps).clip(max=most))).astype(int))
        self.ranks = np.searchsorted(self.costs, self.costs[wanted - 1], side="right")
        self.exposures = np.array([exposure_of_rank(int(rank), self.size) for rank in self.ranks])
        self.fills = order[self.ranks - 1].tolist()
        self.own_costs = self.costs[self.ranks - 1]

    def start(self) -> Session:
        """The session after the prompt."""
        return self.session

    def sampled(self, count: int, seed: int) -> SampledFills:
        """From the ladder."""
        found = draw(self.language_model, self.start, self.tree, self.fills, count, seed=seed, deadline=Deadline())
        assert found is not None
        return found


def by_draws(space: Space, sampled: SampledFills, *, proven: bool) -> Iterator[Estimate]:
    """Each canary as if it were alone."""
    leaves = sampled.samples
    # Which of them a draw fell upon: the nearest, since batches move the cost of a leaf by a rounding error.
    whose = np.abs(leaves.costs[:, None] - sampled.canary_costs).argmin(axis=1)
    for number, (cost, weight) in enumerate(zip(sampled.canary_costs, sampled.canary_log_weights, strict=True)):
        own = dataclasses.replace(leaves, known=leaves.known & (whose == number))
        yield exposures.importance([cost], own, space.size, own_log_weights=None if proven else [weight])[0]


def estimates_of(space: Space, seed: int, num_references: int, num_draws: int) -> dict[str, list[Estimate]]:
    """What each estimator says of the grid; `proven` is `importance` with the interval for verdicts."""
    generator = np.random.default_rng(seed)
    found: dict[str, list[Estimate]] = {"sampled": [], "skewnorm": []}
    for rank, cost in zip(space.ranks, space.own_costs, strict=True):
        others = generator.choice(space.size - 1, size=min(num_references, space.size - 1), replace=False)
        references = space.costs[others + (others >= rank - 1)]
        found["sampled"] += exposures.sampled([cost], references, space.size)
        found["skewnorm"] += exposures.skewnorm([cost], references, space.size)
    sampled = space.sampled(num_draws, seed)
    found["importance"] = list(by_draws(space, sampled, proven=False))
    found["proven"] = list(by_draws(space, sampled, proven=True))
    found["auto"] = [
        one if exposures.prefer(one, other)[0] == "sampled" else other
        for one, other in zip(found["sampled"], found["importance"], strict=True)
    ]
    return found


def covers(estimate: Estimate, truth: float) -> bool:
    """Whether the interval holds the truth."""
    return estimate.low - 1e-9 <= truth <= estimate.high + 1e-9


def hits_of(estimate: Estimate) -> float:
    """What the estimate rests on: references or effective draws; NaN for a fit."""
    return estimate.details.get("effective_hits", estimate.details.get("hits", math.nan))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder with a checkpoint, or a Hub id")
    parser.add_argument("--format", default="The random number is {digit:5}")
    parser.add_argument("--steps", type=float, default=1.0, help="bits between neighbours of the grid")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--num-references", type=int, default=10_000)
    parser.add_argument("--num-draws", type=int, default=4_000)
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    began = time.monotonic()
    with evaluating(model) as bare:
        space = Space(bare, tokenizer, CanaryFormat(arguments.format), arguments.steps)
        print(f"{space.size:,} candidates, {space.costs[0]:.1f} to {space.costs[-1]:.1f} bits after the prompt")
        found = [
            estimates_of(space, seed, arguments.num_references, arguments.num_draws) for seed in range(arguments.seeds)
        ]
    for name in found[0]:
        print(f"\n{name}\nexposure  covers    bias     rms   width   hits")
        for place, truth in enumerate(space.exposures.tolist()):
            these = [each[name][place] for each in found]
            errors = np.array([one.value - truth for one in these])
            print(
                f"{truth:8.2f}{np.mean([covers(one, truth) for one in these]):8.3f}{errors.mean():8.2f}"
                f"{math.sqrt((errors**2).mean()):8.2f}{np.mean([one.high - one.low for one in these]):8.2f}"
                f"{np.median([hits_of(one) for one in these]):7.0f}"
            )
        held = [covers(each[name][place], truth) for each in found for place, truth in enumerate(space.exposures)]
        print(f"   all  {np.mean(held):8.3f}")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

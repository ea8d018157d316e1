"""What it costs to know an exposure to half a bit, by each estimator; and how often 4,000 draws are within one bit.

Canaries are fills of nine digits (|R| = 10^9) whose exposures are about 5, 10, 15, 20 and 25 bits; their exact ranks
are counted, but where that takes more than five million token rows: then 200,000 references stand for all of R, and the
work is what the draws foresee. Costs are tokens fed to the model. An estimator is there when 95 % of its errors, over
the seeds, are half a bit or less.

    python benchmarks/estimators.py --model FOLDER --format "The random number is {digit:9}" --draw cost.png
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from transformers import AutoModelForCausalLM, AutoTokenizer

import hf_canary.models  # noqa: F401 (registers the paper's architectures)
from hf_canary import CanaryFormat, log_perplexity
from hf_canary.arrays import Floats
from hf_canary.estimators import exposures
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel, Session
from hf_canary.measurement.ranking import Ranking
from hf_canary.measurement.sampling import SampledFills, draw
from hf_canary.runtime.deadline import Deadline
from hf_canary.tree.token_tree import TokenTree
from hf_canary.walks.search.run import go_on
from hf_canary.walks.search.search import Search
from hf_canary.walks.search.strategy import STRATEGIES

TARGETS = (5, 10, 15, 20, 25)
DRAWS = (250, 500, 1000, 2000, 4000, 8000, 16_000)
REFERENCES = (1000, 10_000, 100_000)
CLOSE = 0.5
OFTEN = 0.95
MOST_COUNTED = 5_000_000


@dataclass
class World:
    """A model, a format, and canaries whose exposures are known."""

    view: LanguageModel
    tree: TokenTree
    session: Session
    fills: list[int]
    truths: list[float]
    counting: list[int]

    def draws(self, fills: Sequence[int], count: int, seed: int) -> SampledFills:
        """From the ladder, with these canaries."""
        found = draw(self.view, lambda: self.session, self.tree, fills, count, seed=seed, deadline=Deadline())
        assert found is not None
        return found

    def estimate(self, number: int, count: int, seed: int) -> float:
        """The error of one estimate from draws, in bits; the canary alone, as where there is one."""
        sampled = self.draws([self.fills[number]], count, seed)
        (found,) = exposures.importance(
            sampled.canary_costs,
            sampled.samples,
            self.tree.format.space_size,
            own_log_weights=sampled.canary_log_weights,
        )
        return found.value - self.truths[number]


def find(view: LanguageModel, tree: TokenTree, pool: Floats, score: Callable[[list[str]], Floats]) -> World:
    """Canaries near the wanted exposures, among fills that the ladder draws, and their counted ranks."""
    session = view.session(tree.prompt, tree.depth)
    world = World(view, tree, session, [], [], [])
    size = tree.format.space_size
    pilot = world.draws([0], 20_000, seed=12345).draws
    order = np.argsort(pilot.costs)
    shares = np.cumsum(np.exp(pilot.log_weights[order])) / len(pilot)
    for target in TARGETS:
        began = time.monotonic()
        place = order[min(int(np.searchsorted(shares, 2.0**-target)), len(order) - 1)]
        cost = float(pilot.costs[place])
        foreseen = world.draws([0], 20_000, seed=1).expected_expansions(cost)
        if foreseen <= MOST_COUNTED:
            fill, cost, rank, rows = counted(world, cost, round(size / 2.0**target))
            world.truths.append(exposures.exposure_of_rank(rank, size))
            world.counting.append(rows)
            how = f"rank {rank:,}, counted by {rows:,} token rows"
        else:
            fill = fill_of(world, cost)
            (own,) = score([tree.format.render(fill)])
            world.truths.append(-math.log2(np.mean(pool <= own)))
            world.counting.append(int(foreseen))
            how = f"by references; {foreseen:,.0f} token rows are foreseen for counting"
        world.fills.append(fill)
        print(
            f"exposure {world.truths[-1]:6.3f}, {cost:.2f} bits after the prompt: {how}; "
            f"{time.monotonic() - began:.1f} s",
            flush=True,
        )
    return world


def counted(world: World, bound: float, rank: int) -> tuple[int, float, int, int]:
    """The fill of this rank, or one that ties with it: fill, cost, rank, and token rows for counting it."""
    while True:
        costs, paths = below(world, bound)
        if len(costs) >= rank:
            break
        bound += 1.0
    place = int(np.argsort(costs, kind="stable")[rank - 1])
    fill, cost = world.tree.format.parse(world.tree.text(paths[place].tolist())), float(costs[place])
    before = world.view.token_rows
    session = world.view.session(world.tree.prompt, world.tree.depth, mixed=True)
    (rank,) = Ranking(world.view, session, world.tree, [fill], max_memory=world.view.max_memory).count()
    return fill, cost, rank.rank, world.view.token_rows - before


def below(world: World, bound: float) -> tuple[Floats, Any]:
    """All leaves that cost no more after the prompt: (n,) bits, (n, depth) tokens."""
    goal = Below(bound)
    session = world.view.session(world.tree.prompt, world.tree.depth, mixed=True)
    go_on(Search(world.view, session, world.tree, goal, strategy=STRATEGIES["depth-first"], max_memory=2**31))
    return np.concatenate(goal.costs), np.concatenate(goal.paths)


class Below:
    """The goal of who wants all leaves up to a bound."""

    dropped, num_bytes = math.inf, 0

    def __init__(self, bound: float) -> None:
        self.bound = self.best = bound
        self.costs: list[Floats] = [np.empty(0)]
        self.paths: list[Any] = []

    def offer(self, costs: Floats, paths: Any) -> None:
        self.costs.append(costs)
        self.paths.append(paths)

    def leaves_out(self, costs: Floats, paths: Any) -> Any:
        return np.zeros(len(costs), dtype=bool)


def fill_of(world: World, cost: float) -> int:
    """A fill of about this cost: digit by digit, each time the one after which the cost is best approached."""
    generator = np.random.default_rng(0)
    format = world.tree.format
    fills = [int(fill) for fill in generator.integers(0, format.space_size, 512)]
    for _ in range(12):  # from random fills, change digits towards the cost
        costs = world.draws(fills, 1, seed=0).canary_costs
        best = [fills[number] for number in np.argsort(np.abs(costs - cost))[:64]]
        digits = len(format.holes)
        fills = best + [
            changed(fill, int(generator.integers(digits)), int(generator.integers(10))) for fill in best * 7
        ]
    costs = world.draws(fills, 1, seed=0).canary_costs
    return fills[int(np.argmin(np.abs(costs - cost)))]


def changed(fill: int, place: int, digit: int) -> int:
    """A fill with another digit in one place."""
    power = 10**place
    return fill + (digit - fill // power % 10) * power


def rows_of(references: float) -> float:
    """Token rows of so many random fills of nine digits: the inner prefixes that they have."""
    return sum(10.0**depth * -math.expm1(references * math.log1p(-(10.0**-depth))) for depth in range(1, 9))


def references_needed(exposure: float) -> int:
    """How many references Theorem 1 needs, by the binomial law of their hits."""
    share, count = 2.0**-exposure, 1
    while True:
        hits = np.arange(stats.binom.ppf(1e-9, count, share), stats.binom.ppf(1 - 1e-9, count, share) + 1)
        errors = np.abs(-np.log2((hits + 0.5) / (count + 0.5)) - exposure)
        if stats.binom.pmf(hits, count, share)[errors <= CLOSE].sum() >= OFTEN:
            return count
        count = max(count + 1, int(count * 1.02))


def draws_needed(world: World, number: int, seeds: int) -> tuple[int, int] | None:
    """How many draws the ladder needs, and their token rows; None where all of them are too few."""
    for count in DRAWS:
        before = world.view.token_rows
        errors = [abs(world.estimate(number, count, seed)) for seed in range(seeds)]
        if np.mean(np.array(errors) <= CLOSE) >= OFTEN:
            return count, (world.view.token_rows - before) // seeds
    return None


def skewnorm_errors(world: World, costs: Floats, pool: Floats, seeds: int) -> Floats:
    """(n_references, n_canaries) root mean squares over the seeds."""
    generator = np.random.default_rng(0)
    table = np.empty((len(REFERENCES), len(costs)))
    for row, count in enumerate(REFERENCES):
        found = [
            [e.value for e in exposures.skewnorm(costs, generator.choice(pool, count), world.tree.format.space_size)]
            for _ in range(seeds)
        ]
        table[row] = np.sqrt(((np.array(found) - world.truths) ** 2).mean(axis=0))
    return table


def within_a_bit(world: World, seeds: int, count: int = 4000) -> list[int]:
    """Of so many seeds, in how many the draws come within one bit, for each canary."""
    return [
        sum(abs(world.estimate(number, count, seed)) <= 1.0 for seed in range(seeds))
        for number in range(len(world.fills))
    ]


def draw_picture(rows: dict[str, list[float]], truths: list[float], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, values), mark in zip(rows.items(), "os^", strict=True):
        axes.plot(truths, values, marker=mark, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("exposure in bits")
    axes.set_ylabel("token rows for half a bit")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder with a checkpoint, or a Hub id")
    parser.add_argument("--format", default="The random number is {digit:9}", help="nine digits after some text")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--draw", type=Path, help="the PNG to write")
    arguments = parser.parse_args()
    model: Any = AutoModelForCausalLM.from_pretrained(arguments.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    format = CanaryFormat(arguments.format)
    with evaluating(model) as bare:
        pool = log_perplexity(bare, tokenizer, [format.render(fill) for fill in format.sample(200_000, "pool")])

        def score(texts: list[str]) -> Floats:
            return log_perplexity(bare, tokenizer, texts)

        world = find(LanguageModel(bare), TokenTree(format, tokenizer), pool, score)
        costs = score([format.render(fill) for fill in world.fills])
        skewed = skewnorm_errors(world, costs, pool, arguments.seeds)
        lines: dict[str, list[float]] = {"sampled": [], "importance": [], "exact, counted": []}
        print(
            "exposure  sampled: references, rows   importance: draws, rows   exact: rows   skew-normal rms at 10^3/4/5"
        )
        for number, truth in enumerate(world.truths):
            references = references_needed(truth)
            drawn = draws_needed(world, number, arguments.seeds)
            lines["sampled"].append(rows_of(references))
            lines["importance"].append(drawn[1] if drawn else math.nan)
            lines["exact, counted"].append(world.counting[number])
            print(
                f"{truth:8.2f}  {references:,}, {lines['sampled'][-1]:,.0f}   "
                f"{drawn[0] if drawn else '> 16,000'}, {lines['importance'][-1]:,.0f}   "
                f"{world.counting[number]:,}   {' / '.join(f'{error:.2f}' for error in skewed[:, number])}",
                flush=True,
            )
        print("4,000 draws within one bit, of 100 seeds:", within_a_bit(world, 100))
    if arguments.draw:
        draw_picture(lines, world.truths, arguments.draw)


if __name__ == "__main__":
    main()

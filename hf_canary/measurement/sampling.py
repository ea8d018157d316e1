"""Draws from the temperature ladder: model + tree → fills, what they cost, and how likely each rung was to draw them.

Says what to draw and makes numbers of what the sample walk brings back; a pilot finds out from where to draw. Shares
the draws among processes. Knows no estimator.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..arrays import Floats, Ints
from ..estimators.importance_sampling import (
    BETAS,
    ImportanceSamples,
    apportioned,
    better_shares,
    expected_expansions,
    log_mixture,
)
from ..inference.language_model import LanguageModel, Session
from ..runtime.deadline import Deadline
from ..tree.token_tree import TokenTree, padded
from ..walks.sample import Plan, SampledPaths, sample

# A pilot is a quarter of so many draws and more; fewer are too few to learn from.
_FEWEST_FOR_PILOT = 2000
_PILOT = 0.25
# With a limit of time, so many draws show how long one takes; and with fewer than these nothing is said.
_FIRST_BLOCK = 32
_FEWEST = 200

_POSITIVE = np.array(BETAS[1:])


@dataclass(frozen=True)
class SampledFills:
    """Draws, and beside them what the same walk says of the canaries and twins.

    Args:
        samples: from the ladder.
        canary_costs: (n_known,) bits after what all candidates share.
        canary_log_weights: (n_known,) ln of what a draw of each would stand for, as a share of R.
        counted: (n_known,) how many of the known fills cost at most as much as each, itself among them.
        inner_costs: (n, depth) bits of the inner prefixes of the draws above β = 0; infinite where there is none.
        inner_log_q: (n, depth, n_rungs − 1) how likely these rungs were to draw them, in natural logs.
    """

    samples: ImportanceSamples
    canary_costs: Floats
    canary_log_weights: Floats
    counted: Floats
    inner_costs: Floats
    inner_log_q: Floats

    def expected_expansions(self, cost: float) -> float:
        """How many prefixes must be read to count the candidates at or below a cost."""
        return expected_expansions(self.inner_costs, self._log_mixed, cost)

    @cached_property
    def _log_mixed(self) -> Floats:
        return log_mixture(self.inner_log_q, self.samples.counts[1:])


def draw(
    language_model: LanguageModel,
    start: Callable[[], Session],
    tree: TokenTree,
    known: Sequence[int],
    count: int,
    *,
    seed: int,
    deadline: Deadline,
) -> SampledFills | None:
    """`count` draws, or as many as there is time for.

    Args:
        language_model: the model, in evaluation.
        start: gives the session after the tree's prompt.
        tree: of the format.
        known: fills of canaries and twins.
        count: of draws.
        seed: the same draws for the same seed, in any batches and any number of processes; within a limit of time
            fewer and others.
        deadline: how long it may take.

    Returns:
        None where the time suffices for too few to say anything.
    """
    rounds = _Rounds(language_model, start, tree, known, seed)
    equal = np.full(len(BETAS), 1.0 / len(BETAS))
    pilot = int(_PILOT * count) if count >= _FEWEST_FOR_PILOT else count
    for block in deadline.part(0.5).blocks(pilot, _FIRST_BLOCK):
        rounds.add(equal, block.stop - block.start)
    if rounds.count == pilot < count:
        sampled = rounds.sampled()
        shares = better_shares(sampled.samples, sampled.canary_costs, sampled.counted)
        for block in deadline.blocks(count - pilot, pilot):
            rounds.add(shares, block.stop - block.start)
    return rounds.sampled() if rounds.count >= min(count, _FEWEST) else None


class _Rounds:
    """What has been drawn so far, canaries and twins first."""

    def __init__(
        self,
        language_model: LanguageModel,
        start: Callable[[], Session],
        tree: TokenTree,
        known: Sequence[int],
        seed: int,
    ) -> None:
        self._language_model, self._start, self._tree, self._seed = language_model, start, tree, seed
        self._num_canaries = len(known)
        self._rungs: list[Ints] = []
        self._drawn: list[SampledPaths] = []
        self._walk(np.zeros(len(known), dtype=np.int64), known)

    @property
    def count(self) -> int:
        """How many have been drawn."""
        return sum(map(len, self._rungs)) - self._num_canaries

    def add(self, shares: Floats, count: int) -> None:
        """Draw more, by these shares of the rungs."""
        rungs = np.repeat(np.arange(len(BETAS)), apportioned(shares, count))
        generator = random.Random(f"uniform fills {self._seed} {len(self._drawn)}")
        space = self._tree.format.space_size
        self._walk(rungs, [generator.randrange(space) for _ in range(int((rungs == 0).sum()))])

    def sampled(self) -> SampledFills:
        """All of it as numbers."""
        rungs, drawn = np.concatenate(self._rungs), _joined(self._drawn)
        last = np.arange(len(rungs)), np.maximum(drawn.lengths - 1, 0)
        costs = np.where(drawn.ended, drawn.costs[last], np.inf)
        leaves = np.unique(drawn.paths, axis=0, return_inverse=True)[1].reshape(-1)
        copies = np.ones(len(leaves))
        copies[drawn.ended] = self._tree.copies_of(drawn.paths[drawn.ended])
        log_space = math.log(self._tree.format.space_size)
        log_q = np.column_stack([np.log(copies) - log_space, drawn.log_q[last]])
        known, draws = slice(self._num_canaries), slice(self._num_canaries, None)
        # What ran into a dead end stands for nothing, whatever is said of it.
        log_q[~drawn.ended] = 0.0
        hot = np.flatnonzero(rungs[draws] > 0) + self._num_canaries
        inner = np.arange(drawn.paths.shape[1]) < drawn.lengths[hot, None] - drawn.ended[hot, None]
        found = ImportanceSamples(
            costs[draws],
            log_q[draws],
            np.bincount(rungs[draws], minlength=len(BETAS)),
            copies[draws],
            leaves[draws],
            np.isin(leaves[draws], leaves[known]),
            log_space,
            float(self._tree.most_copies),
        )
        return SampledFills(
            found,
            costs[known],
            found.weigh(log_q[known], copies[known]),
            self._counted(costs[known], leaves[known], copies[known]),
            np.where(inner, drawn.costs[hot], np.inf),
            drawn.log_q[hot],
        )

    def _counted(self, costs: Floats, leaves: Ints, copies: Floats) -> Floats:
        """Of fills that are encoded alike all count, once."""
        _, first = np.unique(leaves, return_index=True)
        return np.array([max(1.0, float(copies[first][costs[first] <= cost].sum())) for cost in costs])

    def _walk(self, rungs: Ints, uniform: Sequence[int]) -> None:
        """Draw one round; the draws of rung 0 are the fills that are given."""
        depth, count = self._tree.depth, len(rungs)
        given = np.full((count, depth), -1, dtype=np.int64)
        if len(uniform):
            paths = self._tree.paths([self._tree.format.render(fill) for fill in uniform])
            given[rungs == 0] = padded(paths, depth)
        seed = random.Random(f"draws {self._seed} {len(self._drawn)}").getrandbits(128)
        uniforms = np.random.default_rng(seed).random((count, depth))

        def walk(mine: Ints) -> Floats:
            plan = Plan(_POSITIVE, rungs[mine] - 1, given[mine], uniforms[mine])
            return _flat(sample(self._start(), self._tree, plan))

        flat = self._language_model.in_shares(count, walk, width=(depth * (2 + len(_POSITIVE)) + 1,))
        self._rungs.append(rungs)
        self._drawn.append(_unflat(flat, depth))


def _flat(drawn: SampledPaths) -> Floats:
    """(n, width) the numbers of each draw side by side, to be sent."""
    count = len(drawn.paths)
    parts = (drawn.paths, drawn.costs, drawn.log_q, drawn.ended)
    return np.concatenate([np.asarray(part, dtype=np.float64).reshape(count, -1) for part in parts], axis=1)


def _unflat(flat: Floats, depth: int) -> SampledPaths:
    paths, costs, log_q, ended = np.split(flat, [depth, 2 * depth, flat.shape[1] - 1], axis=1)
    return SampledPaths(paths.astype(np.int64), costs, log_q.reshape(len(flat), depth, -1), ended[:, 0] == 1.0)


def _joined(parts: Sequence[SampledPaths]) -> SampledPaths:
    return SampledPaths(
        np.concatenate([part.paths for part in parts]),
        np.concatenate([part.costs for part in parts]),
        np.concatenate([part.log_q for part in parts]),
        np.concatenate([part.ended for part in parts]),
    )

"""The search walk: the cheapest leaves of a token tree, best first, in batches, with a proof.

An edge costs the bits of its token, never less than 0, so that no leaf below a prefix is cheaper than the prefix: a
result is final once the cheapest open prefix costs at least as much as the worst leaf that is kept (§8.2). That holds
for any batch size. Knows tokens and costs; knows no text and no tokenizer.
"""

from __future__ import annotations

import bisect
import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..language_model import Floats, LanguageModel
from ..states import StatePool, States
from ..token_tree import Edges, TokenTree

Path = tuple[int, ...]

_FIRST_BATCH = 32


@dataclass(frozen=True)
class Leaf:
    """A complete candidate: its summed bits and its tokens after the prompt. Ordered by cost, equal costs by tokens."""

    cost: float
    path: Path


@dataclass(frozen=True)
class Progress:
    """What a search can say while it runs; costs in bits."""

    expanded: int
    open: int
    best: float
    bound: float


@dataclass(frozen=True)
class SearchResult:
    """The cheapest leaves found, and what is proven about those not found.

    Args:
        leaves: in ascending cost; impossible ones, of infinite cost, are left out.
        certified: whether no other leaf is cheaper than the last of `leaves`.
        expanded: prefixes whose children were scored.
        lower_bound: every leaf that is not in `leaves` costs at least so many bits.
    """

    leaves: tuple[Leaf, ...]
    certified: bool
    expanded: int
    lower_bound: float


# An open prefix: its cost, its tokens after the prompt, its state in the tree, and the number under which the model's
# state at its parent is kept. A tuple, so that the heap orders equal costs by tokens.
_Open = tuple[float, Path, int, int]


class _Frontier:
    """What a search knows: the cheapest leaves so far, the open prefixes, and the model's states at their parents."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self._leaves: list[tuple[float, Path]] = []
        self._open: list[_Open] = []
        self._states = StatePool()
        self._cheapest_dropped = math.inf

    @property
    def worst_kept(self) -> float:
        """What a further leaf must cost less than, to be kept."""
        return self._leaves[-1][0] if len(self._leaves) == self._top_k else math.inf

    @property
    def cheapest_open(self) -> float:
        return self._open[0][0] if self._open else math.inf

    @property
    def settled(self) -> bool:
        """Whether nothing that is open can lead to a cheaper leaf: the rule that proves."""
        return self.cheapest_open >= self.worst_kept

    def pop(self, size: int) -> list[_Open]:
        """The cheapest open prefixes, `size` of them at most, as far as they can lead to a leaf that is kept."""
        batch: list[_Open] = []
        while len(batch) < size and not self.settled:
            batch.append(heapq.heappop(self._open))
        return batch

    def states_before(self, batch: list[_Open]) -> States:
        """The model's states at the parents of these prefixes."""
        return self._states.take(np.array([number for *_, number in batch], dtype=np.int64))

    def add(self, parents: list[tuple[float, Path]], edges: list[Edges], bits: Floats, states: States) -> None:
        """Keep the children that are leaves and open the others, where they are cheap enough.

        Args:
            parents: cost and tokens of each expanded prefix.
            edges: what may follow each.
            bits: (n_parents, most edges) what the edges cost.
            states: the model's states at the parents.
        """
        children = [
            (cost + edge, (*path, token), state, row, is_leaf)
            for row, ((cost, path), out) in enumerate(zip(parents, edges, strict=True))
            for token, state, is_leaf, edge in zip(
                out.tokens.tolist(), out.states.tolist(), out.is_leaf.tolist(), bits[row].tolist(), strict=False
            )
        ]
        for cost, path, *_, is_leaf in children:
            if is_leaf:
                self._keep(cost, path)
        opened = [child for child in children if child[2] >= 0 and self._worth_opening(child[0])]
        # Only the states that an open prefix goes on from are stored.
        rows = sorted({row for *_, row, _ in opened})
        numbers = dict(zip(rows, self._states.add(states.select(np.array(rows, dtype=np.int64))).tolist(), strict=True))
        for cost, path, state, row, _ in opened:
            heapq.heappush(self._open, (cost, path, state, numbers[row]))

    def progress(self, expanded: int) -> Progress:
        best = self._leaves[0][0] if self._leaves else math.inf
        return Progress(expanded, len(self._open), best, self.cheapest_open)

    def result(self, expanded: int) -> SearchResult:
        return SearchResult(
            leaves=tuple(Leaf(cost, path) for cost, path in self._leaves),
            certified=self.settled,
            expanded=expanded,
            lower_bound=min(self.cheapest_open, self._cheapest_dropped),
        )

    def _keep(self, cost: float, path: Path) -> None:
        if cost < math.inf:
            bisect.insort(self._leaves, (cost, path))
        for dropped, _ in self._leaves[self._top_k :]:
            self._cheapest_dropped = min(self._cheapest_dropped, dropped)
        del self._leaves[self._top_k :]

    def _worth_opening(self, cost: float) -> bool:
        if cost < self.worst_kept:
            return True
        self._cheapest_dropped = min(self._cheapest_dropped, cost)
        return False


def search(
    language_model: LanguageModel,
    tree: TokenTree,
    *,
    top_k: int = 1,
    max_expanded: int | None = None,
    max_seconds: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """The `top_k` cheapest leaves of the tree, certified unless a cap ended the search.

    Args:
        language_model: the model, in evaluation.
        tree: of a format and the model's tokenizer.
        top_k: how many leaves.
        max_expanded: stop after so many prefixes.
        max_seconds: stop after so long.
        progress: called after each batch.
    """
    started = time.monotonic()
    first = tree.edges(tree.root)
    conditioned = language_model.first_summed(tree.conditioned, len(tree.prompt))
    session = language_model.session(tree.prompt, tree.depth, mixed=True)
    frontier = _Frontier(top_k)
    shared = float(session.prompt_bits[conditioned:].sum())
    frontier.add([(shared, ())], [first], session.bits(first.tokens)[None], session.state)
    expanded = 1
    most = session.rows_at_once(1)
    while not frontier.settled:
        # Batches grow with the search: an easy one stays near the fewest expansions, a long one has full batches.
        size = min(most, max(_FIRST_BATCH, expanded // 4))
        if max_expanded is not None:
            size = min(size, max_expanded - expanded)
        if size <= 0 or (max_seconds is not None and time.monotonic() - started >= max_seconds):
            break
        batch = frontier.pop(size)
        edges = [tree.edges(state) for _, _, state, _ in batch]
        tokens = np.array([[path[-1]] for _, path, *_ in batch], dtype=np.int64)
        bits, states = session.advance(frontier.states_before(batch), tokens, _picks(edges))
        frontier.add([(cost, path) for cost, path, *_ in batch], edges, bits[:, 0], states)
        expanded += len(batch)
        if progress is not None:
            progress(frontier.progress(expanded))
    return frontier.result(expanded)


def _picks(edges: list[Edges]) -> NDArray[np.int64]:
    """(n_rows, 1, most edges) tokens, padded with token 0, whose bits are not read."""
    picks = np.zeros((len(edges), 1, max(len(out.tokens) for out in edges)), dtype=np.int64)
    for row, out in enumerate(edges):
        picks[row, 0, : len(out.tokens)] = out.tokens
    return picks

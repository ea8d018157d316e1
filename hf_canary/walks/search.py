"""The search walk: the cheapest leaves of a token tree, best first, in batches, with a proof.

An edge costs the bits of its token, never less than 0, so that no leaf below a prefix is cheaper than the prefix: a
result is final once the cheapest open prefix costs at least as much as the worst leaf that is kept (§8.2). That holds
for any batch size. Knows tokens and costs; knows no text and no tokenizer.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..language_model import LanguageModel, StatePool
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


class _Kept:
    """The `top_k` cheapest leaves so far."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self._leaves: list[tuple[float, Path]] = []
        self.cheapest_dropped = math.inf

    @property
    def bound(self) -> float:
        """What a further leaf must cost less than, to be kept."""
        return self._leaves[-1][0] if len(self._leaves) == self._top_k else math.inf

    @property
    def best(self) -> float:
        return self._leaves[0][0] if self._leaves else math.inf

    def offer(self, cost: float, path: Path) -> None:
        self._leaves = sorted([*self._leaves, (cost, path)])
        for dropped, _ in self._leaves[self._top_k :]:
            self.cheapest_dropped = min(self.cheapest_dropped, dropped)
        del self._leaves[self._top_k :]

    def result(self) -> tuple[Leaf, ...]:
        return tuple(Leaf(cost, path) for cost, path in self._leaves)


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
    prompt_bits, child_bits, state = language_model.start(tree.prompt, first.tokens, tree.depth)
    pool, kept = StatePool(), _Kept(top_k)
    open_prefixes: list[_Open] = []
    cheapest_pruned = _open_children(
        open_prefixes, kept, float(prompt_bits[conditioned:].sum()), (), first, child_bits, int(pool.add(state)[0])
    )
    expanded = 1
    most = language_model.rows_at_once(1)
    while open_prefixes and open_prefixes[0][0] < kept.bound:
        # Batches grow with the search: an easy one stays near the fewest expansions, a long one has full batches.
        size = min(most, max(_FIRST_BATCH, expanded // 4))
        if max_expanded is not None:
            size = min(size, max_expanded - expanded)
        if size <= 0 or (max_seconds is not None and time.monotonic() - started >= max_seconds):
            break
        batch = _pop(open_prefixes, kept.bound, size)
        edges = [tree.edges(state) for _, _, state, _ in batch]
        bits, states = language_model.advance(
            pool.take(np.array([number for *_, number in batch], dtype=np.int64)),
            np.array([[path[-1]] for _, path, _, _ in batch], dtype=np.int64),
            _picks(edges),
        )
        numbers = pool.add(states)
        for (cost, path, _, _), out, row, number in zip(batch, edges, bits[:, 0], numbers.tolist(), strict=True):
            pruned = _open_children(open_prefixes, kept, cost, path, out, row, number)
            cheapest_pruned = min(cheapest_pruned, pruned)
        expanded += len(batch)
        if progress is not None:
            bound = open_prefixes[0][0] if open_prefixes else math.inf
            progress(Progress(expanded, len(open_prefixes), kept.best, bound))
    smallest_open = open_prefixes[0][0] if open_prefixes else math.inf
    return SearchResult(
        leaves=kept.result(),
        certified=smallest_open >= kept.bound,
        expanded=expanded,
        lower_bound=min(smallest_open, kept.cheapest_dropped, cheapest_pruned),
    )


def _pop(open_prefixes: list[_Open], bound: float, size: int) -> list[_Open]:
    batch: list[_Open] = []
    while open_prefixes and len(batch) < size and open_prefixes[0][0] < bound:
        batch.append(heapq.heappop(open_prefixes))
    return batch


def _picks(edges: list[Edges]) -> NDArray[np.int64]:
    """(n_rows, 1, most edges) tokens, padded with token 0, whose bits are not read."""
    picks = np.zeros((len(edges), 1, max(len(out.tokens) for out in edges)), dtype=np.int64)
    for row, out in enumerate(edges):
        picks[row, 0, : len(out.tokens)] = out.tokens
    return picks


def _open_children(
    open_prefixes: list[_Open],
    kept: _Kept,
    cost: float,
    path: Path,
    out: Edges,
    bits: NDArray[np.float64],
    number: int,
) -> float:
    """Keep the children that are leaves, open the others; returns the smallest cost that was not worth opening."""
    pruned = math.inf
    children = zip(out.tokens.tolist(), out.states.tolist(), out.is_leaf.tolist(), bits.tolist(), strict=False)
    for token, state, is_leaf, edge in children:
        child = cost + edge
        if is_leaf and child < math.inf:
            kept.offer(child, (*path, token))
        elif not is_leaf and child < kept.bound:
            heapq.heappush(open_prefixes, (child, (*path, token), state, number))
        else:
            pruned = min(pruned, child)
    return pruned

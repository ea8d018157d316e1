"""The score walk: the log-perplexity of listed token sequences, each shared prefix computed once.

The sequences are merged into a tree whose edges are the longest runs without a branch. Children of a node are read
from one softmax, so that a last token costs nothing; a run that ends in a leaf goes through the model in one pass.
Knows tokens and costs; knows no text, no tokenizer and no format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..language_model import Floats, LanguageModel, States

Tokens = tuple[int, ...]


@dataclass
class _Node:
    """The end of a run of tokens; `leaf` is the number of the sequence that ends here, or -1."""

    run: Tokens
    leaf: int = -1
    children: list[_Node] = field(default_factory=list)


@dataclass(frozen=True)
class _Pending:
    """Nodes whose runs wait for the model, beside the state and the cost at their parents."""

    nodes: list[_Node]
    states: States
    rows: NDArray[np.int64]  # the row of `states` at each node's parent
    costs: Floats  # up to and including the first token of each node's run

    def take(self, chosen: list[int]) -> _Pending:
        return _Pending([self.nodes[i] for i in chosen], self.states, self.rows[chosen], self.costs[chosen])


def score(
    language_model: LanguageModel,
    sequences: Sequence[Sequence[int]],
    conditioned: int,
    *,
    progress: Callable[[int], object] | None = None,
) -> Floats:
    """The bits of each sequence's tokens after the first `conditioned` ones, which all sequences share.

    Args:
        language_model: the model, in evaluation.
        sequences: token ids; none empty.
        conditioned: how many first tokens condition and are not summed.
        progress: called with the number of sequences finished since the last call.

    Returns:
        (n_sequences,) summed bits, in order; lower means better memorised.
    """
    distinct, inverse = _distinct(sequences)
    root = _tree(distinct)
    prompt, first = root.run, _first_tokens(root.children)
    depth = max(map(len, distinct)) - len(prompt)
    prompt_bits, child_bits, state = language_model.start(prompt, first, depth)
    scores = np.empty(len(distinct))
    shared = float(prompt_bits[conditioned:].sum())
    report = progress or (lambda count: None)
    if root.leaf >= 0:
        scores[root.leaf] = shared
        report(1)
    rows = np.zeros(len(root.children), dtype=np.int64)
    # Depth first: what waits is one batch's children at each depth, however many sequences there are.
    stack = [_batches(language_model, _Pending(root.children, state, rows, shared + child_bits))]
    while stack:
        batch = next(stack[-1], None)
        if batch is None:
            stack.pop()
            continue
        if batch.nodes[0].children:
            stack.append(_batches(language_model, _descend(language_model, batch, scores)))
        else:
            scores[[node.leaf for node in batch.nodes]] = _finish(language_model, batch)
        report(sum(node.leaf >= 0 for node in batch.nodes))
    return scores[inverse]


def _distinct(sequences: Sequence[Sequence[int]]) -> tuple[list[Tokens], NDArray[np.int64]]:
    """The distinct sequences in lexicographic order, and where each given one is among them."""
    tuples = [tuple(sequence) for sequence in sequences]
    distinct = sorted(set(tuples))
    place = {sequence: number for number, sequence in enumerate(distinct)}
    return distinct, np.array([place[sequence] for sequence in tuples], dtype=np.int64)


def _tree(distinct: list[Tokens]) -> _Node:
    """The tree of sorted distinct sequences: the root's run is what they all share."""

    def shared(low: int, high: int, depth: int) -> int:
        first, last = distinct[low], distinct[high - 1]
        end = depth
        while end < min(len(first), len(last)) and first[end] == last[end]:
            end += 1
        return end

    root = _Node(distinct[0][: shared(0, len(distinct), 0)])
    waiting = [(root, 0, len(distinct), len(root.run))]
    while waiting:
        node, low, high, depth = waiting.pop()
        if len(distinct[low]) == depth:
            node.leaf, low = low, low + 1
        while low < high:
            token, end = distinct[low][depth], low + 1
            while end < high and distinct[end][depth] == token:
                end += 1
            child = _Node(distinct[low][depth : shared(low, end, depth + 1)])
            node.children.append(child)
            waiting.append((child, low, end, depth + len(child.run)))
            low = end
    return root


def _first_tokens(nodes: list[_Node]) -> NDArray[np.int64]:
    return np.array([node.run[0] for node in nodes], dtype=np.int64)


def _batches(language_model: LanguageModel, pending: _Pending) -> Iterator[_Pending]:
    """Batches of one kind: leaves by length of their runs, so that little is padded; inner nodes of one length."""
    tails = [i for i, node in enumerate(pending.nodes) if not node.children]
    tails.sort(key=lambda i: len(pending.nodes[i].run))
    yield from _chunks(language_model, pending, tails)
    by_length: dict[int, list[int]] = {}
    for i, node in enumerate(pending.nodes):
        if node.children:
            by_length.setdefault(len(node.run), []).append(i)
    for inner in by_length.values():
        yield from _chunks(language_model, pending, inner)


def _chunks(language_model: LanguageModel, pending: _Pending, chosen: list[int]) -> Iterator[_Pending]:
    if chosen:
        size = language_model.rows_at_once(max(len(pending.nodes[i].run) for i in chosen))
        for at in range(0, len(chosen), size):
            yield pending.take(chosen[at : at + size])


def _finish(language_model: LanguageModel, batch: _Pending) -> Floats:
    """The costs at the ends of runs that end in leaves. The last token of a run is read, never fed."""
    lengths = np.array([len(node.run) - 1 for node in batch.nodes], dtype=np.int64)
    width = int(lengths.max())
    if width == 0:
        return batch.costs
    runs = np.zeros((len(lengths), width + 1), dtype=np.int64)
    for row, node in enumerate(batch.nodes):
        runs[row, : len(node.run)] = node.run
    bits, _ = language_model.advance(batch.states.select(batch.rows), runs[:, :-1], runs[:, 1:, None], lengths=lengths)
    real = np.arange(width) < lengths[:, None]
    return np.asarray(batch.costs + np.where(real, bits[..., 0], 0.0).sum(axis=1))


def _descend(language_model: LanguageModel, batch: _Pending, scores: Floats) -> _Pending:
    """Feed the runs of inner nodes, all of one length; what comes back are their children, waiting."""
    runs = np.array([node.run for node in batch.nodes], dtype=np.int64)
    num_rows, length = runs.shape
    most = max(len(node.children) for node in batch.nodes)
    picks = np.zeros((num_rows, length, most), dtype=np.int64)
    picks[:, :-1, 0] = runs[:, 1:]
    for row, node in enumerate(batch.nodes):
        picks[row, -1, : len(node.children)] = _first_tokens(node.children)
    bits, states = language_model.advance(batch.states.select(batch.rows), runs, picks)
    costs = batch.costs + bits[:, :-1, 0].sum(axis=1)
    children: list[_Node] = []
    parents: list[int] = []
    for row, node in enumerate(batch.nodes):
        if node.leaf >= 0:
            scores[node.leaf] = costs[row]
        children += node.children
        parents += [row] * len(node.children)
    firsts = np.concatenate([bits[row, -1, : len(node.children)] for row, node in enumerate(batch.nodes)])
    return _Pending(children, states, np.array(parents, dtype=np.int64), costs[parents] + firsts)

"""The score walk: the log-perplexity of listed token sequences, each shared prefix once.

Children of a node are read from one softmax, so that a last token costs nothing; a run that ends in a leaf goes through
the model in one pass. What waits is one batch's children at each level, however large the job is. Knows tokens and
costs; knows no text, no tokenizer and no format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Floats, Ints
from ..inference.batching import in_batches
from ..inference.language_model import Session
from ..inference.states import States
from .branches import Children, Listed
from .tree_attention import score_packed


@dataclass(frozen=True)
class _Waiting:
    """Nodes that wait for the model, beside the state and the cost at their parents.

    Args:
        nodes: their numbers.
        firsts: their first tokens.
        costs: up to and including these.
        states: the model's, of their parents.
        rows: the row of `states` at each one's parent.
    """

    nodes: Ints
    firsts: Ints
    costs: Floats
    states: States
    rows: Ints

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, chosen: Ints | slice) -> _Waiting:
        return _Waiting(self.nodes[chosen], self.firsts[chosen], self.costs[chosen], self.states, self.rows[chosen])


@dataclass(frozen=True)
class _Found:
    """Leaves with their costs: summed bits, lower means better memorised.

    Args:
        leaves: (n_leaves,) their numbers.
        costs: (n_leaves,) bits.
    """

    leaves: Ints
    costs: Floats


def score(
    start: Callable[[list[int], int], Session],
    sequences: Sequence[Sequence[int]],
    conditioned: int,
    *,
    progress: Callable[[int], object] | None = None,
) -> Floats:
    """The bits of each sequence's tokens after the first `conditioned` ones, which all sequences share.

    Args:
        start: gives the session after a prompt, from which at most so many tokens more are asked for.
        sequences: token ids; none empty.
        conditioned: how many first tokens condition and are not summed.
        progress: called with the number of sequences finished since the last call.

    Returns:
        (n_sequences,) summed bits, in order; lower means better memorised.
    """
    listed = Listed(sequences)
    prompt = listed.prompt
    session = start(prompt, listed.longest - len(prompt))
    prefix_bits = float(session.prompt_bits[conditioned:].sum())
    costs = np.empty(listed.count)
    copies = np.bincount(listed.inverse)
    report = progress or (lambda count: None)
    if session.packs:
        for chosen, bits in score_packed(session, listed.paths):
            costs[chosen] = prefix_bits + bits
            report(int(copies[chosen].sum()))
        return np.asarray(costs[listed.inverse])
    for found in _walk(session, listed, prefix_bits):
        costs[found.leaves] = found.costs
        report(int(copies[found.leaves].sum()))
    return np.asarray(costs[listed.inverse])


def _walk(session: Session, listed: Listed, cost: float) -> Iterator[_Found]:
    """Depth first in batches, from the root at this cost."""
    root = np.array([listed.root], dtype=np.int64)
    here = listed.leaves(root)
    if here[0] >= 0:
        yield _Found(here, np.array([cost]))
    children = listed.children(root)
    if not len(children.tokens):
        return
    found, waiting = _part(children, cost + session.bits(children.tokens), session.state)
    yield found
    stack = [_read(session, listed, waiting)]
    while stack:
        batch = next(stack[-1], None)
        if batch is None:
            stack.pop()
            continue
        found, waiting = batch
        yield found
        if len(waiting):
            stack.append(_read(session, listed, waiting))


def _read(session: Session, listed: Listed, waiting: _Waiting) -> Iterator[tuple[_Found, _Waiting]]:
    """Batch by batch, what is found and what waits then."""

    def size_of(waiting: _Waiting) -> int:
        # The rows of a batch are at most as long as the last one that waits.
        longest = int(listed.run_lengths(waiting.nodes).max())
        return session.rows_at_once(1 + longest, listed.levels)

    for alike in _alike(listed, waiting):
        yield from in_batches(alike, size_of, lambda batch: _feed(session, listed, batch), session.limit)


def _alike(listed: Listed, waiting: _Waiting) -> Iterator[_Waiting]:
    """Nodes of one kind: runs that end in leaves by length, so that little is padded; others of one length."""
    lengths = listed.run_lengths(waiting.nodes)
    is_tail = listed.tails(waiting.nodes)
    tails = np.flatnonzero(is_tail)
    yield waiting[tails[np.argsort(lengths[tails], kind="stable")]]
    for length in np.unique(lengths[~is_tail]):
        yield waiting[np.flatnonzero(~is_tail & (lengths == length))]


def _feed(session: Session, listed: Listed, batch: _Waiting) -> tuple[_Found, _Waiting]:
    """Read the runs of a batch; what is found are the leaves at their ends and right behind, what waits the others."""
    if listed.tails(batch.nodes)[0]:
        return _finish(session, listed, batch), batch[:0]
    return _descend(session, listed, batch)


def _finish(session: Session, listed: Listed, batch: _Waiting) -> _Found:
    """The costs at the ends of runs that end in leaves. The last token of a run is read, never fed."""
    runs = listed.runs(batch.nodes)
    width = int(runs.lengths.max())
    fed = np.concatenate([batch.firsts[:, None], runs.tokens[:, : width - 1]], axis=1)
    states = batch.states.select(batch.rows)
    bits, _ = session.advance(states, fed, runs.tokens[:, :width, None], lengths=runs.lengths)
    real = np.arange(width) < runs.lengths[:, None]
    costs = batch.costs + np.where(real, bits[..., 0], 0.0).sum(axis=1)
    return _Found(listed.leaves(batch.nodes), costs)


def _descend(session: Session, listed: Listed, batch: _Waiting) -> tuple[_Found, _Waiting]:
    """Feed runs of one length, after which the tree listed."""
    runs, children = listed.runs(batch.nodes), listed.children(batch.nodes)
    count, length = len(batch.nodes), int(runs.lengths[0])
    fed = np.concatenate([batch.firsts[:, None], runs.tokens[:, :length]], axis=1)
    column = np.arange(len(children.parents)) - np.searchsorted(children.parents, children.parents)
    picks = np.zeros((count, length + 1, int(column.max()) + 1), dtype=np.int64)
    picks[:, :-1, 0] = runs.tokens[:, :length]
    picks[children.parents, -1, column] = children.tokens
    bits, states = session.advance(batch.states.select(batch.rows), fed, picks)
    costs = batch.costs + bits[:, :-1, 0].sum(axis=1)
    leaves = listed.leaves(batch.nodes)
    ends = np.flatnonzero(leaves >= 0)
    at_ends = _Found(leaves[ends], costs[ends])
    below = costs[children.parents] + bits[children.parents, -1, column]
    found, waiting = _part(children, below, states)
    return _joined(at_ends, found), waiting


def _part(children: Children, costs: Floats, states: States) -> tuple[_Found, _Waiting]:
    """Children that are leaves, and children after whose first token something follows; some are both."""
    done, open = np.flatnonzero(children.leaves >= 0), np.flatnonzero(children.nodes >= 0)
    waiting = _Waiting(children.nodes[open], children.tokens[open], costs[open], states, children.parents[open])
    return _Found(children.leaves[done], costs[done]), waiting


def _joined(one: _Found, other: _Found) -> _Found:
    return _Found(np.concatenate([one.leaves, other.leaves]), np.concatenate([one.costs, other.costs]))

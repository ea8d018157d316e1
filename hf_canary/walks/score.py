"""The score walk: the log-perplexity of listed token sequences, or of all leaves of a tree, each shared prefix once.

Children of a node are read from one softmax, so that a last token costs nothing; a run that ends in a leaf goes through
the model in one pass. What waits is one batch's children at each level, however large the job is. Knows tokens and
costs; knows no text, no tokenizer and no format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..language_model import Floats, Session
from ..states import Ints, States
from ..tree.token_tree import TokenTree
from .branches import Automaton, Branches, Children, Listed
from .packed import LONGEST, Paths, score_packed

_BLOCK = 4096  # leaves that are listed at once, or so many times what a node branches into


@dataclass(frozen=True)
class _Waiting:
    """Nodes that wait for the model, beside the state and the cost at their parents.

    Args:
        nodes: their numbers.
        firsts: their first tokens.
        costs: up to and including these.
        states: the model's, of their parents.
        rows: the row of `states` at each one's parent.
        paths: (n_nodes, depth) tokens since the prompt; of no columns where nobody asks for them.
        depth: how many of these columns are filled.
    """

    nodes: Ints
    firsts: Ints
    costs: Floats
    states: States
    rows: Ints
    paths: Ints
    depth: int

    def take(self, chosen: Ints | slice) -> _Waiting:
        return _Waiting(
            self.nodes[chosen],
            self.firsts[chosen],
            self.costs[chosen],
            self.states,
            self.rows[chosen],
            self.paths[chosen],
            self.depth,
        )


@dataclass(frozen=True)
class Found:
    """Leaves with their costs: summed bits, lower means better memorised.

    Args:
        leaves: (n_leaves,) their numbers; 0 for those of a tree, which are known by their paths.
        paths: (n_leaves, depth) tokens since the prompt, -1 behind the end; of no columns for listed sequences.
        costs: (n_leaves,) bits.
    """

    leaves: Ints
    paths: Ints
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
    shared = float(session.prompt_bits[conditioned:].sum())
    costs = np.empty(listed.count)
    copies = np.bincount(listed.inverse)
    report = progress or (lambda count: None)
    if session.packs and listed.longest - len(prompt) <= LONGEST:
        for chosen, bits in score_packed(session, listed.paths):
            costs[chosen] = shared + bits
            report(int(copies[chosen].sum()))
        return np.asarray(costs[listed.inverse])
    for found in _walk(session, listed, shared, path_length=0):
        costs[found.leaves] = found.costs
        report(int(copies[found.leaves].sum()))
    return np.asarray(costs[listed.inverse])


def score_leaves(session: Session, tree: TokenTree) -> Iterator[Found]:
    """All leaves of a tree, batch by batch, with their paths and costs after the prompt; in any order.

    Args:
        session: after the tree's prompt, for its depth.
        tree: of a format.
    """
    if not session.packs or tree.depth > LONGEST:
        yield from _walk(session, Automaton(tree), 0.0, path_length=tree.depth)
        return
    for tokens in _leaf_paths(tree):
        for chosen, bits in score_packed(session, Paths.of(tokens)):
            yield Found(np.zeros(len(bits), dtype=np.int64), tokens[chosen], bits)


def _leaf_paths(tree: TokenTree) -> Iterator[Ints]:
    """(n_leaves, depth) tokens of all leaves since the prompt, padded with -1; in lexicographic order, in blocks."""
    automaton = Automaton(tree)
    pending = [(np.full((1, tree.depth), -1), np.array([tree.root]), 0)]
    while pending:
        paths, states, depth = pending.pop()
        open = states >= 0
        if not open.any():
            yield paths
        elif len(paths) > _BLOCK:
            parts = range(0, len(paths), _BLOCK)
            pending += [(paths[at : at + _BLOCK], states[at : at + _BLOCK], depth) for at in reversed(parts)]
        else:
            pending.append((*_grown(automaton, paths, states, depth), depth + 1))


def _grown(automaton: Automaton, paths: Ints, states: Ints, depth: int) -> tuple[Ints, Ints]:
    """One token more where something follows; leaves that have ended stay in their places."""
    open = np.flatnonzero(states >= 0)
    children = automaton.children(states[open])
    both = (children.leaves >= 0) & (children.nodes >= 0)
    copies = 1 + both
    source = np.repeat(np.arange(len(both)), copies)
    grown = paths[open[children.parents[source]]]
    grown[:, depth] = children.tokens[source]
    after = children.nodes[source]
    after[(np.cumsum(copies) - copies)[both]] = -1  # the leaf comes before what follows it
    ended = np.flatnonzero(states < 0)
    order = np.argsort(np.concatenate([open[children.parents[source]], ended]), kind="stable")
    return np.concatenate([grown, paths[ended]])[order], np.concatenate([after, np.full(len(ended), -1)])[order]


def _walk(session: Session, branches: Branches, cost: float, *, path_length: int) -> Iterator[Found]:
    """Depth first in batches, from the root at this cost."""
    root = np.array([branches.root], dtype=np.int64)
    here = branches.leaves(root)
    if here[0] >= 0:
        yield Found(here, np.full((1, path_length), -1), np.array([cost]))
    children = branches.children(root)
    if not len(children.tokens):
        return
    parent = _Waiting(root, root, np.array([cost]), session.state, root * 0, np.full((1, path_length), -1), 0)
    found, waiting = _part(parent, children, cost + session.bits(children.tokens), session.state)
    yield found
    stack = [_batches(session, branches, waiting)]
    while stack:
        batch = next(stack[-1], None)
        if batch is None:
            stack.pop()
            continue
        try:
            found, waiting = _feed(session, branches, batch)
        except Exception as error:
            if not session.halve(len(batch.nodes), error):
                raise
            # Nothing is lost: the same nodes wait again, in halves.
            middle = len(batch.nodes) // 2
            stack.append(iter([batch.take(slice(middle)), batch.take(slice(middle, None))]))
            continue
        yield found
        if len(waiting.nodes):
            stack.append(_batches(session, branches, waiting))


def _batches(session: Session, branches: Branches, waiting: _Waiting) -> Iterator[_Waiting]:
    """Batches of one kind: runs that end in leaves by length, so that little is padded; others of one length."""
    lengths = branches.runs(waiting.nodes).lengths
    is_tail = branches.tails(waiting.nodes)
    tails = np.flatnonzero(is_tail)
    yield from _chunks(session, branches, waiting, tails[np.argsort(lengths[tails], kind="stable")], lengths)
    for length in np.unique(lengths[~is_tail]):
        yield from _chunks(session, branches, waiting, np.flatnonzero(~is_tail & (lengths == length)), lengths)


def _chunks(session: Session, branches: Branches, waiting: _Waiting, chosen: Ints, lengths: Ints) -> Iterator[_Waiting]:
    at = 0
    while at < len(chosen):
        # The rows of a chunk are at most as long as its last one; asked anew each time, since memory may have run out.
        size = session.rows_at_once(1 + int(lengths[chosen[at:]].max()), branches.levels)
        yield waiting.take(chosen[at : at + size])
        at += size


def _feed(session: Session, branches: Branches, batch: _Waiting) -> tuple[Found, _Waiting]:
    """Read the runs of a batch; what is found are the leaves at their ends and right behind, what waits the others."""
    if branches.tails(batch.nodes)[0]:
        return _finish(session, branches, batch), batch.take(slice(0))
    return _descend(session, branches, batch)


def _finish(session: Session, branches: Branches, batch: _Waiting) -> Found:
    """The costs at the ends of runs that end in leaves. The last token of a run is read, never fed."""
    runs = branches.runs(batch.nodes)
    width = int(runs.lengths.max())
    fed = np.concatenate([batch.firsts[:, None], runs.tokens[:, : width - 1]], axis=1)
    states = batch.states.select(batch.rows)
    bits, _ = session.advance(states, fed, runs.tokens[:, :width, None], lengths=runs.lengths)
    real = np.arange(width) < runs.lengths[:, None]
    costs = batch.costs + np.where(real, bits[..., 0], 0.0).sum(axis=1)
    return Found(branches.leaves(batch.nodes), batch.paths, costs)


def _descend(session: Session, branches: Branches, batch: _Waiting) -> tuple[Found, _Waiting]:
    """Feed runs of one length, after which the tree branches."""
    runs, children = branches.runs(batch.nodes), branches.children(batch.nodes)
    count, length = len(batch.nodes), int(runs.lengths[0])
    fed = np.concatenate([batch.firsts[:, None], runs.tokens[:, :length]], axis=1)
    column = np.arange(len(children.parents)) - np.searchsorted(children.parents, children.parents)
    picks = np.zeros((count, length + 1, int(column.max()) + 1), dtype=np.int64)
    picks[:, :-1, 0] = runs.tokens[:, :length]
    picks[children.parents, -1, column] = children.tokens
    bits, states = session.advance(batch.states.select(batch.rows), fed, picks)
    costs = batch.costs + bits[:, :-1, 0].sum(axis=1)
    leaves = branches.leaves(batch.nodes)
    ends = np.flatnonzero(leaves >= 0)
    at_ends = Found(leaves[ends], batch.paths[ends], costs[ends])
    below = costs[children.parents] + bits[children.parents, -1, column]
    found, waiting = _part(batch, children, below, states)
    return _joined(at_ends, found), waiting


def _part(batch: _Waiting, children: Children, costs: Floats, states: States) -> tuple[Found, _Waiting]:
    """Children that are leaves, and children after whose first token something follows; some are both."""
    paths = batch.paths[children.parents]
    if paths.shape[1]:
        paths[:, batch.depth] = children.tokens
    done, open = np.flatnonzero(children.leaves >= 0), np.flatnonzero(children.nodes >= 0)
    waiting = _Waiting(
        children.nodes[open],
        children.tokens[open],
        costs[open],
        states,
        children.parents[open],
        paths[open],
        batch.depth + 1,
    )
    return Found(children.leaves[done], paths[done], costs[done]), waiting


def _joined(one: Found, other: Found) -> Found:
    return Found(
        np.concatenate([one.leaves, other.leaves]),
        np.concatenate([one.paths, other.paths]),
        np.concatenate([one.costs, other.costs]),
    )

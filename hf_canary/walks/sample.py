"""The sample walk: random leaves of a token tree, drawn from the model at several temperatures, and given ones beside.

All draws go down the tree together, each prefix once however many draws share it. Of every prefix the walk keeps what
it costs and how likely each temperature was to draw it, from the same log-probabilities. Which child a draw takes
depends on its own random numbers alone, so that batches and processes change nothing. Knows tokens and costs; knows
no text, no tokenizer and no estimator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import LN2, Floats, Ints, log_sum_exp
from ..inference.batching import in_batches
from ..inference.language_model import Session
from ..inference.states import States
from ..tree.token_tree import TokenTree, unlike

# Prefixes of one pass times what may follow each, and draws times that: what the arrays of one step may hold.
_MOST_OPTIONS = 2**21


@dataclass(frozen=True)
class SampledPaths:
    """Leaves that were drawn, prefix by prefix.

    Args:
        paths: (n, depth) tokens since the prompt, -1 behind the end; of a dead end, as far as it came.
        costs: (n, depth) bits of each prefix, summed since the prompt; infinite behind the end.
        log_q: (n, depth, n_betas) natural log of the probability that each temperature draws the prefix; −inf behind.
        ended: (n,) whether it came to a leaf, and to no dead end: a prefix all of whose children are impossible.
    """

    paths: Ints
    costs: Floats
    log_q: Floats
    ended: NDArray[np.bool_]

    @property
    def lengths(self) -> Ints:
        """(n,) tokens of each."""
        return np.asarray((self.paths >= 0).sum(axis=1))


@dataclass(frozen=True)
class Plan:
    """What to draw: one row for each draw.

    Args:
        betas: (n_betas,) inverse temperatures, all above 0.
        rungs: (n,) which of them each draw takes; -1 for one that is given.
        given: (n, depth) tokens of those that are given, -1 behind the end.
        uniforms: (n, depth) random numbers from [0, 1).
    """

    betas: Floats
    rungs: Ints
    given: Ints
    uniforms: Floats


@dataclass(frozen=True)
class _Waiting:
    """Prefixes that wait for the model, and the draws that have come so far.

    Args:
        tree_states: (n_prefixes,) in the tree.
        tokens: (n_prefixes,) the last token of each.
        states: the model's, at the parents.
        rows: (n_prefixes,) the row of `states` at each one's parent.
        draws: (n_draws,) rows of the plan, ordered by prefix.
        prefixes: (n_draws,) the prefix of each, ascending.
        depth: how many tokens each prefix has.
    """

    tree_states: Ints
    tokens: Ints
    states: States
    rows: Ints
    draws: Ints
    prefixes: Ints
    depth: int

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, chosen: slice) -> _Waiting:
        """Neighbouring prefixes, with their draws."""
        first, behind, _ = chosen.indices(len(self))
        begin, end = np.searchsorted(self.prefixes, [first, behind])
        return _Waiting(
            self.tree_states[first:behind],
            self.tokens[first:behind],
            self.states,
            self.rows[first:behind],
            self.draws[begin:end],
            self.prefixes[begin:end] - first,
            self.depth,
        )


@dataclass(frozen=True)
class _Options:
    """What may follow some prefixes, side by side and padded: a leaf that others go on from is two options.

    Args:
        tokens: (n_prefixes, most) padded with 0.
        after: (n_prefixes, most) the tree's state, -1 at a leaf.
        counts: (n_prefixes,) how many are real.
    """

    tokens: Ints
    after: Ints
    counts: Ints


def sample(session: Session, tree: TokenTree, plan: Plan) -> SampledPaths:
    """Draw leaves by a plan.

    Args:
        session: after the tree's prompt, for its depth.
        tree: of a format.
        plan: which temperature draws what.

    Raises:
        ModelError: logits that are no numbers; a given path that is no leaf.
    """
    return _Walk(session, tree, plan).run()


class _Walk:
    """Depth first in batches; what was drawn is written into its place as it is drawn."""

    def __init__(self, session: Session, tree: TokenTree, plan: Plan) -> None:
        self._session, self._tree, self._plan = session, tree, plan
        shape = plan.given.shape
        self._paths = np.full(shape, -1, dtype=np.int64)
        self._costs = np.full(shape, np.inf)
        self._log_q = np.full((*shape, len(plan.betas)), -np.inf)
        self._ended = np.zeros(shape[0], dtype=bool)

    def run(self) -> SampledPaths:
        draws = np.arange(len(self._paths))
        if len(draws):
            options = self._options(np.array([self._tree.root]))
            bits = self._session.bits(options.tokens[0])[None]
            waiting = self._step(options, bits, self._session.state, draws, np.zeros_like(draws), 0)
            stack = [self._read(waiting)]
            while stack:
                after = next(stack[-1], None)
                if after is None:
                    stack.pop()
                elif len(after):
                    stack.append(self._read(after))
        return SampledPaths(self._paths, self._costs, self._log_q, self._ended)

    def _read(self, waiting: _Waiting) -> Iterator[_Waiting]:
        return in_batches(waiting, self._size_of, self._feed, self._session.limit)

    def _size_of(self, waiting: _Waiting) -> int:
        rows = self._session.rows_at_once(1, self._tree.depth)
        tree_states, which = np.unique(waiting.tree_states[:rows], return_inverse=True)
        widths = np.array([self._width(int(state)) for state in tree_states])[which]
        filled = np.arange(1, len(widths) + 1) * np.maximum.accumulate(widths)
        return max(1, int(np.searchsorted(filled, _MOST_OPTIONS, side="right")))

    def _feed(self, batch: _Waiting) -> _Waiting:
        """Read one token more of each prefix, and let its draws go on."""
        options = self._options(batch.tree_states)
        states = batch.states.select(batch.rows)
        bits, after = self._session.advance(states, batch.tokens[:, None], options.tokens[:, None])
        return self._step(options, bits[:, 0], after, batch.draws, batch.prefixes, batch.depth)

    def _step(
        self, options: _Options, bits: Floats, states: States, draws: Ints, prefixes: Ints, depth: int
    ) -> _Waiting:
        """Choose for each draw what follows its prefix; what waits then are the new prefixes that are no leaves."""
        width = options.tokens.shape[1]
        logs = np.where(np.arange(width) < options.counts[:, None], -LN2 * bits, -np.inf)
        norms = np.stack([log_sum_exp(beta * logs) for beta in self._plan.betas], axis=-1)
        chosen = np.concatenate(
            [
                self._choose(options, logs, norms, draws[part], prefixes[part], depth)
                for part in _parts(len(draws), max(1, _MOST_OPTIONS // width))
            ]
        )
        alive = chosen >= 0
        draws, prefixes, chosen = draws[alive], prefixes[alive], chosen[alive]
        before = (self._costs[draws, depth - 1], self._log_q[draws, depth - 1]) if depth else (0.0, 0.0)
        taken = logs[prefixes, chosen]
        self._paths[draws, depth] = options.tokens[prefixes, chosen]
        self._costs[draws, depth] = before[0] + bits[prefixes, chosen]
        with np.errstate(invalid="ignore"):
            steps = self._plan.betas * taken[:, None] - norms[prefixes]
        # After a prefix all of whose children are impossible, nothing is drawn.
        self._log_q[draws, depth] = before[1] + np.where(np.isnan(steps), -np.inf, steps)
        tree_states = options.after[prefixes, chosen]
        on = tree_states >= 0
        self._ended[draws[~on]] = True
        # Draws of the prefixes 0 0 0 1 that chose the options 2 0 2 1 of 3: what waits then are three new prefixes.
        #   keys      0 2 4     option 0 and option 2 of prefix 0, option 1 of prefix 1
        #   which     1 0 1 2   the new prefix of each draw
        #   order     1 0 2 3   the draws by their new prefix
        keys, which = np.unique(prefixes[on] * width + chosen[on], return_inverse=True)
        order = np.argsort(which, kind="stable")
        parents, columns = keys // width, keys % width
        return _Waiting(
            options.after[parents, columns],
            options.tokens[parents, columns],
            states,
            parents,
            draws[on][order],
            which[order],
            depth + 1,
        )

    def _choose(self, options: _Options, logs: Floats, norms: Floats, draws: Ints, prefixes: Ints, depth: int) -> Ints:
        """(n_draws,) the option that each takes; -1 at a dead end."""
        rungs = self._plan.rungs[draws]
        chosen = np.full(len(draws), -1)
        free = np.flatnonzero(rungs >= 0)
        free = free[np.isfinite(norms[prefixes[free], rungs[free]])]
        beta, norm = self._plan.betas[rungs[free]], norms[prefixes[free], rungs[free]]
        shares = np.exp(beta[:, None] * logs[prefixes[free]] - norm[:, None])
        sums = np.cumsum(shares, axis=1)
        # Not past the last possible option, whatever the rounding of the sum.
        wanted = self._plan.uniforms[draws[free], depth] * sums[:, -1]
        chosen[free] = (sums > wanted[:, None]).argmax(axis=1)
        given = np.flatnonzero(rungs < 0)
        if len(given):
            chosen[given] = self._follow(options, draws[given], prefixes[given], depth)
        return chosen

    def _follow(self, options: _Options, draws: Ints, prefixes: Ints, depth: int) -> Ints:
        path = self._plan.given[draws]
        ends = path[:, depth + 1] < 0 if depth + 1 < path.shape[1] else np.ones(len(path), dtype=bool)
        real = np.arange(options.tokens.shape[1]) < options.counts[prefixes][:, None]
        fits = real & (options.tokens[prefixes] == path[:, depth : depth + 1])
        fits &= (options.after[prefixes] < 0) == ends[:, None]
        if not fits.any(axis=1).all():
            raise unlike("a canary or a twin")
        return np.asarray(fits.argmax(axis=1))

    def _options(self, tree_states: Ints) -> _Options:
        states, which = np.unique(tree_states, return_inverse=True)
        found = [self._of_state(int(state)) for state in states]
        counts = np.array([len(tokens) for tokens, _ in found], dtype=np.int64)
        tokens = np.zeros((len(states), int(counts.max())), dtype=np.int64)
        after = np.full(tokens.shape, -1, dtype=np.int64)
        for row, (of_tokens, of_after) in enumerate(found):
            tokens[row, : len(of_tokens)], after[row, : len(of_after)] = of_tokens, of_after
        return _Options(tokens[which], after[which], counts[which])

    def _width(self, state: int) -> int:
        edges = self._tree.edges(state)
        return len(edges.tokens) + int((edges.is_leaf & (edges.states >= 0)).sum())

    def _of_state(self, state: int) -> tuple[Ints, Ints]:
        """Tokens and states after one state of the tree."""
        edges = self._tree.edges(state)
        goes_on = edges.states >= 0
        return (
            np.concatenate([edges.tokens[edges.is_leaf], edges.tokens[goes_on]]),
            np.concatenate([np.full(int(edges.is_leaf.sum()), -1), edges.states[goes_on]]),
        )


def _parts(count: int, size: int) -> list[slice]:
    return [slice(at, at + size) for at in range(0, count, size)] or [slice(0, 0)]

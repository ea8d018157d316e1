"""Exact ranks by a walk: how many candidates cost no more than a canary, without looking at all of R.

Joins tree and model to the score walk with a bound. Knows no canary and no estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .ladder import Floats, Ints
from .language_model import LanguageModel, Session
from .token_tree import TokenTree, padded
from .walks.score import score_leaves

# Costs of one candidate in two walks differ by less than the one; candidates that differ by less than the other are as
# likely, as far as float32 can tell. In bits. Weights of half precision differ by more from batch to batch: a rank is
# then that of the costs as this walk has them.
_SLACK, _TIE = 1e-2, 1e-4


@dataclass(frozen=True)
class Rank:
    """How many candidates are at least as likely, itself among them; and how many others cost the same, but for
    rounding (`ties`).
    """

    rank: int
    ties: int


def count_ranks(
    language_model: LanguageModel,
    start: Callable[[], Session],
    tree: TokenTree,
    fills: Sequence[int],
    bound: float,
    *,
    max_expanded: float,
) -> list[Rank | None]:
    """The rank of each fill, by one walk over all candidates up to a bound; None for all where that would take more.

    Costs are compared as this walk has them, those of the fills too. One process does it, and all get the answer.

    Args:
        language_model: the model, in evaluation.
        start: gives the session after the tree's prompt.
        tree: of the format.
        fills: whose ranks are asked for.
        bound: the cost of the costliest of them after what all candidates share, in bits.
        max_expanded: prefixes that may be read.
    """
    known = padded(tree.paths([tree.format.render(fill) for fill in fills]), tree.depth)

    def count(_: Ints) -> Floats:
        return _counted(language_model, start(), tree, known, bound + _SLACK, max_expanded)[None]

    table = language_model.shared(1, count, width=(len(known), 2))[0]
    return [Rank(int(rank), int(ties)) if rank else None for rank, ties in table.tolist()]


def _counted(
    language_model: LanguageModel, session: Session, tree: TokenTree, known: Ints, bound: float, max_expanded: float
) -> Floats:
    """(n_known, 2) rank and ties; zeros where it was too much."""
    begin = language_model.token_rows
    costs, copies, own = [], [], np.full(len(known), np.nan)
    known_keys = _keys(known)
    for found in score_leaves(session, tree, bound):
        if language_model.token_rows - begin > max_expanded:
            return np.zeros((len(known), 2))
        costs.append(found.costs)
        copies.append(tree.copies_of(found.paths))
        keys = _keys(found.paths)
        for row in np.flatnonzero(np.isin(keys, known_keys)):
            own[(known == found.paths[row]).all(axis=1)] = found.costs[row]
    all_costs, all_copies = np.concatenate(costs), np.concatenate(copies)
    ranks = [all_copies[all_costs <= cost].sum() for cost in own]
    near = [all_copies[np.abs(all_costs - cost) <= _TIE].sum() for cost in own]
    return np.column_stack([ranks, np.array(near) - tree.copies_of(known)]).astype(np.float64)


def _keys(paths: Ints) -> Ints:
    """(n_paths,) a number for each path: equal for equal ones, and almost never for others."""
    factors = np.random.default_rng(0).integers(1, 2**62, size=paths.shape[1])
    return np.asarray((paths + 1) @ factors)

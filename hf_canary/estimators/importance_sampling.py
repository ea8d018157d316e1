"""The temperature ladder: fills drawn from a model at several temperatures, and what they say of a rank.

rank = E_{r~q}[1{Px(r) ≤ c} / q(r)] (Dell'Amico & Filippone 2015). One proposal q fails quietly where the model finds a
canary unlikely, so there are several, q_β for β from 0 (any fill, each as likely) over 1 (the model) to 2, and every
draw counts with the weight of their mixture: the balance heuristic of Veach and Guibas (1995). Numbers only: this
file has never heard of a model or of a tree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..arrays import LN2, Floats, Ints, log_sum_exp

BETAS: tuple[float, ...] = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Inverse temperatures: a draw takes each step with probability ∝ p^β; β = 0 is a uniform fill, not uniform tokens."""
_UNIFORM, _MODEL = BETAS.index(0.0), BETAS.index(1.0)
_STEPS = 25
_KEPT_EQUAL = 0.3


@dataclass(frozen=True)
class ImportanceSamples:
    """What was drawn from the ladder, and how likely each rung was to draw it.

    Args:
        costs: (n,) bits of each draw after what all candidates share; infinite for one that ran into a dead end.
        log_q: (n, n_rungs) natural log of the probability that each rung of `BETAS` gives to the draw's encoding; of
            rung 0 that is ln(copies / |R|).
        counts: (n_rungs,) how many of the draws came from each rung.
        copies: (n,) how many fills have the draw's encoding; 1 where the tokenizer tells all fills apart.
        most_copies: how many fills have one encoding, at most.
        leaves: (n,) a number for each encoding, the same for the same one.
        known: (n,) whether it is a canary or a twin, which are counted exactly and not by draws.
        log_space: ln|R|.
    """

    costs: Floats
    log_q: Floats
    counts: Ints
    copies: Floats
    leaves: Ints
    known: NDArray[np.bool_]
    log_space: float
    most_copies: float = 1.0

    def __len__(self) -> int:
        return len(self.costs)

    @property
    def shares(self) -> Floats:
        """(n_rungs,) the share of each rung."""
        return np.asarray(self.counts / self.counts.sum())

    @cached_property
    def log_weights(self) -> Floats:
        """(n,) ln of what each draw stands for, as a share of R: copies / (|R| Σ_k s_k q_k)."""
        return self.weigh(self.log_q, self.copies)

    def weigh(self, log_q: Floats, copies: Floats) -> Floats:
        """The same of what was not drawn: what each would have stood for."""
        mixed = log_sum_exp(_logs(self.shares) + log_q, axis=1)
        return np.asarray(np.log(copies) - self.log_space - mixed)

    def hits(self, cost: float) -> NDArray[np.bool_]:
        """(n,) which draws are at least as likely as a candidate of this cost, canaries and twins aside."""
        return np.asarray((self.costs <= cost) & ~self.known)

    def log_largest(self, cost: float) -> float:
        """Ln B, the most that a hit can stand for: 1 / (s_0 + s_1 |R| 2^−cost), since its q_1 is at least 2^−cost."""
        uniform, model = _logs(self.shares)[[_UNIFORM, _MODEL]]
        return -float(np.logaddexp(uniform, model + self.log_space - cost * LN2 - math.log(self.most_copies)))


@dataclass(frozen=True)
class Share:
    """An estimated share of R, in natural logs (−inf for nothing), and what the estimate rests on.

    Args:
        value: the estimate; without a hit, the most that one hit could have said.
        low: lower end of the interval.
        high: upper end of the interval.
        hits: draws that are hits.
        distinct: different encodings among them.
        effective: (Σw)² / Σw², as many equal hits as would be as sure.
    """

    value: float
    low: float
    high: float
    hits: int = 0
    distinct: int = 0
    effective: float = 0.0


def share_below(draws: ImportanceSamples, cost: float, alpha: float, *, one_more: float) -> Share:
    """The share of R, canaries and twins aside, whose cost is at most `cost`.

    The interval is that of Fay and Feuer (1997) for a weighted sum of Poisson counts, which supposes one hit more than
    was seen. Without any hit it ends at B ln(2/α) / N, which is proven: B is the most that a hit can stand for.

    Args:
        draws: from the ladder.
        cost: in bits, after what all candidates share.
        alpha: 1 − confidence, of the two-sided interval.
        one_more: ln of the weight of one hit more, if that is more than the largest weight seen.
    """
    hits = draws.hits(cost)
    log_count = math.log(len(draws))
    if not hits.any():
        one_hit = draws.log_largest(cost) - log_count
        return Share(one_hit, -math.inf, one_hit + math.log(math.log(2.0 / alpha)))
    logs = draws.log_weights[hits]
    most = float(logs.max())
    weights = np.exp(logs - most)
    total, squares = float(weights.sum()), float((weights**2).sum())
    low, high = fay_feuer(total, squares, math.exp(min(max(one_more - most, 0.0), 300.0)), alpha)
    unit = most - log_count
    return Share(
        value=math.log(total) + unit,
        low=_log(low) + unit,
        high=_log(high) + unit,
        hits=len(weights),
        distinct=len(np.unique(draws.leaves[hits])),
        effective=total**2 / squares,
    )


def fay_feuer(total: float, squares: float, largest: float, alpha: float) -> tuple[float, float]:
    """The gamma interval for a weighted sum of Poisson counts (Fay & Feuer 1997).

    lo = (v/y) Γ⁻¹(α/2; y²/v), hi = ((v+m²)/(y+m)) Γ⁻¹(1−α/2; (y+m)²/(v+m²)), with unit scale.

    Args:
        total: y, the sum of the weights.
        squares: v, the sum of their squares.
        largest: m, the weight of one more count.
        alpha: 1 − confidence.

    Example:
        >>> low, high = fay_feuer(10.0, 10.0, 1.0, 0.05)  # equal weights: Garwood's interval for 10 counts
        >>> round(low, 3), round(high, 3)
        (4.795, 18.39)
    """
    low = squares / total * float(special.gammaincinv(total**2 / squares, alpha / 2.0))
    more, more_squares = total + largest, squares + largest**2
    high = more_squares / more * float(special.gammaincinv(more**2 / more_squares, 1.0 - alpha / 2.0))
    return low, high


def better_shares(draws: ImportanceSamples, costs: Floats, counted: Floats) -> Floats:
    """Shares of the rungs under which the ranks of these costs would be surest, judged by draws made with others.

    Minimises Σ w / q_mix over the hits, each cost's part by its rank squared, by s_k ← s_k √(Σ w q_k / q_mix²); of the
    result a part stays equal, since the draws may have missed what matters.

    Args:
        draws: of a pilot.
        costs: (n_canaries,) in bits.
        counted: (n_canaries,) how many known fills cost at most as much; with the draws they make the rank.

    Returns:
        (n_rungs,) summing to 1; equal ones where there were no hits.
    """
    equal = np.full(len(BETAS), 1.0 / len(BETAS))
    logs = draws.log_weights
    finite = np.isfinite(costs)
    hits = np.array([draws.hits(cost) for cost in costs[finite].tolist()]).reshape(-1, len(draws))
    if not hits.any():
        return equal
    # ln of N rank / |R|, of the known fills and by the draws.
    known = np.log(counted[finite]) - draws.log_space + math.log(len(draws))
    ranks = [np.logaddexp(of_known, log_sum_exp(logs[each])) for of_known, each in zip(known, hits, strict=True)]
    # ln of the part of each draw: Σ over the canaries that it hits of w / rank².
    parts = log_sum_exp(np.where(hits, -2.0 * np.array(ranks)[:, None], -np.inf), axis=0) + logs
    matter = hits.any(axis=0)
    q, part = draws.log_q[matter], parts[matter]
    shares = equal
    for _ in range(_STEPS):
        mixed = log_sum_exp(_logs(shares) + q, axis=1)
        pulls = log_sum_exp(part[:, None] + q - 2.0 * mixed[:, None], axis=0)
        shares = shares * np.exp((pulls - pulls.max()) / 2.0)
        shares = shares / shares.sum()
    return np.asarray((1.0 - _KEPT_EQUAL) * shares + _KEPT_EQUAL * equal)


def apportioned(shares: Floats, count: int) -> Ints:
    """`count` draws by these shares: whole numbers, the largest remainders rounded up.

    Example:
        >>> apportioned(np.array([0.5, 0.3, 0.2]), 4).tolist()
        [2, 1, 1]
    """
    exact = shares * count
    whole = np.floor(exact).astype(np.int64)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: count - int(whole.sum())]] += 1
    return whole


def log_mixture(prefix_log_q: Floats, counts: Ints) -> Floats:
    """The mixture's ln q of prefixes.

    Args:
        prefix_log_q: (n, depth, n_rungs) natural log of the probability of each prefix under each of these rungs.
        counts: (n_rungs,) how many of the draws came from each.
    """
    shares = counts / max(1, counts.sum())  # of a single draw there may be none from these rungs
    return log_sum_exp(_logs(shares) + prefix_log_q)


def expected_expansions(prefix_costs: Floats, log_mixed: Floats, cost: float) -> float:
    """How many prefixes of the tree cost at most `cost`, and so must be expanded to count the leaves that do.

    Knuth's estimate (1975), from draws that were made anyway: 1 + Σ_d mean[1{cost_d ≤ c} / q_mix(prefix_d)].

    Args:
        prefix_costs: (n, depth) bits of the draws' inner prefixes after what all candidates share; infinite where
            there is none. Draws of the rungs above β = 0 alone: of a uniform fill's prefix nobody knows how many
            fills begin so.
        log_mixed: (n, depth) natural log of the probability of each prefix under the mixture of these rungs.
        cost: in bits.

    Returns:
        Infinity where there are no draws to judge by.
    """
    if not len(prefix_costs):
        return math.inf
    inside = prefix_costs <= cost
    return 1.0 + float(np.exp(log_sum_exp(-log_mixed[inside]))) / len(prefix_costs) if inside.any() else 1.0


def _logs(shares: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(shares))


def _log(value: float) -> float:
    return math.log(value) if value > 0.0 else -math.inf

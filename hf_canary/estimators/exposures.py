"""Exposure from log-perplexities: numbers in, estimates with intervals out.

All log-perplexities are in bits, lower means better memorised; exposure is in bits, higher means better memorised,
between 0 and log2|R| except for the skew-normal estimate, which has no upper bound. Order in is order out. This
file has never heard of a model, a format or a tokenizer.

Costs that differ by no more than `SAME` are ties: in two batches a float32 model gives numbers for one text that are so
far apart. Ties count against the canary (Definition 2), in the value and in the lower end; the upper end is what it
would be if all of them cost more. So a leak that ties hide shows in `high`, and `low` is sure. A cost of infinity is no
matter of ties: all candidates are at least as likely as one of probability 0, so that its exposure is 0, flagged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from ..arguments import check_bootstrap, check_confidence, check_space_size
from ..arrays import LN2, Floats
from ..errors import AnySize, DataError, shown
from .importance_sampling import ImportanceSamples, Share, share_below
from .skew_normal import SkewNormal, misfit, misfit_p, refits, standard_errors, why_not_fitted

CENSORED = "censored"
BEYOND_SPACE = "beyond log2|R|"
CONDITIONAL = "interval assumes the skew-normal"
POOR_FIT = "the skew-normal does not fit"
NOT_FINITE = "not finite"
NOT_FITTED = "not fitted"
TIES = "ties"
IMPOSSIBLE = "probability 0"

CONFIDENCE = 0.95
"""Of every interval, unless it is said."""

SAME = 1e-4
"""Costs that differ by no more than this are the same, as far as float32 can tell; in bits."""

MOST_APART = 0.25
"""Costs of the same tokens that differ by more, between two walks in float32, are those of other tokens; in bits."""

EXACT = "exact"
RELIABLE = "reliable"
ROUGH = "rough"
INTERVAL_ONLY = "interval only"
EXTRAPOLATED = "extrapolated"
NO_ESTIMATE = "no estimate"

# So many hits give a rank to about a fifth, and so many to a third; with fewer the interval says all there is to say.
_HITS_RELIABLE, _HITS_ROUGH = 30, 10
# A sample from a skew-normal misfits its own fit so badly once in a hundred times.
_POOR_FIT = 0.01
_FEWEST_REFITS = 99
# So bad a fit needs no bootstrap in order to be refused.
_HOPELESS = 1e-5
# Where so many times the references are more than the rest of R, Clopper-Pearson, which assumes draws with
# replacement, is wider than it need be.
_HYPERGEOMETRIC_SHARE = 10
_FEW, _BLOCK = 128, 2**16
_LOG_QUERIES_EXACT = 50.0


@dataclass(frozen=True, repr=False)
class Estimate(AnySize):
    """An estimate of exposure in bits, its interval, and what a reader must know about it.

    Args:
        value: the estimate; NaN where there is none, and then `flags` says why.
        low: lower end of the interval.
        high: upper end of the interval.
        flags: words such as `censored`: no reference was as likely, so that only `low` is sure.
        status: what it is worth, in a word: `exact`, `reliable`, `rough`, `interval only`, `censored`, `extrapolated`,
            `no estimate`.
        details: the numbers that it rests on, such as how many references were as likely.
    """

    value: float
    low: float
    high: float
    flags: tuple[str, ...] = ()
    status: str = ""
    details: Mapping[str, float] = field(default_factory=dict, hash=False)


def exposure_of_rank(rank: int | Fraction, space_size: int) -> float:
    """log2|R| − log2 rank (Definition 4), in bits, at any size; an estimated rank may be a fraction.

    Example:
        >>> exposure_of_rank(1, 1024), exposure_of_rank(1024, 1024)
        (10.0, 0.0)
    """
    return math.log2(space_size) - math.log2(rank.numerator) + math.log2(rank.denominator)


def queries(bits: float, probability: float) -> float:
    """Samples until something of so many bits has come out with this probability: ⌈ln(1−p) / ln(1 − 2^−bits)⌉.

    Beyond 50 bits −ln(1−p) · 2^bits, which is as good.

    Example:
        >>> queries(1.0, 0.5), queries(10.0, 0.5)
        (1.0, 710.0)
    """
    if math.isnan(bits):
        return math.nan
    if bits > _LOG_QUERIES_EXACT:
        exponent = bits + math.log2(-math.log1p(-probability))
        return 2.0**exponent if exponent < 1023.0 else math.inf
    if bits <= 0.0:
        return 1.0
    return max(1.0, float(math.ceil(math.log1p(-probability) / math.log1p(-(2.0**-bits)))))


def sampled(
    log_perplexities: ArrayLike,
    references: ArrayLike,
    space_size: int,
    *,
    known: ArrayLike | None = None,
    copies: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> list[Estimate]:
    """Exposure by Theorem 1: the share of random candidates at least as likely as the canary.

    The candidates in `known` (all canaries and twins of the format) have known costs and are counted exactly; only
    the rank among the rest of R is estimated from `references`. The interval is Clopper and Pearson's (1934) for
    that share, the hypergeometric one where the references are more than a tenth of the rest, and has width zero
    where they are all of it, but for ties: costs that differ by `SAME` at most, which count against the canary. With no
    reference at or below the canary the estimate is `censored`: the true exposure may be anything from `low` to `high`.
    `details` has the `hits`, the references as likely, and a `p_value` for "never trained on": the share of
    arrangements of canary and references in which it stands as far to the front.

    Args:
        log_perplexities: (n_canaries,) in bits, lower means better memorised.
        references: (n_references,) in bits, of distinct uniform draws from R without `known`.
        space_size: |R|.
        known: (n_known,) in bits, the costs of the candidates that were taken out of the draw, the measured ones
            among them; None means just `log_perplexities`.
        copies: (n_canaries,) how many fills are encoded as each, itself among them, which are as likely for certain and
            no ties; of use where all of R is given. None means 1.
        confidence: of the two-sided interval.

    Returns:
        One estimate for each canary, in order, in bits, higher means better memorised.

    Raises:
        DataError: no references, NaN among them, more of them than R has, or a value that is no number.

    Example:
        >>> sampled([3.0], [1.0, 2.0, 4.0, 5.0], space_size=5)[0].value == exposure_of_rank(3, 5)
        True
    """
    space_size, alpha = check_space_size(space_size), _error_rate(confidence)
    costs = _numbers(log_perplexities, "log_perplexities")
    pool = _references(references)
    taken = costs if known is None else _numbers(known, "known")
    taken = taken[~np.isnan(taken)]
    rest = space_size - (costs.size if known is None else np.size(known))
    if pool.size == 0 and rest > 0:
        raise DataError("references", "at least one log-perplexity", "none", "Score random candidates of the format.")
    if pool.size > rest:
        raise DataError(
            "references",
            f"at most {shown(rest)}, the candidates of R that are neither canary nor twin",
            f"{pool.size}",
            "Draw references without replacement, and leave out the canaries and twins.",
        )

    own = _copies(copies, costs)
    around = np.concatenate(_around(costs))
    (within, below), (known_within, known_below) = (
        (counts[: costs.size], counts[costs.size :]) for counts in (_at_most(pool, around), _at_most(taken, around))
    )

    def one(number: int, cost: float) -> Estimate:
        hits, counted = within[number], max(1, known_within[number])
        details: dict[str, float] = {"hits": hits, "p_value": (hits + 1) / (pool.size + 1)}
        if math.isnan(cost):
            return _nothing(NOT_FINITE)
        if cost == math.inf:
            return _impossible(details)
        if pool.size == rest:
            ties = counted + hits - known_below[number] - below[number] - int(own[number])
            return of_rank(counted + hits, space_size, ties=max(0, ties), details=details)
        likelier = min(counted, known_below[number] + 1)
        point, most, _ = _rest_below(hits, pool.size, rest, alpha)
        fewest = _rest_below(below[number], pool.size, rest, alpha)[2]
        ranks = counted + point, counted + most, likelier + fewest
        value, low, high = (exposure_of_rank(rank, space_size) for rank in ranks)
        flags = (CENSORED,) * (hits == 0) + (TIES,) * (counted + hits > likelier + below[number])
        return Estimate(value, low, high, flags, _worth(hits), details)

    return [one(*each) for each in enumerate(costs.tolist())]


def _around(costs: Floats) -> tuple[Floats, Floats]:
    """The dearest cost that is the same as each, and the dearest that is surely less."""
    return costs + SAME, np.nextafter(costs - SAME, -np.inf)


def _copies(copies: ArrayLike | None, costs: Floats) -> Floats:
    own = np.ones(costs.size) if copies is None else _numbers(copies, "copies")
    if own.size != costs.size:
        raise DataError("copies", f"{costs.size}, one for each canary", f"{own.size}", "Pair them up.")
    return own


def _at_most(pool: Floats, costs: Floats) -> list[int]:
    """How many of the pool are no more than each cost; for a few costs it does not pay to sort."""
    if costs.size <= _FEW:
        counts = np.zeros(costs.size, dtype=np.int64)
        for start in range(0, pool.size, _BLOCK):  # which stays in the cache
            block = pool[start : start + _BLOCK]
            counts += np.array([np.count_nonzero(block <= cost) for cost in costs], dtype=np.int64)
        return counts.tolist()
    return [int(count) for count in np.searchsorted(np.sort(pool), costs, side="right")]


def _rest_below(hits: int, n: int, rest: int, alpha: float) -> tuple[Fraction, Fraction, Fraction]:
    """How many of the `rest` of R are at or below a cost: a point, and the upper and lower end of its interval."""
    point = rest * (Fraction(2 * hits + 1, 2 * n + 1) if hits else Fraction(1, n + 1))
    if n * _HYPERGEOMETRIC_SHARE > rest:
        fewest, most = hypergeometric_interval(hits, n, rest, alpha)
        return min(max(point, Fraction(fewest)), Fraction(most)), Fraction(most), Fraction(fewest)
    upper = float(special.betaincinv(hits + 1, n - hits, 1.0 - alpha / 2.0)) if hits < n else 1.0
    lower = float(special.betaincinv(hits, n - hits + 1, alpha / 2.0)) if hits else 0.0
    return point, rest * Fraction(upper), rest * Fraction(lower)


def hypergeometric_interval(hits: int, n: int, size: int, alpha: float) -> tuple[int, int]:
    """How many of `size` are marked, when `hits` of `n` drawn without replacement are: the exact interval."""

    def first(holds: Callable[[int], bool]) -> int:
        low, high = hits, size - n + hits
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(middle) else (middle + 1, high)
        return low

    fewest = first(lambda marked: stats.hypergeom.sf(hits - 1, size, marked, n) > alpha / 2.0)
    too_many = first(lambda marked: stats.hypergeom.cdf(hits, size, marked, n) <= alpha / 2.0)
    most = too_many if stats.hypergeom.cdf(hits, size, too_many, n) > alpha / 2.0 else too_many - 1
    return fewest, max(most, fewest)


def exact(
    log_perplexities: ArrayLike, references: ArrayLike, space_size: int, *, known: ArrayLike | None = None
) -> list[Estimate]:
    """Exposure by Definition 4, where every candidate is given; the interval has width zero, but for ties.

    Args:
        log_perplexities: (n_canaries,) in bits, lower means better memorised.
        references: (space_size − n_known,) in bits, of all candidates without `known`.
        space_size: |R|.
        known: (n_known,) in bits, of the candidates that are not among `references`; None means just
            `log_perplexities`.

    Returns:
        One estimate for each canary, in order, in bits, higher means better memorised.

    Raises:
        DataError: candidates are missing; otherwise as `sampled`.

    Example:
        >>> exact([2.0], [1.0, 3.0, 4.0], space_size=4)[0].value  # the second of four
        1.0
    """
    estimates = sampled(log_perplexities, references, space_size, known=known)
    missing = space_size - np.size(references) - np.size(log_perplexities if known is None else known)
    if missing:
        raise DataError(
            "references",
            f"all of R: {shown(space_size)} candidates, canaries and twins among them",
            f"{shown(space_size - missing)}, {shown(missing)} fewer",
            "Score every candidate, or take another estimator.",
        )
    return estimates


def of_rank(rank: int, space_size: int, *, ties: int = 0, details: Mapping[str, float] | None = None) -> Estimate:
    """The exact exposure of a rank that was counted, in bits, higher means better memorised.

    Args:
        rank: how many candidates are at least as likely, the canary itself and all ties among them.
        space_size: |R|.
        ties: other candidates whose cost is the same up to the rounding of the model's numbers (`SAME`). Which of them
            cost more nobody knows: the interval ends where all do. Without any it has width zero.
        details: to be kept beside `rank` and `ties`.

    Example:
        >>> estimate = of_rank(4, 16, ties=3)
        >>> estimate.value, estimate.low, estimate.high, estimate.flags
        (2.0, 2.0, 4.0, ('ties',))
    """
    value, high = exposure_of_rank(rank, space_size), exposure_of_rank(rank - ties, space_size)
    counts = {**(details or {}), "rank": rank, "ties": ties}
    return Estimate(value, value, high, (TIES,) if ties else (), EXACT, counts)


def importance(
    log_perplexities: ArrayLike,
    draws: ImportanceSamples,
    space_size: int,
    *,
    known: ArrayLike | None = None,
    known_copies: ArrayLike | None = None,
    copies: ArrayLike | None = None,
    own_log_weights: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> list[Estimate]:
    """Exposure from fills drawn by the temperature ladder (Dell'Amico & Filippone 2015; see `importance_sampling.py`).

    The candidates in `known` are counted exactly; the draws say how many others there are. All costs count from the
    end of what all candidates share, and come from one walk. The interval is Fay and Feuer's (1997), its ends rounded
    inwards to whole ranks. `details` has the `hits`, how many of them are different (`distinct_hits`), and how many
    equal ones would be as sure (`effective_hits`), which the status goes by.

    Args:
        log_perplexities: (n_canaries,) bits, lower means better memorised.
        draws: from the ladder, marked where they hit a known candidate.
        space_size: |R|.
        known: (n_known,) bits, of all canaries and twins, the measured ones among them; None means just
            `log_perplexities`.
        known_copies: (n_known,) how many fills are encoded as each; 0 for one that is encoded as an earlier one of
            them, so that none counts twice. None means 1 for each.
        copies: (n_canaries,) how many fills are encoded as each, itself among them. None means 1.
        own_log_weights: (n_canaries,) ln of what a draw of the canary itself would stand for, as a share of R. The
            interval supposes one more hit than was seen, of the largest weight seen and no less than this: what is
            likelier than a canary seldom weighs more. None takes the most that any hit can weigh, for which that is
            certain: the interval is then wider, and as sure as it says even with few hits. Without any hit that is
            taken in any case.
        confidence: of the two-sided interval.

    Returns:
        One estimate for each canary, in order, in bits, higher means better memorised.

    Raises:
        DataError: a value that is no number, or `known_copies` that are not as many as `known`.
    """
    space_size, alpha = check_space_size(space_size), _error_rate(confidence)
    costs = _numbers(log_perplexities, "log_perplexities")
    taken = costs if known is None else _numbers(known, "known")
    encoded = np.ones(taken.size) if known_copies is None else _numbers(known_copies, "known_copies")
    if encoded.size != taken.size:
        raise DataError("known_copies", f"{taken.size}, one for each of known", f"{encoded.size}", "Pair them up.")
    weights = None if own_log_weights is None else _numbers(own_log_weights, "own_log_weights")
    if weights is not None and weights.size != costs.size:
        raise DataError("own_log_weights", f"{costs.size}, one for each canary", f"{weights.size}", "Pair them up.")
    rest, own, ends = max(0, space_size - int(encoded.sum())), _copies(copies, costs), _around(costs)

    def below(cost: float, number: int) -> tuple[Share, list[Fraction]]:
        """Of the rest, the share at or below a cost; and how many that are at least and at most, and probably."""
        one_more = draws.log_largest(cost) if weights is None else float(weights[number])
        share = share_below(draws, cost, alpha, one_more=one_more)
        fewest, most, point = (_part_of(each, space_size, rest) for each in (share.low, share.high, share.value))
        fewest, most = _whole(fewest, math.ceil), _whole(most, math.floor)
        most = max(most, fewest)
        return share, [fewest, most, min(max(point, fewest), most)]

    def one(number: int, cost: float) -> Estimate:
        if math.isnan(cost):
            return _nothing(NOT_FINITE)
        if cost == math.inf:
            return _impossible({})
        same, less = (float(end[number]) for end in ends)
        counted = max(1, int(encoded[taken <= same].sum()))
        likelier = int(encoded[taken <= less].sum()) + int(own[number])
        if rest == 0:
            return of_rank(counted, space_size, ties=max(0, counted - likelier))
        share, (fewest, most, point) = below(same, number)
        ties = counted > likelier
        if bool((draws.hits(same) != draws.hits(less)).any()):
            ties, fewest = True, below(less, number)[1][0]
        ranks = counted + point, counted + most, min(counted, likelier) + fewest
        value, low, high = (exposure_of_rank(rank, space_size) for rank in ranks)
        details = {"hits": share.hits, "distinct_hits": share.distinct, "effective_hits": share.effective}
        # Where a single hit is proven to be too many, none is as good as many.
        status = RELIABLE if most == 0 else _worth(share.effective)
        flags = (CENSORED,) * (status == CENSORED) + (TIES,) * ties
        return Estimate(value, low, high, flags, status, details)

    return [one(*each) for each in enumerate(costs.tolist())]


def _part_of(log_share: float, space_size: int, rest: int) -> Fraction:
    """How many candidates a share of R is, and `rest` at most; as exact as a float."""
    if log_share == -math.inf:
        return Fraction(0)
    whole, part = divmod(min(log_share, 0.0) / LN2 + math.log2(space_size), 1.0)
    return min(Fraction(2.0**part) * Fraction(2) ** int(whole), Fraction(rest))


def _whole(number: Fraction, rounded: Callable[[Fraction], int]) -> Fraction:
    """A count of candidates; one of more digits than a float has is as good as whole."""
    return Fraction(rounded(number)) if number < 2**50 else number


def prefer(by_references: Estimate, by_draws: Estimate) -> tuple[str, str]:
    """Which of `sampled` and `importance` to rely on for a canary, and why: how many of each were as likely.

    By the hits that each rests on, whatever they say; and where neither has any, by where their intervals end, which
    then no chance decides.
    """
    hits, effective = by_references.details.get("hits", 0.0), by_draws.details.get("effective_hits", 0.0)
    if enough(by_references):
        return "sampled", in_words(hits)
    words = f"{in_words(hits)}, {effective:.0f} draw{'' if 0.5 <= effective < 1.5 else 's'}"
    if hits == effective == 0:
        return ("importance", words) if by_draws.low >= by_references.low else ("sampled", words)
    return ("importance", words) if effective >= hits else ("sampled", words)


def in_words(hits: float) -> str:
    """How many references were as likely, in words."""
    return f"{hits:,.0f} reference{'' if hits == 1 else 's'}"


def enough(estimate: Estimate) -> bool:
    """Whether an estimate can be relied on as it is, or will not become better by more work."""
    return estimate.status not in (ROUGH, INTERVAL_ONLY, CENSORED)


def skewnorm(
    log_perplexities: ArrayLike,
    references: ArrayLike,
    space_size: int,
    *,
    bootstrap: int = 0,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> list[Estimate]:
    """The paper's estimate by extrapolation (§4.2): exposure ≈ −log2 of the fitted skew-normal's mass at or below c.

    It is finite far beyond the references, and only as right there as the skew-normal is. The interval covers the
    sampling error of the fit alone and is flagged so; a value past log2|R| is flagged, not cut. `details["fit_p"]` is
    how often a sample from a skew-normal lies as far from its own fit (by A² of Anderson and Darling); below 0.01 the
    estimate is flagged.

    Args:
        log_perplexities: (n_canaries,) in bits, lower means better memorised.
        references: (n_references,) in bits, of uniform draws from R.
        space_size: |R|, for the flag.
        bootstrap: how many samples of the fitted law are fitted anew, for the interval and for `fit_p`, 99 at least;
            0 takes the delta method and a table, and so does a fit that the table alone refuses.
        seed: of the bootstrap.
        confidence: of the two-sided interval.

    Returns:
        One estimate for each canary, in order, in bits, higher means better memorised. References that no
        skew-normal describes give NaN, flagged `not fitted: reason`; but a canary of probability 0 has exposure 0.

    Raises:
        ArgumentError: a bootstrap of 1 to 98 samples; a confidence or |R| that is none.
        DataError: no references, NaN among them, a value that is no number.
    """
    space_size, alpha = check_space_size(space_size), _error_rate(confidence)
    bootstrap = check_bootstrap(bootstrap)
    costs = _numbers(log_perplexities, "log_perplexities")
    pool = _references(references)
    reason = why_not_fitted(pool)
    if reason:
        return [_impossible({}) if cost == math.inf else _nothing(f"{NOT_FITTED}: {reason}") for cost in costs]
    law = SkewNormal.fit(pool)
    finite = np.where(np.isfinite(costs), costs, law.location)
    values = law.tail_bits(finite)
    distance = misfit(law, pool)
    fit_p = misfit_p(distance, law.shape)
    if bootstrap and fit_p > _HOPELESS:
        laws, distances = refits(law, pool.size, bootstrap, seed)
        fit_p = (1 + int(np.count_nonzero(distances >= distance))) / (1 + bootstrap)
        tails = np.stack([other.tail_bits(finite) for other in laws])
        lows, highs = np.quantile(tails, [alpha / 2.0, 1.0 - alpha / 2.0], axis=0)
    else:
        errors = standard_errors(law, pool, finite) * float(stats.norm.ppf(1.0 - alpha / 2.0))
        lows, highs = values - errors, values + errors
    limit, details = math.log2(space_size), {"fit_p": fit_p, "misfit": distance}

    def one(cost: float, value: float, low: float, high: float) -> Estimate:
        if not math.isfinite(cost):
            return _impossible(details) if cost > 0 else _nothing(NOT_FINITE)
        flags = (CONDITIONAL, *[BEYOND_SPACE] * (value > limit), *[POOR_FIT] * (fit_p <= _POOR_FIT))
        return Estimate(value, max(0.0, min(low, value)), max(high, value), flags, EXTRAPOLATED, details)

    return [one(*each) for each in zip(costs.tolist(), values.tolist(), lows.tolist(), highs.tolist(), strict=True)]


def _worth(hits: float) -> str:
    if hits == 0:
        return CENSORED
    return RELIABLE if hits >= _HITS_RELIABLE else ROUGH if hits >= _HITS_ROUGH else INTERVAL_ONLY


def _impossible(details: Mapping[str, float]) -> Estimate:
    """All candidates are at least as likely as one of probability 0: its rank is |R|, whatever is known of them."""
    return Estimate(0.0, 0.0, 0.0, (IMPOSSIBLE,), EXACT, details)


def _nothing(flag: str) -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, (flag,), NO_ESTIMATE)


def _error_rate(confidence: float) -> float:
    return 1.0 - check_confidence(confidence)


def _numbers(values: ArrayLike, argument: str) -> Floats:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(argument, "numbers, in bits", shown(values), "Give one log-perplexity for each.") from error
    if numbers.ndim != 1:
        raise DataError(argument, "one axis", f"an array of shape {numbers.shape}", "Give a flat list.")
    return numbers


def _references(values: ArrayLike) -> Floats:
    pool = _numbers(values, "references")
    if pool.size and math.isnan(pool.min()):
        first = int(np.flatnonzero(np.isnan(pool))[0])
        raise DataError("references", "numbers", f"NaN at {first}", "Find out why the model's scores are no numbers.")
    return pool

"""What a likeliest candidate is worth, beside the proof that it is the likeliest: numbers, and what they say in words.

Knows no model, no tokenizer and no search.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ..errors import counted
from .exposures import SAME, queries

_EVEN = 0.5


def samples_for(bits: float) -> float:
    """Samples of the model until what costs so many bits has come out with even odds."""
    return queries(bits, _EVEN)


def guesses_for(space_size: int) -> float:
    """The same of guesses, each any of so many candidates."""
    return queries(math.log2(space_size), _EVEN)


def ranks_of_listed(costs: Sequence[float], copies: Sequence[int], unlisted: float) -> list[int | None]:
    """The rank of each of the cheapest candidates (Definition 2): how many cost no more, but for rounding.

    Args:
        costs: theirs, ascending, in bits.
        copies: how many candidates each stands for, which are encoded alike.
        unlisted: all others cost at least so many bits.

    Returns:
        None where one that is not listed may be as likely.

    Example:
        >>> ranks_of_listed([3.0, 5.0, 5.0, 7.0], [1, 2, 1, 1], unlisted=7.0)
        [1, 4, 4, None]
    """
    within = np.asarray(costs, dtype=np.float64) + SAME
    counted = list(itertools.accumulate(copies, initial=0))  # NumPy would make floats of the largest
    ends = np.searchsorted(costs, within, side="right")
    return [counted[end] if most < unlisted else None for end, most in zip(ends, within, strict=True)]


def in_words(
    cost: float, samples: float, typical: float, least_reference: float, num_references: int, space_size: int
) -> list[str]:
    """What to say of the likeliest candidate beside its proof, a sentence a line; never that it was learned or was not.

    No line says what chance would do: how far the likeliest of |R| lies below the others depends on how costs spread,
    and a fill that was learned spreads them itself.

    Args:
        cost: its bits.
        samples: of the model, until it has come out with even odds.
        typical: the median of the references; NaN where there are none.
        least_reference: the cheapest of them.
        num_references: how many.
        space_size: |R|.
    """
    return [
        _typical_in_words(cost, typical, least_reference, num_references),
        _samples_in_words(samples, guesses_for(space_size)),
        "Every model has a likeliest candidate, trained on it or not: none of this says whether it was in the data. "
        "The exposure of a canary that was drawn at random does.",
    ]


def _typical_in_words(cost: float, typical: float, least_reference: float, num_references: int) -> str:
    if math.isnan(typical):
        return "What a typical candidate costs was left out, for want of time."
    if math.isinf(typical):
        return f"A typical candidate is impossible, as are most of {num_references} random ones."
    lies = f"{abs(typical - cost):.2f} bits {'below' if cost <= typical else 'above'}"
    return (
        f"A typical candidate costs {typical:.2f} bits, the median of {num_references} random ones, of which the least "
        f"costs {least_reference:.2f}; the likeliest lies {lies} the typical one."
    )


def _samples_in_words(samples: float, guesses: float) -> str:
    both = (
        f"It takes {counted(samples)} samples of the model to get it at even odds, or {counted(guesses)} blind guesses"
    )
    if samples < guesses:
        sooner = guesses / samples if guesses < math.inf else math.inf
        return f"{both}: sampling gives it away {counted(sooner)} times sooner than guessing."
    return f"{both}: sampling gives it away no sooner than guessing."


def canary_in_words(
    name: str, rank: int | None, exposure: float, space_size: int, num_known: int, *, drawn: bool
) -> str:
    """What to say of a candidate that is a canary.

    Args:
        name: its id.
        rank: among all of R; None where that is not known.
        exposure: its bits; NaN where the rank is not known.
        space_size: |R|.
        num_known: canaries of this format, any of which might have been it.
        drawn: whether they were drawn at random, which alone tells what chance does.
    """
    if rank is None:
        return f"canary {name}: others may be as likely; `hf-canary rank` counts them"
    once = Fraction(space_size, rank * num_known)
    chance = ""
    if drawn:
        of = "one that was never trained on" if num_known == 1 else f"one of {num_known} that were never trained on"
        often = f"at most once in {counted(int(once))} times" if once >= 2 else "as often as not"
        chance = f"; {of} ranks so high {often}"
    return f"canary {name}: rank {counted(rank)}, exposure {exposure:.2f} bits{chance}"

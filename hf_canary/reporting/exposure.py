"""What one estimator says of one canary, and which canaries were compared with the same candidates. Plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..arrays import Floats
from ..errors import AnySize
from ..formats.canary_format import CanaryFormat
from ..tokenization.contexts import Before


@dataclass(frozen=True, repr=False)
class Exposure(AnySize):
    """One canary's exposure by one estimator.

    Args:
        canary_id: the canary's `id`.
        estimator: the estimator that was asked for.
        value: exposure in bits, higher means better memorised; 1.4 on average for a canary never seen.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        log_perplexity: of the canary, in bits, lower means better memorised.
        num_references: how many candidates it was compared with: references, draws, or all others where it is exact.
        flags: what a reader must know, such as `censored`: no reference was as likely, and only `low` is sure.
        status: what it is worth, in a word: `exact`, `reliable`, `rough`, `interval only`, `censored`, `extrapolated`,
            `no estimate`.
        method: the estimator that the number comes from; another than `estimator` only for `auto`.
        reason: why `auto` took it: how many references, draws or counted candidates were as likely.
        token_rows: tokens that were fed to the model for it, and for all canaries of the format together.
        details: the numbers that it rests on, such as how many references were as likely.
        at_least: the lower end at the error rate that was asked for (`measure_exposure(error=...)`); NaN if none.
    """

    canary_id: str
    estimator: str
    value: float
    low: float
    high: float
    log_perplexity: float
    num_references: int
    flags: tuple[str, ...]
    status: str = ""
    method: str = ""
    reason: str = ""
    token_rows: int = 0
    details: Mapping[str, float] = field(default_factory=dict, hash=False)
    at_least: float = math.nan


@dataclass(frozen=True)
class Group:
    """Canaries of one format that stand behind one context, and the candidates that they were compared with.

    Args:
        format: of them.
        canary_ids: their ids.
        references: (n_references,) log-perplexities of random candidates behind this context, in bits.
        num_excluded: canaries and twins of the format, those of other groups too: no reference is one of them.
        context: what stands before them, a text or tokens; None for nothing but what the tokenizer puts there.
    """

    format: CanaryFormat
    canary_ids: tuple[str, ...]
    references: Floats
    num_excluded: int
    context: Before = None

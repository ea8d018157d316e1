"""What may be said of a measurement to everybody who has the model: medians of levels, rounded. Numbers in, numbers
out.

Whoever has the model and the rank or the cost of one canary has the canary, as surely as by its text: so these stay in
the private record. What trainers log, send to reporters and upload is this alone.
"""

from __future__ import annotations

import math
from collections import Counter

from ..canaries import CanarySet
from ..reporting.exposure_report import ExposureReport
from ..reporting.summaries import summary_keys

_FEWEST = 4  # natural secrets of one sum
_TENTH = 10.0
SECONDS = "exposure_seconds"


def public_levels(canaries: CanarySet) -> dict[str, tuple[int, ...]]:
    """By the end of their keys, the levels that are summed up as one. Canaries that were drawn are nobody's secret, and
    each level is its own; of natural ones there are four at least, or more levels are one.

    Example:
        >>> from hf_canary import CanaryFormat
        >>> public_levels(CanarySet.draw(CanaryFormat("pin {digit:4}"), repetitions=(1, 4), per_repetition=1, seed=0))
        {'x1': (1,), 'x4': (4,)}
    """
    levels = canaries.repetitions
    if canaries.kind == "drawn":
        return {f"x{copies}": (copies,) for copies in levels}
    pooled: list[tuple[int, ...]] = []
    counts = {copies: sum(canary.repetitions == copies for canary in canaries) for copies in levels}
    for copies in levels:
        if pooled and sum(counts[each] for each in pooled[-1]) < _FEWEST:
            pooled[-1] += (copies,)
        else:
            pooled.append((copies,))
    if len(pooled) > 1 and sum(counts[each] for each in pooled[-1]) < _FEWEST:
        last = pooled.pop()
        pooled[-1] += last
    enough = [these for these in pooled if sum(counts[each] for each in these) >= _FEWEST]
    return {f"x{these[0]}" if len(these) == 1 else f"x{these[0]}to{these[-1]}": these for these in enough}


def public_keys(canaries: CanarySet) -> list[str]:
    """The keys of `public_summary`."""
    return [key for key in summary_keys(public_levels(canaries)) if not _is_of_one(key, canaries)]


def public_summary(report: ExposureReport) -> dict[str, float]:
    """The summary of a report, to a tenth of a bit; lower and upper ends are rounded outwards."""
    levels = public_levels(report.canaries)
    found = report.summary_by(levels)
    if report.canaries.kind != "drawn":  # of those that are not trained on nothing is summed up
        live = Counter(canary.repetitions for canary in report.canaries if canary.id not in report.dead)
        few = [name for name, copies in levels.items() if sum(live[each] for each in copies) < _FEWEST]
        few += ["mean"] * (live.total() < _FEWEST)
        found |= {key: math.nan for name in few for key in _keys_of(name)}
    return {key: _rounded(key, found[key]) for key in public_keys(report.canaries)}


def base_mean(mean: float, canaries: CanarySet, live: int) -> float:
    """What may be said of a model without its adapters: rounded, and of four at least where they are somebody's."""
    return _rounded("", mean) if canaries.kind == "drawn" or live >= _FEWEST else math.nan


def _keys_of(name: str) -> list[str]:
    return [*(f"exposure_{name}{end}" for end in ("", "_low", "_high")), f"exposure_skewnorm_{name}"]


def _is_of_one(key: str, canaries: CanarySet) -> bool:
    """Whether a number is that of one canary, or of too few, and these are somebody's secrets."""
    if canaries.kind == "drawn" or key in ("exposure_censored", SECONDS):
        return False
    return "_max" in key or len(canaries) < _FEWEST


def _rounded(key: str, number: float) -> float:
    if not math.isfinite(number) or key.endswith(SECONDS):
        return number
    if key.endswith("_low"):
        return math.floor(number * _TENTH + 1e-9) / _TENTH
    if key.endswith("_high"):
        return math.ceil(number * _TENTH - 1e-9) / _TENTH
    return round(number, 1)

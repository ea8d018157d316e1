"""A measurement in one line: exposure by repetition level, and the twins as control. Knows no trainer."""

from __future__ import annotations

import math

from ..measurement.encoded_format import possible_references
from ..reporting.exposure_report import ExposureReport
from ..reporting.summaries import Level
from .public import public_levels, public_summary


def one_line(report: ExposureReport, num_references: int | None = None) -> str:
    """Exposure by repetition level, measured and by the skew-normal law; and how few references there was time for, if
    there were fewer than asked for.

    Args:
        report: the measurement.
        num_references: how many were asked for; None says nothing of them.
    """
    if not report.is_valid:
        return "exposure (bits)  INVALID: of some repetition level no canary is trained on"
    named = public_levels(report.canaries)
    levels = [(name, report.level(*copies)) for name, copies in named.items()]
    measured = "  ".join(f"{_level_name(name, level)} {_level_value(level)}" for name, level in levels)
    summary = public_summary(report)
    skewed = "  ".join(
        f"{name} {_or_nothing(summary[f'exposure_skewnorm_{name}'])}".replace("x", "×") for name in named
    )
    twins = _or_nothing(summary.get("exposure_twin_mean", math.nan))
    line = f"exposure (bits)  {measured} · skew-normal  {skewed} · twins {twins}"
    fewest = min((len(group.references) for group in report.groups), default=0)
    is_short = num_references is not None and any(
        len(group.references) < possible_references(num_references, group.format, group.num_excluded)
        for group in report.groups
    )
    return f"{line} · in time for {fewest:,} references" if is_short else line


def _level_name(name: str, level: Level) -> str:
    """As ×4; with the copies that were found, where they are not those."""
    fewest, most = level.copies_found or (0, 0)
    found = f" ({fewest if fewest == most else f'{fewest} to {most}'} found)" if level.lacks_copies else ""
    return name.replace("x", "×") + found


def _level_value(level: Level) -> str:
    """Its median; a bound is rounded down."""
    value = level.values["auto"]
    return f"≥ {math.floor(10 * value) / 10:.1f}" if level.censored["auto"] else _or_nothing(value)


def _or_nothing(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"

"""A measurement as a table that people read. Arranges numbers; computes none."""

from __future__ import annotations

import io
import math
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from .exposures import BEYOND_SPACE, CENSORED, EXACT, POOR_FIT

_WIDTH = 126


def written(report: Any) -> str:
    """The tables as plain text."""
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, force_terminal=False)
    console.print(tables(report))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def tables(report: Any) -> RenderableType:
    """What was found for each canary and for each level, and what the twins say; for rich to print."""
    return Group(_canaries(report), "", _levels(report), "", _control(report))


def _canaries(report: Any) -> Table:
    """One line for each canary: the first estimator with its interval, then the others."""
    by_canary: dict[str, list[Any]] = {}
    for each in report:
        by_canary.setdefault(each.canary_id, []).append(each)
    estimators = list(dict.fromkeys(each.estimator for each in report))
    wanted = report.queries_to_extract()
    table = Table("canary", box=None)
    for header in ("inserted", "bits", "queries", f"exposure ({estimators[0]})"):
        table.add_column(header, justify="right")
    for header in ("95 % interval", "worth", "as likely", *estimators[1:]):
        table.add_column(header)
    for canary in report.canaries:
        first, *others = by_canary[canary.id]
        table.add_row(
            escape(canary.id),
            f"{canary.repetitions} ×",
            f"{first.log_perplexity:.2f}",
            _count(wanted.get(canary.id, math.nan)),
            _value(first),
            _interval(first),
            first.status,
            escape(first.reason or ", ".join(first.flags)),
            *map(_short, others),
        )
    return table


def _levels(report: Any) -> Table:
    estimators = list(dict.fromkeys(each.estimator for each in report))
    table = Table("inserted", "canaries", "median", "interval", "sure to", *estimators[1:], box=None)
    for column in table.columns:
        column.justify = "right"
    for level in report.levels:
        count = sum(canary.repetitions == level.repetitions for canary in report.canaries)
        first, *others = (level.values.get(name, math.nan) for name in estimators)
        table.add_row(
            f"{level.repetitions} ×",
            str(count),
            "" if math.isnan(first) else f"{'≥ ' if level.censored else ''}{first:.2f}",
            "" if math.isnan(level.low) else f"{level.low:.2f} to {level.high:.2f}",
            f"{100.0 * level.confidence:.0f} %" if level.confidence else "",
            *("" if math.isnan(other) else f"{other:.2f}" for other in others),
        )
    return table


def _control(report: Any) -> str:
    control = report.control
    lines = []
    if not math.isnan(control.mean):
        lines.append(
            f"Twins, never inserted: {control.mean:.2f} bits on average (1.44 is to be expected; p = "
            f"{control.p_value:.2f})."
        )
    interval = "" if math.isnan(control.low) else f" (95 %: {control.low:.2f} to {control.high:.2f})"
    if not math.isnan(control.difference):
        lines.append(f"A twin costs {control.difference:.2f} bits more than its canary on average{interval}.")
    lines.append(
        "Bits: the canary's log-perplexity. Queries: samples of the model until the fill comes out with even odds. ≥: "
        "nothing that was looked at is as likely; what is sure at 95 % is the interval's lower end."
    )
    if any(BEYOND_SPACE in each.flags for each in report):
        lines.append("The skew-normal extrapolates: some of its values are more than there is, log2|R|.")
    if any(POOR_FIT in each.flags for each in report):
        lines.append("The skew-normal does not fit these references (p < 0.01).")
    lines.append(f"{report.token_rows:,} tokens read in {report.seconds:.1f} s.")
    return "\n".join(lines)


def _interval(exposure: Any) -> str:
    if math.isnan(exposure.low):
        return "–"
    return "exact" if exposure.status == EXACT else f"{exposure.low:.2f} to {exposure.high:.2f}"


def _short(exposure: Any) -> str:
    if math.isnan(exposure.value):
        return "none"
    value = f"{'≥ ' if CENSORED in exposure.flags else ''}{exposure.value:.1f}"
    return value if exposure.status == EXACT else f"{value} ({exposure.low:.1f}–{exposure.high:.1f})"


def _value(exposure: Any) -> str:
    if math.isnan(exposure.value):
        return "none"
    return f"{'≥ ' if CENSORED in exposure.flags else ''}{exposure.value:.2f}"


def _count(number: float) -> str:
    if math.isnan(number):
        return ""
    return f"{number:,.0f}" if number < 1e7 else f"10^{math.log10(number):.1f}" if number < math.inf else "10^308 +"

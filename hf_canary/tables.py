"""A measurement as a table that people read. Arranges numbers; computes none."""

from __future__ import annotations

import io
import math
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from .exposures import CENSORED, NO_ESTIMATE

_WIDTH = 120


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
    """One line for each canary and estimator."""
    table = Table(
        "canary", "inserted", "estimator", "exposure", "95 % interval", "worth", "bits", "queries", "", box=None
    )
    for name in ("inserted", "exposure", "bits", "queries"):
        next(column for column in table.columns if column.header == name).justify = "right"
    repetitions = {canary.id: canary.repetitions for canary in report.canaries}
    wanted = report.queries_to_extract()
    last = None
    for each in report:
        is_first = each.canary_id != last
        last = each.canary_id
        table.add_row(
            escape(each.canary_id) if is_first else "",
            f"{repetitions[each.canary_id]} ×" if is_first else "",
            each.estimator if each.method in ("", each.estimator) else f"{each.estimator}: {each.method}",
            _value(each),
            "" if each.status == NO_ESTIMATE else f"{each.low:.2f} to {each.high:.2f}",
            each.status,
            f"{each.log_perplexity:.2f}" if is_first else "",
            _count(wanted.get(each.canary_id, math.nan)) if is_first else "",
            escape(each.reason or ", ".join(flag for flag in each.flags if flag != CENSORED)),
        )
    return table


def _levels(report: Any) -> Table:
    table = Table("inserted", "canaries", "median exposure", "interval", "sure to", "skew-normal", box=None)
    for column in table.columns:
        column.justify = "right"
    for level in report.levels:
        count = sum(canary.repetitions == level.repetitions for canary in report.canaries)
        auto, skewed = (level.values.get(name, math.nan) for name in ("auto", "skewnorm"))
        table.add_row(
            f"{level.repetitions} ×",
            str(count),
            "" if math.isnan(auto) else f"{'≥ ' if level.censored else ''}{auto:.2f}",
            "" if math.isnan(level.low) else f"{level.low:.2f} to {level.high:.2f}",
            f"{100.0 * level.confidence:.0f} %" if level.confidence else "",
            "" if math.isnan(skewed) else f"{skewed:.2f}",
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
        lines.append(f"A canary is likelier than its twin by {control.difference:.2f} bits on average{interval}.")
    lines.append(
        f"{report.token_rows:,} tokens read in {report.seconds:.1f} s. Exposure and bits (log-perplexity): −log2, "
        "summed. Queries: samples until the fill comes out with even odds. ≥: no candidate that was looked at was as "
        "likely; what is sure at 95 % is the lower end."
    )
    return "\n".join(lines)


def _value(exposure: Any) -> str:
    if math.isnan(exposure.value):
        return "none"
    return f"{'≥ ' if CENSORED in exposure.flags else ''}{exposure.value:.2f}"


def _count(number: float) -> str:
    if math.isnan(number):
        return ""
    return f"{number:,.0f}" if number < 1e7 else f"10^{math.log10(number):.1f}" if number < math.inf else "10^308 +"

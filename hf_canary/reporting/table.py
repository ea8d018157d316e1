"""A measurement as a table that people read. Arranges numbers; computes none."""

from __future__ import annotations

import io
import math
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import counted
from ..estimators.exposures import BEYOND_SPACE, CENSORED, EXACT, IMPOSSIBLE, POOR_FIT
from ..tokenization.contexts import SourceContext
from .terminal import visible

# What the table of two estimators takes, and one estimator more.
_WIDTH, _MORE = 126, 20
# Bits that two decimals do not show.
_SHOWN = 0.005


def render(report: Any) -> str:
    """The tables as plain text, as wide as they are."""
    width = _WIDTH + _MORE * max(0, len(report.estimators) - 2)
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(tables(report, width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def tables(report: Any, width: int) -> RenderableType:
    """What was found for each canary and for each level, and what the twins say; for rich to print in this width."""
    is_whole = width >= _WIDTH + _MORE * max(0, len(report.estimators) - 2)
    return Group(_canaries(report, is_whole=is_whole), "", _levels(report), "", _remarks(report, is_whole=is_whole))


def _canaries(report: Any, *, is_whole: bool) -> Table:
    """One line for each canary: the main estimator with its interval, then, if there is room, the others."""
    by_canary: dict[str, dict[str, Any]] = {}
    for each in report:
        by_canary.setdefault(each.canary_id, {})[each.estimator] = each
    main, *others = report.estimators
    wanted = report.queries_to_extract()
    table = Table("canary", box=None)
    for header in ("inserted", "bits", *["queries"] * is_whole, f"exposure ({main})"):
        table.add_column(header, justify="right")
    for header in ("95 % interval", "worth", *(["as likely", *others] if is_whole else [])):
        table.add_column(header)
    for canary in report.canaries:
        here = by_canary[canary.id]
        first = here[main]
        cells = [canary.id, f"{counted(canary.repetitions)} ×", f"{first.log_perplexity:.2f}"]
        cells += [_count(wanted.get(canary.id, math.nan))] * is_whole
        dead = report.dead.get(canary.id)
        cells += [_value(first), _interval(first), first.status if dead is None else f"dead: {dead}"]
        if is_whole:
            cells += [first.reason or ", ".join(first.flags), *(_short(here[name]) for name in others)]
        table.add_row(*map(visible, cells))
    return table


def _levels(report: Any) -> Table:
    table = Table("inserted", "canaries", "median", "interval", "sure to", *report.estimators[1:], box=None)
    for column in table.columns:
        column.justify = "right"
    alive = [canary for canary in report.canaries if canary.id not in report.dead]
    badly_fitted = {each.estimator for each in report if POOR_FIT in each.flags} & set(report.estimators[1:])
    for level in report.levels:
        count = sum(canary.repetitions == level.repetitions for canary in alive)
        medians = [
            "no fit" if name in badly_fitted else _median(value, is_bound=level.censored[name])
            for name, value in level.values.items()
        ]
        table.add_row(
            f"{level.repetitions} ×{_copies_found(level)}",
            str(count),
            medians[0],
            "" if math.isnan(level.low) else f"{level.low:.2f} to {level.high:.2f}",
            "" if math.isnan(level.low) else f"{100.0 * level.confidence:.0f} %",
            *medians[1:],
        )
    return table


def _median(value: float, *, is_bound: bool) -> str:
    return "unknown" if math.isnan(value) else f"{'≥ ' if is_bound else ''}{value:.2f}"


def _copies_found(level: Any) -> str:
    """The copies that were found, where they are not those that were asked for."""
    if not level.lacks_copies:
        return ""
    fewest, most = level.copies_found
    return f" ({fewest if fewest == most else f'{fewest} to {most}'} found)"


def _remarks(report: Any, *, is_whole: bool) -> Text:
    control = report.control
    lines = []
    if report.dead:
        lines.append(f"Not trained on, and left out of what sums up: {', '.join(report.dead)}.")
    if not report.is_valid:
        lines.append("INVALID: of some repetition level no canary was trained on.")
    if not math.isnan(control.mean):
        chance = "" if math.isnan(control.p_value) else f"; so far from the references by chance: {_p(control.p_value)}"
        lines.append(
            f"Twins, never inserted: {control.mean:.2f} bits on average "
            f"({control.expected:.2f} is to be expected{chance})."
        )
    interval = "" if math.isnan(control.low) else f" (95 %: {control.low:.2f} to {control.high:.2f})"
    if not math.isnan(control.difference):
        lines.append(f"Log-perplexity of twin minus canary: {control.difference:.2f} bits on average{interval}.")
    limits = sorted({math.log2(format.space_size) for format in report.canaries.formats})
    lines.append(
        f"Exposure is {' or '.join(f'{limit:.2f}' for limit in limits)} bits at most (log2|R|). Bits: the canary's "
        "log-perplexity."
        + " Queries: samples of the model until the fill comes out with even odds." * is_whole
        + " ≥: nothing else that was looked at is as likely; sure at 95 % is the interval's lower end."
    )
    if any(IMPOSSIBLE in each.flags for each in report):
        lines.append(
            "The model gives some canaries probability 0: all candidates are at least as likely, and their exposure of "
            "0 says nothing of memorisation. Does it know the fixed text of the format?"
        )
    if any(BEYOND_SPACE in each.flags for each in report):
        lines.append("The skew-normal extrapolates: some of its values are more than there is.")
    if any(POOR_FIT in each.flags for each in report):
        lines.append("The skew-normal does not fit all of these references (p < 0.01): it has no value there.")
    if not is_whole:
        lines.append("A wider terminal shows more, and so does a pipe.")
    lines.append(f"{_behind(report)} {counted(report.token_rows)} tokens read in {report.seconds:.1f} s.")
    return Text("\n").join(map(visible, lines))


def _behind(report: Any) -> str:
    """What the canaries were measured behind, without its text."""
    contexts = list(dict.fromkeys(group.context for group in report.groups))
    if len(contexts) > 1:
        lacks = "; some behind nothing" if any(not context for context in contexts) else ""
        return f"Measured behind {len(contexts)} contexts{lacks}."
    (context,) = contexts or (None,)
    if not context:
        return "Measured behind nothing but what the tokenizer puts there."
    if isinstance(context, str):
        return f"Measured behind a text of {len(context)} character{'s' * (len(context) != 1)}."
    if isinstance(context, SourceContext):
        return "Each fill measured behind a source of its own."
    return f"Measured behind {len(context.ids)} token{'s' * (len(context.ids) != 1)}."


def _interval(exposure: Any) -> str:
    if math.isnan(exposure.low):
        return "–"
    return "exact" if _is_one(exposure) else f"{exposure.low:.2f} to {exposure.high:.2f}"


def _short(exposure: Any) -> str:
    if POOR_FIT in exposure.flags:
        return "no fit"
    if math.isnan(exposure.value):
        return "none"
    value = f"{'≥ ' if CENSORED in exposure.flags else ''}{exposure.value:.1f}"
    return value if _is_one(exposure) else f"{value} ({exposure.low:.1f}–{exposure.high:.1f})"


def _is_one(exposure: Any) -> bool:
    """Exact, and not so that ties would show in the interval."""
    return bool(exposure.status == EXACT and exposure.high - exposure.low < _SHOWN)


def _value(exposure: Any) -> str:
    if math.isnan(exposure.value):
        return "none"
    return f"{'≥ ' if CENSORED in exposure.flags else ''}{exposure.value:.2f}"


def _p(value: float) -> str:
    return f"p = {value:.2f}" if value >= 0.01 else f"p = {value:.1g}"


def _count(number: float) -> str:
    if math.isnan(number):
        return ""
    return f"{number:,.0f}" if number < 1e7 else f"10^{math.log10(number):.1f}" if number < math.inf else "10^308 +"

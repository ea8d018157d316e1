"""Pictures of what was measured: exposure over training, exposure against repetitions, the references' histogram.

Draws numbers that it is given; computes none but the curve of a fitted law. Needs matplotlib (`hf_canary[report]`)
and touches no global state of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..errors import CanaryError, DataError, counted
from ..estimators.exposures import CENSORED, POOR_FIT
from ..estimators.permutation import expected_mean
from ..estimators.skew_normal import SkewNormal
from ..formats.canary_format import CanaryFormat
from ..runtime.atomic_files import replacing
from ..runtime.json_text import json_text, plain
from .exposure import Exposure
from .exposure_report import ExposureReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Levels from few to many repetitions, told apart in print and by the colour-blind (viridis, without its palest end).
_COLOURS = ("#440154", "#31688e", "#21908d", "#5dc863", "#a8b020")


def check_matplotlib() -> None:
    """Raise at once, and not after a training, if pictures cannot be drawn.

    Raises:
        DataError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401 (only to see that it is there)
    except ImportError as error:
        raise DataError(
            "matplotlib", "the package matplotlib, for the pictures", "none", 'pip install "hf_canary[report]"'
        ) from error


def exposure_over_training(records: Sequence[Mapping[str, Any]], space_size: int, file: str | Path) -> None:
    """Exposure of every canary at every measurement, one colour for each repetition level.

    Args:
        records: lines of the callback's record, as dicts.
        space_size: |R|.
        file: the PNG to write.
    """
    figure, axes = _figure()
    own = [r for r in records if r.get("role") == "canary" and r["value"] is not None and POOR_FIT not in r["flags"]]
    levels = sorted({record["repetitions"] for record in own})
    axis = _ExposureAxis(axes, space_size)
    for colour, copies in zip(_colours(len(levels)), levels, strict=True):
        for name in sorted({r["canary_id"] for r in own if r["repetitions"] == copies}):
            best, extrapolated = (
                [r for r in own if (r["canary_id"], r["estimator"]) == (name, estimator)]
                for estimator in ("auto", "skewnorm")
            )
            for lines, style in ((best, {"lw": 1.6}), (extrapolated, {"lw": 1.0, "ls": ":"})):
                heights = [axis.within(r["value"]) for r in lines]
                axes.plot([r["step"] for r in lines], heights, color=colour, **style)
            axis.arrows([(r["step"], r["value"]) for r in best if CENSORED in r["flags"]], colour)
        axes.plot([], [], color=colour, lw=1.6, label=f"inserted {times(copies)}")
    axes.plot([], [], color="black", lw=1.6, label=axis.best("best estimate"))
    values = [r["value"] for r in own if r["estimator"] == "skewnorm"]
    axes.plot([], [], color="black", lw=1.0, ls=":", label=axis.beyond("skew-normal", values))
    axes.set_xlabel("training step")
    axes.set_title("Exposure while the model trains")
    measured = [r["provenance"] for r in records if r.get("role") == "measurement"]
    _save(figure, axes, file, measured[-1] if measured else {}, axis.legend_top)


def exposure_against_repetitions(report: ExposureReport, space_size: int, file: str | Path) -> None:
    """Exposure of every canary against how often it was inserted, with intervals, and the twins (Figure 1).

    Args:
        report: one measurement.
        space_size: |R|.
        file: the PNG to write.
    """
    figure, axes = _figure()
    repetitions = {canary.id: canary.repetitions for canary in report.canaries}
    kinds: tuple[tuple[str, Sequence[Exposure], str, float, dict[str, Any]], ...] = (
        ("canaries, best estimate", report.exposures, "auto", 1.0, {"color": "#31688e"}),
        ("canaries, skew-normal", report.exposures, "skewnorm", 0.84, {"color": "#31688e", "mfc": "white", "ls": ":"}),
        ("twins, never inserted", report.twins, "auto", 1.22, {"color": "#999999"}),
    )
    axis = _ExposureAxis(axes, space_size)
    for label, group, estimator, shift, style in kinds:
        shown = [each for each in group if each.estimator == estimator and not math.isnan(each.value)]
        copies = [repetitions[each.canary_id] for each in shown]
        x = [count * shift * beside for count, beside in zip(copies, _beside(copies), strict=True)]
        heights = [axis.within(each.value) for each in shown]
        # An arrow says that no candidate was as likely; a bar up to log2|R| over it would hide it.
        up = [0.0 if CENSORED in each.flags else axis.within(each.high) - axis.within(each.value) for each in shown]
        down = [height - axis.within(each.low) for height, each in zip(heights, shown, strict=True)]
        axis.arrows([(at, e.value) for at, e in zip(x, shown, strict=True) if CENSORED in e.flags], style["color"])
        label = axis.beyond(label, [e.value for e in shown]) if estimator == "skewnorm" else axis.best(label)
        face = style.get("mfc", style["color"])
        marks = axes.errorbar(
            x, heights, yerr=[down, up], fmt="o", ms=5, elinewidth=1, label=label, color=style["color"], mfc=face
        )
        for bar in marks[2]:
            bar.set_linestyle(style.get("ls", "-"))
    ticks = sorted(set(repetitions.values()))
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("times inserted into the training data")
    axes.set_title("Exposure against repetitions")
    _save(figure, axes, file, report.provenance, axis.legend_top)


def reference_histogram(report: ExposureReport, format: CanaryFormat, file: str | Path) -> None:
    """Log-perplexities of the references with the fitted skew-normal, and where the canaries are (Figure 3).

    Args:
        report: one measurement.
        format: whose canaries; those of the context that most of them stand behind.
        file: the PNG to write.
    """
    figure, axes = _figure()
    group = max((each for each in report.groups if each.format == format), key=lambda each: len(each.canary_ids))
    references = group.references
    finite = references[np.isfinite(references)]
    if finite.size:
        axes.hist(finite, bins=80, density=True, color="#cccccc", label=f"{counted(len(references))} random candidates")
    try:
        law = SkewNormal.fit(references)
        x = np.linspace(references.min() - 0.1 * np.ptp(references), references.max(), 400)
        axes.plot(x, law.density(x), color="black", lw=1.2, label="fitted skew-normal")
    except CanaryError:
        pass  # no skew-normal describes them: the histogram shows why
    levels = sorted({canary.repetitions for canary in report.canaries}, reverse=True)
    canaries = [canary for canary in report.canaries if canary.id in group.canary_ids]
    costs = {each.canary_id: each.log_perplexity for each in report.exposures}
    twins = {each.canary_id: each.log_perplexity for each in report.twins}
    rows = [("twins, never inserted", [twins[canary.id] for canary in canaries], "#999999")]
    for colour, copies in zip(reversed(_colours(len(levels))), levels, strict=True):
        here = [costs[canary.id] for canary in canaries if canary.repetitions == copies]
        rows.insert(1, (f"canaries inserted {times(copies)}", here, colour))
    _rows_of_marks(axes, [row for row in rows if row[1]])
    axes.set_xlabel("log-perplexity in bits (left: likelier)")
    axes.set_ylabel("density")
    axes.set_title("Canaries among random candidates")
    _save(figure, axes, file, report.provenance)


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colours(count: int) -> list[str]:
    return [_COLOURS[min(number, len(_COLOURS) - 1)] for number in range(count)]


def times(copies: int) -> str:
    """How often, in words."""
    return "once" if copies == 1 else f"{copies} times"


def _beside(copies: Sequence[int]) -> list[float]:
    """Factors that set points of one place side by side on a logarithmic axis."""
    seen: dict[int, int] = {}
    factors = []
    for count in copies:
        factors.append(1.0 + 0.05 * seen.get(count, 0))
        seen[count] = seen.get(count, 0) + 1
    return factors


def _rows_of_marks(axes: Axes, rows: Sequence[tuple[str, Sequence[float], str]]) -> None:
    """Above what is drawn so far a row of marks for each kind, so that none hides another."""
    top = axes.get_ylim()[1]
    for number, (label, costs, colour) in reversed(list(enumerate(rows, 1))):  # the legend has the uppermost first
        height = top * (1.0 + 0.09 * number)
        axes.plot(costs, [height] * len(costs), "d", color=colour, ms=7, mec="white", mew=0.6, label=label)
    axes.axhline(top, color="#bbbbbb", lw=0.8)
    axes.set_ylim(0.0, top * (1.09 + 0.09 * len(rows)))
    ticks = [tick for tick in axes.get_yticks() if tick <= top]  # the rows are no densities
    axes.set_yticks(ticks)


class _ExposureAxis:
    """Exposure in bits, with the two marks that give it a meaning beside the axis. It ends a little above log2|R|, the
    most that an exposure can be; what a law extrapolates beyond is drawn at its end, and a word says how far.

    Args:
        axes: of the picture.
        space_size: |R|.

    Attributes:
        legend_top: where the legend has room beside the axis, as a part of its height.
    """

    def __init__(self, axes: Axes, space_size: int) -> None:
        self._axes, self._limit, never_seen = axes, math.log2(space_size), expected_mean(space_size)
        self._end, self._has_arrows = max(1.06 * self._limit, 1.0), False
        for height, words in ((self._limit, "log2|R|: the likeliest of all"), (never_seen, "never seen, on average")):
            axes.axhline(height, color="#bbbbbb", lw=0.8, zorder=0)
            axes.text(1.01, height, words, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
        axes.set_ylim(0.0, 1.04 * self._end)
        axes.set_ylabel("exposure in bits")
        self.legend_top = 0.86

    def within(self, bits: float) -> float:
        """The height of so many bits."""
        return min(bits, self._end)

    def arrows(self, points: Iterable[tuple[float, float]], colour: str) -> None:
        """Mark what references cannot bound from above."""
        for x, y in points:
            self._has_arrows = True
            tip = min(y + 0.07 * self._end, 1.03 * self._end)
            self._axes.annotate("", (x, tip), (x, y), arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.2})

    def best(self, label: str) -> str:
        """Says what an arrow means, if there is one so far."""
        return f"{label} (arrow: at least)" if self._has_arrows else label

    def beyond(self, label: str, values: Iterable[float]) -> str:
        """Says how far values go beyond log2|R|, if they do."""
        most = max(values, default=0.0)
        return f"{label}, extrapolated" + (f" up to {most:.0f} bits" if most > self._limit else "")


def _save(figure: Figure, axes: Axes, file: str | Path, provenance: Mapping[str, Any], legend_top: float = 0.9) -> None:
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, legend_top), fontsize=9)
    # Other kinds of files take no words of ours.
    words = {"Software": f"hf_canary {__version__}", "Comment": json_text(plain(provenance))}
    # A line of one canary names it, to whoever has the model.
    with replacing(file, private=True) as beside:
        figure.savefig(beside, dpi=150, metadata=words if beside.suffix.lower() == ".png" else None)

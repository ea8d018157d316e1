"""What exposures come to: repetition levels, the control, and the floats that are logged.

Sums up what it is given and estimates nothing. Knows no set of canaries and no file.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..estimators.exposures import CENSORED, NOT_FINITE, POOR_FIT
from ..estimators.permutation import NEVER_SEEN, expected_mean, permutation_p
from ..estimators.summaries import mean_interval, median_interval
from .exposure import Exposure, Group


@dataclass(frozen=True)
class Level:
    """The canaries of one repetition level, summed up.

    Args:
        repetitions: copies inserted of each, in all formats together.
        values: median exposure in bits, by estimator; NaN where the estimator says nothing of some of them, since those
            are not the same as the others.
        censored: by estimator, whether the median may be too low, because no candidate was as likely as some canary in
            it.
        low: lower end of the interval of the median by the main estimator (`auto`, or the first), from the order of the
            canaries' own intervals: it says how far canaries inserted so often differ, and nothing of other trainings.
        high: upper end.
        confidence: of that interval: 95 % if there are six canaries and more, and what fewer can give.
        copies_found: the fewest and the most copies of any of its canaries that are trained on, those that are dead
            too; None where that is not known, or of several levels.
    """

    repetitions: int
    values: Mapping[str, float]
    censored: Mapping[str, bool]
    low: float = math.nan
    high: float = math.nan
    confidence: float = 0.0
    copies_found: tuple[int, int] | None = None

    @property
    def lacks_copies(self) -> bool:
        """Whether some of its canaries have another number of copies in the training data than was asked for."""
        return self.copies_found is not None and self.copies_found != (self.repetitions, self.repetitions)


@dataclass(frozen=True)
class Control:
    """What the twins say, which were drawn beside the canaries and left out.

    Args:
        mean: their mean exposure in bits by the main estimator; `expected` is to be expected.
        p_value: how often twins never seen would stand so far from where they do among the references of their formats,
            too likely or too unlikely: an exact permutation test of all twins, whatever is known of their exposures;
            small where something is wrong with them. NaN where there are no references.
        difference: mean of log-perplexity of the twin minus that of its canary, in bits; 0 without memorisation.
        low: lower end of its 95 % interval (paired, Student's).
        high: upper end.
        expected: the mean exposure of as many fills never seen: 1.44 bits in large spaces, less in small ones.
    """

    mean: float
    p_value: float
    difference: float
    low: float
    high: float
    expected: float = NEVER_SEEN


def level_of(
    repetitions: Sequence[int], live: Sequence[Exposure], estimators: Sequence[str], copies_found: Sequence[int]
) -> Level:
    """The canaries of one level, or of several as one, named by the first.

    Args:
        repetitions: of the level.
        live: exposures of its canaries that were trained on, by all estimators.
        estimators: the main one first.
        copies_found: of its canaries in the training data, as far as is known.
    """
    by = {name: _of_numbers([each for each in live if each.estimator == name]) for name in estimators}
    values = {name: statistics.median(e.value for e in each) if each else math.nan for name, each in by.items()}
    censored = {name: _is_censored(each) for name, each in by.items()}
    main = by.get(estimators[0], []) if estimators else []
    ends = median_interval([each.low for each in main], [each.high for each in main])
    found = (min(copies_found), max(copies_found)) if copies_found and len(repetitions) == 1 else None
    return Level(repetitions[0], values, censored, *ends, found)


def control_of(
    live: Sequence[Exposure],
    twins: Sequence[Exposure],
    main: Sequence[Exposure],
    groups: Sequence[Group],
    space_sizes: Mapping[str, int],
) -> Control:
    """What the twins say.

    Args:
        live: exposures of the canaries that were trained on.
        twins: exposures of the twins.
        main: those of them by the main estimator.
        groups: with the references.
        space_sizes: of the canaries' formats, by the canaries' ids.
    """
    numbers = [each for each in main if not math.isnan(each.value)]
    of_canary = {each.canary_id: each.log_perplexity for each in live}
    of_twin = {each.canary_id: each.log_perplexity for each in twins}
    pairs = np.array([of_twin[name] - of_canary[name] for name in of_canary if name in of_twin])
    p_value = permutation_p(
        [
            (np.array([of_twin[name] for name in group.canary_ids if name in of_twin]), group.references)
            for group in groups
        ]
    )
    expected = [expected_mean(space_sizes[each.canary_id]) for each in numbers if each.canary_id in space_sizes]
    return Control(
        _mean([each.value for each in numbers]),
        p_value,
        *mean_interval(pairs[np.isfinite(pairs)]),
        _mean(expected) if expected else NEVER_SEEN,
    )


def summary_keys(levels: Iterable[str]) -> list[str]:
    """The keys of a summary, by the ends of those of its levels, such as `x4`."""
    parts = ["mean", "max", *levels]
    keys = [f"exposure_{part}{end}" for part in parts for end in ("", "_low", "_high")]
    keys += [f"exposure_skewnorm_{part}" for part in parts]
    return [*keys, "exposure_censored", "exposure_twin_mean", "exposure_seconds"]


def summary_of(
    live: Sequence[Exposure], main: str, levels: Mapping[str, tuple[Level, Collection[str]]]
) -> dict[str, float]:
    """Plain floats, as `ExposureReport.summary` has them; of the twins nothing.

    Args:
        live: exposures of the canaries that were trained on.
        main: the name of the main estimator.
        levels: by the end of their keys, with the ids of their canaries.
    """
    summary = dict.fromkeys(summary_keys(levels), math.nan)
    own = [each for each in live if each.estimator == main and not math.isnan(each.value)]
    if own:
        for end, of in (("", "value"), ("_low", "low"), ("_high", "high")):
            numbers = [getattr(each, of) for each in own]
            summary[f"exposure_mean{end}"], summary[f"exposure_max{end}"] = statistics.fmean(numbers), max(numbers)
    for name, (level, ids) in levels.items():
        summary[f"exposure_{name}"] = level.values.get(main, math.nan)
        is_known = not math.isnan(summary[f"exposure_{name}"])
        for end in ("low", "high") if is_known else ():
            here = [getattr(each, end) for each in own if each.canary_id in ids]
            summary[f"exposure_{name}_{end}"] = statistics.median(here)
    fitted = [each for each in live if each.estimator == "skewnorm" and not math.isnan(each.value)]
    if fitted and not any(POOR_FIT in each.flags for each in fitted):
        values = [each.value for each in fitted]
        summary["exposure_skewnorm_mean"], summary["exposure_skewnorm_max"] = statistics.fmean(values), max(values)
        for name, (level, _) in levels.items():
            summary[f"exposure_skewnorm_{name}"] = level.values.get("skewnorm", math.nan)
    summary["exposure_censored"] = float(sum(CENSORED in each.flags for each in live if each.estimator == main))
    return summary


def _of_numbers(exposures: list[Exposure]) -> list[Exposure]:
    """Without canaries whose costs are no numbers; none at all, where the estimator says nothing of another."""
    kept = [each for each in exposures if NOT_FINITE not in each.flags]
    return [] if any(math.isnan(each.value) for each in kept) else kept


def _is_censored(exposures: list[Exposure]) -> bool:
    """Whether their median may be too low; one between two values has a part of the greater."""
    lowest = min((each.value for each in exposures if CENSORED in each.flags), default=math.inf)
    return bool(exposures) and lowest <= statistics.median_high([each.value for each in exposures])


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan

"""What a measurement found: exposures, repetition levels, the control, and what they come to. Plain data.

Sums up what it is given and estimates nothing. Knows no model and no walk.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..arguments import check_number
from ..arrays import Floats
from ..canaries import CanarySet
from ..estimators.exposures import CENSORED, CONFIDENCE, NOT_FINITE, POOR_FIT, queries
from ..estimators.permutation import NEVER_SEEN, expected_mean, permutation_p
from ..formats.canary_format import CanaryFormat
from ..runtime.atomic_files import write_json
from ..tokenization.contexts import Before

# What a record says instead of numbers, where they would say that nothing was memorised.
_INVALID = {**dict.fromkeys(("value", "low", "high", "at_least")), "status": "invalid", "valid": False}


@dataclass(frozen=True)
class Exposure:
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
        known: canaries and twins of the format, those of other groups too: no reference is one of them.
        context: what stands before them, a text or tokens; None for nothing but what the tokenizer puts there.
    """

    format: CanaryFormat
    canary_ids: tuple[str, ...]
    references: Floats
    known: int
    context: Before = None


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
        found: the fewest and the most copies of any of its canaries that are trained on, those that are dead too; None
            where that is not known, or of several levels.
    """

    repetitions: int
    values: Mapping[str, float]
    censored: Mapping[str, bool]
    low: float = math.nan
    high: float = math.nan
    confidence: float = 0.0
    found: tuple[int, int] | None = None

    @property
    def lacks_copies(self) -> bool:
        """Whether some of its canaries have another number of copies in the training data than was asked for."""
        return self.found is not None and self.found != (self.repetitions, self.repetitions)


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


@dataclass(frozen=True)
class ExposureReport:
    """What one measurement at a model found; iterating gives an `Exposure` for each canary and estimator.

    `print(report)` shows a table.

    Args:
        exposures: of the canaries, canary by canary, estimators in the order asked for.
        twins: the same for the fills that were drawn beside the canaries and left out.
        canaries: the set that was measured.
        groups: the canaries of each format by what stands before them, with the candidates they were compared with.
        seconds: how long the measurement took.
        fill_bits: for each canary, by id, −log2 of the probability that the model writes its fill, given what stands
            before: what `queries_to_extract` comes from.
        token_rows: tokens that were fed to the model.
        dead: of the canaries that were not trained on, by id, what became of them. They are left out of all that sums
            up; where they are all of a repetition level, the report is not valid, and its summary is NaN.
        copies: by id, numbers of copies beside those that were asked for: `copies_found` in the training data,
            `copies_trained` in the batches so far.
    """

    exposures: tuple[Exposure, ...]
    twins: tuple[Exposure, ...]
    canaries: CanarySet
    groups: tuple[Group, ...]
    seconds: float
    fill_bits: Mapping[str, float] = field(default_factory=dict)
    token_rows: int = 0
    dead: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Exposure]:
        return iter(self.exposures)

    def __len__(self) -> int:
        return len(self.exposures)

    def __str__(self) -> str:
        from .table import written  # rich is slow to import, and a training run does without

        return written(self)

    @property
    def estimators(self) -> tuple[str, ...]:
        """Those that were asked for, the main one first: `auto`, or what was asked for first."""
        names = list(dict.fromkeys(each.estimator for each in self.exposures))
        return tuple(sorted(names, key=lambda name: name != "auto"))

    @property
    def references(self) -> dict[CanaryFormat, Floats]:
        """For each format the log-perplexities of the random candidates, in bits; where its canaries stand behind
        several contexts, of the one that most of them stand behind.
        """
        by_size = sorted(self.groups, key=lambda group: len(group.canary_ids))
        found = {group.format: group.references for group in by_size}
        return {format: found[format] for format in self.canaries.formats if format in found}

    @property
    def is_valid(self) -> bool:
        """Whether a canary of each repetition level was trained on, as far as is known."""
        return {canary.repetitions for canary in self.canaries if canary.id not in self.dead} == set(
            self.canaries.repetitions
        )

    @property
    def live(self) -> tuple[Exposure, ...]:
        """The exposures of the canaries that were trained on."""
        return tuple(each for each in self.exposures if each.canary_id not in self.dead)

    @property
    def levels(self) -> tuple[Level, ...]:
        """One entry for each repetition level, ascending."""
        return tuple(self.level(copies) for copies in self.canaries.repetitions)

    def level(self, *repetitions: int) -> Level:
        """The canaries that were inserted so often; several levels as one, named by the first."""
        ids = [canary.id for canary in self.canaries if canary.repetitions in repetitions]
        here = [each for each in self.live if each.canary_id in ids]
        by = {name: _of_numbers([e for e in here if e.estimator == name]) for name in self.estimators}
        values = {name: statistics.median(e.value for e in each) if each else math.nan for name, each in by.items()}
        censored = {name: _is_censored(each) for name, each in by.items()}
        main = by.get(self.estimators[0], []) if self.estimators else []
        ends = median_interval([e.low for e in main], [e.high for e in main])
        copies = [self.copies.get(each, {}).get("copies_found") for each in ids]
        known = [count for count in copies if count is not None]
        found = (min(known), max(known)) if known and len(repetitions) == 1 else None
        return Level(repetitions[0], values, censored, *ends, found)

    @property
    def control(self) -> Control:
        """What the twins say."""
        main = [e for e in self.twins if e.estimator in self.estimators[:1] and not math.isnan(e.value)]
        values = [e.value for e in main]
        of_canary = {each.canary_id: each.log_perplexity for each in self.live}
        of_twin = {each.canary_id: each.log_perplexity for each in self.twins}
        pairs = np.array([of_twin[name] - of_canary[name] for name in of_canary if name in of_twin])
        pairs = pairs[np.isfinite(pairs)]
        mean, low, high = math.nan, math.nan, math.nan
        if pairs.size:
            mean = float(pairs.mean())
        if pairs.size > 1:
            far = float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, pairs.size - 1) * stats.sem(pairs))
            low, high = mean - far, mean + far
        p_value = permutation_p(
            [
                (np.array([of_twin[name] for name in group.canary_ids if name in of_twin]), group.references)
                for group in self.groups
            ]
        )
        sizes = {canary.id: canary.format.space_size for canary in self.canaries}
        expected = [expected_mean(sizes[e.canary_id]) for e in main if e.canary_id in sizes]
        return Control(_mean(values), p_value, mean, low, high, _mean(expected) if expected else NEVER_SEEN)

    def queries_to_extract(self, probability: float = 0.5) -> dict[str, float]:
        """How often one must sample from the model until a canary has come out with this probability, by id.

        Plain sampling at temperature 1 after what stands before the fill: n = ln(1−p) / ln(1 − 2^−c), c the fill's
        bits, rounded up; infinite where it is beyond float64 (Hayes et al. 2024: (n, p)-discoverable extraction).

        Raises:
            ArgumentError: a probability that is none, or 0 or 1.
        """
        expected = "a number between 0 and 1"
        check_number("probability", probability, lambda p: 0.0 < p < 1.0, expected, remedy="Give 0.5 for even odds.")
        return {name: queries(bits, probability) for name, bits in self.fill_bits.items()}

    def summary(self) -> dict[str, float]:
        """Plain floats: exposure in bits by the main estimator and by the skew-normal, and of the twins.

        Keys: `exposure_mean`, `exposure_max`, `exposure_x{repetitions}` (the median of the level), and each of them
        with `_low` and `_high` behind it: the same of the ends of the canaries' own intervals. Where no candidate that
        was looked at is as likely as a canary, the value itself is a lower bound, and `_high` is log2|R|;
        `exposure_censored` is how many canaries are so. The first three with `exposure_skewnorm_`: NaN where the law
        does not fit the references. `exposure_twin_mean` and `exposure_seconds`. NaN where there is nothing to say, and
        all of it where the report is not valid.
        """
        return self.summary_by({f"x{copies}": (copies,) for copies in self.canaries.repetitions})

    def summary_by(self, levels: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """The same, with these levels: by the end of their keys, the numbers of repetitions that are one."""
        summary = dict.fromkeys(summary_keys(levels), math.nan)
        if not self.is_valid:
            return summary
        main = self.estimators[0] if self.estimators else "auto"
        own = [e for e in self.live if e.estimator == main and not math.isnan(e.value)]
        summed = {name: self.level(*copies) for name, copies in levels.items()}
        if own:
            for end, of in (("", "value"), ("_low", "low"), ("_high", "high")):
                numbers = [getattr(each, of) for each in own]
                summary[f"exposure_mean{end}"], summary[f"exposure_max{end}"] = statistics.fmean(numbers), max(numbers)
        for name, level in summed.items():
            ids = {canary.id for canary in self.canaries if canary.repetitions in levels[name]}
            here = [each for each in own if each.canary_id in ids]
            is_known = not math.isnan(level.values.get(main, math.nan))
            summary[f"exposure_{name}"] = level.values.get(main, math.nan)
            for end in ("low", "high") if is_known else ():
                summary[f"exposure_{name}_{end}"] = statistics.median(getattr(each, end) for each in here)
        fitted = [e for e in self.live if e.estimator == "skewnorm" and not math.isnan(e.value)]
        if fitted and not any(POOR_FIT in each.flags for each in fitted):
            values = [each.value for each in fitted]
            summary["exposure_skewnorm_mean"], summary["exposure_skewnorm_max"] = statistics.fmean(values), max(values)
            for name, level in summed.items():
                summary[f"exposure_skewnorm_{name}"] = level.values.get("skewnorm", math.nan)
        summary["exposure_censored"] = float(sum(CENSORED in e.flags for e in self.live if e.estimator == main))
        summary["exposure_twin_mean"] = self.control.mean
        summary["exposure_seconds"] = self.seconds
        return summary

    def records(self) -> list[dict[str, Any]]:
        """One plain dict for each exposure, twins included, ready for JSON; it never holds a canary's text."""
        repetitions = {canary.id: canary.repetitions for canary in self.canaries}
        records = []
        for role, group in (("canary", self.exposures), ("twin", self.twins)):
            for each in group:
                record = {"role": role, "repetitions": repetitions[each.canary_id]} | plain(asdict(each))
                if role == "canary" and (self.copies or self.dead):
                    record |= {**self.copies.get(each.canary_id, {}), "dead": self.dead.get(each.canary_id, "")}
                records.append(record if self.is_valid else record | _INVALID)
        return records

    def save(self, path: str | Path) -> None:
        """Write all of it but the references as JSON; NaN and infinity become null.

        Whoever has it and the model can tell the fills by their costs: none but the owner may read the file.
        """
        write_json(path, self.as_json(), private=True)

    def as_json(self) -> dict[str, Any]:
        """All of it but the references, as strict JSON takes it; NaN and infinity are None."""
        content: dict[str, Any] = plain(
            {
                "summary": self.summary(),
                "valid": self.is_valid,
                "dead": dict(self.dead),
                "levels": [asdict(level) for level in self.levels],
                "control": asdict(self.control),
                "queries_to_extract": self.queries_to_extract(),
                "token_rows": self.token_rows,
                "formats": [
                    {"template": format.template, "source": format.source, "space_size": format.space_size}
                    for format in self.canaries.formats
                ],
                "confidence": CONFIDENCE,
                "exposures": self.records(),
            }
        )
        return content


def summary_keys(levels: Iterable[str]) -> list[str]:
    """The keys of a summary, by the ends of those of its levels, such as `x4`."""
    parts = ["mean", "max", *levels]
    keys = [f"exposure_{part}{end}" for part in parts for end in ("", "_low", "_high")]
    keys += [f"exposure_skewnorm_{part}" for part in parts]
    return [*keys, "exposure_censored", "exposure_twin_mean", "exposure_seconds"]


def median_interval(lows: Sequence[float], highs: Sequence[float]) -> tuple[float, float, float]:
    """The ends of an interval of the median, and its confidence: the j-th values from both ends.

    j is the greatest with P[Bin(n, ½) < j] ≤ 2.5 %, and 1 where there is none: it takes six values for 95 %. Values
    that are only known to lie between `lows` and `highs` enter with the end that is farther out.

    Example:
        >>> low, high, confidence = median_interval(range(10), range(10))
        >>> low, high, round(confidence, 3)
        (1, 8, 0.979)
    """
    count = len(lows)
    if not count:
        return math.nan, math.nan, 0.0
    place = max(1, int(stats.binom.ppf((1.0 - CONFIDENCE) / 2.0, count, 0.5)))
    confidence = 1.0 - 2.0 * float(stats.binom.cdf(place - 1, count, 0.5))
    return sorted(lows)[place - 1], sorted(highs)[-place], max(0.0, confidence)


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


def plain(value: Any) -> Any:
    """As strict JSON takes it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (tuple, list)) else value

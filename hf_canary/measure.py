"""Measurement: model + tokenizer + texts → log-perplexities; model + tokenizer + canaries → exposures.

Chooses walk and estimator and joins their results to the canaries. No formula stands here, and nothing about trainers.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import exposures
from .canaries import CanarySet
from .encoding import encode
from .errors import DataError, is_int, shown
from .exposures import CENSORED, Estimate, Floats
from .files import write_json
from .formats import CanaryFormat
from .scoring import log_perplexity

# `auto` is the estimator that can be trusted at the least cost; with these walks that is the sampled one.
_ESTIMATORS: Mapping[str, Callable[..., list[Estimate]]] = {
    "auto": exposures.sampled,
    "sampled": exposures.sampled,
    "skewnorm": lambda costs, references, space_size, known: exposures.skewnorm(costs, references, space_size),
}


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
        num_references: random candidates that it was compared with.
        flags: what a reader must know, such as `censored`: no reference was as likely, and only `low` is sure.
    """

    canary_id: str
    estimator: str
    value: float
    low: float
    high: float
    log_perplexity: float
    num_references: int
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Level:
    """The canaries of one repetition level, summed up.

    Args:
        repetitions: copies of each canary in the training data.
        values: median exposure in bits, by estimator.
        censored: whether the `auto` median may be too low, because no reference was as likely as some canary in it.
    """

    repetitions: int
    values: Mapping[str, float]
    censored: bool


@dataclass(frozen=True)
class ExposureReport:
    """What one look at a model found; iterating gives an `Exposure` for each canary and estimator.

    Args:
        exposures: of the canaries, canary by canary, estimators in the order asked for.
        twins: the same for the fills that were drawn beside the canaries and left out.
        canaries: the set that was measured.
        references: for each format, the log-perplexities of the random candidates, in bits.
        seconds: how long the look took.
    """

    exposures: tuple[Exposure, ...]
    twins: tuple[Exposure, ...]
    canaries: CanarySet
    references: Mapping[CanaryFormat, Floats]
    seconds: float

    def __iter__(self) -> Iterator[Exposure]:
        return iter(self.exposures)

    def __len__(self) -> int:
        return len(self.exposures)

    @property
    def levels(self) -> tuple[Level, ...]:
        """One entry for each repetition level, ascending."""
        repetitions = {canary.id: canary.repetitions for canary in self.canaries}
        levels = []
        for copies in self.canaries.repetitions:
            here = [each for each in self.exposures if repetitions[each.canary_id] == copies]
            names = dict.fromkeys(each.estimator for each in here)
            values = {name: _median([e.value for e in here if e.estimator == name]) for name in names}
            lowest = min((e.value for e in here if CENSORED in e.flags), default=math.inf)
            numbers = [e.value for e in here if e.estimator == "auto" and not math.isnan(e.value)]
            # A median between two values has a part of the greater.
            levels.append(Level(copies, values, bool(numbers) and lowest <= statistics.median_high(numbers)))
        return tuple(levels)

    def summary(self) -> dict[str, float]:
        """Plain floats: exposure in bits by the `auto` estimator and by the skew-normal, and of the twins.

        Keys: `exposure_mean`, `exposure_max`, `exposure_x{repetitions}` (the median of the level), the same three
        with `exposure_skewnorm_`, `exposure_censored` (how many canaries were likelier than every reference, so that
        the numbers before are too low for them), `exposure_twin_mean` and `exposure_seconds`. NaN where there is
        nothing to say.
        """
        summary = dict.fromkeys(summary_keys(self.canaries), math.nan)
        for estimator, prefix in _SUMMARISED.items():
            values = [e.value for e in self.exposures if e.estimator == estimator and not math.isnan(e.value)]
            if values:
                summary[f"{prefix}mean"], summary[f"{prefix}max"] = statistics.fmean(values), max(values)
            for level in self.levels:
                summary[f"{prefix}x{level.repetitions}"] = level.values.get(estimator, math.nan)
        twins = [e.value for e in self.twins if e.estimator == "auto" and not math.isnan(e.value)]
        summary["exposure_censored"] = float(
            sum(CENSORED in each.flags for each in self.exposures if each.estimator == "auto")
        )
        summary["exposure_twin_mean"] = statistics.fmean(twins) if twins else math.nan
        summary["exposure_seconds"] = self.seconds
        return summary

    def records(self) -> list[dict[str, Any]]:
        """One plain dict for each exposure, twins included, ready for JSON; it never holds a canary's text."""
        repetitions = {canary.id: canary.repetitions for canary in self.canaries}
        return [
            {"role": role, "repetitions": repetitions[each.canary_id]}
            | {name: _plain(value) for name, value in asdict(each).items()}
            for role, group in (("canary", self.exposures), ("twin", self.twins))
            for each in group
        ]

    def save(self, path: str | Path) -> None:
        """Write summary and records as JSON; NaN and infinity become null."""
        write_json(path, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Summary and records as strict JSON takes them; NaN and infinity are None."""
        summary = {name: _plain(value) for name, value in self.summary().items()}
        return {"summary": summary, "exposures": self.records()}


_SUMMARISED = {"auto": "exposure_", "skewnorm": "exposure_skewnorm_"}


def summary_keys(canaries: CanarySet) -> list[str]:
    """The keys of `ExposureReport.summary()`, which depend on the repetition levels alone."""
    parts = ["mean", "max", *(f"x{copies}" for copies in canaries.repetitions)]
    keys = [prefix + part for prefix in _SUMMARISED.values() for part in parts]
    return [*keys, "exposure_censored", "exposure_twin_mean", "exposure_seconds"]


def measure_exposure(
    model: Any,
    tokenizer: Any,
    canaries: CanarySet,
    *,
    estimators: Sequence[str] = ("auto", "skewnorm"),
    num_references: int = 10_000,
    seed: int = 0,
    context: str | None = None,
    end: bool = False,
    batch_size: int | None = None,
    max_memory: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> ExposureReport:
    """The exposure of every canary and twin under a model (§4).

    For each format the canaries, their twins and `num_references` random other fills are scored in one walk; all
    canaries of a format share the references. Where the format has no more fills than that, all are scored and the
    result is exact. The model's mode and every random state are left as they were.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        canaries: the set that was injected.
        estimators: `sampled` (Theorem 1, exact interval), `skewnorm` (§4.2, by extrapolation), or `auto`: the one to
            rely on, at present `sampled`.
        num_references: random candidates of each format.
        seed: draws the references; the same seed gives the same ones.
        context: text before each canary; conditioned on, not summed.
        end: whether the end token follows each candidate and is summed; then candidates may be prefixes of others.
        batch_size: rows of one forward pass; None lets the memory decide.
        max_memory: bytes that logits and states may take, as in `log_perplexity`; None is 1 GiB.
        progress: called with the number of texts scored since the last call.

    Returns:
        A report; iterating gives an `Exposure` in bits (higher means better memorised) for each canary and estimator,
        in order. `.twins` has those of the fills left out, `.summary()` plain floats, `.save(path)` writes JSON.

    Raises:
        DataError: an unknown estimator, no canaries, a number of references below 1.
        FormatError: a format some candidates of which are prefixes of others.
        ModelError: what `log_perplexity` raises.

    Example:
        >>> from hf_canary import CanaryFormat, CanarySet
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["my pin is 0123456789"])
        >>> model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8))
        >>> canaries = CanarySet.draw(CanaryFormat("my pin is {digit:4}"), per_repetition=1, seed=0)
        >>> report = measure_exposure(model, tokenizer, canaries, estimators=["sampled"], num_references=100)
        >>> [exposure.canary_id for exposure in report]
        ['f0-x1-0', 'f0-x4-0', 'f0-x16-0']
    """
    started = time.monotonic()
    check_request(canaries, num_references, estimators, end=end)
    options: dict[str, Any] = {"context": context, "end": end, "batch_size": batch_size, "max_memory": max_memory}
    found: dict[tuple[str, str], list[Exposure]] = {}
    references: dict[CanaryFormat, Floats] = {}
    for format in canaries.formats:
        group = [canary for canary in canaries if canary.format == format]
        fills = [canary.fill for canary in group] + [canary.twin for canary in group]
        count = min(num_references, format.space_size - len(fills))
        # Named apart from the draw of the canaries: with one seed for both, references would lie beside canaries.
        fills += format.sample(count, f"references {seed}", exclude=fills)
        texts = [format.render(fill) for fill in fills]
        costs = log_perplexity(model, tokenizer, texts, progress=progress, **options)
        known, references[format] = costs[: 2 * len(group)], costs[2 * len(group) :]
        for estimator in estimators:
            estimates = _ESTIMATORS[estimator](known, references[format], format.space_size, known=known)
            both = [
                Exposure(canary.id, estimator, e.value, e.low, e.high, float(cost), count, e.flags)
                for canary, e, cost in zip(group + group, estimates, known, strict=True)
            ]
            for each, role in zip(both, ["canary"] * len(group) + ["twin"] * len(group), strict=True):
                found.setdefault((role, each.canary_id), []).append(each)
    return ExposureReport(
        exposures=tuple(each for canary in canaries for each in found["canary", canary.id]),
        twins=tuple(each for canary in canaries for each in found["twin", canary.id]),
        canaries=canaries,
        references=references,
        seconds=time.monotonic() - started,
    )


def check_measurable(model: Any, tokenizer: Any, canaries: CanarySet, *, context: str | None = None) -> None:
    """Encode every entry of every hole and score a few candidates, so that what would make a look fail fails now.

    Raises:
        ModelError: what `log_perplexity` raises.
    """
    for format in canaries.formats:
        covering = format.covering_candidates()
        encode(tokenizer, covering, context=context)
        texts = [text for canary in canaries if canary.format == format for text in (canary.text, canary.twin_text)]
        log_perplexity(model, tokenizer, texts + covering[:16], context=context)


def check_request(
    canaries: CanarySet, num_references: int, estimators: Sequence[str] = ("auto",), *, end: bool = False
) -> None:
    """Refuse what cannot be measured on any model.

    Raises:
        DataError: an unknown estimator, no canaries, a number of references below 1.
        FormatError: a format some candidates of which are prefixes of others.
    """
    if len(canaries) == 0:
        raise DataError("canaries", "at least one canary", "an empty set", "Draw one: CanarySet.draw(...).")
    for format in canaries.formats:
        if not end:
            format.check_prefix_free()
    unknown = [name for name in estimators if name not in _ESTIMATORS]
    if isinstance(estimators, str) or unknown or not estimators:
        raise DataError(
            "estimators",
            f"a list of some of {', '.join(_ESTIMATORS)}",
            shown(estimators),
            'Give the names in a list, such as ["auto", "skewnorm"].',
        )
    if not is_int(num_references) or num_references < 1:
        raise DataError("num_references", "a whole number, 1 or more", shown(num_references), "Leave it at 10000.")


def _median(values: list[float]) -> float:
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.median(numbers) if numbers else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return list(value) if isinstance(value, tuple) else value

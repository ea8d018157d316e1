"""What a measurement found, as plain data that can be printed, summed up and saved. Knows no model and no walk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..arguments import check_number
from ..arrays import Floats
from ..canaries import CanarySet
from ..estimators.exposures import CONFIDENCE, queries
from ..formats.canary_format import CanaryFormat
from ..runtime.atomic_files import write_json
from ..runtime.json_text import plain
from .exposure import Exposure, Group
from .summaries import Control, Level, control_of, level_of, summary_keys, summary_of

# What a record says instead of numbers, where they would say that nothing was memorised.
_INVALID = {**dict.fromkeys(("value", "low", "high", "at_least")), "status": "invalid", "valid": False}


@dataclass(frozen=True)
class ExposureReport:
    """What one measurement of a model found; iterating gives an `Exposure` for each canary and estimator.

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
        provenance: what it is of, for the files that it goes into: version, date, model, canaries, contexts, numbers.
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
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Exposure]:
        return iter(self.exposures)

    def __len__(self) -> int:
        return len(self.exposures)

    def __str__(self) -> str:
        from .table import render  # rich is slow to import, and a training run does without

        return render(self)

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
        found = [self.copies[each].get("copies_found") for each in ids if each in self.copies]
        return level_of(
            repetitions,
            [each for each in self.live if each.canary_id in ids],
            self.estimators,
            [count for count in found if count is not None],
        )

    @property
    def control(self) -> Control:
        """What the twins say."""
        main = [each for each in self.twins if each.estimator in self.estimators[:1]]
        sizes = {canary.id: canary.format.space_size for canary in self.canaries}
        return control_of(self.live, self.twins, main, self.groups, sizes)

    def queries_to_extract(self, probability: float = 0.5) -> dict[str, float]:
        """How often one must sample from the model until a canary has come out with this probability, by id.

        Plain sampling at temperature 1 after what stands before the fill: n = ln(1−p) / ln(1 − 2^−c), c the fill's
        bits, rounded up; infinite where it is beyond float64 (Hayes et al. 2024: (n, p)-discoverable extraction).

        Raises:
            ArgumentError: a probability that is none, or 0 or 1.
        """
        expected = "a number between 0 and 1"
        probability = check_number(
            "probability", probability, lambda p: 0.0 < p < 1.0, expected, remedy="Give 0.5 for even odds."
        )
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
        if not self.is_valid:
            return dict.fromkeys(summary_keys(levels), math.nan)
        repetitions = {canary.id: canary.repetitions for canary in self.canaries}
        main = self.estimators[0] if self.estimators else "auto"
        found = {
            name: (self.level(*copies), {each for each, number in repetitions.items() if number in copies})
            for name, copies in levels.items()
        }
        return summary_of(self.live, main, found) | {
            "exposure_twin_mean": self.control.mean,
            "exposure_seconds": self.seconds,
        }

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
        """All of it but the references, as strict JSON takes it: NaN and infinity are None, and whole numbers of more
        than 603 digits hexadecimal text; with what it is of (`provenance`), and without a canary's text.
        """
        content: dict[str, Any] = plain(
            {
                "provenance": dict(self.provenance),
                "summary": self.summary(),
                "valid": self.is_valid,
                "dead": dict(self.dead),
                "levels": [asdict(level) for level in self.levels],
                "control": asdict(self.control),
                "queries_to_extract": self.queries_to_extract(),
                "token_rows": self.token_rows,
                "formats": [
                    {"template": format.template, "source": format.source}
                    | {"space_size": format.space_size, "space_bits": math.log2(format.space_size)}
                    for format in self.canaries.formats
                ],
                "confidence": CONFIDENCE,
                "exposures": self.records(),
            }
        )
        return content

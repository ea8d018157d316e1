"""Before the first step of a training: what is refused and warned of, and the record made ready. Measures nothing."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..canaries import CanarySet
from ..errors import DataError, is_int, shown
from ..runtime.processes import all_gather
from .moment import Moment
from .record import NOTES, RECORD_FILE, SIZE, Record
from .schedule import Schedule
from .threshold import Threshold, bits_against_chance

logger = logging.getLogger(__name__)

_LIKELY_BY_CHANCE = 0.05


def check_agreement(asked: Iterable[object]) -> None:
    """All processes must measure the same.

    Raises:
        DataError: in every process, if they were given different arguments.
    """
    digests = all_gather(hashlib.sha256(repr(tuple(asked)).encode()).hexdigest())
    if len(set(digests)) > 1:
        other = next(number for number, digest in enumerate(digests) if digest != digests[0])
        raise DataError(
            "canaries",
            "the same canaries and arguments in every process",
            f"others in process {other} than in process 0",
            "Draw the canaries once, with a seed or from a file: CanarySet.load(...).",
        )


def check_what_chooses(at: Moment, keys: list[str]) -> None:
    """A key of ours that chooses the best model must be there, and the less of it the better.

    Args:
        at: the start of the training.
        keys: those that there are.

    Raises:
        DataError: there is no such key, so that the first evaluation would end the training.
    """
    name = at.args.metric_for_best_model or ""
    if not at.is_chosen_by_exposure():
        return
    if name[name.index("exposure_") :] not in keys:
        raise DataError(
            "metric_for_best_model", f"one of {', '.join(f'eval_{key}' for key in keys)}", shown(name), "Name one."
        )
    if at.args.greater_is_better:
        words = "metric_for_best_model=%s keeps the model that has memorised most: set greater_is_better=False."
        logger.warning(words, shown(name))


def warn_of_what_is_not_reached(at: Moment, schedule: Schedule, *, is_bound: bool) -> None:
    """Steps that do not come, evaluations that are not made, reporters that see nothing.

    Args:
        at: the start of the training.
        schedule: when it is measured; it has begun.
        is_bound: whether the callback was given the trainer.
    """
    if not schedule.reaches(at.state.max_steps):
        logger.warning("measure_at=: none of these steps is within the %d steps of this training.", at.state.max_steps)
    if schedule.at_evaluations and at.args.eval_strategy == "no":
        logger.warning("ExposureCallback measures at evaluations, and eval_strategy is 'no': set it, or measure_at=.")
    reporters = [at.args.report_to] if isinstance(at.args.report_to, str) else list(at.args.report_to or ())
    if not is_bound and set(reporters) - {"none"}:
        logger.warning(
            "The exposures reach log_history and %s, but not %s: for that, "
            "trainer.add_callback(ExposureCallback(canaries, trainer=trainer)).",
            RECORD_FILE,
            ", ".join(reporters),
        )


def num_measurements(at: Moment, schedule: Schedule) -> int:
    """How many a training has, at most, that begins."""
    epochs = min(at.state.num_train_epochs, at.state.max_steps)
    count = schedule.count(at.state.max_steps, epochs=epochs, evaluations=at.most_evaluations)
    return count + (at.most_evaluations if at.is_chosen_by_exposure() and not schedule.at_evaluations else 0)


def warn_of_chance(at: Moment, canaries: CanarySet, threshold: Threshold, measurements: int) -> None:
    """A threshold that canaries never seen may pass, at as many measurements as the training has."""
    chance = threshold.by_chance(canaries, measurements)
    if chance <= _LIKELY_BY_CHANCE or not at.state.is_world_process_zero:
        return
    enough = bits_against_chance(len(canaries), measurements, _LIKELY_BY_CHANCE)
    most = max(math.log2(format.space_size) for format in canaries.formats)
    logger.warning(
        "threshold=%s bits: with %d canaries and %d measurements, the chance that one is truly above it at any of "
        "them, though none was ever seen, is %.0f %% at most (%.1f %% at one). For 5 %% it takes %.1f bits%s.",
        threshold.bits, len(canaries), measurements, 100 * chance, 100 * threshold.by_chance(canaries),
        math.ceil(10 * enough) / 10, "" if enough <= most else ", and a larger format",
    )  # fmt: skip


@dataclass(frozen=True)
class Begun:
    """What the record of a training holds when it starts or goes on.

    Args:
        num_measured: measurements before.
        stays: whether one at the very step that it goes on from stays.
        copies: of each canary that had been trained on by then; None if that is not known.
        num_references: of each of its measurements; None if that is not known.
    """

    num_measured: int
    stays: bool
    copies: dict[str, int] | None
    num_references: int | None


def begin_record(record: Record, training: str, step: int, canaries: str, *, stays: bool) -> Begun:
    """Make the record ready for a training that starts at a step. What is of another training, or of this one and will
    be measured anew, is set aside.

    Args:
        record: the file.
        training: its name.
        step: from which it goes on; 0 for a new one.
        canaries: the name of the set.
        stays: whether a measurement at that very step stays.

    Raises:
        DataError: a training that goes on had measured other canaries.
    """
    own = [line for line in record.lines_of(training) if line["step"] <= step]
    if any(line["canaries"] != canaries and line["step"] > 0 for line in own):
        raise DataError(
            "canaries",
            f"the set that the training was begun with, since it goes on from step {step}",
            f"another: that of {record.file} is not {canaries}",
            "Load the one that was saved then, CanarySet.load(...), or begin anew in another output_dir.",
        )

    def is_kept(line: Mapping[str, Any]) -> bool:
        is_here = line["step"] == step and (stays or line["role"] in NOTES)
        return line["training"] == training and (line["step"] < step or is_here)

    aside = record.set_aside(is_kept)
    if aside is not None:
        words = "%s: what is of an earlier training, of steps that will be measured anew, or unreadable is in %s now."
        logger.warning(words, record.file, aside.name)
    measured = {line["step"] for line in own if line["role"] == "canary" and is_kept(line)}
    here = [line for line in own if line["step"] == step and line["role"] not in NOTES]
    copies = {
        line["canary_id"]: line["copies_trained"]
        for line in here
        if line["role"] == "canary" and is_int(line.get("copies_trained"))
    }
    sizes = [line.get("num_references") for line in own if line["role"] == SIZE and step]
    size = next((size for size in reversed(sizes) if is_int(size)), None)
    return Begun(len(measured), stays and bool(here), copies or None, size)

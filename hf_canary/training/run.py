"""One run of a training: what its measurements have in common, from the check of the data to the last of them.

A run begins with a training and lasts until the next: what is evaluated after a training is measured as in it, and what
is evaluated before the first belongs to a run that no training has begun. Decides nothing of when to measure.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..canaries import CanarySet
from ..errors import CanaryError, DataError, ModelError, without_data
from ..inference.evaluation import reads_sources
from ..measure import Measurement
from ..measurement.checks import check_measurable
from ..presence.report import Presence
from ..reporting.exposure import Exposure
from ..reporting.exposure_report import ExposureReport
from ..runtime.json_text import plain
from ..runtime.processes import all_reduce_sum, from_main, is_main_process, run_on_all
from ..tree.traces import check_written
from .budget import OverheadBudget
from .contexts import Contexts, Recorded
from .copies import Copies, can_be_read, num_rows
from .foresight import foreseen
from .line import one_line
from .moment import Moment
from .preserve import has_adapter, preserve_training_state, without_adapter
from .public import SECONDS, base_mean, public_keys, public_summary
from .record import TRIAL, Record, new_name
from .size import COUNTING, FULL, SIZES, Size, chosen, num_draws, percent
from .start import begin_record
from .threshold import Threshold
from .trainers import learns_from_own_texts

logger = logging.getLogger(__name__)

_MANY_ROWS = 100_000  # which take about a second to be read


@dataclass(frozen=True)
class Plan:
    """What all runs of a callback are asked for, and what they have in common: contexts, copies and budget go on, as
    long as they are of one trainer.

    Args:
        canaries: the set that was injected.
        num_references: random candidates of each format; None chooses.
        seed: draws them.
        batch_size: rows of one forward pass; None chooses.
        contexts: what the canaries stand behind, as far as it is known.
        copies: those that reach the model.
        threshold: that no canary should be above.
        budget: of time; its share is what sizes are chosen for.
        reads_data: whether the rows are read for canaries, and for what stands before them.
        strict: whether what fails ends the training.
        show: prints a report; called with the training's state, the metrics beside it and their prefix.
        confirm: prints that all copies were found.
        watch: a context manager; what it gives is called with the number of texts scored, or of rows read, since the
            last call.
        say: prints one line.
    """

    canaries: CanarySet
    num_references: int | None
    seed: int
    batch_size: int | None
    contexts: Contexts
    copies: Copies
    threshold: Threshold
    budget: OverheadBudget
    reads_data: bool
    strict: bool
    show: Callable[[ExposureReport, Any, dict[str, float], str], None]
    confirm: Callable[[Presence], None]
    watch: Callable[..., AbstractContextManager[Callable[[int], object]]]
    say: Callable[[str], object]

    def for_another_trainer(self) -> Plan:
        """The same, with nothing that was read from the data."""
        self.copies.end()
        return replace(self, contexts=self.contexts.as_given(), copies=Copies(self.canaries))

    @property
    def name(self) -> str:
        """Of the set, in the record; no other has it."""
        return self.canaries.digest[:16]

    def keys(self, model: Any) -> list[str]:
        """Of the metrics, without prefix."""
        return [*public_keys(self.canaries), *(["exposure_base_mean"] if has_adapter(model) else [])]


class TrainingRun:
    """What is known and measured in one run.

    Args:
        plan: what was asked for.
        tokenizer: that was given; None takes the trainer's.

    Attributes:
        report: of the last measurement; None if it failed, or there was none.
        base_report: of the model without its adapters, or None.
        size: of all measurements.
        training: its name in the record.
        trial: of a search of hyperparameters, by its folder in `output_dir`; else None.
        record: where it is written; None as long as nothing was.
        has_read: whether the data were read for canaries.
        is_training: whether the training has begun, and not ended.
        resumed_at: the step that the training went on from, if there is a measurement at it; else None.
    """

    def __init__(self, plan: Plan, tokenizer: Any = None) -> None:
        self.plan = plan
        self.report: ExposureReport | None = None
        self.base_report: ExposureReport | None = None
        self.size = Size(plan.num_references or FULL, is_given=plan.num_references is not None)
        self.training = new_name()
        self.trial: str | None = None
        self.record: Record | None = None
        self.has_read = False
        self.resumed_at: int | None = None
        self._given_tokenizer = tokenizer
        self.is_training = False
        self._state: Any = None  # the trainer's, of the training
        self._is_used = False  # by a training that went beyond its start
        self._number = 0  # of measurements so far, for the threshold
        self._measurement: tuple[Any, Measurement] | None = None  # by what it was made for
        self._base_seconds = 0.0  # that no measurement has said yet
        self._first_step = 0
        self._is_share_known = False

    def next(self, at: Moment) -> TrainingRun:
        """The run of a training that begins: what was measured before its first step is of it, too."""
        self._write_rest()
        run = TrainingRun(self.plan, self._given_tokenizer)
        run.has_read, run.report = self.has_read, self.report
        if not self._is_used and at.trial is None:
            run.training = self.training
        return run

    def is_at(self, state: Any) -> bool:
        """Whether it is the run of the very training that has this state."""
        return self.is_training and self._state is state

    @property
    def presence(self) -> Presence | None:
        """What the check before the first step found, or None."""
        return self.plan.copies.presence

    def read_data(self, at: Moment, loader: Any) -> None:
        """Check that the canaries are in the data, and behind what; and count them from now on.

        Args:
            at: the start of the training.
            loader: of its data.

        Raises:
            DataError: the run is INVALID, and `strict`.
        """
        plan = self.plan
        self._look_up(at, loader, None if at.trainer is None else at.trainer.eval_dataset)
        # A compiled model's hooks are compiled with it.
        if at.trainer is None and not at.args.torch_compile:
            plan.copies.hook(at.model)
        if self.presence is None:
            return
        plan.contexts.take(self.presence)
        self.has_read = True
        if at.state.is_world_process_zero:
            logger.log(logging.INFO if plan.copies.is_fine else logging.WARNING, "%s", self.presence)
            if plan.copies.is_fine:
                plan.confirm(self.presence)
        live = {each.repetitions for each in self.presence if not each.is_dead}
        levels = set(plan.canaries.repetitions)
        if plan.strict and live != levels:
            plan.copies.end()
            raise DataError(
                "canaries",
                "a canary of each repetition level that is trained on",
                f"none of those inserted {', '.join(map(str, sorted(levels - live)))} times",
                "See above for what became of each; strict=False goes on without the numbers.",
            )

    def check_tokenizer(self, at: Moment) -> None:
        """Refuse a tokenizer that does not write what tells candidates apart.

        Raises:
            ModelError: it does not, or there is none.
        """
        for format in self.plan.canaries.formats:  # reads the vocabulary, which is done once
            check_written(format, self._tokenizer(at), target=reads_sources(at.model))

    def check(self, at: Moment) -> None:
        """Refuse what cannot be measured.

        Raises:
            ModelError: it cannot be measured.
        """
        contexts = self.plan.contexts
        contexts.fit(at.model, self._tokenizer(at))
        with preserve_training_state(at.model):
            try:
                self._check_measurable(at)
            except ModelError as error:
                if not contexts.let_go():
                    raise
                self._check_measurable(at)  # else it is no fault of what was read
                logger.warning(
                    "The canaries cannot be measured behind what the rows have before them; they are measured behind "
                    "nothing, which may make a leak look safe. %s",
                    error,
                )

    def begin(self, at: Moment, loader: Any, *, num_measurements: int, stays: bool) -> None:
        """The training starts: what an earlier part of it has left is taken up, and what is no part of it set aside; it
        is chosen how large its measurements are.

        Args:
            at: the start of the training.
            loader: of its data.
            num_measurements: that it has, at most.
            stays: whether a measurement at this very step stays.
        """
        plan, record, name = self.plan, at.record, at.begun_as or self.training
        self.trial, self.record = at.trial, record
        self.training = from_main(lambda: name)
        begun = from_main(lambda: begin_record(record, name, at.step, plan.name, stays=stays))
        at.keep_name(self.training)
        self._first_step = at.step
        self._number, self.resumed_at = begun.num_measured, at.step if begun.stays else None
        self.is_training, self._state = True, at.state
        plan.copies.go_on(begun.copies if at.step else {})
        if at.step and self.presence is None:
            self._take_recorded_contexts(record)
        if self.trial is not None:
            self._write(at, [{"role": TRIAL, "hyperparameters": at.hyperparameters}])
        if plan.contexts.has_any:
            self._write(at, [plan.contexts.record()])
        plan.budget.begin()
        self._choose_size(at, loader, begun.num_references, num_measurements + has_adapter(at.model))
        if has_adapter(at.model):
            self._say(at, "exposure: the model without its adapters is measured first")
            self._measure_base(at)

    def end(self, at: Moment) -> None:
        """The training is over; what is evaluated from now on is measured as in it."""
        self.is_training, self._is_used = False, True
        self.plan.copies.end()
        self._write_rest()

    def folder(self, output_dir: str | None) -> Path:
        """Where checkpoints are: in `output_dir`, or in the trial's folder there."""
        return Path(output_dir or ".") / (self.trial or "")

    def measure(self, at: Moment, prefix: str, metrics: dict[str, float]) -> dict[str, float]:
        """Measure, record, show, and decide whether the training stops.

        Args:
            at: when.
            prefix: of the metrics.
            metrics: those that the measurement is shown beside.

        Returns:
            Metrics without prefix; NaN where the measurement failed.

        Raises:
            Exception: what made it fail, if `strict`.
        """
        began = time.monotonic()
        self.report = None
        found = dict.fromkeys(self.plan.keys(at.model), math.nan)
        try:
            with preserve_training_state(at.model):
                report = self.report = self._reported(at)
                found |= public_summary(report)
                found[SECONDS] += self._base_seconds
                self._base_seconds = 0.0
                records = report.records()
                if self.base_report is not None:
                    found["exposure_base_mean"] = self._base_mean(report, self.base_report)
                    records = _beside_base(records, self.base_report)
                self._write(at, [_measurement(report), *records])
                stops = run_on_all(lambda: self._decide(at, report, metrics, prefix))
                if all_reduce_sum(float(stops)):
                    at.control.should_training_stop = True
            if self.plan.strict and not report.is_valid:
                raise DataError(
                    "canaries",
                    "a canary of each repetition level that is trained on",
                    f"{len(report.dead)} dead ones: {', '.join(report.dead)}",
                    "See the record for what became of each; strict=False goes on without the numbers.",
                )
        except Exception as error:  # whatever it is, a training of days does not end for it
            if self.plan.strict:
                raise
            unexpected = not isinstance(error, CanaryError)
            what = "The measurement" if self.report is None else "What was to be done about the measurement"
            logger.error("%s at step %d failed: %s", what, at.step, error, exc_info=unexpected)
            if self.report is None:
                self._write(at, [{"role": "failure", "error": without_data(error), "valid": False}])
        finally:
            self.plan.budget.charge(time.monotonic() - began)
        self._correct_share(at, time.monotonic() - began)
        return found

    def _correct_share(self, at: Moment, seconds: float) -> None:
        """Say what share measurements take, where that is not what was foreseen; once, after the first steps."""
        steps = at.step - self._first_step
        if not self.is_training or self._is_share_known or steps <= 0 or self.report is None:
            return
        self._is_share_known = True
        all_steps = self.plan.budget.left() * (at.state.max_steps - self._first_step) / steps
        corrected = self.size.corrected(seconds, all_steps)
        if corrected is not None:
            self.size = corrected
            self._say(
                at, f"exposure: measurements take {percent(corrected.share)} of the training, now that steps are timed"
            )

    def _tokenizer(self, at: Moment) -> Any:
        return at.tokenizer(self._given_tokenizer)

    def _check_measurable(self, at: Moment) -> None:
        contexts = self.plan.contexts
        check_measurable(
            at.model,
            self._tokenizer(at),
            self.plan.canaries,
            context=contexts.context,
            source_prefix=contexts.source_prefix,
        )

    def _reported(self, at: Moment) -> ExposureReport:
        """The model as it is, with what is known of copies; without its adapters, where that was not known before.

        After each part the processes hear of one another's errors, so that none goes on alone.
        """
        self._read_before_training(at)
        self._take_what_batches_say(at)
        if self.base_report is None and has_adapter(at.model):
            self._measure_base(at)
        error = self.plan.threshold.error(self._number + 1, len(self.plan.canaries))
        report = run_on_all(lambda: self._measure(at, error))
        self._number += 1
        return run_on_all(lambda: self.plan.copies.annotate(report, epochs=at.state.epoch or 0.0))

    def _read_before_training(self, at: Moment) -> None:
        """A baseline before any training: canaries are to stand behind what they will be trained behind."""
        plan = self.plan
        if self.is_training or self.has_read or not plan.reads_data or plan.contexts.are_known:
            return
        self.has_read = True
        if at.trainer is None:
            logger.warning(
                "A measurement before the training: what will stand before the canaries is not known yet; they are "
                "measured behind nothing, or their sources alone. Give the callback the trainer, trainer=trainer, or "
                "context=."
            )
            return
        collator = at.trainer._get_collator_with_removed_columns(at.trainer.data_collator)
        data = SimpleNamespace(dataset=at.trainer.train_dataset, collate_fn=collator)
        self._look_up(at, data, None)
        if self.presence is not None:
            plan.contexts.take(self.presence)

    def _look_up(self, at: Moment, loader: Any, evaluation: Any) -> None:
        """The canaries in the data of a loader, and in those of the evaluation."""
        data, own_texts = getattr(loader, "dataset", None), learns_from_own_texts(at.args)
        count = 0 if own_texts or not can_be_read(data) else num_rows(data, evaluation)
        if count >= _MANY_ROWS:
            self._say(at, f"exposure: the canaries are looked for in {count:,} rows")
        with self.plan.watch(
            quiet=at.quiet, doing="Looking for canaries", unit="rows", total=count or None
        ) as progress:
            self.plan.copies.begin(
                at.model,
                loader,
                self._tokenizer(at),
                evaluation=evaluation,
                context=self.plan.contexts.given,
                own_texts=own_texts,
                progress=progress,
            )

    def _take_recorded_contexts(self, record: Record) -> None:
        """Of a stream, what the batches of an earlier part of the training have said."""
        try:
            found = from_main(lambda: Recorded(record.file).of_canaries(self.plan.canaries))
        except DataError as error:
            logger.warning("What stood before the canaries so far is not known: %s", error)
        else:
            self.plan.contexts.take_recorded(found)

    def _take_what_batches_say(self, at: Moment) -> None:
        """Of a stream, what stands before canaries is seen in its batches alone."""
        contexts = self.plan.contexts
        if self.presence is not None or not self.plan.reads_data or not self.is_training:
            return
        seen = run_on_all(self.plan.copies.surroundings)
        if seen is None:
            return
        lines_before = contexts.lines
        if contexts.take_seen(seen, at.model, self._tokenizer(at)):
            self.base_report = None  # which stood behind something else
            self._write(at, [contexts.record()])
        if contexts.lines not in ([], lines_before) and at.state.is_world_process_zero:
            logger.warning("%s", "\n".join(["Seen in the batches so far:", *contexts.lines]))

    def _measure_base(self, at: Moment) -> None:
        """The model without its adapters; before the first step, since more than adapters may be trained."""
        began = time.monotonic()
        try:
            with without_adapter(at.model):
                self.base_report = run_on_all(lambda: self._measure(at, None))
            self._say(at, f"without adapters · {one_line(self.base_report)}")
        except Exception as error:
            if self.plan.strict:
                raise
            logger.error("The model without its adapters could not be measured: %s", error)
        finally:
            self._base_seconds = time.monotonic() - began
            self.plan.budget.charge(self._base_seconds)

    def _measure(self, at: Moment, error: float | None) -> ExposureReport:
        made_for = (self._tokenizer(at), repr(self.plan.contexts), self.size.num_references)
        if self._measurement is None or self._measurement[0] != made_for:
            self._measurement = (made_for, self._measurement_of(at, self.size.num_references))
        with self.plan.watch(quiet=at.quiet) as progress:
            return self._measurement[1].measure(
                at.model, max_seconds=self.plan.budget.max_seconds, error=error, progress=progress
            )

    def _measurement_of(self, at: Moment, num_references: int) -> Measurement:
        plan, contexts = self.plan, self.plan.contexts
        return Measurement(
            plan.canaries,
            self._tokenizer(at),
            num_references=num_references,
            num_draws=num_draws(num_references),
            bootstrap=0,
            counting=COUNTING,
            seed=plan.seed,
            context=contexts.context,
            source_prefix=contexts.source_prefix,
            batch_size=plan.batch_size,
            target=reads_sources(at.model),
        )

    def _choose_size(self, at: Moment, loader: Any, recorded: int | None, num_measurements: int) -> None:
        """How large the measurements are: as asked for, as the training began, or by what they and the steps take."""
        plan = self.plan
        given = plan.num_references if plan.num_references is not None else recorded
        sizes = SIZES if given is None and plan.budget.share is not None else (given or FULL,)
        try:
            with preserve_training_state(at.model):
                seconds, training = run_on_all(
                    lambda: foreseen(at, self._measurement_of(at, SIZES[-1]), loader, sizes, plan.batch_size)
                )
        except Exception as error:
            if plan.strict:
                raise
            logger.warning("How long measurements will take could not be foreseen: %s", without_data(error))
            seconds, training = {sizes[-1]: math.nan}, math.nan
        if plan.budget.max_seconds is not None:
            seconds = {size: min(each, plan.budget.max_seconds) for size, each in seconds.items()}
        size = from_main(lambda: chosen(seconds, training, num_measurements, plan.budget.share or 1.0))
        self.size = replace(size, is_given=plan.num_references is not None)
        if recorded is None:
            self._write(at, [self.size.record()])
        if num_measurements:
            self._say(at, self.size.in_words(plan.canaries, plan.budget.share))

    def _say(self, at: Moment, line: str) -> None:
        if at.state.is_world_process_zero:
            self.plan.say(line)

    def _decide(self, at: Moment, report: ExposureReport, metrics: dict[str, float], prefix: str) -> bool:
        """Show the report, and do what is to be done when canaries are above the threshold: whether to stop."""
        if at.state.is_local_process_zero:
            self.plan.show(report, at.state, metrics, prefix)
        threshold = self.plan.threshold
        above = threshold.exceeded(report)
        if not above:
            return False
        stops = threshold.stops(report, above)
        if at.state.is_local_process_zero and not callable(threshold.on_exceed):
            words = "Step %d: exposure of %s bits and more: %s.%s"
            then = " The training stops." if stops else ""
            logger.warning(words, at.step, threshold.bits, ", ".join(above), then)
        return stops

    def _write(self, at: Moment, records: list[dict[str, Any]]) -> None:
        """Into the record; what cannot be written is logged, and an error only if `strict`."""
        if self.record is None:
            self.trial, self.record = at.trial, at.record
        record = self.record
        self._is_used = self._is_used or at.step > 0
        when = {"training": self.training, "step": at.step, "epoch": at.state.epoch, "canaries": self.plan.name}
        if self.trial is not None:
            when["trial"] = self.trial
        if self._state is not None and not self.is_training:
            when["after_training"] = True  # when the weights may be those of an earlier step
        try:
            from_main(lambda: record.append(when, records))
        except Exception as error:
            if self.plan.strict:
                raise
            logger.error("The record of step %d could not be written: %s", at.step, error)

    def _write_rest(self) -> None:
        """What found no room before; a last time."""
        if self.record is None or not is_main_process():
            return
        try:
            self.record.write_rest()
        except OSError as error:
            logger.error("Measurements that could not be written before are in no record: %s", error)

    def _base_mean(self, report: ExposureReport, base: ExposureReport) -> float:
        """Of the canaries that count, the mean exposure without adapters; rounded, for everybody."""
        live = len(self.plan.canaries) - len(report.dead)
        values = [each.value for each in _main(base) if each.canary_id not in report.dead]
        values = [value for value in values if not math.isnan(value)]
        mean = statistics.fmean(values) if values and report.is_valid else math.nan
        return base_mean(mean, self.plan.canaries, live)


def _measurement(report: ExposureReport) -> dict[str, Any]:
    """The first line of a measurement: what it is of."""
    return {"role": "measurement", "valid": report.is_valid, "provenance": plain(report.provenance)}


def _beside_base(records: list[dict[str, Any]], base: ExposureReport) -> list[dict[str, Any]]:
    """With what the model without adapters says of the same canary."""
    of = {
        each.canary_id: plain({"base_value": each.value, "base_log_perplexity": each.log_perplexity})
        for each in _main(base)
    }
    return [record | of[record["canary_id"]] if record["role"] == "canary" else record for record in records]


def _main(report: ExposureReport) -> list[Exposure]:
    return [each for each in report if each.estimator == "auto"]

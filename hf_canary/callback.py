"""The callback: joins measurements of a model to a training. No formula stands here, and no file is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .arguments import check_batch_size, check_flag, check_tokenizer, has
from .canaries import CanarySet
from .errors import ArgumentError, ArgumentTypeError, kind, printable
from .measurement.checks import check_request
from .presence.report import Presence
from .reporting.exposure_report import ExposureReport
from .runtime.processes import is_main_process, run_on_all
from .tokenization.contexts import Before
from .training.budget import OverheadBudget
from .training.contexts import Contexts
from .training.copies import Copies
from .training.fingerprints import leave_fingerprint
from .training.line import one_line
from .training.moment import Moment, trainer_of
from .training.record import RECORD_FILE as RECORD_FILE
from .training.run import Plan, TrainingRun
from .training.schedule import Schedule, When
from .training.size import FULL
from .training.start import (
    check_agreement,
    check_what_chooses,
    num_measurements,
    warn_of_chance,
    warn_of_what_is_not_reached,
)
from .training.threshold import OnExceed, Threshold

logger = logging.getLogger(__name__)


_OF_TRAINERS = ("evaluation_loop", "training_step", "save_model", "args", "state")  # what is asked of one


class ExposureCallback(TrainerCallback):
    """Measures the exposure of canaries while a `Trainer` trains, and logs it beside the loss.

    `Trainer(..., callbacks=[ExposureCallback(canaries)])` puts the numbers into the metrics (best-model selection,
    early stopping after it in the list), `trainer.state.log_history`, the terminal and a record file. With the
    trainer given, `trainer.add_callback(ExposureCallback(canaries, trainer=trainer))`, they are part of the
    evaluation's own metrics, and so reach every reporter (TensorBoard, Weights & Biases, ...) and the model card; the
    evaluation's runtime then contains the measurement's.

    Keys, after the prefix of the evaluation (`eval_`, also where there is none): `exposure_mean`, `exposure_max`,
    `exposure_x{repetitions}` (median of the level), each of them also with `_low` and `_high` behind it (the same of
    the ends of the canaries' intervals), the three with `exposure_skewnorm_` (NaN where the law does not fit),
    `exposure_twin_mean` (the control, 1.4 bits on average), in bits, higher means better memorised;
    `exposure_censored`, how many canaries were likelier than every candidate looked at, so that values are bounds;
    `exposure_seconds`. For a model with adapters, `exposure_base_mean` is that of the model without them, before the
    first step. All are rounded to a tenth of a bit, the ends outwards: they go wherever the model goes.

    What concerns one canary names it to whoever has the model. It is in the private record `_exposure.jsonl` in
    `output_dir` alone (of a trial in a search of hyperparameters, `_exposure.run-0.jsonl`), mode 600 and not uploaded:
    one line for each measurement, canary or twin, and estimator, never with a text, which says of which training it is.
    The record of another training is set aside, and so are lines beyond the step that a training goes on from. Beside
    the weights stands `hf_canary.json`, a salted digest of the set.

    A trainer has one such callback. One that is given to several, as in a loop over folds, measures for the one that is
    at work.

    Canaries are measured behind what stands before them in the training data, as the tokenised rows have it: a canary
    in the assistant's turn of a chat behind that chat; each behind its own source, where these differ. Where they stand
    behind different texts, as packed or spliced ones do, each is measured behind its own, with references of its own,
    which takes longer and is said. A stream cannot be read ahead; there the batches tell.

    Before the first step it reads the trainer's dataset and says which canaries are not in it, and why (`presence`); as
    training goes on it counts the copies in the batches. A canary that is not trained on is dead: named in the log and
    the record, and left out of the numbers. Where a repetition level has no other, the run is INVALID and every key is
    NaN. A stream cannot be read ahead; there the batches of the first epoch tell.

    A measurement leaves the model and every random state as they were. A measurement that fails does not end the
    training: the error is logged and every key is NaN. What would make all measurements fail is found before the first
    step. Several processes measure together; all must be given the same.

    Args:
        canaries: the set that was injected into the training data.
        trainer: the trainer to bind to, if its reporters are to see the numbers; another one that trains with this
            callback is bound to then.
        tokenizer: None takes the trainer's `processing_class`.
        measure_at: when: `"evaluation"`, `"epoch"`, n for every n steps (1: after every step, as in Figure 8 of the
            paper), or a list of steps, 0 for before the first. None: at each evaluation, and each epoch if there are
            none. If `metric_for_best_model` is one of the keys, each evaluation is looked at in any case.
        num_references: random candidates of each format that a measurement scores; None chooses, see `max_overhead`. A
            number that is given is kept, and the share of the time that it will take is said.
        seed: draws the references, the same at each measurement.
        context: what stands before the canaries, if it is not to be read from the rows: a text or a `Context` of tokens
            for all, or a list with one for each; "" for nothing. It is conditioned on, not summed. One that never
            stands there is warned of. Where sources have holes, a text has the source in it, holes and all.
        source_prefix: what stands before the source of an encoder-decoder, if it is not to be read from the rows; one
            for all, or a list.
        batch_size: rows of one forward pass of a measurement; None chooses.
        presence: whether to check that canaries are trained on, and behind what; takes some seconds for a million rows.
            Without it the context is nothing, or what is given.
        threshold: bits of exposure that no canary may surely reach. 5 % is the chance that any is said to reach it, at
            any measurement, which does not; a canary never seen has `bits` of exposure itself with chance 2^−bits at
            one measurement, and more often at any of several (a warning says how often at most, when the training
            starts).
        on_exceed: what to do then: `"warn"`, `"stop"` the training, or a function of the report and the ids of the
            canaries; a training is stopped if it returns True. In several processes each calls it.
        max_seconds: of a measurement; its samples shrink, and its intervals widen.
        max_overhead: share of the training's time that measurements are to take, all together. Before the first step a
            few texts and one batch are read to see what they cost, and all measurements of the training get the same
            size, so that they compare: 10,000 references, 3,000, 1,000 or 256, the fewest that say something, with
            draws and counted prefixes in proportion. A line says which, and what share is expected. It stands in the
            record, and holds when the training goes on. None: 10,000.
        strict: whether a measurement that fails, or a run that is INVALID, ends the training with an error.
        plot: whether to draw the measurements into `_exposure.png` in `output_dir` at the end; needs matplotlib.

    Raises:
        ArgumentError: arguments that cannot be measured or done on any model; at the start of training, a trainer that
            has another ExposureCallback.
        DataError: at the start of training, other arguments in another process; with `strict`, a run that is INVALID.
        ModelError: at the start of training: no tokenizer, a character that it cannot represent, a canary longer
            than the model's positions, logits that are no numbers.

    Example:
        >>> from hf_canary import CanaryFormat, CanarySet, ExposureCallback
        >>> canaries = CanarySet.draw(CanaryFormat("My PIN is {digit:4}"), seed=0)
        >>> callback = ExposureCallback(canaries, measure_at=100, threshold=12.0)  # Trainer(..., callbacks=[callback])
    """

    def __init__(
        self,
        canaries: CanarySet,
        *,
        trainer: Any = None,
        tokenizer: Any = None,
        measure_at: When = None,
        num_references: int | None = None,
        seed: int = 0,
        context: Before | Sequence[Before] = None,
        source_prefix: Before | Sequence[Before] = None,
        batch_size: int | None = None,
        presence: bool = True,
        threshold: float | None = None,
        on_exceed: OnExceed = "warn",
        max_seconds: float | None = None,
        max_overhead: float | None = 0.05,
        strict: bool = False,
        plot: bool = False,
    ) -> None:
        check_request(canaries, FULL if num_references is None else num_references, seed=seed)
        if tokenizer is not None:
            check_tokenizer(tokenizer)
        for argument, flag in (("presence", presence), ("strict", strict), ("plot", plot)):
            check_flag(argument, flag)
        if trainer is not None and not all(has(trainer, name) for name in _OF_TRAINERS):
            expected = "the trainer that the callback is added to"
            raise ArgumentTypeError("trainer", expected, kind(trainer), "Leave it out, or give a transformers.Trainer.")
        self._schedule = Schedule(measure_at)
        self._plan = Plan(
            canaries=canaries,
            num_references=None if num_references is None else int(num_references),
            seed=int(seed),
            batch_size=check_batch_size(batch_size),
            contexts=Contexts(canaries, context, source_prefix),
            copies=Copies(canaries),
            threshold=Threshold(threshold, on_exceed),
            budget=OverheadBudget(max_seconds, max_overhead),
            reads_data=presence,
            strict=strict,
            show=self.show,
            confirm=self.confirm,
            watch=self.watch,
            say=tqdm.write,
        )
        self._plan.threshold.check(canaries)
        if plot:
            from .reporting.plots import check_matplotlib

            check_matplotlib()
        self._plot, self._tokenizer = plot, tokenizer
        self._run = TrainingRun(self._plan, tokenizer)  # which no training has begun
        self._latest = _Latest()
        self._trainer: Any = None  # bound to; the one that trains, of several
        self._of: tuple[TrainerState, TrainerControl] | None = None  # the trainer whose run it is
        self._is_missed = False  # by a trainer that was given and has not got it
        if trainer is not None:
            self._bind(trainer)

    @property
    def canaries(self) -> CanarySet:
        """The set that was injected."""
        return self._plan.canaries

    @property
    def num_references(self) -> int:
        """Random candidates of each format that a measurement scores; chosen when a training starts, if not given."""
        return self._run.size.num_references

    @property
    def report(self) -> ExposureReport | None:
        """The last measurement, or None."""
        return self._run.report

    @property
    def base_report(self) -> ExposureReport | None:
        """That of the model without its adapters, or None."""
        return self._run.base_report

    @property
    def presence(self) -> Presence | None:
        """What the check before the first step found, or None."""
        return self._run.presence

    @property
    def num_contexts(self) -> int:
        """Behind how many contexts the canaries stand: so many times a measurement scores its references."""
        pairs = zip((canary.format for canary in self.canaries), self._plan.contexts.context, strict=True)
        return len(set(pairs))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._run.is_at(state):  # among the trainer's callbacks twice
            return
        at = self._moment(args, state, control, kwargs)
        plan, before = self._plan, self._run
        self._check_alone(at)
        self._schedule.begin(has_evaluations=args.eval_strategy != "no")
        check_agreement(self._asked(at))
        check_what_chooses(at, plan.keys(at.model))
        self._run = run = before.next(at)
        run_on_all(lambda: run.check_tokenizer(at))
        if plan.reads_data:
            run.read_data(at, kwargs.get("train_dataloader"))
        elif not plan.contexts.are_known and state.is_world_process_zero:
            logger.warning(
                "presence=False: what stands before the canaries is not read from the data; they are measured behind "
                "nothing, or their sources alone: a leak may look safe. Give context= (and source_prefix=), or leave "
                "presence= out."
            )
        run_on_all(lambda: run.check(at))
        warn_of_what_is_not_reached(at, self._schedule, is_bound=at.trainer is not None)
        measurements = num_measurements(at, self._schedule)
        warn_of_chance(at, self.canaries, plan.threshold, measurements)
        is_due = self._schedule.is_due(at.step, ends_epoch=at.ends_epoch)
        # A measurement at the step that it starts from stays, unless it is taken anew.
        is_anew = args.eval_on_start and (is_due or self._schedule.at_evaluations or at.is_chosen_by_exposure())
        stays = not is_anew and (at.step > 0 or not is_due)
        self._latest, loader = _Latest(), kwargs.get("train_dataloader")
        run.begin(at, loader, num_measurements=measurements, stays=stays)
        if is_due and run.resumed_at is None and not is_anew:
            self._measure_by_itself(at)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        at = self._moment(args, state, control, kwargs)
        if self._latest.step == at.step or not self._schedule.is_due(at.step, ends_epoch=at.ends_epoch):
            return
        # An evaluation of this very step is to hold the numbers, if there will be one.
        if control.should_evaluate or (args.eval_strategy == "epoch" and (at.ends_epoch or at.ends)):
            return
        self._measure_by_itself(at)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        at = self._moment(args, state, control, kwargs)
        latest = self._run.resumed_at if self._latest.step is None else self._latest.step
        # The dataset of this training may not be known to have ended an epoch at its last step.
        is_due = self._schedule.is_due(at.step, ends_epoch=True)
        if is_due and latest != at.step and not control.should_evaluate:
            self._measure_by_itself(at)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        metrics = kwargs.get("metrics")
        if metrics is None:
            return
        at = self._moment(args, state, control, kwargs)
        prefixes = (name.removesuffix("_runtime") for name in metrics if name.endswith("_runtime"))
        prefix = next((each for each in prefixes if f"{each}_samples_per_second" in metrics), "eval")
        if _holds(metrics, prefix):  # the evaluation loop's, or this callback is there twice
            return
        found = self._at_evaluation(at, prefix, metrics)
        metrics.update(found)
        # The trainer has logged a copy of the metrics already: what we add belongs into the same entry. Others may have
        # logged since.
        for entry in state.log_history:
            if entry.get("step") == at.step and _is_of(entry, metrics, prefix) and not _holds(entry, prefix):
                entry.update(found)
                break

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        folder = self._run.folder(args.output_dir)
        self._leave_fingerprint(args, folder / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._latest = _Latest()  # load_best_model_at_end may have changed the weights without a step
        self._run.end(self._moment(args, state, control, kwargs))
        for folder in (Path(args.output_dir or "."), self._run.folder(args.output_dir)):
            self._leave_fingerprint(args, folder)
        if self._plot and is_main_process():
            self._draw()

    def show(self, report: ExposureReport, state: TrainerState, metrics: dict[str, float], prefix: str) -> None:
        """Print one measurement in one line; override it to show them elsewhere."""
        loss = metrics.get(f"{prefix}_loss")
        beside = "" if loss is None else f" · {prefix} loss {loss:.3f}"
        tqdm.write(printable(f"step {state.global_step}{beside} · {one_line(report, self.num_references)}"))

    def confirm(self, presence: Presence) -> None:
        """Print before the first step that all copies are there, where all is well; override it to say so elsewhere."""
        copies = sum(each.live for each in presence)
        tqdm.write(f"all {copies:,} copies of {len(presence):,} canaries found in the training data")

    @contextmanager
    def watch(
        self, *, quiet: bool, doing: str = "Exposure", unit: str = "texts", total: int | None = None
    ) -> Iterator[Callable[[int], object]]:
        """A progress bar for one measurement, or for reading the data before the first step; off where it is not wanted
        or not a terminal. Override it for another kind.
        """
        off = True if quiet else None
        with tqdm(desc=doing, unit=f" {unit}", total=total, leave=False, delay=1.0, disable=off) as bar:
            yield bar.update

    def _bind(self, trainer: Any) -> None:
        """Add our numbers to the metrics that the trainer's own evaluation loop returns, before anyone reads them; and
        see the batches of its steps. Of several trainers it is that one which trains.
        """
        self._trainer = trainer
        bound = vars(trainer).setdefault("_exposure_callbacks", [])  # which its methods know already
        if any(each is self for each in bound):
            return
        bound.append(self)
        inner, step, save = trainer.evaluation_loop, trainer.training_step, trainer.save_model

        def evaluation_loop(*args: Any, **kwargs: Any) -> Any:
            output = inner(*args, **kwargs)
            prefix = kwargs.get("metric_key_prefix", "eval")
            if kwargs.get("description") == "Evaluation" and self._is_among(trainer):
                self._trainer = trainer
                self._belong_to(trainer.state, trainer.control)
                output.metrics.update(self._at_evaluation(Moment.of_trainer(trainer), prefix, output.metrics))
            return output

        def training_step(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if trainer is self._trainer:
                self._plan.copies.see(inputs)
            return step(model, inputs, *args, **kwargs)

        def save_model(output_dir: str | None = None, *args: Any, **kwargs: Any) -> Any:
            saved = save(output_dir, *args, **kwargs)
            self._leave_fingerprint(trainer.args, Path(output_dir or trainer.args.output_dir or "."))
            return saved

        trainer.evaluation_loop, trainer.training_step = evaluation_loop, training_step
        trainer.save_model = save_model

    def _is_among(self, trainer: Any) -> bool:
        """Whether the trainer has this callback; it may never have got it, or it was taken away."""
        is_there = any(each is self for each in trainer.callback_handler.callbacks)
        if not is_there and self._of is None and not self._is_missed:
            self._is_missed = True
            logger.warning("ExposureCallback was given a trainer and not added to it: it measures nothing. Add it.")
        return is_there

    def _moment(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, rest: dict[str, Any]
    ) -> Moment:
        """An event, of whichever trainer: a callback that was bound to another one follows."""
        if self._trainer is not None and self._trainer.state is not state:
            trainer = trainer_of(state)
            if trainer is not None:
                self._bind(trainer)
        self._belong_to(state, control)
        is_bound = self._trainer is not None and self._trainer.state is state
        return Moment.of_event(args, state, control, rest, self._trainer if is_bound else None)

    def _belong_to(self, state: TrainerState, control: TrainerControl) -> None:
        """To the trainer who has these. Each training has a state of its own, and other callbacks may give a control of
        their own; one of both stays. What was known of another trainer's model and data is let go.
        """
        if self._of is not None and self._of[0] is not state and self._of[1] is not control:
            self._plan = self._plan.for_another_trainer()
            self._run, self._latest = TrainingRun(self._plan, self._tokenizer), _Latest()
        self._of = state, control

    def _check_alone(self, at: Moment) -> None:
        """Two would write the same record, and the same keys.

        Raises:
            ArgumentError: the trainer has another one.
        """
        trainer = at.trainer or trainer_of(at.state)
        callbacks = [] if trainer is None else trainer.callback_handler.callbacks
        if any(isinstance(each, ExposureCallback) and each is not self for each in callbacks):
            raise ArgumentError(
                "callbacks",
                "one ExposureCallback to a trainer",
                "several, which would write the same record and the same keys of the log",
                "trainer.remove_callback(ExposureCallback) takes the first away. A set may have several formats.",
            )

    def _asked(self, at: Moment) -> tuple[object, ...]:
        """What all processes must have been asked alike."""
        plan = self._plan
        return (
            self.canaries.digest, plan.num_references, plan.seed, plan.contexts, self._schedule, plan.threshold.bits,
            plan.strict, plan.reads_data, at.trainer is None, plan.budget,
        )  # fmt: skip

    def _at_evaluation(self, at: Moment, prefix: str, metrics: dict[str, float]) -> dict[str, float]:
        """What belongs into the metrics of an evaluation; nothing for a further evaluation set of a step."""
        is_training = self._run.is_training
        if is_training and self._latest.step == at.step and self._latest.prefix != prefix:
            if self._latest.prefix is not None:  # of another evaluation set
                return self._latest.metrics(prefix) if at.is_chosen_by_exposure(prefix) else {}
            self._latest.prefix = prefix
            return self._latest.metrics(prefix)
        is_due = (
            not is_training
            or self._schedule.at_evaluations
            or self._schedule.is_due(at.step, ends_epoch=at.ends_epoch or at.args.eval_strategy == "epoch")
            or at.is_chosen_by_exposure()
        )
        if not is_due:
            return {}
        self._measure(at, prefix, metrics)
        return self._latest.metrics(prefix)

    def _measure_by_itself(self, at: Moment) -> None:
        """A measurement that is no evaluation's, with a log entry of its own."""
        self._measure(at, None, {})
        found, trainer = self._latest.metrics("eval"), at.trainer
        if trainer is None:
            epoch = {} if at.state.epoch is None else {"epoch": at.state.epoch}
            at.state.log_history.append({**found, **epoch, "step": at.step})
            return
        was_training, should_log = trainer.model.training, at.control.should_log
        trainer.model.training = False  # TRL empties what it has gathered of training when that is logged
        try:
            trainer.log(found)
        finally:
            trainer.model.training = was_training
            at.control.should_log = should_log  # which a log takes for done

    def _measure(self, at: Moment, prefix: str | None, metrics: dict[str, float]) -> None:
        """One measurement, of an evaluation with this prefix, or of none."""
        self._latest = _Latest(at.step, prefix)  # also where it ends by an error
        self._latest.found = self._run.measure(at, prefix or "eval", metrics)

    def _leave_fingerprint(self, args: TrainingArguments, folder: Path) -> None:
        """Beside weights that were saved; what cannot be written is logged."""
        if not args.should_save or not folder.is_dir():
            return
        try:
            leave_fingerprint(folder, self.canaries)
        except OSError as error:
            logger.error("%s has no fingerprint of the canaries: %s", folder, error)

    def _draw(self) -> None:
        from .reporting.plots import exposure_over_training

        record, training = self._run.record, self._run.training
        if record is None:
            return
        try:
            largest = max(format.space_size for format in self.canaries.formats)
            exposure_over_training(record.lines_of(training), largest, record.picture)
        except Exception as error:  # the training is over, and its numbers are written
            logger.error("The picture could not be drawn: %s", error)


def _holds(metrics: dict[str, float], prefix: str) -> bool:
    """Whether an evaluation has our numbers."""
    return f"{prefix}_exposure_seconds" in metrics


def _is_of(entry: dict[str, float], metrics: dict[str, float], prefix: str) -> bool:
    """Whether a log entry is that of an evaluation."""
    return f"{prefix}_runtime" in entry and entry[f"{prefix}_runtime"] == metrics.get(f"{prefix}_runtime")


@dataclass
class _Latest:
    """The latest measurement of a training.

    Args:
        step: at which it was; None if there was none.
        prefix: of the evaluation that has its numbers; None if none has.
        found: metrics without prefix.
    """

    step: int | None = None
    prefix: str | None = None
    found: dict[str, float] = field(default_factory=dict)

    def metrics(self, prefix: str) -> dict[str, float]:
        """With a prefix."""
        return {f"{prefix}_{name}": value for name, value in self.found.items()}

"""The callback: joins measurements of a model to a training. No formula stands here, and no file is written."""

from __future__ import annotations

import hashlib
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .arguments import check_batch_size, check_tokenizer
from .canaries import CanarySet
from .errors import CanaryError, DataError, ModelError, shown, told
from .measure import Measurement, check_measurable, check_request
from .measurement.encoded_format import possible_references
from .presence.report import Presence
from .reporting.exposure_report import Exposure, ExposureReport, Level, plain
from .runtime.processes import all_gather, all_reduce_sum, from_main, is_main_process, run_on_all
from .tokenization.contexts import Before
from .training.budget import OverheadBudget
from .training.contexts import Contexts, Recorded
from .training.copies import Copies
from .training.fingerprints import leave_fingerprint
from .training.preserve import has_adapter, preserve_training_state, without_adapter
from .training.public import base_mean, public_keys, public_levels, public_summary
from .training.record import CONTEXTS, PICTURE_FILE, Record
from .training.record import RECORD_FILE as RECORD_FILE
from .training.schedule import Schedule, When
from .training.threshold import OnExceed, Threshold, bits_against_chance
from .tree.traces import check_written

logger = logging.getLogger(__name__)

# A measurement costs the training time: half the draws of a measurement, and a tenth of what it may put into counting.
_DRAWS, _COUNTING = 2_000, 0.1
_FEWEST = 1e-3  # seconds, within which the fewest references are scored and nothing else
_LIKELY_BY_CHANCE = 0.05


@dataclass(frozen=True)
class _Moment:
    """What a trainer says of itself at a step."""

    args: TrainingArguments
    state: TrainerState
    control: TrainerControl
    model: Any
    processing_class: Any

    @property
    def quiet(self) -> bool:
        """Whether progress bars are not wanted."""
        return bool(self.args.disable_tqdm)

    @property
    def record(self) -> Record:
        """The file of this training."""
        return Record(self.args.output_dir or ".")


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
    `output_dir` alone, mode 600 and not uploaded: one line for each measurement, canary or twin, and estimator, never
    with a text. A training that goes on from some step drops the lines of later steps, which it will write anew; the
    record of another training is set aside. Beside the weights stands `hf_canary.json`, a salted digest of the set.

    Canaries are measured behind what stands before them in the training data, as the tokenised rows have it: a canary
    in the assistant's turn of a chat behind that chat. Where they stand behind different texts, as packed or spliced
    ones do, each is measured behind its own, with references of its own, which takes longer and is said. A stream
    cannot be read ahead; there the batches tell.

    Before the first step it reads the trainer's dataset and says which canaries are not in it, and why (`presence`); as
    training goes on it counts the copies in the batches. A canary that is not trained on is dead: named in the log and
    the record, and left out of the numbers. Where a repetition level has no other, the run is INVALID and every key is
    NaN. A stream cannot be read ahead; there the batches of the first epoch tell.

    A measurement leaves the model and every random state as they were. A measurement that fails does not end the
    training: the error is logged and every key is NaN. What would make all measurements fail is found before the first
    step. Several processes measure together; all must be given the same.

    Args:
        canaries: the set that was injected into the training data.
        trainer: the trainer to bind to, if its reporters are to see the numbers.
        tokenizer: None takes the trainer's `processing_class`.
        measure_at: when: `"evaluation"`, `"epoch"`, n for every n steps (1: after every step, as in Figure 8 of the
            paper), or a list of steps, 0 for before the first. None: at each evaluation, and each epoch if there are
            none. If `metric_for_best_model` is one of the keys, each evaluation is looked at in any case.
        num_references: random candidates of each format that a measurement scores.
        seed: draws the references, the same at each measurement.
        context: what stands before the canaries, if it is not to be read from the rows: a text or a `Context` of tokens
            for all, or a list with one for each; "" for nothing. It is conditioned on, not summed. One that never
            stands there is warned of.
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
        max_overhead: share of the training's time that measurements may take, all together, such as 0.01. Their samples
            shrink; a measurement that has no time even for the fewest is left out, as one at step 0 is, and an
            evaluation's keys are NaN then. The checks before the first step are not counted.
        strict: whether a measurement that fails, or a run that is INVALID, ends the training with an error.
        plot: whether to draw the measurements into `_exposure.png` in `output_dir` at the end; needs matplotlib.

    Raises:
        ArgumentError: arguments that cannot be measured or done on any model.
        DataError: at the start of training, other arguments in another process; with `strict`, a run that is INVALID.
        ModelError: at the start of training: no tokenizer, a character that it cannot represent, a canary longer
            than the model's positions, logits that are no numbers.

    Attributes:
        report: the `ExposureReport` of the last measurement, or None.
        base_report: that of the model without its adapters, or None.
        presence: what the check before the first step found, a `Presence`, or None.

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
        num_references: int = 10_000,
        seed: int = 0,
        context: Before | Sequence[Before] = None,
        source_prefix: Before | Sequence[Before] = None,
        batch_size: int | None = None,
        presence: bool = True,
        threshold: float | None = None,
        on_exceed: OnExceed = "warn",
        max_seconds: float | None = None,
        max_overhead: float | None = None,
        strict: bool = False,
        plot: bool = False,
    ) -> None:
        check_request(canaries, num_references, seed=seed)
        check_batch_size(batch_size)
        if tokenizer is not None:
            check_tokenizer(tokenizer)
        self._schedule = Schedule(measure_at)
        self._budget = OverheadBudget(max_seconds, max_overhead)
        self._threshold = Threshold(threshold, on_exceed)
        self._threshold.check(canaries)
        if plot:
            from .reporting.plots import check_matplotlib

            check_matplotlib()
        self.canaries = canaries
        self.tokenizer = tokenizer
        self.num_references = num_references
        self.seed = seed
        self._contexts = Contexts(canaries, context, source_prefix)
        self.batch_size = batch_size
        self.strict = strict
        self.report: ExposureReport | None = None
        self.base_report: ExposureReport | None = None
        self._plot, self._checks = plot, presence
        self._copies = Copies(canaries)
        self._trainer = trainer
        self._in_training, self._has_measured, self._has_read = False, False, False
        self._recorded: int | None = None  # the step that a training went on from, if it had been looked at
        self._number = 0  # of measurements, for the threshold
        self._left_out: set[int] = set()  # steps, for lack of time
        self._measurement: tuple[Any, str, Measurement] | None = None  # with this tokenizer, and behind this
        # Step and prefix of the last measurement, None for one that was no evaluation's; and what it found.
        self._last: tuple[int, str | None] | None = None
        self._found: dict[str, float] = {}
        if trainer is not None:
            self._bind(trainer)

    @property
    def presence(self) -> Presence | None:
        """What the check before the first step found, or None."""
        return self._copies.presence

    @property
    def num_contexts(self) -> int:
        """Behind how many contexts the canaries stand: so many times a measurement scores its references."""
        pairs = zip((canary.format for canary in self.canaries), self._contexts.context, strict=True)
        return len(set(pairs))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        at = _moment(args, state, control, kwargs)
        self._schedule.begin(has_evaluations=args.eval_strategy != "no")
        self._check_agreement()
        self._check_what_chooses(at)
        tokenizer = run_on_all(lambda: self._checked_tokenizer(at))
        if self._checks:
            self._watch(at, tokenizer, kwargs.get("train_dataloader"))
        elif not self._contexts.are_known and state.is_world_process_zero:
            logger.warning(
                "presence=False: what stands before the canaries is not read from the data; they are measured behind "
                "nothing: a leak may look safe. Give context= (and source_prefix=), or leave presence= out."
            )
        least = run_on_all(lambda: self._checked(at, tokenizer))
        self._tell_what_is_not_reached(args, state)
        self._tell_what_chance_does(args, state)
        is_due = self._schedule.is_due(state.global_step, ends_epoch=_ends_epoch(state))
        # A measurement at the step that it starts from stays, unless another training's, or one that is taken anew.
        is_anew = args.eval_on_start and (is_due or self._schedule.at_evaluations or _chooses(args))
        stays = not is_anew and (state.global_step > 0 or (self._has_measured and not is_due))
        self._number, was_measured, copies = from_main(
            lambda: _begun(at.record, state.global_step, self._named, stays=stays, is_own=self._has_measured)
        )
        self._copies.go_on(copies if state.global_step else {})
        self._recorded = state.global_step if was_measured else None
        self._last, self._in_training, self.base_report = None, True, None
        self._left_out = set()
        self._measurement = None
        if state.global_step and self.presence is None:
            self._contexts.take_recorded(from_main(lambda: Recorded(at.record.file.parent).of_canaries(self.canaries)))
        if self._contexts.has_any:
            self._write(at, [self._contexts.record()], is_measurement=False)
        if has_adapter(at.model):
            self._measure_base(at, tokenizer)
        self._budget.begin(least=least)
        if is_due and not was_measured and not is_anew:
            self._measure_by_itself(at)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        ends_epoch = _ends_epoch(state)
        if not self._schedule.is_due(state.global_step, ends_epoch=ends_epoch):
            return
        # An evaluation of this very step is to hold the numbers, if there will be one.
        if control.should_evaluate or (args.eval_strategy == "epoch" and (ends_epoch or _ends(control))):
            return
        self._measure_by_itself(_moment(args, state, control, kwargs))

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        is_due = self._schedule.is_due(state.global_step, ends_epoch=True)
        measured_at = self._recorded if self._last is None else self._last[0]
        was_measured = measured_at == state.global_step
        # The dataset of this training may not be known to have ended an epoch at its last step.
        if is_due and not was_measured and not control.should_evaluate:
            self._measure_by_itself(_moment(args, state, control, kwargs))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        metrics = kwargs.get("metrics")
        if self._trainer is not None or metrics is None:
            return
        prefixes = (name.removesuffix("_runtime") for name in metrics if name.endswith("_runtime"))
        prefix = next((each for each in prefixes if f"{each}_samples_per_second" in metrics), "eval")
        found = self._at_evaluation(_moment(args, state, control, kwargs), prefix, metrics)
        metrics.update(found)
        # The trainer has logged a copy of the metrics already: what we add belongs into the same entry.
        if state.log_history and f"{prefix}_runtime" in state.log_history[-1]:
            state.log_history[-1].update(found)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._leave_fingerprint(args, Path(args.output_dir or ".") / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # load_best_model_at_end may have changed the weights without a step.
        self._last, self._in_training, self._has_measured = None, False, False
        self._copies.end()
        self._leave_fingerprint(args, Path(args.output_dir or "."))
        if self._left_out and state.is_world_process_zero:
            words = "max_overhead left no time for %d measurements; the last time it left %s"
            logger.warning(words, len(self._left_out), self._budget.too_little)
        if self._plot and is_main_process():
            self._draw(_moment(args, state, control, kwargs).record)

    def show(self, report: ExposureReport, state: TrainerState, metrics: dict[str, float], prefix: str) -> None:
        """Print one measurement in one line; override it to show them elsewhere."""
        loss = metrics.get(f"{prefix}_loss")
        beside = "" if loss is None else f" · {prefix} loss {loss:.3f}"
        tqdm.write(f"step {state.global_step}{beside} · {one_line(report, self.num_references)}")

    @contextmanager
    def watch(self, *, quiet: bool) -> Iterator[Callable[[int], object]]:
        """A progress bar for one measurement, off where it is not wanted or not a terminal; override it for another
        kind.
        """
        with tqdm(desc="Exposure", unit=" texts", leave=False, delay=1.0, disable=True if quiet else None) as bar:
            yield bar.update

    def _bind(self, trainer: Any) -> None:
        """Add our numbers to the metrics that the trainer's own evaluation loop returns, before anyone reads them; and
        see the batches of its steps.
        """
        inner, step, save = trainer.evaluation_loop, trainer.training_step, trainer.save_model

        def evaluation_loop(*args: Any, **kwargs: Any) -> Any:
            output = inner(*args, **kwargs)
            if kwargs.get("description") == "Evaluation":
                prefix = kwargs.get("metric_key_prefix", "eval")
                at = _Moment(trainer.args, trainer.state, trainer.control, trainer.model, trainer.processing_class)
                output.metrics.update(self._at_evaluation(at, prefix, output.metrics))
            return output

        def training_step(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._copies.see(inputs)
            return step(model, inputs, *args, **kwargs)

        def save_model(output_dir: str | None = None, *args: Any, **kwargs: Any) -> Any:
            saved = save(output_dir, *args, **kwargs)
            self._leave_fingerprint(trainer.args, Path(output_dir or trainer.args.output_dir or "."))
            return saved

        trainer.evaluation_loop, trainer.training_step = evaluation_loop, training_step
        trainer.save_model = save_model

    def _check_agreement(self) -> None:
        """All processes must measure the same.

        Raises:
            DataError: in every process, if they were given different arguments.
        """
        asked = (
            self.canaries.digest, self.num_references, self.seed, self._contexts, self._schedule, self._threshold.bits,
            self.strict, self._checks, self._trainer is None, self._budget,
        )  # fmt: skip
        digests = all_gather(hashlib.sha256(repr(asked).encode()).hexdigest())
        if len(set(digests)) > 1:
            other = next(number for number, digest in enumerate(digests) if digest != digests[0])
            raise DataError(
                "canaries",
                "the same canaries and arguments in every process",
                f"others in process {other} than in process 0",
                "Draw the canaries once, with a seed or from a file: CanarySet.load(...).",
            )

    def _checked_tokenizer(self, at: _Moment) -> Any:
        """The tokenizer, which writes what tells candidates apart."""
        tokenizer = self._tokenizer(at)
        for format in self.canaries.formats:  # reads the vocabulary, which is done once
            check_written(format, tokenizer, target=format.source is not None)
        return tokenizer

    def _checked(self, at: _Moment, tokenizer: Any) -> float:
        """Refuse what cannot be measured; the seconds that scoring a few candidates takes."""
        began = time.monotonic()
        self._contexts.fit(at.model)
        with preserve_training_state(at.model):
            try:
                self._check_measurable(at, tokenizer)
            except ModelError as error:
                if not self._contexts.let_go():
                    raise
                self._check_measurable(at, tokenizer)  # else it is no fault of what was read
                logger.warning(
                    "The canaries cannot be measured behind what the rows have before them; they are measured behind "
                    "nothing, which may make a leak look safe. %s",
                    error,
                )
        return time.monotonic() - began

    def _check_measurable(self, at: _Moment, tokenizer: Any) -> None:
        contexts = self._contexts
        check_measurable(
            at.model, tokenizer, self.canaries, context=contexts.context, source_prefix=contexts.source_prefix
        )

    def _check_what_chooses(self, at: _Moment) -> None:
        """A key of ours that chooses the best model must be there, and the less of it the better.

        Raises:
            DataError: there is no such key, so that the first evaluation would end the training.
        """
        name = at.args.metric_for_best_model or ""
        if not _chooses(at.args):
            return
        keys = self._keys(at)
        if name[name.index("exposure_") :] not in keys:
            raise DataError(
                "metric_for_best_model", f"one of {', '.join(f'eval_{key}' for key in keys)}", shown(name), "Name one."
            )
        if at.args.greater_is_better:
            words = "metric_for_best_model=%s keeps the model that has memorised most: set greater_is_better=False."
            logger.warning(words, shown(name))
        if self._budget.is_share:
            logger.warning(
                "metric_for_best_model compares measurements of different sizes: max_overhead is not kept, and the "
                "fewer references a measurement has time for, the lower its highest exposures. Leave it out."
            )

    def _tell_what_is_not_reached(self, args: TrainingArguments, state: TrainerState) -> None:
        if not self._schedule.reaches(state.max_steps):
            logger.warning("measure_at=: none of these steps is within the %d steps of this training.", state.max_steps)
        if self._schedule.at_evaluations and args.eval_strategy == "no":
            logger.warning(
                "ExposureCallback measures at evaluations, and eval_strategy is 'no': set it, or measure_at=."
            )
        reporters = [args.report_to] if isinstance(args.report_to, str) else list(args.report_to or ())
        if self._trainer is None and set(reporters) - {"none"}:
            logger.warning(
                "The exposures reach log_history and %s, but not %s: for that, "
                "trainer.add_callback(ExposureCallback(canaries, trainer=trainer)).",
                RECORD_FILE,
                ", ".join(reporters),
            )

    def _tell_what_chance_does(self, args: TrainingArguments, state: TrainerState) -> None:
        """A threshold that canaries never seen may pass, at as many measurements as this training has."""
        evaluations = _evaluations(args, state)
        epochs = min(state.num_train_epochs, state.max_steps)
        measurements = self._schedule.count(state.max_steps, epochs=epochs, evaluations=evaluations)
        if _chooses(args) and not self._schedule.at_evaluations:
            measurements += evaluations
        chance = self._threshold.by_chance(self.canaries, measurements)
        if chance <= _LIKELY_BY_CHANCE or not state.is_world_process_zero:
            return
        enough = bits_against_chance(len(self.canaries), measurements, _LIKELY_BY_CHANCE)
        most = max(math.log2(format.space_size) for format in self.canaries.formats)
        at_one = self._threshold.by_chance(self.canaries)
        logger.warning(
            "threshold=%s bits: with %d canaries and %d measurements, the chance that one is truly above it at any of "
            "them, though none was ever seen, is %.0f %% at most (%.1f %% at one). For 5 %% it takes %.1f bits%s.",
            self._threshold.bits, len(self.canaries), measurements, 100 * chance, 100 * at_one,
            math.ceil(10 * enough) / 10, "" if enough <= most else ", and a larger format",
        )  # fmt: skip

    def _watch(self, at: _Moment, tokenizer: Any, loader: Any) -> None:
        """Check that the canaries are in the data, and behind what; and count them from now on.

        Raises:
            DataError: the run is INVALID, and `strict`.
        """
        evaluation = None if self._trainer is None else self._trainer.eval_dataset
        self._copies.begin(at.model, loader, tokenizer, evaluation=evaluation, context=self._contexts.given)
        # A compiled model's hooks are compiled with it.
        if self._trainer is None and not at.args.torch_compile:
            self._copies.hook(at.model)
        presence = self._copies.presence
        if presence is None:
            return
        self._contexts.take(presence)
        self._has_read = True
        if at.state.is_world_process_zero:
            logger.log(logging.INFO if self._copies.is_fine else logging.WARNING, "%s", presence)
        live = {each.repetitions for each in presence if not each.is_dead}
        if self.strict and live != set(self.canaries.repetitions):
            self._copies.end()
            raise DataError(
                "canaries",
                "a canary of each repetition level that is trained on",
                f"none of those inserted {', '.join(map(str, sorted(set(self.canaries.repetitions) - live)))} times",
                "See above for what became of each; strict=False goes on without the numbers.",
            )

    def _tokenizer(self, at: _Moment) -> Any:
        tokenizer = self.tokenizer if self.tokenizer is not None else at.processing_class
        if tokenizer is None:
            raise ModelError(
                "tokenizer",
                "a tokenizer, for the canaries",
                "none, and a trainer without processing_class",
                "Give ExposureCallback(..., tokenizer=...) or Trainer(..., processing_class=...).",
            )
        return getattr(tokenizer, "tokenizer", tokenizer)

    def _at_evaluation(self, at: _Moment, prefix: str, metrics: dict[str, float]) -> dict[str, float]:
        """What belongs into the metrics of an evaluation; nothing for a further evaluation set of a step."""
        args, step = at.args, at.state.global_step
        is_in_training = self._in_training if self._trainer is None else bool(self._trainer.is_in_train)
        if is_in_training and self._last is not None and self._last[0] == step and self._last[1] != prefix:
            if self._last[1] is not None:
                return _with_prefix(prefix, self._found) if _chooses(args, prefix) else {}
            self._last = (step, prefix)
            return _with_prefix(prefix, self._found)
        is_due = (
            not is_in_training
            or self._schedule.at_evaluations
            or self._schedule.is_due(step, ends_epoch=_ends_epoch(at.state) or args.eval_strategy == "epoch")
            or _chooses(args)
        )
        if not is_due:
            return {}
        self._last = (step, prefix)
        allowed = self._budget.seconds() if is_in_training else self._budget.each
        if allowed == 0.0 and _chooses(args):  # a NaN would count as no improvement
            allowed = _FEWEST
        if allowed == 0.0:
            logger.warning("No measurement at step %d: max_overhead leaves %s", step, self._budget.too_little)
            self._left_out.add(step)
            self._found = dict.fromkeys(self._keys(at), math.nan)
            self._write(at, [{"role": "left out"}])
        else:
            self._take(at, prefix, metrics, allowed)
        return _with_prefix(prefix, self._found)

    def _measure_by_itself(self, at: _Moment) -> None:
        """A measurement that is no evaluation's, with a log entry of its own; none where there is no time for one."""
        allowed = self._budget.seconds()
        if allowed == 0.0:
            self._left_out.add(at.state.global_step)
            return
        state, control = at.state, at.control
        self._last = (state.global_step, None)
        self._take(at, "eval", {}, allowed)
        found = _with_prefix("eval", self._found)
        if self._trainer is None:
            epoch = {} if state.epoch is None else {"epoch": state.epoch}
            state.log_history.append({**found, **epoch, "step": state.global_step})
            return
        was_training, should_log = self._trainer.model.training, control.should_log
        self._trainer.model.training = False  # TRL empties what it has gathered of training when that is logged
        try:
            self._trainer.log(found)
        finally:
            self._trainer.model.training = was_training
            control.should_log = should_log  # which a log takes for done

    def _take(self, at: _Moment, prefix: str, metrics: dict[str, float], allowed: float | None) -> None:
        """Measure, record, show and decide; the numbers are `_found` then.

        Raises:
            Exception: what made it fail, if `strict`.
        """
        began = time.monotonic()
        self.report = None
        self._found = dict.fromkeys(self._keys(at), math.nan)
        try:
            with preserve_training_state(at.model):
                report = self.report = self._measured(at, allowed)
                self._found |= public_summary(report)
                records = report.records()
                if self.base_report is not None:
                    live = len(self.canaries) - len(report.dead)
                    mean = base_mean(_base_mean(report, self.base_report), self.canaries, live)
                    self._found["exposure_base_mean"] = mean
                    records = _beside_base(records, self.base_report)
                self._write(at, records)
                stops = run_on_all(lambda: self._told(report, at.state, metrics, prefix))
                if all_reduce_sum(float(stops)):
                    at.control.should_training_stop = True
            if self.strict and not report.is_valid:
                raise DataError(
                    "canaries",
                    "a canary of each repetition level that is trained on",
                    f"{len(report.dead)} dead ones: {', '.join(report.dead)}",
                    "See the record for what became of each; strict=False goes on without the numbers.",
                )
        except Exception as error:  # whatever it is, a training of days does not end for it
            if self.strict:
                raise
            unexpected = not isinstance(error, CanaryError)
            what = "The measurement" if self.report is None else "What was to be done about the measurement"
            logger.error("%s at step %d failed: %s", what, at.state.global_step, error, exc_info=unexpected)
            if self.report is None:
                self._write(at, [{"role": "failure", "error": told(error), "valid": False}])
        finally:
            self._budget.spend(time.monotonic() - began, allowed)

    @property
    def _named(self) -> str:
        """A name of the set that no other has, in the record."""
        return self.canaries.digest[:16]

    def _keys(self, at: _Moment) -> list[str]:
        return [*public_keys(self.canaries), *(["exposure_base_mean"] if has_adapter(at.model) else [])]

    def _measured(self, at: _Moment, allowed: float | None) -> ExposureReport:
        """The model as it is, with what is known of copies; without its adapters, where that was not known before.

        After each part the processes hear of one another's errors, so that none goes on alone.
        """
        tokenizer = self._tokenizer(at)
        self._read_before_training(at, tokenizer)
        self._take_what_batches_say(at)
        if self.base_report is None and has_adapter(at.model):
            self._measure_base(at, tokenizer)
        error = self._threshold.error(self._number + 1, len(self.canaries))
        report = run_on_all(lambda: self._measure(at, tokenizer, allowed, error))
        self._number += 1
        return run_on_all(lambda: self._copies.told(report, epochs=at.state.epoch or 0.0))

    def _read_before_training(self, at: _Moment, tokenizer: Any) -> None:
        """A measurement before any training, as a baseline: canaries are to stand behind what they will be trained
        behind.
        """
        if self._in_training or self._has_read or not self._checks or self._contexts.are_known:
            return
        self._has_read = True
        if self._trainer is None:
            logger.warning(
                "A measurement before the training: what will stand before the canaries is not known yet; they are "
                "measured behind nothing. Give the callback the trainer, trainer=trainer, or context=."
            )
            return
        collator = self._trainer._get_collator_with_removed_columns(self._trainer.data_collator)
        data = SimpleNamespace(dataset=self._trainer.train_dataset, collate_fn=collator)
        self._copies.begin(at.model, data, tokenizer, evaluation=None, context=self._contexts.given)
        if self._copies.presence is not None:
            self._contexts.take(self._copies.presence)

    def _take_what_batches_say(self, at: _Moment) -> None:
        """Of a stream, what stands before canaries is seen in its batches alone."""
        if self.presence is not None or not self._checks or not self._in_training:
            return
        seen = run_on_all(self._copies.surroundings)
        if seen is None:
            return
        told = self._contexts.lines
        if self._contexts.take_seen(seen, at.model):
            self.base_report = None  # which stood behind something else
            self._write(at, [self._contexts.record()], is_measurement=False)
        if self._contexts.lines not in ([], told) and at.state.is_world_process_zero:
            logger.warning("%s", "\n".join(["Seen in the batches so far:", *self._contexts.lines]))

    def _measure_base(self, at: _Moment, tokenizer: Any) -> None:
        """The model without its adapters; before the first step, since more than adapters may be trained."""
        try:
            with without_adapter(at.model):
                self.base_report = run_on_all(lambda: self._measure(at, tokenizer, self._budget.each, None))
        except Exception as error:
            if self.strict:
                raise
            logger.error("The model without its adapters could not be measured: %s", error)

    def _measure(self, at: _Moment, tokenizer: Any, allowed: float | None, error: float | None) -> ExposureReport:
        contexts = self._contexts
        if self._measurement is None or self._measurement[:2] != (tokenizer, repr(contexts)):
            measurement = Measurement(
                self.canaries,
                tokenizer,
                num_references=self.num_references,
                num_draws=_DRAWS,
                bootstrap=0,
                counting=_COUNTING,
                seed=self.seed,
                context=contexts.context,
                source_prefix=contexts.source_prefix,
                batch_size=self.batch_size,
            )
            self._measurement = (tokenizer, repr(contexts), measurement)
        with self.watch(quiet=at.quiet) as progress:
            return self._measurement[2].of(at.model, max_seconds=allowed, error=error, progress=progress)

    def _told(self, report: ExposureReport, state: TrainerState, metrics: dict[str, float], prefix: str) -> bool:
        """Show the measurement, and do what is to be done when canaries are above the threshold: whether to stop."""
        if state.is_local_process_zero:
            self.show(report, state, metrics, prefix)
        above = self._threshold.exceeded(report)
        if not above:
            return False
        stops = self._threshold.stops(report, above)
        if state.is_local_process_zero and not callable(self._threshold.on_exceed):
            words = "Step %d: exposure of %s bits and more: %s.%s"
            then = " The training stops." if stops else ""
            named = ", ".join(above)
            logger.warning(words, state.global_step, self._threshold.bits, named, then)
        return stops

    def _write(self, at: _Moment, records: list[dict[str, Any]], *, is_measurement: bool = True) -> None:
        """Into the record; what cannot be written is logged, and an error only if `strict`."""
        when = {"step": at.state.global_step, "epoch": at.state.epoch, "canaries": self._named}
        self._has_measured |= is_measurement
        try:
            from_main(lambda: at.record.append(when, records))
        except Exception as error:
            if self.strict:
                raise
            logger.error("The record of step %d could not be written: %s", at.state.global_step, error)

    def _leave_fingerprint(self, args: TrainingArguments, folder: Path) -> None:
        """Beside weights that were saved; what cannot be written is logged."""
        if not args.should_save or not folder.is_dir():
            return
        try:
            leave_fingerprint(folder, self.canaries)
        except OSError as error:
            logger.error("%s has no fingerprint of the canaries: %s", folder, error)

    def _draw(self, record: Record) -> None:
        from .reporting.plots import exposure_over_training

        try:
            largest = max(format.space_size for format in self.canaries.formats)
            exposure_over_training(record.lines(), largest, record.file.with_name(PICTURE_FILE))
        except Exception as error:  # the training is over, and its numbers are written
            logger.error("The picture could not be drawn: %s", error)


def _moment(args: TrainingArguments, state: TrainerState, control: TrainerControl, rest: Mapping[str, Any]) -> _Moment:
    """Of what an event brings."""
    return _Moment(args, state, control, rest["model"], rest.get("processing_class"))


def _begun(
    record: Record, step: int, canaries: str, *, stays: bool, is_own: bool
) -> tuple[int, bool, dict[str, int] | None]:
    """How many measurements there were before a training starts at a step, whether one at that step stays, and the
    copies that had been trained on by then, if that is known. Those that will be taken anew are dropped, and those of
    an earlier training are set aside; measurements before the first step are `is_own`, or that training's.

    Raises:
        DataError: a training that goes on measured other canaries.
    """
    if any(
        line.get("canaries", canaries) != canaries and line.get("step") in range(1, step + 1) for line in record.lines()
    ):
        raise DataError(
            "canaries",
            f"the set that the training was begun with, since it goes on from step {step}",
            f"another: that of {record.file} is not {canaries}",
            "Load the one that was saved then, CanarySet.load(...), or begin anew in another output_dir.",
        )
    aside = record.set_aside(with_last=not is_own) if step == 0 else None
    if aside is not None:
        logger.warning("%s was that of an earlier training: its measurements are in %s now.", record.file, aside.name)
    record.forget_after(step)
    here = [line for line in record.lines() if line.get("step") == step]
    copies = {line["canary_id"]: line["copies_trained"] for line in here if "copies_trained" in line}
    if not stays:
        record.forget_after(step - 1)
    measurements = {line.get("step") for line in record.lines() if line.get("role") == "canary"}
    here = [line for line in here if line.get("role") != CONTEXTS]
    return len(measurements), stays and bool(here), copies or None


def _evaluations(args: TrainingArguments, state: TrainerState) -> int:
    """How many evaluations a training has, at most; one at its start among them."""
    each = 0
    if args.eval_strategy == "steps":
        each = -(-state.max_steps // max(1, int(state.eval_steps or 1)))  # some trainers evaluate after the last step
    elif args.eval_strategy == "epoch":
        each = min(state.num_train_epochs, state.max_steps)  # of a stream nobody knows
    return each + bool(args.eval_on_start)


def _chooses(args: TrainingArguments, prefix: str = "") -> bool:
    """Whether one of our keys chooses the best model: a key that is missing would end the training."""
    name = args.metric_for_best_model or ""
    name = name if name.startswith("eval_") else f"eval_{name}"
    return "exposure_" in name and name.startswith(f"{prefix}_exposure" if prefix else "")


def _ends_epoch(state: TrainerState) -> bool:
    return state.epoch is not None and float(state.epoch).is_integer()


def _ends(control: TrainerControl) -> bool:
    return bool(control.should_training_stop or control.should_epoch_stop)


def _with_prefix(prefix: str, found: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in found.items()}


def _base_mean(report: ExposureReport, base: ExposureReport) -> float:
    """Of the canaries that count, the mean exposure without adapters."""
    if not report.is_valid:
        return math.nan
    values = [each.value for each in _main(base) if each.canary_id not in report.dead and not math.isnan(each.value)]
    return statistics.fmean(values) if values else math.nan


def _beside_base(records: list[dict[str, Any]], base: ExposureReport) -> list[dict[str, Any]]:
    """With what the model without adapters says of the same canary."""
    of = {
        each.canary_id: plain({"base_value": each.value, "base_log_perplexity": each.log_perplexity})
        for each in _main(base)
    }
    return [record | of[record["canary_id"]] if record["role"] == "canary" else record for record in records]


def _main(report: ExposureReport) -> list[Exposure]:
    return [each for each in report if each.estimator == "auto"]


def one_line(report: ExposureReport, num_references: int | None = None) -> str:
    """A measurement in one line: exposure by repetition level, measured and skew-normal, with the twins as control; and
    how few references it had time for, if there were fewer than asked for.
    """
    if not report.is_valid:
        return "exposure (bits)  INVALID: of some repetition level no canary is trained on"
    named = public_levels(report.canaries)
    levels = [(name, report.level(*copies)) for name, copies in named.items()]
    measured = "  ".join(f"{_level_name(name, level)} {_level_value(level)}" for name, level in levels)
    found = public_summary(report)
    skewed = "  ".join(f"{name} {_or_nothing(found[f'exposure_skewnorm_{name}'])}".replace("x", "×") for name in named)
    twins = _or_nothing(found.get("exposure_twin_mean", math.nan))
    line = f"exposure (bits)  {measured} · skew-normal  {skewed} · twins {twins}"
    fewest = min((len(group.references) for group in report.groups), default=0)
    is_short = num_references is not None and any(
        len(group.references) < possible_references(num_references, group.format, group.known)
        for group in report.groups
    )
    return f"{line} · in time for {fewest:,} references" if is_short else line


def _level_name(name: str, level: Level) -> str:
    """As ×4; with the copies that were found, where they are not those."""
    fewest, most = level.found or (0, 0)
    found = f" ({fewest if fewest == most else f'{fewest} to {most}'} found)" if level.lacks_copies else ""
    return name.replace("x", "×") + found


def _level_value(level: Level) -> str:
    """Its median; a bound is rounded down."""
    value = level.values["auto"]
    return f"≥ {math.floor(10 * value) / 10:.1f}" if level.censored["auto"] else _or_nothing(value)


def _or_nothing(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"

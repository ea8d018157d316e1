"""The callback: when to look at a model in training, what to log, where to write it. No formula stands here."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .canaries import CanarySet
from .errors import CanaryError, DataError, ModelError, shown
from .files import replacing
from .language_model import check_batch_size
from .measure import check_measurable, check_request, measure_exposure
from .presence import Presence, check_presence
from .processes import everywhere, from_main
from .results import ExposureReport, summary_keys
from .trained import TrainedCopies

logger = logging.getLogger(__name__)

RECORD_FILE = "exposure.jsonl"


class ExposureCallback(TrainerCallback):
    """Measures the exposure of canaries at every evaluation of a `Trainer`, and logs it beside the loss.

    `Trainer(..., callbacks=[ExposureCallback(canaries)])` puts the numbers into the metrics (best-model selection,
    early stopping after it in the list), `trainer.state.log_history`, the terminal and a record file. With the
    trainer given, `trainer.add_callback(ExposureCallback(canaries, trainer=trainer))`, they are part of the
    evaluation's own metrics, and so reach every reporter (TensorBoard, Weights & Biases, ...) and the model card; the
    evaluation's runtime then contains the look's.

    Keys, after the prefix of the evaluation (`eval_`): `exposure_mean`, `exposure_max`, `exposure_x{repetitions}`
    (median of the level), the same three with `exposure_skewnorm_`, `exposure_twin_mean` (the control, 1.4 bits on
    average), in bits, higher means better memorised; `exposure_censored`, how many canaries were likelier than
    every candidate looked at, so that the numbers are too low for them; `exposure_seconds`. The record file
    `exposure.jsonl` in `output_dir` has one line for each look, canary or twin, and estimator, never with a text. A
    training that starts at some step drops the lines of later steps, which it will write anew.

    Before the first step it reads the trainer's dataset and says which canaries are not in it, and why (`presence`); as
    training goes on it counts the copies in the batches. A canary that is not trained on is dead: named in the log and
    the record, and left out of the numbers. Where a repetition level has no other, the run is INVALID and every key is
    NaN. A stream cannot be read ahead; there the batches of the first epoch tell.

    A look leaves the model's mode and every random state as they were. A look that fails does not end the training:
    the error is logged and every key is NaN. What would make all looks fail is found before the first step.

    Args:
        canaries: the set that was injected into the training data.
        trainer: the trainer to bind to, if its reporters are to see the numbers.
        tokenizer: None takes the trainer's `processing_class`.
        num_references: random candidates of each format that a look scores.
        seed: draws the references, the same at each look.
        context: text before each canary; conditioned on, not summed.
        batch_size: rows of one forward pass of a look; None chooses.
        presence: whether to check that canaries are trained on; takes some seconds for a million rows.

    Raises:
        DataError, FormatError: canaries or a number of references that cannot be measured on any model.
        ModelError: at the start of training: no tokenizer, a character that it cannot represent, a canary longer
            than the model's positions, logits that are no numbers.

    Attributes:
        report: the `ExposureReport` of the last look, or None.
        presence: what the check before the first step found, a `Presence`, or None.

    Example:
        >>> from hf_canary import CanaryFormat, CanarySet, ExposureCallback
        >>> canaries = CanarySet.draw(CanaryFormat("My PIN is {digit:4}"), seed=0)
        >>> callback = ExposureCallback(canaries, num_references=1000)  # Trainer(..., callbacks=[callback])
    """

    def __init__(
        self,
        canaries: CanarySet,
        *,
        trainer: Any = None,
        tokenizer: Any = None,
        num_references: int = 10_000,
        seed: int = 0,
        context: str | None = None,
        batch_size: int | None = None,
        presence: bool = True,
    ) -> None:
        check_request(canaries, num_references)
        check_batch_size(batch_size)
        self.canaries = canaries
        self.tokenizer = tokenizer
        self.num_references = num_references
        self.seed = seed
        self.context = context
        self.batch_size = batch_size
        self.report: ExposureReport | None = None
        self.presence: Presence | None = None
        self._checks = presence
        self._trained: TrainedCopies | None = None
        self._hook: Any = None
        self._began_first = False
        self._bound, self._trainer = trainer is not None, trainer
        # Step and prefix of the last look: further evaluation sets of a step are not looked at again.
        self._last_look: tuple[int, str] | None = None
        if trainer is not None:
            self._bind(trainer)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        tokenizer = self._tokenizer(kwargs.get("processing_class"))
        check_measurable(kwargs["model"], tokenizer, self.canaries, context=self.context)
        if args.eval_strategy == "no":
            logger.warning(
                "ExposureCallback looks at evaluations, and eval_strategy is 'no': set eval_strategy and eval_dataset."
            )
        reporters = [args.report_to] if isinstance(args.report_to, str) else list(args.report_to or ())
        if not self._bound and set(reporters) - {"none"}:
            logger.warning(
                "The exposures reach log_history and %s, but not %s: for that, "
                "trainer.add_callback(ExposureCallback(canaries, trainer=trainer)).",
                RECORD_FILE,
                ", ".join(reporters),
            )
        if state.is_world_process_zero:
            self._forget_after(self._record(args), state.global_step)
        self._last_look = None
        if self._checks:
            self._watch(args, state, tokenizer, **kwargs)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        metrics = kwargs.get("metrics")
        if self._bound or metrics is None:
            return
        prefix = next((name.removesuffix("_runtime") for name in metrics if name.endswith("_runtime")), "eval")
        if self._looked_beside(state.global_step, prefix):
            return
        found = self._look(args, state, kwargs["model"], kwargs.get("processing_class"), prefix, metrics)
        metrics.update(found)
        # The trainer has logged a copy of the metrics already: what we add belongs into the same entry.
        if state.log_history and f"{prefix}_runtime" in state.log_history[-1]:
            state.log_history[-1].update(found)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # load_best_model_at_end may have changed the weights without a step.
        self._last_look = None
        self._unhook()

    def show(self, report: ExposureReport, state: TrainerState, metrics: dict[str, float], prefix: str) -> None:
        """Print one look in one line; override it to show looks elsewhere."""
        loss = metrics.get(f"{prefix}_loss")
        beside = "" if loss is None else f" · {prefix} loss {loss:.3f}"
        tqdm.write(f"step {state.global_step}{beside} · {one_line(report)}")

    @contextmanager
    def watch(self, *, quiet: bool) -> Iterator[Callable[[int], object]]:
        """A progress bar for one look, off where it is not wanted or not a terminal; override it for another kind."""
        with tqdm(desc="Exposure", unit=" texts", leave=False, disable=True if quiet else None) as bar:
            yield bar.update

    def _bind(self, trainer: Any) -> None:
        """Add our numbers to the metrics that the trainer's own evaluation loop returns, before anyone reads them."""
        inner = trainer.evaluation_loop

        def evaluation_loop(*args: Any, **kwargs: Any) -> Any:
            output = inner(*args, **kwargs)
            prefix = kwargs.get("metric_key_prefix", "eval")
            is_evaluation = kwargs.get("description") == "Evaluation"
            if is_evaluation and not self._looked_beside(trainer.state.global_step, prefix):
                found = self._look(
                    trainer.args, trainer.state, trainer.model, trainer.processing_class, prefix, output.metrics
                )
                output.metrics.update(found)
            return output

        trainer.evaluation_loop = evaluation_loop
        step = trainer.training_step

        def training_step(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._see(inputs)
            return step(model, inputs, *args, **kwargs)

        trainer.training_step = training_step

    def _watch(self, args: TrainingArguments, state: TrainerState, tokenizer: Any, **kwargs: Any) -> None:
        """Check that the canaries are in the data, and count them from now on."""
        self.presence, self._trained, self._began_first = None, None, state.global_step == 0
        self._unhook()
        model, loader = kwargs["model"], kwargs.get("train_dataloader")
        target = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
        try:
            self._trained = TrainedCopies(self.canaries, tokenizer, target=target)
            if _can_be_read(getattr(loader, "dataset", None)):
                evaluation = self._trainer.eval_dataset if self._bound else None
                self.presence = from_main(lambda: presence_in(loader, self.canaries, tokenizer, target, evaluation))
        except Exception as error:
            logger.warning("Whether the canaries are in the data could not be checked: %s", shown(str(error)))
        if self.presence is not None and state.is_world_process_zero:
            is_fine = all(each.live == each.repetitions and not each.in_evaluation for each in self.presence)
            logger.log(logging.INFO if is_fine else logging.WARNING, "%s", self.presence)
        # A compiled model's hooks are compiled with it.
        if not self._bound and not args.torch_compile:
            self._hook = model.register_forward_pre_hook(self._before_forward, with_kwargs=True)

    def _before_forward(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if model.training:
            self._see({"input_ids": args[0] if args else None} | kwargs)

    def _see(self, inputs: Any) -> None:
        if self._trained is None:
            return
        try:
            self._trained.see(inputs.get("input_ids"), inputs.get("labels"))
        except Exception as error:  # a training does not end for it
            self._trained = None
            logger.warning("The copies in the batches are no longer counted: %s", shown(str(error)))

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _with_copies(self, report: ExposureReport, state: TrainerState) -> ExposureReport:
        """The report, with what is known of the copies that were trained on."""
        dead: dict[str, str] = {}
        copies: dict[str, dict[str, int]] = {canary.id: {} for canary in self.canaries}
        if self.presence is not None:
            dead = {each.canary_id: each.reason for each in self.presence if each.is_dead}
            for each in self.presence:
                copies[each.canary_id]["copies_found"] = each.live
        if everywhere(self._trained is not None) and self._trained is not None:
            for name, count in self._trained.counts().items():
                copies[name]["copies_trained"] = count
                if count:  # whatever was found beforehand
                    dead.pop(name, None)
                elif self._began_first and (state.epoch or 0.0) >= 1.0:
                    dead.setdefault(name, "in no batch")
        report = replace(report, dead=dead, copies=copies)
        if not report.is_valid:
            logger.error("INVALID: of some repetition level no canary is trained on; dead: %s.", ", ".join(dead))
        return report

    def _tokenizer(self, processing_class: Any) -> Any:
        tokenizer = self.tokenizer if self.tokenizer is not None else processing_class
        if tokenizer is None:
            raise ModelError(
                "tokenizer",
                "a tokenizer, for the canaries",
                "none, and a trainer without processing_class",
                "Give ExposureCallback(..., tokenizer=...) or Trainer(..., processing_class=...).",
            )
        return getattr(tokenizer, "tokenizer", tokenizer)

    def _looked_beside(self, step: int, prefix: str) -> bool:
        """Whether this step was looked at in another evaluation of it."""
        return self._last_look is not None and self._last_look[0] == step and self._last_look[1] != prefix

    def _look(
        self,
        args: TrainingArguments,
        state: TrainerState,
        model: Any,
        processing_class: Any,
        prefix: str,
        metrics: dict[str, float],
    ) -> dict[str, float]:
        """Measure, show and record; the numbers under their keys."""
        self._last_look = (state.global_step, prefix)
        self.report = None
        try:
            report = self._measure(model, self._tokenizer(processing_class), quiet=bool(args.disable_tqdm))
            report = self.report = self._with_copies(report, state)
            summary = report.summary()
            if state.is_local_process_zero:
                self.show(report, state, metrics, prefix)
            self._write(args, state, report.records())
        except Exception as error:  # whatever it is, a training of days does not end for it
            unexpected = not isinstance(error, CanaryError)
            logger.error(
                "The look at step %d failed; its exposures are NaN. %s", state.global_step, error, exc_info=unexpected
            )
            summary = dict.fromkeys(summary_keys(self.canaries), math.nan)
            with suppress(OSError):
                self._write(args, state, [{"role": "failure", "error": shown(str(error))}])
        return {f"{prefix}_{name}": value for name, value in summary.items()}

    def _measure(self, model: Any, tokenizer: Any, *, quiet: bool) -> ExposureReport:
        with self.watch(quiet=quiet) as progress:
            self.report = measure_exposure(
                model,
                tokenizer,
                self.canaries,
                num_references=self.num_references,
                bootstrap=0,
                seed=self.seed,
                context=self.context,
                batch_size=self.batch_size,
                progress=progress,
            )
        return self.report

    def _forget_after(self, record: Path, step: int) -> None:
        """Drop the looks beyond the step at which a training starts: it will take them anew."""
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True) if record.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        if kept != lines:
            with replacing(record) as beside:
                beside.write_text("".join(kept), encoding="utf-8")

    def _record(self, args: TrainingArguments) -> Path:
        return Path(args.output_dir or ".") / RECORD_FILE

    def _write(self, args: TrainingArguments, state: TrainerState, records: list[dict[str, Any]]) -> None:
        """Append one look in one write, so that a killed run leaves whole lines."""
        if not state.is_world_process_zero:
            return
        when = {"step": state.global_step, "epoch": state.epoch}
        lines = "".join(json.dumps(when | record, allow_nan=False) + "\n" for record in records)
        file = self._record(args)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as record_file:
            record_file.write(lines)


def _can_be_read(dataset: Any) -> bool:
    """Whether its rows can be asked for, beside the training; those of a stream cannot."""
    return hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")


def presence_in(loader: Any, canaries: CanarySet, tokenizer: Any, target: bool, evaluation: Any) -> Presence:
    """What is in the dataset of a loader, which is not started; and in the evaluation data, if they can be read."""
    options = {"target": target, "collator": loader.collate_fn}
    try:
        return check_presence(loader.dataset, canaries, tokenizer, evaluation=evaluation, **options)
    except DataError as error:
        if error.argument != "evaluation":
            raise
        logger.warning("The evaluation data could not be checked: %s", error)
        return check_presence(loader.dataset, canaries, tokenizer, **options)


def one_line(report: ExposureReport) -> str:
    """A look in one line: exposure by repetition level, measured and skew-normal, with the twins as control."""
    levels = report.levels
    measured = "  ".join(
        f"×{level.repetitions} {'≥' if level.censored['auto'] else ''}{level.values['auto']:.1f}" for level in levels
    )
    skewed = "  ".join(f"×{level.repetitions} {level.values['skewnorm']:.1f}" for level in levels)
    twins = report.summary()["exposure_twin_mean"]
    return f"exposure (bits)  {measured} · skew-normal  {skewed} · twins {twins:.1f}"

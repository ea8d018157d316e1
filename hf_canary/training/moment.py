"""What a trainer says of itself at an event. Knows no canary and no measurement."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from ..errors import ModelError
from ..inference.wrappers import unwrapped
from .record import Record

_KEPT_AS = "hf_canary"  # in the part of the state that goes into checkpoints


@dataclass(frozen=True)
class Moment:
    """A trainer at one of its events.

    Args:
        args: its arguments.
        state: how far it is.
        control: what it will do next.
        model: which it trains, without wrappers.
        processing_class: its tokenizer, or None.
        trainer: itself, where the callback is bound to it; else None.
    """

    args: TrainingArguments
    state: TrainerState
    control: TrainerControl
    model: Any
    processing_class: Any
    trainer: Any = None

    @classmethod
    def of_event(
        cls,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        rest: Mapping[str, Any],
        trainer: Any = None,
    ) -> Moment:
        """Of what a callback is given."""
        return cls(args, state, control, unwrapped(rest["model"]), rest.get("processing_class"), trainer)

    @classmethod
    def of_trainer(cls, trainer: Any) -> Moment:
        """Of a trainer between two events."""
        model = unwrapped(trainer.model)
        return cls(trainer.args, trainer.state, trainer.control, model, trainer.processing_class, trainer)

    @property
    def step(self) -> int:
        """Steps so far."""
        return int(self.state.global_step)

    @property
    def ends_epoch(self) -> bool:
        """Whether an epoch ends here, as far as steps tell."""
        return self.state.epoch is not None and float(self.state.epoch).is_integer()

    @property
    def ends(self) -> bool:
        """Whether the epoch or the training is about to be left."""
        return bool(self.control.should_training_stop or self.control.should_epoch_stop)

    @property
    def quiet(self) -> bool:
        """Whether progress bars are not wanted, in this process."""
        return bool(self.args.disable_tqdm) or not self.state.is_local_process_zero

    @property
    def trial(self) -> str | None:
        """In a search of hyperparameters, the name of the trial's folder in `output_dir`; else None."""
        if not self.state.is_hyper_param_search:
            return None
        trainer = self.trainer or trainer_of(self.state)
        if trainer is None:
            name = self.state.trial_name
            return None if name is None else str(name)
        name = os.path.relpath(trainer._get_output_dir(trainer._trial), self.args.output_dir or ".")
        return None if name == os.curdir else name

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Of the trial, as JSON has them."""
        given = self.state.trial_params or {}
        return {str(name): value if _is_plain(value) else repr(value) for name, value in given.items()}

    @property
    def record(self) -> Record:
        """The file of this training."""
        return Record(self.args.output_dir or ".", self.trial)

    @property
    def begun_as(self) -> str | None:
        """The name that the training had in its record when it was begun; None if it begins here."""
        kept = self.state.stateful_callbacks.get(_KEPT_AS) if self.step else None
        attributes = kept.get("attributes") if isinstance(kept, dict) else None
        name = attributes.get("training") if isinstance(attributes, dict) else None
        return name if isinstance(name, str) else None

    def keep_name(self, name: str) -> None:
        """Have the name in every checkpoint, for whoever goes on from it."""
        self.state.stateful_callbacks[_KEPT_AS] = {"args": {}, "attributes": {"training": name}}

    def tokenizer(self, given: Any) -> Any:
        """The one that was given, or the trainer's; of a processor, its tokenizer.

        Raises:
            ModelError: there is none.
        """
        tokenizer = given if given is not None else self.processing_class
        if tokenizer is None:
            raise ModelError(
                "tokenizer",
                "a tokenizer, for the canaries",
                "none, and a trainer without processing_class",
                "Give ExposureCallback(..., tokenizer=...) or Trainer(..., processing_class=...).",
            )
        return getattr(tokenizer, "tokenizer", tokenizer)

    @property
    def most_evaluations(self) -> int:
        """How many evaluations the training has, at most; one at its start among them."""
        args, state, each = self.args, self.state, 0
        if args.eval_strategy == "steps":
            each = -(-state.max_steps // max(1, int(state.eval_steps or 1)))  # some trainers evaluate after the last
        elif args.eval_strategy == "epoch":
            each = min(state.num_train_epochs, state.max_steps)  # of a stream nobody knows
        return each + bool(args.eval_on_start)

    def is_chosen_by_exposure(self, prefix: str = "") -> bool:
        """Whether one of our keys chooses the best model, so that it must not be missing; of an evaluation with this
        prefix, if one is given.
        """
        name = self.args.metric_for_best_model or ""
        name = name if name.startswith("eval_") else f"eval_{name}"
        return "exposure_" in name and name.startswith(f"{prefix}_exposure" if prefix else "")


def trainer_of(state: TrainerState) -> Any:
    """The trainer that is calling, by the state that is its own; None if none is.

    A trainer tells its callbacks all but itself. Which trial it is at, and who else watches it, it alone knows.
    """
    from transformers import Trainer

    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        caller = frame.f_locals.get("self")
        if isinstance(caller, Trainer) and caller.state is state:
            return caller
    return None


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))

"""What a trainer says of itself at an event. Knows no canary and no measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from ..errors import ModelError
from ..inference.wrappers import unwrapped
from .record import Record


@dataclass(frozen=True)
class Moment:
    """A trainer at one of its events.

    Args:
        args: its arguments.
        state: how far it is.
        control: what it will do next.
        model: which it trains, without wrappers.
        processing_class: its tokenizer, or None.
    """

    args: TrainingArguments
    state: TrainerState
    control: TrainerControl
    model: Any
    processing_class: Any

    @classmethod
    def of_event(
        cls, args: TrainingArguments, state: TrainerState, control: TrainerControl, rest: Mapping[str, Any]
    ) -> Moment:
        """Of what a callback is given."""
        return cls(args, state, control, unwrapped(rest["model"]), rest.get("processing_class"))

    @classmethod
    def of_trainer(cls, trainer: Any) -> Moment:
        """Of a trainer between two events."""
        model = unwrapped(trainer.model)
        return cls(trainer.args, trainer.state, trainer.control, model, trainer.processing_class)

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
        """Whether progress bars are not wanted."""
        return bool(self.args.disable_tqdm)

    @property
    def record(self) -> Record:
        """The file of this training."""
        return Record(self.args.output_dir or ".")

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

"""Whether canaries reach the model: looked up in the data before the first step, then counted in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..canaries import CanarySet
from ..errors import DataError, without_data
from ..inference.evaluation import reads_sources
from ..presence.batches import TrainedCopies
from ..presence.check import presence_of
from ..presence.report import Presence
from ..presence.surroundings import Surroundings
from ..presence.token_search import Occurrences
from ..reporting.exposure_report import ExposureReport
from ..runtime.processes import all_true, from_main, is_main_process
from ..tokenization.contexts import Before

logger = logging.getLogger(__name__)


class Copies:
    """The copies that one training is known to have, and has seen.

    Args:
        canaries: the set that was injected.

    Attributes:
        presence: what was found in the data, or None.
    """

    def __init__(self, canaries: CanarySet) -> None:
        self._canaries = canaries
        self.presence: Presence | None = None
        self._trained: TrainedCopies | None = None
        self._made: tuple[Any, int, Occurrences] | None = None  # for this tokenizer, of so many tokens
        self._before: Mapping[str, int] | None = {}
        self._hook: Any = None

    def begin(
        self,
        model: Any,
        loader: Any,
        tokenizer: Any,
        *,
        evaluation: Any,
        context: Before | Sequence[Before],
        own_texts: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Look the canaries up in the data of a loader, which is not started, and count them in batches from now on.

        Args:
            model: that is trained.
            loader: of the training data; a stream is not read.
            tokenizer: that made the tokens.
            evaluation: data that should hold no canary, or None.
            context: what was given by hand, and is held against the data; None if nothing was.
            own_texts: whether the model is trained on texts that it writes itself, so that neither data nor batches say
                what it learns.
            progress: called with the number of rows read since the last call.
        """
        self.end()
        self.presence, self._trained, self._before = None, None, {}
        if own_texts:
            if is_main_process():
                logger.warning(
                    "The model is trained on what it writes itself: whether it learns the canaries, and behind what, "
                    "cannot be told from the data. They are measured all the same: behind context=, if it is given, "
                    "else behind nothing, or their sources alone."
                )
            return
        target = reads_sources(model)
        try:
            occurrences = self._occurrences(tokenizer, target)
            self._trained = TrainedCopies(self._canaries, tokenizer, occurrences)
            if can_be_read(getattr(loader, "dataset", None)):
                self.presence = from_main(
                    lambda: _presence_in(loader, occurrences, self._canaries, tokenizer, evaluation, context, progress)
                )
        except Exception as error:
            logger.warning(
                "Whether the canaries are in the data, and behind what, could not be checked before the first step; "
                "the batches will tell, as far as they have labels. %s",
                without_data(error),
            )

    def _occurrences(self, tokenizer: Any, target: bool) -> Occurrences:
        """Worked out once, for all trainings with a tokenizer."""
        made = self._made
        if made is None or made[0] is not tokenizer or made[1] != len(tokenizer) or made[2].target != target:
            made = self._made = tokenizer, len(tokenizer), Occurrences(self._canaries, tokenizer, target=target)
        return made[2]

    def go_on(self, before: Mapping[str, int] | None) -> None:
        """Copies counted before this start, by id; None if they are not known, {} if there were no steps."""
        self._before = before

    def surroundings(self) -> Surroundings | None:
        """What stood before the copies in batches so far, None if nobody watches; all processes must ask together."""
        if not all_true(self._trained is not None) or self._trained is None:
            return None
        return self._trained.surroundings()

    def hook(self, model: Any) -> None:
        """See the batches as the model gets them, until the end."""
        self._hook = model.register_forward_pre_hook(self._before_forward, with_kwargs=True)

    def end(self) -> None:
        """Take the hook off."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def see(self, inputs: Any) -> None:
        """A batch that is trained on."""
        if self._trained is None:
            return
        try:
            self._trained.see(inputs)
        except Exception as error:  # a training does not end for it
            self._trained = None
            logger.warning("The copies in the batches are no longer counted: %s", without_data(error))

    @property
    def is_fine(self) -> bool:
        """Whether all that was found is as it should be."""
        return self.presence is None or (
            not self.presence.doubts
            and len(set(self.presence.context)) <= len(self._canaries.formats)  # more of them take more time
            and all(each.live == each.repetitions and not each.in_evaluation for each in self.presence)
        )

    def annotate(self, report: ExposureReport, *, epochs: float) -> ExposureReport:
        """The report, with what is known of the copies after so many epochs; all processes must ask together."""
        dead: dict[str, str] = {}
        copies: dict[str, dict[str, int]] = {canary.id: {} for canary in self._canaries}
        if self.presence is not None:
            dead = {each.canary_id: each.reason for each in self.presence if each.is_dead}
            for each in self.presence:
                copies[each.canary_id]["copies_found"] = each.live
        if all_true(self._trained is not None) and self._trained is not None:
            for name, since in self._trained.counts().items():
                count = since + (self._before or {}).get(name, 0)
                if self._before is not None:
                    copies[name]["copies_trained"] = count
                if count:  # whatever was found beforehand
                    dead.pop(name, None)
                elif self._before is not None and epochs >= 1.0:
                    dead.setdefault(name, "in no batch")
        report = replace(report, dead=dead, copies=copies)
        if not report.is_valid:
            logger.error("INVALID: of some repetition level no canary is trained on; dead: %s.", ", ".join(dead))
        return report

    def _before_forward(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if model.training and torch.is_grad_enabled():  # else it is a pass of which nothing is learned
            self.see({"input_ids": args[0] if args else None} | kwargs)


def can_be_read(dataset: Any) -> bool:
    """Whether its rows can be asked for, beside the training; those of a stream cannot."""
    return hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")


def num_rows(*given: Any) -> int:
    """Of data that can be read, or of several in a dict: what is to be read."""
    each = [one for data in given for one in (data.values() if isinstance(data, dict) else (data,))]
    return sum(map(_length, each))


def _length(dataset: Any) -> int:
    try:
        return len(dataset) if can_be_read(dataset) else 0
    except Exception:  # torch's chains of streams have a length that fails
        return 0


def _presence_in(
    loader: Any,
    occurrences: Occurrences,
    canaries: CanarySet,
    tokenizer: Any,
    evaluation: Any,
    context: Before | Sequence[Before],
    progress: Callable[[int], object] | None,
) -> Presence:
    """What is in the dataset of a loader, which is not started; and in the evaluation data, if they can be read."""
    options = {"collator": loader.collate_fn, "context": context, "progress": progress}
    given = (occurrences, loader.dataset, canaries, tokenizer)
    try:
        return presence_of(*given, evaluation=evaluation, **options)
    except DataError as error:
        if error.argument != "evaluation":
            raise
        logger.warning("The evaluation data could not be checked: %s", error)
        return presence_of(*given, **options)

"""Which copies of canaries were in the batches that a model was trained on. Looks at ids and labels; calls no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ..canaries import CanarySet
from ..runtime.processes import all_gather, all_reduce_sums
from .check import classify
from .report import WHOLE
from .sequences import LIMITS, cut
from .surroundings import Surroundings
from .token_rows import IGNORED
from .token_search import Occurrences

# So much is looked at together; until then it is where it was, so that no step waits for it.
_BATCHES, _TOKENS = 64, 2**20
# Beside ids and labels: which tokens are padding, and where sequences begin.
_BESIDE = ("attention_mask", "position_ids", "seq_idx")


class TrainedCopies:
    """Counts the copies in batches, as they are trained on, and takes down what stands before them.

    Args:
        canaries: the set that was injected.
        tokenizer: that made the tokens.
        occurrences: of the set in tokens of this tokenizer.
    """

    def __init__(self, canaries: CanarySet, tokenizer: Any, occurrences: Occurrences) -> None:
        self._canaries, self._occurrences = canaries, occurrences
        self._surroundings = Surroundings(canaries, tokenizer, occurrences)
        self._sources = {
            number: canary.source
            for number, canary in enumerate(canaries)
            if occurrences.target and canary.source is not None
        }
        self._waiting: list[dict[str, torch.Tensor]] = []
        self._counts = Counter[int]()
        self._has_seen = False

    def see(self, inputs: Any) -> None:
        """A batch, with (rows, n) ids and labels, or a mask of what is trained on. Any other is let pass: nobody knows
        what the loss is of.
        """
        if not isinstance(inputs, Mapping):
            return
        ids, labels = inputs.get("input_ids"), _labels(inputs)
        if not (isinstance(ids, torch.Tensor) and isinstance(labels, torch.Tensor) and ids.dim() == labels.dim() == 2):
            return
        if len(ids) != len(labels) or not (self._occurrences.target or ids.shape == labels.shape):
            return
        batch = {"input_ids": ids.detach(), "labels": labels.detach()}
        for name in _BESIDE:
            beside = inputs.get(name)
            if isinstance(beside, torch.Tensor) and beside.shape == ids.shape:
                batch[name] = beside.detach()
        for name in LIMITS:
            limits = inputs.get(name)
            if isinstance(limits, torch.Tensor) and len(ids) == 1:
                batch[name] = limits.detach().reshape(1, -1)
        self._waiting.append(batch)
        self._has_seen = True
        waiting = sum(batch["input_ids"].numel() for batch in self._waiting)
        if len(self._waiting) >= _BATCHES or waiting >= _TOKENS:
            self._count()

    def counts(self) -> dict[str, int]:
        """Copies by the id of their canary, in the batches of all processes, which must ask together; nothing at all
        before the first batch.
        """
        failed: Exception | None = None
        try:
            self._count()
        except Exception as error:  # the others must not wait for this one
            failed = error
        mine = [float(failed is not None), float(self._has_seen)]
        lost, seen, *counts = all_reduce_sums(
            mine + [float(self._counts[number]) for number in range(len(self._canaries))]
        )
        if failed is not None:
            raise failed
        if lost or not seen:
            return {}
        return {canary.id: int(count) for canary, count in zip(self._canaries, counts, strict=True)}

    def surroundings(self) -> Surroundings | None:
        """What stood before the copies so far, in the batches of all processes, which must ask together; None where it
        is not known in one of them.
        """
        failed: Exception | None = None
        try:
            self._count()
        except Exception as error:  # the others must not wait for this one
            failed = error
        states = all_gather("" if failed is not None else self._surroundings.state())
        if failed is not None:
            raise failed
        return self._surroundings.of_all(states) if all(states) else None

    def _count(self) -> None:
        waiting, self._waiting = self._waiting, []
        for batch in waiting:
            sequences = list(self._sequences(batch))
            column = "labels" if self._occurrences.target else "input_ids"
            flat = np.concatenate([sequence[column] for sequence in sequences])
            lengths = np.array([len(sequence[column]) for sequence in sequences])
            for hit in self._occurrences.find([(flat, lengths)]).hits:
                source = self._sources.get(hit.core.number)
                if hit.row == hit.last_row and not hit.is_cut:
                    outcome, there = classify(sequences[hit.row], hit, self._occurrences, source)
                    if outcome is WHOLE and there is not None:
                        self._counts[hit.core.number] += 1
                        self._surroundings.see(sequences[hit.row], there)

    def _sequences(self, batch: Mapping[str, torch.Tensor]) -> Iterator[dict[str, Any]]:
        """Of a batch, one by one: its rows, or what these hold."""
        arrays = {name: values.cpu().numpy() for name, values in batch.items()}
        for number in range(len(arrays["input_ids"])):
            row = {name: values[number] for name, values in arrays.items()}
            yield from [row] if self._occurrences.target else cut(row)


def _labels(inputs: Mapping[str, Any]) -> Any:
    """Those of a batch; of one of a preference trainer, the ids of completions."""
    ids, mask = inputs.get("input_ids"), inputs.get("completion_mask")
    if inputs.get("labels") is None and isinstance(ids, torch.Tensor) and isinstance(mask, torch.Tensor):
        return ids.masked_fill(mask == 0, IGNORED) if mask.shape == ids.shape else None
    return inputs.get("labels")

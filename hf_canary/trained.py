"""Which copies of canaries were in the batches that a model was trained on. Looks at ids and labels; calls no model."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from .canaries import CanarySet
from .occurrences import Occurrences
from .presence import judged
from .processes import summed

# So much is looked at together; until then it is where it was, so that no step waits for it.
_BATCHES, _TOKENS = 64, 2**20


class TrainedCopies:
    """Counts the copies in batches, as they are trained on.

    Args:
        canaries: the set that was injected.
        tokenizer: that made the tokens.
        target: whether canaries are what a decoder writes, in the labels.
    """

    def __init__(self, canaries: CanarySet, tokenizer: Any, *, target: bool) -> None:
        self._canaries = canaries
        self._occurrences = Occurrences(canaries, tokenizer, target=target)
        self._waiting: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        self._counts = Counter[int]()
        self._has_seen = False

    def see(self, ids: Any, labels: Any) -> None:
        """A batch: (rows, n) ids and labels; anything else is let pass."""
        if not isinstance(ids, torch.Tensor) or ids.dim() != 2:
            return
        same = isinstance(labels, torch.Tensor) and labels.dim() == 2 and len(labels) == len(ids)
        self._waiting.append((ids.detach(), labels.detach() if same else None))
        self._has_seen = True
        if len(self._waiting) >= _BATCHES or sum(ids.numel() for ids, _ in self._waiting) >= _TOKENS:
            self._count()

    def counts(self) -> dict[str, int]:
        """Copies by the id of their canary, in the batches of all processes, which must ask together; nothing at all
        before the first batch.
        """
        self._count()
        if not summed(float(self._has_seen)):
            return {}
        return {canary.id: int(summed(float(self._counts[number]))) for number, canary in enumerate(self._canaries)}

    def _count(self) -> None:
        waiting, self._waiting = self._waiting, []
        for ids, labels in waiting:
            rows = [{"input_ids": row} for row in ids.cpu().numpy()]
            if labels is not None:
                rows = [row | {"labels": its} for row, its in zip(rows, labels.cpu().numpy(), strict=True)]
            column = "labels" if self._occurrences.target else "input_ids"
            if not all(column in row for row in rows):
                continue
            flat = np.concatenate([row[column] for row in rows])
            lengths = np.array([len(row[column]) for row in rows])
            for hit in self._occurrences.find([(flat, lengths)]).hits:
                if hit.row == hit.last_row and judged(rows[hit.row], hit, self._occurrences) == "whole":
                    self._counts[hit.core.number] += 1

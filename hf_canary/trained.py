"""Which copies of canaries were in the batches that a model was trained on. Looks at ids and labels; calls no model."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from .canaries import CanarySet
from .occurrences import Occurrences
from .presence import judged
from .processes import totals

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
        self._sources = {
            number: canary.source for number, canary in enumerate(canaries) if target and canary.source is not None
        }
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._counts = Counter[int]()
        self._has_seen = False

    def see(self, ids: Any, labels: Any) -> None:
        """A batch: (rows, n) ids and labels. Any other is let pass, also one without labels: nobody knows what the loss
        is of.
        """
        if not all(isinstance(each, torch.Tensor) and each.dim() == 2 for each in (ids, labels)):
            return
        if len(ids) != len(labels) or not (self._occurrences.target or ids.shape == labels.shape):
            return
        self._waiting.append((ids.detach(), labels.detach()))
        self._has_seen = True
        if len(self._waiting) >= _BATCHES or sum(ids.numel() for ids, _ in self._waiting) >= _TOKENS:
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
        lost, seen, *counts = totals(mine + [float(self._counts[number]) for number in range(len(self._canaries))])
        if failed is not None:
            raise failed
        if lost or not seen:
            return {}
        return {canary.id: int(count) for canary, count in zip(self._canaries, counts, strict=True)}

    def _count(self) -> None:
        waiting, self._waiting = self._waiting, []
        for ids, labels in waiting:
            both = zip(ids.cpu().numpy(), labels.cpu().numpy(), strict=True)
            rows = [{"input_ids": row, "labels": its} for row, its in both]
            column = "labels" if self._occurrences.target else "input_ids"
            flat = np.concatenate([row[column] for row in rows])
            lengths = np.array([len(row[column]) for row in rows])
            for hit in self._occurrences.find([(flat, lengths)]).hits:
                source = self._sources.get(hit.core.number)
                is_in_one = hit.row == hit.last_row and not hit.is_cut
                if is_in_one and judged(rows[hit.row], hit, self._occurrences, source) == "whole":
                    self._counts[hit.core.number] += 1

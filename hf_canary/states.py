"""The states of a batch of prefixes: tensors with the row first, or a cache of transformers whose rows are forked.

Knows tensors and caches; calls no model, and knows no bits, no walk and no text.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class States(Protocol):
    """The states of `num_rows` prefixes."""

    @property
    def num_rows(self) -> int: ...

    def select(self, rows: Ints) -> States:
        """The states of these rows, in this order; a row may be taken several times."""
        ...


@dataclass(frozen=True)
class Rows:
    """States as tensors whose first axis is the row; rows of any age stand side by side."""

    tensors: tuple[torch.Tensor, ...]
    num_rows: int

    def select(self, rows: Ints) -> Rows:
        """The states of these rows, in this order; a row may be taken several times."""
        index = torch.from_numpy(np.ascontiguousarray(rows)).to(self.tensors[0].device)
        return Rows(tuple(tensor.index_select(0, index) for tensor in self.tensors), len(rows))


@dataclass(frozen=True)
class Forks:
    """States as a cache of transformers; all rows are of one age."""

    cache: Any
    num_rows: int
    device: torch.device

    def select(self, rows: Ints) -> Forks:
        """The states of these rows, in this order; a row may be taken several times."""
        return Forks(
            fork(self.cache, torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)), len(rows), self.device
        )


class StatePool:
    """Rows kept for later: they go in by the batch and come out one by one, in any order."""

    def __init__(self) -> None:
        self._stored: Rows | None = None
        self._used = 0

    def add(self, states: States) -> Ints:
        """Store a batch; returns the number under which each of its rows is found."""
        if not isinstance(states, Rows):
            raise TypeError("only rows of any age can be pooled: start with mixed=True")
        numbers = np.arange(self._used, self._used + states.num_rows)
        if self._stored is None:
            self._stored = states
        else:
            if self._used + states.num_rows > self._stored.num_rows:
                self._grow(max(2 * self._stored.num_rows, self._used + states.num_rows))
            for kept, new in zip(self._stored.tensors, states.tensors, strict=True):
                kept[self._used : self._used + states.num_rows] = new
        self._used += states.num_rows
        return numbers

    def take(self, numbers: Ints) -> Rows:
        """The states stored under these numbers."""
        if self._stored is None:
            raise LookupError("nothing was stored")
        return self._stored.select(numbers)

    def _grow(self, num_rows: int) -> None:
        assert self._stored is not None
        grown = tuple(tensor.new_empty((num_rows, *tensor.shape[1:])) for tensor in self._stored.tensors)
        for new, old in zip(grown, self._stored.tensors, strict=True):
            new[: self._used] = old[: self._used]
        self._stored = Rows(grown, num_rows)


def fork(cache: Any, rows: torch.Tensor) -> Any:
    """These rows of a cache, as a cache of their own; the given one stays as it is."""
    forked = containers_copied(cache)
    forked.reorder_cache(rows)
    return forked


def containers_copied(part: Any) -> Any:
    """The same tensors in containers of their own, so that a model which puts others there changes no other fork."""
    if hasattr(part, "reorder_cache"):  # a cache or one of its layers, of whatever class
        copied = copy.copy(part)
        copied.__dict__ = {name: containers_copied(value) for name, value in part.__dict__.items()}
        return copied
    if isinstance(part, dict):
        return {name: containers_copied(value) for name, value in part.items()}
    if isinstance(part, list):
        return [containers_copied(value) for value in part]
    return part


def _tensors(part: Any) -> list[torch.Tensor]:
    if isinstance(part, torch.Tensor):
        return [part]
    if hasattr(part, "reorder_cache"):
        return _tensors(list(part.__dict__.values()))
    if isinstance(part, dict):
        return _tensors(list(part.values()))
    if isinstance(part, (list, tuple)):
        return [tensor for value in part for tensor in _tensors(value)]
    return []


def num_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def cache_bytes(cache: Any) -> int:
    return sum(num_bytes(tensor) for tensor in _tensors(cache))

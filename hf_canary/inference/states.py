"""The states of a batch of prefixes: tensors with the row first, or a cache of transformers whose rows are forked.

Knows tensors and caches; calls no model, and knows no bits, no walk and no text.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ..arrays import Ints

_BLOCK = 4096


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
        index = torch.from_numpy(np.ascontiguousarray(rows))
        return Rows(tuple(tensor.index_select(0, index.to(tensor.device)) for tensor in self.tensors), len(rows))


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


class RowPool:
    """Rows of tensors kept under numbers: they go in by the batch and come out one by one, in any order.

    What is kept never moves: it lies in blocks. Numbers that were freed are given again.
    """

    def __init__(self) -> None:
        self._blocks: list[tuple[torch.Tensor, ...]] = []
        self._free: list[Ints] = []
        self._used = self._num_free = 0

    @property
    def num_bytes(self) -> int:
        """What is in use; what was freed is used again before anything else."""
        if not self._blocks:
            return 0
        return (self._used - self._num_free) * sum(num_bytes(tensor) for tensor in self._blocks[0]) // _BLOCK

    def add(self, tensors: tuple[torch.Tensor, ...]) -> Ints:
        """Keep a batch; returns the number under which each of its rows is found."""
        count = len(tensors[0])
        numbers = self._numbers(count)
        self._write(numbers, tensors)
        return numbers

    def take(self, numbers: Ints) -> tuple[torch.Tensor, ...]:
        """The rows under these numbers."""
        return tuple(self.column(column, numbers) for column in range(len(self._blocks[0])))

    def column(self, column: int, numbers: Ints) -> torch.Tensor:
        """One tensor of these rows."""
        like = self._blocks[0][column]
        taken = like.new_empty((len(numbers), *like.shape[1:]))
        for block, here, within in _by_block(numbers):
            index = torch.from_numpy(within).to(like.device)
            if len(here) == len(numbers):
                return self._blocks[block][column].index_select(0, index)
            taken[torch.from_numpy(here).to(like.device)] = self._blocks[block][column].index_select(0, index)
        return taken

    def free(self, numbers: Ints) -> None:
        """Keep these rows no longer."""
        if len(numbers):
            self._free.append(numbers)
            self._num_free += len(numbers)

    def restore(self, numbers: Ints, tensors: tuple[torch.Tensor, ...]) -> None:
        """Keep these rows, and no others, under these numbers."""
        self._used = int(numbers.max(initial=-1)) + 1
        self._free = [np.setdiff1d(np.arange(self._used), numbers)]
        self._num_free = len(self._free[0])
        self._write(numbers, tensors)

    def _numbers(self, count: int) -> Ints:
        found: list[Ints] = []
        while count and self._free:
            last = self._free.pop()
            found.append(last[:count])
            if len(last) > count:
                self._free.append(last[count:])
            count -= len(found[-1])
            self._num_free -= len(found[-1])
        found.append(np.arange(self._used, self._used + count))
        self._used += count
        return np.concatenate(found)

    def _write(self, numbers: Ints, tensors: tuple[torch.Tensor, ...]) -> None:
        while len(self._blocks) * _BLOCK < self._used:
            # Of memory that nobody has written to, the system gives none.
            self._blocks.append(tuple(tensor.new_empty((_BLOCK, *tensor.shape[1:])) for tensor in tensors))
        for block, here, within in _by_block(numbers):
            for kept, new in zip(self._blocks[block], tensors, strict=True):
                chosen = new[torch.from_numpy(here).to(new.device)]
                kept[torch.from_numpy(within).to(kept.device)] = chosen


def _by_block(numbers: Ints) -> Iterator[tuple[int, Ints, Ints]]:
    """(block, which of the numbers, where in the block) of each block that they lie in."""
    blocks = numbers // _BLOCK
    for block in np.unique(blocks).tolist():
        here = np.flatnonzero(blocks == block)
        yield block, here, numbers[here] % _BLOCK


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

"""The open prefixes of a search, in arrays: cheapest first, or deepest first; beside them what their parents keep.

An open prefix is a row of `PREFIX`. Its tokens and the model's state are not in it: they belong to its parent, and are
kept once for all of the parent's children, until the last of them is taken. Knows no model and no tree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ...arrays import Ints
from ...inference.states import RowPool, Rows

# A prefix that waits for the model.
#   key     what its children that are not open yet cost at least: its cost, or more where some were opened
#   cost    bits of its tokens
#   parent  the number under which its parent is kept; -1 at the root
#   token   its last token
#   state   its state in the tree
#   rest    the number of the children that were opened before; -1 when there are none
#   depth   how many tokens it has
PREFIX = np.dtype(
    [("key", "f8"), ("cost", "f8"), ("parent", "i4"), ("token", "i4"), ("state", "i8"), ("rest", "i4"), ("depth", "i4")]
)
Prefixes = NDArray[np.void]

NOTHING: Prefixes = np.empty(0, dtype=PREFIX)

# Children of one prefix that are opened at once.
_OPENED = 256
_NO_TOKENS: Ints = np.empty(0, dtype=np.int64)
_NEAR = 2**15  # prefixes that are kept sorted
_CHUNK = 2**16
_SAMPLED = 2**12


class Parents:
    """Expanded prefixes, some children of which are open: their tokens and the model's states after them.

    Args:
        depth: the most tokens of a prefix.
    """

    def __init__(self, depth: int) -> None:
        self._rows = RowPool()
        self._depth = depth
        self._open = np.zeros(0, dtype=np.int32)

    @property
    def num_bytes(self) -> int:
        """What they take."""
        return self._rows.num_bytes + self._open.nbytes

    def row_bytes(self, states: Rows) -> int:
        """What one more takes, with a state such as these."""
        tensors = states.tensors
        return 4 * self._depth + sum(t.element_size() * math.prod(t.shape[1:]) for t in tensors)

    def add(self, paths: Ints, open_children: Ints, states: Rows) -> Ints:
        """Keep some; returns their numbers.

        Args:
            paths: (n, depth) tokens, padded with -1.
            open_children: (n,) how many children are open of each.
            states: of the model, after each.
        """
        numbers = self._rows.add((*states.tensors, torch.from_numpy(paths.astype(np.int32))))
        most = int(numbers.max(initial=-1)) + 1
        if most > len(self._open):
            grown = np.zeros(max(most, len(self._open) * 5 // 4), dtype=np.int32)
            grown[: len(self._open)] = self._open
            self._open = grown
        self._open[numbers] = open_children
        return numbers

    def paths(self, numbers: Ints) -> Ints:
        """(n, depth) tokens; those of the root, whose number is -1, are none."""
        paths = np.full((len(numbers), self._depth), -1, dtype=np.int64)
        real = numbers >= 0
        if real.any():
            paths[real] = self._rows.column(-1, numbers[real]).numpy()
        return paths

    def states(self, numbers: Ints) -> Rows:
        """The model's states after these."""
        return Rows(self._rows.take(numbers)[:-1], len(numbers))

    def release(self, prefixes: Prefixes) -> None:
        """Open no more: of a parent without open children nothing is kept."""
        numbers = prefixes["parent"][prefixes["parent"] >= 0]
        np.subtract.at(self._open, numbers, 1)
        touched = np.unique(numbers)
        self._rows.free(touched[self._open[touched] == 0])

    def save(self) -> tuple[Ints, Ints, tuple[torch.Tensor, ...]]:
        """(n,) their numbers, (n,) open children, and what is kept of each."""
        numbers = np.flatnonzero(self._open > 0)
        return numbers, self._open[numbers].astype(np.int64), self._rows.take(numbers) if len(numbers) else ()

    def load(self, numbers: Ints, open_children: Ints, rows: Sequence[torch.Tensor]) -> None:
        """What `save` gave."""
        self._open = np.zeros(int(numbers.max(initial=-1)) + 1, dtype=np.int32)
        self._open[numbers] = open_children
        self._rows.restore(numbers, tuple(rows))


class Opened:
    """Of prefixes with very many children: which were opened, while the others wait in one entry for the prefix.

    It is read again when its turn comes: that is the price of a memory that does not grow with the vocabulary.
    """

    def __init__(self) -> None:
        self._tokens: dict[int, Ints] = {}
        self._numbered = 0

    def is_new(self, batch: Prefixes, parents: Ints, tokens: Ints) -> NDArray[np.bool_]:
        """(n_children,) whether each was not opened before.

        Args:
            batch: some prefixes.
            parents: (n_children,) which of them each child has, ascending.
            tokens: (n_children,) with which it ends.
        """
        is_new = np.ones(len(tokens), dtype=bool)
        for row in np.flatnonzero(batch["rest"] >= 0).tolist():
            mine = slice(*np.searchsorted(parents, [row, row + 1]).tolist())
            is_new[mine] = ~np.isin(tokens[mine], self._tokens[int(batch["rest"][row])])
        return is_new

    def put_off(
        self, batch: Prefixes, parents: Ints, tokens: Ints, keys: NDArray[np.float64]
    ) -> tuple[Ints, Prefixes, NDArray[np.bool_]]:
        """Where too many children are worth opening, the first by their keys come now.

        Returns:
            Which prefixes wait once more, as what; and (n_children,) which children come now.
        """
        rows = np.flatnonzero(np.bincount(parents, minlength=len(batch)) > _OPENED)
        waiting, now = batch[rows], np.ones(len(parents), dtype=bool)
        for slot, row in enumerate(rows.tolist()):
            mine = np.flatnonzero(parents == row)
            mine = mine[np.argsort(keys[mine], kind="stable")]
            now[mine[_OPENED:]] = False
            before = self._tokens.get(int(batch["rest"][row]), _NO_TOKENS)
            self._tokens[self._numbered] = np.concatenate([before, tokens[mine[:_OPENED]]])
            waiting["key"][slot], waiting["rest"][slot] = keys[mine[_OPENED]], self._numbered
            self._numbered += 1
        self.forget(batch)
        return rows, waiting, now

    def forget(self, prefixes: Prefixes) -> None:
        """They are not read again."""
        for number in prefixes["rest"][prefixes["rest"] >= 0].tolist():
            del self._tokens[number]

    def save(self) -> dict[str, Ints]:
        """For a checkpoint."""
        return {
            "opened_of": np.array([*self._tokens, self._numbered], dtype=np.int64),
            "opened_count": np.array([len(tokens) for tokens in self._tokens.values()], dtype=np.int64),
            "opened": np.concatenate([_NO_TOKENS, *self._tokens.values()]),
        }

    def load(self, saved: Mapping[str, Ints]) -> None:
        """What `save` gave."""
        *numbers, self._numbered = saved["opened_of"].tolist()
        tokens = np.split(saved["opened"], np.cumsum(saved["opened_count"]))[:-1]
        self._tokens = dict(zip(numbers, tokens, strict=True))


class Order(Protocol):
    """Open prefixes in an order in which they are taken.

    Attributes:
        pivot: what a checkpoint must know beside the chunks.
    """

    pivot: float

    def __len__(self) -> int: ...

    @property
    def least(self) -> float:
        """The smallest key; infinite when none is open."""
        ...

    def push(self, prefixes: Prefixes) -> None: ...

    def pop(self, size: int) -> Prefixes:
        """Take `size` of them at most."""
        ...

    def cut(self, bound: float) -> Prefixes:
        """Take out prefixes above a bound, as many as are at hand."""
        ...

    def chunks(self) -> list[Prefixes]:
        """All of them."""
        ...

    def restore(self, chunks: list[Prefixes], pivot: float) -> None:
        """As it was."""
        ...


class ByCost:
    """Cheapest first. A small part is sorted; what costs more than all of it waits in chunks."""

    def __init__(self) -> None:
        self._near = NOTHING
        self.pivot = -math.inf  # none that waits costs less
        self._far: list[Prefixes] = []

    def __len__(self) -> int:
        return len(self._near) + sum(map(len, self._far))

    @property
    def least(self) -> float:
        self._refill(1)
        return float(self._near["key"][0]) if len(self._near) else math.inf

    def push(self, prefixes: Prefixes) -> None:
        is_near = prefixes["key"] < self.pivot
        if is_near.any():
            self._near = _sorted(np.concatenate([self._near, prefixes[is_near]]))
            if len(self._near) > 2 * _NEAR:
                self.pivot = float(self._near["key"][_NEAR])
                keep = int(np.searchsorted(self._near["key"], self.pivot))
                self._near, behind = self._near[:keep].copy(), self._near[keep:]
                self._wait(behind)
        self._wait(prefixes[~is_near])

    def pop(self, size: int) -> Prefixes:
        self._refill(size)
        taken, self._near = self._near[:size], self._near[size:]
        return taken

    def cut(self, bound: float) -> Prefixes:
        at = int(np.searchsorted(self._near["key"], bound, side="right"))
        dropped, self._near = [self._near[at:]], self._near[:at]
        for number, chunk in enumerate(self._far):
            above = chunk["key"] > bound
            dropped.append(chunk[above])
            self._far[number] = chunk[~above]
        self._far = [chunk for chunk in self._far if len(chunk)]
        return np.concatenate(dropped)

    def chunks(self) -> list[Prefixes]:
        return [self._near, *self._far]

    def restore(self, chunks: list[Prefixes], pivot: float) -> None:
        self._near, *self._far = chunks
        self.pivot = pivot

    def _wait(self, prefixes: Prefixes) -> None:
        if not len(prefixes):
            return
        if self._far and len(self._far[-1]) + len(prefixes) <= _CHUNK:
            self._far[-1] = np.concatenate([self._far[-1], prefixes])
        else:
            self._far.append(prefixes)

    def _refill(self, size: int) -> None:
        """Sort more, until so many are sorted or none waits."""
        while len(self._near) < size and self._far:
            waiting = sum(map(len, self._far))
            if waiting <= _NEAR:
                self.pivot = math.inf
            else:
                # An eighth of them, as a sample says, so that each is looked at a few times in all.
                keys = np.concatenate([chunk["key"][:: max(1, waiting // _SAMPLED)] for chunk in self._far])
                share = max(_NEAR / waiting, 0.125)
                at = min(len(keys) - 1, int(share * len(keys)))
                self.pivot = float(np.nextafter(np.partition(keys, at)[at], math.inf))
            near = [self._near]
            for number, chunk in enumerate(self._far):
                is_near = chunk["key"] < self.pivot
                near.append(chunk[is_near])
                self._far[number] = chunk[~is_near]
            self._far = [chunk for chunk in self._far if len(chunk)]
            self._near = _sorted(np.concatenate(near))


class ByDepth:
    """Deepest first, of these the cheapest. What is open stays small: a batch's children at each depth."""

    pivot = math.inf

    def __init__(self) -> None:
        self._levels: dict[int, Prefixes] = {}

    def __len__(self) -> int:
        return sum(map(len, self._levels.values()))

    @property
    def least(self) -> float:
        return min((float(level["key"][0]) for level in self._levels.values()), default=math.inf)

    def push(self, prefixes: Prefixes) -> None:
        for depth in np.unique(prefixes["depth"]).tolist():
            level = self._levels.get(depth, NOTHING)
            self._levels[depth] = _sorted(np.concatenate([level, prefixes[prefixes["depth"] == depth]]))

    def pop(self, size: int) -> Prefixes:
        taken: list[Prefixes] = []
        for depth in sorted(self._levels, reverse=True):
            taken.append(self._levels[depth][:size])
            size -= len(taken[-1])
            self._keep(depth, self._levels[depth][len(taken[-1]) :])
            if not size:
                break
        return np.concatenate(taken) if taken else NOTHING

    def pop_below(self, depth: int, size: int) -> Prefixes:
        """The cheapest of the deepest, if they are deeper than this."""
        deepest = max(self._levels, default=-1)
        if deepest <= depth:
            return NOTHING
        taken = self._levels[deepest][:size]
        self._keep(deepest, self._levels[deepest][size:])
        return taken

    def cut(self, bound: float) -> Prefixes:
        dropped = [NOTHING]
        for depth, level in list(self._levels.items()):
            at = int(np.searchsorted(level["key"], bound, side="right"))
            dropped.append(level[at:])
            self._keep(depth, level[:at])
        return np.concatenate(dropped)

    def chunks(self) -> list[Prefixes]:
        return list(self._levels.values())

    def restore(self, chunks: list[Prefixes], pivot: float) -> None:
        self._levels = {int(chunk["depth"][0]): chunk for chunk in chunks if len(chunk)}

    def _keep(self, depth: int, level: Prefixes) -> None:
        if len(level):
            self._levels[depth] = level
        else:
            self._levels.pop(depth, None)


def _sorted(prefixes: Prefixes) -> Prefixes:
    return prefixes[np.argsort(prefixes["key"], kind="stable")]

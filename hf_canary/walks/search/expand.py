"""What the children of some prefixes cost: read by one pass over a batch, from the states of their parents or packed.

In all processes, each doing a share. Knows tokens and costs; does not know which prefixes are worth expanding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from ...arrays import Floats, Ints
from ...inference.batching import in_batches
from ...inference.language_model import LanguageModel, Session
from ...inference.states import Rows
from ...runtime.processes import all_true, num_processes
from ..branches import Children, sort_keys
from ..tree_attention import Paths, read_behind


class Expander(Protocol):
    """How a batch of prefixes is read.

    Attributes:
        root: what is kept of the prompt.
    """

    root: Rows

    def first(self, tokens: Ints) -> Floats:
        """(n,) tokens that may follow the prompt → their bits."""
        ...

    def __call__(
        self, before: Callable[[Ints], Rows], costs: Floats, paths: Ints, lengths: Ints, children: Children
    ) -> tuple[Floats, Rows]:
        """Read the children of some prefixes.

        Args:
            before: the model's states at the parents of the prefixes of these numbers.
            costs: (n,) bits of the prefixes.
            paths: (n, depth) their tokens, padded with -1.
            lengths: (n,) how many these are.
            children: of the prefixes.

        Returns:
            (n_children,) bits of each child, and the model's states after the prefixes.
        """
        ...


def expander(language_model: LanguageModel, session: Session) -> Expander:
    """The quickest for this model, the same in all processes."""
    if all_true(session.packs):
        return _Packed(language_model, session)
    return _ByState(language_model, session)


class _AfterPrompt:
    """What is read of the prompt, by one process for all: they must agree to the last bit, or their searches part."""

    def __init__(self, language_model: LanguageModel, session: Session) -> None:
        self._language_model, self._session = language_model, session

    def first(self, tokens: Ints) -> Floats:
        bits: Floats = self._language_model.in_shares(
            1, lambda _: self._session.bits(tokens)[None], width=(len(tokens),)
        )[0]
        return bits


class _ByState(_AfterPrompt):
    """One token more on the states of the parents."""

    def __init__(self, language_model: LanguageModel, session: Session) -> None:
        super().__init__(language_model, session)
        assert isinstance(session.state, Rows)  # of any age
        self.root = session.state

    def __call__(
        self, before: Callable[[Ints], Rows], costs: Floats, paths: Ints, lengths: Ints, children: Children
    ) -> tuple[Floats, Rows]:
        count, parents = len(paths), children.parents
        column, width = _columns(parents)
        picks = np.zeros((count, 1, width), dtype=np.int64)
        picks[parents, 0, column] = children.tokens
        last = paths[np.arange(count), lengths - 1][:, None]

        def read(mine: Ints) -> tuple[Floats, Rows]:
            bits, states = self._session.advance(before(mine), last[mine], picks[mine])
            assert isinstance(states, Rows)
            return bits[:, 0], states

        bits, states = _split(self._language_model, self._session, count, width, read)
        return costs[parents] + bits[parents, column], states


class _Packed(_AfterPrompt):
    """Whole paths in packed rows; nothing is kept of what was read, since what they share is read once a batch."""

    root = Rows((), 1)

    def __call__(
        self, before: Callable[[Ints], Rows], costs: Floats, paths: Ints, lengths: Ints, children: Children
    ) -> tuple[Floats, Rows]:
        count, parents = len(paths), children.parents
        column, width = _columns(parents)
        picks = np.zeros((count, width), dtype=np.int64)
        picks[parents, column] = children.tokens
        number = np.argsort(sort_keys(paths), kind="stable")  # neighbours share most, also in the share of a process

        def read(mine: Ints) -> Floats:
            found = read_behind(self._session, Paths.of(paths[number[mine]]), picks[number[mine]])
            return np.concatenate([bits for _, bits in found])

        bits = np.empty((count, width))
        bits[number] = self._language_model.in_shares(count, read, width=(width,))
        return costs[parents] + bits[parents, column], Rows((), count)


def _columns(parents: Ints) -> tuple[Ints, int]:
    """(n_children,) the place of each among its parent's, and how many places there are."""
    column = np.arange(len(parents)) - np.searchsorted(parents, parents)
    return column, int(column.max(initial=0)) + 1


def _split(
    language_model: LanguageModel,
    session: Session,
    count: int,
    width: int,
    read: Callable[[Ints], tuple[Floats, Rows]],
) -> tuple[Floats, Rows]:
    """Bits and states of a batch, of which each process reads a share; in smaller parts where memory runs out."""
    if num_processes() == 1:
        return _in_parts(session, np.arange(count), read)
    like = session.state
    assert isinstance(like, Rows)
    shapes = [tensor.shape[1:] for tensor in like.tensors]
    sizes = [math.prod(shape) for shape in shapes]

    def flat(mine: Ints) -> Floats:
        bits, states = _in_parts(session, mine, read)
        parts = [tensor.reshape(len(mine), -1).cpu().double().numpy() for tensor in states.tensors]
        return np.concatenate([bits, *parts], axis=1)

    table = language_model.in_shares(count, flat, width=(width + sum(sizes),))
    bits, *parts = np.split(table, np.cumsum([width, *sizes])[:-1], axis=1)
    tensors = (
        torch.from_numpy(part.reshape(count, *shape)).to(tensor.dtype).to(tensor.device)
        for part, shape, tensor in zip(parts, shapes, like.tensors, strict=True)
    )
    return bits, Rows(tuple(tensors), count)


def _in_parts(session: Session, numbers: Ints, read: Callable[[Ints], tuple[Floats, Rows]]) -> tuple[Floats, Rows]:
    """As many rows at once as there was memory for so far."""
    found = list(in_batches(numbers, lambda _: session.rows_at_once(1), read, session.limit))
    if len(found) == 1:
        return found[0]
    tensors = zip(*(states.tensors for _, states in found), strict=True)
    joined = Rows(tuple(torch.cat(parts) for parts in tensors), len(numbers))
    return np.concatenate([bits for bits, _ in found]), joined

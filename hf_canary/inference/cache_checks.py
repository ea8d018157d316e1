"""Which cache adapter is right on the model at hand, found by trying.

A cache is used only after it has shown, after this very prompt and in this evaluation, that, forked and gone on from,
it gives what one full pass gives: what it showed yesterday says nothing of a model that has been changed since, or that
keeps something of its own between calls. What nobody asks for is not tried. Knows no bits, no walk and no text.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import cache_utils

from ..errors import CanaryError
from .cache_adapters import CacheAdapter, ForkedCache, Reader, Recompute, RecurrentState, TreeAttention
from .states import containers_copied, fork
from .wrappers import is_quantized, vocabulary_sizes

logger = logging.getLogger(__name__)

# The nats by which a cache may differ from one full pass, for a token: what other shapes of a batch bring in float32,
# and in half precision or with quantised weights.
TOLERANCE_NATS = 2e-4
TOLERANCE_NATS_HALF = 0.25
HALVES = (torch.bfloat16, torch.float16)
# All of a tail of so many tokens is compared; of a longer one the first and the last.
_FIRST, _LAST = 48, 16
_ROWS = 48  # token rows that trying packed rows may cost, with the full pass; more only where a tail is longer
_STEPS = 3  # one by one, from the prompt
_SHORT = 2  # tokens that several rows are read with; what a row does to another shows at once
_ORDER = [1, 0, 1]  # more rows than were given, and not as they stood
# From these layers the last tokens can be taken off.
_CUT = ("DynamicLayer", "DynamicSlidingWindowLayer")

# What models raise that cannot do what is tried.
_FAILURES = (AssertionError, AttributeError, CanaryError, LookupError, RuntimeError, TypeError, ValueError)

_slow: weakref.WeakSet[Any] = weakref.WeakSet()  # models of which it has been said


def start(reader: Reader, prompt: torch.Tensor, depth: int) -> tuple[torch.Tensor, Any, CacheCheck]:
    """Read the prompt, and with it, where that can be undone, the tokens that a cache will be tried on.

    Args:
        reader: of the model.
        prompt: (1, n_prompt) ids.
        depth: how many tokens will be asked for after it, at most.

    Returns:
        (1, n_prompt, vocabulary) logits of the prompt, the model's cache after it, and what tries the cache.
    """
    tail = np.random.default_rng(0).integers(0, vocabulary_sizes(reader.model)[1], size=(2, depth))
    tails = torch.from_numpy(tail).to(prompt.device)
    length = prompt.shape[1]
    if depth:
        whole, cache = _read(reader, torch.cat([prompt, tails[:1]], dim=1))
        if isinstance(cache, cache_utils.Cache):
            cut = _without_last(cache, depth)
            cut = _read(reader, prompt)[1] if cut is None else cut
            return whole[:, :length], cut, CacheCheck(reader, prompt, cut, tails, whole[:, length:])
        del whole, cache
    logits, cache = _read(reader, prompt)
    return logits, cache, CacheCheck(reader, prompt, cache, tails)


def _read(reader: Reader, ids: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """The logits of ids, and the cache after them; none of a model that fails where it is asked for one."""
    if reader.gives_cache:
        try:
            return reader(ids)
        except _FAILURES as error:
            if should_reduce_batch_size(error):
                raise
            reader.gives_cache = False  # if it fails without, too, that error is the user's
    return reader(ids, use_cache=False)[0], None


def _without_last(cache: Any, count: int) -> Any:
    """The cache as it was so many tokens before; None where that cannot be."""
    if type(cache) is not cache_utils.DynamicCache:
        return None
    if any(type(layer) not in [getattr(cache_utils, name, None) for name in _CUT] for layer in cache.layers):
        return None
    before = containers_copied(cache)
    try:
        before.crop(-count)
    except (RuntimeError, ValueError):  # what has left a window is not there any more
        return None
    return before


class CacheCheck:
    """A cache held against one full pass over random tokens after the prompt.

    Args:
        reader: of the model.
        prompt: (1, n_prompt) ids.
        cache: the model's after the prompt.
        tails: (2, depth) ids that are read after it: the first is compared, the other stands beside it.
        full: (1, depth, vocabulary) logits after each token of the first, by one full pass; None if none was made.
    """

    def __init__(
        self, reader: Reader, prompt: torch.Tensor, cache: Any, tails: torch.Tensor, full: torch.Tensor | None = None
    ) -> None:
        self._reader, self._prompt, self._cache = reader, prompt, cache
        self._tail, self._other = tails[0], tails[1]
        self._depth = tails.shape[1]
        indices = np.arange(self._depth)
        if self._depth > _FIRST + _LAST:
            indices = np.concatenate([indices[:_FIRST], indices[-_LAST:]])
        self._indices = torch.from_numpy(indices).to(prompt.device)
        self._compared = None if full is None else self._chosen(full[0])

    @cached_property
    def packing(self) -> TreeAttention | None:
        """Packed rows, if they come out right."""
        # A state goes on from one token to the next, and a decoder has other masks.
        can = self._can_fork and not hasattr(self._cache, "rows") and not self._reader.lead
        packing = TreeAttention(self._reader, self._prompt, self._cache)
        return packing if can and _comes_out(lambda: self._packs(packing)) else None

    def adapter(self, *, mixed: bool) -> CacheAdapter:
        """The cheapest adapter that is right.

        Args:
            mixed: whether rows of different age stand in one batch, and are pooled.
        """
        chunks = self._in_chunks
        if not chunks and self._depth:
            self._say_slow(one_by_one=self._far_steps and not mixed)
        if chunks and hasattr(self._cache, "rows"):
            return RecurrentState(self._reader, type(self._cache), tuple(self._cache.rows()))
        if not mixed and (chunks or self._far_steps):
            return self._forking(chunks=chunks)
        return self._replaying(from_cache=chunks)

    def presumed(self, *, mixed: bool) -> CacheAdapter:
        """The adapter of a model whose rows can be packed, for what it needs; nothing is tried."""
        return self._replaying(from_cache=True) if mixed else self._forking(chunks=True)

    def _forking(self, *, chunks: bool) -> ForkedCache:
        return ForkedCache(self._reader, self._prompt, self._cache, self._depth, chunks=chunks)

    def _replaying(self, *, from_cache: bool) -> Recompute:
        return Recompute(self._reader, self._prompt, self._cache if from_cache else None, self._depth)

    @property
    def _can_fork(self) -> bool:
        return self._depth > 0 and hasattr(self._cache, "reorder_cache")

    @cached_property
    def _steps(self) -> bool:
        """One token after another, on forks of forks; and no fork changes what it was taken from."""
        return self._can_fork and _comes_out(self._first_steps)

    @cached_property
    def _far_steps(self) -> bool:
        """The same up to the last token: for who never reads several at once."""
        return self._steps and _comes_out(self._all_steps)

    @cached_property
    def _in_chunks(self) -> bool:
        """The same with several tokens at once."""
        return self._steps and _comes_out(self._chunks)

    def _first_steps(self) -> bool:
        logits, after = self._read(self._cache, [0, 0], [0, 1], 0, 1)
        if not self._right(logits, [0, 1], 0):
            return False
        self._after_one = after
        # What is read twice from one cache shows what the first reading has changed in it.
        again = (self._cache, [0, 0], 0) if self._depth == 1 else (after, [0, 1], 1)
        before, which = after, [0, 1]
        for index in range(1, min(_STEPS, self._depth)):
            which = [which[row] for row in _ORDER]
            logits, before = self._read(before, _ORDER, which, index, index + 1)
            if not self._right(logits, which, index):
                return False
        cache, rows, index = again
        return self._right(self._read(cache, rows, [0, 1], index, index + 1)[0], [0, 1], index)

    def _all_steps(self) -> bool:
        before = self._cache
        for index in range(self._depth):
            logits, before = self._read(before, [0], [0], index, index + 1)
            if not self._right(logits, [0], index):
                return False
        return True

    def _chunks(self) -> bool:
        """Several rows from one token after the prompt; one row from the prompt, almost to the end, and one step."""
        last = self._depth - (self._depth > _STEPS)
        if self._depth > 1:
            swapped = _ORDER[:2]
            logits, _ = self._read(self._after_one, swapped, swapped, 1, 1 + _SHORT)
            again, _ = self._read(self._after_one, [0], [0], 1, 2)
            if not (self._right(logits, swapped, 1) and self._right(again, [0], 1)):
                return False
        logits, deep = self._read(self._cache, [0], [0], 0, last)
        if not self._right(logits, [0], 0):
            return False
        return last == self._depth or self._right(self._read(deep, [0], [0], last, last + 1)[0], [0], last)

    def _packs(self, packing: TreeAttention) -> bool:
        """Rows whose branches stand in other places, and then one with the whole tail behind another branch, as wide as
        the cost allows: what a model does wrong may lie in the places of a row, and not in the positions.
        """
        tail, other = self._tail, self._other
        short = min(_SHORT, self._depth)
        # Branches of other lengths, so that one row's mask is no other's.
        rows = [[other[:1], tail[:short], other[: short - 1]], [tail[:short], other[:short]]]
        few = self._packed(packing, rows)
        if not (self._right(few[:1, 1 : 1 + short], [0], 0) and self._right(few[1:, :short], [0], 0)):
            return False
        width = max(_SHORT, _ROWS - 4 * short - 2 * self._depth)
        before = other.repeat(-(-width // self._depth))[:width]
        return self._right(self._packed(packing, [[before, tail]])[:, width:], [0], 0)

    def _packed(self, packing: TreeAttention, rows: list[list[torch.Tensor]]) -> torch.Tensor:
        """The logits of rows of branches that share nothing."""
        tokens = torch.stack([torch.cat(branches) for branches in rows])
        depths = torch.stack([torch.cat([torch.arange(len(part)) for part in row]) for row in rows])
        blocks = [torch.block_diag(*[torch.ones(len(part), len(part)).tril() for part in row]) for row in rows]
        return packing.read(tokens, depths.to(tokens.device), torch.stack(blocks).bool().to(tokens.device))

    def _read(self, cache: Any, rows: list[int], which: list[int], begin: int, end: int) -> tuple[torch.Tensor, Any]:
        """Some tokens of these tails, on a fork of these rows."""
        tails = torch.stack([self._tail, self._other])
        return self._reader(tails[which, begin:end], fork(cache, tails.new_tensor(rows)))

    def _right(self, logits: torch.Tensor, which: list[int], begin: int) -> bool:
        """Whether (rows, n, vocabulary) logits are those of the tail, from this place on, in the rows that read it."""
        first, last = np.searchsorted(self._indices.cpu().numpy(), [begin, begin + logits.shape[1]])
        expected = self._expected[first:last]
        here = logits[[row for row, one in enumerate(which) if one == 0]]
        expected = expected.expand(len(here), -1, -1)
        return _equal(here[:, self._indices[first:last] - begin], expected, is_coarse=is_quantized(self._reader.model))

    @property
    def _expected(self) -> torch.Tensor:
        """(n_places, vocabulary) logits by one full pass, made where none was."""
        if self._compared is None:
            whole, _ = self._reader(torch.cat([self._prompt, self._tail[None]], dim=1), use_cache=False)
            self._compared = self._chosen(whole[0, self._prompt.shape[1] :])
        return self._compared

    def _chosen(self, logits: torch.Tensor) -> torch.Tensor:
        """Those that are compared, by themselves: the others need not stay in memory."""
        return logits[self._indices.to(logits.device)]

    def _say_slow(self, *, one_by_one: bool) -> None:
        if self._reader.model in _slow:
            return
        _slow.add(self._reader.model)
        logger.warning(
            "The cache of %s cannot be forked and gone on from by several tokens as one full pass would; texts are "
            "read %s, which is right and slower.",
            type(self._reader.model).__name__,
            "token by token" if one_by_one else "again from their beginning",
        )


def _comes_out(check: Callable[[], bool]) -> bool:
    """What a check says; a model that cannot do what is tried says so by many errors, which are not the user's."""
    try:
        return check()
    except _FAILURES as error:
        if should_reduce_batch_size(error):
            raise
        return False


def _equal(logits: torch.Tensor, expected: torch.Tensor, *, is_coarse: bool) -> bool:
    if logits.shape != expected.shape or bool(expected.isnan().any()):
        return False
    tolerance = TOLERANCE_NATS_HALF if is_coarse or logits.dtype in HALVES else TOLERANCE_NATS
    difference = (logits.float().log_softmax(-1) - expected.float().log_softmax(-1)).abs()
    return bool((difference.nan_to_num(0.0, posinf=torch.inf) <= tolerance).all())

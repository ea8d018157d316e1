"""Which way of going on is right on the model at hand, found by trying.

A cache is used only after it has shown that, forked and gone on from, it gives what one full pass gives. Knows no bits,
no walk and no text.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size

from .errors import CanaryError
from .states import fork
from .ways import Forking, Packing, Reader, Recurrent, Replaying, Way

logger = logging.getLogger(__name__)

# A cache is tried on so many random tokens after the prompt, at most; and the nats by which it may differ from one
# full pass, for a token: what other shapes of a batch bring in float32, and in half precision.
_TRIED_TOKENS = 64  # no fewer than packed rows hold of one path
_TRIED_STEPS = 4  # ... and on so many one by one
_TOLERANCE_NATS = 2e-4
_TOLERANCE_NATS_HALF = 0.25
HALVES = (torch.bfloat16, torch.float16)
_ORDER = [1, 0, 1]  # more rows than were given, and not as they stood


def choose_way(
    reader: Reader, prompt: torch.Tensor, cache: Any, logits: torch.Tensor, depth: int, *, mixed: bool
) -> tuple[Way, Packing | None]:
    """The cheapest way of going on after the prompt that is right on this model; and packing, where that is right too.

    Args:
        reader: of the model.
        prompt: (1, n_prompt) ids.
        cache: the model's after the prompt.
        logits: of the prompt, by a full pass; their precision says how far a cache may differ.
        depth: how many tokens a row holds after the prompt, at most.
        mixed: whether rows of different age stand in one batch, and are pooled.
    """
    trust = _trust(reader, prompt, cache, logits, depth)
    packing = Packing(reader, prompt, cache) if trust.packs else None
    if trust.chunks and hasattr(cache, "rows"):
        return Recurrent(reader, type(cache), tuple(cache.rows())), packing
    if trust.steps and not mixed:
        return Forking(reader, prompt, cache, depth, chunks=trust.chunks), packing
    return Replaying(reader, prompt, cache if trust.chunks else None, depth), packing


@dataclass(frozen=True)
class Trust:
    """What a model's cache has been seen to do as one full pass does.

    Args:
        steps: one token after another, on forks of forks; and that no fork changes what it was taken from.
        chunks: several tokens at once, likewise.
        packs: branches side by side in one row, which a mask keeps apart.
    """

    steps: bool = False
    chunks: bool = False
    packs: bool = False


# By model, then by the lengths that it was tried on: windows and positions make a difference.
_tried: weakref.WeakKeyDictionary[Any, dict[tuple[int, int, torch.dtype], Trust]] = weakref.WeakKeyDictionary()


def _trust(reader: Reader, prompt: torch.Tensor, cache: Any, logits: torch.Tensor, depth: int) -> Trust:
    known = _tried.setdefault(reader.model, {})
    tried = (prompt.shape[1], depth, logits.dtype)
    if tried not in known and depth:
        said = any(not trust.chunks for trust in known.values())
        known[tried] = _try(reader, prompt, cache, logits, depth)
        if not known[tried].chunks and not said:
            logger.warning(
                "The cache of %s cannot be forked and gone on from by several tokens as one full pass would; texts are "
                "read %s, which is right and slower.",
                type(reader.model).__name__,
                "token by token" if known[tried].steps else "again from their beginning",
            )
    return known.get(tried, Trust())


def _try(reader: Reader, prompt: torch.Tensor, cache: Any, logits: torch.Tensor, depth: int) -> Trust:
    """Compare the cache, forked and gone on from, with one full pass over random tokens after the prompt."""
    if not hasattr(cache, "reorder_cache"):
        return Trust()
    ids = np.random.default_rng(0).integers(0, logits.shape[-1], size=(2, min(depth, _TRIED_TOKENS)))
    tail = torch.from_numpy(ids).to(prompt.device)
    whole, _ = reader(torch.cat([prompt.expand(2, -1), tail], dim=1), use_cache=False)
    full = whole[:, prompt.shape[1] :].float().log_softmax(-1)
    steps = _comes_out(lambda: _steps(reader, cache, tail, full))
    chunks = steps and _comes_out(lambda: _chunks(reader, cache, tail, full))
    # A state goes on from one token to the next, and a decoder has other masks.
    can_pack = chunks and not hasattr(cache, "rows") and not reader.lead
    packs = can_pack and _comes_out(lambda: _packs(Packing(reader, prompt, cache), tail, full))
    return Trust(steps, chunks, packs)


def _comes_out(trial: Callable[[], bool]) -> bool:
    """What a trial says; a model that cannot do what is tried says so by many errors, which are not the user's."""
    try:
        return trial()
    except (AssertionError, AttributeError, CanaryError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if should_reduce_batch_size(error):
            raise
        return False


def _steps(reader: Reader, cache: Any, tail: torch.Tensor, full: torch.Tensor) -> bool:
    before, rows, which = cache, [0, 0], [0, 1]
    for place in range(min(_TRIED_STEPS, tail.shape[1])):
        for _ in range(2):  # the second time shows what the first has changed of what it was taken from
            logits, after = reader(tail[which, place : place + 1], fork(before, tail.new_tensor(rows)))
            if not _equal(logits, full[which, place : place + 1]):
                return False
        before, rows, which = after, _ORDER, [which[row] for row in _ORDER]
    return True


def _chunks(reader: Reader, cache: Any, tail: torch.Tensor, full: torch.Tensor) -> bool:
    """From the prompt, and from one token after it."""
    _, after = reader(tail[:, :1], fork(cache, tail.new_zeros(2)))
    for begin, before, rows, which in ((0, cache, [0, 0], [0, 1]), (1, after, _ORDER, _ORDER)):
        for _ in range(2 if begin < tail.shape[1] else 0):
            logits, _after = reader(tail[which, begin:], fork(before, tail.new_tensor(rows)))
            if not _equal(logits, full[which, begin:]):
                return False
    return True


def _packs(packing: Packing, tail: torch.Tensor, full: torch.Tensor) -> bool:
    """Both tails in one row, the second before the first."""
    count = tail.shape[1]
    earlier = torch.ones(count, count, dtype=torch.bool, device=tail.device).tril()
    depths = torch.arange(count, device=tail.device).repeat(2)[None]
    ancestors = torch.block_diag(earlier, earlier)[None].bool()
    return _equal(packing.read(tail.flip(0).reshape(1, -1), depths, ancestors).view(2, count, -1).flip(0), full)


def _equal(logits: torch.Tensor, expected: torch.Tensor) -> bool:
    if logits.shape != expected.shape or bool(expected.isnan().any()):
        return False
    half = logits.dtype in HALVES
    tolerance = _TOLERANCE_NATS_HALF if half else _TOLERANCE_NATS
    difference = (logits.float().log_softmax(-1) - expected).abs()
    return bool((difference.nan_to_num(0.0, posinf=torch.inf) <= tolerance).all())

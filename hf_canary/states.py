"""The states of a batch of prefixes, and the ways in which a model goes on from them.

Three ways: a state that is as large after any text (recurrent models); a key-value cache that is forked, whose rows are
all of one length; the tokens since the prompt, replayed on the prompt's cache or, without one, with the prompt. A
cache is used only after it has shown on the model at hand that forked and continued it gives what one full pass gives.
Knows tensors, caches and how a model is called; knows no bits, no walk and no text.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from numpy.typing import NDArray

from .errors import ModelError

Ints = NDArray[np.int64]

logger = logging.getLogger(__name__)

# A cache is tried on so many random tokens after the prompt, at most; and the nats by which it may differ from one
# full pass, for a token: what other shapes of a batch bring in float32, and in half precision.
_TRIED_TOKENS = 32
_TOLERANCE_NATS = 2e-4
_TOLERANCE_NATS_HALF = 0.25


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


class Reader:
    """A model as something that reads rows of ids; a decoder reads them after its source, which is encoded once.

    Args:
        model: a causal model, or an encoder-decoder.
        sources: (n_sources, longest) ids for the encoder, padded on the right; None for a causal model. One source is
            that of all rows; of several, each row has its own.
        lengths: (n_sources,) real ids of each source.
        before: called before each call of the model.

    Attributes:
        lead: ids that stand before everything: a decoder's start token, or nothing.
    """

    def __init__(
        self,
        model: Any,
        sources: torch.Tensor | None,
        lengths: torch.Tensor | None = None,
        *,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.lead: list[int] = []
        self._before = before
        self._encoded: Any = None
        accepted = inspect.signature(model.forward).parameters
        self._cache_name = "cache_params" if "cache_params" in accepted else "past_key_values"
        if sources is not None:
            self.lead = [_decoder_start(model)]
            self._mask = torch.ones_like(sources)
            if lengths is not None:
                self._mask = (torch.arange(sources.shape[1], device=sources.device) < lengths[:, None]).long()
            self._encoded = model.get_encoder()(input_ids=sources, attention_mask=self._mask)

    def __call__(
        self, ids: torch.Tensor, cache: Any = None, *, use_cache: bool = True, **options: Any
    ) -> tuple[torch.Tensor, Any]:
        """(rows, tokens) ids after what `cache` has seen → (rows, tokens, vocabulary) logits, and the cache after."""
        self._before()
        rows = ids.shape[0]
        past = {self._cache_name: cache} if cache is not None else {}
        if self._encoded is None:
            output = self.model(input_ids=ids, use_cache=use_cache, **past, **options)
        else:
            encoded = type(self._encoded)(**{name: _repeated(part, rows) for name, part in self._encoded.items()})
            output = self.model(
                encoder_outputs=encoded,
                attention_mask=self._mask.expand(rows, -1),
                decoder_input_ids=ids,
                use_cache=use_cache,
                **past,
            )
        return output.logits, getattr(output, self._cache_name, None)


def _repeated(part: Any, rows: int) -> Any:
    return part.expand(rows, *part.shape[1:]) if isinstance(part, torch.Tensor) else part


def _decoder_start(model: Any) -> int:
    for config in (getattr(model, "generation_config", None), model.config):
        start = getattr(config, "decoder_start_token_id", None)
        if isinstance(start, int):
            return start
    raise ModelError(
        "model",
        "a decoder_start_token_id in its config",
        "none",
        "Set model.config.decoder_start_token_id to the token that the decoder was trained to start with.",
    )


class Way(Protocol):
    """How rows of states go on.

    Attributes:
        replayed: tokens that are read again for each token that is fed.
        row_bytes: what the state of one row takes, in bytes, at its longest.
    """

    replayed: int
    row_bytes: int

    def initial(self) -> States:
        """One row: the state after the prompt."""
        ...

    def advance(self, states: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, States]:
        """(rows, tokens) → (rows, tokens, vocabulary) logits after each token, and the states."""
        ...


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
    if trust.forks and hasattr(cache, "rows"):
        return Recurrent(reader, type(cache), tuple(cache.rows())), packing
    if trust.forks and not mixed:
        return Forking(reader, prompt, cache, depth), packing
    return Replaying(reader, prompt, cache if trust.replays else None, depth), packing


class Recurrent:
    """Rows are the recurrent state itself: as large after any number of tokens, with nothing to replay."""

    replayed = 0

    def __init__(self, reader: Reader, cache_type: Any, tensors: tuple[torch.Tensor, ...]) -> None:
        self._reader = reader
        self._cache_type = cache_type
        self._initial = Rows(tensors, 1)
        self.row_bytes = sum(_bytes(tensor) for tensor in tensors)

    def initial(self) -> Rows:
        return self._initial

    def advance(self, states: Rows, tokens: torch.Tensor) -> tuple[torch.Tensor, Rows]:
        logits, cache = self._reader(tokens, self._cache_type.from_rows(states.tensors))
        return logits, Rows(tuple(cache.rows()), tokens.shape[0])


class Forking:
    """Rows are those of a cache, all of one age: nothing is replayed, and each row holds its whole past."""

    replayed = 0

    def __init__(self, reader: Reader, prompt: torch.Tensor, cache: Any, depth: int) -> None:
        self._reader = reader
        self._initial = Forks(cache, 1, prompt.device)
        self.row_bytes = _cache_bytes(cache) * (prompt.shape[1] + depth) // prompt.shape[1]

    def initial(self) -> Forks:
        return self._initial

    def advance(self, states: Forks, tokens: torch.Tensor) -> tuple[torch.Tensor, Forks]:
        logits, cache = self._reader(tokens, _containers_copied(states.cache))
        return logits, Forks(cache, tokens.shape[0], tokens.device)


class Replaying:
    """Rows are the tokens since the prompt; each call replays them on top of the prompt's cache.

    Without a cache that can be repeated and gone on from, the prompt is replayed as well: slower, and as right.
    """

    def __init__(self, reader: Reader, prompt: torch.Tensor, cache: Any, depth: int) -> None:
        self._reader = reader
        self._prompt = prompt
        self._cache = cache
        self._depth = depth
        self.replayed = depth if cache is not None else depth + prompt.shape[1]
        self.row_bytes = 8 * depth
        if cache is not None:
            self.row_bytes += _cache_bytes(cache) * (prompt.shape[1] + depth) // prompt.shape[1]

    def initial(self) -> Rows:
        return Rows((self._prompt.new_zeros(1, self._depth), self._prompt.new_zeros(1)), 1)

    def advance(self, states: Rows, tokens: torch.Tensor) -> tuple[torch.Tensor, Rows]:
        history, used = states.tensors
        num_rows, count = tokens.shape
        places = used[:, None] + torch.arange(count, device=tokens.device)
        width = int(places.max()) + 1
        replay = history.new_zeros(num_rows, max(width, history.shape[1]))
        replay[:, : history.shape[1]] = history
        replay.scatter_(1, places, tokens)
        logits = self._read(replay[:, :width])
        logits = logits.gather(1, places[..., None].expand(-1, -1, logits.shape[-1]))
        return logits, Rows((replay[:, : history.shape[1]], used + count), num_rows)

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        num_rows = ids.shape[0]
        if self._cache is not None:
            return self._reader(ids, fork(self._cache, ids.new_zeros(num_rows)))[0]
        whole = torch.cat([self._prompt.expand(num_rows, -1), ids], dim=1)
        return self._reader(whole, use_cache=False)[0][:, self._prompt.shape[1] :]


class Packing:
    """Many branches in one row, each token seeing the prompt and its own ancestors alone (tree attention).

    The prompt's cache is repeated for each row and not for each branch. No state comes out of it.
    """

    def __init__(self, reader: Reader, prompt: torch.Tensor, cache: Any) -> None:
        self._reader = reader
        self._prompt = prompt
        self._cache = cache

    def read(self, tokens: torch.Tensor, depths: torch.Tensor, ancestors: torch.Tensor) -> torch.Tensor:
        """The logits after each token of packed branches.

        Args:
            tokens: (rows, tokens) ids.
            depths: (rows, tokens) how many tokens stand between the prompt and each.
            ancestors: (rows, tokens, tokens) whether the token of the last axis is an ancestor, or the token itself.

        Returns:
            (rows, tokens, vocabulary) logits.
        """
        rows, count = tokens.shape
        length = self._prompt.shape[1]
        dtype = self._reader.model.dtype
        # A mask of numbers: one of booleans is added as it is by some ways to compute attention, which is wrong.
        mask = torch.zeros(rows, 1, count, length + count, dtype=dtype, device=tokens.device)
        mask[:, 0, :, length:].masked_fill_(~ancestors, torch.finfo(dtype).min)
        cache = fork(self._cache, tokens.new_zeros(rows))
        return self._reader(tokens, cache, attention_mask=mask, position_ids=length + depths)[0]


def fork(cache: Any, rows: torch.Tensor) -> Any:
    """These rows of a cache, as a cache of their own; the given one stays as it is."""
    forked = _containers_copied(cache)
    forked.reorder_cache(rows)
    return forked


def _containers_copied(part: Any) -> Any:
    """The same tensors in containers of their own, so that a model which puts others there changes no other fork."""
    if hasattr(part, "reorder_cache"):  # a cache or one of its layers, of whatever class
        copied = copy.copy(part)
        copied.__dict__ = {name: _containers_copied(value) for name, value in part.__dict__.items()}
        return copied
    if isinstance(part, dict):
        return {name: _containers_copied(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_containers_copied(value) for value in part]
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


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _cache_bytes(cache: Any) -> int:
    return sum(_bytes(tensor) for tensor in _tensors(cache))


@dataclass(frozen=True)
class Trust:
    """What a model's cache has been seen to do as one full pass does.

    Args:
        replays: several tokens on two copies of the prompt's cache.
        forks: one token, then several, on forks of forks; and that no fork changes what it was taken from.
        packs: branches side by side in one row, which a mask keeps apart.
    """

    replays: bool = False
    forks: bool = False
    packs: bool = False


# By model, then by the lengths that it was tried on: windows and positions make a difference.
_tried: weakref.WeakKeyDictionary[Any, dict[tuple[int, int], Trust]] = weakref.WeakKeyDictionary()


def _trust(reader: Reader, prompt: torch.Tensor, cache: Any, logits: torch.Tensor, depth: int) -> Trust:
    known = _tried.setdefault(reader.model, {})
    lengths = (prompt.shape[1], depth)
    if lengths not in known:
        known[lengths] = _try(reader, prompt, cache, logits, depth)
        if not known[lengths].replays and all(trust.replays for key, trust in known.items() if key != lengths):
            logger.warning(
                "The cache of %s cannot be forked or gone on from as one full pass would; texts are read again from "
                "their beginning, which is right and slower.",
                type(reader.model).__name__,
            )
    return known[lengths]


def _try(reader: Reader, prompt: torch.Tensor, cache: Any, logits: torch.Tensor, depth: int) -> Trust:
    """Compare the cache, forked and gone on from, with one full pass over random tokens after the prompt."""
    if not hasattr(cache, "reorder_cache") or depth == 0:
        return Trust()
    count = min(depth, _TRIED_TOKENS)
    ids = np.random.default_rng(0).integers(0, logits.shape[-1], size=(2, count))
    tail = torch.from_numpy(ids).to(prompt.device)
    whole, _ = reader(torch.cat([prompt.expand(2, -1), tail], dim=1), use_cache=False)
    full = whole[:, prompt.shape[1] :].float().log_softmax(-1)
    three = torch.tensor([1, 0, 1], device=prompt.device)
    replays = _goes_on(reader, cache, tail[three], full[three])
    forks = replays and _forks(reader, cache, tail, full)
    # A state goes on from one token to the next, and a decoder has other masks.
    can_pack = forks and not hasattr(cache, "rows") and not reader.lead
    return Trust(replays, forks, packs=can_pack and _packs(Packing(reader, prompt, cache), tail, full))


def _goes_on(reader: Reader, cache: Any, tail: torch.Tensor, full: torch.Tensor) -> bool:
    """All tokens at once, and one, on several rows forked from the one row of `cache`, which stays as it is."""

    def read(count: int) -> torch.Tensor:
        return reader(tail[:, :count], fork(cache, tail.new_zeros(len(tail))))[0]

    lengths = (tail.shape[1], 1, tail.shape[1])
    return all(_comes_out(functools.partial(read, count), full[:, :count]) for count in lengths)


def _forks(reader: Reader, cache: Any, tail: torch.Tensor, full: torch.Tensor) -> bool:
    """One token and then one more or all, on rows forked from several, three times from the same."""
    _, after = reader(tail[:, :1], fork(cache, tail.new_zeros(2)))
    order = torch.tensor([1, 0, 1], device=tail.device)

    def read(end: int) -> torch.Tensor:
        return reader(tail[order, 1:end], fork(after, order))[0]

    ends = (2, tail.shape[1], 2) if tail.shape[1] > 1 else ()
    return all(_comes_out(functools.partial(read, end), full[order, 1:end]) for end in ends)


def _packs(packing: Packing, tail: torch.Tensor, full: torch.Tensor) -> bool:
    """Both tails in one row, the second before the first."""
    count = tail.shape[1]
    earlier = torch.ones(count, count, dtype=torch.bool, device=tail.device).tril()
    depths = torch.arange(count, device=tail.device).repeat(2)[None]
    both = tail.flip(0).reshape(1, -1)
    return _comes_out(
        lambda: packing.read(both, depths, torch.block_diag(earlier, earlier)[None].bool()).view(2, count, -1).flip(0),
        full,
    )


def _comes_out(read: Callable[[], torch.Tensor], expected: torch.Tensor) -> bool:
    """Whether it can be read and is as expected. Models that cannot do this say so in many ways."""
    try:
        return _equal(read(), expected)
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        if should_reduce_batch_size(error):
            raise
        return False


def _equal(logits: torch.Tensor, expected: torch.Tensor) -> bool:
    if logits.shape != expected.shape:
        return False
    half = logits.dtype in (torch.bfloat16, torch.float16)
    difference = (logits.float().log_softmax(-1) - expected).abs()
    return bool(
        (difference.nan_to_num(0.0, posinf=torch.inf) <= (_TOLERANCE_NATS_HALF if half else _TOLERANCE_NATS)).all()
    )

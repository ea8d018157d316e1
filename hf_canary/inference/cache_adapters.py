"""Cache adapters: how a model goes on from the states of prefixes.

Three: a state that is as large after any text (recurrent models); a key-value cache that is forked, whose rows are all
of one length; the tokens since the prompt, replayed on the prompt's cache or, without one, with the prompt. And packed
rows, out of which no state comes. Knows how a model is called; knows no bits, no walk and no text.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ..errors import ModelError
from .states import Forks, Rows, States, cache_bytes, containers_copied, fork, num_bytes
from .wrappers import num_virtual_tokens, without_adapters


@dataclass(frozen=True)
class Encoded:
    """One source that an encoder has read already.

    Args:
        outputs: the encoder's, of one row.
        mask: (1, n_tokens) which of the source's ids are real.
        start: the token that the decoder starts with.
    """

    outputs: Any
    mask: torch.Tensor
    start: int


@dataclass(frozen=True)
class Source:
    """One source for an encoder.

    Args:
        ids: what it reads.
        start: the token that the decoder starts with.
    """

    ids: tuple[int, ...]
    start: int


class Reader:
    """A model as something that reads rows of ids; a decoder reads them after its source, which is encoded once.

    Args:
        model: a causal model, or an encoder-decoder.
        sources: (n_sources, longest) ids for the encoder, padded on the right, or what it made of one; None for a
            causal model. One source is that of all rows; of several, each row has its own.
        lengths: (n_sources,) real ids of each source.
        start: the token that the decoder starts with, if it is the same in all rows.
        before: called before each call of the model.

    Attributes:
        lead: ids that stand before everything: a decoder's start token, or nothing.
        num_ahead: how many tokens of its own the model puts before these; it says nothing of them.
        gives_cache: whether the model is asked for its cache after a prompt; not once it has failed over that.
    """

    def __init__(
        self,
        model: Any,
        sources: torch.Tensor | Encoded | None,
        lengths: torch.Tensor | None = None,
        *,
        start: int | None = None,
        before: Callable[[], None],
    ) -> None:
        self.model = model
        self.lead = [] if start is None else [start]
        self.num_ahead = num_virtual_tokens(model)
        self.gives_cache = True
        self._before = before
        self._encoded: Any = None
        base = without_adapters(model)
        self._going_on = base if self.num_ahead else model  # it would put its own tokens there once more
        accepted = inspect.signature(base.forward).parameters
        self._cache_name = "cache_params" if "cache_params" in accepted else "past_key_values"
        if isinstance(sources, Encoded):
            self._mask, self._encoded = sources.mask, sources.outputs
        elif sources is not None:
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
            model = self.model if cache is None else self._going_on
            output = model(input_ids=ids, use_cache=use_cache, **past, **options)
        else:
            # Who reads the source from a cache looks at its shape alone; others may need it in a piece.
            repeat = _repeated if cache is None else _expanded
            encoded = type(self._encoded)(**{name: repeat(part, rows) for name, part in self._encoded.items()})
            output = self.model(
                encoder_outputs=encoded,
                attention_mask=self._mask.expand(rows, -1),
                decoder_input_ids=ids,
                use_cache=use_cache,
                **past,
            )
        logits: torch.Tensor = output.logits
        if logits.dim() != 3:
            raise ModelError(
                "model",
                "a language model, which says how likely each token is to come next",
                f"a {type(self.model).__name__}, which gives {tuple(logits.shape[1:])} numbers for a text",
                "What classifies or rewards texts writes none, and has no exposure.",
            )
        if cache is None and logits.shape[1] == ids.shape[1] + self.num_ahead:
            logits = logits[:, self.num_ahead :]
        if logits.shape[1] != ids.shape[1]:
            raise ModelError(
                "model",
                "logits for each token that it reads",
                f"{logits.shape[1]} for {ids.shape[1]} tokens",
                "Take off what adds tokens of its own.",
            )
        return logits, getattr(output, self._cache_name, None)


def _expanded(part: Any, rows: int) -> Any:
    return part.expand(rows, *part.shape[1:]) if isinstance(part, torch.Tensor) else part


def _repeated(part: Any, rows: int) -> Any:
    return _expanded(part, rows).contiguous() if isinstance(part, torch.Tensor) else part


class CacheAdapter(Protocol):
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


class RecurrentState:
    """Rows are the recurrent state itself: as large after any number of tokens, with nothing to replay."""

    replayed = 0

    def __init__(self, reader: Reader, cache_type: Any, tensors: tuple[torch.Tensor, ...]) -> None:
        self._reader = reader
        self._cache_type = cache_type
        self._initial = Rows(tensors, 1)
        self.row_bytes = sum(num_bytes(tensor) for tensor in tensors)

    def initial(self) -> Rows:
        return self._initial

    def advance(self, states: Rows, tokens: torch.Tensor) -> tuple[torch.Tensor, Rows]:
        logits, cache = self._reader(tokens, self._cache_type.from_rows(states.tensors))
        return logits, Rows(tuple(cache.rows()), tokens.shape[0])


class ForkedCache:
    """Rows are those of a cache, all of one age: nothing is replayed, and each row holds its whole past.

    Args:
        reader: of the model.
        prompt: (1, n_prompt) ids.
        cache: the model's after the prompt.
        depth: how many tokens a row holds after the prompt, at most.
        chunks: whether several tokens may be fed at once; else one after another.
    """

    replayed = 0

    def __init__(self, reader: Reader, prompt: torch.Tensor, cache: Any, depth: int, *, chunks: bool) -> None:
        self._reader = reader
        self._chunks = chunks
        self._initial = Forks(cache, 1, prompt.device)
        self.row_bytes = cache_bytes(cache) * (prompt.shape[1] + depth) // prompt.shape[1]

    def initial(self) -> Forks:
        return self._initial

    def advance(self, states: Forks, tokens: torch.Tensor) -> tuple[torch.Tensor, Forks]:
        if states is self._initial:  # which stays, where going on from a cache writes into its tensors
            states = states.select(np.zeros(1, dtype=np.int64))
        cache, logits = containers_copied(states.cache), []
        for part in [tokens] if self._chunks else tokens.split(1, dim=1):
            after, cache = self._reader(part, cache)
            logits.append(after)
        return torch.cat(logits, dim=1), Forks(cache, tokens.shape[0], tokens.device)


class Recompute:
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
            self.row_bytes += cache_bytes(cache) * (prompt.shape[1] + depth) // prompt.shape[1]

    def initial(self) -> Rows:
        return Rows((self._prompt.new_zeros(1, self._depth), self._prompt.new_zeros(1)), 1)

    def advance(self, states: Rows, tokens: torch.Tensor) -> tuple[torch.Tensor, Rows]:
        history, used = states.tensors
        num_rows, count = tokens.shape
        columns = used[:, None] + torch.arange(count, device=tokens.device)
        width = int(columns.max()) + 1
        replay = history.new_zeros(num_rows, max(width, history.shape[1]))
        replay[:, : history.shape[1]] = history
        replay.scatter_(1, columns, tokens)
        logits = self._read(replay[:, :width])
        logits = logits.gather(1, columns[..., None].expand(-1, -1, logits.shape[-1]).to(logits.device))
        return logits, Rows((replay[:, : history.shape[1]], used + count), num_rows)

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        num_rows = ids.shape[0]
        if self._cache is not None:
            return self._reader(ids, fork(self._cache, ids.new_zeros(num_rows)))[0]
        whole = torch.cat([self._prompt.expand(num_rows, -1), ids], dim=1)
        return self._reader(whole, use_cache=False)[0][:, self._prompt.shape[1] :]


class TreeAttention:
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
        length = self._reader.num_ahead + self._prompt.shape[1]
        dtype = self._reader.model.dtype
        # A mask of numbers: one of booleans is added as it is by some ways to compute attention, which is wrong.
        mask = torch.zeros(rows, 1, count, length + count, dtype=dtype, device=tokens.device)
        mask[:, 0, :, length:].masked_fill_(~ancestors, torch.finfo(dtype).min)
        cache = fork(self._cache, tokens.new_zeros(rows))
        return self._reader(tokens, cache, attention_mask=mask, position_ids=length + depths)[0]

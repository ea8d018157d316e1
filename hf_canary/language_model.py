"""One view of a language model: start from a prompt, advance rows by tokens, read costs in bits, fork the state.

The one place where nats become bits, and the one that knows how a model keeps its state and how many rows it takes
at once. Two kinds of state so far: the recurrent state of a model whose cache can give its rows (`rows`,
`from_rows`), and the tokens since the prompt, replayed on top of the prompt's key-value cache, for causal
transformers. This file knows no format, no tokenizer and no walk.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import ModelError, is_int, shown

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_LN2 = math.log(2.0)
# Logits of one forward pass, in numbers; and the rows beyond which a batch brings nothing on a small model.
_LOGITS_AT_ONCE = 2**25
_ROWS_AT_ONCE = 1024
# A cache is trusted after it has repeated the end of the prompt: so many tokens, to the drift that padding brings.
_PROBED_TOKENS = 3
_PROBE_TOLERANCE_NATS = 2e-3


@dataclass(frozen=True)
class States:
    """The states of `num_rows` prefixes: tensors whose first axis is the row."""

    tensors: tuple[torch.Tensor, ...]
    num_rows: int

    def select(self, rows: Ints) -> States:
        """The states of these rows, in this order; a row may be taken several times."""
        index = torch.from_numpy(np.ascontiguousarray(rows)).to(self.tensors[0].device)
        return States(tuple(tensor.index_select(0, index) for tensor in self.tensors), len(rows))


class StatePool:
    """States kept for later: rows go in by the batch and come out one by one, in any order."""

    def __init__(self) -> None:
        self._stored: States | None = None
        self._used = 0

    def add(self, states: States) -> Ints:
        """Store a batch; returns the number under which each of its rows is found."""
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

    def take(self, numbers: Ints) -> States:
        """The states stored under these numbers."""
        if self._stored is None:
            raise LookupError("nothing was stored")
        return self._stored.select(numbers)

    def _grow(self, num_rows: int) -> None:
        assert self._stored is not None
        grown = tuple(tensor.new_empty((num_rows, *tensor.shape[1:])) for tensor in self._stored.tensors)
        for new, old in zip(grown, self._stored.tensors, strict=True):
            new[: self._used] = old[: self._used]
        self._stored = States(grown, num_rows)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients; every submodule's mode comes back afterwards, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def check_batch_size(batch_size: int | None) -> None:
    """Refuse what is no number of rows.

    Raises:
        ModelError: neither None nor a whole number, 1 or more.
    """
    if batch_size is not None and (not is_int(batch_size) or batch_size < 1):
        raise ModelError("batch_size", "a whole number, 1 or more, or None", shown(batch_size), "Leave it out.")


class LanguageModel:
    """A causal model, seen from one prompt: costs in bits of what may follow, and states that can be forked.

    Args:
        model: a causal `PreTrainedModel`; it is only called, inside `evaluating`.
        batch_size: rows of one forward pass; None lets the size of the logits decide.

    Attributes:
        token_rows: how many tokens were fed to the model so far, summed over rows.

    Raises:
        ModelError: an encoder-decoder model, which has no such view yet.
    """

    def __init__(self, model: Any, *, batch_size: int | None = None) -> None:
        if model.config.is_encoder_decoder:
            raise ModelError(
                "model", "a causal language model", f"the encoder-decoder {type(model).__name__}", "Use a causal model."
            )
        check_batch_size(batch_size)
        self._model = model
        self._batch_size = batch_size
        self._vocabulary = int(model.get_input_embeddings().num_embeddings)
        self._keeper: _RecurrentKeeper | _ReplayKeeper
        self.token_rows = 0

    @property
    def starts_itself(self) -> bool:
        """Whether the model says what comes first, as ours with a state do: `initial_logits()`, `initial_state()`."""
        return hasattr(self._model, "initial_logits")

    def first_summed(self, conditioned: int, shared: int) -> int:
        """From which token on costs are summed, when `conditioned` tokens stand before and `shared` are common to all.

        With nothing before and a model that does not say what comes first, the first token conditions.

        Raises:
            ModelError: then the texts must share their first token, and do not.
        """
        if conditioned or self.starts_itself:
            return conditioned
        if shared == 0:
            raise ModelError(
                "context",
                "something before a text that begins with a hole: this model and tokenizer have no BOS",
                "no context",
                "Give context=, or begin the format with fixed text.",
            )
        return 1

    def rows_at_once(self, tokens: int) -> int:
        """How many rows of so many new tokens go into one forward pass, with what it replays counted in."""
        if self._batch_size is not None:
            return self._batch_size
        width = self._keeper.replayed + max(1, tokens)
        return max(1, min(_ROWS_AT_ONCE, _LOGITS_AT_ONCE // (self._vocabulary * width)))

    def start(self, prompt: Sequence[int], picks: Ints, depth: int) -> tuple[Floats, Floats, States]:
        """Consume the prompt.

        Args:
            prompt: token ids; may be empty if the model starts itself.
            picks: (n_picks,) tokens that may follow.
            depth: how many tokens will be asked for after the prompt, at most.

        Returns:
            (n_prompt,) bits of each prompt token given those before it (NaN for a first token of which the model
            says nothing), (n_picks,) bits of the picks after the prompt, and the state of one row.
        """
        self._check_ids(np.asarray(prompt, dtype=np.int64), "prompt")
        self._check_length(len(prompt) + depth)
        rows: list[Floats] = []
        if self.starts_itself:
            first = np.asarray(prompt[:1], dtype=np.int64) if prompt else picks
            rows.append(_bits(self._model.initial_logits()[None, None], first[None, None])[0, 0])
        else:
            rows.append(np.full(min(1, len(prompt)), np.nan))
        if not prompt:
            initial = self._model.initial_state()
            self._keeper = _RecurrentKeeper(self._model, type(initial))
            return np.empty(0), rows[0], States(tuple(initial.rows()), 1)
        output = self._model(input_ids=self._tensor([list(prompt)]), use_cache=True)
        self.token_rows += len(prompt)
        logits = output.logits
        if len(prompt) > 1:
            following = np.asarray(prompt[1:], dtype=np.int64)
            rows.append(_bits(logits[:, :-1], following[None, :, None])[0, :, 0])
        cache: Any = getattr(output, "past_key_values", None)
        if hasattr(cache, "rows"):
            self._keeper = _RecurrentKeeper(self._model, type(cache))
            states = States(tuple(cache.rows()), 1)
        else:
            self._keeper = _ReplayKeeper(self._model, list(prompt), cache, logits[0], depth)
            states = self._keeper.initial()
        return np.concatenate(rows), _bits(logits[:, -1:], picks[None, None])[0, 0], states

    def advance(
        self, states: States, tokens: Ints, picks: Ints, *, lengths: Ints | None = None
    ) -> tuple[Floats, States]:
        """Feed `tokens` to the rows of `states`.

        Args:
            states: of n_rows rows.
            tokens: (n_rows, n_tokens); where `lengths` is given, padded on the right with any id.
            picks: (n_rows, n_tokens, n_picks) tokens whose bits are wanted after each token.
            lengths: (n_rows,) real tokens of each row; then no state may be used afterwards.

        Returns:
            (n_rows, n_tokens, n_picks) bits (meaningless where padded), and the states after the tokens.

        Raises:
            ModelError: logits that are not numbers, or a token that the model does not have.
        """
        self._check_ids(tokens, "tokens")
        self._check_ids(picks, "tokens")
        self.token_rows += int(tokens.size if lengths is None else lengths.sum())
        logits, after = self._keeper.advance(states, self._tensor(tokens))
        wanted = None if lengths is None else np.arange(tokens.shape[1]) < lengths[:, None]
        return _bits(logits, picks, wanted), after

    def _tensor(self, ids: Any) -> torch.Tensor:
        return torch.as_tensor(ids, dtype=torch.long, device=self._model.device)

    def _check_ids(self, ids: Ints, argument: str) -> None:
        if ids.size and (int(ids.max()) >= self._vocabulary or int(ids.min()) < 0):
            raise ModelError(
                "tokenizer",
                f"ids below {self._vocabulary}, the size of the model's embedding",
                f"id {int(ids.max())} in the {argument}",
                "Use the tokenizer that the model was trained with.",
            )

    def _check_length(self, tokens: int) -> None:
        limit = getattr(self._model.config, "max_position_embeddings", None)
        if isinstance(limit, int) and tokens > limit:
            raise ModelError(
                "context",
                f"at most {limit} tokens, the model's positions, for context and canary",
                f"{tokens}",
                "Shorten the context or the format; nothing is cut off silently.",
            )


class _RecurrentKeeper:
    """Rows are the recurrent state itself: as large after any number of tokens, with nothing to replay."""

    replayed = 0

    def __init__(self, model: Any, cache_type: Any) -> None:
        self._model = model
        self._cache_type = cache_type

    def advance(self, states: States, tokens: torch.Tensor) -> tuple[torch.Tensor, States]:
        cache = self._cache_type.from_rows(states.tensors)
        output = self._model(input_ids=tokens, past_key_values=cache, use_cache=True)
        return output.logits, States(tuple(output.past_key_values.rows()), tokens.shape[0])


class _ReplayKeeper:
    """Rows are the tokens since the prompt; each call replays them on top of the prompt's cache.

    Without a cache that can be repeated and gone on from, the prompt is replayed as well: slower, and as right.

    Args:
        model: the model.
        prompt: its token ids.
        cache: the model's after the prompt.
        logits: (n_prompt, vocabulary) of the prompt, by one full pass.
        depth: how many tokens a row holds at most.
    """

    def __init__(self, model: Any, prompt: list[int], cache: Any, logits: torch.Tensor, depth: int) -> None:
        self._model = model
        self._prompt = prompt
        self._depth = depth
        self._cache = cache if self._can_go_on(logits) else None
        self.replayed = depth if self._cache is not None else depth + len(prompt)

    def initial(self) -> States:
        device = self._model.device
        nothing = torch.zeros(1, self._depth, dtype=torch.long, device=device)
        return States((nothing, torch.zeros(1, dtype=torch.long, device=device)), 1)

    def _can_go_on(self, logits: torch.Tensor) -> bool:
        """Whether several tokens on a repeated cache give what one full pass gives, tried on the prompt's own end.

        Some caches cannot be repeated, and the state-space layers of some hybrid models start anew with each chunk.
        """
        cut = len(self._prompt) - _PROBED_TOKENS
        if cut < 1:
            return False
        ids = torch.tensor([self._prompt], device=self._model.device)
        cache: Any = getattr(self._model(input_ids=ids[:, :cut], use_cache=True), "past_key_values", None)
        if not hasattr(cache, "reorder_cache"):
            return False
        cache.reorder_cache(ids.new_zeros(2))
        rest = ids[:, cut:].expand(2, -1)
        replayed = self._model(input_ids=rest, past_key_values=cache, use_cache=True).logits
        full = torch.log_softmax(logits[cut:].float(), dim=-1)
        return bool((torch.log_softmax(replayed.float(), dim=-1) - full).abs().max() <= _PROBE_TOLERANCE_NATS)

    def advance(self, states: States, tokens: torch.Tensor) -> tuple[torch.Tensor, States]:
        history, used = states.tensors
        num_rows, count = tokens.shape
        places = used[:, None] + torch.arange(count, device=tokens.device)
        width = int(places.max()) + 1
        replay = history.new_zeros(num_rows, max(width, history.shape[1]))
        replay[:, : history.shape[1]] = history
        replay.scatter_(1, places, tokens)
        logits = self._forward(replay[:, :width])
        logits = logits.gather(1, places[..., None].expand(-1, -1, logits.shape[-1]))
        return logits, States((replay[:, : history.shape[1]], used + count), num_rows)

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        num_rows = ids.shape[0]
        if self._cache is None:
            prompt = ids.new_tensor(self._prompt).expand(num_rows, -1)
            logits: torch.Tensor = self._model(input_ids=torch.cat([prompt, ids], dim=1), use_cache=False).logits
            return logits[:, len(self._prompt) :]
        cache = copy.deepcopy(self._cache)
        cache.reorder_cache(ids.new_zeros(num_rows))
        logits = self._model(input_ids=ids, past_key_values=cache, use_cache=True).logits
        return logits


def _bits(logits: torch.Tensor, picks: Ints, wanted: NDArray[np.bool_] | None = None) -> Floats:
    """−log2 Pr(pick), normalised in float32 over the whole vocabulary.

    (rows, tokens, vocabulary) logits and (rows, tokens, n) picks → (rows, tokens, n) bits.
    """
    index = torch.from_numpy(np.ascontiguousarray(picks)).to(logits.device)
    nats = -torch.log_softmax(logits.float(), dim=-1).gather(-1, index)
    bits = nats.clamp_min(0.0).double().cpu().numpy() / _LN2
    if np.isnan(bits if wanted is None else bits[wanted]).any():
        raise ModelError(
            "model",
            "logits that are numbers",
            "NaN or +inf logits",
            "Train with a lower learning rate, clip the gradient, or score in float32.",
        )
    return np.asarray(bits, dtype=np.float64)

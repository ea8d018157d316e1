"""What the causal models share: embeddings, head, loss, state cache, masks, and what `generate` asks of a model.

Knows no architecture: a model says what its layers are and how they are run, in a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from ..errors import ModelError, is_int, shown
from .layers import init_recurrent, init_uniform
from .masking import alignment
from .state_cache import StateCache

State = tuple[torch.Tensor, ...]


class SizedConfig(PreTrainedConfig):
    """A config whose sizes and rates are checked when it is made.

    Raises:
        ModelError: a size below 1, a rate outside [0, 1), or either of another type.
    """

    sizes: ClassVar[tuple[str, ...]] = ("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers")
    rates: ClassVar[tuple[str, ...]] = ("dropout",)

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        for name in self.sizes:
            value = getattr(self, name)
            if not is_int(value) or value < 1:
                raise ModelError(name, "a whole number, 1 or more", shown(value), "Correct the model's config.")
        for name in self.rates:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise ModelError(name, "a number in [0, 1)", shown(value), "Correct the model's config.")


class CausalModel(PreTrainedModel, GenerationMixin):
    """A causal language model over layers with states; each architecture gives the layers and `run`.

    Args:
        config: sizes.
        layers: each with `zeros(rows, like)`, its state before a text.
        features: how many the last of them computes, which the head reads.
    """

    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _is_stateful = True  # a state cannot be cut back, so that no other model may draft for this one
    _gain = 1.0

    def __init__(self, config: Any, layers: Iterable[nn.Module], features: int) -> None:
        super().__init__(config)
        self.embedding: nn.Module = nn.Embedding(config.vocab_size, config.embedding_size)
        self.layers = nn.ModuleList(layers)
        self.lm_head: nn.Module = nn.Linear(features, config.vocab_size)

    def run(
        self, embedded: torch.Tensor, states: Sequence[torch.Tensor], lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """The equations: (rows, tokens, embedding_size), a state for each layer → (rows, tokens, features), states."""
        raise NotImplementedError

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(rows, tokens) → (rows, tokens, embedding_size)."""
        embedded: torch.Tensor = self.embedding(input_ids)
        return embedded

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Unit-sized embeddings, weights of order 1/√fan; 0.02 everywhere trains far more slowly."""
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, nn.Linear):
            init_uniform(module, 3**-0.5)
        elif isinstance(module, nn.Conv1d):
            init_uniform(module, self._gain)
        elif isinstance(module, (nn.LSTM, nn.GRU)):
            init_recurrent(module)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embedding = value

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # generate() is to leave the cache to forward(): ours is not one of keys and values

    def initial_logits(self) -> torch.Tensor:
        """(vocab_size,) logits of a first token: those of the head where nothing was computed before."""
        weight = self.lm_head.weight
        assert isinstance(weight, torch.Tensor)
        logits: torch.Tensor = self.lm_head(weight.new_zeros(weight.shape[1]))
        return logits

    def initial_state(self) -> StateCache:
        """The cache of one row before its first token: zeros."""
        return StateCache.from_rows(self._zeros(1))

    def _zeros(self, rows: int) -> State:
        weight = self.lm_head.weight
        return tuple(layer.zeros(rows, weight) for layer in self.layers)  # type: ignore[operator]

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: StateCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """`input_ids` (rows, tokens) → `logits` (rows, tokens, vocab_size).

        A token whose `attention_mask` is 0 is skipped, on the left too; on the right none is needed.
        """
        embedded = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        rows, tokens, _ = embedded.shape
        keeps_state = self.config.use_cache if use_cache is None else use_cache
        before = past_key_values.rows() if past_key_values is not None else ()
        moved = alignment(attention_mask, tokens, keeps_state=keeps_state)
        lengths = None
        if moved is not None:
            embedded, lengths = moved.to_front(embedded), moved.lengths
        hidden, after = self.run(embedded, before or self._zeros(rows), lengths)
        if moved is not None:
            hidden = moved.back(hidden)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        cache = None
        if keeps_state:
            cache = past_key_values if past_key_values is not None else StateCache()
            cache.put(after, tokens)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=cache)


def run_recurrent(
    layers: Iterable[nn.Module],
    hidden: torch.Tensor,
    states: Sequence[torch.Tensor],
    lengths: torch.Tensor | None,
    dropout: nn.Module,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Layer upon layer, with dropout before the first and after each."""
    after = []
    hidden = dropout(hidden)
    for layer, state in zip(layers, states, strict=True):
        hidden, state = layer(hidden, state, lengths)
        hidden = dropout(hidden)
        after.append(state)
    return hidden, after

"""What the causal models share: from tokens to features through layers with states, and from features to logits.

Knows no architecture: a model says what its layers are and how they are run, in a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from ..errors import ModelError
from .base import CheckedConfig, GeneratingModel, StatefulModel, head, kept_places
from .masking import alignment
from .state_cache import StateCache


class CausalModel(StatefulModel):
    """A causal model without a head; each architecture gives the layers and `run`.

    Args:
        config: sizes.
        layers: each with `zeros(rows, like)`, its state before a text.
        features: how many are computed for a token.
    """

    def __init__(self, config: CheckedConfig, layers: Iterable[nn.Module], features: int) -> None:
        super().__init__(config)
        self.embedding: nn.Module = nn.Embedding(config.vocab_size, config.embedding_size)
        self.layers = nn.ModuleList(layers)
        self.features = features

    def run(
        self, embedded: torch.Tensor, states: Sequence[torch.Tensor], lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """The equations: (rows, tokens, embedding_size), a state for each layer → (rows, tokens, features), states.

        Where `lengths` (rows,) is given, only so many tokens at the front of each row count for the states.
        """
        raise NotImplementedError

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(rows, tokens) → (rows, tokens, embedding_size)."""
        embedded: torch.Tensor = self.embedding(input_ids)
        return embedded

    def zeros(self, rows: int, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The state of each layer before a text, of the type and on the device of `like`."""
        return tuple(layer.zeros(rows, like) for layer in self.layers)  # type: ignore[operator]

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embedding = value

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: StateCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """`input_ids` (rows, tokens) → `last_hidden_state` (rows, tokens, features).

        A token whose `attention_mask` is 0 is skipped, wherever it stands; on the right no mask is needed.

        Raises:
            ModelError: neither or both of ids and embeddings, or `position_ids` of several texts in one row.
        """
        if (input_ids is None) == (inputs_embeds is None):
            got = "neither" if input_ids is None else "both"
            raise ModelError("input_ids", "ids, or embeddings in inputs_embeds", got, "Give one of them.")
        _refuse_packed(kwargs.get("position_ids"))
        embedded = self.embed(input_ids) if input_ids is not None else inputs_embeds
        assert embedded is not None
        rows, tokens, _ = embedded.shape
        keeps_state = self.config.use_cache if use_cache is None else use_cache
        before = past_key_values.rows() if past_key_values is not None else ()
        aligned = alignment(attention_mask, rows, tokens, only_real=self.training and not keeps_state)
        states = before or self.zeros(rows, embedded)
        hidden, after = self.run(aligned.to_front(embedded), states, aligned.lengths)
        return BaseModelOutputWithPast(
            last_hidden_state=aligned.back(hidden),
            past_key_values=StateCache.after(past_key_values, after, tokens) if keeps_state else None,
        )


def _refuse_packed(positions: torch.Tensor | None) -> None:
    if positions is not None and bool((positions.diff(dim=-1) < 0).any()):
        raise ModelError(
            "position_ids",
            "one text in a row: a state goes on from one token to the next",
            "positions that start anew within a row, as packing makes them",
            "Turn packing and padding_free off.",
        )


class CausalLanguageModel(GeneratingModel):
    """A causal model with a head: logits of the next token after each, and a state to select and repeat.

    Args:
        config: sizes.
    """

    body: ClassVar[type[CausalModel]]
    _tied_weights_keys = {"lm_head.weight": "model.embedding.weight"}  # noqa: RUF012 # transformers reads the class's

    def __init__(self, config: CheckedConfig) -> None:
        super().__init__(config)
        self.model = self.body(config)  # type: ignore[call-arg]  # an architecture needs no more
        self.lm_head = head(config, self.model.features)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        embedding: nn.Module = self.model.get_input_embeddings()
        return embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def initial_logits(self) -> torch.Tensor:
        """(vocab_size,) logits of a first token: those of the head where nothing was computed before."""
        logits: torch.Tensor = self.lm_head(self._like().new_zeros(self.model.features))
        return logits

    def initial_state(self) -> StateCache:
        """The cache of one row before its first token: zeros."""
        return StateCache.from_rows(self.model.zeros(1, self._like()))

    def _like(self) -> torch.Tensor:
        first: torch.Tensor = next(self.parameters())
        return first

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
        """`input_ids` (rows, tokens) → `logits` (rows, tokens, vocab_size); masks as in the model without a head."""
        output = self.model(input_ids, attention_mask, past_key_values, inputs_embeds, use_cache, **kwargs)
        logits = self.lm_head(output.last_hidden_state[:, kept_places(logits_to_keep)])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=output.past_key_values)

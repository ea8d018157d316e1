"""What all the models share: checked configs, initial weights, a head for `generate`, layers run in turn.

Knows no architecture.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel

from ..errors import ModelError, is_int, shown
from .initial_weights import initialise


class CheckedConfig(PreTrainedConfig):
    """What the configs share; all values are checked when one is made, and again when a model is made from it.

    Raises:
        ModelError: a size below 1, a rate outside [0, 1), or a value of another type.
    """

    sizes: ClassVar[tuple[str, ...]] = ("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers")
    rates: ClassVar[tuple[str, ...]] = ("dropout",)
    flags: ClassVar[tuple[str, ...]] = ("use_cache", "tie_word_embeddings")
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]  # Trainer gathers the rest

    vocab_size: int = 64
    use_cache: bool = True
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.check()

    def check(self) -> None:
        """Refuse what no model can be made of; numbers of other types, such as NumPy's, become Python's."""
        for name in self.sizes:
            value = getattr(self, name)
            if not is_int(value) or value < 1:
                raise ModelError(name, "a whole number, 1 or more", shown(value), "Correct the model's config.")
            setattr(self, name, operator.index(value))
        for name in self.rates:
            value = getattr(self, name)
            if isinstance(value, (bool, str)) or not hasattr(value, "__float__") or not 0 <= float(value) < 1:
                raise ModelError(name, "a number in [0, 1)", shown(value), "Correct the model's config.")
            setattr(self, name, float(value))
        for name in self.flags:
            if not isinstance(getattr(self, name), bool):
                raise ModelError(name, "true or false", shown(getattr(self, name)), "Correct the model's config.")


class StatefulModel(PreTrainedModel):
    """A model whose past is a `StateCache`.

    Args:
        config: sizes.
    """

    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    convolution_gain = 1.0

    def __init__(self, config: Any) -> None:
        # A config may have been changed since it was made: AutoConfig.from_pretrained(..., hidden_size=...) does so.
        config.check()
        super().__init__(config)

    def _init_weights(self, module: nn.Module) -> None:
        # Embeddings are as large as what the layers compute; tied, they are the weights of the head as well.
        deviation = self.config.embedding_size**-0.5 if self.config.tie_word_embeddings else 1.0
        initialise(module, embedding_deviation=deviation, convolution_gain=self.convolution_gain)


class GeneratingModel(StatefulModel, GenerationMixin):
    """A model with a head, `lm_head`, that `generate` writes with."""

    _is_stateful = True  # a state cannot be cut back, so that no other model may draft for this one

    lm_head: nn.Module

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # generate() is to leave the cache to forward(): ours is not one of keys and values


def head(config: Any, features: int) -> nn.Linear:
    """The map from features to logits.

    Raises:
        ModelError: the config ties it to the embedding, which has another width.
    """
    if config.tie_word_embeddings and features != config.embedding_size:
        raise ModelError(
            "tie_word_embeddings",
            f"embeddings as wide as what the head reads, {features}, to tie them",
            f"embeddings of {config.embedding_size}",
            "Correct the model's config.",
        )
    return nn.Linear(features, config.vocab_size)


def kept_places(logits_to_keep: int | torch.Tensor) -> slice | torch.Tensor:
    """The index of the tokens whose logits are wanted: the last so many, all if 0, or those of a tensor."""
    return slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep


def run_in_turn(
    layers: Iterable[nn.Module],
    dropouts: Iterable[nn.Module],
    hidden: torch.Tensor,
    states: Sequence[torch.Tensor],
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """Each layer reads what the one before computed, and its own state; a dropout follows each.

    Args:
        layers: (features, state, lengths) → (features, state) each.
        dropouts: one for each layer.
        hidden: what the first layer reads.
        states: one for each layer.
        lengths: (rows,) real tokens at the front of each row; None if all are.

    Returns:
        What the last layer computed, and the states afterwards.
    """
    after = []
    for layer, dropout, state in zip(layers, dropouts, states, strict=True):
        hidden, state = layer(hidden, state, lengths)
        hidden = dropout(hidden)
        after.append(state)
    return hidden, after

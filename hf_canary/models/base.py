"""What all models here share: checked configs, embeddings and head, initial weights, and no key-value cache."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel

from ..errors import ModelError, is_int, shown
from .initial_weights import initialise


class CheckedConfig(PreTrainedConfig):
    """What the configs share; sizes and rates are checked when one is made.

    Raises:
        ModelError: a size below 1, a rate outside [0, 1), or either of another type.
    """

    sizes: ClassVar[tuple[str, ...]] = ("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers")
    rates: ClassVar[tuple[str, ...]] = ("dropout",)

    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]  # Trainer gathers the rest

    vocab_size: int = 64
    use_cache: bool = True
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

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


class StatefulModel(PreTrainedModel):
    """A model whose past is a `StateCache`; its `embedding` is what it reads tokens with."""

    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    convolution_gain = 1.0

    embedding: nn.Module

    def _init_weights(self, module: nn.Module) -> None:
        # Embeddings are as large as what the layers compute; tied, they are the weights of the head as well.
        deviation = self.config.embedding_size**-0.5 if self.config.tie_word_embeddings else 1.0
        initialise(module, embedding_deviation=deviation, convolution_gain=self.convolution_gain)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embedding = value


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

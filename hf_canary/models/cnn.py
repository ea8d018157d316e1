"""The convolutional language model of the paper: causal convolutions, one upon the other.

    y_t = relu(b + Σ_{j<kernel} W_j x_{t-j})    in each layer, over the layer below; x is the embedding
    logits_t = W y_t + b                        over the last

Before a text all inputs are zero. A token is seen by the `num_hidden_layers (kernel_size - 1)` after it, and no more:
its state is that many tokens wide, however long the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .base import CheckedConfig, run_in_turn
from .causal import CausalLanguageModel, CausalModel
from .convolution import CausalConvolution


class CNNConfig(CheckedConfig):
    """Sizes of the model: `num_hidden_layers` convolutions of `hidden_size` filters.

    Args:
        vocab_size: of the tokenizer.
        embedding_size: width of the embedding.
        hidden_size: filters of each layer.
        num_hidden_layers: layers.
        kernel_size: tokens that a filter sees: one and those before it.
        dropout: on the embeddings and after each layer, while training.
    """

    model_type = "hf-canary-cnn"
    sizes: ClassVar[tuple[str, ...]] = (*CheckedConfig.sizes, "kernel_size")

    embedding_size: int = 168
    hidden_size: int = 188
    num_hidden_layers: int = 2
    kernel_size: int = 9
    dropout: float = 0.0


class CNNLayer(GradientCheckpointingLayer, CausalConvolution):
    """A causal convolution and its rectifier."""

    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As the convolution, with what is negative cut off."""
        outputs, state = super().forward(inputs, state, lengths)
        return outputs.relu(), state


class CNNModel(CausalModel):
    """The layers, without a head."""

    config_class = CNNConfig
    convolution_gain = 2**0.5  # a rectifier halves the power (He et al. 2015)

    def __init__(self, config: CNNConfig) -> None:
        widths = [config.embedding_size] + [config.hidden_size] * config.num_hidden_layers
        layers = (CNNLayer(inputs, outputs, config.kernel_size) for inputs, outputs in pairwise(widths))
        super().__init__(config, layers, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def run(
        self, embedded: torch.Tensor, states: Sequence[torch.Tensor], lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """Layer upon layer, with the features before the tokens."""
        dropouts = [self.dropout] * len(self.layers)
        hidden = self.dropout(embedded).transpose(1, 2)
        hidden, after = run_in_turn(self.layers, dropouts, hidden, states, lengths)
        return hidden.transpose(1, 2), after


class CNNForCausalLM(CausalLanguageModel):
    """The language model: logits of the next token after each, and a state that can be selected and repeated."""

    config_class = CNNConfig
    body = CNNModel

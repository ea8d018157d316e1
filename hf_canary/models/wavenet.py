"""The WaveNet language model of the paper (van den Oord et al. 2016, §2): dilated, gated, residual.

    z   = tanh(W_f * x + b_f) ∘ σ(W_g * x + b_g)    in each layer; * is a causal convolution of its dilation
    x'  = x + V z + b                               for the layer above; x is the embedding
    s   = Σ_layers U z + b                          summed over all layers
    logits_t = W' relu(W relu(s_t) + b) + b'

The dilations are 1, 2, 4, ... up to `max_dilation`, and then 1 again. Before a text all inputs are zero. The last
layer has its x' as well, which nobody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .base import CheckedConfig
from .causal import CausalLanguageModel, CausalModel
from .convolution import CausalConvolution


class WaveNetConfig(CheckedConfig):
    """Sizes of the model; the embedding is as wide as the residual stream, `hidden_size`.

    Args:
        vocab_size: of the tokenizer.
        hidden_size: channels of the residual stream, of the gates and of the skip connections.
        num_hidden_layers: layers.
        kernel_size: tokens that a gate sees.
        max_dilation: how far apart they stand at most.
        dropout: on the embeddings and on each layer's gated units, while training.
    """

    model_type = "hf-canary-wavenet"
    attribute_map: ClassVar[dict[str, str]] = {"embedding_size": "hidden_size"}
    sizes: ClassVar[tuple[str, ...]] = ("vocab_size", "hidden_size", "num_hidden_layers", "kernel_size", "max_dilation")

    hidden_size: int = 188
    num_hidden_layers: int = 2
    kernel_size: int = 3
    max_dilation: int = 512
    dropout: float = 0.0

    def dilations(self) -> list[int]:
        """1, 2, 4, ... for each layer."""
        cycle = self.max_dilation.bit_length()
        return [2 ** (layer % cycle) for layer in range(self.num_hidden_layers)]


class WaveNetLayer(GradientCheckpointingLayer):
    """A gated convolution with its residual and its skip connection."""

    def __init__(self, channels: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.gates = CausalConvolution(channels, 2 * channels, kernel, dilation)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Conv1d(channels, 2 * channels, 1)

    def zeros(self, rows: int, like: torch.Tensor) -> torch.Tensor:
        """(rows, channels, span) inputs before a text."""
        return self.gates.zeros(rows, like)

    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(rows, channels, tokens) and the inputs before → what the layer above reads, the skip, the state after."""
        gates, state = self.gates(inputs, state, lengths)
        filters, gate = gates.chunk(2, dim=1)
        residual, skip = self.out(self.dropout(filters.tanh() * gate.sigmoid())).chunk(2, dim=1)
        return inputs + residual, skip, state


class WaveNetModel(CausalModel):
    """The layers, without a head."""

    config_class = WaveNetConfig

    def __init__(self, config: WaveNetConfig) -> None:
        channels = config.hidden_size
        layers = (
            WaveNetLayer(channels, config.kernel_size, dilation, config.dropout) for dilation in config.dilations()
        )
        super().__init__(config, layers, channels)
        self.dropout = nn.Dropout(config.dropout)
        self.mix = nn.Linear(channels, channels)
        self.post_init()

    def run(
        self, embedded: torch.Tensor, states: Sequence[torch.Tensor], lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """Layer upon layer, with the features before the tokens; the skips are summed on the way."""
        after = []
        hidden = self.dropout(embedded).transpose(1, 2)
        skips = torch.zeros_like(hidden)
        for layer, state in zip(self.layers, states, strict=True):
            hidden, skip, state = layer(hidden, state, lengths)
            skips = skips + skip
            after.append(state)
        return self.mix(skips.relu().transpose(1, 2)).relu(), after


class WaveNetForCausalLM(CausalLanguageModel):
    """The language model: logits of the next token after each, and a state that can be selected and repeated."""

    config_class = WaveNetConfig
    body = WaveNetModel

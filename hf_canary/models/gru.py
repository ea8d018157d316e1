"""The GRU language model of the paper (Cho et al. 2014, in the form that cuDNN computes).

    r, z = σ(W x_t + U h_{t-1} + b)
    n = tanh(W_n x_t + b_n + r ∘ (U_n h_{t-1} + b'_n))
    h_t = (1 - z) ∘ n + z ∘ h_{t-1}         in each layer, over the layer below; x is the embedding
    logits_t = W h_t + b                    over the last
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .causal import CausalModel, SizedConfig, run_recurrent
from .layers import stack


class GRUConfig(SizedConfig):
    """Sizes of the model: `num_hidden_layers` layers of `hidden_size` units over embeddings of `embedding_size`.

    Args:
        vocab_size: of the tokenizer.
        embedding_size: width of the embedding.
        hidden_size: units of each layer.
        num_hidden_layers: layers.
        dropout: on the embeddings and after each layer, while training.
    """

    model_type = "hf-canary-gru"

    vocab_size: int = 64
    embedding_size: int = 143
    hidden_size: int = 235
    num_hidden_layers: int = 2
    dropout: float = 0.0
    use_cache: bool = True
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None


class GRUForCausalLM(CausalModel):
    """The language model: logits of the next token after each, and a state that can be selected and repeated."""

    config_class = GRUConfig

    def __init__(self, config: GRUConfig) -> None:
        widths = [config.embedding_size] + [config.hidden_size] * config.num_hidden_layers
        super().__init__(config, stack(nn.GRU, widths), config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def run(
        self, embedded: torch.Tensor, states: Sequence[torch.Tensor], lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        return run_recurrent(self.layers, embedded, states, lengths, self.dropout)

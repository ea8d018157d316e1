"""The GRU language model of the paper (Cho et al. 2014, in the form that cuDNN computes).

r, z = σ(W x_t + U h_{t-1} + b)
n = tanh(W_n x_t + b_n + r ∘ (U_n h_{t-1} + b'_n))
h_t = (1 - z) ∘ n + z ∘ h_{t-1}         in each layer, over the layer below; x is the embedding
logits_t = W h_t + b                    over the last
"""

from __future__ import annotations

from torch import nn

from .base import CheckedConfig
from .causal import CausalLanguageModel
from .recurrent import RecurrentModel


class GRUConfig(CheckedConfig):
    """Sizes of the model: `num_hidden_layers` layers of `hidden_size` units over embeddings of `embedding_size`.

    Args:
        vocab_size: of the tokenizer.
        embedding_size: width of the embedding.
        hidden_size: units of each layer.
        num_hidden_layers: layers.
        dropout: on the embeddings and after each layer, while training.
    """

    model_type = "hf-canary-gru"

    embedding_size: int = 143
    hidden_size: int = 235
    num_hidden_layers: int = 2
    dropout: float = 0.0


class GRUModel(RecurrentModel):
    """The layers, without a head."""

    config_class = GRUConfig

    def __init__(self, config: GRUConfig) -> None:
        widths = [config.embedding_size] + [config.hidden_size] * config.num_hidden_layers
        super().__init__(config, nn.GRU, widths, [nn.Dropout(config.dropout) for _ in widths])


class GRUForCausalLM(CausalLanguageModel):
    """The language model: logits of the next token after each, and a state that can be selected and repeated."""

    config_class = GRUConfig
    body = GRUModel

"""The LSTM language model of the paper (Hochreiter and Schmidhuber 1997).

i, f, g, o = W x_t + U h_{t-1} + b
c_t = σ(f) ∘ c_{t-1} + σ(i) ∘ tanh(g)
h_t = σ(o) ∘ tanh(c_t)                  in each layer, over the layer below; x is the embedding
logits_t = W h_t + b                    over the last
"""

from __future__ import annotations

from torch import nn

from .base import CheckedConfig
from .causal import CausalLanguageModel
from .recurrent import RecurrentModel


class LSTMConfig(CheckedConfig):
    """Sizes of the model: `num_hidden_layers` layers of `hidden_size` units over embeddings of `embedding_size`.

    Args:
        vocab_size: of the tokenizer.
        embedding_size: width of the embedding.
        hidden_size: units of each layer.
        num_hidden_layers: layers.
        dropout: on the embeddings and after each layer, while training.
    """

    model_type = "hf-canary-lstm"

    embedding_size: int = 150
    hidden_size: int = 200
    num_hidden_layers: int = 2
    dropout: float = 0.0


class LSTMModel(RecurrentModel):
    """The layers, without a head."""

    config_class = LSTMConfig

    def __init__(self, config: LSTMConfig) -> None:
        widths = [config.embedding_size] + [config.hidden_size] * config.num_hidden_layers
        super().__init__(config, nn.LSTM, widths, [nn.Dropout(config.dropout) for _ in widths])


class LSTMForCausalLM(CausalLanguageModel):
    """The language model: logits of the next token after each, and a state that can be selected and repeated."""

    config_class = LSTMConfig
    body = LSTMModel

"""The word-level and character-level LSTM of the paper's §6.2 and §6.3 (Merity, Keskar and Socher 2018).

The LSTM of `lstm.py`, with the head tied to the embedding unless the config says otherwise, so that the last layer is
as wide as the embedding; and three kinds of dropout while training: of whole words of the embedding; of features, the
same at all tokens of a row, on the embedding, between the layers and on the last; of weights from units to units, the
same at all tokens of a batch.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from .base import CheckedConfig
from .causal import CausalLanguageModel
from .recurrent import RecurrentModel, VariationalDropout


class AWDLSTMConfig(CheckedConfig):
    """Sizes of the model, and how much of what is dropped while training.

    Args:
        vocab_size: of the tokenizer.
        embedding_size: width of the embedding, and of the last layer where both are tied.
        hidden_size: units of the other layers.
        num_hidden_layers: layers.
        embedding_dropout: share of the vocabulary that is dropped.
        input_dropout: on the embedding.
        hidden_dropout: between the layers.
        output_dropout: on the last layer.
        weight_drop: share of the weights from units to units.
        tie_word_embeddings: whether head and embedding are one.
    """

    model_type = "hf-canary-awd-lstm"
    rates: ClassVar[tuple[str, ...]] = (
        "embedding_dropout",
        "input_dropout",
        "hidden_dropout",
        "output_dropout",
        "weight_drop",
    )

    embedding_size: int = 400
    hidden_size: int = 1150
    num_hidden_layers: int = 3
    embedding_dropout: float = 0.1
    input_dropout: float = 0.4
    hidden_dropout: float = 0.25
    output_dropout: float = 0.4
    weight_drop: float = 0.5
    tie_word_embeddings: bool = True


class AWDLSTMModel(RecurrentModel):
    """The layers, without a head."""

    config_class = AWDLSTMConfig

    def __init__(self, config: AWDLSTMConfig) -> None:
        between = config.num_hidden_layers - 1
        last = config.embedding_size if config.tie_word_embeddings else config.hidden_size
        widths = [config.embedding_size, *[config.hidden_size] * between, last]
        rates = [config.input_dropout, *[config.hidden_dropout] * between, config.output_dropout]
        super().__init__(config, nn.LSTM, widths, map(VariationalDropout, rates), config.weight_drop)

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(rows, tokens) → (rows, tokens, embedding_size); a word that is dropped is so wherever it stands."""
        embedded = super().embed(input_ids)
        if not self.training:
            return embedded
        words = torch.ones_like(self.embedding.weight[:, 0])  # type: ignore[index]
        kept = nn.functional.dropout(words, self.config.embedding_dropout)
        return embedded * kept[input_ids][..., None]


class AWDLSTMForCausalLM(CausalLanguageModel):
    """The language model: logits of the next token after each, and a state that can be selected and repeated."""

    config_class = AWDLSTMConfig
    body = AWDLSTMModel

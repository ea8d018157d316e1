"""The LSTM language model of the paper (Hochreiter and Schmidhuber 1997), as a Hugging Face model.

    e_t = E x_t,    h_t, c_t = LSTM(e_t, h_{t-1}, c_{t-1}) in each layer,    logits_t = W h_t + b

A stock `PreTrainedModel`: the Auto classes load it, `Trainer` trains it, `generate` decodes with it. It has no notion
of padding: tokens on the right change nothing before them, tokens on the left are read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast

from ..errors import ModelError, is_int, shown
from .state_cache import StateCache


class LSTMConfig(PreTrainedConfig):
    """Sizes of the model: `num_hidden_layers` layers of `hidden_size` units over embeddings of `embedding_size`.

    Args:
        vocab_size: of the tokenizer.
        embedding_size: width of E.
        hidden_size: units of each layer.
        num_hidden_layers: layers.
        dropout: on the embeddings and after each layer, while training.
    """

    model_type = "hf-canary-lstm"

    vocab_size: int = 64
    embedding_size: int = 150
    hidden_size: int = 200
    num_hidden_layers: int = 2
    dropout: float = 0.0
    use_cache: bool = True
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        for name in ("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers"):
            value = getattr(self, name)
            if not is_int(value) or value < 1:
                raise ModelError(name, "a whole number, 1 or more", shown(value), "Correct the model's config.")
        if not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout < 1:
            raise ModelError("dropout", "a number in [0, 1)", shown(self.dropout), "Correct the model's config.")


class LSTMForCausalLM(PreTrainedModel, GenerationMixin):
    """The language model: logits of the next token after each, and a state that can be selected and repeated."""

    config_class = LSTMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _is_stateful = True

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.embedding: nn.Module = nn.Embedding(config.vocab_size, config.embedding_size)
        between = config.dropout if config.num_hidden_layers > 1 else 0.0
        self.lstm = nn.LSTM(
            config.embedding_size, config.hidden_size, config.num_hidden_layers, batch_first=True, dropout=between
        )
        self.dropout = nn.Dropout(config.dropout)
        self.lm_head: nn.Module = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Weights uniform in ±1/√fan, embeddings N(0, 1), forget gates open; 0.02 everywhere trains far more slowly."""
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            init.uniform_(module.weight, -bound, bound)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            units = module.hidden_size
            for name, parameter in module.named_parameters():
                if name.startswith("weight"):
                    init.uniform_(parameter, -(units**-0.5), units**-0.5)
                else:
                    # Gates stand in the order input, forget, cell, output; the two biases of a layer are added.
                    bias = torch.zeros_like(parameter)
                    bias[units : 2 * units] = 0.5
                    init.copy_(parameter, bias)

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
        """(vocab_size,) logits of a first token, from the initial state h = 0."""
        hidden = torch.zeros(self.config.hidden_size, dtype=self.dtype, device=self.device)
        logits: torch.Tensor = self.lm_head(hidden)
        return logits

    def initial_state(self) -> StateCache:
        """The cache of one row before its first token: h = c = 0."""
        zeros = torch.zeros(
            1, self.config.num_hidden_layers, self.config.hidden_size, dtype=self.dtype, device=self.device
        )
        return StateCache.from_rows([zeros, zeros])

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
        """`input_ids` (rows, tokens) → `logits` (rows, tokens, vocab_size); an `attention_mask` is not needed."""
        embedded = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        before = past_key_values.rows() if past_key_values is not None else ()
        # Rows come first in a state, layers in torch's LSTM.
        state = tuple(tensor.transpose(0, 1).contiguous() for tensor in before) or None
        hidden, after = self.lstm(self.dropout(embedded), state)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(self.dropout(hidden[:, kept]))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        cache = None
        if self.config.use_cache if use_cache is None else use_cache:
            cache = past_key_values if past_key_values is not None else StateCache()
            cache.put([tensor.transpose(0, 1) for tensor in after], embedded.shape[1])
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=cache)

"""The translation model of the paper (§6.4): an encoder reads the source, a decoder writes the target.

With a thought vector alone (the paper's Figure 6; Sutskever, Vinyals and Le 2014):

    s_j = cell(x_j, s_{j-1}),   s_0 = 0             the encoder; in each layer s_J is the thought vector
    h_t = cell(y_{t-1}, h_{t-1}),   h_0 = s_J       the decoder
    logits_t = W h_t + b

With attention as well, as its NMT model has it (Luong, Pham and Manning 2015: general score, input feeding):

    h_t = cell([y_{t-1}; a_{t-1}], h_{t-1}),   a_0 = 0
    a_t = tanh(W_a [Σ_j α_tj s_j; h_t]),    α_t = softmax_j(h_t · W_s s_j)
    logits_t = W a_t + b

The cells are LSTMs or GRUs in several layers. Source and target have one vocabulary and one embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils.generic import ModelOutput, can_return_tuple

from ..errors import ModelError, shown
from .base import CheckedConfig, GeneratingModel, head, kept_places
from .masking import alignment
from .recurrent import RecurrentLayer
from .state_cache import StateCache

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class TranslationConfig(CheckedConfig):
    """Sizes of the model: encoder and decoder have `num_hidden_layers` layers of `hidden_size` units each.

    Args:
        cell: `"lstm"` or `"gru"`.
        attention: whether the decoder looks back at the source, or has the thought vector alone.
        vocab_size: of the tokenizer, which both languages share.
        embedding_size: width of the embedding.
        hidden_size: units of each layer.
        num_hidden_layers: layers of the encoder, and of the decoder.
        dropout: on the embeddings, after each layer and on the attention vector, while training.
    """

    model_type = "hf-canary-translation"

    cell: str = "lstm"
    attention: bool = True
    embedding_size: int = 256
    hidden_size: int = 256
    num_hidden_layers: int = 2
    dropout: float = 0.2
    is_encoder_decoder: bool = True
    decoder_start_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.cell not in CELLS:
            raise ModelError("cell", " or ".join(map(repr, CELLS)), shown(self.cell), "Correct the model's config.")


@dataclass
class EncoderOutput(ModelOutput):
    """What the decoder is given of a source.

    Args:
        last_hidden_state: (rows, tokens, hidden_size) of the last layer.
        thought: (rows, layers, vectors, hidden_size), the state of each layer after the last token.
    """

    last_hidden_state: torch.Tensor | None = None
    thought: torch.Tensor | None = None


class Encoder(nn.Module):
    """Reads a source, skipping what its mask leaves out."""

    main_input_name = "input_ids"

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        self.embedding: nn.Module = nn.Embedding(config.vocab_size, config.embedding_size)
        self.layers = nn.ModuleList(_layers(config, config.embedding_size))
        self.dropout = nn.Dropout(config.dropout)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> EncoderOutput:
        """`input_ids` (rows, tokens) → its hidden states and thought vector."""
        hidden = self.dropout(self.embedding(input_ids) if inputs_embeds is None else inputs_embeds)
        moved, lengths = alignment(attention_mask, hidden.shape[1], keeps_state=True), None
        if moved is not None:
            hidden, lengths = moved.to_front(hidden), moved.lengths
        states = [layer.zeros(len(hidden), hidden) for layer in self.layers]  # type: ignore[operator]
        hidden, thought = _run(self.layers, hidden, states, lengths, self.dropout)
        if moved is not None:
            hidden = moved.back(hidden)
        return EncoderOutput(last_hidden_state=hidden, thought=torch.stack(list(thought), dim=1))


class Attention(nn.Module):
    """One step's attention vector: a weighted mean of the source, mixed with what the decoder computed."""

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        self.score = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.mix = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self, hidden: torch.Tensor, source: torch.Tensor, keys: torch.Tensor, masked: torch.Tensor | None
    ) -> torch.Tensor:
        """(rows, 1, hidden_size), and of the source (rows, tokens, hidden_size) twice → (rows, 1, hidden_size)."""
        scores = hidden @ keys.transpose(1, 2)
        if masked is not None:
            scores = scores.masked_fill(masked[:, None], torch.finfo(scores.dtype).min)
        context = scores.softmax(-1) @ source
        vector: torch.Tensor = self.mix(torch.cat([context, hidden], dim=-1)).tanh()
        return vector


class RNNForConditionalGeneration(GeneratingModel):
    """The translation model: logits of the next target token after each, and a state to select and repeat."""

    config_class = TranslationConfig
    _tied_weights_keys = {"lm_head.weight": "encoder.embedding.weight"}  # noqa: RUF012 # read from the class

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__(config)
        self.lm_head = head(config, config.hidden_size)
        self.encoder = Encoder(config)
        fed = config.hidden_size if config.attention else 0
        self.layers = nn.ModuleList(_layers(config, config.embedding_size + fed))
        self.dropout = nn.Dropout(config.dropout)
        self.attention = Attention(config) if config.attention else None
        self.post_init()

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        return self.encoder

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.embedding = value

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """(rows, tokens) labels → the same, one to the right, behind the start token."""
        start = self.config.decoder_start_token_id
        if start is None:
            raise ModelError(
                "decoder_start_token_id", "the token that a target starts with", "None", "Set it in the model's config."
            )
        ids = torch.cat([labels.new_full((len(labels), 1), start), labels[:, :-1]], dim=1)
        # What stands behind the end of a target is no label; any token will do.
        return ids.masked_fill(ids < 0, self.config.pad_token_id or 0)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: EncoderOutput | Sequence[torch.Tensor] | None = None,
        past_key_values: StateCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Source and target, (rows, tokens) each → `logits` (rows, target tokens, vocab_size).

        With `labels` alone, the target is read behind the start token. Tokens whose mask is 0 are skipped.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask, inputs_embeds)
        source, thought = encoder_outputs[0], encoder_outputs[1]
        if decoder_input_ids is None:
            if labels is None:
                raise ModelError("decoder_input_ids", "a target, or labels", "neither", "Give one of them.")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        tokens = decoder_input_ids.shape[1]
        keeps_state = self.config.use_cache if use_cache is None else use_cache
        states = past_key_values.rows() if past_key_values is not None else ()
        if not states:
            states = thought.unbind(1)
            if self.attention is not None:
                states = (*states, source.new_zeros(len(source), 1, self.config.hidden_size))
        embedded = self.dropout(self.encoder.embedding(decoder_input_ids))
        moved, lengths = alignment(decoder_attention_mask, tokens, keeps_state=keeps_state), None
        if moved is not None:
            embedded, lengths = moved.to_front(embedded), moved.lengths
        if self.attention is None:
            hidden, after = _run(self.layers, embedded, states, lengths, self.dropout)
        else:
            hidden, after = self._attend(embedded, states, lengths, source, attention_mask)
        if moved is not None:
            hidden = moved.back(hidden)
        logits = self.lm_head(hidden[:, kept_places(logits_to_keep)])
        loss = None
        if labels is not None:
            # Labels stand where their logits are: nothing is to be shifted.
            size = self.config.vocab_size
            loss = self.loss_function(logits, labels, vocab_size=size, shift_labels=labels, **kwargs)
        cache = None
        if keeps_state:
            cache = past_key_values if past_key_values is not None else StateCache()
            cache.put(after, tokens)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=cache,  # type: ignore[arg-type]  # declared for keys and values alone
            encoder_last_hidden_state=source,
        )

    def _attend(
        self,
        embedded: torch.Tensor,
        states: Sequence[torch.Tensor],
        lengths: torch.Tensor | None,
        source: torch.Tensor,
        source_mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """The decoder with attention: one token after the other, as each reads the attention vector before."""
        assert self.attention is not None
        keys, masked = self.attention.score(source), None if source_mask is None else source_mask == 0
        vectors = []
        for place in range(embedded.shape[1]):
            *before, vector = states
            inputs = torch.cat([embedded[:, place : place + 1], vector], dim=-1)
            hidden, after = _run(self.layers, inputs, before, None, self.dropout)
            vector = self.dropout(self.attention(hidden, source, keys, masked))
            vectors.append(vector)
            now = (*after, vector)
            if lengths is not None:
                now = tuple(_where(place < lengths, new, old) for new, old in zip(now, states, strict=True))
            states = now
        return torch.cat(vectors, dim=1), states


def _layers(config: TranslationConfig, inputs: int) -> list[RecurrentLayer]:
    widths = [inputs] + [config.hidden_size] * (config.num_hidden_layers - 1)
    return [RecurrentLayer(CELLS[config.cell], width, config.hidden_size) for width in widths]


def _run(
    layers: nn.ModuleList,
    hidden: torch.Tensor,
    states: Sequence[torch.Tensor],
    lengths: torch.Tensor | None,
    dropout: nn.Module,
) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """Layer upon layer, with dropout after each."""
    after = []
    for layer, state in zip(layers, states, strict=True):
        hidden, state = layer(hidden, state, lengths)
        hidden = dropout(hidden)
        after.append(state)
    return hidden, after


def _where(rows: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return torch.where(rows.view(-1, *[1] * (new.dim() - 1)), new, old)

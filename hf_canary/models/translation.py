"""The translation model of the paper (§6.4): an encoder reads the source, a decoder writes the target.

With a thought vector alone (the paper's Figure 6; Sutskever, Vinyals and Le 2014):

    s_j = cell(x_j, s_{j-1}),   s_0 = 0             the encoder; in each layer s_J is the thought vector
    h_t = cell(y_{t-1}, h_{t-1}),   h_0 = s_J       the decoder
    logits_t = W h_t + b

With attention as well, as its NMT model has it (Luong, Pham and Manning 2015: general score, input feeding):

    h_t = cell([y_{t-1}; a_{t-1}], h_{t-1}),   a_0 = 0
    a_t = tanh(W_a [Σ_j α_tj s_j; h_t]),    α_t = softmax_j(h_t · W_s s_j)
    logits_t = W a_t + b

The cells are LSTMs or GRUs in several layers. Source and target have one vocabulary and one embedding. Knows no
tokenizer and no language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils.generic import ModelOutput, can_return_tuple

from ..errors import ModelError, shown
from .base import CheckedConfig, GeneratingModel, head, kept_places, run_in_turn
from .masking import alignment, choose
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
    flags: ClassVar[tuple[str, ...]] = (*CheckedConfig.flags, "attention")

    cell: str = "lstm"
    attention: bool = True
    embedding_size: int = 256
    hidden_size: int = 256
    num_hidden_layers: int = 2
    dropout: float = 0.2
    is_encoder_decoder: bool = True
    decoder_start_token_id: int | None = None

    def check(self) -> None:
        super().check()
        if self.cell not in tuple(CELLS):
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
        embedded = self.dropout(self.embedding(input_ids) if inputs_embeds is None else inputs_embeds)
        aligned = alignment(attention_mask, *embedded.shape[:2], only_real=False)
        states = [layer.zeros(len(embedded), embedded) for layer in self.layers]  # type: ignore[operator]
        dropouts = [self.dropout] * len(self.layers)
        hidden, thought = run_in_turn(self.layers, dropouts, aligned.to_front(embedded), states, aligned.lengths)
        return EncoderOutput(last_hidden_state=aligned.back(hidden), thought=torch.stack(list(thought), dim=1))


class Attention(nn.Module):
    """The attention vector: a weighted mean of the source, mixed with what the decoder computed."""

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        self.score = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.mix = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self, hidden: torch.Tensor, source: torch.Tensor, keys: torch.Tensor, masked: torch.Tensor | None
    ) -> torch.Tensor:
        """What the decoder computed for one token → its attention vector.

        Args:
            hidden: (rows, 1, hidden_size) of the decoder.
            source: (rows, tokens, hidden_size) of the encoder.
            keys: `score(source)`, the same for all target tokens.
            masked: (rows, tokens), true where a source token is to be skipped; None if none is.
        """
        scores = hidden @ keys.transpose(1, 2)
        if masked is not None:
            scores = scores.masked_fill(masked[:, None], torch.finfo(scores.dtype).min)
        shares = scores.softmax(-1)
        if masked is not None:
            shares = shares.masked_fill(masked[:, None], 0.0)  # where a whole source is masked
        vector: torch.Tensor = self.mix(torch.cat([shares @ source, hidden], dim=-1)).tanh()
        return vector


class Decoder(nn.Module):
    """Writes a target: what the head reads for each of its tokens, given those before and the source."""

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        fed = config.hidden_size if config.attention else 0
        self.layers = nn.ModuleList(_layers(config, config.embedding_size + fed))
        self.dropout = nn.Dropout(config.dropout)
        self.attention = Attention(config) if config.attention else None

    def initial(self, encoded: EncoderOutput) -> tuple[torch.Tensor, ...]:
        """The states before a target: the thought vector, and a_0 = 0."""
        assert encoded.thought is not None
        assert encoded.last_hidden_state is not None
        states = encoded.thought.unbind(1)
        if self.attention is None:
            return states
        return (*states, torch.zeros_like(encoded.last_hidden_state[:, :1]))

    def forward(
        self,
        embedded: torch.Tensor,
        states: Sequence[torch.Tensor],
        lengths: torch.Tensor | None,
        source: torch.Tensor,
        masked: torch.Tensor | None,
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """(rows, tokens, embedding_size) of a target → (rows, tokens, hidden_size), and the states afterwards.

        Args:
            embedded: of the target.
            states: of the layers, and with attention the attention vector before.
            lengths: (rows,) real tokens at the front of each target; None if all are.
            source: (rows, source tokens, hidden_size) of the encoder.
            masked: (rows, source tokens), true where one is to be skipped; None if none is.
        """
        dropouts = [self.dropout] * len(self.layers)
        embedded = self.dropout(embedded)
        if self.attention is None:
            return run_in_turn(self.layers, dropouts, embedded, states, lengths)
        keys, vectors = self.attention.score(source), []
        for step in range(embedded.shape[1]):
            *before, vector = states
            inputs = torch.cat([embedded[:, step : step + 1], vector], dim=-1)
            hidden, after = run_in_turn(self.layers, dropouts, inputs, before, None)
            vectors.append(self.dropout(self.attention(hidden, source, keys, masked)))
            now = (*after, vectors[-1])
            if lengths is not None:
                now = tuple(choose(step < lengths, new, old) for new, old in zip(now, states, strict=True))
            states = now
        return torch.cat(vectors, dim=1), states


class RNNForConditionalGeneration(GeneratingModel):
    """The translation model: logits of the next target token after each, and a state to select and repeat."""

    config_class = TranslationConfig
    _tied_weights_keys = {"lm_head.weight": "encoder.embedding.weight"}  # noqa: RUF012 # transformers reads the class's

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.lm_head = head(config, config.hidden_size)
        self.post_init()

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        return self.encoder

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.embedding = value

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """(rows, tokens) labels → the same, one to the right, behind the start token.

        Raises:
            ModelError: the config names no start token.
        """
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

        With `labels` (rows, target tokens) alone, the target is read behind the start token; the loss is in nats a
        label, −100 left out. Tokens whose mask is 0 are skipped.

        Raises:
            ModelError: neither a target nor labels.
        """
        if decoder_input_ids is None:
            if labels is None:
                raise ModelError("decoder_input_ids", "a target, or labels", "neither", "Give one of them.")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask, inputs_embeds)
        encoded = EncoderOutput(*[encoder_outputs[part] for part in (0, 1)])
        source, masked = encoded.last_hidden_state, None if attention_mask is None else attention_mask == 0
        rows, tokens = decoder_input_ids.shape
        keeps_state = self.config.use_cache if use_cache is None else use_cache
        before = past_key_values.rows() if past_key_values is not None else ()
        only_real = self.training and not keeps_state
        aligned = alignment(decoder_attention_mask, rows, tokens, only_real=only_real)
        embedded = aligned.to_front(self.encoder.embedding(decoder_input_ids))
        states = before or self.decoder.initial(encoded)
        hidden, after = self.decoder(embedded, states, aligned.lengths, source, masked)
        logits = self.lm_head(aligned.back(hidden)[:, kept_places(logits_to_keep)])
        loss = None
        if labels is not None:
            # Labels stand where their logits are: nothing is to be shifted.
            size = self.config.vocab_size
            loss = self.loss_function(logits, labels, vocab_size=size, shift_labels=labels, **kwargs)
        cache = StateCache.after(past_key_values, after, tokens) if keeps_state else None
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=cache,
            encoder_last_hidden_state=source,
        )


def _layers(config: TranslationConfig, inputs: int) -> list[RecurrentLayer]:
    """The first layer reads `inputs` features, each other one what the one below computes."""
    widths = [inputs] + [config.hidden_size] * (config.num_hidden_layers - 1)
    return [RecurrentLayer(CELLS[config.cell], width, config.hidden_size) for width in widths]

"""Slow and obvious twins of what the package computes, and small models to compute it on."""

import itertools
import math
import zlib

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, JambaConfig, JambaForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

import hf_canary.models as models
from hf_canary.walks.score import score

# What random weights are multiplied by, 3 unless it stands here, for costs of a few bits to a few dozen.
SHARPNESS = {"cnn": 1.4, "wavenet": 1.8}


class TableModel(nn.Module):
    """A model whose every prefix has logits of its own, drawn from a seed: no state, no cache, no embedding."""

    def __init__(self, vocab_size: int, seed: int = 0, spread: float = 2.0):
        super().__init__()
        self.vocab_size, self.seed, self.spread = vocab_size, seed, spread
        self.embedding = nn.Embedding(vocab_size, 1)
        self.config = GPT2Config(vocab_size=vocab_size)
        self.device = torch.device("cpu")
        self._kept: dict[tuple[object, ...], torch.Tensor] = {}

    def get_input_embeddings(self):
        return self.embedding

    def logits_after(self, prefix: list[int]) -> torch.Tensor:
        number = zlib.crc32(bytes(str((self.seed, prefix)), "ascii"))
        return torch.randn(self.vocab_size, generator=torch.Generator().manual_seed(number)) * self.spread

    def _logits(self, prefix: list[int]) -> torch.Tensor:
        """The same, once: walks ask again for what they have in common."""
        key = (vars(self).get("logits_after"), self.seed, self.spread, *prefix)  # a test may set another function
        if key not in self._kept:
            if len(self._kept) >= 20_000:
                self._kept.clear()
            self._kept[key] = self.logits_after(prefix)
        return self._kept[key]

    def forward(self, input_ids, past_key_values=None, use_cache=None):
        rows = [[self._logits(ids[: end + 1]) for end in range(len(ids))] for ids in input_ids.tolist()]
        return CausalLMOutputWithPast(logits=torch.stack([torch.stack(row) for row in rows]))


def models_of_the_paper():
    """Small sizes of each causal architecture, all different, so that none can stand for another."""

    def small(model, **sizes):
        return lambda vocab_size: model(model.config_class(vocab_size=vocab_size, **sizes))

    return {
        "lstm": small(models.LSTMForCausalLM, hidden_size=24, embedding_size=12),
        "gru": small(models.GRUForCausalLM, hidden_size=20, embedding_size=12, num_hidden_layers=3),
        "cnn": small(models.CNNForCausalLM, hidden_size=18, embedding_size=10, num_hidden_layers=3, kernel_size=3),
        "wavenet": small(models.WaveNetForCausalLM, hidden_size=16, num_hidden_layers=3, kernel_size=2),
        "awd-lstm": small(models.AWDLSTMForCausalLM, hidden_size=20, embedding_size=14),
    }


def small_translation(cell, attention, vocab_size, seed=0, **options):
    """A random encoder-decoder; token 2 starts a target and 3 ends it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = models.TranslationConfig(
            cell=cell,
            attention=attention,
            vocab_size=vocab_size,
            embedding_size=10,
            hidden_size=16,
            pad_token_id=0,
            decoder_start_token_id=2,
            eos_token_id=3,
            **options,
        )
        model = models.RNNForConditionalGeneration(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3.0)
    return model


def costs_of_digits(view, tokenizer, format):
    """(|R|,) bits of all fills of a format that ends in digits, by their numbers; a token each."""
    start = tokenizer(format.template.split("{")[0]).input_ids
    digits = [ids[-1] for ids in tokenizer([str(digit) for digit in range(10)]).input_ids]
    count = len(str(format.space_size)) - 1
    sequences = [[*start, *fill] for fill in itertools.product(digits, repeat=count)]
    return score(view.session, sequences, 1)


def small_model(kind: str, vocab_size: int, seed: int = 0):
    """A random model with sharp preferences, so that no two candidates are nearly alike."""
    if kind == "table":
        return TableModel(vocab_size, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind in models_of_the_paper():
            model = models_of_the_paper()[kind](vocab_size)
        elif kind == "gpt2":
            model = GPT2LMHeadModel(
                GPT2Config(vocab_size=vocab_size, n_positions=64, n_embd=24, n_layer=2, n_head=2, bos_token_id=2)
            )
        elif kind == "jamba":
            model = JambaForCausalLM(
                JambaConfig(
                    vocab_size=vocab_size,
                    hidden_size=24,
                    intermediate_size=32,
                    num_hidden_layers=4,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    attn_layer_period=2,
                    attn_layer_offset=1,
                    num_experts=1,
                    num_experts_per_tok=1,
                    use_mamba_kernels=False,
                )
            )
        else:
            model = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=vocab_size,
                    hidden_size=24,
                    intermediate_size=48,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    max_position_embeddings=64,
                )
            )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(SHARPNESS.get(kind, 3.0))
    return model


def teacher_forced_bits(model, ids: list[int], conditioned: int) -> float:
    """Definition 1 of one sequence."""
    return teacher_forced_rows(model, [ids], conditioned)[0]


def teacher_forced_rows(model, rows: list[list[int]], conditioned: int) -> list[float]:
    """Definition 1 of sequences of one length, each a row: no cache, no padding, float64 after the logits."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        log_probabilities = torch.log_softmax(model(input_ids=torch.tensor(rows)).logits.double(), dim=-1)
    model.train(was_training)
    summed = range(max(1, conditioned), len(rows[0]))
    return [
        -sum(of_row[place - 1, ids[place]].item() for place in summed) / math.log(2.0)
        for of_row, ids in zip(log_probabilities, rows, strict=True)
    ]


@torch.no_grad()
def log_perplexity_slowly(model, ids: list[int], conditioned: int, source: list[int] | None = None) -> float:
    """Definition 1 for any model: one text, no padding, no cache; bits of the tokens after the `conditioned` first.

    A model that translates reads `source` and writes `ids` after its start token, so that even the first can be summed.
    """
    if source is None:
        fed, logits = 0, model(input_ids=torch.tensor([ids]), use_cache=False).logits
    else:
        fed, decoded = 1, [model.config.decoder_start_token_id, *ids[:-1]]
        logits = model(
            input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([decoded]), use_cache=False
        ).logits
    log_probabilities = torch.log_softmax(logits[0].float().double(), dim=-1)
    summed = range(max(1 - fed, conditioned), len(ids))
    return -sum(log_probabilities[place - 1 + fed, ids[place]].item() for place in summed) / math.log(2.0)


def brute_force(model, tokenizer, texts: list[str], context: str | list[str] = "") -> list[float]:
    """Log-perplexities by teacher forcing behind a context, or one for each text; for tokenizers of which a text's
    tokens go on from those of its context.
    """
    contexts = [context] * len(texts) if isinstance(context, str) else context
    rows = [tokenizer(ahead + text).input_ids for ahead, text in zip(contexts, texts, strict=True)]
    before = {ahead: len(tokenizer(ahead).input_ids) for ahead in contexts}
    shapes = [(len(row), before[ahead]) for row, ahead in zip(rows, contexts, strict=True)]
    costs = [math.nan] * len(rows)
    for shape in set(shapes):
        numbers = [number for number, each in enumerate(shapes) if each == shape]
        for at in range(0, len(numbers), 100):  # their logits fit into any memory
            some = numbers[at : at + 100]
            for number, cost in zip(some, teacher_forced_rows(model, [rows[n] for n in some], shape[1]), strict=True):
                costs[number] = cost
    return costs

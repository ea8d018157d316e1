"""Tiny random models of transformers: one of each family that keeps its state in a way of its own.

`CAUSAL` and `ENCODER_DECODERS` map a family's name to a factory of the vocabulary's size. Models are in evaluation
mode, drawn from a seed without touching the global generator, with matrices stretched until what a token costs
depends on the tokens before it by far more than rounding. All run on a CPU without extra kernels, as of transformers
5.23. Knows no oracle and no measurement.
"""

from collections.abc import Callable, Mapping

import torch
import transformers as hf
from torch import nn

Factory = Callable[[int], nn.Module]

# What every matrix is multiplied by, 15 unless it stands here: most families draw their weights at 0.02.
_SHARPNESS: Mapping[str, float] = {
    "bloom": 25.0,
    "mpt": 25.0,
    "mamba": 3.0,
    "mamba2": 4.0,
    "recurrent-gemma": 6.0,
    "rwkv": 2.0,
    "t5": 2.0,
}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 2}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
_SIZES = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2} | _HEADS
_POSITIONS = {"max_position_embeddings": 64}
# Shorter than the texts of the tests, so that the oldest keys and values fall out.
_WINDOW = 4
LLAMA = _SIZES | _POSITIONS
_MAMBA = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 8, "conv_kernel": 4, "expand": 2}
_HYBRID = _SIZES | {"mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2}
_BART = {
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
}


def build(name: str, model: type, vocab_size: int, seed: int = 0, **config: object) -> nn.Module:
    """A random model with sharp preferences, in evaluation mode; no global random state is moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = model(model.config_class(vocab_size=vocab_size, **_SPECIAL | config))
        with torch.no_grad():
            for part, parameter in made.named_parameters():
                # Stretched positions would drown what the tokens say.
                if parameter.ndim > 1 and not any(word in part for word in ("wpe", "embed_positions")):
                    parameter.mul_(_SHARPNESS.get(name, 15.0))
    return made.eval()


def _families(classes_and_configs: dict[str, tuple[type, dict[str, object]]]) -> dict[str, Factory]:
    def factory(name: str, model: type, config: dict[str, object]) -> Factory:
        return lambda vocab_size: build(name, model, vocab_size, **config)

    return {name: factory(name, model, config) for name, (model, config) in classes_and_configs.items()}


CAUSAL: Mapping[str, Factory] = _families(
    {
        # Keys and values; positions learned, rotary or by ALiBi.
        "gpt2": (hf.GPT2LMHeadModel, {"n_positions": 64, "n_embd": 24, "n_layer": 2, "n_head": 2}),
        "gpt-neox": (hf.GPTNeoXForCausalLM, _SIZES | _POSITIONS),
        "opt": (
            hf.OPTForCausalLM,
            _POSITIONS
            | {"hidden_size": 24, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
            | {"word_embed_proj_dim": 24},
        ),
        "bloom": (hf.BloomForCausalLM, {"hidden_size": 24, "n_layer": 2, "n_head": 2}),
        "mpt": (hf.MptForCausalLM, {"d_model": 24, "n_layers": 2, "n_heads": 2, "max_seq_len": 64}),
        "llama": (hf.LlamaForCausalLM, LLAMA),
        "qwen3": (hf.Qwen3ForCausalLM, _SIZES | _POSITIONS | {"head_dim": 8}),
        "phi": (hf.PhiForCausalLM, _SIZES | _POSITIONS | {"hidden_size": 32}),
        # Keys and values of a window that is shorter than the texts, in all layers or in some.
        "mistral": (hf.MistralForCausalLM, _SIZES | _POSITIONS | {"sliding_window": _WINDOW}),
        "gemma2": (
            hf.Gemma2ForCausalLM,
            _SIZES
            | _POSITIONS
            | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": _WINDOW}
            | {"layer_types": ["sliding_attention", "full_attention"]}
            | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 10.0},
        ),
        "gemma3": (
            hf.Gemma3ForCausalLM,
            _SIZES
            | _POSITIONS
            | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": _WINDOW}
            | {"layer_types": ["sliding_attention", "full_attention"]},
        ),
        # A mixture of experts.
        "mixtral": (
            hf.MixtralForCausalLM,
            _SIZES | _POSITIONS | {"num_local_experts": 4, "num_experts_per_tok": 2},
        ),
        # State-space layers, alone and beside attention.
        "mamba": (hf.MambaForCausalLM, _MAMBA),
        "mamba2": (hf.Mamba2ForCausalLM, _MAMBA | {"num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 8}),
        "jamba": (
            hf.JambaForCausalLM,
            _HYBRID | {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "num_experts_per_tok": 1},
        ),
        "bamba": (
            hf.BambaForCausalLM,
            _HYBRID | {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 12, "mamba_chunk_size": 8},
        ),
        "falcon-h1": (
            hf.FalconH1ForCausalLM,
            _HYBRID | {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_chunk_size": 8},
        ),
        # Linear attention and short convolutions beside attention.
        "qwen3-next": (
            hf.Qwen3NextForCausalLM,
            _SIZES
            | _POSITIONS
            | {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}
            | {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
            | {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
            | {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
            | {"shared_expert_intermediate_size": 16},
        ),
        "lfm2": (
            hf.Lfm2ForCausalLM,
            _SIZES | _POSITIONS | {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
        ),
        # Recurrences: gated linear ones beside windowed attention, and RWKV's.
        "recurrent-gemma": (
            hf.RecurrentGemmaForCausalLM,
            _SIZES
            | {"lru_width": 24, "attention_window_size": _WINDOW, "conv1d_width": 4}
            | {"block_types": ["recurrent", "attention"]},
        ),
        "rwkv": (
            hf.RwkvForCausalLM,
            {"hidden_size": 24, "attention_hidden_size": 24, "num_hidden_layers": 2, "context_length": 64},
        ),
    }
)

ENCODER_DECODERS: Mapping[str, Factory] = _families(
    {
        "t5": (
            hf.T5ForConditionalGeneration,
            {"d_model": 24, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
        ),
        "bart": (
            hf.BartForConditionalGeneration,
            _BART | _POSITIONS | {"decoder_start_token_id": 2, "forced_eos_token_id": None},
        ),
        "marian": (
            hf.MarianMTModel,
            _BART | _POSITIONS | {"decoder_start_token_id": 0, "forced_eos_token_id": None},
        ),
    }
)

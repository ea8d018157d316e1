"""What stands around a model and its layers: wrappers, adapters, tokens of an adapter's own; and how large a model is.

Wrappers are told by what they hold, not by their names. Knows modules; calls no model.
"""

from __future__ import annotations

from typing import Any

import torch

from ..errors import ModelError
from ..runtime.processes import is_sharded

# What a model of transformers says of itself, and is asked for.
_ASKED_FOR = ("config", "device", "get_input_embeddings")
# What the configs of adapters have that are told which of several tasks a text is of.
_OF_TASKS = ("num_tasks", "n_tasks")


def unwrapped(model: Any) -> Any:
    """The model itself: within modules that are none and hold one other each and nothing else, as deep as they stand.

    `torch.compile`, data parallelism and Opacus wrap so. FSDP does, too, and is left: its parts compute only together.
    """
    inner = model
    while isinstance(inner, torch.nn.Module) and not _is_model(inner):
        held = list(inner.children())
        own = [*inner.parameters(recurse=False), *inner.buffers(recurse=False)]
        if len(held) != 1 or own or (_are_processes() and is_sharded(inner)):
            return model
        inner = held[0]
    return inner


def _is_model(module: torch.nn.Module) -> bool:
    """Whether it says of itself what a model says, and does not pass on what another says; or has adapters."""
    is_own = hasattr(type(module), "get_input_embeddings") or hasattr(type(module), "disable_adapter")
    is_own = is_own or hasattr(vars(module).get("config"), "is_encoder_decoder")
    return is_own and all(hasattr(module, name) for name in _ASKED_FOR)


def _are_processes() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def check_model(model: Any) -> None:
    """Refuse what is no model of transformers, and one whose adapter wants more than token ids, or without numbers.

    Raises:
        ModelError: it is one.
    """
    lacking = [name for name in _ASKED_FOR if not hasattr(model, name)]
    if lacking:
        raise ModelError(
            "model",
            "a model of transformers, or a wrapper that holds one and nothing else",
            f"{type(model).__name__}, without {', '.join(lacking)}",
            "Give the model that it holds.",
        )
    adapter = getattr(model, "active_peft_config", None)
    if any(hasattr(adapter, name) for name in _OF_TASKS):
        raise ModelError(
            "model",
            "one that reads token ids alone",
            f"{type(adapter).__name__}, an adapter that asks for task_ids, too",
            "Such adapters cannot be measured.",
        )
    is_brought_in = any(hasattr(module, "_hf_hook") for module in model.modules())  # when it is needed
    if any(weight.is_meta for weight in model.parameters()) and not is_brought_in:
        raise ModelError(
            "model",
            "weights that are loaded",
            "weights on the meta device, which hold no numbers",
            "Load them with from_pretrained, or fill them after model.to_empty(device=...).",
        )


def vocabulary_sizes(model: Any) -> tuple[int, int]:
    """How many tokens a model reads, and how many it writes: an encoder's and a decoder's, where they differ.

    Raises:
        ModelError: it does not say.
    """
    read = _num_embeddings(model.get_input_embeddings())
    decoder: Any = model.get_decoder() if model.config.is_encoder_decoder and hasattr(model, "get_decoder") else None
    own = decoder.get_input_embeddings() if hasattr(decoder, "get_input_embeddings") else None
    return read, _num_embeddings(own) if isinstance(own, torch.nn.Module) else read


def _num_embeddings(layer: Any) -> int:
    """How many tokens an embedding knows, whatever adapters stand around it."""
    for module in layer.modules() if isinstance(layer, torch.nn.Module) else ():  # itself first, then what it holds
        count = getattr(module, "num_embeddings", None)
        if isinstance(count, int):
            return count
    raise ModelError(
        "model",
        "one whose get_input_embeddings() is an embedding of torch, with adapters or without",
        type(layer).__name__,
        "Such models cannot be measured.",
    )


def without_adapters(model: Any) -> Any:
    """The model that adapters of peft are put on, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def num_virtual_tokens(model: Any) -> int:
    """How many tokens of its own a model puts before all others, as of peft's prompt or prefix tuning, if it is on."""
    config: Any = getattr(model, "active_peft_config", None)
    # Where the adapter is off for a while, the base's forward stands in the place of its own.
    if not getattr(config, "is_prompt_learning", False) or getattr(model.forward, "__self__", model) is not model:
        return 0
    return int(config.num_virtual_tokens)


def generating(model: Any) -> Any:
    """The model that `generate` was called on, where peft has its base generate behind its own tokens."""
    prepare = getattr(model, "prepare_inputs_for_generation", None)
    owner = getattr(prepare, "__self__", model)
    return owner if num_virtual_tokens(owner) else model


def is_quantized(model: Any) -> bool:
    """Whether its weights are stored in a few bits, as transformers loads them; LLM.int8 rounds what it reads, too."""
    flags = ("is_quantized", "is_loaded_in_8bit", "is_loaded_in_4bit")
    return any(bool(getattr(model, flag, False)) for flag in flags)

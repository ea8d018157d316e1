"""A model and the random states, left as they were found. Knows nothing of what is done in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..runtime.random_state import random_state_kept


@contextmanager
def preserve_training_state(model: Any) -> Iterator[None]:
    """Modes, buffers and `requires_grad` of a model, and the random states of Python, NumPy and torch, come back when
    the block ends, also by an error.
    """
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not buffer.is_inference()
    ]
    with random_state_kept(*_devices(model)):
        try:
            yield
        finally:
            for module, name, buffer, content in buffers:
                if not torch.equal(buffer, content):
                    with torch.no_grad():
                        buffer.copy_(content)
                module._buffers[name] = buffer
            for parameter, needed in gradients:
                if parameter.requires_grad != needed:
                    parameter.requires_grad_(needed)
            for module, mode in modes:
                module.training = mode


@contextmanager
def without_adapter(model: Any) -> Iterator[None]:
    """A model with its adapters off; what else is trained stays as it is."""
    with preserve_training_state(model), model.disable_adapter():
        yield


def has_adapter(model: Any) -> bool:
    """Whether a model is the base for adapters, as of peft, that can be taken off for a while."""
    return callable(getattr(model, "disable_adapter", None)) and bool(getattr(model, "peft_config", None))


def _devices(model: Any) -> tuple[list[int], str]:
    """Those that the model is on, besides the processor; no others, which would have to be started first."""
    used = {parameter.device for parameter in model.parameters() if parameter.device.type in ("cuda", "xpu")}
    kind = next((device.type for device in used), "cuda")
    return sorted(device.index or 0 for device in used), kind

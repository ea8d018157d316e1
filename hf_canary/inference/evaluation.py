"""A model while it is asked: unwrapped, in evaluation, without gradients, and left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .isolation import alone, as_a_new_one, as_torch_is_by_itself
from .wrappers import unwrapped


@contextmanager
def evaluating(model: Any) -> Iterator[Any]:
    """The bare model, by itself: in evaluation mode, without gradients, autocast and accelerate's mixed precision.

    Wrappers of `torch.compile`, of data parallelism, of Opacus are taken off, since our batches have many shapes. Other
    threads that ask the same model, under any wrapper, wait until this one is through. What earlier calls left on the
    modules, such as positions of an image, is taken away. Every submodule's mode, what its modules held, and what
    accelerate put in place of `forward`, come back afterwards, also after an error.
    """
    bare = unwrapped(model)
    with alone(bare), as_a_new_one(bare), as_torch_is_by_itself(bare):
        modes = [(module, module.training) for module in bare.modules()]
        patched = vars(bare).get("forward")
        try:
            bare.eval()
            # Another module's forward stands there where peft has taken a prompt off for a while.
            if patched is not None and getattr(patched, "__self__", bare) is bare and "_original_forward" in vars(bare):
                bare.forward = bare._original_forward
            with torch.no_grad():
                yield bare
        finally:
            if patched is not None:
                bare.forward = patched
            for module, mode in modes:
                module.training = mode


def reads_sources(model: Any) -> bool:
    """Whether it is an encoder-decoder, which reads a source before it writes, under whichever wrapper."""
    return bool(getattr(getattr(unwrapped(model), "config", None), "is_encoder_decoder", False))

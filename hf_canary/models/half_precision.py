"""Recurrent layers in half precision: computed in float32 where the processor has no kernel for them.

Under autocast torch gives an LSTM to oneDNN, which fails where it has none: in bfloat16 on x86 without AVX-512, in
float16 with it too. torch's own steps, which a GRU takes there, and an LSTM whose weights are in half precision, do not
fail, but train ten times slower than float32 and more. So without the kernel all are computed in float32. The weights
stay what they are, and what comes out has the type that it would have had. Knows torch's cells, and no layer and no
model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence

HALVES = (torch.bfloat16, torch.float16)
Texts = TypeVar("Texts", torch.Tensor, PackedSequence)

logger = logging.getLogger(__name__)


def run_cell(
    cell: nn.LSTM | nn.GRU, weights: Mapping[str, torch.Tensor], inputs: Texts, state: torch.Tensor
) -> tuple[Texts, torch.Tensor]:
    """A cell's outputs and the state after them; in float32, if half precision is asked for and has no kernel here.

    Args:
        cell: of one layer.
        weights: what stands in place of the cell's own, by name.
        inputs: (rows, tokens, features), packed or not.
        state: (vectors, rows, units) before: h, and with an LSTM c.
    """
    values = inputs.data if isinstance(inputs, PackedSequence) else inputs
    asked = _asked(values)
    if values.device.type != "cpu" or asked not in HALVES or has_kernel(asked):
        return _run(cell, weights, inputs, state)
    wide = {name: weight.float() for name, weight in {**dict(cell.named_parameters()), **weights}.items()}
    with torch.autocast("cpu", enabled=False):
        hidden, after = _run(cell, wide, inputs.to(torch.float32), state.float())
    returned = asked if _is_one_call(cell, inputs) else torch.promote_types(asked, state.dtype)
    return hidden.to(returned), after.to(returned)


@torch.compiler.assume_constant_result
def has_kernel(half: torch.dtype) -> bool:
    """Whether this processor computes an LSTM under autocast to `half`, forward and backward; found by trying, once."""
    return _found(half)


@cache
def _found(half: torch.dtype) -> bool:
    """In a thread of its own, where nothing holds that the caller has switched on: no inference mode, no checkpoint."""
    try:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_try, half).result()
    except RuntimeError as error:
        logger.debug("Recurrent layers in %s are computed in float32: no kernel here (%s)", half, error)
        return False
    return True


def _try(half: torch.dtype) -> None:
    """One step of training an LSTM of one unit, whose weights are zero: nothing is drawn.

    Raises:
        RuntimeError: there is no kernel.
    """
    shapes = [(4, 1), (4, 1), (4,), (4,)]  # from the inputs, from the units, and a bias of each
    weights = [torch.zeros(shape, dtype=torch.float32, requires_grad=True) for shape in shapes]
    zero = torch.zeros(1, 1, 1, dtype=torch.float32)
    with torch.autocast("cpu", half):
        hidden, _, _ = torch.lstm(zero, (zero, zero), weights, True, 1, 0.0, True, False, True)
    torch.autograd.grad(hidden.sum(), weights)


def _asked(values: torch.Tensor) -> torch.dtype:
    """The type to compute in: autocast's where it is on, which leaves float64 alone."""
    if torch.is_autocast_enabled("cpu") and values.dtype != torch.float64:
        return torch.get_autocast_dtype("cpu")
    return values.dtype


def _is_one_call(cell: nn.LSTM | nn.GRU, inputs: torch.Tensor | PackedSequence) -> bool:
    """Whether the kernel would take all tokens at once, in half precision; torch's own steps keep the state's type."""
    if isinstance(inputs, PackedSequence) and inputs.batch_sizes[0] != inputs.batch_sizes[-1]:
        return False
    return isinstance(cell, nn.LSTM)


def _run(
    cell: nn.LSTM | nn.GRU, weights: Mapping[str, torch.Tensor], inputs: Texts, state: torch.Tensor
) -> tuple[Texts, torch.Tensor]:
    given = tuple(state.split(1)) if isinstance(cell, nn.LSTM) else state
    hidden, after = functional_call(cell, dict(weights), (inputs, given)) if weights else cell(inputs, given)
    return hidden, torch.cat(after) if isinstance(cell, nn.LSTM) else after

"""The layers that the models are built from: recurrent, and convolutional over the past.

A layer reads a piece of text and the state that the text before it left, and returns what it computed and the state
after it: piece by piece is the same as all at once. A state is one tensor with the row first; zeros stand for the
beginning of a text. Where `lengths` is given, only that many tokens at the front of each row count for the state.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .masking import last_tokens


class RecurrentLayer(GradientCheckpointingLayer):
    """One layer of torch's LSTM or GRU.

    Args:
        cell: `nn.LSTM` or `nn.GRU`.
        inputs: features that it reads.
        units: features that it computes.
        weight_drop: share of the weights from units to units that is left out while training, drawn anew for each
            batch and the same at all of its times (DropConnect; Merity, Keskar and Socher 2018, §2).
    """

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], inputs: int, units: int, weight_drop: float = 0.0) -> None:
        super().__init__()
        self.cell = cell(inputs, units, batch_first=True)
        self.units = units
        self.weight_drop = weight_drop
        self.vectors = 2 if cell is nn.LSTM else 1

    def zeros(self, rows: int, like: torch.Tensor) -> torch.Tensor:
        """(rows, vectors, units) state before a text: h, and with an LSTM c."""
        return like.new_zeros(rows, self.vectors, self.units)

    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, tokens, inputs) and the state before → (rows, tokens, units) and the state after."""
        before = state.transpose(0, 1).contiguous()
        given = tuple(before.split(1)) if self.vectors == 2 else before
        if lengths is None:
            hidden, after = self._run(inputs, given)
        else:
            # What is packed has a token at least; rows without any keep their state, below.
            packed = pack_padded_sequence(
                inputs, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False
            )
            hidden, after = self._run(packed, given)
            hidden, _ = pad_packed_sequence(hidden, batch_first=True, total_length=inputs.shape[1])
        after = torch.cat(after) if self.vectors == 2 else after
        after = after.transpose(0, 1)
        if lengths is not None:
            after = torch.where((lengths > 0)[:, None, None], after, state)
        return hidden, after

    def _run(self, inputs, given):  # type: ignore[no-untyped-def]  # packed or not, one state or two
        if not (self.training and self.weight_drop):
            return self.cell(inputs, given)
        dropped = nn.functional.dropout(self.cell.weight_hh_l0, self.weight_drop)
        return functional_call(self.cell, {"weight_hh_l0": dropped}, (inputs, given))


class CausalConvolution(nn.Module):
    """A convolution that sees a token and those before it: y_t = b + Σ_j W_j x_{t - (kernel - 1 - j) dilation}.

    Args:
        inputs: features that it reads.
        outputs: features that it computes.
        kernel: how many tokens go into one sum.
        dilation: how far they stand apart.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)
        self.span = (kernel - 1) * dilation

    def zeros(self, rows: int, like: torch.Tensor) -> torch.Tensor:
        """(rows, inputs, span) inputs before a text."""
        return like.new_zeros(rows, self.convolution.in_channels, self.span)

    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, inputs, tokens) and the inputs before → (rows, outputs, tokens) and the inputs before what follows."""
        joined = torch.cat([state, inputs], dim=2)
        return self.convolution(joined), last_tokens(joined, self.span, lengths)


@torch.no_grad()
def init_recurrent(module: nn.LSTM | nn.GRU) -> None:
    """Weights uniform in ±1/√units, biases 0; an LSTM's forget gate starts open (Józefowicz et al. 2015)."""
    units = module.hidden_size
    for name, parameter in module.named_parameters():
        if name.startswith("weight"):
            init.uniform_(parameter, -(units**-0.5), units**-0.5)
        else:
            bias = torch.zeros_like(parameter)
            if isinstance(module, nn.LSTM):
                # Gates stand in the order input, forget, cell, output; the two biases of a layer are added.
                bias[units : 2 * units] = 0.5
            init.copy_(parameter, bias)


@torch.no_grad()
def init_uniform(module: nn.Linear | nn.Conv1d, gain: float) -> None:
    """Weights uniform with standard deviation gain/√fan, biases 0."""
    fan = module.weight[0].numel()
    bound = gain * (3.0 / fan) ** 0.5
    init.uniform_(module.weight, -bound, bound)
    if module.bias is not None:
        init.zeros_(module.bias)


def stack(cell: type[nn.LSTM] | type[nn.GRU], widths: list[int], weight_drop: float = 0.0) -> list[RecurrentLayer]:
    """Layers that read one another: of `widths[0]` inputs, and of each later width's units."""
    return [RecurrentLayer(cell, inputs, units, weight_drop) for inputs, units in pairwise(widths)]

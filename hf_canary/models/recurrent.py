"""Recurrent layers, one upon the other, and the models that are nothing else.

A layer reads a piece of text and the state that the text before it left, and returns what it computed and the state
after it: piece by piece is the same as all at once. Knows no cache and no tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.modeling_layers import GradientCheckpointingLayer

from .base import CheckedConfig, run_in_turn
from .causal import CausalModel
from .half_precision import run_cell
from .masking import choose


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
        if lengths is None:
            hidden, after = run_cell(self.cell, self._dropped(), inputs, before)
        else:
            # What is packed has a token at least; rows without any keep their state, below.
            packed = pack_padded_sequence(inputs, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False)
            steps, after = run_cell(self.cell, self._dropped(), packed, before)
            hidden, _ = pad_packed_sequence(steps, batch_first=True, total_length=inputs.shape[1])
        after = after.transpose(0, 1)
        if lengths is not None:
            after = choose(lengths > 0, after, state)
        return hidden, after

    def _dropped(self) -> dict[str, torch.Tensor]:
        """What stands in place of the cell's own weights for this batch, by name."""
        if not (self.training and self.weight_drop):
            return {}
        return {"weight_hh_l0": nn.functional.dropout(self.cell.weight_hh_l0, self.weight_drop)}  # type: ignore[arg-type]


class VariationalDropout(nn.Dropout):
    """Dropout with one mask for a whole row, whatever its length (Gal and Ghahramani 2016)."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, features) → the same, some features zero at all tokens of a row while training."""
        if not self.training:
            return inputs
        return inputs * nn.functional.dropout(torch.ones_like(inputs[:, :1]), self.p)


class RecurrentModel(CausalModel):
    """A model that is a stack of recurrent layers, with dropout before the first and after each.

    Args:
        config: sizes.
        cell: `nn.LSTM` or `nn.GRU`.
        widths: of the embedding, and then of each layer.
        dropouts: one module more than there are layers.
        weight_drop: as in `RecurrentLayer`.
    """

    def __init__(
        self,
        config: CheckedConfig,
        cell: type[nn.LSTM] | type[nn.GRU],
        widths: Sequence[int],
        dropouts: Iterable[nn.Module],
        weight_drop: float = 0.0,
    ) -> None:
        layers = [RecurrentLayer(cell, inputs, units, weight_drop) for inputs, units in pairwise(widths)]
        super().__init__(config, layers, widths[-1])
        self.dropouts = nn.ModuleList(dropouts)
        self.post_init()

    def run(
        self, embedded: torch.Tensor, states: Sequence[torch.Tensor], lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """Layer upon layer."""
        first, *others = self.dropouts
        return run_in_turn(self.layers, others, first(embedded), states, lengths)

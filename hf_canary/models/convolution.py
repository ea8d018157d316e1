"""The convolution that sees a token and those before it, with a state of as many tokens as it looks back.

Piece by piece is the same as all at once, and costs the same however long the text before.
"""

from __future__ import annotations

import torch
from torch import nn

from .masking import last_tokens


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

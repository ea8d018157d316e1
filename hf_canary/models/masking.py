"""Rows of different length: masked tokens are skipped, they neither read a state nor change it.

Every model here reads a row from its front; tokens on the right of the last real one change nothing before them. Where
a mask has its zeros elsewhere, or more is wanted than what is computed for the real tokens, these are moved to the
front, read with their number, and the results moved back. Knows no architecture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import ModelError


@dataclass(frozen=True)
class Alignment:
    """Where each row's real tokens go; nowhere, if both are None.

    Args:
        real: (rows, tokens), false where a token is to be skipped.
        lengths: (rows,) how many tokens are real.
    """

    real: torch.Tensor | None = None
    lengths: torch.Tensor | None = None

    def to_front(self, values: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, features) with each row's real tokens first, in their order."""
        if self.real is None:
            return values
        return _gather(values, torch.argsort((~self.real).long(), dim=1, stable=True))

    def back(self, values: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, features) with each token where it was; for a masked one stands what stood before it."""
        if self.real is None:
            return values
        return _gather(values, (self.real.cumsum(1) - 1).clamp_min(0))


def alignment(mask: torch.Tensor | None, rows: int, tokens: int, *, only_real: bool) -> Alignment:
    """How to move the rows of a mask; not at all where that would change nothing.

    Args:
        mask: (rows, at least `tokens`), 0 where a token is to be skipped; its last columns are those of the tokens.
        rows: how many are read.
        tokens: how many of each are read now.
        only_real: whether nothing is wanted but what is computed for the real tokens, and no state afterwards, so that
            zeros on the right do not matter.

    Raises:
        ModelError: a mask of another shape.
    """
    if mask is None:
        return Alignment()
    if mask.dim() != 2 or mask.shape[0] != rows or mask.shape[1] < tokens:
        raise ModelError(
            "attention_mask",
            f"{rows} rows of {tokens} tokens, or more with those that were read before",
            f"shape {tuple(mask.shape)}",
            "Give the mask that the tokenizer made with the ids.",
        )
    real = mask[:, -tokens:] != 0
    zeros_only_on_the_right = bool((real[:, :-1] | ~real[:, 1:]).all())
    if bool(real.all()) or (zeros_only_on_the_right and only_real):
        return Alignment()
    return Alignment(real, real.sum(1))


def _gather(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def choose(rows: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """The rows of `new` where `rows` (rows,) is true, and those of `old` elsewhere; (rows, ...) each."""
    return torch.where(rows.view(-1, *[1] * (new.dim() - 1)), new, old)


def last_tokens(values: torch.Tensor, count: int, lengths: torch.Tensor | None) -> torch.Tensor:
    """The last `count` tokens of what is `count` tokens of history and then a text; a copy that keeps no more alive.

    Args:
        values: (rows, features, count + tokens).
        count: of the history, and of what is returned.
        lengths: (rows,) real tokens of each text, at its front; None if all are.
    """
    if lengths is None:
        return values[..., values.shape[-1] - count :].clone()
    index = lengths[:, None] + torch.arange(count, device=values.device)
    return values.gather(2, index[:, None].expand(-1, values.shape[1], -1))

"""Rows of different length: masked tokens are skipped, they neither read a state nor change it.

Every model here reads a row from its front; tokens on the right of the last real one change nothing before them. Where
a mask has its zeros elsewhere, or the state after the last real token is wanted, the real tokens are moved to the
front, read with their number, and what was computed is moved back. Knows no architecture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Alignment:
    """Where each row's real tokens go; nowhere, if both are None.

    Args:
        order: (rows, tokens) places of the real tokens, in their order, then those of the masked.
        lengths: (rows,) how many tokens are real.
    """

    order: torch.Tensor | None = None
    lengths: torch.Tensor | None = None

    def to_front(self, values: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, features) with each row's real tokens first."""
        return values if self.order is None else values.gather(1, self.order[..., None].expand_as(values))

    def back(self, values: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, features) with each token where it was."""
        return values if self.order is None else values.gather(1, self.order.argsort(1)[..., None].expand_as(values))


def alignment(mask: torch.Tensor | None, tokens: int, *, keeps_state: bool) -> Alignment:
    """How to move the rows of a mask; not at all where that would change nothing.

    Args:
        mask: (rows, at least `tokens`), 0 where a token is to be skipped; its last columns are those of the tokens.
        tokens: how many are read now.
        keeps_state: whether the state afterwards is wanted, so that tokens on the right matter too.
    """
    if mask is None:
        return Alignment()
    real = mask[:, -tokens:] != 0
    zeros_only_on_the_right = bool((real[:, :-1] | ~real[:, 1:]).all())
    if bool(real.all()) or (zeros_only_on_the_right and not keeps_state):
        return Alignment()
    return Alignment(torch.argsort((~real).long(), dim=1, stable=True), real.sum(1))


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
    places = lengths[:, None] + torch.arange(count, device=values.device)
    return values.gather(2, places[:, None].expand(-1, values.shape[1], -1))

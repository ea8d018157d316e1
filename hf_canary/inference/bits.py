"""From logits to bits (Definition 1): log-softmax over the whole vocabulary, of tokens that are asked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..arrays import LN2, Floats, Ints
from ..errors import ModelError


class NotNumbers(ModelError):
    """Logits that are NaN or infinite; −inf for single tokens is none of them, but an infinite cost."""


def bits_of_tokens(logits: torch.Tensor, picks: Ints, wanted: NDArray[np.bool_] | None = None) -> Floats:
    """−log2 Pr(pick), normalised in float32 over the whole vocabulary.

    (rows, tokens, vocabulary) logits and (rows, tokens, n) picks → (rows, tokens, n) bits.
    """
    logits = logits.float()
    index = torch.from_numpy(np.ascontiguousarray(picks)).to(logits.device)
    most, total = log_normalisers(logits, wanted)
    return nats_to_bits(total + (most - logits.gather(-1, index)))


def log_normalisers(logits: torch.Tensor, wanted: NDArray[np.bool_] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, tokens, 1) the greatest logit m, and ln Σ exp(logit − m): together what is taken off a logit.

    Raises:
        NotNumbers: logits of a wanted token that are none.
    """
    most = logits.amax(dim=-1, keepdim=True)
    total = (logits - most).exp_().sum(dim=-1, keepdim=True).log_()
    meant = total if wanted is None else total[torch.from_numpy(wanted).to(logits.device)]
    if not bool(meant.isfinite().all()):
        raise NotNumbers(
            "model",
            "logits that are numbers",
            "NaN or infinite logits",
            "Train with a lower learning rate, clip the gradient, or score in float32.",
        )
    return most, total


def nats_to_bits(nats: torch.Tensor) -> Floats:
    """In float64, which not every device has; what rounding has left below 0 is 0."""
    return np.asarray(nats.clamp_min(0.0).cpu().double().numpy() / LN2, dtype=np.float64)

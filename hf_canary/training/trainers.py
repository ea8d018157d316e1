"""What trainers learn from, told by the kind of their arguments: those that learn from texts of the model's own.

Knows names of TRL's; imports nothing of it.
"""

from __future__ import annotations

from typing import Any

# Of each, and of what is derived from it.
_OWN_TEXTS = frozenset(
    {
        "GRPOConfig", "RLOOConfig", "OnlineDPOConfig", "AsyncGRPOConfig", "A2POConfig", "SDPOConfig", "SDFTConfig",
        "IWOPDConfig", "NashMDConfig", "XPOConfig", "PPOConfig", "DistillationConfig", "AsyncDistillationConfig",
    }
)  # fmt: skip


def learns_from_own_texts(arguments: Any) -> bool:
    """Whether a trainer of these arguments lets the model write, and learns from that: of its data it reads prompts,
    of which the loss is not.
    """
    return any(kind.__name__ in _OWN_TEXTS for kind in type(arguments).__mro__)

"""What a result is of, for every file that holds one: model, canaries, what stood before them, precision, seed, version
and date. No canary's text: what stands before canaries may hold another's, so a salted digest stands for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from .. import __version__
from ..canaries import CanarySet
from ..measurement.groups import Alike
from ..tokenization.contexts import Before, Context, SourceContext, written_out

_DIGITS = 16


def provenance(model: Any, **what: Any) -> dict[str, Any]:
    """What a result is of: this package, now, this model, and what else is said.

    Args:
        model: a module of torch, as it was measured.
        what: the rest, as JSON takes it.

    Example:
        >>> import torch
        >>> found = provenance(torch.nn.Linear(2, 2), seed=7)
        >>> found["model"]["class"], found["model"]["precision"], found["seed"]
        ('Linear', 'float32', 7)
    """
    return {
        "hf_canary": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": _model_in_words(model),
        **what,
    }


def of_canaries(canaries: CanarySet) -> dict[str, Any]:
    """Which set, by the fingerprint that stands beside the weights that were trained with it."""
    return {"fingerprint": canaries.fingerprint, "kind": canaries.kind, "number": len(canaries)}


def of_contexts(canaries: CanarySet, groups: Sequence[Alike]) -> list[dict[str, Any]]:
    """What stood before the canaries of each group, and before their sources."""
    return [
        {
            "format": canaries.formats.index(group.format),
            "canaries": list(group.ids),
            "context": _digested(canaries, group.context),
            "source_prefix": _digested(canaries, group.source_prefix),
        }
        for group in groups
    ]


def _model_in_words(model: Any) -> dict[str, Any]:
    config = getattr(model, "config", None)
    return {
        "name": getattr(config, "_name_or_path", None) or None,
        "revision": getattr(config, "_commit_hash", None),
        "class": type(model).__name__,
        "precision": ", ".join(sorted({str(weight.dtype).removeprefix("torch.") for weight in model.parameters()})),
    }


def _digested(canaries: CanarySet, context: Before) -> dict[str, Any] | None:
    """How long a context is, and a digest by which those of one set can be compared, and nothing be tried by others."""
    if not context:
        return None
    if isinstance(context, Context):
        size = {"tokens": len(context.ids)}
    else:
        size = {"characters": len(context.around("") if isinstance(context, SourceContext) else context)}
    content = json.dumps([f"{canaries.seed:x}", written_out(context)])
    return size | {"digest": hashlib.sha256(f"hf_canary context {content}".encode()).hexdigest()[:_DIGITS]}

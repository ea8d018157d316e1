"""What a decoder starts with: asked of the model as training asks it, and held against the model's own pass on labels.

Knows tensors and how a model is called; knows no bits, no walk and no text.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from ..errors import CanaryError, ModelError, shown
from .cache_adapters import Encoded, Reader

logger = logging.getLogger(__name__)

# Tokens of a text on which the two passes are compared, at most; what stands behind them makes no difference.
COMPARED = 64
# Nats by which a label may differ between them: both have the same shapes, so that rounding differs by little.
_TOLERANCE_NATS = 2e-4
_TOLERANCE_NATS_HALF = 0.1
_IGNORED = -100
# What models raise where their config lacks what they ask for, or where they cannot be called so.
_REFUSALS = (AssertionError, AttributeError, CanaryError, LookupError, RuntimeError, TypeError, ValueError)


def decoder_start(model: Any, text: Sequence[int], tail: Sequence[int]) -> int:
    """The token that stands before a text's labels when the model is trained on them.

    A model with `prepare_decoder_input_ids_from_labels` says so itself, as it does to a collator: mBART takes the last
    of the labels. Any other has it in its config.

    Args:
        model: an encoder-decoder.
        text: its ids; at least one.
        tail: ids that the tokenizer puts behind each text.

    Raises:
        ModelError: it has none; labels that it does not read one to the right; a token that differs between texts.
    """
    if not hasattr(model, "prepare_decoder_input_ids_from_labels"):
        start = getattr(model.config, "decoder_start_token_id", None)
        if start is None:
            start = getattr(getattr(model, "generation_config", None), "decoder_start_token_id", None)
        if not isinstance(start, int):
            raise _no_start("none")
        return start
    other = next(id for id in range(3, 6) if id not in (text[-1], model.config.pad_token_id))
    starts = {_prepared(model, [*text[:-1], last, *tail]) for last in (text[-1], other)}
    if len(starts) > 1:
        raise ModelError(
            "tokenizer",
            "one that puts the same token behind every text, such as an end token or a language: the model reads the "
            "last of the labels first",
            "one that puts none there",
            "Use the tokenizer that the model was trained with, and as it was set up for training.",
        )
    return starts.pop()


def _prepared(model: Any, labels: list[int]) -> int:
    """What the model puts before these labels."""
    try:
        ids = model.prepare_decoder_input_ids_from_labels(labels=torch.tensor([labels]))
        start, *rest = ids[0].tolist()
    except _REFUSALS as error:
        raise _no_start(shown(str(error))) from error
    if rest != labels[:-1]:
        raise ModelError(
            "model",
            "a decoder that reads its labels one to the right, behind a start token",
            f"{type(model).__name__}, whose prepare_decoder_input_ids_from_labels gives something else",
            "Such models cannot be measured.",
        )
    return int(start)


def _no_start(got: str) -> ModelError:
    return ModelError(
        "model",
        "a decoder_start_token_id in its config",
        got,
        "Set model.config.decoder_start_token_id to the token that the decoder was trained to start with.",
    )


def check_start(reader: Reader, source: torch.Tensor | Encoded, labels: Sequence[int]) -> None:
    """Compare what labels cost after the reader's start token with what they cost in the model's own pass on them.

    Args:
        reader: of the model after `source`; `lead` is the start token.
        source: (1, n_source) ids, or what the encoder made of them.
        labels: of one text, with what the tokenizer puts behind it.

    Raises:
        ModelError: they differ.
    """
    model = reader.model
    if not _takes_labels(model):
        logger.warning(
            "%s takes no labels, so that it could not be checked that its decoder starts with token %d in training.",
            type(model).__name__,
            reader.lead[0],
        )
        return
    padded = list(labels)
    if isinstance(source, torch.Tensor) and len(padded) == source.shape[1]:
        padded.append(_IGNORED)  # a model that feeds its decoder with the source is not to be taken for one of labels
    wanted = torch.tensor([padded], device=(source.mask if isinstance(source, Encoded) else source).device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what training says of its loss
        theirs = _of_labels(_own_logits(model, source, wanted), labels)
    read = [*reader.lead, *(max(label, 0) for label in padded[:-1])]
    logits, _ = reader(wanted.new_tensor([read]), use_cache=False)
    ours = _of_labels(logits, labels)
    tolerance = _TOLERANCE_NATS if logits.dtype == torch.float32 else _TOLERANCE_NATS_HALF
    differs = (ours != theirs) & ~((ours - theirs).abs() <= tolerance)
    if bool(differs.any()) and not bool(ours.isnan().any()):  # what is no number is said where it is summed
        raise ModelError(
            "model",
            f"labels that cost behind the decoder's start token, {reader.lead[0]}, what they cost in the model's own "
            "pass on them",
            f"{float(-ours.sum()):.4f} nats for {float(-theirs.sum()):.4f}, over {len(labels)} labels of a text",
            "Let model.config.decoder_start_token_id, prepare_decoder_input_ids_from_labels and what the model makes "
            "of labels= agree. A model whose pass on labels is another than one behind its encoder cannot be measured.",
        )


def _takes_labels(model: Any) -> bool:
    accepted = inspect.signature(model.forward).parameters
    return "labels" in accepted or any(each.kind is each.VAR_KEYWORD for each in accepted.values())


def _own_logits(model: Any, source: torch.Tensor | Encoded, labels: torch.Tensor) -> torch.Tensor:
    """(1, n_labels, vocabulary) of a pass on labels; where a model makes nothing of them alone, with the decoder's
    inputs beside them that it gives a collator.
    """
    if isinstance(source, Encoded):
        given = {"encoder_outputs": source.outputs, "attention_mask": source.mask}
    else:
        given = {"input_ids": source, "attention_mask": torch.ones_like(source)}
    try:
        logits: torch.Tensor = model(**given, labels=labels, use_cache=False).logits
        if logits.shape[1] == labels.shape[1]:
            return logits
    except _REFUSALS as error:
        if should_reduce_batch_size(error) or not hasattr(model, "prepare_decoder_input_ids_from_labels"):
            raise
    prepared = model.prepare_decoder_input_ids_from_labels(labels=labels)
    logits = model(**given, labels=labels, decoder_input_ids=prepared, use_cache=False).logits
    return logits


def _of_labels(logits: torch.Tensor, labels: Sequence[int]) -> torch.Tensor:
    """(n_labels,) log-probabilities."""
    ids = torch.tensor(labels, device=logits.device)
    return logits[0, : len(ids)].float().log_softmax(-1).gather(-1, ids[:, None])[:, 0]

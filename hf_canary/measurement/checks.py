"""What is refused before anything is measured: arguments that fit no model, and models that do not fit the canaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..arguments import check_bootstrap, check_count, check_flag, check_instance, check_seed
from ..canaries import CanarySet
from ..errors import ArgumentError, ArgumentTypeError, FormatError, ModelError, shown
from ..formats.canary_format import CanaryFormat
from ..inference.evaluation import evaluating
from ..inference.language_model import LanguageModel
from ..scoring import score_encoded
from ..tokenization.contexts import Before
from .encoded_format import encoded_fills
from .estimator_choice import ESTIMATORS
from .groups import Alike, grouped


def check_request(
    canaries: CanarySet,
    num_references: int,
    estimators: Sequence[str] = ("auto",),
    *,
    num_draws: int = 1,
    bootstrap: int = 0,
    seed: int = 0,
    end: bool = False,
) -> None:
    """Refuse what cannot be measured on any model.

    Raises:
        ArgumentError: an unknown estimator, no canaries, a number that is out of range.
        FormatError: a format some candidates of which are prefixes of others.
    """
    check_instance("canaries", canaries, CanarySet, "a CanarySet", "Draw or load one: CanarySet.load(...).")
    if len(canaries) == 0:
        raise ArgumentError("canaries", "at least one canary", "an empty set", "Draw one: CanarySet.draw(...).")
    check_flag("end", end)
    for format in canaries.formats:
        if not end:
            format.check_prefix_free()
    _check_estimators(estimators)
    check_count("num_references", num_references)
    check_count("num_draws", num_draws)
    check_seed(seed)
    check_bootstrap(bootstrap)


def _check_estimators(estimators: Sequence[str]) -> None:
    is_list = isinstance(estimators, Sequence) and not isinstance(estimators, str)
    is_named = is_list and all(isinstance(name, str) for name in estimators)
    if is_named and estimators and len(set(estimators)) == len(estimators) and set(estimators) <= set(ESTIMATORS):
        return
    raise (ArgumentError if is_list else ArgumentTypeError)(
        "estimators",
        f"a list of some of {', '.join(ESTIMATORS)}",
        shown(estimators),
        'Give names in a list, each once: ["auto", "skewnorm"]; on the command line, --estimator for each.',
    )


def check_measurable(
    model: Any,
    tokenizer: Any,
    canaries: CanarySet,
    *,
    context: Before | Sequence[Before] = None,
    source_prefix: Before | Sequence[Before] = None,
) -> None:
    """Encode every entry of every hole and score a few candidates, so that what would make a measurement fail fails
    now.

    Raises:
        ModelError: what `log_perplexity` raises.
    """
    with evaluating(model) as bare:
        language_model = LanguageModel(bare)
        check_sources(language_model, canaries)
        for group in grouped(canaries, context, source_prefix, target=language_model.is_encoder_decoder):
            with naming_format(group.format):
                _check_group(language_model, tokenizer, canaries, group)


def _check_group(language_model: LanguageModel, tokenizer: Any, canaries: CanarySet, group: Alike) -> None:
    format, is_target = group.format, language_model.is_encoder_decoder
    look = partial(encoded_fills, tokenizer, format, context=group.context, prefix=group.source_prefix)
    look(format.covering_fills(), target=is_target)
    fills = [fill for canary in canaries if canary.id in group.ids for fill in (canary.fill, canary.twin)]
    fills += format.sample(min(16, format.space_size), "check")
    score_encoded(language_model, *look(fills, target=is_target))


@contextmanager
def naming_format(format: CanaryFormat) -> Iterator[None]:
    """Says of an error which format it is of."""
    try:
        yield
    except ModelError as error:
        got = f"{error.got}, in the format {shown(format.template)}"
        raise type(error)(error.argument, error.expected, got, error.remedy) from error


def check_sources(language_model: LanguageModel, canaries: CanarySet) -> None:
    """Refuse formats without a source for an encoder-decoder. Of a causal model a source is a part of the context.

    Raises:
        FormatError: there is one.
    """
    for format in canaries.formats:
        if language_model.is_encoder_decoder and format.source is None:
            raise FormatError(
                "canaries",
                "formats with a source: the model is an encoder-decoder",
                f"{shown(format.template)} without one",
                'Say what is translated: CanaryFormat("... {digit:4}", source="... {digit:4}").',
            )

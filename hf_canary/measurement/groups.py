"""Which canaries are measured together: those of one format behind one context, which share their references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..canaries import CanarySet
from ..formats.canary_format import CanaryFormat
from ..tokenization.contexts import Before, SourceContext, as_prompt, one_for_each


@dataclass(frozen=True)
class Alike:
    """Canaries of one format that are measured behind one context, with one prefix of their sources.

    Args:
        format: of them.
        members: their numbers among the canaries of the format.
        ids: their ids.
        context: what stands before them.
        source_prefix: what stands before their sources.
        number: which of the contexts of the format it is.
    """

    format: CanaryFormat
    members: tuple[int, ...]
    ids: tuple[str, ...]
    context: Before
    source_prefix: Before
    number: int


def grouped(
    canaries: CanarySet,
    context: Before | Sequence[Before] = None,
    source_prefix: Before | Sequence[Before] = None,
    *,
    target: bool | None = None,
) -> list[Alike]:
    """The canaries that can share references, format by format.

    Args:
        canaries: all of them.
        context: what stands before each, as it was given.
        source_prefix: what stands before the source of each.
        target: whether a decoder writes them; None: where they have sources. Of a causal model a source is a part of
            the context.

    Raises:
        ArgumentError: a list of contexts that has not one for each canary; one in words without the source, where each
            fill has its own.
        FormatError: a hole in what stands beside all fills.
    """
    contexts = one_for_each(context, len(canaries), "canaries")
    prefixes = one_for_each(source_prefix, len(canaries), "canaries", argument="source_prefix")
    listed = list(zip(canaries, contexts, prefixes, strict=True))
    found = []
    for format in canaries.formats:
        alike: dict[tuple[Before, Before], list[int]] = {}
        here = [
            (canary.id, *_before(format, before, prefix, target=target))
            for canary, before, prefix in listed
            if canary.format == format
        ]
        for number, (_, before, prefix) in enumerate(here):
            alike.setdefault((before, prefix), []).append(number)
        for number, ((before, prefix), members) in enumerate(alike.items()):
            ids = tuple(here[member][0] for member in members)
            found.append(Alike(format, tuple(members), ids, before, prefix, number))
    return found


def prompt_of(format: CanaryFormat, context: Before, prefix: Before = None) -> Before:
    """What a causal model reads before canaries of a format: what was given, else the source.

    Raises:
        ArgumentError: a context in words without the source, where each fill has its own.
        FormatError: a hole in what stands beside all fills.
    """
    fixed = None if format.source_varies else format.render_source(0)
    found = as_prompt(context, format.source, fixed=fixed, prefix=prefix)
    if isinstance(found, SourceContext):
        format.check_fixed("context", found.around(""))
    elif context is not None:
        format.check_fixed("context", context)
    return found


def _before(format: CanaryFormat, context: Before, prefix: Before, *, target: bool | None) -> tuple[Before, Before]:
    """What stands before canaries of a format, and before their sources if these are read by an encoder."""
    if target is False and format.source is not None:
        return prompt_of(format, context, prefix) or None, None
    format.check_fixed("context", context)
    format.check_fixed("source_prefix", prefix)
    return context or None, prefix or None

"""Which canaries are measured together: those of one format behind one context, which share their references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..canaries import CanarySet
from ..formats.canary_format import CanaryFormat
from ..tokenization.contexts import Before, one_for_each


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
    canaries: CanarySet, context: Before | Sequence[Before] = None, source_prefix: Before | Sequence[Before] = None
) -> list[Alike]:
    """The canaries that can share references, format by format.

    Raises:
        ArgumentError: a list of contexts that has not one for each canary.
    """
    contexts = one_for_each(context, len(canaries), "canaries")
    prefixes = one_for_each(source_prefix, len(canaries), "canaries", argument="source_prefix")
    listed = list(zip(canaries, contexts, prefixes, strict=True))
    found = []
    for format in canaries.formats:
        alike: dict[tuple[Before, Before], list[int]] = {}
        here = [
            (canary.id, before or None, prefix or None) for canary, before, prefix in listed if canary.format == format
        ]
        for number, (_, before, prefix) in enumerate(here):
            alike.setdefault((before, prefix), []).append(number)
        for number, ((before, prefix), members) in enumerate(alike.items()):
            ids = tuple(here[member][0] for member in members)
            found.append(Alike(format, tuple(members), ids, before, prefix, number))
    return found

"""Canaries spliced into a text, before a sentence, a line or a word, and out again. Knows no dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# A canary may stand where a sentence or a line begins; where there is none, where a word does.
_SENTENCES, _WORDS = re.compile(r"(?<=[.!?…])\s+(?=\S)|\n\s*(?=\S)"), re.compile(r"\s+(?=\S)")

# The text of each canary, and its spot: a number of [0, 1) that says before which sentence or word it goes.
Spliced = Sequence[tuple[str, float]]


def splice(text: str | None, canaries: Spliced) -> str:
    """The text with canaries before some of its sentences, none glued to a neighbour.

    Args:
        text: None becomes the canaries alone.
        canaries: what goes in, and at which spots.
    """
    if text is None:
        return " ".join(_in_order(canaries))
    starts, done, pieces = _starts(text), 0, []
    for canary, spot in sorted(canaries, key=_spot):
        start = starts[int(spot * len(starts))]
        pieces += [text[done:start], canary, "\n" if text[start - 1 : start] == "\n" else " "]
        done = start
    return "".join([*pieces, text[done:]])


def unsplice(text: str | None, canaries: Spliced) -> str | None:
    """The inverse of `splice`: the text without the canaries.

    Raises:
        LookupError: there is no text of which `splice` would have made this one.
    """
    ordered = _in_order(canaries)
    if text == " ".join(ordered):
        return None
    for before in _without(text or "", ordered, 0):
        if splice(before, canaries) == text:
            return before
    raise LookupError


def was_spliced(text: str | None, canaries: Spliced) -> bool:
    """Whether it is what `splice` makes of a text with these canaries."""
    try:
        unsplice(text, canaries)
    except LookupError:
        return False
    return True


def _spot(spliced: tuple[str, float]) -> float:
    return spliced[1]


def _in_order(canaries: Spliced) -> list[str]:
    return [canary for canary, _ in sorted(canaries, key=_spot)]


def _without(text: str, canaries: list[str], start: int) -> Iterator[str]:
    """The text without these, one after another, each with the space behind it; in all ways in which they are there."""
    if not canaries:
        yield text
        return
    index = text.find(canaries[0], start)
    while index >= 0:
        yield from _without(text[:index] + text[index + len(canaries[0]) + 1 :], canaries[1:], index)
        index = text.find(canaries[0], index + 1)


def _starts(text: str) -> list[int]:
    """Where a canary may go: the beginning, and where a sentence or line begins; else where a word does."""
    for pattern in (_SENTENCES, _WORDS):
        inner = [match.end() for match in pattern.finditer(text)]
        if inner:
            return [0, *inner]
    return [0]

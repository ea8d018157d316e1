"""Canaries spliced into a text, before a sentence, a line or a word, and out again. Knows no dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_SPACES, _ENDS = re.compile(r"\s+"), tuple(".!?…")
# Ways in which canaries may be there that are looked at before they are taken for absent; beside one for each.
_MOST_WAYS = 10_000

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
    for before in _without(text or "", ordered):
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


def _without(text: str, canaries: list[str]) -> Iterator[str]:
    """The text without these, one after another, each with the space behind it; in the first ways in which they are
    there.
    """
    ways = [(text, 0, 0)]  # with how many of them out, and from where on the next one may stand
    for _ in range(_MOST_WAYS + 2 * len(canaries)):
        if not ways:
            return
        text, out, start = ways.pop()
        if out == len(canaries):
            yield text
            continue
        index = text.find(canaries[out], start)
        if index >= 0:
            ways.append((text, out, index + 1))  # it may be a later one
            ways.append((text[:index] + text[index + len(canaries[out]) + 1 :], out + 1, index))


def _starts(text: str) -> list[int]:
    """Where a canary may go: the beginning, and where a sentence or line begins; else where a word does."""
    runs = [run for run in _SPACES.finditer(text) if run.end() < len(text)]
    sentences = [run.end() for run in runs if "\n" in run.group() or text[run.start() - 1 : run.start()] in _ENDS]
    return [0, *(sentences or (run.end() for run in runs))]

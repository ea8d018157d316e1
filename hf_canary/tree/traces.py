"""Whether a tokenizer writes what tells the fills of a format apart at all. Asks it for single characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Set as AbstractSet
from typing import Any

from ..errors import ModelError, shown
from ..formats.canary_format import CanaryFormat
from ..formats.template import Hole, entries_of
from ..tokenization.encoding import token_ids, unknown_ids


def check_written(format: CanaryFormat, tokenizer: Any, *, target: bool) -> None:
    """Refuse a tokenizer that writes nothing for what tells candidates apart, as one does that was never shown digits
    and has no unknown token. What cannot be seen (spaces, joiners), which some drop, is let pass; and entries that
    become alike, as with marks that are stripped, are fills of one encoding.

    Args:
        format: any.
        tokenizer: any.
        target: whether the candidates are what a decoder writes.

    Raises:
        ModelError: it does.
    """
    holes = [hole for hole in dict.fromkeys(format.holes) if not hole.is_check_digit]
    wanted = sorted(filter(_is_seen, set[str]().union(*(entry for hole in holes for entry in entries_of(hole)))))
    dropped = _without_trace(tokenizer, wanted, target=target)
    for hole in holes if dropped else ():
        written = _written(hole, dropped)
        if "" in written or len(written) == 1 < len(entries_of(hole)):
            raise _untraced(hole, dropped)


def check_told_apart(format: CanaryFormat, dropped: AbstractSet[str]) -> None:
    """Refuse entries that differ in characters alone of which nothing is written, as WordPiece of spaces, and entries
    of nothing else: whether they are encoded alike depends on what stands beside them, which an asked tree does not
    know.

    Args:
        format: any.
        dropped: those characters.

    Raises:
        ModelError: there are such entries.
    """
    for hole in set(format.holes) if dropped else ():
        written = _written(hole, dropped)
        if len(written) < len(entries_of(hole)) or "" in written:
            raise _untraced(hole, dropped)


def _written(hole: Hole, dropped: AbstractSet[str]) -> set[str]:
    """What is left of the entries of a hole."""
    return {"".join(c for c in entry if c not in dropped) for entry in entries_of(hole)}


def _untraced(hole: Hole, dropped: AbstractSet[str]) -> ModelError:
    return ModelError(
        "tokenizer",
        f"one that writes what tells the entries of {shown(entries_of(hole))} apart",
        f"one that writes nothing for {', '.join(map(shown, sorted(dropped)))}",
        "Leave them out of the entries, or use a tokenizer that writes them.",
    )


def _is_seen(character: str) -> bool:
    """No space, and nothing that only says how others are shown."""
    return unicodedata.category(character)[0] not in "ZC"


def _without_trace(tokenizer: Any, characters: list[str], *, target: bool) -> set[str]:
    """Those that leave a text as it is encoded without them."""

    def encoded(texts: list[str]) -> list[list[int]]:
        return token_ids(tokenizer, texts, target=target) if texts else []

    nothing, *alone = encoded(["", *characters])
    suspect = [c for c, ids in zip(characters, alone, strict=True) if len(ids) <= len(nothing) + 1]
    suspects = frozenset(suspect)
    if not suspect:
        return set()
    unknown = unknown_ids(tokenizer, target=target)  # which leaves a trace, and may be the same for all letters
    anchors = (c for c in (*characters, "a", "0") if c not in suspects or len(encoded([c * 9])[0]) > 1)
    anchor = next((c for c in anchors if unknown.isdisjoint(encoded([c * 2])[0])), None)
    if anchor is None:
        return {c for c, ids in zip(characters, alone, strict=True) if ids == nothing}
    pair, *within = encoded([anchor * 2, *(anchor + c + anchor for c in suspect)])
    return {c for c, ids in zip(suspect, within, strict=True) if ids == pair}

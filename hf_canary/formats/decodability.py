"""Whether texts of pieces can be told apart: no text of two fills, none the beginning of another (Sardinas and
Patterson 1953).
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence

from .template import (
    Piece,
    entries_of,
)


class _Entries:
    """What one piece can write, indexed by prefix."""

    def __init__(self, piece: Piece) -> None:
        entries = entries_of(piece)
        self._set = frozenset(entries)
        self._sorted = sorted(entries)
        self._lengths = sorted({len(entry) for entry in entries})

    def leads(self) -> set[str]:
        """What one entry has written beyond another that it begins with."""
        found: set[str] = set()
        begun: list[str] = []  # those that an entry begins with: sorted, they stand before it
        for entry in self._sorted:
            while begun and not entry.startswith(begun[-1]):
                begun.pop()
            found.update(entry[len(other) :] for other in begun)
            begun.append(entry)
        return found

    def compatible(self, text: str) -> Iterator[str]:
        """The entries that begin `text` or begin with it."""
        yield from (text[:cut] for cut in self._lengths if cut < len(text) and text[:cut] in self._set)
        at = bisect.bisect_left(self._sorted, text)
        yield from itertools.takewhile(lambda entry: entry.startswith(text), itertools.islice(self._sorted, at, None))


def overlap(pieces: Sequence[Piece], *, whole: bool) -> bool:
    """Whether two different fills give one text (`whole`), or one text a proper prefix of the other (not `whole`).

    Follows two readings from the hole where they first differ. In a state `(behind, ahead, lead)` both have written
    the same text, except that the second has written `lead` more, and they go on at these pieces. This is the
    dangling-suffix test of Sardinas and Patterson (1953) along the pieces. A check digit counts as any digit, so
    that a template is refused rather than wrongly accepted.
    """
    end = len(pieces)
    of_piece = {piece: _Entries(piece) for piece in set(pieces)}
    entries = [of_piece[piece] for piece in pieces]
    pending = [(at + 1, at + 1, lead) for at, written in enumerate(entries) for lead in written.leads()]
    seen = set(pending)
    while pending:
        behind, ahead, lead = pending.pop()
        if not lead and behind == ahead:
            if whole:
                return True
        elif behind == end or (not lead and ahead == end):
            if not whole:
                return True
        else:
            for entry in entries[behind].compatible(lead):
                if len(entry) <= len(lead):
                    state = (behind + 1, ahead, lead[len(entry) :])
                else:
                    state = (ahead, behind + 1, entry[len(lead) :])
                if state not in seen:
                    seen.add(state)
                    pending.append(state)
    return False

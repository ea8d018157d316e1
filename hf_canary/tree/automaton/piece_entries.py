"""What one piece of a format can write, by what has been written of it. Knows one piece and no others."""

from __future__ import annotations

import bisect
import random
from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

from ...formats.template import Literal, Piece, entries_of

DIGITS = "0123456789"
ENDS_RUN = -1


class PieceEntries(Protocol):
    """The entries of a piece, of which one is being written."""

    @property
    def digits(self) -> int | None:
        """How many digits each entry has, or that each ends the run; None where entries differ."""
        ...

    @property
    def size(self) -> int:
        """How many entries there are to choose from."""
        ...

    def next_characters(self, written: str, check_digit: str) -> str | list[str]:
        """What may come next in an entry that begins so."""
        ...

    def status(self, written: str) -> tuple[bool, bool]:
        """Whether entries go on from here, and whether one ends here."""
        ...

    def count(self, written: str) -> int:
        """How many of them begin so."""
        ...

    def rest(self, written: str, check_digit: str, generator: random.Random) -> str:
        """How an entry that begins so may go on, by chance."""
        ...


class CheckDigit:
    """One digit, which what stands before decides."""

    digits: int | None = 1
    size = 1

    def next_characters(self, written: str, check_digit: str) -> str:
        return check_digit

    def status(self, written: str) -> tuple[bool, bool]:
        return False, True

    def count(self, written: str) -> int:
        return 1

    def rest(self, written: str, check_digit: str, generator: random.Random) -> str:
        return check_digit


class SortedEntries:
    """Fixed text, or the entries of a hole: sorted, so that those that begin alike stand side by side.

    Args:
        piece: no check digit.
    """

    def __init__(self, piece: Piece) -> None:
        self._piece = piece
        self._sorted = sorted(entries_of(piece))
        self._set = frozenset(self._sorted)
        self._next: dict[str, list[str]] = {}

    @cached_property
    def digits(self) -> int | None:
        return digits_in(self._piece)

    @property
    def size(self) -> int:
        return len(self._sorted)

    def next_characters(self, written: str, check_digit: str) -> list[str]:
        if written not in self._next:
            self._next[written] = list(self._find_next(written))
        return self._next[written]

    def _find_next(self, written: str) -> Iterator[str]:
        at, length = bisect.bisect_left(self._sorted, written), len(written)
        if at < len(self._sorted) and self._sorted[at] == written:
            at += 1
        while at < len(self._sorted) and self._sorted[at].startswith(written):
            character = self._sorted[at][length]
            yield character
            at = bisect.bisect_right(self._sorted, written + character + "\U0010ffff", at)

    def status(self, written: str) -> tuple[bool, bool]:
        return bool(self.next_characters(written, "")), written in self._set

    def count(self, written: str) -> int:
        low, high = self._beginning(written)
        return high - low

    def rest(self, written: str, check_digit: str, generator: random.Random) -> str:
        return self._sorted[generator.randrange(*self._beginning(written))][len(written) :]

    def _beginning(self, written: str) -> tuple[int, int]:
        """From where to where those stand that begin so."""
        low = bisect.bisect_left(self._sorted, written)
        return low, bisect.bisect_right(self._sorted, written + "\U0010ffff", low)


def piece_entries(piece: Piece) -> PieceEntries:
    """What a piece can write."""
    return CheckDigit() if is_check(piece) else SortedEntries(piece)


def is_check(piece: Piece) -> bool:
    """Whether a piece is a check digit."""
    return not isinstance(piece, Literal) and piece.is_check_digit


def digits_in(piece: Piece) -> int | None:
    """How many digits each entry has, or that each ends the run; None where entries differ."""
    kinds = {
        ENDS_RUN if set(entry) - set(DIGITS + " -") else sum(c in DIGITS for c in entry) for entry in entries_of(piece)
    }
    return kinds.pop() if len(kinds) == 1 else None

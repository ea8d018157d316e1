"""Texts looked for in strings: many texts in one pass, in arrow arrays and in single strings.

Knows no row, no canary and no token.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

# Texts are looked for by their beginnings, one for all that share their first letters: so the pattern stays short for
# any number of texts.
_SHARED_LETTERS = 4
_MOST_LETTERS = 1000  # of the pattern, about


class Finder:
    """Looks for texts in strings.

    Args:
        texts: different ones, none empty.

    Example:
        >>> import pyarrow as pa
        >>> from hf_canary.injection.text_search import Finder
        >>> Finder(["PIN 12", "PIN 34"]).count(pa.array(["a PIN 12, PIN 12", None, "no PIN"]))
        Counter({0: 2})
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(texts)
        groups: dict[str, list[str]] = {}
        for text in self._texts:
            groups.setdefault(text[:_SHARED_LETTERS], []).append(text)
        longest = max(_SHARED_LETTERS, _MOST_LETTERS // max(1, len(groups)))
        beginnings = {_beginning(group)[:longest] for group in groups.values()}
        self._pattern = "|".join(re.escape(beginning) for beginning in sorted(beginnings))
        self._compiled = re.compile(self._pattern)
        self._number = {text: number for number, text in enumerate(self._texts)}
        self._lengths = sorted({len(text) for text in self._texts})

    def count(self, strings: pa.Array | pa.ChunkedArray) -> Counter[int]:
        """How often each text, by its number, stands in (n,) strings; those that overlap count as well."""
        if not self._texts:
            return Counter()
        promising = strings.filter(pc.match_substring_regex(strings, self._pattern))
        return self.count_in(string for string in promising.to_pylist() if string is not None)

    def count_in(self, strings: Iterable[str]) -> Counter[int]:
        """How often each text, by its number, stands in strings of Python; those that overlap count as well."""
        counts: Counter[int] = Counter()
        for string in strings if self._texts else ():
            match = self._compiled.search(string)
            while match is not None:
                start = match.start()
                ends = (start + length for length in self._lengths if start + length <= len(string))
                numbers = (self._number.get(string[start:end]) for end in ends)
                counts.update(number for number in numbers if number is not None)
                match = self._compiled.search(string, start + 1)
        return counts

    def equal(self, strings: pa.Array | pa.ChunkedArray) -> int:
        """How many of (n,) strings are one of the texts."""
        if not self._texts:
            return 0
        return int(pc.sum(pc.is_in(strings, value_set=pa.array(self._texts, type=strings.type))).as_py() or 0)


def _beginning(texts: list[str]) -> str:
    """What all of them begin with."""
    first, last = min(texts), max(texts)
    letters = zip(first, last, strict=False)
    return first[: next((index for index, (one, other) in enumerate(letters) if one != other), len(first))]

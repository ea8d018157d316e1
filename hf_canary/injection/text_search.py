"""Texts looked for in strings: many texts in one pass, in arrow arrays and in single strings.

Knows no row, no canary and no token.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

# A text is looked for by its beginning, which it may share with others: the automaton stays small for any number.
_ALIKE = 4
_MOST_LETTERS = 1000


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
            groups.setdefault(text[:_ALIKE], []).append(text)
        longest = max(_ALIKE, _MOST_LETTERS // max(1, len(groups)))
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
        """The same, in strings of Python."""
        found: Counter[int] = Counter()
        for string in strings if self._texts else ():
            at = self._compiled.search(string)
            while at is not None:
                start = at.start()
                ends = (start + length for length in self._lengths if start + length <= len(string))
                numbers = (self._number.get(string[start:end]) for end in ends)
                found.update(number for number in numbers if number is not None)
                at = self._compiled.search(string, start + 1)
        return found

    def equal(self, strings: pa.Array | pa.ChunkedArray) -> int:
        """How many of (n,) strings are one of the texts."""
        if not self._texts:
            return 0
        return int(pc.sum(pc.is_in(strings, value_set=pa.array(self._texts, type=strings.type))).as_py() or 0)


def _beginning(texts: list[str]) -> str:
    """What all of them begin with."""
    first, last = min(texts), max(texts)
    pairs = zip(first, last, strict=False)
    return first[: next((place for place, (one, other) in enumerate(pairs) if one != other), len(first))]

"""The part of a token tree whose texts have all been encoded. Knows tokens and texts; no format and no tokenizer."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from .parts import Follows, Path, Selection


class ListedPart:
    """A part whose texts have all been encoded.

    Args:
        encodings: of each text.
        texts: the texts.
        num_behind: how many texts of the format go on behind each.

    Attributes:
        open_tokens: those that follow where a text ends.
    """

    start = 0

    def __init__(self, encodings: Iterable[Path], texts: Sequence[str], num_behind: int) -> None:
        self._children: list[dict[int, int]] = [{}]
        self._texts: dict[int, list[str]] = defaultdict(list)
        self._below = [0]
        self._num_behind = num_behind
        self.depth = 0
        for tokens, text in zip(encodings, texts, strict=True):
            self._insert(tokens, text)
            self.depth = max(self.depth, len(tokens))
        self.num_encodings = len(self._texts)
        self.open_tokens = {token for node in self._texts for token in self._children[node]}
        self.most_copies = max(map(len, self._texts.values()))
        self._follows: dict[int, Follows] = {}

    def _insert(self, tokens: Path, text: str) -> None:
        node = self.start
        self._below[node] += 1
        for token in tokens:
            child = self._children[node].get(token)
            if child is None:
                child = self._children[node][token] = len(self._children)
                self._children.append({})
                self._below.append(0)
            node = child
            self._below[node] += 1
        self._texts[node].append(text)

    def with_behind(self, num_behind: int) -> ListedPart:
        """The same, before another number of texts."""
        other = copy.copy(self)
        other._num_behind = num_behind
        return other

    def follows(self, state: int) -> Follows:
        """As of a part."""
        if state not in self._follows:
            children = sorted(self._children[state].items())
            self._follows[state] = Follows(
                np.array([token for token, _ in children], dtype=np.int64),
                np.array([node if self._children[node] else -1 for _, node in children], dtype=np.int64),
                np.array([node in self._texts for _, node in children], dtype=bool),
            )
        return self._follows[state]

    def selection(self, state: int) -> Selection | None:
        """As of a part."""
        return None

    def after(self, state: int, token: int) -> tuple[int, bool] | None:
        """As of a part."""
        node = self._children[state].get(token)
        return None if node is None else (node, node in self._texts)

    def ends(self, state: int) -> bool:
        """As of a part."""
        return state in self._texts

    def read(self, tokens: Sequence[int]) -> tuple[str, int] | None:
        """As of a part."""
        node: int | None = self.start
        for token in tokens:
            node = None if node is None else self._children[node].get(token)
        texts = [] if node is None else self._texts.get(node, [])
        return (texts[0], len(texts)) if texts else None

    def most_below(self, state: int) -> int:
        """As of a part."""
        return self._below[state] * self._num_behind

"""An asked tree as a part of a tree: its only one. Knows no more of it than how it is walked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...formats.canary_format import CanaryFormat
from ...tokenization.contexts import Context
from ..parts import Follows, Selection
from .tree import AskedTree


class AskedPart:
    """An asked tree as the only part of a tree: what all candidates share first, then its states.

    Args:
        format: any.
        tokenizer: any.
        context: what stands before the canary.
        end: an id that follows every candidate.
        target: whether a decoder writes them.
    """

    start = 0
    open_tokens: frozenset[int] = frozenset()

    def __init__(self, format: CanaryFormat, tokenizer: Any, context: Context, end: int | None, target: bool) -> None:
        self._tree = AskedTree(format, tokenizer, context=context, end=end, target=target)
        self._prompt = [*context.replaced, *self._tree.prompt[len(context.ids) :]]
        self._context = context
        self.depth = len(self._prompt) + self._tree.depth
        self.num_encodings = self._tree.space_size

    @property
    def most_copies(self) -> int:
        """As of a part."""
        return int(self._tree.most_copies)

    def follows(self, state: int) -> Follows:
        """As of a part."""
        if state < len(self._prompt):
            return Follows(np.array(self._prompt[state : state + 1]), np.array([state + 1]), np.zeros(1, dtype=bool))
        edges = self._tree.edges(self._of(state))
        return Follows(edges.tokens, np.where(edges.states >= 0, edges.states + self._offset, -1), edges.is_leaf)

    def selection(self, state: int) -> Selection | None:
        """As of a part."""
        return None

    def after(self, state: int, token: int) -> tuple[int, bool] | None:
        """As of a part."""
        follows = self.follows(state)
        at = int(np.searchsorted(follows.tokens, token))
        if at == len(follows.tokens) or follows.tokens[at] != token:
            return None
        return int(follows.states[at]), bool(follows.ends[at])

    def ends(self, state: int) -> bool:
        """As of a part: a text ends with its last token only, since an end token tells apart those that go on."""
        return False

    def read(self, tokens: Sequence[int]) -> tuple[str, int] | None:
        """As of a part."""
        text = self._tree.text(tokens[len(self._prompt) :])
        return self._context.behind + text, self._tree.copies(self._tree.format.parse(text))

    def most_below(self, state: int) -> int:
        """As of a part."""
        return self._tree.most_below(self._of(state))

    @property
    def _offset(self) -> int:
        return len(self._prompt) - self._tree.root

    def _of(self, state: int) -> int:
        return max(self._tree.root, state - self._offset)

"""What the parts of a token tree have in common: what follows a state, and how several such lists become one.

Also the part whose encodings are listed one by one. Knows no format and no tokenizer.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from ..arrays import Bools, Ints

Path = tuple[int, ...]


@dataclass(frozen=True)
class Edges:
    """What may follow a prefix: tokens, ascending; the state that each leads to, or -1 where nothing follows it; and
    whether a candidate ends there, which may be so where others go on.
    """

    tokens: Ints
    states: Ints
    is_leaf: Bools

    def take(self, which: Ints) -> Edges:
        """Some of them."""
        is_leaf = self.is_leaf.take(which) if self._has_leaf else np.zeros(len(which), dtype=np.bool_)
        return Edges(self.tokens.take(which), self.states.take(which), is_leaf)

    @cached_property
    def _has_leaf(self) -> bool:
        return bool(self.is_leaf.any())

    @property
    def num_bytes(self) -> int:
        """What they take."""
        return self.tokens.nbytes + self.states.nbytes + self.is_leaf.nbytes


@dataclass(frozen=True)
class Follows:
    """What may follow a state, ascending by token.

    Args:
        tokens: (n,) ids.
        states: (n,) the state behind each, or -1 where nothing follows it.
        ends: (n,) whether a text of the part ends there.
    """

    tokens: Ints
    states: Ints
    ends: Bools

    def take(self, which: Ints) -> Follows:
        """Some of it."""
        return Follows(self.tokens.take(which), self.states.take(which), self.ends.take(which))


class Selection(NamedTuple):
    """Some of a list.

    Args:
        follows: the list; the same object for all states that have it in common.
        indices: which of it.
    """

    follows: Follows
    indices: Ints


class Part(Protocol):
    """Some part of all encodings, as an automaton over tokens. Different states may go on alike.

    Attributes:
        start: the state before its first token.
        depth: how many tokens its encodings have, at most.
        num_encodings: how many different ones there are.
        open_tokens: at least those that follow where a text ends; so in a row of parts two may be the same, if the next
            begins with one of them. None where that is not known, and perhaps in this part alone.
        most_copies: how many texts have one encoding, at most.
    """

    start: int

    @property
    def depth(self) -> int: ...

    @property
    def num_encodings(self) -> int: ...

    @property
    def open_tokens(self) -> AbstractSet[int] | None: ...

    @property
    def most_copies(self) -> int: ...

    def follows(self, state: int) -> Follows:
        """What may follow; each of these has an end below it or is one."""
        ...

    def selection(self, state: int) -> Selection | None:
        """The same, as some of a list that many states have in common; None if there is no such."""
        ...

    def after(self, state: int, token: int) -> tuple[int, bool] | None:
        """The state behind a token, and whether a text ends there; None if it may not follow. What comes later is not
        looked at: the state may go nowhere.
        """
        ...

    def ends(self, state: int) -> bool:
        """Whether a text ends here, of no more tokens."""
        ...

    def read(self, tokens: Sequence[int]) -> tuple[str, int] | None:
        """The characters of a text that is encoded so, and how many such texts there are; None if there is none."""
        ...

    def most_below(self, state: int) -> int:
        """How many texts of the whole format begin with what leads here, at most, but for what is encoded alike."""
        ...


def merged(found: Sequence[Follows], join: Callable[[Sequence[int]], int]) -> Follows:
    """Several lists as one; of states behind the same token `join` makes one."""
    found = [follows for follows in found if len(follows.tokens)] or list(found[:1])
    if not found:
        return Follows(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=bool))
    if len(found) == 1:
        return found[0]
    tokens = np.concatenate([follows.tokens for follows in found])
    states = np.concatenate([follows.states for follows in found])
    ends = np.concatenate([follows.ends for follows in found])
    order = np.argsort(tokens, kind="stable")
    tokens, states, ends = tokens[order], states[order], ends[order]
    begins = np.diff(tokens, prepend=-1) != 0
    if begins.all():
        return Follows(tokens, states, ends)
    group = np.cumsum(begins) - 1
    all_ends = np.zeros(int(group[-1]) + 1, dtype=bool)
    np.logical_or.at(all_ends, group, ends)
    joined = states[begins]
    shared = np.flatnonzero(np.bincount(group) > 1)
    for number in shared.tolist():
        behind = sorted({int(state) for state in states[group == number] if state >= 0})
        joined[number] = join(behind) if len(behind) > 1 else behind[0] if behind else -1
    return Follows(tokens[begins], joined, all_ends)


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
        self._known: dict[int, Follows] = {}

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
        if state not in self._known:
            children = sorted(self._children[state].items())
            self._known[state] = Follows(
                np.array([token for token, _ in children], dtype=np.int64),
                np.array([node if self._children[node] else -1 for _, node in children], dtype=np.int64),
                np.array([node in self._texts for _, node in children], dtype=bool),
            )
        return self._known[state]

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

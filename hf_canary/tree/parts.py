"""What the parts of a token tree have in common: what follows a state, and how several such lists become one.

Knows no format and no tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def merged(lists: Sequence[Follows], join: Callable[[Sequence[int]], int]) -> Follows:
    """Several lists as one; of states behind the same token `join` makes one.

    Tokens [3 5] and [5 9] with states [7 8] and [6 -1], of which a text ends at the second 5 and at 9:

        tokens  3 5 5 9      begins  1 1 0 1    which of them are new
        states  7 8 6 -1     group   0 1 1 2    the index of each in what is returned
        ends    0 0 1 1

    gives tokens [3 5 9], states [7 join(6, 8) -1] and ends [0 1 1].
    """
    lists = [follows for follows in lists if len(follows.tokens)] or list(lists[:1])
    if not lists:
        return Follows(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=bool))
    if len(lists) == 1:
        return lists[0]
    tokens = np.concatenate([follows.tokens for follows in lists])
    states = np.concatenate([follows.states for follows in lists])
    ends = np.concatenate([follows.ends for follows in lists])
    order = np.argsort(tokens, kind="stable")
    tokens, states, ends = tokens[order], states[order], ends[order]
    begins = np.diff(tokens, prepend=-1) != 0
    if begins.all():
        return Follows(tokens, states, ends)
    group = np.cumsum(begins) - 1
    all_ends = np.zeros(int(group[-1]) + 1, dtype=bool)
    np.logical_or.at(all_ends, group, ends)
    joined = states[begins]
    for index in np.flatnonzero(np.bincount(group) > 1).tolist():
        behind = sorted({int(state) for state in states[group == index] if state >= 0})
        joined[index] = join(behind) if len(behind) > 1 else behind[0] if behind else -1
    return Follows(tokens[begins], joined, all_ends)

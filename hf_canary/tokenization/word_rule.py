"""What all kinds of models say of a word: which tokens may stand side by side in it, as a state and what it leads to.

Each kind has a file of its own. Knows entries and units; no words, no pre-tokenizer and no format.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..arrays import Bools, Ints
from .merges import Candidates, Merges
from .stages import Stage, Unfollowed
from .vocabulary import Trie

Config = Mapping[str, Any]
StagesFor = Callable[[frozenset[str]], tuple[Sequence[Stage], Sequence[Stage]]]

FRESH = 0  # the state before a word's first token


class Entries:
    """Entries that may come next, ascending by id.

    Args:
        tokens: (n,) their ids.
        nodes: (n,) where they end in the tree of the vocabulary.
    """

    def __init__(self, tokens: Ints, nodes: Ints) -> None:
        self.tokens, self.nodes = tokens, nodes
        self._merges: Merges | None = None

    def candidates(self, merges: Merges) -> Candidates:
        """As BPE needs them."""
        if self._merges is not merges:
            self._merges, self._candidates = merges, merges.candidates(self.tokens)
        return self._candidates

    def take(self, which: Ints) -> Entries:
        """Some of them."""
        return Entries(self.tokens[which], self.nodes[which])


class Watch(NamedTuple):
    """What may become of a word, as it is spelled on behind its last token: whether that stays one.

    Args:
        ways: those under way: where each stands in the vocabulary, its score, and whether it keeps the tokens so far.
        is_kept: whether these are the word's, if it ends here.
        is_sure: whether they are, wherever it ends from here on.
        is_lost: whether they are not, wherever it ends.
    """

    ways: tuple[tuple[int, float, bool], ...]
    is_kept: bool
    is_sure: bool
    is_lost: bool


class WordRule(Protocol):
    """Which tokens follow one another within a word.

    Attributes:
        first: the entries that begin a word.
        further: those that go on in one.
        unknown: the token of what the vocabulary does not know, if there is one.
        has_plain_states: whether some states are plain: what follows depends on the last token alone.
        has_watches: whether it can be watched letter by letter if a word goes on from a state.
    """

    first: Trie
    further: Trie
    unknown: int | None
    has_plain_states: bool
    has_watches: bool

    @property
    def unended(self) -> AbstractSet[int]:
        """States in which a word may not end."""
        ...

    def stages(self, alphabet: frozenset[str]) -> tuple[Sequence[Stage], Sequence[Stage]]:
        """What cuts the pre-tokenizer's words further, for all that matters, and what makes units of their characters.

        Args:
            alphabet: the characters that may come.
        """
        ...

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        """Which of these may come next in a word, the first ones in state `FRESH`: their indices among those given,
        ascending, and the state behind each.
        """
        ...

    def step(self, state: int, token: int) -> int:
        """The state behind one entry, or -1 if it may not follow."""
        ...

    def surely_on(self, states: Ints, letters: Sequence[str]) -> Bools:
        """(n,) behind which of these states, ascending and all behind one, some of the letters keeps the tokens so far,
        whatever comes then; there may be others behind which that is so.
        """
        ...

    def watch(self, state: int) -> Watch:
        """What may become of a word in this state."""
        ...

    def watched(self, watch: Watch, letter: str) -> Watch:
        """The same behind one letter more."""
        ...

    def likeliest(self, watch: Watch, letters: Sequence[str]) -> Iterator[str]:
        """These letters, first those behind which the tokens so far are likeliest to be kept."""
        ...

    def is_plain(self, state: int) -> bool:
        """Whether the state behind what follows depends on that alone."""
        ...

    def behind_plain(self, entries: Entries) -> Ints:
        """(n,) the state behind each of these, if they follow a plain state."""
        ...

    def allowed(self, state: int, entries: Entries) -> Bools:
        """(n,) which of these may follow a plain state."""
        ...

    def forbidden(self, state: int, entries: Entries) -> Ints:
        """The indices of those that may not, in any order; some perhaps twice."""
        ...

    def allowed_behind(self, states: Ints, token: int) -> Bools:
        """(n,) which of some plain states an entry may follow."""
        ...


class NothingWatched:
    """What rules have in common that are not watched letter by letter."""

    has_watches = False

    def surely_on(self, states: Ints, letters: Sequence[str]) -> Bools:
        raise NotImplementedError

    def watch(self, state: int) -> Watch:
        raise NotImplementedError

    def watched(self, watch: Watch, letter: str) -> Watch:
        raise NotImplementedError

    def likeliest(self, watch: Watch, letters: Sequence[str]) -> Iterator[str]:
        raise NotImplementedError


class NothingPlain(NothingWatched):
    """What rules have in common whose states all say more than what came last."""

    unended: frozenset[int] = frozenset()
    first: Trie
    further: Trie
    unknown: int | None = None
    has_plain_states = False

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        """As of a rule."""
        raise NotImplementedError

    def step(self, state: int, token: int) -> int:
        node = (self.first if state == FRESH else self.further).node(token)
        which, states = self.after(state, Entries(np.array([token]), np.array([node])))
        return int(states[0]) if len(which) else -1

    def is_plain(self, state: int) -> bool:
        return False

    def behind_plain(self, entries: Entries) -> Ints:
        raise NotImplementedError

    def allowed(self, state: int, entries: Entries) -> Bools:
        raise NotImplementedError

    def forbidden(self, state: int, entries: Entries) -> Ints:
        raise NotImplementedError

    def allowed_behind(self, states: Ints, token: int) -> Bools:
        raise NotImplementedError


def check_options(model: Config, read: Collection[str]) -> None:
    """Refuse a model that has other options than its rule reads.

    Args:
        model: as in a tokenizer's file.
        read: the options that are read.

    Raises:
        Unfollowed: names one.
    """
    for option, value in model.items():
        if value and option not in read:
            raise Unfollowed(f"the option {option} of its model, which is of the kind {model.get('type')}")

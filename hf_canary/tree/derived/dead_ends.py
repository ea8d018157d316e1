"""Whether some encoding goes on within a word, or tokens are a dead end, with which no text's encoding begins.

Theory. Where a word can end behind a prefix, the prefix is none: what follows the cut is encoded by itself. Elsewhere
some further token must follow, the word must live behind that, and so on: a search over pairs of a set of nodes and a
state of the word. There are far fewer such pairs than prefixes, and each is settled once and remembered. Two things
make the search short. The shortest entries are tried first, of which one mostly lives, since few rules forbid a letter
by itself. And a long word is begun at its far end, so that no search goes deep.

Where a rule can be *watched*, as the best path of Unigram, tokens are not tried at all. The letters that may come are
read one by one, and the rule says of each whether the tokens so far are the word's beyond doubt, or no longer.

Knows no tokens behind which a word is cut, and no other stretch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...arrays import Bools, Ints
from ...tokenization.word_rule import Entries, Watch, WordRule
from .node_sets import NodeSets
from .word_steps import Following, Followings, may_end

_UNSETTLED, _LIVES, _DEAD = 0, 1, 2
_FEW_ENTRIES, _MOST_ROWS = 4096, 20_000


class DeadEnds(Protocol):
    """The search, of one kind of rule."""

    def goes_on(self, nodes: int, words: Ints) -> Sequence[bool] | Bools:
        """(n,) whether some encoding goes on within a word in each of these states, in a set of nodes."""
        ...


def dead_ends(sets: NodeSets, rule: WordRule, followings: Followings) -> DeadEnds:
    """The search that a rule needs."""
    return LetterSearch(sets, rule) if rule.has_watches else EntrySearch(sets, rule, followings)


class LetterSearch:
    """Of words that can be watched: for most one letter tells.

    Args:
        sets: of nodes of a spelling.
        rule: of the words, which `has_watches`.
    """

    def __init__(self, sets: NodeSets, rule: WordRule) -> None:
        self._sets, self._rule = sets, rule

    def goes_on(self, nodes: int, words: Ints) -> Bools:
        letters = sorted(self._letters(nodes))
        on = self._rule.surely_on(words, letters) if letters else np.zeros(len(words), dtype=bool)
        for index in np.flatnonzero(~on).tolist():
            on[index] = self._is_kept(nodes, int(words[index]))
        return on

    def _is_kept(self, nodes: int, word: int) -> bool:
        """Whether some word that goes on here keeps the tokens so far, spelled by likely letters first."""
        watch = self._rule.watch(word)
        pending = [(watch, nodes, self._likeliest(watch, nodes))]
        while pending:
            watch, nodes, letters = pending[-1]
            letter = next(letters, None)
            if letter is None:
                pending.pop()
                continue
            behind, after = self._rule.watched(watch, letter), self._sets.after(nodes, False)[letter]
            if behind.is_sure:
                return True
            if behind.is_kept and (self._sets.ends(after) or self._sets.after(after, True)):
                return True
            if not behind.is_lost:
                pending.append((behind, after, self._likeliest(behind, after)))
        return False

    def _likeliest(self, watch: Watch, nodes: int) -> Iterator[str]:
        return self._rule.likeliest(watch, self._letters(nodes))

    def _letters(self, nodes: int) -> list[str]:
        return [unit for unit in self._sets.after(nodes, False) if isinstance(unit, str)]


class EntrySearch:
    """Of other words: whether some entry follows from which an encoding goes on.

    Args:
        sets: of nodes of a spelling.
        rule: of the words.
        followings: what may be spelled behind the sets.
    """

    def __init__(self, sets: NodeSets, rule: WordRule, followings: Followings) -> None:
        self._sets, self._rule, self._followings = sets, rule, followings
        self._settled: dict[tuple[int, int], bool] = {}
        self._lives: dict[int, NDArray[np.int8]] = {}
        self._allowed_rows: dict[tuple[int, Entries], Bools] = {}
        self._begun_at_far_end: set[int] = set()

    def goes_on(self, nodes: int, words: Ints) -> list[bool]:
        return self._followed(nodes, words.tolist())

    def _followed(self, nodes: int, words: list[int]) -> list[bool]:
        settled = self._settled
        pending = [word for word in dict.fromkeys(words) if (nodes, word) not in settled]
        if pending:
            self._begin_at_far_end(nodes)
            if len(pending) > 1 and all(map(self._rule.is_plain, pending)):
                pending = self._without_followed(nodes, pending)
            for word in pending:
                settled[nodes, word] = self._is_followed(nodes, word)
        return [settled[nodes, word] for word in words]

    def _following(self, nodes: int) -> Following:
        return self._followings.of(nodes, is_cut=False, is_first=False)

    def _begin_at_far_end(self, nodes: int) -> None:
        """Settle what lies behind long words first, from the last set of nodes on, each of which finds the next one
        settled. One chain of sets is enough, since letters that are alike lead to one set.
        """
        if not self._rule.has_plain_states:
            return
        chain = []
        while self._is_within_word(nodes):
            self._begun_at_far_end.add(nodes)
            chain.append(nodes)
            nodes = next(iter(self._sets.after(nodes, False).values()))
        for nodes, before in zip(chain[:0:-1], chain[-2::-1], strict=True):
            following = self._following(before)
            for index in following.short:
                if following.sets[index] == nodes:
                    self._followed(nodes, [int(self._rule.behind_plain(following.entries)[index])])

    def _is_within_word(self, nodes: int) -> bool:
        """Whether words only go on here, and none of the chains so far came by."""
        if nodes in self._begun_at_far_end:
            return False
        return not self._sets.after(nodes, True) and bool(self._sets.after(nodes, False))

    def _without_followed(self, nodes: int, words: list[int]) -> list[int]:
        """Without those plain states that one of the short entries follows, and goes on: most of many at once."""
        pending, following = np.array(words), self._following(nodes)
        behind = self._rule.behind_plain(following.entries)
        for index in following.short:
            if not len(pending):
                break
            allowed = self._rule.allowed_behind(pending, int(following.entries.tokens[index]))
            if allowed.any() and self._is_alive(int(following.sets[index]), int(behind[index])):
                for word in pending[allowed].tolist():
                    self._settled[nodes, word] = True
                pending = pending[~allowed]
        return pending.tolist()  # type: ignore[no-any-return]

    def _is_followed(self, nodes: int, word: int) -> bool:
        """By one of the shortest entries, as most are, or by any."""
        following = self._following(nodes)
        if self._rule.is_plain(word):
            return self._is_plain_followed(nodes, word, following)
        if len(following.sets) > len(following.short):
            short = np.sort(np.array(following.short, dtype=np.int64))
            which, words = self._rule.after(word, following.entries.take(short))
            if self._one_lives(following, short[which], words):
                return True
        return self._one_lives(following, *self._rule.after(word, following.entries))

    def _is_plain_followed(self, nodes: int, word: int, following: Following) -> bool:
        """Which entries live does not depend on a plain state, and is remembered."""
        allowed = self._allowed(word, following.entries)
        lives = self._lives_behind(nodes, following)
        if (allowed & (lives == _LIVES)).any():
            return True
        unsettled = np.flatnonzero(allowed & (lives == _UNSETTLED))
        for index in unsettled[np.argsort(following.lengths[unsettled], kind="stable")].tolist():
            behind = int(self._rule.behind_plain(following.entries)[index])
            is_alive = self._is_alive(int(following.sets[index]), behind)
            lives[index] = _LIVES if is_alive else _DEAD
            if is_alive:
                return True
        return False

    def _lives_behind(self, nodes: int, following: Following) -> NDArray[np.int8]:
        """(n,) whether each entry lives behind a plain state, as far as that is settled."""
        if nodes not in self._lives:
            lives = self._surely_lives(following.sets, self._rule.behind_plain(following.entries))
            self._lives[nodes] = np.where(lives, _LIVES, _UNSETTLED).astype(np.int8)
        return self._lives[nodes]

    def _allowed(self, word: int, entries: Entries) -> Bools:
        """What the rule lets follow, remembered where it is little."""
        if len(entries.tokens) > _FEW_ENTRIES:
            return self._rule.allowed(word, entries)
        key = (word, entries)
        if key not in self._allowed_rows:
            if len(self._allowed_rows) > _MOST_ROWS:
                self._allowed_rows.clear()
            self._allowed_rows[key] = self._rule.allowed(word, entries)
        return self._allowed_rows[key]

    def _one_lives(self, following: Following, which: Ints, words: Ints) -> bool:
        sets = following.sets[which]
        if self._surely_lives(sets, words).any():
            return True
        order = np.argsort(following.lengths[which], kind="stable") if len(which) > 1 else np.arange(len(which))
        return any(self._is_alive(int(sets[index]), int(words[index])) for index in order.tolist())

    def _surely_lives(self, sets: Ints, words: Ints) -> Bools:
        """(n,) where a word may end, and a text ends or another word begins."""
        return may_end(self._rule, words) & (self._sets.are_ends(sets) | self._sets.have_cuts(sets))

    def _is_alive(self, nodes: int, word: int) -> bool:
        """Whether a text ends here, or some encoding goes on."""
        if word not in self._rule.unended and (self._sets.ends(nodes) or self._sets.after(nodes, True)):
            return True
        return bool(self._sets.after(nodes, False)) and self._followed(nodes, [word])[0]

"""Entries that may follow a set of nodes, and single tokens, as the spelling and the rule of words have them.

Joins sets of nodes to a vocabulary and its rule. Which of the entries lead to the end of a text is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import Bools, Ints
from ...tokenization.word_rule import FRESH, Entries, WordRule
from .node_sets import NodeSets

_SHORT = 8  # entries that are tried first when one is looked for that goes on


@dataclass(frozen=True, eq=False)
class Following:
    """Entries that may be spelled next, and the sets of nodes that they lead to.

    Args:
        entries: ascending by id.
        sets: (n,) where each leads.
        lengths: (n,) how many units each has.
        short: the indices of a few of them, the shortest first.
    """

    entries: Entries
    sets: Ints
    lengths: Ints
    short: list[int]


class Followings:
    """What may be spelled behind each set of nodes, remembered.

    Args:
        sets: of a spelling.
        rule: of the words.
    """

    def __init__(self, sets: NodeSets, rule: WordRule) -> None:
        self._sets, self._rule = sets, rule
        self._followings: dict[tuple[int, bool, bool], Following] = {}
        self._entries: dict[tuple[bool, bytes], Entries] = {}

    def of(self, nodes: int, *, is_cut: bool, is_first: bool) -> Following:
        """Of a set of nodes.

        Args:
            nodes: the number of the set.
            is_cut: whether a word is cut here.
            is_first: whether the entries are those that begin a word. They may begin one without a cut, too, where no
                token stands before.
        """
        key = (nodes, is_cut, is_first)
        if key not in self._followings:
            trie = self._rule.first if is_first else self._rule.further
            spelled = self._sets.spell(nodes, is_cut, trie)
            order = np.argsort(spelled.tokens, kind="stable")
            ends, lengths = spelled.nodes[order], spelled.lengths[order]
            short = np.argsort(lengths, kind="stable")[:_SHORT].tolist()
            # The same entries follow many sets, and what the rule says of them is the same.
            alike = (trie is self._rule.first, ends.tobytes())
            entries = self._entries.setdefault(alike, Entries(spelled.tokens[order], ends))
            self._followings[key] = Following(entries, spelled.sets[order], lengths, short)
        return self._followings[key]


def word_step(rule: WordRule, word: int, token: int) -> tuple[str, int] | None:
    """The units of a token, and the state of the word behind it; None if the rule does not let it follow."""
    trie = rule.first if word == FRESH else rule.further
    node = trie.node(token)
    after = -1 if node < 0 else rule.step(word, token)
    return (trie.spelling(node), after) if after >= 0 else None


def may_end(rule: WordRule, words: Ints) -> Bools:
    """(n,) whether a word may end in each of these states."""
    if not rule.unended:
        return np.ones(len(words), dtype=bool)
    return ~np.isin(words, list(rule.unended))

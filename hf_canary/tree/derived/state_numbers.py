"""The states of a stretch of tokens as numbers: a set of nodes and the state of a word in one, or several such states.

The set stands in the high bits and the state of the word in the low ones. Set 3 with state 5 of the word:

    3 << 35 | 5                = 103_079_215_109
    103_079_215_109 >> 35      = 3
    103_079_215_109 & WORD     = 5

A state is *mixed* where the same tokens may be read in several ways that stay apart, such as two words of different
states: its number says where their list stands, 1 << 55 for the first. No set has a number so large that the two
could be confused, and below 1 << 56 both leave room for the number of a part in a row of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...tokenization.word_rule import FRESH, WordRule
from .node_sets import MOST_SETS, NodeSets

WORD_BITS = 35
WORD = (1 << WORD_BITS) - 1
MIXED = MOST_SETS << WORD_BITS  # 1 << 55: from here on, a state stands for several


class StateNumbers:
    """Joins states behind the same token.

    Args:
        sets: of nodes, by number.
        rule: of the words.
    """

    def __init__(self, sets: NodeSets, rule: WordRule) -> None:
        self._sets, self._rule = sets, rule
        self._mixed: list[tuple[int, ...]] = []
        self._mixed_numbers: dict[tuple[int, ...], int] = {}

    def states_of(self, mixed: int) -> tuple[int, ...]:
        """Those for which one stands."""
        return self._mixed[mixed - MIXED]

    def join(self, states: Sequence[int]) -> int:
        """One state for several: a larger set of nodes if the state of the word is the same, else a mixed one."""
        apart = sorted({one for state in states for one in (self.states_of(state) if state >= MIXED else (state,))})
        # Where no word goes on, the state of the last one does not matter.
        words = {one & WORD for one in apart if self._sets.after(one >> WORD_BITS, False)} or {FRESH}
        if len(words) == 1 and not ({one & WORD for one in apart} | words) & self._rule.unended:
            nodes = {node for one in apart for node in self._sets.nodes(one >> WORD_BITS)}
            return self._sets.number(nodes) << WORD_BITS | words.pop()
        key = tuple(apart)
        if key not in self._mixed_numbers:
            self._mixed_numbers[key] = MIXED + len(self._mixed)
            self._mixed.append(key)
        return self._mixed_numbers[key]

"""From the tokens of a stretch back to its texts: what they spell, and how many texts are encoded so.

Follows single nodes of the spelling, where a tree follows sets of them: so it knows the characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...tokenization.stages import Atom
from ...tokenization.word_rule import FRESH, WordRule
from .spelling import Spelling
from .word_steps import word_step


class _Texts(NamedTuple):
    """Texts whose encodings begin alike: the characters of one of them so far, and how many there are."""

    text: str
    number: int


_Reached = dict[tuple[int, int], _Texts]  # (node of the spelling, state of the word) → the texts that lead there


class TokenReader:
    """Reads tokens as a stretch.

    Args:
        spelling: of the stretch.
        rule: of the words.
    """

    def __init__(self, spelling: Spelling, rule: WordRule) -> None:
        self._spelling, self._rule = spelling, rule

    def read(self, tokens: Sequence[int]) -> tuple[str, int] | None:
        """The characters of a text that is encoded so, and how many there are; None if there is none."""
        reached: _Reached = {(node, FRESH): _Texts(self._spelling.lead, 1) for node in self._spelling.starts}
        for token in tokens:
            reached = self._behind(reached, token)
        ended = [
            _Texts(texts.text + out.text, texts.number * out.ends)
            for (node, word), texts in reached.items()
            if (out := self._spelling.out(node)).ends and word not in self._rule.unended
        ]
        return (ended[0].text, sum(texts.number for texts in ended)) if ended else None

    def _behind(self, reached: _Reached, token: int) -> _Reached:
        """What is reached behind one token more."""
        after: _Reached = {}
        steps_of = {word: word_step(self._rule, word, token) for word in {FRESH, *(word for _, word in reached)}}

        def add(node: int, word: int, text: str, count: int) -> None:
            before = after.get((node, word), _Texts(text, 0))
            after[node, word] = _Texts(before.text, before.number + count)

        for (node, word), texts in reached.items():
            out = self._spelling.out(node)
            cut = [] if word in self._rule.unended else [(FRESH, out.cut)]
            for before, steps in [(word, out.along), *cut]:
                for step in steps.get(Atom(token), []) if before == FRESH else []:
                    add(step.target, FRESH, texts.text + step.text, texts.number * step.num_texts)
                if (word_behind := steps_of[before]) is not None:
                    units, moved = word_behind
                    for target, text, count in self._spelling.paths(steps, units):
                        add(target, moved, texts.text + text, texts.number * count)
        return after

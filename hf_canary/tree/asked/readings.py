"""What a prefix of tokens may have written, token by token; where it is not clear, the tokenizer is asked.

Knows the format by its units, and the vocabulary; not which tokens the encoding of some candidate begins with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from ..parts import Path
from .questions import Questions
from .units import FormatUnits, Readings, UnitState
from .vocabulary import Trie

# Behind these the end of a text says nothing: what follows may still change how the tokenizer cuts it into words, as it
# does in runs of spaces, contractions and marks that join the letter before.
OPEN_END = re.compile(r"(\s|'\w{0,2}|[\u0300-\u036f])\Z")


class PrefixRule(Enum):
    """Where what an encoding begins with is the encoding of what it writes, as far as was looked."""

    NOWHERE = 0
    BUT_AT_OPEN_ENDS = 1
    EVERYWHERE = 2


@dataclass(frozen=True)
class ReadingSteps:
    """From the readings of a prefix to those behind one token more.

    Args:
        units: the format's.
        trie: the vocabulary's.
        questions: to the tokenizer.
        prefix_rule: what holds of it.
    """

    units: FormatUnits
    trie: Trie
    questions: Questions
    prefix_rule: PrefixRule = PrefixRule.NOWHERE

    def within_search(self) -> ReadingSteps:
        """The same, of a search for dead ends."""
        return replace(self, questions=self.questions.within_search())

    def after(self, path: Path, readings: Readings) -> dict[int, Readings]:
        """The readings behind each token that the format allows after a path."""
        return self._settled(path, self.units.after(readings, self.trie))

    def after_token(self, path: Path, readings: Readings, token: int) -> Readings:
        """Those behind one such token."""
        return self._settled(path, {token: self.units.after_token(readings, token, self.trie)})[token]

    def _settled(self, path: Path, after: Mapping[int, Mapping[UnitState, list[str]]]) -> dict[int, Readings]:
        """One text for each state: of several, one that the tokenizer encodes by this path and token.

        There are several where characters leave no trace, and where the mark that is put before a text is written as
        a space is. A state to which no text leads that is encoded so is none: paths that do lead there would be taken
        for this one.
        """
        if not self.units.some_leave_none and all(len(texts) == 1 for of in after.values() for texts in of.values()):
            return {
                token: self.units.closed({state: texts[0] for state, texts in of_token.items()})
                for token, of_token in after.items()
            }
        fitting = self._fitting(path, after)
        return {
            token: self.units.closed(
                {
                    state: fitting.get((token, state), texts[0])
                    for state, texts in of_token.items()
                    if (token, state) in fitting or self._may_be_unasked(state, texts)
                }
            )
            for token, of_token in after.items()
        }

    def _fitting(
        self, path: Path, after: Mapping[int, Mapping[UnitState, list[str]]]
    ) -> dict[tuple[int, UnitState], str]:
        """Of each token and state the first text that is encoded by this path and token, if there is one."""
        asked = [
            (token, state, text)
            for token, of_token in after.items()
            for state, texts in of_token.items()
            for text in texts
            if can_be_asked(state, text)
        ]
        fitting: dict[tuple[int, UnitState], str] = {}
        for (token, state, text), answer in zip(asked, self.questions.ask([text for *_, text in asked]), strict=True):
            if answer.tokens == (*path, token):
                fitting.setdefault((token, state), text)
        return fitting

    def _may_be_unasked(self, state: UnitState, texts: list[str]) -> bool:
        """Whether a state stands though none of its texts is encoded so."""
        if not self.units.some_leave_none and len(texts) == 1:
            return True
        return not can_be_asked(state, texts[0]) or self.prefix_rule is not PrefixRule.EVERYWHERE


def can_be_asked(state: UnitState, text: str) -> bool:
    """Whether the tokenizer can be asked how the text of a prefix is encoded: it is of whole characters, and not empty,
    as that of what stands before the first of them is.
    """
    return not state.pending and bool(text)

"""Word-level models: a word is one token, which a stage finds; nothing follows in it.

This file knows no pre-tokenizer and no format.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Ints
from .letters import WholeWords
from .vocabulary import Trie
from .word_rule import Config, Entries, NothingPlain, StagesFor, check_options


class WholeWordRule(NothingPlain):
    """Words that are one entry each.

    Args:
        stages: to words that are tokens.
        unknown: the token of all other words.
    """

    def __init__(self, stages: StagesFor, unknown: int | None) -> None:
        self.first = self.further = Trie({})
        self.stages, self.unknown = stages, unknown

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)


def whole_words(model: Config) -> WholeWordRule:
    """The rule of a word-level model."""
    check_options(model, ("type", "vocab", "unk_token"))
    words = WholeWords(model["vocab"])
    return WholeWordRule(lambda _: ([], [words]), model["vocab"].get(model["unk_token"]))

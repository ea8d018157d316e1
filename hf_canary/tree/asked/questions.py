"""What is asked of a tokenizer: how it encodes a text; and how often, where answers might never settle a thing.

This file knows no format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import ModelError
from ...tokenization.contexts import Context
from ...tokenization.encoding import unknown_characters
from ..parts import Path

# What is asked behind one token of which chance found no witness: about half a minute. Half of that is taken where
# letters and digits stand behind an apostrophe; where nothing tells dead ends, there would be as many texts as fills.
_MOST_ASKED = 1_000_000


class UntoldDeadEnds(ModelError):
    """A tree that cannot be walked on: where encodings go on would be known from all candidates only."""


@dataclass(frozen=True)
class Answer:
    """How the tokenizer encodes a text: its tokens after the context, and the word that each belongs to, if it says."""

    tokens: Path
    words: Sequence[int | None] | None

    def goes_on_from(self, path: Path) -> bool:
        """Whether there are more tokens behind these."""
        return self.tokens[: len(path)] == path and len(self.tokens) > len(path)


class Budget:
    """How many texts may be asked: any number, but within a search for dead ends."""

    def __init__(self) -> None:
        self.is_exhausted = False  # by one search: then no other is begun

    def spend(self, count: int) -> None:
        """Before so many texts are asked.

        Raises:
            UntoldDeadEnds: they are too many.
        """

    def of_search(self) -> Budget:
        """That of a search, which is its own also where one search needs another.

        Raises:
            UntoldDeadEnds: an earlier one was not enough.
        """
        if self.is_exhausted:
            raise _untold()
        return _SearchBudget(self)


class _SearchBudget(Budget):
    def __init__(self, whole: Budget) -> None:
        super().__init__()
        self._whole, self._left = whole, _MOST_ASKED

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            self._whole.is_exhausted = True
            raise _untold()

    def of_search(self) -> Budget:
        return self


@dataclass(frozen=True)
class Questions:
    """Asks a tokenizer.

    Args:
        tokenizer: any.
        context: what stands before each text; the tokens behind it are the answer.
        target: whether the texts are what a decoder writes.
        unknown: the tokens of what it does not know.
        budget: that questions are paid from.
    """

    tokenizer: Any
    context: Context
    target: bool
    unknown: set[int]
    budget: Budget

    def within_search(self) -> Questions:
        """The same, of a search for dead ends."""
        return replace(self, budget=self.budget.of_search())

    def ask(self, texts: Sequence[str]) -> list[Answer]:
        """The tokens of each text after the context, as the tokenizer encodes the whole."""
        if not texts:
            return []
        self.budget.spend(len(texts))
        whole = [self.context.behind + text for text in texts]
        named = {"text_target": whole} if self.target else {"text": whole}
        encoded = self.tokenizer(**named, add_special_tokens=False, return_attention_mask=False)
        fast, ahead = encoded.encodings, len(self.context.replaced)
        return [
            Answer(tuple(ids[ahead:]), None if fast is None else fast[row].word_ids[ahead:])
            for row, ids in enumerate(encoded["input_ids"])
        ]

    def ask_whole(self, candidates: Sequence[str]) -> list[Answer]:
        """The same of whole candidates, which must be representable, as their beginnings need not be."""
        answers = self.ask(candidates)
        for text, answer in zip(candidates, answers, strict=True):
            if not self.unknown.isdisjoint(answer.tokens):
                raise unknown_characters(self.tokenizer, text, target=self.target)
        return answers


def _untold() -> UntoldDeadEnds:
    return UntoldDeadEnds(
        "tokenizer",
        "one that encodes what texts begin with as the texts begin",
        f"one of which {_MOST_ASKED:,} texts did not tell where no candidate goes on",
        "Use another format, or measure_exposure(..., estimators=['sampled']), which needs no tree.",
    )

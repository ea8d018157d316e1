"""Texts and formats as a tokenizer sees them: encodings, and the tree of the encodings of all fills.

Encodings of listed texts are for any tokenizer. The tree of a whole format is, so far, for tokenizers that give one
token to each character of its candidates, and is checked on the tokenizer at hand. This file knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError, shown
from .formats import CanaryFormat, Hole, Literal, LuhnSums, entries_of, luhn_digit, luhn_sums

_CHECKED_CANDIDATES = 64


@dataclass(frozen=True)
class Encoding:
    """Token ids of texts; the first `conditioned` ones, which all share, stand before the text and are not summed."""

    sequences: list[list[int]]
    conditioned: int


def encode(
    tokenizer: Any, texts: Sequence[str], *, context: str | None = None, target: bool = False, end: bool = False
) -> Encoding:
    """The canonical encoding of each text after `context`: what the tokenizer returns for the whole.

    Tokens that the tokenizer puts before a text by itself (BOS, a language) condition, as the context does, unless the
    context begins with them, as a rendered chat template does; those that it puts behind (EOS) are left out.

    Args:
        tokenizer: any.
        texts: none empty.
        context: text before each.
        target: whether they are what a decoder writes, encoded with `text_target=`.
        end: whether the end token follows each text and is summed.

    Raises:
        ModelError: a character that the tokenizer cannot represent, a context whose last token swallows the beginning
            of a text, no end token where one is asked for.
    """
    ahead = _ids(tokenizer, [context], target)[0] if context else []
    whole = [(context or "") + text for text in texts]
    ids = _ids(tokenizer, whole, target) if whole else []
    before = _leading_special_tokens(tokenizer, whole[0], target) if whole else []
    if before and ahead[: len(before)] == before:
        before = []
    unknown = tokenizer.unk_token_id
    for text, sequence in zip(whole, ids, strict=True):
        if unknown is not None and unknown in sequence[len(ahead) :]:
            raise _unknown_characters(tokenizer, text)
        if sequence[: len(ahead)] != ahead or len(sequence) == len(ahead):
            raise ModelError(
                "context",
                "a context whose tokens stay the same when a canary follows",
                f"{shown(context)}, which merges with {shown(text[len(context or '') :])}",
                "End the context where a token ends: move its last space or word into the format's fixed text.",
            )
    behind = [end_token(tokenizer)] if end else []
    return Encoding([before + sequence + behind for sequence in ids], len(before) + len(ahead))


def end_token(tokenizer: Any) -> int:
    """The token that ends a text.

    Raises:
        ModelError: the tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "tokenizer", "an end token, since end=True", "none", "Set tokenizer.eos_token, or leave out end."
        )
    return int(tokenizer.eos_token_id)


def _ids(tokenizer: Any, texts: Sequence[str], target: bool, special: bool = False) -> list[list[int]]:
    side = {"text_target": list(texts)} if target else {"text": list(texts)}
    ids: list[list[int]] = tokenizer(**side, add_special_tokens=special, return_attention_mask=False)["input_ids"]
    return ids


def _leading_special_tokens(tokenizer: Any, probe: str, target: bool = False) -> list[int]:
    bare, full = _ids(tokenizer, [probe], target)[0], _ids(tokenizer, [probe], target, special=True)[0]
    starts = (start for start in range(len(full) - len(bare) + 1) if full[start : start + len(bare)] == bare)
    return list(full[: next(starts, 0)])


def _unknown_characters(tokenizer: Any, text: str) -> ModelError:
    characters = sorted(set(text))
    ids = tokenizer(characters, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    unknown = [c for c, sequence in zip(characters, ids, strict=True) if tokenizer.unk_token_id in sequence]
    named = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown[:8]) or "what it makes of them together"
    return ModelError(
        "tokenizer",
        f"a tokenizer that can represent {shown(text)}",
        f"its unknown token for {named}",
        "Train the tokenizer on text with these characters, or leave them out of the format.",
    )


@dataclass(frozen=True)
class Edges:
    """What may follow a prefix: tokens, the state that each leads to, and whether a candidate ends there."""

    tokens: NDArray[np.int64]
    states: NDArray[np.int64]
    is_leaf: NDArray[np.bool_]


# Where one reading of a prefix stands: piece, characters of its entry written so far, and the Luhn sums that a coming
# check digit will be over (None when none comes, so that prefixes which differ only there share a state).
_Place = tuple[int, str, LuhnSums | None]
# Where all readings of a prefix stand: several while the entry written so far is itself an entry and begins another.
_State = frozenset[_Place]


class TokenTree:
    """The tree of the encodings of all fills of a format, as an automaton over tokens that is built where it is walked.

    Prefixes after which the same may follow share a state, so that the tree costs memory by its states and not by
    its nodes. The leaves below `root` are exactly the candidates, each once.

    Args:
        format: its candidates must not be prefixes of one another.
        tokenizer: must give one token to each character of the candidates.
        context: text before the canary.

    Attributes:
        prompt: token ids that all candidates share, context and special tokens first.
        conditioned: how many of them stand before the canary.
        root: the state after the prompt.

    Raises:
        FormatError: a candidate is a prefix of another.
        ModelError: the tokenizer merges characters, or cannot represent one.
    """

    def __init__(self, format: CanaryFormat, tokenizer: Any, *, context: str | None = None) -> None:
        format.check_prefix_free()
        self.format = format
        self._pieces = format.pieces
        self._token_of = _tokens_of_characters(format, tokenizer)
        self._character_of = {token: character for character, token in self._token_of.items()}
        self._check_candidates(tokenizer, context)
        fixed = self._pieces[0].text if isinstance(self._pieces[0], Literal) else ""
        ahead = encode(tokenizer, [format.render(0)], context=context)
        self.conditioned = ahead.conditioned
        self.prompt = ahead.sequences[0][: ahead.conditioned + len(fixed)]
        self._fixed = fixed
        self._states: list[_State] = []
        self._number_of: dict[_State, int] = {}
        self._edges: dict[int, Edges] = {}
        self.root = self._number(frozenset([self._place(1 if fixed else 0, "", luhn_sums(fixed))]))

    @cached_property
    def depth(self) -> int:
        """The most tokens that a candidate has after the prompt."""
        rest = self._pieces[1:] if self._fixed else self._pieces
        return sum(len(p.text) if isinstance(p, Literal) else 1 if p.is_check_digit else p.lengths[-1] for p in rest)

    def edges(self, state: int) -> Edges:
        """What may follow a prefix in this state."""
        if state not in self._edges:
            follows = sorted(self._following(self._states[state]).items())
            self._edges[state] = Edges(
                np.array([token for token, _ in follows], dtype=np.int64),
                np.array([self._number(after) if after else -1 for _, after in follows], dtype=np.int64),
                np.array([not after for _, after in follows], dtype=np.bool_),
            )
        return self._edges[state]

    def text(self, path: Sequence[int]) -> str:
        """The candidate whose tokens after the prompt are `path`."""
        return self._fixed + "".join(self._character_of[token] for token in path)

    def check(self, paths: Sequence[Sequence[int]], tokenizer: Any, context: str | None) -> None:
        """Compare paths to leaves with the tokenizer's own encodings of their texts.

        Raises:
            ModelError: one differs: the tokenizer does something else in the whole text than with its characters.
        """
        texts = [self.text(path) for path in paths]
        for text, path, ids in zip(texts, paths, encode(tokenizer, texts, context=context).sequences, strict=True):
            if ids != [*self.prompt, *path]:
                raise _merging(text)

    def _check_candidates(self, tokenizer: Any, context: str | None) -> None:
        """Compare the tokenizer's own encodings with the concatenation of their characters'.

        On every pair of characters that can stand side by side, because a merge of more begins with one of two; and
        on some whole candidates, because a tokenizer may do more than merge.
        """
        pairs = sorted(self.format.adjacent_characters())
        ids = tokenizer(pairs, add_special_tokens=False, return_attention_mask=False)["input_ids"] if pairs else []
        for pair, sequence in zip(pairs, ids, strict=True):
            if sequence != [self._token_of[character] for character in pair]:
                raise _merging(pair)
        format = self.format
        texts = format.covering_candidates()
        texts += [format.render(fill) for fill in format.sample(min(_CHECKED_CANDIDATES, format.space_size), "check")]
        encoding = encode(tokenizer, texts, context=context)
        for text, sequence in zip(texts, encoding.sequences, strict=True):
            if sequence[encoding.conditioned :] != [self._token_of[character] for character in text]:
                raise _merging(text)

    def _number(self, state: _State) -> int:
        if state not in self._number_of:
            self._number_of[state] = len(self._states)
            self._states.append(state)
        return self._number_of[state]

    def _place(self, piece: int, written: str, sums: LuhnSums) -> _Place:
        """A place that keeps the sums only while a check digit is to come."""
        return piece, written, sums if piece < self._after_last_check else None

    @cached_property
    def _after_last_check(self) -> int:
        checks = [at for at, piece in enumerate(self._pieces) if isinstance(piece, Hole) and piece.is_check_digit]
        return checks[-1] + 1 if checks else 0

    def _following(self, state: _State) -> dict[int, _State]:
        """Each token that may follow, with the state after it (an empty one: the candidate ends)."""
        following: dict[int, set[_Place]] = {}
        for number, written, sums in state:
            piece = self._pieces[number]
            if isinstance(piece, Literal):
                entries: Sequence[str] = (piece.text,)
            else:
                entries = (luhn_digit(sums or (0, 0)),) if piece.is_check_digit else piece.space
            for entry in entries:
                if len(entry) <= len(written) or not entry.startswith(written):
                    continue
                character = entry[len(written)]
                places = following.setdefault(self._token_of[character], set())
                moved = luhn_sums(character, sums or (0, 0))
                if len(entry) > len(written) + 1:
                    places.add(self._place(number, written + character, moved))
                elif number + 1 < len(self._pieces):
                    places.add(self._place(number + 1, "", moved))
        return {token: frozenset(places) for token, places in following.items()}


def _tokens_of_characters(format: CanaryFormat, tokenizer: Any) -> dict[str, int]:
    """Every character of the candidates with the token that stands for it."""
    characters = sorted(
        {character for piece in set(format.pieces) for entry in entries_of(piece) for character in entry}
    )
    ids = tokenizer(characters, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    tokens: dict[str, int] = {}
    for character, sequence in zip(characters, ids, strict=True):
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in sequence:
            raise _unknown_characters(tokenizer, character)
        if len(sequence) != 1 or sequence[0] in tokens.values():
            raise _merging(character)
        tokens[character] = sequence[0]
    return tokens


def _merging(text: str) -> ModelError:
    return ModelError(
        "tokenizer",
        "one token for each character of the format",
        f"one that encodes {shown(text)} otherwise",
        "Extraction works with character tokenizers so far; measure_exposure and ExposureCallback work with any.",
    )

"""How a tokenizer writes: the units that characters become, and the vocabulary as a tree of units.

A unit is one character of a token as the vocabulary spells it: `Ġ` for a space in byte-level BPE, two units for `é`,
`<0xE2>` for a byte that some tokenizers fall back to, nothing for a space that WordPiece drops. All of it is found by
asking the tokenizer, whatever its kind. Which sequences of tokens are canonical is not known here.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Iterable
from typing import Any

from ...tokenization.encoding import (
    special_ids,
    token_ids,
    token_namer,
    unknown_characters,
    unknown_ids,
    vocabulary_of_side,
)

Units = tuple[str, ...]

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# The tokens that end at a node of the tree; all other keys are units.
ENDING = ""

Trie = dict[str, Any]


class Vocabulary:
    """The tokens of a tokenizer as a tree of their units; special ones are left out.

    Args:
        tokenizer: any.
        target: whether to take that of what a decoder writes, where it has one of its own.

    Attributes:
        trie: unit → subtree; under `ENDING`, the list of ids of the tokens that end here.
    """

    def __init__(self, tokenizer: Any, *, target: bool = False) -> None:
        self._model, self._target = _model_of(tokenizer), target
        special = special_ids(tokenizer, target=target)
        self.trie: Trie = {}
        for token, id in (vocabulary_of_side(tokenizer, target=target) or tokenizer.get_vocab()).items():
            if id not in special:
                insert(self.trie, self.units(token), id)

    @property
    def is_pairwise(self) -> bool:
        """Whether a word's tokens are canonical once each two neighbours are: true of BPE that only merges."""
        return (
            self._model.get("type") == "BPE" and not self._model.get("ignore_merges") and not self._model.get("dropout")
        )

    def units(self, token: str) -> Units:
        """The units of a token, without the marks of a word's middle or end."""
        if _BYTE.fullmatch(token):
            return (token,)
        prefix, suffix = self._model.get("continuing_subword_prefix"), self._model.get("end_of_word_suffix")
        if prefix and token.startswith(prefix) and len(token) > len(prefix):
            token = token[len(prefix) :]
        if suffix and token.endswith(suffix) and len(token) > len(suffix):
            token = token[: -len(suffix)]
        return tuple(token)

    def surfaces(self, tokenizer: Any, characters: Iterable[str]) -> tuple[dict[str, tuple[Units, ...]], Units]:
        """What each character is written as, and what stands before the first one of a text.

        Each is asked for between two others, the anchors. With anchor `a`, Llama 2 writes `aéa` as ▁ a é a: behind ▁,
        the lead, and between the anchors' own units [a] stand [2:3], which is é. GPT-2, which has no lead, writes it as
        a Ã © a, of which [1:3] is Ã ©.

        Args:
            tokenizer: whose vocabulary this is.
            characters: of a format.

        Returns:
            Character → one or more possible unit sequences; an empty one if it leaves no trace.

        Raises:
            ModelError: a character that the tokenizer cannot represent.
        """
        wanted = sorted(set(characters))
        anchor, inside, lead = self._anchor(tokenizer, wanted)
        surfaces: dict[str, tuple[Units, ...]] = {}
        written = self._written(tokenizer, [anchor + character + anchor for character in wanted])
        for character, units in zip(wanted, written, strict=True):
            if units is None:
                units = self._apart(tokenizer, character, anchor)
            units = units[len(lead) + len(inside) : len(units) - len(inside)]
            # Spelled in bytes by itself, it may still be written out in a longer token.
            spelled = bool(units) and all(_BYTE.fullmatch(unit) for unit in units)
            surfaces[character] = (units, (character,)) if spelled else (units,)
        return surfaces, lead

    def _anchor(self, tokenizer: Any, characters: list[str]) -> tuple[str, Units, Units]:
        """A character to put around others, its own units, and what stands before the first one of a text."""
        for anchor in [*characters, "a", "0"]:
            if not anchor.isspace():
                twice, thrice = self._written(tokenizer, [anchor * 2, anchor * 3])
                if twice is not None and thrice is not None and len(thrice) > len(twice):
                    length = len(thrice) - len(twice)
                    return anchor, thrice[-length:], twice[: len(twice) - 2 * length]
        raise unknown_characters(tokenizer, "".join(characters), target=self._target)

    def _apart(self, tokenizer: Any, character: str, anchor: str) -> Units:
        """As if written between anchors, of one that is known only by itself, as digits of WordPiece may be.

        Where `a1a` is unknown, it is put together from `a 1 a`, written as a 1 a, with `a a` and `aa`, both written as
        a a. How much longer `a a` is than `aa` is what a space adds, here 0. `1` stands at [1:2]; a 1 a is returned.
        """
        apart, close = self._written(tokenizer, [f"{anchor} {character} {anchor}", f"{anchor} {anchor}"])
        if apart is None or close is None or len(apart) <= len(close):
            raise unknown_characters(tokenizer, character, target=self._target)
        pair = self._written(tokenizer, [anchor * 2])[0] or ()
        space = len(close) - len(pair)
        middle = len(pair) // 2
        return (*pair[: len(pair) - middle], *apart[len(close) - middle : len(apart) - middle - space], *pair[-middle:])

    def _written(self, tokenizer: Any, texts: list[str]) -> list[Units | None]:
        """The units of whole texts; None where the tokenizer does not know something."""
        unknown, name = unknown_ids(tokenizer, target=self._target), token_namer(tokenizer, target=self._target)
        return [
            None
            if not unknown.isdisjoint(sequence)
            else tuple(unit for token in sequence for unit in self.units(name(token) or ""))
            for sequence in token_ids(tokenizer, texts, target=self._target)
        ]


def insert(trie: Trie, units: Units, id: int) -> None:
    """Put a token into a tree of units."""
    for unit in units:
        trie = trie.setdefault(unit, {})
    if units:
        trie.setdefault(ENDING, []).append(id)


_vocabularies: weakref.WeakKeyDictionary[Any, dict[tuple[int, bool], Vocabulary]] = weakref.WeakKeyDictionary()


def vocabulary_of(tokenizer: Any, *, target: bool = False) -> Vocabulary:
    """The tokenizer's vocabulary, read once for as long as it does not grow."""
    of_tokenizer, key = _vocabularies.setdefault(tokenizer, {}), (len(tokenizer), target)
    if key not in of_tokenizer:
        of_tokenizer[key] = Vocabulary(tokenizer, target=target)
    return of_tokenizer[key]


def _model_of(tokenizer: Any) -> dict[str, Any]:
    """What the tokenizers library knows of its model; nothing of a tokenizer written in Python."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {}
    model: dict[str, Any] = json.loads(backend.to_str())["model"]
    return {name: value for name, value in model.items() if name not in ("vocab", "merges")}

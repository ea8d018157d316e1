"""A tokenizer by its parts, as `tokenizer.json` has them: its stages, and the rule of its words.

Here each kind of part finds its class. What cannot be followed is named, and refused. Knows no format.
"""

from __future__ import annotations

import gc
import json
import operator
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from tokenizers import models
from transformers import ByT5Tokenizer

from .added import added_stages
from .bpe import Merges
from .letters import UNKNOWN, EndOfWord, Letters, Seams, WholeWords
from .matching import Unfollowed
from .normalising import may_move_beginning, normalized_alphabet, normalizer_stages, real_normalizer
from .splitting import Bytes, marks_beginning, pre_tokenizer_stages
from .stages import Pipeline, Stage
from .vocabulary import WORD_END, Trie, byte_unit, spelled
from .word_rules import BestPaths, LongestMatches, MergedWords, WholeWordRule, WordRule

Config = Mapping[str, Any]


class Rules:
    """What a tokenizer does, by its parts.

    Args:
        tokenizer: one of the tokenizers library, or one that writes bytes.

    Attributes:
        word: what its model says of words.

    Raises:
        Unfollowed: a part of it cannot be followed.
    """

    def __init__(self, tokenizer: Any) -> None:
        parts = _parts_of(tokenizer)
        self._normalizer, self._pre_tokenizer = parts["normalizer"], parts["pre_tokenizer"]
        self._added, self._encodes_special = parts["added_tokens"], parts["encode_special_tokens"]
        self._model = parts["encoder"]
        self._pre_tokenizer_stages = pre_tokenizer_stages(self._pre_tokenizer, normalized=self._normalizer is not None)
        self.word = _word_rule(parts["model"])

    def pipelines(self, characters: Iterable[str]) -> tuple[Pipeline, Pipeline]:
        """The stages from these characters to words, and from them to the units of words.

        Raises:
            Unfollowed: one of them cannot be followed for these characters.
        """
        alphabet = frozenset(characters)
        if marks_beginning(self._pre_tokenizer) and may_move_beginning(self._normalizer, alphabet):
            raise Unfollowed(
                'the scheme "first" of the pre-tokenizer Metaspace behind a normalizer that drops characters'
            )
        written = _written(normalized_alphabet(self._normalizer, alphabet), self._pre_tokenizer)
        cuts, letters = self.word.stages(written)
        to_words = [*self._stages_to_words(alphabet), *cuts]
        return Pipeline(to_words), Pipeline([*to_words, *letters])

    def encode_word(self, word: str) -> list[int]:
        """The tokens of one word, as the model itself gives them."""
        return [token.id for token in self._model.tokenize(word)]

    def _stages_to_words(self, alphabet: frozenset[str]) -> Iterator[Stage]:
        options: dict[str, Any] = {"encode_special": self._encodes_special}
        normalize = None if self._normalizer is None else real_normalizer(self._normalizer)
        yield from added_stages(self._added, alphabet, normalized=False, normalize=None, **options)
        yield from normalizer_stages(self._normalizer, alphabet)
        alphabet = normalized_alphabet(self._normalizer, alphabet)
        yield from added_stages(self._added, alphabet, normalized=True, normalize=normalize, **options)
        yield from self._pre_tokenizer_stages


_UNKNOWN_COSTS = 10.0  # what Unigram takes off for a character that it does not know, beside the least score

_known: weakref.WeakKeyDictionary[Any, tuple[object, Rules | Unfollowed]] = weakref.WeakKeyDictionary()


def rules_of(tokenizer: Any) -> Rules:
    """The tokenizer's rules, read once for as long as it stays as it is.

    Raises:
        Unfollowed: a part of it cannot be followed.
    """
    mark = _mark(tokenizer)
    seen, rules = _known.get(tokenizer, (None, None))
    if rules is None or seen != mark:
        try:
            with _no_collection():
                rules = Rules(tokenizer)
        except Unfollowed as error:
            rules = error
        _known[tokenizer] = mark, rules
    if isinstance(rules, Unfollowed):
        raise rules
    return rules


def _parts_of(tokenizer: Any) -> dict[str, Any]:
    """What `tokenizer.json` says, and the encoder of single words."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        parts: dict[str, Any] = json.loads(backend.to_str())
        return parts | {"encode_special_tokens": bool(backend.encode_special_tokens), "encoder": backend.model}
    if isinstance(tokenizer, ByT5Tokenizer):  # in Python, and yet as simple as can be: each byte is a token
        vocab = {Bytes.character(byte): int(tokenizer.convert_tokens_to_ids(chr(byte))) for byte in range(256)}
        added = [_added_in_python(id, token) for id, token in tokenizer.added_tokens_decoder.items()]
        return {
            "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
            "added_tokens": added,
            "encode_special_tokens": bool(tokenizer.split_special_tokens),
            "encoder": models.BPE(vocab, []),
        }
    raise Unfollowed("it is written in Python, and has no parts to read")


def _added_in_python(id: int, token: Any) -> dict[str, Any]:
    options = ("content", "single_word", "lstrip", "rstrip", "special")
    return {name: getattr(token, name) for name in options} | {"id": id, "normalized": False}


def _mark(tokenizer: Any) -> object:
    """What changes when a tokenizer is changed."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return len(tokenizer), repr(sorted(tokenizer.added_tokens_decoder.items()))
    parts = (backend.normalizer, backend.pre_tokenizer)
    return (
        len(tokenizer),
        bool(backend.encode_special_tokens),
        *(None if part is None else part.__getstate__() for part in parts),
        type(backend.model),
        *(getattr(backend.model, option, None) for option in _OPTIONS),
        *((id, *token.__getstate__().items()) for id, token in sorted(backend.get_added_tokens_decoder().items())),
    )


# What can be set of a model that is in use.
_OPTIONS = (
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
    "max_input_chars_per_word",
)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Reading hundreds of thousands of merges makes no garbage, and looking for it takes longer than reading."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _written(alphabet: frozenset[str], pre_tokenizer: Config | None) -> frozenset[str]:
    """All characters that a pre-tokenizer may write of normalized ones, and perhaps more."""
    described = json.dumps(pre_tokenizer, ensure_ascii=False)
    written = alphabet | {" ", "▁", *re.findall(r'"replacement": "(.*?)"', described)}
    for _ in range(described.count('"ByteLevel"')):
        written |= {unit for character in written for unit in Bytes().read(None, character)[0][1]}
    return written


def _word_rule(model: Config) -> WordRule:
    kind = model.get("type")
    if kind not in _KINDS:
        raise Unfollowed(f"its model, which is of the kind {kind}")
    return _KINDS[kind](model)


def _bpe(model: Config) -> WordRule:
    suffix, prefix = model.get("end_of_word_suffix") or "", model.get("continuing_subword_prefix") or ""
    bytes_alone = bool(model.get("byte_fallback"))
    if ((prefix or suffix) and (bytes_alone or model.get("ignore_merges"))) or (prefix and suffix):
        raise Unfollowed("its mark of a word's pieces, beside other options")
    vocab: dict[str, int] = model["vocab"]
    pieces = _Pieces(vocab, prefix, suffix, bytes_alone)
    merges = Merges(pieces.size, pieces.merges(model["merges"]), pieces.letters, pieces.lengths)
    letters = {spelling: id for spelling, id in pieces.first.items() if len(spelling) == 1}
    whole = {}
    if model.get("ignore_merges"):
        whole = {entry: id for entry, id in vocab.items() if entry and (pieces.is_byte(id) or not merges.reached[id])}
        whole = {entry: id for entry, id in whole.items() if all(letter in letters for letter in entry)}
    made = {id: merges.encode([letters[letter] for letter in entry]) for entry, id in whole.items()}
    reached = {spelling: id for spelling, id in pieces.first.items() if merges.reached[id]}
    first = Trie(reached | whole)
    further = Trie({entry: id for entry, id in pieces.further.items() if merges.reached[id]}) if prefix else first
    marked = {spelling[0] for spelling in pieces.first if len(spelling) == 2 and spelling[1] == WORD_END}
    known = {*letters, *marked, WORD_END, UNKNOWN} if suffix else set(letters)
    known_further = {spelling for spelling in pieces.further if len(spelling) == 1} if prefix else None

    bytes_known = {spelling for spelling, id in pieces.first.items() if pieces.is_byte(id)}
    is_silent = model.get("unk_token") is None
    spell = Letters(known, known_further, bytes_known=bytes_known, is_silent=is_silent)

    def stages(alphabet: frozenset[str]) -> tuple[list[Stage], list[Stage]]:
        if suffix:  # a letter within a word and the same at its end are two
            return [], [EndOfWord(set(letters), marked), spell]
        if prefix or any(alphabet.issuperset(entry) for entry in whole):
            return [], [spell]
        return [Seams(first.pairs_of({unit for c in alphabet for unit in spell.units(c)}), alphabet, spell)], [spell]

    return MergedWords(merges, first, further, stages, made)


class _Pieces:
    """A vocabulary of BPE, by units."""

    def __init__(self, vocab: Mapping[str, int], prefix: str, suffix: str, bytes_alone: bool) -> None:
        self._vocab, self._prefix = vocab, prefix
        self.size = max(vocab.values(), default=0) + 1
        self.first: dict[str, int] = {}
        self.further: dict[str, int] = {}
        self.byte_ids: set[int] = set()
        if not (prefix or suffix or bytes_alone):
            self.first = {entry: id for entry, id in vocab.items() if entry}
        else:
            for entry, id in vocab.items():
                self._add(entry, id, prefix, suffix, bytes_alone)
        self.lengths = np.zeros(self.size, dtype=np.int64)
        self._num_units(self.first)
        self._num_units(self.further)
        self.letters = np.flatnonzero(self.lengths == 1)

    def _add(self, entry: str, id: int, prefix: str, suffix: str, bytes_alone: bool) -> None:
        if prefix and entry.startswith(prefix) and len(entry) > len(prefix):
            self.further[entry.removeprefix(prefix)] = id
            return
        spelling = spelled(entry, bytes_alone=bytes_alone, suffix=suffix)
        if spelling != entry and len(spelling) == 1:
            self.byte_ids.add(id)
        if spelling:
            self.first[spelling] = id

    def _num_units(self, entries: Mapping[str, int]) -> None:
        """The mark at a word's end is no letter of its own."""
        ids = np.fromiter(entries.values(), dtype=np.int64, count=len(entries))
        self.lengths[ids] = np.fromiter(map(len, entries), dtype=np.int64, count=len(entries))
        marked = [id for spelling, id in entries.items() if spelling[-1] == WORD_END]
        self.lengths[marked] -= 1

    def is_byte(self, id: int) -> bool:
        """Whether an entry stands for one byte."""
        return id in self.byte_ids

    def merges(self, merges: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(n_merges, 3) ids of the two, and of what they make."""
        pairs = [merge.split(" ") for merge in merges] if merges and isinstance(merges[0], str) else merges
        if not pairs:
            return np.empty((0, 3), dtype=np.int64)
        ones, others = zip(*pairs, strict=True)
        further = [other[len(self._prefix) :] for other in others] if self._prefix else others
        made = map(operator.add, ones, further)
        ids = [list(map(self._vocab.__getitem__, entries)) for entries in (ones, others, made)]
        return np.array(ids, dtype=np.int64).T


def _word_piece(model: Config) -> WordRule:
    prefix: str = model["continuing_subword_prefix"]
    vocab: dict[str, int] = model["vocab"]
    if not prefix:
        raise Unfollowed("its pieces within a word, which have no mark")
    first = {entry: id for entry, id in vocab.items() if entry}
    further = {
        entry.removeprefix(prefix): id for entry, id in vocab.items() if entry.startswith(prefix) and entry != prefix
    }
    single, more = ({entry for entry in entries if len(entry) == 1} for entries in (first, further))
    letters = Letters(single, more, most=model["max_input_chars_per_word"])
    return LongestMatches(Trie(first), Trie(further), lambda _: ([], [letters]))


def _unigram(model: Config) -> WordRule:
    entries = {entry: id for id, (entry, _) in enumerate(model["vocab"]) if entry and id != model["unk_id"]}
    scores = np.array([score for _, score in model["vocab"]], dtype=np.float64)
    single = {entry for entry in entries if len(entry) == 1}
    byte_ids = {
        spelling: id for entry, id in entries.items() if (spelling := spelled(entry, bytes_alone=True)) != entry
    }
    has_bytes = bool(model.get("byte_fallback")) and len(byte_ids) == 256
    letters = Letters(single, bytes_known=byte_ids if has_bytes else ())
    if has_bytes:
        # A character that is no entry costs what an unknown one does, and is its bytes.
        unknown = float(scores.min()) - _UNKNOWN_COSTS
        scores = scores.copy()
        for spelling, id in byte_ids.items():
            scores[id] = 0.0 if 0x80 <= ord(spelling) - ord(byte_unit(0)) < 0xC0 else unknown
        entries = {
            "".join(unit for character in entry for unit in letters.units(character)): id
            for entry, id in entries.items()
            if spelled(entry, bytes_alone=True) == entry
        } | byte_ids

    def stages(alphabet: frozenset[str]) -> tuple[list[Stage], list[Stage]]:
        if has_bytes and alphabet.issuperset("<0x>"):
            raise Unfollowed("its bytes, which these texts may hold written out")
        return [], [letters]

    return BestPaths(Trie(entries), scores, stages)


def _word_level(model: Config) -> WordRule:
    words = WholeWords(model["vocab"])
    return WholeWordRule(lambda _: ([], [words]))


_KINDS = {"BPE": _bpe, "WordPiece": _word_piece, "Unigram": _unigram, "WordLevel": _word_level}

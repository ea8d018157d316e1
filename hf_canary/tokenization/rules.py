"""A tokenizer by its parts, as `tokenizer.json` has them: its stages, and the rule of its words.

Here each kind of part finds its class. What cannot be followed is named, and refused. Knows no format.
"""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tokenizers import models
from transformers import ByT5Tokenizer

from .added import added_stages
from .bpe import merged_words
from .normalising import Normalizer, real_normalizer
from .splitting import Bytes, marks_beginning, pre_tokenizer_stages, written_alphabet
from .stages import Pipeline, Stage, Unfollowed
from .unigram import best_paths
from .vocabulary import FIRST_OWN_UNIT
from .word_level import whole_words
from .word_piece import longest_matches
from .word_rule import Config, WordRule

# A kind of model → its rule.
_KINDS: Mapping[str, Callable[[Config], WordRule]] = {
    "BPE": merged_words,
    "WordPiece": longest_matches,
    "Unigram": best_paths,
    "WordLevel": whole_words,
}

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

# Methods by which texts are encoded; and those of other classes than transformers' base that encode them alike.
_ENCODING = ("__call__", "_encode_plus")
_ENCODE_ALIKE = (
    "hf_canary.models.tokenizers.LosslessTokenizer._encode_plus",
    "transformers.models.seamless_m4t.tokenization_seamless_m4t.SeamlessM4TTokenizer.__call__",
)

_known: weakref.WeakKeyDictionary[Any, tuple[object, Rules | Unfollowed]] = weakref.WeakKeyDictionary()


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
        self._encode, self._model = parts["encode"], parts["encoder"]
        self._pre_tokenizer_stages = pre_tokenizer_stages(self._pre_tokenizer, normalized=self._normalizer is not None)
        self.word = _word_rule(parts["model"])

    def pipelines(self, characters: Iterable[str]) -> tuple[Pipeline, Pipeline]:
        """The stages from these characters to words, and from them to the units of words.

        Raises:
            Unfollowed: one of them cannot be followed for these characters.
        """
        alphabet = frozenset(characters)
        if any(character >= FIRST_OWN_UNIT for character in alphabet):
            raise Unfollowed("characters of Unicode's last private plane, which stand for other things here")
        self._check_added(alphabet)
        normalizer = Normalizer(self._normalizer, alphabet)
        if marks_beginning(self._pre_tokenizer) and normalizer.may_move_beginning():
            raise Unfollowed('the scheme "first" of the pre-tokenizer Metaspace behind a normalizer that moves text')
        written = written_alphabet(self._pre_tokenizer, normalizer.alphabet)
        cuts, letters = self.word.stages(written)
        to_words = [*self._stages_to_words(alphabet, normalizer), *cuts]
        return Pipeline(to_words), Pipeline([*to_words, *letters])

    def encode_word(self, word: str) -> list[int]:
        """The tokens of one word, as the model itself gives them."""
        return [token.id for token in self._model.tokenize(word)]

    def _stages_to_words(self, alphabet: frozenset[str], normalizer: Normalizer) -> Iterator[Stage]:
        options: dict[str, Any] = {"encode_special": self._encodes_special}
        normalize = None if self._normalizer is None else real_normalizer(self._normalizer)
        yield from added_stages(self._added, alphabet, normalized=False, normalize=None, **options)
        yield from normalizer.stages
        yield from added_stages(self._added, normalizer.alphabet, normalized=True, normalize=normalize, **options)
        yield from self._pre_tokenizer_stages

    def _check_added(self, alphabet: frozenset[str]) -> None:
        """Refuse added tokens that may come, and of which the parts do not say what is done with them."""
        for token in self._added:
            if not token["content"] or not alphabet.issuperset(token["content"]):
                continue
            if self._encode is None:
                raise Unfollowed("an added token, which Python code takes out of these texts")
            # One that was special once stays so for the library, whatever it was made later.
            is_read = self._encodes_special and not token["special"]
            if is_read and self._encode(token["content"]) != [token["id"]]:
                raise Unfollowed("an added token that was special before")


def rules_of(tokenizer: Any) -> Rules:
    """The tokenizer's rules, read once for as long as it stays as it is.

    Raises:
        Unfollowed: a part of it cannot be followed.
    """
    mark = _mark(tokenizer)
    seen, rules = _known.get(tokenizer, (None, None))
    if rules is None or seen != mark:
        try:
            with without_collection():
                rules = Rules(tokenizer)
        except Unfollowed as error:
            rules = error
        _known[tokenizer] = mark, rules
    if isinstance(rules, Unfollowed):
        raise rules
    return rules


def _parts_of(tokenizer: Any) -> dict[str, Any]:
    """What `tokenizer.json` says; the encoder of single words; and that of whole texts, unless it is Python's."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        _check_class(tokenizer)
        parts: dict[str, Any] = json.loads(backend.to_str())
        return parts | {
            "encode_special_tokens": bool(backend.encode_special_tokens),
            "encoder": backend.model,
            "encode": lambda text: backend.encode(text, add_special_tokens=False).ids,
        }
    if isinstance(tokenizer, ByT5Tokenizer):  # in Python, and yet as simple as can be: each byte is a token
        _check_class(tokenizer)
        vocab = {Bytes.character(byte): int(tokenizer.convert_tokens_to_ids(chr(byte))) for byte in range(256)}
        return {
            "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
            "added_tokens": [  # of which none may come
                dict.fromkeys(("normalized", "special", "single_word", "lstrip", "rstrip"), False)
                | {"id": id, "content": token.content}
                for id, token in tokenizer.added_tokens_decoder.items()
            ],
            "encode_special_tokens": False,
            "encoder": models.BPE(vocab, []),
            "encode": None,
        }
    raise Unfollowed("it is written in Python, and has no parts to read")


def _check_class(tokenizer: Any) -> None:
    """Refuse a class that encodes in a way of its own, which its parts say nothing of."""
    for name in _ENCODING:
        namespaces = (vars(tokenizer), *map(vars, type(tokenizer).__mro__))
        method = next((names[name] for names in namespaces if name in names), None)
        if method is None or getattr(method, "__module__", "").startswith("transformers.tokenization_"):
            continue
        if f"{method.__module__}.{method.__qualname__}" not in _ENCODE_ALIKE:
            raise Unfollowed(f"its class {type(tokenizer).__name__}, whose {name} is its own")


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


@contextmanager
def without_collection() -> Iterator[None]:
    """For work that makes hundreds of thousands of things, and no garbage: to look for that would take longer."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _word_rule(model: Config) -> WordRule:
    kind = str(model.get("type"))
    if kind not in _KINDS:
        raise Unfollowed(f"its model, which is of the kind {kind}")
    return _KINDS[kind](model)

"""Tokenizers of characters and of words, trained in one call, lossless, loadable by AutoTokenizer without this package.

A token is a character, or a word with the space before it; a word that has no token is spelled out in characters. So
any text of known characters comes back as it was. A character that was never seen becomes `<|unk|>`, and a warning
in the log names it. Knows text; knows no model and no canary.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from ..errors import ArgumentError, DataError, is_int, kind, shown

logger = logging.getLogger(__name__)

BOUNDARY = "<|endoftext|>"
PAD = "<|pad|>"
UNKNOWN = "<|unk|>"
SPECIAL = (PAD, UNKNOWN, BOUNDARY)
_MOST = 2**31
_SURROGATE = re.compile("[\ud800-\udfff]")
# A digit; a word, the end of a contraction or a run of signs, each with the space before it; a space by itself.
_WORD = (
    r"\p{N}"
    r"| ?<unk>"  # one word in the corpora that spell it
    r"| ?'(?:s|t|re|ve|m|ll|d)(?!\p{L})"
    r"| ?[\p{L}\p{M}_]+"
    r"| ?[^\s\p{L}\p{M}\p{N}_]+"
    r"|\s"
)


class LosslessTokenizer(PreTrainedTokenizerFast):
    """A fast tokenizer that warns of characters which it does not have, each once.

    Without this package it loads as transformers' own class, with the same ids and without the warning.
    """

    def _encode_plus(self, *texts: Any, **options: Any) -> Any:
        encoded = super()._encode_plus(*texts, **options)
        _tell_unknown(self, set().union(*_strings([*texts, options.get("text"), options.get("text_pair")])))
        return encoded


def character_tokenizer(texts: Iterable[str], *, end_token: bool = False) -> LosslessTokenizer:
    """A tokenizer with one token for each character of `texts`.

    `<|endoftext|>` stands before every text that it encodes, and is the token on which its first character is
    conditioned. It is also the token at which `generate` stops, once a model has learned where texts end: where rows
    follow one another in a window, or where `<|endoftext|>` is added behind them, as TRL does. A character that was
    never seen becomes `<|unk|>`. Special tokens that are spelled out in a text are read as such, as trainers and chat
    templates take for granted.

    Args:
        texts: the corpus, or all that is to be read.
        end_token: `<|endoftext|>` behind every text and not before it, as an encoder-decoder model wants.

    Raises:
        DataError: no character at all, or what is no text.

    Example:
        >>> tokenizer = character_tokenizer(["to be or not to be"])
        >>> tokenizer.decode(tokenizer("not to be").input_ids, skip_special_tokens=True)
        'not to be'
    """
    characters = _characters(_checked(texts))
    tokenizer = tokenizers.Tokenizer(models.BPE(_numbered(characters), [], unk_token=UNKNOWN))
    return _finished(tokenizer, end_token)


def word_tokenizer(
    texts: Iterable[str], *, vocab_size: int = 10_000, min_frequency: int = 2, end_token: bool = False
) -> LosslessTokenizer:
    r"""A tokenizer with one token for each frequent word of `texts`, the space before it included.

    A word is a run of letters, or of other signs; a digit is a token of its own. A word without a token is spelled out
    in characters, and a character never seen is `<|unk|>`. `<|endoftext|>` as in `character_tokenizer`.

    Args:
        texts: the corpus.
        vocab_size: tokens at most; characters come first, then words, the frequent ones before the rare.
        min_frequency: how often a word must occur to have a token.
        end_token: `<|endoftext|>` behind every text and not before it, as an encoder-decoder model wants.

    Raises:
        ArgumentError: a `vocab_size` below the number of characters, or another number that is none.
        DataError: no character at all, or what is no text.

    Example:
        >>> tokenizer = word_tokenizer(["to be or not to be"])
        >>> tokenizer.tokenize("to be or to rot")
        ['t', 'o', ' be', ' ', 'o', 'r', ' ', 't', 'o', ' ', 'r', 'o', 't']
    """
    kept = list(_checked(texts))
    characters = _characters(kept)
    least = len(characters) + len(SPECIAL)
    if not is_int(vocab_size) or not least <= vocab_size < _MOST:
        expected = f"a whole number from {least}, for the characters alone, to {_MOST - 1}"
        raise ArgumentError("vocab_size", expected, shown(vocab_size), "Correct it.")
    if not is_int(min_frequency) or not 1 <= min_frequency < _MOST:
        raise ArgumentError(
            "min_frequency", f"a whole number from 1 to {_MOST - 1}", shown(min_frequency), "Leave it out."
        )
    vocab_size, min_frequency = int(vocab_size), int(min_frequency)
    splitter = pre_tokenizers.Split(tokenizers.Regex(_WORD), "isolated")
    counter = tokenizers.Tokenizer(models.WordLevel())
    counter.pre_tokenizer = splitter
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size + len(characters), min_frequency=min_frequency, show_progress=False
    )
    counter.train_from_iterator(kept, trainer)
    frequent = counter.get_vocab()
    words = [word for word in sorted(frequent, key=frequent.__getitem__) if len(word) > 1]
    vocabulary = _numbered([*characters, *words[: vocab_size - least]])
    # A word that is in the vocabulary is taken whole; for any other there are no merges.
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token=UNKNOWN, ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    return _finished(tokenizer, end_token)


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """The texts, one after the other; a single string is one text."""
    if not isinstance(texts, Iterable):
        raise DataError("texts", "strings", kind(texts), "Give the rows of a text column.")
    for text in [texts] if isinstance(texts, str) else texts:
        if not isinstance(text, str):
            raise DataError("texts", "strings", f"one {kind(text)}", "Give the rows of a text column.")
        if not text.isascii() and (surrogate := _SURROGATE.search(text)):
            got = f"U+{ord(surrogate[0]):04X}"
            raise DataError("texts", "characters", f"{got}, half of a pair of surrogates", "Decode the text anew.")
        yield text


def _characters(texts: Iterable[str]) -> list[str]:
    found: set[str] = set()
    for text in texts:
        found.update(text)
    if not found:
        raise DataError("texts", "at least one character", "none", "Give the text that is to be read.")
    return sorted(found)


def _numbered(tokens: Iterable[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate([*SPECIAL, *tokens])}


def _finished(tokenizer: tokenizers.Tokenizer, end_token: bool) -> LosslessTokenizer:
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {BOUNDARY}" if end_token else f"{BOUNDARY} $A",
        pair=f"$A {BOUNDARY} $B {BOUNDARY}" if end_token else f"{BOUNDARY} $A {BOUNDARY} $B",
        special_tokens=[(BOUNDARY, tokenizer.token_to_id(BOUNDARY))],
    )
    return LosslessTokenizer(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=BOUNDARY,
        eos_token=BOUNDARY,
        clean_up_tokenization_spaces=False,
    )


# Kept beside the tokenizers and not in them: a tokenizer that changes with use would change the fingerprints of what
# `datasets` maps with it.
_seen: WeakKeyDictionary[LosslessTokenizer, set[str]] = WeakKeyDictionary()


def _tell_unknown(tokenizer: LosslessTokenizer, characters: set[str]) -> None:
    """Log those among the characters that have no token; each is looked at once."""
    unknown_id = tokenizer.convert_tokens_to_ids(UNKNOWN)
    seen = _seen.setdefault(tokenizer, set())
    new = characters - seen
    seen |= new
    unknown = [character for character in sorted(new) if tokenizer.convert_tokens_to_ids(character) == unknown_id]
    if unknown:
        logger.warning(
            "text: expected characters that the tokenizer was trained on; got %s, read as %s. "
            "Train the tokenizer on text that has them, or leave them out.",
            ", ".join(f"U+{ord(character):04X}" for character in unknown[:8]),
            UNKNOWN,
        )


def _strings(text: Any) -> Iterator[str]:
    """The strings in a text, a batch of texts, or a batch of texts split into words."""
    if isinstance(text, str):
        yield text
    elif isinstance(text, (list, tuple)):
        for part in text:
            yield from _strings(part)

"""The character tokenizer: one token for each character, lossless, loadable by AutoTokenizer without this package.

Knows text; knows no model and no canary.
"""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, processors
from transformers import PreTrainedTokenizerFast

BOUNDARY = "<|endoftext|>"
PAD = "<|pad|>"
UNKNOWN = "<|unk|>"


def character_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each character of `texts`.

    `<|endoftext|>` stands before every text that it encodes: it is both the first token, on which the first character
    is conditioned, and the one that ends a text in `generate`. A character that was never seen becomes `<|unk|>`.
    Special tokens that are spelled out in a text are read as the characters they are.

    Example:
        >>> tokenizer = character_tokenizer(["to be or not to be"])
        >>> tokenizer.decode(tokenizer("not to be").input_ids, skip_special_tokens=True)
        'not to be'
    """
    characters = sorted(set().union(*map(set, texts)))
    vocabulary = {token: number for number, token in enumerate([PAD, UNKNOWN, BOUNDARY, *characters])}
    # Byte-pair encoding without a single merge: twice as fast as splitting, and spaces stay what they are.
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token=UNKNOWN))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOUNDARY} $A", special_tokens=[(BOUNDARY, vocabulary[BOUNDARY])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=BOUNDARY,
        eos_token=BOUNDARY,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
    )

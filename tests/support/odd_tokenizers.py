"""Tokenizers put together by hand, and what a test says of their trees: right, or refused by a reason."""

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from hf_canary.errors import ModelError
from hf_canary.formats import CanaryFormat
from hf_canary.tree.token_tree import TokenTree
from tests.support.trees import check


def numbered(entries):
    return {entry: id for id, entry in enumerate(dict.fromkeys(entries))}


def fast(model, *, normalizer=None, pre_tokenizer=None, added=(), cls=PreTrainedTokenizerFast, **options):
    bare = Tokenizer(model)
    if normalizer is not None:
        bare.normalizer = normalizer
    if pre_tokenizer is not None:
        bare.pre_tokenizer = pre_tokenizer
    bare.add_tokens(list(added))
    return cls(tokenizer_object=bare, eos_token="<end>", **options)


def bpe(entries, merges=(), **options):
    return models.BPE(numbered([*entries, *map("".join, merges)]), list(merges), **options)


def right(tokenizer, template, **spaces):
    check(TokenTree(CanaryFormat(template, spaces=spaces), tokenizer, ask_all=0))


def refused(tokenizer, template, match, **spaces):
    with pytest.raises(ModelError, match=match):
        TokenTree(CanaryFormat(template, spaces=spaces), tokenizer, ask_all=0)


def unknowing(*added):
    """Unigram over `<unk>` spelled out, which is the text of its unknown token, too."""
    model = models.Unigram([("<unk>", 0.0), *((letter, -2.0) for letter in "<unk>a ")], 0, False)
    return fast(model, added=added)


ELSE = "'<unk>', which stands for something else"

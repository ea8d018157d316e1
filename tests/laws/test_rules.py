"""Corners of what a tokenizer's parts say that take long to look into; see tests/unit/tokenization/test_rules.py."""

import pytest
from tokenizers import AddedToken, normalizers, pre_tokenizers

from hf_canary.formats import CanaryFormat
from hf_canary.tree import building
from hf_canary.tree.token_tree import TokenTree
from tests.support.odd_tokenizers import ELSE, bpe, fast, refused, right, unknowing


@pytest.fixture(autouse=True)
def _derived(monkeypatch):
    """None of these small formats is encoded whole in need."""
    monkeypatch.setattr(building, "_ALL_ENCODED_IN_NEED", 0)


def test_a_format_of_more_stretches_than_a_row_has_places():
    tokenizer = fast(bpe("ab "), pre_tokenizer=pre_tokenizers.WhitespaceSplit())
    for count in (63, 64, 65, 127, 128, 200):
        format = CanaryFormat(" ".join(["{x}"] * count), spaces={"x": ["a", "b"]})
        tree = TokenTree(format, tokenizer, end=9)
        tree.assure()
        assert tree.space_size == 2**count


def test_unless_an_added_token_takes_it_out():
    for how in ({"special": True, "normalized": False}, {"normalized": False}, {"normalized": True}):
        right(unknowing(AddedToken("<unk>", **how)), "{x:5}a", x=[*"<unk>"])
    refused(unknowing(AddedToken("<unk>", single_word=True, normalized=False)), "{x:5}a", ELSE, x=[*"<unk>"])
    for normalizer, entries in (
        (normalizers.Replace("\u200d", ""), ["<\u200d", "a"]),
        (normalizers.Replace("\u200d", "<"), ["\u200d", "a"]),
        (normalizers.NFKC(), ["＜", "a"]),
    ):
        tokenizer = unknowing(AddedToken("<unk>", special=True, normalized=False))
        tokenizer.backend_tokenizer.normalizer = normalizer
        refused(tokenizer, "a{x}unk>{x}", f"{ELSE}|its unknown token", x=entries)

"""Texts as a tokenizer sees them: what its backend says alone is what transformers says."""

import pytest
from transformers import PreTrainedTokenizerFast

from hf_canary.errors import ModelError
from hf_canary.tokenization import encoding
from hf_canary.tokenization.contexts import SourceContext
from hf_canary.tokenization.encoding import encode_behind_sources, token_ids
from tests.support.tokenizers_of_all_kinds import KINDS

TEXTS = [f"the pin  is {number}.\nSinning cats" for number in range(40)]


def by_transformers(tokenizer, texts, special=False):
    return [tokenizer(text, add_special_tokens=special)["input_ids"] for text in texts]


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("kind", list(KINDS))
def test_each_text_has_the_ids_that_transformers_gives_it(kind, special):
    """Also where the tokenizer was set to cut and to pad before; it is left as it would be otherwise."""
    tokenizer = KINDS[kind]()
    expected = by_transformers(tokenizer, TEXTS, special)
    if tokenizer.pad_token is not None:
        tokenizer(TEXTS[:2], padding="max_length", truncation=True, max_length=3)
    assert token_ids(tokenizer, TEXTS, special=special) == expected
    assert by_transformers(tokenizer, TEXTS, special) == expected


@pytest.fixture
def asked(monkeypatch):
    """The texts that were asked of a backend."""
    found = []
    original = encoding._by_backend
    monkeypatch.setattr(
        encoding,
        "_by_backend",
        lambda backend, texts, **options: found.extend(texts) or original(backend, texts, **options),
    )
    return found


def test_most_texts_are_asked_of_the_backend(asked):
    """All but the first ones, which are asked of both."""
    token_ids(KINDS["gpt2"](), TEXTS)
    assert asked == TEXTS
    token_ids(KINDS["characters"](), TEXTS[:16])
    assert asked == TEXTS


class Lower(PreTrainedTokenizerFast):
    """One of a user's own, which changes some texts before they are encoded."""

    def _encode_plus(self, text, *args, **options):
        texts = [text] if isinstance(text, str) else text
        return super()._encode_plus([each.replace("39", "12") for each in texts], *args, **options)


def test_a_class_of_the_users_own_is_asked_as_it_is(asked):
    """The first texts cannot tell what it makes of a later one; nor can those of one whose method was put into it."""
    plain = KINDS["gpt2"]()
    own = Lower(tokenizer_object=plain.backend_tokenizer)
    expected = by_transformers(plain, [text.replace("39", "12") for text in TEXTS])
    assert token_ids(own, TEXTS) == expected
    patched = PreTrainedTokenizerFast(tokenizer_object=plain.backend_tokenizer)
    patched._encode_plus = own._encode_plus
    assert token_ids(patched, TEXTS) == expected
    assert asked == []


def test_a_backend_that_says_something_else_is_not_asked_again(asked, monkeypatch):
    """By the first texts."""
    tokenizer = KINDS["gpt2"]()
    expected = by_transformers(tokenizer, TEXTS)
    monkeypatch.setattr(encoding, "_by_backend", lambda _, texts, **options: asked.extend(texts) or [[1]] * len(texts))
    assert token_ids(tokenizer, TEXTS) == expected
    assert len(asked) == 16


@pytest.mark.parametrize("is_told", [True, False])
def test_what_is_unknown_behind_a_source_of_its_own_is_refused(is_told):
    """In the text, also where only the tokenizer's model knows its unknown token; what stands before may hold it."""
    plain = KINDS["characters"]()
    tokenizer = plain if is_told else PreTrainedTokenizerFast(tokenizer_object=plain.backend_tokenizer)
    around = SourceContext("☂ ", " ☂ ")
    assert len(encode_behind_sources(tokenizer, ["the pin"], ["cats ☂"], around).sequences) == 1
    with pytest.raises(ModelError, match=r"represent texts\[1\]; got its unknown token for U\+2603"):
        encode_behind_sources(tokenizer, ["the pin", "☃"], ["cats", "cat"], around)

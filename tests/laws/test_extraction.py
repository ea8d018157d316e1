"""Extraction finds what trying all fills finds, with any tokenizer and on any model."""

import numpy as np
import pytest

from hf_canary import CanaryFormat, extract, log_perplexity
from tests.support import oracles
from tests.support.tokenizers_of_all_kinds import KINDS


@pytest.mark.keeps_random_state
@pytest.mark.parametrize("context", [None, "the "])
def test_candidates_are_those_of_brute_force(model, tokenizer, context):
    """Text, fill and log-perplexity of the ten likeliest, on every kind of model."""
    format = CanaryFormat("pin {digit}{lower}")
    found = extract(model, tokenizer, format, context=context, top_k=10)
    texts = list(format.candidates())
    costs = log_perplexity(model, tokenizer, texts, context=context)
    expected = sorted(range(len(texts)), key=costs.__getitem__)[:10]
    assert found.certified
    assert [candidate.fill for candidate in found.candidates] == expected
    assert [candidate.text for candidate in found.candidates] == [texts[fill] for fill in expected]
    assert [candidate.log_perplexity for candidate in found.candidates] == pytest.approx(costs[expected], abs=1e-3)


@pytest.mark.parametrize("kind", ["gpt2", "llama3", "byte-fallback", "unigram", "wordpiece", "words", "bytes"])
@pytest.mark.parametrize("architecture", ["lstm", "gpt2"])
def test_any_tokenizer_equals_brute_force(kind, architecture):
    """The three likeliest of all fills, where digits and letters merge, by trying all."""
    tokenizer = KINDS[kind]()
    model = oracles.small_model(architecture, len(tokenizer))
    format = CanaryFormat(" the pin is {digit:2} {w}.", spaces={"w": ["a", "an", "ant", "cats"]})
    texts = list(format.candidates())
    costs = log_perplexity(model, tokenizer, texts, context="so")
    best = np.argsort(costs)[:3]
    found = extract(model, tokenizer, format, context="so", top_k=3)
    assert found.certified
    assert [candidate.text for candidate in found.candidates] == [texts[number] for number in best]
    np.testing.assert_allclose([c.log_perplexity for c in found.candidates], costs[best], atol=1e-3)

"""Fills of formats cost what teacher forcing says, on every kind of model and in batches of any size."""

import numpy as np
import pytest

from hf_canary.formats import CanaryFormat
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.tokenization.encoding import encode
from hf_canary.walks.score import score
from tests.support import oracles


@pytest.mark.parametrize("template", ["the pin is {digit:4}", "{digit:2}{luhn}/{digit}", "{w} is {w}."])
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_fills_of_a_format_equal_teacher_forcing(model, tokenizer, template, batch_size):
    """On every kind of model, for fills that share prefixes and for words of different length."""
    format = CanaryFormat(template, spaces={"w": ["a", "ab", "abcdefgh", "z"]})
    texts = [format.render(fill) for fill in format.sample(min(12, format.space_size), 0)]
    encoding = encode(tokenizer, texts, context="the ")
    with evaluating(model):
        found = score(LanguageModel(model, batch_size=batch_size).session, encoding.sequences, encoding.conditioned)
    np.testing.assert_allclose(found, oracles.brute_force(model, tokenizer, texts, "the "), atol=1e-3)

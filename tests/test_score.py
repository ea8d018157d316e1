"""The score walk: Definition 1 for every listed sequence, each shared prefix once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_canary.formats import CanaryFormat
from hf_canary.language_model import LanguageModel, evaluating
from hf_canary.token_tree import encode
from hf_canary.walks.score import score
from tests import oracles

TABLE = oracles.TableModel(8)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.lists(st.integers(0, 7), min_size=0, max_size=6), min_size=1, max_size=12), st.integers(1, 7))
def test_any_sequences_equal_teacher_forcing(tails, batch_size):
    """Duplicates, sequences that begin with one another, any order, any batch size: the sum over each one's tokens."""
    sequences = [[3, 1, *tail] for tail in tails]
    with evaluating(TABLE):
        found = score(LanguageModel(TABLE, batch_size=batch_size).session, sequences, 1)
    expected = [oracles.teacher_forced_bits(TABLE, sequence, 1) for sequence in sequences]
    np.testing.assert_allclose(found, expected, atol=1e-4)


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


@pytest.mark.parametrize("digits", [1, 2, 3, 4])
def test_each_prefix_is_fed_once(lstm, tokenizer, digits):
    """All fills of n digits cost the prompt and one row for each inner node below it: 10 + ... + 10^(n-1)."""
    format = CanaryFormat(f"the pin is {{digit:{digits}}}")
    encoding = encode(tokenizer, list(format.candidates()))
    with evaluating(lstm):
        view = LanguageModel(lstm)
        score(view.session, encoding.sequences, encoding.conditioned)
    prompt = 1 + len("the pin is ")
    assert view.token_rows == prompt + sum(10**depth for depth in range(1, digits))


def test_a_tail_without_a_branch_is_fed_once_and_its_last_token_never(lstm):
    """Two sequences that part at once: the prompt, then each tail but its last token."""
    with evaluating(lstm):
        view = LanguageModel(lstm)
        score(view.session, [[2, 5, 6, 7, 8], [2, 9, 6, 7, 8]], 1)
    assert view.token_rows == 1 + 2 * 3


def test_progress_counts_every_distinct_sequence():
    """What is reported adds up to what was asked."""
    counts = []
    with evaluating(TABLE):
        score(
            LanguageModel(TABLE, batch_size=2).session,
            [[1, a, b] for a in range(4) for b in range(5)],
            1,
            progress=counts.append,
        )
    assert sum(counts) == 20
    assert len(counts) > 1

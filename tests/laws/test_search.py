"""The search finds what brute force finds on random models, in every order, and claims no more than it has proven."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_canary.formats import CanaryFormat
from hf_canary.walks.search import frontier
from tests.support import oracles
from tests.support.repetitions import times
from tests.support.searching import DIGITS, ranking, run


@settings(deadline=None, max_examples=times(60))
@given(
    seed=st.integers(0, 10**6),
    template=st.sampled_from(["pin {digit:2}", "{digit}{luhn}", "{w}{digit}.", "{w} {w}.", "a{digit} {digit}x"]),
    top_k=st.integers(1, 12),
    batch_size=st.integers(1, 40),
    spread=st.sampled_from([0.3, 2.0, 8.0]),
)
def test_the_cheapest_leaves_are_those_of_brute_force(seed, template, top_k, batch_size, spread):
    """Any random model, any batch size, any top_k: the same candidates at the same costs, certified."""
    format = CanaryFormat(template, spaces={"w": ["a", "ab", "b", "cab"]})
    top_k = min(top_k, format.space_size)
    model = oracles.TableModel(len(DIGITS), seed=seed, spread=spread)
    result, texts = run(model, format, top_k=top_k, batch_size=batch_size)
    expected = ranking(model, format)
    assert result.certified
    np.testing.assert_allclose(result.costs, [cost for cost, _ in expected[:top_k]], atol=1e-3)
    assert texts == [text for _, text in expected[:top_k]]
    following = expected[top_k][0] if top_k < format.space_size else math.inf
    assert result.lower_bound <= following + 1e-3


@pytest.mark.parametrize("kind", ["lstm", "gpt2", "llama"])
@pytest.mark.parametrize("seed", range(5))
def test_on_real_architectures(kind, seed):
    """A recurrent state and a key-value cache lead to the answer of brute force."""
    model = oracles.small_model(kind, len(DIGITS), seed)
    format = CanaryFormat("pin {digit:3}")
    result, texts = run(model, format, top_k=10, batch_size=16)
    expected = ranking(model, format)[:10]
    assert texts == [text for _, text in expected]
    np.testing.assert_allclose(result.costs, [cost for cost, _ in expected], atol=1e-3)


@settings(deadline=None, max_examples=times(60))
@given(seed=st.integers(0, 10**6), cap=st.integers(1, 60), batch_size=st.integers(1, 20))
def test_a_capped_search_claims_only_what_holds(seed, cap, batch_size):
    """The cap is kept; every candidate not listed costs at least the bound; certified means cheapest."""
    format = CanaryFormat("{digit:2}{w}.", spaces={"w": ["a", "ab"]})
    model = oracles.TableModel(len(DIGITS), seed=seed, spread=1.0)
    result, texts = run(model, format, top_k=3, max_expanded=cap, batch_size=batch_size)
    expected = ranking(model, format)
    assert result.expanded <= cap
    unlisted = [cost for cost, text in expected if text not in texts]
    assert min(unlisted) >= result.lower_bound - 1e-3
    if result.certified:
        assert texts == [text for _, text in expected[:3]]
    by_text = {text: cost for cost, text in expected}
    np.testing.assert_allclose(result.costs, [by_text[text] for text in texts], atol=1e-3)


@settings(deadline=None, max_examples=times(15))
@given(
    seed=st.integers(0, 10**6),
    strategy=st.sampled_from(["best-first", "depth-first"]),
    top_k=st.integers(1, 12),
    batch_size=st.integers(1, 40),
    opened=st.sampled_from([1, 2, 5]),
)
def test_every_strategy_finds_them_also_with_children_put_off(seed, strategy, top_k, batch_size, opened):
    """Few children opened at once, the others later: the same leaves."""
    format = CanaryFormat("{w}{digit:2}{w}.", spaces={"w": ["a", "ab", "cab"]})
    model = oracles.TableModel(len(DIGITS), seed=seed, spread=2.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(frontier, "_OPENED", opened)
        result, texts = run(model, format, top_k=top_k, batch_size=batch_size, strategy=strategy)
    expected = ranking(model, format)[:top_k]
    assert result.certified
    assert texts == [text for _, text in expected]
    np.testing.assert_allclose(result.costs, [cost for cost, _ in expected], atol=1e-3)

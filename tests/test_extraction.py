"""Extraction: fills with texts and costs that other routes confirm."""

import numpy as np
import pytest

from hf_canary import CanaryFormat, CanarySet, extract, log_perplexity, measure_exposure
from hf_canary.errors import FormatError, ModelError
from tests import oracles
from tests.tokenizers_of_all_kinds import KINDS


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


def test_all_of_a_space_can_be_asked_for(lstm, tokenizer, pin):
    """top_k = |R| ranks everything, and nothing is left to cost anything."""
    found = extract(lstm, tokenizer, pin, top_k=1000)
    assert sorted(candidate.fill for candidate in found.candidates) == list(range(1000))
    assert found.certified
    assert found.lower_bound == float("inf")


def test_a_planted_canary_is_found_among_a_billion(tokenizer):
    """A model that was taught one fill gives it away, proven, after few expansions."""
    format = CanaryFormat("the pin is {digit:9}")
    model = oracles.small_model("lstm", len(tokenizer))
    planted = format.render(123454321)
    import torch

    ids = torch.tensor([tokenizer(planted).input_ids])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    found = extract(model, tokenizer, format)
    assert found.candidates[0].text == planted
    assert found.certified
    assert found.expanded < 1000


def test_without_bos_a_recurrent_model_searches_from_its_initial_state(lstm, tokenizer):
    """A hole first, nothing before it: the candidates of brute force, at log_perplexity's costs."""
    from tests.test_measure import without_bos

    bare, format = without_bos(tokenizer), CanaryFormat("{digit:3}")
    found = extract(lstm, bare, format, top_k=5)
    texts = list(format.candidates())
    costs = log_perplexity(lstm, bare, texts)
    assert [candidate.fill for candidate in found.candidates] == sorted(range(1000), key=costs.__getitem__)[:5]
    assert found.candidates[0].log_perplexity == pytest.approx(costs.min(), abs=1e-3)


def test_the_proof_in_words_claims_no_more_than_holds(tokenizer):
    """Ties are not excluded, so it says likelier; stopped, it gives the bound; alone or several, it says so."""
    even = oracles.TableModel(len(tokenizer), spread=0.0)
    one, three = (extract(even, tokenizer, CanaryFormat("pin {digit:2}"), top_k=k) for k in (1, 3))
    assert one.lower_bound == pytest.approx(one.candidates[0].log_perplexity)
    assert one.proof == "proven: no other candidate is likelier"
    assert three.proof == "proven: no other candidate is likelier than these"
    stopped = extract(even, tokenizer, CanaryFormat("pin {digit:2}"), max_expanded=1)
    assert stopped.proof.startswith("not proven")
    assert f"{stopped.lower_bound:.2f} bits" in stopped.proof


@pytest.mark.parametrize("top_k", [0, 1001, -1, True, 2.0])
def test_bad_top_k(lstm, tokenizer, pin, top_k):
    """One to |R|."""
    with pytest.raises(FormatError, match="top_k"):
        extract(lstm, tokenizer, pin, top_k=top_k)


def test_a_hole_first_needs_something_before_it(tokenizer):
    """A transformer without BOS and context cannot say what comes first."""
    from tests.test_measure import without_bos

    model = oracles.small_model("gpt2", len(tokenizer))
    with pytest.raises(ModelError, match="context"):
        extract(model, without_bos(tokenizer), CanaryFormat("{digit:2}"))


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


@pytest.mark.parametrize("kind", ["characters", "gpt2", "unigram"])
def test_with_an_end_token_candidates_may_be_prefixes_of_others(kind):
    """`cat` and `cats` are told apart by their ends, in extraction and in exposure."""
    tokenizer = KINDS[kind]()
    model = oracles.small_model("lstm", len(tokenizer))
    format = CanaryFormat("the {w}", spaces={"w": ["cat", "cats", "catsing", "a", "an", "ant"]})
    texts = list(format.candidates())
    costs = log_perplexity(model, tokenizer, texts, end=True)
    found = extract(model, tokenizer, format, end=True, top_k=6)
    assert [candidate.text for candidate in found.candidates] == [texts[number] for number in np.argsort(costs)]
    np.testing.assert_allclose([c.log_perplexity for c in found.candidates], np.sort(costs), atol=1e-3)
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=2, seed=0)
    for exposure, canary in zip(
        measure_exposure(model, tokenizer, canaries, estimators=["sampled"], end=True), canaries, strict=True
    ):
        rank = (costs <= costs[canary.fill] + 1e-9).sum()
        assert exposure.value == pytest.approx(np.log2(6 / rank), abs=1e-6)
    with pytest.raises(FormatError, match="prefixes"):
        extract(model, tokenizer, format)


def test_encoder_decoders_are_sent_to_log_perplexity(tokenizer, pin):
    """Where a source has no place, the error says what has."""
    with pytest.raises(ModelError, match="log_perplexity"):
        extract(oracles.small_translation("gru", True, len(tokenizer)), tokenizer, pin)

"""Extraction finds what trying all fills finds, with any tokenizer and on any model."""

import numpy as np
import pytest

from hf_canary import CanaryFormat, extract, log_perplexity
from hf_canary.extraction import exact_rank
from hf_canary.walks.search import checkpoint as checkpoints
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


class _Stop(Exception):
    pass


@pytest.mark.parametrize("strategy", ["auto", "best-first", "depth-first", "paper"])
@pytest.mark.parametrize("after", [1, 2, 3, 7])
def test_a_killed_search_goes_on_from_its_checkpoint(lstm, tokenizer, tmp_path, monkeypatch, strategy, after):
    """The same answer and the same count as in one go."""
    monkeypatch.setattr(checkpoints, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "_SHARE", 1e9)
    format, options = CanaryFormat("the pin is {digit:4}"), {"top_k": 3, "strategy": strategy, "batch_size": 8}
    whole = extract(lstm, tokenizer, format, **options)
    seen = []

    def stop(now):
        seen.append(now)
        if len(seen) == after:
            raise _Stop

    with pytest.raises(_Stop):
        extract(lstm, tokenizer, format, checkpoint=tmp_path / "kept", progress=stop, **options)
    assert extract(lstm, tokenizer, format, checkpoint=tmp_path / "kept", **options) == whole
    again = []
    assert extract(lstm, tokenizer, format, checkpoint=tmp_path / "kept", progress=again.append, **options) == whole
    assert again == []


def test_a_killed_count_goes_on_from_its_checkpoint(lstm, tokenizer, tmp_path, monkeypatch):
    """The same ranks and the same count."""
    monkeypatch.setattr(checkpoints, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "_SHARE", 1e9)
    format, fills = CanaryFormat("the pin is {digit:4}"), [17, 4242, 9000]
    whole = exact_rank(lstm, tokenizer, format, fills, batch_size=16)
    exact_rank(lstm, tokenizer, format, fills, batch_size=16, max_seconds=0.05, checkpoint=tmp_path / "kept")
    assert exact_rank(lstm, tokenizer, format, fills, batch_size=16, checkpoint=tmp_path / "kept") == whole


def test_where_memory_is_scarce_dear_fills_are_left_out(lstm, tokenizer, tmp_path):
    """Deepest first, ranks come at the end alone: it is the end of those that the cap allows. A higher cap begins
    anew with all of them.
    """
    format, kept, memory = CanaryFormat("the pin is {digit:5}"), tmp_path / "kept", 200_000
    by_cost = [candidate.fill for candidate in extract(lstm, tokenizer, format, top_k=200).candidates]
    fills = [99_999, by_cost[199], by_cost[0]]
    whole = exact_rank(lstm, tokenizer, format, fills)
    assert whole[1].expected < 0.5 * whole[0].expected
    cap = int(1.3 * whole[1].expected) + 100
    capped = exact_rank(lstm, tokenizer, format, fills, max_expanded=cap, max_memory=memory, checkpoint=kept)
    assert [rank.rank for rank in capped[1:]] == [rank.rank for rank in whole[1:]]
    assert capped[0].rank is None
    assert capped[0].low <= whole[0].rank <= capped[0].high
    assert capped[0].stopped == ""  # what was left to count was counted
    hurried = exact_rank(lstm, tokenizer, format, fills, max_memory=memory, max_expanded=cap + 1, checkpoint=kept)
    assert hurried == capped  # which is no reason to begin anew
    for seconds in (1e-9, 0.05):  # nor does one that has begun anew forget them
        hurried = exact_rank(lstm, tokenizer, format, fills, max_memory=memory, max_seconds=seconds, checkpoint=kept)
        assert [(rank.rank, rank.ties) for rank in hurried[1:]] == [(rank.rank, rank.ties) for rank in whole[1:]]
    again = exact_rank(lstm, tokenizer, format, fills, max_memory=memory, checkpoint=kept)
    assert [(rank.rank, rank.ties) for rank in again] == [(rank.rank, rank.ties) for rank in whole]


def test_runs_in_a_hurry_add_up(lstm, tokenizer, tmp_path):
    """Where memory is scarce as well: each goes on from the one before, whatever its time allows."""
    format, kept, memory = CanaryFormat("the pin is {digit:5}"), tmp_path / "kept", 200_000
    (whole,) = exact_rank(lstm, tokenizer, format, [99_999], max_memory=memory)
    (found,) = exact_rank(lstm, tokenizer, format, [99_999], max_memory=memory, max_expanded=6000, checkpoint=kept)
    done = found.expanded
    for _ in range(100):
        (found,) = exact_rank(lstm, tokenizer, format, [99_999], max_memory=memory, max_seconds=0.2, checkpoint=kept)
        assert found.expanded >= done
        done = found.expanded
        if found.rank is not None:
            break
        assert found.stopped == "max_seconds"
        assert found.low <= whole.rank <= found.high
    assert found.rank == whole.rank

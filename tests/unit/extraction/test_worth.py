"""What stands beside a proof: closed forms, brute force on small spaces; words that claim no leak and exclude none."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_canary import Canary, CanaryFormat, CanarySet, exact_rank, extract, log_perplexity, measure_exposure
from hf_canary.errors import ArgumentError, CanaryError, DataError, counted
from hf_canary.estimators.worth import canary_in_words, guesses_for, in_words, ranks_of_listed
from hf_canary.extraction import iter_extract
from hf_canary.models import character_tokenizer
from hf_canary.tree.token_tree import Unlike
from hf_canary.walks.search.search import Search
from tests.support import oracles
from tests.support.errors import check_error
from tests.support.tokenizers_of_all_kinds import KINDS

PIN = CanaryFormat("the pin is {digit:3}")


def canary_of(format, fill, name="mine"):
    return Canary(name, format, fill, (fill + 1) % format.space_size, 1)


def flat(tokenizer):
    """A model to which all tokens are equally likely."""
    model = oracles.small_model("lstm", len(tokenizer))
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    return model


@pytest.fixture(scope="module", params=["lstm", "gpt2", "llama", "table"])
def searched(request, tokenizer):
    """(model, brute force's cost of each fill, what extract found among them)."""
    model = oracles.small_model(request.param, len(tokenizer))
    costs = np.array(oracles.brute_force(model, tokenizer, list(PIN.candidates())))
    return model, costs, extract(model, tokenizer, PIN, top_k=7)


# ---------------------------------------------------------------------------------------------------- brute force


def test_the_typical_candidate_is_the_median_of_the_references(searched, tokenizer):
    """Of 256 random fills by their full passes; of all of R, where so many are asked for; of none, where none are."""
    model, costs, found = searched
    some = PIN.sample(256, "typical")
    assert found.typical == pytest.approx(np.median(costs[some]), abs=1e-3)
    assert found.margin == pytest.approx(np.median(costs[some]) - costs.min(), abs=1e-3)
    assert (found.num_references, found.space_size) == (256, 1000)
    assert found.least_reference == pytest.approx(costs[some].min(), abs=1e-3)
    whole = extract(model, tokenizer, PIN, num_references=5000)
    assert whole.num_references == 1000
    assert whole.typical == pytest.approx(np.median(costs), abs=1e-3)
    none = extract(model, tokenizer, PIN, top_k=7, num_references=0)
    assert (none.num_references, none.reference_rows) == (0, 0)
    assert math.isnan(none.typical)
    assert math.isnan(none.margin)
    assert found.expanded == none.expanded
    assert found.reference_rows > 0


def test_queries_count_the_fill_alone(searched, tokenizer):
    """Sampling behind the fixed text: n = ⌈ln ½ / ln(1 − p)⌉ with p the product of the fill's own probabilities, by
    full passes; as a measurement has it of the same fill, and as one candidate after another has it.
    """
    model, _, found = searched
    fixed = len(tokenizer("the pin is ").input_ids)
    for candidate in found.candidates:
        bits = oracles.teacher_forced_bits(model, tokenizer(candidate.text).input_ids, fixed)
        expected = math.log(0.5) / math.log1p(-(2.0**-bits))
        assert candidate.queries == pytest.approx(math.ceil(expected), rel=1e-3, abs=1)
    best = found.candidates[0]
    report = measure_exposure(
        model, tokenizer, CanarySet((canary_of(PIN, best.fill),), 0), num_references=50, bootstrap=0
    )
    assert report.queries_to_extract()["mine"] == pytest.approx(best.queries, rel=1e-3, abs=1)
    assert next(iter_extract(model, tokenizer, PIN)).queries == pytest.approx(best.queries, rel=1e-3, abs=1)


def test_a_listed_candidate_has_its_rank(searched, tokenizer):
    """By counting all of R: so many cost no more, but for rounding; so a canary among them has its exposure, as
    exact_rank has it, and no other candidate has one.
    """
    model, costs, found = searched
    assert found.certified
    for place, candidate in enumerate(found.candidates):
        rank = (costs <= costs[candidate.fill] + 1e-4).sum()
        assert candidate.rank == rank == place + 1
        assert (candidate.canary, found.num_canaries) == ("", 0)
        assert math.isnan(candidate.exposure)
    fill = found.candidates[2].fill
    canaries = [canary_of(PIN, int(costs.argmax()), "last"), canary_of(PIN, fill)]
    again = extract(model, tokenizer, PIN, top_k=7, canaries=canaries)
    assert [candidate.canary for candidate in again.candidates] == ["", "", "mine", "", "", "", ""]
    assert again.num_canaries == 2
    assert again.candidates[2].exposure == pytest.approx(math.log2(1000 / 3))
    assert [rank.rank for rank in exact_rank(model, tokenizer, PIN, [fill])] == [again.candidates[2].rank]


def test_the_same_with_end_token_context_and_source(tokenizer):
    """The end counts as a part of the fill, the context and the source do not."""
    format = CanaryFormat("pin is {digit:2}")
    model = oracles.small_translation("gru", True, len(tokenizer))
    found = extract(model, tokenizer, format, source="abc", end=True, top_k=100, num_references=100)
    texts, sources = list(format.candidates()), ["abc"] * 100
    costs = log_perplexity(model, tokenizer, texts, sources=sources, end=True)
    assert found.typical == pytest.approx(np.median(costs), abs=1e-3)
    shared = log_perplexity(model, tokenizer, ["pin is "], sources=["abc"])[0]
    for candidate in found.candidates:
        p = 2.0 ** (shared - costs[candidate.fill])
        assert candidate.queries == pytest.approx(max(1, math.ceil(math.log(0.5) / math.log1p(-p))), rel=1e-3, abs=1)
    model = oracles.small_model("gpt2", len(tokenizer))
    found = extract(model, tokenizer, format, context="the ", num_references=100)
    costs = log_perplexity(model, tokenizer, texts, context="the ")
    assert found.typical == pytest.approx(np.median(costs), abs=1e-3)
    assert found.margin == pytest.approx(np.median(costs) - costs.min(), abs=1e-3)


# --------------------------------------------------------------------------------------------------- edges of ranks


def test_where_all_are_alike_no_rank_is_claimed_before_all_are_listed(tokenizer):
    """To a model that knows nothing all candidates cost the same: rank |R| each (Definition 2), exposure 0, and nothing
    below the typical one; of three that are listed the rank is not known.
    """
    model, known = flat(tokenizer), [canary_of(PIN, fill, str(fill)) for fill in range(1000)]
    few = extract(model, tokenizer, PIN, top_k=3, canaries=known)
    assert [candidate.rank for candidate in few.candidates] == [None] * 3
    assert all(candidate.canary and math.isnan(candidate.exposure) for candidate in few.candidates)
    whole = extract(model, tokenizer, PIN, top_k=1000, canaries=known)
    assert {candidate.rank for candidate in whole.candidates} == {1000}
    assert {candidate.exposure for candidate in whole.candidates} == {0.0}
    assert whole.margin == pytest.approx(0.0, abs=1e-4)
    bits = 3 * math.log2(len(tokenizer))
    assert whole.candidates[0].queries == pytest.approx(math.log(0.5) / math.log1p(-(2.0**-bits)), abs=1)


def test_a_capped_search_has_the_ranks_that_it_has_proven(lstm, tokenizer):
    """Whatever the cap, a rank that is said is that of enumeration."""
    costs = log_perplexity(lstm, tokenizer, list(PIN.candidates()))
    said = []
    for cap in (5, 20, 60, 90):
        for candidate in extract(lstm, tokenizer, PIN, top_k=12, max_expanded=cap, strategy="best-first").candidates:
            if candidate.rank is not None:
                assert candidate.rank == (costs <= costs[candidate.fill] + 1e-4).sum()
            said.append(candidate.rank)
    assert None in said
    assert 1 in said


def test_a_canary_that_is_encoded_as_another_fill_is_known():
    """Where the tokenizer lowers all, AB is listed as ab; it is the canary all the same, and its rank counts all."""
    tokenizer = KINDS["wordpiece"]()
    format = CanaryFormat("pin {w}{w}", spaces={"w": [*"abAB"]})
    model = oracles.small_model("gpt2", len(tokenizer))
    found = extract(model, tokenizer, format, top_k=4, canaries=[canary_of(format, f, str(f)) for f in range(16)])
    assert found.collisions
    assert [candidate.rank for candidate in found.candidates] == [4, 8, 12, 16]
    assert all(candidate.canary for candidate in found.candidates)
    assert [candidate.exposure for candidate in found.candidates] == pytest.approx([2, 1, math.log2(16 / 12), 0])
    for fill in range(16):
        again = extract(model, tokenizer, format, top_k=4, canaries=[canary_of(format, fill)])
        (named,) = [candidate for candidate in again.candidates if candidate.canary == "mine"]
        assert named.text.lower() == format.render(fill).lower()


@given(costs=st.lists(st.integers(0, 6), min_size=1, max_size=12), listed=st.integers(1, 12), data=st.data())
def test_ranks_of_listed_are_those_of_counting(costs, listed, data):
    """Whatever candidates, however many of them alike, and however many listed."""
    costs = sorted(map(float, costs))
    copies = data.draw(st.lists(st.integers(1, 10**20), min_size=len(costs), max_size=len(costs)))
    noise = data.draw(st.lists(st.floats(-4e-5, 4e-5), min_size=len(costs), max_size=len(costs)))
    noisy = sorted(cost + shift for cost, shift in zip(costs, noise, strict=True))
    listed = min(listed, len(costs))
    unlisted = noisy[listed] if listed < len(costs) else math.inf
    for place, rank in enumerate(ranks_of_listed(noisy[:listed], copies[:listed], unlisted)):
        expected = sum(number for cost, number in zip(costs, copies, strict=True) if cost <= costs[place])
        assert rank == (None if listed < len(costs) and costs[listed] == costs[place] else expected)


def test_ranks_beyond_64_bits_are_whole():
    """2^63 and two more."""
    assert ranks_of_listed([0.0, 0.0, 0.0], [1, 1, 2**63], math.inf) == [2**63 + 2] * 3


# ------------------------------------------------------------------------------------------------ what is left out


def test_without_time_the_references_are_left_out_and_it_says_so(lstm, tokenizer):
    """A search that had none, and one that was interrupted."""
    format = CanaryFormat("the pin is {digit:6}")
    assert math.isnan(extract(lstm, tokenizer, format, max_seconds=1e-9).typical)
    hurried = extract(lstm, tokenizer, format, max_seconds=1e-4, num_references=10**6)
    assert hurried.num_references < 10**6
    words = in_words(3.0, 4.0, math.nan, math.nan, 0, 1000)
    assert "left out" in words[0]
    assert extract(lstm, tokenizer, format, max_seconds=60.0).num_references == 256


def test_long_candidates_are_scored_in_smaller_numbers(tokenizer):
    """What the references cost does not grow with the length of a candidate, down to 32 of them."""
    format, model = CanaryFormat("{digit:200}"), flat(tokenizer)
    found = extract(model, tokenizer, format, max_expanded=3)
    assert found.num_references == 2**14 // 200
    assert not found.certified


def test_a_reference_that_is_cheaper_than_what_is_proven_is_an_error(lstm, tokenizer, monkeypatch):
    """A proof that a random candidate refutes is not given out."""
    bound = Search.lower_bound.fget
    monkeypatch.setattr(Search, "lower_bound", property(lambda search: bound(search) + 20.0))
    with pytest.raises(Unlike) as caught:
        extract(lstm, tokenizer, PIN)
    check_error(caught.value, Unlike, "tokenizer")


@pytest.mark.parametrize("wrong", [5, "text", [], ["text"], [PIN]])
def test_what_are_no_canaries_of_the_format_is_said(lstm, tokenizer, wrong):
    """Before any work; also a set of another format, of which no candidate could be."""
    with pytest.raises(DataError if wrong == [] else ArgumentError) as caught:
        extract(lstm, tokenizer, PIN, canaries=wrong)
    check_error(caught.value, CanaryError, "canaries")
    other = CanarySet.draw(CanaryFormat("the pin is {digit:4}"), repetitions=(1,), per_repetition=2)
    with pytest.raises(DataError, match="2 of other formats"):
        extract(lstm, tokenizer, PIN, canaries=other)
    for number in (-1, 1.5, "256", True):
        with pytest.raises(ArgumentError) as caught:
            extract(lstm, tokenizer, PIN, num_references=number)
        check_error(caught.value, ArgumentError, "num_references")


def test_canaries_of_another_context_are_known_by_their_text(lstm, tokenizer):
    """A format that writes the same text has the same candidate; others of the set are not counted."""
    best = extract(lstm, tokenizer, PIN).candidates[0]
    mixed = [canary_of(CanaryFormat("the pin is {digit}{digit:2}"), best.fill), canary_of(CanaryFormat("{digit:9}"), 1)]
    found = extract(lstm, tokenizer, PIN, canaries=mixed)
    assert (found.candidates[0].canary, found.num_canaries) == ("mine", 1)


@pytest.mark.parametrize(("size", "guesses"), [(1, 1), (2, 1), (3, 2), (1000, 693), (10**9, 693_147_181)])
def test_blind_guesses(size, guesses):
    """The first n with 1 − (1 − 1/|R|)^n ≥ ½."""
    assert guesses_for(size) == guesses
    if size < 10**6:
        assert 1 - (1 - 1 / size) ** guesses >= 0.5 - 1e-12
        assert guesses == 1 or 1 - (1 - 1 / size) ** (guesses - 1) < 0.5


# ----------------------------------------------------------------------------------------------------------- words


def test_on_random_weights_it_reads_as_no_leak_and_excludes_none(tokenizer):
    """For models that saw no text: sampling gives the likeliest away no sooner than guessing, and it says that every
    model has a likeliest; what is said is what was measured.
    """
    format = CanaryFormat("the pin is {digit:6}")
    for seed in range(3):
        found = extract(oracles.small_model("lstm", len(tokenizer), seed), tokenizer, format)
        assert found.certified
        typical, sampling, every = found.worth
        assert f"costs {found.typical:.2f} bits" in typical
        assert f"least costs {found.least_reference:.2f}" in typical
        assert f"the likeliest lies {found.margin:.2f} bits below" in typical
        assert f"{counted(found.candidates[0].queries)} samples" in sampling
        assert "693,147 blind guesses: sampling gives it away no sooner than guessing" in sampling
        assert "Every model has a likeliest candidate" in every
        assert not any(word in " ".join(found.worth) for word in ("leaked", "memorised", "safe"))


def test_a_taught_fill_stands_out():
    """What was memorised lies far below all that are drawn, comes out at once, and has an exposure of log2|R|."""
    tokenizer = character_tokenizer(["the pin is 0123456789"])
    model = oracles.small_model("lstm", len(tokenizer))
    format = CanaryFormat("the pin is {digit:9}")
    ids = torch.tensor([tokenizer(format.render(123454321)).input_ids])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    found = extract(model, tokenizer, format, canaries=[canary_of(format, 123454321)])
    best = found.candidates[0]
    assert (best.canary, best.rank) == ("mine", 1)
    assert best.exposure == pytest.approx(math.log2(10**9))
    assert best.queries < 10
    assert found.least_reference - best.log_perplexity > 20
    assert re.search(r"gives it away [\d,]{10,} times sooner", found.worth[1])


def test_words_of_edges():
    """Impossible, dearer than typical, beyond numbers; a canary's chance is a bound for so many canaries."""
    assert "impossible" in in_words(3.0, 4.0, math.inf, 30.0, 256, 1000)[0]
    assert "3.00 bits above" in in_words(43.0, 4.0, 40.0, 30.0, 256, 1000)[0]
    assert "more than 10^307 samples" in in_words(3.0, math.inf, 40.0, 30.0, 256, 10**5000)[1]
    assert "no sooner" in in_words(3.0, 693.0, 40.0, 30.0, 256, 1000)[1]
    assert "gives it away 693 times sooner" in in_words(3.0, 1.0, 40.0, 30.0, 256, 1000)[1]
    assert "more than 10^307 times sooner" in in_words(3.0, 1.0, 40.0, 30.0, 256, 10**5000)[1]
    assert canary_in_words("f0-x1-0", 1, 9.97, 1000, 1, drawn=True).endswith(
        "exposure 9.97 bits; one that was never trained on ranks so high at most once in 1,000 times"
    )
    assert "one of 12 that were never trained on ranks so high at most once in 41 times" in canary_in_words(
        "f0-x1-0", 2, 8.97, 1000, 12, drawn=True
    )
    assert "as often as not" in canary_in_words("f0-x1-0", 600, 0.74, 1000, 1, drawn=True)
    assert canary_in_words("f0-x1-0", 1, 9.97, 1000, 12, drawn=False).endswith("rank 1, exposure 9.97 bits")
    assert "others may be as likely" in canary_in_words("f0-x1-0", None, math.nan, 1000, 12, drawn=True)
    assert [counted(n) for n in (1.0, 12_345.0, 10**12, 10.0**40, 10**5000)] == [
        "1",
        "12,345",
        "10^12.0",
        "10^40.0",
        "10^5000.0",
    ]

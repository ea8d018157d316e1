"""Ranks counted by a bounded walk, against every candidate read by itself; and every exact route to one number."""

import math
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hf_canary import CanaryFormat, CanarySet, exact_rank, extract, log_perplexity, measure_exposure
from hf_canary.estimators.exposures import exact, exposure_of_rank, of_rank, sampled
from hf_canary.extraction import exact_ranks, iter_extract
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.measurement import estimator_choice, observations, ranking
from hf_canary.measurement.sampling import SampledFills
from hf_canary.runtime import deadline
from hf_canary.runtime.deadline import Deadline
from hf_canary.tree.token_tree import TokenTree
from tests.support import oracles
from tests.support.tokenizers_of_all_kinds import KINDS
from tests.support.worlds import SPACES, counted, of_kind, world
from tests.support.worlds import impossible as impossible_world


def test_only_cheap_prefixes_are_read():
    """The work is the number of inner prefixes up to the bound, one less, and there are bounds alone, which hold."""
    here = world("characters", "lstm", "the pin is {digit:3}", seed=1)
    by_cost = sorted(here.candidates, key=lambda each: each.bits)
    fill = here.fill(by_cost[20].path)
    (whole,) = counted(here, [fill])
    assert 0 < whole.expanded < 111
    assert whole.rank == whole.low == whole.high == 21
    (less,) = counted(here, [fill], max_expanded=whole.expanded - 1)
    assert less.rank is None
    assert less.low <= 21 <= less.high < 1000
    (enough,) = counted(here, [fill], max_expanded=whole.expanded)
    assert enough.rank == 21


def test_the_cheaper_ones_are_counted_where_the_costlier_ones_are_too_many(lstm, tokenizer, monkeypatch):
    """A forecast that was too low for one canary takes no other's exact rank."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:4}"), repetitions=(1,), per_repetition=3, seed=0)
    whole = measure_exposure(lstm, tokenizer, canaries, estimators=["exact"], num_references=5)
    by_cost = sorted(e.log_perplexity for e in (*whole, *whole.twins))
    monkeypatch.setattr(SampledFills, "expected_expansions", lambda sampled, cost: 1.0)
    monkeypatch.setattr(estimator_choice, "_MOST_EXPANDED", 900)
    some = measure_exposure(lstm, tokenizer, canaries, estimators=["exact"], num_references=5)
    pairs = list(zip((*whole, *whole.twins), (*some, *some.twins), strict=True))
    assert any(math.isnan(other.value) for _, other in pairs)
    cheapest = next(pair for pair in pairs if pair[0].log_perplexity == by_cost[0])
    assert cheapest[0].value == cheapest[1].value


@pytest.mark.parametrize("name", ["lstm", "llama", "jamba"])
@pytest.mark.parametrize("batch_size", [7, None])
def test_ranks_in_half_precision(name, batch_size):
    """A fill costs in this walk otherwise than in any other, by much more than float32 does: it is found all the same,
    and its rank is that of its cost as far as the precision goes.
    """
    tokenizer = KINDS["characters"]()
    model = oracles.small_model(name, len(tokenizer), seed=1).eval().to(torch.bfloat16)
    format = CanaryFormat("the pin is {digit:3}")
    costs = log_perplexity(model, tokenizer, list(format.candidates()))
    fills = np.argsort(costs)[[0, 5, 50, 500, 999]].tolist()
    for fill, rank in zip(fills, exact_rank(model, tokenizer, format, fills, batch_size=batch_size), strict=True):
        least, most = ((costs <= costs[fill] + slack).sum() for slack in (-0.5, 0.5))
        assert rank.rank is not None
        assert least < rank.rank <= most
        assert rank.low == rank.high == rank.rank


def test_a_thousand_fills_in_one_walk():
    """More than are opened at once below one prefix; each rank once, from 1 to |R|."""
    tokenizer = KINDS["characters"]()
    model = oracles.small_model("lstm", len(tokenizer), seed=1).eval()
    ranks = exact_rank(model, tokenizer, CanaryFormat("the pin is {digit:3}"), range(1000))
    for place, rank in enumerate(sorted(ranks, key=lambda rank: rank.rank), start=1):
        assert abs(rank.rank - place) <= rank.ties


def test_candidates_that_cost_the_same_are_ties():
    """A model without preferences: all of R has one cost, up to rounding, and all of them count."""
    here = world("characters", "table", "pin {digit:2}", spread=0.0)
    (rank,) = counted(here, [37])
    assert rank.ties == 99
    estimate = of_rank(100, 100, ties=99)
    assert estimate.flags == ("ties",)
    assert estimate.value == 0.0


def test_what_is_memorised_is_counted_without_draws(sure, tokenizer, memorised, monkeypatch):
    """However little time there is for them: its own prefixes and a few others tell all, of a rank and an exposure."""
    refused = []
    monkeypatch.setattr(exact_ranks, "draw", lambda *_, **__: refused.append("rank"))
    (rank,) = exact_rank(sure, tokenizer, memorised[0].format, [memorised[0].fill])
    assert (rank.rank, rank.low, rank.high, rank.expected, refused) == (1, 1, 1, None, [])
    monkeypatch.setattr(observations, "draw", lambda *_, **__: refused.append("exposure"))
    exact_one, auto = measure_exposure(sure, tokenizer, memorised, estimators=["exact", "auto"], num_references=1000)
    assert exact_one.value == exact_one.low == auto.value == auto.low == pytest.approx(math.log2(10**6))
    assert auto.method == "exact"


def test_what_is_memorised_is_counted_though_the_tree_takes_the_time(sure, tokenizer, memorised, monkeypatch):
    """Before more references are scored; it is no leak that looks safe because a vocabulary is large."""
    assure, passed = TokenTree.assure, [0.0]

    def slowly(tree, *arguments):
        passed[0] += 1000.0
        assure(tree, *arguments)

    monkeypatch.setattr(TokenTree, "assure", slowly)
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0]))
    (auto,) = measure_exposure(sure, tokenizer, memorised, estimators=["auto"], max_seconds=1000.0)
    assert passed[0] >= 1000.0
    assert auto.method == "exact"
    assert auto.value == auto.low == pytest.approx(math.log2(10**6))


def test_where_no_time_is_left_to_foresee_it_is_counted_on(lstm, tokenizer, monkeypatch):
    """The rank of a fill that takes thousands of prefixes, without a forecast."""
    monkeypatch.setattr(exact_ranks, "draw", lambda *_, **__: None)
    format = CanaryFormat("the pin is {digit:4}")
    (rank,) = exact_rank(lstm, tokenizer, format, [4711])
    monkeypatch.undo()
    (foreseen,) = exact_rank(lstm, tokenizer, format, [4711])
    assert rank.rank == foreseen.rank
    assert rank.expanded == foreseen.expanded > 256
    assert rank.expected is None
    assert foreseen.expected > 256


def test_a_count_has_all_the_time_that_is_left(monkeypatch):
    """And a first measurement a part of it."""
    here = world("characters", "lstm", "the pin is {digit:3}", seed=1)
    fill = here.fill(sorted(here.candidates, key=lambda each: each.bits)[-1].path)
    monkeypatch.setattr(Deadline, "part", lambda deadline, share: Deadline(1e-9))
    with evaluating(here.model) as bare:
        view = LanguageModel(bare, batch_size=4)

        def walk():
            session = view.session(here.tree.prompt, here.tree.depth, mixed=True)
            return ranking.Ranking(view, session, here.tree, [fill], max_memory=view.max_memory)

        first = walk()
        assert first.first_pass(deadline=Deadline(600)) == ""
        assert not first.search.is_over
        (rank,) = walk().count(deadline=Deadline(600))
    assert rank.rank == 1000


# ---------------------------------------------------------------------------------------------- ties and infinity


def test_one_rule_of_ties_for_scored_and_for_counted_ranks():
    """Fills that cost the same but for rounding have one rank, that of Definition 2, however they were counted; the
    interval ends where all ties cost more.
    """
    generator = np.random.default_rng(0)
    likelier, dearer = generator.uniform(5.0, 9.0, 240), generator.uniform(11.0, 20.0, 679)
    tied = 10.0 + generator.uniform(0.0, 5e-7, 81)
    others = np.concatenate([likelier, dearer])
    for cost in tied[:3]:
        rest = np.concatenate([others, np.delete(tied, tied.tolist().index(cost))])
        (estimate,) = exact([cost], rest, 1000)
        assert estimate == replace(of_rank(321, 1000, ties=80), details=estimate.details)
        assert (estimate.low, estimate.high) == (exposure_of_rank(321, 1000), exposure_of_rank(241, 1000))
        assert estimate.flags == ("ties",)
    (part,) = sampled(tied[:1], others[::2], 1000)
    assert "ties" not in part.flags
    (part,) = sampled(tied[:1], np.concatenate([others[::2], tied[1:]]), 1000)
    assert part.flags == ("ties",)
    assert part.details["hits"] == 80 + (others[::2] < 10).sum()


def test_ties_of_a_model_are_the_same_by_every_route():
    """A digit that costs as much as another, to a ten millionth of a bit: scored, counted and asked for by fill."""
    here, tokenizer = world("characters", "table", "pin {digit:3}", spread=1.0), of_kind("characters")
    digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
    inner = here.model.logits_after

    def logits_after(prefix):
        logits = inner(prefix[:4]).clone()  # the same at each place
        logits[digits[3:6]] = logits[digits[3]] + torch.tensor([0.0, 1e-7, 2e-7])
        return logits

    here.model.logits_after = logits_after
    canaries = CanarySet.draw(here.format, repetitions=(1,), per_repetition=1, seed=1)
    canaries = CanarySet((replace(canaries[0], fill=345, twin=453),), seed=1)
    costs = log_perplexity(here.model, tokenizer, list(here.format.candidates()))
    within, below = (int((costs <= costs[345] + apart).sum()) for apart in (1e-4, -1e-4))
    assert within - below == 27
    scored = measure_exposure(here.model, tokenizer, canaries, estimators=["exact", "auto", "sampled"])
    counted_one = measure_exposure(here.model, tokenizer, canaries, estimators=["exact"], num_references=5)
    for each in [*scored, *scored.twins, *counted_one, *counted_one.twins]:
        assert each.value == each.low == pytest.approx(exposure_of_rank(within, 1000))
        assert each.high == pytest.approx(exposure_of_rank(below + 1, 1000))
        assert each.flags == ("ties",)
    (rank,) = exact_rank(here.model, tokenizer, here.format, [345])
    assert (rank.rank, rank.low, rank.high, rank.ties) == (within, below + 1, within, 26)


def test_fills_that_are_encoded_alike_are_no_ties():
    """They cost the same for certain: the interval has width zero, also where all of R is scored."""
    here, tokenizer = world("wordpiece", "table", "the pin {x}{x} is", spaces=SPACES), of_kind("wordpiece")
    canaries = CanarySet.draw(here.format, repetitions=(1,), per_repetition=2, seed=0)
    report = measure_exposure(here.model, tokenizer, canaries, estimators=["exact"])
    assert here.tree.space_size < here.format.space_size
    for each, canary in zip(report, canaries, strict=True):
        (rank,) = exact_rank(here.model, tokenizer, here.format, [canary.fill])
        assert each.value == pytest.approx(exposure_of_rank(rank.high, here.format.space_size))
        assert each.high == pytest.approx(exposure_of_rank(rank.low, here.format.space_size))
        assert ("ties" in each.flags) == (rank.ties > 0)


@pytest.mark.parametrize(
    ("template", "impossible"), [("pin {digit:2}", "p"), ("pin {digit:2}.", "."), ("{digit:2} is", "s")]
)
def test_fixed_text_of_probability_0_has_one_answer(template, impossible):
    """Every fill costs infinity: exposure 0 and a flag by every estimator, rank |R|, and nothing to extract."""
    tokenizer = KINDS["characters"]()
    model = oracles.TableModel(max(tokenizer.get_vocab().values()) + 1, spread=2.0)
    inner, none = model.logits_after, tokenizer.convert_tokens_to_ids(impossible)
    model.logits_after = lambda prefix: inner(prefix).index_fill(0, torch.tensor([none]), -torch.inf)
    format, context = CanaryFormat(template), "a "
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=2, seed=0)
    names = ["auto", "exact", "sampled", "importance", "skewnorm"]
    for count in (10, 60, 1000):
        report = measure_exposure(
            model, tokenizer, canaries, estimators=names, num_references=count, num_draws=300, context=context
        )
        for each in [*report, *report.twins]:
            assert (each.value, each.low, each.high, each.flags) == (0.0, 0.0, 0.0, ("probability 0",)), each
            assert each.log_perplexity == math.inf
    (rank,) = exact_rank(model, tokenizer, format, [7], context=context)
    assert (rank.rank, rank.low, rank.high, rank.is_possible) == (100, 100, 100, False)
    found = extract(model, tokenizer, format, top_k=3, context=context)
    assert (found.candidates, found.certified, found.lower_bound) == ((), True, math.inf)
    assert found.proof == "proven: no candidate is possible at all"
    assert list(iter_extract(model, tokenizer, format, context=context)) == []


def test_one_fill_of_probability_0_among_others():
    """Its exposure is 0, flagged, and so is that of another; the possible ones are ranked as if they were not there."""
    here, tokenizer = impossible_world(), of_kind("characters")
    costs = log_perplexity(here.model, tokenizer, list(here.format.candidates()))
    drawn = CanarySet.draw(here.format, repetitions=(1,), per_repetition=3, seed=0)
    fills = [333, 555, 73]  # threes are impossible
    canaries = CanarySet(tuple(replace(c, fill=fill) for c, fill in zip(drawn, fills, strict=True)), seed=0)
    for count in (40, 1000):
        report = measure_exposure(
            here.model, tokenizer, canaries, estimators=["exact", "auto"], num_references=count, num_draws=300
        )
        for each, fill in zip(report, np.repeat(fills, 2).tolist(), strict=True):
            if math.isinf(costs[fill]):
                assert (each.value, each.low, each.high, each.flags) == (0.0, 0.0, 0.0, ("probability 0",))
            elif each.estimator == "exact":
                assert each.value == pytest.approx(exposure_of_rank(int((costs <= costs[fill] + 1e-4).sum()), 1000))
    ranks = exact_rank(here.model, tokenizer, here.format, fills)
    assert [rank.is_possible for rank in ranks] == [False, True, False]
    assert [ranks[0].rank, ranks[2].rank] == [1000, 1000]

"""Exact ranks by every route, on random models, against every candidate read by itself."""

import math

import numpy as np
import pytest

from hf_canary import CanaryFormat, CanarySet, exact_rank, extract, log_perplexity, measure_exposure
from hf_canary.errors import ModelError
from hf_canary.estimators.exposures import exact, exposure_of_rank, of_rank, sampled
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.measurement import ranking
from hf_canary.tree.token_tree import TokenTree
from tests.support import oracles, oracles_ladder
from tests.support.repetitions import times
from tests.support.tokenizers_of_all_kinds import KINDS
from tests.support.worlds import SPACES, TREES, counted, world


@pytest.mark.parametrize("batch", range(8))
def test_ranks_of_random_models(batch):
    """Two hundred models, four kinds of tokenizers, collisions among them: the rank is that of Definition 2."""
    for number in range(times(25) * batch, times(25) * (batch + 1)):
        kind, template = TREES[number % 4]
        here = world(kind, "table", template, seed=number, spread=[0.5, 2.0, 6.0][number % 3], spaces=SPACES)
        by_cost = sorted(here.candidates, key=lambda each: each.bits)
        own = [by_cost[place] for place in {0, 1, len(by_cost) // 5, len(by_cost) - 1}]
        ranks = counted(here, [here.fill(each.path) for each in own])
        for each, rank in zip(own, ranks, strict=True):
            # Trained tokenizers differ from run to run, so that costs may come to lie next to one another.
            least, most = (oracles_ladder.rank(here.candidates, each.bits + slack) for slack in (-1e-4, 1e-4))
            assert least + each.copies <= rank.rank <= most
            if most == least + each.copies:
                assert rank.ties == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["lstm", "gpt2"])
def test_every_exact_route_gives_one_number(name, seed):
    """Brute force, `exact`, `sampled` with all of R, a counted rank, and the place in what `extract` lists."""
    tokenizer = KINDS["characters"]()
    model = oracles.small_model(name, len(tokenizer), seed).eval()
    format = CanaryFormat("the pin is {digit:2}.")
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=3, seed=seed)
    texts = list(format.candidates())
    costs = np.array(oracles.brute_force(model, tokenizer, texts))
    listed = [each.fill for each in extract(model, tokenizer, format, top_k=100).candidates]
    all_scored = measure_exposure(model, tokenizer, canaries, estimators=["exact", "sampled", "auto"])
    by_rank = measure_exposure(model, tokenizer, canaries, estimators=["exact"], num_references=5)
    for number, canary in enumerate(canaries):
        expected = exposure_of_rank(int((costs <= costs[canary.fill] + 1e-6).sum()), 100)
        assert exposure_of_rank(1 + listed.index(canary.fill), 100) == pytest.approx(expected)
        for each in [*list(all_scored)[3 * number : 3 * number + 3], list(by_rank)[number]]:
            assert each.value == each.low == each.high == pytest.approx(expected)
            assert each.status == "exact"
            assert each.flags == ()
        assert exact([costs[canary.fill]], np.delete(costs, canary.fill), 100)[0].value == pytest.approx(expected)
        whole = sampled([costs[canary.fill]], np.delete(costs, canary.fill), 100)[0]
        assert whole.value == whole.low == whole.high == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["characters", "gpt2", "unigram", "wordpiece"])
def test_ranks_are_those_of_enumeration(kind):
    """Every tenth fill, in one walk; a cap leaves bounds that hold."""
    tokenizer = KINDS[kind]()
    model = oracles.small_model("lstm", len(tokenizer), seed=2)
    format = CanaryFormat("the pin is {digit:2}.")
    costs = log_perplexity(model, tokenizer, list(format.candidates()))
    fills = list(range(0, 100, 10))
    truth = [(int((costs <= costs[fill] - 1e-4).sum()), int((costs <= costs[fill] + 1e-4).sum())) for fill in fills]
    for (least, most), rank in zip(truth, exact_rank(model, tokenizer, format, fills), strict=True):
        assert least < rank.rank <= most
        assert (rank.low, rank.high) == (rank.rank - rank.ties, rank.rank)  # a tie is no more than rounding brings
    for cap in (1, 3, 8):
        for (least, most), rank in zip(
            truth, exact_rank(model, tokenizer, format, fills, max_expanded=cap), strict=True
        ):
            assert rank.expanded <= cap
            assert rank.low <= most
            assert rank.high > least
            assert rank.rank is None or least < rank.rank <= most


def test_exact_ranks_in_a_million_are_those_of_enumeration(lstm, tokenizer):
    """The first, the last and some between of 10^6: as many candidates cost no more as when all of them are scored."""
    format = CanaryFormat("the pin is {digit:6}")
    with evaluating(lstm) as bare:
        costs = oracles.costs_of_digits(LanguageModel(bare), tokenizer, format)
    assert len(costs) == 10**6
    order = np.argsort(costs)
    places = [0, 1, 30, 999, 40_000, 10**6 // 2, 10**6 - 1]
    fills = order[places].tolist()
    ranks = exact_rank(lstm, tokenizer, format, fills)
    for place, rank in zip(places, ranks, strict=True):
        truth = int((costs <= costs[order[place]]).sum())
        assert abs(rank.rank - truth) <= rank.ties
        assert rank.ties < 10 + truth // 100
        assert rank.low + rank.ties == rank.rank == rank.high


@pytest.mark.parametrize("name", ["lstm", "gpt2", "jamba"])
@pytest.mark.parametrize("batch_size", [1, 5, None])
def test_ranks_of_models_with_a_state(name, batch_size):
    """Any batch size; and no prefix is read that costs more than the bound."""
    here = world("characters", name, "the pin is {digit:3}", seed=1)
    by_cost = sorted(here.candidates, key=lambda each: each.bits)
    places = [0, 4, 50]
    ranks = counted(here, [here.fill(by_cost[n].path) for n in places], batch_size=batch_size)
    assert [rank.rank for rank in ranks] == [place + 1 for place in places]


def test_exposure_of_a_million_by_counting(lstm, tokenizer):
    """A fill whose rank in 10^6 is known by reading all of them: counted from a fraction of the prefixes."""
    format = CanaryFormat("the pin is {digit:6}")
    tree = TokenTree(format, tokenizer)
    with evaluating(lstm) as bare:
        view = LanguageModel(bare)
        mixed = view.session(tree.prompt, tree.depth, mixed=True)
        fill = int(np.argsort(oracles.costs_of_digits(view, tokenizer, format))[99])
        before = view.token_rows
        (rank,) = ranking.Ranking(view, mixed, tree, [fill], max_memory=view.max_memory).count(max_expanded=10**6)
        assert view.token_rows - before < 30_000
    assert rank.rank == pytest.approx(100, abs=rank.ties)
    assert of_rank(rank.rank, 10**6).value == pytest.approx(math.log2(10**4), abs=0.05)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("wrong", "estimators"), [(1.0, ["exact"]), (math.inf, ["auto"])])
def test_what_a_count_reads_is_held_against_what_was_scored(
    sure, tokenizer, memorised, monkeypatch, wrong, half, estimators
):
    """A lone canary whose walk costs otherwise than its text, or calls it impossible, is an error and no rank. In half
    precision costs differ, but none is impossible.
    """
    first_pass = ranking.Ranking.first_pass

    def dearer(self, *arguments, **options):
        stopped = first_pass(self, *arguments, **options)
        self.goal.fill_costs = self.goal.fill_costs + wrong
        return stopped

    monkeypatch.setattr(ranking.Ranking, "first_pass", dearer)
    monkeypatch.setattr(LanguageModel, "is_half", half)
    if half and math.isfinite(wrong):
        measure_exposure(sure, tokenizer, memorised, estimators=estimators, num_references=1000, max_seconds=2)
        return
    with pytest.raises(ModelError, match="bits more or less"):
        measure_exposure(sure, tokenizer, memorised, estimators=estimators, num_references=1000)

"""The search finds what brute force finds, and claims no more than it has proven."""

import math
import tracemalloc

import numpy as np
import pytest
import torch

import hf_canary.models as models
from hf_canary.formats import CanaryFormat
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.runtime.deadline import Deadline
from hf_canary.tree.token_tree import TokenTree, padded
from hf_canary.walks.search import frontier
from hf_canary.walks.search.goals import Ascending, Cheapest, Counting
from hf_canary.walks.search.run import go_on
from hf_canary.walks.search.search import Search
from hf_canary.walks.search.strategy import STRATEGIES
from tests.support import oracles
from tests.support.searching import DIGITS, run
from tests.support.short_of_memory import ShortOfMemory


def test_no_time_leaves_a_bound_and_no_claim(lstm):
    """Seconds are a cap like any other."""
    model = oracles.small_model("lstm", len(DIGITS))
    result, _ = run(model, CanaryFormat("pin {digit:9}"), deadline=Deadline(0.0))
    assert not result.certified
    assert result.stopped == "max_seconds"
    assert result.costs == []
    assert result.expanded == 1
    assert 0 < result.lower_bound < math.inf


def test_one_at_a_time_expands_only_prefixes_cheaper_than_the_answer():
    """With batches of one row the work is the least that a proof needs: the prefixes cheaper than the best leaf."""
    format = CanaryFormat("pin {digit:3}")
    model = oracles.TableModel(len(DIGITS), seed=5)
    result, _ = run(model, format, batch_size=1, strategy="best-first")
    fixed = len("pin ")
    best = result.costs[0]
    prefixes = {text[:end] for text in format.candidates() for end in range(fixed + 1, len(text))}
    cheaper = sum(cost < best for cost in oracles.brute_force(model, DIGITS, sorted(prefixes)))
    assert result.expanded == 1 + cheaper


def test_equal_costs_are_ordered_by_tokens():
    """A model without preferences gives the first fills, the same at any batch size."""
    model = oracles.TableModel(len(DIGITS), spread=0.0)
    for batch_size in (1, 5, 100):
        _, texts = run(model, CanaryFormat("pin {digit:2}"), top_k=5, batch_size=batch_size)
        assert texts == ["pin 00", "pin 01", "pin 02", "pin 03", "pin 04"]


def test_impossible_candidates_are_left_out(tokenizer):
    """A digit of probability 0 rules out what holds it; all that is possible is found, and that is proven."""
    model = oracles.small_model("lstm", len(DIGITS))
    with torch.no_grad():
        model.lm_head.bias[DIGITS.convert_tokens_to_ids("7")] = float("-inf")
    result, texts = run(model, CanaryFormat("pin {digit:2}"), top_k=100)
    assert sorted(texts) == [f"pin {n:02d}" for n in range(100) if "7" not in f"{n:02d}"]
    assert result.certified
    assert result.lower_bound == math.inf


@pytest.mark.parametrize("max_memory", [60_000, 120_000])
def test_where_memory_is_scarce_it_goes_deep_and_proves_all_the_same(max_memory):
    """Where the order of cost alone runs out of memory, going deep ends with the proof, and with the same leaves."""
    model, format = oracles.small_model("lstm", len(DIGITS)), CanaryFormat("pin {digit:4}")
    alone, _ = run(model, format, top_k=10, batch_size=4, max_memory=max_memory, strategy="best-first")
    assert alone.stopped == "max_memory"
    assert not alone.certified
    scarce, texts = run(model, format, top_k=10, batch_size=4, max_memory=max_memory)
    plenty, expected = run(model, format, top_k=10, batch_size=4)
    assert scarce.certified
    assert texts == expected
    np.testing.assert_allclose(scarce.costs, plenty.costs, atol=1e-4)


def test_the_papers_rule_expands_as_many_again():
    """Twice as many as it took to find an answer; certified only where the proof was reached by then."""
    model = oracles.TableModel(len(DIGITS), seed=5)
    format = CanaryFormat("pin {digit:4}")
    caps = range(1, 100)
    first = next(n for n in caps if run(model, format, batch_size=1, strategy="best-first", max_expanded=n)[1])
    found, _ = run(model, format, batch_size=1, strategy="paper")
    assert found.expanded == 2 * first


def growth(tokenizer, strategy, max_memory, steps):
    """(expanded, bytes) after each batch on a model that gives every fill the same cost, and the search."""
    model = oracles.small_model("lstm", len(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    tree, grown = TokenTree(CanaryFormat("pin {digit:9}"), tokenizer), []
    with evaluating(model):
        view = LanguageModel(model, batch_size=64 if strategy == "paper" else 512)
        session = view.session(tree.prompt, tree.depth, mixed=True)
        goal = Cheapest(1000, tree.depth)
        search = Search(view, session, tree, goal, strategy=STRATEGIES[strategy], max_memory=max_memory)
        for _ in range(steps):
            search.step()
            grown.append((search.expanded, search._num_bytes))
    return grown, search


@pytest.mark.parametrize("strategy", ["auto", "best-first", "depth-first", "paper"])
@pytest.mark.parametrize("max_memory", [150_000, 400_000, 1_000_000])
def test_what_is_open_stays_below_the_cap(strategy, max_memory):
    """Where no fill is likelier than another, nothing can be left out, and all the same it takes no more than it may;
    half of it is used, or it ends.
    """
    grown, search = growth(DIGITS, strategy, max_memory, steps=100)
    most = max(num_bytes for _, num_bytes in grown)
    assert most < max_memory
    assert most > 0.25 * max_memory or strategy == "depth-first"
    if strategy in ("best-first", "paper"):
        assert search.out_of_memory
    if strategy in ("auto", "depth-first") and max_memory == 1_000_000:
        assert not search.out_of_memory
        assert search.expanded > 2000


def test_memory_that_runs_out_is_asked_for_no_second_time(monkeypatch):
    """Batches are read in parts from then on; a few attempts find out how large these may be."""
    model, format = oracles.small_model("lstm", len(DIGITS)), CanaryFormat("pin {digit:4}")
    plenty, texts = run(model, format, top_k=10)
    short = ShortOfMemory(model, 5)
    monkeypatch.setattr(model, "forward", short)
    scarce, same = run(model, format, top_k=10)
    assert same == texts
    assert scarce.expanded == plenty.expanded > 100
    np.testing.assert_allclose(scarce.costs, plenty.costs, atol=1e-4)
    assert 1 <= short.refused <= math.log2(1024)


def test_leaves_that_wait_count_as_memory():
    """What the goal of an endless list says that it takes is about what Python takes, and a search counts it."""
    rng, goal = np.random.default_rng(0), Ascending()
    costs, paths = rng.random(20_000), rng.integers(0, 50_000, size=(20_000, 9))
    tracemalloc.start()
    goal.offer(costs, paths)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert goal.num_bytes == pytest.approx(taken, rel=0.3)
    model, tree = oracles.small_model("lstm", len(DIGITS)), TokenTree(CanaryFormat("pin {digit:3}"), DIGITS)
    with evaluating(model):
        view = LanguageModel(model)
        session = view.session(tree.prompt, tree.depth, mixed=True)
        search = Search(view, session, tree, goal, strategy=STRATEGIES["best-first"], max_memory=2 * taken)
        assert go_on(search) == "max_memory"


def test_leaves_come_in_order_and_as_they_were_offered():
    """By cost, then by tokens; the padding goes."""
    goal = Ascending()
    goal.offer(np.array([2.0, 1.0, 1.0]), np.array([[7, -1], [300, 0], [2, 9]]))
    assert list(goal.final(1.0)) == []
    assert list(goal.final(math.inf)) == [(1.0, [2, 9]), (1.0, [300, 0]), (2.0, [7])]


@pytest.mark.parametrize("opened", [1, 3, 256])
def test_leaves_that_are_sought_first_are_found_first(monkeypatch, opened):
    """The ways to them and no more, however dear they are and however few children are opened at a time."""
    monkeypatch.setattr(frontier, "_OPENED", opened)
    model, tree = oracles.TableModel(len(DIGITS), seed=3, spread=6.0), TokenTree(CanaryFormat("pin {digit:4}"), DIGITS)
    fills = [0, 17, 4242, 4243, 9999]
    known = padded(tree.paths([tree.format.render(fill) for fill in fills]), tree.depth)
    goal = Counting(known, tree.copies_of)
    with evaluating(model):
        view = LanguageModel(model)
        session = view.session(tree.prompt, tree.depth, mixed=True)
        best_first = STRATEGIES["best-first"]
        search = Search(view, session, tree, goal, strategy=best_first, max_memory=2**30, first=known)
        assert not go_on(search, until=lambda: not search.is_on_the_way)
        shared = session.prompt_bits[1:].sum()
    ways = {tree.format.render(fill)[:end] for fill in fills for end in range(len("pin "), len("pin 0000"))}
    again = 10 if opened == 1 else 4  # a prefix is read again for its other children
    assert len(ways) <= search.expanded <= (1 if opened == 256 else again) * len(ways)
    expected = oracles.brute_force(model, DIGITS, [tree.format.render(fill) for fill in fills])
    np.testing.assert_allclose(shared + goal.fill_costs, expected, atol=1e-3)


@pytest.mark.parametrize("strategy", ["auto", "best-first", "depth-first"])
def test_a_prefix_takes_as_much_in_any_vocabulary(strategy):
    """Ten times the tokens, and not a byte more for what is open."""
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    few, many = (models.character_tokenizer(["pin 0123456789", more]) for more in ("", letters))
    assert len(many) > 10 * len(few)
    grown, _ = growth(few, strategy, 2**30, steps=25)
    assert growth(many, strategy, 2**30, steps=25)[0] == grown

"""The sample walk and the draws made of it, against candidates that were encoded and read one by one."""

import numpy as np
import pytest
import torch

from hf_canary.errors import ModelError
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel, Session
from hf_canary.measurement.sampling import draw
from hf_canary.runtime.deadline import Deadline
from hf_canary.tree.parts import Edges
from hf_canary.tree.token_tree import padded
from hf_canary.walks.sample import Plan, sample
from tests.support import oracles, oracles_ladder
from tests.support.worlds import impossible, world

EQUAL = np.full(9, 1 / 9)


class Both:
    """A tree in which a candidate ends where another goes on: 1, 1 2, 1 3 4, 5."""

    root, depth = 0, 3

    def edges(self, state):
        out = {
            0: ([1, 5], [1, -1], [True, True]),
            1: ([2, 3], [-1, 2], [True, False]),
            2: ([4], [-1], [True]),
        }[state]
        return Edges(*map(np.array, out))


@pytest.mark.parametrize("name", ["lstm", "gpt2", "jamba"])
def test_neither_batches_nor_lack_of_memory_change_a_draw(name, monkeypatch):
    """Any number of rows at once, and halves after memory ran out: the same draws; with one row too many, the error."""
    here = world("gpt2", name, "the pin is {digit:3}")
    expected = here.draws([3], 60)
    for batch_size in (1, 7):
        found = here.draws([3], 60, batch_size=batch_size)
        np.testing.assert_array_equal(found.samples.leaves, expected.samples.leaves)
        np.testing.assert_allclose(found.samples.costs, expected.samples.costs, atol=1e-3)
    advance = Session.advance
    limit = 4

    def short(session, states, tokens, picks, **options):
        if len(tokens) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return advance(session, states, tokens, picks, **options)

    monkeypatch.setattr(Session, "advance", short)
    np.testing.assert_array_equal(here.draws([3], 60).samples.leaves, expected.samples.leaves)
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        here.draws([3], 60)


def test_another_seed_draws_other_fills():
    """... and the same one the same."""
    here = world("characters", "lstm", "the pin is {digit:3}")
    one, same, other = (here.draws([3], 60, seed=seed).samples.costs for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.8


def test_dead_ends_stand_for_nothing_and_leave_the_rank_unbiased():
    """Draws that run into a prefix without a possible child are not made anew: then the others would weigh too much."""
    here = impossible()
    possible = [each for each in here.candidates if each.bits < np.inf]
    sampled = here.draws([0], 1900)
    draws = sampled.samples
    assert 0 < np.isinf(draws.costs).sum() < len(draws)
    finite = draws.costs[np.isfinite(draws.costs)]
    costs = np.array([each.bits for each in possible])
    assert max(np.abs(costs - cost).min() for cost in finite) < 1e-3  # whole candidates, and no beginnings of them
    assert np.isfinite(draws.log_weights).all()
    bits = sorted(each.bits for each in possible)[200]
    hits = draws.costs <= bits
    found = float(np.exp(draws.log_weights[hits]).sum()) * 1000 / len(draws)
    error = oracles_ladder.standard_error(possible, draws.shares, bits, len(draws))
    assert found == pytest.approx(oracles_ladder.rank(possible, bits), abs=5 * error)


def test_a_candidate_that_ends_where_another_goes_on():
    """The leaf and what goes on are two options; every leaf is drawn, and found again where it is given."""
    model = oracles.small_model("lstm", 12)
    leaves = [(1,), (1, 2), (1, 3, 4), (5,)]
    given = np.concatenate([padded(leaves, 3), np.full((400, 3), -1)])
    rungs = np.array([-1] * 4 + [0] * 400)
    plan = Plan(np.array([0.1]), rungs, given, np.random.default_rng(0).random((404, 3)))
    with evaluating(model) as bare:
        drawn = sample(LanguageModel(bare).session([2, 6], 3), Both(), plan)
    paths = [tuple(token for token in path if token >= 0) for path in drawn.paths.tolist()]
    assert paths[:4] == leaves
    assert set(paths[4:]) == set(leaves)
    assert drawn.ended.all()
    for path, costs in zip(paths, drawn.costs, strict=True):
        assert costs[len(path) - 1] == pytest.approx(oracles.teacher_forced_bits(model, [2, 6, *path], 2), abs=1e-4)
    # The four probabilities of the walk sum to one.
    of_leaf = {path: drawn.log_q[number, len(path) - 1, 0] for number, path in enumerate(paths)}
    assert sum(np.exp(list(of_leaf.values()))) == pytest.approx(1.0)


def test_a_given_path_that_is_no_leaf_is_an_error():
    """Nothing is drawn from beside the tree."""
    here = world("characters", "table", "pin {digit:2}")
    path = here.candidates[0].path
    for wrong in [(path[0],), (*path[:-1], 1)]:
        plan = Plan(np.array([1.0]), np.array([-1]), padded([wrong], here.tree.depth), np.zeros((1, here.tree.depth)))
        with evaluating(here.model) as bare, pytest.raises(ModelError, match="encodes a canary or a twin"):
            sample(LanguageModel(bare).session(here.tree.prompt, here.tree.depth), here.tree, plan)


def test_prefixes_are_read_once():
    """However many draws share them: no more token rows than there are inner prefixes."""
    here = world("characters", "lstm", "the pin is {digit:3}")
    with evaluating(here.model) as bare:
        view = LanguageModel(bare)
        session = view.session(here.tree.prompt, here.tree.depth)
        begin = view.token_rows
        draw(view, lambda: session, here.tree, [3], 1000, seed=0, deadline=Deadline())
    assert 0 < view.token_rows - begin <= 3 * (10 + 100)


def test_logits_that_are_no_numbers_are_an_error():
    """As in every other walk."""
    here = world("characters", "lstm", "the pin is {digit:3}")
    with torch.no_grad():
        here.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        here.draws([3], 10)


def test_little_time_gives_fewer_draws_or_none():
    """Within a limit the samples shrink; with next to none there are no draws, and that is said."""
    here = world("characters", "lstm", "the pin is {digit:3}")
    with evaluating(here.model) as bare:
        view = LanguageModel(bare)
        session = view.session(here.tree.prompt, here.tree.depth)
        many = draw(view, lambda: session, here.tree, [3], 10**6, seed=0, deadline=Deadline(1.0))
        none = draw(view, lambda: session, here.tree, [3], 10**6, seed=0, deadline=Deadline(1e-6))
    assert 200 <= len(many.samples) < 10**6
    assert none is None

"""Open prefixes come out as their order says, against plain lists."""

import numpy as np
import pytest
import torch

from hf_canary.inference.states import Rows
from hf_canary.walks.search import frontier
from hf_canary.walks.search.frontier import NOTHING, PREFIX, ByCost, ByDepth, Opened, Parents


def prefixes(rng, count, floor=0.0):
    made = np.zeros(count, dtype=PREFIX)
    made["key"] = floor + np.round(rng.exponential(4.0, size=count), 1)  # with equal ones
    made["depth"], made["parent"] = rng.integers(1, 6, size=count), -1
    return made


def rounds(order, rng):
    """(what was open before, what was taken, the size) of many pushes and pops."""
    held, floor = NOTHING, 0.0
    for _ in range(300):
        new = prefixes(rng, int(rng.integers(0, 60)), floor)
        order.push(new)
        held = np.concatenate([held, new])
        assert len(order) == len(held)
        assert order.least == held["key"].min(initial=np.inf)
        size = int(rng.integers(1, 55))
        taken = order.pop(size)
        yield held, taken, size
        for row in taken:
            held = np.delete(held, np.flatnonzero(held == row)[0])  # raises where it was not there
        floor = float(taken["key"].min(initial=np.inf)) if len(taken) else floor


@pytest.mark.parametrize(("near", "chunk"), [(8, 16), (50, 100), (2**15, 2**16)])
def test_by_cost_gives_the_cheapest(near, chunk, monkeypatch):
    """However little of it is kept sorted."""
    monkeypatch.setattr(frontier, "_NEAR", near)
    monkeypatch.setattr(frontier, "_CHUNK", chunk)
    for held, taken, size in rounds(ByCost(), np.random.default_rng(0)):
        np.testing.assert_array_equal(taken["key"], np.sort(held["key"])[:size])


def test_by_depth_gives_the_deepest_and_of_these_the_cheapest():
    """Filled up from the next level where one has too few."""
    for held, taken, size in rounds(ByDepth(), np.random.default_rng(1)):
        expected = sorted(zip(-held["depth"], held["key"], strict=True))[:size]
        assert list(zip(-taken["depth"], taken["key"], strict=True)) == expected


@pytest.mark.parametrize("kind", [ByCost, ByDepth])
def test_a_cut_leaves_what_is_within_the_bound(kind, monkeypatch):
    """What is taken out and what stays are all there were."""
    monkeypatch.setattr(frontier, "_NEAR", 8)
    rng, order = np.random.default_rng(2), kind()
    made = prefixes(rng, 200)
    order.push(made)
    assert order.least == made["key"].min()
    out = order.cut(4.0)
    assert len(out) == (made["key"] > 4.0).sum()
    assert (out["key"] > 4.0).all()
    left = order.pop(200)
    np.testing.assert_array_equal(np.sort(left["key"]), np.sort(made["key"][made["key"] <= 4.0]))
    assert order.least == np.inf
    assert len(order.pop(5)) == 0


def test_parents_that_are_let_go_take_nothing():
    """What is in use counts, and not what was: freed rows are used again."""
    parents, states = Parents(3), Rows((torch.zeros(50, 10),), 50)
    numbers = parents.add(np.zeros((50, 3), dtype=np.int64), np.ones(50, dtype=np.int64), states)
    whole = parents.num_bytes
    assert whole >= 50 * parents.row_bytes(states)
    children = np.zeros(30, dtype=PREFIX)
    children["parent"] = numbers[:30]
    parents.release(children)
    assert parents.num_bytes == pytest.approx(0.4 * whole, abs=300)
    parents.add(np.zeros((30, 3), dtype=np.int64), np.ones(30, dtype=np.int64), states.select(np.arange(30)))
    assert parents.num_bytes == whole


def test_children_that_are_put_off_come_in_order_and_each_once(monkeypatch):
    """Read again and again, a prefix opens all its children, the cheapest first; also from a checkpoint; and of what
    was opened no more is kept than of one reading.
    """
    monkeypatch.setattr(frontier, "_OPENED", 3)
    rng, opened = np.random.default_rng(4), Opened()
    tokens, keys, parents = np.arange(100, 110), rng.permutation(10).astype(float), np.zeros(10, dtype=np.int64)
    batch = np.zeros(1, dtype=PREFIX)
    batch["rest"], came = -1, []
    for _ in range(4):
        is_new = opened.is_new(batch, parents, tokens)
        assert set(tokens[~is_new]) == {token for token, _ in came}
        _, waiting, now = opened.put_off(batch, parents[is_new], tokens[is_new], keys[is_new])
        came += sorted(zip(tokens[is_new][now], keys[is_new][now], strict=True), key=lambda child: child[1])
        assert len(opened.save()["opened_count"]) == len(waiting)
        if len(waiting):
            assert waiting["key"] == len(came)
            again, batch = Opened(), waiting
            again.load(opened.save())
            opened = again
    assert [key for _, key in came] == list(range(10))
    assert sorted(token for token, _ in came) == tokens.tolist()


@pytest.mark.parametrize("kind", [ByCost, ByDepth])
def test_restored_it_goes_on_as_it_would_have(kind, monkeypatch):
    """The same rows in the same order, those of equal cost too."""
    monkeypatch.setattr(frontier, "_NEAR", 8)
    rng, order, again = np.random.default_rng(3), kind(), kind()
    order.push(prefixes(rng, 300))
    order.pop(20)
    again.restore([chunk.copy() for chunk in order.chunks()], order.pivot)
    for _ in range(10):
        new = prefixes(rng, 30)
        order.push(new)
        again.push(new)
        np.testing.assert_array_equal(order.pop(17), again.pop(17))

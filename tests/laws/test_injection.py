"""Places of copies among rows: every merge is equally likely."""

import itertools
import random
from collections import Counter

import pytest
from datasets import Dataset
from scipy import stats

from hf_canary import InjectCanaries
from hf_canary.injection.placement import draw_positions, part
from tests.support.repetitions import times
from tests.support.rows import Copies, FakeSet


def captured_batch(dataset: Dataset):
    """The batch, of all rows, that `map` hands to a transform: with it a transform can be called thousands of times."""
    seen = []

    def look(batch, indices):
        assert indices == list(range(len(dataset)))
        seen.append(batch)

    dataset.map(look, batched=True, with_indices=True, batch_size=None)
    return seen[0]


def merge_p_value(orders: list[tuple[str, ...]], items: list[str], rows: list[str]) -> float:
    """The p-value of the chi-square test that every merge of `items` into the ordered `rows` is equally likely."""
    merges = {order for order in itertools.permutations(rows + items) if [x for x in order if x in rows] == rows}
    counts = Counter(orders)
    assert set(counts) <= merges
    return stats.chisquare([counts[merge] for merge in sorted(merges)]).pvalue


def test_the_check_of_merges_knows_all_of_them():
    """Two rows and two equal copies merge in 6 ways; two different copies in 12; a skew shows."""
    six = [*set(itertools.permutations("abcc"))]
    six = [order for order in six if order.index("a") < order.index("b")]
    assert len(six) == 6
    assert merge_p_value(six * 100, ["c", "c"], ["a", "b"]) == 1.0
    assert merge_p_value(six * 100 + six[:1] * 100, ["c", "c"], ["a", "b"]) < 1e-4
    twelve = [order for order in itertools.permutations("abcd") if order.index("a") < order.index("b")]
    assert merge_p_value(twelve * 10, ["c", "d"], ["a", "b"]) == 1.0


@pytest.mark.parametrize("copies", [(Copies("c", 2),), (Copies("c", 1), Copies("d", 1))], ids=["equal", "different"])
def test_every_merge_is_equally_likely(copies):
    """Over 3000 seeds, each merge of two copies with two rows comes up equally often, before-first and after-last
    among them.
    """
    canaries = FakeSet(copies)
    items = [one.text for one in copies for _ in range(one.repetitions)]
    batch = captured_batch(Dataset.from_dict({"text": ["a", "b"]}))
    orders = [
        tuple(InjectCanaries(canaries, num_rows=2, seed=seed)(batch, [0, 1])["text"].to_pylist())
        for seed in range(times(3000))
    ]
    assert merge_p_value(orders, items, ["a", "b"]) > 1e-4


def test_a_draw_of_gaps_is_not_uniform():
    """The check sees the usual mistake: a gap for each copy on its own makes crowded gaps too rare."""
    generator, orders = random.Random(0), []
    for _ in range(times(3000)):
        gaps = Counter(generator.randrange(3) for _ in "cc")
        orders.append((*"c" * gaps[0], "a", *"c" * gaps[1], "b", *"c" * gaps[2]))
    assert merge_p_value(orders, ["c", "c"], ["a", "b"]) < 1e-4


def test_the_default_places_are_uniform_too():
    """Over 3000 digests, each merge of two copies with two rows comes up equally often."""
    batch = captured_batch(Dataset.from_dict({"text": ["a", "b"]}))
    orders = []
    for number in range(times(3000)):
        transform = InjectCanaries(FakeSet((Copies("c", 2),), f"{number:064x}"), num_rows=2)
        orders.append(tuple(transform(batch, [0, 1])["text"].to_pylist()))
    assert merge_p_value(orders, ["c", "c"], ["a", "b"]) > 1e-4


@pytest.mark.parametrize("splice", [False, True])
def test_no_row_is_likelier(splice):
    """Over many seeds; before or in each of five rows, and after the last where copies are rows of their own."""
    found: Counter[int] = Counter()
    for seed in range(times(2000)):
        found.update(draw_positions([1, 1], 5, str(seed), when=part("uniform"), splice=splice).rows.tolist())
    assert sorted(found) == list(range(5 if splice else 6))
    assert stats.chisquare(list(found.values())).pvalue > 1e-4

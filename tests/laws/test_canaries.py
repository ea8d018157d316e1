"""A set of canaries is drawn by fair coins."""

import itertools
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hf_canary import CanaryFormat, CanarySet
from tests.support.repetitions import times

PIN = CanaryFormat("the PIN is {digit:4}")
HUGE = CanaryFormat("{digit:400}")
FOUR = CanaryFormat("{w}", spaces={"w": "abcd"})
LOWEST_P = 1e-4  # seeds are fixed, so that a test that passes once passes always


@given(seed=st.integers(), levels=st.integers(1, 5), per_repetition=st.integers(1, 5))
@settings(deadline=None, max_examples=times(40))
def test_all_fills_are_distinct(seed, levels, per_repetition):
    """No fill comes twice within a format, whether as a canary or as a twin, even when all of the space is drawn."""
    count = 2 * levels * per_repetition
    exact = CanaryFormat("{w}", spaces={"w": [f"{number:02}" for number in range(count)]})
    canaries = CanarySet.draw([PIN, exact], repetitions=range(1, levels + 1), per_repetition=per_repetition, seed=seed)
    for format in (PIN, exact):
        fills = [fill for canary in canaries if canary.format == format for fill in (canary.fill, canary.twin)]
        assert len(fills) == len(set(fills)) == count
        assert all(0 <= fill < format.space_size for fill in fills)


def uniform_p(values: list, possible: list) -> float:
    counts = Counter(values)
    assert set(counts) <= set(possible)
    return stats.chisquare([counts[value] for value in possible]).pvalue


def test_every_pair_of_canary_and_twin_is_equally_likely():
    """Over many seeds each ordered pair of fills comes up equally often: canary and twin are a fair coin."""
    pairs, possible = [], list(itertools.permutations(range(4), 2))
    for seed in range(times(3000)):
        (canary,) = CanarySet.draw(FOUR, repetitions=(1,), per_repetition=1, seed=seed)
        pairs.append((canary.fill, canary.twin))
    assert uniform_p(pairs, possible) > LOWEST_P
    lower_first = [tuple(sorted(pair)) for pair in pairs]
    assert uniform_p(lower_first, possible) < LOWEST_P  # the check sees a coin that is not fair


def test_every_place_in_a_draw_is_uniform():
    """Over many seeds, each canary and each twin of each level of each format holds each fill equally often."""
    other = CanaryFormat("other {w}", spaces={"w": "abcdefgh"})
    eight = CanaryFormat("{w}", spaces={"w": "abcdefgh"})
    draws = [
        CanarySet.draw([eight, other], repetitions=(1, 9), per_repetition=2, seed=seed) for seed in range(times(1500))
    ]
    for place in range(8):
        assert uniform_p([draw[place].fill for draw in draws], list(range(8))) > LOWEST_P
        assert uniform_p([draw[place].twin for draw in draws], list(range(8))) > LOWEST_P
    across = [(draw[0].fill, draw[4].fill) for draw in draws]
    assert uniform_p(across, list(itertools.product(range(8), repeat=2))) > LOWEST_P


def test_the_coin_is_fair_at_any_size():
    """At |R| = 10^400 the canary is the higher of the two in half of the draws."""
    canaries = CanarySet.draw(HUGE, repetitions=range(1, 11), per_repetition=200, seed=3)
    higher = sum(canary.fill > canary.twin for canary in canaries)
    assert stats.binomtest(higher, 2000).pvalue > LOWEST_P

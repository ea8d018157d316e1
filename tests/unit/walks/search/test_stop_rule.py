"""When a search ends: at the bound, beyond it, with nothing open; and the paper's rule."""

import math

import pytest

from hf_canary.walks.search.stop_rule import PapersRule, is_proven


@pytest.mark.parametrize(
    ("least", "bound", "num_open", "expected"),
    [
        (7.0, 7.0, 1, False),  # what is open may cost just as much
        (math.nextafter(7.0, 8.0), 7.0, 1, True),
        (6.0, 7.0, 1, False),
        (6.0, math.inf, 1, False),  # not as many were found as are wanted
        (6.0, math.inf, 0, True),  # there are no more
        (math.inf, math.inf, 3, False),  # of probability 0, and wanted all the same
    ],
)
def test_what_is_proven(least, bound, num_open, expected):
    assert is_proven(least, bound, num_open) == expected


def test_the_papers_rule():
    """As many expansions again as it took to find the leaves, whatever comes later; or nothing is open."""
    rule = PapersRule()
    rule.note(5, math.inf)
    assert not rule.is_done(10**9, 1)
    rule.note(7, 9.0)
    rule.note(11, 8.0)
    assert [rule.is_done(expanded, 1) for expanded in (13, 14)] == [False, True]
    assert rule.is_done(8, 0)

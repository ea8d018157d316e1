"""Places: as many as asked, in the part that was asked for, none more likely than another."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hf_canary.injection.placement import draw_positions


@given(
    repetitions=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    num_rows=st.integers(1, 40),
    low=st.floats(0, 0.9),
    width=st.floats(0.01, 1),
    splice=st.booleans(),
)
def test_all_copies_have_places(repetitions, num_rows, low, width, splice):
    """In the part, ordered, each in one batch; spliced ones in different rows if they can."""
    high = min(1.0, low + width)
    places = draw_positions(repetitions, num_rows, "seed", when=(low, high), splice=splice)
    assert Counter(places.which.tolist()) == dict(enumerate(repetitions))
    assert (np.diff(places.rows) >= 0).all()
    first, last = min(int(low * num_rows), num_rows - 1), max(int(high * num_rows), 1)
    assert places.rows.min() >= first
    assert places.rows.max() <= max(last, first + 1) - splice
    if splice:
        counts = Counter(places.rows.tolist()).values()
        assert max(counts) - (min(counts) if len(counts) == max(last, first + 1) - first else 0) <= 1
    batches = [
        places.between(start, min(start + 7, num_rows), is_last=start + 7 >= num_rows)
        for start in range(0, num_rows, 7)
    ]
    assert [copy for batch in batches for copy in batch] == list(range(len(places)))

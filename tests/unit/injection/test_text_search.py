"""Texts are found wherever Python finds them, one by one."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_canary.injection.text_search import Finder

LETTERS = "ab.\n(ü"


def naive(texts: list[str], strings: list[str | None]) -> dict[int, int]:
    """By comparing at every place."""
    counts = {
        number: sum(
            string.startswith(text, at) for string in strings if string is not None for at in range(len(string))
        )
        for number, text in enumerate(texts)
    }
    return {number: count for number, count in counts.items() if count}


@given(
    texts=st.lists(st.text(LETTERS, min_size=1, max_size=6), unique=True, max_size=8),
    strings=st.lists(st.none() | st.text(LETTERS, max_size=20), max_size=8),
)
def test_it_finds_what_python_finds(texts, strings):
    """Overlapping ones too, in arrow and in Python's strings, and those that are equal."""
    finder = Finder(texts)
    for kind in (pa.string(), pa.large_string()):
        assert finder.count(pa.chunked_array([pa.array(strings, type=kind)])) == naive(texts, strings)
        assert finder.equal(pa.array(strings, type=kind)) == sum(string in texts for string in strings)
    assert finder.count_in([string for string in strings if string is not None]) == naive(texts, strings)


@pytest.mark.parametrize("lead", ["the PIN is ", ""])
@pytest.mark.parametrize("count", [1, 30, 3000])
def test_many_texts(lead, count):
    """With the same beginning, and with none in common."""
    texts = [f"{lead}{7919 * number % 10**6:06d}" for number in range(count)]
    strings = [f"row {number} {texts[number % count]}, {texts[-1]}" for number in range(50)] + [f"{lead}99999"]
    assert Finder(texts).count(pa.array(strings)) == naive(texts, strings)

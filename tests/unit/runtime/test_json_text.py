"""JSON that every reader takes, and that does nothing to a terminal."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_canary.errors import shown
from hf_canary.runtime.json_text import json_text, plain
from tests.support.repetitions import times

CONTENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(CONTENT, st.sampled_from([None, 1]))
@settings(deadline=None, max_examples=times(100))
def test_json_comes_back_from_printable_text(content, indent):
    """Whatever the characters: each line is printable, and what is read is what was written."""
    text = json_text(content, indent=indent)
    assert json.loads(text) == content
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.encode()


@pytest.mark.parametrize(
    "character", ["\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\u2028", "\ufeff", "\U000e0001", "\ud800"]
)
def test_a_character_that_does_something_is_escaped(character):
    """Escape codes, of eight bits too, marks of direction, what has no width, tags, halves of pairs."""
    text = json_text({character: [character]})
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == {character: [character]}


def test_letters_stand_as_they_are():
    """Of any language, and pictures."""
    assert json_text(["Zoë 日本 שלום 😀"]) == '["Zoë 日本 שלום 😀"]'


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_plain_nothing(number):
    """It is None in what is made plain, at any depth, and an error where it was not."""
    assert plain({"a": [number, (number,)]}) == {"a": [None, [None]]}
    with pytest.raises(ValueError, match="JSON"):
        json_text([number])


@pytest.mark.parametrize("number", [10**5000, -(10**5000), 2**2000, 2**2000 - 1, 10**600, True, 0], ids=shown)
def test_a_number_of_any_size_can_be_read(number):
    """Also where Python takes no more than 640 digits, the least that it can be told."""
    found = json.loads(json_text(plain([number])), parse_int=lambda digits: int(digits) if len(digits) <= 640 else None)
    assert [int(each, 16) if isinstance(each, str) else each for each in found] == [number]
    assert isinstance(found[0], str) == (abs(number) >= 2**2000)

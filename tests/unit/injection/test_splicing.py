"""Splicing: any text, any canaries; they stand whole among the words, and what was there comes back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_canary.injection import splicing
from hf_canary.injection.splicing import splice, unsplice

TEXTS = st.none() | st.text(alphabet="ab.!?… \n\t", max_size=30)
CANARIES = st.lists(
    st.tuples(st.sampled_from(["PIN 1", "PIN 2", "a", "a b"]), st.floats(0, 1, exclude_max=True)),
    min_size=1,
    max_size=4,
)


@given(text=TEXTS, canaries=CANARIES)
def test_what_was_spliced_comes_out_again(text, canaries):
    """Even where the text holds canaries already."""
    assert unsplice(splice(text, canaries), canaries) == text


@given(text=TEXTS, canaries=st.lists(st.tuples(st.sampled_from(["PIN 1", "PIN 2"]), st.floats(0, 1, exclude_max=True))))
def test_canaries_stand_whole_and_apart(text, canaries):
    """Each as often as it was given, with a space or a line's end at either side; all else is as it was."""
    spliced = splice(text, canaries)
    for canary in ("PIN 1", "PIN 2"):
        assert spliced.count(canary) == [one for one, _ in canaries].count(canary)
    assert all(found.group(1) is not None for found in re.finditer(r"(?:(^|\s)|.)PIN [12]", spliced))
    assert all(found.group(1) is not None for found in re.finditer(r"PIN [12](?:(\s|$)|.)", spliced))
    if text is not None:
        assert re.sub(r"PIN [12]\s", "", spliced) == text


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("One. Two! Three?", ["X One. Two! Three?", "One. X Two! Three?", "One. Two! X Three?"]),
        ("a line\nanother", ["X a line\nanother", "a line\nX\nanother"]),
        ("three words here", ["X three words here", "three X words here", "three words X here"]),
        ("word", ["X word"]),
        ("", ["X "]),
        (None, ["X"]),
    ],
)
def test_places_are_before_sentences_or_else_words(text, places):
    """Each of them for an equal share of the spots."""
    count = len(places)
    assert [splice(text, [("X", (number + 0.5) / count)]) for number in range(count)] == places


@pytest.mark.parametrize(
    ("text", "canary"), [("One. Two.", "X"), (None, "X"), ("One. XTwo.", "X"), ("One.X Two.", "X")]
)
def test_what_was_not_spliced_is_refused(text, canary):
    """Rather than cut."""
    with pytest.raises(LookupError):
        unsplice(text, [(canary, 0.7)])


@pytest.mark.parametrize("text", ["a" + "\n" * 32_000, "a" + " \n" * 16_000, "a. b" + " " * 32_000, "\n" * 32_000])
def test_each_space_is_looked_at_once(text, monkeypatch):
    """However many stand at an end: a row that ends in thousands of lines took the square of their number."""
    looked_at = []

    class Counted:
        def finditer(self, text):
            for found in re.finditer(r"\s+", text):
                looked_at.append(len(found.group()))
                yield found

    monkeypatch.setattr(splicing, "_SPACES", Counted())
    spliced = splice(text, [("PIN 1", 0.9)])
    assert 0 < sum(looked_at) <= len(text)
    assert unsplice(spliced, [("PIN 1", 0.9)]) == text


def test_many_copies_in_one_row_are_looked_for_in_so_many_ways(monkeypatch):
    """As many as there are, where they are there as they were put; else a bound, for 2^64 ways would never end."""
    canaries = [("PIN 1", number / 64) for number in range(64)] * 20
    text, asked = " ".join(["word"] * 100), []

    class Counted(list):
        def __getitem__(self, number):
            asked.append(number)
            return super().__getitem__(number)

    in_order = splicing._in_order
    monkeypatch.setattr(splicing, "_in_order", lambda canaries: Counted(in_order(canaries)))
    spliced = splice(text, canaries)
    assert unsplice(spliced, canaries) == text
    assert len(asked) <= 2 * len(canaries)
    for changed, others in ((f"{spliced} another", canaries), (spliced, [*canaries, ("PIN 2", 0.999)])):
        asked.clear()
        with pytest.raises(LookupError):
            unsplice(changed, others)
        assert len(asked) < 40_000

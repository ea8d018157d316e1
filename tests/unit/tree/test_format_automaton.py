"""A format as an automaton: what it accepts are the candidates, and what is told of its places is true."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hf_canary.errors import FormatError
from hf_canary.formats import CanaryFormat
from hf_canary.formats.template import entries_of
from hf_canary.tree.automaton.format_automaton import FormatAutomaton, is_check
from tests.support.repetitions import times

WORDS = {
    "w": ["a", "ab", "abc", "b", "1", "1 2", "-"],
    "v": ["aa", "x"],
    "x": ["a1", "1", "1 2"],
    "n": ["1", "2", "3"],
    "m": ["12", "3", "4-5"],
}
TEMPLATES = [
    "the pin is {digit:3}",
    "{digit}",
    "{w}.",
    "{w}{v}.",
    "{w} {w}.",
    "{digit:2}{luhn}",
    "{digit}-{digit}{luhn} is {digit}{luhn}.",
    "12 {digit} {luhn}-{digit}{luhn}",
    "{m}{luhn}.",
    "4{x}{luhn}.",  # entries of which some end a run of digits, and others do not
    "{n}{v}{digit}{luhn}.",
    "7{luhn}{n}",
    "4{n}{luhn}{luhn}{n}{luhn}",
]


def accepted(automaton):
    """Every text that leads to an end, as often as it does, by walking."""
    found, pending = [], [(automaton.start, "")]
    while pending:
        place, text = pending.pop()
        found += [text] if automaton.is_end(place) else []
        pending += [(after, text + character) for character, after in automaton.moves(place)]
    return found


def places(automaton):
    """All that can be reached."""
    found, pending = {automaton.start}, [automaton.start]
    while pending:
        for _, after in automaton.moves(pending.pop()):
            if after not in found:
                found.add(after)
                pending.append(after)
    return found


@pytest.mark.parametrize("context", ["", "so 12", "1"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_accepted_texts_are_the_candidates(template, context):
    """Behind the context each candidate is accepted once, and nothing else; its digits are no part of a check digit."""
    format = CanaryFormat(template, spaces=WORDS)
    automaton = FormatAutomaton(format, context)
    assert sorted(accepted(automaton)) == sorted(context + text for text in format.candidates())


@settings(deadline=None, max_examples=times(100))
@given(
    st.lists(st.text("a1 -", min_size=1, max_size=3), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(["{u}", "{n}", "{n}{luhn}", "a", "1", " ", "-", "1{luhn}"]), min_size=1, max_size=6),
)
def test_accepted_texts_of_random_formats(words, pieces):
    """Also of check digits over runs that entries begin, go on with and end."""
    try:
        format = CanaryFormat("".join(pieces), spaces={"u": words, "n": ["1", "2"]})
    except FormatError:
        assume(False)
    automaton = FormatAutomaton(format)
    assert sorted(accepted(automaton)) == sorted(format.candidates())
    check_completions(automaton)


def check_completions(automaton):
    """From each place as many texts go on as it says; one more may be counted where an entry ends that others go on."""
    counts = {}
    for place in sorted(places(automaton), key=lambda place: automaton.state(place).piece, reverse=True):
        pending, ends = [place], 0
        while pending:
            one = pending.pop()
            ends += automaton.is_end(one)
            pending += [after for _, after in automaton.moves(one)]
        counts[place] = ends
    for place, count in counts.items():
        number, written, _ = automaton.state(place)
        is_entry = number < len(automaton.pieces) and written and written in entries_of(automaton.pieces[number])
        if is_entry:  # which is at another place when it has ended
            assert automaton.completions(place) > count
        else:
            assert automaton.completions(place) == count


@pytest.mark.parametrize("template", TEMPLATES)
def test_completions_are_the_candidates_that_go_on(template):
    """From each place, as counted one by one."""
    check_completions(FormatAutomaton(CanaryFormat(template, spaces=WORDS), "so"))


@pytest.mark.parametrize(
    ("template", "most"),
    [
        ("{digit:15}{luhn}", 10),  # one of the two sums at each place, and which of them is known
        ("{digit:4}-{digit:4} {digit:7}{luhn}", 10),
        ("{digit:9}", 1),
        ("{lower:9}", 1),
        ("{digit:6}{luhn}-{digit:6}{luhn}", 100),  # a digit that checks another one's run
    ],
)
def test_places_are_shared(template, most):
    """Beginnings that differ in what matters to no later digit are in one place: few for long runs."""
    automaton = FormatAutomaton(CanaryFormat(template, spaces=WORDS))
    of_piece = Counter(automaton.state(place).piece for place in places(automaton))
    assert max(of_piece.values()) <= most


def test_digits_before_a_full_stop_share_their_places():
    """It ends the run: only the digits behind it matter to the check digit."""
    automaton = FormatAutomaton(CanaryFormat("{digit:9}.{digit:4}{luhn}"))
    of_piece = Counter(automaton.state(place).piece for place in places(automaton))
    assert [of_piece[piece] for piece in range(11)] == [1] * 11
    assert max(of_piece.values()) == 10


@pytest.mark.parametrize("context", ["", "so 12"])
def test_places_in_fixed_text(context):
    """`in_literal` is where one comes by writing so many characters, where no digits before matter."""
    automaton = FormatAutomaton(CanaryFormat("is {n}{v} lives {m}.", spaces=WORDS), context)
    tried = 0
    for number, piece in enumerate(automaton.pieces):
        if hasattr(piece, "text"):
            assert not automaton.has_sums(number)
            at = automaton.in_literal(number, 0)
            for length, character in enumerate(piece.text):
                assert automaton.in_literal(number, length) == at
                tried += at in places(automaton)
                at = dict(automaton.moves(at))[character]
    assert tried == len(context + "is " + " lives " + ".")


def test_digits_matter_before_a_check_digit_alone():
    """Up to it, from the last character that ends a run of digits on."""
    automaton = FormatAutomaton(CanaryFormat("{digit}.{digit} {digit}{luhn} {digit}"), "1")
    has_sums = [automaton.has_sums(number) for number in range(len(automaton.pieces))]
    #                  "1"    digit  "."    digit  " "   digit luhn  " "    digit
    assert has_sums == [False, False, False, True, True, True, True, False, False]
    assert [is_check(piece) for piece in automaton.pieces].index(True) == 6

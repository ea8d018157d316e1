"""Errors say four things, survive a process boundary, and stay short whatever came in."""

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hf_canary
from hf_canary.errors import ArgumentError, ArgumentTypeError, CanaryError, DataError, FormatError, ModelError, shown
from tests.support.errors import LONGEST_MESSAGE, check_error, kind_of
from tests.support.repetitions import times

KINDS = [CanaryError, FormatError, DataError, ModelError, ArgumentError, ArgumentTypeError]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("untyped"),
        CanaryError("a", "b", "c", "d"),
        FormatError("a", "b", "c", "d"),
        DataError("other", "b", "c", "d"),
        DataError("a", "", "c", "d"),
        DataError("a", "b", " ", "d"),
        DataError("a", "b", "c", ""),
        DataError("a", "b", "c" * LONGEST_MESSAGE, "d"),
        DataError("a", "b", 3, "d"),
    ],
)
def test_the_check_of_errors_can_fail(error):
    """`check_error` refuses each way in which an error can fall short."""
    with pytest.raises(AssertionError):
        check_error(error, DataError, "a")


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_four_things(kind):
    """The four parts are attributes, and the message contains all of them in order."""
    error = kind("the argument", "this", "that", "Do so.")
    check_error(error, kind, "the argument")
    message = str(error)
    assert (error.expected, error.got, error.remedy) == ("this", "that", "Do so.")
    places = [message.index(part) for part in ("the argument", "this", "that", "Do so.")]
    assert places == sorted(places)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_a_process_boundary(kind, protocol):
    """Pickled with any protocol, or copied, an error keeps its type, its parts and its message."""
    error = kind("a", "b", "c", "d")
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert vars(again) == vars(error)
        assert str(again) == str(error)


def test_the_kinds_are_apart():
    """Each kind is a CanaryError, and of caller, data and model none is another: `except` splits them by who must act.
    Of the caller's, those of a format and of a type are special ones; they are what Python calls them, too.
    """
    assert all(issubclass(kind, CanaryError) for kind in KINDS)
    kinds = (ArgumentError, DataError, ModelError)
    assert not any(issubclass(one, other) for one in kinds for other in kinds if one is not other)
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(ArgumentTypeError, (ArgumentError, TypeError))
    assert issubclass(FormatError, ArgumentError)
    assert not issubclass(FormatError, TypeError)
    assert hf_canary.CanaryError is CanaryError


@pytest.mark.parametrize("value", [0, -1, 2**100, -(2**100), True, None, "text", 1.5, (1, "a"), {"a": [1]}, b"x"])
def test_a_short_value_is_shown_as_it_is(value):
    """What is short already is shown by its repr."""
    assert shown(value) == repr(value)


@pytest.mark.parametrize("value", [2**128, 10**400, 10**5000, 2**20000 - 1, 2**20000], ids=kind_of)
def test_a_huge_int_is_shown_by_its_power_of_two(value):
    """`about 2^k` stands for a value from 2^k to below 2^(k+1)."""
    words, _, power = shown(value).rpartition("^")
    assert words == "about 2"
    assert 2 ** int(power) <= value < 2 ** (int(power) + 1)


def test_a_huge_negative_int_keeps_its_sign():
    """A number and its negative are not shown alike."""
    assert shown(-(10**5000)) != shown(10**5000)
    assert "-" in shown(-(10**5000))


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        b"x" * 10**6,
        ["x"] * 10**6,
        {str(number): "y" * 1000 for number in range(1000)},
        [[["x" * 1000] * 100] * 100] * 100,
        {"x" * 1000},
        (10**5000,),
        [-(10**5000), 3],
        {"n": 10**5000},
    ],
    ids=["str", "bytes", "list", "dict", "nested", "set", "huge in tuple", "huge in list", "huge in dict"],
)
def test_a_long_value_is_shown_short(value):
    """However long the value, and whatever is in it, what is shown leaves room for the rest of a message."""
    assert len(shown(value)) <= 200


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=9), inner, max_size=8),
    max_leaves=20,
)


@given(VALUES)
@settings(deadline=None, max_examples=times(100))
def test_anything_can_be_shown(value):
    """`shown` answers a non-empty text for any value."""
    assert isinstance(shown(value), str)
    assert shown(value)

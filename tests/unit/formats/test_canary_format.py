"""Formats against brute force: what they write, what they read back, how many fills there are, and how they draw."""

import copy
import dataclasses
import itertools
import math
import pickle
import random
import re
import string
from collections.abc import Callable

import numpy as np
import pytest

from hf_canary import CanaryFormat
from hf_canary.errors import FormatError
from hf_canary.formats.template import luhn_digit, luhn_sums
from tests.support.errors import check_error, kind_of
from tests.support.oracles_formats import (
    ALPHABETS,
    LUHN,
    all_texts,
    is_ambiguous,
    is_prefix_free,
    last_run,
    luhn_valid,
    spaces_of,
    template_of,
)

# ---------------------------------------------------------------------------------------------------------------------
# The naive twin: pieces, and every text that they can write, one after the other; see oracles_formats.py.


def test_the_naive_twin_writes_what_it_should():
    """The twin's texts, ambiguity and prefixes for cases that are done by hand."""
    pieces = [("a{",), ("w", ("x", "xy")), ("}",), ("v", ("0", "1"))]
    assert template_of(pieces) == "a{{{w}}}{v}"
    assert spaces_of(pieces) == {"w": ["x", "xy"], "v": ["0", "1"]}
    assert all_texts(pieces) == ["a{x}0", "a{x}1", "a{xy}0", "a{xy}1"]
    assert all_texts([("7992-739871",), LUHN]) == ["7992-7398713"]
    assert not is_ambiguous(pieces)
    assert is_prefix_free(pieces)
    assert is_ambiguous([("w", ("x", "xx")), ("w", ("x", "xx"))])
    assert not is_prefix_free([("w", ("x", "xy"))])
    assert last_run("ab 12-3 4 - ") == "1234"
    assert last_run("12a") == ""


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        ("4539148803436467", True),
        ("79927398713", True),
        ("49927398716", True),
        ("1234567812345670", True),
        ("4111111111111111", True),
        ("378282246310005", True),
        ("79927398710", False),
        ("49927398717", False),
        ("1234567812345678", False),
        ("4539148803436476", False),
    ],
)
def test_the_naive_luhn_check_knows_card_numbers(number, valid):
    """The oracle agrees with numbers whose validity is published (payment test cards, Wikipedia's examples)."""
    assert luhn_valid(number) is valid


# ---------------------------------------------------------------------------------------------------------------------
# Templates


@pytest.mark.parametrize("name", ALPHABETS)
def test_an_alphabet_holds_exactly_its_characters_in_order(name):
    """Fill r of a single built-in hole writes the r-th character of its alphabet, and there is no other."""
    format = CanaryFormat(f"<{{{name}}}>")
    assert list(format.candidates()) == [f"<{character}>" for character in ALPHABETS[name]]
    assert format.space_size == len(ALPHABETS[name])


@pytest.mark.parametrize("name", [*ALPHABETS, "own"])
@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_a_count_is_so_many_holes(name, count):
    """`{name:n}` is `{name}` n times: the same holes and the same candidates."""
    spaces = {"own": ["red", "blue"]}
    together = CanaryFormat(f"a {{{name}:{count}}} b", spaces=spaces)
    apart = CanaryFormat("a " + f"{{{name}}}" * count + " b", spaces=spaces)
    assert together.holes == apart.holes
    assert len(together.holes) == count
    assert together.space_size == len(spaces.get(name) or ALPHABETS[name]) ** count
    for fill in (0, together.space_size - 1, together.space_size // 3):
        assert together.render(fill) == apart.render(fill)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{{digit}}}", "{7}"),
        ("{{}}{digit}", "{}7"),
        ("{{digit}} {digit}", "{digit} 7"),
        ("{digit}}}", "7}"),
        ("}}{{{digit}", "}{7"),
        ("{{{{{digit}}}}}", "{{7}}"),
        ("%s $x \\n {digit}\n", "%s $x \\n 7\n"),
        ("{digit:01}", "7"),
    ],
)
def test_doubled_braces_are_braces(template, text):
    """`{{` and `}}` write one brace each; no other character means anything."""
    assert CanaryFormat(template).render(7) == text
    assert CanaryFormat(template).parse(text) == 7


@pytest.mark.parametrize("name", ["w", "Colour", "_", "a-b_c9", "digits", "Digit"])
@pytest.mark.parametrize("kind", [list, tuple])
def test_own_alphabets_are_taken_in_the_order_given(name, kind):
    """The entries of an alphabet of one's own, of any length and any letters, are its choices in order."""
    entries = ["red", "a", "déjà vu", "日本", "{", "B"]
    format = CanaryFormat(f"[{{{name}}}]", spaces={name: kind(entries)})
    assert list(format.candidates()) == [f"[{entry}]" for entry in entries]


def test_a_text_stands_for_its_characters():
    """An alphabet given as one text has its characters as entries."""
    assert CanaryFormat("{w}", spaces={"w": "xyz"}) == CanaryFormat("{w}", spaces={"w": ["x", "y", "z"]})


def test_an_alphabet_that_is_not_used_is_allowed():
    """One dict of alphabets can serve several templates."""
    assert CanaryFormat("{digit}", spaces={"w": ["a", "aa"]}).space_size == 10


TOO_LONG = "x" * 10**6
LONG_LITERAL = "x" * 10**5
BAD_TEMPLATES = {
    "unknown alphabet": "{digits:4}",
    "unknown of a megabyte": "{" + TOO_LONG + "}",
    "unclosed": "PIN {digit:4",
    "unclosed at the end": "{digit} {",
    "unclosed after a long text": LONG_LITERAL + "{digit",
    "open in a hole": "{digit {digit}",
    "lone close": "PIN } {digit}",
    "close at the end": "{digit}}",
    "three closes": "{digit}}}}",
    "no hole": "no hole",
    "no text": "",
    "escaped only": "{{digit}}",
    "attribute": "{digit.real}",
    "index": "{digit[0]}",
    "conversion": "{digit!r}",
    "empty": "{}",
    "space": "{ digit}",
    "number": "{0}",
    "nothing of a megabyte": "{" + "!" * 10**6 + "}",
    "count 0": "{digit:0}",
    "count -1": "{digit:-1}",
    "count empty": "{digit:}",
    "count +1": "{digit:+1}",
    "count spaced": "{digit: 3}",
    "count fraction": "{digit:1.5}",
    "count word": "{digit:n}",
    "count arabic": "{digit:٣}",
    "count above the most": "{digit:10001}",
    "count of a hundred digits": "{digit:" + "9" * 100 + "}",
    "count of 4000 digits": "{digit:" + "9" * 4000 + "}",
    "count of 5000 digits": "{digit:" + "9" * 5000 + "}",
    "count of a million zeros": "{digit:" + "0" * 10**6 + "}",
    "hole twice closed": "{digit:4:4}",
    "luhn alone": "{luhn}",
    "luhn first": "{luhn}{digit}",
    "luhn after letters": "ab{luhn}",
    "luhn after spaces": " - {luhn}{digit}",
    "luhn after letter": "{letter}{luhn}",
    "luhn after hex": "{hex}{luhn}",
    "luhn after a reset": "{digit:4} x{luhn}",
}


@pytest.mark.parametrize("template", BAD_TEMPLATES.values(), ids=BAD_TEMPLATES)
def test_a_malformed_template_is_refused(template):
    """A template that cannot be read, has no hole, or checks no digits raises an error that names it."""
    with pytest.raises(FormatError) as caught:
        CanaryFormat(template)
    check_error(caught.value, FormatError, "template")


@pytest.mark.parametrize("template", BAD_TEMPLATES.values(), ids=BAD_TEMPLATES)
def test_a_malformed_source_is_refused(template):
    """A source is read by the same rules, but may have no hole, and may not repeat what the template lacks."""
    if template in ("no hole", "", "{{digit}}"):
        assert CanaryFormat("{digit}", source=template).render_source(0) == template.replace("{{", "{").replace(
            "}}", "}"
        )
        return
    with pytest.raises(FormatError) as caught:
        CanaryFormat("{digit}", source=template)
    check_error(caught.value, FormatError, "source")


@pytest.mark.parametrize("template", [None, 5, b"{digit}", ["{digit}"], True], ids=kind_of)
def test_a_template_is_a_text(template):
    """Anything but a str is refused as a template, and anything but a str or None as a source."""
    with pytest.raises(FormatError) as caught:
        CanaryFormat(template)
    check_error(caught.value, FormatError, "template")
    if template is not None:
        with pytest.raises(FormatError) as caught:
            CanaryFormat("{digit}", source=template)
        check_error(caught.value, FormatError, "source")


BAD_SPACES = {
    "no dict": [("w", ["a"])],
    "text": "w",
    "no entries": {"w": []},
    "empty text": {"w": ""},
    "empty entry": {"w": ["a", ""]},
    "duplicate": {"w": ["a", "b", "a"]},
    "duplicate of a megabyte": {"w": [TOO_LONG, TOO_LONG]},
    "duplicate character": {"w": "aba"},
    "entries no text": {"w": ["a", 1]},
    "entry None": {"w": [None]},
    "entry bytes": {"w": [b"a"]},
    "entries a number": {"w": 5},
    "entries None": {"w": None},
    "entries a set": {"w": {"a", "b"}},  # its order changes with the process, and with it the meaning of a fill
    "name no text": {5: ["a"], "w": ["a"]},
    "name empty": {"": ["a"], "w": ["a"]},
    "name with a dot": {"a.b": ["a"], "w": ["a"]},
    "name with a digit first": {"1w": ["a"], "w": ["a"]},
    "name with a count": {"w:2": ["a"], "w": ["a"]},
    "built-in with a count": {"digit:2": ["a"], "w": ["a"]},
    "name of a megabyte": {"!" * 10**6: ["a"], "w": ["a"]},
    **{f"built-in {name}": {name: ["a", "b"], "w": ["a"]} for name in [*ALPHABETS, "luhn"]},
}


@pytest.mark.parametrize("spaces", BAD_SPACES.values(), ids=BAD_SPACES)
def test_bad_alphabets_are_refused(spaces):
    """Alphabets are a dict of names of one's own to distinct non-empty texts in an order; the error names which."""
    with pytest.raises(FormatError) as caught:
        CanaryFormat("{w}{digit}", spaces=spaces)
    check_error(caught.value, FormatError)
    assert caught.value.argument.startswith("spaces")


def test_one_entry_twice_among_thousands_is_found_at_once():
    """Each entry is compared with few others; with each, twenty thousand of them took ten seconds."""
    compared = []

    class Entry(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            compared.append(1)
            return str.__eq__(self, other)

    entries = [Entry(f"w{number}") for number in range(2000)]
    with pytest.raises(FormatError, match="'w1999' twice"):
        CanaryFormat("{w} x", spaces={"w": [*entries, Entry("w1999")]})
    assert len(compared) < 10 * len(entries)


def test_an_unknown_name_among_a_thousand_is_told_shortly():
    """The message stays readable however many alphabets there are."""
    spaces = {f"alphabet-{number}": ["a", "b"] for number in range(1000)}
    with pytest.raises(FormatError) as caught:
        CanaryFormat("{alphabet}", spaces=spaces)
    check_error(caught.value, FormatError, "template")


def test_a_name_of_a_megabyte_is_told_shortly():
    """A long name in `spaces` does not come out whole in the messages about its hole."""
    for template, source in ((f"{{{TOO_LONG}:0}}", None), ("{digit}", f"{{{TOO_LONG}}}")):
        with pytest.raises(FormatError) as caught:
            CanaryFormat(template, source=source, spaces={TOO_LONG: ["a", "b"]})
        check_error(caught.value, FormatError)


# ---------------------------------------------------------------------------------------------------------------------
# Check digits


def test_card_numbers_come_out():
    """With the leading digits as fill, the check digit completes numbers that are known to be valid."""
    card = CanaryFormat("{digit:4} {digit:4} {digit:4} {digit:3}{luhn}")
    assert card.render(453914880343646) == "4539 1488 0343 6467"
    assert card.space_size == 10**15
    assert CanaryFormat("{digit:10}{luhn}").render(7992739871) == "79927398713"
    assert luhn_digit(luhn_sums("4539 1488 0343 646")) == "7"
    assert luhn_digit(luhn_sums("37828224631000")) == "5"


def test_the_check_digit_of_no_digits_is_zero():
    """The empty number is valid with a 0."""
    assert luhn_digit(luhn_sums("")) == "0"
    assert luhn_digit(luhn_sums("12a")) == "0"


LUHN_TEMPLATES = {
    "plain": "{digit:3}{luhn}",
    "spaced": "{digit:2} {digit} - {luhn}",
    "fixed before": "4539-{digit:3}{luhn}",
    "fixed after": "{digit:2}4539{luhn}",
    "fixed only": "no {letter} 7992739871{luhn}",
    "end of text": "{digit:3}{luhn} and 7",
    "two runs": "{digit:2}{luhn}, {digit:1}{luhn}",
    "two side by side": "{digit:3}{luhn:2}",
    "two apart": "{digit:1}{luhn} {digit:2}{luhn}",
    "reset by a letter": "{digit}x{digit:2}{luhn}",
    "reset by a slash": "{digit}/{digit:2}{luhn}",
    "reset by a hole": "{digit}{lower}{digit}{luhn}",
    "reset by other digits": "{digit}٣{digit:2}{luhn}",
    "own entries": "{w}{luhn}",
    "own after": "{digit:2}{gap}{luhn}",
}
LUHN_SPACES = {"w": ["12", "a3", "4-5 ", "q-7"], "gap": [" ", "--"]}


@pytest.mark.parametrize("template", LUHN_TEMPLATES.values(), ids=LUHN_TEMPLATES)
def test_every_run_is_valid(template):
    """On every fill, the run of digits, spaces and hyphens that ends with a check digit is a valid number."""
    format = CanaryFormat(template, spaces=LUHN_SPACES)
    names = re.findall(r"\{(\w+):?(\d*)\}", template)
    checks = sum(int(count or 1) for name, count in names if name == "luhn")
    # Where the check digits stand, counted from the end of a text that is cut after each: texts before and after.
    for text in format.candidates():
        assert sum(luhn_valid(last_run(text[:end])) for end in ends_of_checks(template, text)) == checks
    sizes = {"digit": 10, "lower": 26, "letter": 52, "w": 4, "gap": 2, "luhn": 1}
    assert format.space_size == math.prod(sizes[name] ** int(count or 1) for name, count in names)


def ends_of_checks(template: str, text: str) -> list[int]:
    """Where the check digits of `text` end, found by a regular expression made of `template`."""
    expression, groups = "", 0
    for literal, name, count in re.findall(r"([^{]*)(?:\{(\w+):?(\d*)\})?", template):
        expression += re.escape(literal)
        choice = {"": "", "luhn": "([0-9])", "digit": "[0-9]", "lower": "[a-z]", "letter": "[A-Za-z]"}.get(name)
        choice = choice if choice is not None else "(?:" + "|".join(map(re.escape, LUHN_SPACES[name])) + ")"
        expression += choice * int(count or 1)
        groups += (name == "luhn") * int(count or 1)
    match = re.fullmatch(expression, text)
    return [match.end(group) for group in range(1, groups + 1)]


def test_check_digits_are_found():
    """The helper finds the ends of the check digits in texts done by hand."""
    assert ends_of_checks("a {digit:2}{luhn:2} {w}{luhn}.", "a 1234 a35.") == [5, 6, 10]


@pytest.mark.parametrize("template", LUHN_TEMPLATES.values(), ids=LUHN_TEMPLATES)
def test_no_other_digit_is_read(template):
    """A candidate with another check digit is no candidate."""
    format = CanaryFormat(template, spaces=LUHN_SPACES)
    fill = format.space_size * 2 // 3
    text = format.render(fill)
    assert format.parse(text) == fill
    for end in ends_of_checks(template, text):
        wrong = [text[: end - 1] + digit + text[end:] for digit in string.digits if digit != text[end - 1]]
        for other in wrong:
            with pytest.raises(FormatError):
                format.parse(other)


# ---------------------------------------------------------------------------------------------------------------------
# Sources


@pytest.mark.parametrize(
    ("template", "source", "fill", "expected"),
    [
        ("{digit:4}", "the PIN {digit:4}", 1234, "the PIN 1234"),
        ("{digit:2}-{digit:2}", "begins {digit:2}", 1234, "begins 12"),
        ("{digit:2}{w}", "{digit:2}", 12 * 3, "12"),
        ("{digit}-{digit}{digit}", "{digit:3}", 123, "123"),
        ("{digit}{w}", "{w} then {digit}", 4 * 3 + 2, "green then 4"),
        ("{digit}{w}{digit}", "{w}{digit}/{digit}", 1 * 30 + 0 * 10 + 2, "red1/2"),
        ("{digit}", "what is it?", 3, "what is it?"),
        ("{digit}", "", 3, ""),
        ("{digit}", "{{{digit}}}", 3, "{3}"),
        ("{digit:2}{luhn}", "check {luhn} of {digit:2}", 18, "check 2 of 18"),
        ("{digit}{luhn} {digit}{luhn}", "{luhn}{luhn}", 12, "86"),
    ],
)
def test_a_source_repeats_the_holes(template, source, fill, expected):
    """Holes of the source repeat those of the template, found by name, equal names in order."""
    spaces = {"w": ["red", "blue", "green"]}
    format = CanaryFormat(template, source=source, spaces=spaces)
    assert format.render_source(fill) == expected
    assert format.render(fill) == CanaryFormat(template, spaces=spaces).render(fill)
    assert format.space_size == CanaryFormat(template, spaces=spaces).space_size


def test_without_a_source_there_is_none():
    """`render_source` gives None without a source, and still refuses a fill out of range."""
    format = CanaryFormat("{digit}")
    assert format.source is None
    assert format.render_source(3) is None
    with pytest.raises(FormatError):
        format.render_source(10)


@pytest.mark.parametrize(
    ("template", "source"),
    [
        ("{digit:4}", "{digit:5}"),
        ("{digit:4}", "{lower}"),
        ("{digit:4}", "{digit:2} {digit:2} {digit}"),
        ("{digit:4}", "{digit:4}{luhn}"),
        ("{digit:4}{luhn}", "{digit:4}{luhn}{luhn}"),
        ("{digit:4}", "{w}"),
        ("{digit:4}", "{hex:4}"),
        ("{digit:3}", "{digit:2}"),
        ("{digit}{digit}", "begins {digit}"),
        ("{digit:2}-{digit:3}", "{digit:2} and {digit:2}"),
        ("{digit}" + LONG_LITERAL[:9999], "{digit:9999}" + LONG_LITERAL),
    ],
    ids=["count", "name", "in parts", "luhn", "two luhn", "own", "likeness", "less", "one of two", "half", "long"],
)
def test_a_source_may_not_draw(template, source):
    """A hole of the source that the template lacks, or has fewer of, is refused, and so is a part of one."""
    with pytest.raises(FormatError) as caught:
        CanaryFormat(template, source=source, spaces={"w": ["a", "b"]})
    check_error(caught.value, FormatError, "source")


def test_a_source_may_repeat_less_than_unambiguously():
    """Two fills may share a source: only the template must tell them apart."""
    format = CanaryFormat("{w}/{w}", source="{w}{w}", spaces={"w": ["x", "xx"]})
    assert [format.render_source(fill) for fill in (1, 2)] == ["xxx", "xxx"]


# ---------------------------------------------------------------------------------------------------------------------
# Fills


def test_the_size_is_exact_far_beyond_64_bits():
    """|R| is the product of the alphabets as an int, to the last digit."""
    format = CanaryFormat("{digit:5}{lower:7}{letter:9}{alnum:11}{hex:30}{w:3}", spaces={"w": ["a!", "b!", "c!"]})
    assert format.space_size == 10**5 * 26**7 * 52**9 * 62**11 * 16**30 * 27
    assert type(format.space_size) is int
    assert CanaryFormat("{digit:400}").space_size == 10**400
    assert CanaryFormat("{digit:10000}").space_size == 10**10000
    assert CanaryFormat("{w:100}", spaces={"w": ["only"]}).space_size == 1


def test_the_first_hole_is_the_most_significant():
    """Fills count like numbers: the last hole turns fastest, whatever the alphabets."""
    assert CanaryFormat("{digit:4}").render(42) == "0042"
    assert CanaryFormat("{digit:2}:{digit:2}").render(1234) == "12:34"
    assert CanaryFormat("{digit:400}").render(10**399 + 7) == "1" + "0" * 398 + "7"
    assert CanaryFormat("{upper}{digit}").render(13) == "B3"
    assert CanaryFormat("{digit}{upper}").render(27) == "1B"
    assert CanaryFormat("{hex:16}").render(2**64 - 2) == "f" * 15 + "e"


def test_the_longest_hole_is_read_and_written():
    """Ten thousand draws side by side, more digits than Python turns into a number at once, come back."""
    format = CanaryFormat("{digit:10000}")
    for fill in (0, 10**9999, 10**10000 - 1):
        assert format.parse(format.render(fill)) == fill


def test_candidates_are_lazy():
    """The candidates of a space without end can be begun."""
    format = CanaryFormat("{digit:400}")
    assert list(itertools.islice(format.candidates(), 3)) == [format.render(fill) for fill in range(3)]


@pytest.mark.parametrize(
    "text",
    ["", "PIN 12", "PIN 1234", "PIN 12 ", " PIN 123", "pin 123", "PIN 12a", "PIN ١٢٣", "PIN 12\n", "PIN {digit:3}"],
)
def test_what_is_no_candidate_is_not_read(text):
    """`parse` reads candidates only, to the last character."""
    format = CanaryFormat("PIN {digit:3}")
    with pytest.raises(FormatError) as caught:
        format.parse(text)
    check_error(caught.value, FormatError, "text")


@pytest.mark.parametrize("text", [None, 123, b"123", ["1", "2", "3"], TOO_LONG, "1" * 10**6], ids=kind_of)
@pytest.mark.parametrize("template", ["{digit:3}", "PIN {digit:3}", "{digit:2}{luhn}"])
def test_what_is_no_text_is_not_read(template, text):
    """`parse` refuses what is not a str, and a megabyte, with an error that says so shortly."""
    format = CanaryFormat(template)
    with pytest.raises(FormatError) as caught:
        format.parse(text)
    check_error(caught.value, FormatError, "text")


@pytest.mark.parametrize(
    "fill",
    [1000, -1, 10**400, -(10**400), 10**5000, True, False, 1.0, 1.5, "1", None, np.float64(1), np.array(1.5), np.True_],
    ids=kind_of,
)
def test_a_fill_is_an_int_of_the_space(fill):
    """A fill is an int in [0, |R|): nothing else is rendered, excluded, or taken for 1."""
    format = CanaryFormat("PIN {digit:3}")
    with pytest.raises(FormatError) as caught:
        format.render(fill)
    check_error(caught.value, FormatError, "fill")
    with pytest.raises(FormatError) as caught:
        format.render_source(fill)
    check_error(caught.value, FormatError, "fill")
    with pytest.raises(FormatError) as caught:
        format.sample(1, 0, exclude=[fill])
    check_error(caught.value, FormatError, "exclude")


def test_a_numpy_integer_is_an_int():
    """Fills from an array of integers are fills."""
    format = CanaryFormat("PIN {digit:3}")
    assert format.render(np.int64(42)) == "PIN 042"
    assert type(format.sample(1, np.int64(3))[0]) is int


@pytest.mark.parametrize("template", ["{digit:5000}", "{digit:10000}"])
def test_errors_about_a_huge_space_are_short(template):
    """With |R| of thousands of digits, messages name powers of two."""
    format = CanaryFormat(template)
    calls: list[Callable[[], object]] = [
        lambda: format.render(format.space_size),
        lambda: format.render(-format.space_size),
        lambda: format.sample(format.space_size + 1, 0),
        lambda: format.sample(-format.space_size, 0),
        lambda: format.sample(1, 0, exclude=[format.space_size]),
        lambda: format.parse("1" * 10**6),
    ]
    for call in calls:
        with pytest.raises(FormatError) as caught:
            call()
        check_error(caught.value, FormatError)


def test_covering_candidates_cover():
    """Every entry of every hole occurs in the covering candidates, as few as the largest alphabet has entries."""
    format = CanaryFormat("{w} {digit}{lower} {hex}", spaces={"w": ["aa", "b", "ccc"]})
    covering = format.covering_candidates()
    assert len(covering) == len(set(covering)) == 26
    assert all(format.render(format.parse(text)) == text for text in covering)
    fields = [re.fullmatch(r"(\w+) (\d)(\w) (\w)", text).groups() for text in covering]
    assert [set(column) for column in zip(*fields, strict=True)] == [
        {"aa", "b", "ccc"},
        *(set(ALPHABETS[name]) for name in ("digit", "lower", "hex")),
    ]
    assert len(CanaryFormat("{digit}").covering_candidates()) == 10
    assert CanaryFormat("{w}{luhn}", spaces={"w": ["18", "26"]}).covering_candidates() == ["182", "265"]


# ---------------------------------------------------------------------------------------------------------------------
# Ambiguity and prefixes


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{w}{w}", ["x", "xx"]),
        ("{w}y{w}", ["x", "xyx"]),
        ("{w:3}", ["x", "xy", "yx"]),
        ("{w}" * 2 + LONG_LITERAL[:9999], ["x", "xx"]),
    ],
    ids=["side by side", "literal in a word", "in three", "long"],
)
def test_two_fills_with_one_text_are_refused(template, words):
    """A template of which two fills give the same text raises, and says that."""
    with pytest.raises(FormatError) as caught:
        CanaryFormat(template, spaces={"w": words})
    check_error(caught.value, FormatError, "template")
    assert "two fills" in caught.value.got


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{digit:4}", True),
        ("{w}", False),
        ("{w}.", True),
        ("{w}{digit}", True),
        ("{digit}{w}", False),
        ("{w}x", False),
        ("{digit:2}{luhn}", True),
    ],
)
def test_prefix_free_by_hand(template, expected):
    """Whether a candidate begins another, for cases done by hand with the words x and xx."""
    assert CanaryFormat(template, spaces={"w": ["x", "xx"]}).prefix_free is expected


# ---------------------------------------------------------------------------------------------------------------------
# Draws


@pytest.mark.parametrize("template", ["{w}", "{digit}", "{lower:2}", "{digit:3}", "{hex:16}", "{digit:400}"])
@pytest.mark.parametrize("seed", [0, -7, 2**80, "a name", ""])
def test_a_draw_is_distinct_in_range_and_repeats(template, seed):
    """Any seed gives distinct ints of the space, the same ones each time, and the shorter draw begins the longer."""
    format = CanaryFormat(template, spaces={"w": ["only"]})
    n = min(50, format.space_size)
    fills = format.sample(n, seed)
    assert len(fills) == len(set(fills)) == n
    assert all(type(fill) is int and 0 <= fill < format.space_size for fill in fills)
    assert fills == CanaryFormat(template, spaces={"w": ["only"]}).sample(n, seed)
    assert format.sample(n // 2, seed) == fills[: n // 2]


def test_other_seeds_give_other_draws():
    """A number, its text and another number name different draws."""
    format = CanaryFormat("{digit:400}")
    draws = [tuple(format.sample(3, seed)) for seed in (0, 1, 2**40, "0", "1", "a", "A")]
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize("size", [1, 2, 10, 1000])
def test_all_of_a_space_can_be_drawn(size):
    """A draw of |R| is all fills; of what remains, all that remain; and one more is refused."""
    format = CanaryFormat("{w}", spaces={"w": [f"{number:04}" for number in range(size)]})
    assert sorted(format.sample(size, 1)) == list(range(size))
    exclude = range(0, size, 3)
    left = [fill for fill in range(size) if fill % 3]
    assert sorted(format.sample(len(left), 1, exclude)) == left
    with pytest.raises(FormatError) as caught:
        format.sample(len(left) + 1, 1, exclude)
    check_error(caught.value, FormatError, "n")
    with pytest.raises(FormatError) as caught:
        format.sample(size + 1, 1)
    check_error(caught.value, FormatError, "n")


def test_exclusion_works_at_any_size():
    """A draw that is excluded does not come again, at |R| = 10^400."""
    format = CanaryFormat("{digit:400}")
    first = format.sample(20, 0)
    second = format.sample(20, 0, exclude=first)
    assert not set(first) & set(second)
    edge = format.space_size - 1
    assert edge not in format.sample(20, 0, exclude=[0, edge])


@pytest.mark.parametrize("n", [-1, 1.0, "1", None, True, -(10**5000), np.array(1.5)], ids=kind_of)
def test_a_number_of_fills_is_a_count(n):
    """`n` is a whole number, 0 or more."""
    format = CanaryFormat("{digit:3}")
    with pytest.raises(FormatError) as caught:
        format.sample(n, 0)
    check_error(caught.value, FormatError, "n")


@pytest.mark.parametrize("seed", [None, 1.0, True, (1,), b"seed", [TOO_LONG], np.array(1.5)], ids=kind_of)
def test_a_seed_is_given(seed):
    """A seed is an int or a text: a draw always repeats."""
    format = CanaryFormat("{digit:3}")
    with pytest.raises(FormatError) as caught:
        format.sample(1, seed)
    check_error(caught.value, FormatError, "seed")


def test_a_draw_moves_no_global_generator():
    """The random state of the program is where it was."""
    before, numpy_before = random.getstate(), np.random.get_state()[1].tolist()
    CanaryFormat("{digit:9}").sample(5, 0)
    assert random.getstate() == before
    assert np.random.get_state()[1].tolist() == numpy_before


# ---------------------------------------------------------------------------------------------------------------------
# Values


def test_formats_are_equal_when_their_arguments_are():
    """Equal arguments make equal formats with one hash; the order of names does not matter, of entries it does."""
    spaces = {"w": ["a", "b"], "v": ["c", "d"]}
    one = CanaryFormat("{w} {digit}", source="{w}", spaces=spaces)
    for same in (
        CanaryFormat("{w} {digit}", source="{w}", spaces=spaces),
        CanaryFormat("{w} {digit}", source="{w}", spaces={"v": ("c", "d"), "w": ("a", "b")}),
        copy.copy(one),
        copy.deepcopy(one),
        dataclasses.replace(one),
    ):
        assert same == one
        assert hash(same) == hash(one)
    others = [
        CanaryFormat("{w}  {digit}", source="{w}", spaces=spaces),
        CanaryFormat("{w} {digit}", source="{digit}", spaces=spaces),
        CanaryFormat("{w} {digit}", spaces=spaces),
        CanaryFormat("{w} {digit}", source="{w}", spaces={**spaces, "w": ["b", "a"]}),
        CanaryFormat("{w} {digit}", source="{w}", spaces={"w": ["a", "b"]}),
    ]
    assert len({one, *others}) == len(others) + 1
    assert all(one != other for other in others)
    assert one != "{w} {digit}"


def test_no_alphabets_are_no_alphabets():
    """An empty dict of alphabets is the same as none."""
    assert CanaryFormat("{digit}", spaces={}) == CanaryFormat("{digit}")
    assert hash(CanaryFormat("{digit}", spaces={})) == hash(CanaryFormat("{digit}"))


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_format_survives_pickling(used, protocol):
    """Before and after use, a format comes back equal from another process, and draws the same."""
    format = CanaryFormat("{w}/{digit:30}{luhn}", source="{w}", spaces={"w": ["x", "xx"]})
    if used:
        assert format.prefix_free
        assert format.parse(format.render(7)) == 7
    again = pickle.loads(pickle.dumps(format, protocol))
    assert again == format
    assert hash(again) == hash(format)
    assert again.sample(3, 0) == format.sample(3, 0)
    assert again.space_size == format.space_size


def test_a_format_is_its_repr():
    """The repr of a format is the call that makes it."""
    format = CanaryFormat("{w}/{digit}", source="{w}", spaces={"w": ["x", "xx"]})
    assert eval(repr(format)) == format


@pytest.mark.parametrize("name", ["template", "source", "spaces"])
def test_a_format_is_frozen(name):
    """No field can be set or deleted."""
    format = CanaryFormat("{digit}")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(format, name, "{lower}")
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(format, name)


def test_a_format_does_not_follow_its_arguments():
    """Changing the dict or the list afterwards changes nothing."""
    entries = ["a", "b"]
    spaces = {"w": entries}
    format = CanaryFormat("{w}", spaces=spaces)
    entries.append("c")
    spaces["v"] = ["d"]
    assert format == CanaryFormat("{w}", spaces={"w": ["a", "b"]})
    assert format.space_size == 2


def test_source_and_alphabets_are_named():
    """Only the template may come without its name."""
    with pytest.raises(TypeError):
        CanaryFormat("{digit}", "{digit}")

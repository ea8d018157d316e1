"""Formats are their naive twins, and draw every fill equally often."""

import itertools
import math
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from hf_canary import CanaryFormat
from hf_canary.errors import FormatError
from hf_canary.formats.template import luhn_digit, luhn_sums
from tests.support.errors import check_error
from tests.support.oracles_formats import (
    ALPHABETS,
    LUHN,
    Pieces,
    all_texts,
    format_of,
    is_ambiguous,
    is_prefix_free,
    last_run,
    luhn_valid,
)
from tests.support.repetitions import times


@given(st.text("0123456789 -ax٣", max_size=30), st.text("0123456789 -ax٣", max_size=30))
@settings(deadline=None, max_examples=times(200))
def test_sums_make_the_last_run_valid(first, second):
    """The digit for any text makes its last run valid, and sums carry over where a text is cut."""
    digit = luhn_digit(luhn_sums(first + second))
    assert luhn_valid(last_run(first + second) + digit)
    assert luhn_sums(second, luhn_sums(first)) == luhn_sums(first + second)


WORDS = st.lists(st.text("ab-0{", min_size=1, max_size=3), min_size=1, max_size=4, unique=True).map(tuple)
BUILT_IN = st.sampled_from(["digit", "lower", "hex"]).map(lambda name: (name, tuple(ALPHABETS[name])))


@st.composite
def random_pieces(draw) -> Pieces:
    """Literals, built-in alphabets, alphabets of words of any length, and check digits, of few enough candidates."""
    pieces: Pieces = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["literal", "built-in", "own", "own", "luhn"]))
        if kind == "literal":
            pieces.append((draw(st.text("ab{}0- é", min_size=1, max_size=3)),))
        elif kind == "built-in":
            pieces.append(draw(BUILT_IN))
        elif kind == "own":
            pieces.append((f"w{number}", draw(WORDS)))
        else:
            pieces += [("digit", tuple(string.digits)), LUHN]
    assume(any(len(piece) == 2 for piece in pieces))
    assume(math.prod(len(piece[1]) or 1 for piece in pieces if len(piece) == 2) <= 3000)
    return pieces


@given(pieces=random_pieces(), data=st.data())
@settings(deadline=None, max_examples=times(150))
def test_a_format_is_its_naive_twin(pieces, data):
    """The candidates in fill order are the twin's texts; `parse` undoes `render`; other texts are refused."""
    texts = all_texts(pieces)
    try:
        format = format_of(pieces)
    except FormatError as error:
        check_error(error, FormatError, "template")
        # Only a check digit, which counts as any digit, may cost a format that would have been unambiguous.
        assert is_ambiguous(pieces) or LUHN in pieces
        return
    assert format.space_size == len(texts) == len(set(texts))
    assert list(format.candidates()) == texts
    fills = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=10))
    for fill in fills:
        assert format.render(fill) == texts[fill]
        assert format.parse(texts[fill]) == fill
    known = set(texts)
    for fill in fills:
        text = texts[fill]
        place = data.draw(st.integers(0, len(text)))
        letter = data.draw(st.sampled_from("ab0-{ 1é"))
        for other in (text[:place] + text[place + 1 :], text[:place] + letter + text[place:], text + letter, text[1:]):
            if other in known:
                assert texts[format.parse(other)] == other
            else:
                with pytest.raises(FormatError) as caught:
                    format.parse(other)
                check_error(caught.value, FormatError, "text")


@given(st.integers(0, 10**400 - 1))
@settings(deadline=None, max_examples=times(20))
def test_parse_undoes_render_at_any_size(fill):
    """A fill of four hundred digits is written as its digits and comes back."""
    format = CanaryFormat("the number {digit:400}")
    assert format.render(fill) == f"the number {fill:0400}"
    assert format.parse(format.render(fill)) == fill


def small_pieces(generator: random.Random, letters: str = "xy") -> Pieces:
    """One to five literals and alphabets of short words over two letters."""
    words = ["".join(word) for length in (1, 2, 3) for word in itertools.product(letters, repeat=length)]
    pieces: Pieces = []
    for number in range(generator.randint(1, 5)):
        if generator.random() < 0.2:
            pieces.append((generator.choice(words),))
        else:
            pieces.append((f"w{number}", tuple(generator.sample(words, generator.randint(1, 4)))))
    return pieces if any(len(piece) == 2 for piece in pieces) else small_pieces(generator, letters)


def test_ambiguity_and_prefixes_are_those_of_brute_force():
    """Over four thousand templates, exactly the ambiguous are refused, and `prefix_free` is exactly what it says."""
    generator, kinds = random.Random(0), Counter()
    for _ in range(times(4000)):
        pieces = small_pieces(generator)
        ambiguous = is_ambiguous(pieces)
        try:
            format = format_of(pieces)
        except FormatError:
            assert ambiguous, pieces
            kinds["refused"] += 1
            continue
        assert not ambiguous, pieces
        assert format.prefix_free is is_prefix_free(pieces), pieces
        kinds[format.prefix_free] += 1
    assert min(kinds.values()) > 300
    assert len(kinds) == 3


def test_check_digits_are_never_wrongly_accepted():
    """With check digits, what is accepted is unambiguous and what is called prefix-free is so, if not the reverse."""
    generator, kinds = random.Random(1), Counter()
    for _ in range(times(1500)):
        pieces = small_pieces(generator, "1-")
        pieces.insert(generator.randint(1, len(pieces)), LUHN)
        try:
            format = format_of(pieces)
        except FormatError:
            kinds["refused"] += 1
            continue
        assert not is_ambiguous(pieces), pieces
        assert is_prefix_free(pieces) or not format.prefix_free, pieces
        kinds[format.prefix_free] += 1
    assert min(kinds.values()) > 20
    assert len(kinds) == 3


Sampler = Callable[[CanaryFormat, int, int], list[int]]
LOWEST_P = 1e-4  # seeds are fixed, so that a test that passes once passes always


def sample(format: CanaryFormat, n: int, seed: int) -> list[int]:
    return format.sample(n, seed)


def sorted_then_cut(format: CanaryFormat, n: int, seed: int) -> list[int]:
    """A wrong sampler: the lower half of twice as many."""
    return sorted(format.sample(2 * n, seed))[:n]


def sorted_only(format: CanaryFormat, n: int, seed: int) -> list[int]:
    """A sampler whose sets are right and whose order is not random."""
    return sorted(format.sample(n, seed))


def never_the_last(format: CanaryFormat, n: int, seed: int) -> list[int]:
    """A wrong sampler: no fill whose last hole holds its last entry."""
    last = max(len(hole.space) for hole in format.holes[-1:])
    return [fill for fill in format.sample(2 * n, seed) if fill % last != last - 1][:n]


def biased_texts(format: CanaryFormat, n: int, seed: int) -> list[int]:
    """A wrong sampler: the letter J is skipped."""
    return [fill for fill in format.sample(4 * n, seed) if "J" not in format.render(fill)][:n]


def uniform_p(counts: Iterable[int]) -> float:
    return stats.chisquare(list(counts)).pvalue


def lowest_p_of_holes(
    sampler: Sampler, format: CanaryFormat, alphabets: list[Iterable[str]], expression: str, n: int = 4000
) -> float:
    """The lowest p-value, over the holes, that each entry comes up equally often; holes are groups of `expression`."""
    texts = [re.fullmatch(expression, format.render(fill)).groups() for fill in sampler(format, n, 0)]
    p_values = []
    for alphabet, column in zip(alphabets, zip(*texts, strict=True), strict=True):
        counts = Counter(column)
        assert set(counts) <= set(alphabet)
        p_values.append(uniform_p(counts[entry] for entry in alphabet))
    return min(p_values)


WORD_ENTRIES = ["a", "bb", "ccc", "dd", "e"]
UNIFORM_CASES = {
    "digits": ("{digit:6}", [ALPHABETS["digit"]] * 6, "(.)" * 6),
    "letters": ("x{letter:5}", [ALPHABETS["letter"]] * 5, "x" + "(.)" * 5),
    "upper": ("{upper:5}!", [ALPHABETS["upper"]] * 5, "(.)" * 5 + "!"),
    "words": ("{w} {w} {w} {w} {w} {w} {w} {w}", [WORD_ENTRIES] * 8, " ".join([r"(\w+)"] * 8)),
    "luhn": ("{digit:4} {digit:3}{luhn}", [ALPHABETS["digit"]] * 8, "(.)(.)(.)(.) (.)(.)(.)(.)"),
    "beyond floats": ("{digit:30}", [ALPHABETS["digit"]] * 30, "(.)" * 30),
    "huge": ("{digit:400}", [ALPHABETS["digit"]] * 400, "(.)" * 400),
    "mixed": (
        "{w}-{hex:3}{lower:2}",
        [WORD_ENTRIES] + [ALPHABETS["hex"]] * 3 + [ALPHABETS["lower"]] * 2,
        r"(\w+)-" + "(.)" * 5,
    ),
}


@pytest.mark.parametrize("case", UNIFORM_CASES)
def test_every_hole_is_uniform(case):
    """In a draw, each entry of each hole comes up equally often, check digits included."""
    template, alphabets, expression = UNIFORM_CASES[case]
    format = CanaryFormat(template, spaces={"w": WORD_ENTRIES})
    assert lowest_p_of_holes(sample, format, alphabets, expression) > LOWEST_P


@pytest.mark.parametrize("case", UNIFORM_CASES)
def test_a_cut_of_sorted_fills_is_not_uniform(case):
    """The same check finds out a sampler that sorts and then cuts."""
    template, alphabets, expression = UNIFORM_CASES[case]
    format = CanaryFormat(template, spaces={"w": WORD_ENTRIES})
    assert lowest_p_of_holes(sorted_then_cut, format, alphabets, expression) < LOWEST_P


@pytest.mark.parametrize(
    ("case", "sampler"), [("upper", biased_texts), ("letters", biased_texts), ("digits", never_the_last)]
)
def test_a_missing_entry_is_not_uniform(case, sampler):
    """The same check finds out a sampler that leaves out one entry: the letter J, the last digit."""
    template, alphabets, expression = UNIFORM_CASES[case]
    assert lowest_p_of_holes(sampler, CanaryFormat(template), alphabets, expression) < LOWEST_P


def p_of_ordered_draws(
    sampler: Callable[[CanaryFormat, int, int], list[int]], n: int, left: list[int], draws: int = times(4000)
) -> float:
    """The p-value that every ordered draw of `n` of the fills `left` is equally likely, over many seeds."""
    counts = Counter(tuple(sampler(CanaryFormat("{w}", spaces={"w": "abcdef"}), n, seed)) for seed in range(draws))
    possible = list(itertools.permutations(left, n))
    assert set(counts) <= set(possible)
    return uniform_p(counts[draw] for draw in possible)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("exclude", [[], [0], [5], [1, 4], [0, 1, 2], [3, 3, 4, 5]])
def test_every_ordered_draw_is_equally_likely(n, exclude):
    """Over many seeds each ordered draw of the remaining fills comes up equally often, so that order is random too."""
    left = [fill for fill in range(6) if fill not in exclude]
    p_value = p_of_ordered_draws(lambda format, n, seed: format.sample(n, seed, exclude), n, left)
    assert p_value > LOWEST_P


def test_a_sorted_draw_is_not_random():
    """The same check finds out draws that come out in order, though their sets are right."""
    assert p_of_ordered_draws(sorted_only, 2, list(range(6))) < LOWEST_P


def test_the_first_of_a_draw_is_uniform():
    """In draws of many from a space beyond floats, the first fill has every first and every last digit as often."""
    format = CanaryFormat("{digit:30}")
    texts = [f"{format.sample(10, seed)[0]:030}" for seed in range(times(3000))]
    for place in (0, 15, -1):
        counts = Counter(text[place] for text in texts)
        assert uniform_p(counts[digit] for digit in string.digits) > LOWEST_P
    biased = Counter(f"{sorted_only(format, 10, seed)[0]:030}"[0] for seed in range(300))
    assert uniform_p(biased[digit] for digit in string.digits) < LOWEST_P


@given(exclude=st.lists(st.integers(0, 29), max_size=40), n=st.integers(0, 30), seed=st.integers())
@settings(deadline=None, max_examples=times(100))
def test_what_is_excluded_does_not_come_out(exclude, n, seed):
    """A draw is disjoint from `exclude`, given once or twice, in any order and as any iterable."""
    format = CanaryFormat("{w}", spaces={"w": [f"{number:02}" for number in range(30)]})
    assume(n <= 30 - len(set(exclude)))
    fills = format.sample(n, seed, exclude)
    assert len(set(fills)) == n
    assert not set(fills) & set(exclude)
    assert set(fills) <= set(range(30))
    assert fills == format.sample(n, seed, iter(sorted(exclude, reverse=True))) == format.sample(n, seed, set(exclude))

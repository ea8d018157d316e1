"""Pre-tokenizers as machines that guess: one run of guesses survives each text, and makes tokenizers' own pieces."""

import json
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from hf_canary.tokenization.matching import Matcher, matcher_of
from hf_canary.tokenization.splitting import pre_tokenizer_stages
from hf_canary.tokenization.stages import CUT, Pipeline, Unfollowed
from tests.support.repetitions import times

BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
# Each kind of character that a pattern below tells from others, and those that are one only when the case is ignored.
NASTY = "abATVLRvretlsdm1234²½٣      \n\r\t\u00a0\u2003\u2028\x85''’ſßéǅʰ\u0301中文あア😀.,!?_/(。،$▁Ġ-ΩİK"
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
PATTERNS = [
    GPT2,
    ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ENDINGS + r"|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDINGS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDINGS}?|\p{{N}}{{1,3}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r" ?[^(\s|[.,!?…。,、।۔،])]+",
    " {2,}",
    r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))",
    r"(?:\d{1,3})(?=(?:\d{3})*\b)",
    r"[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\R+|\b\w\B",
    r"^ ?\S|(?<=a)b|(?<![12t])2$|\Aa|1\z|1\Z|\n^a",
    r"(?>a|ab)(?>b*|bT)T|(?>a*?b?)T|(?>(?:a|b)+?(?>\d|\d\d))\S",
    "a(?i)b|t[^A]|(?-i:V)v",
    r"[a-t&&[^e]]{2}?[[:alpha:]](?#a letter)\x{20}|\u0061\x62|[[:^alpha:]b]{,2}?\.",
    r"\s+|\S",
]
TEXTS = ["'", " ", "ab", ".", "\n", "\\[-a"]
KINDS = [
    pre_tokenizers.Whitespace(),
    pre_tokenizers.WhitespaceSplit(),
    pre_tokenizers.BertPreTokenizer(),
    *(pre_tokenizers.Punctuation(behavior) for behavior in BEHAVIORS),
    *(pre_tokenizers.Digits(individual) for individual in (True, False)),
    *(pre_tokenizers.CharDelimiterSplit(delimiter) for delimiter in " a▁"),
    *(
        pre_tokenizers.Metaspace(mark, scheme, split)
        for mark in "▁a"
        for scheme in ("always", "first", "never")
        for split in (True, False)
    ),
    *(pre_tokenizers.ByteLevel(prefix, use_regex=regex) for prefix in (True, False) for regex in (True, False)),
    *(pre_tokenizers.FixedLength(length) for length in (1, 3)),
]


def entry(pre_tokenizer):
    """Its entry in a tokenizer's file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    return json.loads(tokenizer.to_str())["pre_tokenizer"]


def pieces(pipeline, text):
    """The pieces of the run that survives, which must be one, counted as often as there are ways to it."""
    runs = [(pipeline.start, ())]
    for character in text:
        runs = [(after, (*out, *more)) for state, out in runs for after, more in pipeline.read(state, character)]
    survivors = [(*out, *last) for state, out in runs for last in pipeline.end(state)]
    assert len(survivors) == 1, (text, survivors)
    found = [[]]
    for symbol in survivors[0]:
        found.append([]) if symbol is CUT else found[-1].append(symbol)
    return ["".join(piece) for piece in found if piece]


def nasty_texts(seed, count):
    """Texts of few different characters, so that matches meet, and one of any."""
    drawn = random.Random(seed)
    for _ in range(count):
        alphabet = drawn.sample(NASTY, drawn.randint(1, 12))
        yield "".join(drawn.choices(alphabet, k=drawn.randint(0, 16)))
    codes = drawn.choices([*range(0xD800), *range(0xE000, 0x30000)], k=20)
    yield "a".join(map(chr, codes)) + "".join(map(chr, codes))


def check(pre_tokenizer, texts):
    """The law of this file."""
    pipeline = Pipeline(pre_tokenizer_stages(entry(pre_tokenizer), normalized=False))
    for text in texts:
        expected = [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)]
        assert pieces(pipeline, text) == expected, (pre_tokenizer, text)


@pytest.mark.parametrize("pattern", [*map(Regex, PATTERNS), *TEXTS], ids=[*PATTERNS, *TEXTS])
def test_a_split_makes_the_real_pieces(pattern):
    """For each behaviour, inverted or not."""
    for number, behavior in enumerate(BEHAVIORS):
        for invert in (False, True):
            check(pre_tokenizers.Split(pattern, behavior, invert), nasty_texts(number, times(60)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: json.dumps(entry(kind)))
def test_every_kind_makes_the_real_pieces(kind):
    """Alone, and on the pieces of another."""
    check(kind, nasty_texts(repr(kind), times(150)))


def test_every_byte_has_its_character():
    """Of all first and later bytes of characters."""
    text = "".join(map(chr, [*range(0x800), *range(0x800, 0xD800, 0x800), *range(0x10000, 0x110000, 0x10000)]))
    check(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), [text])


def test_sequences_make_the_real_pieces():
    """Each stage begins anew on each piece of the one before."""
    drawn = random.Random(4)
    splits = [
        pre_tokenizers.Split(Regex(pattern), behavior, invert)
        for pattern in PATTERNS
        for behavior in BEHAVIORS
        for invert in (False, True)
    ]
    followed = 0
    while followed < times(40):
        parts = [drawn.choice(drawn.choice([KINDS, splits])) for _ in range(drawn.randint(2, 4))]
        if drawn.random() < 0.3:
            parts = [pre_tokenizers.Sequence(parts[:2]), *parts[2:]]
        try:
            check(pre_tokenizers.Sequence(parts), nasty_texts(followed, 25))
            followed += 1
        except Unfollowed as refusal:
            assert 'the scheme "first"' in str(refusal)  # noqa: PT017 - the others must go through


CLASSES = ["a", "b", "1", " ", ".", r"\s", r"\S", r"\w", r"\d", "[ab]", "[^a]", "[b1]", r"[^\s\d]", r"\n", r"[a\n]"]
ZERO_WIDTH = ["^", "$", r"\A", r"\z", r"\Z", r"\b", r"\B", "(?<=a)", "(?<![b ])"]
FOLDING = [
    "s",
    "S",
    "ſ",
    "t",
    "f",
    "i",
    "k",
    "\u212a",
    "[a-z]",
    "[^s]",
    r"\p{Lu}",
    r"[\p{Ll}]",
    "ß",
    "\ufb06",
    "İ",
    "\u0307",
]
GROUPS = ["(?:", "(", "(?>", "(?=", "(?!"]
FOLDING_GROUPS = [*GROUPS, "(?i:", "(?i:", "(?i:", "(?-i:"]
QUANTIFIERS = ["?", "*", "+", "??", "*?", "+?", "?+", "*+", "++", "{2}", "{1,2}", "{2,}", "{,2}", "{1,2}?", "{2}?"]


def grown_patterns(leaves, groups):
    """All patterns that are made of some leaves."""
    repeated, quantifiers = st.sampled_from(["(?:", "(?>"]), st.sampled_from(QUANTIFIERS)

    def grow(inner):
        return st.one_of(
            st.builds("{}|{}".format, inner, inner),
            st.builds("{}{}".format, inner, inner),
            st.builds("{}{})".format, st.sampled_from(groups), inner),
            st.builds("{}{}){}".format, repeated, inner, quantifiers),
            st.builds("{}{}".format, st.sampled_from(leaves), quantifiers),
        )

    return st.recursive(st.sampled_from(leaves), grow, max_leaves=8)


def check_pattern(pattern, alphabet, drawn):
    """The law of this file, of a pattern that may be refused."""
    try:
        matcher_of({"Regex": pattern})
    except Unfollowed:
        assume(False)
    texts = ["".join(drawn.choices(alphabet, k=drawn.randint(1, 8))) for _ in range(30)]
    check(pre_tokenizers.Split(Regex(pattern), "isolated"), texts)


@settings(deadline=None, max_examples=times(150))
@given(grown_patterns(CLASSES * 2 + ZERO_WIDTH, GROUPS), st.randoms(use_true_random=False))
def test_any_pattern_makes_the_real_pieces(pattern, drawn):
    """Or is refused."""
    check_pattern(pattern, "ab1 .\n", drawn)


@settings(deadline=None, max_examples=times(70))
@given(grown_patterns(FOLDING, FOLDING_GROUPS), st.randoms(use_true_random=False))
def test_any_pattern_without_case_makes_the_real_pieces(pattern, drawn):
    """Or is refused, as where a letter is two of another case."""
    check_pattern(pattern, "sStTſßẞ\ufb06\ufb05fF\ufb00\ufb01iIİı\u0307kK\u212a", drawn)


REFUSED = [
    r"a*",
    r"(?=(\d{3})+(?!\d))",
    "",
    r"(?i:ss)",
    "(?i:ß)",
    r"(?i:[\p{L}])",
    r"(?i:st)",
    "(?i:\u03b9\u0308\u0301)",
    r"(?i:f(?=f)f)",
    r"(?:a?)+b",
    r"(a)\1",
    r"(?<=ab)c",
    r"(?<!(?i:s))c",
    r"a\Kb",
    r"\Ga",
    r"\Xa",
    r"(?x: a)",
    r"(?~a)b",
    r"(?<n>a)\g<n>",
    r"(?(a)b|c)",
    r"a{3,2}",
    r"(?:a{50}){100}",
    r"[]a]",
    "(",
]


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_is_not_followed_is_refused(pattern):
    """Rather than approximated."""
    with pytest.raises(Unfollowed, match="pattern"):
        Matcher(pattern)


@pytest.mark.parametrize("kind", [pre_tokenizers.UnicodeScripts(), pre_tokenizers.Split("", "removed")])
def test_kinds_that_are_not_followed_are_refused(kind):
    """By name."""
    with pytest.raises(Unfollowed):
        pre_tokenizer_stages(entry(kind))


def test_the_first_piece_may_not_be_known():
    """A normaliser may have made two pieces that begin where the text does."""
    both = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")]
    with pytest.raises(Unfollowed, match="first"):
        pre_tokenizer_stages(entry(pre_tokenizers.Sequence(both)))
    assert pre_tokenizer_stages(entry(both[1]))


def test_no_pre_tokenizer_is_no_stage():
    """The text is one piece."""
    assert pre_tokenizer_stages(None) == []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_machines_stay_small(pattern):
    """However long the texts."""
    matcher = Matcher(pattern)
    states = [matcher.start]
    for state in states:
        for character in NASTY:
            states += {after for after, _ in matcher.read(state, character)} - set(states)
        assert len(states) < 300

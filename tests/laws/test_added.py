"""The stage that takes out added tokens finds those that the library finds, in one way only, whatever the text.

The oracle is a real tokenizer whose model knows every character as a token, under a name that is no added token's. So
its tokens are the text's characters and the added tokens.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

from hf_canary.tokenization.added import added_stages
from hf_canary.tokenization.normalising import Normalizer, real_normalizer
from hf_canary.tokenization.stages import CUT, Atom, Pipeline, Symbol, Unfollowed
from tests.support.normalizers import ALL, PALETTES
from tests.support.repetitions import LAWS, times

Options = dict[str, bool]
Config = dict[str, Any] | None
OPTIONS = ("single_word", "lstrip", "rstrip", "special", "normalized")


# Writes the bytes of each character behind a space, as letters.
NAMING: PreTokenizer = ByteLevel(add_prefix_space=True, use_regex=False)


def named(character: str) -> str:
    return str(NAMING.pre_tokenize_str(character)[0][0])


def characters_of(normalizer: Config, alphabet: str) -> set[str]:
    """All that the text may hold before and after the normalizer."""
    return set(alphabet) | Normalizer(normalizer, frozenset(alphabet)).alphabet


def tokenizer_with(tokens: Iterable[tuple[str, Options]], normalizer: Config, alphabet: str) -> Tokenizer:
    """Splits text into its characters and the added tokens."""
    tokens = list(tokens)
    characters = characters_of(normalizer, alphabet + "".join(content for content, _ in tokens))
    names = sorted(map(named, characters))
    tokenizer = Tokenizer(WordLevel({name: number for number, name in enumerate(names)}, "none"))
    tokenizer.pre_tokenizer = Sequence([Split("", "isolated"), NAMING])
    tokenizer = Tokenizer.from_str(json.dumps(json.loads(tokenizer.to_str()) | {"normalizer": normalizer}))
    tokenizer.add_tokens([AddedToken(content, **({"normalized": False} | options)) for content, options in tokens])
    return tokenizer


def stages_of(tokenizer: Tokenizer, alphabet: frozenset[str]) -> list[Any]:
    """All stages of a tokenizer before its model."""
    facts = json.loads(tokenizer.to_str())
    normalizer = facts["normalizer"]
    normalize = real_normalizer(normalizer) if normalizer else None
    special = tokenizer.encode_special_tokens
    return [
        *added_stages(facts["added_tokens"], alphabet, normalized=False, normalize=normalize, encode_special=special),
        *Normalizer(normalizer, alphabet).stages,
        *added_stages(
            facts["added_tokens"],
            Normalizer(normalizer, alphabet).alphabet,
            normalized=True,
            normalize=normalize,
            encode_special=special,
        ),
    ]


def ways_through(stages: list[Any], text: str) -> list[list[Symbol]]:
    """What every way that survives has written, without the cuts."""
    pipeline = Pipeline(stages)
    ways: list[tuple[Any, tuple[Symbol, ...]]] = [(pipeline.start, ())]
    for character in text:
        ways = [
            (after, (*written, *more)) for state, written in ways for after, more in pipeline.read(state, character)
        ]
    ended = [(*written, *more) for state, written in ways for more in pipeline.end(state)]
    return [[symbol for symbol in written if symbol is not CUT] for written in ended]


def check(tokenizer: Tokenizer, alphabet: str, rng: random.Random, number: int) -> None:
    normalizer = json.loads(tokenizer.to_str())["normalizer"]
    pieces = [*alphabet, *(token.content for token in tokenizer.get_added_tokens_decoder().values())]
    names = {
        tokenizer.token_to_id(named(character)): character for character in characters_of(normalizer, "".join(pieces))
    }
    stages = stages_of(tokenizer, frozenset("".join(pieces)))
    for _ in range(number):
        text = "".join(rng.choices(pieces, k=rng.randrange(8)))
        expected = [names.get(id, Atom(id)) for id in tokenizer.encode(text).ids]
        assert ways_through(stages, text) == [expected], (ascii(text), tokenizer.to_str()[:1500])


def drawn_tokens(rng: random.Random, alphabet: str, options: Iterable[str]) -> list[tuple[str, Options]]:
    """Short tokens that overlap, with some of the options."""
    contents = {"".join(rng.choices(alphabet, k=rng.choice((1, 2, 2, 3, 4)))) for _ in range(rng.randint(1, 5))}
    return [(content, {name: rng.random() < 0.4 for name in options}) for content in sorted(contents)]


NORMALIZERS: list[Config] = [
    None,
    {"type": "Lowercase"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    {"type": "Prepend", "prepend": "▁"},
    {"type": "NFKC"},
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    },
]


@pytest.mark.parametrize("options", [(), OPTIONS[:1], OPTIONS[1:2], OPTIONS[2:3], OPTIONS[3:4], OPTIONS])
@pytest.mark.parametrize("alphabet", ["ab", "ab ", "a \n", "aA_é ", "a-1\u0301\u3000"])
def test_the_same_tokens_are_found_in_one_way(alphabet: str, options: tuple[str, ...]) -> None:
    rng = random.Random(f"{alphabet}{options}{LAWS}")
    followed = 0
    for _ in range(times(12)):
        normalizer = rng.choice(NORMALIZERS) if options in ((), OPTIONS) else None
        tokenizer = tokenizer_with(drawn_tokens(rng, alphabet, options), normalizer, alphabet)
        tokenizer.encode_special_tokens = rng.random() < 0.5
        try:
            check(tokenizer, alphabet, rng, 25)
        except Unfollowed as error:
            assert "normalizer" in str(error) or "whitespace" in str(error)  # noqa: PT017 # often, but not always
        else:
            followed += 1
    assert followed > times(3)


def test_tokens_stand_between_sections_of_all_normalizers() -> None:
    rng = random.Random(LAWS)
    for _ in range(times(4)):
        for alphabet in PALETTES.values():
            normalizer = {"type": "Sequence", "normalizers": rng.choices(ALL, k=rng.choice((1, 1, 2)))}
            tokenizer = tokenizer_with(drawn_tokens(rng, alphabet, OPTIONS), normalizer, alphabet)
            with contextlib.suppress(Unfollowed):
                check(tokenizer, alphabet, rng, 8)


KINDS: dict[str, tuple[list[tuple[str, Options]], Config, str]] = {
    "GPT-2": ([("<|x|>", {"special": True}), ("ab", {}), ("abc", {}), (" b", {})], None, "abc <|x>"),
    "RoBERTa": ([("<mask>", {"lstrip": True, "special": True}), ("</s>", {"special": True})], None, "a <\n\t>"),
    "Phi-3": ([("<|user|>", {"rstrip": True, "special": True}), ("<|end|>", {"rstrip": True})], None, "a <|\n>"),
    "Gemma": (
        [(content * number, {"normalized": False}) for content in ("\n", "▁") for number in (2, 3, 5)],
        NORMALIZERS[2],
        "a \n▁",
    ),
    "Gemma, normalized": (
        [(content * number, {"normalized": True}) for content in ("\n", " ") for number in (2, 3, 5)],
        NORMALIZERS[2],
        "a \n▁",
    ),
    "Llama": ([("<s>", {"special": True}), ("</s>", {"normalized": True, "special": True})], NORMALIZERS[6], "a </s>"),
    "BERT": (
        [("[MASK]", {"special": True}), ("New", {"normalized": True, "single_word": True})],
        NORMALIZERS[1],
        "a new",
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_tokens_of_known_kinds(name: str) -> None:
    rng = random.Random(name)
    tokens, normalizer, alphabet = KINDS[name]
    for _ in range(times(2)):
        tokenizer = tokenizer_with(tokens, normalizer, alphabet)
        tokenizer.encode_special_tokens = rng.random() < 0.5
        check(tokenizer, alphabet, rng, 60)


def test_tokens_that_cannot_come_need_no_stage() -> None:
    tokenizer = tokenizer_with([("<mask>", {"lstrip": True}), ("é", {"normalized": True})], None, "a")
    assert stages_of(tokenizer, frozenset("mask")) == []
    assert len(stages_of(tokenizer, frozenset("<mask>"))) == 1


def test_tokens_that_become_equal_or_nothing_are_not_followed() -> None:
    equal = tokenizer_with([("A", {"normalized": True}), ("a", {"normalized": True})], NORMALIZERS[1], "a")
    nothing = tokenizer_with([(" ", {"normalized": True})], NORMALIZERS[5], "a")
    for tokenizer in (equal, nothing):
        with pytest.raises(Unfollowed, match="normalizer"):
            stages_of(tokenizer, frozenset("aA "))


def test_whitespace_that_two_tokens_take_is_not_followed() -> None:
    tokenizer = tokenizer_with([("a", {"rstrip": True}), (" b", {"lstrip": True})], None, "ab ")
    with pytest.raises(Unfollowed, match="whitespace"):
        stages_of(tokenizer, frozenset("ab "))

"""The stages that stand for a normalizer write what it writes, in one way only, whatever the text.

Texts are drawn from characters that combine, move, vanish or multiply. The real normalizer is the oracle.
"""

from __future__ import annotations

import itertools
import random
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest

from hf_canary.tokenization.normalising import (
    Normalizer,
    _may_combine,
    real_normalizer,
)
from hf_canary.tokenization.stages import CUT, Pipeline, Symbol, Unfollowed
from tests.support.normalizers import (
    ALL,
    BERT,
    LITERALS,
    PALETTES,
    PLAIN,
    PREPENDS,
    STRIPS,
)
from tests.support.repetitions import LAWS, times

ASSIGNED = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co") and not 0x4E10 <= code <= 0x9F00
]
ATTACHING = [character for character in ASSIGNED if _may_combine(character)]

REGEXES = [
    {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}
    for pattern, content in ((" {2,}", "▁"), (r"\s+", " "), ("[0-9]", "0"), ("ab|a", "b"))
]


def ways_through(stages: list[Any], text: str) -> list[tuple[Symbol, ...]]:
    """What every way that survives has written, without the cuts."""
    pipeline = Pipeline(stages)
    ways: list[tuple[Any, tuple[Symbol, ...]]] = [(pipeline.start, ())]
    for character in text:
        ways = [
            (after, (*written, *more)) for state, written in ways for after, more in pipeline.read(state, character)
        ]
    ended = [(*written, *more) for state, written in ways for more in pipeline.end(state)]
    return [tuple(symbol for symbol in written if symbol is not CUT) for written in ended]


def palettes(rng: random.Random) -> Iterator[str]:
    """The palettes, pairs of them, and random characters, more of those that attach themselves."""
    yield from PALETTES.values()
    yield "".join(rng.choices(list(PALETTES.values()), k=2)[0]) + "".join(rng.choice(list(PALETTES.values())))
    yield "".join(rng.choices(ASSIGNED, k=20))
    yield "".join(rng.choices(ATTACHING, k=10) + rng.choices(ASSIGNED, k=5)) + "aé가"
    yield chr(rng.randrange(0x80, 0xD800)) + chr(rng.randrange(0xE000, 0x110000)) + "a\u0301"  # perhaps unassigned


def texts(rng: random.Random, palette: str, number: int) -> list[str]:
    return ["".join(rng.choices(palette, k=rng.choice((0, 1, 2, 3, 5, 8)))) for _ in range(number)]


def check(config: dict[str, Any], palette: str, rng: random.Random, number: int) -> None:
    alphabet = frozenset(palette)
    stages, real, after = (
        Normalizer(config, alphabet).stages,
        real_normalizer(config),
        Normalizer(config, alphabet).alphabet,
    )
    for text in texts(rng, palette, number):
        assert ways_through(stages, text) == [tuple(real(text))], (ascii(text), config.get("type"))
        assert after.issuperset(real(text))


@pytest.mark.parametrize("config", ALL, ids=lambda config: config["type"])
def test_one_way_survives_and_writes_what_the_normalizer_writes(config: dict[str, Any]) -> None:
    rng = random.Random(LAWS)
    for _ in range(times(1)):
        for palette in palettes(rng):
            check(config, palette, rng, 12)


def test_sequences() -> None:
    rng = random.Random(LAWS)
    for _ in range(times(12)):
        parts = rng.choices(ALL, k=rng.choice((2, 2, 3)))
        config = {"type": "Sequence", "normalizers": [parts[0], {"type": "Sequence", "normalizers": parts[1:]}]}
        for palette in palettes(rng):
            check(config, palette, rng, 5)


@pytest.mark.parametrize("config", REGEXES, ids=lambda config: config["pattern"]["Regex"])
def test_patterns(config: dict[str, Any]) -> None:
    rng = random.Random(LAWS)
    for _ in range(times(1)):
        for palette in (PALETTES["two of a kind"], PALETTES["plain"], PALETTES["spaces"]):
            check(config, palette, rng, 20)


def test_each_section_is_normalized_by_itself() -> None:
    class Bars:
        """Cuts the text at every |."""

        start = restart = None

        def read(self, state: None, symbol: str) -> list[tuple[None, tuple[Symbol, ...]]]:
            return [(None, (CUT,) if symbol == "|" else (symbol,))]

        def end(self, state: None) -> list[tuple[Symbol, ...]]:
            return [()]

    rng = random.Random(LAWS)
    for config, palette in itertools.product((*PLAIN, *STRIPS, *PREPENDS, *LITERALS), palettes(rng)):
        real = real_normalizer(config)
        stages = [Bars(), *Normalizer(config, frozenset(palette)).stages]
        for text in texts(rng, palette.replace("|", "") + "||", times(5)):
            expected = tuple("".join(map(real, text.split("|"))))
            assert ways_through(stages, text) == [expected], (ascii(text), config)


@pytest.mark.parametrize("kind", ["NFC", "NFKC", "NFD", "NFKD", "BertNormalizer", "Lowercase"])
def test_a_character_is_written_at_once_where_nothing_can_join_it(kind: str) -> None:
    config = {"type": kind} if kind != "BertNormalizer" else BERT[0]
    palette = "".join(map(chr, range(128))) + "éß中日あ가"
    pipeline = Pipeline(Normalizer(config, frozenset(palette)).stages)
    real = real_normalizer(config)
    for character in palette:
        assert pipeline.read(pipeline.start, character) == [(pipeline.start, tuple(real(character)))]


def test_what_cannot_change_a_text_is_no_stage() -> None:
    for config in (*PLAIN[:1], *PLAIN[4:], LITERALS[0], STRIPS[0]):
        assert Normalizer(config, frozenset("bc")).stages == []
    assert Normalizer(None, frozenset("bc")).stages == []


def test_every_second_character_of_a_composition_may_combine() -> None:
    for code in range(sys.maxunicode + 1):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            assert _may_combine(chr(int(parts[1], 16)))


@pytest.mark.parametrize("kind", ["Append", "Custom"])
def test_what_is_not_known_is_named(kind: str) -> None:
    with pytest.raises(Unfollowed, match=kind):
        Normalizer({"type": "Sequence", "normalizers": [{"type": kind}]}, frozenset("ab"))


def test_nothing_cannot_be_replaced_or_prepended() -> None:
    for config in ({"type": "Prepend", "prepend": ""}, {"type": "Replace", "pattern": {"String": ""}, "content": "x"}):
        with pytest.raises(Unfollowed, match=str(config["type"])):
            Normalizer(config, frozenset("ab"))

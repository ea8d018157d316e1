"""The stages that stand for a normalizer write what it writes, in one way only, whatever the text.

Texts are drawn from characters that combine, move, vanish or multiply. The real normalizer is the oracle.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
import struct
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_canary.tokenization.normalising import (
    Normalizer,
    _may_combine,
    real_normalizer,
)
from hf_canary.tokenization.stages import CUT, Pipeline, Symbol, Unfollowed

LAWS = int(os.environ.get("HF_CANARY_LAWS", "1"))  # how many times as many texts
CHARSMAP = os.environ.get("HF_CANARY_CHARSMAP")  # a Precompiled normalizer as JSON, of a real model

ACCENTS = "\u0301\u0327\u0323\u0302\u0308\u0304\u030a\u031b\u0344\u0345\u0340\u05b0\u064b\u0652\u0f71\u0f72\u0f73\u0f81"
PALETTES = {
    "plain": "abcxyzABC 0123-_.,\n",
    "cases": "aIiİıßſſKÅΣσςǅǆﬁﬀẞéÉ",
    "accents": "aeoucEi" + ACCENTS + "éçếốạ̛ưữâÅΩ\u212b\u0958क़",
    "marks that stay": "a\u302e\u302f\u093f\U0001d165\U0001d16d\U0001d15e\U0001d157\u3099\u034f\u0323\u0301\u0f73",
    "marks that move": "\x00\u200e\u302e\U0001d165a",
    "hangul": "가각힣각각ㄱㅏﾡￂ\ua960\ud7b0\ud7cb\u11a7\u1160 a",
    "kana": "ｶﾞﾊﾟカハがゔ\u3099\u309a\u309b゛ヷ㌀㍿ a",
    "compatibility": "ﷺﬁ①½™ℌ㎏ｱＡ　…²ﹰﹲ\ufdfa\u2126\u1e9b\u0323\u0307 a",
    "arabic": "مرحباﺍﻻآ\u0653\u0654\u064e\u0651\u200d\u200c\u0600\u08e2 1",
    "indic": "कष\u094dत\u093cि\u0d4eകक\u09be\u09c7\u09d7ক\u0dca\u0dcf\u0dd9\u1025\u102e\u200d\u200c",
    "thai": "กำ\u0e48\u0e33\u0e4d\u0e32ເຳ a",
    "emoji": "😀👩❤👍\u200d\ufe0f\U0001f3fd\U0001f3fb🇩🇪🇫1\u20e3\U000e0067\U000e007f\u2640 a",
    "controls": "a b\x00\x01\x08\t\n\x0b\x0c\r\x1f\x7f\x85\x9f\xad\u200b\u200e\u2028\ufeff\ufffd\ufffc\u061c",
    "spaces": "a b\t\xa0\u1680\u2000\u2003\u200a\u202f\u205f\u3000\u180e\u200b\u2060▁\n\r\n",
    "chinese": "中文㐀\U00020000\U0002a700\U0002b820\uf900\U0002f800\U0002ceb0\u3007、。a",
    "clusters": "ab\r\n²éeo①ﾊﾟ\t\u0600\xad\u0301\u0323\u094dक가\u200d👍\U0001f3fd🇩ᆨ",
    "two of a kind": "ab  aab\n\n",
}
ASSIGNED = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co") and not 0x4E10 <= code <= 0x9F00
]
ATTACHING = [character for character in ASSIGNED if _may_combine(character)]

BERT = [
    {
        "type": "BertNormalizer",
        "clean_text": clean,
        "handle_chinese_chars": chinese,
        "strip_accents": strip,
        "lowercase": lowercase,
    }
    for clean, chinese, strip, lowercase in itertools.product(
        (True, False), (True, False), (True, False, None), (True, False)
    )
]
STRIPS: list[dict[str, Any]] = [
    {"type": "Strip", "strip_left": left, "strip_right": right} for left in (True, False) for right in (True, False)
]
PLAIN: list[dict[str, Any]] = [
    {"type": kind} for kind in ("Lowercase", "StripAccents", "Nmt", "ByteLevel", "NFC", "NFD", "NFKC", "NFKD")
]
PREPENDS = [{"type": "Prepend", "prepend": prepended} for prepended in ("▁", "ab", "\u0301", " ")]
LITERALS = [
    {"type": "Replace", "pattern": {"String": pattern}, "content": content}
    for pattern, content in ((" ", "▁"), ("a", ""), ("ab", "xyz"), ("aa", "a"), ("aab", "\u0301"), ("  ", " "))
]
REGEXES = [
    {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}
    for pattern, content in ((" {2,}", "▁"), (r"\s+", " "), ("[0-9]", "0"), ("ab|a", "b"))
]


def charsmap(rules: dict[str, str]) -> dict[str, Any]:
    """A Precompiled normalizer that makes of each key its value, as a double array (as in Darts-clone) and the values.

    Each node has a block of 256 units of its own; a unit says where that of its node begins, relative to itself.
    """
    nodes: dict[bytes, int] = {b"": 1}
    for key in rules:
        for end in range(1, len(key.encode()) + 1):
            nodes.setdefault(key.encode()[:end], len(nodes) + 1)
    units, values = [0] * 256 * (len(nodes) + 1), b""
    units[0] = 256 << 10
    for path, number in nodes.items():
        if path:
            place = 256 * nodes[path[:-1]] ^ path[-1]
            is_key = path in {key.encode() for key in rules}
            units[place] = (place ^ 256 * number) << 10 | is_key << 8 | path[-1]
    for key, value in rules.items():
        units[256 * nodes[key.encode()]] = len(values) | 1 << 31
        values += value.encode() + b"\0"
    array = struct.pack(f"<{len(units) + 1}I", 4 * len(units), *units)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(array + values).decode()}


MADE = charsmap(
    {"a": "1", "b": "\u0301", "\r": "", "²": "2", "é": "e", "e\u0301": "é", "①": "(1)", "ﾊﾟ": "パ", "ﾊ": "ハ", "\t": " "}
    | {"\u0600": "#", "\xad": "-", "\u0323": "", "क": "k", "가": "ga", "\u200d": " ", "o\u0301\u0323": "ó", "👍": "ok"}
)
REAL = json.loads(Path(CHARSMAP).read_text()) if CHARSMAP else None
ALL = [*PLAIN, *STRIPS, *PREPENDS, *LITERALS, *BERT, MADE, *([REAL] if REAL else [])]


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
    for _ in range(LAWS):
        for palette in palettes(rng):
            check(config, palette, rng, 12)


def test_sequences() -> None:
    rng = random.Random(LAWS)
    for _ in range(12 * LAWS):
        parts = rng.choices(ALL, k=rng.choice((2, 2, 3)))
        config = {"type": "Sequence", "normalizers": [parts[0], {"type": "Sequence", "normalizers": parts[1:]}]}
        for palette in palettes(rng):
            check(config, palette, rng, 5)


@pytest.mark.parametrize("config", REGEXES, ids=lambda config: config["pattern"]["Regex"])
def test_patterns(config: dict[str, Any]) -> None:
    rng = random.Random(LAWS)
    for _ in range(LAWS):
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
        for text in texts(rng, palette.replace("|", "") + "||", 5 * LAWS):
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

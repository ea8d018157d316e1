"""Normalizers of every kind, as a tokenizer's file has them, and characters that they move, join or multiply."""

from __future__ import annotations

import base64
import itertools
import json
import os
import struct
from pathlib import Path
from typing import Any

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

"""Laws of the token tree under tokenizers that nobody has thought of: cases made at random, and what must hold of each.

A case is plain data: a tokenizer as its library writes it down, and a format. Its number makes it again, and whoever
wants it smaller leaves parts of it out. What must hold is compared with the encodings of all fills. Knows what the tree
promises; knows nothing of how it is built.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import math
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, processors, trainers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

from hf_canary import exact_rank, extract
from hf_canary.errors import CanaryError, FormatError
from hf_canary.formats import CanaryFormat
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.tokenization.encoding import encode
from hf_canary.tree import building
from hf_canary.tree.token_tree import TokenTree
from hf_canary.walks.sample import Plan, sample
from tests.support import oracles, oracles_ladder

REFUSED_WITHIN, ENDED_WITHIN = 2.0, 10.0  # CPU seconds
NEAR = 1e-3  # bits
BOS, EOS, UNK = "<s>", "<end>", "<unk>"


# --------------------------------------------------------------------------------------------------------------- a case


@dataclass(frozen=True)
class Case:
    """A tokenizer and a format, as plain data.

    Args:
        model: as in a tokenizer's file; so are `normalizer` and `pre_tokenizer`.
        added: the arguments of each `AddedToken`.
        post: which special tokens the tokenizer puts around a text: "", "bos", "eos" or "both".
        unk: whether transformers is told of an unknown token.
    """

    model: dict[str, Any]
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    added: list[dict[str, Any]] = field(default_factory=list)
    post: str = ""
    unk: bool = False
    template: str = "{digit}"
    spaces: dict[str, list[str]] = field(default_factory=dict)
    context: str | None = None
    end: bool = False

    @classmethod
    def from_json(cls, text: str) -> Case:
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    def format(self) -> CanaryFormat:
        return CanaryFormat(self.template, spaces=self.spaces or None)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        bare = bare_tokenizer(self.model, self.normalizer, self.pre_tokenizer)
        bare.add_special_tokens([BOS, EOS, *([unk_of(self.model)] if self.unk else [])])
        for arguments in self.added:
            token = AddedToken(**arguments)
            (bare.add_special_tokens if arguments["special"] else bare.add_tokens)([token])
        if self.post:
            single = f"{BOS if self.post != 'eos' else ''} $A {EOS if self.post != 'bos' else ''}".strip()
            ids = [(token, bare.token_to_id(token)) for token in (BOS, EOS) if token in single]
            bare.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
        told = {"unk_token": unk_of(self.model)} if self.unk else {}
        return PreTrainedTokenizerFast(tokenizer_object=bare, bos_token=BOS, eos_token=EOS, **told)

    def features(self) -> str:
        """What kinds of parts it has, in one line."""
        model = self.model
        on = [f"{name}={model[name]}" for name in sorted(model) if name not in _PLAIN and model[name]]
        parts = [
            f"{model['type']}({', '.join(on)})",
            *(["+".join(stage["type"] for stage in stages(self.normalizer))] if self.normalizer else []),
            *(["+".join(map(_named, stages(self.pre_tokenizer)))] if self.pre_tokenizer else []),
            *(["added: " + ", ".join(sorted({_told(each) for each in self.added}))] if self.added else []),
            *([self.post] if self.post else []),
            *(["context"] if self.context else []),
            *(["end"] if self.end else []),
        ]
        return " | ".join(parts)


_PLAIN = {"type", "vocab", "merges", "unk_token", "unk_id", "max_input_chars_per_word"}


def _named(stage: dict[str, Any]) -> str:
    on = [f"{value}" if name == "behavior" else name for name, value in stage.items() if name in _TOLD and value]
    return f"{stage['type']}({', '.join(on)})" if on else stage["type"]


_TOLD = {"behavior", "invert", "add_prefix_space", "use_regex", "individual_digits"}


def _told(added: dict[str, Any]) -> str:
    return "/".join(name for name, value in added.items() if value is True) or "plain"


def unk_of(model: dict[str, Any]) -> str:
    return "[UNK]" if model["type"] == "WordPiece" else UNK


def bare_tokenizer(model: Any, normalizer: Any, pre_tokenizer: Any) -> Tokenizer:
    parts = {"model": model, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer}
    rest = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": []}
    return Tokenizer.from_str(json.dumps({**rest, **parts, "post_processor": None, "decoder": None}))


def stages(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Of a normaliser or pre-tokenizer, those of which it is a sequence."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [inner for each in part.get("normalizers") or part.get("pretokenizers") or [] for inner in stages(each)]


def sequence(parts: Sequence[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """The other way round; `name` is "normalizers" or "pretokenizers"."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return {"type": "Sequence", name: list(parts)}


# -------------------------------------------------------------------------------------------------------------- formats

_words = str.split
STYLES = {
    "english": _words("a an ant the then thing cat cats catsing sing sinning pin pins in ing is"),
    "ab": ["a", "b", "aa", "ab", "ba", "aab", "abb", "bab", "abab", "abba", "aabb", "babab"],
    "capitals": _words("pin Pin PIN is Is IS a A ß ẞ ǆ ſ K k"),
    "apostrophes": _words("' 's s' l ll 'l 'll ve 've re 're 't 'm 'd d 'D 'LL don't it's ’s s a"),
    "spaces": [" ", "  ", "   ", "a b", "a  b", " a", "a ", "b", "\n", "\t", " \n", "\u00a0", "\u3000"],
    "accents": ["é", "e\u0301", "e", "café", "cafe\u0301", "naïve", "\u0301", "ﬁ", "fi", "①", "Å", "\u212b", "ñ", "n"],
    "cjk": _words("日 日本 本 語 日本語 한 국 각 \u1100\u1161 ﾊ ﾊﾟ ハ ー 一 a1日"),
    "emoji": ["🙂", "👩", "👩\u200d👩\u200d👧", "👍", "👍🏽", "🇫🇷", "🇫", "❤", "❤\ufe0f", "a", "🙂🙂"],
    "numbers": _words("1 12 123 1234 0 00 000 9 ² ½ １ ٣ 1.5 10,000"),
    "marks": ["##a", "a</w>", "▁", "▁a", "Ġ", "Ġa", "<0x41>", "A", "_", "a", "#", "</w>", "b"],
    "punctuation": [".", "..", "...", "!", "?!", "-", "--", "/", '"', "(", ")", "$", "+", "=", "a.", "a"],
}
LITERALS = [
    *[
        "the pin is ",
        "pin",
        " is ",
        "-",
        ".",
        "'s ",
        "un",
        "ing.",
        "ing",
        "  ",
        "a",
        " a",
        "ab",
        "1",
        " 12",
        "é",
        "'ll.",
    ],
    *[":", "/", "\n", "0x", "日", "_", "The ", "b", " ", "'", "=", " the ", "s", "e", "\u0301", ", ", "n't ", "A"],
]
SHAPES = [
    *["{w}", "{w}.", "{w} {w}.", "{w}{v}.", "un{w}ing.", "{w}'s {v}'ll.", "{w}'{v}", "{w}  {v}.", "a{w}b{v}", "{w}{w}"],
    *[
        "the pin is {digit:2}",
        "pin{digit:2}.",
        "{digit:2}",
        "{digit}{luhn}",
        "{digit:2}{luhn}.",
        "{digit}-{digit}{luhn}",
    ],
    *["{w}{digit}{v}.", "{w} {digit}.", " {w} {digit}", "{lower}{digit}", "{lower}ing.", "{hex:2}", "{hex}{lower}."],
    *["{letter}{digit}", "{alnum}.", "{upper}{w}.", "{digit} is {digit}.", "{digit:3}", "{w} {v} {w}.", " {w}{v} is"],
    *["{w}{digit}{luhn}.", "{digit}{w}{luhn}", "{w}={v}.", "I {w}{v}n't.", "{w}-{v}", "({w}) {v}", "{digit}/{digit:2}"],
]
LARGE = [
    *[
        "{digit:9}",
        "the pin is {digit:12}",
        "{hex:16}",
        "{alnum:8}.",
        "{lower:7}",
        "{digit:15}{luhn}",
        "{letter:5} {digit}",
    ],
    *[
        "{digit:4} {digit:4} {digit:4} {digit:3}{luhn}",
        "{upper:3}-{digit:6}",
        "+{digit:2} {digit:9}.",
        "{w}{digit:6}{v}",
    ],
    *["{w} {v} {w} {v} {w} {v} {digit}.", "the {w} {w} {w}'s {v} {v} {v}'ll {digit:3}!", "{lower:4}{digit:4}{lower}"],
]
LISTS = ["{w}'s {v}'ll.", "the {w}'s {v}", "{w} {v}.", "{w}, {v}!", "{w}{digit} {v}"]
MANY = 1_000  # fills, of which all are still encoded; formats of more than that and these are looked at here and there
SAMPLED = 20_000


def random_format(rng: random.Random, most: float) -> dict[str, Any]:
    """Template, spaces, context and end, of at most `most` fills; where that is many, of long lists of words."""
    is_large, of_lists = most > SAMPLED, SAMPLED > most > MANY and rng.random() < 0.7
    while True:
        shape = rng.choice(SHAPES) if rng.random() < 0.7 else random_shape(rng)
        shape = rng.choice(LARGE) if is_large else rng.choice(LISTS) if of_lists else shape
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            at = rng.choice([0, len(shape), rng.randrange(len(shape) + 1)])
            if shape.count("{", 0, at) == shape.count("}", 0, at):
                shape = shape[:at] + rng.choice(LITERALS) + shape[at:]
        style = rng.choice(list(STYLES))
        words = made_up_words if of_lists else random_words
        spaces = {name: words(rng, style) for name in "wv" if f"{{{name}" in shape}
        case = {"template": shape, "spaces": spaces, "context": None, "end": rng.random() < 0.12}
        try:
            format = CanaryFormat(shape, spaces=spaces or None)
        except FormatError:
            continue
        if not (SAMPLED if is_large else 1) < format.space_size <= most or not (
            format.prefix_free or case["end"] or rng.random() < 0.02
        ):
            continue
        if rng.random() < 0.4:
            case["context"] = rng.choice(
                ["so", "the", "a", "1", "pin ", "so ", "it's", BOS, EOS, f"{BOS}so", "é", "x\n"]
            )
            if not case["context"].endswith((" ", ">", "\n")) and rng.random() < 0.7:
                case["template"] = " " + case["template"]
        return case


def random_shape(rng: random.Random) -> str:
    holes = ["{w}", "{v}", "{digit}", "{digit:2}", "{lower}", "{hex}", "{letter}"]
    parts = [rng.choice(LITERALS) if rng.random() < 0.5 else rng.choice(holes) for _ in range(rng.randint(2, 6))]
    return "".join(parts) + rng.choice(["", ".", "{luhn}", " ", "!"])


def random_words(rng: random.Random, style: str) -> list[str]:
    """Words of a style, some grown from others, some with words of another style among them."""
    pool = list(STYLES[style])
    if rng.random() < 0.3:
        pool += STYLES[rng.choice(list(STYLES))]
    count = rng.choice([2, 3, 4, 6, 9, 14, 20])
    words = rng.sample(pool, min(count, len(pool)))
    for _ in range(rng.choice([0, 0, 2, 5])):
        one, other = rng.choice(words), rng.choice(pool)
        words.append(rng.choice([one + other, other + one, one + one, one[:-1], one + rng.choice("ab1s' ")]))
    return sorted({word for word in words if word})


def made_up_words(rng: random.Random, style: str) -> list[str]:
    """Many, of a few syllables, with a few of the style."""
    syllables = ["".join(rng.choices("abcdeilmnorstu", k=rng.randint(1, 3))) for _ in range(12)]
    words = {"".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(rng.choice([20, 45]))}
    return sorted({*words, *rng.sample(STYLES[style], rng.choice([0, 0, 3]))})


# ---------------------------------------------------------------------------------------- what happens before the model

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
PATTERNS = [
    *[GPT2, LLAMA3, CL100K, O200K, CLIP, DEEPSEEK, BLOOM, LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")],
    *[
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"\s+",
        r"\d",
        "a",
        " ",
        "[0-9][0-9][0-9]",
        "b|ab",
        r"\w+|[^\w\s]+",
        r"\p{Lu}",
    ],
    *[r" ?\w+", r"'l| ?[a-z]+|\p{N}{1,2}|\s+(?!\S)|.", r"(?i)pin", r"\p{L}\p{M}*", r"[^a]+", r"\S+|\s+", r"\s+$", "^ "],
    *[r"(?=[A-Z])", r"(?<=a)b", r"\d(?=\d{3}\b)", r"a+?b", r"\bs", r"..", r"(a|ab)(b|$)", r"\r?\n|[^\n]+", r"\X"],
]
BEHAVIORS = ["Isolated", "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def split(pattern: str, behavior: str = "Isolated", invert: bool = False, *, literal: bool = False) -> dict[str, Any]:
    kind = "String" if literal else "Regex"
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(*, prefix: bool = False, regex: bool = False) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def metaspace(scheme: str = "always", split: bool = True, replacement: str = "▁") -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": replacement, "prepend_scheme": scheme, "split": split}


def replaced(pattern: str, content: str, *, regex: bool = False) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex" if regex else "String": pattern}, "content": content}


def bert(rng: random.Random) -> dict[str, Any]:
    return {
        "type": "BertNormalizer",
        "clean_text": rng.random() < 0.7,
        "handle_chinese_chars": rng.random() < 0.7,
        "strip_accents": rng.choice([None, True, False]),
        "lowercase": rng.random() < 0.6,
    }


def precompiled(rng: random.Random) -> dict[str, Any]:
    """SentencePiece's: strings for strings."""
    some = [pair for pair in COMPILED.items() if rng.random() < rng.choice([0.2, 0.9])] or [("ab", "b")]
    strings = list(dict.fromkeys(to for _, to in some))
    starts = [len("".join(string + "\0" for string in strings[:at]).encode()) for at in range(len(strings))]
    keys = {key.encode(): starts[strings.index(to)] for key, to in some}
    array = double_array(keys)
    blob = b"".join(unit.to_bytes(4, "little") for unit in array)
    joined = "".join(string + "\0" for string in strings).encode()
    raw = len(blob).to_bytes(4, "little") + blob + joined
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(raw).decode()}


COMPILED = {
    **{"①": "1", "ﬁ": "fi", "ﾊ": "ハ", "ﾊﾟ": "パ", "\u3000": " ", "\u00a0": " ", "\t": " ", "\n": " ", "e\u0301": "é"},
    **{"½": "1⁄2", "１": "1", "²": "2", "\u200d": " ", "\u212b": "Å", "’": "'", "ẞ": "ß", "\r": "", "\ufe0f": ""},
    **{"A": "a", "ab": "x", "ſ": "s", "\u0301": "", "日本": "日", "II": "I", "``": '"', "  ": " "},
}


def double_array(keys: dict[bytes, int]) -> list[int]:
    """A trie as Darts-clone writes it (Yata 2012): what stands at a place says which label led there and where next."""
    array, taken = {0: 0}, {0}
    pending = [(b"", 0)]
    while pending:
        prefix, place = pending.pop()
        labels = sorted({key[len(prefix)] for key in keys if key.startswith(prefix) and key != prefix})
        slots = [*labels, *([0] if prefix in keys else [])]
        base = next(at for at in itertools.count(1) if not {at ^ label for label in slots} & taken)
        taken |= {base ^ label for label in slots}
        array[place] |= (place ^ base) << 10 | (prefix in keys) << 8
        if prefix in keys:
            array[base] = keys[prefix] | 1 << 31
        for label in labels:
            array[base ^ label] = label
            pending.append((prefix + bytes([label]), base ^ label))
    size = (max(taken) // 256 + 1) * 256
    return [array.get(place, 0) for place in range(size)]


def random_normalizer(rng: random.Random) -> dict[str, Any] | None:
    count = rng.choices([0, 1, 2, 3], [6, 5, 2, 1])[0]
    return sequence([random_normalizing(rng) for _ in range(count)], "normalizers")


def random_normalizing(rng: random.Random) -> dict[str, Any]:
    simple = ["NFC", "NFKC", "NFD", "NFKD", "Lowercase", "StripAccents", "Lowercase", "NFC", "NFKC", "Nmt", "ByteLevel"]
    return rng.choice(
        [
            *[{"type": name} for name in simple],
            bert(rng),
            bert(rng),
            precompiled(rng),
            replaced(" ", "▁"),
            replaced(" {2,}", " ", regex=True),
            replaced(
                *rng.choice([("'", ""), ("a", "b"), ("1", "12"), ("ab", "x"), ("``", '"'), ("'s", " s"), ("é", "e")])
            ),
            replaced(
                *rng.choice([(r"\s+", " "), (r"\d", "0"), ("[aA]", "a"), (r"(\s)+$", ""), ("^ ", "")]), regex=True
            ),
            {"type": "Prepend", "prepend": rng.choice(["▁", " ", "a"])},
            {"type": "Strip", "strip_left": rng.random() < 0.7, "strip_right": rng.random() < 0.7},
        ]
    )


def random_pre_tokenizer(rng: random.Random) -> dict[str, Any] | None:
    count = rng.choices([0, 1, 2, 3], [2, 6, 4, 1])[0]
    return sequence([random_cutting(rng) for _ in range(count)], "pretokenizers")


def random_cutting(rng: random.Random) -> dict[str, Any]:
    return rng.choice(
        [
            *[byte_level(prefix=rng.random() < 0.3, regex=rng.random() < 0.5)] * 3,
            *[split(rng.choice(PATTERNS), rng.choice(BEHAVIORS), rng.random() < 0.25) for _ in range(5)],
            split(rng.choice([" ", "a", "'", "ab", "1"]), rng.choice(BEHAVIORS), literal=True),
            {"type": "Whitespace"},
            {"type": "WhitespaceSplit"},
            {"type": "BertPreTokenizer"},
            {"type": "Punctuation", "behavior": rng.choice(BEHAVIORS)},
            {"type": "Digits", "individual_digits": rng.random() < 0.5},
            *[metaspace(rng.choice(["always", "first", "never"]), rng.random() < 0.7, rng.choice("▁▁▁_"))] * 3,
            {"type": "CharDelimiterSplit", "delimiter": rng.choice(" -a1")},
            rng.choice([{"type": "UnicodeScripts"}, {"type": "FixedLength", "length": rng.randint(1, 5)}]),
        ]
    )


# --------------------------------------------------------------------------------------------------------- vocabularies


def words_that_reach_the_model(normalizer: Any, pre_tokenizer: Any, texts: Sequence[str]) -> list[str]:
    bare = bare_tokenizer({"type": "BPE", "vocab": {}, "merges": []}, normalizer, pre_tokenizer)
    words: dict[str, None] = {}
    for text in texts:
        text = bare.normalizer.normalize_str(text) if bare.normalizer else text
        pieces = [word for word, _ in bare.pre_tokenizer.pre_tokenize_str(text)] if bare.pre_tokenizer else [text]
        words |= dict.fromkeys(piece for piece in pieces if piece)
    return list(words)


def numbered(rng: random.Random, tokens: Sequence[str]) -> dict[str, int]:
    """Ids in order, or in none."""
    tokens = list(dict.fromkeys(token for token in tokens if token))
    if rng.random() < 0.4:
        rng.shuffle(tokens)
    return {token: number for number, token in enumerate(tokens)}


def random_piece(rng: random.Random, words: Sequence[str], longest: int = 6) -> str:
    """A part of a word, or all of it."""
    word = rng.choice(words)
    if rng.random() < 0.25:
        return word
    start = rng.randrange(len(word))
    return word[start : start + rng.randint(1, longest)]


def beginning_others(words: Sequence[str]) -> list[str]:
    """The words with which another begins."""
    ordered = sorted(words)
    return [one for one, other in itertools.pairwise(ordered) if other.startswith(one) and len(one) > 1]


def byte_tokens() -> list[str]:
    return [f"<0x{byte:02X}>" for byte in range(256)]


def strange_entries(rng: random.Random, count: int) -> list[str]:
    """What makes a vocabulary large without being of any use."""
    return ["".join(rng.choices("abcdeghinpst0123456789'é ", k=rng.randint(2, 5))) for _ in range(count)]


class Merges:
    """A BPE vocabulary that grows by merges made up at random."""

    def __init__(self, rng: random.Random, words: Sequence[str], prefix: str, suffix: str) -> None:
        self._rng, self._prefix, self._suffix = rng, prefix, suffix
        self._words = [self.letters(word) for word in words]
        self.letters_of_all = dict.fromkeys(token for word in self._words for token in word)
        self.merges: dict[tuple[str, str], None] = {}

    def letters(self, word: str) -> list[str]:
        """A word's first tokens, with the marks of its middle and its end."""
        marked = [word[0], *(self._prefix + letter for letter in word[1:])]
        return [*marked[:-1], marked[-1] + self._suffix]

    def joined(self, one: str, other: str) -> str:
        return one + other[len(self._prefix) :]

    def grow(self, count: int, *, everywhere: bool) -> None:
        """Merge two neighbours of some word, in this word alone or wherever they stand."""
        for _ in range(count):
            many = [number for number, word in enumerate(self._words) if len(word) > 1]
            if not many:
                return
            word = self._words[self._rng.choice(many)]
            at = self._rng.randrange(len(word) - 1)
            pair = (word[at], word[at + 1])
            self.merges[pair] = None
            if everywhere:
                self._words = [self._merged(word, pair) for word in self._words]
            else:
                word[at : at + 2] = [self.joined(*pair)]

    def _merged(self, word: list[str], pair: tuple[str, str]) -> list[str]:
        merged: list[str] = []
        for token in word:
            if merged and (merged[-1], token) == pair:
                merged[-1] = self.joined(*pair)
            else:
                merged.append(token)
        return merged

    def tokens(self) -> list[str]:
        return list(dict.fromkeys([*self.letters_of_all, *(self.joined(*pair) for pair in self.merges)]))

    def add_wholes(self, share: float) -> None:
        """Make most words one token each."""
        for at, word in enumerate(self._words):
            while len(word) > 1 and self._rng.random() < share ** (1 / len(word)):
                place = self._rng.randrange(len(word) - 1)
                pair = (word[place], word[place + 1])
                self.merges[pair] = None
                word[place : place + 2] = [self.joined(*pair)]
            self._words[at] = word

    def add_second_ways(self, count: int) -> None:
        """Another merge for a token that has one."""
        tokens = set(self.tokens())
        ways = [
            (one, other)
            for one in tokens
            for other in tokens
            if self.joined(one, other) in tokens and (one, other) not in self.merges and other.startswith(self._prefix)
        ]
        for pair in self._rng.sample(sorted(ways), min(count, len(ways))):
            self.merges[pair] = None

    def ordered(self, how: str) -> list[list[str]]:
        pairs = [list(pair) for pair in self.merges]
        if how == "reversed":
            pairs.reverse()
        elif how == "shuffled":
            self._rng.shuffle(pairs)
        elif how == "swapped":
            for _ in range(len(pairs) // 4 + 1):
                one, other = (self._rng.randrange(len(pairs)) for _ in range(2)) if pairs else (0, 0)
                if pairs:
                    pairs[one], pairs[other] = pairs[other], pairs[one]
        return pairs


def made_up_bpe(rng: random.Random, words: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    options = {**BPE_OPTIONS, **options}
    prefix, suffix = options["continuing_subword_prefix"] or "", options["end_of_word_suffix"] or ""
    some = rng.sample(words, min(len(words), rng.choice([5, 20, 60])))
    grown = Merges(rng, some, prefix, suffix)
    grown.grow(rng.choice([0, 2, 5, 10, 20, 40, 80]), everywhere=rng.random() < 0.5)
    if rng.random() < 0.2:
        grown.add_wholes(rng.choice([0.5, 0.9, 0.97]))
    if rng.random() < 0.4:
        grown.add_second_ways(rng.randint(1, 8))
    how = rng.choices(["in order", "swapped", "shuffled", "reversed"], [5, 2, 2, 1])[0]
    letters = dict.fromkeys(letter for word in words for letter in Merges(rng, [word], prefix, suffix).letters_of_all)
    letters |= dict.fromkeys(letter for word in words for letter in word)
    letters |= dict.fromkeys(letter + suffix for word in words for letter in word)
    letters |= dict.fromkeys(prefix + letter for word in words for letter in word)
    left_out = set(rng.sample(list(letters), max(1, len(letters) // 8))) if rng.random() < 0.05 else set()
    if options["byte_fallback"]:
        left_out |= {letter for letter in letters if ord(letter[0]) > 127 and rng.random() < 0.6}
    left_out -= {part for pair in grown.merges for part in pair}
    unreached = []
    for _ in range(rng.choice([0, 0, 1, 3, 8, 20])):
        piece = random_piece(rng, words)
        unreached.append(rng.choice([piece, piece + suffix, prefix + piece, prefix + piece + suffix]))
    if options["ignore_merges"]:
        unreached += rng.sample(beginnings := beginning_others(words), min(len(beginnings), rng.choice([0, 1, 1, 4])))
    tokens = [
        *([UNK] if options["unk_token"] else []),
        *(byte_tokens() if options["byte_fallback"] else []),
        *(letter for letter in letters if letter not in left_out),
        *grown.tokens(),
        *unreached,
        *strange_entries(rng, rng.choices([0, 20, 600, 3000], [20, 2, 1, 0.4])[0]),
    ]
    return {"type": "BPE", **options, "vocab": numbered(rng, tokens), "merges": grown.ordered(how)}


BPE_OPTIONS = {
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}


def random_bpe_options(rng: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {
        "ignore_merges": rng.random() < 0.3,
        "end_of_word_suffix": "</w>" if rng.random() < 0.25 else None,
        "continuing_subword_prefix": "##" if rng.random() < 0.12 else None,
        "byte_fallback": rng.random() < 0.2,
        "fuse_unk": rng.random() < 0.3,
        "unk_token": UNK if rng.random() < 0.5 else None,
        "dropout": 0.0 if rng.random() < 0.1 else None,
    }
    return options


def made_up_wordpiece(rng: random.Random, words: Sequence[str]) -> dict[str, Any]:
    prefix = rng.choices(["##", "", "@"], [10, 1, 1])[0]
    letters = list(dict.fromkeys("".join(words)))
    pieces = [random_piece(rng, words) for _ in range(rng.choice([0, 3, 10, 30, 100]))]
    inside = [prefix + random_piece(rng, words) for _ in range(rng.choice([0, 3, 10, 30, 100]))]
    kept = [letter for letter in letters if rng.random() > 0.02] if rng.random() < 0.1 else letters
    tokens = ["[UNK]", *letters, *(prefix + letter for letter in kept), *pieces, *inside]
    tokens += strange_entries(rng, rng.choices([0, 600], [20, 1])[0])
    return {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": prefix,
        "max_input_chars_per_word": rng.choices([100, 8, 4], [20, 1, 1])[0],
        "vocab": numbered(rng, tokens),
    }


def made_up_unigram(rng: random.Random, words: Sequence[str]) -> dict[str, Any]:
    byte_fallback, whole = rng.random() < 0.3, rng.random() < 0.5
    letters = dict.fromkeys("".join(words))
    pieces = dict.fromkeys(random_piece(rng, words) for _ in range(rng.choice([0, 3, 10, 30, 100])))
    left_out = {letter for letter in letters if ord(letter) > 127 and rng.random() < 0.6} if byte_fallback else set()
    left_out |= set(rng.sample(list(letters), 1)) if rng.random() < 0.05 else set()
    least = rng.choice([2, 4, 12])

    def score(piece: str) -> float:
        if rng.random() < 0.02:
            return 0.0
        base = -rng.randint(1, least) if whole else -rng.uniform(0.5, least)
        return float(base - (least if len(piece) == 1 and rng.random() < 0.7 else 0))

    tokens = [piece for piece in [*letters, *pieces] if piece not in left_out and piece != UNK]
    vocab = [[UNK, 0.0], *([[byte, float(-2 * least)] for byte in byte_tokens()] if byte_fallback else [])]
    vocab += [[piece, score(piece)] for piece in dict.fromkeys(tokens)]
    return {"type": "Unigram", "unk_id": 0, "byte_fallback": byte_fallback, "vocab": vocab}


def made_up_wordlevel(rng: random.Random, words: Sequence[str]) -> dict[str, Any]:
    kept = [word for word in words if rng.random() > 0.01] if rng.random() < 0.1 else list(words)
    return {"type": "WordLevel", "unk_token": UNK, "vocab": numbered(rng, [UNK, *kept, *"".join(words)])}


def trained(
    kind: str, rng: random.Random, words: Sequence[str], options: dict[str, Any], *, by_heart: bool
) -> dict[str, Any]:
    """A model that has seen these words, some more often than others; or so often that nearly all are one token."""
    common = {"show_progress": False, "vocab_size": rng.choice([40, 80, 150, 300, 1000])}
    if by_heart:
        unseen = set(rng.sample(list(words), min(len(words), rng.choice([0, 1, 1, 3]))))
        lines, common["vocab_size"] = [word for word in words if word not in unseen] * 3, 5_000
    else:
        lines = [word for word in words for _ in range(rng.choice([1, 2, 5]))]
        lines += ["".join(rng.choices(words, k=3)) for _ in range(20)]
    letters = sorted(set("".join(words)))
    unk = "[UNK]" if kind == "WordPiece" else UNK
    if kind == "BPE":
        given = {name: value for name, value in options.items() if value is not None and name != "unk_token"}
        model, special = token_models.BPE(**given), [UNK] if options.get("unk_token") else []
        special += byte_tokens() if options.get("byte_fallback") else []
        marks = {name: given[name] for name in ("continuing_subword_prefix", "end_of_word_suffix") if name in given}
        trainer: Any = trainers.BpeTrainer(initial_alphabet=letters, special_tokens=special, **marks, **common)
    elif kind == "WordPiece":
        model = token_models.WordPiece(unk_token=unk)
        lines += [letter * 3 for letter in letters]  # each also within a word
        trainer = trainers.WordPieceTrainer(initial_alphabet=letters, special_tokens=[unk], **common)
    elif kind == "Unigram":
        model = token_models.Unigram()
        trainer = trainers.UnigramTrainer(initial_alphabet=letters, special_tokens=[unk], unk_token=unk, **common)
    else:
        model = token_models.WordLevel(unk_token=unk)
        trainer = trainers.WordLevelTrainer(special_tokens=[unk], show_progress=False)
    tokenizer = Tokenizer(model)
    tokenizer.train_from_iterator(lines, trainer)
    made: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    if kind == "Unigram" and any(score is None for _, score in made["vocab"]):
        raise ValueError("scores that are no numbers")
    if kind == "BPE":
        made["unk_token"] = options.get("unk_token")
        made["merges"] = [list(pair) for pair in made["merges"]]
        prefix, suffix = made["continuing_subword_prefix"] or "", made["end_of_word_suffix"] or ""
        for letter in letters:  # wherever it stands
            for token in (letter, letter + suffix, prefix + letter, prefix + letter + suffix):
                made["vocab"].setdefault(token, len(made["vocab"]))
        if options.get("ignore_merges"):
            beginnings = beginning_others(words)
            for token in rng.sample(beginnings, min(len(beginnings), rng.choice([0, 1, 1, 4]))):
                made["vocab"].setdefault(token, len(made["vocab"]))
    return made


# ---------------------------------------------------------------------------------------------------------- whole cases


@dataclass(frozen=True)
class Kind:
    """What stands before the model, and the model's kind; the vocabulary is made for a format."""

    model: str
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def known_kinds(rng: random.Random) -> dict[str, Kind]:
    """As tokenizers are that people use."""

    def bytes_behind(*patterns: str, **how: Any) -> dict[str, Any] | None:
        return sequence([*(split(pattern, **how) for pattern in patterns), byte_level()], "pretokenizers")

    clip = sequence([{"type": "NFC"}, replaced(r"\s+", " ", regex=True), {"type": "Lowercase"}], "normalizers")
    marked = sequence([{"type": "Prepend", "prepend": "▁"}, replaced(" ", "▁")], "normalizers")
    fallback = {"byte_fallback": True, "fuse_unk": True, "unk_token": UNK}
    t5 = sequence([{"type": "WhitespaceSplit"}, metaspace()], "pretokenizers")
    starcoder = sequence([{"type": "Digits", "individual_digits": True}, byte_level(regex=True)], "pretokenizers")
    falcon = sequence(
        [
            {"type": "Punctuation", "behavior": "Contiguous"},
            byte_level(regex=True),
            {"type": "Digits", "individual_digits": False},
            split("[0-9][0-9][0-9]"),
        ],
        "pretokenizers",
    )
    cleaned = [precompiled(rng)] if rng.random() < 0.5 else [{"type": "Nmt"}, {"type": "NFKC"}]
    squeezed = sequence([*cleaned, replaced(" {2,}", " ", regex=True)], "normalizers")
    gpt1 = {"end_of_word_suffix": "</w>", "unk_token": UNK}
    return {
        "gpt2": Kind("BPE", None, byte_level(regex=True)),
        "roberta": Kind("BPE", None, byte_level(regex=True, prefix=rng.random() < 0.5)),
        "llama3": Kind("BPE", None, bytes_behind(LLAMA3), {"ignore_merges": True}),
        "cl100k": Kind("BPE", None, bytes_behind(CL100K), {"ignore_merges": rng.random() < 0.3}),
        "o200k": Kind("BPE", None, bytes_behind(O200K), {"ignore_merges": rng.random() < 0.5}),
        "gpt-neox": Kind("BPE", {"type": "NFC"}, byte_level(regex=True)),
        "whisper": Kind("BPE", None, byte_level(regex=True), {"unk_token": UNK}),
        "camembert": Kind("Unigram", squeezed, t5),
        "qwen": Kind("BPE", {"type": "NFC"}, bytes_behind(LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"))),
        "clip": Kind("BPE", clip, bytes_behind(CLIP, behavior="Removed", invert=True), {"end_of_word_suffix": "</w>"}),
        "gpt1": Kind("BPE", bert(rng), {"type": "BertPreTokenizer"}, gpt1),
        "deepseek": Kind("BPE", None, bytes_behind(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK)),
        "bloom": Kind("BPE", None, bytes_behind(BLOOM)),
        "starcoder": Kind("BPE", None, starcoder),
        "falcon": Kind("BPE", None, falcon),
        "llama2": Kind("BPE", marked, None, fallback),
        "mistral": Kind("BPE", None, metaspace("first", split=False), fallback),
        "gemma": Kind("BPE", replaced(" ", "▁"), split(" ", "MergedWithPrevious", literal=True), fallback),
        "bert": Kind("WordPiece", bert(rng), {"type": "BertPreTokenizer"}),
        "t5": Kind("Unigram", squeezed, t5),
        "xlm-r": Kind("Unigram", squeezed, metaspace()),
        "albert": Kind("Unigram", sequence([replaced("``", '"'), {"type": "NFKD"}], "normalizers"), metaspace()),
        "words": Kind("WordLevel", None, {"type": rng.choice(["Whitespace", "WhitespaceSplit", "BertPreTokenizer"])}),
        "letters": Kind("WordLevel", None, split("", "Isolated")),
    }


def random_kind(rng: random.Random) -> Kind:
    if rng.random() < 0.5:
        kinds = known_kinds(rng)
        return kinds[rng.choice([*kinds, "clip", "llama3", "llama3"])]
    model = rng.choices(["BPE", "WordPiece", "Unigram", "WordLevel"], [6, 2, 3, 0.7])[0]
    options = random_bpe_options(rng) if model == "BPE" else {}
    return Kind(model, random_normalizer(rng), random_pre_tokenizer(rng), options)


def random_added(rng: random.Random, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Tokens beside the model's, of which some occur in the texts."""
    tokens = []
    for _ in range(rng.choices([0, 1, 2, 4], [12, 2, 1, 1])[0]):
        content = random_piece(rng, texts, 4) if rng.random() < 0.7 else rng.choice(["<mask>", "  ", "\n", "▁▁", "'s"])
        flags = {name: rng.random() < 0.25 for name in ("lstrip", "rstrip", "single_word", "special")}
        tokens.append({"content": content, **flags, "normalized": rng.random() < 0.5})
    if rng.random() < 0.06:  # runs of spaces, as GPT-NeoX, Phi and Gemma have
        plain = dict.fromkeys(("lstrip", "rstrip", "single_word", "special"), False)
        run, normalized = rng.choice([" ", "▁", "\n"]), rng.random() < 0.5
        tokens += [{"content": run * length, **plain, "normalized": normalized} for length in range(2, 6)]
    return tokens


def with_something_left(added: list[dict[str, Any]], normalizer: Any) -> list[dict[str, Any]]:
    """Where the normaliser leaves nothing of a token, the library finds it in every place, without end."""
    normal = bare_tokenizer({"type": "BPE", "vocab": {}, "merges": []}, normalizer, None).normalizer
    return [
        {**token, "normalized": bool(token["normalized"] and (not normal or normal.normalize_str(token["content"])))}
        for token in added
    ]


def random_case(seed: int, *, large: float = 0.0) -> Case:
    """The case of a number.

    Args:
        seed: the number.
        large: how likely its format is one of which not all fills can be encoded.
    """
    for attempt in range(100):
        rng = random.Random(f"tree {seed} {attempt}")
        kind = random_kind(rng)
        most = rng.choices([40, 400, 3 * MANY], [3, 12, 2])[0]
        given = random_format(rng, math.inf if rng.random() < large else most)
        format = CanaryFormat(given["template"], spaces=given["spaces"] or None)
        texts = [format.render(fill) for fill in format.sample(min(300, format.space_size), "vocabulary")]
        added = with_something_left(random_added(rng, texts), kind.normalizer)
        whole = [*texts, *format.covering_candidates()[:60]]
        whole += [given["context"] + text for text in whole[:40]] if given["context"] else []
        words = words_that_reach_the_model(kind.normalizer, kind.pre_tokenizer, whole)
        if not words:
            continue
        model = random_model(rng, kind, words)
        if model is None:
            continue
        post = rng.choices(["", "bos", "eos", "both"], [6, 3, 1, 1])[0]
        unk = kind.model != "BPE" or bool(model.get("unk_token"))
        case = Case(model, kind.normalizer, kind.pre_tokenizer, added, post, unk, **given)
        if not panics(case) and (rng.random() < 0.2 or not Enumerated(case).refusal):
            return case
    raise RuntimeError(f"no case of number {seed}")


def some_candidates(format: CanaryFormat) -> list[str]:
    """All of them, or if they are many those in which each entry occurs and some by chance."""
    if format.space_size <= SAMPLED:
        return list(format.candidates())
    return list(dict.fromkeys([*format.covering_candidates(), *map(format.render, format.sample(100, "laws"))]))


def panics(case: Case) -> bool:
    """Whether the tokenizers library itself falls over one of the candidates, as over some added tokens."""
    texts = [(case.context or "") + text for text in some_candidates(case.format())]
    try:
        case.tokenizer()(texts)
    except BaseException as error:
        if is_panic(error):
            return True
        raise
    return False


def is_panic(error: BaseException) -> bool:
    """Of Rust, which Python knows by this name alone."""
    return type(error).__name__ == "PanicException"


def random_model(rng: random.Random, kind: Kind, words: Sequence[str]) -> dict[str, Any] | None:
    if kind.model != "WordLevel" and rng.random() < 0.25 + 0.3 * (len(words) > 30):
        try:
            return trained(kind.model, rng, words, kind.options, by_heart=rng.random() < 0.3 + 0.4 * (len(words) > 30))
        except Exception:  # a vocabulary too small for its letters, or words too few for scores
            return None
    if kind.model == "BPE":
        return made_up_bpe(rng, words, kind.options)
    made_up = {"WordPiece": made_up_wordpiece, "Unigram": made_up_unigram, "WordLevel": made_up_wordlevel}
    return made_up[kind.model](rng, words)


# ----------------------------------------------------------------------------------------------------------------- laws


class Broken(Exception):
    """A law that does not hold.

    Args:
        law: which.
        detail: where.
    """

    def __init__(self, law: str, detail: str) -> None:
        super().__init__(law, detail)
        self.law, self.detail = law, detail


class TooSlow(BaseException):
    """The time is over; no code that catches exceptions may catch it."""


OWN_CHECK = "refused by its own check"


@dataclass(frozen=True)
class Verdict:
    """What came of a case.

    Args:
        kind: "equal", "refused" (by the tree alone), "refused rightly" (as by enumeration), "refused by its own check"
            (its parts say something else than the tokenizer, and it has seen that), or a law that is broken.
        detail: the reason, or where it is broken.
        seconds: of the CPU.
        leaves: how many were compared.
    """

    kind: str
    detail: str = ""
    seconds: float = 0.0
    leaves: int = 0

    @property
    def is_fault(self) -> bool:
        return self.kind != "equal" and not self.kind.startswith("refused")


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Of this process's CPU time."""

    def over(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.5)  # and again, if it was thrown where nothing can be caught
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# A walk needs something before the first token.
_WITH_BOS = {"": "bos", "bos": "bos", "eos": "both", "both": "both"}


@contextlib.contextmanager
def derived(is_so: bool = True) -> Iterator[None]:
    """Trees are derived from the tokenizer's parts, also of formats that are small enough to encode all fills."""
    before = building._ALL_ENCODED, building._ALL_ENCODED_IN_NEED
    if is_so:
        building._ALL_ENCODED = building._ALL_ENCODED_IN_NEED = 0
    try:
        yield
    finally:
        building._ALL_ENCODED, building._ALL_ENCODED_IN_NEED = before


def judged(case: Case, *, walks: bool = False, listed: bool = False, limit: float = ENDED_WITHIN) -> Verdict:
    """Hold the tree of a case against the encodings of all fills."""
    found = Enumerated(replace(case, post=_WITH_BOS[case.post]) if walks else case)
    began = time.process_time()
    try:
        with at_most(limit), derived(not (listed and found.is_whole)):
            leaves = (check_walks if walks and found.is_whole else check_tree)(found)
        verdict = Verdict("equal", leaves=leaves)
    except CanaryError as error:
        by_itself = OWN_CHECK if "encodes it otherwise" in error.got else "refused"
        verdict = Verdict("refused rightly" if found.refusal else by_itself, reason(error))
        if time.process_time() - began > REFUSED_WITHIN:
            verdict = Verdict("refuses late", reason(error))
    except Broken as broken:
        verdict = Verdict(broken.law, broken.detail)
    except TooSlow:
        verdict = Verdict("takes too long", f"more than {limit:g} s")
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        verdict = Verdict(f"raises {type(error).__name__}", str(error)[:300])
    return replace(verdict, seconds=time.process_time() - began)


def reason(error: CanaryError) -> str:
    """An error without what is particular to a case."""
    said = f"{error.argument}: expected {error.expected}; got {error.got}"
    said = re.sub(r"""(?<!\w)(['"]).*?\1(?!\w)|\(U\+\w+\)|\d[\d,]*""", "…", said, flags=re.DOTALL)
    return re.sub(r"(…(, )?)+", "…", re.sub(r"\s+", " ", said))[:200]


class Enumerated:
    """What the tokenizer makes of every fill, or of some of a large format; or why it cannot.

    Attributes:
        is_whole: whether it is of every fill.
        refusal: the error of who encodes all fills, if it is one.
        sequences: the whole encoding of each fill, with the end token.
        conditioned: how many tokens stand before the fill.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.format, self.tokenizer = case, case.format(), case.tokenizer()
        self.texts = some_candidates(self.format)
        self.is_whole = len(self.texts) == self.format.space_size
        self.refusal: CanaryError | None = None
        self.sequences: list[tuple[int, ...]] = []
        self.conditioned = 0
        try:
            if not case.end:
                self.format.check_prefix_free()
            encoding = encode(self.tokenizer, self.texts, context=case.context, end=case.end)
        except CanaryError as error:
            self.refusal = error
            return
        self.sequences, self.conditioned = list(map(tuple, encoding.sequences)), encoding.conditioned
        self._check_by_hand()

    def _check_by_hand(self) -> None:
        """A text's own tokens are the last that the tokenizer gives for it behind the context."""
        context = self.case.context or ""
        plain = self.tokenizer([context + text for text in self.texts], add_special_tokens=False)["input_ids"]
        ahead = len(self.tokenizer(context, add_special_tokens=False)["input_ids"]) if context else 0
        for whole, sequence in zip(plain, self.sequences, strict=True):
            own = sequence[self.conditioned : len(sequence) - self.case.end]
            assert own == tuple(whole[ahead:]), "encode does not say what the tokenizer says"

    @property
    def tree(self) -> TokenTree:
        end = self.tokenizer.eos_token_id if self.case.end else None
        return TokenTree(self.format, self.tokenizer, context=self.case.context, end=end)


def check_tree(found: Enumerated) -> int:
    """All that the tree promises; returns how many leaves there are."""
    tree = found.tree
    copies = Counter(found.sequences)
    holds("it is certain", tree.is_certain, "it is not")
    if not found.is_whole:
        return check_some(tree, found)
    leaves = walked(tree, found)
    if found.refusal:
        raise Broken("walks what cannot be encoded", reason(found.refusal))
    prompt = tuple(tree.prompt)
    whole = [(*prompt, *path) for path in leaves]
    equal("no leaf twice", len(set(whole)), len(whole))
    lost, extra = sorted(set(copies) - set(whole)), sorted(set(whole) - set(copies))
    if lost or extra:
        texts = [found.texts[found.sequences.index(ids)] for ids in lost[:3]]
        law = "leaves are lost" if not extra else "leaves that are none" if not lost else "other leaves"
        raise Broken(
            law, f"{len(lost)} of {len(copies)} lost, as of {texts} {lost[:2]}; {len(extra)} extra {extra[:2]}"
        )
    equal("space_size", tree.space_size, len(copies))
    equal("collisions", tree.collisions, len(copies) < len(found.texts))
    equal("conditioned", tree.conditioned, found.conditioned)
    holds("depth bounds the leaves", max(map(len, leaves)) <= tree.depth, f"{max(map(len, leaves))} > {tree.depth}")
    check_texts(tree, found, leaves, prompt)
    check_copies(tree, found, copies)
    return len(leaves)


def check_some(tree: TokenTree, found: Enumerated) -> int:
    """Of a large format: some fills are leaves, and leaves that are come to by chance are fills."""
    if found.refusal:
        raise found.refusal  # whether the tree knows of it depends on fills that it need not have seen
    equal("conditioned", tree.conditioned, found.conditioned)
    paths, rng = tree.paths(found.texts), random.Random(0)
    for text, path in zip(found.texts, paths, strict=True):
        holds("leaves are lost", is_leaf_of(tree, path), f"that of {text!r}: {path}")
        holds("depth bounds the leaves", len(path) <= tree.depth, f"{len(path)} > {tree.depth}")
    drawn = [random_leaf(tree, rng) for _ in range(60)]
    texts = [tree.text(path) for path in drawn]
    for text in texts:
        found.format.parse(text)
    equal("leaves that are none", tree.paths(texts), drawn)
    holds("space_size", tree.space_size <= found.format.space_size, f"{tree.space_size} > {found.format.space_size}")
    if len(set(paths)) < len(paths):
        holds("collisions", tree.collisions, "two of the texts are encoded alike")
    return len(found.texts) + len(drawn)


def is_leaf_of(tree: TokenTree, path: Sequence[int]) -> bool:
    state, is_leaf = tree.root, False
    for token in path:
        edges = tree.edges(state) if state >= 0 else None
        if edges is None or token not in edges.tokens:
            return False
        at = int(np.searchsorted(edges.tokens, token))
        state, is_leaf = int(edges.states[at]), bool(edges.is_leaf[at])
    return is_leaf


def random_leaf(tree: TokenTree, rng: random.Random) -> tuple[int, ...]:
    """Each edge as likely as the others."""
    state, path = tree.root, []
    while True:
        edges = tree.edges(state)
        holds("each inner state has an edge", len(edges.tokens) > 0, f"none after {path}")
        at = rng.randrange(len(edges.tokens))
        path.append(int(edges.tokens[at]))
        ends, state = bool(edges.is_leaf[at]), int(edges.states[at])
        if ends and (state < 0 or rng.random() < 0.5):
            return tuple(path)


def holds(law: str, is_so: bool, detail: str) -> None:
    if not is_so:
        raise Broken(law, detail)


def equal(law: str, got: Any, expected: Any) -> None:
    holds(law, got == expected, f"{got} for {expected}")


def walked(tree: TokenTree, found: Enumerated) -> list[tuple[int, ...]]:
    """Every path from the root to a leaf; every state on the way keeps the laws of states."""
    most, shared = 4 * len(found.texts) + 100, len(tree.prompt)
    below = Counter(ids[shared:end] for ids in found.sequences for end in range(shared, len(ids)))
    leaves, pending = [], [((), tree.root)]
    while pending:
        path, state = pending.pop()
        edges = tree.edges(state)
        tokens, states, is_leaf = edges.tokens.tolist(), edges.states.tolist(), edges.is_leaf.tolist()
        holds("each inner state has an edge", len(tokens) > 0, f"none after {path}")
        equal("tokens ascend, none twice", tokens, sorted(set(tokens)))
        holds("each edge leads on or ends", all(map(max, [s + 1 for s in states], is_leaf)), f"after {path}: {states}")
        bound = tree.most_below(state)
        holds("most_below bounds the fills", bound >= below[path], f"{bound} < {below[path]} after {path}")
        leaves += [(*path, token) for token, ends in zip(tokens, is_leaf, strict=True) if ends]
        pending += [((*path, token), after) for token, after in zip(tokens, states, strict=True) if after >= 0]
        holds("not more leaves than fills", len(leaves) + len(pending) <= most * 4, f"{len(leaves)} leaves, and more")
    return leaves


def check_texts(tree: TokenTree, found: Enumerated, leaves: list[tuple[int, ...]], prompt: tuple[int, ...]) -> None:
    """Texts and paths are each other's."""
    encoding_of = dict(zip(found.texts, found.sequences, strict=True))
    for path, text in zip(leaves, tree.texts(leaves), strict=True):
        equal("texts() gives the fills", encoding_of.get(text), (*prompt, *path))
    for path in leaves[:: max(1, len(leaves) // 50)]:
        equal("text() gives a fill", encoding_of.get(tree.text(path)), (*prompt, *path))
    equal("paths()", [(*prompt, *path) for path in tree.paths(found.texts)], found.sequences)


def check_copies(tree: TokenTree, found: Enumerated, copies: Counter[tuple[int, ...]]) -> None:
    """How many fills have an encoding."""
    given = [tree.copies(fill) for fill in range(len(found.texts))]
    expected = [copies[ids] for ids in found.sequences]
    equal("copies()", [*zip(found.texts, given, strict=True)], [*zip(found.texts, expected, strict=True)])
    holds("most_copies bounds copies", tree.most_copies >= max(expected), f"{tree.most_copies} < {max(expected)}")
    shared = len(tree.prompt)
    paths = np.array([[*ids[shared:], *[-1] * (tree.depth - len(ids) + shared)] for ids in copies], dtype=np.int64)
    equal("copies_of()", tree.copies_of(paths).tolist(), [float(count) for count in copies.values()])


# ---------------------------------------------------------------------------------------------------------------- walks


def costs_of(model: Any, sequences: Sequence[tuple[int, ...]], conditioned: int) -> np.ndarray:
    """(n_fills,) bits of each, token by token; of the first token of all nothing is known."""
    logs: dict[tuple[int, ...], Any] = {}

    def bits(prefix: tuple[int, ...], token: int) -> float:
        if prefix not in logs:
            logs[prefix] = model.logits_after(list(prefix)).double().log_softmax(-1)
        return -logs[prefix][token].item() / math.log(2.0)

    begin = max(1, conditioned)
    return np.array([math.fsum(bits(ids[:at], ids[at]) for at in range(begin, len(ids))) for ids in sequences])


def check_walks(found: Enumerated) -> int:
    """Ranks, the likeliest and the chance of each draw, against all encodings read one by one."""
    case = found.case
    model = oracles.TableModel(max(found.tokenizer.get_vocab().values()) + 1, seed=len(found.texts))
    options = {"context": case.context, "end": case.end}
    (first,) = extract(model, found.tokenizer, found.format, **options).candidates  # may refuse, as the tree
    if found.refusal:
        raise Broken("walks what cannot be encoded", reason(found.refusal))
    costs = costs_of(model, found.sequences, found.conditioned)
    of_each = dict(zip(found.sequences, costs.tolist(), strict=True))
    cheapest = sorted(of_each.values())
    near("the likeliest", [first.log_perplexity], cheapest[:1])
    likeliest = extract(model, found.tokenizer, found.format, top_k=min(10, len(cheapest)), **options).candidates
    near("the ten likeliest", [each.log_perplexity for each in likeliest], cheapest[: len(likeliest)])
    near("costs of what was found", [each.log_perplexity for each in likeliest], costs[[e.fill for e in likeliest]])
    equal("none is found twice", len({found.sequences[each.fill] for each in likeliest}), len(likeliest))
    by_cost = np.argsort(costs)
    fills = by_cost[sorted({0, 1, len(by_cost) // 2, len(by_cost) - 1})].tolist()
    for fill, rank in zip(fills, exact_rank(model, found.tokenizer, found.format, fills, **options), strict=True):
        least, most = ((costs <= costs[fill] + slack).sum() for slack in (-NEAR, NEAR))
        is_so = rank.rank is not None and least < rank.rank <= most
        holds("ranks are those of enumeration", is_so, f"{rank} of fill {fill}: {least} to {most}")
    check_draws(model, found.tree, found)
    return len(cheapest)


def check_draws(model: Any, tree: TokenTree, found: Enumerated) -> None:
    """How likely each temperature is to draw each encoding."""
    own = {ids[len(tree.prompt) :] for ids in found.sequences}
    if not tree.prompt or any(path[:end] in own for path in own for end in range(1, len(path))):
        return  # of these the slow twin knows nothing
    candidates = oracles_ladder.enumerated(model, found.sequences, tree.prompt)
    paths = np.full((len(candidates), tree.depth), -1, dtype=np.int64)
    for row, each in zip(paths, candidates, strict=True):
        row[: len(each.path)] = each.path
    plan = Plan(np.array(oracles_ladder.BETAS[1:]), np.full(len(paths), -1), paths, np.zeros(paths.shape))
    with evaluating(model) as bare:
        drawn = sample(LanguageModel(bare).session(tree.prompt, tree.depth), tree, plan)
    last = np.arange(len(paths)), drawn.lengths - 1
    near("costs of draws", drawn.costs[last], [each.bits for each in candidates])
    near("chances of draws", drawn.log_q[last], [each.log_q[1:] for each in candidates])


def near(law: str, got: Any, expected: Any) -> None:
    got, expected = np.asarray(got, dtype=float), np.asarray(expected, dtype=float)
    is_so = got.shape == expected.shape and bool(np.allclose(got, expected, rtol=0, atol=NEAR))
    holds(law, is_so, f"{got.tolist()} for {expected.tolist()}"[:400])

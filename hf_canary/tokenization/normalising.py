"""What a tokenizer's normalizer does to text, as stages that read one character at a time.

A character is written at once where nothing that may follow can change what becomes of it. Where something may, the
characters are held until what follows stands apart for certain; what becomes of the run, the real normalizer is asked.
This file knows Unicode's rules about what stands apart, and no text, no added token and no model.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import regex  # type: ignore[import-untyped] # it comes with transformers, and without types
from tokenizers import Tokenizer

from .matching import Label, Matcher, matcher_of
from .stages import CUT, Stage, State, Transition, Unfollowed

Config = Mapping[str, Any]
Alphabet = frozenset[str]
# A stage, if the normalizer does anything to texts of the alphabet, and the alphabet of what it writes.
Followed = tuple[Stage | None, Alphabet]

_MOST_CLUSTERS = 100_000  # of characters that a charsmap is asked for; a format of text has a handful


class Normalizer:
    """The `normalizer` of a tokenizer.json, for texts over an alphabet.

    Each section between added tokens is normalized by itself, so a stage starts anew behind a cut.

    Args:
        config: its entry in the tokenizer's file; None if there is none.
        alphabet: all characters that may come.

    Attributes:
        stages: what it does, in order.
        alphabet: all characters that may stand in normalized text, and perhaps more.

    Raises:
        Unfollowed: names a part that cannot be followed exactly.
    """

    def __init__(self, config: Config | None, alphabet: Alphabet) -> None:
        self._before, self._parts = [alphabet], list[Stage | None]()
        for stage, after in _followed(config, alphabet):
            self._before.append(after)
            self._parts.append(stage)
        self.stages = [stage for stage in self._parts if stage is not None]
        self.alphabet = self._before[-1]

    def may_move_beginning(self) -> bool:
        """Whether a text, normalized, may begin with what was not its beginning, as where its first character is
        removed. Whitespace that goes before all else is left out: a cut says where it stood.
        """
        for number, (stage, alphabet) in enumerate(zip(self._parts, self._before, strict=False)):
            if isinstance(stage, _PerCharacter):
                is_kept = all(stage.written(character) for character in alphabet)
            elif isinstance(stage, _Stripping):
                is_kept = number == 0
            else:
                is_kept = stage is None or isinstance(stage, _Prepending)
            if not is_kept:
                return True
        return False


def real_normalizer(config: Config) -> Callable[[str], str]:
    """The real component, on whole texts."""
    model = {"type": "BPE", "vocab": {}, "merges": []}
    normalizer: Any = Tokenizer.from_str(json.dumps({"normalizer": config, "model": model})).normalizer
    answers: dict[str, str] = {}

    def normalized(text: str) -> str:
        if text not in answers:
            answers[text] = normalizer.normalize_str(text)
        return answers[text]

    return normalized


def _followed(config: Config | None, alphabet: Alphabet) -> Iterator[Followed]:
    for part in [] if config is None else _parts(config):
        kind = str(part.get("type"))
        if kind not in _KINDS:
            raise Unfollowed(f"a normalizer of the kind {kind}")
        stage, alphabet = _KINDS[kind](part, alphabet)
        yield stage, alphabet


def _parts(config: Config) -> Iterator[Config]:
    """The normalizers that act one after the other."""
    if config.get("type") == "Sequence":
        for part in config["normalizers"]:
            yield from _parts(part)
    elif config.get("type") == "BertNormalizer":
        yield from _parts_of_bert(config)
    else:
        yield config


def _parts_of_bert(config: Config) -> Iterator[Config]:
    """What BERT's normalizer does one after the other.

    Only accents are no matter of single characters, and cleaning before may have removed what stood between them.
    """
    strips = config["lowercase"] if config["strip_accents"] is None else config["strip_accents"]
    idle = {"type": "BertNormalizer"} | dict.fromkeys(("clean_text", "handle_chinese_chars", "lowercase"), False)
    cleaning = {name: config[name] for name in ("clean_text", "handle_chinese_chars")}
    yield {**idle, "strip_accents": False, **cleaning}
    if strips:
        yield {**idle, "strip_accents": True}
    if config["lowercase"]:
        yield {**idle, "strip_accents": False, "lowercase": True}


class _PerCharacter:
    """What becomes of a character depends on nothing else."""

    start: State = None
    restart: State = None

    def __init__(self, written: Callable[[str], str]) -> None:
        self.written = written

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        return [(state, tuple(self.written(symbol)))]

    def end(self, state: State) -> Sequence[tuple[str, ...]]:
        return [()]


def _per_character(write: Callable[[str], str], alphabet: Alphabet) -> Followed:
    if all(write(character) == character for character in alphabet):
        return None, alphabet
    return _PerCharacter(write), frozenset("".join(map(write, alphabet)))


def _of_single_characters(config: Config, alphabet: Alphabet) -> Followed:
    return _per_character(real_normalizer(config), alphabet)


class _Runs:
    """Characters are held as long as the next may join them; the real normalizer says what becomes of such a run.

    The state is the run.

    Args:
        normalize: the real one.
        joins: whether the second of two characters may join the first.
        joiners: some of those that may come, of which one joins whatever any may join.
        alphabet: all that may come.
        after: all that may be written.
    """

    start: State = ""
    restart: State = ""

    def __init__(
        self,
        normalize: Callable[[str], str],
        joins: Callable[[str, str], bool],
        joiners: Sequence[str],
        alphabet: Alphabet,
        after: Alphabet,
    ) -> None:
        self._normalize, self._joins, self._joiners = normalize, joins, joiners
        self._alphabet, self._after = alphabet, after
        self._goes_on: dict[str, bool] = {}

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        if symbol not in self._alphabet:
            raise ValueError(f"alphabet must hold all characters of the text; {symbol!a} is not in it")
        run, written = str(state), ""
        if run and not self._joins(run[-1], symbol):
            run, written = "", self._written(run)
        run += symbol
        if not self._may_go_on(symbol):
            run, written = "", written + self._written(run)
        return [(run, tuple(written))]

    def end(self, state: State) -> Sequence[tuple[str, ...]]:
        return [tuple(self._written(str(state)))]

    def _may_go_on(self, last: str) -> bool:
        if last not in self._goes_on:
            self._goes_on[last] = any(self._joins(last, character) for character in self._joiners)
        return self._goes_on[last]

    def _written(self, run: str) -> str:
        written = self._normalize(run)
        if not self._after.issuperset(written):  # later stages have been told so
            raise Unfollowed(f"a normalizer that makes {written!a} of {run!a}")
        return written


def _unicode_form(config: Config, alphabet: Alphabet) -> Followed:
    """NFC and its like: what joins the characters before it is composed with them, or put in order among them."""
    normalize = real_normalizer(config)
    if not any(map(_may_combine, alphabet)):
        return _per_character(normalize, alphabet)
    after = frozenset("".join(map(normalize, alphabet)))
    if config["type"] in ("NFC", "NFKC"):
        after = _composed(after)
    return _Runs(normalize, _joining(normalize, alphabet), _marks(alphabet), alphabet, after), after


def _marks(alphabet: Alphabet) -> list[str]:
    return [character for character in sorted(alphabet) if _may_combine(character)]


def _joining(normalize: Callable[[str], str], alphabet: Alphabet) -> Callable[[str, str], bool]:
    """Whether the second of two characters must wait for the first.

    A mark joins what stands before it, but for characters, such as the space, that no mark of the alphabet joins: these
    are no marks, so that none is put in order before them, and none is composed with them, also not over others.
    """
    marks = _marks(alphabet)
    is_sure = all(unicodedata.category(mark) != "Cn" for mark in marks)

    @cache
    def is_free(left: str) -> bool:
        if _may_combine(left) or not is_sure:
            return False
        alone = normalize(left)
        return all(normalize(left + mark) == alone + normalize(mark) for mark in marks)

    return lambda left, right: _may_combine(right) and not is_free(left)


def _bert(config: Config, alphabet: Alphabet) -> Followed:
    """One part of BERT's normalizer.

    Accents go after the others of their character were put in order. Where all that might be moved is removed, it does
    not matter in which order it stood: no character has to wait.
    """
    normalize = real_normalizer(config)
    after = frozenset("".join(map(normalize, alphabet)))
    if config["strip_accents"] and any(_may_combine(character) and normalize(character) for character in alphabet):
        return _Runs(normalize, _joining(normalize, alphabet), _marks(alphabet), alphabet, after), after
    return _per_character(normalize, alphabet)


@cache
def _may_combine(character: str) -> bool:
    """Whether a Unicode normal form may depend on what this character stands behind.

    Python's tables and the normalizer's may be of different versions of Unicode. What is assigned keeps its
    decomposition and its combining class for ever; what is not may turn out to be anything. All second characters of
    compositions are marks, or vowels and finals of Hangul.
    """
    firsts = {character} | {unicodedata.normalize(form, character)[0] for form in ("NFD", "NFKD")}
    return any(
        unicodedata.category(first)[0] == "M"
        or unicodedata.category(first) == "Cn"
        or unicodedata.combining(first) != 0
        or "\u1160" <= first <= "\u11ff"
        or "\ud7b0" <= first <= "\ud7ff"
        for first in firsts
    )


def _composed(characters: Alphabet) -> Alphabet:
    """The characters, and all that can be composed of them and of their parts."""
    parts = characters.union(*(unicodedata.normalize("NFD", character) for character in characters))
    return parts.union(whole for whole, made_of in _compositions().items() if parts.issuperset(made_of))


@cache
def _compositions() -> dict[str, str]:
    """Every character that has canonical parts, and these."""
    rows = ("".join(map(chr, range(first, first + 256))) for first in range(0, 0x110000, 256))
    some = (character for row in rows if not unicodedata.is_normalized("NFD", row) for character in row)
    parts = ((character, unicodedata.normalize("NFD", character)) for character in some)
    return {whole: made_of for whole, made_of in parts if whole != made_of}


def _precompiled(config: Config, alphabet: Alphabet) -> Followed:
    """SentencePiece's charsmap.

    It is asked for each grapheme cluster of fewer than six bytes as a whole, and for each character of a longer one.
    """
    normalize = real_normalizer(config)
    of_each_side = {_side(character): character for character in alphabet}.values()
    if not any(_share_a_cluster(left, right) for left in of_each_side for right in of_each_side):
        return _per_character(normalize, alphabet)
    after = frozenset("".join(map(normalize, _short_clusters(alphabet))))
    return _Runs(normalize, _share_a_cluster, list(of_each_side), alphabet, after), after


def _short_clusters(alphabet: Alphabet) -> list[str]:
    """All single characters, and all that may be a grapheme cluster of fewer than six bytes."""
    of_side: dict[str, list[str]] = {}
    for character in sorted(alphabet):
        of_side.setdefault(_side(character), []).append(character)
    joining = {
        side: [
            (character, len(character.encode()))
            for characters in of_side.values()
            if _share_a_cluster(some[0], characters[0])
            for character in characters
        ]
        for side, some in of_side.items()
    }
    clusters = [(character, len(character.encode())) for character in sorted(alphabet)]
    for cluster, size in clusters:  # which grows
        room = 6 - size
        clusters += [(cluster + c, size + more) for c, more in joining[_side(cluster[-1])] if more < room]
        if len(clusters) > _MOST_CLUSTERS:
            raise Unfollowed("a Precompiled normalizer over that many combining characters")
    return [cluster for cluster, _ in clusters]


# How a character may stand beside another in a grapheme cluster (Unicode Standard Annex 29, rules GB3 to GB13).
_HANGUL = regex.compile(r"[\p{GCB=L}\p{GCB=V}\p{GCB=T}\p{GCB=LV}\p{GCB=LVT}]")
_FLAG = regex.compile(r"\p{Regional_Indicator}")
_EXTENDS = regex.compile(r"[\p{M}\p{GCB=Extend}\p{GCB=SpacingMark}]")
# Format characters join emoji, or stand before what they mark; the unassigned may turn out to be anything.
_UNSURE = regex.compile(r"[\p{Cf}\p{GCB=ZWJ}\p{GCB=Prepend}]")
_SIDES = ((_UNSURE, "unsure"), (_EXTENDS, "mark"), (_HANGUL, "hangul"), (_FLAG, "flag"))
_TOGETHER = {("\r", "\n"), ("hangul", "hangul"), ("flag", "flag"), ("mark", "letter")}


@cache
def _side(character: str) -> str:
    """What matters of a character for the grapheme clusters around it."""
    if unicodedata.category(character) == "Cn":
        return "unsure"
    for pattern, side in _SIDES:
        if pattern.match(character):
            return side
    if character in "\r\n":
        return character
    # The consonants of Indian scripts, which are joined by a sign between them, are letters without case.
    return "letter" if unicodedata.category(character) == "Lo" else "other"


def _share_a_cluster(left: str, right: str) -> bool:
    """Whether two characters may stand in one grapheme cluster, one behind the other."""
    sides = _side(left), _side(right)
    return "unsure" in sides or sides[1] == "mark" or sides in _TOGETHER


class _Replacing:
    """Every match becomes the content. The state is the matcher's."""

    def __init__(self, matcher: Matcher, content: str) -> None:
        self.start: State = matcher.start
        self.restart: State = matcher.start
        self._matcher, self._content = matcher, tuple(content)

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        assert isinstance(state, int)
        written = {Label.GAP: (symbol,), Label.FIRST: self._content, Label.MORE: ()}
        return [(after, written[label]) for after, label in self._matcher.read(state, symbol)]

    def end(self, state: State) -> Sequence[tuple[str, ...]]:
        assert isinstance(state, int)
        return [()] if self._matcher.end(state) else []


def _replace(config: Config, alphabet: Alphabet) -> Followed:
    pattern, content = config["pattern"], str(config["content"])
    literal = pattern.get("String")
    if literal == "":
        raise Unfollowed("a Replace normalizer of nothing")
    if literal is not None and not alphabet.issuperset(literal):
        return None, alphabet
    if literal is not None and len(literal) == 1:
        return _per_character(lambda character: content if character == literal else character, alphabet)
    return _Replacing(matcher_of(pattern), content), alphabet.union(content)


class _Prepending:
    """Something is written before the first character. The state: whether it has come."""

    start: State = False
    restart: State = False

    def __init__(self, prepended: str) -> None:
        self._prepended = tuple(prepended)

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        return [(True, (symbol,) if state else (*self._prepended, symbol))]

    def end(self, state: State) -> Sequence[tuple[str, ...]]:
        return [()]


def _prepend(config: Config, alphabet: Alphabet) -> Followed:
    prepended = str(config["prepend"])
    if not prepended:  # the real one then counts the first character as one that was not there before
        raise Unfollowed("a Prepend normalizer of nothing")
    return _Prepending(prepended), alphabet.union(prepended)


class _Stripping:
    """Whitespace at the ends goes. Of each stretch of it is guessed whether the text ends behind it.

    In place of what goes at the beginning stands a cut: what follows no longer begins the text.
    """

    restart: State

    def __init__(self, left: bool, right: bool, is_space: Callable[[str], bool]) -> None:
        self.start: State = "before" if left else "within"
        self.restart = self.start
        self._right, self._is_space = right, is_space

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        if not self._is_space(symbol):
            return [] if state == "behind" else [("within", (symbol,))]
        if state == "before":
            return [(state, (CUT,))]
        if state == "behind":
            return [(state, ())]
        between: Transition = ("between" if self._right else "within", (symbol,))
        return [between, ("behind", ())] if self._right and state == "within" else [between]

    def end(self, state: State) -> Sequence[tuple[str, ...]]:
        return [] if state == "between" else [()]


def _strip(config: Config, alphabet: Alphabet) -> Followed:
    left, right = bool(config["strip_left"]), bool(config["strip_right"])
    stripped = real_normalizer({"type": "Strip", "strip_left": True, "strip_right": True})
    spaces = frozenset(character for character in alphabet if not stripped(character))
    if not spaces or not (left or right):
        return None, alphabet
    return _Stripping(left, right, spaces.__contains__), alphabet


_KINDS: dict[str, Callable[[Config, Alphabet], Followed]] = {
    "BertNormalizer": _bert,
    "ByteLevel": _of_single_characters,
    "Lowercase": _of_single_characters,
    "NFC": _unicode_form,
    "NFD": _unicode_form,
    "NFKC": _unicode_form,
    "NFKD": _unicode_form,
    "Nmt": _of_single_characters,
    "Precompiled": _precompiled,
    "Prepend": _prepend,
    "Replace": _replace,
    "Strip": _strip,
    "StripAccents": _of_single_characters,
}

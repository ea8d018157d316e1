"""What the pre-tokenizers of the library tokenizers do to a text, as stages: pieces, with cuts between them.

Each stage does exactly what its namesake does; what cannot be followed exactly is refused. Kinds of characters are
asked of the real pre-tokenizers. This file knows no vocabulary, and of normalisers only that there may be one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import filterfalse
from typing import Any, Protocol, cast

from tokenizers import pre_tokenizers

from .matching import Label, Matcher, matcher_of
from .stages import CUT, Stage, State, Symbol, Transition, Unfollowed

Config = Mapping[str, Any]
# As tokenizers has it, without the endings of words that stand by themselves.
BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class MatchFinder(Protocol):
    """Finds matches in a piece, as a Matcher does."""

    start: int

    def read(self, state: int, character: str) -> Sequence[tuple[int, Label]]:
        """As of a Matcher."""
        ...

    def end(self, state: int) -> bool:
        """As of a Matcher."""
        ...


class Characters:
    """Finds the characters of a kind, each a match of its own."""

    start = 0

    def __init__(self, is_one: Callable[[str], bool]) -> None:
        self._is_one = cache(is_one)

    def read(self, state: int, character: str) -> Sequence[tuple[int, Label]]:
        """As of a Matcher."""
        return [(state, Label.FIRST if self._is_one(character) else Label.GAP)]

    def end(self, state: int) -> bool:
        """As of a Matcher: nothing is ever guessed."""
        return True


class Stretches:
    """Finds the longest stretches of characters of one kind. Kind 0 is no match."""

    start = 0

    def __init__(self, kind_of: Callable[[str], int]) -> None:
        self._kind_of = cache(kind_of)

    def read(self, state: int, character: str) -> Sequence[tuple[int, Label]]:
        """As of a Matcher. The state is the kind of the character before."""
        kind = self._kind_of(character)
        if not kind:
            return [(0, Label.GAP)]
        return [(kind, Label.MORE if kind == state else Label.FIRST)]

    def end(self, state: int) -> bool:
        """As of a Matcher: nothing is ever guessed."""
        return True


# Whether a piece ends between two segments of it, of which each is a delimiter or not. A segment is a match, or all
# that stands between two matches; delimiters are the matches, or, of an inverted split, the others.
ENDS_BETWEEN: Mapping[str, Callable[[bool, bool], bool]] = {
    "Isolated": lambda before, after: True,
    "Removed": lambda before, after: True,
    "Contiguous": lambda before, after: before != after,
    "MergedWithPrevious": lambda before, after: before or not after,
    "MergedWithNext": lambda before, after: after or not before,
}


class Split:
    """Cuts pieces at the matches of a pattern.

    The state is the finder's, and whether the character before was of a match; None at the start of a piece.
    """

    def __init__(self, finder: MatchFinder, behavior: str, invert: bool = False) -> None:
        if behavior not in ENDS_BETWEEN:
            raise Unfollowed(f"the behaviour {behavior} of a split")
        self._finder, self._invert = finder, invert
        self._removes, self._ends_between = behavior == "Removed", ENDS_BETWEEN[behavior]
        self.start: State = (finder.start, None)
        self.restart: State = self.start

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        """As of a stage."""
        finding, before = cast(tuple[int, bool | None], state)
        transitions: list[Transition] = []
        for after, label in self._finder.read(finding, symbol):
            matched = label is not Label.GAP
            goes_on = label is Label.MORE or (before is False and not matched)
            transitions.append(((after, matched), self._written(before, matched, goes_on, symbol)))
        return transitions

    def end(self, state: State) -> Sequence[tuple[Symbol, ...]]:
        """As of a stage."""
        finding, _ = cast(tuple[int, bool | None], state)
        return [()] if self._finder.end(finding) else []

    def _written(self, before: bool | None, matched: bool, goes_on: bool, symbol: str) -> tuple[Symbol, ...]:
        """What is written of a character: itself unless it is removed, and the cut before it."""
        delimits = matched != self._invert
        if delimits and self._removes:
            # What stands before is over. What follows is cut off too, also where nothing is before: it no longer begins
            # the text.
            was_kept = before is not None and before == self._invert
            return (CUT,) if was_kept else ()
        if goes_on or before is None or not self._ends_between(before != self._invert, delimits):
            return (symbol,)
        return (CUT, symbol)


@cache
def _byte_characters() -> Sequence[str]:
    """The character that stands for each byte: itself if it can be seen, else one of those from 256 on."""
    seen = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte if byte in seen else next(others)) for byte in range(256)]


class Bytes:
    """Writes the bytes of each character, each as a character."""

    start: State = None
    restart: State = None

    @staticmethod
    def character(byte: int) -> str:
        """What a byte is written as."""
        return _byte_characters()[byte]

    @staticmethod
    def written(character: str) -> tuple[str, ...]:
        """What the bytes of a character are written as."""
        characters = _byte_characters()
        return tuple([characters[byte] for byte in character.encode()])

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        """As of a stage."""
        return [(state, self.written(symbol))]

    def end(self, state: State) -> Sequence[tuple[Symbol, ...]]:
        """As of a stage."""
        return [()]


class Prefix:
    """Writes a character before each piece that does not begin with it.

    The state is whether the piece has begun.
    """

    def __init__(self, character: str, only_first: bool = False) -> None:
        self._character = character
        self.start: State = False
        self.restart: State = only_first

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        """As of a stage."""
        return [(True, (symbol,) if state or symbol == self._character else (self._character, symbol))]

    def end(self, state: State) -> Sequence[tuple[Symbol, ...]]:
        """As of a stage."""
        return [()]


class Swap:
    """Writes one character in place of another."""

    start: State = None
    restart: State = None

    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        """As of a stage."""
        return [(state, (self._new if symbol == self._old else symbol,))]

    def end(self, state: State) -> Sequence[tuple[Symbol, ...]]:
        """As of a stage."""
        return [()]


class FixedLength:
    """Cuts pieces of a number of characters. The state is how many the piece has."""

    start: State = 0
    restart: State = 0

    def __init__(self, length: int) -> None:
        self._length = length

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        """As of a stage."""
        count = cast(int, state)
        return [(1, (CUT, symbol)) if count == self._length else (count + 1, (symbol,))]

    def end(self, state: State) -> Sequence[tuple[Symbol, ...]]:
        """As of a stage."""
        return [()]


# Kinds of characters, as the real pre-tokenizers have them. None of them holds the letter a, or removes it.


def _is_space(character: str) -> bool:
    return not pre_tokenizers.WhitespaceSplit().pre_tokenize_str(character)


def _is_punctuation(character: str) -> bool:
    return not pre_tokenizers.Punctuation("removed").pre_tokenize_str(character)


def _is_digit(character: str) -> bool:
    return len(pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str("a" + character)) == 2


def _is_bert_space(character: str) -> bool:
    return not pre_tokenizers.BertPreTokenizer().pre_tokenize_str(character)


def _is_bert_punctuation(character: str) -> bool:
    return len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str("a" + character)) == 2


def _word_kind(character: str) -> int:
    r"""0 of whitespace, 1 of `\w`, 2 of all else."""
    if not pre_tokenizers.Whitespace().pre_tokenize_str(character):
        return 0
    return len(pre_tokenizers.Whitespace().pre_tokenize_str("a" + character))


# One function for each kind of pre-tokenizer, from its entry in the tokenizer's file.


def _split(config: Config) -> list[Stage]:
    return [Split(matcher_of(config["pattern"]), config["behavior"], config["invert"])]


def _byte_level(config: Config) -> list[Stage]:
    stages: list[Stage] = [Prefix(" ")] if config["add_prefix_space"] else []
    if config.get("use_regex", True):
        stages.append(Split(Matcher(BYTE_LEVEL), "Isolated"))
    return [*stages, Bytes()]


def _metaspace(config: Config) -> list[Stage]:
    mark, scheme = config["replacement"], _prepend_scheme(config)
    stages: list[Stage] = [Swap(" ", mark)]
    if scheme != "never":
        stages.append(Prefix(mark, only_first=scheme == "first"))
    if config.get("split", True) is not False:
        stages.append(Split(Characters(mark.__eq__), "MergedWithNext"))
    return stages


def _prepend_scheme(config: Config) -> str:
    scheme = config.get("prepend_scheme", "always")
    if scheme not in ("always", "first", "never"):
        raise Unfollowed(f"the scheme {scheme} of the pre-tokenizer Metaspace")
    return str(scheme)


def _delimiter(config: Config) -> list[Stage]:
    return [Split(Characters(config["delimiter"].__eq__), "Removed")]


def _digits(config: Config) -> list[Stage]:
    return [Split(Characters(_is_digit), "Isolated" if config["individual_digits"] else "Contiguous")]


def _punctuation(config: Config) -> list[Stage]:
    return [Split(Characters(_is_punctuation), config.get("behavior", "Isolated"))]


def _bert(config: Config) -> list[Stage]:
    return [Split(Characters(_is_bert_space), "Removed"), Split(Characters(_is_bert_punctuation), "Isolated")]


KINDS: Mapping[str, Callable[[Config], list[Stage]]] = {
    "Split": _split,
    "ByteLevel": _byte_level,
    "Metaspace": _metaspace,
    "Whitespace": lambda config: [Split(Stretches(_word_kind), "Removed", invert=True)],
    "WhitespaceSplit": lambda config: [Split(Characters(_is_space), "Removed")],
    "BertPreTokenizer": _bert,
    "Punctuation": _punctuation,
    "Digits": _digits,
    "CharDelimiterSplit": _delimiter,
    "FixedLength": lambda config: [FixedLength(config.get("length", 5))],
}


# Which characters a kind of pre-tokenizer leaves out, whatever stands beside them.
_REMOVED: Mapping[str, Callable[[Config], Callable[[str], bool]]] = {
    "Whitespace": lambda config: lambda character: _word_kind(character) == 0,
    "WhitespaceSplit": lambda config: _is_space,
    "BertPreTokenizer": lambda config: _is_bert_space,
    "CharDelimiterSplit": lambda config: config["delimiter"].__eq__,
}


def pre_tokenizer_stages(config: Config | None, *, normalized: bool = True) -> list[Stage]:
    """The stages of a tokenizer's pre-tokenizer.

    Args:
        config: its entry in the tokenizer's file; None if there is none.
        normalized: whether a normaliser may have changed the text before. One that writes several characters for the
            first makes a second piece that begins where the text does, by which Metaspace's scheme "first" goes.

    Raises:
        Unfollowed: a part of it is not followed exactly.
    """
    entries = _flat(config)
    for number, entry in enumerate(entries):
        if entry["type"] not in KINDS:
            raise Unfollowed(f"the pre-tokenizer {entry['type']}")
        if entry["type"] == "Metaspace" and _prepend_scheme(entry) == "first":
            _check_first(entries[:number], normalized)
    return [stage for entry in entries for stage in KINDS[entry["type"]](entry)]


def written_alphabet(config: Config | None, alphabet: frozenset[str]) -> frozenset[str]:
    """All characters that may stand in the pieces of texts over an alphabet, and perhaps more."""
    for entry in _flat(config):
        if entry["type"] == "Metaspace":
            alphabet = alphabet - {" "} | {entry["replacement"]}
        elif entry["type"] == "ByteLevel":
            alphabet = alphabet | {" "} if entry["add_prefix_space"] else alphabet
            alphabet = frozenset(unit for character in alphabet for unit in Bytes().written(character))
        elif entry["type"] in _REMOVED:
            alphabet = frozenset(filterfalse(_REMOVED[entry["type"]](entry), alphabet))
    return alphabet


def marks_beginning(config: Config | None) -> bool:
    """Whether a pre-tokenizer writes something before the piece that begins the text, and before no other."""
    return any(entry["type"] == "Metaspace" and _prepend_scheme(entry) == "first" for entry in _flat(config))


def _check_first(before: Sequence[Config], normalized: bool) -> None:
    """Refuses Metaspace's scheme "first" behind what may make two pieces that both begin where the text does."""
    if any(normalized or entry["type"] in ("ByteLevel", "Metaspace") for entry in before):
        raise Unfollowed('the scheme "first" of the pre-tokenizer Metaspace behind another')


def _flat(config: Config | None) -> list[Config]:
    """The pre-tokenizers of a sequence, also where it holds sequences."""
    if config is None:
        return []
    if config["type"] != "Sequence":
        return [config]
    return [entry for inner in config["pretokenizers"] for entry in _flat(inner)]

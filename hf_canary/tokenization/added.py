"""Added tokens, which a tokenizer takes out of the text before all else, as a stage that reads one character at a time.

Found are the leftmost of them, and the longest there; the search goes on behind what was found. At each character the
stage guesses whether one starts, and watches that what it guessed against does not come. This file knows no model, and
of the normalizer only what it makes of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel

from .stages import CUT, Atom, Stage, State, Symbol, Transition, Unfollowed


def added_stages(
    added: Sequence[Mapping[str, Any]],
    alphabet: frozenset[str],
    *,
    normalized: bool,
    normalize: Callable[[str], str] | None,
    encode_special: bool,
) -> list[Stage]:
    """The stage that takes out added tokens, or none if none of them can come.

    Args:
        added: the `added_tokens` of a tokenizer.json, as it is after all changes.
        alphabet: all characters that may come.
        normalized: whether to take those that are looked for in normalized text, or those looked for before.
        normalize: the normalizer, which is applied to the former.
        encode_special: whether special tokens are read as text.

    Raises:
        Unfollowed: says in what way tokens cannot be told apart.
    """
    tokens = [
        _Token(
            token["id"],
            normalize(token["content"]) if normalized and normalize else token["content"],
            read_as_text=encode_special and token["special"],
            single_word=token["single_word"],
            lstrip=token["lstrip"],
            rstrip=token["rstrip"],
        )
        for token in added
        if token["normalized"] == normalized and token["content"]
    ]
    _check(tokens)
    found = [token for token in tokens if alphabet.issuperset(token.text)]
    return [_Adding(found)] if found else []


@dataclass(frozen=True)
class _Token:
    """An added token, and what is looked for."""

    id: int
    text: str
    read_as_text: bool
    single_word: bool
    lstrip: bool
    rstrip: bool

    @property
    def may_be_passed_over(self) -> bool:
        return self.read_as_text or self.single_word


def _check(tokens: Sequence[_Token]) -> None:
    texts = [token.text for token in tokens]
    if not all(texts):
        raise Unfollowed("an added token of which the normalizer leaves nothing")
    if len(set(texts)) < len(texts):
        raise Unfollowed("added tokens that the normalizer makes equal")
    taken = [token for token in tokens if not token.read_as_text]
    if any(token.rstrip for token in taken) and any(token.lstrip and _is_space(token.text[0]) for token in taken):
        # The latter would be cut out of whitespace that the former has taken already.
        raise Unfollowed("an added token that takes whitespace on its right, and one that does so on its left")


@cache
def _is_space(character: str) -> bool:
    """Whether an added token takes it if it takes whitespace."""
    return len(_beside(character, lstrip=True)) == 1


@cache
def _is_word(character: str) -> bool:
    """Whether no token that must be a word of its own may stand beside it."""
    return 1 not in _beside(character, single_word=True)


def _beside(character: str, **options: bool) -> list[int]:
    """What the library makes of a character (0) and an added token behind it (1)."""
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    token = "\ue000" if character != "\ue000" else "\ue001"  # private: nothing of its own
    tokenizer.add_tokens([AddedToken(token, normalized=False, **options)])
    numbers: list[int] = tokenizer.encode(character + token).ids
    return numbers


@dataclass
class _Node:
    """A beginning of tokens, as a node of their tree."""

    children: dict[str, _Node] = field(default_factory=dict)
    token: _Token | None = None

    # As itself, not as what it holds: it stands in states.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def _tree(tokens: Sequence[_Token]) -> _Node:
    root = _Node()
    for token in tokens:
        node = root
        for character in token.text:
            node = node.children.setdefault(character, _Node())
        node.token = token
    return root


class _Space(Enum):
    """The whitespace just before, since the last token."""

    NONE = "there is none"
    LEFT = "it is text"
    AHEAD = "a token to come takes it"
    BEHIND = "the last token takes it, and what follows of it"


@dataclass(frozen=True)
class _Match:
    """A token of which the beginning was read.

    Attributes:
        node: what was read of it.
        taken: whether it is taken out of the text, or passed over.
        space: the whitespace before it.
        word: whether a character of a word stands before it.
    """

    node: _Node
    taken: bool
    space: _Space
    word: bool


@dataclass(frozen=True)
class _Reading:
    """What the stage knows, and what it has guessed.

    Attributes:
        watched: beginnings that were read of tokens that must not come.
        match: the token that is being read.
        space: the whitespace just before.
        word: whether the last character is one of a word.
        next_word: whether the next must be, if that was guessed. An end is none.
    """

    watched: frozenset[_Node] = frozenset()
    match: _Match | None = None
    space: _Space = _Space.NONE
    word: bool = False
    next_word: bool | None = None


class _Adding:
    """Writes a token that is found between two cuts, where it ends."""

    start: State = _Reading()
    restart: State = _Reading()

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._root = _tree(tokens)
        self._any_lstrip = any(token.lstrip and not token.read_as_text for token in tokens)
        self._any_single_word = any(token.single_word and not token.read_as_text for token in tokens)
        self._any_passed_over = any(token.may_be_passed_over for token in tokens)

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        assert isinstance(state, _Reading)
        word = self._any_single_word and _is_word(symbol)
        watched = [node.children[symbol] for node in state.watched if symbol in node.children]
        if state.next_word not in (None, word) or any(node.token for node in watched):
            return []
        now = replace(state, watched=frozenset(watched), word=word, next_word=None)
        if state.match is None:
            return [*self._outside(now, symbol), *self._starting(state, now, symbol)]
        node = state.match.node.children.get(symbol)
        return [] if node is None else list(self._inside(replace(now, match=replace(state.match, node=node)), symbol))

    def end(self, state: State) -> Sequence[tuple[Symbol, ...]]:
        assert isinstance(state, _Reading)
        refuted = state.match is not None or state.space is _Space.AHEAD or state.next_word is True
        return [] if refuted else [()]

    def _outside(self, now: _Reading, symbol: str) -> Iterator[Transition]:
        """No token starts here."""
        node = self._root.children.get(symbol)
        if node is None:
            yield from self._text(now, symbol)
        elif node.token is None:
            yield from self._text(replace(now, watched=now.watched | {node}), symbol)

    def _starting(self, before: _Reading, now: _Reading, symbol: str) -> Iterator[Transition]:
        """A token starts here."""
        node = self._root.children.get(symbol)
        if node is not None:
            for taken in (True, False) if self._any_passed_over else (True,):
                yield from self._inside(replace(now, match=_Match(node, taken, before.space, before.word)), symbol)

    def _inside(self, now: _Reading, symbol: str) -> Iterator[Transition]:
        """The token that is being read goes on, or ends here."""
        match = now.match
        assert match is not None
        for after, written in [(now, ())] if match.taken else self._text(now, symbol):
            if match.node.children:
                yield after, written
            if match.node.token is not None:
                yield from self._ended(after, match, match.node.token, written)

    def _ended(self, now: _Reading, match: _Match, token: _Token, written: tuple[Symbol, ...]) -> Iterator[Transition]:
        """A token ends here. A longer one is not to come."""
        watched = now.watched | {match.node} if match.node.children else now.watched
        behind = replace(now, watched=watched, match=None)
        if not match.taken:
            if token.read_as_text or (token.single_word and match.word):
                yield behind, written
            elif token.single_word:
                yield replace(behind, next_word=True), written
        elif _may_be_taken(token, match):
            space = _Space.BEHIND if token.rstrip else _Space.NONE
            next_word = False if token.single_word else None
            yield replace(behind, space=space, next_word=next_word), (CUT, Atom(token.id), CUT)

    def _text(self, now: _Reading, symbol: str) -> Iterator[tuple[_Reading, tuple[Symbol, ...]]]:
        """A character that is part of no token, or of one that is passed over."""
        if not _is_space(symbol):
            if now.space is not _Space.AHEAD:
                yield replace(now, space=_Space.NONE), (symbol,)
        elif now.space in (_Space.AHEAD, _Space.BEHIND):
            yield now, ()
        elif not self._any_lstrip:
            yield now, (symbol,)
        else:
            yield replace(now, space=_Space.LEFT), (symbol,)
            if now.space is _Space.NONE:
                yield replace(now, space=_Space.AHEAD), ()


def _may_be_taken(token: _Token, match: _Match) -> bool:
    """Whether what was guessed before a token fits it."""
    space = _Space.LEFT if token.lstrip else _Space.AHEAD
    return not token.read_as_text and match.space is not space and not (token.single_word and match.word)

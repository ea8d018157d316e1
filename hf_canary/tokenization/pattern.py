r"""A pattern as a tree of its parts.

The pattern is one of Oniguruma, as the library tokenizers compiles it. Which characters a class holds is asked of
tokenizers' own engine. This file knows nothing of texts, nor how matches are found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from tokenizers import Regex
from tokenizers.normalizers import Replace

from .stages import Unfollowed


@dataclass(frozen=True)
class One:
    """One character of a class.

    Attributes:
        source: the class as a pattern writes it.
        options: the letters of the options it stands under.
    """

    source: str
    options: str = ""

    @property
    def folds(self) -> bool:
        """Whether the case of letters is ignored."""
        return "i" in self.options

    def holds(self, text: str) -> bool:
        """Whether tokenizers' engine matches the whole of a text, which may be several characters: `(?i:ß)` is ss."""
        return bool(_engine(self.source, self.options).normalize_str(text) == "")


@cache
def _engine(source: str, options: str) -> Replace:
    return Replace(Regex(rf"\A(?{options}:{source})\z"), "")


@dataclass(frozen=True)
class Chain:
    """Parts one behind the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Choice:
    """Parts of which the first that leads to a match is taken."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """A part `least` to `most` times, without bound where `most` is None; as often as possible unless `lazy`."""

    part: Node
    least: int
    most: int | None
    lazy: bool = False


@dataclass(frozen=True)
class Atomic:
    """A part whose first way to match is final: `(?>...)`."""

    part: Node


@dataclass(frozen=True)
class Look:
    """What follows matches the part, or, unless `holds`, does not."""

    part: Node
    holds: bool


@dataclass(frozen=True)
class Behind:
    """The character before is of the class, or, unless `holds`, is not. With no class: no character is before."""

    one: One | None
    holds: bool


@dataclass(frozen=True)
class TextEnd:
    """Nothing follows. Stands last in a `Look`."""


Node = One | Chain | Choice | Repeat | Atomic | Look | Behind | TextEnd
_NEWLINE = One(r"\n")
_ANY = One(r"\O")
_WORD = One(r"\w")
_AT_END = Look(TextEnd(), True)
_ESCAPED_CHARACTERS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "a": 7, "e": 27}
_POSIX_BRACKET = r"\[:\^?(?:alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|xdigit|word):\]"
# One or two digits behind \x are a byte, and from 80 on not a character.
_CODED = r"\\x\{[0-9A-Fa-f]{1,8}\}|\\u[0-9A-Fa-f]{4}|\\x[0-7][0-9A-Fa-f]|\\x[0-9A-Fa-f](?![0-9A-Fa-f])"
_ASSERTIONS: dict[str, Node] = {
    "A": Behind(None, True),
    "z": _AT_END,
    "Z": Choice((_AT_END, Look(Chain((_NEWLINE, _AT_END)), True))),
    "b": Choice((Chain((Behind(_WORD, True), Look(_WORD, False))), Chain((Behind(_WORD, False), Look(_WORD, True))))),
    "B": Choice((Chain((Behind(_WORD, True), Look(_WORD, True))), Chain((Behind(_WORD, False), Look(_WORD, False))))),
    # Oniguruma's ^ and $ are of lines, and no line begins behind a newline that ends the text.
    "^": Choice((Behind(None, True), Chain((Behind(_NEWLINE, True), Look(_ANY, True))))),
    "$": Look(Choice((_NEWLINE, TextEnd())), True),
    # \R is (?>\r\n|[...]): it does not come back from \r\n to \r.
    "R": Choice(
        (Chain((One(r"\r"), _NEWLINE)), Chain((One(r"\r"), Look(_NEWLINE, False))), One(r"(?!\r)\R")),
    ),
}
_BRACES = r"\{(\d+,?\d*|,\d+)\}"


def literal(character: str, options: str = "") -> One:
    """The class of a character that stands for itself."""
    return One(f"\\x{{{ord(character):X}}}", options)


class Parser:
    """Reads a pattern to its tree.

    Options are the letters of those that are on: "i" (letters in both cases) and "m" (the dot also holds a newline).
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def tree(self) -> Node:
        """The tree of the whole pattern."""
        tree = self._choice("")
        if self.at < len(self.pattern):
            raise self._unfollowed("a parenthesis too many")
        return tree

    def _unfollowed(self, part: str) -> Unfollowed:
        return Unfollowed(f"{part} in the pattern {self.pattern!r}")

    def _eat(self, expression: str) -> str | None:
        """What stands next, if it matches: consumed."""
        found = re.compile(expression).match(self.pattern, self.at)
        if not found:
            return None
        self.at = found.end()
        return found.group()

    def _choice(self, options: str) -> Node:
        parts = [self._row(options)]
        while self._eat(r"\|"):
            parts.append(self._row(options))
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _row(self, options: str) -> Node:
        parts: list[Node] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            if self._eat(r"\(\?#[^)\\]*\)"):
                continue
            if changed := self._eat(r"\(\?[a-zA-Z-]*\)"):
                # An option alone makes a group of all that follows, alternatives included: a(?i)b|c is a(?i:b|c).
                parts.append(self._choice(self._changed(options, changed[2:-1])))
            else:
                parts.append(self._repeated(self._part(options)))
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def _changed(self, options: str, change: str) -> str:
        if not re.fullmatch(r"[im]*(-[im]*)?", change):
            raise self._unfollowed(f"the option (?{change})")
        on, _, off = change.partition("-")
        return "".join(letter for letter in "im" if letter in options + on and letter not in off)

    def _repeated(self, node: Node) -> Node:
        """A part with all quantifiers behind it."""
        while True:
            if sign := self._eat(r"[?*+][?+]?"):
                least, most = {"?": (0, 1), "*": (0, None), "+": (1, None)}[sign[0]]
                node = Repeat(node, least, most, lazy=sign[1:] == "?")
                node = Atomic(node) if sign[1:] == "+" else node
            elif exactly := self._eat(r"\{\d+\}"):
                # A ? behind {n} is a quantifier of its own, and so is a + behind any braces.
                node = Repeat(node, int(exactly[1:-1]), int(exactly[1:-1]))
            elif between := self._eat(_BRACES):
                node = self._between(node, between, lazy=bool(self._eat(r"\?")))
            else:
                return node

    def _between(self, node: Node, braces: str, lazy: bool) -> Node:
        low, high = braces[1:-1].split(",")
        least, most = int(low or 0), int(high) if high else None
        if most is not None and least > most:
            raise self._unfollowed(f"the repeat {braces}")
        return Repeat(node, least, most, lazy)

    def _part(self, options: str) -> Node:
        character = self.pattern[self.at]
        if character == "(":
            return self._group(options)
        if character == "[":
            return One(self._brackets(), options)
        if character == "\\":
            return self._escape(options)
        self.at += 1
        if character in "^$":
            return _ASSERTIONS[character]
        if character == ".":
            return One(".", options)
        if character in "?*+" or re.match(_BRACES, self.pattern[self.at - 1 :]):
            raise self._unfollowed("a repeat of nothing")
        return literal(character, options)

    def _group(self, options: str) -> Node:
        opening = self._eat(r"\(\?(<?[=!]|>|[a-zA-Z-]*:|<[A-Za-z_]\w*>)|\((?![?*])")
        if opening is None:
            raise self._unfollowed(f"the group {self.pattern[self.at : self.at + 4]}")
        if opening.endswith(":"):
            options = self._changed(options, opening[2:-1])
        inner = self._choice(options)
        if not self._eat(r"\)"):
            raise self._unfollowed("a parenthesis that is not closed")
        if opening in ("(?=", "(?!"):
            return Look(inner, opening == "(?=")
        if opening in ("(?<=", "(?<!"):
            return self._behind(inner, opening == "(?<=")
        return Atomic(inner) if opening == "(?>" else inner

    def _behind(self, inner: Node, holds: bool) -> Node:
        ones = inner.parts if isinstance(inner, Choice) else (inner,)
        # Oniguruma folds less behind than ahead.
        if not all(isinstance(one, One) and not one.folds for one in ones):
            raise self._unfollowed("the look-behind")
        parts = tuple(Behind(one, holds) for one in ones if isinstance(one, One))
        return Choice(parts) if holds else Chain(parts)

    def _brackets(self) -> str:
        """A class in brackets, as it is written. What it holds is for the engine to say."""
        start, depth = self.at, 0
        while True:
            if self._eat(r"\[\^?(?=\])") or self._eat(r"\\[cCM]"):
                raise self._unfollowed("a bracket or control character in a class")
            if depth and self._eat(_POSIX_BRACKET):
                continue
            if self._eat(r"\["):
                depth += 1
            elif self._eat(r"\]"):
                depth -= 1
            elif not self._eat(r"(?s)\\.|[^\\]"):
                raise self._unfollowed("a class that is not closed")
            if not depth:
                return self.pattern[start : self.at]

    def _escape(self, options: str) -> Node:
        if code := self._eat(_CODED):
            return self._coded(int(code[2:].strip("{}"), 16), options)
        if kind := self._eat(r"\\[pP]\{[^{}]*\}|\\[dDwWsShHNO]"):
            return One(kind, options)
        if letter := self._eat(r"\\[AzZbBR]"):
            return _ASSERTIONS[letter[1]]
        if control := self._eat(r"\\[tnvfrae]"):
            return literal(chr(_ESCAPED_CHARACTERS[control[1]]), options)
        if itself := self._eat(r"(?s)\\[^0-9A-Za-z]"):
            return literal(itself[1], options)
        raise self._unfollowed(f"the escape {self.pattern[self.at : self.at + 2]}")

    def _coded(self, code: int, options: str) -> Node:
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise self._unfollowed("a number of no character")
        return literal(chr(code), options)


def may_be_empty(node: Node) -> bool:
    """Whether a part may match no character."""
    match node:
        case One():
            return False
        case Chain(parts):
            return all(map(may_be_empty, parts))
        case Choice(parts):
            return any(map(may_be_empty, parts))
        case Repeat(part, least, _, _):
            return least == 0 or may_be_empty(part)
        case Atomic(part):
            return may_be_empty(part)
        case _:
            return True

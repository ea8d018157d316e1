r"""Where a pattern matches in a text, as a machine that reads one character at a time, guesses, and refutes.

The pattern is one of Oniguruma, as the library tokenizers compiles it. Where its successive matches stand from left to
right depends on what follows: `\s+(?!\S)` matches less if a letter comes. The machine guesses, and each wrong guess is
refuted by a later character, so exactly one run survives for each text. Which characters a class holds is asked of
tokenizers' own engine. This file knows nothing of tokens, nor what is done with a match.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import NamedTuple

from tokenizers import Regex
from tokenizers.normalizers import Replace

# A number of a run of guesses.
State = int


class Unfollowed(Exception):
    """A part of a tokenizer that is not followed exactly. The argument names the part."""


class Label(Enum):
    """What a character is: between matches, the first of a match, or one more of the same match."""

    GAP = "gap"
    FIRST = "first"
    MORE = "more"


# The tree of a pattern.


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
class Row:
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


Node = One | Row | Choice | Repeat | Atomic | Look | Behind | TextEnd
NEWLINE = One(r"\n")
ANY = One(r"\O")
WORD = One(r"\w")
AT_END = Look(TextEnd(), True)
ESCAPED_CHARACTERS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "a": 7, "e": 27}
POSIX_BRACKET = r"\[:\^?(?:alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|xdigit|word):\]"
# One or two digits behind \x are a byte, and from 80 on not a character.
CODED = r"\\x\{[0-9A-Fa-f]{1,8}\}|\\u[0-9A-Fa-f]{4}|\\x[0-7][0-9A-Fa-f]|\\x[0-9A-Fa-f](?![0-9A-Fa-f])"
ASSERTIONS: dict[str, Node] = {
    "A": Behind(None, True),
    "z": AT_END,
    "Z": Choice((AT_END, Look(Row((NEWLINE, AT_END)), True))),
    "b": Choice((Row((Behind(WORD, True), Look(WORD, False))), Row((Behind(WORD, False), Look(WORD, True))))),
    "B": Choice((Row((Behind(WORD, True), Look(WORD, True))), Row((Behind(WORD, False), Look(WORD, False))))),
    # Oniguruma's ^ and $ are of lines, and no line begins behind a newline that ends the text.
    "^": Choice((Behind(None, True), Row((Behind(NEWLINE, True), Look(ANY, True))))),
    "$": Look(Choice((NEWLINE, TextEnd())), True),
    # \R is (?>\r\n|[...]): it does not come back from \r\n to \r.
    "R": Choice(
        (Row((One(r"\r"), NEWLINE)), Row((One(r"\r"), Look(NEWLINE, False))), One(r"(?!\r)\R")),
    ),
}
BRACES = r"\{(\d+,?\d*|,\d+)\}"
# A repeated part is copied. Beyond this number of steps the machine is too large to be of use.
MOST_STEPS = 4000


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
        return parts[0] if len(parts) == 1 else Row(tuple(parts))

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
            elif between := self._eat(BRACES):
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
            return ASSERTIONS[character]
        if character == ".":
            return One(".", options)
        if character in "?*+" or re.match(BRACES, self.pattern[self.at - 1 :]):
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
        return Choice(parts) if holds else Row(parts)

    def _brackets(self) -> str:
        """A class in brackets, as it is written. What it holds is for the engine to say."""
        start, depth = self.at, 0
        while True:
            if self._eat(r"\[\^?(?=\])") or self._eat(r"\\[cCM]"):
                raise self._unfollowed("a bracket or control character in a class")
            if depth and self._eat(POSIX_BRACKET):
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
        if code := self._eat(CODED):
            return self._coded(int(code[2:].strip("{}"), 16), options)
        if kind := self._eat(r"\\[pP]\{[^{}]*\}|\\[dDwWsShHNO]"):
            return One(kind, options)
        if letter := self._eat(r"\\[AzZbBR]"):
            return ASSERTIONS[letter[1]]
        if control := self._eat(r"\\[tnvfrae]"):
            return literal(chr(ESCAPED_CHARACTERS[control[1]]), options)
        if itself := self._eat(r"(?s)\\[^0-9A-Za-z]"):
            return literal(itself[1], options)
        raise self._unfollowed(f"the escape {self.pattern[self.at : self.at + 2]}")

    def _coded(self, code: int, options: str) -> Node:
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise self._unfollowed("a number of no character")
        return literal(chr(code), options)


def _may_be_empty(node: Node) -> bool:
    match node:
        case One():
            return False
        case Row(parts):
            return all(map(_may_be_empty, parts))
        case Choice(parts):
            return any(map(_may_be_empty, parts))
        case Repeat(part, least, _, _):
            return least == 0 or _may_be_empty(part)
        case Atomic(part):
            return _may_be_empty(part)
        case _:
            return True


# The tree as a program: numbered steps that say which may follow, the preferred first.


@dataclass(frozen=True)
class Read:
    """Goes on if the next character is of a class."""

    kind: int
    after: int


@dataclass(frozen=True)
class Fork:
    """Goes on in several ways, the first preferred."""

    ways: tuple[int, ...]


@dataclass(frozen=True)
class Ahead:
    """Goes on if the program at `part` matches what follows, or, unless `holds`, does not."""

    part: int
    holds: bool
    after: int


@dataclass(frozen=True)
class After:
    """Goes on if the character before is of a class, or, unless `holds`, is not. With no class: at the text's start."""

    kind: int | None
    holds: bool
    after: int


@dataclass(frozen=True)
class Held:
    """A part whose first match is final: the threads inside, preferred first, and where to go on behind it."""

    inside: tuple[Thread, ...]
    after: int


@dataclass(frozen=True)
class Accept:
    """A match is complete."""


@dataclass(frozen=True)
class AcceptEnd:
    """A match is complete if the text ends here."""


Thread = int | Held
Step = Read | Fork | Ahead | After | Held | Accept | AcceptEnd
ACCEPT = 0


class Program:
    """The steps of a pattern. Equal steps have one number, so that threads with one future are one.

    Attributes:
        kinds: the classes of characters that it asks for.
        steps: by number.
        start: where a match begins.
    """

    def __init__(self, tree: Node) -> None:
        self.kinds: list[One] = []
        self.steps: list[Step] = []
        self._numbers: dict[Step, int] = {}
        self._written: dict[tuple[Node, int], int] = {}
        self._number(Accept())
        self.start = self._write(tree, ACCEPT)
        self.behind = sorted({step.kind for step in self.steps if isinstance(step, After) and step.kind is not None})
        self.knows_start = any(isinstance(step, After) for step in self.steps)

    def _number(self, step: Step) -> int:
        if len(self.steps) > MOST_STEPS:
            raise Unfollowed("repeats of large numbers")
        if step not in self._numbers:
            self._numbers[step] = len(self.steps)
            self.steps.append(step)
        return self._numbers[step]

    def _kind(self, one: One) -> int:
        if one not in self.kinds:
            self.kinds.append(one)
        return self.kinds.index(one)

    def _write(self, node: Node, after: int) -> int:
        """The number of the step at which a part begins that goes on at `after`."""
        if (node, after) not in self._written:
            self._written[node, after] = self._write_anew(node, after)
        return self._written[node, after]

    def _write_anew(self, node: Node, after: int) -> int:
        match node:
            case One():
                return self._number(Read(self._kind(node), after))
            case Row(parts):
                for part in reversed(parts):
                    after = self._write(part, after)
                return after
            case Choice(parts):
                return self._number(Fork(tuple(self._write(part, after) for part in parts)))
            case Repeat():
                return self._write_repeat(node, after)
            case Atomic(part):
                return self._number(Held((self._write(part, ACCEPT),), after))
            case Look(part, holds):
                return self._number(Ahead(self._write(part, ACCEPT), holds, after))
            case Behind(one, holds):
                return self._number(After(None if one is None else self._kind(one), holds, after))
            case TextEnd():
                return self._number(AcceptEnd())

    def _write_repeat(self, node: Repeat, after: int) -> int:
        copies = node.least if node.most is None else node.most
        if (node.most is None or node.most > 1) and _may_be_empty(node.part):
            raise Unfollowed("a repeated part that may match nothing")
        out = after
        if node.most is None:
            after = self._write_loop(node, out)
        for _ in range(copies - node.least):
            after = self._fork(self._write(node.part, after), out, node.lazy)
        for _ in range(node.least):
            after = self._write(node.part, after)
        return after

    def _write_loop(self, node: Repeat, out: int) -> int:
        loop = len(self.steps)
        self.steps.append(Accept())  # its place is taken until the part is written, which comes back to it
        body = self._write(node.part, loop)
        self.steps[loop] = Fork((out, body) if node.lazy else (body, out))
        return loop

    def _fork(self, inside: int, out: int, lazy: bool) -> int:
        return self._number(Fork((out, inside) if lazy else (inside, out)))


# Characters that are several when the case is ignored.


@cache
def _long_folds() -> Sequence[tuple[str, str]]:
    """All characters that become several when the case is ignored, and what they become."""
    plane = map(chr, range(0x10000))  # the others hold none
    return [(character, character.casefold()) for character in plane if len(character.casefold()) > 1]


def _check_folds(program: Program) -> None:
    """Refuses classes under `(?i)` that may match several characters as one, or one as several: ß and ss."""
    for kind in program.kinds:
        if kind.folds and any(kind.holds(folded) for _, folded in _long_folds()):
            raise Unfollowed(f"the part {kind.source}, which may match several characters")
    for first, second in _neighbours(program):
        if any(_may_fold(first, second, *fold) for fold in _long_folds()):
            raise Unfollowed(f"the part {first.source}{second.source}, which may match one character")


def _may_fold(first: One, second: One, character: str, folded: str) -> bool:
    if not (first.holds(folded[0]) and second.holds(folded[1])):
        return False
    return len(folded) > 2 or One(first.source + second.source, first.options).holds(character)


def _neighbours(program: Program) -> Iterator[tuple[One, One]]:
    """The pairs of classes under `(?i)` of which one may follow the other."""
    for step in program.steps:
        if isinstance(step, Read) and program.kinds[step.kind].folds:
            for after in _reads(program, step.after):
                if program.kinds[after.kind].folds:
                    yield program.kinds[step.kind], program.kinds[after.kind]


def _reads(program: Program, start: int) -> Iterator[Read]:
    """The characters that may be read next, whatever is asserted in between."""
    seen, waiting = {start}, [start]
    while waiting:
        match program.steps[waiting.pop()]:
            case Read() as read:
                yield read
                after: Sequence[Thread] = ()
            case Fork(ways):
                after = ways
            case Ahead(part, _, behind):
                after = (part, behind)
            case After(_, _, behind):
                after = (behind,)
            case Held(inside, behind):
                after = (*inside, behind)
            case _:
                after = ()
        new = [number for number in after if isinstance(number, int) and number not in seen]
        seen.update(new)
        waiting.extend(new)


# The machine.


class Unknown(Exception):
    """A fact about what follows that must be guessed: whether any of some threads comes to accept."""

    def __init__(self, threads: tuple[Thread, ...]) -> None:
        super().__init__(threads)
        self.threads = threads


@dataclass(frozen=True)
class Place:
    """What is known between two characters.

    Attributes:
        before: for each class that is looked for behind, whether the character before is of it; None at the start.
        facts: what is guessed here of what follows.
    """

    before: tuple[bool, ...] | None
    facts: Mapping[tuple[Thread, ...], bool]


class Run(NamedTuple):
    """A run of guesses: what it has read, and what must come true.

    Attributes:
        match: the threads of the match that is open, preferred first; none between matches.
        never: threads of which none may accept.
        some: sets of threads; of each, one must accept.
        before: as of a Place.
    """

    match: tuple[Thread, ...]
    never: frozenset[Thread]
    some: frozenset[frozenset[Thread]]
    before: tuple[bool, ...] | None


class Matcher:
    """The successive matches of a pattern from left to right, none of them empty.

    A state is a number of a run of guesses.

    >>> matcher = Matcher("ab|a")
    >>> guesses = matcher.read(matcher.start, "a")  # the match ends here, or goes on
    >>> [label.name for _, label in guesses]
    ['FIRST', 'FIRST']
    >>> [[label.name for _, label in matcher.read(state, "b")] for state, _ in guesses]
    [[], ['MORE']]
    """

    def __init__(self, pattern: str) -> None:
        try:
            Regex(pattern)
        except Exception as error:
            raise Unfollowed(f"the pattern {pattern!r}, which tokenizers cannot compile") from error
        self._set_up(Parser(pattern).tree(), pattern)

    @classmethod
    def of_text(cls, text: str) -> Matcher:
        """The matches of a text that stands for itself."""
        matcher = cls.__new__(cls)
        matcher._set_up(Row(tuple(map(literal, text))), text)
        return matcher

    def _set_up(self, tree: Node, pattern: str) -> None:
        if _may_be_empty(tree):
            raise Unfollowed(f"a match of no character in the pattern {pattern!r}")
        try:
            self._program = Program(tree)
            _check_folds(self._program)
        except Unfollowed as error:
            raise Unfollowed(f"{error} in the pattern {pattern!r}") from error
        self._runs: list[Run] = []
        self._numbers: dict[Run, int] = {}
        self._vectors: dict[str, int] = {}
        self._kinds: dict[tuple[bool, ...], int] = {}
        self._read: dict[tuple[int, int], list[tuple[State, Label]]] = {}
        nothing = None if self._program.knows_start else ()
        self.start: State = self._number(Run((), frozenset(), frozenset(), nothing))

    def read(self, state: State, character: str) -> Sequence[tuple[State, Label]]:
        """All ways to go on behind one character more, and what the character is. None refutes the guesses."""
        if character not in self._vectors:
            holds = tuple(kind.holds(character) for kind in self._program.kinds)
            self._vectors[character] = self._kinds.setdefault(holds, len(self._kinds))
        key = (state, self._vectors[character])
        if key not in self._read:
            holds = list(self._kinds)[key[1]]
            self._read[key] = [(self._number(run), label) for run, label in self._ways(self._runs[state], holds)]
        return self._read[key]

    def end(self, state: State) -> bool:
        """Whether all guesses come true if the text ends here."""
        run = self._runs[state]
        return not run.match and not self._ends(run.never) and all(map(self._ends, run.some))

    def _number(self, run: Run) -> int:
        if run not in self._numbers:
            self._numbers[run] = len(self._runs)
            self._runs.append(run)
        return self._numbers[run]

    def _ends(self, threads: Iterable[Thread]) -> bool:
        """Whether one of the threads accepts if the text ends here."""
        return any(isinstance(self._program.steps[thread], AcceptEnd) for thread in threads if isinstance(thread, int))

    def _ways(self, run: Run, holds: tuple[bool, ...]) -> Iterator[tuple[Run, Label]]:
        if run.match:
            for after in self._behind(run, holds):
                yield after, Label.MORE
            return
        for begun, threads in self._begun(run):
            if threads:
                for after in self._behind(begun._replace(match=threads), holds):
                    yield after, Label.FIRST
            for after in self._behind(begun._replace(never=begun.never.union(threads)), holds):
                yield after, Label.GAP

    def _begun(self, run: Run) -> Iterator[tuple[Run, tuple[Thread, ...]]]:
        """The threads of a match that begins here, with all guesses about what follows."""
        for place in self._guesses(Place(run.before, {}), (self._program.start,)):
            threads, _ = self._closure((self._program.start,), place)
            yield from ((guessed, threads) for guessed in self._guessed(run, place))

    def _behind(self, run: Run, holds: tuple[bool, ...]) -> Iterator[Run]:
        """The runs behind a character."""
        match = self._advanced(run.match, holds)
        never = self._advanced(run.never, holds)
        some = [self._advanced(threads, holds) for threads in run.some]
        if (run.match and not match) or not all(some):
            return
        before = run.before
        if self._program.knows_start:
            before = tuple(holds[kind] for kind in self._program.behind)
        for place in self._guesses(Place(before, {}), match, never, *some):
            yield from self._settled(match, never, some, place)

    def _settled(
        self, match: Sequence[Thread], never: Sequence[Thread], some: Sequence[Sequence[Thread]], place: Place
    ) -> Iterator[Run]:
        refuted, wrong = self._closure(never, place)
        if wrong:
            return
        needed = [threads for threads, found in (self._closure(each, place) for each in some) if not found]
        run = Run((), frozenset(refuted), frozenset(map(frozenset, needed)), place.before)
        threads, found = self._closure(match, place)
        if match and not found and not threads:
            return
        for guessed in self._guessed(run, place):
            if found or not threads:
                yield from _tidied(guessed._replace(never=guessed.never.union(threads)))
            if threads:
                yield from _tidied(guessed._replace(match=threads))

    def _guessed(self, run: Run, place: Place) -> Iterator[Run]:
        """A run to which the guesses of a place are added, unless they are refuted at once."""
        for guess, holds in place.facts.items():
            threads, found = self._closure(guess, place)
            if holds and not found:
                run = run._replace(some=run.some | {frozenset(threads)})
            elif not holds and found:
                return
            elif not holds:
                run = run._replace(never=run.never.union(threads))
        yield run

    def _guesses(self, place: Place, *lists: Sequence[Thread]) -> Iterator[Place]:
        """The place with each combination of the guesses that lists of threads, and the guesses themselves, need."""
        try:
            for threads in (*lists, *place.facts):
                self._closure(threads, place)
        except Unknown as unknown:
            for holds in (True, False):
                guessed = replace(place, facts={**place.facts, unknown.threads: holds})
                yield from self._guesses(guessed, *lists)
        else:
            yield place

    def _advanced(self, threads: Iterable[Thread], holds: tuple[bool, ...]) -> tuple[Thread, ...]:
        """Where threads stand behind a character."""
        after: list[Thread] = []
        for thread in threads:
            if isinstance(thread, Held):
                if inside := self._advanced(thread.inside, holds):
                    after.append(Held(inside, thread.after))
            else:
                step = self._program.steps[thread]
                if isinstance(step, Read) and holds[step.kind]:
                    after.append(step.after)
        return tuple(after)

    def _closure(self, threads: Iterable[Thread], place: Place) -> tuple[tuple[Thread, ...], bool]:
        """The threads that wait for a character, preferred first, up to the first that accepts, and whether one does.

        Raises:
            Unknown: a guess is needed that the place does not have.
        """
        waiting: dict[Thread, None] = {}
        seen: set[Thread] = set()
        stack = list(threads)[::-1]
        while stack:
            thread = stack.pop()
            if thread in seen:
                continue
            seen.add(thread)
            step = thread if isinstance(thread, Held) else self._program.steps[thread]
            match step:
                case Accept():
                    return tuple(waiting), True
                case Read() | AcceptEnd():
                    waiting[thread] = None
                case Fork(ways):
                    stack.extend(reversed(ways))
                case Ahead(part, holds, after):
                    if _fact(place, (part,)) == holds:
                        stack.append(after)
                case After(kind, holds, after):
                    if self._is_behind(kind, place) == holds:
                        stack.append(after)
                case Held():
                    self._held(step, place, waiting, stack)
        return tuple(waiting), False

    def _is_behind(self, kind: int | None, place: Place) -> bool:
        if place.before is None:
            return kind is None
        return kind is not None and place.before[self._program.behind.index(kind)]

    def _held(self, held: Held, place: Place, waiting: dict[Thread, None], stack: list[Thread]) -> None:
        """Goes on behind a part whose first match is final, if it ends here: if no preferred thread comes to accept."""
        inside, found = self._closure(held.inside, place)
        if found and not (inside and _fact(place, inside)):
            stack.append(held.after)
        elif inside:
            waiting[Held(inside, held.after)] = None


def _fact(place: Place, threads: tuple[Thread, ...]) -> bool:
    if threads not in place.facts:
        raise Unknown(threads)
    return place.facts[threads]


def _tidied(run: Run) -> Iterator[Run]:
    """The same run with less to remember, unless it contradicts itself."""
    match = tuple(thread for thread in run.match if thread not in run.never)
    some = {threads - run.never for threads in run.some}
    if (run.match and not match) or frozenset() in some:
        return
    # That one of a set accepts is no news if one of a part of it must. The match must accept, too.
    required = some | ({frozenset(match)} if match else set())
    needed = {threads for threads in some if not any(other < threads for other in required)}
    yield run._replace(match=match, some=frozenset(needed - {frozenset(match)}))


def matcher_of(pattern: Mapping[str, str]) -> Matcher:
    """The matcher of a pattern as a tokenizer's file has it: {"Regex": ...} or {"String": ...}."""
    if "Regex" in pattern:
        return Matcher(pattern["Regex"])
    return Matcher.of_text(pattern["String"])

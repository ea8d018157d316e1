r"""Where a pattern matches in a text, as a machine that reads one character at a time, guesses, and refutes.

Where the successive matches of a pattern stand from left to right depends on what follows: `\s+(?!\S)` matches less if
a letter comes. The machine guesses, and each wrong guess is refuted by a later character, so exactly one run survives
for each text. This file knows nothing of tokens, nor what is done with a match.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from tokenizers import Regex

from .pattern import Chain, Node, Parser, literal, may_be_empty
from .program import Accept, AcceptEnd, After, Ahead, Fork, Held, Program, Read, Thread, check_folds
from .stages import Unfollowed

# A number of a run of guesses.
State = int


class Label(Enum):
    """What a character is: between matches, the first of a match, or one more of the same match."""

    GAP = "gap"
    FIRST = "first"
    MORE = "more"


class Unknown(Exception):
    """A fact about what follows that must be guessed: whether any of some threads comes to accept."""

    def __init__(self, threads: tuple[Thread, ...]) -> None:
        super().__init__(threads)
        self.threads = threads


@dataclass(frozen=True)
class Facts:
    """What is known between two characters.

    Attributes:
        before: for each class that is looked for behind, whether the character before is of it; None at the start.
        guessed: what is guessed here of what follows.
    """

    before: tuple[bool, ...] | None
    guessed: Mapping[tuple[Thread, ...], bool]


class Run(NamedTuple):
    """A run of guesses: what it has read, and what must come true.

    Attributes:
        match: the threads of the match that is open, preferred first; none between matches.
        never: threads of which none may accept.
        some: sets of threads; of each, one must accept.
        before: as of Facts.
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
        matcher._set_up(Chain(tuple(map(literal, text))), text)
        return matcher

    def _set_up(self, tree: Node, pattern: str) -> None:
        if may_be_empty(tree):
            raise Unfollowed(f"a match of no character in the pattern {pattern!r}")
        try:
            self._program = Program(tree)
            check_folds(self._program)
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
        for facts in self._guesses(Facts(run.before, {}), (self._program.start,)):
            threads, _ = self._closure((self._program.start,), facts)
            yield from ((guessed, threads) for guessed in self._guessed(run, facts))

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
        for facts in self._guesses(Facts(before, {}), match, never, *some):
            yield from self._settled(match, never, some, facts)

    def _settled(
        self, match: Sequence[Thread], never: Sequence[Thread], some: Sequence[Sequence[Thread]], facts: Facts
    ) -> Iterator[Run]:
        refuted, wrong = self._closure(never, facts)
        if wrong:
            return
        needed = [threads for threads, found in (self._closure(each, facts) for each in some) if not found]
        run = Run((), frozenset(refuted), frozenset(map(frozenset, needed)), facts.before)
        threads, found = self._closure(match, facts)
        if match and not found and not threads:
            return
        for guessed in self._guessed(run, facts):
            if found or not threads:
                yield from _tidied(guessed._replace(never=guessed.never.union(threads)))
            if threads:
                yield from _tidied(guessed._replace(match=threads))

    def _guessed(self, run: Run, facts: Facts) -> Iterator[Run]:
        """A run to which the guesses of a facts are added, unless they are refuted at once."""
        for guess, holds in facts.guessed.items():
            threads, found = self._closure(guess, facts)
            if holds and not found:
                run = run._replace(some=run.some | {frozenset(threads)})
            elif not holds and found:
                return
            elif not holds:
                run = run._replace(never=run.never.union(threads))
        yield run

    def _guesses(self, facts: Facts, *lists: Sequence[Thread]) -> Iterator[Facts]:
        """The facts with each combination of the guesses that lists of threads, and the guesses themselves, need."""
        try:
            for threads in (*lists, *facts.guessed):
                self._closure(threads, facts)
        except Unknown as unknown:
            for holds in (True, False):
                guessed = replace(facts, guessed={**facts.guessed, unknown.threads: holds})
                yield from self._guesses(guessed, *lists)
        else:
            yield facts

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

    def _closure(self, threads: Iterable[Thread], facts: Facts) -> tuple[tuple[Thread, ...], bool]:
        """The threads that wait for a character, preferred first, up to the first that accepts, and whether one does.

        Raises:
            Unknown: a guess is needed that the facts do not have.
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
                    if _fact(facts, (part,)) == holds:
                        stack.append(after)
                case After(kind, holds, after):
                    if self._is_behind(kind, facts) == holds:
                        stack.append(after)
                case Held():
                    self._held(step, facts, waiting, stack)
        return tuple(waiting), False

    def _is_behind(self, kind: int | None, facts: Facts) -> bool:
        if facts.before is None:
            return kind is None
        return kind is not None and facts.before[self._program.behind.index(kind)]

    def _held(self, held: Held, facts: Facts, waiting: dict[Thread, None], stack: list[Thread]) -> None:
        """Goes on behind a part whose first match is final, if it ends here: if no preferred thread comes to accept."""
        inside, found = self._closure(held.inside, facts)
        if found and not (inside and _fact(facts, inside)):
            stack.append(held.after)
        elif inside:
            waiting[Held(inside, held.after)] = None


def _fact(facts: Facts, threads: tuple[Thread, ...]) -> bool:
    if threads not in facts.guessed:
        raise Unknown(threads)
    return facts.guessed[threads]


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

"""The tree of a pattern as a program: numbered steps that say which may follow, the preferred first.

This file knows nothing of texts; `matching` runs programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from .pattern import Atomic, Behind, Chain, Choice, Look, Node, One, Repeat, TextEnd, may_be_empty
from .stages import Unfollowed

# A repeated part is copied. Beyond this number of steps the machine is too large to be of use.
_MOST_STEPS = 4000


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
        if len(self.steps) > _MOST_STEPS:
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
            case Chain(parts):
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
        if (node.most is None or node.most > 1) and may_be_empty(node.part):
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


def check_folds(program: Program) -> None:
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

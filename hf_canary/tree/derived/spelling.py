"""The fills of a format as a tokenizer spells them: an automaton over units and the cuts between words.

Joins the format's characters to the tokenizer's stages. Where a stage guesses, so does this; what is refuted later
leads nowhere, and is left out. Knows no vocabulary, and not which units make a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ...tokenization.stages import CUT, Atom, Cut, Pipeline, Symbols
from ..automaton.bottom_up import bottom_up
from ..automaton.format_automaton import FormatAutomaton
from ..automaton.seams import before_last_cut
from ..automaton.stretches import Stretch

Unit = str | Atom

_END = -1  # behind the last character


@dataclass(frozen=True)
class Step:
    """What one unit more leads to.

    Args:
        target: the node behind it.
        num_texts: how many texts are read for it.
        text: the characters of one of them.
    """

    target: int
    num_texts: int
    text: str


@dataclass(frozen=True)
class Out:
    """All that may follow a node.

    Args:
        along: unit → steps that go on in the same word.
        cut: the same of those that begin a word.
        ends: in how many ways the stretch ends here.
        text: the characters that lead to the end in one of them.
    """

    along: dict[Unit, list[Step]]
    cut: dict[Unit, list[Step]]
    ends: int
    text: str


class _RawStep(NamedTuple):
    """A step of which it is not known yet whether it leads somewhere.

    Args:
        is_cut: whether a word begins with it.
        unit: None at the end of the stretch.
        target: the node behind it.
        text: the characters that are read for it.
        num_texts: how many there are of them.
    """

    is_cut: bool
    unit: Unit | None
    target: int
    text: str
    num_texts: int


class _Node(NamedTuple):
    """Where a beginning of a stretch ends.

    Args:
        format_state: of the format's automaton; _END behind the last character.
        stages: the number of the states of the tokenizer's stages.
        written: what they have written, of which no step has been made yet.
    """

    format_state: int
    stages: int
    written: Symbols


class Spelling:
    """A stretch as an automaton over units; nodes are numbers.

    Args:
        automaton: the format's.
        words: the tokenizer's stages, from characters to words.
        units: the same and on, to the units of words.
        stretch: which part.

    Attributes:
        starts: the nodes before its first unit.
        lead: the characters that have been read there.
    """

    def __init__(self, automaton: FormatAutomaton, words: Pipeline, units: Pipeline, stretch: Stretch) -> None:
        self._automaton, self._words, self._pipeline, self._stretch = automaton, words, units, stretch
        self._numbers: dict[_Node, int] = {}
        self._nodes: list[_Node] = []
        self._out: dict[int, Out] = {}
        self.lead = stretch.lead
        rest = units.states(units.start)[words.size :]
        begun = [(units.number((*words.states(state), *rest)), written) for state, written in stretch.begins]
        behind = [guess for state, written in begun for guess in units.through(state, written, words.size)]
        self.starts = sorted({self._number(_Node(stretch.start, after, written)) for after, written in behind})

    def out(self, node: int) -> Out:
        """What may follow, without what leads nowhere."""
        if node not in self._out:
            self._find_out(node)
        return self._out[node]

    def paths(self, steps: Mapping[Unit, Sequence[Step]], units: str) -> list[tuple[int, str, int]]:
        """Where some units lead in one word: node, characters and their number, by each step that begins them."""
        reached = [(step.target, step.text, step.num_texts) for step in steps.get(units[0], ())]
        for unit in units[1:]:
            reached = [
                (step.target, text + step.text, count * step.num_texts)
                for node, text, count in reached
                for step in self.out(node).along.get(unit, ())
            ]
        return reached

    @property
    def num_texts(self) -> int:
        """How many texts the stretch has."""
        return self._stretch.num_texts

    def completions(self, node: int) -> int:
        """How many candidates of the format go on from here."""
        format_state = self._nodes[node].format_state
        if format_state == _END:
            return 1 if self._stretch.stop is None else self._automaton.completions(self._stretch.stop)
        return self._automaton.completions(format_state)

    @cached_property
    def most_alike(self) -> int:
        """How many texts are spelled alike, at most: a bound, met where one character more never ends that."""
        most: dict[int, int] = {}
        for node in bottom_up(self.starts, lambda node: (step.target for steps in self._alike(node) for step in steps)):
            sums = (sum(step.num_texts * most[step.target] for step in steps) for steps in self._alike(node))
            most[node] = max(self.out(node).ends, max(sums, default=0))
        return sum(most[start] for start in self.starts)

    def _alike(self, node: int) -> list[list[Step]]:
        """The steps of each unit: tokens may stand for units that begin a word, and for the same within one."""
        out = self.out(node)
        return [[*out.along.get(unit, ()), *out.cut.get(unit, ())] for unit in out.along.keys() | out.cut.keys()]

    def _number(self, node: _Node) -> int:
        if node not in self._numbers:
            self._numbers[node] = len(self._nodes)
            self._nodes.append(node)
        return self._numbers[node]

    def _find_out(self, first: int) -> None:
        """Depth first, without recursion: a node's steps are known once it is known which of them lead somewhere."""
        raw: dict[int, list[_RawStep]] = {}
        stack = [first]
        while stack:
            node = stack[-1]
            if node not in raw:
                raw[node] = list(self._steps(self._nodes[node]))
                steps = (step for step in raw[node] if step.unit is not None)
                waiting = {step.target for step in steps if step.target not in self._out}
                stack += waiting
                if waiting:
                    continue
            stack.pop()
            if node not in self._out:
                self._out[node] = self._alive(raw.pop(node))

    def _alive(self, steps: Sequence[_RawStep]) -> Out:
        """Those that lead somewhere; of several to one node one, which stands for all."""
        ends = [step for step in steps if step.unit is None]
        alike: dict[tuple[bool, Unit, int], list[_RawStep]] = {}
        for step in steps:
            if step.unit is not None and self._leads_on(step.target):
                alike.setdefault((step.is_cut, step.unit, step.target), []).append(step)
        along: dict[Unit, list[Step]] = {}
        cut: dict[Unit, list[Step]] = {}
        for (is_cut, unit, target), some in alike.items():
            count = sum(step.num_texts for step in some)
            (cut if is_cut else along).setdefault(unit, []).append(Step(target, count, some[0].text))
        return Out(along, cut, sum(step.num_texts for step in ends), ends[0].text if ends else "")

    def _leads_on(self, node: int) -> bool:
        out = self._out[node]
        return bool(out.along or out.cut or out.ends)

    def _steps(self, node: _Node) -> Iterator[_RawStep]:
        """Character by character up to the next unit; what was read to the same node goes on as one."""
        reached = {(node, False): ("", 1)}
        while reached:
            further: dict[tuple[_Node, bool], tuple[str, int]] = {}
            for ((at, state, written), is_cut), (text, count) in reached.items():
                while written and isinstance(written[0], Cut):
                    is_cut, written = True, written[1:]
                if written:
                    unit = written[0]
                    assert not isinstance(unit, Cut)
                    yield _RawStep(is_cut, unit, self._number(_Node(at, state, written[1:])), text, count)
                elif at == _END:
                    yield _RawStep(is_cut, None, _END, text, count)
                else:
                    for character, behind in self._on(at, state):
                        before = further.get((behind, is_cut), (text + character, 0))
                        further[behind, is_cut] = before[0], before[1] + count
            reached = further

    def _of_words(self, state: int) -> int:
        return self._words.number(self._pipeline.states(state)[: self._words.size])

    def _on(self, format_state: int, state: int) -> Iterator[tuple[str, _Node]]:
        """One character more, or the end: the character, and what is behind it."""
        if format_state == self._stretch.stop:
            guesses = self._words.read(self._of_words(state), self._stretch.behind)
            for before in {before_last_cut(written)[0] for _, written in guesses}:
                for _, written in self._pipeline.through(state, (*before, CUT), self._words.size):
                    yield "", _Node(_END, 0, written)
            return
        for character, after in self._automaton.moves(format_state):
            for moved, written in self._pipeline.read(state, character):
                yield character, _Node(after, moved, written)
        if self._stretch.stop is None and self._automaton.is_end(format_state):
            for written in self._pipeline.end(state):
                yield "", _Node(_END, 0, written)

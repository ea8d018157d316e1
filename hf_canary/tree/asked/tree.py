"""The tree of the encodings of all fills of a format, for a tokenizer that has no parts to read: it is asked.

Theory. A tokenizer written in Python is a function from texts to tokens, and no more is known of it. Its tree is built
where it is walked, and what may follow a prefix of tokens is found in two steps.

1.  What the format allows. Each character is asked for once, between others, which says in what *units* it is written.
    A prefix of tokens is a row of units, and so of characters, in one way or in several: its *readings*. The tokens
    that may come next are those of the vocabulary whose units go on in the format. Many of these are not canonical:
    after `th`, the format allows `e`, though the tokenizer writes `the`.
2.  What the tokenizer says. Of each such token it is asked for the encoding of a *witness*, some whole candidate that
    goes on so: if that begins with the prefix and the token, they are canonical. Six candidates drawn by chance find
    nearly all. Of the others, the text that the prefix and the token write is asked for: what an encoding begins with
    is mostly the encoding of what it writes, the *prefix rule*, so that tokens which are not that are a dead end.
    Behind the few that are left, dead ends are searched for, within a budget.

A walk asks so for each node a few times as many texts as tokens may follow it. Few nodes need it: where words are
encoded each alone, what follows depends on the readings and the tokens of the last word, and all prefixes that agree in
these are one state, of `the pin is {digit:5}` 70 at most and not 11,111. And where behind the prompt each character is
one token, and no token writes two of them, nobody is asked.

The prefix rule is tried on a few hundred texts and then believed, and so are states: nothing is proven by such a tree.
This file knows no model.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ...errors import ModelError, listed, shown
from ...formats.canary_format import CanaryFormat
from ...formats.template import Literal, entries_of
from ...tokenization.contexts import Before
from ...tokenization.encoding import context_of, encode, unknown_ids
from ..parts import Edges, Path
from ..traces import check_told_apart
from .automaton import AskedAutomaton, Automaton, Prefix, SingleAutomaton, are_single
from .questions import Budget, Questions
from .readings import OPEN_END, PrefixRule, ReadingSteps, can_be_asked
from .units import FormatUnits, Readings
from .vocabulary import ENDING, Trie, Units, insert, vocabulary_of

_CHECKED = 64


class AskedTree:
    """The tree of the encodings of all fills of a format, as an automaton over tokens that is built where it is walked.

    Prefixes after which the same may follow share a state, where that is certain. The leaves below `root` are exactly
    the encodings of the candidates, each once, and every state has a leaf below it.

    Args:
        format: its candidates must not be prefixes of one another, unless an end token tells them apart.
        tokenizer: any.
        context: what stands before the canary.
        end: an id that follows every candidate, as its last token.
        target: whether the candidates are what a decoder writes, encoded with `text_target=`.

    Attributes:
        prompt: token ids that all leaves share, special tokens and context first; each leaf has at least one more.
        conditioned: how many of them stand before the canary.
        root: the state after the prompt.

    Raises:
        FormatError: a candidate is a prefix of another, and there is no end token.
        ModelError: a character that the tokenizer cannot represent, a context that merges with the canary, or a
            tokenizer that writes characters otherwise in the candidates than by themselves.
    """

    def __init__(
        self,
        format: CanaryFormat,
        tokenizer: Any,
        *,
        context: Before = None,
        end: int | None = None,
        target: bool = False,
    ) -> None:
        if end is None:
            format.check_prefix_free()
        self.format = format
        self._tokenizer, self._end = tokenizer, end
        self._context = context_of(tokenizer, context, format.render(0), target=target)
        vocabulary = vocabulary_of(tokenizer, target=target)
        unknown = unknown_ids(tokenizer, target=target)
        self._surfaces, lead = vocabulary.surfaces(tokenizer, _characters(format))
        check_told_apart(format, {character for character, written in self._surfaces.items() if () in written})
        questions = Questions(tokenizer, self._context, target, unknown, Budget())
        steps = ReadingSteps(FormatUnits(format, self._surfaces), vocabulary.trie, questions)
        start = steps.units.start(lead)
        first, self.conditioned, prefixes = self._follow_candidates(steps, start)
        steps = replace(steps, prefix_rule=_prefix_rule(questions, prefixes))
        self._automaton: Automaton = AskedAutomaton(steps, vocabulary, end)
        self.root = self._automaton.states.number(Prefix(start, ()))
        self._go_to_branch()
        self.prompt = [*first, *self._root.path]
        single = self._single_automaton(steps)
        if single is not None:
            root, self._automaton = self._root, single
            self.root = single.states.number(root, ())
        self._below: dict[int, int] = {}

    @property
    def _root(self) -> Prefix:
        return self._automaton.states.prefix(self.root)

    @cached_property
    def space_size(self) -> int:
        """How many leaves there are: |R|, or fewer where fills have one encoding."""
        size = 1
        for piece in self.format.pieces:
            if not isinstance(piece, Literal) and not piece.is_check_digit:
                size *= len({self._written(entry) for entry in piece.space})
        return size

    @property
    def collisions(self) -> bool:
        """Whether two fills have one encoding, as capitals and small letters have where the tokenizer lowers both."""
        return self.space_size < self.format.space_size

    @cached_property
    def depth(self) -> int:
        """The most tokens that a leaf has after the prompt: a bound, which is met where each character is a token."""
        longest = sum(max(len(self._written(entry)) for entry in entries_of(piece)) for piece in self.format.pieces)
        readings = self._root.readings.items()
        begun = min(len(self._written(text)) - len(state.pending) for state, text in readings)
        return max(1, longest - begun + (self._end is not None))

    def most_below(self, state: int) -> int:
        """How many fills begin with a prefix in this state, at most."""
        if state not in self._below:
            readings = self._automaton.states.prefix(state).readings
            on = sum(map(self._automaton.steps.units.completions, readings))
            self._below[state] = on * int(self.most_copies)  # what leads here may stand for several fills, too
        return self._below[state]

    def edges(self, state: int) -> Edges:
        """What may follow a prefix in this state.

        Raises:
            UntoldDeadEnds: it is not known, and would take too long to find out.
        """
        return self._automaton.edges(state)

    def text(self, path: Sequence[int]) -> str:
        """The candidate whose tokens after the prompt are `path`; one of them, if there are collisions."""
        root, steps = self._root, self._automaton.steps
        readings, tokens = root.readings, tuple(token for token in path if token != self._end)
        for index, token in enumerate(tokens):
            readings = steps.after_token((*root.path, *tokens[:index]), readings, token)
        return next(text for state, text in readings.items() if steps.units.ended(state))

    def copies(self, fill: int) -> int:
        """How many fills have the encoding of this one, itself included; 1 unless there are `collisions`."""
        if not self.collisions:
            return 1
        entries = zip(self.format.holes, self.format.entries(fill), strict=True)
        return math.prod(
            sum(self._written(other) == self._written(entry) for other in hole.space)
            for hole, entry in entries
            if not hole.is_check_digit
        )

    def _written(self, text: str) -> Units:
        return tuple(unit for character in text for unit in self._surfaces[character][0])

    @cached_property
    def most_copies(self) -> int:
        """How many fills have one encoding, at most."""
        if not self.collisions:
            return 1
        holes = (hole for hole in self.format.holes if not hole.is_check_digit)
        return math.prod(max(Counter(map(self._written, hole.space)).values()) for hole in holes)

    def _follow_candidates(self, steps: ReadingSteps, start: Readings) -> tuple[list[int], int, dict[Path, str]]:
        """Follow encodings of some candidates through their units, which finds what the tokenizer does otherwise.

        Returns:
            What stands before the canary, how many tokens that is, and prefixes with what they write.
        """
        format, questions = self.format, steps.questions
        fills = format.covering_fills(4 * _CHECKED) + format.sample(min(_CHECKED, format.space_size), "check")
        texts = [format.render(fill) for fill in fills]
        encoding = encode(self._tokenizer, texts, context=self._context, target=questions.target)
        prefixes: dict[Path, str] = {}
        for text, sequence in zip(texts, encoding.sequences, strict=True):
            readings, path = start, tuple(sequence[encoding.conditioned :])
            for end, token in enumerate(path, start=1):
                if token not in steps.units.following(frozenset(readings), steps.trie):
                    raise self._unlike(path)
                readings = steps.after_token(path[: end - 1], readings, token)
                begun = (so_far for state, so_far in readings.items() if can_be_asked(state, so_far))
                prefixes |= {path[:end]: so_far for so_far in begun if text.startswith(so_far)}
            if not any(map(steps.units.ended, readings)):
                raise self._unlike(path)
        return encoding.sequences[0][: encoding.conditioned], encoding.conditioned, prefixes

    def _unlike(self, path: Path) -> ModelError:
        """The error of a candidate whose encoding is not followed."""
        expected = "one that encodes a candidate by what its characters are written as"
        added = set(getattr(self._tokenizer, "added_tokens_decoder", ())) | set(self._tokenizer.all_special_ids)
        found = [token for token in dict.fromkeys(path) if token in added]
        if found:
            names = listed([shown(name) for name in self._tokenizer.convert_ids_to_tokens(found)])
            got = f"one that is written in Python and cuts its special or added token {names} out of it"
            remedy = (
                "Leave it out of the format, or put it into context=; or give the format fewer fills, to encode all."
            )
            return ModelError("tokenizer", expected, got, remedy)
        remedy = (
            "It may write several of them together. Use another format, or one of fewer fills, which are all encoded."
        )
        return ModelError("tokenizer", expected, "one that encodes it otherwise", remedy)

    def _go_to_branch(self) -> None:
        """Move the root to where the leaves first differ, or to before the last token of the only one."""
        while True:
            edges = self.edges(self.root)
            if len(edges.tokens) != 1 or edges.states[0] < 0 or edges.is_leaf[0]:
                return
            self.root = int(edges.states[0])

    def _single_automaton(self, steps: ReadingSteps) -> Automaton | None:
        """What asks no more, where after the prompt each character is one token and no token writes several of them;
        None elsewhere.
        """
        state, *others = self._root.readings
        if others or state.pending or steps.units.ended(state):
            return None
        begun, *rest = (entries_of(piece) for piece in self.format.pieces[state.piece :])
        written = len(state.written)
        characters = {c for entry in begun if entry.startswith(state.written) for c in entry[written:]}
        characters |= {character for entries in rest for entry in entries for character in entry}
        alphabet = {self._surfaces[character] for character in characters}
        units = {surface[0][0] for surface in alphabet if len(surface) == 1 and len(surface[0]) == 1}
        if len(units) < len(characters) or not are_single(steps.trie, units):
            return None
        trie: Trie = {}
        for unit in units:
            insert(trie, (unit,), steps.trie[unit][ENDING][0])
        # Units remember which tokens may follow, of the whole vocabulary: so they are new.
        single = replace(steps, trie=trie, units=FormatUnits(self.format, self._surfaces))
        return SingleAutomaton(single, self._end)


def _prefix_rule(questions: Questions, prefixes: dict[Path, str]) -> PrefixRule:
    """Where prefixes of encodings are the encodings of what they write, tried on some."""
    some = random.Random(0).sample(sorted(prefixes.items()), min(len(prefixes), 4 * _CHECKED))
    answers = questions.ask([text for _, text in some])
    broken = [text for (path, text), answer in zip(some, answers, strict=True) if answer.tokens != path]
    if not broken:
        return PrefixRule.EVERYWHERE
    return PrefixRule.BUT_AT_OPEN_ENDS if all(map(OPEN_END.search, broken)) else PrefixRule.NOWHERE


def _characters(format: CanaryFormat) -> set[str]:
    return {character for piece in set(format.pieces) for entry in entries_of(piece) for character in entry}

"""The texts of a stretch one by one, each as the words that its tokenizer makes of it, and these encoded.

For stretches of few texts, such as a list of names: quicker than to derive what may follow what. Knows no vocabulary;
how a word is encoded it asks the tokenizer's own model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from ..tokenization.stages import CUT, Atom, Pipeline, Symbols, Unfollowed
from .automaton.format_automaton import FormatAutomaton
from .automaton.seams import before_last_cut
from .automaton.stretches import Stretch
from .parts import Path

# The tokens of the words so far, the word under way, and where the stages stand.
_Spelled = tuple[Path, str, int]


class StretchEncoder:
    """Encodes stretches text by text, and words once.

    Args:
        automaton: the format's.
        words: the stages, from characters to words.
        encode_word: word → its tokens.
    """

    def __init__(self, automaton: FormatAutomaton, words: Pipeline, encode_word: Callable[[str], Path]) -> None:
        self._automaton, self._stages, self._encode_word = automaton, _Stages(words), encode_word
        self._encodings: dict[str, Path] = {"": ()}

    def encodings(self, stretch: Stretch) -> Iterator[tuple[str, Path]]:
        """Each text of a stretch, and its encoding."""
        return self._through_states(stretch) if stretch.choices is None else self._through_texts(stretch)

    def _through_texts(self, stretch: Stretch) -> Iterator[tuple[str, Path]]:
        """Sorted, so that what neighbours begin with is read once."""
        assert stretch.choices is not None
        path, before = [self._begun(stretch)], stretch.lead
        for text in sorted({"".join(parts) for parts in itertools.product(*stretch.choices)}):
            length = _num_alike(text, before)
            del path[length - len(stretch.lead) + 1 :]
            for character in text[length:]:
                path.append(self._on(path[-1], character))
            yield text, self._ended(path[-1], stretch)
            before = text

    def _through_states(self, stretch: Stretch) -> Iterator[tuple[str, Path]]:
        """Depth first through the format's states, where check digits depend on what stands before."""
        pending = [(stretch.start, stretch.lead, self._begun(stretch))]
        while pending:
            state, text, spelled = pending.pop()
            is_end = state == stretch.stop if stretch.stop is not None else self._automaton.is_end(state)
            if is_end:
                yield text, self._ended(spelled, stretch)
            if state != stretch.stop:
                moves = self._automaton.moves(state)
                pending += [(after, text + character, self._on(spelled, character)) for character, after in moves]

    def _begun(self, stretch: Stretch) -> _Spelled:
        written, at = self._stages.begin(stretch.begins)
        return *self._with((), "", written), at

    def _on(self, spelled: _Spelled, character: str) -> _Spelled:
        tokens, word, at = spelled
        written, after = self._stages.read(at, character)
        return *self._with(tokens, word, written), after

    def _ended(self, spelled: _Spelled, stretch: Stretch) -> Path:
        tokens, word, at = spelled
        written = self._stages.end(at) if stretch.stop is None else self._stages.before_seam(at, stretch.behind)
        return self._with(tokens, word, (*written, CUT))[0]

    def _with(self, tokens: Path, word: str, written: Symbols) -> tuple[Path, str]:
        for symbol in written:
            if isinstance(symbol, str):
                word += symbol
                continue
            if word not in self._encodings:
                self._encodings[word] = self._encode_word(word)
            tokens, word = tokens + self._encodings[word], ""
            if isinstance(symbol, Atom):
                tokens += (symbol.id,)
        return tokens, word


class _Stages:
    """Stages as they read texts, all their guesses at once: what all of these have written is written out.

    Of what only some have written, each keeps its own, until the others are refuted (Mohri 1997, the determinisation of
    string transducers). States are numbers.

    Args:
        words: the stages, from characters to words.
    """

    def __init__(self, words: Pipeline) -> None:
        self._words = words
        self._numbers: dict[frozenset[tuple[int, Symbols]], int] = {}
        self._runs: list[frozenset[tuple[int, Symbols]]] = []
        self._read: list[dict[str, tuple[Symbols, int]]] = []
        self._end: dict[tuple[int, str | None], Symbols] = {}

    def begin(self, runs: Iterable[tuple[int, Symbols]]) -> tuple[Symbols, int]:
        """What guesses have written alike, and the state in which they stand: each, and what it alone has written."""
        runs = set(runs)
        num_alike = 0
        for symbols in zip(*(written for _, written in runs), strict=False):
            if len(set(symbols)) > 1:
                break
            num_alike += 1
        alike = next((written[:num_alike] for _, written in runs), ())
        rest = frozenset((state, written[num_alike:]) for state, written in runs)
        if rest not in self._numbers:
            self._numbers[rest] = len(self._runs)
            self._runs.append(rest)
            self._read.append({})
        return alike, self._numbers[rest]

    def read(self, number: int, character: str) -> tuple[Symbols, int]:
        """What is written behind one character more, and the state."""
        behind = self._read[number]
        if character not in behind:
            read, runs = self._words.read, self._runs[number]
            behind[character] = self.begin(
                (after, (*written, *more)) for state, written in runs for after, more in read(state, character)
            )
        return behind[character]

    def end(self, number: int) -> Symbols:
        """What is still written where the text ends."""
        if (number, None) not in self._end:
            runs = self._runs[number]
            endings = {(*written, *more) for state, written in runs for more in self._words.end(state)}
            self._end[number, None] = _one(endings)
        return self._end[number, None]

    def before_seam(self, number: int, behind: str) -> Symbols:
        """What is still written before the cut that stands before a character."""
        if (number, behind) not in self._end:
            runs = ((state, written, self._words.read(state, behind)) for state, written in self._runs[number])
            endings = {(*written, *before_last_cut(more)[0]) for _, written, guesses in runs for _, more in guesses}
            self._end[number, behind] = _one(endings)
        return self._end[number, behind]


def _one(endings: set[Symbols]) -> Symbols:
    """What is written of a text: one guess has come true, and the stretch behind may have several ways to begin."""
    if len(endings) != 1:  # a stage says two things of one text, or none: nothing may rest on it
        raise Unfollowed(f"{len(endings)} ways in which its parts cut one text into words")
    return next(iter(endings))


def _num_alike(one: str, other: str) -> int:
    """How many first characters two texts have in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))

"""The texts of a stretch one by one, each as the words that its tokenizer makes of it, and these encoded.

For stretches of few texts, such as a list of names: quicker than to derive what may follow what. Knows no vocabulary;
how a word is encoded it asks the tokenizer's own model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from ..tokenization.stages import CUT, Atom, Pipeline, Symbols, Unfollowed
from .format_automaton import FormatAutomaton
from .parts import Path
from .stretches import Stretch, before_last_cut, num_shared


class StretchEncoder:
    """Encodes stretches text by text, and words once.

    Args:
        automaton: the format's.
        words: the stages, from characters to words.
        encode_word: word → its tokens.
    """

    def __init__(self, automaton: FormatAutomaton, words: Pipeline, encode_word: Callable[[str], Path]) -> None:
        self._automaton, self._words, self._encode_word = automaton, words, encode_word
        self._known: dict[str, Path] = {}
        self._seams: dict[tuple[int, str], list[Symbols]] = {}

    def encodings(self, stretch: Stretch) -> Iterator[tuple[str, Path]]:
        """Each text of a stretch, and its encoding."""
        spelled = self._through_places(stretch) if stretch.choices is None else self._through_texts(stretch)
        for text, symbols in spelled:
            yield text, self._encoded(symbols)

    def _encoded(self, symbols: Symbols) -> Path:
        tokens: list[int] = []
        word = ""
        for symbol in (*symbols, CUT):
            if isinstance(symbol, str):
                word += symbol
                continue
            if word:
                if word not in self._known:
                    self._known[word] = self._encode_word(word)
                tokens += self._known[word]
            word = ""
            if isinstance(symbol, Atom):
                tokens.append(symbol.id)
        return tuple(tokens)

    def _through_texts(self, stretch: Stretch) -> Iterator[tuple[str, Symbols]]:
        """Sorted, so that what neighbours begin with is read once."""
        assert stretch.choices is not None
        path, before = [sorted(stretch.begins, key=repr)], stretch.lead
        for text in sorted({"".join(parts) for parts in itertools.product(*stretch.choices)}):
            shared = num_shared(text, before)
            del path[shared - len(stretch.lead) + 1 :]
            for character in text[shared:]:
                path.append(self._on(path[-1], character))
            yield text, self._ended(path[-1], stretch)
            before = text

    def _through_places(self, stretch: Stretch) -> Iterator[tuple[str, Symbols]]:
        """Depth first through the format's places, where check digits depend on what stands before."""
        pending = [(stretch.place, stretch.lead, sorted(stretch.begins, key=repr))]
        while pending:
            place, text, runs = pending.pop()
            is_end = place == stretch.stop if stretch.stop is not None else self._automaton.is_end(place)
            if is_end:
                yield text, self._ended(runs, stretch)
            if place != stretch.stop:
                moves = self._automaton.moves(place)
                pending += [(after, text + character, self._on(runs, character)) for character, after in moves]

    def _on(self, runs: list[tuple[int, Symbols]], character: str) -> list[tuple[int, Symbols]]:
        """What the stages may have written behind one character more: state and symbols."""
        read = self._words.read
        return [(after, (*written, *more)) for state, written in runs for after, more in read(state, character)]

    def _ended(self, runs: list[tuple[int, Symbols]], stretch: Stretch) -> Symbols:
        if stretch.stop is None:
            return _one([(*written, *more) for state, written in runs for more in self._words.end(state)])
        return _one([(*written, *mine) for state, written in runs for mine in self._before_seam(state, stretch.behind)])

    def _before_seam(self, state: int, behind: str) -> list[Symbols]:
        """What a stretch has still to write before the character behind it."""
        key = (state, behind)
        if key not in self._seams:
            ways = self._words.read(state, behind)
            self._seams[key] = list(dict.fromkeys(before_last_cut(more)[0] for _, more in ways))
        return self._seams[key]


def _one(found: list[Symbols]) -> Symbols:
    """What is written of a text: one guess has come true, and the stretch behind may have several ways to begin."""
    different = set(found)
    if len(different) != 1:  # a stage says two things of one text, or none: nothing may rest on it
        raise Unfollowed(f"{len(different)} ways in which its parts cut one text into words")
    return different.pop()

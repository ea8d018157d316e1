"""The texts of a stretch one by one, each as the words that its tokenizer makes of it, and these encoded.

For stretches of few texts, such as a list of names: quicker than to derive what may follow what. Knows no vocabulary; how
a word is encoded it asks the tokenizer's own model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..tokenization.stages import CUT, Atom, Pipeline, Symbols
from .format_automaton import FormatAutomaton
from .parts import Path
from .stretches import Stretch, before_last_cut


def encodings_of(
    automaton: FormatAutomaton, words: Pipeline, stretch: Stretch, encode_word: Callable[[str], Path]
) -> Iterator[tuple[str, Path]]:
    """Each text of a stretch, and its encoding.

    Args:
        automaton: the format's.
        words: the stages, from characters to words.
        stretch: which part.
        encode_word: word → its tokens.
    """
    known: dict[str, Path] = {}

    def encoded(symbols: Symbols) -> Path:
        tokens: list[int] = []
        word = ""
        for symbol in (*symbols, CUT):
            if isinstance(symbol, str):
                word += symbol
                continue
            if word:
                if word not in known:
                    known[word] = tuple(encode_word(word))
                tokens += known[word]
            word = ""
            if isinstance(symbol, Atom):
                tokens.append(symbol.id)
        return tuple(tokens)

    for text, symbols in _spelled(automaton, words, stretch):
        yield text, encoded(symbols)


def _spelled(automaton: FormatAutomaton, words: Pipeline, stretch: Stretch) -> Iterator[tuple[str, Symbols]]:
    """Depth first, so that what texts begin with is read once."""
    pending = [(stretch.place, stretch.lead, sorted(stretch.begins, key=repr))]
    while pending:
        place, text, runs = pending.pop()
        if place == stretch.stop:
            yield (
                text,
                _one(
                    [
                        (*written, *before_last_cut(more)[0])
                        for state, written in runs
                        for more in {more for _, more in words.read(state, stretch.behind)}
                    ]
                ),
            )
            continue
        if stretch.stop is None and automaton.is_end(place):
            yield text, _one([(*written, *more) for state, written in runs for more in words.end(state)])
        for character, after in automaton.moves(place):
            on = [
                (state, (*written, *more)) for before, written in runs for state, more in words.read(before, character)
            ]
            pending.append((after, text + character, on))


def _one(found: list[Symbols]) -> Symbols:
    """What is written of a text: one guess has come true, and the stretch behind may have several ways to begin."""
    (only,) = set(found)
    return only

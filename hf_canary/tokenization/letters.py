"""The last stages: from the characters of a word to the units of a vocabulary's entries, and words that are one entry.

Knows the entries' spelling; not which of them follow one another.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from .stages import CUT, Atom, State, Symbols, Transition, Unfollowed
from .vocabulary import WORD_END, Trie, byte_unit

UNKNOWN = "\U0010fffe"  # the unit of a character that the vocabulary does not know

# The last unit: one behind which no entry goes on; one that others stand beside; itself, if only it stands before it.
_ALONE, _AMID = "alone", "amid"


class Letters:
    """Each character as the units that encodings begin with: itself, its bytes, or nothing.

    Args:
        known: characters that are units.
        known_further: the same of those behind a word's first; None if these are as the first.
        bytes_known: the units of bytes that stand for the others, where all of a character's are known.
        is_silent: whether others leave no trace, for want of an unknown token.
        most: characters of a word; longer ones are unknown.
    """

    start: State = 0  # how many characters of a word there are, as far as that matters
    restart: State = 0

    def __init__(
        self,
        known: Container[str],
        known_further: Container[str] | None = None,
        *,
        bytes_known: Container[str] = (),
        is_silent: bool = False,
        most: int = 0,
    ) -> None:
        self._known, self._further = known, known if known_further is None else known_further
        self._counted = most + 1 if most else int(known_further is not None)
        self._most, self._bytes, self._is_silent = most, bytes_known, is_silent

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        after = min(state + 1, self._counted)  # type: ignore[operator]
        if self._most and after > self._most:
            return [(after, (UNKNOWN,))]
        if symbol in (self._further if state else self._known):
            return [(after, (symbol,))]
        as_bytes = tuple(map(byte_unit, symbol.encode()))
        if all(unit in self._bytes for unit in as_bytes):
            return [(after, as_bytes)]
        return [(state, ())] if self._is_silent else [(after, (UNKNOWN,))]

    def end(self, state: State) -> Sequence[Symbols]:
        return [()]

    def units(self, character: str) -> tuple[str, ...]:
        """Those of a character at the beginning of a word."""
        return tuple(unit for unit in self.read(self.start, character)[0][1] if isinstance(unit, str))


class EndOfWord:
    """A mark behind the last letter of each word, as CLIP's `</w>`. With it and without it, a letter is two.

    Args:
        plain: letters that are known within a word.
        marked: those that are known at its end.
    """

    start: State = None  # whether the last letter is known if the word goes on, and if it ends
    restart: State = None

    def __init__(self, plain: Container[str], marked: Container[str]) -> None:
        self._plain, self._marked = plain, marked

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        after = symbol in self._plain, symbol in self._marked
        is_known = state is None or state[0]  # type: ignore[index]
        return [(after, (symbol,) if is_known else (UNKNOWN, symbol))]

    def end(self, state: State) -> Sequence[Symbols]:
        if state is None:
            return [()]
        return [(WORD_END if state[1] else UNKNOWN,)]  # type: ignore[index]


class WholeWords:
    """Each word as the one entry that it is, known at its end; or unknown.

    Args:
        entries: word → id.
    """

    start: State = Trie.root
    restart: State = Trie.root

    def __init__(self, entries: Mapping[str, int]) -> None:
        self._trie = Trie({word: id for word, id in entries.items() if word})

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        assert isinstance(state, int)
        return [(-1 if state == -1 else self._trie.child(state, symbol), ())]

    def end(self, state: State) -> Sequence[Symbols]:
        if state == Trie.root:
            return [()]
        assert isinstance(state, int)
        entry = -1 if state == -1 else int(self._trie.entry[state])
        return [(Atom(entry),) if entry >= 0 else (UNKNOWN,)]


class Seams:
    """A cut beside letters that no entry has beside others: no token goes over it, and no merge.

    As around the digits of a vocabulary that writes each alone, and before `▁` where entries only begin with it. (Other
    pairs that no entry has are left to the rule of words: a state for each letter would be too many.)

    Args:
        pairs: units that stand side by side in some entry.
        alphabet: all characters that may come.
        letters: what makes units of them.
    """

    start: State = ""  # the last unit, where it matters
    restart: State = ""

    def __init__(self, pairs: Iterable[tuple[str, str]], alphabet: Iterable[str], letters: Letters) -> None:
        self._units = {character: letters.units(character) for character in alphabet}
        lasts = {units[-1] for units in self._units.values() if units}
        firsts = {units[0] for units in self._units.values() if units}
        within = [(one, other) for one, other in pairs if one in lasts and other in firsts]
        self._go_on = {one for one, _ in within}
        self._follow = {other for one, other in within if one != other}

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        units = self._units.get(symbol)
        if units is None:
            raise Unfollowed(f"a character {symbol!r} that its parts were not seen to write")
        if not units:
            return [(state, (symbol,))]
        first, last = units[0], units[-1]
        is_cut = state == _ALONE or (state != "" and first not in self._follow and first != state)
        after = _ALONE if last not in self._go_on else _AMID if last in self._follow else last
        return [(after, (CUT, symbol) if is_cut else (symbol,))]

    def end(self, state: State) -> Sequence[Symbols]:
        return [()]


class NeverSpelled:
    """Refuses words that hold certain texts, which the rule of words does not know as the model does.

    Args:
        texts: by their units.
    """

    start: State = ""  # what has been read of such texts: the longest
    restart: State = ""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(text for text in texts if text and UNKNOWN not in text)
        self._begun = {text[:length] for text in self._texts for length in range(len(text) + 1)} | {""}

    def read(self, state: State, symbol: str) -> Sequence[Transition]:
        after = f"{state}{symbol}"
        while after not in self._begun:
            after = after[1:]
        if after.endswith(self._texts):
            raise Unfollowed(f"the text {after!r}, which stands for something else in its vocabulary")
        return [(after, (symbol,))]

    def end(self, state: State) -> Sequence[Symbols]:
        return [()]

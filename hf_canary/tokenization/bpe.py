"""Byte-pair encoding: a token may follow another if the two are the encoding of their letters (see `merges`).

With `ignore_merges`, a word that is an entry as a whole is that one token, whatever merges make of its letters. So a
word may not end behind just the tokens that merges make of such an entry: with `důležité` an entry that no merges
reach, the word is that token, while `důležitého` is `dů le ž ité ho`, which begins with its letters' encoding.

Marks: a prefix of all pieces but a word's first, as `##`; a suffix of a word's last, as CLIP's `</w>`; `<0xC5>` for a
byte of a letter that is no entry. This file knows no pre-tokenizer and no format.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Bools, Ints
from .letters import UNKNOWN, EndOfWord, Letters, Seams
from .merges import Merges
from .stages import Stage, Unfollowed
from .vocabulary import WORD_END, Trie, byte_entry, byte_unit, spelled
from .word_rule import FRESH, Config, Entries, NothingWatched, StagesFor, check_options

_FEW = 32  # so many pairs are quicker asked one by one
_OPTIONS = (
    "type",
    "vocab",
    "merges",
    "dropout",  # leaves encodings to chance: refused before there is a rule
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",  # only of what is unknown, of which there is no tree
    "byte_fallback",
    "ignore_merges",
)


class MergedWords(NothingWatched):
    """Words of merges. The state is the last token, and beside it how much has been written of a forbidden ending: of
    the tokens that merges make of an entry of `whole`.

    Args:
        merges: of the vocabulary.
        first: entries that begin a word, those of `whole` too.
        further: entries that go on in one.
        stages: to the units of the entries.
        whole: entry → what merges make of its letters.
        unknown: the token of letters that are none.
    """

    has_plain_states = True

    def __init__(
        self,
        merges: Merges,
        first: Trie,
        further: Trie,
        stages: StagesFor,
        whole: Mapping[int, Sequence[int]],
        unknown: int | None,
    ) -> None:
        self.first, self.further, self.stages, self._merges = first, further, stages, merges
        self.unknown = unknown
        self._behind_first = np.arange(merges.size) + 1
        self._closed = merges.size + 1
        self._last: list[int] = []  # of each beginning of a forbidden ending
        self._on: list[dict[int, int]] = []
        self.unended: set[int] = set()
        for entry, tokens in whole.items():
            self._forbid(tokens)
            self._behind_first[entry] = self._closed

    def after(self, state: int, entries: Entries) -> tuple[Ints, Ints]:
        if state == FRESH:
            return np.arange(len(entries.tokens)), self._behind_first[entries.tokens]
        if state == self._closed:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        if self.is_plain(state):
            which = np.flatnonzero(self.allowed(state, entries))
            return which, entries.tokens[which] + 1
        begun = state - self._closed - 1
        which = np.flatnonzero(self._may_follow(self._last[begun], entries))
        behind = entries.tokens[which] + 1
        for token, number in self._on[begun].items():
            behind[entries.tokens[which] == token] = number
        return which, behind

    def step(self, state: int, token: int) -> int:
        if state == FRESH:
            return self._behind_first.item(token)
        if state == self._closed:
            return -1
        begun = state - self._closed - 1
        last = self._last[begun] if begun >= 0 else state - 1
        if not self._merges.reached[token] or not self._merges.may_follow_this(last, token):
            return -1
        return self._on[begun].get(token, token + 1) if begun >= 0 else token + 1

    def is_plain(self, state: int) -> bool:
        return FRESH < state < self._closed

    def behind_plain(self, entries: Entries) -> Ints:
        return entries.tokens + 1

    def allowed(self, state: int, entries: Entries) -> Bools:
        return self._may_follow(state - 1, entries)

    def allowed_behind(self, states: Ints, token: int) -> Bools:
        allowed = self._merges.may_follow(states - 1, np.array([token]))
        return allowed & bool(self._merges.reached[token])

    def forbidden(self, state: int, entries: Entries) -> Ints:
        if len(entries.tokens) <= _FEW:
            return np.flatnonzero(~self._may_follow(state - 1, entries))
        candidates = entries.candidates(self._merges)
        return np.concatenate([self._merges.may_not_follow(state - 1, candidates), candidates.unreached])

    def _may_follow(self, last: int, entries: Entries) -> Bools:
        if len(entries.tokens) == 1:
            return np.array([self.step(last + 1, int(entries.tokens[0])) >= 0])
        if len(entries.tokens) <= _FEW:
            allowed = self._merges.may_follow(np.array([last]), entries.tokens)
            return allowed & self._merges.reached[entries.tokens]
        allowed = np.ones(len(entries.tokens), dtype=bool)
        allowed[self.forbidden(last + 1, entries)] = False
        return allowed

    def _forbid(self, tokens: Sequence[int]) -> None:
        """A word may not be these tokens alone."""
        state = FRESH
        for token in tokens:
            begun = state - self._closed - 1
            on = int(self._behind_first[token]) if state == FRESH else self._on[begun].get(token, 0)
            if on <= self._closed:
                on = self._closed + 1 + len(self._last)
                self._last.append(token)
                self._on.append({})
                if state == FRESH:
                    self._behind_first[token] = on
                else:
                    self._on[begun][token] = on
            state = on
        self.unended.add(state)


def merged_words(model: Config) -> MergedWords:
    """The rule of a BPE model.

    Raises:
        Unfollowed: names the options that are not followed together.
    """
    check_options(model, _OPTIONS)
    pieces = _Pieces(model)
    merges = Merges(pieces.size, pieces.merges(model["merges"]), pieces.letters, pieces.lengths)
    whole = _Whole(model, pieces, merges)
    is_reached = merges.reached.tolist()
    reached = {spelling: id for spelling, id in pieces.first.items() if is_reached[id]}
    first = Trie(reached | whole.spelled)
    further = first
    if pieces.prefix:
        further = Trie({entry: id for entry, id in pieces.further.items() if merges.reached[id]})

    def stages(alphabet: frozenset[str]) -> tuple[list[Stage], list[Stage]]:
        whole.check(alphabet)
        if pieces.suffix:  # a letter within a word and the same at its end are two
            return [], [EndOfWord(set(pieces.letter_ids), pieces.marked), pieces.spell]
        if pieces.prefix:
            if not all(map(pieces.spell.units, alphabet)):
                raise Unfollowed("letters that it drops, beside its mark of a word's pieces")
            return [], [pieces.spell]
        if any(alphabet.issuperset(entry) for entry in whole.entries):
            return [], [pieces.spell]  # a word that is one entry is not cut
        units = {unit for character in alphabet for unit in pieces.spell.units(character)}
        return [Seams(first.pairs_of(units), alphabet, pieces.spell)], [pieces.spell]

    unknown = model["vocab"].get(model.get("unk_token"))
    return MergedWords(merges, first, further, stages, whole.made, unknown)


class _Whole:
    """Entries that a whole word may be although merges do not make them of its letters: those of `ignore_merges`.

    Attributes:
        entries: entry → id.
        spelled: units → id.
        made: id → the tokens that merges make of its letters.
    """

    def __init__(self, model: Config, pieces: _Pieces, merges: Merges) -> None:
        self._pieces = pieces
        self.entries: dict[str, int] = {}
        self.spelled: dict[str, int] = {}
        self.made: dict[int, list[int]] = {}
        self._unspelled: list[str] = []
        if not model.get("ignore_merges"):
            return
        for entry, id in model["vocab"].items():
            if not entry or (merges.reached[id] and not pieces.is_byte(id)):
                continue
            units = [pieces.spell.units(letter) for letter in entry]
            if pieces.is_byte(id) or not all(units) or any(UNKNOWN in some for some in units):
                self._unspelled.append(entry)
                continue
            spelling = "".join(unit for some in units for unit in some)
            self.entries[entry], self.spelled[spelling] = id, id
            self.made[id] = merges.encode([pieces.letter_ids[unit] for unit in spelling])

    def check(self, alphabet: frozenset[str]) -> None:
        """Refuse texts that may hold an entry of letters that leave no trace alone, or such letters within an entry."""
        drops = not all(map(self._pieces.spell.units, alphabet))
        if any(map(alphabet.issuperset, self._unspelled)) or (drops and any(map(alphabet.issuperset, self.entries))):
            raise Unfollowed("entries that merges do not reach, of letters that are none by themselves")


class _Pieces:
    """A vocabulary of BPE, by units.

    Attributes:
        prefix: the mark of all pieces but a word's first.
        suffix: the mark of a word's last.
        size: ids are below.
        first: spelling → id, of pieces that begin a word.
        further: the same of those that bear the prefix, without it.
        lengths: (size,) how many letters each has.
        letters: ids of those that are one letter.
        letter_ids: unit → id.
        marked: letters that are known at a word's end.
        spell: what makes units of letters.
    """

    def __init__(self, model: Config) -> None:
        vocab: dict[str, int] = model["vocab"]
        suffix, prefix = model.get("end_of_word_suffix") or "", model.get("continuing_subword_prefix") or ""
        bytes_alone = bool(model.get("byte_fallback"))
        if ((prefix or suffix) and (bytes_alone or model.get("ignore_merges"))) or (prefix and suffix):
            raise Unfollowed("its mark of a word's pieces, beside other options")
        if not prefix.isascii():  # the library takes off as many bytes as it has characters
            raise Unfollowed("its mark of a word's pieces, which is not ASCII")
        self._vocab, self.prefix, self.suffix = vocab, prefix, suffix
        self.size = max(vocab.values(), default=0) + 1
        self.first = dict(vocab)
        self.first.pop("", None)
        self.further: dict[str, int] = {}
        self._byte_ids: set[int] = set()
        if bytes_alone:
            self._spell_bytes()
        elif prefix:
            self._take_out_further()
        elif suffix:
            self.first = {spelled(entry, suffix=suffix): id for entry, id in self.first.items()}
        self.lengths = np.zeros(self.size, dtype=np.int64)
        self._num_units(self.first)
        self._num_units(self.further)
        self.letters = np.flatnonzero(self.lengths == 1)
        self.letter_ids = {spelling: id for spelling, id in self.first.items() if len(spelling) == 1}
        self.marked = (
            {spelling[0] for spelling in self.first if len(spelling) == 2 and spelling[1] == WORD_END}
            if suffix
            else set()
        )
        self.spell = self._spelling(is_silent=model.get("unk_token") is None)

    def _spelling(self, *, is_silent: bool) -> Letters:
        known = {*self.letter_ids, *self.marked, WORD_END, UNKNOWN} if self.suffix else set(self.letter_ids)
        further = {spelling for spelling in self.further if len(spelling) == 1} if self.prefix else None
        bytes_known = {spelling for spelling, id in self.letter_ids.items() if self.is_byte(id)}
        return Letters(known, further, bytes_known=bytes_known, is_silent=is_silent)

    def _spell_bytes(self) -> None:
        for byte in range(256):
            id = self.first.pop(byte_entry(byte), None)
            if id is not None:
                self.first[byte_unit(byte)] = id
                self._byte_ids.add(id)

    def _take_out_further(self) -> None:
        marked = [entry for entry in self.first if entry.startswith(self.prefix) and entry != self.prefix]
        self.further = {entry.removeprefix(self.prefix): self.first.pop(entry) for entry in marked}

    def _num_units(self, entries: Mapping[str, int]) -> None:
        """The mark at a word's end is no letter of its own."""
        ids = np.fromiter(entries.values(), dtype=np.int64, count=len(entries))
        self.lengths[ids] = np.fromiter(map(len, entries), dtype=np.int64, count=len(entries))
        if self.suffix:
            marked = [id for spelling, id in entries.items() if spelling[-1] == WORD_END]
            self.lengths[marked] -= 1

    def is_byte(self, id: int) -> bool:
        """Whether an entry stands for one byte."""
        return id in self._byte_ids

    def merges(self, merges: Sequence[Any]) -> Ints:
        """(n_merges, 3) ids of the two, and of what they make."""
        pairs = [merge.split(" ") for merge in merges] if merges and isinstance(merges[0], str) else merges
        if not pairs:
            return np.empty((0, 3), dtype=np.int64)
        ones, others = zip(*pairs, strict=True)
        further = [other[len(self.prefix) :] for other in others] if self.prefix else others
        made = map(operator.add, ones, further)
        ids = np.array(
            [list(map(self._vocab.__getitem__, entries)) for entries in (ones, others, made)], dtype=np.int64
        )
        is_byte = np.zeros(self.size, dtype=bool)
        is_byte[list(self._byte_ids)] = True
        if is_byte[ids[:2]].any():
            raise Unfollowed("merges of its bytes")
        return ids.T

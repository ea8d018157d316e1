"""Canaries in rows of token ids: which tokens a canary certainly has, and where these stand, whole or in pieces.

A tokenizer may join a text's first and last letters with its neighbours. What is looked for is the *core* of its
encoding, which stays the same between all kinds of neighbours; where that is not all of it, the tokens around a core
are spelled out. Spaces at a text's ends belong to it, as far as the tokenizer writes them whatever stands beside it.
Knows no dataset, no label and no model.
"""

from __future__ import annotations

import copy
import logging
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arrays import Ints
from ..canaries import Canary, CanarySet
from ..formats.template import Literal
from ..tokenization.encoding import special_ids, token_ids, token_namer, unknown_ids

Part = TypeVar("Part", list[int], str)

# What may stand before a canary, and behind it, in data where nothing is glued to it.
_BESIDE = (
    ("", ""),
    (" ", " "),
    ("  ", "  "),
    ("\n", "\n"),
    ("a ", " a"),
    ("a. ", ". A"),
    ("a\n", "\na"),
    ('"', '"'),
    (".", "."),
    (": ", ","),
)
_OTHER_FILLS = 16
_SAMPLE = 2**20
_FEW = 32
_NEARLY_ALL = 0.9


@dataclass(frozen=True)
class Core:
    """Tokens that a canary has, whatever stands beside it.

    Args:
        number: of the canary in its set.
        tokens: the core.
        tokens_before: how many of the encoding stand before it.
        tokens_after: how many of the encoding stand behind it.
        fill: from which token of the core to which the fill goes; it may begin before and end behind.
        text_before: how the part of the text is spelled that stands before it.
        text_after: how the part of the text is spelled that stands behind it.
        fixed: whether the one and the other are the same for all fills.
    """

    number: int
    tokens: tuple[int, ...]
    tokens_before: int
    tokens_after: int
    fill: tuple[int, int]
    text_before: bytes = b""
    text_after: bytes = b""
    fixed: tuple[bool, bool] = (True, True)


@dataclass(frozen=True)
class Hit:
    """A canary in rows: the core's first token, and the rows that it begins and ends in.

    Args:
        core: whose.
        row: where it begins.
        last_row: where it ends.
        at: of the row's tokens without special ones, the first.
        begin: of these, the one in which the canary's text begins.
        is_cut: whether an end of its text is in no row.
    """

    core: Core
    row: int
    last_row: int
    at: int
    begin: int
    is_cut: bool = False


@dataclass(frozen=True)
class Piece:
    """The beginning of a canary at the end of a row, or the end of one at the beginning of a row.

    Args:
        row: which.
        length: tokens of the core.
        numbers: the canaries that it may be of.
        is_all: whether the row holds nothing else.
        holds: whether it holds a part of the fill.
        is_long: whether it is half of what stands before the fill, or more.
        of: how many tokens the row has.
    """

    row: int
    length: int
    numbers: frozenset[int]
    is_all: bool
    holds: bool
    is_long: bool
    of: int


@dataclass
class Found:
    """What rows hold.

    Attributes:
        hits: canaries whose core is whole, be it over several rows.
        beginnings: at the ends of rows.
        ends: at the beginnings of rows.
        longest: tokens of the longest row.
        full: how many ids the longest row has, special ones too.
        num_rows: how many there are, but empty ones.
        num_full: how many have as many ids, none of them padding.
    """

    hits: list[Hit] = field(default_factory=list)
    beginnings: list[Piece] = field(default_factory=list)
    ends: list[Piece] = field(default_factory=list)
    longest: int = 0
    full: int = 0
    num_rows: int = 0
    num_full: int = 0

    @property
    def is_in_blocks(self) -> bool:
        """Whether nearly all rows have one length, and are not padded to it."""
        return self.num_rows > 1 and self.num_full >= min(self.num_rows - 1, _NEARLY_ALL * self.num_rows)

    def measure(self, flat: Ints, lengths: Ints, keep: NDArray[np.bool_]) -> None:
        """Take in rows of these ids, of which those that are kept are no special ones."""
        full = max(self.full, int(lengths.max(initial=0)))
        before = self.num_full if self.full == full else 0
        ends = np.cumsum(lengths)[(lengths == full) & (lengths > 1)]
        # Padding is a run of one special token at either end.
        is_padded = np.zeros(len(ends), dtype=bool)
        for outer, inner in ((ends - 1, ends - 2), (ends - full, ends - full + 1)):
            is_padded |= ~keep[outer] & (flat[outer] == flat[inner])
        self.full, self.num_full = full, before + int((~is_padded).sum())
        self.num_rows += int((lengths > 0).sum())


class Occurrences:
    """Looks for the canaries of a set in rows of token ids.

    Args:
        canaries: the set.
        tokenizer: that made the rows.
        target: whether they are what a decoder writes.

    Attributes:
        cores: what is looked for.
    """

    def __init__(self, canaries: CanarySet, tokenizer: Any, *, target: bool = False) -> None:
        self._tokenizer, self.target = tokenizer, target
        self._spelling = _Spelling(tokenizer, target=target)
        self._read = _Spelling(tokenizer) if target else self._spelling
        with quietly():
            self.cores = _cores(canaries, tokenizer, self._spelling, target)
        # Special tokens stand between texts, but for those that a format has in its own.
        own = {token for core in self.cores for token in core.tokens}
        self._special = special_ids(tokenizer, target=target) - own
        self._around = max(len(beside) for core in self.cores for beside in (core.text_before, core.text_after))
        self._longest = max(len(core.tokens) for core in self.cores)
        self._groups: dict[int, list[_Group]] = {}
        self._begins, self._ends = _pieces(self.cores, ends=False), _pieces(self.cores, ends=True)
        self._sources: dict[str, bytes] = {}

    def find(self, batches: Iterable[tuple[Ints, Ints]]) -> Found:
        """All of them in rows, batch by batch: (n,) ids of all its rows, and (rows,) how many each has."""
        found, window, seen = Found(), _Window(), set[tuple[int, int]]()
        margin = self._longest + 2 * self._around
        for flat, lengths in batches:
            keep = self.plain(flat)
            window.move(flat, lengths, keep, margin)
            found.measure(flat, lengths, keep)
            found.hits += self._hits(window, len(window.ids) - self._around, seen)
            self._look_at_edges(window, found)
            found.longest = max(found.longest, int(np.diff(window.starts).max(initial=0)))
        nothing = np.empty(0, dtype=np.int64)
        window.move(nothing, nothing, nothing.astype(bool), margin)
        found.hits += self._hits(window, len(window.ids), seen)
        return found

    def whole_in(self, ids: Ints) -> list[Hit]:
        """Canaries that are whole in (n,) ids of one row."""
        window = _Window()
        window.move(ids, np.array([len(ids)]), self.plain(ids), 0)
        return [hit for hit in self._hits(window, len(window.ids), set()) if not hit.is_cut]

    def matches(self, ids: Ints) -> Iterator[tuple[int, Core]]:
        """Where cores stand in (n,) ids, whatever rows they are of."""
        if not len(ids):
            return
        if not self._groups:
            self._groups = _groups(self.cores, ids[:_SAMPLE])
            size = 1 + max(max(core.tokens) for core in self.cores)
            self._anchors = np.zeros(size + 1, dtype=bool)
            self._anchors[list(self._groups)] = True
        hits = np.flatnonzero(np.take(self._anchors, ids, mode="clip"))
        tokens = ids[hits]
        order = np.argsort(tokens, kind="stable")
        hits, tokens = hits[order], tokens[order]
        kinds, firsts = np.unique(tokens, return_index=True)
        for token, anchors in zip(kinds.tolist(), np.split(hits, firsts[1:]), strict=False):
            for group in self._groups[token]:
                yield from group.matches(ids, anchors)

    def plain(self, flat: Ints) -> NDArray[np.bool_]:
        """(n,) which ids are no special tokens and no gaps."""
        size = 2 + max([*self._special, 0])
        table = np.ones(size, dtype=bool)
        table[list(self._special)] = False
        return np.asarray(np.take(table, flat, mode="clip") & (flat >= 0))

    def reads(self, ids: Sequence[int], text: str) -> bool:
        """Whether ids hold all of a text that is read, whatever its ends are joined with."""
        if text not in self._sources:
            with quietly():
                bare, encoded = _encodings(copy.copy(self._tokenizer), text, target=False)
            self._sources[text] = _needed(self._read, bare, encoded)[0]
        return self._sources[text] in self._read.of([int(token) for token in ids])

    def _hits(self, window: _Window, last: int, seen: set[tuple[int, int]]) -> Iterator[Hit]:
        """Canaries whose cores end before a place of the window, and did not before the last such place."""
        done, window.done = window.done, max(window.done, window.base + last)
        for at, core in self.matches(window.ids):
            if done < window.base + at + len(core.tokens) <= window.done:
                first, hit = self._hit(window, at, core)
                if hit is not None and (core.number, window.base + first) not in seen:
                    seen.add((core.number, window.base + first))
                    yield hit

    def _hit(self, window: _Window, at: int, core: Core) -> tuple[int, Hit | None]:
        """Where the text of the canary begins that a core belongs to, and the canary; None if it is no part of one."""
        (row, index), last = window.where(at), at + len(core.tokens) - 1
        first, is_begun = self._beside(window, at, core.text_before, -1)
        last, is_ended = self._beside(window, last, core.text_after, 1)
        if is_begun is None or is_ended is None:
            return first, None
        # Without its fill, or a part of it, it could be another canary of the format.
        if not ((is_begun or core.fixed[0]) and (is_ended or core.fixed[1])):
            return first, None
        (row, begin), last_row = window.where(first), window.where(last)[0]
        return first, Hit(core, row, last_row, index, begin, not (is_begun and is_ended))

    def _beside(self, window: _Window, edge: int, text: bytes, step: int) -> tuple[int, bool | None]:
        """How far text goes on before an edge of a core, or behind it, and whether all of it is there; None if other
        text is. It may go on in the next row, but not beyond a special token: these stand between texts.
        """
        wanted, said, at, own = text[::step], b"", edge, edge
        row = window.where(edge)[0]
        while len(said) < len(wanted):
            at += step
            if not 0 <= at < len(window.ids) or window.breaks[max(at, at - step)]:
                return own, False
            said += self._spelling[int(window.ids[at])][::step]
            is_own = window.where(at)[0] == row
            if not (said.startswith(wanted) or wanted.startswith(said)):
                return own, None if is_own else False
            own = at if is_own else own
        return at, True

    def _look_at_edges(self, window: _Window, found: Found) -> None:
        ids, starts = window.new, window.starts
        long = np.flatnonzero(np.diff(starts) >= 2)
        for pieces, ends, into in ((self._begins, False, found.beginnings), (self._ends, True, found.ends)):
            if not pieces or not len(long):
                continue
            at = starts[long] if ends else starts[long + 1] - 2
            pairs = np.array(sorted({piece[:2] if ends else piece[-2:] for piece in pieces}))
            base = 1 + max(int(pairs.max()), int(ids.max()))
            near = long[np.isin(ids[at] * base + ids[at + 1], pairs[:, 0] * base + pairs[:, 1])]
            for which in near.tolist():
                mine = ids[starts[which] : starts[which + 1]]
                edge = tuple((mine[: self._longest] if ends else mine[-self._longest :]).tolist())
                for length in range(min(len(edge), self._longest - 1), 1, -1):
                    kind = pieces.get(edge[:length] if ends else edge[-length:])
                    if kind is not None:
                        into.append(kind.piece(window.row + which, length, len(mine)))
                        break


class _Window:
    """The ids of a batch of rows without special ones, behind the last ones of the batch before.

    Attributes:
        ids: all of them.
        breaks: (ids,) whether a special one, or a gap, stands before each.
        new: those of the batch.
        carried: how many are of earlier batches.
        row: the number of the batch's first row.
        base: how many ids came before these.
        starts: (rows + 1,) where its rows begin and end in `new`.
        done: how many of all ids have been looked at.
    """

    def __init__(self) -> None:
        self.ids = self.new = np.empty(0, dtype=np.int64)
        self.breaks = np.empty(0, dtype=bool)
        self.starts = np.zeros(1, dtype=np.int64)
        self.carried, self.row, self.base, self.done = 0, 0, 0, 0
        self._before: list[tuple[int, int]] = []
        self._ends_in_break = False

    def move(self, flat: Ints, lengths: Ints, keep: NDArray[np.bool_], margin: int) -> None:
        """To the next batch, of which some ids are kept, and so many of those before."""
        first = max(0, len(self.ids) - margin)
        before = [self.where(at) for at in range(first, len(self.ids))]
        self.row += len(self.starts) - 1
        self.base += first
        counts = np.concatenate([[0], np.cumsum(keep)])
        self.starts = counts[np.concatenate([[0], np.cumsum(lengths)])]
        self.new = flat[keep]
        self.ids = np.concatenate([self.ids[first:], self.new])
        behind = np.concatenate([[self._ends_in_break], ~keep])
        self.breaks = np.concatenate([self.breaks[first:], behind[:-1][keep]])
        self._ends_in_break = bool(behind[-1])
        self._before, self.carried = before, len(before)

    def where(self, at: int) -> tuple[int, int]:
        """The row of one of the ids, and its place there."""
        if at < self.carried:
            return self._before[at]
        at -= self.carried
        row = int(np.searchsorted(self.starts, at, side="right")) - 1
        return self.row + row, at - int(self.starts[row])


class _Group:
    """Cores of one length, with the same rare token at the same place."""

    def __init__(self, offset: int, cores: list[Core]) -> None:
        self._offset = offset
        self._length = len(cores[0].tokens)
        self._cores: dict[bytes, list[Core]] = defaultdict(list)
        for core in cores:
            self._cores[np.array(core.tokens, dtype=np.int64).tobytes()].append(core)
        self._allowed = [np.unique([core.tokens[index] for core in cores]) for index in range(self._length)]

    def matches(self, ids: Ints, anchors: Ints) -> Iterator[tuple[int, Core]]:
        at = anchors - self._offset
        at = at[(at >= 0) & (at + self._length <= len(ids))]
        for index in range(self._length):
            if len(at) > _FEW:
                at = at[np.isin(ids[at + index], self._allowed[index])]
        for first in at.tolist():
            for core in self._cores.get(ids[first : first + self._length].astype(np.int64).tobytes(), ()):
                yield first, core


def _groups(cores: Sequence[Core], sample: Ints) -> dict[int, list[_Group]]:
    """By the token of each core that is rarest in a sample of the data: the anchor."""
    counts = Counter(dict(zip(*(part.tolist() for part in np.unique(sample, return_counts=True)), strict=True)))
    members: dict[tuple[int, int, int], list[Core]] = defaultdict(list)
    common = Counter(token for core in cores for token in core.tokens)
    for core in cores:
        # Of tokens that are as rare, the one that most cores share.
        offset = min(range(len(core.tokens)), key=lambda at: (counts[core.tokens[at]], -common[core.tokens[at]], at))
        members[core.tokens[offset], offset, len(core.tokens)].append(core)
    groups: dict[int, list[_Group]] = defaultdict(list)
    for (anchor, offset, _), listed in sorted(members.items()):
        groups[anchor].append(_Group(offset, listed))
    return dict(groups)


@contextmanager
def quietly() -> Iterator[None]:
    """Without what tokenizers say of characters that they do not know; the neighbours need not be known."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class _Spelling:
    """How each token is spelled, in bytes: as the vocabulary has it.

    A text is spelled alike wherever it stands, but for spaces at its ends that the tokenizer adds or drops.
    """

    def __init__(self, tokenizer: Any, *, target: bool = False) -> None:
        self._tokenizer, self._target = tokenizer, target
        self._name = token_namer(tokenizer, target=target)
        self._added = set(getattr(tokenizer, "added_tokens_decoder", ())) - set(tokenizer.all_special_ids)
        self._spellings: dict[int, bytes] = {}

    def __getitem__(self, token: int) -> bytes:
        if token not in self._spellings:
            self._spellings[token] = self._spelled(token)
        return self._spellings[token]

    def of(self, tokens: Iterable[int]) -> bytes:
        """Several tokens."""
        return b"".join(self[token] for token in tokens)

    def _spelled(self, token: int) -> bytes:
        text = self._name(token)
        if text is None:
            return b"\xff"  # which no text has
        if token in self._added:  # it is as people type it
            return b"".join(self._space(letter) if letter.isspace() else letter.encode() for letter in text)
        return text.encode()

    def _space(self, letter: str) -> bytes:
        """As the vocabulary writes it, between letters."""
        with quietly():
            ids = token_ids(self._tokenizer, [f"a{letter}a"], target=self._target)[0]
        unknown = unknown_ids(self._tokenizer, target=self._target)
        if not (unknown | self._added).isdisjoint(ids):  # it is written in no other way
            return letter.encode()
        written = self.of(ids)
        return written[written.find(b"a") + 1 : -1]


def _encodings(tokenizer: Any, text: str, *, target: bool) -> tuple[list[int], list[list[int]]]:
    """A text alone, and amid those neighbours that the tokenizer knows."""
    around = [before + text + behind for before, behind in _neighbours(text)]
    bare, *encoded = token_ids(tokenizer, [text, *around], target=target)
    unknown = unknown_ids(tokenizer, target=target)
    return bare, [one for one in encoded if unknown.isdisjoint(one)]


def _neighbours(text: str) -> list[tuple[str, str]]:
    """What may stand before a text and behind it; other marks too, where it has one there, which may be joined."""
    before, behind = (string.punctuation if letter in string.punctuation else "" for letter in (text[:1], text[-1:]))
    return [*_BESIDE, *zip_longest(before, behind, fillvalue="")]


def _needed(spelling: _Spelling, bare: list[int], encoded: Iterable[list[int]]) -> tuple[bytes, int]:
    """What of a text is spelled whatever stands beside it, and nothing as well; and where it begins in its encoding."""
    alone, *others = (_letters(spelling.of(one)) for one in (bare, *encoded))
    begin, end = _stable_part(alone, others, str.__contains__)
    return _bytes(alone[begin:end]), len(_bytes(alone[:begin]))


def _letters(spelled: bytes) -> str:
    """One for each space, however many bytes its mark has."""
    return spelled.decode(errors="surrogateescape")


def _bytes(letters: str) -> bytes:
    return letters.encode(errors="surrogateescape")


def _cores(canaries: CanarySet, tokenizer: Any, spelling: _Spelling, target: bool) -> list[Core]:
    others = {
        format: [format.render(fill) for fill in format.sample(min(_OTHER_FILLS, format.space_size), "presence")]
        for format in canaries.formats
    }
    fills = {format: token_ids(tokenizer, texts, target=target) for format, texts in others.items()}
    found, aside = [], copy.copy(tokenizer)  # what is tried on it counts for nothing
    for number, canary in enumerate(canaries):
        bare, encoded = _encodings(aside, canary.text, target=target)
        text, at = _needed(spelling, bare, encoded)
        first, last = _fill_of(bare, fills[canary.format])
        begin, end = _trimmed(tokenizer, bare, _stable_part(bare, encoded, _holds))
        if begin == end:
            ways = _ways_of_writing(aside, canary, spelling, text, target)
            cores = [Core(number, tokens, 0, 1, (0, len(tokens)), *beside) for tokens, beside in ways]
        else:
            fill = (first - begin, last - begin)
            text_before, text_after = _text_beside(spelling, bare, (begin, end), text, at)
            cores = [Core(number, tuple(bare[begin:end]), begin, len(bare) - end, fill, text_before, text_after)]
        found += [replace(core, fixed=_are_fixed(core, canary.text, others[canary.format])) for core in cores]
    return found


def _are_fixed(core: Core, text: str, others: list[str]) -> tuple[bool, bool]:
    """Whether what stands beside a core is no longer than what a text has in common with those of other fills."""
    first = min(_alike(text, other) for other in others)
    last = min(_alike(text[::-1], other[::-1]) for other in others)
    return len(_letters(core.text_before)) <= first, len(_letters(core.text_after)) <= last


def _text_beside(
    spelling: _Spelling, ids: Sequence[int], part: tuple[int, int], text: bytes, at: int
) -> tuple[bytes, bytes]:
    """What of a text, which begins somewhere in the spelling of ids, stands before and behind a part of them."""
    begin, end = (max(0, len(spelling.of(ids[:index])) - at) for index in part)
    return text[:begin], text[end:]


def _trimmed(
    tokenizer: Any, ids: list[int], part: tuple[int, int], marks: tuple[bool, bool] = (False, False)
) -> tuple[int, int]:
    """A part of an encoding without tokens at its ends that are nothing but space; or nothing but marks, at one end or
    both, if then something is left.
    """

    def is_empty(index: int, end: int) -> bool:
        text = _bare(tokenizer.decode([ids[index]]))
        return not (any(letter.isalnum() for letter in text) if marks[end] else text)

    begin, end = part
    while begin < end and is_empty(begin, 0):
        begin += 1
    while begin < end and is_empty(end - 1, 1):
        end -= 1
    return _trimmed(tokenizer, ids, part) if begin == end and any(marks) else (begin, end)


def _stable_part(bare: Part, encoded: list[Part], holds: Callable[[Part, Part], bool]) -> tuple[int, int]:
    """The longest part of an encoding that is in all of the others, and the last such: what a tokenizer puts before all
    texts is in all of them. An empty one if there is none.
    """
    for left_out in range(len(bare)):
        for begin in range(left_out, -1, -1):
            part = bare[begin : len(bare) - left_out + begin]
            if all(holds(one, part) for one in encoded):
                return begin, begin + len(part)
    return 0, 0


def _holds(ids: list[int], part: list[int]) -> bool:
    return any(ids[at : at + len(part)] == part for at in range(len(ids) - len(part) + 1))


def _ways_of_writing(
    tokenizer: Any, canary: Canary, spelling: _Spelling, text: bytes, target: bool
) -> list[tuple[tuple[int, ...], tuple[bytes, bytes]]]:
    """Where no token stays the same: those that hold the text, in each case, and what of it stands beside them. Marks
    that the format has at its ends may be joined with others still.
    """
    ways = set()
    pieces = canary.format.pieces
    marks = isinstance(pieces[0], Literal), isinstance(pieces[-1], Literal)
    around = [before + canary.text + end for before, behind in _BESIDE for end in ("", behind)]
    for ids in token_ids(tokenizer, around, target=target):
        found = _tokens_of(text, [spelling[token] for token in ids])
        if found is not None:  # else it is joined with what the tokenizer does not know
            at, part = found[0], _trimmed(tokenizer, ids, found[1], marks)
            ways.add((tuple(ids[slice(*part)]), _text_beside(spelling, ids, part, text, at)))
    return sorted(way for way in ways if way[0])


def _tokens_of(text: bytes, tokens: list[bytes]) -> tuple[int, tuple[int, int]] | None:
    """Where a text stands amid tokens, as they are spelled: at which byte, and from which token to which."""
    at, ends = b"".join(tokens).find(text), np.cumsum([0, *map(len, tokens)])
    if at < 0:
        return None
    return at, (int(np.searchsorted(ends, at, side="right")) - 1, int(np.searchsorted(ends, at + len(text))))


def _fill_of(ids: list[int], others: list[list[int]]) -> tuple[int, int]:
    """From which token to which an encoding differs from those of other fills."""
    first = min(_alike(ids, other) for other in others)
    last = min(_alike(ids[::-1], other[::-1]) for other in others)
    return first, max(first, len(ids) - last)


def _alike(one: Part, other: Part) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


@dataclass(frozen=True)
class _Kind:
    """What a piece is, by its tokens."""

    numbers: frozenset[int]
    beside: int
    holds: bool
    is_long: bool

    def piece(self, row: int, length: int, of: int) -> Piece:
        return Piece(row, length, self.numbers, of <= length + self.beside, self.holds, self.is_long, of)


def _pieces(cores: Sequence[Core], *, ends: bool) -> dict[tuple[int, ...], _Kind]:
    """Proper beginnings, or ends, of cores, of two tokens and more."""
    found: dict[tuple[int, ...], list[Core]] = defaultdict(list)
    for core in cores:
        for length in range(2, len(core.tokens)):
            found[core.tokens[-length:] if ends else core.tokens[:length]].append(core)
    return {tokens: _kind(len(tokens), of, ends=ends) for tokens, of in found.items()}


def _kind(length: int, cores: list[Core], *, ends: bool) -> _Kind:
    return _Kind(
        frozenset(core.number for core in cores),
        beside=max(core.tokens_after if ends else core.tokens_before for core in cores),
        holds=any(core.fill[1] > len(core.tokens) - length if ends else core.fill[0] < length for core in cores),
        is_long=not ends and 2 * length >= min(core.fill[0] for core in cores),
    )


def _bare(text: str) -> str:
    return "".join(text.replace("▁", " ").split())

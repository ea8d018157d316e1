"""Canaries in rows of token ids: which tokens a canary certainly has, and where these stand, whole or in pieces.

A tokenizer may join a text's first and last letters with its neighbours. What is looked for is the *core* of its
encoding, which stays the same between all kinds of neighbours; where that is not all of it, the tokens around a core
are decoded. Knows no dataset, no label and no model.
"""

from __future__ import annotations

import bisect
import copy
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .canaries import Canary, CanarySet
from .tokenization.encoding import token_ids

Ints = NDArray[np.int64]

# What may stand before a canary, and behind it, in data where nothing is glued to it.
_BESIDE = (("", ""), (" ", " "), ("\n", "\n"), ("a ", " a"), ("a. ", ". A"), ("a\n", "\na"), ('"', '"'), (": ", ","))
_OTHER_FILLS = 16
_SAMPLE = 2**20
_FEW = 32


@dataclass(frozen=True)
class Core:
    """Tokens that a canary has, whatever stands beside it.

    Args:
        number: of the canary in its set.
        tokens: the core.
        before: tokens of the encoding that stand before it.
        behind: likewise.
        fill: from which token of the core to which the fill goes; it may begin before and end behind.
        ahead: what stands before it, without spaces.
        beyond: what stands behind it, without spaces.
    """

    number: int
    tokens: tuple[int, ...]
    before: int
    behind: int
    fill: tuple[int, int]
    ahead: str = ""
    beyond: str = ""


@dataclass(frozen=True)
class Hit:
    """A canary in rows: the core's first token, and the rows that it begins and ends in.

    Args:
        core: whose.
        row: where it begins.
        last_row: where it ends.
        at: of the row's tokens without special ones, the first.
    """

    core: Core
    row: int
    last_row: int
    at: int


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
        hits: canaries that are whole, be it over several rows.
        beginnings: at the ends of rows.
        ends: at the beginnings of rows.
        longest: tokens of the longest row.
    """

    hits: list[Hit] = field(default_factory=list)
    beginnings: list[Piece] = field(default_factory=list)
    ends: list[Piece] = field(default_factory=list)
    longest: int = 0


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
        self._special = {int(token) for token in tokenizer.all_special_ids}
        with _quietly():
            self.cores = _cores(canaries, tokenizer, target)
        self._around = 2 + max(len(canary.text.encode()) for canary in canaries)
        self._reads: tuple[Ints, dict[tuple[int, int], str]] = (np.empty(0, dtype=np.int64), {})
        self._longest = max(len(core.tokens) for core in self.cores)
        self._groups: dict[int, list[_Group]] = {}
        self._begins, self._ends = _pieces(self.cores, ends=False), _pieces(self.cores, ends=True)

    def find(self, batches: Iterable[tuple[Ints, Ints]]) -> Found:
        """All of them in rows, batch by batch: (n,) ids of all its rows, and (rows,) how many each has."""
        found, window, seen = Found(), _Window(), set[tuple[int, int]]()
        for flat, lengths in batches:
            keep = self.plain(flat)
            counts = np.concatenate([[0], np.cumsum(keep)])
            starts = counts[np.concatenate([[0], np.cumsum(lengths)])]
            window.move(flat[keep], starts, self._margin)
            for at, core in self.matches(window.ids):
                if at + len(core.tokens) > window.carried:
                    begun = self._hit(window, at, core)
                    if begun is not None and (core.number, window.base + begun[0]) not in seen:
                        seen.add((core.number, window.base + begun[0]))
                        found.hits.append(begun[1])
            self._look_at_edges(window, found)
            found.longest = max(found.longest, int(np.diff(starts).max(initial=0)))
        return found

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

    @property
    def _margin(self) -> int:
        return self._longest + self._around

    def _hit(self, window: _Window, at: int, core: Core) -> tuple[int, Hit] | None:
        """The canary that a core belongs to, and where its text begins; None if it is no part of one."""
        end = at + len(core.tokens)
        (row, place), (last_row, _) = window.where(at), window.where(end - 1)
        if not (core.before or core.behind):
            return at, Hit(core, row, last_row, place)
        # What stands beside it may be written in more tokens than when it is alone.
        lowest, highest = max(0, at - self._around), min(len(window.ids), end + self._around)
        if not (
            self._read(window, lowest, at).endswith(core.ahead)
            and self._read(window, end, highest).startswith(core.beyond)
        ):
            return None
        # The fewest tokens on both sides that hold the text, by halving: fewer of them never hold more.
        first = (
            lowest
            - 1
            + bisect.bisect_left(
                range(lowest, at + 1), True, key=lambda one: not self._read(window, one, at).endswith(core.ahead)
            )
        )
        last = end + bisect.bisect_left(
            range(end, highest), True, key=lambda one: self._read(window, end, one).startswith(core.beyond)
        )
        return first, Hit(core, window.where(first)[0], window.where(max(end, last) - 1)[0], place)

    def _read(self, window: _Window, first: int, last: int) -> str:
        """What some of the ids say; many canaries may have their cores at one place."""
        if self._reads[0] is not window.ids:
            self._reads = (window.ids, {})
        known = self._reads[1]
        if (first, last) not in known:
            known[first, last] = _bare(self._tokenizer.decode(window.ids[first:last].tolist()))
        return known[first, last]

    def reads(self, ids: Sequence[int], text: Sequence[int]) -> bool:
        """Whether ids hold a text, whatever its ends are joined with."""
        written, read = (_bare(self._tokenizer.decode([int(token) for token in each])) for each in (text, ids))
        return written in read

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
    """The ids of a batch of rows, behind the last ones of the batch before.

    Attributes:
        ids: all of them.
        carried: how many are of earlier batches.
        row: the number of the batch's first row.
        base: how many ids came before these.
        starts: (rows + 1,) where its rows begin and end in `new`.
    """

    def __init__(self) -> None:
        self.ids = self.new = np.empty(0, dtype=np.int64)
        self.starts = np.zeros(1, dtype=np.int64)
        self.carried, self.row, self.base = 0, 0, 0
        self._before: list[tuple[int, int]] = []

    def move(self, ids: Ints, starts: Ints, margin: int) -> None:
        """To the next batch, keeping so many ids."""
        first = max(0, len(self.ids) - margin)
        before = [self.where(at) for at in range(first, len(self.ids))]
        self.row += len(self.starts) - 1
        self.base += first
        self.ids, self.new, self.starts = np.concatenate([self.ids[first:], ids]), ids, starts
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
        self._allowed = [np.unique([core.tokens[place] for core in cores]) for place in range(self._length)]

    def matches(self, ids: Ints, anchors: Ints) -> Iterator[tuple[int, Core]]:
        at = anchors - self._offset
        at = at[(at >= 0) & (at + self._length <= len(ids))]
        for place in range(self._length):
            if len(at) > _FEW:
                at = at[np.isin(ids[at + place], self._allowed[place])]
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
def _quietly() -> Iterator[None]:
    """Without what tokenizers say of characters that they do not know; the neighbours need not be known."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _cores(canaries: CanarySet, tokenizer: Any, target: bool) -> list[Core]:
    fills = {
        format: token_ids(
            tokenizer,
            [format.render(fill) for fill in format.sample(min(_OTHER_FILLS, format.space_size), "presence")],
            target=target,
        )
        for format in canaries.formats
    }
    found, aside = [], copy.copy(tokenizer)  # what is tried on it counts for nothing
    for number, canary in enumerate(canaries):
        around = [before + canary.text + behind for before, behind in _BESIDE]
        bare, *encoded = token_ids(aside, [canary.text, *around], target=target)
        encoded = [one for one in encoded if tokenizer.unk_token_id not in one] or [bare]
        first, last = _fill_of(bare, fills[canary.format])
        begin, end = _trimmed(tokenizer, bare, *_kept(bare, encoded))
        if begin == end:
            ways = _ways_of_writing(aside, canary, target)
            spans = {way[slice(*_trimmed(tokenizer, list(way), 0, len(way)))] for way in ways}
            found += [Core(number, tokens, 0, 1, (0, len(tokens))) for tokens in sorted(spans - {()})]
        else:
            fill = (first - begin, last - begin)
            beside = [_bare(tokenizer.decode(part)) for part in (bare[:begin], bare[end:])]
            found.append(Core(number, tuple(bare[begin:end]), begin, len(bare) - end, fill, *beside))
    return found


def _trimmed(tokenizer: Any, ids: list[int], begin: int, end: int) -> tuple[int, int]:
    """A part of an encoding without tokens at its ends that are nothing but space."""
    while begin < end and not _bare(tokenizer.decode([ids[begin]])):
        begin += 1
    while begin < end and not _bare(tokenizer.decode([ids[end - 1]])):
        end -= 1
    return begin, end


def _kept(bare: list[int], encoded: list[list[int]]) -> tuple[int, int]:
    """The longest part of an encoding that is in all of the others; an empty one if there is none."""
    for left_out in range(len(bare)):
        for begin in range(left_out + 1):
            part = bare[begin : len(bare) - left_out + begin]
            if all(_holds(one, part) for one in encoded):
                return begin, begin + len(part)
    return 0, 0


def _holds(ids: list[int], part: list[int]) -> bool:
    return any(ids[at : at + len(part)] == part for at in range(len(ids) - len(part) + 1))


def _ways_of_writing(tokenizer: Any, canary: Canary, target: bool) -> list[tuple[int, ...]]:
    """Where nothing stays the same: the tokens between those of the neighbours, in each case."""
    ways = set()
    for before, _ in _BESIDE:
        whole, ahead = token_ids(tokenizer, [before + canary.text, before or " "], target=target)
        same = 0
        while before and same < min(len(whole), len(ahead)) and whole[same] == ahead[same]:
            same += 1
        ways.add(tuple(whole[same:]))
    return sorted(way for way in ways if way)


def _fill_of(ids: list[int], others: list[list[int]]) -> tuple[int, int]:
    """From which token to which an encoding differs from those of other fills."""
    first = min(_alike(ids, other) for other in others)
    last = min(_alike(ids[::-1], other[::-1]) for other in others)
    return first, max(first, len(ids) - last)


def _alike(one: list[int], other: list[int]) -> int:
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
        beside=max(core.behind if ends else core.before for core in cores),
        holds=any(core.fill[1] > len(core.tokens) - length if ends else core.fill[0] < length for core in cores),
        is_long=not ends and 2 * length >= min(core.fill[0] for core in cores),
    )


def _bare(text: str) -> str:
    return "".join(text.replace("▁", " ").split())

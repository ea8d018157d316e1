"""Sets of nodes of a spelling: a deterministic automaton, of which only the sets are made that are met.

A spelling guesses, and so has several steps of one unit. Here all nodes that the same units lead to are one set (Rabin
and Scott 1959, the subset construction), so that units lead from a set to one set or to none. Sets have numbers, and
the entries of a vocabulary are followed all at once. Knows entries by their units; not which of them are canonical.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...arrays import Bools, Ints
from ...tokenization.letters import UNKNOWN
from ...tokenization.vocabulary import Trie
from .spelling import Spelling, Unit

MOST_SETS = 1 << 20

_NO_INTS = np.empty(0, dtype=np.int64)


class UnknownCharacters(Exception):
    """A character of the format that the vocabulary does not know, in a text that has it."""


class SpelledEntries(NamedTuple):
    """Entries that may be spelled next.

    Args:
        tokens: (n,) their ids.
        nodes: (n,) where they end in the tree of the vocabulary.
        sets: (n,) the set of nodes of the spelling behind each.
        lengths: (n,) how many units each has.
    """

    tokens: Ints
    nodes: Ints
    sets: Ints
    lengths: Ints


class NodeSets:
    """Sets of nodes of a spelling, and what leads from one to the next; numbers stand for them.

    Args:
        spelling: of a stretch.
    """

    def __init__(self, spelling: Spelling) -> None:
        self._spelling = spelling
        self._numbers: dict[tuple[int, ...], int] = {}
        self._nodes: list[tuple[int, ...]] = []
        self._after: list[dict[bool, dict[Unit, int]]] = []
        self._moves = _Moves()
        self._is_end, self._has_cut, self._has_along = (np.zeros(16, dtype=bool) for _ in range(3))

    def number(self, nodes: Iterable[int]) -> int:
        """The number of a set.

        Raises:
            UnknownCharacters: the vocabulary lacks one that may come next.
        """
        key = tuple(sorted(set(nodes)))
        if key not in self._numbers:
            if len(self._nodes) == MOST_SETS:
                raise MemoryError(f"a token tree of more than {MOST_SETS:,} sets of nodes")
            self._numbers[key] = len(self._nodes)
            self._nodes.append(key)
            self._after.append({})
            self._describe(len(self._nodes) - 1)
        return self._numbers[key]

    def nodes(self, number: int) -> tuple[int, ...]:
        """The set of a number."""
        return self._nodes[number]

    def ends(self, number: int) -> bool:
        """Whether a text ends at one of its nodes."""
        return bool(self._is_end[number])

    def are_ends(self, numbers: Ints) -> Bools:
        """(n,) the same of many."""
        return self._is_end[numbers]

    def have_cuts(self, numbers: Ints) -> Bools:
        """(n,) whether a word may begin next."""
        return self._has_cut[numbers]

    def have_along(self, numbers: Ints) -> Bools:
        """(n,) whether a word may go on."""
        return self._has_along[numbers]

    def after(self, number: int, is_cut: bool) -> dict[Unit, int]:
        """Unit → the set behind it, beginning a word or going on in one."""
        of_number = self._after[number]
        if is_cut not in of_number:
            targets: dict[Unit, set[int]] = {}
            for node in self._nodes[number]:
                out = self._spelling.out(node)
                for unit, steps in (out.cut if is_cut else out.along).items():
                    targets.setdefault(unit, set()).update(step.target for step in steps)
            of_number[is_cut] = {unit: self.number(nodes) for unit, nodes in targets.items()}
        return of_number[is_cut]

    def behind(self, number: int, is_cut: bool, units: str) -> int | None:
        """The set behind the units of one token; None if they may not come."""
        for unit in units:
            reached = self.after(number, is_cut).get(unit)
            if reached is None:
                return None
            number, is_cut = reached, False
        return number

    def spell(self, number: int, is_cut: bool, trie: Trie) -> SpelledEntries:
        """All entries that may be spelled next: down the tree of the vocabulary, a level at a time.

        Below, `at[k]` is a node of the vocabulary to which the same units lead as to the set `sets[k]`.
        """
        begun = [
            (child, after)
            for unit, after in self.after(number, is_cut).items()
            if isinstance(unit, str) and (child := trie.child(Trie.root, unit)) >= 0
        ]
        at = np.array([child for child, _ in begun], dtype=np.int64)
        sets = np.array([after for _, after in begun], dtype=np.int64)
        levels: list[SpelledEntries] = []
        while len(at):
            ends = trie.entry[at] >= 0
            length = np.full(int(ends.sum()), len(levels) + 1)
            levels.append(SpelledEntries(trie.entry[at[ends]], at[ends], sets[ends], length))
            which, children = trie.children(at)
            columns = self._moves.columns[trie.unit[children]]
            which, children, columns = which[columns > 0], children[columns > 0], columns[columns > 0]
            after = self._along(sets[which], columns)
            at, sets = children[after >= 0], after[after >= 0].astype(np.int64)
        if not levels:
            return SpelledEntries(_NO_INTS, _NO_INTS, _NO_INTS, _NO_INTS)
        return SpelledEntries(*map(np.concatenate, zip(*levels, strict=True)))

    def _along(self, sets: Ints, columns: NDArray[np.int32]) -> NDArray[np.int32]:
        """(n,) the set behind a set and the unit of a column, within a word; negative where there is none."""
        after = self._moves.table[sets, columns]
        unfilled = after == _UNFILLED
        if not unfilled.any():
            return after
        for one in np.unique(sets[unfilled]).tolist():
            self._moves.fill(one, self.after(one, False))
        return self._moves.table[sets, columns]

    def _describe(self, number: int) -> None:
        """Note what a new set has behind it."""
        if number >= len(self._is_end):
            self._is_end, self._has_cut, self._has_along = (
                _doubled(flags, False) for flags in (self._is_end, self._has_cut, self._has_along)
            )
        for node in self._nodes[number]:
            out = self._spelling.out(node)
            for unit in (*out.along, *out.cut):
                if unit == UNKNOWN:
                    raise UnknownCharacters
                if isinstance(unit, str):
                    self._moves.add_unit(unit)
            self._is_end[number] |= out.ends > 0
            self._has_cut[number] |= bool(out.cut)
            self._has_along[number] |= bool(out.along)
        self._moves.make_room(number)


# What a table says of a set and a unit, if it is no set: that nothing is behind, or that its row was not needed yet.
_NOTHING, _UNFILLED = -1, -2


class _Moves:
    """Which set the units of one word lead to, as a table that grows as sets and units come.

    If `a` leads from set 0 to set 1, and `b` has come elsewhere, columns[ord("a")] = 1, columns[ord("b")] = 2, and
    once row 0 is filled, the table is

            column   0   1   2   3 ...
        set 0       -1   1  -1  -1        1 behind `a`, and nothing behind any other unit
        set 1       -2  -2  -2  -2        not filled yet

    All units that never come share column 0, where nothing is ever behind: so it also says which rows are filled, and
    these hold for columns that come later.

    Attributes:
        columns: (n_units,) the column of each code point; 0 for those that have not come.
        table: (n_sets, n_columns), with room for more of both.
    """

    def __init__(self) -> None:
        self.columns: NDArray[np.int32] = np.zeros(0x110000, dtype=np.int32)
        self.table: NDArray[np.int32] = np.full((16, 8), _UNFILLED, dtype=np.int32)
        self._num_columns = 1

    def add_unit(self, unit: str) -> None:
        """Give a unit a column, if it has none; `make_room` must follow."""
        if not self.columns[ord(unit)]:
            self.columns[ord(unit)] = self._num_columns
            self._num_columns += 1

    def make_room(self, number: int) -> None:
        """For a set and for all units."""
        if number >= len(self.table):
            self.table = _doubled(self.table, _UNFILLED)
        while self._num_columns > self.table.shape[1]:
            self.table = np.concatenate([self.table, np.full_like(self.table, _UNFILLED)], axis=1)
            is_filled = self.table[:, 0] == _NOTHING
            self.table[is_filled] = np.maximum(self.table[is_filled], _NOTHING)

    def fill(self, number: int, after: Mapping[Unit, int]) -> None:
        """Fill a row."""
        self.table[number] = _NOTHING
        for unit, behind in after.items():
            if isinstance(unit, str):
                self.table[number, self.columns[ord(unit)]] = behind


def _doubled(array: NDArray[Any], fill: int) -> NDArray[Any]:
    """An array with twice as many rows, the new ones filled with a value."""
    return np.concatenate([array, np.full_like(array, fill)])

"""The entries of a vocabulary as a tree of their units, in arrays, so that whole levels are walked at once.

A unit is one letter of an entry as the vocabulary spells it: `Ġ` for a space in byte-level BPE, `<0xE2>` for a byte
that some tokenizers fall back to, the mark behind a word's last letter. Each is one character here. Which sequences of
entries a tokenizer gives is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np

from ..arrays import Ints

# Units that are no characters of a text stand where Unicode has none for ever.
WORD_END = "\U0010ffff"
_FIRST_BYTE = 0x10FE00
FIRST_OWN_UNIT = chr(_FIRST_BYTE)  # characters from here on stand for other things, if they do not come as themselves
_UNIT_BITS = 21  # of a code point
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def byte_unit(byte: int) -> str:
    """The unit of a byte that a tokenizer falls back to."""
    return chr(_FIRST_BYTE + byte)


def byte_entry(byte: int) -> str:
    """The entry for it, as vocabularies write it."""
    return f"<0x{byte:02X}>"


def spelled(entry: str, *, bytes_alone: bool = False, suffix: str = "") -> str:
    """An entry by its units.

    Args:
        entry: as the vocabulary writes it.
        bytes_alone: whether `<0xE2>` is one byte.
        suffix: what stands behind the last letter of a word.
    """
    byte = _BYTE.fullmatch(entry) if bytes_alone else None
    if byte is not None:
        return byte_unit(int(byte[1], 16))
    if suffix and entry.endswith(suffix) and len(entry) > len(suffix):
        return entry.removesuffix(suffix) + WORD_END
    return entry


class Trie:
    """Entries by their units: nodes are numbers, level by level, those of one parent side by side and ascending.

    Args:
        entries: spelling → id; none empty.

    Attributes:
        parent: (n_nodes,) the node before.
        unit: (n_nodes,) the code point of a node's last unit.
        entry: (n_nodes,) the id of the entry that ends at a node, or -1.
        first_child: (n_nodes + 1,) children of node n are first_child[n] up to first_child[n + 1].
    """

    root = 0

    def __init__(self, entries: Mapping[str, int]) -> None:
        ordered = sorted(entries)
        self._ids = np.fromiter(map(entries.__getitem__, ordered), dtype=np.int64, count=len(ordered))
        lengths = np.fromiter(map(len, ordered), dtype=np.int64, count=len(ordered))
        codes = np.frombuffer("".join(ordered).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
        self._build(lengths, codes)
        self._spellings: dict[int, str] = {}

    def _build(self, lengths: Ints, codes: Ints) -> None:
        """Level by level: sorted entries that share a prefix stand side by side, and begin a node where they part."""
        starts = np.cumsum(lengths) - lengths
        node = np.zeros(len(lengths), dtype=np.int64)
        parents, units, entries = [np.array([-1])], [np.array([-1])], [np.array([-1])]
        first, size = 0, 1
        alive = np.flatnonzero(lengths > 0)
        level = 0
        while len(alive):
            first += size
            unit, parent = codes[starts[alive] + level], node[alive]
            begins = np.ones(len(alive), dtype=bool)
            begins[1:] = (unit[1:] != unit[:-1]) | (parent[1:] != parent[:-1])
            number = np.cumsum(begins) - 1
            node[alive] = first + number
            size = int(number[-1]) + 1
            parents.append(parent[begins])
            units.append(unit[begins])
            ends = lengths[alive] == level + 1
            ids = np.full(size, -1)
            ids[number[ends]] = self._ids[alive[ends]]
            entries.append(ids)
            level += 1
            alive = alive[~ends]
        self.parent, self.unit, self.entry = map(np.concatenate, (parents, units, entries))
        children = (
            np.bincount(self.parent[1:], minlength=len(self.parent)) if len(self.parent) > 1 else np.zeros(1, int)
        )
        self.first_child = 1 + np.concatenate([[0], np.cumsum(children)])

    @property
    def num_nodes(self) -> int:
        """How many nodes there are, the root included."""
        return len(self.parent)

    def node(self, entry: int) -> int:
        """Where an entry ends, or -1."""
        return int(self._node_of[entry]) if 0 <= entry < len(self._node_of) else -1

    @cached_property
    def _node_of(self) -> Ints:
        nodes = np.flatnonzero(self.entry >= 0)
        found = np.full(int(self.entry.max(initial=-1)) + 1, -1)
        found[self.entry[nodes]] = nodes
        return found

    def pairs_of(self, units: Iterable[str]) -> frozenset[tuple[str, str]]:
        """Which of these stand side by side in some entry."""
        wanted = np.zeros(0x110000, dtype=bool)
        wanted[list(map(ord, units))] = True
        further = np.flatnonzero(wanted[self.unit] & (self.parent > 0))
        before = self.unit[self.parent[further]]
        pairs = set(zip(before[wanted[before]].tolist(), self.unit[further][wanted[before]].tolist(), strict=True))
        return frozenset((chr(one), chr(other)) for one, other in pairs)

    def child(self, node: int, unit: str) -> int:
        """The node behind one unit more, or -1."""
        low, high = int(self.first_child[node]), int(self.first_child[node + 1])
        at = low + int(np.searchsorted(self.unit[low:high], ord(unit)))
        return at if at < high and self.unit[at] == ord(unit) else -1

    def behind(self, nodes: Ints, units: Ints) -> Ints:
        """The nodes behind one unit more of each, or -1; shapes as of a sum."""
        wanted = nodes << _UNIT_BITS | units
        at = np.minimum(np.searchsorted(self._by_parent, wanted), len(self._by_parent) - 1)
        found: Ints = np.where((self._by_parent[at] == wanted) & (nodes >= 0), at, -1)
        return found

    @cached_property
    def _by_parent(self) -> Ints:
        """(n_nodes,) a node's parent and unit as one number: ascending, as nodes are numbered."""
        keys: Ints = self.parent << _UNIT_BITS | np.maximum(self.unit, 0)
        return keys

    def spelling(self, node: int) -> str:
        """The units that lead to a node."""
        known = self._spellings.get(node)
        if known is None:
            units, at = [], node
            while at > 0:
                units.append(chr(self.unit.item(at)))
                at = self.parent.item(at)
            known = self._spellings[node] = "".join(reversed(units))
        return known

    def children(self, nodes: Ints) -> tuple[Ints, Ints]:
        """(which of the nodes asked for, child) for all of their children, in order."""
        low, counts = self.first_child[nodes], self.first_child[nodes + 1] - self.first_child[nodes]
        which = np.repeat(np.arange(len(nodes)), counts)
        before = np.cumsum(counts) - counts
        return which, np.arange(len(which)) + (low - before)[which]

"""Entries as a tree in arrays: what a tree of dictionaries says of the same entries."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hf_canary.tokenization.vocabulary import WORD_END, Trie, byte_unit, spelled
from tests.support.repetitions import times

# Letters, a surrogate that stands alone, characters beyond 16 bits, and units that are no characters.
UNITS = ["a", "b", "c", "é", "\ud800", "日", "🙂", byte_unit(0), byte_unit(255), WORD_END]
ENTRIES = st.dictionaries(
    st.text(st.sampled_from(UNITS), min_size=1, max_size=5), st.integers(0, 200), max_size=25
).map(lambda entries: {entry: 3 * number + id % 3 for number, (entry, id) in enumerate(entries.items())})


def prefixes(entries):
    """The nodes of a tree of dictionaries, by what leads to them."""
    return {entry[:length] for entry in entries for length in range(len(entry) + 1)} | {""}


@settings(deadline=None, max_examples=times(150))
@given(ENTRIES)
@example({})
@example({"a": 0})
@example({"abc": 7})
def test_nodes_are_the_beginnings_of_entries(entries):
    """One node for each beginning, and each says its units, its parent and the entry that ends there."""
    trie = Trie(entries)
    spellings = [trie.spelling(node) for node in range(trie.num_nodes)]
    assert spellings[Trie.root] == ""
    assert len(set(spellings)) == trie.num_nodes
    assert set(spellings) == prefixes(entries)
    for node, spelling in enumerate(spellings):
        assert trie.entry[node] == entries.get(spelling, -1)
        if node:
            assert spellings[trie.parent[node]] == spelling[:-1]
            assert chr(trie.unit[node]) == spelling[-1]
    assert [trie.node(id) for id in entries.values()] == [spellings.index(entry) for entry in entries]
    missing = set(range(-2, 100)) - set(entries.values())
    assert all(trie.node(id) == -1 for id in missing)


@settings(deadline=None, max_examples=times(150))
@given(ENTRIES)
@example({})
def test_children_go_on_by_one_unit(entries):
    """Each node's children are all beginnings of one unit more, ascending, side by side; one at a time or many."""
    trie, all_of_them = Trie(entries), prefixes(entries)
    for node in range(trie.num_nodes):
        spelling = trie.spelling(node)
        expected = sorted(longer for longer in all_of_them if longer[:-1] == spelling and longer)
        low, high = trie.first_child[node], trie.first_child[node + 1]
        assert [trie.spelling(child) for child in range(low, high)] == expected
        for unit in UNITS:
            child = trie.child(node, unit)
            assert child == -1 if spelling + unit not in expected else trie.spelling(child) == spelling + unit
    asked = np.array([*range(trie.num_nodes)][::-2], dtype=np.int64)
    for nodes in (asked, asked[:0], np.repeat(asked, 2)):
        which, children = trie.children(nodes)
        found = [(at, trie.spelling(child)) for at, child in zip(which.tolist(), children.tolist(), strict=True)]
        assert found == [
            (at, longer)
            for at, node in enumerate(nodes.tolist())
            for longer in sorted(longer for longer in all_of_them if longer and longer[:-1] == trie.spelling(node))
        ]


@settings(deadline=None, max_examples=times(150))
@given(ENTRIES, st.sets(st.sampled_from(UNITS)))
@example({}, {"a", WORD_END})
@example({"a": 0, WORD_END + "a": 3}, {"a", WORD_END})
def test_pairs_are_the_units_side_by_side(entries, units):
    """Within some entry, wherever in it; of the units that are asked for."""
    expected = {pair for entry in entries for pair in itertools.pairwise(entry)}
    trie = Trie(entries)
    assert trie.pairs_of(UNITS) == expected
    assert trie.pairs_of(units) == {pair for pair in expected if units.issuperset(pair)}


@pytest.mark.parametrize(
    ("entry", "options", "expected"),
    [
        ("<0xE2>", {}, "<0xE2>"),
        ("<0xE2>", {"bytes_alone": True}, byte_unit(0xE2)),
        ("<0xe2>", {"bytes_alone": True}, "<0xe2>"),  # as Llama writes them, and no other way
        ("a<0xE2>", {"bytes_alone": True}, "a<0xE2>"),
        ("cat</w>", {}, "cat</w>"),
        ("cat</w>", {"suffix": "</w>"}, "cat" + WORD_END),
        ("cat", {"suffix": "</w>"}, "cat"),
        ("</w>", {"suffix": "</w>"}, "</w>"),  # a mark behind no letter is none
    ],
)
def test_units_that_are_no_characters(entry, options, expected):
    """A byte by itself, where bytes stand for what is not in the vocabulary; the mark behind a word's last letter."""
    assert spelled(entry, **options) == expected


def test_bytes_are_units_of_their_own():
    """256 of them, and none is a character or the end of a word."""
    units = [byte_unit(byte) for byte in range(256)]
    assert len({*units, WORD_END}) == 257
    assert all(len(unit) == 1 and ord(unit) > 0x10F000 for unit in units)

"""Which tokens may stand side by side within a word: what BPE itself makes of vocabularies that are made up at random.

The oracle is the model of the tokenizers library, which does the merges one by one. Vocabularies are of few letters, so
that merges meet: in the order in which they could have been learned, and in any other, with two merges for one entry
and with merges that stand twice.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from tokenizers import models

from hf_canary.tokenization import merges
from hf_canary.tokenization.merges import Merges
from tests.support.repetitions import times

SEEDS = range(times(24))


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary of BPE and its merges, in order."""

    vocab: dict[str, int]
    merges: list[tuple[str, str]]

    @property
    def entries(self) -> dict[int, str]:
        return {id: entry for entry, id in self.vocab.items()}

    def ours(self) -> Merges:
        ids = [(self.vocab[one], self.vocab[other], self.vocab[one + other]) for one, other in self.merges]
        size = max(self.vocab.values()) + 1
        lengths = np.zeros(size, dtype=np.int64)
        for entry, id in self.vocab.items():
            lengths[id] = len(entry)
        letters = np.array([id for entry, id in self.vocab.items() if len(entry) == 1])
        return Merges(size, np.array(ids, dtype=np.int64).reshape(-1, 3), letters, lengths)

    def real(self):
        """Word → ids, by the library."""
        model = models.BPE(self.vocab, self.merges)
        return cache(lambda word: [token.id for token in model.tokenize(word)])


def made_up(seed: int) -> Vocabulary:
    """A quarter of them has merges in the order in which they could be learned; some are of one letter."""
    rng = random.Random(seed)
    letters = "abc"[: rng.randint(1, 3)]
    entries, merges = list(letters), []
    for _ in range(rng.choice([0, 5, 20, 60, 60])):
        one, other = rng.choice(entries), rng.choice(entries)
        if len(one + other) <= 8 and (one, other) not in merges:
            merges.append((one, other))
            entries += [] if one + other in entries else [one + other]
    if seed % 4 in (1, 2):
        rng.shuffle(merges)
    if seed % 4 in (2, 3) and merges:
        for merge in rng.choices(merges, k=4):  # once more, elsewhere
            merges.insert(rng.randrange(len(merges) + 1), merge)
    unreached = {"".join(rng.choices(letters, k=rng.randint(2, 5))) for _ in range(3)} - set(entries)
    entries += sorted(unreached)
    ids = rng.sample(range(2 * len(entries)), len(entries))  # with gaps, in any order
    return Vocabulary(dict(zip(entries, ids, strict=True)), merges)


@pytest.fixture(params=SEEDS, scope="module")
def case(request):
    """(vocabulary, its merges, word → ids by the library, the ids of the entries that merges reach)."""
    vocabulary = made_up(request.param)
    ours = vocabulary.ours()
    return vocabulary, ours, vocabulary.real(), np.flatnonzero(ours.reached)


def test_the_vocabularies_are_of_every_kind():
    """What the laws below are tried on: merges out of order, several for one entry, merges twice, entries unreached."""
    all_of_them = [made_up(seed) for seed in SEEDS]

    def is_out_of_order(vocabulary):
        made = {}
        for rank, (one, other) in enumerate(vocabulary.merges):
            made.setdefault(one + other, rank)
        return any(
            made.get(half, -1) > rank for rank, merge in enumerate(vocabulary.merges) for half in merge if len(half) > 1
        )

    assert any(map(is_out_of_order, all_of_them))
    assert any(not is_out_of_order(v) and len(v.merges) > 20 for v in all_of_them)
    assert any(len(set(v.merges)) < len(v.merges) for v in all_of_them)
    assert any(len({one + other for one, other in v.merges}) < len(set(v.merges)) for v in all_of_them)
    assert any(not v.merges for v in all_of_them)


def test_entries_that_merges_reach_are_their_own_encodings(case):
    """An entry is `reached` exactly when it is what its own letters are encoded as, and it knows these letters."""
    vocabulary, ours, encode, _ = case
    for entry, id in vocabulary.vocab.items():
        assert ours.reached[id] == (encode(entry) == [id]), entry
        if ours.reached[id]:
            assert ours.letters(id) == [vocabulary.vocab[letter] for letter in entry]
    assert ours.reached.sum() == sum(encode(entry) == [id] for entry, id in vocabulary.vocab.items())


def allowed(ours, reached):
    """(n, n) which two of these may stand side by side."""
    return ours.may_follow(np.repeat(reached, len(reached)), np.tile(reached, len(reached))).reshape(len(reached), -1)


def pairs(vocabulary, encode, reached):
    """(n, n) which two are the encoding of their letters together."""
    entries = vocabulary.entries
    return np.array([[encode(entries[a] + entries[b]) == [a, b] for b in reached] for a in reached])


def test_two_may_stand_side_by_side_if_they_are_their_encoding(case):
    """Of all pairs of reached entries."""
    vocabulary, ours, encode, reached = case
    np.testing.assert_array_equal(allowed(ours, reached), pairs(vocabulary, encode, reached))


@pytest.mark.parametrize("most", [0, 10**6])
def test_two_alone_are_told_the_same(case, monkeypatch, most):
    """Asked one pair at a time, and once more when that is remembered or forgotten."""
    monkeypatch.setattr(merges, "_MOST_REMEMBERED", most)
    vocabulary, ours, encode, reached = case
    expected = pairs(vocabulary, encode, reached).tolist()
    for _ in range(2):
        assert [[ours.may_follow_this(a, b) for b in reached.tolist()] for a in reached.tolist()] == expected


@pytest.mark.parametrize("few", [0, 10**6])
def test_what_may_follow_one_of_many_is_told_the_same(case, monkeypatch, few):
    """By the intervals in which the blocked ones stand as by pairs, whatever the candidates are."""
    monkeypatch.setattr(merges, "_FEW", few)
    vocabulary, ours, encode, reached = case
    expected = pairs(vocabulary, encode, reached)
    some = np.flatnonzero(np.arange(len(reached)) % 3 > 0)
    for which in (np.arange(len(reached)), some, some[:0]):
        candidates = ours.candidates(reached[which])
        for row, left in enumerate(reached.tolist()):
            may_not = ours.may_not_follow(left, candidates)
            np.testing.assert_array_equal(np.unique(may_not), np.flatnonzero(~expected[row, which]))


def words(letters: str, most: int) -> Iterator[str]:
    for length in range(1, most + 1):
        yield from map("".join, itertools.product(letters, repeat=length))


def letters_of(vocabulary) -> str:
    return "".join(entry for entry in vocabulary.vocab if len(entry) == 1)


def test_words_are_encoded_as_by_the_library(case):
    """All short words, and some longer ones."""
    vocabulary, ours, encode, _ = case
    letters = letters_of(vocabulary)
    longer = ("".join(random.Random(number).choices(letters, k=20)) for number in range(20))
    for word in [*words(letters, 6), *longer]:
        assert ours.encode([vocabulary.vocab[letter] for letter in word]) == encode(word), word


def segmentations(word: str, entries: dict[str, int]) -> Iterator[list[int]]:
    """All ways to write a word as entries."""
    if not word:
        yield []
    for length in range(1, len(word) + 1):
        if word[:length] in entries:
            for rest in segmentations(word[length:], entries):
                yield [entries[word[:length]], *rest]


def test_of_all_ways_to_write_a_word_one_is_canonical_at_each_seam(case):
    """The theorem that the tree rests on: of all ways to write a word as reached entries, exactly one has only
    neighbours that may stand side by side, and it is the encoding.
    """
    vocabulary, ours, encode, reached = case
    if len(vocabulary.vocab) < 6:
        pytest.skip("has few segmentations")
    entries = {entry: id for entry, id in vocabulary.vocab.items() if ours.reached[id]}
    may_follow = np.zeros((ours.size, ours.size), dtype=bool)
    may_follow[np.ix_(reached, reached)] = allowed(ours, reached)
    letters = letters_of(vocabulary)
    for word in words(letters, {1: 9, 2: 7, 3: 5}[len(letters)]):
        canonical = [
            tokens
            for tokens in segmentations(word, entries)
            if all(may_follow[one, other] for one, other in itertools.pairwise(tokens))
        ]
        assert canonical == [encode(word)], word


def test_of_equal_merges_the_leftmost_comes_first():
    """`aaa` is `aa a`: what may follow `a` is no `aa`."""
    vocabulary = Vocabulary({"a": 0, "aa": 1}, [("a", "a")])
    ours = vocabulary.ours()
    a, aa = np.array([0]), np.array([1])
    assert ours.encode([0, 0, 0]) == vocabulary.real()("aaa") == [1, 0]
    assert ours.may_follow(aa, a).all()
    assert not ours.may_follow(a, aa).any()
    assert ours.may_follow(aa, aa).all()

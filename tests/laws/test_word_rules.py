"""Which tokens follow one another within a word, as each kind of model has it, tried on words of two or three letters.

All rows of tokens that a rule allows, and behind which a word may end, are written down with the word that they spell:
of each word that must be one row, which is its encoding by the real model. Vocabularies are made up at random.
"""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from hf_canary.tokenization.letters import UNKNOWN
from hf_canary.tokenization.rules import Rules
from hf_canary.tokenization.stages import CUT, Atom
from hf_canary.tokenization.vocabulary import WORD_END
from hf_canary.tokenization.word_rule import FRESH, Entries
from tests.support.repetitions import times

SEEDS = range(times(8))


def rules_of(model) -> Rules:
    """Those of a tokenizer that is this model and nothing else."""
    return Rules(SimpleNamespace(backend_tokenizer=Tokenizer(model)))


def entries_of(trie, units: str) -> Entries:
    """Those of these units."""
    nodes = [node for node in np.flatnonzero(trie.entry >= 0).tolist() if set(trie.spelling(node)) <= set(units)]
    nodes = np.array(sorted(nodes, key=lambda node: trie.entry[node]), dtype=np.int64)
    return Entries(trie.entry[nodes], nodes)


def allowed(rule, units: str, most: int) -> list[tuple[str, list[int]]]:
    """All rows of tokens that the rule allows, of at most so many of these units, and what they spell; only where a
    word may end.
    """
    of_trie = {trie: [trie.spelling(node) for node in range(trie.num_nodes)] for trie in {rule.first, rule.further}}
    first, further = entries_of(rule.first, units), entries_of(rule.further, units)
    found, pending = [], [(FRESH, "", [])]
    while pending:
        state, spelled, tokens = pending.pop()
        if tokens and state not in rule.unended:
            found.append((spelled, tokens))
        if len(spelled) == most or spelled.endswith(WORD_END):
            continue
        trie, entries = (rule.first, first) if state == FRESH else (rule.further, further)
        which, behind = rule.after(state, entries)
        assert (np.diff(which) > 0).all()
        for at, after in zip(which.tolist(), behind.tolist(), strict=True):
            longer = spelled + of_trie[trie][entries.nodes[at]]
            if len(longer) <= most:
                pending.append((after, longer, [*tokens, int(entries.tokens[at])]))
    return found


def words(letters: str, most: int):
    for length in range(1, most + 1):
        yield from map("".join, itertools.product(letters, repeat=length))


def check(model, letters: str, most: int) -> None:
    """The law of this file."""
    expected = {word: [token.id for token in model.tokenize(word)] for word in words(letters, most)}
    found = allowed(rules_of(model).word, letters, most)
    assert dict(found) == expected
    assert len(found) == len(expected)


def drawn_entries(rng: random.Random, letters: str, count: int, longest: int) -> list[str]:
    return sorted({"".join(rng.choices(letters, k=rng.randint(2, longest))) for _ in range(count)})


def shuffled_ids(rng: random.Random, entries: list[str]) -> dict[str, int]:
    return dict(zip(entries, rng.sample(range(len(entries)), len(entries)), strict=True))


# ---------------------------------------------------------------------------------------------------- longest matches


@pytest.mark.parametrize("seed", SEEDS)
def test_longest_matches(seed):
    """WordPiece: at each place the longest entry that fits, others for a word's first than for those behind it."""
    rng = random.Random(seed)
    letters = "abc"[: rng.randint(2, 3)]
    first, further = (drawn_entries(rng, letters, rng.choice([2, 6, 12]), rng.randint(2, 6)) for _ in range(2))
    entries = [*letters, *first, *("##" + entry for entry in (*letters, *further)), "[UNK]"]
    model = models.WordPiece(shuffled_ids(rng, entries), unk_token="[UNK]", max_input_chars_per_word=100)
    check(model, letters, 8 if len(letters) == 2 else 6)


def test_behind_a_piece_what_would_have_made_it_longer_must_not_come():
    """With `un` and `unable`: `un ##a ##b`, and not `un ##able`, which `unable` is."""
    vocab = {entry: id for id, entry in enumerate(["un", "unable", "##a", "##able", "##ables", "##b", "[UNK]"])}
    rule = rules_of(models.WordPiece(vocab, unk_token="[UNK]")).word
    found = {tuple(tokens) for _, tokens in allowed(rule, "unables", 8)}
    assert (vocab["un"], vocab["##a"], vocab["##b"]) in found
    assert (vocab["unable"],) in found
    assert (vocab["un"], vocab["##able"]) not in found
    assert (vocab["un"], vocab["##ables"]) not in found


# ---------------------------------------------------------------------------------------------------------- best paths


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["ties", "floats", "rounding"])
def test_best_paths(seed, kind):
    """Unigram: the greatest sum of scores, of equal ones the first, added up as the model adds them; also if an entry
    stands twice.
    """
    rng = random.Random(f"{kind} {seed}")
    letters = "abc"[: rng.randint(2, 3)]
    entries = [*letters, *drawn_entries(rng, letters, rng.choice([2, 6, 12]), rng.randint(2, 6))]
    entries += rng.sample(entries, k=rng.randint(0, 2))
    rng.shuffle(entries)
    score = {
        "ties": lambda: float(-rng.randint(0, 2)),
        "floats": lambda: rng.uniform(-12, -1),
        "rounding": lambda: -rng.choice([0.1, 0.2, 0.3, 0.7, 1 / 3]),  # equal sums, but for how they are rounded
    }[kind]
    vocab = [(entry, score()) for entry in entries]
    vocab.insert(unknown := rng.randrange(len(vocab) + 1), ("<unk>", 0.0))
    check(models.Unigram(vocab, unknown, False), letters, 8 if len(letters) == 2 else 6)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_surely_goes_on_keeps_its_tokens(seed):
    """Unigram: behind some letter the tokens so far are kept, whatever is spelled then."""
    rng = random.Random(f"sure {seed}")
    letters = "abc"
    entries = [*letters, *drawn_entries(rng, letters, rng.choice([6, 12]), rng.randint(2, 5))]
    vocab = [("<unk>", 0.0), *((entry, rng.uniform(-12, -1)) for entry in entries)]
    model = models.Unigram(vocab, 0, False)
    rule = rules_of(model).word
    listed = entries_of(rule.first, letters)
    spellings = [entry for entry, _ in vocab]
    pending = [(FRESH, [])]
    while pending:
        state, tokens = pending.pop()
        which, states = rule.after(state, listed)
        longer = [[*tokens, int(listed.tokens[at])] for at in which.tolist()]
        for some in (letters, letters[:2]):
            sure = rule.surely_on(states, some)
            for path in itertools.compress(longer, sure.tolist()):
                text = "".join(spellings[token] for token in path)
                assert any(
                    all(
                        [token.id for token in model.tokenize(text + letter + rest)][: len(path)] == path
                        for rest in ["", *words(some, 4)]
                    )
                    for letter in some
                ), (path, some)
        pending += [(after, path) for after, path in zip(states.tolist(), longer, strict=True) if len(path) < 3]


def test_one_letter_tells_that_a_word_goes_on():
    """Behind `a` no other way goes on with `c`, and one does with `b`; behind `ca` none that began before it does."""
    vocab = [("<unk>", 0.0), ("a", -1.0), ("b", -1.0), ("c", -1.0), ("ab", -9.0), ("cab", -9.0)]
    rule = rules_of(models.Unigram(vocab, 0, False)).word
    listed = entries_of(rule.first, "abc")
    which, states = rule.after(FRESH, listed)
    assert listed.tokens[which].tolist() == [1, 2, 3]
    assert rule.surely_on(states, "abc").tolist() == [True, True, True]
    assert rule.surely_on(states, "b").tolist() == [False, True, True]
    assert rule.surely_on(states[2:3], "a").tolist() == [False]
    which, behind_c = rule.after(int(states[2]), listed)
    assert rule.surely_on(behind_c[:1], "bc").tolist() == [True]
    assert rule.surely_on(behind_c[:1], "b").tolist() == [False]


# -------------------------------------------------------------------------------------------------------------- merges


def made_up_merges(rng: random.Random, letters: list[str], count: int, prefix: str = "", longest: int = 7):
    """(entries, merges) as they could have been learned, or in another order."""
    entries, merges = list(letters), []
    for _ in range(count):
        one, other = rng.choice(entries), rng.choice(entries)
        if not other.startswith(prefix) or one.endswith("</w>"):
            continue
        made = one + other.removeprefix(prefix)
        if (one, other) not in merges and len(made.replace(prefix or "#", "").replace("</w>", "")) <= longest:
            merges.append((one, other))
            entries += [] if made in entries else [made]
    if rng.random() < 0.5:
        rng.shuffle(merges)
    return entries, merges


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ignore_merges", [False, True])
def test_merged_words(seed, ignore_merges):
    """BPE, and BPE of which a word that is an entry is that entry, whether merges reach it or not: alone it is not what
    merges make of its letters, though longer words may begin with that.
    """
    rng = random.Random(seed)
    letters = "abc"[: rng.randint(2, 3)]
    entries, merges = made_up_merges(rng, [*letters], rng.choice([0, 6, 20, 40]))
    entries += sorted(set(drawn_entries(rng, letters, rng.choice([1, 4, 10]), 6)) - set(entries))
    model = models.BPE(shuffled_ids(rng, entries), merges, ignore_merges=ignore_merges)
    check(model, letters, 8 if len(letters) == 2 else 6)


def test_of_whole_words_some_begin_others():
    """`ab` and `abab`, which no merges reach, are entries: `ababa` begins with the letters that `abab` must not be."""
    vocab = {entry: id for id, entry in enumerate(["a", "b", "ab", "abab", "bb"])}
    check(models.BPE(vocab, [], ignore_merges=True), "ab", 9)


@pytest.mark.parametrize("seed", SEEDS)
def test_merged_words_with_a_mark_at_their_end(seed):
    """As CLIP's: a letter and the same at a word's end are two, and merges are of either."""
    rng = random.Random(seed)
    letters = "abc"[: rng.randint(2, 3)]
    entries, merges = made_up_merges(rng, [*letters, *(c + "</w>" for c in letters)], rng.choice([6, 20, 40]))
    model = models.BPE(shuffled_ids(rng, entries), merges, end_of_word_suffix="</w>")
    most = 7 if len(letters) == 2 else 5
    expected = {word: [token.id for token in model.tokenize(word)] for word in words(letters, most)}
    found = allowed(rules_of(model).word, letters + WORD_END, most + 1)
    whole = [(spelled[:-1], tokens) for spelled, tokens in found if spelled.endswith(WORD_END)]
    assert dict(whole) == expected
    assert len(whole) == len(expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_merged_words_with_a_mark_on_their_further_pieces(seed):
    """As WordPiece writes them: a letter that begins a word and the same behind others are two."""
    rng = random.Random(seed)
    letters = "abc"[: rng.randint(2, 3)]
    entries, merges = made_up_merges(rng, [*letters, *("##" + c for c in letters)], rng.choice([6, 20, 40]), "##")
    model = models.BPE(shuffled_ids(rng, entries), merges, continuing_subword_prefix="##")
    check(model, letters, 7 if len(letters) == 2 else 5)


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_plain_states_are_told_many_at_once(seed):
    """Behind a plain state stands what `after` says, and the state there depends on nothing else: asked of one state
    and many entries, or of one entry and many states.
    """
    rng = random.Random(seed)
    entries, merges = made_up_merges(rng, [*"abc"], 40)
    entries += sorted(set(drawn_entries(rng, "abc", 8, 5)) - set(entries))
    rule = rules_of(models.BPE(shuffled_ids(rng, entries), merges, ignore_merges=True)).word
    first, further = entries_of(rule.first, "abc"), entries_of(rule.further, "abc")
    _, states = rule.after(FRESH, first)
    states = np.unique(np.concatenate([states, *(rule.after(int(state), further)[1] for state in states)]))
    plain = np.array([state for state in states.tolist() if rule.is_plain(state)])
    assert 0 < len(plain) < len(states)
    assert not rule.is_plain(FRESH)
    behind = rule.behind_plain(further)
    expected = np.zeros((len(plain), len(further.tokens)), dtype=bool)
    for row, state in enumerate(plain.tolist()):
        which, after = rule.after(state, further)
        expected[row, which] = True
        np.testing.assert_array_equal(after, behind[which])
        np.testing.assert_array_equal(rule.allowed(state, further), expected[row])
    for at, token in enumerate(further.tokens.tolist()):
        np.testing.assert_array_equal(rule.allowed_behind(plain, token), expected[:, at])
        for state in plain[:5].tolist():
            assert rule.allowed(state, further.take(np.array([at]))).tolist() == [expected[plain == state, at][0]]


# --------------------------------------------------------------------------------------------- words to units


def units_of(model, word: str) -> list[str]:
    """What is left of a word of each way through the stages, which must be one, without the cuts; atoms as they are."""
    _, pipeline = rules_of(model).pipelines(set(word))
    ways = [(pipeline.start, ())]
    for character in word:
        ways = [(after, (*out, *more)) for state, out in ways for after, more in pipeline.read(state, character)]
    (symbols,) = [(*out, *more) for state, out in ways for more in pipeline.end(state)]
    return [symbol for symbol in symbols if symbol is not CUT]


def test_words_that_are_one_entry():
    """Word-level models: a word is its entry, or unknown."""
    vocab = {"<unk>": 4, "cat": 0, "cats": 1, "a": 7}
    model = models.WordLevel(vocab, "<unk>")
    for word in ["cat", "cats", "a", "ca", "catsa", "b", "aa"]:
        (id,) = [token.id for token in model.tokenize(word)]
        assert units_of(model, word) == ([UNKNOWN] if id == vocab["<unk>"] else [Atom(id)])
    rule = rules_of(model).word
    assert len(rule.after(FRESH, entries_of(rule.first, "cats"))[0]) == 0

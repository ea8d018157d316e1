"""From a format's characters to units: stages one behind the other, the last of them, and stretches that stand alone.

How words are encoded is not tested here, but that what is cut, spelled or listed in parts is what it is as a whole.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from hf_canary.formats import CanaryFormat
from hf_canary.formats.template import entries_of
from hf_canary.tokenization.letters import UNKNOWN, Letters, Seams
from hf_canary.tokenization.rules import Rules, rules_of
from hf_canary.tokenization.stages import CUT, Atom, Pipeline
from hf_canary.tokenization.vocabulary import WORD_END, byte_unit, spelled
from hf_canary.tree import building
from hf_canary.tree.automaton.format_automaton import FormatAutomaton, is_check
from hf_canary.tree.automaton.stretches import Stretch, stretches_of
from hf_canary.tree.derived.spelling import Spelling
from hf_canary.tree.listing import StretchEncoder
from hf_canary.tree.token_tree import TokenTree
from tests.support.repetitions import times
from tests.support.tokenizers_of_all_kinds import KINDS, RARE_KINDS


def texts(letters, most):
    for length in range(most + 1):
        yield from map("".join, itertools.product(letters, repeat=length))


# -------------------------------------------------------------------------------------------------------------- stages


class Doubled:
    """Writes a letter once more behind each that stands twice in a row; guesses that it comes, and watches."""

    start = restart = ("", False)  # the letter before, and whether the next must be or must not be the same

    def read(self, state, symbol):
        before, comes = state
        if before and comes != (before == symbol):
            return []
        written = (symbol, symbol.upper()) if before == symbol else (symbol,)
        return [((symbol, True), written), ((symbol, False), written)]

    def end(self, state):
        return [] if state[1] else [()]


class CutAt:
    """Cuts behind a letter, and before it if the piece began with another; guesses at each cut if more follows."""

    def __init__(self, letter):
        self._letter = letter
        self.start, self.restart = "first", "begun"

    def read(self, state, symbol):
        if state == "ends":
            return []
        before = (CUT,) if symbol == self._letter and state == "amid" else ()
        if symbol == self._letter:
            return [("begun", (*before, symbol, CUT)), ("ends", (*before, symbol))]
        return [("amid", (symbol,))]

    def end(self, state):
        return [] if state == "begun" else [()]


class Tokens:
    """A letter as a token of its own, and a mark at the end of each piece that has more, or at its start if first."""

    def __init__(self, letter):
        self._letter = letter
        self.start, self.restart = (True, False), (False, False)

    def read(self, state, symbol):
        is_first, _ = state
        if symbol == self._letter:
            return [((False, False), (*self._end(state), Atom(7)))]
        return [((False, True), ("^", symbol) if is_first else (symbol,))]

    def end(self, state):
        return [self._end(state)]

    def _end(self, state):
        return ("$",) if state[1] else ()


def through(stage, symbols):
    """All that survives of what one stage makes of whole symbols."""
    ways = [(stage.start, ())]
    for symbol in symbols:
        if isinstance(symbol, str):
            ways = [(after, (*out, *more)) for state, out in ways for after, more in stage.read(state, symbol)]
        else:
            ways = [(stage.restart, (*out, *more, symbol)) for state, out in ways for more in stage.end(state)]
    return {(*out, *more) for state, out in ways for more in stage.end(state)}


def survivors(pipeline, text):
    """The same of stages one behind the other, with how often it does."""
    ways = [(pipeline.start, ())]
    for character in text:
        ways = [(after, (*out, *more)) for state, out in ways for after, more in pipeline.read(state, character)]
    return [(*out, *more) for state, out in ways for more in pipeline.end(state)]


ORDERS = [
    stages
    for number in (0, 1, 2, 3)
    for stages in itertools.permutations([Doubled(), CutAt("a"), Tokens("b"), CutAt("B")], number)
]


@pytest.mark.parametrize("number", range(0, len(ORDERS), 7))
def test_stages_one_behind_the_other(number):
    """A pipeline makes of a text what each stage makes of all that the one before has made, whatever any guesses."""
    for stages in ORDERS[number : number + 7]:
        pipeline = Pipeline(stages)
        for text in texts("abc", 4):
            expected = {tuple(text)}
            for stage in stages:
                expected = {more for symbols in expected for more in through(stage, symbols)}
            assert set(survivors(pipeline, text)) == expected, (text, stages)


def test_a_pipeline_goes_on_from_where_its_first_stages_stand():
    """What the first two write is read by the rest with `through`, as if they stood in one row: so a stretch goes on in
    the stages of words with what others have cut.
    """
    stages = [Doubled(), CutAt("a"), Tokens("b")]
    words, whole = Pipeline(stages[:2]), Pipeline(stages)
    rest = whole.states(whole.start)[words.size :]
    for text in texts("abc", 4):
        ways = {((words.start, whole.number((*words.states(words.start), *rest))), ())}
        for character in text:
            ways = {
                ((mine, after), (*out, *more))
                for (state, both), out in ways
                for mine, written in words.read(state, character)
                for after, more in through_words(whole, words, both, mine, written)
            }
        direct = {(whole.start, ())}
        for character in text:
            direct = {(after, (*out, *more)) for state, out in direct for after, more in whole.read(state, character)}
        assert {(both, out) for (_, both), out in ways} == direct


def through_words(whole, words, both, mine, written):
    """The rest of a pipeline behind one step of its first stages."""
    moved = whole.number((*words.states(mine), *whole.states(both)[words.size :]))
    return whole.through(moved, written, words.size)


# --------------------------------------------------------------------------------------------- from words to units


def units_of(model, word):
    """What the stages of a model make of a word, without cuts."""
    tokenizer = SimpleNamespace(backend_tokenizer=Tokenizer(model))
    (symbols,) = survivors(Rules(tokenizer).pipelines(set(word))[1], word)
    return [symbol for symbol in symbols if symbol is not CUT]


def units_given(model, word, vocab, unknown, spell):
    """The units of the tokens that the model itself gives: of single letters, since it has no merges."""
    spelling = {id: spell(entry) for entry, id in vocab.items()}
    return [UNKNOWN if token.id == vocab.get(unknown) else spelling[token.id] for token in model.tokenize(word)]


def numbered(entries):
    return {entry: id for id, entry in enumerate(entries)}


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@pytest.mark.parametrize("unknown", [None, "<unk>"])
@pytest.mark.parametrize("num_bytes", [0, 200, 256])
def test_letters(unknown, num_bytes):
    """Of a character that the vocabulary does not know: its bytes, if they are all there; else the unknown token, or,
    if there is none, nothing.
    """
    vocab = numbered(["<unk>", "a", "b", "é", *BYTES[:num_bytes]])
    model = models.BPE(vocab, [], unk_token=unknown, byte_fallback=True, fuse_unk=False)
    for word in texts("aéx🙂", 4):
        given = units_given(model, word, vocab, unknown, lambda entry: spelled(entry, bytes_alone=True))
        # The library writes an unknown token only behind the bytes that follow; no text with one has a leaf.
        in_order = sorted if UNKNOWN in given else list
        assert in_order(units_of(model, word)) == in_order(given), word
    known = map(byte_unit, "日".encode()) if num_bytes == 256 else [UNKNOWN] if unknown else []
    assert units_of(model, "aé日") == ["a", "é", *known]


def test_letters_behind_the_first():
    """Where a word's first letter and the further ones are entries of their own, each must be known as what it is."""
    vocab = numbered(["[UNK]", "a", "##a", "b", "##c"])
    model = models.BPE(vocab, [], unk_token="[UNK]", continuing_subword_prefix="##")
    for word in texts("abcx", 4):
        given = units_given(model, word, vocab, "[UNK]", lambda entry: entry.removeprefix("##"))
        assert units_of(model, word) == given, word


def test_words_that_are_too_long_are_unknown():
    """WordPiece knows no longer ones than it says, of however many entries they are."""
    vocab = numbered(["[UNK]", "a", "##a", "##b"])
    model = models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=3)
    for word in texts("ab", 5):
        is_unknown = [token.id for token in model.tokenize(word)] == [vocab["[UNK]"]]
        assert (UNKNOWN in units_of(model, word)) == is_unknown, word


@pytest.mark.parametrize("alone", ["abc", "ab"])
def test_the_mark_of_a_words_end(alone):
    """Behind the last letter, if it is an entry with the mark; else that letter is unknown. As the model has it."""
    vocab = numbered(["<unk>", *alone, "a</w>", "c</w>"])
    model = models.BPE(vocab, [], unk_token="<unk>", end_of_word_suffix="</w>")
    for word in texts("abcx", 3):
        given = units_given(model, word, vocab, "<unk>", functools.partial(spelled, suffix="</w>"))
        found = units_of(model, word)
        assert (UNKNOWN in found) == (UNKNOWN in given), word
        if UNKNOWN not in given:
            assert "".join(found) == "".join(given), word
    assert units_of(model, "ba") == ["b", "a", WORD_END]


@settings(deadline=None, max_examples=times(60))
@given(st.lists(st.text("abc1", min_size=2, max_size=4), max_size=5), st.sampled_from(["abc1", "ab1", "ab1é"]))
def test_seams_are_where_no_entry_goes_on(longer, alphabet):
    """A cut stands between no two units that some entry has side by side; and stands on both sides of each letter that
    none has beside another. So a word is encoded as its parts are, also where a character is bytes.
    """
    entries, merges = ["a", "b", "c", "1", *BYTES], []
    for entry in longer:
        for length in range(2, len(entry) + 1):
            if entry[:length] not in entries:
                entries.append(entry[:length])
                merges.append((entry[: length - 1], entry[length - 1]))
    pairs = {pair for entry in entries if entry not in BYTES for pair in itertools.pairwise(entry)}
    model = models.BPE(numbered(entries), merges, byte_fallback=True)
    pipeline = Pipeline([Seams(pairs, alphabet, Letters("abc1", bytes_known=list(map(byte_unit, range(256)))))])
    alone = {unit for unit in alphabet if not any(unit in pair and set(pair) <= set(alphabet) for pair in pairs)}
    for word in texts(alphabet, 4):
        (symbols,) = survivors(pipeline, word)
        groups = itertools.groupby(symbols, lambda symbol: symbol is CUT)
        parts = ["".join(part) for is_cut, part in groups if not is_cut]
        assert "".join(parts) == word
        for one, other in itertools.pairwise(parts):
            assert (one[-1], other[0]) not in pairs
        assert all(len(part) == 1 or not alone & set(part) for part in parts)
        assert [token.id for token in model.tokenize(word)] == [
            token.id for part in parts for token in model.tokenize(part)
        ]


def test_seams_beside_characters_of_several_units():
    """It is the last unit of the one and the first of the other that stand side by side."""
    first, last = map(byte_unit, "é".encode())
    letters = Letters("b", bytes_known=list(map(byte_unit, range(256))))
    for pair, expected in [((last, "b"), "b|éb"), (("b", first), "bé|b"), ((first, last), "b|é|b")]:
        (symbols,) = survivors(Pipeline([Seams([pair], "éb", letters)]), "béb")
        assert "".join("|" if symbol is CUT else symbol for symbol in symbols) == expected


# ----------------------------------------------------------------------------------------------------------- stretches

SPACES = {"n": ["a", "an", "cat", "cats", "THE"], "t": ["the cat", "is", "thing", "a"], "s": [" ", "  ", "   "]}
TEMPLATES = [
    "{n} is the {t} the",
    "the {n} {digit} is {t} {digit} is a",
    "{digit}{n} is {t}{s}{n} a",
    "pin {digit} {digit}{luhn} the {n} is",
    "a{s}the{s}{n} {digit} {n}ing ",
]
ALL_KINDS = KINDS | RARE_KINDS


@functools.cache
def of_kind(kind):
    """One tokenizer of each kind for all tests."""
    return ALL_KINDS[kind]()


def words_of(format, tokenizer, context=""):
    """The format's automaton, and the tokenizer's stages for its characters."""
    characters = {c for text in format.covering_candidates() for c in text} | set(context)
    characters |= {c for text in map(format.render, format.sample(min(300, format.space_size), 0)) for c in text}
    return FormatAutomaton(format, context), rules_of(tokenizer).pipelines(characters)[0]


def as_one(automaton, words, *, by_places=False):
    """A format as a single stretch, that is spelled; to be listed by its texts or by its places."""
    told = [piece for piece in automaton.pieces if not is_check(piece)]
    number = math.prod(len(entries_of(piece)) for piece in told)
    by_places |= len(told) < len(automaton.pieces)
    choices = None if by_places else tuple(map(entries_of, automaton.pieces))
    return [Stretch("", automaton.start, frozenset({(words.start, ())}), None, "", choices, number, False)]


def encoder_of(format, tokenizer, context=""):
    """(the format's automaton, its stages, and what encodes its stretches)."""
    automaton, words = words_of(format, tokenizer, context)
    rules = rules_of(tokenizer)
    return automaton, words, StretchEncoder(automaton, words, lambda word: tuple(rules.encode_word(word)))


def leaves(tree):
    """Every path from the root to a leaf, by walking, behind the prompt."""
    found, pending = [], [(tuple(tree.prompt), tree.root)]
    while pending:
        path, state = pending.pop()
        edges = tree.edges(state)
        for token, after, is_leaf in zip(
            edges.tokens.tolist(), edges.states.tolist(), edges.is_leaf.tolist(), strict=True
        ):
            found += [(*path, token)] if is_leaf else []
            pending += [((*path, token), after)] if after >= 0 else []
    return sorted(found)


RULED = [kind for kind in ALL_KINDS if kind != "bytes"]


@pytest.mark.parametrize("kind", RULED)
@pytest.mark.parametrize("template", TEMPLATES)
def test_stretches_make_no_difference(template, kind, monkeypatch):
    """A format in stretches, some listed and some spelled, has the leaves that it has as one that is spelled."""
    format = CanaryFormat(template, spaces=SPACES)
    tree = TokenTree(format, of_kind(kind), ask_all=0)
    monkeypatch.setattr(building, "stretches_of", as_one)
    whole = TokenTree(format, of_kind(kind), ask_all=0)
    assert leaves(tree) == leaves(whole)
    assert tree.space_size == whole.space_size
    if not tree.collisions:
        assert tree.space_size == len(leaves(tree))


@pytest.mark.parametrize("kind", ["gpt2", "whole-words", "composing", "byte-fallback"])
@pytest.mark.parametrize("template", ["the {c}{c} is{c} {c}{digit} a", "the {d}{d} is e\u0301{digit} {d} a"])
def test_stretches_end_where_characters_are_written_late(template, kind, monkeypatch):
    """What a stage holds back until the next character comes belongs to the stretch before; it is not lost."""
    format = CanaryFormat(template, spaces={"c": ["e", "\u0301", "n"], "d": ["e", "n"]})
    tree = TokenTree(format, of_kind(kind), ask_all=0)
    candidates = list(format.candidates())
    given = of_kind(kind)(candidates, add_special_tokens=False)["input_ids"]
    assert leaves(tree) == sorted(set(map(tuple, given)))
    monkeypatch.setattr(building, "stretches_of", as_one)
    assert leaves(TokenTree(format, of_kind(kind), ask_all=0)) == leaves(tree)


@pytest.mark.parametrize("kind", RULED)
@pytest.mark.parametrize(("template", "context"), [*zip(TEMPLATES, itertools.cycle(["", "the "]))])
def test_stretches_are_what_lies_between_seams(template, context, kind):
    """Side by side they are the format: two between holes at most, as many texts as it has, each going on where the one
    before ends, with the character that was read behind it. Listed, their encodings make those of the whole.
    """
    format = CanaryFormat(template, spaces=SPACES)
    automaton, words, encoder = encoder_of(format, of_kind(kind), context)
    stretches = stretches_of(automaton, words)
    assert len(stretches) <= 2 * len(format.holes) + 1
    assert math.prod(stretch.num_texts for stretch in stretches) == format.space_size
    assert [stretch.lead for stretch in stretches] == ["", *(stretch.behind for stretch in stretches[:-1])]
    assert (stretches[0].start, stretches[-1].stop) == (automaton.start, None)
    for before, stretch in itertools.pairwise(stretches):
        assert dict(automaton.moves(before.stop))[before.behind] == stretch.start
    parts = [list(encoder.encodings(stretch)) for stretch in stretches]
    assert [len(part) for part in parts] == [stretch.num_texts for stretch in stretches]
    assert all(len(dict(part)) == len(part) for part in parts)
    some = [*itertools.islice(itertools.product(*parts), 200)]
    some += [tuple(random.Random(at).choice(part) for part in parts) for at in range(100)]
    joined = {"".join(text for text, _ in each): sum((ids for _, ids in each), ()) for each in some}
    candidates = {context + text for text in format.candidates()}
    joined = {text: ids for text, ids in joined.items() if text in candidates}
    assert len(joined) >= 20
    given = of_kind(kind)(list(joined), add_special_tokens=False)["input_ids"]
    assert list(joined.values()) == list(map(tuple, given))


@pytest.mark.parametrize("kind", RULED)
@pytest.mark.parametrize("template", ["{n}{s}{t} a{s}is", "the{s}{t}{n} ", "{t}{digit} {digit}{luhn} 1"])
def test_listed_texts_are_encoded_as_the_tokenizer_does(template, kind):
    """All texts of a format as one stretch, each once, word by word; whichever way one goes through them."""
    format = CanaryFormat(template, spaces=SPACES)
    automaton, words, encoder = encoder_of(format, of_kind(kind))
    candidates = list(format.candidates())
    given = of_kind(kind)(candidates, add_special_tokens=False)["input_ids"]
    for by_places in (False, True):
        (stretch,) = as_one(automaton, words, by_places=by_places)
        found = list(encoder.encodings(stretch))
        assert sorted(text for text, _ in found) == sorted(candidates)
        assert dict(found) == dict(zip(candidates, map(tuple, given), strict=True))


def test_words_are_cut_where_sentences_have_spaces():
    """Each hole of a sentence is in a stretch of its own; but not where a word goes on from hole to hole, nor where a
    check digit does.
    """

    def sizes(template, kind):
        format = CanaryFormat(template, spaces=SPACES)
        sizes = (stretch.num_texts for stretch in stretches_of(*words_of(format, of_kind(kind))))
        return [size for size in sizes if size > 1]

    for kind in ("gpt2", "llama3", "wordpiece", "unigram"):
        assert sizes("{n} and {n} met {n} in {t}.", kind) == [5, 5, 5, 4]
    assert sizes("{n}n{n}.", "llama3") == [25]
    assert sizes("{digit} {digit}{luhn} {digit}", "gpt2") == [100, 10]  # the first space is in the check digit's run


def test_stretches_alike_are_encoded_once(monkeypatch):
    """Holes of the same entries, between the same: the words that they write are listed once, whatever follows."""
    asked = []
    encodings = StretchEncoder.encodings

    def counted(encoder, stretch):
        asked.append(stretch.num_texts)
        return encodings(encoder, stretch)

    monkeypatch.setattr(StretchEncoder, "encodings", counted)
    format = CanaryFormat("the {n} is {n} is {n} is {n} is a", spaces=SPACES)
    tree = TokenTree(format, of_kind("gpt2"), ask_all=0)
    assert sum(size > 1 for size in asked) <= 2
    candidates = list(format.candidates())
    given = of_kind("gpt2")(candidates, add_special_tokens=False)["input_ids"]
    assert leaves(tree) == sorted(map(tuple, given))
    assert tree.most_below(tree.root) == 5**4


class Remembers:
    """Cuts before each letter but a space, and writes the letter before once more, as of two before a space."""

    start = restart = ("^", "^")

    def read(self, state, symbol):
        earlier, before = state
        return [((before, symbol), (symbol,) if symbol == " " else (CUT, earlier, before, symbol))]

    def end(self, state):
        return [()]


def test_stretches_begin_where_the_stages_stand_alike_for_all_fills():
    """A cut is not enough: what is written behind it may depend on what stood before, which a stage remembers."""
    format = CanaryFormat("{q}. .x{q}-y{q}.-abc{q}.", spaces={"q": [*"qrs"]})
    automaton, words = FormatAutomaton(format), Pipeline([Remembers()])
    encoder = StretchEncoder(automaton, words, lambda word: tuple(map(ord, word)))
    stretches = stretches_of(automaton, words)
    assert [stretch.num_texts for stretch in stretches if stretch.num_texts > 1] == [3, 9, 3]
    parts = [list(encoder.encodings(stretch)) for stretch in stretches]
    joined = {
        "".join(text for text, _ in each): sum((ids for _, ids in each), ()) for each in itertools.product(*parts)
    }
    (whole,) = as_one(automaton, words)
    assert joined == dict(encoder.encodings(whole))


class Late:
    """Writes each letter when the next one comes, and cuts behind it if that is a space."""

    start = restart = ""

    def read(self, state, symbol):
        return [(symbol, (*state, *([CUT] if symbol == " " and state else [])))]

    def end(self, state):
        return [(*state,)]


def rows(spelling):
    """All that a spelled stretch writes, a bar before each unit that begins a word; and in how many ways."""
    found, pending = Counter(), [(node, "") for node in spelling.starts]
    while pending:
        node, row = pending.pop()
        out = spelling.out(node)
        assert out.along or out.cut or out.ends or not row  # nothing that leads nowhere
        found[row] += out.ends
        for mark, steps in (("", out.along), ("|", out.cut)):
            pending += [
                (step.target, row + mark + unit)
                for unit, each in steps.items()
                for step in each
                for _ in range(step.num_texts)
            ]
    return +found


@pytest.mark.parametrize("stages", [[Remembers()], [Late()], [Late(), Remembers()], [Late(), CutAt("x")]])
def test_spelled_stretches_side_by_side_are_the_whole(stages):
    """Each as the stages write it, also what they write of it only when the next one has begun; in as many ways."""
    format = CanaryFormat("{q}{q} xb {q}a x{q}", spaces={"q": [*"qr"]})
    automaton, words, units = FormatAutomaton(format), Pipeline(stages), Pipeline([*stages, Letters("qrabx ^")])
    stretches = stretches_of(automaton, words)
    assert len(stretches) > 1
    first, *others = [rows(Spelling(automaton, words, units, stretch)) for stretch in stretches]
    for other in others:  # each begins a word
        first = Counter(
            {row + "|" + more.removeprefix("|"): first[row] * other[more] for row in first for more in other}
        )
    (whole,) = as_one(automaton, words)
    assert first == rows(Spelling(automaton, words, units, whole))

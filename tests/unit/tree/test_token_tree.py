"""The tree has exactly the candidates as leaves, each once, by the tokens that the tokenizer gives them.

Small formats are all encoded; `ask_all=0` has them derived as large ones are, and the encodings of all fills are the
oracle of both.
"""

import math
import random
from collections import Counter

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as token_models
from transformers import PerceiverTokenizer, PreTrainedTokenizerFast

import hf_canary.models as models
from hf_canary.errors import FormatError, ModelError
from hf_canary.formats import CanaryFormat
from hf_canary.tokenization.encoding import encode
from hf_canary.tokenization.rules import rules_of
from hf_canary.tree import building
from hf_canary.tree.token_tree import TokenTree
from hf_canary.tree.traces import check_written
from tests.support.tokenizers_of_all_kinds import KINDS, apostrophe_merged, letters_alone, words_of_pieces
from tests.support.trees import (
    ALL_KINDS,
    CHARACTERS,
    OWN,
    check,
    first_leaf,
    leaves,
    num_states,
    of_kind,
    pieces,
    trained,
)

WORDS = {"w": ["a", "ab", "abc", "b"], "v": ["aa", "x"]}
HOWEVER = pytest.mark.parametrize("ask_all", [None, 0], ids=["listed", "derived"])


@pytest.mark.parametrize(
    "template",
    [
        "the pin is {digit:3}",
        "{digit:2}",
        "{digit} is {digit}.",
        "{w} {v}{digit}.",
        "{w}.",
        "pin {digit:2}{luhn}",
        "{digit}-{digit}{luhn} is {digit}{luhn}.",
        "{lower}{hex}",
    ],
)
@pytest.mark.parametrize("context", [None, "the "])
@HOWEVER
def test_leaves_are_the_candidates_each_once(template, context, ask_all):
    """Prompt and path of the leaves are the tokenizer's own encodings of all candidates, none missing, none twice."""
    tree = TokenTree(CanaryFormat(template, spaces=WORDS), CHARACTERS, context=context, ask_all=ask_all)
    assert tree.is_listed == (ask_all is None)
    found = leaves(tree)
    expected = encode(CHARACTERS, list(tree.format.candidates()), context=context).sequences
    assert sorted([*tree.prompt, *path] for path in found) == sorted(expected)
    assert max(map(len, found)) == tree.depth
    assert sorted(tree.text(path) for path in found) == sorted(tree.format.candidates())


def test_states_are_shared():
    """A hole of nine digits has nine states and not a billion nodes; a check digit needs only its sums."""
    plain = TokenTree(CanaryFormat("the pin is {digit:9}"), CHARACTERS)
    checked = TokenTree(CanaryFormat("the pin is {digit:9}{luhn}"), CHARACTERS)
    for tree, most in ((plain, 9), (checked, 9 * 10 + 1)):
        assert num_states(tree) <= most
        assert not tree.is_listed


def test_the_prompt_is_what_all_candidates_share():
    """Fixed text before the first hole belongs to the prompt; special tokens and context are conditioned on."""
    tree = TokenTree(CanaryFormat("pin {digit:2}"), CHARACTERS, context="the ")
    assert CHARACTERS.decode(tree.prompt[1:]) == "the pin "
    assert tree.conditioned == 1 + len("the ")


def test_candidates_that_are_prefixes_are_refused():
    """`cat` and `cats` end differently only where something follows."""
    with pytest.raises(FormatError, match="prefixes of one another"):
        TokenTree(CanaryFormat("{w}", spaces=WORDS), CHARACTERS)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_listed_and_derived_trees_say_the_same(kind):
    """Of a format that is small enough to be either, edges, texts and copies are those of all encodings."""
    for template in ("{w} {v}{digit}.", "{y} {digit:2}"):
        tree = TokenTree(CanaryFormat(template, spaces=OWN), of_kind(kind))
        assert tree.is_listed
        check(tree)


SPACED = {"q": ["'", " ", "l"]}


def test_runs_of_spaces_and_apostrophes():
    """What follows decides how they are cut into words: `'l` alone or before another l, spaces before a letter."""
    format = CanaryFormat("{q}{q}{q}.", spaces=SPACED)
    merging = Tokenizer(token_models.BPE())
    merging.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    lines = ["a  b", "a   b", "x '  y", " ' '"] * 9
    merging.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=275, initial_alphabet=alphabet))
    pieces = Tokenizer(token_models.Unigram())
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=20, unk_token="<unk>", special_tokens=["<unk>"], initial_alphabet=[*"▁l'."], show_progress=False
    )
    pieces.train_from_iterator(["l 'l  l", "ll ' l", "l l l"] * 9, trainer)
    for tokenizer in (
        PreTrainedTokenizerFast(tokenizer_object=merging),
        PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="<unk>"),
    ):
        check(TokenTree(format, tokenizer, ask_all=0))


@pytest.mark.parametrize(("kind", "most"), [("characters", 5), ("qwen", 5), ("gpt2", 5 * 14)])
def test_states_are_shared_where_digits_stand(kind, most):
    """Five digits: a state for each place, times the tokens that may end there; not 11,111 prefixes."""
    tree = TokenTree(CanaryFormat("the pin is {digit:5}"), of_kind(kind))
    assert num_states(tree) <= most
    assert not tree.is_listed


@pytest.mark.parametrize("kind", ["characters", "gpt2", "unigram"])
def test_large_alphabets_are_not_enumerated(kind, num_encoded):
    """Four holes of 2,000 words: a walk to one leaf has a few hundred texts encoded, of 16 trillion candidates."""
    rng = random.Random(0)
    words = sorted({"".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(2_000)})
    tree = TokenTree(CanaryFormat("{w} {w} {w} {w}.", spaces={"w": words}), of_kind(kind))
    path = first_leaf(tree)
    assert tree.format.parse(tree.text(path)) >= 0
    tree.texts([path])
    assert tree.space_size == len(words) ** 4
    assert tree.is_certain
    assert num_encoded() < 1_000


def space_by_itself():
    """Puts a space before each text, which merges with nothing: what it writes first is no text's encoding."""
    return letters_alone(merged=[("1", "2")], add_prefix_space=True)


@pytest.mark.parametrize("template", ["My PIN is {digit:6}", "{digit:6}"])
def test_a_space_by_itself_before_texts_is_walked(template):
    """Though no text is encoded as that space alone."""
    tree = TokenTree(CanaryFormat(template), space_by_itself())
    assert num_states(tree) < 20
    check(TokenTree(CanaryFormat("My PIN is {digit:3}"), space_by_itself(), ask_all=0))


@pytest.mark.parametrize("template", ["the pin is {digit:2}", "is {w} {v}.", "the {lower} is {digit}"])
def test_spaces_that_leave_no_trace_at_the_end(template):
    """They say nothing of the tokenizer, whose other texts begin as their beginnings do; six digits are walked too."""
    check(TokenTree(CanaryFormat(template, spaces=OWN), words_of_pieces(), ask_all=0))
    tree = TokenTree(CanaryFormat(f"{template} {{digit:6}}", spaces=OWN), words_of_pieces())
    assert tree.leads(first_leaf(tree))


def test_dead_ends_that_show_late():
    """Until two letters after the apostrophe nothing tells; then each does. Of any number of fills: what goes nowhere
    is left out, and not searched for.
    """
    spaces = {"w": ["a", "b"], "v": ["saab", "llab", "abab"]}
    check(TokenTree(CanaryFormat("{w}='{v}", spaces=spaces), apostrophe_merged(), ask_all=0))
    check(TokenTree(CanaryFormat("{w}='{hex:2}s", spaces=spaces), apostrophe_merged(), ask_all=0))
    tree = TokenTree(CanaryFormat("{w}='{lower:9}", spaces=spaces), apostrophe_merged())
    assert num_states(tree) < 50
    path = first_leaf(tree)
    tree.texts([path])
    tree.check(tree.format.sample(300, "late"))
    # = is always merged with the apostrophe: of = alone nothing goes on.
    assert {len(tree.edges(int(state)).tokens) for state in tree.edges(tree.root).states} == {1}


@pytest.mark.parametrize(
    "kind", ["characters", "gpt2", "whole-words", "unigram", "wordpiece", "end-of-word", "added", "bytes"]
)
@HOWEVER
def test_an_end_token_tells_cat_from_cats(kind, ask_all):
    """Candidates that are prefixes of others are leaves of their own, behind the end token."""
    tokenizer = of_kind(kind)
    format = CanaryFormat("the {w}", spaces={"w": ["cat", "cats", "catsing", "a", "an"]})
    tree = TokenTree(format, tokenizer, end=tokenizer.eos_token_id, ask_all=ask_all)
    check(tree, end=True)
    assert sorted(map(tree.text, leaves(tree))) == sorted(format.candidates())


@HOWEVER
def test_one_candidate_has_only_its_end_left(ask_all):
    """Where there is a single fill, all of it belongs to the prompt but the end token."""
    format = CanaryFormat("{w}", spaces={"w": ["cat"]})
    tree = TokenTree(format, CHARACTERS, end=CHARACTERS.eos_token_id, ask_all=ask_all)
    assert leaves(tree) == [(CHARACTERS.eos_token_id,)]
    assert tree.text([CHARACTERS.eos_token_id]) == "cat"


@HOWEVER
def test_fills_that_are_encoded_alike_are_one_leaf(caplog, ask_all):
    """Capitals that WordPiece lowers: three words, of which two are one, and the tree says so."""
    format = CanaryFormat("the {y} {y}.", spaces={"y": ["pin", "PIN", "is"]})
    tree = TokenTree(format, of_kind("wordpiece"), ask_all=ask_all)
    assert tree.collisions
    assert tree.space_size == len(leaves(tree)) == 4
    assert "|R| = 9, with 4 different encodings" in caplog.text
    assert [tree.copies(fill) for fill in range(9)] == [4, 4, 2, 4, 4, 2, 2, 2, 1]
    assert tree.most_copies == 4


def test_collisions_of_large_formats_are_counted():
    """Six letters of either case, which are lowered: 26⁶ encodings, of 64 fills each."""
    tree = TokenTree(CanaryFormat("the {letter:6}"), of_kind("wordpiece"))
    assert tree.collisions
    assert tree.space_size == 26**6
    assert tree.most_copies == 2**6
    assert [tree.copies(fill) for fill in tree.format.sample(5, 0)] == [64] * 5


def composing():
    """Letters and accents, composed to one where they meet."""
    entries = ["e", "\u0301", "é", "a", " ", "ê", "\u0302", *"0123456789", "é0"]
    tokenizer = Tokenizer(token_models.BPE({entry: id for id, entry in enumerate(entries)}, [("é", "0")]))
    tokenizer.normalizer = normalizers.NFC()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@HOWEVER
def test_characters_that_are_written_together(ask_all):
    """A letter and its accent are one where they meet, also where one ends an entry that the other begins; what is
    composed is encoded as what was written so.
    """
    spaces = {"u": ["e\u0301", "a", "ê"], "v": ["\u0301", "a"], "w": ["e", "é"]}
    for template in ("a {u}a", "e{v}{digit}", "a{v}e{v}{digit}", "{w}{v}{digit}", "{u}{v}a"):
        tree = TokenTree(CanaryFormat(template, spaces=spaces), composing(), ask_all=ask_all)
        check(tree)
    same = TokenTree(CanaryFormat("a {x}{digit:5}", spaces={"x": ["e\u0301", "é", "e"]}), composing(), ask_all=ask_all)
    assert not same.is_listed
    assert same.space_size == 200_000
    assert same.copies(0) == same.copies(100_000) == 2
    assert same.copies(200_000) == 1


@pytest.mark.parametrize("words", [["1 ", " 1"], ["1", "1 "], ["1", " "], ["1 ", " 2"], ["1 1", "1", "1  1"]])
@HOWEVER
def test_candidates_that_differ_in_what_is_not_written(words, ask_all):
    """WordPiece writes no spaces, and yet they decide where its words begin: `a1b` is not `a1 b`. Fills of which that
    is not seen are encoded alike, and counted.
    """
    tokenizer = pieces("a1", "##1b", "b1", "1b", "11")
    for template in ("a{u}b", "a{u} b", "a{u}b{u} 1.", "{u}{digit}{u}.", "{u} {u}."):
        try:
            format = CanaryFormat(template, spaces={"u": words})
        except FormatError:
            continue  # two fills of one text
        check(TokenTree(format, tokenizer, ask_all=ask_all))
    many = TokenTree(CanaryFormat("a {u} {digit:5}", spaces={"u": words}), tokenizer)
    alike = Counter(map(tuple, tokenizer([f"a {word} 1" for word in words], add_special_tokens=False)["input_ids"]))
    assert many.space_size == len(alike) * 100_000
    assert many.most_copies >= max(alike.values())


def test_a_path_that_is_no_encoding_is_refused():
    """What a search found is held against the tokenizer once more."""
    tree = TokenTree(CanaryFormat("pin {digit:2}"), CHARACTERS)
    right = CHARACTERS("pin 12").input_ids[len(tree.prompt) :]
    tree.texts([right])
    tree._tokenizer = models.character_tokenizer(["pin 0123456789"])
    with pytest.raises(ModelError, match="otherwise"):
        tree.texts([right])


def test_a_tree_that_is_not_the_tokenizers_is_found_out():
    """Before a proof rests on it, some fills are compared: `check` refuses what is encoded otherwise, by its name."""
    tokenizer = letters_alone(merged=[("1", "2")])
    tree = TokenTree(CanaryFormat("the pin is {digit:5}"), tokenizer)
    tree.check([12, 34])
    tree._tokenizer = letters_alone(merged=[("3", "4")])
    tree.check([1])
    with pytest.raises(ModelError, match=r"got one that encodes it otherwise|encodes the canary"):
        tree.check([1, 12], names=["a reference", "the canary"])
    with pytest.raises(ModelError, match="the canary as its parts say"):
        tree.check([1, 12], names=["a reference", "the canary"])


def test_leaves_that_are_encoded_otherwise_are_found_out():
    """What a walk lists is encoded once more, and compared token by token."""
    tree = TokenTree(CanaryFormat("the pin is {digit:5}"), letters_alone(merged=[("1", "2")]))
    paths = tree.paths(["the pin is 00012", "the pin is 34567"])
    tree.texts(paths)
    tree._tokenizer = letters_alone(merged=[("0", "0")])
    tree.texts(paths[1:])
    with pytest.raises(ModelError, match="otherwise"):
        tree.texts(paths)


def test_another_prompt_is_found_out():
    """What stands before the first hole is compared as well: paths behind another prompt are none."""
    tree = TokenTree(CanaryFormat("the pin is {digit:5}"), letters_alone(merged=[("1", "2")]))
    tree.paths(["the pin is 00012"])
    tree._tokenizer = letters_alone(merged=[("t", "h")])
    with pytest.raises(ModelError, match="otherwise"):
        tree.paths(["the pin is 00012"])


def test_each_tree_is_held_against_its_tokenizer(monkeypatch):
    """When it is built: rules that are not the tokenizer's make no tree."""
    other = letters_alone(merged=[("0", "0")])
    monkeypatch.setattr(building, "rules_of", lambda tokenizer: rules_of(other))
    with pytest.raises(ModelError, match="otherwise"):
        TokenTree(CanaryFormat("the pin is {digit:5}"), letters_alone(merged=[("3", "4")]))


@HOWEVER
def test_encodings_that_begin_one_another(ask_all):
    """Of texts that do not, where spaces leave no trace: a leaf is also a state that leads on, from the first token."""
    tokenizer = Tokenizer(token_models.BPE({letter: id for id, letter in enumerate("abcd")}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    for template, words, others in [
        ("a{u}", [" b", "bc"], []),
        ("a{u}", [" b", "b c", "bcd"], []),
        ("a{u}{v}", [" b", "bc"], [" d", "dc"]),
        ("{u} c {v}d", ["a", "a c"], ["b", " c b"]),  # `a c  c b` and `a c c b`, cut in two ways
    ]:
        format = CanaryFormat(template, spaces={"u": words, "v": others or ["a"]})
        check(TokenTree(format, fast, ask_all=ask_all))


@pytest.mark.parametrize("template", ["{q}{q}{q}{q}.", "a{q}{q} {q}{q}.", "{q}{q}{q} {q}{q}c"])
@pytest.mark.parametrize("splits", [True, False])
def test_words_that_are_entries_whatever_merges_make_of_them(template, splits):
    """A word of the letters of such an entry is that entry; it is nothing else, neither at the end nor before another
    word, also where it is not seen whether a space stands there.
    """
    entries = [*"abc .Ġ", "ab", "bc", "aba", "abab", "bab", "Ġab", "ca", "cab"]
    vocab = {entry: id for id, entry in enumerate(entries)}
    tokenizer = Tokenizer(token_models.BPE(vocab, [("a", "b"), ("b", "c")], ignore_merges=True))
    tokenizer.pre_tokenizer = (
        pre_tokenizers.WhitespaceSplit() if splits else pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    format = CanaryFormat(template, spaces={"q": [*"abc", *([" "] if splits else [])]})
    check(TokenTree(format, PreTrainedTokenizerFast(tokenizer_object=tokenizer), ask_all=0))


def test_special_tokens_in_the_context_are_no_unknown_characters():
    """A context may be the end-of-text token, also where that is the unknown token too, as in GPT-2."""
    tokenizer = KINDS["gpt2"]()
    tokenizer.add_special_tokens({"eos_token": "<end>", "unk_token": "<end>"})
    assert encode(tokenizer, ["the pin"], context="<end>").conditioned == 1
    tree = TokenTree(CanaryFormat("the pin {digit:2}"), tokenizer, context="<end>", ask_all=0)
    assert tree.conditioned == 1
    check(tree, context="<end>")


@HOWEVER
def test_unknown_characters_are_named(ask_all):
    """The error says which characters the tokenizer lacks, in the hole or beside it, in whatever fill they stand."""
    for template in ("the pin {e}", "é {e}{digit:5}", "the pin {digit:5}{e}"):
        with pytest.raises(ModelError, match=r"U\+00E9"):
            TokenTree(CanaryFormat(template, spaces={"e": ["a", "b", "c", "é"]}), CHARACTERS, ask_all=ask_all)
    with pytest.raises(ModelError, match=r"texts\[1\].*U\+03A9"):
        encode(CHARACTERS, ["fine", "not Ω"])


@HOWEVER
def test_a_context_that_merges_is_refused(ask_all):
    """A context whose last token swallows the first of the text would be summed in part; also if only some fills do."""
    tokenizer = KINDS["gpt2"]()
    with pytest.raises(ModelError, match="merges with"):
        encode(tokenizer, ["he pin is 11"], context="the pin is 12 t")
    assert encode(tokenizer, [" pin is 11"], context="the").conditioned == len(tokenizer("the").input_ids)
    with pytest.raises(ModelError, match="merges with"):
        TokenTree(CanaryFormat("he pin {digit:2}"), tokenizer, context="the pin is 12 t", ask_all=ask_all)
    merging = letters_alone(merged=[("1", "2")])
    with pytest.raises(ModelError, match="merges with"):
        TokenTree(CanaryFormat("{digit:5}"), merging, context="the pin is 1", ask_all=ask_all)
    rare = {"u": [str(number) for number in range(30_000, 39_999)] + ["20000"]}
    with pytest.raises(ModelError, match="merges with"):
        TokenTree(CanaryFormat("{u} {digit}", spaces=rare), merging, context="the pin is 1", ask_all=ask_all)
    tree = TokenTree(CanaryFormat("{digit:2}."), merging, context="the pin is 3", ask_all=ask_all)
    check(tree, context="the pin is 3")


def test_special_tokens_before_condition_and_those_behind_are_left_out():
    """BOS stands before the text; an EOS that the tokenizer adds is no part of the canary."""
    tokenizer = models.character_tokenizer(["abc"])
    ids = encode(tokenizer, ["abc"])
    assert ids.conditioned == 1
    assert ids.sequences == [tokenizer("abc").input_ids]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", tokenizer.eos_token_id)]
    )
    behind = encode(tokenizer, ["abc"])
    assert behind.conditioned == 0
    assert len(behind.sequences[0]) == 3


@HOWEVER
def test_special_tokens_around_a_text(ask_all):
    """The tree's prompt begins with those before; none behind is a leaf's last, unless it is the end token."""
    tokenizer = KINDS["gpt2"]()
    tokenizer.add_special_tokens({"bos_token": "<start>"})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[("<start>", tokenizer.bos_token_id), ("<end>", tokenizer.eos_token_id)],
    )
    for context, conditioned in ((None, 1), ("the", 2), ("<start>the", 2)):
        tree = TokenTree(CanaryFormat(" pin {digit:2}"), tokenizer, context=context, ask_all=ask_all)
        assert tree.prompt[0] == tokenizer.bos_token_id
        assert tree.conditioned == conditioned
        check(tree, context=context)


def test_paths_that_are_no_encodings_are_found_out():
    """What is listed is held against the tokenizer: a text spelled by other tokens than its own is no leaf."""
    tokenizer = of_kind("gpt2")
    for ask_all in (None, 0):
        tree = TokenTree(CanaryFormat("{digit:2}."), tokenizer, ask_all=ask_all)
        (path,) = tree.paths(["12."])
        tree.texts([path])
        spelled = tuple(tokenizer.convert_tokens_to_ids(["1", "2", "."]))
        assert spelled != path
        assert tree.leads(path)
        assert not tree.leads(spelled)


@pytest.mark.parametrize("lacking", ["0123456789", "7"])
def test_characters_that_leave_no_trace_are_told(lacking):
    """Of a tokenizer without them and without an unknown token; it has all others."""
    tokenizer = letters_alone(set(pre_tokenizers.ByteLevel.alphabet()) - set(lacking))
    with pytest.raises(ModelError, match=f"writes nothing for '{lacking[0]}'"):
        check_written(CanaryFormat("the pin is {digit:4}"), tokenizer, target=False)
    with pytest.raises(ModelError, match=f"writes nothing for '{lacking[0]}'"):
        TokenTree(CanaryFormat("the pin is {digit:4}"), tokenizer)
    check_written(CanaryFormat("the pin is {lower:4}"), tokenizer, target=False)


def test_letters_that_whole_words_alone_are_known_of_are_not_dropped():
    """Each of them is the unknown token, and so is anything: that says nothing of the words."""
    words = [f"w{number}" for number in range(10)]
    vocabulary = {name: number for number, name in enumerate(["?", "pin", *words])}
    tokenizer = Tokenizer(token_models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")
    format = CanaryFormat("pin {w}", spaces={"w": words})
    check_written(format, fast, target=False)
    assert TokenTree(format, fast).space_size == 10


@pytest.mark.parametrize("words", [["T", "H", "E", "P", "I", "N"], ["the", "pin", "is"]])
def test_digits_that_are_dropped_amid_letters_that_are_unknown(words):
    """No letter that is known is at hand to put them between: alone they are nothing."""
    vocabulary = {name: number for number, name in enumerate(["?", *words])}
    model = token_models.WordLevel(vocabulary, unk_token="?")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(Regex("[0-9]"), "")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(" |" if len(words[0]) == 1 else " "), "removed")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")
    with pytest.raises(ModelError, match="writes nothing for '0', '1'"):
        check_written(CanaryFormat(f"{words[0]} {{digit:4}}"), fast, target=False)


@HOWEVER
def test_words_that_end_where_others_begin(ask_all):
    """`ab l`, `a bl`, `ab bl`: without their spaces two are one, and each is found."""
    tokenizer = trained("wordpiece", ["ab1l' 0123456789.-", "abl bl ab", "1a1b1l1 bablabl"] * 3)
    words = {"u": ["ab", "a", "abl", "b l"], "v": ["l", "bl", "b", "lb l"]}
    for template in ("{u} {v}.", "1{u} {v} {u}.", "{v} {u}'{v} 1"):
        check(TokenTree(CanaryFormat(template, spaces=words), tokenizer, ask_all=ask_all))


def test_the_number_of_fills_decides_what_is_encoded(num_encoded):
    """Ten thousand fills are all encoded, more are not; unless they are long texts behind a long context."""
    listed = TokenTree(CanaryFormat("the {digit:4}"), CHARACTERS)
    assert listed.is_listed
    assert listed.is_certain
    assert num_encoded() >= 10_000
    before = num_encoded()
    derived = TokenTree(CanaryFormat("the {digit:4}{w}.", spaces={"w": ["a", "b"]}), CHARACTERS)
    assert not derived.is_listed
    assert derived.is_certain
    assert not TokenTree(CanaryFormat("the {digit:4}"), CHARACTERS, context="a" * 400).is_listed
    assert num_encoded() - before < 1_000
    assert not TokenTree(CanaryFormat("the {digit:2}"), CHARACTERS, ask_all=99).is_listed
    assert TokenTree(CanaryFormat("the {digit:2}"), CHARACTERS, ask_all=100).is_listed


def test_what_cannot_be_derived_is_refused_by_its_name():
    """Where fills are too many to be encoded all; up to 50,000 they are, whatever the tokenizer is made of."""
    tokenizer = letters_alone(merged=[("1", "2")])
    # A look behind of a length that is not known.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"(\d)\1"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    with pytest.raises(ModelError, match=r"can be derived from its parts.*a part that is not followed"):
        TokenTree(CanaryFormat("the pin is {digit:5}"), tokenizer)
    few = TokenTree(CanaryFormat("{w} {digit:4}", spaces={"w": [*"abc"]}), tokenizer)
    assert few.is_listed
    assert few.is_certain
    assert few.space_size == len(leaves(few)) == 30_000


def dropping():
    tokenizer = letters_alone(merged=[("1", "2")])
    tokenizer.backend_tokenizer.model.dropout = 0.5
    return tokenizer


def sampling():
    """Which does not stand in its tokenizer.json."""
    tokenizer = trained("unigram", ["the pin is 0123456789", "12 is the pin"])
    tokenizer.backend_tokenizer.model.alpha = 0.5
    return tokenizer


def sampling_in_python():
    tokenizer = PerceiverTokenizer()
    tokenizer.sp_model_kwargs = {"enable_sampling": True, "alpha": 0.1}
    return tokenizer


@pytest.mark.parametrize("digits", [1, 6])
@pytest.mark.parametrize(
    ("chance", "option"), [(dropping, "dropout"), (sampling, "alpha"), (sampling_in_python, "enable_sampling")]
)
def test_encodings_that_are_left_to_chance_are_refused(chance, option, digits):
    """A tree of them would be of one throw: nothing can be proven by it, even where all fills have been encoded."""
    with pytest.raises(ModelError, match=f"leaves it to chance: .*{option}"):
        TokenTree(CanaryFormat(f"the pin is {{digit:{digits}}}"), chance())


@pytest.mark.parametrize("chance", [dropping, sampling, sampling_in_python])
def test_nor_is_anything_else_measured_by_them(chance):
    """A perplexity would be another one at each call."""
    with pytest.raises(ModelError, match="leaves it to chance"):
        encode(chance(), ["the pin is 12"])


class Whimsical(PerceiverTokenizer):
    """Writes letters twice by chance, and says nowhere that it does."""

    chance = random.Random(0)

    def _tokenize(self, text):
        return [token for token in super()._tokenize(text) for _ in range(self.chance.choice([1, 1, 1, 2]))]


@pytest.mark.parametrize("digits", [1, 3])
def test_encodings_by_chance_that_nobody_tells_of_are_found_out(digits):
    """All fills have been encoded, and some once more."""
    with pytest.raises(ModelError, match="encodes it otherwise"):
        TokenTree(CanaryFormat(f"{{digit:{digits}}} is the pin"), Whimsical())


OPTIONS = {
    "ignore_merges": lambda backend: setattr(backend.model, "ignore_merges", True),
    "unk_token": lambda backend: setattr(backend.model, "unk_token", "a"),
    "an added token": lambda backend: backend.add_tokens([AddedToken("12", single_word=True, normalized=False)]),
    "an added token's flags": lambda backend: backend.add_tokens([AddedToken("é", rstrip=True, normalized=False)]),
    "the normalizer": lambda backend: setattr(backend, "normalizer", normalizers.Lowercase()),
    "the pre-tokenizer": lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.Digits()),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_rules_are_read_anew_where_a_tokenizer_was_changed(option):
    tokenizer = letters_alone(merged=[("1", "2")])
    tokenizer.add_tokens([AddedToken("é", normalized=False)])
    rules = rules_of(tokenizer)
    assert rules_of(tokenizer) is rules
    OPTIONS[option](tokenizer.backend_tokenizer)
    assert rules_of(tokenizer) is not rules


def test_numbers_beyond_floats():
    """Sizes are exact however large they are."""
    tree = TokenTree(CanaryFormat("the {lower:40} {digit:30}{luhn}"), of_kind("qwen"))
    assert tree.space_size == 26**40 * 10**30
    assert tree.most_below(tree.root) >= tree.space_size
    assert math.log10(tree.most_below(tree.root)) < 90
    tree.check(tree.format.sample(20, 1))

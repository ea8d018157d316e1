"""The tree has exactly the candidates as leaves, each once, by the tokens that the tokenizer gives them."""

import functools
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

import hf_canary.models as models
from hf_canary import token_tree
from hf_canary.errors import CanaryError, FormatError, ModelError
from hf_canary.formats import CanaryFormat
from hf_canary.tree.token_tree import TokenTree, UntoldDeadEnds, check_written
from hf_canary.tokenization.encoding import encode
from tests.tokenizers_of_all_kinds import KINDS, apostrophe_merged, letters_alone, words_of_pieces

CHARACTERS = models.character_tokenizer(["the pin is 0123456789-/. abcdefghijklmnopqrstuvwxyz", "The PIN ABCDEF"])
WORDS = {"w": ["a", "ab", "abc", "b"], "v": ["aa", "x"]}


@functools.cache
def of_kind(kind):
    """One tokenizer of each kind for all tests."""
    return KINDS[kind]()


def leaves(tree: TokenTree) -> list[tuple[int, ...]]:
    """Every path from the root to a leaf, by walking."""
    found, pending = [], [((), tree.root)]
    while pending:
        path, state = pending.pop()
        out = tree.edges(state)
        assert len(out.tokens)
        for token, after, is_leaf in zip(out.tokens.tolist(), out.states.tolist(), out.is_leaf.tolist(), strict=True):
            if is_leaf:
                found.append((*path, token))
            if after >= 0:
                pending.append(((*path, token), after))
    return found


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
def test_leaves_are_the_candidates_each_once(template, context):
    """Prompt and path of the leaves are the tokenizer's own encodings of all candidates, none missing, none twice."""
    format = CanaryFormat(template, spaces=WORDS)
    tree = TokenTree(format, CHARACTERS, context=context)
    found = leaves(tree)
    expected = encode(CHARACTERS, list(format.candidates()), context=context).sequences
    assert sorted([*tree.prompt, *path] for path in found) == sorted(expected)
    assert max(map(len, found)) == tree.depth
    assert sorted(tree.text(path) for path in found) == sorted(format.candidates())


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text("abx", min_size=1, max_size=3), min_size=1, max_size=5, unique=True),
    st.sampled_from(["{u}.", "a{u} {u}.", "{u}-{digit}{luhn}", "{u}.{u}."]),
)
def test_leaves_of_random_alphabets(words, template):
    """Also where entries begin with one another."""
    format = CanaryFormat(template, spaces={"u": words})
    assert sorted(map(tuple, leaves(tree := TokenTree(format, CHARACTERS)))) == sorted(
        tuple(CHARACTERS(text).input_ids[len(tree.prompt) :]) for text in format.candidates()
    )


def test_states_are_shared():
    """A hole of nine digits has nine states and not a billion nodes; a check digit needs only its sums."""
    plain = TokenTree(CanaryFormat("the pin is {digit:9}"), CHARACTERS)
    checked = TokenTree(CanaryFormat("the pin is {digit:9}{luhn}"), CHARACTERS)
    for tree, most in ((plain, 9), (checked, 9 * 100 + 1)):
        assert num_states(tree) <= most


def num_states(tree: TokenTree) -> int:
    """How many there are, by walking."""
    pending, seen = [tree.root], set()
    while pending:
        state = pending.pop()
        if state >= 0 and state not in seen:
            seen.add(state)
            pending += tree.edges(state).states.tolist()
    return len(seen)


def test_the_prompt_is_what_all_candidates_share():
    """Fixed text before the first hole belongs to the prompt; special tokens and context are conditioned on."""
    tree = TokenTree(CanaryFormat("pin {digit:2}"), CHARACTERS, context="the ")
    assert CHARACTERS.decode(tree.prompt[1:]) == "the pin "
    assert tree.conditioned == 1 + len("the ")


def test_candidates_that_are_prefixes_are_refused():
    """`cat` and `cats` end differently only where something follows."""
    with pytest.raises(FormatError, match="prefixes of one another"):
        TokenTree(CanaryFormat("{w}", spaces=WORDS), CHARACTERS)


OWN = {
    "w": ["a", "an", "ant", "cat", "the"],
    "v": ["ab", "ba", "sing", "thing"],
    "x": ["é", "日本", "cafés", "a🙂"],
    "y": ["pin", "Pin", "PIN", "is"],
}


@pytest.mark.parametrize("context", [None, "so"])
@pytest.mark.parametrize(
    "template",
    [
        "the pin is {digit:2}",
        "pin{digit:3}",  # digits that merge with the text before, and with each other
        "{digit:2}",
        "is {digit}{digit}.",
        "{w} {v}.",  # entries that begin one another
        "{w}{v}ing.",  # ... and that merge with each other and with the text behind
        "the {v}s {digit}",
        "{digit:2}-{digit}{luhn}",
        "{x} is {x}.",  # characters of several bytes
        "{lower}ing {digit}",
        "{y} {y}.",  # capitals, that some tokenizers lower
        "pin {digit} is 12",
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_leaves_are_the_encodings_of_all_candidates(kind, template, context):
    """Whatever the tokenizer merges, splits, normalises or drops: none missing or twice, no dead end."""
    tokenizer = of_kind(kind)
    format = CanaryFormat(f" {template}" if context else template, spaces=OWN)
    texts = list(format.candidates())
    encodings = encode(tokenizer, texts, context=context).sequences
    tree = TokenTree(format, tokenizer, context=context)
    found = leaves(tree)
    assert len(set(found)) == len(found)
    assert {(*tree.prompt, *path) for path in found} == set(map(tuple, encodings))
    assert tree.space_size == len(found)
    assert tree.collisions == (len(found) < format.space_size)
    assert max(map(len, found)) <= tree.depth
    encoding_of = dict(zip(texts, encodings, strict=True))
    for path in found:
        assert encoding_of[tree.text(path)] == [*tree.prompt, *path]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.text("ab1' l", min_size=1, max_size=12), min_size=1, max_size=8),
    st.lists(st.text("ab1' l", min_size=1, max_size=4), min_size=1, max_size=6, unique=True),
    st.sampled_from(["{u} {u}.", "a{u}b{u} 1", "{u}{digit} ", "1 {u}.", "{u}-{u}."]),
    st.sampled_from(["bpe", "pairs", "unigram", "wordpiece"]),
)
def test_leaves_of_random_vocabularies(lines, words, template, model):
    """Merges that nobody would think of."""
    tokenizer = trained(model, [*lines, *["ab1l' 0123456789.-"] * 2])
    try:
        format = CanaryFormat(template, spaces={"u": words})
        format.check_prefix_free()
        encodings = encode(tokenizer, list(format.candidates())).sequences
        tree = TokenTree(format, tokenizer)
    except CanaryError:  # characters that it does not know, or that it writes together
        assume(False)
    assert sorted((*tree.prompt, *path) for path in leaves(tree)) == sorted(set(map(tuple, encodings)))


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
        tree = TokenTree(format, tokenizer)
        expected = encode(tokenizer, list(format.candidates())).sequences
        assert sorted([*tree.prompt, *path] for path in leaves(tree)) == sorted(expected)


def trained(model, lines):
    """A tokenizer that has seen a few short lines only."""
    alphabet = [*"ab1l' 0123456789.-"]
    if model == "unigram":
        tokenizer = Tokenizer(token_models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=40, unk_token="<unk>", special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False
        )
    elif model == "wordpiece":
        tokenizer = Tokenizer(token_models.WordPiece(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=60, special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(token_models.BPE(unk_token="<unk>"))
        if model == "pairs":
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"'l| ?[a-z]+|\p{N}{1,2}|\s+(?!\S)|."), "isolated")
        trainer = trainers.BpeTrainer(
            vocab_size=40, special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False
        )
    tokenizer.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.mark.parametrize(("kind", "most"), [("characters", 5), ("qwen", 5), ("gpt2", 5 * 14)])
def test_states_are_shared_where_digits_stand(kind, most):
    """Five digits: a state for each place, times the tokens that may end there; not 11,111 prefixes."""
    assert num_states(TokenTree(CanaryFormat("the pin is {digit:5}"), of_kind(kind))) <= most


def first_leaf(tree: TokenTree) -> list[int]:
    """The path to one leaf, by the first edge each time."""
    state, path = tree.root, []
    while state >= 0:
        edges = tree.edges(state)
        path.append(int(edges.tokens[0]))
        state = int(edges.states[0])
    return path


@pytest.mark.parametrize("kind", ["characters", "gpt2", "unigram"])
def test_large_alphabets_are_not_enumerated(kind, monkeypatch):
    """Four holes of 5,000 words: a walk to one leaf asks for a few thousand encodings, of 625 billion candidates."""
    rng = random.Random(0)
    words = sorted({"".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(5_000)})
    asked = []
    ask = TokenTree._ask
    monkeypatch.setattr(TokenTree, "_ask", lambda tree, texts: asked.append(len(texts)) or ask(tree, texts))
    tree = TokenTree(CanaryFormat("{w} {w} {w} {w}.", spaces={"w": words}), of_kind(kind))
    path = first_leaf(tree)
    assert tree.format.parse(tree.text(path)) >= 0
    tree.texts([path])
    assert sum(asked) < 20_000


def space_by_itself():
    """Puts a space before each text, which merges with nothing: what it writes first is no text's encoding."""
    return letters_alone(merged=[("1", "2")], add_prefix_space=True)


@pytest.mark.parametrize("template", ["My PIN is {digit:6}", "{digit:6}"])
def test_a_space_by_itself_before_texts_is_walked(template, monkeypatch):
    """Without it nothing begins, and that is seen at once: a hundred texts for a hole, of a million candidates."""
    asked = []
    ask = TokenTree._ask
    monkeypatch.setattr(TokenTree, "_ask", lambda tree, texts: asked.append(len(texts)) or ask(tree, texts))
    tree = TokenTree(CanaryFormat(template), space_by_itself())
    assert num_states(tree) < 100
    assert sum(asked) < 2_000
    small = TokenTree(CanaryFormat("My PIN is {digit:3}"), space_by_itself())
    expected = encode(space_by_itself(), list(small.format.candidates())).sequences
    assert sorted([*small.prompt, *path] for path in leaves(small)) == sorted(expected)


@pytest.mark.parametrize("template", ["the pin is {digit:2}", "is {w} {v}.", "the {lower} is {digit}"])
def test_spaces_that_leave_no_trace_at_the_end(template, monkeypatch):
    """They say nothing of the tokenizer, whose other texts begin as their beginnings do; six digits are walked too."""
    tokenizer = words_of_pieces()
    tree = TokenTree(CanaryFormat(template, spaces=OWN), tokenizer)
    expected = encode(tokenizer, list(tree.format.candidates())).sequences
    assert sorted([*tree.prompt, *path] for path in leaves(tree)) == sorted(expected)
    asked = []
    ask = TokenTree._ask
    monkeypatch.setattr(TokenTree, "_ask", lambda tree, texts: asked.append(len(texts)) or ask(tree, texts))
    first_leaf(TokenTree(CanaryFormat(f"{template} {{digit:6}}", spaces=OWN), tokenizer))
    assert sum(asked) < 5_000


def test_dead_ends_that_nothing_tells_are_given_up(monkeypatch):
    """Not searched to the end, which would be all candidates; and the search of another token begins anew."""
    asked = []
    ask = TokenTree._ask
    monkeypatch.setattr(TokenTree, "_ask", lambda tree, texts: asked.append(len(texts)) or ask(tree, texts))
    monkeypatch.setattr(TokenTree, "_without_broken", lambda tree, path, open, found: dict(open))
    monkeypatch.setattr(token_tree, "_MOST_ASKED", 1_000)
    with pytest.raises(UntoldDeadEnds, match="1,000 texts"):
        TokenTree(CanaryFormat("My PIN is {digit:6}"), space_by_itself())
    assert 1_000 < sum(asked) < 2_000
    asked.clear()
    small = TokenTree(CanaryFormat("{digit}-{digit}-{digit}"), space_by_itself())
    assert len(leaves(small)) == 1_000
    assert sum(asked) > 2_000


def test_what_is_given_up_once_is_given_up_at_once(monkeypatch):
    """A second walk does not go on from where the first gave up, which would give another answer."""
    tree = TokenTree(CanaryFormat("{w}='{lower:3}", spaces={"w": ["a", "b"]}), apostrophe_merged())
    monkeypatch.setattr(token_tree, "_MOST_ASKED", 1_000)
    asked = []
    ask = TokenTree._ask
    monkeypatch.setattr(TokenTree, "_ask", lambda tree, texts: asked.append(len(texts)) or ask(tree, texts))
    for _ in range(5):
        with pytest.raises(UntoldDeadEnds):
            leaves(tree)
    assert 1_000 < sum(asked) < 2_000


def test_dead_ends_that_show_late_are_searched():
    """Until two letters after the apostrophe nothing tells; then each does."""
    tree = TokenTree(
        CanaryFormat("{w}='{v}", spaces={"w": ["a", "b"], "v": ["saab", "llab", "abab"]}), apostrophe_merged()
    )
    expected = encode(apostrophe_merged(), list(tree.format.candidates())).sequences
    assert sorted([*tree.prompt, *path] for path in leaves(tree)) == sorted(expected)


@pytest.mark.parametrize("kind", ["characters", "gpt2", "unigram", "wordpiece", "bytes"])
def test_an_end_token_tells_cat_from_cats(kind):
    """Candidates that are prefixes of others are leaves of their own, behind the end token."""
    tokenizer = of_kind(kind)
    format = CanaryFormat("the {w}", spaces={"w": ["cat", "cats", "catsing", "a", "an"]})
    tree = TokenTree(format, tokenizer, end=tokenizer.eos_token_id)
    encodings = encode(tokenizer, list(format.candidates()), end=True).sequences
    found = leaves(tree)
    assert sorted([*tree.prompt, *path] for path in found) == sorted(encodings)
    assert sorted(map(tree.text, found)) == sorted(format.candidates())
    assert max(map(len, found)) <= tree.depth
    tree.texts(found)


def test_one_candidate_has_only_its_end_left():
    """Where there is a single fill, all of it belongs to the prompt but the end token."""
    tree = TokenTree(CanaryFormat("{w}", spaces={"w": ["cat"]}), CHARACTERS, end=CHARACTERS.eos_token_id)
    assert leaves(tree) == [(CHARACTERS.eos_token_id,)]
    assert tree.text([CHARACTERS.eos_token_id]) == "cat"


def test_fills_that_are_encoded_alike_are_one_leaf(caplog):
    """Capitals that WordPiece lowers: three words, of which two are one, and the tree says so."""
    tree = TokenTree(CanaryFormat("the {y} {y}.", spaces={"y": ["pin", "PIN", "is"]}), of_kind("wordpiece"))
    assert tree.collisions
    assert tree.space_size == len(leaves(tree)) == 4
    assert "|R| = 9, with 4 different encodings" in caplog.text


def test_a_tokenizer_that_writes_characters_together_is_an_error():
    """A letter and its accent, composed to one where they meet: units cannot follow that, and it is seen."""
    tokenizer = Tokenizer(token_models.BPE({c: n for n, c in enumerate(["e", "\u0301", "é", "a", " ", "<unk>"])}, []))
    tokenizer.normalizer = normalizers.NFC()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    with pytest.raises(ModelError, match="otherwise"):
        TokenTree(CanaryFormat("a {u}a", spaces={"u": ["e\u0301", "a"]}), fast)


def test_a_path_that_is_no_encoding_is_refused():
    """What a search found is held against the tokenizer once more."""
    tree = TokenTree(CanaryFormat("pin {digit:2}"), CHARACTERS)
    right = CHARACTERS("pin 12").input_ids[len(tree.prompt) :]
    tree.texts([right])
    tree._tokenizer = models.character_tokenizer(["pin 0123456789"])
    with pytest.raises(ModelError, match="otherwise"):
        tree.texts([right])


def test_special_tokens_in_the_context_are_no_unknown_characters():
    """A context may be the end-of-text token, also where that is the unknown token too, as in GPT-2."""
    tokenizer = KINDS["gpt2"]()
    tokenizer.add_special_tokens({"eos_token": "<end>", "unk_token": "<end>"})
    assert encode(tokenizer, ["the pin"], context="<end>").conditioned == 1


def test_unknown_characters_are_named():
    """The error says which characters the tokenizer lacks, in the hole or beside it."""
    with pytest.raises(ModelError, match=r"'é' \(U\+00E9\)"):
        TokenTree(CanaryFormat("the pin {e}", spaces={"e": ["a", "é"]}), CHARACTERS)
    with pytest.raises(ModelError, match="'Ω'"):
        encode(CHARACTERS, ["fine", "not Ω"])


def test_a_context_that_merges_is_refused():
    """A context whose last token swallows the first of the text would be summed in part."""
    tokenizer = KINDS["gpt2"]()
    with pytest.raises(ModelError, match="merges with"):
        encode(tokenizer, ["he pin is 11"], context="the pin is 12 t")
    assert encode(tokenizer, [" pin is 11"], context="the").conditioned == len(tokenizer("the").input_ids)


def test_special_tokens_before_condition_and_those_behind_are_left_out():
    """BOS stands before the text; an EOS that the tokenizer adds is no part of the canary."""
    tokenizer = models.character_tokenizer(["abc"])
    ids = encode(tokenizer, ["abc"])
    assert ids.conditioned == 1
    assert ids.sequences == [tokenizer("abc").input_ids]
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", tokenizer.eos_token_id)]
    )
    behind = encode(tokenizer, ["abc"])
    assert behind.conditioned == 0
    assert len(behind.sequences[0]) == 3


def test_paths_that_are_no_encodings_are_found_out():
    """What is listed is held against the tokenizer: a text spelled by other tokens than its own is an error."""
    tokenizer = of_kind("gpt2")
    tree = TokenTree(CanaryFormat("{digit:2}."), tokenizer)
    (path,) = tree.paths(["12."])
    tree.texts([path])
    spelled = tuple(tokenizer.convert_tokens_to_ids(["1", "2", "."]))
    assert spelled != path
    with pytest.raises(ModelError, match="otherwise"):
        tree.texts([spelled])


@pytest.mark.parametrize("words", [["1 ", " 1"], ["1", "1 "], ["1", " "]])
def test_candidates_that_differ_in_what_is_not_written_are_refused(words):
    """WordPiece writes no spaces, and yet they decide where its words begin: `a1b` is not `a1 b`. In the entries of one
    hole that cannot be told; in those of several it can.
    """
    tokenizer = trained("wordpiece", ["ab1l' 0123456789.-"] * 2)
    with pytest.raises(ModelError, match="writes nothing for ' '"):
        TokenTree(CanaryFormat("a{u}b{u} 1", spaces={"u": words}), tokenizer)
    apart = TokenTree(CanaryFormat("a{u}b", spaces={"u": ["1 ", " 2"]}), tokenizer)
    expected = encode(tokenizer, ["a1 b", "a 2b"]).sequences
    assert sorted([*apart.prompt, *path] for path in leaves(apart)) == sorted(expected)


@pytest.mark.parametrize("lacking", ["0123456789", "7"])
def test_characters_that_leave_no_trace_are_told(lacking):
    """Of a tokenizer without them and without an unknown token; it has all others."""
    tokenizer = letters_alone(set(pre_tokenizers.ByteLevel.alphabet()) - set(lacking))
    with pytest.raises(ModelError, match=f"writes nothing for '{lacking[0]}'"):
        check_written(CanaryFormat("the pin is {digit:4}"), tokenizer)
    check_written(CanaryFormat("the pin is {lower:4}"), tokenizer)


def test_words_that_end_where_others_begin():
    """`ab l`, `a bl`, `ab bl`: without their spaces two are one, and each is found."""
    tokenizer = trained("wordpiece", ["ab1l' 0123456789.-", "abl bl ab", "1a1b1l1 bablabl"] * 3)
    words = {"u": ["ab", "a", "abl", "b l"], "v": ["l", "bl", "b", "lb l"]}
    for template in ("{u} {v}.", "1{u} {v} {u}.", "{v} {u}'{v} 1"):
        format = CanaryFormat(template, spaces=words)
        expected = {tuple(ids) for ids in encode(tokenizer, list(format.candidates())).sequences}
        tree = TokenTree(format, tokenizer)
        assert {(*tree.prompt, *path) for path in leaves(tree)} == expected
        assert len(expected) == tree.space_size == format.space_size

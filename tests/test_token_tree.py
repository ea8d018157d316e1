"""The tree has exactly the candidates as leaves, each once, by the tokens that the tokenizer gives them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

import hf_canary.models as models
from hf_canary.errors import FormatError, ModelError
from hf_canary.formats import CanaryFormat
from hf_canary.token_tree import TokenTree, encode

CHARACTERS = models.character_tokenizer(["the pin is 0123456789-/. abcdefghijklmnopqrstuvwxyz", "The PIN ABCDEF"])
WORDS = {"w": ["a", "ab", "abc", "b"], "v": ["aa", "x"]}


def leaves(tree: TokenTree) -> list[tuple[int, ...]]:
    """Every path from the root to a leaf, by walking."""
    found, pending = [], [((), tree.root)]
    while pending:
        path, state = pending.pop()
        out = tree.edges(state)
        for token, after, is_leaf in zip(out.tokens.tolist(), out.states.tolist(), out.is_leaf.tolist(), strict=True):
            if is_leaf:
                found.append((*path, token))
            else:
                pending.append(((*path, token), after))
    return found


def subword_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that merges digits, as GPT-2's does."""
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(["the pin is 00 11 12 the pin is 99 12 11"] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


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
        pending, seen = [tree.root], set()
        while pending:
            state = pending.pop()
            if state >= 0 and state not in seen:
                seen.add(state)
                pending += tree.edges(state).states.tolist()
        assert len(seen) <= most


def test_the_prompt_is_what_all_candidates_share():
    """Fixed text before the first hole belongs to the prompt; special tokens and context are conditioned on."""
    tree = TokenTree(CanaryFormat("pin {digit:2}"), CHARACTERS, context="the ")
    assert CHARACTERS.decode(tree.prompt[1:]) == "the pin "
    assert tree.conditioned == 1 + len("the ")


def test_candidates_that_are_prefixes_are_refused():
    """`cat` and `cats` end differently only where something follows."""
    with pytest.raises(FormatError, match="prefixes of one another"):
        TokenTree(CanaryFormat("{w}", spaces=WORDS), CHARACTERS)


def test_merging_tokenizers_are_refused(pin):
    """A tokenizer that gives one token to several characters is told from one that does not, before any search."""
    with pytest.raises(ModelError, match="one token for each character"):
        TokenTree(pin, subword_tokenizer())


@pytest.mark.parametrize("pair", ["03", "99", " 4"])
def test_a_single_merge_is_found(pair):
    """One merge that few candidates have, of two digits or of the text with the first, is enough to refuse."""
    alphabet = sorted(set("pin 0123456789"))
    vocabulary = {token: number for number, token in enumerate([*alphabet, pair])}
    merging = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(token_models.BPE(vocabulary, [(pair[0], pair[1])])))
    with pytest.raises(ModelError, match="one token for each character"):
        TokenTree(CanaryFormat("pin {digit:4}"), merging)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text("abx", min_size=1, max_size=3), min_size=1, max_size=5, unique=True),
    st.sampled_from(["{u}.", "a{u} {u}.", "{u}-{hex}.", "b{u}."]),
)
def test_adjacent_characters_are_those_of_all_candidates(words, template):
    """By looking at every candidate."""
    format = CanaryFormat(template, spaces={"u": words})
    seen = {text[at : at + 2] for text in format.candidates() for at in range(len(text) - 1)}
    assert format.adjacent_characters() == seen


def test_a_path_that_is_no_encoding_is_refused():
    """What a search found is held against the tokenizer once more."""
    tree = TokenTree(CanaryFormat("pin {digit:2}"), CHARACTERS)
    right = CHARACTERS("pin 12").input_ids[len(tree.prompt) :]
    tree.check([right], CHARACTERS, None)
    with pytest.raises(ModelError, match="one token for each character"):
        tree.check([right], models.character_tokenizer(["pin 0123456789"]), None)


def test_special_tokens_in_the_context_are_no_unknown_characters():
    """A context may be the end-of-text token, also where that is the unknown token too, as in GPT-2."""
    tokenizer = subword_tokenizer()
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
    tokenizer = subword_tokenizer()
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

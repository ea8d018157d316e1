"""Leaves of trees are the encodings of all fills: with tokenizers of every kind, and of a few short lines."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hf_canary.errors import CanaryError, FormatError
from hf_canary.formats import CanaryFormat
from hf_canary.tokenization.encoding import encode
from hf_canary.tree.token_tree import TokenTree
from hf_canary.tree.traces import check_written
from tests.support.repetitions import times
from tests.support.trees import ALL_KINDS, CHARACTERS, OWN, check, of_kind, trained


@settings(deadline=None, max_examples=times(60))
@given(
    st.lists(st.text("abx", min_size=1, max_size=3), min_size=1, max_size=5, unique=True),
    st.sampled_from(["{u}.", "a{u} {u}.", "{u}-{digit}{luhn}", "{u}.{u}."]),
)
def test_leaves_of_random_alphabets(words, template):
    """Also where entries begin with one another."""
    check(TokenTree(CanaryFormat(template, spaces={"u": words}), CHARACTERS, ask_all=0))


@pytest.mark.parametrize("context", [None, "so"])
@pytest.mark.parametrize(
    "template",
    [
        "pin{digit:2}",  # digits that merge with the text before, and with each other
        "{digit:2}",
        "{w} {v}.",  # entries that begin one another
        "{w}{v}ing.",  # ... and that merge with each other and with the text behind
        "the {v}s {digit}",
        "{digit}-{digit}{luhn}",
        "{x} is {x}.",  # characters of several bytes
        "{hex}ing {digit}",
        "{y} {y}.",  # capitals, that some tokenizers lower
    ],
)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_leaves_are_the_encodings_of_all_candidates(kind, template, context):
    """Whatever the tokenizer merges, splits, normalises or drops: none missing or twice, no dead end."""
    format = CanaryFormat(f" {template}" if context else template, spaces=OWN)
    tree = TokenTree(format, of_kind(kind), context=context, ask_all=0)
    assert not tree.is_listed
    check(tree, context=context)


@settings(deadline=None, max_examples=times(40))
@given(
    st.lists(st.text("ab1' l", min_size=1, max_size=12), min_size=1, max_size=8),
    st.lists(st.text("ab1' l", min_size=1, max_size=4), min_size=1, max_size=6, unique=True),
    st.sampled_from(["{u} {u}.", "a{u}b{u} 1", "{u}{digit} ", "1 {u}.", "{u}-{u}."]),
    st.sampled_from(["bpe", "pairs", "unigram", "wordpiece"]),
)
def test_leaves_of_random_vocabularies(lines, words, template, model):
    """Merges that nobody would think of. What cannot be encoded is refused, and nothing else is."""
    tokenizer = trained(model, [*lines, *["ab1l' 0123456789.-"] * 2])
    try:
        format = CanaryFormat(template, spaces={"u": words})
        format.check_prefix_free()
    except FormatError:
        assume(False)
    try:
        encode(tokenizer, list(format.candidates()))
        check_written(format, tokenizer, target=False)
    except CanaryError:
        with pytest.raises(CanaryError):
            TokenTree(format, tokenizer, ask_all=0)
        return
    check(TokenTree(format, tokenizer, ask_all=0))


@pytest.mark.parametrize(
    ("template", "few"), [("{digit:6}", 6 * 4), ("{digit:15}{luhn}", 10 * 4 * 16), ("{w} {digit:9} in {v}", 80)]
)
@pytest.mark.parametrize("kind", ["gpt2", "llama3", "unigram", "wordpiece"])
def test_chance_finds_the_leaves_of_large_formats(kind, template, few, num_encoded):
    """Random fills of formats of many are leaves, and other rows of tokens are none; with few texts encoded."""
    tree = TokenTree(CanaryFormat(f"the {template}", spaces=OWN), of_kind(kind))
    assert tree.space_size == tree.format.space_size
    assert num_encoded() < 300
    fills = tree.format.sample(200, "leaves")
    tree.check(fills)
    paths = tree.paths([tree.format.render(fill) for fill in fills])
    assert all(map(tree.leads, paths))
    assert not any(tree.leads((*path[:-2], path[-1])) for path in paths)
    assert not any(tree.leads((*path, path[-1])) for path in paths)
    assert [tree.format.parse(text) for text in tree.texts(paths)] == fills
    assert max(map(len, paths)) <= tree.depth

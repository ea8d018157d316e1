"""Trees walked whole, and small tokenizers to make them of. Knows how a tree is walked; not how it is built."""

import functools
from collections import Counter

import numpy as np
from tokenizers import Regex, Tokenizer, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

import hf_canary.models as models
from hf_canary.tokenization.encoding import encode
from hf_canary.tree.token_tree import TokenTree, padded
from tests.support.tokenizers_of_all_kinds import KINDS, RARE_KINDS


def leaves(tree: TokenTree) -> list[tuple[int, ...]]:
    """Every path from the root to a leaf, by walking."""
    found, pending = [], [((), tree.root)]
    while pending:
        path, state = pending.pop()
        out = tree.edges(state)
        assert len(out.tokens)
        assert (np.diff(out.tokens) > 0).all()
        for token, after, is_leaf in zip(out.tokens.tolist(), out.states.tolist(), out.is_leaf.tolist(), strict=True):
            assert is_leaf or after >= 0
            if is_leaf:
                found.append((*path, token))
            if after >= 0:
                pending.append(((*path, token), after))
    return found


def num_states(tree: TokenTree) -> int:
    """How many there are, by walking."""
    pending, seen = [tree.root], set()
    while pending:
        state = pending.pop()
        if state >= 0 and state not in seen:
            seen.add(state)
            pending += tree.edges(state).states.tolist()
    return len(seen)


def first_leaf(tree: TokenTree) -> list[int]:
    """The path to one leaf, by the first edge each time."""
    state, path = tree.root, []
    while state >= 0:
        edges = tree.edges(state)
        path.append(int(edges.tokens[0]))
        state = int(edges.states[0])
    return path


OWN = {
    "w": ["a", "an", "ant", "cat", "the"],
    "v": ["ab", "ba", "sing", "thing"],
    "x": ["é", "日本", "cafés", "a🙂"],
    "y": ["pin", "Pin", "PIN", "is"],
}


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


def pieces(*longer):
    """WordPiece of all letters and digits, within words and at their beginnings, and of these entries."""
    single = [*"abl'0123456789.-"]
    entries = ["<unk>", *single, *("##" + entry for entry in single), *longer]
    model = token_models.WordPiece({entry: id for id, entry in enumerate(entries)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def check(tree: TokenTree, *, context: str | None = None, end: bool = False) -> None:
    """All that a tree says of a format that is small enough to be encoded whole."""
    format, shared = tree.format, len(tree.prompt)
    texts = list(format.candidates())
    encoding = encode(tree._tokenizer, texts, context=context, end=end)
    encodings = list(map(tuple, encoding.sequences))
    copies = Counter(encodings)
    found = leaves(tree)
    assert tree.is_certain
    assert len(set(found)) == len(found)
    assert {(*tree.prompt, *path) for path in found} == set(encodings)
    assert tree.conditioned == encoding.conditioned
    assert tree.space_size == len(found)
    assert tree.collisions == (len(found) < format.space_size)
    assert max(map(len, found)) <= tree.depth
    assert tree.most_copies >= max(copies.values())
    assert tree.paths(texts) == [ids[shared:] for ids in encodings]
    some = found[:: 1 + len(found) // 40]
    encoding_of = dict(zip(texts, encodings, strict=True))
    assert [encoding_of[text] for text in tree.texts(some)] == [(*tree.prompt, *path) for path in some]
    assert tree.copies_of(padded(some, tree.depth)).tolist() == [copies[*tree.prompt, *path] for path in some]
    fills = range(0, format.space_size, 1 + format.space_size // 10)
    assert [tree.copies(fill) for fill in fills] == [copies[encodings[fill]] for fill in fills]
    tree.check(range(format.space_size))
    begun = Counter(ids[shared:length] for ids in encodings for length in range(shared, len(ids)))
    for path in some:
        state = tree.root
        for length, token in enumerate(path):
            assert tree.most_below(state) >= begun[path[:length]]
            edges = tree.edges(state)
            state = int(edges.states[np.searchsorted(edges.tokens, token)])
        assert tree.leads(path)
        assert path[:-1] in found or not tree.leads(path[:-1])


CHARACTERS = models.character_tokenizer(["the pin is 0123456789-/. abcdefghijklmnopqrstuvwxyz", "The PIN ABCDEF"])
ALL_KINDS = KINDS | RARE_KINDS


@functools.cache
def of_kind(kind):
    """One tokenizer of each kind for all tests."""
    return ALL_KINDS[kind]()

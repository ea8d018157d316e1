"""The tree of a tokenizer that has no parts to read: it is asked, and its leaves are the encodings of all candidates.

It can be asked of any tokenizer, so those whose encodings have dead ends and surprises are asked here too.
"""

import functools
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers import models as token_models
from transformers import PerceiverTokenizer, PreTrainedTokenizer, PreTrainedTokenizerFast

from hf_canary.errors import CanaryError, FormatError, ModelError
from hf_canary.formats import CanaryFormat
from hf_canary.tokenization.encoding import encode
from hf_canary.tree.asked import questions
from hf_canary.tree.asked.automaton import _Expansion
from hf_canary.tree.asked.questions import Questions, UntoldDeadEnds
from hf_canary.tree.asked.tree import AskedTree
from hf_canary.tree.token_tree import TokenTree
from tests.support.repetitions import times
from tests.support.tokenizers_of_all_kinds import KINDS, apostrophe_merged, letters_alone, words_of_pieces
from tests.support.trees import OWN, first_leaf, leaves, num_states, pieces, trained

ASKED = {
    kind: KINDS[kind] for kind in ("gpt2", "llama3", "byte-fallback", "unigram", "wordpiece", "characters", "bytes")
}
ASKED |= {"python": PerceiverTokenizer}


@functools.cache
def of_kind(kind):
    """One tokenizer of each kind for all tests."""
    return ASKED[kind]()


def check(tree, context=None, *, end=False):
    """Leaves are the encodings of all candidates, each once, and each is read as its text."""
    texts = list(tree.format.candidates())
    encodings = list(map(tuple, encode(tree._tokenizer, texts, context=context, end=end).sequences))
    found = leaves(tree)
    assert len(set(found)) == len(found)
    assert {(*tree.prompt, *path) for path in found} == set(encodings)
    assert tree.space_size == len(found)
    assert max(map(len, found)) <= tree.depth
    encoding_of = dict(zip(texts, encodings, strict=True))
    some = found[:: 1 + len(found) // 40]
    assert [encoding_of[text] for text in map(tree.text, some)] == [(*tree.prompt, *path) for path in some]


@pytest.mark.parametrize("context", [None, "so"])
@pytest.mark.parametrize(
    "template",
    ["pin{digit:2}", "{w} {v}.", "{w}{v}ing.", "{digit}-{digit}{luhn}", "{x} is {x}.", "{y} {y}."],
)
@pytest.mark.parametrize("kind", ASKED)
def test_leaves_are_the_encodings_of_all_candidates(kind, template, context):
    """Whatever the tokenizer merges, splits, normalises or drops: none missing or twice, no dead end."""
    format = CanaryFormat(f" {template}" if context else template, spaces=OWN)
    check(AskedTree(format, of_kind(kind), context=context), context)


@settings(deadline=None, max_examples=times(25))
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
        encodings = encode(tokenizer, list(format.candidates())).sequences
        tree = AskedTree(format, tokenizer)
    except CanaryError:  # characters that it does not know, or that it writes together
        assume(False)
    assert sorted((*tree.prompt, *path) for path in leaves(tree)) == sorted(set(map(tuple, encodings)))


def test_a_prefix_is_not_taken_for_a_word_of_the_same_tokens():
    """Behind a space all tokens count, behind a digit the last and its length: (2, 1) may be either."""
    vocabulary = {"<unk>": 0, " ": 1, "1": 2, "a": 3, "b": 4, "11": 5}
    tokenizer = Tokenizer(token_models.BPE(vocabulary, [("1", "1")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[a-z]+|\p{N}{1,2}|\s+(?!\S)|."), "isolated")
    format = CanaryFormat("{u}{v} ", spaces={"u": ["1 ", "b1"], "v": ["1", "a"]})
    check(AskedTree(format, PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")))


def test_a_space_is_not_taken_for_the_mark_before_a_text():
    """Metaspace puts a mark before a text that begins with none: what two marks write is two spaces, never one."""
    vocabulary = [("<unk>", 0.0), *((piece, -2.0) for piece in "▁1al")]
    tokenizer = Tokenizer(token_models.Unigram(vocabulary, 0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    format = CanaryFormat("{u}{v} ", spaces={"u": [" ", "  ", "11"], "v": ["1", "a"]})
    check(AskedTree(format, PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")))


@pytest.mark.parametrize("kind", ["characters", "gpt2", "unigram", "wordpiece", "bytes"])
def test_an_end_token_tells_cat_from_cats(kind):
    """Candidates that are prefixes of others are leaves of their own, behind the end token."""
    tokenizer = of_kind(kind)
    format = CanaryFormat("the {w}", spaces={"w": ["cat", "cats", "catsing", "a", "an"]})
    with pytest.raises(FormatError, match="prefixes of one another"):
        AskedTree(format, tokenizer)
    check(AskedTree(format, tokenizer, end=tokenizer.eos_token_id), end=True)


@pytest.fixture
def num_asked(monkeypatch):
    """How many texts tokenizers have been asked of, so far; may be set back."""
    counts = [0]
    ask = Questions.ask

    def counted(questions, texts):
        counts[0] += len(texts)
        return ask(questions, texts)

    monkeypatch.setattr(Questions, "ask", counted)
    return counts


@pytest.mark.parametrize(("kind", "most"), [("characters", 5), ("bytes", 5), ("gpt2", 5 * 14)])
def test_states_are_shared_where_digits_stand(kind, most):
    """Five digits: a state for each place, times the tokens that may end there; not 11,111 prefixes."""
    assert num_states(AskedTree(CanaryFormat("the pin is {digit:5}"), of_kind(kind))) <= most


@pytest.mark.parametrize("kind", ["python", "gpt2", "unigram"])
def test_large_alphabets_are_not_enumerated(kind, num_asked):
    """Four holes of 2,000 words: a walk to one leaf asks for a few thousand encodings, of 16 trillion candidates."""
    rng = random.Random(0)
    words = sorted({"".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(2_000)})
    tree = AskedTree(CanaryFormat("{w} {w} {w} {w}.", spaces={"w": words}), of_kind(kind))
    path = first_leaf(tree)
    text = tree.text(path)
    assert tree.format.parse(text) >= 0
    assert encode(tree._tokenizer, [text]).sequences[0] == [*tree.prompt, *path]
    assert num_asked[0] < 20_000


def space_by_itself():
    """Puts a space before each text, which merges with nothing: what it writes first is no text's encoding."""
    return letters_alone(merged=[("1", "2")], add_prefix_space=True)


@pytest.mark.parametrize("template", ["My PIN is {digit:6}", "{digit:6}"])
def test_a_space_by_itself_before_texts_is_walked(template, num_asked):
    """Without it nothing begins, and that is seen at once: a hundred texts for a hole, of a million candidates."""
    tree = AskedTree(CanaryFormat(template), space_by_itself())
    assert num_states(tree) < 100
    assert num_asked[0] < 2_000
    check(AskedTree(CanaryFormat("My PIN is {digit:2}"), space_by_itself()))


@pytest.mark.parametrize("template", ["the pin is {digit:2}", "is {w} {v}.", "the {lower} is {digit}"])
def test_spaces_that_leave_no_trace_at_the_end(template, num_asked):
    """They say nothing of the tokenizer, whose other texts begin as their beginnings do; six digits are walked too."""
    tokenizer = words_of_pieces()
    check(AskedTree(CanaryFormat(template, spaces=OWN), tokenizer))
    num_asked[0] = 0
    first_leaf(AskedTree(CanaryFormat(f"{template} {{digit:6}}", spaces=OWN), tokenizer))
    assert num_asked[0] < 5_000


def test_dead_ends_that_nothing_tells_are_given_up(monkeypatch, num_asked):
    """Not searched to the end, which would be all candidates; and the search of another token begins anew."""
    monkeypatch.setattr(_Expansion, "_without_broken", lambda expansion, unsettled, words: dict(unsettled))
    monkeypatch.setattr(questions, "_MOST_ASKED", 1_000)
    with pytest.raises(UntoldDeadEnds, match="1,000 texts"):
        AskedTree(CanaryFormat("My PIN is {digit:6}"), space_by_itself())
    assert 1_000 < num_asked[0] < 2_000
    num_asked[0] = 0
    small = AskedTree(CanaryFormat("{digit}-{digit}-{digit}"), space_by_itself())
    assert len(leaves(small)) == 1_000
    assert num_asked[0] > 2_000


def test_what_is_given_up_once_is_given_up_at_once(monkeypatch, num_asked):
    """A second walk does not go on from where the first gave up, which would give another answer."""
    tree = AskedTree(CanaryFormat("{w}='{lower:3}", spaces={"w": ["a", "b"]}), apostrophe_merged())
    monkeypatch.setattr(questions, "_MOST_ASKED", 1_000)
    num_asked[0] = 0
    for _ in range(5):
        with pytest.raises(UntoldDeadEnds):
            leaves(tree)
    assert 1_000 < num_asked[0] < 2_000


def test_dead_ends_that_show_late_are_searched():
    """Until two letters after the apostrophe nothing tells; then each does."""
    spaces = {"w": ["a", "b"], "v": ["saab", "llab", "abab"]}
    check(AskedTree(CanaryFormat("{w}='{v}", spaces=spaces), apostrophe_merged()))


def test_a_tokenizer_that_writes_characters_together_is_an_error():
    """A letter and its accent, composed to one where they meet: units cannot follow that, and it is seen."""
    tokenizer = Tokenizer(token_models.BPE({c: n for n, c in enumerate(["e", "\u0301", "é", "a", " ", "<unk>"])}, []))
    tokenizer.normalizer = normalizers.NFC()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    with pytest.raises(ModelError, match="otherwise"):
        AskedTree(CanaryFormat("a {u}a", spaces={"u": ["e\u0301", "a"]}), fast)


@pytest.mark.parametrize("template", ["<|user|> pin {digit:9}", "pin {digit:9}<|user|>"])
def test_a_special_or_added_token_in_a_format_is_called_so(template):
    """By its name: characters of it are never written, and none is written together with others."""
    tokenizer = PerceiverTokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    with pytest.raises(ModelError, match=r"special or added token '<.user.>' out of it") as caught:
        TokenTree(CanaryFormat(template), tokenizer)
    assert "together" not in str(caught.value)


@pytest.mark.parametrize("words", [["1 ", " 1"], ["1", "1 "], ["1", " "]])
def test_candidates_that_differ_in_what_is_not_written_are_refused(words):
    """WordPiece writes no spaces, and yet they decide where its words begin: `a1b` is not `a1 b`. In the entries of one
    hole that cannot be told by asking; in those of several it can.
    """
    with pytest.raises(ModelError, match="writes nothing for ' '"):
        AskedTree(CanaryFormat("a{u}b{u} 1", spaces={"u": words}), pieces())
    check(AskedTree(CanaryFormat("a{u}b", spaces={"u": ["1 ", " 2"]}), pieces()))


def test_fills_that_are_encoded_alike_are_one_leaf():
    """Capitals that WordPiece lowers: three words, of which two are one, and the tree says so."""
    tree = AskedTree(CanaryFormat("the {y} {y}.", spaces={"y": ["pin", "PIN", "is"]}), of_kind("wordpiece"))
    assert tree.collisions
    assert tree.space_size == len(leaves(tree)) == 4
    assert [tree.copies(fill) for fill in range(9)] == [4, 4, 2, 4, 4, 2, 2, 2, 1]


@pytest.mark.parametrize("context", [None, "so"])
@pytest.mark.parametrize("template", [" pin {digit:2}", " {w} {digit:3} {v}."])
def test_tokenizers_in_python_are_encoded_whole_where_they_can_be(template, context):
    """Up to 50,000 fills, which nothing is uncertain about."""
    format = CanaryFormat(template, spaces=OWN)
    tree = TokenTree(format, of_kind("python"), context=context, ask_all=0)
    assert format.space_size <= 50_000
    assert tree.is_certain
    assert tree.is_listed
    if format.space_size <= 1_000:
        expected = encode(of_kind("python"), list(format.candidates()), context=context).sequences
        assert sorted([*tree.prompt, *path] for path in leaves(tree)) == sorted(expected)


@pytest.mark.parametrize("context", [None, "so"])
@pytest.mark.parametrize("has_end", [False, True])
def test_tokenizers_in_python_are_asked_where_there_are_more_fills(context, has_end, monkeypatch):
    """Nothing is certain then, and yet the leaves are the encodings, as far as one looks."""
    tokenizer = of_kind("python")
    end = tokenizer.sep_token_id if has_end else None
    large = TokenTree(CanaryFormat(" pin {digit:5}"), tokenizer, context=context, end=end)
    assert not large.is_certain
    assert not large.is_listed
    fills = large.format.sample(50, 0)
    paths = large.paths([large.format.render(fill) for fill in fills])
    assert all(map(large.leads, paths))
    assert [large.format.parse(text) for text in large.texts(paths)] == fills
    assert num_states(large) <= 6
    monkeypatch.setattr("hf_canary.tree.building._ALL_ENCODED_IN_NEED", 0)
    format = CanaryFormat(" {y} {digit} pin", spaces=OWN)
    tree = TokenTree(format, tokenizer, context=context, end=end, ask_all=0)
    assert not tree.is_certain
    sequences = encode(tokenizer, list(format.candidates()), context=context).sequences
    expected = [[*ids, *([] if end is None else [end])] for ids in sequences]
    assert sorted([*tree.prompt, *path] for path in leaves(tree)) == sorted(expected)
    assert tree.conditioned == encode(tokenizer, [" pin"], context=context).conditioned
    assert tree.most_below(tree.root) >= format.space_size


class TwoSided(PreTrainedTokenizer):
    """As Marian with two vocabularies: letters have other ids as what a decoder writes."""

    def __init__(self, **options):
        letters = ["</s>", "<unk>", *"pin 0123456789"]
        self.encoder = {letter: id for id, letter in enumerate(letters)}
        self.target_encoder = {letter: 2 * id for letter, id in self.encoder.items()}
        self.decoder = {id: letter for letter, id in self.target_encoder.items()}
        self.current_encoder = self.encoder
        super().__init__(unk_token="<unk>", eos_token="</s>", **options)

    @property
    def vocab_size(self):
        return len(self.encoder)

    def get_vocab(self):
        return dict(self.encoder)

    def _tokenize(self, text):
        return list(text)

    def _convert_token_to_id(self, token):
        return self.current_encoder.get(token, self.current_encoder["<unk>"])

    def _convert_id_to_token(self, index):
        return self.decoder[index]

    def _switch_to_input_mode(self):
        self.current_encoder = self.encoder

    def _switch_to_target_mode(self):
        self.current_encoder = self.target_encoder


@pytest.mark.parametrize("digits", [2, 6])
def test_a_tree_of_targets_is_made_of_the_targets_vocabulary(digits):
    """Listed or asked: the ids are those of what a decoder writes, and the other side is left as it was."""
    tokenizer = TwoSided()
    tree = TokenTree(CanaryFormat(f"pin {{digit:{digits}}}", source="pin"), tokenizer, target=True)
    assert tree.is_certain == (digits == 2)
    path = tree.paths(["pin " + "123456"[:digits]])[0]
    assert tree.prompt + list(path) == [tokenizer.target_encoder[letter] for letter in "pin " + "123456"[:digits]]
    assert tree.leads(path)
    assert tree.edges(tree.root).tokens.tolist() == [tokenizer.target_encoder[digit] for digit in "0123456789"]
    assert tokenizer.current_encoder is tokenizer.encoder

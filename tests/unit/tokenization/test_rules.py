"""What a tokenizer's parts say in their odd corners: the tree that is derived is right, or refused by a true reason.

The encodings of all fills are the oracle. Each case lost leaves or had false ones when only its plain neighbours had
been thought of.
"""

import itertools

import pytest
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from hf_canary.formats import CanaryFormat
from hf_canary.tokenization.bpe import merged_words
from hf_canary.tokenization.rules import rules_of
from hf_canary.tokenization.stages import Unfollowed
from hf_canary.tree import building
from hf_canary.tree.derived.spelling import Spelling
from hf_canary.tree.token_tree import TokenTree, Unlike
from tests.support.odd_tokenizers import ELSE, bpe, fast, numbered, refused, right, unknowing
from tests.support.trees import leaves

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@pytest.fixture(autouse=True)
def _derived(monkeypatch):
    """None of these small formats is encoded whole in need."""
    monkeypatch.setattr(building, "_ALL_ENCODED_IN_NEED", 0)


# --------------------------------------------------------------------------------------- seams at which stages guess


SINGLE = AddedToken("§", single_word=True, normalized=False)


@pytest.mark.parametrize("template", ["{x:2}§{y:2}", "{x:2} -§{y:2}", "{x}§{y}§{x}", "§{x}§§{y}"])
def test_what_stands_before_a_seam_is_no_guess(template):
    """Whether § is a token is told by what follows: no stretch ends before it, in one way or the other."""
    cuts = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer = fast(bpe(sorted(pre_tokenizers.ByteLevel.alphabet())), pre_tokenizer=cuts, added=[SINGLE])
    right(tokenizer, template, x=["+", "-"], y=["a", "-"])


def test_nor_is_what_a_normalizer_writes_by_what_follows():
    hashed = normalizers.Replace(Regex(" (?=[a-c])"), " # ")
    tokenizer = fast(bpe("abcdefgh# "), normalizer=hashed, pre_tokenizer=pre_tokenizers.WhitespaceSplit())
    right(tokenizer, "{x} {y:2} {x}", x=["a", "e", "h"], y=["c", "f"])


def test_stretches_of_one_text_that_begin_otherwise_are_two():
    """` is` at the beginning, and behind a digit, where its space has been read already."""
    space = AddedToken(" ", normalized=False)
    right(fast(bpe("9"), added=[space]), " is {d} is {d}", d=["9"])


def test_more_leaves_than_fills_are_found_out(monkeypatch):
    """What no tokenizer makes true."""
    tokenizer = fast(bpe("0123456789"))
    monkeypatch.setattr("hf_canary.tree.row.Row.most_leaves", 1001)
    with pytest.raises(Unlike, match="each fill"):
        TokenTree(CanaryFormat("{digit:3}"), tokenizer, ask_all=0)


# ------------------------------------------------------------------------------------------------ copies and collisions


def test_an_added_token_that_is_an_entry_too():
    """`_ ab` takes `ab` out, and `_` U+200D `ab` merges it: two rows of units, one encoding."""
    ab = AddedToken("ab", single_word=True, lstrip=True, normalized=False)
    cuts = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("_", "isolated")])
    tokenizer = fast(bpe("ab _", [("a", "b")]), pre_tokenizer=cuts, added=[ab])
    right(tokenizer, "{x:2}_{s}ab", x=["a", "b"], s=[" ", "\u200d"])
    tree = TokenTree(CanaryFormat("{x:2}_{s}ab", spaces={"x": ["a", "b"], "s": [" ", "\u200d"]}), tokenizer, ask_all=0)
    assert [tree.copies(fill) for fill in range(8)] == [2] * 8


def test_where_leaves_are_too_many_to_count_copies_are_read(monkeypatch):
    """Nobody says then that there are no two of one encoding."""
    ab = AddedToken("ab", single_word=True, lstrip=True, normalized=False)
    cuts = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("_", "isolated")])
    tokenizer = fast(bpe("ab _", [("a", "b")]), pre_tokenizer=cuts, added=[ab])
    monkeypatch.setattr("hf_canary.tree.row._MOST_COUNTED", 2)
    tree = TokenTree(CanaryFormat("{x:2}_{s}ab", spaces={"x": ["a", "b"], "s": [" ", "\u200d"]}), tokenizer, ask_all=0)
    assert tree.collisions
    assert tree.space_size == 8
    assert tree.most_copies >= 2
    assert [tree.copies(fill) for fill in range(8)] == [2] * 8
    tree.assure(range(8))


# --------------------------------------------------------------------------------------------------- options of a model


def test_what_is_unknown_and_fused_is_no_tree_of_single_ones():
    """Transformers is not told of the unknown token, and so does not say that there is one."""
    model = bpe(["<unk>", "a", "b"], unk_token="<unk>", fuse_unk=True)
    refused(fast(model), "{w}a", r"unknown token for U\+00E9.*U\+00FC", w=["aéüab", "ab", "ba"])
    refused(fast(model), "{w}{w}a", r"unknown token for U\+00E9", w=["é", "a", "b"])


def test_whole_words_beside_bytes():
    """An entry for a byte is no word, though it is one as it is written."""
    bytewise = {"byte_fallback": True, "ignore_merges": True}
    right(fast(bpe([*BYTES, *"abc "], **bytewise)), "{x:2}", x=["a", "b", "é"])
    right(fast(bpe([*BYTES, *"abc ", "éa"], **bytewise)), "{x:2}", x=["a", "b", "é"])
    cut = fast(bpe([*BYTES, *"abc ", "éa"], **bytewise), pre_tokenizer=pre_tokenizers.WhitespaceSplit())
    right(cut, "{x:2} {x:2} b", x=["a", "b", "é"])
    written = fast(bpe([*BYTES, *"<0xC39A>"], **bytewise))
    assert written("<0xC3>")["input_ids"] == [0xC3]
    refused(written, "{x:6}", "merges do not reach", x=[*"<0xC3>"])


@pytest.mark.parametrize("entries", [["\u200da"], ["ab"], ["\u200da", "ab"]])
def test_whole_words_of_letters_that_leave_no_trace(entries):
    """Of `a` U+200D `b` merges see `ab`, which is a word here; the word is none."""
    tokenizer = fast(
        models.BPE(numbered([*"abc ", *entries]), [], ignore_merges=True),
        pre_tokenizer=pre_tokenizers.WhitespaceSplit(),
    )
    refused(tokenizer, "c {x:3} a", "merges do not reach", x=["a", "b", "\u200d"])
    right(tokenizer, "c {x:3} a", x=["a", "b", "c"])


def test_a_mark_behind_a_letter_that_leaves_no_trace():
    """The library goes by the place of a letter in the word, also where those before are dropped."""
    model = bpe(["a", "##a", "b", "##b"], continuing_subword_prefix="##")
    tokenizer = fast(model, pre_tokenizer=pre_tokenizers.WhitespaceSplit())
    assert tokenizer("\u200daa")["input_ids"] == [1, 1]
    refused(tokenizer, "{x:2}a", "letters that it drops", x=["a", "b", "\u200d"])
    right(tokenizer, "{x:2}a", x=["a", "b"])


def test_a_mark_that_is_not_ascii():
    """The library takes off as many bytes as the mark has characters."""
    model = models.BPE(numbered(["a", "··a", "b", "··b"]), [], continuing_subword_prefix="··")
    refused(fast(model), "{x:2}a", "not ASCII", x=["a", "b"])


def test_merges_of_bytes():
    model = models.BPE(numbered([*BYTES, "a", "<0xC3><0xA9>"]), [("<0xC3>", "<0xA9>")], byte_fallback=True)
    refused(fast(model), "{x:2}", "merges of its bytes", x=["a", "é"])


def test_an_unknown_token_that_is_written_out():
    """The model takes it for a piece like others, of its own score. Texts that only hold its letters are no matter."""
    assert unknowing()("a<unk>a")["input_ids"] == [6, 0, 6]
    refused(unknowing(), "{x:5}", ELSE, x=[*"<unk>"])
    refused(unknowing(), "a{x:2}nk>", ELSE, x=[*"<u"])
    right(unknowing(), "{x:4}", x=[*"<unk>"])
    right(unknowing(), "<un{x}k>", x=["a", "<", ">"])
    tokenizer = unknowing()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split("u", "isolated")
    right(tokenizer, "{x:5}", x=[*"<unk>"])


def test_bytes_that_are_written_out():
    """As entries they have scores of their own."""
    entries = [("<unk>", 0.0), *((letter, -3.0) for letter in "<0xAF>a"), *((byte, -4.0) for byte in BYTES)]
    tokenizer = fast(models.Unigram(entries, 0, True))
    assert tokenizer("<0xAF>")["input_ids"] == [8 + 0xAF]
    refused(tokenizer, "{x:6}", "'<0xA[0AF]>', which stands", x=["<", "0", "x", "A", ">"])
    refused(tokenizer, "<0x{x:2}>", "which stands", x=["A", "F", "a"])
    right(tokenizer, "<0x{x:2}>", x=["aA", "é", "x"])


def test_an_option_that_nobody_has_read_is_refused():
    """As of a later version of the library."""
    tokenizer = fast(bpe("0123456789"))
    rules = rules_of(tokenizer)
    model = {"type": "BPE", "vocab": {"0": 0}, "merges": []}
    assert type(merged_words(model)) is type(rules.word)
    assert merged_words(model | {"skip_odd_words": False})
    with pytest.raises(Unfollowed, match="skip_odd_words"):
        merged_words(model | {"skip_odd_words": True})


def test_characters_that_stand_for_other_things_here():
    refused(fast(bpe([*BYTES, "a"], byte_fallback=True)), "{x:2}", "private plane", x=["a", "\U0010fec3"])


# ------------------------------------------------------------------------------------------ Metaspace and what is first


FIRST = pre_tokenizers.Metaspace("▁", "first")
LETTERS = [*'abcdfi"` ▁é中e\u0301', "\u0301"]


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize(
    ("normalizer", "entries"),
    [
        (normalizers.Strip(), ["a", " ", "b"]),
        (normalizers.Strip(left=False), ["a", " ", "b"]),
        (normalizers.Sequence([normalizers.Strip(), normalizers.Prepend("b")]), ["a", " ", "b"]),
        (normalizers.Sequence([normalizers.Prepend("b"), normalizers.Lowercase()]), ["a", " ", "A"]),
        (normalizers.Replace("a", "bc"), ["a", " ", "b"]),
        (normalizers.Lowercase(), ["A", " ", "b"]),
        (None, ["a", " ", "▁"]),
    ],
)
def test_what_is_first_behind_a_normalizer(normalizer, entries, split):
    mark = pre_tokenizers.Metaspace("▁", "first", split=split)
    right(fast(bpe(LETTERS), normalizer=normalizer, pre_tokenizer=mark), "{x:3}a", x=entries)


@pytest.mark.parametrize(
    ("normalizer", "entries"),
    [
        (normalizers.Replace("``", '"'), ["a", "`"]),
        (normalizers.Replace(Regex("a+"), "b"), ["a", "b"]),
        (normalizers.BertNormalizer(), ["a", "\x01"]),
        (normalizers.Nmt(), ["a", "\x01"]),
        (normalizers.StripAccents(), ["a", "\u0301b"]),
        (normalizers.NFC(), ["e", "\u0301"]),
        (normalizers.Sequence([normalizers.Prepend(" "), normalizers.Strip()]), ["a", " "]),
        (normalizers.Sequence([normalizers.Replace("b", " "), normalizers.Strip()]), ["a", "b"]),
    ],
)
def test_what_is_first_behind_a_normalizer_that_moves_text(normalizer, entries):
    """The library asks where in the original the piece begins."""
    refused(fast(bpe(LETTERS), normalizer=normalizer, pre_tokenizer=FIRST), "{x:3}a", '"first"', x=entries)


def test_a_leaf_that_chance_does_not_find():
    """One word of eleven thousand begins with the space that is stripped."""
    words = ["".join(word) for word in itertools.islice(itertools.product("abcd", repeat=7), 11_000)]
    tokenizer = fast(bpe([*"abcd▁"]), normalizer=normalizers.Strip(), pre_tokenizer=FIRST)
    tree = TokenTree(CanaryFormat("{w}", spaces={"w": [*words, " abcdabc"]}), tokenizer, ask_all=0)
    assert tree.leads(tree.paths([" abcdabc"])[0])
    assert len(leaves(tree)) == 11_001


# --------------------------------------------------------------------------------------- code around the parts, in Pyth


class Rewriting(PreTrainedTokenizerFast):
    def _encode_plus(self, text, *args, **options):
        text = text.replace("ab", "b") if isinstance(text, str) else [one.replace("ab", "b") for one in text]
        return super()._encode_plus(text, *args, **options)


class Calling(PreTrainedTokenizerFast):
    def __call__(self, *args, **options):
        return super().__call__(*args, **options)


class Naming(PreTrainedTokenizerFast):
    """Adds nothing that matters."""

    def greet(self):
        return "hello"


def test_classes_that_encode_in_a_way_of_their_own():
    refused(fast(bpe("abc"), cls=Rewriting), "{x:3}c", "Rewriting, whose _encode_plus", x=["a", "b"])
    refused(fast(bpe("abc"), cls=Calling), "{x:3}c", "Calling, whose __call__", x=["a", "b"])
    right(fast(bpe("abc"), cls=Naming), "{x:3}c", x=["a", "b"])
    tokenizer = fast(bpe("abc"))
    encode = tokenizer._encode_plus
    tokenizer._encode_plus = lambda text, **options: encode(text, **options)
    refused(tokenizer, "{x:3}c", "whose _encode_plus", x=["a", "b"])


def test_added_tokens_of_byt5_that_may_come():
    """Python's rules for them are not the library's: what is whitespace, what is a word, which are special."""
    plain, more = ByT5Tokenizer(), ByT5Tokenizer()
    more.add_tokens([AddedToken("ab", single_word=True)])
    right(plain, "a{x:2}b", x=["a", "</", " "])
    right(more, "{x:3}.", x=["a", "c", "-"])
    for tokenizer, text in ((plain, "a</s>b"), (more, "ab")):
        with pytest.raises(Unfollowed, match="Python code takes out"):
            rules_of(tokenizer).pipelines(text)


def test_a_token_that_was_special_before():
    """For the library it stays so, and is read as text where special tokens are."""
    tokenizer = fast(bpe("abc"))
    tokenizer.add_tokens([AddedToken("ab", special=True)])
    tokenizer.add_tokens([AddedToken("ab", special=False)])
    right(tokenizer, "{x:3}", x=["a", "b"])
    tokenizer.split_special_tokens = True
    refused(tokenizer, "{x:3}", "was special before", x=["a", "b"])
    plain = fast(bpe("abc"))
    plain.add_tokens([AddedToken("ab", special=False), AddedToken("bc", special=True)])
    plain.split_special_tokens = True
    right(plain, "{x:3}", x=["a", "b", "c"])


def test_what_may_have_been_left_out_is_read_as_one(monkeypatch):
    """Letters that a look ahead may still turn into no match: 52¹² ways to write nothing are few places."""
    counts = [0]
    step = Spelling._on

    def counted(spelling, place, state):
        counts[0] += 1
        return step(spelling, place, state)

    monkeypatch.setattr(Spelling, "_on", counted)
    words = r"[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++|\s+(?!\S)|\s"
    cuts = pre_tokenizers.Split(Regex(words), "removed", invert=True)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 "
    tree = TokenTree(CanaryFormat("{letter:12} {digit}"), fast(bpe(letters), pre_tokenizer=cuts))
    tree.assure()
    assert tree.space_size == 52**12 * 10
    assert counts[0] < 1_000


def test_a_billion_fills_that_are_written_alike():
    """A normaliser writes one mark for any number: the tree has one leaf, of all fills."""
    tokenizer = fast(bpe("My PINs#"), normalizer=normalizers.Replace(Regex(r"\d+"), "#"))
    tree = TokenTree(CanaryFormat("My PIN is {digit:9}"), tokenizer)
    tree.assure([5])
    assert tree.space_size == 1
    assert tree.most_copies == tree.copies(123) == 10**9

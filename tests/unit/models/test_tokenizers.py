"""Characters and words: lossless, the same after loading, and honest about what they do not know."""

import pickle

import pytest
from datasets.fingerprint import Hasher
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import hf_canary.models as models
from hf_canary.errors import ArgumentError, DataError
from tests.support.repetitions import times

SPELLED = "a <|endoftext|> b<|pad|><|unk|> c<unk>"
MAKERS = [models.character_tokenizer, models.word_tokenizer]


@pytest.mark.parametrize("make", MAKERS)
@settings(deadline=None, max_examples=times(150))
@given(st.text(max_size=40))
@example(SPELLED)
@example("  two  spaces\n\ttabs\r\n ")
@example("e\u0301 é ﬁ \u200b \U0001f600 l'été n'a l'été")
@example("don't don't it's it's 12 12 _x_ _x_ ...  ...")
def test_known_characters_come_back_as_they_were(make, text):
    """Any Unicode text, by whatever tokens."""
    tokenizer = make([text, SPELLED, text])
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert (tokenizer.unk_token_id in ids) == ("<|unk|>" in text)
    assert tokenizer.decode(ids[1:], skip_special_tokens=False) == text


@settings(deadline=None, max_examples=times(50))
@given(st.text(max_size=40))
def test_a_character_is_a_token(text):
    """One for each, and one in front; a special token that is spelled out is one for all of its characters."""
    tokenizer = models.character_tokenizer([text, SPELLED])
    assume(not any(token in text for token in tokenizer.all_special_tokens))
    assert len(tokenizer(text).input_ids) == 1 + len(text)
    assert len(tokenizer(text + "<|pad|>").input_ids) == 1 + len(text) + 1


CORPUS = ["the cat saw the dog .", "the dog saw a cat , and the cat didn't see <unk> in 1999", "<unk> didn't"]


def test_frequent_words_are_tokens_and_others_are_spelled():
    """A word with the space before it; digits one by one; contractions by their ends; never a piece of a word."""
    tokenizer = models.word_tokenizer(CORPUS)
    assert tokenizer.tokenize("the cat saw") == ["the", " cat", " saw"]
    assert tokenizer.tokenize("the cats") == ["the", *" cats"]
    assert tokenizer.tokenize("a didn't 19") == ["a", " didn", "'t", " ", "1", "9"]
    assert models.word_tokenizer(["in 1984"] * 9).tokenize("1984") == [*"1984"]  # frequent as it is
    assert tokenizer.tokenize("the <unk>") == ["the", *" <unk>"]  # once with a space, once without: too rare
    assert models.word_tokenizer(CORPUS, min_frequency=1).tokenize("the <unk>") == ["the", " <unk>"]


def test_the_vocabulary_has_the_size_that_was_asked_for():
    """Special tokens, all characters, then the most frequent words."""
    characters = len(set("".join(CORPUS)))
    tokenizer = models.word_tokenizer(CORPUS, vocab_size=characters + 3 + 1)
    assert len(tokenizer) == characters + 4
    words = [token for token in tokenizer.get_vocab() if len(token) > 1 and token not in tokenizer.all_special_tokens]
    assert words == [" cat"]  # three times; others twice
    assert len(models.word_tokenizer(CORPUS, vocab_size=characters + 3)) == characters + 3


@pytest.mark.parametrize("make", MAKERS)
def test_the_boundary_stands_before_or_behind(make):
    """Before, for a language model; behind, for an encoder-decoder."""
    before, behind = make(["ab"]), make(["ab"], end_token=True)
    assert before("ab").input_ids == [before.bos_token_id, *before("ab", add_special_tokens=False).input_ids]
    assert behind("ab").input_ids == [*before("ab").input_ids[1:], behind.eos_token_id]
    assert behind(text_target="ab").input_ids == behind("ab").input_ids
    # ... of each text of a pair.
    assert before("ab", "a").input_ids == before("ab").input_ids + before("a").input_ids
    assert behind("ab", "a").input_ids == behind("ab").input_ids + behind("a").input_ids


@pytest.mark.parametrize("make", MAKERS)
def test_a_character_never_seen_is_the_unknown_token_and_the_user_is_told(make, caplog):
    """... only that character, and told once for each, in whatever way the text is given."""
    tokenizer = make(["abc"])
    assert tokenizer("aéc", add_special_tokens=False).input_ids == [3, tokenizer.unk_token_id, 5]
    assert "got U+00E9, read as <|unk|>" in caplog.text
    caplog.clear()
    tokenizer(["é", "abc"])
    assert not caplog.records
    for number, use in enumerate(
        [
            lambda text: tokenizer(["abc", text]),
            lambda text: tokenizer("abc", text),
            lambda text: tokenizer(text=text),
            lambda text: tokenizer(text_target=text),
            tokenizer.encode,
            tokenizer.tokenize,
        ]
    ):
        use(f"a{number}")
        assert f"got U+{ord(str(number)):04X}, read as <|unk|>" in caplog.text


def test_use_does_not_change_it():
    """Neither its pickle nor its fingerprint, so that what `datasets` cached with it is found again."""
    tokenizer = models.word_tokenizer(CORPUS)
    before = Hasher.hash(tokenizer)
    tokenizer("é")
    assert Hasher.hash(tokenizer) == before
    assert pickle.loads(pickle.dumps(tokenizer))("the cat").input_ids == tokenizer("the cat").input_ids


@pytest.mark.parametrize("make", MAKERS)
def test_a_corpus_is_texts_or_one_text(make):
    """A string, a list or a generator of the same give the same tokens."""
    text = "to be or not to be, to be or not"
    vocabulary = make([text]).get_vocab()
    assert make(text).get_vocab() == make(each for each in [text]).get_vocab() == vocabulary


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("texts", [[], [""], [3], [None], [["a"]], None, 3, ["a\ud800"]])
def test_what_is_no_text_is_refused(make, texts):
    """The error names the argument."""
    with pytest.raises(DataError, match="texts"):
        make(texts)


def test_a_token_that_was_added_is_known(caplog):
    """What the user adds afterwards is no unknown character, also if the tokenizer was used before."""
    tokenizer = models.character_tokenizer(["abc"])
    tokenizer("a")
    tokenizer.add_tokens(["é"])
    assert tokenizer.unk_token_id not in tokenizer("é").input_ids
    assert not caplog.records


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"vocab_size": 5}, "vocab_size"),
        ({"vocab_size": 1e4}, "vocab_size"),
        ({"vocab_size": 10**30}, "vocab_size"),
        ({"min_frequency": 10**30}, "min_frequency"),
        ({"min_frequency": 0}, "min_frequency"),
    ],
)
def test_bad_options_are_named(options, argument):
    """Fewer tokens than there are characters cannot be."""
    with pytest.raises(ArgumentError, match=argument):
        models.word_tokenizer(CORPUS, **options)

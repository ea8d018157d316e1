"""Log-perplexity of texts: what conditions, what is summed, what is refused."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers import models as token_models
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

import hf_canary.models as models
from hf_canary import CanaryFormat, log_perplexity
from hf_canary.errors import ArgumentError, ModelError
from hf_canary.tokenization.encoding import encode
from tests.support import oracles

CHAT = "{{ bos_token }}{% for message in messages %}<user>{{ message.content }}<end>{% endfor %}"


@pytest.fixture(scope="module")
def chat_tokenizer():
    """BOS in front, tokens of its own for the turns, and a template that writes BOS itself."""
    characters = [*"abcdefghijklmnopqrstuvwxyz 0123456789", "<bos>", "<user>", "<end>"]
    tokenizer = Tokenizer(token_models.BPE({character: id for id, character in enumerate(characters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<bos>", "<user>", "<end>"])
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 37)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<end>")
    fast.chat_template = CHAT
    return fast


def test_a_rendered_chat_conditions_and_its_bos_stands_once(chat_tokenizer):
    """The whole is what the template's own tokens and the canary's are; only the canary's are summed."""
    model = oracles.small_model("gpt2", 40).eval()
    messages = [{"role": "user", "content": "my pin is"}]
    context = chat_tokenizer.apply_chat_template(messages, tokenize=False)
    ahead = chat_tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    texts = ["1234", "7"]
    encoding = encode(chat_tokenizer, texts, context=context)
    assert encoding.conditioned == len(ahead)
    whole = [[*ahead, *chat_tokenizer(text, add_special_tokens=False).input_ids] for text in texts]
    assert encoding.sequences == whole
    found = log_perplexity(model, chat_tokenizer, texts, context=context)
    expected = [oracles.log_perplexity_slowly(model, ids, len(ahead)) for ids in whole]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_bos_conditions(chat_tokenizer):
    """Without a context it is all that stands before."""
    model = oracles.small_model("gpt2", 40).eval()
    ids = chat_tokenizer("pin 12").input_ids
    assert ids[0] == 37
    assert log_perplexity(model, chat_tokenizer, ["pin 12"])[0] == pytest.approx(
        oracles.log_perplexity_slowly(model, ids, 1), abs=1e-3
    )


def test_an_end_token_tells_a_text_from_one_that_goes_on(model, tokenizer):
    """`cat` and `cats` with their ends: each costs its tokens and the end's."""
    found = log_perplexity(model, tokenizer, ["the cat", "the cats"], end=True)
    ids = [[*tokenizer(text).input_ids, tokenizer.eos_token_id] for text in ("the cat", "the cats")]
    expected = [oracles.teacher_forced_bits(model, sequence, 1) for sequence in ids]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (found > log_perplexity(model, tokenizer, ["the cat", "the cats"])).all()


def test_probabilities_of_all_continuations_add_up(lstm, tokenizer):
    """2^−bits over every next character, the end among them, is that of the text before."""
    characters = [token for token, id in tokenizer.get_vocab().items() if id >= 3]
    bits = log_perplexity(lstm, tokenizer, ["the pin" + character for character in characters])
    ended = log_perplexity(lstm, tokenizer, ["the pin"], end=True)
    others = lstm_mass_of_specials(lstm, tokenizer) * 2.0 ** -log_perplexity(lstm, tokenizer, ["the pin"])[0]
    total = (2.0**-bits).sum() + 2.0 ** -ended[0] + others
    assert total == pytest.approx(2.0 ** -log_perplexity(lstm, tokenizer, ["the pin"])[0], rel=1e-4)


def lstm_mass_of_specials(lstm, tokenizer):
    """Probability of padding and of the unknown token after the text."""
    import torch

    with torch.no_grad():
        logits = lstm(input_ids=torch.tensor([tokenizer("the pin").input_ids])).logits[0, -1].double()
    probabilities = logits.softmax(-1)
    return float(probabilities[tokenizer.pad_token_id] + probabilities[tokenizer.unk_token_id])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("attention", [False, True])
def test_our_translation_models_equal_the_oracle(cell, attention):
    """Sources of one text each, of many, and of both, of different length; with the end token."""
    tokenizer = models.character_tokenizer(["the pin is 0123456789", "le code est"], end_token=True)
    model = oracles.small_translation(cell, attention, len(tokenizer)).eval()
    pin = CanaryFormat("le code est {digit:2}")
    texts = [pin.render(fill) for fill in range(12)] + ["le", "le code", "le code"]
    sources = ["the pin is 12"] * 12 + ["the", "the pin is", "pin"]
    for end in (False, True):
        for batch_size in (None, 2):
            found = log_perplexity(model, tokenizer, texts, sources=sources, end=end, batch_size=batch_size)
            behind = [tokenizer.eos_token_id] if end else []
            expected = [
                oracles.log_perplexity_slowly(
                    model, tokenizer(text, add_special_tokens=False).input_ids + behind, 0, tokenizer(source).input_ids
                )
                for text, source in zip(texts, sources, strict=True)
            ]
            np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_language_token_conditions():
    """What the tokenizer puts before a target by itself stands behind the decoder's start token and is not summed."""
    tokenizer = models.character_tokenizer(["le code est 0123456789"], end_token=True)
    backend = tokenizer.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        "<|unk|> $A <|endoftext|>", special_tokens=[("<|unk|>", 1), ("<|endoftext|>", 2)]
    )
    french = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")
    model = oracles.small_translation("gru", True, len(french)).eval()
    found = log_perplexity(model, french, ["le code est 7"], sources=["code 1"])
    ids = french("le code est 7").input_ids
    assert ids[0] == 1
    expected = oracles.log_perplexity_slowly(model, ids[:-1], 1, french("code 1").input_ids)
    assert found[0] == pytest.approx(expected, abs=1e-3)


def test_a_source_is_read_once_for_all_its_texts():
    """As many token rows as the tree has inner nodes, and not as the texts have tokens."""
    from hf_canary.inference.cache_adapters import Source
    from hf_canary.inference.evaluation import evaluating
    from hf_canary.inference.language_model import LanguageModel
    from hf_canary.walks.score import score

    tokenizer = models.character_tokenizer(["code 0123456789"], end_token=True)
    model = oracles.small_translation("gru", True, len(tokenizer))
    sequences = encode(tokenizer, list(CanaryFormat("code {digit:3}").candidates()), target=True).sequences
    with evaluating(model) as bare:
        view = LanguageModel(bare)
        score(lambda prompt, depth: view.session(prompt, depth, source=Source((5, 6), 2)), sequences, 0)
    assert view.token_rows == 1 + len("code ") + 10 + 100


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"texts": ["", "a"]}, ArgumentError, "texts\\[0\\]"),
        ({"texts": [7]}, ArgumentError, "texts\\[0\\]"),
        ({"sources": ["the"]}, ModelError, "sources"),
        ({"batch_size": 0}, ArgumentError, "batch_size"),
        ({"max_memory": 0.5}, ArgumentError, "max_memory"),
        ({"texts": ["a" * 70]}, ModelError, "64"),
    ],
)
def test_what_cannot_be_scored_is_an_error(tokenizer, change, error, words):
    """Each names its argument, before the model is called."""
    model = oracles.small_model("gpt2", len(tokenizer))
    model.register_forward_pre_hook(lambda *_: pytest.fail("the model was called"))
    with pytest.raises(error, match=words):
        log_perplexity(model, tokenizer, **{"texts": ["a"]} | change)


@pytest.mark.parametrize(
    ("sources", "error", "words"),
    [
        (None, ModelError, "reads before it writes"),
        (["the"], ArgumentError, "2, one for each text"),
        (["the", ""], ArgumentError, "sources\\[1\\]"),
    ],
)
def test_an_encoder_decoder_needs_a_source_for_each_text(sources, error, words):
    """Neither fewer nor empty ones."""
    tokenizer = models.character_tokenizer(["the pin"], end_token=True)
    model = oracles.small_translation("lstm", False, len(tokenizer))
    with pytest.raises(error, match=words):
        log_perplexity(model, tokenizer, ["pin", "the"], sources=sources)


@pytest.mark.parametrize("count", [1, 9])
def test_sources_longer_than_the_positions_are_an_error(tokenizer, count):
    """Nothing is cut off, and nothing read, whether each text has its own source or all have one."""
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BartConfig(
        vocab_size=len(tokenizer), max_position_embeddings=16, decoder_start_token_id=2, **sizes, **heads
    )
    model = BartForConditionalGeneration(config)
    model.get_encoder().register_forward_pre_hook(lambda *_: pytest.fail("the model was called"))
    texts = [CanaryFormat("pin {digit}").render(fill) for fill in range(count + 1)]
    sources = ["pin"] + ["the pin is 1 2 3 4 5"] * count
    with pytest.raises(ModelError, match=r"sources\[1\].*at most 16"):
        log_perplexity(model, tokenizer, texts, sources=sources)


def test_without_an_end_token_there_is_nothing_to_sum(tokenizer):
    """And the error says so."""
    other = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())))
    )
    with pytest.raises(ModelError, match="end=True"):
        encode(other, ["a"], end=True)


def test_no_texts_have_no_costs(lstm, tokenizer):
    """An empty list is not an error."""
    assert log_perplexity(lstm, tokenizer, []).shape == (0,)


@pytest.mark.parametrize("max_memory", [1, 10**4, 10**6])
def test_a_bound_on_memory_changes_no_number(model, tokenizer, max_memory):
    """However small."""
    texts = [CanaryFormat("the pin is {digit:2}").render(fill) for fill in range(0, 100, 3)]
    expected = log_perplexity(model, tokenizer, texts)
    np.testing.assert_allclose(log_perplexity(model, tokenizer, texts, max_memory=max_memory), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["lstm", "gpt2", "jamba"])
def test_the_bound_holds_for_every_pass_of_a_job(tokenizer, monkeypatch, name):
    """The logits of each pass of several rows take no more, of however many texts."""
    model = oracles.small_model(name, len(tokenizer))
    forward, taken = model.forward, []

    def recorded(**options):
        output = forward(**options)
        taken.append((output.logits.shape[0], output.logits.nbytes))
        return output

    monkeypatch.setattr(model, "forward", recorded)
    texts = list(CanaryFormat("the pin is {digit:3}").candidates())
    log_perplexity(model, tokenizer, texts, max_memory=300_000)
    assert max(rows for rows, _ in taken) > 1
    assert all(size <= 300_000 for rows, size in taken if rows > 1)


def test_a_single_token_without_anything_before_has_no_cost(tokenizer):
    """Neither 0 bits nor a crash: the model says nothing of a first token."""
    model = oracles.small_model("gpt2", len(tokenizer))
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(token_models.BPE({"a": 0, "b": 1}, [])), bos_token="b")
    with pytest.raises(ModelError, match=r"texts\[1\].*bos_token"):
        log_perplexity(model, bare, ["ab", "a"])
    assert log_perplexity(model, bare, ["ab", "a"], context="b").min() > 0
    with pytest.raises(ModelError, match="begin differently"):
        log_perplexity(model, bare, ["ab", "ba"])
    with pytest.raises(ModelError, match=r"texts\[1\].*64"):
        log_perplexity(model, bare, ["ab", "a" * 70])


def test_one_text_is_not_a_list_of_letters(lstm, tokenizer):
    """A string where a list belongs is named as such."""
    with pytest.raises(ArgumentError, match="a list of texts"):
        log_perplexity(lstm, tokenizer, "the pin")

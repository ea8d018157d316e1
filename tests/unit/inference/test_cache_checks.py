"""A cache is relied on only where it gives what a full pass gives, in the very session; and trying it costs little."""

import numpy as np
import pytest
import torch
from transformers import Lfm2ForCausalLM, LlamaForCausalLM, xLSTMForCausalLM

from hf_canary import CanaryFormat, extract, log_perplexity
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.scoring import score_texts
from tests.support import oracles
from tests.support.architectures import CAUSAL, LLAMA, build

BITS = 1e-3
TEXTS = [f"the pin is {number:012}" for number in (123456789012, 123456780000, 99, 5 * 10**11, 5 * 10**11 + 7)]
TEXTS += [f"the pin is 1234567890{number}" for number in (11, 12, 21, 22)]  # which part late, one token at a time
PIN = CanaryFormat("the pin is {digit:2}")
PROMPT = [2, 5, 9, 4, 7, 3, 8, 6]


class Sly(LlamaForCausalLM):
    """A Llama whose cache is wrong where `is_wrong` says so: of rows, tokens, tokens before, and whether packed."""

    is_wrong = staticmethod(lambda rows, tokens, before, packed: False)
    spoils = False
    one_mask = False

    def forward(self, input_ids, past_key_values=None, attention_mask=None, **options):
        rows, tokens = input_ids.shape
        self.fed_rows.append(rows * tokens)
        before = 0 if past_key_values is None else past_key_values.get_seq_length()
        packed = attention_mask is not None and attention_mask.ndim == 4
        old = [layer.keys for layer in past_key_values.layers] if before else []
        if packed and self.one_mask:
            attention_mask = attention_mask[:1].expand_as(attention_mask)
        output = super().forward(
            input_ids=input_ids, past_key_values=past_key_values, attention_mask=attention_mask, **options
        )
        if before and self.is_wrong(rows, tokens, before, packed):
            output.logits = output.logits.flip(-1)
        if self.spoils and before and not packed:
            for keys in old:
                keys.mul_(0.5)
        return output


@pytest.fixture
def sly(tokenizer):
    model = build("llama", Sly, len(tokenizer), **LLAMA)
    model.fed_rows = []
    return model


# What is wrong → when.
WRONG = {
    "packed rows": lambda rows, tokens, before, packed: packed,
    "several packed rows": lambda rows, tokens, before, packed: packed and rows > 1,
    "long packed rows": lambda rows, tokens, before, packed: packed and tokens > 8,
    "chunks": lambda rows, tokens, before, packed: packed or tokens > 1,
    "chunks of several rows": lambda rows, tokens, before, packed: packed or (rows > 1 and tokens > 1),
    "long chunks": lambda rows, tokens, before, packed: packed or tokens > 8,
    "steps": lambda rows, tokens, before, packed: packed or tokens == 1,
    "steps of several rows": lambda rows, tokens, before, packed: packed or (rows > 1 and tokens == 1),
    "late steps": lambda rows, tokens, before, packed: packed or (tokens == 1 and before > 19),
    "late steps, and chunks": lambda rows, tokens, before, packed: packed or tokens > 1 or before > 19,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_somewhere_is_done_without(wrong, sly, tokenizer):
    """Costs are the full passes', whatever of the cache is wrong, in whichever use."""
    sly.is_wrong = WRONG[wrong]
    expected = [oracles.log_perplexity_slowly(sly, tokenizer(text).input_ids, 0) for text in TEXTS]
    np.testing.assert_allclose(log_perplexity(sly, tokenizer, TEXTS), expected, atol=BITS, rtol=0)
    found = extract(sly, tokenizer, PIN).candidates[0]
    slowly = [oracles.log_perplexity_slowly(sly, tokenizer(text).input_ids, 0) for text in PIN.candidates()]
    assert found.log_perplexity == pytest.approx(min(slowly), abs=BITS)


@pytest.mark.parametrize("fault", ["spoils", "one_mask"])
def test_rows_are_their_own(fault, sly, tokenizer):
    """A model that changes the cache it reads from where it lies; one that takes the first row's mask for all."""
    setattr(sly, fault, True)
    sly.is_wrong = lambda rows, tokens, before, packed: packed and sly.spoils
    expected = [oracles.log_perplexity_slowly(sly, tokenizer(text).input_ids, 0) for text in TEXTS]
    np.testing.assert_allclose(log_perplexity(sly, tokenizer, TEXTS), expected, atol=BITS, rtol=0)
    assert extract(sly, tokenizer, PIN).certified


@pytest.mark.parametrize("fault", ["several packed rows", "one_mask"])
def test_rows_of_many_texts_are_their_own(fault, sly, tokenizer):
    """So many that several packed rows are read at once."""
    texts = [f"the pin is {number * 7919 % 10**7:07}" for number in range(60)]
    expected = [oracles.log_perplexity_slowly(sly, tokenizer(text).input_ids, 0) for text in texts]
    if fault == "one_mask":
        sly.one_mask = True
    else:
        sly.is_wrong = WRONG[fault]
    np.testing.assert_allclose(log_perplexity(sly, tokenizer, texts), expected, atol=BITS, rtol=0)


XLSTM = {"hidden_size": 32, "num_blocks": 2, "num_heads": 2, "chunk_size": 8}
CONVOLUTIONS = LLAMA | {"layer_types": ["conv"] * 2, "block_multiple_of": 8}
# Models of transformers that fail where they are asked for a cache, or given one, as of 5.23.
WITHOUT_A_CACHE = {
    "xlstm": lambda vocab_size: build("xlstm", xLSTMForCausalLM, vocab_size, **XLSTM, qk_dim_factor=1.0),
    "lfm of convolutions": lambda vocab_size: build("lfm2", Lfm2ForCausalLM, vocab_size, **CONVOLUTIONS),
}


@pytest.mark.parametrize("context", [None, "it was "])
@pytest.mark.parametrize("name", WITHOUT_A_CACHE)
def test_a_model_that_fails_over_its_cache_is_read_without(name, context, tokenizer, caplog):
    """A full pass works, and is what all walks make; the log says that it is slow."""
    model = WITHOUT_A_CACHE[name](len(tokenizer))
    before, rows = (
        len(tokenizer(context or "").input_ids),
        [tokenizer((context or "") + text).input_ids for text in TEXTS],
    )
    with pytest.raises((AssertionError, RuntimeError, ValueError)):  # else it has been mended
        model(input_ids=torch.tensor([rows[0]]), use_cache=True).past_key_values.reorder_cache(torch.tensor([0, 0]))
    expected = [oracles.log_perplexity_slowly(model, ids, before) for ids in rows]
    np.testing.assert_allclose(log_perplexity(model, tokenizer, TEXTS, context=context), expected, atol=BITS, rtol=0)
    best = extract(model, tokenizer, PIN, context=context).candidates[0]
    texts = [tokenizer((context or "") + text).input_ids for text in PIN.candidates()]
    slowly = [oracles.log_perplexity_slowly(model, ids, before) for ids in texts]
    assert best.log_perplexity == pytest.approx(min(slowly), abs=BITS)
    assert "read again from their beginning" in caplog.text


def test_what_fails_without_a_cache_too_is_the_users_to_see(tokenizer, sly):
    """A model that cannot read a text at all; and memory that runs out is no reason to do without a cache."""
    for error, message in ((ValueError, "no such rope"), (torch.OutOfMemoryError, "CUDA out of memory.")):
        asked = []

        def hook(module, _, options, error=error, message=message, asked=asked):
            asked.append(options["use_cache"])
            raise error(message)

        handle = sly.register_forward_pre_hook(hook, with_kwargs=True)
        with pytest.raises(error, match=message):
            log_perplexity(sly, tokenizer, TEXTS[:1])
        handle.remove()
        assert asked == ([True, False] if error is ValueError else [True])


def fed(model, depth, mixed):
    """How many token rows a session feeds before anything is asked of it, beyond the prompt."""
    rows = []
    hook = model.register_forward_pre_hook(
        lambda _, args, options: rows.append(options["input_ids"].numel()), with_kwargs=True
    )
    with evaluating(model) as bare:
        session = LanguageModel(bare).session(PROMPT, depth, mixed=mixed)
        if not session.packs:
            session.state  # noqa: B018 # what is tried when it is asked for
    hook.remove()
    return sum(rows) - len(PROMPT)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_check_costs_at_most_64_token_rows(tokenizer, mixed):
    """Of those whose rows are packed, up to 27 tokens; of others, up to 15; and two rows for each token beyond."""
    for name, longest in {"gpt2": 27, "llama": 27, "mistral": 15, "mamba": 15, "qwen3-next": 15, "rwkv": 15}.items():
        model = CAUSAL[name](len(tokenizer))
        assert max(fed(model, depth, mixed) for depth in (3, 4, 9, longest)) <= 64
        assert fed(model, 40, mixed) <= fed(model, longest, mixed) + 2 * (40 - longest)
    assert fed(oracles.small_model("lstm", len(tokenizer)), 20, mixed) <= 64


@pytest.mark.parametrize("mixed", [False, True])
def test_long_paths_are_not_tried_in_packed_rows(sly, mixed):
    """They are read by themselves, whatever the model can do: only that is tried, and costs what it does elsewhere."""
    packed = []
    sly.is_wrong = lambda rows, tokens, before, is_packed: packed.append(is_packed)
    assert fed(sly, 50, mixed) <= 23 + 2 * 50
    assert not any(packed)
    assert fed(sly, 48, mixed) <= 10 + 2 * 48
    assert any(packed)


def test_a_first_call_costs_a_check_more_than_the_work(tokenizer, sly):
    """Every token row of a call is counted: those of the walk, which the view counts, and at most 64 beside."""
    with evaluating(sly) as bare:
        view = LanguageModel(bare)
        score_texts(view, tokenizer, TEXTS)
        width = max(sly.fed_rows)
    assert sum(sly.fed_rows) - view.token_rows <= 64 + width  # rows are padded

"""One view of every model: bits as by one full pass, states that fork, nothing left changed."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from hf_canary.errors import ModelError
from hf_canary.language_model import LanguageModel, StatePool, States, evaluating
from tests import oracles

PROMPT = [2, 5, 9, 4]


def bits_by_full_pass(model, ids):
    """(n_ids, vocab_size) bits of every token after each prefix of `ids`."""
    with evaluating(model):
        return -torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), -1).numpy() / np.log(2.0)


@pytest.mark.keeps_random_state
def test_start_and_advance_equal_one_full_pass(model):
    """Prompt, several tokens at once and one at a time: all costs are those of the whole sequence."""
    vocabulary = model.get_input_embeddings().num_embeddings
    every = np.arange(vocabulary)
    tail = [7, 3, 8, 11, 6]
    full = bits_by_full_pass(model, PROMPT + tail)
    with evaluating(model):
        view = LanguageModel(model)
        prompt_bits, picks, state = view.start(PROMPT, every, depth=5)
        np.testing.assert_allclose(prompt_bits[1:], [full[i, PROMPT[i + 1]] for i in range(3)], atol=1e-4)
        np.testing.assert_allclose(picks, full[3], atol=1e-4)
        bits, state = view.advance(state, np.array([tail[:2]]), np.broadcast_to(every, (1, 2, vocabulary)))
        np.testing.assert_allclose(bits[0], full[4:6], atol=1e-4)
        for place, token in enumerate(tail[2:], start=6):
            bits, state = view.advance(state, np.array([[token]]), every[None, None])
            np.testing.assert_allclose(bits[0, 0], full[place], atol=1e-4)


def test_states_can_be_selected_and_repeated(model):
    """Rows taken in any order, several times, go on as the prefixes that they are."""
    rng = np.random.default_rng(0)
    firsts = np.array([[5], [6], [7]])
    order = np.array([2, 0, 0, 1, 2])
    seconds = rng.integers(3, 12, size=(5, 1))
    picks = np.tile(np.arange(10), (5, 1, 1))
    with evaluating(model):
        view = LanguageModel(model)
        _, _, state = view.start(PROMPT, np.array([5]), depth=2)
        _, states = view.advance(state.select(np.zeros(3, np.int64)), firsts, picks[:3])
        bits, _ = view.advance(states.select(order), seconds, picks)
    for row, (parent, second) in enumerate(zip(order, seconds[:, 0], strict=True)):
        full = bits_by_full_pass(model, [*PROMPT, int(firsts[parent, 0]), int(second)])
        np.testing.assert_allclose(bits[row, 0], full[-1, :10], atol=1e-4)


def test_rows_of_different_length_are_padded_on_the_right_without_effect(model):
    """The bits of the real tokens do not depend on how many padded ones follow."""
    tokens = np.array([[5, 6, 7], [8, 0, 0], [9, 4, 0]])
    lengths = np.array([3, 1, 2])
    picks = np.tile(np.arange(10), (3, 3, 1))
    with evaluating(model):
        view = LanguageModel(model)
        _, _, state = view.start(PROMPT, np.array([5]), depth=3)
        bits, _ = view.advance(state.select(np.zeros(3, np.int64)), tokens, picks, lengths=lengths)
    assert view.token_rows == len(PROMPT) + 6
    for row, length in enumerate(lengths):
        full = bits_by_full_pass(model, PROMPT + tokens[row, :length].tolist())
        np.testing.assert_allclose(bits[row, :length], full[len(PROMPT) :, :10], atol=1e-4)


def test_rows_of_different_age_go_in_one_batch(model):
    """States after one and after three tokens advance together, as best-first search asks."""
    picks = np.tile(np.arange(10), (1, 3, 1))
    with evaluating(model):
        view = LanguageModel(model)
        _, _, state = view.start(PROMPT, np.array([5]), depth=5)
        _, young = view.advance(state, np.array([[5]]), picks[:, :1])
        _, old = view.advance(state, np.array([[6, 7, 8]]), picks)
        pool = StatePool()
        numbers = np.concatenate([pool.add(young), pool.add(old)])
        bits, _ = view.advance(pool.take(numbers[::-1].copy()), np.array([[9], [4]]), np.tile(np.arange(10), (2, 1, 1)))
    np.testing.assert_allclose(bits[0, 0], bits_by_full_pass(model, [*PROMPT, 6, 7, 8, 9])[-1, :10], atol=1e-4)
    np.testing.assert_allclose(bits[1, 0], bits_by_full_pass(model, [*PROMPT, 5, 4])[-1, :10], atol=1e-4)


def test_the_pool_gives_back_what_was_put_in():
    """Whatever batches it grows by, number n stands for the n-th row."""
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(500, 3)))
    pool, at = StatePool(), 0
    while at < 500:
        size = min(int(rng.integers(1, 60)), 500 - at)
        numbers = pool.add(States((rows[at : at + size], rows[at : at + size, 0]), size))
        np.testing.assert_array_equal(numbers, np.arange(at, at + size))
        at += size
    wanted = rng.integers(0, 500, size=200)
    taken = pool.take(wanted)
    assert torch.equal(taken.tensors[0], rows[torch.from_numpy(wanted)])
    assert torch.equal(taken.tensors[1], rows[torch.from_numpy(wanted), 0])


def test_a_recurrent_model_starts_from_its_initial_state(lstm):
    """Without any prompt the first token's costs come from h = 0, and the second's from the first alone."""
    every = np.arange(10)
    with evaluating(lstm):
        view = LanguageModel(lstm)
        prompt_bits, picks, state = view.start([], every, depth=2)
        bits, _ = view.advance(state, np.array([[5]]), every[None, None])
    initial = -torch.log_softmax(lstm.lm_head.bias.double(), -1).detach().numpy() / np.log(2.0)
    assert prompt_bits.size == 0
    np.testing.assert_allclose(picks, initial[:10], atol=1e-5)
    np.testing.assert_allclose(bits[0, 0], bits_by_full_pass(lstm, [5])[0, :10], atol=1e-4)


def test_a_cache_that_forgets_is_not_trusted(tokenizer):
    """Jamba's state-space layers start anew with each chunk: its cache is tried, found wrong and done without."""
    model = oracles.small_model("jamba", len(tokenizer))
    ids = [2, 5, 9, 4, 7, 3, 8]
    with evaluating(model):
        view = LanguageModel(model)
        _, _, state = view.start(ids[:4], np.array([5]), depth=3)
        bits, _ = view.advance(state, np.array([ids[4:]]), np.tile(np.arange(10), (1, 3, 1)))
        cached = model(input_ids=torch.tensor([ids[:4]]), use_cache=True).past_key_values
        forgetful = model(
            input_ids=torch.tensor([ids[4:]]), past_key_values=copy.deepcopy(cached), use_cache=True
        ).logits
    full = bits_by_full_pass(model, ids)
    np.testing.assert_allclose(bits[0], full[4:, :10], atol=1e-4)
    wrong = -torch.log_softmax(forgetful[0].double(), -1).numpy() / np.log(2.0)
    assert np.abs(wrong[:, :10] - full[4:, :10]).max() > 0.01  # if this ends, transformers has mended it


def test_batches_count_what_is_replayed(tokenizer):
    """The logits of one pass stay within the limit, whatever a row replays."""
    model = oracles.small_model("gpt2", len(tokenizer))
    with evaluating(model):
        view = LanguageModel(model)
        view.start(PROMPT, np.array([5]), depth=40)
        deep = view.rows_at_once(1)
        view.start(PROMPT, np.array([5]), depth=1)
        shallow = view.rows_at_once(1)
        vocabulary = view._vocabulary
    from hf_canary import language_model

    assert deep <= shallow
    assert deep * 41 * vocabulary <= language_model._LOGITS_AT_ONCE


@pytest.mark.parametrize("fails", [False, True])
def test_modes_come_back(fails):
    """Each submodule's mode is as before, mixed ones too, also after an error; gradients are off inside only."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Sequential(nn.Dropout()))
    model.train()
    model[1].eval()
    before = [module.training for module in model.modules()]
    with pytest.raises(RuntimeError) if fails else nullcontext(), evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        if fails:
            raise RuntimeError
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()


def test_ids_beyond_the_embedding_are_an_error_and_not_a_crash(lstm):
    """A tokenizer of another model is named as such."""
    with evaluating(lstm), pytest.raises(ModelError, match="tokenizer"):
        LanguageModel(lstm).start([2, 5000], np.array([3]), depth=1)


def test_more_tokens_than_positions_are_an_error():
    """Nothing is truncated."""
    model = oracles.small_model("gpt2", 20)
    with evaluating(model), pytest.raises(ModelError, match="at most 64 tokens"):
        LanguageModel(model).start([2] * 60, np.array([3]), depth=5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error(tokenizer, value):
    """NaN anywhere, or +inf, makes every probability meaningless."""
    model = oracles.small_model("lstm", len(tokenizer))
    with torch.no_grad():
        model.lm_head.bias[7] = value
    with evaluating(model), pytest.raises(ModelError, match="logits"):
        LanguageModel(model).start(PROMPT, np.array([3]), depth=1)


def test_an_impossible_token_costs_infinity(tokenizer):
    """A logit of −inf is a legal infinite cost; the other tokens keep theirs."""
    model = oracles.small_model("lstm", len(tokenizer))
    with torch.no_grad():
        model.lm_head.bias[7] = float("-inf")
    with evaluating(model):
        _, bits, _ = LanguageModel(model).start(PROMPT, np.array([7, 8]), depth=1)
    assert bits[0] == np.inf
    assert np.isfinite(bits[1])


def test_encoder_decoders_are_refused(lstm):
    """They have no view yet, and the error says so."""
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(
        T5Config(vocab_size=10, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    )
    with pytest.raises(ModelError, match="causal"):
        LanguageModel(model)


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_bad_batch_sizes(lstm, size):
    """A batch has at least one row."""
    with pytest.raises(ModelError, match="batch_size"):
        LanguageModel(lstm, batch_size=size)

"""One view of every model: bits as by one full pass, states that fork, nothing left changed."""

import copy
import gc
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from hf_canary import log_perplexity
from hf_canary.errors import ArgumentError, ModelError
from hf_canary.inference import language_model, states
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.inference.states import RowPool, Rows
from tests.support import oracles

PROMPT = [2, 5, 9, 4]


def bits_by_full_pass(model, ids):
    """(n_ids, vocab_size) bits of every token after each prefix of `ids`."""
    with evaluating(model):
        return -torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), -1).numpy() / np.log(2.0)


@pytest.mark.keeps_random_state
@pytest.mark.parametrize("mixed", [False, True])
def test_start_and_advance_equal_one_full_pass(model, mixed):
    """Prompt, several tokens at once and one at a time: all costs are those of the whole sequence."""
    vocabulary = model.get_input_embeddings().num_embeddings
    every = np.arange(vocabulary)
    tail = [7, 3, 8, 11, 6]
    full = bits_by_full_pass(model, PROMPT + tail)
    with evaluating(model):
        session = LanguageModel(model).session(PROMPT, 5, mixed=mixed)
        np.testing.assert_allclose(session.prompt_bits[1:], [full[i, PROMPT[i + 1]] for i in range(3)], atol=1e-4)
        np.testing.assert_allclose(session.bits(every), full[3], atol=1e-4)
        bits, state = session.advance(session.state, np.array([tail[:2]]), np.broadcast_to(every, (1, 2, vocabulary)))
        np.testing.assert_allclose(bits[0], full[4:6], atol=1e-4)
        for place, token in enumerate(tail[2:], start=6):
            bits, state = session.advance(state, np.array([[token]]), every[None, None])
            np.testing.assert_allclose(bits[0, 0], full[place], atol=1e-4)


def test_a_prompt_is_read_and_its_cache_tried_once(model, monkeypatch):
    """For all sessions after it, which say the same; and again behind another prompt, for more or fewer tokens, in
    another evaluation, and where several processes must do the same, each of which may have read another one.
    """
    calls, forward = [], model.forward
    monkeypatch.setattr(model, "forward", lambda *given, **options: calls.append(0) or forward(*given, **options))
    every = np.arange(model.get_input_embeddings().num_embeddings)

    def said(view, prompt, depth=3, mixed=False):
        """By how many calls of the model, by how many token rows, and what."""
        num_calls, num_rows, found = len(calls), view.token_rows, []
        session = view.session(prompt, depth, mixed=mixed)
        state = session.state
        for token in (7, 3):
            bits, state = session.advance(state, np.array([[token]]), every[None, None])
            found.append(bits)
        return (
            len(calls) - num_calls,
            view.token_rows - num_rows,
            np.concatenate([*found, session.bits(every)[None, None]]),
        )

    with evaluating(model):
        view = LanguageModel(model)
        num_calls, num_rows, bits = said(view, PROMPT)
        assert num_rows == len(PROMPT) + 2
        again = said(view, PROMPT)
        assert again[:2] == (2, 2)
        np.testing.assert_array_equal(again[2], bits)
        assert said(view, PROMPT[:-1])[:2] == (num_calls, num_rows - 1)
        assert said(view, PROMPT)[:2] == (num_calls, num_rows)
        for depth in (4, 2):  # a cache is tried for as many tokens as will be read
            assert said(view, PROMPT, depth=depth)[1] == num_rows
        view.forget_prompt()
        assert said(view, PROMPT)[:2] == (num_calls, num_rows)
        np.testing.assert_allclose(said(view, PROMPT, mixed=True)[2], bits, atol=1e-4)
        assert said(LanguageModel(model), PROMPT)[:2] == (num_calls, num_rows)
        monkeypatch.setattr(language_model, "num_processes", lambda: 2)
        assert said(view, PROMPT)[:2] == said(view, PROMPT)[:2] == (num_calls, num_rows)


def test_nothing_is_held_when_an_evaluation_is_over(tokenizer):
    """No weights and no cache wait for a collection of garbage."""
    model = oracles.small_model("gpt2", len(tokenizer))
    gone = weakref.ref(model)
    gc.collect()
    gc.disable()
    try:
        log_perplexity(model, tokenizer, ["the pin is 1", "the pin is 22"])
        del model
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("mixed", [False, True])
def test_states_can_be_selected_and_repeated(model, mixed):
    """Rows taken in any order, several times, go on as the prefixes that they are."""
    rng = np.random.default_rng(0)
    firsts = np.array([[5], [6], [7]])
    order = np.array([2, 0, 0, 1, 2])
    seconds = rng.integers(3, 12, size=(5, 1))
    picks = np.tile(np.arange(10), (5, 1, 1))
    with evaluating(model):
        session = LanguageModel(model).session(PROMPT, 2, mixed=mixed)
        _, states = session.advance(session.state.select(np.zeros(3, np.int64)), firsts, picks[:3])
        session.advance(states.select(order[::-1]), seconds, picks)  # leaves `states` as they are
        bits, _ = session.advance(states.select(order), seconds, picks)
    for row, (parent, second) in enumerate(zip(order, seconds[:, 0], strict=True)):
        full = bits_by_full_pass(model, [*PROMPT, int(firsts[parent, 0]), int(second)])
        np.testing.assert_allclose(bits[row, 0], full[-1, :10], atol=1e-4)


@pytest.mark.parametrize("mixed", [False, True])
def test_rows_of_different_length_are_padded_on_the_right_without_effect(model, mixed):
    """The bits of the real tokens do not depend on how many padded ones follow."""
    tokens = np.array([[5, 6, 7], [8, 0, 0], [9, 4, 0]])
    lengths = np.array([3, 1, 2])
    picks = np.tile(np.arange(10), (3, 3, 1))
    with evaluating(model):
        view = LanguageModel(model)
        session = view.session(PROMPT, 3, mixed=mixed)
        bits, _ = session.advance(session.state.select(np.zeros(3, np.int64)), tokens, picks, lengths=lengths)
    assert view.token_rows == len(PROMPT) + 6
    for row, length in enumerate(lengths):
        full = bits_by_full_pass(model, PROMPT + tokens[row, :length].tolist())
        np.testing.assert_allclose(bits[row, :length], full[len(PROMPT) :, :10], atol=1e-4)


def test_rows_of_different_age_go_in_one_batch(model):
    """States after one and after three tokens advance together, as best-first search asks."""
    picks = np.tile(np.arange(10), (1, 3, 1))
    with evaluating(model):
        session = LanguageModel(model).session(PROMPT, 5, mixed=True)
        _, young = session.advance(session.state, np.array([[5]]), picks[:, :1])
        _, old = session.advance(session.state, np.array([[6, 7, 8]]), picks)
        pool = RowPool()
        numbers = np.concatenate([pool.add(young.tensors), pool.add(old.tensors)])
        picks = np.tile(np.arange(10), (2, 1, 1))
        bits, _ = session.advance(Rows(pool.take(numbers[::-1].copy()), 2), np.array([[9], [4]]), picks)
    np.testing.assert_allclose(bits[0, 0], bits_by_full_pass(model, [*PROMPT, 6, 7, 8, 9])[-1, :10], atol=1e-4)
    np.testing.assert_allclose(bits[1, 0], bits_by_full_pass(model, [*PROMPT, 5, 4])[-1, :10], atol=1e-4)


@pytest.mark.parametrize("block", [7, 4096])
def test_the_pool_gives_back_what_was_put_in(block, monkeypatch):
    """Whatever batches it grows by, and however many blocks, number n stands for the n-th row."""
    monkeypatch.setattr(states, "_BLOCK", block)
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(500, 3)))
    pool, at = RowPool(), 0
    while at < 500:
        size = min(int(rng.integers(1, 60)), 500 - at)
        numbers = pool.add((rows[at : at + size], rows[at : at + size, 0]))
        np.testing.assert_array_equal(numbers, np.arange(at, at + size))
        at += size
    wanted = rng.integers(0, 500, size=200)
    taken = pool.take(wanted)
    assert torch.equal(taken[0], rows[torch.from_numpy(wanted)])
    assert torch.equal(taken[1], rows[torch.from_numpy(wanted), 0])


@pytest.mark.parametrize("block", [7, 4096])
def test_freed_rows_are_given_again_and_no_others(block, monkeypatch):
    """Against a dictionary: what is kept stays what it was, and there are never more numbers than rows were kept."""
    monkeypatch.setattr(states, "_BLOCK", block)
    rng, pool, kept, most = np.random.default_rng(1), RowPool(), {}, 0
    for value in range(200):
        count = int(rng.integers(1, 20))
        numbers = pool.add((torch.arange(count)[:, None] + 1000 * value,))
        assert not kept.keys() & set(numbers.tolist())
        kept |= {number: 1000 * value + row for row, number in enumerate(numbers.tolist())}
        most = max(most, len(kept))
        assert max(kept) < most
        gone = rng.permutation(list(kept))[: rng.integers(0, len(kept))]
        pool.free(gone)
        for number in gone.tolist():
            del kept[number]
        some = np.array(list(kept))
        assert pool.take(some)[0][:, 0].tolist() == list(kept.values())
    again = RowPool()
    again.restore(some, pool.take(some))
    assert again.take(some)[0][:, 0].tolist() == list(kept.values())
    assert not kept.keys() & set(again.add((torch.zeros(50, 1, dtype=torch.long),)).tolist())


def test_a_recurrent_model_starts_from_its_initial_state(lstm):
    """Without any prompt the first token's costs come from h = 0, and the second's from the first alone."""
    every = np.arange(10)
    with evaluating(lstm):
        session = LanguageModel(lstm).session([], 2)
        bits, _ = session.advance(session.state, np.array([[5]]), every[None, None])
    initial = -torch.log_softmax(lstm.lm_head.bias.double(), -1).detach().numpy() / np.log(2.0)
    assert session.prompt_bits.size == 0
    np.testing.assert_allclose(session.bits(every), initial[:10], atol=1e-5)
    np.testing.assert_allclose(bits[0, 0], bits_by_full_pass(lstm, [5])[0, :10], atol=1e-4)


def test_a_cache_that_forgets_is_not_trusted(tokenizer):
    """Jamba's state-space layers start anew with each chunk: found so, tokens go in one by one."""
    model = oracles.small_model("jamba", len(tokenizer))
    ids = [2, 5, 9, 4, 7, 3, 8]
    with evaluating(model):
        session = LanguageModel(model).session(ids[:4], 3)
        bits, _ = session.advance(session.state, np.array([ids[4:]]), np.tile(np.arange(10), (1, 3, 1)))
        cached = model(input_ids=torch.tensor([ids[:4]]), use_cache=True).past_key_values
        forgetful = model(
            input_ids=torch.tensor([ids[4:]]), past_key_values=copy.deepcopy(cached), use_cache=True
        ).logits
    full = bits_by_full_pass(model, ids)
    np.testing.assert_allclose(bits[0], full[4:, :10], atol=1e-4)
    wrong = -torch.log_softmax(forgetful[0].double(), -1).numpy() / np.log(2.0)
    assert np.abs(wrong[:, :10] - full[4:, :10]).max() > 0.01  # if this ends, transformers has mended it


@pytest.mark.parametrize("name", ["gpt2", "table", "lstm"])
@pytest.mark.parametrize("max_memory", [10**5, 10**6])
def test_batches_stay_within_the_memory(tokenizer, name, max_memory):
    """Logits of one pass, what is replayed, and the states of all levels; fewer rows for longer ones."""
    model = oracles.small_model(name, len(tokenizer))
    with evaluating(model):
        view = LanguageModel(model, max_memory=max_memory)
        deep, shallow = view.session(PROMPT, 40), view.session(PROMPT, 1)
        assert deep.rows_at_once(1) <= shallow.rows_at_once(1)
        assert deep.rows_at_once(30) <= deep.rows_at_once(1)
        assert deep.rows_at_once(1, levels=9) < deep.rows_at_once(1) or deep.rows_at_once(1) == 1
        rows = deep.rows_at_once(1)
        replayed = 44 if name == "table" else 0  # it has no cache
        assert rows == 1 or rows * (replayed + 1) * view.vocabulary * 8 <= max_memory
        assert LanguageModel(model, batch_size=7, max_memory=1).session(PROMPT, 1).rows_at_once(1) == 7


def test_wrappers_are_taken_off(lstm):
    """A compiled model would be compiled anew for each shape of a batch."""
    with evaluating(torch.compile(lstm, backend="eager")) as bare:
        assert bare is lstm


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
        LanguageModel(lstm).session([2, 5000], 1)


def test_more_tokens_than_positions_are_an_error():
    """Nothing is truncated."""
    model = oracles.small_model("gpt2", 20)
    with evaluating(model), pytest.raises(ModelError, match="at most 64 tokens"):
        LanguageModel(model).session([2] * 60, 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error(tokenizer, value):
    """NaN anywhere, or +inf, makes every probability meaningless."""
    model = oracles.small_model("lstm", len(tokenizer))
    with torch.no_grad():
        model.lm_head.bias[7] = value
    with evaluating(model), pytest.raises(ModelError, match="logits"):
        LanguageModel(model).session(PROMPT, 1).bits(np.array([3]))


def test_an_impossible_token_costs_infinity(tokenizer):
    """A logit of −inf is a legal infinite cost; the other tokens keep theirs."""
    model = oracles.small_model("lstm", len(tokenizer))
    with torch.no_grad():
        model.lm_head.bias[7] = float("-inf")
    with evaluating(model):
        bits = LanguageModel(model).session(PROMPT, 1).bits(np.array([7, 8]))
    assert bits[0] == np.inf
    assert np.isfinite(bits[1])


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_bad_batch_sizes(lstm, size):
    """A batch has at least one row."""
    with pytest.raises(ArgumentError, match="batch_size"):
        LanguageModel(lstm, batch_size=size)


def test_memory_is_a_quarter_of_what_is_free(monkeypatch):
    """On CUDA; never nothing, and elsewhere a number that is known beforehand."""
    for free, expected in ((80 << 30, 20 << 30), (1 << 30, 1 << 28), (0, 1 << 26)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 << 30))
        assert language_model._memory_of(torch.device("cuda", 0)) == expected
    assert language_model._memory_of(torch.device("cpu")) == 1 << 30

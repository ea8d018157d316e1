"""Our models are ordinary citizens: saved, loaded, decoded and trained like any other."""

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import hf_canary.models as models
from hf_canary.errors import ModelError
from tests import oracles


def plain_lstm(model, ids):
    """The equations with torch's LSTM alone: (rows, tokens, vocab_size) logits."""
    lstm = nn.LSTM(model.config.embedding_size, model.config.hidden_size, model.config.num_hidden_layers)
    lstm.load_state_dict(model.lstm.state_dict())
    hidden, _ = lstm(nn.functional.embedding(ids.T, model.embedding.weight))
    return nn.functional.linear(hidden, model.lm_head.weight, model.lm_head.bias).transpose(0, 1)


def test_forward_is_the_equations(lstm):
    """Embedding, LSTM, linear head."""
    ids = torch.randint(0, 20, (3, 7), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lstm(input_ids=ids).logits, plain_lstm(lstm, ids))


def test_one_gate_by_hand():
    """A single unit, a single step, written out: h = o · tanh(i · g) from c = 0."""
    model = models.LSTMForCausalLM(
        models.LSTMConfig(vocab_size=3, embedding_size=1, hidden_size=1, num_hidden_layers=1)
    )
    x = model.embedding.weight[2, 0]
    i, _, g, o = (model.lstm.weight_ih_l0[:, 0] * x + model.lstm.bias_ih_l0 + model.lstm.bias_hh_l0).unbind()
    h = torch.sigmoid(o) * torch.tanh(torch.sigmoid(i) * torch.tanh(g))
    expected = model.lm_head.weight[:, 0] * h + model.lm_head.bias
    torch.testing.assert_close(model(input_ids=torch.tensor([[2]])).logits[0, 0], expected)


def test_stepwise_equals_the_full_pass_and_states_fork(lstm):
    """Token by token with the cache, rows reordered between steps."""
    ids = torch.randint(0, 20, (4, 6), generator=torch.Generator().manual_seed(1))
    full = lstm(input_ids=ids).logits
    output = lstm(input_ids=ids[:, :3], use_cache=True)
    torch.testing.assert_close(output.logits, full[:, :3])
    cache, order = output.past_key_values, torch.tensor([3, 0, 0, 2, 1])
    assert cache.get_seq_length() == 3
    cache.reorder_cache(order)
    for place in range(3, 6):
        step = lstm(input_ids=ids[order, place : place + 1], past_key_values=cache, use_cache=True)
        torch.testing.assert_close(step.logits[:, 0], full[order, place])


def test_padding_on_the_right_changes_nothing_before_it(lstm):
    """A mask is not needed for it."""
    ids = torch.tensor([[5, 6, 7, 8]])
    padded = torch.tensor([[5, 6, 7, 8, 0, 0]])
    torch.testing.assert_close(lstm(input_ids=padded).logits[:, :4], lstm(input_ids=ids).logits)


def test_loss_is_the_mean_over_shifted_labels(lstm):
    """−100 is left out, as everywhere in transformers."""
    ids = torch.tensor([[5, 6, 7, 8], [9, 4, 3, 3]])
    labels = torch.tensor([[5, 6, 7, 8], [9, 4, -100, -100]])
    log_probabilities = torch.log_softmax(lstm(input_ids=ids).logits, -1)
    picked = [log_probabilities[0, t, ids[0, t + 1]] for t in range(3)] + [log_probabilities[1, 0, 4]]
    torch.testing.assert_close(lstm(input_ids=ids, labels=labels).loss, -torch.stack(picked).mean())


def test_saved_and_loaded_it_is_bitwise_the_same(lstm, tokenizer, tmp_path):
    """Through the Auto classes, in safetensors."""
    lstm.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(loaded, models.LSTMForCausalLM)
    for name, tensor in lstm.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_greedy_generation_is_the_argmax_by_hand(lstm, tokenizer):
    """generate() uses the cache; the loop below has none."""
    ids = tokenizer("the ", return_tensors="pt").input_ids
    by_hand = ids
    for _ in range(8):
        by_hand = torch.cat([by_hand, lstm(input_ids=by_hand).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(
        lstm.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0), by_hand
    )


def test_beam_search_with_all_beams_is_exhaustive(lstm, tokenizer):
    """With as many beams as the vocabulary, two tokens on are the best of all pairs."""
    ids = tokenizer("the ", return_tensors="pt").input_ids
    vocabulary = len(tokenizer)
    found = lstm.generate(
        ids, max_new_tokens=2, num_beams=vocabulary, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    pairs = torch.cartesian_prod(torch.arange(vocabulary), torch.arange(vocabulary))
    logits = lstm(input_ids=torch.cat([ids.expand(len(pairs), -1), pairs], dim=1)).logits.log_softmax(-1)
    rows = torch.arange(len(pairs))
    costs = logits[rows, -3, pairs[:, 0]] + logits[rows, -2, pairs[:, 1]]
    assert found[0, -2:].tolist() == pairs[costs.argmax()].tolist()


def test_the_papers_lstm_has_its_size():
    """620 thousand parameters with Penn Treebank's 50 characters (Table 2), counted from the equations too."""
    config = AutoConfig.from_pretrained(models.config_file("lstm-2x200"))
    model = AutoModelForCausalLM.from_config(config)
    v, e, h = config.vocab_size, config.embedding_size, config.hidden_size
    counted = v * e + 4 * h * (e + h + 2) + 4 * h * (h + h + 2) + h * v + v
    assert (v, h, config.num_hidden_layers) == (50, 200, 2)
    assert model.num_parameters() == counted
    assert abs(counted - 620_000) <= 5_000


def test_initial_weights_are_not_tiny_and_come_from_the_seed():
    """An initialisation that trains: weights of order 1/sqrt(units), a forget gate that starts open."""
    torch.manual_seed(3)
    one = models.LSTMForCausalLM(models.LSTMConfig(hidden_size=64))
    torch.manual_seed(3)
    same = models.LSTMForCausalLM(models.LSTMConfig(hidden_size=64))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert one.embedding.weight.std().item() == pytest.approx(1.0, abs=0.05)
    assert one.lstm.weight_hh_l0.abs().max().item() == pytest.approx(1 / 8, rel=0.05)
    forget = (one.lstm.bias_ih_l0 + one.lstm.bias_hh_l0)[64:128]
    assert torch.equal(forget, torch.ones(64))


@pytest.mark.parametrize(
    "change", [{"hidden_size": 0}, {"hidden_size": "wide"}, {"num_hidden_layers": 1.5}, {"dropout": 1.0}]
)
def test_bad_configs_are_named(change):
    """The error names the field."""
    with pytest.raises(ModelError, match=next(iter(change))):
        models.LSTMConfig(**change)


def test_an_unknown_config_lists_the_known_ones():
    """... so that a typing error is mended at once."""
    with pytest.raises(ModelError, match="lstm-2x200"):
        models.config_file("lstm-2x2000")


def test_embeddings_can_be_resized(tokenizer):
    """Input and output grow together."""
    model = oracles.small_model("lstm", len(tokenizer))
    model.resize_token_embeddings(len(tokenizer) + 3, mean_resizing=False)
    assert model(input_ids=torch.tensor([[len(tokenizer) + 2]])).logits.shape[-1] == len(tokenizer) + 3


SPELLED = "a <|endoftext|> b<|pad|><|unk|>"


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40))
@example(SPELLED)
@example("  two  spaces\n\ttabs\r\n ")
@example("e\u0301 é ﬁ \u200b \U0001f600")
def test_the_character_tokenizer_is_lossless(text):
    """On characters that it has seen, any Unicode text comes back as it was, one token for each character."""
    tokenizer = models.character_tokenizer([text, SPELLED])
    ids = tokenizer(text).input_ids
    assert len(ids) == 1 + len(text)
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:], skip_special_tokens=False) == text


def test_a_character_never_seen_is_the_unknown_token():
    """... and only that character."""
    tokenizer = models.character_tokenizer(["abc"])
    assert tokenizer("aéc", add_special_tokens=False).input_ids == [3, tokenizer.unk_token_id, 5]


def test_the_tokenizer_loads_without_this_package(tmp_path):
    """AutoTokenizer in a fresh interpreter, with hf_canary barred, gives the same ids."""
    tokenizer = models.character_tokenizer(["the pin <|endoftext|>"])
    tokenizer.save_pretrained(tmp_path)
    program = (
        "import sys, json; sys.modules['hf_canary'] = None\n"
        "from transformers import AutoTokenizer\n"
        f"print(json.dumps(AutoTokenizer.from_pretrained({str(tmp_path)!r})('the <|endoftext|>p').input_ids))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == tokenizer("the <|endoftext|>p").input_ids
    assert AutoTokenizer.from_pretrained(tmp_path).bos_token == tokenizer.bos_token

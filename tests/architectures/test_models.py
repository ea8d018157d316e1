"""Our causal models are what their equations say, and ordinary citizens: decoded, masked, saved, resized like any."""

import copy
import json
import logging
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, pipeline

import hf_canary.models as models
from hf_canary.errors import ModelError
from hf_canary.models import half_precision
from tests.support import oracles, oracles_models
from tests.support.repetitions import times

KINDS = sorted(oracles.models_of_the_paper())
VOCABULARY = 20


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


MODELS = {kind: oracles.small_model(kind, VOCABULARY).eval() for kind in KINDS}


@pytest.fixture(scope="module")
def model(kind):
    return MODELS[kind]


def random_ids(rows, tokens, seed=0):
    # Without 0, which `generate` takes for padding.
    return torch.randint(1, VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits_of(model, ids, **options):
    return model(input_ids=ids, **options).logits


def test_forward_is_the_equations(model, kind):
    """Written out token by token in float64, from the weights alone."""
    ids = random_ids(2, 12)
    for row in range(2):
        expected = oracles_models.CAUSAL_LOGITS[kind](model, ids[row].tolist())
        np.testing.assert_allclose(logits_of(model, ids)[row], expected, atol=1e-5 * np.abs(expected).max())


def test_stepwise_equals_the_full_pass(model):
    """One token at a time, or in pieces of any size, with the cache between them."""
    ids = random_ids(3, 14, seed=1)
    full = logits_of(model, ids)
    for pieces in ([1] * 14, [5, 1, 8], [2, 12], [13, 1]):
        cache, done = None, 0
        for piece in pieces:
            with torch.no_grad():
                output = model(input_ids=ids[:, done : done + piece], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            torch.testing.assert_close(output.logits, full[:, done : done + piece], atol=1e-5, rtol=1e-5)
            done += piece
            assert cache.get_seq_length() == done


def test_states_are_selected_and_repeated_exactly(model):
    """Rows in any order, several times: bit for bit, and each goes on as the text that it is."""
    ids, order = random_ids(4, 6, seed=2), torch.tensor([3, 0, 0, 2, 1])
    with torch.no_grad():
        cache = model(input_ids=ids[:, :5], use_cache=True).past_key_values
    before = [tensor.clone() for tensor in cache.rows()]
    cache.reorder_cache(order)
    assert all(torch.equal(new, old[order]) for new, old in zip(cache.rows(), before, strict=True))
    cache.batch_repeat_interleave(2)
    assert all(torch.equal(new, old[order.repeat_interleave(2)]) for new, old in zip(cache.rows(), before, strict=True))
    cache.batch_select_indices(torch.arange(0, 10, 2))
    step = logits_of(model, ids[order, 5:], past_key_values=cache, use_cache=True)
    torch.testing.assert_close(step[:, 0], logits_of(model, ids)[order, 5], atol=1e-5, rtol=1e-5)


def test_a_token_changes_nothing_before_it(model):
    """... at any place, and something at that place."""
    ids = random_ids(1, 12, seed=3)
    full = logits_of(model, ids)
    for place in range(12):
        changed = ids.clone()
        changed[0, place] = changed[0, place] % (VOCABULARY - 1) + 1
        other = logits_of(model, changed)
        torch.testing.assert_close(other[:, :place], full[:, :place], atol=1e-6, rtol=1e-6)
        assert not torch.allclose(other[:, place], full[:, place])


@contextmanager
def recorded_shapes(layers):
    """The shapes of what each layer reads; the counter does not look into an LSTM."""
    shapes = []

    def record(_, values):
        shapes.append([value.shape for value in values if isinstance(value, torch.Tensor)])

    hooks = [layer.register_forward_pre_hook(record) for layer in layers]
    yield shapes
    for hook in hooks:
        hook.remove()


def test_a_step_costs_the_same_after_any_text(model):
    """Work and state are as large after 60 tokens as after 3; counted, not timed."""
    costs = []
    for length in (3, 60):
        with torch.no_grad():
            cache = model(input_ids=random_ids(1, length), use_cache=True).past_key_values
            stored = [tensor.untyped_storage().nbytes() for tensor in cache.rows()]
            with FlopCounterMode(display=False) as counter, recorded_shapes(model.model.layers) as shapes:
                model(input_ids=random_ids(1, 1), past_key_values=cache, use_cache=True)
        assert len(shapes) == len(model.model.layers)
        costs.append((counter.get_total_flops(), shapes, stored))
    assert costs[0] == costs[1]


@settings(deadline=None, max_examples=times(25))
@given(st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=3))
def test_masked_tokens_are_skipped(rows):
    """Left, right, or in the middle: the other tokens get what they get without them, and so does the state."""
    mask = torch.tensor(rows).long()
    ids = random_ids(len(rows), 9, seed=4)
    following = random_ids(len(rows), 1, seed=5)
    for model in MODELS.values():
        with torch.no_grad():
            output = model(input_ids=ids, attention_mask=mask, use_cache=True)
            longer = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            step = logits_of(model, following, attention_mask=longer, past_key_values=output.past_key_values)
            stateless = logits_of(model, ids, attention_mask=mask, use_cache=False)
            without_dropout(training := copy.deepcopy(model).train())
            trained = logits_of(training, ids, attention_mask=mask, use_cache=False)
        for row, real in enumerate(mask.bool()):
            text = torch.cat([ids[row, real], following[row]])[None]
            alone = logits_of(model, text)[0]
            tolerance = {"atol": 1e-6 * alone.abs().max().item(), "rtol": 1e-5}
            torch.testing.assert_close(output.logits[row, real], alone[:-1], **tolerance)
            torch.testing.assert_close(stateless[row, real], alone[:-1], **tolerance)
            torch.testing.assert_close(trained[row, real], alone[:-1], **tolerance)
            torch.testing.assert_close(step[row, 0], alone[-1], **tolerance)


def test_padding_on_the_right_changes_nothing_before_it(model):
    """No mask is needed for it, and with one the logits are the same, with and without a cache."""
    ids = random_ids(1, 6, seed=6)
    padded, mask = torch.cat([ids, ids.new_zeros(1, 4)], dim=1), torch.tensor([[1] * 6 + [0] * 4])
    expected = logits_of(model, ids)
    for options in ({}, {"attention_mask": mask}, {"attention_mask": mask, "use_cache": False}):
        torch.testing.assert_close(logits_of(model, padded, **options)[:, :6], expected, atol=1e-6, rtol=1e-6)


def test_loss_is_the_mean_over_shifted_labels(model):
    """−100 is left out, as everywhere in transformers."""
    ids = torch.tensor([[5, 6, 7, 8], [9, 4, 3, 3]])
    labels = torch.tensor([[5, 6, 7, 8], [9, 4, -100, -100]])
    output = model(input_ids=ids, labels=labels)
    log_probabilities = torch.log_softmax(output.logits, -1)
    picked = [log_probabilities[0, t, ids[0, t + 1]] for t in range(3)] + [log_probabilities[1, 0, 4]]
    torch.testing.assert_close(output.loss, -torch.stack(picked).mean())
    torch.testing.assert_close(model(input_ids=ids, labels=labels, return_dict=False)[0], output.loss)


def test_logits_that_are_kept(model):
    """The last so many, or those of an index."""
    ids = random_ids(2, 7)
    full = logits_of(model, ids)
    torch.testing.assert_close(logits_of(model, ids, logits_to_keep=2), full[:, -2:])
    torch.testing.assert_close(logits_of(model, ids, logits_to_keep=torch.tensor([0, 4])), full[:, [0, 4]])


def test_embeddings_stand_for_ids(model):
    """`inputs_embeds` of the same tokens gives the same logits."""
    ids = random_ids(2, 5)
    embedded = model.get_input_embeddings()(ids).detach()
    with torch.no_grad():
        torch.testing.assert_close(model(inputs_embeds=embedded).logits, logits_of(model, ids))


def test_saved_and_loaded_it_is_bitwise_the_same(model, kind, tmp_path):
    """Through the Auto classes, in safetensors, in an interpreter that only imports `hf_canary.models`."""
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("model*")) == ["model.safetensors"]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    assert torch.equal(logits_of(loaded, random_ids(2, 5)), logits_of(model, random_ids(2, 5)))


def generated(model, ids, steps=7, **options):
    return model.generate(ids, max_new_tokens=steps, eos_token_id=None, pad_token_id=0, **options)


def test_greedy_generation_is_the_argmax_by_hand(model):
    """generate() uses the cache; the loop below has none."""
    by_hand = ids = random_ids(3, 4)
    for _ in range(7):
        by_hand = torch.cat([by_hand, logits_of(model, by_hand)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(generated(model, ids, do_sample=False), by_hand)


def test_texts_of_different_length_are_generated_together(model):
    """Padded on the left, each goes on as it does alone."""
    texts = [[4], [5, 6, 7, 8], [9, 10, 11]]
    ids = torch.tensor([[0] * (4 - len(text)) + text for text in texts])
    mask = torch.tensor([[0] * (4 - len(text)) + [1] * len(text) for text in texts])
    together = generated(model, ids, attention_mask=mask, do_sample=False)
    for row, text in enumerate(texts):
        alone = generated(model, torch.tensor([text]), do_sample=False)
        assert together[row, 4:].tolist() == alone[0, len(text) :].tolist()


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.filterwarnings("ignore")  # generate warns of padding on the right, which it cannot know to be harmless
def test_padding_on_the_right_is_skipped_in_generation_too(model, use_cache):
    """A masked token stands for what stood before it, so that each text goes on as it does alone."""
    ids = torch.tensor([[4, 0, 0, 0], [5, 6, 7, 8], [9, 10, 11, 0]])
    together = generated(model, ids, attention_mask=(ids != 0).long(), do_sample=False, use_cache=use_cache)
    for row in range(3):
        alone = generated(model, ids[row : row + 1, : (ids[row] != 0).sum()], do_sample=False)
        assert together[row, 4:].tolist() == alone[0, (ids[row] != 0).sum() :].tolist()


@pytest.mark.parametrize("shape", [(1, 5), (2, 4), (10,), (2, 1, 1, 5)])
def test_a_mask_of_another_shape_is_refused(model, shape):
    """Also where it is all ones."""
    with pytest.raises(ModelError, match="attention_mask"):
        model(input_ids=random_ids(2, 5), attention_mask=torch.ones(shape))


def test_sampling_does_not_depend_on_the_cache(model):
    """The same seed draws the same tokens with the cache and by full passes."""
    drawn = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        drawn.append(generated(model, random_ids(4, 3), do_sample=True, use_cache=use_cache))
    assert torch.equal(*drawn)
    assert len({tuple(row) for row in drawn[0][:, 3:].tolist()}) > 1


@pytest.mark.parametrize("num_beams", [2, 5])
def test_beam_search_is_the_slow_one(model, num_beams):
    """The same text and score as beams that are scored by full passes."""
    ids = random_ids(1, 3, seed=7)
    slow, score = oracles_models.slow_beam_search(
        lambda prefix: logits_of(model, torch.tensor([prefix]))[0, -1].log_softmax(-1), ids[0].tolist(), num_beams, 6
    )
    options = {"num_beams": num_beams, "do_sample": False, "length_penalty": 0.0}
    found = generated(model, ids, 6, return_dict_in_generate=True, output_scores=True, **options)
    assert found.sequences[0].tolist() == slow
    assert found.sequences_scores[0].item() == pytest.approx(score, abs=1e-4)


def test_the_pipeline_writes(kind, tokenizer):
    """`pipeline("text-generation")` takes model and tokenizer as they are."""
    model = oracles.small_model(kind, len(tokenizer))
    write = pipeline("text-generation", model=model, tokenizer=tokenizer)
    text = write("the pin", max_new_tokens=4, do_sample=False)[0]["generated_text"]
    assert text.startswith("the pin")
    assert len(text) > len("the pin")


@pytest.mark.parametrize("size", [VOCABULARY + 3, VOCABULARY - 5])
def test_embeddings_can_be_resized(kind, size):
    """Input and output grow and shrink together, tied ones too; the known tokens keep their logits."""
    model = oracles.small_model(kind, VOCABULARY).eval()
    ids, kept = random_ids(1, 6) % 14 + 1, min(size, VOCABULARY)
    before = logits_of(model, ids)
    model.resize_token_embeddings(size, mean_resizing=False)
    after = logits_of(model, ids)
    assert after.shape[-1] == model.config.vocab_size == size
    torch.testing.assert_close(after[..., :kept], before[..., :kept])
    model.train()
    assert torch.isfinite(model(input_ids=ids, labels=ids).loss)


def test_checkpointed_gradients_are_the_same(kind):
    """Recomputed in the backward pass, with the same dropout."""
    gradients = []
    for checkpointing in (False, True):
        model = oracles.small_model(kind, VOCABULARY).train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.3
        if checkpointing:
            # transformers has renamed it on the way.
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
            assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        torch.manual_seed(0)
        ids = random_ids(3, 8)
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


@pytest.mark.filterwarnings("ignore")  # torch warns of its own
def test_compiled_it_computes_the_same(model, kind):
    """Through torch.compile's tracer, convolutions in one graph; left padding and a training step included."""
    torch._dynamo.reset()
    count = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(copy.deepcopy(model), backend=count)
    ids, mask = random_ids(2, 6), torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    torch.testing.assert_close(logits_of(compiled, ids), logits_of(model, ids), atol=1e-5, rtol=1e-5)
    assert count.frame_count == 1 if kind in ("cnn", "wavenet") else count.frame_count > 0
    masked = logits_of(compiled, ids, attention_mask=mask)[mask.bool()]
    torch.testing.assert_close(masked, logits_of(model, ids, attention_mask=mask)[mask.bool()], atol=1e-5, rtol=1e-5)
    gradients = []
    for each in (compiled, copy.deepcopy(model)):
        without_dropout(each)
        each.train()
        each.zero_grad()
        each(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        gradients.append([parameter.grad for parameter in each.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    torch._dynamo.reset()


def test_every_parameter_and_every_dropout_has_its_part(kind):
    """Each has a gradient, but for the residual above which a WaveNet has no layer; each dropout module is called."""
    model = oracles.small_model(kind, VOCABULARY).train()
    without_dropout(model)
    called = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    ids = random_ids(4, 12)
    model(input_ids=ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        half = parameter.grad
        if kind == "wavenet" and name.startswith("model.layers.2.out"):
            unread, half = parameter.grad.chunk(2)
            assert not unread.any()
        assert half.any(), name
    assert set(called) == {name for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    # A module that all layers share is called before the first and after each; others are called once.
    once = len(model.model.layers) + 1 if kind == "cnn" else 1
    assert all(called.count(name) == once for name in called)


@pytest.mark.parametrize("tied", [True, False])
def test_heads_are_tied_where_the_config_says_so(tied, tmp_path):
    """One tensor or two, in memory and after loading."""
    config = models.LSTMConfig(
        vocab_size=VOCABULARY, embedding_size=8, hidden_size=8, tie_word_embeddings=tied, num_hidden_layers=1
    )
    models.LSTMForCausalLM(config).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (loaded.lm_head.weight is loaded.model.embedding.weight) == tied


def test_widths_that_cannot_be_tied_are_named():
    """The error says which width the embedding would need."""
    with pytest.raises(ModelError, match=r"tie_word_embeddings.*24"):
        models.LSTMForCausalLM(models.LSTMConfig(embedding_size=12, hidden_size=24, tie_word_embeddings=True))


def test_initial_weights_come_from_the_seed_and_are_not_tiny(kind):
    """Weights are of the order of 1/√fan; the first logits say little yet."""
    make = oracles.models_of_the_paper()[kind]
    torch.manual_seed(3)
    one = make(50)
    torch.manual_seed(3)
    same = make(50)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    loss = one(input_ids=random_ids(8, 30), labels=random_ids(8, 30)).loss.item()
    assert loss == pytest.approx(np.log(50), abs=0.4)
    for name, parameter in one.named_parameters():
        if "weight" in name and "embedding" not in name and "lm_head" not in name:
            assert parameter.std().item() * parameter[0].numel() ** 0.5 > 0.4, name


@pytest.mark.parametrize(("tied", "deviation"), [(False, 1.0), (True, 0.1)])
def test_embeddings_are_unit_sized_or_tied_to_the_head(tied, deviation):
    """Tied ones are the head's weights as well, and of the order of 1/√fan."""
    config = models.AWDLSTMConfig(vocab_size=200, embedding_size=100, hidden_size=100, tie_word_embeddings=tied)
    weight = models.AWDLSTMForCausalLM(config).model.embedding.weight
    assert weight.std().item() == pytest.approx(deviation, rel=0.05)


def test_an_lstms_forget_gate_starts_open():
    """At 1, all other biases at 0."""
    bias = models.LSTMForCausalLM(models.LSTMConfig(hidden_size=8)).model.layers[0].cell
    assert (bias.bias_ih_l0 + bias.bias_hh_l0).tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16


def without_dropout(model):
    model.config.embedding_dropout = 0.0
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "weight_drop"):
            module.weight_drop = 0.0


def steps_to_learn(model, tiny):
    """Adam's steps until a short text is known by heart, 400 at most."""
    if tiny:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.zero_() if "bias" in name else parameter.normal_(0.0, 0.02)
    without_dropout(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    ids = random_ids(4, 12, seed=8)
    for step in range(400):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        if loss.item() < 0.7:
            return step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return 400


def test_initial_weights_train(kind):
    """Sooner than from normal weights of 0.02, which transformers would draw."""
    make = oracles.models_of_the_paper()[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours, tiny = steps_to_learn(make(VOCABULARY), False), steps_to_learn(make(VOCABULARY), True)
    assert ours < 0.8 * tiny
    assert ours < 400


def test_a_config_is_checked_again_when_a_model_is_made(tmp_path):
    """What was changed after it was made, as `AutoConfig.from_pretrained(..., name=value)` does."""
    models.LSTMConfig().save_pretrained(tmp_path)
    for changes in ({"num_hidden_layers": 0}, {"vocab_size": 0}, {"dropout": 2.0}, {"use_cache": "no"}):
        with pytest.raises(ModelError, match=next(iter(changes))):
            AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path, **changes))


def test_numbers_of_numpy_become_pythons():
    """... so that the config can be written."""
    config = models.WaveNetConfig(hidden_size=np.int64(12), max_dilation=np.int32(4), dropout=np.float32(0.5))
    assert json.loads(config.to_json_string())["hidden_size"] == 12
    assert config.dilations() == [1, 2]
    assert type(config.dropout) is float


def test_several_texts_in_a_row_are_refused(model):
    """A state would go on from one to the next; positions that only count are none of that."""
    ids = random_ids(1, 6)
    torch.testing.assert_close(logits_of(model, ids, position_ids=torch.arange(6)[None]), logits_of(model, ids))
    with pytest.raises(ModelError, match=r"position_ids.*packing"):
        model(input_ids=ids, position_ids=torch.tensor([[0, 1, 2, 0, 1, 2]]))


def test_ids_or_embeddings(model):
    """One of them."""
    with pytest.raises(ModelError, match=r"input_ids.*neither"):
        model()
    with pytest.raises(ModelError, match=r"input_ids.*both"):
        model(input_ids=random_ids(1, 2), inputs_embeds=model.get_input_embeddings()(random_ids(1, 2)))


def test_a_model_without_head_is_there_too(model, kind, tmp_path):
    """AutoModel loads the layers of the same checkpoint."""
    model.save_pretrained(tmp_path)
    body, ids = AutoModel.from_pretrained(tmp_path).eval(), random_ids(2, 5)
    with torch.no_grad():
        torch.testing.assert_close(model.lm_head(body(input_ids=ids).last_hidden_state), logits_of(model, ids))


CONFIGS = {name: getattr(models, name) for name in models.__all__ if name.endswith("Config")}


@pytest.mark.parametrize("name", CONFIGS)
def test_bad_configs_are_named(name):
    """The error names the field, whichever it is."""
    config = CONFIGS[name]
    for field in config.sizes:
        if field in config.__annotations__ or field == "vocab_size":
            for value in (0, -3, 1.5, "wide", True, None):
                with pytest.raises(ModelError, match=field):
                    config(**{field: value})
    for field in config.flags:
        for value in (1, "false", None):
            with pytest.raises(ModelError, match=field):
                config(**{field: value})
    for field in config.rates:
        for value in (1.0, -0.1, float("nan"), "much", "0.5", False, None):
            with pytest.raises(ModelError, match=field):
                config(**{field: value})


def test_weight_drop_leaves_out_the_same_weights_at_all_tokens():
    """The training pass is the evaluation pass of a model whose weights were dropped by hand."""
    rates = dict.fromkeys(("embedding_dropout", "input_dropout", "hidden_dropout", "output_dropout"), 0.0)
    config = models.AWDLSTMConfig(vocab_size=VOCABULARY, embedding_size=6, hidden_size=9, weight_drop=0.5, **rates)
    model = models.AWDLSTMForCausalLM(config)
    dropped = copy.deepcopy(model)
    torch.manual_seed(4)
    for layer in dropped.model.layers:
        with torch.no_grad():
            layer.cell.weight_hh_l0.copy_(nn.functional.dropout(layer.cell.weight_hh_l0, 0.5))
    ids = random_ids(3, 7)
    torch.manual_seed(4)
    output = model.train()(input_ids=ids, labels=ids)
    torch.testing.assert_close(output.logits, logits_of(dropped.eval(), ids))
    output.loss.backward()
    for layer, other in zip(model.model.layers, dropped.model.layers, strict=True):
        left_out = other.cell.weight_hh_l0 == 0
        assert 0.2 < left_out.float().mean() < 0.8
        assert not layer.cell.weight_hh_l0.grad[left_out].any()
        assert layer.cell.weight_hh_l0.grad[~left_out].any()


def test_a_dropped_word_is_dropped_wherever_it_stands():
    """... and the others are scaled up."""
    config = models.AWDLSTMConfig(vocab_size=VOCABULARY, embedding_size=6, hidden_size=9, embedding_dropout=0.5)
    model = models.AWDLSTMModel(config).train()
    ids = random_ids(4, 30)
    torch.manual_seed(0)
    ratio = (model.embed(ids) / model.embedding(ids)).detach().mean(-1)
    of_word = {word: set(ratio[ids == word].round(decimals=4).tolist()) for word in ids.unique().tolist()}
    assert all(len(values) == 1 for values in of_word.values())
    assert set.union(*of_word.values()) == {0.0, 2.0}


def test_variational_dropout_is_one_mask_for_a_row():
    """The same features at all tokens, others in another row; nothing in evaluation; the mean is kept."""
    from hf_canary.models.recurrent import VariationalDropout

    dropout = VariationalDropout(0.25)
    torch.manual_seed(0)
    dropped = dropout(torch.ones(40, 5, 200))
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert not torch.equal(dropped[0], dropped[1])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(dropout.eval()(dropped), dropped)


@pytest.mark.parametrize(("layers", "largest", "expected"), [(4, 512, [1, 2, 4, 8]), (5, 4, [1, 2, 4, 1, 2])])
def test_dilations_double_and_start_anew(layers, largest, expected):
    """As van den Oord et al. 2016: 1, 2, 4, ..., and again."""
    assert models.WaveNetConfig(num_hidden_layers=layers, max_dilation=largest).dilations() == expected


RECURRENT = {kind: partial(oracles.small_model, kind, VOCABULARY) for kind in ("lstm", "gru", "awd-lstm")} | {
    f"{cell} that translates, {how} attention": partial(oracles.small_translation, cell, how == "with", VOCABULARY)
    for cell in ("lstm", "gru")
    for how in ("with", "without")
}
BY = ["autocast", "weights"]  # how half precision is asked for


@pytest.fixture
def untried():
    """As if half precision had never been asked for."""
    half_precision._found.cache_clear()
    yield
    half_precision._found.cache_clear()


@pytest.fixture
def tried(untried, monkeypatch):
    """The types that the kernel has been tried in."""
    types, attempt = [], half_precision._try
    monkeypatch.setattr(half_precision, "_try", lambda half: types.append(half) or attempt(half))
    return types


@pytest.fixture
def without_kernel(untried, monkeypatch):
    """A processor that has no kernel in half precision, whatever this one has."""

    def fail(half):
        raise RuntimeError("could not create a primitive descriptor")

    monkeypatch.setattr(half_precision, "_try", fail)


def in_half(by):
    return torch.autocast("cpu", torch.bfloat16, enabled=by == "autocast")


def a_step(model, by=None):
    """The loss of three texts of different length, and each parameter's gradient; the same dropout at each call."""
    ids, mask = random_ids(3, 8, seed=9), torch.tensor([[1] * 8, [0] * 3 + [1] * 5, [1] * 6 + [0] * 2])
    model.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with in_half(by):
            losses = [model(input_ids=ids, labels=ids, attention_mask=each).loss for each in (None, mask)]
        sum(losses).backward()
    return sum(losses).item(), [parameter.grad for parameter in model.parameters()]


@contextmanager
def types_of_cells(model):
    """(type of what each cell reads, whether autocast is on)."""
    types = set()

    def record(_, values):
        inputs = getattr(values[0], "data", values[0])
        types.add((inputs.dtype, torch.is_autocast_enabled("cpu")))

    cells = [module for module in model.modules() if isinstance(module, (nn.LSTM, nn.GRU))]
    hooks = [cell.register_forward_pre_hook(record) for cell in cells]
    yield types
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("name", RECURRENT)
def test_without_a_kernel_it_trains_as_in_float32(name, by, without_kernel):
    """The cells compute in float32; loss and gradients are float32's but for rounding, in the parameters' types."""
    model = RECURRENT[name]().train()
    if by == "weights":
        model = model.to(torch.bfloat16)
    exact = copy.deepcopy(model).float()
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model, exact)]
    for _ in range(2):
        with types_of_cells(model) as types:
            loss, gradients = a_step(model, by)
        assert types == {(torch.float32, False)}
        expected_loss, expected = a_step(exact)
        assert loss == pytest.approx(expected_loss, rel=0.01)
        for parameter, gradient, wanted in zip(model.parameters(), gradients, expected, strict=True):
            assert gradient.dtype == parameter.dtype
            assert (gradient - wanted).norm() < 0.15 * wanted.norm()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_layer_trains_in_either_half_on_any_processor(kind, half, by):
    """In bfloat16 and float16, whether there is a kernel or not."""
    layer, inputs = models.recurrent.RecurrentLayer(kind, 5, 6), torch.ones(2, 4, 5)
    if by == "weights":
        layer, inputs = layer.to(half), inputs.to(half)
    with torch.autocast("cpu", half, enabled=by == "autocast"):
        hidden, after = layer(inputs, layer.zeros(2, inputs))
    (hidden.sum() + after.sum()).backward()
    assert all(parameter.grad.any() for parameter in layer.parameters())


@pytest.mark.parametrize(
    ("by", "state"), [("autocast", torch.float32), ("autocast", torch.bfloat16), ("weights", torch.bfloat16)]
)
@pytest.mark.parametrize("lengths", [None, [4, 4], [4, 2]])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_types_without_a_kernel_are_those_with_one(kind, lengths, state, by, without_kernel, monkeypatch):
    """A kernel gives what is asked for; torch's own steps, of GRUs and texts of different length, keep the state's."""
    half = torch.bfloat16
    cell, inputs = kind(5, 6, batch_first=True), torch.ones(2, 4, 5)
    if by == "weights":
        cell, inputs = cell.to(half), inputs.to(half)
    before = torch.zeros(2 if kind is nn.LSTM else 1, 2, 6, dtype=state)
    if lengths is not None:
        inputs = nn.utils.rnn.pack_padded_sequence(inputs, torch.tensor(lengths), batch_first=True)

    def types():
        with in_half(by):
            hidden, after = half_precision.run_cell(cell, {}, inputs, before)
        return getattr(hidden, "data", hidden).dtype, after.dtype

    expected = half if kind is nn.LSTM and lengths != [4, 2] else state
    assert types() == (expected, expected)
    monkeypatch.undo()
    half_precision._found.cache_clear()
    is_old = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9)  # and packs rows of one length as others
    if half_precision.has_kernel(half) and not (is_old and lengths is not None):
        assert types() == (expected, expected)


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("name", RECURRENT)
def test_without_a_kernel_it_writes(name, by, without_kernel):
    """Through its cache, whose states have the type that the full pass has; several beams too."""
    model = RECURRENT[name]().eval()
    if by == "weights":
        model = model.to(torch.bfloat16)
    ids = random_ids(2, 4)
    with in_half(by):
        for beams in (1, 3):
            written = generated(model, ids, 5, do_sample=False, num_beams=beams, return_dict_in_generate=True)
            assert written.sequences.shape[1] > 4
        types = {state.dtype for state in written.past_key_values.rows()}
    assert types <= ({torch.bfloat16} if by == "weights" else {torch.float32, torch.bfloat16})


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_kernel_is_tried_once(mode, tried):
    """... when half precision is first asked for, with the same answer in any mode; nothing is drawn."""
    model, ids = oracles.small_model("lstm", VOCABULARY).eval(), random_ids(2, 5)
    answer = half_precision.has_kernel(torch.bfloat16)
    half_precision._found.cache_clear()
    tried.clear()
    model(input_ids=ids)
    assert tried == []
    before = torch.random.get_rng_state()
    with mode(), in_half("autocast"):
        model(input_ids=ids)
        model(input_ids=ids)
    model.to(torch.bfloat16)(input_ids=ids)
    assert tried == [torch.bfloat16]
    assert half_precision.has_kernel(torch.bfloat16) == answer
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("name", ["lstm", "awd-lstm"])
def test_the_kernel_can_be_tried_within_a_checkpoint(name, by, tried):
    """Whose hooks see nothing of it: the gradients are the same as without."""
    gradients = []
    for checkpointing in (True, False):
        model = RECURRENT[name]().train().to(torch.bfloat16 if by == "weights" else torch.float32)
        if checkpointing:
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        gradients.append(a_step(model, by)[1])
    assert tried == [torch.bfloat16]
    for checkpointed, plain in zip(*gradients, strict=True):
        assert torch.equal(checkpointed, plain)


@pytest.mark.parametrize("by", BY)
@pytest.mark.filterwarnings("ignore")  # torch warns of its own
def test_without_a_kernel_a_layer_compiles_to_one_graph(by, without_kernel):
    """Where torch traces LSTMs at all; it takes the answer for a constant."""
    torch._dynamo.reset()
    layer, inputs = models.recurrent.RecurrentLayer(nn.LSTM, 5, 6, weight_drop=0.5), torch.ones(2, 4, 5)
    if by == "weights":
        layer, inputs = layer.to(torch.bfloat16), inputs.to(torch.bfloat16)

    def run():
        with torch.random.fork_rng(), in_half(by):
            torch.manual_seed(0)
            return layer(inputs, layer.zeros(2, inputs))

    expected = run()
    half_precision._found.cache_clear()
    with torch._dynamo.config.patch(allow_rnn=True):
        layer.compile(backend="eager", fullgraph=True)
        compiled = run()
    for one, other in zip(compiled, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other)
    torch._dynamo.reset()


@pytest.mark.parametrize("half_of_it", ["torch.lstm", "torch.autograd.grad"])
def test_a_kernel_is_one_that_goes_forward_and_backward(half_of_it, untried, monkeypatch):
    """One of both is none."""

    def fail(*_):
        raise RuntimeError("could not create a primitive descriptor")

    monkeypatch.setattr(half_of_it, fail)
    assert not half_precision.has_kernel(torch.bfloat16)


def test_a_kernel_that_is_not_there_is_told_once(without_kernel, caplog):
    """To those who debug, with torch's words."""
    caplog.set_level(logging.DEBUG, half_precision.__name__)
    model = RECURRENT["lstm"]()
    for _ in range(2):
        a_step(model, "autocast")
    told = [record.getMessage() for record in caplog.records if record.name == half_precision.__name__]
    assert len(told) == 1
    assert "torch.bfloat16 are computed in float32" in told[0]
    assert "could not create a primitive descriptor" in told[0]


def test_the_kernel_matters_to_processors_in_half_precision_alone(tried):
    """Other devices, float32 without autocast and float64 within are computed as they come."""
    layer, inputs = models.recurrent.RecurrentLayer(nn.LSTM, 5, 6), torch.ones(2, 4, 5)
    layer(inputs, layer.zeros(2, inputs))
    elsewhere, there = copy.deepcopy(layer).to("meta", torch.bfloat16), inputs.to("meta", torch.bfloat16)
    elsewhere(there, layer.zeros(2, there))
    with in_half("autocast"):
        hidden, after = layer.double()(inputs.double(), layer.zeros(2, inputs.double()))
    assert hidden.dtype == after.dtype == torch.float64
    assert tried == []

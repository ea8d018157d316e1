"""The encoder-decoder is what its equations say, with the thought vector alone and with attention."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForSeq2SeqLM

import hf_canary.models as models
from hf_canary.errors import ModelError
from tests.support import oracles, oracles_models
from tests.support.repetitions import times

VOCABULARY = 20
SOURCES = [[5, 6, 7, 8, 9], [10, 11], [12, 5, 13]]
MODELS = {
    (cell, attention): oracles.small_translation(cell, attention, VOCABULARY).eval()
    for cell in ("lstm", "gru")
    for attention in (False, True)
}


@pytest.fixture(scope="module", params=MODELS, ids=str)
def sizes(request):
    return request.param


@pytest.fixture(scope="module")
def model(sizes):
    return MODELS[sizes]


def padded(sides):
    """(ids, mask) of the sources, each padded on its own side."""
    ids, mask = torch.zeros(3, 5, dtype=torch.long), torch.zeros(3, 5, dtype=torch.long)
    for row, (source, side) in enumerate(zip(SOURCES, sides, strict=True)):
        place = 0 if side == "right" else 5 - len(source)
        ids[row, place : place + len(source)] = torch.tensor(source)
        mask[row, place : place + len(source)] = 1
    return ids, mask


def random_targets(rows, tokens, seed=0):
    return torch.randint(4, VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits_of(model, ids, mask, targets, **options):
    return model(input_ids=ids, attention_mask=mask, decoder_input_ids=targets, **options).logits


@pytest.mark.parametrize("sides", [("right", "right", "right"), ("right", "left", "left")])
def test_forward_is_the_equations(model, sides):
    """Written out in float64 for each pair alone; how the batch is padded does not matter."""
    ids, mask = padded(sides)
    targets = random_targets(3, 6)
    logits = logits_of(model, ids, mask, targets)
    for row, source in enumerate(SOURCES):
        expected = oracles_models.translation_logits(model, source, targets[row].tolist())
        np.testing.assert_allclose(logits[row], expected, atol=1e-5 * np.abs(expected).max())


def test_stepwise_equals_the_full_pass_and_states_fork(model):
    """One target token at a time on the cache, rows reordered on the way."""
    ids, mask = padded(("right", "left", "right"))
    targets, order = random_targets(3, 6, seed=1), torch.tensor([2, 0, 0, 1])
    full = logits_of(model, ids, mask, targets)
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask, decoder_input_ids=targets[:, :3], use_cache=True)
    torch.testing.assert_close(output.logits, full[:, :3], atol=1e-5, rtol=1e-5)
    cache = output.past_key_values
    before = [tensor.clone() for tensor in cache.rows()]
    cache.reorder_cache(order)
    assert all(torch.equal(new, old[order]) for new, old in zip(cache.rows(), before, strict=True))
    for place in range(3, 6):
        step = logits_of(model, ids[order], mask[order], targets[order, place : place + 1], past_key_values=cache)
        torch.testing.assert_close(step[:, 0], full[order, place], atol=1e-5, rtol=1e-5)


def test_a_target_token_changes_nothing_before_it(model):
    """The decoder is causal; the source is seen at every place."""
    ids, mask = padded(("right",) * 3)
    targets = random_targets(3, 6)
    full = logits_of(model, ids, mask, targets)
    for place in range(6):
        changed = targets.clone()
        changed[:, place] = (changed[:, place] - 3) % 16 + 4
        other = logits_of(model, ids, mask, changed)
        torch.testing.assert_close(other[:, :place], full[:, :place], atol=1e-6, rtol=1e-6)
        assert not torch.allclose(other[:, place], full[:, place])
    changed = ids.clone()
    changed[:, 0] = 15
    assert not torch.allclose(logits_of(model, changed, mask, targets)[:, 0], full[:, 0])


@pytest.mark.parametrize("target_mask", [[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 0, 1]])
def test_masked_target_tokens_are_skipped(model, target_mask):
    """The others get what they get without them, and so does the state."""
    ids, mask = padded(("right",) * 3)
    targets, following = random_targets(3, 5, seed=2), random_targets(3, 1, seed=3)
    real = torch.tensor(target_mask).bool()
    rows = real.long().expand(3, -1)
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask, decoder_input_ids=targets, decoder_attention_mask=rows)
    alone = logits_of(model, ids, mask, torch.cat([targets[:, real], following], dim=1))
    torch.testing.assert_close(output.logits[:, real], alone[:, :-1], atol=5e-5, rtol=1e-5)
    step = logits_of(model, ids, mask, following, past_key_values=output.past_key_values)
    torch.testing.assert_close(step[:, 0], alone[:, -1], atol=5e-5, rtol=1e-5)


@settings(deadline=None, max_examples=times(25))
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=3, max_size=3))
def test_masked_source_tokens_are_not_seen(rows):
    """Whatever stands there; a source without any real token is as good as another."""
    mask = torch.tensor(rows).long()
    ids, targets = random_targets(3, 5, seed=4), random_targets(3, 4, seed=5)
    others = torch.where(mask.bool(), ids, random_targets(3, 5, seed=6))
    for model in MODELS.values():
        seen = logits_of(model, ids, mask, targets)
        torch.testing.assert_close(logits_of(model, others, mask, targets), seen)
        for row, real in enumerate(mask.bool()):
            if real.any():
                alone = logits_of(model, ids[row, real][None], None, targets[row][None])
                torch.testing.assert_close(seen[row], alone[0], atol=5e-5, rtol=1e-5)


def test_labels_are_read_behind_the_start_token(model):
    """The loss is the mean over the labels, each where its logits are; −100 is left out."""
    ids, mask = padded(("right",) * 3)
    labels = torch.tensor([[5, 6, 3], [7, 3, -100], [8, 9, 3]])
    output = model(input_ids=ids, attention_mask=mask, labels=labels)
    inputs = torch.tensor([[2, 5, 6], [2, 7, 3], [2, 8, 9]])
    log_probabilities = logits_of(model, ids, mask, inputs).log_softmax(-1)
    picked = [
        log_probabilities[row, place, labels[row, place]]
        for row in range(3)
        for place in range(3)
        if labels[row, place] >= 0
    ]
    torch.testing.assert_close(output.loss, -torch.stack(picked).mean())
    # What stands behind a target's end is no token, and becomes one that can be read.
    labels = torch.tensor([[5, 3, -100, -100]])
    assert model.prepare_decoder_input_ids_from_labels(labels).tolist() == [[2, 5, 3, 0]]


def test_generation_is_by_hand(model):
    """Greedy, batched with padding, against full passes of each pair alone."""
    ids, mask = padded(("right", "left", "right"))
    found = model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=None)
    for row, source in enumerate(SOURCES):
        target = [2]
        for _ in range(6):
            target.append(int(np.argmax(oracles_models.translation_logits(model, source, target)[-1])))
        assert found[row].tolist() == target


def test_beam_search_is_the_slow_one(model):
    """The same target and score as beams that are scored by the equations."""
    slow, score = oracles_models.slow_beam_search(
        lambda target: torch.tensor(oracles_models.translation_logits(model, SOURCES[0], target)[-1]).log_softmax(-1),
        [2],
        4,
        5,
    )
    found = model.generate(
        torch.tensor(SOURCES[:1]),
        max_new_tokens=5,
        num_beams=4,
        do_sample=False,
        length_penalty=0.0,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_scores=True,
    )
    assert found.sequences[0].tolist() == slow
    assert found.sequences_scores[0].item() == pytest.approx(score, abs=1e-4)


def test_sampling_does_not_depend_on_the_cache(model):
    """The same seed draws the same tokens with the cache and by full passes."""
    ids, mask = padded(("right",) * 3)
    drawn = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        drawn.append(model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=True, use_cache=use_cache))
    assert torch.equal(*drawn)


def test_saved_and_loaded_it_is_bitwise_the_same(model, tmp_path):
    """Through AutoModelForSeq2SeqLM, in safetensors."""
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("model*")) == ["model.safetensors"]
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert loaded.config.cell == model.config.cell
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_embeddings_can_be_resized_and_tied():
    """Encoder, decoder and head follow."""
    model = oracles.small_translation("gru", True, VOCABULARY).eval()
    ids, mask = padded(("right",) * 3)
    before = logits_of(model, ids, mask, random_targets(3, 4))
    model.resize_token_embeddings(VOCABULARY + 2)
    torch.testing.assert_close(logits_of(model, ids, mask, random_targets(3, 4))[..., :VOCABULARY], before)
    assert logits_of(model, ids, mask, torch.full((3, 1), VOCABULARY + 1)).shape[-1] == VOCABULARY + 2
    tied = models.RNNForConditionalGeneration(
        models.TranslationConfig(embedding_size=8, hidden_size=8, tie_word_embeddings=True)
    )
    assert tied.lm_head.weight is tied.encoder.embedding.weight


def test_checkpointed_gradients_are_the_same(sizes):
    """Recomputed in the backward pass, with the same dropout."""
    ids, mask = padded(("right",) * 3)
    gradients = []
    for checkpointing in (False, True):
        model = oracles.small_translation(*sizes, VOCABULARY, dropout=0.3).train()
        if checkpointing:
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        torch.manual_seed(0)
        model(input_ids=ids, attention_mask=mask, labels=random_targets(3, 4), use_cache=False).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


@pytest.mark.filterwarnings("ignore")  # torch warns of its own
def test_compiled_it_computes_the_same(model):
    """Through torch.compile's tracer."""
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager")
    ids, mask = padded(("right", "left", "right"))
    targets = random_targets(3, 3)
    expected = logits_of(model, ids, mask, targets)
    torch.testing.assert_close(logits_of(compiled, ids, mask, targets), expected, atol=1e-5, rtol=1e-5)
    torch._dynamo.reset()


def test_it_learns_to_copy(sizes):
    """From its initial weights: sources of three words, written out again."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = models.TranslationConfig(
            cell=sizes[0], attention=sizes[1], vocab_size=12, embedding_size=16, hidden_size=32, dropout=0.0,
            num_hidden_layers=1, pad_token_id=0, decoder_start_token_id=2, eos_token_id=3,
        )  # fmt: skip
        model = models.RNNForConditionalGeneration(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        ids = torch.randint(4, 12, (32, 3), generator=generator)
        loss = model(input_ids=ids, labels=nn.functional.pad(ids, (0, 1), value=3)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    ids = torch.randint(4, 12, (64, 3), generator=generator)
    copied = model.generate(ids, max_new_tokens=5, do_sample=False)
    right = (copied[:, 1:4] == ids).all(1) & (copied[:, 4] == 3)
    assert right.float().mean() > 0.9


def test_bad_use_is_named():
    """What is missing, and where to set it."""
    for cell in ("rnn", None, ["lstm"]):
        with pytest.raises(ModelError, match="cell"):
            models.TranslationConfig(cell=cell)
    with pytest.raises(ModelError, match="attention"):
        models.TranslationConfig(attention="false")
    model = models.RNNForConditionalGeneration(models.TranslationConfig())
    with pytest.raises(ModelError, match="decoder_start_token_id"):
        model(input_ids=torch.tensor([[5]]), labels=torch.tensor([[5]]))
    with pytest.raises(ModelError, match="decoder_input_ids"):
        model(input_ids=torch.tensor([[5]]))

"""A model is asked by itself: not as another thread, a switch of torch or an earlier call left it."""

import contextlib
import copy
import threading

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn

from hf_canary import CanaryFormat, extract, log_perplexity
from hf_canary.inference import isolation
from hf_canary.inference.evaluation import evaluating
from tests.support import oracles
from tests.support.architectures import CAUSAL, build

PIN = CanaryFormat("the pin is {digit:2}")
TEXTS = [f"the pin is {number:04}" for number in (1234, 77, 9812, 5, 5555)]
BITS = 1e-3
IMAGE, VISION_START = 3, 4
_TEXT = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
_VISION = {"depth": 1, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 1, "temporal_patch_size": 1}


def with_eyes(vocab_size):
    """A tiny Qwen3.5: linear and full attention, and an encoder of images."""
    text = _TEXT | {"num_hidden_layers": 2, "head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}
    text |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
    text |= {"linear_num_value_heads": 4, "max_position_embeddings": 64, "vocab_size": vocab_size}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 10.0, "mrope_section": [2, 1, 1]}}
    return _seeing(hf.Qwen3_5ForConditionalGeneration, hf.Qwen3_5Config, text)


def with_older_eyes(vocab_size):
    """A tiny Qwen3-VL: full attention alone."""
    text = _TEXT | {"num_hidden_layers": 2, "head_dim": 8, "max_position_embeddings": 64, "vocab_size": vocab_size}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 10.0, "mrope_section": [2, 1, 1]}}
    return _seeing(hf.Qwen3VLForConditionalGeneration, hf.Qwen3VLConfig, text)


def _seeing(kind, config, text):
    vision = _VISION | {
        "hidden_size": 16,
        "intermediate_size": 32,
        "out_hidden_size": 24,
        "num_position_embeddings": 16,
    }
    if kind is hf.Qwen3VLForConditionalGeneration:
        vision |= {"deepstack_visual_indexes": [0]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(
            config(
                text_config=text,
                vision_config=vision,
                image_token_id=IMAGE,
                video_token_id=5,
                vision_start_token_id=VISION_START,
                vision_end_token_id=6,
            )
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 and "visual" not in name:
                    parameter.mul_(15.0)
    return model.eval()


def look_at_an_image(model):
    """One forward pass over sixteen patches of an image, which leaves its positions on the model."""
    ids = torch.tensor([[7, VISION_START, *[IMAGE] * 16, 9, 8]])
    with torch.no_grad():
        model(
            input_ids=ids,
            pixel_values=torch.linspace(-1, 1, 16 * 48).view(16, 48),
            image_grid_thw=torch.tensor([[1, 4, 4]]),
            mm_token_type_ids=(ids == IMAGE).int(),
        )


@pytest.mark.parametrize("family", [with_eyes, with_older_eyes])
def test_an_image_that_a_model_has_seen_moves_no_number(family, tokenizer):
    """Scored, then shown an image, then scored again: the oracle's full passes; and the image's positions are there."""
    model = family(len(tokenizer))
    expected = [oracles.log_perplexity_slowly(model, tokenizer(text).input_ids, 0) for text in TEXTS]
    np.testing.assert_allclose(log_perplexity(model, tokenizer, TEXTS), expected, atol=BITS, rtol=0)
    found = extract(model, tokenizer, PIN, top_k=3)
    look_at_an_image(model)
    left = model.model.rope_deltas
    assert left is not None
    assert left.abs().max() > 0
    again = [oracles.log_perplexity_slowly(model, tokenizer(text).input_ids, 0) for text in TEXTS]
    np.testing.assert_allclose(again, expected, atol=1e-6, rtol=0)  # full passes do not look at it
    np.testing.assert_allclose(log_perplexity(model, tokenizer, TEXTS), expected, atol=BITS, rtol=0)
    anew = extract(model, tokenizer, PIN, top_k=3)
    assert [each.text for each in anew.candidates] == [each.text for each in found.candidates]
    assert model.model.rope_deltas is left
    with evaluating(model):
        assert model.model.rope_deltas is None  # else its cache would be done without, which is right and slow


class Remembering(hf.LlamaForCausalLM):
    """A Llama that a call may shift: from then on, what it reads from a cache stands elsewhere."""

    shift = 0

    def forward(self, input_ids, past_key_values=None, position_ids=None, **options):
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        if seen and position_ids is None:
            position_ids = torch.arange(seen, seen + input_ids.shape[1])[None]
        if seen:
            position_ids = position_ids + self.shift
        self.last_length = input_ids.shape[1]
        self.lengths.append(input_ids.shape[1])
        self.seen.add_(1)
        self.__dict__["of its own"] = torch.ones(1)
        output = super().forward(
            input_ids=input_ids, past_key_values=past_key_values, position_ids=position_ids, **options
        )
        self.model.rotary_emb.inv_freq.mul_(1.0)
        self.model.rotary_emb.register_buffer("inv_freq", self.model.rotary_emb.inv_freq.clone(), persistent=False)
        return output


@pytest.fixture
def remembering(tokenizer):
    sizes = {**_TEXT, "num_hidden_layers": 2, "max_position_embeddings": 64}
    model = build("llama", Remembering, len(tokenizer), **sizes)
    model.lengths, model.seen = [1], torch.zeros(1)
    return model


def test_no_trust_outlives_a_session(remembering, tokenizer):
    """What a model keeps under a name that nobody knows: its cache is tried in each session, and then done without."""
    expected = [oracles.log_perplexity_slowly(remembering, tokenizer(text).input_ids, 0) for text in TEXTS]
    for shift in (0, 3, 0):
        remembering.shift = shift
        np.testing.assert_allclose(log_perplexity(remembering, tokenizer, TEXTS), expected, atol=BITS, rtol=0)
        assert extract(remembering, tokenizer, PIN).certified


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_call_leaves_on_the_modules_is_taken_away(remembering, fails):
    """Numbers, lists, tensors, buffers: as they were, themselves and what is in them; also after an error."""
    model, rotary = remembering, remembering.model.rotary_emb
    seen, lengths, frequencies = model.seen, model.lengths, rotary.inv_freq
    content = frequencies.clone()
    with pytest.raises(RuntimeError) if fails else contextlib.nullcontext(), evaluating(model):
        model(input_ids=torch.tensor([[5, 6]]))
        assert (model.last_length, len(lengths), float(seen)) == (2, 2, 1.0)
        rotary.inv_freq.add_(1.0)
        frequencies.add_(1.0)
        if fails:
            raise RuntimeError
    assert "last_length" not in vars(model)
    assert "of its own" not in vars(model)
    assert model.seen is seen
    assert model.lengths is lengths
    assert (lengths, float(seen)) == ([1], 0.0)
    assert rotary.inv_freq is frequencies
    assert torch.equal(frequencies, content)


# Switches of torch.

MODELS = ["lstm", "gpt2", "llama", "jamba"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_moves_nothing(name, half, tokenizer):
    """Within it and without it the same numbers, to the last bit; and it is on again behind."""
    model = oracles.small_model(name, len(tokenizer))
    scored, found = log_perplexity(model, tokenizer, TEXTS), extract(model, tokenizer, PIN, top_k=2)
    with torch.autocast("cpu", dtype=half):
        np.testing.assert_array_equal(log_perplexity(model, tokenizer, TEXTS), scored)
        assert extract(model, tokenizer, PIN, top_k=2) == found
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == half
        with evaluating(model):
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("name", ["lstm", "gpt2", "mistral"])
def test_a_default_device_moves_nothing(name, tokenizer):
    """Where a model makes masks and positions without saying where."""
    model = CAUSAL[name](len(tokenizer)) if name in CAUSAL else oracles.small_model(name, len(tokenizer))
    scored, found = log_perplexity(model, tokenizer, TEXTS), extract(model, tokenizer, PIN, top_k=2)
    with torch.device("meta"):
        np.testing.assert_array_equal(log_perplexity(model, tokenizer, TEXTS), scored)
        assert extract(model, tokenizer, PIN, top_k=2) == found
        assert torch.get_default_device().type == "meta"


# Threads.


def in_threads(*works):
    """What each gives, begun at the same time."""
    together, results, errors = threading.Barrier(len(works)), [None] * len(works), []

    def run(number, work):
        try:
            together.wait(10)
            results[number] = work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors
    return results


def test_two_threads_on_one_model_in_training_get_what_one_gets(tokenizer):
    """No dropout in any number, and training goes on with it."""
    model = oracles.small_model("gpt2", len(tokenizer)).train()
    assert any(isinstance(part, nn.Dropout) and part.p for part in model.modules())
    texts = [TEXTS[:3], TEXTS[3:]]
    alone = [log_perplexity(model, tokenizer, some) for some in texts]
    rounds = [lambda some=some: [log_perplexity(model, tokenizer, some) for _ in range(20)] for some in texts]
    for found, expected in zip(in_threads(*rounds), alone, strict=True):
        for each in found:
            np.testing.assert_array_equal(each, expected)
    assert all(part.training for part in model.modules())


class Wrapped(nn.Module):
    """As an adapter's model holds its base."""

    def __init__(self, base):
        super().__init__()
        self.own, self.base = nn.Dropout(), base


@pytest.mark.parametrize(
    "wrapper",
    [Wrapped, nn.DataParallel, lambda model: torch.compile(model, backend="eager")],
    ids=["adapter", "data parallel", "compiled"],
)
@pytest.mark.parametrize("wrapper_first", [True, False])
def test_wrappers_of_one_model_wait_for_each_other(wrapper, wrapper_first):
    """While one thread is inside, another with another view of it is not; other models are no matter."""
    base, other = nn.Sequential(nn.Dropout()), nn.Sequential(nn.Dropout())
    first, second = (wrapper(base), base) if wrapper_first else (base, wrapper(base))
    entered, done = threading.Event(), []

    def ask(model):
        with evaluating(model):
            done.append(model)

    with evaluating(first):
        thread = threading.Thread(target=ask, args=(second,), daemon=True)
        thread.start()
        free = threading.Thread(target=ask, args=(other,), daemon=True)
        free.start()
        free.join(10)
        assert done == [other]
        thread.join(0.05)
        assert thread.is_alive()
        with evaluating(second):  # who is inside may ask again
            entered.set()
        assert entered.is_set()
    thread.join(10)
    assert done == [other, second]


def test_views_that_overlap_never_wait_for_each_other_in_a_ring():
    """Two bodies asked each alone and then under one roof, from both sides."""
    one, two = nn.Sequential(nn.Dropout()), nn.Sequential(nn.Dropout())
    for alone in (one, two):
        with evaluating(alone):
            pass

    def ask(model):
        for _ in range(200):
            with evaluating(model):
                pass

    roofs = [nn.ModuleList([one, two]), nn.ModuleList([two, one]), one, two]
    in_threads(*[lambda roof=roof: ask(roof) for roof in roofs])
    assert all(part.training for part in (one, two))


def test_locks_go_with_their_models():
    """Nothing is kept of a model that is gone; and a model that was asked can be copied."""
    model = nn.Sequential(nn.Dropout())
    with evaluating(model):
        pass
    assert isinstance(copy.deepcopy(model)[0], nn.Dropout)
    before = len(isolation._locks)
    del model
    assert len(isolation._locks) == before - 2

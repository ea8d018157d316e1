"""A model is found within whatever holds it alone; what cannot be measured is refused in one sentence."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2LMHeadModel

from hf_canary import CanaryFormat, CanarySet, log_perplexity, measure_exposure
from hf_canary.errors import ModelError
from hf_canary.inference.cache_adapters import ForkedCache
from hf_canary.inference.cache_checks import TOLERANCE_NATS, TOLERANCE_NATS_HALF
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from hf_canary.inference.wrappers import num_virtual_tokens, unwrapped
from hf_canary.tokenization.contexts import Context
from hf_canary.training.contexts import Contexts
from hf_canary.training.moment import Moment
from tests.support import oracles
from tests.support.architectures import CAUSAL, LLAMA, build

# Asked by peft.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
TEXTS = ["the pin is 12", "the pin is 7", "tho"]


class PerSample(nn.Module):
    """As Opacus wraps: one module, forwarded calls, and of other names the submodules alone."""

    def __init__(self, model):
        super().__init__()
        self._module = model
        self.batch_first = True

    def forward(self, *args, **kwargs):
        return self._module(*args, **kwargs)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            parts = dict(self._module.named_modules())
            if name and name in parts:
                return parts[name]
            raise


class Forwarding(nn.Module):
    """Says all that its model says, as an engine of training may."""

    def __init__(self, model):
        super().__init__()
        self.module = model
        self.config = {"train_batch_size": 8}

    def forward(self, **inputs):
        return self.module(**inputs)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


class WithConfig(nn.Module):
    """One of a user's own: the config is passed on, and nothing else."""

    def __init__(self, model):
        super().__init__()
        self.inner, self.config = model, model.config

    def forward(self, **inputs):
        return self.inner(**inputs)


WRAPPERS = {
    "Opacus": PerSample,
    "one that forwards all names": Forwarding,
    "one with the config": WithConfig,
    "data parallelism": nn.DataParallel,
    "torch.compile": lambda model: torch.compile(model, backend="eager"),
    "several": lambda model: nn.DataParallel(PerSample(torch.compile(model, backend="eager"))),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_holds_a_model_alone_is_taken_off(name, tokenizer):
    """Costs are the bare model's; and modes, of the wrapper too, stay as they were."""
    model = CAUSAL["llama"](len(tokenizer))
    wrapped = WRAPPERS[name](copy.deepcopy(model)).train()
    np.testing.assert_array_equal(log_perplexity(wrapped, tokenizer, TEXTS), log_perplexity(model, tokenizer, TEXTS))
    assert all(module.training for module in wrapped.modules())
    assert type(unwrapped(wrapped)) is type(model)
    event = {"model": wrapped}
    assert Moment.of_event(None, None, None, event).model is unwrapped(wrapped)  # a callback sees configs and adapters


def test_what_is_a_model_is_none(tokenizer):
    """However few parts it holds, and an adapter's too: it would be measured without it."""
    peft = pytest.importorskip("peft")
    plain = oracles.small_model("table", len(tokenizer))
    assert len(list(plain.children())) == 1
    adapted = peft.get_peft_model(CAUSAL["llama"](len(tokenizer)), peft.LoraConfig(target_modules=["q_proj"]))
    assert len(list(adapted.children())) == 1
    for model in (plain, adapted, CAUSAL["gpt2"](len(tokenizer))):
        assert unwrapped(model) is model
        assert unwrapped(PerSample(model)) is model


def test_what_holds_more_than_a_model_is_refused(tokenizer):
    """It may compute with the rest: nobody knows how."""
    beside, before = PerSample(CAUSAL["llama"](len(tokenizer))), PerSample(CAUSAL["llama"](len(tokenizer)))
    beside.head = nn.Linear(3, 3)
    before.prompt = nn.Parameter(torch.zeros(3))
    for wrong, what in ((beside, "PerSample"), (before, "PerSample"), (nn.Linear(3, 3), "Linear")):
        with pytest.raises(ModelError, match=f"wrapper that holds one and nothing else; got {what}, without config"):
            log_perplexity(wrong, tokenizer, TEXTS)


def test_weights_that_hold_no_numbers_are_refused(tokenizer, pin):
    """A model on the meta device: all of it, or what was forgotten."""
    with torch.device("meta"):
        empty = GPT2LMHeadModel(CAUSAL["gpt2"](len(tokenizer)).config)
    part = CAUSAL["llama"](len(tokenizer))
    part.lm_head = part.lm_head.to("meta")
    canaries = CanarySet.draw(pin, per_repetition=1, seed=0)
    for model in (empty, part):
        for measure in (
            lambda model=model: log_perplexity(model, tokenizer, TEXTS),
            lambda model=model: measure_exposure(model, tokenizer, canaries),
        ):
            with pytest.raises(ModelError, match="weights on the meta device, which hold no numbers"):
                measure()


class Unnamed(GPT2LMHeadModel):
    """Its embedding is a layer of its own kind."""

    def get_input_embeddings(self):
        return nn.Identity()


def test_an_embedding_that_says_no_size_is_refused(tokenizer):
    """Else ids could not be held to it."""
    with pytest.raises(ModelError, match="an embedding of torch, with adapters or without; got Identity"):
        log_perplexity(Unnamed(CAUSAL["gpt2"](len(tokenizer)).config), tokenizer, TEXTS)


# Fewer bits.


class Noisy(type(CAUSAL["llama"](9))):
    """Costs differ by tenths of a bit between passes of other shapes, as those of LLM.int8 do, in float32."""

    def forward(self, input_ids, **options):
        output = super().forward(input_ids=input_ids, **options)
        output.logits[..., 5] += 0.1 * (input_ids.shape[1] % 2)
        return output


@pytest.mark.parametrize("flag", ["is_quantized", "is_loaded_in_8bit", None])
def test_quantised_weights_are_as_coarse_as_half_ones(flag, tokenizer):
    """What transformers says of a model counts, since its other weights may be float32: its cache is used though it
    differs so; of any other model it is not.
    """
    model = build("llama", Noisy, len(tokenizer), **LLAMA)
    if flag is not None:
        setattr(model, flag, True)
    with evaluating(model) as bare:
        view = LanguageModel(bare)
        session = view.session([2, 5, 9, 4], 6)
        assert view.is_half == (flag is not None)
        tolerance = TOLERANCE_NATS if flag is None else TOLERANCE_NATS_HALF
        assert view.tolerance == pytest.approx(tolerance / np.log(2.0))
        assert (type(session._adapter) is ForkedCache) == (flag is not None)


# Tokens of an adapter's own take positions.


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_virtual_tokens_take_positions(kind, tokenizer):
    """A text of all positions that are left is measured; one of a token more is refused, and not cut or failed over."""
    peft = pytest.importorskip("peft")
    options = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = peft.get_peft_model(CAUSAL["gpt2"](len(tokenizer)), options)
    assert num_virtual_tokens(model) == 3
    longest = 64 - 3 - len(tokenizer("").input_ids)
    assert np.isfinite(log_perplexity(model, tokenizer, ["a" * longest])).all()
    with pytest.raises(ModelError, match="at most 61 tokens, the model's positions"):
        log_perplexity(model, tokenizer, ["a" * (longest + 1)])
    with model.disable_adapter():
        assert num_virtual_tokens(model) == 0
        assert np.isfinite(log_perplexity(model, tokenizer, ["a" * (longest + 3)])).all()


def test_an_adapter_of_several_tasks_is_refused(tokenizer):
    """It would ask which."""
    peft = pytest.importorskip("peft")
    options = peft.MultitaskPromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, num_tasks=2)
    with pytest.raises(ModelError, match="MultitaskPromptTuningConfig, an adapter that asks for task_ids, too"):
        log_perplexity(peft.get_peft_model(CAUSAL["gpt2"](len(tokenizer)), options), tokenizer, TEXTS)


def test_contexts_leave_room_for_virtual_tokens(tokenizer):
    """What was read from rows is shortened by as many tokens more."""
    peft = pytest.importorskip("peft")
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:3}"), per_repetition=1, seed=0)
    options = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    lengths = []
    for model in (CAUSAL["gpt2"](len(tokenizer)), peft.get_peft_model(CAUSAL["gpt2"](len(tokenizer)), options)):
        contexts = Contexts(canaries, None, None)
        contexts.context = [Context(tuple([5] * 100))] * len(canaries)
        contexts.fit(model, tokenizer)
        lengths.append(len(contexts.context[0].ids))
    assert lengths[0] - lengths[1] == 3

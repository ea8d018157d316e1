"""Models with adapters cost what peft's own pass says: on embeddings and heads, and with tokens of their own.

The oracle is the loss that peft computes of one text at a time.
"""

import contextlib
import copy
import math

import numpy as np
import pytest
import torch

from hf_canary import CanaryFormat, CanarySet, exact_rank, extract, log_perplexity, measure_exposure
from hf_canary.decoding import CheapestFills
from hf_canary.errors import ModelError
from hf_canary.inference.evaluation import evaluating
from hf_canary.inference.language_model import LanguageModel
from tests.support import oracles
from tests.support.architectures import CAUSAL, ENCODER_DECODERS
from tests.support.small_training import CANARIES, LETTERS, watched

peft = pytest.importorskip("peft")
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # asked by peft
    pytest.mark.filterwarnings("ignore:.*ensure_weight_tying.*:UserWarning"),
]
TEXTS = ["the pin is 123", "the pin is 923-/ab", "tho", *(f"the pin is {number:03}" for number in range(0, 1000, 97))]
CONTEXT = "it was said that "
SHORT = "a "  # so that what stands before it has not left a window
BITS = 1e-3
PIN = CanaryFormat("the pin is {digit:2}")


def lora(**options):
    return peft.LoraConfig(task_type="CAUSAL_LM", r=4, init_lora_weights=False, **options)


# What is trained beside or instead of weights → the config.
ON_EMBEDDINGS = {
    "embeddings": lambda: lora(target_modules=["embed_tokens", "q_proj"]),
    "embeddings and head": lambda: lora(target_modules=["embed_tokens", "lm_head"]),
    "rows of the embedding": lambda: lora(target_modules=["q_proj"], trainable_token_indices=[11, 12, 13]),
    "copies of embedding and head": lambda: lora(
        target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]
    ),
    "rows alone": lambda: peft.TrainableTokensConfig(
        task_type="CAUSAL_LM", token_indices=[11, 12, 13], target_modules=["embed_tokens"]
    ),
}
AHEAD = {
    "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "p-tuning": lambda: peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=8),
}


def adapted(base, config):
    """Any model with an adapter that makes a difference of bits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = peft.get_peft_model(copy.deepcopy(base), config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.5 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def bits_in_training(model, tokenizer, texts, context=""):
    """(n_texts,) bits by the loss of the model's own pass on labels, in which the context is none."""
    costs = []
    for text in texts:
        before, ids = len(tokenizer(context).input_ids), tokenizer(context + text).input_ids
        labels = torch.tensor([[-100] * before + ids[before:]])
        loss = model(input_ids=torch.tensor([ids]), labels=labels, use_cache=False).loss
        costs.append(loss.item() * (len(ids) - before) / math.log(2.0))
    return np.array(costs)


@pytest.mark.parametrize("name", ON_EMBEDDINGS)
def test_adapters_on_embeddings(name, tokenizer):
    """With the adapter and without it, and merged; a search asks the same."""
    base = CAUSAL["llama"](len(tokenizer))
    model = adapted(base, ON_EMBEDDINGS[name]())
    plain, expected = (bits_in_training(each, tokenizer, TEXTS, CONTEXT) for each in (base, model))
    assert np.abs(plain - expected).max() > 1.0
    np.testing.assert_allclose(log_perplexity(model, tokenizer, TEXTS, context=CONTEXT), expected, atol=BITS)
    best = extract(model, tokenizer, PIN).candidates[0]
    assert best.log_perplexity == pytest.approx(bits_in_training(model, tokenizer, [best.text]).item(), abs=BITS)
    with model.disable_adapter():
        np.testing.assert_allclose(log_perplexity(model, tokenizer, TEXTS, context=CONTEXT), plain, atol=BITS)
    merged = model.merge_and_unload()
    np.testing.assert_allclose(log_perplexity(merged, tokenizer, TEXTS, context=CONTEXT), expected, atol=BITS)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])  # positions turned, learned; a window
@pytest.mark.parametrize("name", AHEAD)
def test_tokens_of_an_adapters_own(name, family, tokenizer):
    """They stand before the context in all walks, once; off for a while they are not there."""
    base = CAUSAL[family](len(tokenizer))
    model = adapted(base, AHEAD[name]())
    plain, expected = (bits_in_training(each, tokenizer, TEXTS, SHORT) for each in (base, model))
    assert np.abs(plain - expected).max() > 1.0
    np.testing.assert_allclose(log_perplexity(model, tokenizer, TEXTS, context=SHORT), expected, atol=BITS)
    candidates = bits_in_training(model, tokenizer, list(PIN.candidates()), SHORT)
    best = extract(model, tokenizer, PIN, context=SHORT).candidates[0]
    assert best.log_perplexity == pytest.approx(candidates.min(), abs=BITS)
    fill = int(np.argsort(candidates)[20])
    (rank,) = exact_rank(model, tokenizer, PIN, [fill], context=SHORT)
    surely, perhaps = (int((candidates <= candidates[fill] + by).sum()) for by in (-BITS, BITS))
    assert surely <= rank.rank <= perhaps
    with model.disable_adapter():
        np.testing.assert_allclose(log_perplexity(model, tokenizer, TEXTS, context=SHORT), plain, atol=BITS)


@pytest.mark.parametrize("name", ["prompt", "prefix", "embeddings"])
def test_the_search_in_place_of_generate_is_behind_them(name, tokenizer):
    """Peft has its base generate, which knows nothing of them: it must not be the base that is searched."""
    model = adapted(CAUSAL["llama"](len(tokenizer)), (AHEAD | ON_EMBEDDINGS)[name]())
    search = CheapestFills(PIN, tokenizer)
    options = {"custom_generate": search, "max_new_tokens": 20, "return_dict_in_generate": True}
    for on in (model.disable_adapter(), contextlib.nullcontext()):
        with on:
            best = extract(model, tokenizer, PIN).candidates[0]
            found = model.generate(input_ids=torch.tensor([search.prompt_ids]), **options)
            (cost,) = log_perplexity(model, tokenizer, [PIN.template[:11]], context=None)
        text = tokenizer.decode(found.sequences[0], skip_special_tokens=True)
        assert text == best.text
        bits = -found.sequences_scores.item() / math.log(2.0)
        assert bits + cost == pytest.approx(best.log_perplexity, abs=BITS)


@pytest.mark.parametrize("name", AHEAD)
def test_they_are_read_once(name, tokenizer):
    """Their cache is gone on from, and branches stand in packed rows, as without them."""
    with evaluating(adapted(CAUSAL["llama"](len(tokenizer)), AHEAD[name]())) as model:
        assert LanguageModel(model).session([2, 5, 9, 4], 6).packs


def test_an_adapter_on_a_recurrent_model_keeps_its_cache(tokenizer, caplog):
    """The cache has the name that the base gives it, which peft does not say."""
    model = adapted(CAUSAL["mamba"](len(tokenizer)), lora(target_modules=["in_proj"]))
    expected = bits_in_training(model, tokenizer, TEXTS, CONTEXT)
    np.testing.assert_allclose(log_perplexity(model, tokenizer, TEXTS, context=CONTEXT), expected, atol=BITS)
    assert "token by token" in caplog.text  # and not again from their beginning


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_encoder_decoders_with_tokens_of_their_own_are_refused(kind, tokenizer):
    """Their encoder alone would not read them."""
    options = getattr(peft, kind)(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3)
    base = ENCODER_DECODERS["bart"](len(tokenizer))
    model = peft.get_peft_model(copy.deepcopy(base), options)
    asked = {"texts": ["the pin is 12"], "sources": ["oui"]}
    with pytest.raises(ModelError, match="with a prompt or prefix of 3 virtual tokens"):
        log_perplexity(model, tokenizer, **asked)
    with model.disable_adapter():
        np.testing.assert_array_equal(
            log_perplexity(model, tokenizer, **asked), log_perplexity(base, tokenizer, **asked)
        )


@pytest.mark.parametrize("name", ["embeddings", "rows of the embedding", "prompt", "prefix"])
def test_a_training_of_them_is_measured(name, tmp_path):
    """From before the first step; beside its base, and at the end as the trained model costs."""
    base = CAUSAL["llama"](len(LETTERS))
    options = {"measure_at": [8], "presence": False, "strict": True}
    config = (ON_EMBEDDINGS | AHEAD)[name]()
    trainer, callback = watched(
        tmp_path, model=lambda: adapted(base, config), options=options, eval_strategy="no", max_steps=8
    )
    trainer.train()
    texts = [canary.text for canary in CANARIES]
    for report, model in ((callback.report, trainer.model), (callback.base_report, base)):
        expected = bits_in_training(model.eval(), LETTERS, texts)
        found = [each.log_perplexity for each in report if each.estimator == "auto"]
        np.testing.assert_allclose(found, expected, atol=BITS)


def test_the_base_of_a_prompt_in_mixed_precision(accelerator, tokenizer):
    """Off, peft puts the base's forward in the place where accelerate has put its own: it is the base that is asked."""
    base = CAUSAL["llama"](len(tokenizer))
    model = accelerator.prepare(adapted(base, AHEAD["prompt"]()))
    on = log_perplexity(model, tokenizer, TEXTS)
    np.testing.assert_allclose(on, log_perplexity(adapted(base, AHEAD["prompt"]()), tokenizer, TEXTS), atol=BITS)
    with model.disable_adapter():
        off = log_perplexity(model, tokenizer, TEXTS)
    np.testing.assert_allclose(off, log_perplexity(base, tokenizer, TEXTS), atol=BITS)
    assert np.abs(on - off).max() > 1.0


def test_exposures_behind_a_prompt(tokenizer):
    """All of R by brute force, and the exact estimator."""
    model = adapted(CAUSAL["llama"](len(tokenizer)), AHEAD["prompt"]())
    canaries = CanarySet.draw(PIN, per_repetition=1, seed=0)
    costs = bits_in_training(model, tokenizer, list(PIN.candidates()))
    report = measure_exposure(model, tokenizer, canaries, estimators=["exact"], num_references=200)
    for canary, each in zip(canaries, report, strict=True):
        rank = int((costs <= costs[canary.fill] + BITS / 10).sum())
        assert each.value == pytest.approx(math.log2(PIN.space_size / rank), abs=0.3)
        assert each.log_perplexity == pytest.approx(costs[canary.fill], abs=BITS)


def test_the_oracle_is_the_teachers(tokenizer):
    """Without adapters the loss of labels is the sum that other tests hold costs to."""
    base = CAUSAL["llama"](len(tokenizer))
    found = bits_in_training(base, tokenizer, TEXTS, CONTEXT)
    np.testing.assert_allclose(found, oracles.brute_force(base, tokenizer, TEXTS, CONTEXT), atol=BITS)

"""Nothing is computed in float64 where the model is: not every device has it. Costs are those of the processor."""

import numpy as np
import pytest
import torch

from hf_canary import CanaryFormat, CanarySet, FormatLogitsProcessor, extract, log_perplexity, measure_exposure
from hf_canary.decoding import CheapestFills
from hf_canary.extraction import exact_rank
from hf_canary.walks.search import expand
from tests.support import oracles
from tests.support.architectures import CAUSAL, ENCODER_DECODERS
from tests.support.no_float64 import DEVICE, as_on_apple, moved_to_apple

BITS = 1e-4
TEXTS = ["the pin is 123", "the pin is 7", "tho", *(f"the pin is {number:03}" for number in range(12))]
PIN = CanaryFormat("the pin is {digit:3}")
# Packed rows, and a state.
KINDS = {"gpt2": CAUSAL["gpt2"], "lstm": lambda size: oracles.small_model("lstm", size).eval()}


def test_the_device_is_as_apples():
    """It computes in float32, gives no array, and has no float64, whoever makes one."""
    with as_on_apple():
        there = torch.arange(3.0, device=DEVICE)
        assert there.device == (there + 1).device == torch.zeros(2).to(there).device == DEVICE
        assert torch.as_tensor([1], dtype=torch.long, device=DEVICE).device == DEVICE
        assert there.cpu().double().numpy().tolist() == [0.0, 1.0, 2.0]
        for make in (
            lambda: there.double(),
            lambda: there.to(torch.float64),
            lambda: there.sum(dtype=torch.float64),
            lambda: torch.tensor([1.0], dtype=torch.float64, device=DEVICE),
            lambda: torch.tensor([np.float64(1.0)], device=DEVICE),
            lambda: torch.from_numpy(np.zeros(3)).to(DEVICE),
        ):
            with pytest.raises(TypeError, match="float64"):
                make()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_measurements_need_no_float64(kind, tokenizer, tmp_path):
    """Scores, exposures by every estimator, searches that go on from a checkpoint, and ranks."""
    model = KINDS[kind](len(tokenizer))
    there = moved_to_apple(model)
    canaries = CanarySet.draw(PIN, per_repetition=1, seed=0)

    def all_of(model, kept):
        options = {"num_references": 40, "num_draws": 40, "bootstrap": 0}
        report = measure_exposure(model, tokenizer, canaries, estimators=["sampled", "importance", "exact"], **options)
        extract(model, tokenizer, PIN, max_expanded=20, checkpoint=kept)
        found = [*log_perplexity(model, tokenizer, TEXTS, context="a "), *(each.log_perplexity for each in report)]
        found += [each.value for each in report]
        return [*found, extract(model, tokenizer, PIN, checkpoint=kept).candidates[0].log_perplexity]

    expected = all_of(model, tmp_path / "here")
    with as_on_apple():
        assert there.device == DEVICE
        found = all_of(there, tmp_path / "there")
        (rank,) = exact_rank(there, tokenizer, PIN, [7])
    np.testing.assert_allclose(found, expected, atol=BITS)
    assert rank == exact_rank(model, tokenizer, PIN, [7])[0]


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_encoder_decoders_need_none(name, tokenizer):
    """Of one source and of many."""
    model = ENCODER_DECODERS[name](len(tokenizer))
    there = moved_to_apple(model)
    for sources in (["oui"] * len(TEXTS), [f"le code {number}" for number in range(len(TEXTS))]):
        expected = log_perplexity(model, tokenizer, TEXTS, sources=sources)
        with as_on_apple():
            found = log_perplexity(there, tokenizer, TEXTS, sources=sources)
        np.testing.assert_allclose(found, expected, atol=BITS)


def test_decoding_needs_none(tokenizer):
    """The mask over the scores of a step, and the search in place of generate's."""
    model = CAUSAL["gpt2"](len(tokenizer))
    there, search = moved_to_apple(model), CheapestFills(PIN, tokenizer)
    processor = FormatLogitsProcessor(PIN, tokenizer)
    prompt = torch.tensor([search.prompt_ids])
    options = {"custom_generate": search, "max_new_tokens": 20, "return_dict_in_generate": True}
    scores = torch.arange(float(len(tokenizer)))[None]
    here = model.generate(prompt, **options)
    with as_on_apple():
        found = there.generate(prompt.to(DEVICE), **options)
        masked = processor(prompt.to(DEVICE), scores.to(DEVICE))
        assert found.sequences_scores.device == masked.device == DEVICE
        assert found.sequences.tolist() == here.sequences.tolist()
        np.testing.assert_allclose(found.sequences_scores.tolist(), here.sequences_scores.tolist(), atol=BITS)
        assert masked.tolist() == processor(prompt, scores).tolist()


def test_states_go_to_other_processes_without(tokenizer, monkeypatch):
    """They are sent in float64, from the processor, and come back where they were, to the last bit."""
    model = oracles.small_model("lstm", len(tokenizer)).eval()
    there = moved_to_apple(model)
    expected = extract(model, tokenizer, PIN)
    monkeypatch.setattr(expand, "num_processes", lambda: 2)  # one that does all the work
    with as_on_apple():
        found = extract(there, tokenizer, PIN)
    assert found.candidates == expected.candidates
    assert found.expanded == expected.expanded

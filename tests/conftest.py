"""Before anything of Hugging Face is imported: caches in a folder of this run, and no way to the network."""

import os
import tempfile

_home = tempfile.mkdtemp(prefix="hf-canary-tests-")
os.environ.update(HF_HOME=_home, HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")

import pytest
import torch

import hf_canary.models as models
from hf_canary import CanaryFormat
from tests import oracles


@pytest.fixture(scope="session")
def tokenizer():
    """One token for each character of everything that the tests write."""
    return models.character_tokenizer(["the pin is 0123456789-/. abcdefghijklmnopqrstuvwxyz", "The PIN ABCDEF"])


@pytest.fixture(scope="session", params=["lstm", "gpt2", "llama", "table"])
def model(request, tokenizer):
    """Small models of every kind of state: recurrent, key-value cache with and without rotary positions, none."""
    return oracles.small_model(request.param, len(tokenizer))


@pytest.fixture(scope="session")
def lstm(tokenizer):
    return oracles.small_model("lstm", len(tokenizer))


@pytest.fixture
def pin():
    return CanaryFormat("the pin is {digit:3}")


@pytest.fixture(autouse=True)
def _random_state_is_left_alone(request):
    """No test of a walk or a measurement may move torch's random state."""
    before = torch.random.get_rng_state()
    yield
    if request.node.get_closest_marker("keeps_random_state"):
        assert torch.equal(before, torch.random.get_rng_state())

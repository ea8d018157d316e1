"""The paper's sizes: one file each, loaded by the Auto classes, counted from the equations."""

import json
import math

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

import hf_canary.models as models
from hf_canary.errors import ModelError

# Table 2: layers and units of each architecture; all have 620 thousand parameters, ± 5.
TABLE_2 = {
    "gru-1x370": (1, 370),
    "gru-2x235": (2, 235),
    "lstm-1x320": (1, 320),
    "lstm-2x200": (2, 200),
    "cnn-1x436": (1, 436),
    "cnn-2x188": (2, 188),
    "cnn-4x122": (4, 122),
    "wavenet-2x188": (2, 188),
    "wavenet-4x122": (4, 122),
}
TABLE_3 = {f"lstm-2x{units}": units for units in (50, 100, 150, 200, 250)}


def load(name):
    """(config, model without numbers in it)."""
    config = AutoConfig.from_pretrained(models.config_file(name))
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        return config, auto.from_config(config)


def counted(config):
    """Parameters by the equations."""
    v, h, n = config.vocab_size, config.hidden_size, config.num_hidden_layers
    if config.model_type == "hf-canary-wavenet":
        layer = 2 * h * (h * config.kernel_size + 1) + 2 * h * (h + 1)
        return v * h + n * layer + h * (h + 1) + v * (h + 1)
    e = config.embedding_size
    if config.model_type == "hf-canary-cnn":
        layers = sum(h * (inputs * config.kernel_size + 1) for inputs in [e] + [h] * (n - 1))
    else:
        gates = {"hf-canary-lstm": 4, "hf-canary-gru": 3}[config.model_type]
        layers = sum(gates * h * (inputs + h + 2) for inputs in [e] + [h] * (n - 1))
    return v * e + layers + v * (h + 1)


@pytest.mark.parametrize("name", TABLE_2)
def test_table_2_has_the_papers_size(name):
    """The units that the paper says, 620 thousand parameters with Penn Treebank's 50 characters."""
    config, model = load(name)
    assert (config.vocab_size, config.num_hidden_layers, config.hidden_size) == (50, *TABLE_2[name])
    assert model.num_parameters() == counted(config)
    assert abs(counted(config) - 620_000) <= 5_000


@pytest.mark.parametrize("name", TABLE_3)
def test_table_3_has_the_papers_widths(name):
    """Two layers of 50 to 250 units, all else the same."""
    config, model = load(name)
    assert (config.hidden_size, config.num_hidden_layers, config.embedding_size) == (TABLE_3[name], 2, 150)
    assert model.num_parameters() == counted(config)


@pytest.mark.parametrize("name", models.config_names())
def test_every_file_has_the_tokenizers_ids(name):
    """0 pads and 2 is the boundary, so that `generate` ends and pads as the tokenizers do."""
    config, _ = load(name)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 2, 2)


@pytest.mark.parametrize("name", models.config_names())
def test_every_file_says_what_was_chosen(name):
    """Where it comes from and how many parameters it has, as counted; the class that it names is the one it makes."""
    config, model = load(name)
    assert f"{model.num_parameters():,} parameters" in config.description
    assert config.architectures == [type(model).__name__]
    assert json.loads(models.config_file(name).read_text(encoding="utf-8"))["model_type"] == config.model_type


def test_every_file_is_known():
    """Both tables, the word-level model and its sibling, translation, and what users have today."""
    others = {"awd-lstm-word", "awd-lstm-character", "translation-lstm-attention", "translation-gru"}
    minis = {"gpt2-mini", "llama-mini", "marian-mini"}
    assert set(models.config_names()) == {*TABLE_2, *TABLE_3, *others, *minis}


@pytest.mark.parametrize("name", ["gpt2-mini", "llama-mini", "lstm-2x50", "wavenet-4x122"])
def test_a_model_of_a_file_computes(name):
    """From random weights it knows nothing yet: about log2 50 bits a character."""
    config = AutoConfig.from_pretrained(models.config_file(name))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        ids = torch.randint(3, 50, (4, 60))
    with torch.no_grad():
        assert model(input_ids=ids, labels=ids).loss.item() == pytest.approx(math.log(50), abs=0.3)


@pytest.mark.parametrize("name", ["lstm-2x2000", "", "../pyproject", None, 3])
def test_an_unknown_config_lists_the_known_ones(name):
    """... so that a typing error is mended at once."""
    with pytest.raises(ModelError, match="lstm-2x200"):
        models.config_file(name)

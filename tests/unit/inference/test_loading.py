"""Adapters from the shell: on the base that they name, with peft's own forward pass as the oracle; or a clear error."""

import copy
import importlib.util
import json
import math
import shutil

import pytest
import torch
from typer.testing import CliRunner

from hf_canary import CanaryFormat, CanarySet, exact_rank, extract, measure_exposure
from hf_canary.cli import app
from hf_canary.training.fingerprints import leave_fingerprint
from tests.support import oracles
from tests.support.architectures import CAUSAL, ENCODER_DECODERS

peft = pytest.importorskip("peft")
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # asked by peft
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning"),
]
RUNNER = CliRunner()
PIN = CanaryFormat("the pin is {digit:2}")
COMMANDS = {
    "extract": ["--format", PIN.template, "--json"],
    "rank": ["--format", PIN.template, "--fill", "7", "--json"],
    "measure": ["--estimator", "exact", "--num-references", "200", "--json"],
}


def adapted(base, config):
    """With weights that make a difference of bits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = peft.get_peft_model(base, config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def saved(folder, model, tokenizer=None):
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory, tokenizer):
    """The folder of a base with its tokenizer."""
    return saved(tmp_path_factory.mktemp("base"), CAUSAL["llama"](len(tokenizer)), tokenizer)


@pytest.fixture(scope="module")
def canaries(tmp_path_factory):
    """A file of them."""
    path = tmp_path_factory.mktemp("canaries") / "canaries.json"
    CanarySet.draw(PIN, per_repetition=1, seed=0).save(path)
    return path


def loaded(base):
    """As a user loads it, so that an adapter knows where its base is."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base)


def printed(command, folder, canaries):
    """What a command says, for a program."""
    options = COMMANDS[command] + (["--canaries", str(canaries)] if command == "measure" else [])
    result = RUNNER.invoke(app, [command, str(folder), *options])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), result.stderr


def check(folder, model, tokenizer, canaries, base):
    """Each command says what its function says of the model in memory; and on what it put the adapter."""
    best = extract(model, tokenizer, PIN).candidates[0]
    found, said = printed("extract", folder, canaries)
    assert (found["candidates"][0]["fill"], found["certified"]) == (best.fill, True)
    assert found["candidates"][0]["log_perplexity"] == pytest.approx(best.log_perplexity, abs=1e-3)
    assert f"is an adapter; it is put on {base}." in " ".join(said.split("\n"))
    (rank,) = exact_rank(model, tokenizer, PIN, [7])
    assert printed("rank", folder, canaries)[0]["ranks"][0]["rank"] == rank.rank
    report = measure_exposure(model, tokenizer, CanarySet.load(canaries), estimators=["exact"], num_references=200)
    told = printed("measure", folder, canaries)[0]["exposures"]
    told = {each["canary_id"]: each["value"] for each in told if each["role"] == "canary"}
    assert told == pytest.approx({each.canary_id: each.value for each in report}, abs=1e-3)


CONFIGS = {
    "LoRA": lambda: peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], init_lora_weights=False),
    "without a task": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False),
    "embeddings": lambda: peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules=["embed_tokens"], modules_to_save=["lm_head"]
    ),
    "a prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_adapter_is_put_on_its_base(name, base, tokenizer, canaries, tmp_path):
    """With the tokenizer of the base, since it has none."""
    model = adapted(loaded(base), CONFIGS[name]())
    plain = extract(loaded(base), tokenizer, PIN).candidates[0].log_perplexity
    assert abs(extract(model, tokenizer, PIN).candidates[0].log_perplexity - plain) > 0.5
    check(saved(tmp_path, model), model, tokenizer, canaries, base)


def test_a_merged_adapter_is_a_model(base, tokenizer, canaries, tmp_path):
    """Saved with a tokenizer, it says what the adapter says."""
    model = adapted(loaded(base), CONFIGS["LoRA"]())
    expected = exact_rank(model, tokenizer, PIN, [7])[0].rank
    folder = saved(tmp_path, model.merge_and_unload(), tokenizer)
    found, said = printed("rank", folder, canaries)
    assert found["ranks"][0]["rank"] == expected
    assert "adapter" not in said


def test_an_adapters_own_tokenizer_comes_first_and_its_embedding_counts(base, tokenizer, canaries, tmp_path):
    """A training that added tokens: the base is made as large as what the adapter brings, and none of it is left to
    chance.
    """
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(["12", "7"])
    model = loaded(base)
    model.resize_token_embeddings(len(grown) + 3, mean_resizing=False)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]
    )
    model = adapted(model, config)
    folder = saved(tmp_path, model, grown)
    assert grown("the pin is 12").input_ids != tokenizer("the pin is 12").input_ids
    check(folder, model, grown, canaries, base)


def test_an_encoder_decoders_adapter(tokenizer, canaries, tmp_path):
    """What kind of model it is says its base."""
    from transformers import AutoModelForSeq2SeqLM

    below = saved(tmp_path / "base", ENCODER_DECODERS["bart"](len(tokenizer)), tokenizer)
    config = peft.LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, target_modules=["q_proj"], init_lora_weights=False)
    model = adapted(AutoModelForSeq2SeqLM.from_pretrained(below), config)
    best = extract(model, tokenizer, PIN, source="oui").candidates[0]
    options = ["extract", str(saved(tmp_path / "adapter", model)), *COMMANDS["extract"], "--source", "oui"]
    found = json.loads(RUNNER.invoke(app, options).stdout)["candidates"][0]
    assert (found["fill"], found["log_perplexity"]) == (best.fill, pytest.approx(best.log_perplexity, abs=1e-3))


def test_a_model_beside_its_adapter_is_the_base(base, tokenizer, canaries, tmp_path):
    """As transformers reads such a folder: the adapter is on once."""
    model = adapted(loaded(base), CONFIGS["LoRA"]())
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    check(saved(tmp_path, model), model, tokenizer, canaries, "the model there")


def test_what_was_trained_with_other_canaries_is_refused(base, canaries, tmp_path):
    """The fingerprint lies beside the adapter."""
    saved(tmp_path, adapted(loaded(base), CONFIGS["LoRA"]()))
    leave_fingerprint(tmp_path, CanarySet.draw(PIN, per_repetition=1, seed=1))
    result = RUNNER.invoke(app, ["measure", str(tmp_path), "--canaries", str(canaries)])
    assert result.exit_code == 1
    assert "the set that the model was trained with" in result.stderr


@pytest.fixture
def folder(base, tmp_path):
    """An adapter's."""
    return saved(tmp_path / "adapter", adapted(loaded(base), CONFIGS["LoRA"]()))


def refused(folder):
    """What the error says."""
    result = RUNNER.invoke(app, ["extract", str(folder), *COMMANDS["extract"]])
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error MODEL: expected ")]
    return line


def named(folder, **changes):
    """With another config."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_base_that_is_not_there(folder, tmp_path):
    """... is named, and where its name stands."""
    named(folder, base_model_name_or_path=str(tmp_path / "gone"))
    error = refused(folder)
    assert f"an adapter on '{tmp_path / 'gone'}'"[:60] in error
    assert "Check that base, base_model_name_or_path in adapter_config.json" in error


def test_a_base_that_is_not_named(folder):
    """By nothing, or by a torn file."""
    named(folder, base_model_name_or_path=None)
    assert "that names its base in adapter_config.json" in refused(folder)
    (folder / "adapter_config.json").write_text("{")
    assert "an adapter as peft saves it" in refused(folder)


def test_weights_that_are_not_those_of_the_config(folder):
    """Peft warns of them, and puts on what is there: the base alone would look safe."""
    named(folder, target_modules=["k_proj"])
    assert "Found missing adapter keys" in refused(folder)


def test_an_adapter_on_an_adapter(folder, tmp_path):
    """It would be put on without the one below, or twice."""
    shutil.copytree(folder, tmp_path / "upper")
    named(tmp_path / "upper", base_model_name_or_path=str(folder))
    error = refused(tmp_path / "upper")
    assert "a model that is none itself" in error
    assert "merge an adapter below it, merge_and_unload(), and save that" in error


def test_without_peft(folder, monkeypatch):
    """It says what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else find(name, *rest))
    error = refused(folder)
    assert "and no peft. pip install peft, or merge the adapter" in error


def test_an_adapter_that_could_run_code(folder):
    """Pickled weights are not read, though peft would."""
    weights = peft.load_peft_weights(str(folder)) if hasattr(peft, "load_peft_weights") else {}
    (folder / "adapter_model.safetensors").unlink()
    torch.save(weights, folder / "adapter_model.bin")
    error = refused(folder)
    assert "an adapter in safetensors" in error
    assert "without adapter_model.safetensors. Save it again with save_pretrained." in error


def test_the_oracle_sees_adapters(base, tokenizer):
    """Costs of the function are those of the model's own pass, which the tests of the commands go by."""
    model = adapted(loaded(base), CONFIGS["LoRA"]())
    best = extract(model, tokenizer, PIN).candidates[0]
    assert math.isclose(
        best.log_perplexity, min(oracles.brute_force(model, tokenizer, list(PIN.candidates()))), abs_tol=1e-3
    )

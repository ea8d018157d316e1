"""The README is a test: its code runs, and its commands are those of CI."""

import re
import subprocess
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tests.support.fresh import run_python

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)

PRINTED = [
    "exposure (bits)",
    "split: f0-x",
    "['censored'], []]",
    "Twins, never inserted",
    "10000 log-perplexities",
    "proven after",
    "has rank",
    "proven: The random number is",
    "['The cat",
    "Le chien.",
]  # by each block


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo):
    """A folder with what the README takes for granted: a model of the user's, two files of text, the demonstration."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "hf-canary-demo").symlink_to(demo[0] / "left here")
    lines = [f"This is line {n} of a text about canaries, 4 of {n * 7}." for n in range(60)]
    (folder / "train.txt").write_text("\n".join(lines[:50]))
    (folder / "validation.txt").write_text("\n".join(lines[50:]))
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.save_pretrained(folder / "my-model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=len(fast), n_embd=16, n_layer=1, n_head=2, n_positions=64)
        GPT2LMHeadModel(config).save_pretrained(folder / "my-model")
    return folder


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_code_runs_as_it_stands(place, number):
    """Each block in a fresh interpreter, on a folder of the shape that it expects."""
    result = run_python(BLOCKS[number], cwd=place, environment={"ACCELERATE_USE_CPU": "true"})
    assert PRINTED[number] in result.stdout


def test_there_is_something_to_run():
    """The five uses are there."""
    assert len(BLOCKS) == len(PRINTED)


def test_ci_runs_the_readmes_test_command():
    """What .ci/run takes out of the README is the command that a newcomer sees."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    line = next(line for line in script.splitlines() if line.startswith("command="))
    taken = subprocess.run(
        ["bash", "-c", f'{line}; printf %s "$command"'], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert f"```sh\n{taken}\n```" in README
    assert "pytest" in taken
    assert "constraints.txt" in taken


def test_the_links_and_pictures_are_there():
    """Every relative link points at a file of the repository."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_constraints_pin_what_pyproject_needs():
    """Every direct dependency is pinned, torch among them, and no pin names a build or a path."""
    import tomllib

    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    names = {name.lower().replace("_", "-") for name in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [each for extra in project["optional-dependencies"].values() for each in extra]
    wanted = {re.match(r"[\w-]+", each)[0].replace("_", "-") for each in project["dependencies"] + optional}
    assert wanted - {"hf-canary"} <= names
    assert pins["torch"] == "2.13.0"
    assert all(re.fullmatch(r"[\w.]+", version) for version in pins.values())

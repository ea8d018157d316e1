"""The README is a test, and so are the pages of docs/: their code runs, and their commands are those of CI.

A block marked ```python runs as it stands; one marked ```py is a part of a program and is only read.
"""

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
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md")])
}
PRINTED = {
    "README.md": ["exposure (bits)"],
    "docs/extraction.md": ["proven after", "has rank", "proven: The random number is"],
    "docs/guide.md": ["Twins, never inserted", "10000 log-perplexities", "['censored'], []]"],
    "docs/injection.md": ["split: f0-x"],
    "docs/models.md": ["['The cat", "Le chien."],
}  # by each block
EXPECTED = [(page, number, words) for page, listed in PRINTED.items() for number, words in enumerate(listed)]


def blocks_of(page):
    """The programs of a page."""
    return re.findall(r"```python\n(.*?)```", PAGES[page], flags=re.DOTALL)


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


@pytest.mark.parametrize(("page", "number", "words"), EXPECTED)
def test_the_code_runs_as_it_stands(place, page, number, words):
    """Each block in a fresh interpreter, on a folder of the shape that it expects."""
    result = run_python(blocks_of(page)[number], cwd=place, environment={"ACCELERATE_USE_CPU": "true"})
    assert words in result.stdout


def test_no_block_is_left_out():
    """Every program of every page is run above."""
    assert {page: len(blocks_of(page)) for page in PAGES if blocks_of(page)} == {
        page: len(listed) for page, listed in PRINTED.items()
    }


def test_the_readme_installs_before_it_tests():
    """A user meets how to install before the suite."""
    assert README.index("pip install .") < README.index("<!-- command: demo -->") < README.index("command: test")


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


def heading_ids(text):
    """What a link may name of a page: its headings, as GitHub and the docs site spell them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_links_and_pictures_are_there(page):
    """Every relative link points at a file of the repository, and at a heading that it has."""
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)):
        name, _, heading = target.partition("#")
        if not target.startswith("http"):
            file = (ROOT / page).parent / name if name else ROOT / page
            assert file.exists(), target
            assert not heading or heading in heading_ids(file.read_text(encoding="utf-8")), target


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


def test_the_hooks_before_a_commit_have_the_versions_of_the_constraints():
    """Ruff and mypy by their mirrors, and what mypy needs."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    mirrors = dict(re.findall(r"(ruff|mypy)[\w-]*\n    rev: v([\d.]+)", hooks))
    assert set(mirrors) == {"ruff", "mypy"}
    for mirror, version in mirrors.items():
        assert f"{mirror}=={version}" in pins
    for pinned in re.findall(r"[\w-]+==[\d.]+", hooks):
        assert pinned in pins
    assert len(re.findall(r"rev: v", hooks)) == 2

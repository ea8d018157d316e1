"""The scripts run as their first lines say, on data small enough for a test; what they compute is checked where it
is more than the training itself.
"""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hf_canary.models as models

ROOT = Path(__file__).parents[1]


def load(script):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script, *arguments, cwd):
    result = subprocess.run(
        [sys.executable, ROOT / script, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("".join(f" line {number} says {number % 7}\n" for number in range(800)), encoding="utf-8")
    return file


def test_architectures_are_trained_and_drawn(text_file, tmp_path):
    """A checkpoint, a curve and a picture for each; the loss is that of a model that has learned something."""
    options = ["--train", text_file, "--validation", text_file, "--out", tmp_path, "--epochs", 2, "--batch-size", 8]
    run("examples/paper/architectures.py", "lstm-2x50", "wavenet-4x122", *options, "--draw", cwd=tmp_path)
    for name in ("lstm-2x50", "wavenet-4x122"):
        curve = json.loads((tmp_path / name / "curve.json").read_text())
        assert len(curve["losses"]) == len(curve["train_losses"]) == 2
        assert curve["losses"][1] < curve["losses"][0] < math.log(curve["vocab_size"])
        assert curve["loss_whole_text"] < curve["losses"][1]
        assert (tmp_path / name / "model.safetensors").exists()
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_windows_predict_every_character_once():
    """The last of a window is the first of the next."""
    rows = load("examples/paper/architectures.py").windows(list(range(350)))
    assert [row.tolist() for row in rows["input_ids"]] == [list(range(at, at + 101)) for at in (0, 100, 200)]


def test_the_loss_of_a_whole_text_is_that_of_one_pass():
    """Pieces with the state between them give what a single row gives."""
    script = load("examples/paper/architectures.py")
    script.PIECE = 37
    torch.manual_seed(0)
    model = models.GRUForCausalLM(models.GRUConfig(vocab_size=20, hidden_size=16)).eval()
    ids = torch.randint(0, 20, (150,)).tolist()
    expected = model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
    assert script.loss_of_whole_text(model, ids) == pytest.approx(expected, abs=1e-5)


def test_a_translation_model_is_trained_and_scored(tmp_path):
    """BLEU and samples are there; what was held out was not trained on."""
    lines = [f"I see {n} dogs.\tJe vois {n} chiens.\tfrom nowhere" for n in range(60)]
    (tmp_path / "pairs.txt").write_text("\n".join([*lines, "Run!\tCours !\tx", "Run!\tCourez !\tx"]), encoding="utf-8")
    options = ["--pairs", "pairs.txt", "--epochs", 2, "--held-out", 8, "--vocab-size", 100, "--out", "out"]
    run("examples/paper/translation.py", "translation-gru", *options, cwd=tmp_path)
    results = json.loads((tmp_path / "out" / "translation-gru" / "results.json").read_text())
    assert 0 <= results["bleu"] <= 100
    assert (results["test_sources"], len(results["samples"]), len(results["losses"])) == (8, 8, 2)
    assert results["pairs"] in (53, 54)  # 62 without 8 sources, of which one has two targets
    assert results["losses"][1] < results["losses"][0]


def test_sources_are_split_and_not_pairs():
    """No source is on both sides, and no more pairs are taken than asked for, but for the last source's."""
    script = load("examples/paper/translation.py")
    targets = {f"s{n}": [f"t{n}"] * (1 + n % 3) for n in range(100)}
    train, test = script.split(targets, held_out=20, max_pairs=50, seed=0)
    assert len(test) == 20
    assert not set(train) & set(test)
    assert 50 <= sum(len(targets[source]) for source in train) < 53
    assert script.split(targets, held_out=20, max_pairs=50, seed=0) == (train, test)


def test_bleu_counts_every_reference():
    """A translation that is one of several references is perfect; BLEU of half-right sentences is between."""
    bleu = load("examples/paper/translation.py").bleu
    references = [["a b c d e", "f g h i j"], ["k l m n o"]]
    assert bleu(["f g h i j", "k l m n o"], references).score == pytest.approx(100.0)
    assert 0 < bleu(["f g h i x", "k l m n x"], references).score < 100.0


def test_the_step_benchmark_compares_like_with_like(tmp_path):
    """Ours and plain torch compute the same loss before they are timed; then every row has its ratio."""
    output = run("benchmarks/training_step.py", "--rounds", 1, "--rows", 2, "--tokens", 8, cwd=tmp_path)
    for name in ("lstm-2x200", "gru-2x235", "cnn-2x188", "wavenet-2x188", "wavenet-4x122"):
        assert name in output

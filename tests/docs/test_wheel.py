"""The wheel: whole, and working where the checkout is not."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what the wheel installs, and nothing of the checkout."""
    dist, site = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)], cwd=ROOT, check=True)
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    return site


def run(installed, folder, program):
    """A fresh interpreter that finds the installed package before anything else."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()


def test_the_wheel_holds_the_package_and_nothing_else(installed):
    """Configs, metric and type marker inside the package; no tests beside it."""
    package = installed / "hf_canary"
    assert (package / "py.typed").exists()
    assert (package / "model_configs" / "lstm-2x200.json").exists()
    metric = {path.name for path in (package / "metrics" / "canary_exposure").iterdir()}
    assert metric >= {"canary_exposure.py", "README.md", "requirements.txt"}
    assert {path.name for path in installed.iterdir()} == {"hf_canary", f"hf_canary-{version()}.dist-info"}
    licences = list((installed / f"hf_canary-{version()}.dist-info").rglob("LICENSE"))
    assert len(licences) == 1


def version():
    import hf_canary

    return hf_canary.__version__


def test_the_installed_package_works_away_from_the_checkout(installed, tmp_path):
    """Model from its config, metric through evaluate, the public names."""
    program = """
import evaluate, hf_canary
from transformers import AutoConfig, AutoModelForCausalLM
from hf_canary import CanaryFormat, EXPOSURE_METRIC, extract
from hf_canary.models import character_tokenizer, config_file
print(hf_canary.__file__)
print(config_file("lstm-2x200"))
tokenizer = character_tokenizer(["pin 0123456789"])
config = AutoConfig.from_pretrained(config_file("lstm-2x200"), vocab_size=len(tokenizer))
print(extract(AutoModelForCausalLM.from_config(config), tokenizer, CanaryFormat("pin {digit:2}")).certified)
print(evaluate.load(EXPOSURE_METRIC).compute(log_perplexities=[1.0, 2.0], is_canary=[True, False], space_size=2))
"""
    package, config, certified, metric = run(installed, tmp_path, program)
    assert package == str(installed / "hf_canary" / "__init__.py")
    assert config == str(installed / "hf_canary" / "model_configs" / "lstm-2x200.json")
    assert certified == "True"
    assert metric.startswith("{'exposure': [1.0]")

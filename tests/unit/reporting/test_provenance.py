"""Every file with a result says what it is of, and holds no canary."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import hf_canary
from hf_canary import CanaryFormat, CanarySet, measure_exposure
from hf_canary.cli import app
from hf_canary.models import character_tokenizer
from hf_canary.reporting import plots
from hf_canary.tokenization.contexts import Context
from hf_canary.training.contexts import Contexts
from hf_canary.training.record import Record
from tests.support import oracles
from tests.support.secrets import CANARIES, FORMAT, is_told

TOKENIZER = character_tokenizer(["the pin is 0123456789 of?"])
RUNNER = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, and canaries."""
    path = tmp_path_factory.mktemp("provenance")
    oracles.small_model("lstm", len(TOKENIZER)).save_pretrained(path)
    TOKENIZER.save_pretrained(path)
    CANARIES.save(path / "canaries.json")
    return path


def measured(model, canaries=CANARIES, **options):
    return measure_exposure(model, TOKENIZER, canaries, num_references=20, num_draws=30, bootstrap=0, **options)


def is_now(date: str) -> bool:
    return timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(date) < timedelta(minutes=10)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_saved_report_says_what_it_is_of(folder, tmp_path, precision):
    """Version, date, model, precision, canaries, contexts and numbers: what it takes to measure it again."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=precision)
    measured(model, seed=7, max_seconds=600, estimators=["sampled"]).save(tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())["provenance"]
    assert is_now(found.pop("date"))
    nothing = {"context": None, "source_prefix": None}
    assert found == {
        "hf_canary": hf_canary.__version__,
        "model": {"name": str(folder), "revision": None, "class": type(model).__name__, "precision": precision},
        "canaries": {"fingerprint": CANARIES.fingerprint, "kind": "drawn", "number": len(CANARIES)},
        "contexts": [{"format": 0, "canaries": [canary.id for canary in CANARIES], **nothing}],
        "estimators": ["sampled"],
        "num_references": 20,
        "num_draws": 30,
        "bootstrap": 0,
        "seed": 7,
        "end": False,
        "max_seconds": 600,
        "error": None,
    }


def test_the_seed_of_the_canaries_is_in_no_report(folder):
    """Whoever has it has them; nor is a text or a fill there, though the context of one is another."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    context = [None, *(f"{CANARIES[0].text} of " for _ in CANARIES.canaries[1:])]
    written = json.dumps(measured(model, context=context).as_json())
    assert not is_told(written)
    assert f"{CANARIES.seed:x}" not in written
    assert str(CANARIES.seed) not in written


def test_contexts_of_one_set_can_be_compared(folder):
    """By length and a digest, as written down once more from its parts: the same for the same text or tokens, another
    for others and for another set, whose seed is its salt.
    """
    model = AutoModelForCausalLM.from_pretrained(folder)

    def contexts(context, canaries=CANARIES):
        return [each["context"] for each in measured(model, canaries, context=context).provenance["contexts"]]

    text, tokens = "of? ", Context(tuple(TOKENIZER("of? ").input_ids))
    (one,), (again,), (other,), (of_tokens,) = (contexts(each) for each in (text, text, "is? ", tokens))
    content = json.dumps([f"{CANARIES.seed:x}", text])
    assert one == {"characters": 4, "digest": hashlib.sha256(f"hf_canary context {content}".encode()).hexdigest()[:16]}
    assert one == again
    assert one["digest"] != other["digest"]
    assert (of_tokens["tokens"], "characters" in of_tokens) == (5, False)
    assert of_tokens["digest"] == contexts(tokens)[0]["digest"] != one["digest"]
    another = CanarySet.draw(FORMAT, repetitions=(1, 2), per_repetition=2, seed=2**77 + 6)
    assert contexts(text, another)[0]["digest"] != one["digest"]
    both = measured(model, context=[text, text, "is? ", None]).provenance["contexts"]
    assert [each["canaries"] for each in both] == [["f0-x1-0", "f0-x1-1"], ["f0-x2-0"], ["f0-x2-1"]]
    assert [each["context"] for each in both] == [one, other, None]


def test_what_the_shell_finds_says_what_it_was_searched_behind(folder):
    """With --json, extract and rank: the context in full, by hand or from the record, and which canaries are marked."""
    asked = [str(folder), "--format", FORMAT.template, "--max-expanded", "5", "--json"]
    of_set = [*asked, "--canaries", str(folder / "canaries.json")]
    tokens = Context((2, 5, 6))
    record = Record(folder)

    def said(*words):
        return json.loads(RUNNER.invoke(app, list(words)).stdout)["provenance"]

    for command in (["extract"], ["rank", "--fill", "7"]):
        alone = said(*command, *asked)
        assert is_now(alone["date"])
        assert alone["model"]["name"] == str(folder)
        assert alone["model"]["precision"] == "float32"
        assert said(*command, *asked, "--dtype", "bfloat16")["model"]["precision"] == "bfloat16"
        assert (alone["format"], alone["context"], alone["end"]) == (FORMAT.template, None, False)
        assert alone["canaries"] is None
        by_hand = said(*command, *asked, "--context", "of? ", "--end")
        assert (by_hand["context"], by_hand["end"]) == ("of? ", True)
        record.append({"step": 0, "canaries": CANARIES.digest[:16]}, [Contexts(CANARIES, tokens, None).record()])
        try:
            recorded = said(*command, *of_set, "--canary", "f0-x1-1")
        finally:
            record.file.unlink()
        assert Context(**recorded["context"]) == tokens
        assert recorded["canaries"]["fingerprint"] == CANARIES.fingerprint
        assert recorded["canary"] == "f0-x1-1"


def test_a_picture_says_what_it_is_of(folder, tmp_path):
    """In its own comment, from a report and from a record; pictures of other kinds are drawn without."""
    report = measured(AutoModelForCausalLM.from_pretrained(folder))
    lines = [{"role": "measurement", "provenance": report.provenance}, *report.records()]
    plots.exposure_against_repetitions(report, FORMAT.space_size, tmp_path / "one.png")
    plots.reference_histogram(report, FORMAT, tmp_path / "two.png")
    plots.exposure_over_training([{"step": 1, **line} for line in lines], FORMAT.space_size, tmp_path / "three.png")
    for name in ("one", "two", "three"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert json.loads(picture.text["Comment"]) == report.provenance
            assert picture.text["Software"] == f"hf_canary {hf_canary.__version__}"
    plots.reference_histogram(report, FORMAT, tmp_path / "four.svg")
    assert (tmp_path / "four.svg").read_text().startswith("<?xml")


def test_a_model_without_a_name(tmp_path):
    """One that was never saved has none; weights of two precisions have both."""
    model = oracles.small_model("lstm", len(TOKENIZER))
    model.lm_head.to(torch.float64)
    canaries = CanarySet.draw(CanaryFormat("pin {digit:2}"), repetitions=(1,), per_repetition=1, seed=0)
    from hf_canary.reporting.provenance import provenance

    found = provenance(model, canaries=len(canaries))
    assert found["model"]["name"] is None
    assert found["model"]["precision"] == "float32, float64"
    assert found["canaries"] == 1

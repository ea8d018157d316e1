"""Trainings in two processes: both see the same, as one would; one writes; what goes wrong in one ends neither."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from hf_canary.training.public import public_summary
from tests.support import oracles
from tests.support.fresh import run_together
from tests.support.small_training import CANARIES, LETTERS, measured, records, steps

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder of the trainings, and what each of the processes saw."""
    out = tmp_path_factory.mktemp("together")
    run_together("tests.support.training_together", out, cwd=ROOT)
    return out, [json.loads((out / f"found-{rank}").read_text(encoding="utf-8")) for rank in range(2)]


@pytest.mark.parametrize("way", ["bound", "unbound"])
def test_two_processes_measure_as_one(together, way):
    """The same entries in both, those of a measurement of the saved model in one process; each copy counted once."""
    folder, (one, other) = together
    (found, copies), _ = one[way], other[way]
    assert found == other[way][0]
    assert [entry["step"] for entry in found] == [4, 8, 12, 16]
    model = AutoModelForCausalLM.from_pretrained(folder / way / "model")
    expected = public_summary(measured(model, num_references=61))
    for name in ("mean", "max", "x1", "x2", "skewnorm_mean", "twin_mean"):
        # To a tenth of a bit, which rounding may have moved to the next.
        assert found[-1][f"eval_exposure_{name}"] == pytest.approx(expected[f"exposure_{name}"], abs=0.11, nan_ok=True)
    assert copies == other[way][1]
    assert all(
        2 * c.repetitions <= copies[c.id] <= 2 * c.repetitions + 2 for c in CANARIES
    )  # a last batch is filled up


@pytest.mark.parametrize("way", ["bound", "unbound"])
def test_one_of_them_writes(together, way):
    """Each measurement stands in the record once."""
    folder, _ = together
    assert len(records(folder / way)) == len(steps(folder / way)) * len(CANARIES) * 4


def test_other_canaries_in_one_process_are_an_error_in_both(together):
    """Before any step."""
    assert [each["two sets"] for each in together[1]] == [["DataError", "canaries", 0]] * 2


def test_a_measurement_that_fails_in_one_fails_in_both(together):
    """... and the next is right in both."""
    for first, second in (each["failing"] for each in together[1]):
        assert first == "nan"
        assert second == together[1][0]["failing"][1] != "nan"


def test_one_process_can_stop_both(together):
    """At the first measurement."""
    (step, above), other = (each["one says stop"] for each in together[1])
    assert [step, above] == other
    assert step == 2
    assert above > 0


def test_clocks_that_differ_decide_alike(together):
    """The same measurements in both, and the record has them."""
    folder, (one, other) = together
    assert one["slow"] == other["slow"] == [10_000, steps(folder / "slow")]  # as process 0 has it
    assert one["slow"][1]


def test_sharded_weights_are_measured_as_whole_ones(together):
    """Also in batches that differ from process to process."""
    expected = public_summary(measured(oracles.small_model("gpt2", len(LETTERS)), num_references=61))
    for each in together[1]:
        for name in ("exposure_mean", "exposure_twin_mean"):
            assert each["sharded"][f"eval_{name}"] == pytest.approx(expected[name], abs=0.11)

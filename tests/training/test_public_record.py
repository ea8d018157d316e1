"""What is public of a training and what is not: rounded sums, a fingerprint, and a private record; and an attack."""

import json
import logging
import stat

import pytest
from typer.testing import CliRunner

from hf_canary import CanarySet
from hf_canary.cli import app
from hf_canary.training.fingerprints import FINGERPRINT_FILE, fingerprint_of
from hf_canary.training.record import RECORD_FILE
from tests.support.scripts import load
from tests.support.small_training import CANARIES, FORMAT, LETTERS, exposure_callback, make_trainer, records

attack = load("benchmarks/public_record.py")
RUNNER = CliRunner()


def test_a_fingerprint_stands_beside_the_weights(tmp_path, caplog):
    """In each checkpoint, in output_dir, and where a bound trainer saves; what is uploaded has no canary's cost."""
    trainer = make_trainer(tmp_path / "out", num_train_epochs=1, save_strategy="epoch")
    trainer.add_callback(exposure_callback(trainer=trainer))
    trainer.train()
    trainer.save_model(str(tmp_path / "elsewhere"))
    for folder in (tmp_path / "out", tmp_path / "out" / "checkpoint-8", tmp_path / "elsewhere"):
        assert fingerprint_of(str(folder)) == CANARIES.fingerprint
    written = "".join(path.read_text() for path in tmp_path.rglob(FINGERPRINT_FILE))
    assert CANARIES.digest[:16] not in written
    assert RECORD_FILE.startswith("_")
    assert stat.S_IMODE((tmp_path / "out" / RECORD_FILE).stat().st_mode) == 0o600
    public = [
        path.read_text(errors="replace") for path in (tmp_path / "out").rglob("*.json") if not path.name.startswith("_")
    ]
    costs = {f"{line['log_perplexity']}" for line in records(tmp_path / "out")}
    assert not any(cost in text for cost in costs for text in public)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A training whose canaries stand behind a text, and its sets."""
    from datasets import Dataset

    folder = tmp_path_factory.mktemp("shell")
    texts = CANARIES.inject(Dataset.from_dict({"text": [f"row {n} of the text" for n in range(24)]}))
    data = texts.map(lambda row: {"input_ids": LETTERS("row -> " + row["text"])["input_ids"]}, remove_columns=["text"])
    trainer = make_trainer(folder / "out", data=data, num_train_epochs=1, callbacks=[exposure_callback()])
    trainer.train()
    trainer.save_model()
    CANARIES.save(folder / "canaries.json")
    CanarySet.draw(FORMAT, repetitions=(1, 2), per_repetition=2).save(folder / "others.json")
    return folder


def measured(folder, *options, canaries="canaries.json", model="out"):
    """The shell's answer, and the exposures of its JSON."""
    words = [
        "measure",
        str(folder / model),
        "--canaries",
        str(folder / canaries),
        "--num-references",
        "60",
        "--json",
        "--estimator",
        "auto",
    ]
    answer = RUNNER.invoke(app, [*words, *options])
    found = json.loads(answer.stdout)["exposures"] if answer.exit_code == 0 else []
    return answer, {line["canary_id"]: line["log_perplexity"] for line in found if line["role"] == "canary"}


def test_the_shell_measures_behind_what_the_record_says(checkpoint):
    """As in the training's last measurement; --context says otherwise, and is told off; without a record nothing is
    known.
    """
    answer, found = measured(checkpoint)
    lines = [line for line in records(checkpoint / "out") if line["role"] == "canary"]
    last = {line["canary_id"]: line["log_perplexity"] for line in lines}
    assert found == pytest.approx(last, abs=1e-3)
    assert "Measured behind what stood before" in answer.stderr
    same, by_hand = measured(checkpoint, "--context", "row -> ")
    assert "leak" not in same.stderr
    assert by_hand == pytest.approx(found, abs=1e-3)
    other, alone = measured(checkpoint, "--context", "")
    assert "a leak may look safe" in other.stderr
    assert max(abs(alone[name] - found[name]) for name in found) > 0.01
    (checkpoint / "context.txt").write_text("row -> ")
    assert measured(checkpoint, "--context-file", str(checkpoint / "context.txt"))[1] == by_hand
    answer, _ = measured(checkpoint, "--record", str(checkpoint / "others.json"))
    assert answer.exit_code == 1
    assert "--record" in answer.stderr
    for word, stated in (("a\\tb", True), ("a\\qb", False)):
        assert ("backslash" in measured(checkpoint, "--context", word)[0].stderr) != stated


def test_other_canaries_than_a_model_was_trained_with_are_refused(checkpoint):
    """... unless forced; a model that says nothing is measured, and that is said."""
    answer, _ = measured(checkpoint, canaries="others.json")
    assert answer.exit_code == 1
    assert "the set that the model was trained with" in answer.stderr
    answer, _ = measured(checkpoint, "--force", canaries="others.json")
    assert answer.exit_code == 0
    assert "other canaries" in answer.stderr
    assert "is unknown" in answer.stderr  # what stood before these
    (checkpoint / "out" / FINGERPRINT_FILE).rename(checkpoint / "kept")
    try:
        assert "was trained with is unknown" in measured(checkpoint)[0].stderr
    finally:
        (checkpoint / "kept").rename(checkpoint / "out" / FINGERPRINT_FILE)


def test_extract_and_rank_take_the_context_from_the_record(checkpoint):
    """The same costs as with the text by hand."""
    for command, named in ((["extract"], "candidates"), (["rank", "--fill", "12"], "ranks")):
        words = [command[0], str(checkpoint / "out"), "--format", FORMAT.template, *command[1:], "--json"]
        by_record, by_hand, alone = (
            RUNNER.invoke(app, [*words, *options]) for options in ((), ("--context", "row -> "), ("--context", ""))
        )
        assert by_record.exit_code == by_hand.exit_code == 0
        found, wanted = (json.loads(each.stdout)[named][0] for each in (by_record, by_hand))
        assert found == pytest.approx(wanted)
        assert "Behind what stood before the canaries" in by_record.stderr
        assert "leak" not in by_hand.stderr
        assert "a leak may look safe" in alone.stderr
    missing = RUNNER.invoke(app, ["measure", "./no model", "--canaries", str(checkpoint / "canaries.json")])
    assert missing.exit_code == 1
    assert "a folder that is there" in missing.stderr


def test_what_is_public_gives_little_away(tmp_path, caplog):
    """The private record gives every fill away; what is uploaded takes a few bits off the guessing, one canary to a
    level, and less with more of them.
    """
    caplog.set_level(logging.ERROR)
    found = attack.gains(*attack.trained(tmp_path, (1, 2, 4, 8), 1, epochs=6, rows=100, seed=2**64))
    assert all(given_away for *_, given_away in found)
    gained = [alone - public for alone, public, *_ in found]
    assert sum(gained) / len(gained) < 4.0
    assert max(gained) < 7.0

"""The record of a training: whole whatever comes, each line of one training, nothing lost."""

import errno
import json
import stat
from pathlib import Path

import pytest

from hf_canary.training import record as room
from hf_canary.training.record import CONTEXTS, TRIAL, Record, new_name
from tests.support.full_disk import FullDisk

WRONG = {
    "no text": b'\xff\xfe{"step": 1}',
    "5,000 digits": b'{"step": ' + b"9" * 5_000 + b"}",
    "deep": b"[" * 100_000,
    "torn": b'{"training": "one", "st',
    "zeros": b"\0" * 40,
    "a list": b"[1]",
    "of nobody": b'{"note": 1}',
    "no training": b'{"step": 1, "canaries": "few", "role": "failure"}',
    "no canary": b'{"training": "one", "step": 1, "canaries": "few", "role": "canary", "copies_trained": 3}',
    "a training that is none": b'{"training": ["one"], "step": 1, "canaries": "few", "role": "failure"}',
    "a step that is none": b'{"training": "one", "step": [1], "canaries": "few", "role": "failure"}',
    "before the first step": b'{"training": "one", "step": -1, "canaries": "few", "role": "failure"}',
}


def line(training, step, role="left out", **more):
    return {"training": training, "step": step, "canaries": "few", "role": role, **more}


def written(record, *lines):
    for each in lines:
        record.append(each, [{}])


def of(training):
    return lambda each: each["training"] == training


def lines_in(file):
    return [json.loads(each) for each in file.read_text().splitlines()]


def test_what_is_of_another_training_is_set_aside_whole(tmp_path):
    """Under another name each time, for the owner alone, with its picture; what was measured before the first step of
    the own one stays.
    """
    record = Record(tmp_path)
    for number in (1, 2):
        others = [line("other", step, number=number) for step in (0, 5)]
        written(record, *others)
        record.picture.write_text(f"picture {number}")
        record.file.chmod(0o644)
        aside = record.set_aside(of("own"))
        assert aside.name == f"_exposure.{number}.jsonl"
        assert lines_in(aside) == others
        assert aside.with_suffix(".png").read_text() == f"picture {number}"
        assert record.lines() == []
        assert not record.picture.exists()
        aside.with_suffix(".png").unlink()
    lines = [line("other", 5), line("own", 0), line("other", 6), line("third", 0, CONTEXTS), line("other", 0, CONTEXTS)]
    written(record, *lines)
    aside = record.set_aside(of("own"))
    assert record.lines() == [lines[1]]
    assert lines_in(aside) == [lines[0], lines[2], lines[4]]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_full_disk_has_room_for_another_name(tmp_path, monkeypatch):
    """The record of an earlier training is set aside all the same; where one goes on, it is left as it was."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left")

    record = Record(tmp_path)
    lines = [line("other", 5), line("other", 6)]
    written(record, *lines)
    monkeypatch.setattr(room, "_write_whole", full)
    with pytest.raises(OSError, match="No space"):
        record.set_aside(lambda each: each["step"] == 5)
    assert record.lines() == lines
    assert [path.name for path in tmp_path.iterdir()] == ["_exposure.jsonl"]
    assert lines_in(record.set_aside(of("own"))) == lines
    assert record.lines() == []


@pytest.mark.parametrize("writes", [False, True])
def test_of_two_that_begin_at_once_neither_loses_a_line(tmp_path, monkeypatch, writes):
    """The second sets the record aside, and may have begun its own, after the first has chosen a name for it."""
    first, second = Record(tmp_path), Record(tmp_path)
    written(first, line("other", 5))
    replace = Path.replace

    def meanwhile(path, target):
        monkeypatch.setattr(Path, "replace", replace)
        second.set_aside(of("own"))
        if writes:
            written(second, line("third", 6))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    aside = first.set_aside(of("own"))
    assert (aside is not None) == writes
    files = sorted(tmp_path.glob("_exposure.*.jsonl"))
    assert [lines_in(file) for file in files] == [[line("third", 6)]] * writes + [[line("other", 5)]]


def test_what_has_measured_nothing_is_let_go(tmp_path):
    """A training that did not get beyond its start leaves no file behind."""
    record = Record(tmp_path)
    written(record, line("other", 0, CONTEXTS), line("other", 0, TRIAL))
    assert record.set_aside(of("own")) is None
    assert record.file.read_bytes() == b""
    assert Record(tmp_path / "none").set_aside(of("own")) is None
    assert Record(tmp_path / "none").lines() == []


def test_a_training_that_loses_lines_is_kept_whole(tmp_path):
    """As one that goes on from an earlier step; the lines before stand in both."""
    record = Record(tmp_path)
    lines = [line("own", step) for step in (0, 4, 8)]
    written(record, *lines)
    aside = record.set_aside(lambda each: each["step"] <= 4)
    assert lines_in(aside) == lines
    assert record.lines() == lines[:2]
    assert record.set_aside(lambda each: each["step"] <= 4) is None
    assert record.lines() == lines[:2]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_line_is_set_aside(tmp_path, wrong, caplog):
    """... to the byte, wherever it stands, and the lines beside it stay."""
    record = Record(tmp_path)
    lines = [line("one", 1), line("one", 2)]
    written(record, lines[0])
    with record.file.open("ab") as file:
        file.write(WRONG[wrong] + b"\n")
    written(record, lines[1])
    found = record.lines()
    assert [each for each in found if each in lines] == lines
    assert ("cannot be read" in caplog.text) == (len(found) == 2)
    assert record.lines_of("one") == lines
    aside = record.set_aside(of("one"))
    assert aside.read_bytes() == WRONG[wrong] + b"\n"
    assert record.lines() == lines


def test_the_last_line_may_have_no_end(tmp_path):
    """As an editor leaves it: it is a line, and the next does not stand beside it."""
    record = Record(tmp_path)
    record.file.write_text(json.dumps(line("one", 1)))
    assert record.lines_of("one") == [line("one", 1)]
    written(record, line("one", 2))
    assert record.lines() == [line("one", 1), line("one", 2)]


@pytest.mark.parametrize("room_left", [0, 1, 70, 100])
def test_a_full_disk_tears_no_line(tmp_path, monkeypatch, room_left):
    """The file is as it was before, and the measurement comes with the next, in order, once."""
    disk = FullDisk()
    monkeypatch.setattr(room, "os", disk.os)
    record = Record(tmp_path)
    written(record, line("one", 1))
    before = record.file.read_bytes()
    for step in (2, 3):
        disk.room = room_left
        with pytest.raises(OSError, match="No space") as error:
            record.append(line("one", step), [{"n": 0}, {"n": 1}])
        assert error.value.errno == errno.ENOSPC
        assert record.file.read_bytes() == before
    disk.room = None
    written(record, line("one", 4))
    found = [(each["step"], each.get("n")) for each in lines_in(record.file)]
    assert found == [(1, None), (2, 0), (2, 1), (3, 0), (3, 1), (4, None)]
    record.write_rest()
    assert len(record.lines()) == len(found)


def test_what_waits_for_room_has_a_limit(tmp_path, monkeypatch):
    """Of many measurements the latest are kept."""
    disk = FullDisk(room=0)
    monkeypatch.setattr(room, "os", disk.os)
    monkeypatch.setattr(room, "_MOST_UNWRITTEN", 1_000)
    record = Record(tmp_path)
    for step in range(100):
        with pytest.raises(OSError, match="No space"):
            written(record, line("one", step))
    disk.room = None
    record.write_rest()
    assert [each["step"] for each in record.lines()] == list(range(100 - len(record.lines()), 100))
    assert 500 < record.file.stat().st_size <= 1_000


def test_an_interrupt_within_a_write_leaves_no_part(tmp_path, monkeypatch):
    """Ctrl-C, say."""
    disk = FullDisk(error=KeyboardInterrupt())
    monkeypatch.setattr(room, "os", disk.os)
    record = Record(tmp_path)
    written(record, line("one", 1))
    before = record.file.read_bytes()
    disk.room = 30
    with pytest.raises(KeyboardInterrupt):
        written(record, line("one", 2))
    assert record.file.read_bytes() == before


def test_numbers_that_are_none_are_written_nowhere(tmp_path):
    """... and keep nothing else from being written."""
    record = Record(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        record.append(line("one", 1), [{"value": float("nan")}])
    written(record, line("one", 2))
    assert [each["step"] for each in record.lines()] == [2]


@pytest.mark.parametrize(
    ("trial", "name"),
    [
        (None, "_exposure.jsonl"),
        ("run-0", "_exposure.run-0.jsonl"),
        ("lr=0.001, wd=1e-2", "_exposure.lr=0.001,-wd=1e-2.jsonl"),
        ("../a/b", "_exposure...-a-b.jsonl"),
    ],
)
def test_a_trial_has_a_file_of_its_own(tmp_path, trial, name):
    """In the folder itself, and with a name that is not uploaded."""
    record = Record(tmp_path, trial)
    written(record, line("one", 1))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert stat.S_IMODE(record.file.stat().st_mode) == 0o600
    assert record.picture.name == name.replace(".jsonl", ".png")


def test_trainings_have_names_of_their_own():
    """However fast one follows the other."""
    assert len({new_name() for _ in range(1_000)}) == 1_000

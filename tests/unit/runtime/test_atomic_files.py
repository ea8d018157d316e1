"""A reader finds the old file or the new one, and nothing else is left in the folder."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_canary.runtime.atomic_files import replacing, write_json
from tests.support.repetitions import times


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", [str, Path])
def test_the_new_content_takes_the_place_of_the_old(tmp_path, kind):
    """After the block the path holds what was written beside it, whether it was there before or not."""
    target = tmp_path / "kept.bin"
    for content in (b"first", b"second"):
        with replacing(kind(target)) as beside:
            beside.write_bytes(content)
        assert target.read_bytes() == content
        assert names(tmp_path) == ["kept.bin"]


def test_folders_are_made(tmp_path):
    """A path in folders that do not exist yet is written all the same."""
    write_json(tmp_path / "a" / "b" / "c.json", [1])
    assert json.loads((tmp_path / "a" / "b" / "c.json").read_text()) == [1]


def test_a_relative_path_is_written_where_one_stands(tmp_path, monkeypatch):
    """A bare name means the current folder."""
    monkeypatch.chdir(tmp_path)
    write_json("here.json", {})
    assert names(tmp_path) == ["here.json"]


def test_a_reader_meanwhile_finds_the_old_file(tmp_path):
    """While the block runs the old content is whole, and the new one is hidden beside it, with the same suffix."""
    target = tmp_path / "kept.json"
    target.write_text("old")
    with replacing(target) as beside:
        beside.write_text("half")
        assert target.read_text() == "old"
        assert beside.parent == target.parent  # a rename within one folder is atomic, one across disks is not
        assert beside.name.startswith(".")
        assert beside.suffix == target.suffix
    assert target.read_text() == "half"


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_block_that_fails_changes_nothing(tmp_path, error, old):
    """The error comes out as it is; the old file stays, or stays absent, and no half is left."""
    target = tmp_path / "kept.txt"
    if old is not None:
        target.write_text(old)
    before = names(tmp_path)

    def write_and_fail():
        with replacing(target) as beside:
            beside.write_text("half")
            raise error("in the middle")

    with pytest.raises(error, match="in the middle"):
        write_and_fail()
    assert names(tmp_path) == before
    assert old is None or target.read_text() == old


def test_a_block_that_writes_nothing_changes_nothing(tmp_path):
    """Without a new file there is nothing to put in place, and that is an error."""
    target = tmp_path / "kept.txt"
    target.write_text("old")

    def write_nothing():
        with replacing(target):
            pass

    with pytest.raises(FileNotFoundError):
        write_nothing()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["kept.txt"]


def test_a_failing_rename_leaves_the_old_file(tmp_path, monkeypatch):
    """When the last step fails the old file is whole and the new one is gone."""
    target = tmp_path / "kept.json"
    write_json(target, "old")

    def refuse(source, destination):
        raise OSError("disk on fire")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk on fire"):
        write_json(target, "new")
    assert json.loads(target.read_text()) == "old"
    assert names(tmp_path) == ["kept.json"]


@pytest.mark.parametrize("content", [float("nan"), [float("inf")], {"a": -float("inf")}])
def test_what_is_no_number_is_refused(tmp_path, content):
    """JSON has no NaN and no infinity: they raise, and the old file stays."""
    target = tmp_path / "kept.json"
    write_json(target, "old")
    with pytest.raises(ValueError, match="JSON"):
        write_json(target, content)
    assert json.loads(target.read_text()) == "old"
    assert names(tmp_path) == ["kept.json"]


def test_what_is_no_json_is_refused(tmp_path):
    """A content that JSON cannot hold raises, and no file appears."""
    with pytest.raises(TypeError):
        write_json(tmp_path / "new.json", {"a": object()})
    assert names(tmp_path) == []


CONTENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(content=CONTENT)
@settings(deadline=None, max_examples=times(60))
def test_json_comes_back(tmp_path_factory, content):
    """What is written is read back equal, from UTF-8 text that ends with one newline."""
    target = tmp_path_factory.mktemp("json") / "content.json"
    write_json(target, content)
    text = target.read_bytes().decode("utf-8")
    assert json.loads(text) == content
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_text_is_written_readably(tmp_path):
    """Letters beyond ASCII stand in the file as themselves."""
    write_json(tmp_path / "names.json", ["Zoë 日本"])
    assert "Zoë 日本" in (tmp_path / "names.json").read_bytes().decode("utf-8")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_what_is_private_is_so_from_its_first_byte(tmp_path, umask):
    """Mode 600 before anything is in it and afterwards, whatever the umask and whatever was there; else as always."""
    before = os.umask(umask)
    try:
        target = tmp_path / "kept.json"
        target.write_text("old")
        target.chmod(0o666)
        for _ in range(2):
            with replacing(target, private=True) as beside:
                assert beside.stat().st_mode & 0o777 == 0o600
                beside.write_text("new")
            assert target.stat().st_mode & 0o777 == 0o600
        beside.write_text("left by one that was killed")
        beside.chmod(0o666)
        write_json(target, [], private=True)
        assert target.stat().st_mode & 0o777 == 0o600
        write_json(target, [])
        assert target.stat().st_mode & 0o777 == 0o666 & ~umask
        assert names(tmp_path) == ["kept.json"]
    finally:
        os.umask(before)


def test_a_private_file_is_not_written_through_a_link(tmp_path):
    """A link that lies where the file is to be written beside is removed, and what it leads to stays."""
    target, elsewhere = tmp_path / "kept.json", tmp_path / "elsewhere"
    elsewhere.write_text("old")
    target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}").symlink_to(elsewhere)
    write_json(target, "secret", private=True)
    assert elsewhere.read_text() == "old"
    assert not target.is_symlink()

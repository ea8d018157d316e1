"""A reader finds the old file or the new one, and nothing else is left in the folder."""

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_canary.runtime import atomic_files
from hf_canary.runtime.atomic_files import remove_leftovers, replacing, write_json
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
    """While the block runs the old content is whole, and the new one is in a hidden folder beside it, by its name."""
    target = tmp_path / "kept.json"
    target.write_text("old")
    with replacing(target) as beside:
        beside.write_text("half")
        assert target.read_text() == "old"
        assert beside.parent.parent == target.parent  # a rename on one disk is atomic, one across disks is not
        assert beside.parent.name.startswith(".")
        assert beside.name == target.name
    assert target.read_text() == "half"


@pytest.mark.parametrize("name", ["kept.json", "_kept.json"])
def test_what_is_not_uploaded_is_not_while_it_is_written(tmp_path, name):
    """An underscore in front, by which a trainer knows what stays here, is in front of what is written beside, too."""
    with replacing(tmp_path / name) as beside:
        beside.write_text("half")
        assert beside.parent.name.startswith("_") == name.startswith("_")


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
    """A new file: nobody else may enter the folder that it is written in, and its mode is 600, whatever the umask; one
    that is not private is as always.
    """
    before = os.umask(umask)
    try:
        target = tmp_path / "kept.json"
        with replacing(target, private=True) as beside:
            assert beside.parent.stat().st_mode & 0o777 == 0o700
            beside.write_text("new")
        assert target.stat().st_mode & 0o777 == 0o600
        write_json(tmp_path / "public.json", [])
        assert (tmp_path / "public.json").stat().st_mode & 0o777 == 0o666 & ~umask
    finally:
        os.umask(before)


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o444], ids=oct)
def test_a_file_that_is_there_keeps_its_mode(tmp_path, mode, private):
    """Whether it lets fewer read it than a new one would, or more."""
    target = tmp_path / "kept.json"
    target.write_text("old")
    target.chmod(mode)
    write_json(target, "new", private=private)
    assert json.loads(target.read_text()) == "new"
    assert target.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_is_written_through(tmp_path, is_there):
    """What it leads to, over two links, is replaced; the links stay."""
    (tmp_path / "real").mkdir()
    target, link, first = tmp_path / "real" / "kept.json", tmp_path / "link.json", tmp_path / "first.json"
    link.symlink_to(target)
    first.symlink_to("link.json")
    if is_there:
        target.write_text("old")
    write_json(first, "new")
    assert link.is_symlink()
    assert first.is_symlink()
    assert json.loads(target.read_text()) == "new"
    assert names(tmp_path / "real") == ["kept.json"]


def test_what_is_no_file_is_written_to(tmp_path):
    """A pipe, as /dev/stdout may be, or /dev/null: it is not replaced."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        write_json(pipe, [1])
        assert json.loads(os.read(descriptor, 100)) == [1]
    finally:
        os.close(descriptor)
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


# ----------------------------------------------------------------------------------------------- more than one writer


def test_threads_that_write_to_one_path(tmp_path):
    """None is in another's way: each write succeeds, and who reads meanwhile finds one whole content."""
    target, errors = tmp_path / "kept.json", []
    write_json(target, [0, "x" * 50_000])

    def write(number: int):
        try:
            for _ in range(20):
                write_json(target, [number, "x" * 50_000])
                assert json.loads(target.read_text())[1] == "x" * 50_000
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names(tmp_path) == ["kept.json"]


def test_a_writer_that_lives_is_left_alone(tmp_path):
    """One that writes the same path meanwhile, and one that looks for leftovers, take nothing of another's away."""
    target = tmp_path / "kept.json"
    with replacing(target) as first:
        first.write_text("first")
        with replacing(target) as second:
            second.write_text("second")
            assert first.parent != second.parent
        assert target.read_text() == "second"
        remove_leftovers(target)
        assert first.read_text() == "first"
    assert target.read_text() == "first"
    assert names(tmp_path) == ["kept.json"]


def left_beside(target: Path) -> Path:
    """What a writer of this file leaves that is killed: its folder, which nobody holds, with what it had written."""
    with replacing(target) as beside:
        beside.write_text("half")
    beside.parent.mkdir()
    beside.write_text("half")
    beside.with_name(".tmpAbCdEf").write_text("what a library writes beside it")
    return beside.parent


def test_what_dead_writers_left_goes_with_the_next_write(tmp_path):
    """All of it, whatever it is called inside; nothing of another file, and nothing else that begins alike."""
    target, other = tmp_path / "kept.json", tmp_path / "kept.json.2"
    left, of_another = [left_beside(target) for _ in range(2)], left_beside(other)
    mine = [
        ".kept.json",
        ".kept.json.notes",
        ".kept.json.partial",
        ".kept.json.backups_.txt",
        "kept.json.abcdefgh.partial",
    ]
    for name in mine:
        (tmp_path / name).mkdir()
    file = tmp_path / left[0].name.replace(left[0].name[-16:-8], "abcdefgh")
    file.write_text("a file, which no writer leaves")
    write_json(target, [])
    assert names(tmp_path) == sorted([*mine, target.name, other.name, of_another.name, file.name])


def test_where_there_are_no_locks_nothing_is_removed(tmp_path, monkeypatch):
    """What cannot be told from a living writer's stays; writing works all the same."""

    def refuse(descriptor, how):
        raise OSError(95, "Operation not supported")

    target = tmp_path / "kept.json"
    left = left_beside(target)
    monkeypatch.setattr(atomic_files.fcntl, "flock", refuse)
    write_json(target, [1])
    assert json.loads(target.read_text()) == [1]
    assert names(tmp_path) == sorted([left.name, target.name])
    monkeypatch.setattr(atomic_files, "fcntl", None)
    write_json(target, [2])
    assert json.loads(target.read_text()) == [2]
    assert names(tmp_path) == sorted([left.name, target.name])


def test_a_folder_that_is_taken_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    """Between making and locking it another writer may take it for a dead one's."""
    target, locked, taken = tmp_path / "kept.json", atomic_files._locked, []

    def late(folder, **how):
        if not taken:
            taken.append(folder)
            remove_leftovers(target)
        return locked(folder, **how)

    monkeypatch.setattr(atomic_files, "_locked", late)
    write_json(target, [1])
    assert json.loads(target.read_text()) == [1]
    assert taken
    assert names(tmp_path) == ["kept.json"]

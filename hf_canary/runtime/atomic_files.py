"""Writing files so that a reader finds the old one or the new one, never a torn one, whoever else writes to the path at
the same time: other threads, other processes, one that is killed.

What is written stands meanwhile in a folder of its own beside the file. The folder is locked while its writer lives, so
that what a dead one left is told from what another is at; and whatever the writer puts beside its file is in it, too.

Knows nothing of what is in the files.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from .json_text import json_text

# On other systems folders are not locked, and what dead writers left stays.
fcntl: Any = import_module("fcntl") if os.name == "posix" else None

_END = ".partial"
_OWN = re.compile(r"[a-z0-9_]{8}" + re.escape(_END))  # as tempfile names it
_PRIVATE = 0o600


def remove_leftovers(path: str | Path) -> None:
    """Remove what writers of this file left that were killed while they wrote it, and nothing of one that lives."""
    target = _written(path)
    begin = _begin(target)
    with suppress(OSError):  # no such folder, or one that may not be read
        for name in os.listdir(target.parent):
            if name.startswith(begin) and _OWN.fullmatch(name[len(begin) :]):
                _remove_if_dead(target.parent / name)


@contextmanager
def replacing(path: str | Path, *, private: bool = False) -> Iterator[Path]:
    """A path to write to; what stands there takes the place of `path` when the block ends well, and goes if not.

    A file that is there keeps its mode, and a link what it leads to: the file behind it is written. What is no file,
    such as `/dev/stdout`, is written to as it is.

    Args:
        path: the file.
        private: whether nobody but its owner may read a file that was not there before, from its first byte on.
    """
    if _is_no_file(path):
        yield Path(path)
        return
    target = _written(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    with _own_folder(target) as folder:
        beside = folder / target.name
        yield beside
        mode = _mode(target, private)
        if mode is not None:
            os.chmod(beside, mode)
        os.replace(beside, target)


def write_json(path: str | Path, content: object, *, private: bool = False) -> None:
    """Write `content` as strict JSON (no NaN, no infinity); `private` as in `replacing`."""
    with replacing(path, private=private) as beside:
        beside.write_text(json_text(content, indent=1) + "\n", encoding="utf-8")


def _written(path: str | Path) -> Path:
    """The file that is written: behind links."""
    return Path(os.path.realpath(path))


def _is_no_file(path: str | Path) -> bool:
    """Whether a pipe, a terminal or the like stands there: neither a file, nor a folder, nor nothing."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _mode(target: Path, private: bool) -> int | None:
    """What the new file is to have; None for what it has by itself."""
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        return _PRIVATE if private else None


def _begin(target: Path) -> str:
    """How the name begins of what is written beside a file; an underscore, which keeps from uploads, stays in front."""
    return f"{'_' * target.name.startswith('_')}.{target.name}."


@contextmanager
def _own_folder(target: Path) -> Iterator[Path]:
    """A folder beside a file that nobody else writes to or reads, locked until it is gone."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_begin(target), suffix=_END, dir=target.parent))
        descriptor = _locked(folder)
        if folder.exists():
            break
        _close(descriptor)  # it was taken for a dead writer's before it was locked
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _close(descriptor)


def _remove_if_dead(folder: Path) -> None:
    descriptor = _locked(folder, waits=False)
    if descriptor is not None:
        shutil.rmtree(folder, ignore_errors=True)
        _close(descriptor)


def _locked(folder: Path, *, waits: bool = True) -> int | None:
    """A descriptor that holds the lock of a folder until it is closed, at the latest when the process ends; None where
    another has it, or where there are no locks.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)

"""The private record of a training: JSON lines, one for each canary and estimator of each measurement, and what stands
before the canaries. Never a canary's text; but whoever has the model finds a canary by its rank as surely, so the file
is its owner's alone, and has a name that is not uploaded with the model.

Each line says of which training it is. Knows no trainer, and nothing of what a measurement is.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import is_int
from ..runtime.atomic_files import remove_leftovers, replacing
from ..runtime.json_text import json_text, read_json

logger = logging.getLogger(__name__)

# `Trainer` leaves out what begins with an underscore when it pushes to the Hub; in `output_dir` alone, and in no folder
# of it, so that the records of trials stand there, too.
RECORD_FILE = "_exposure.jsonl"
CONTEXTS = "contexts"  # the role of a line that says what stands before the canaries
TRIAL = "trial"  # of one that has the hyperparameters of a trial
SIZE = "size"  # and of one that says how large the measurements are
NOTES = (CONTEXTS, TRIAL, SIZE)  # no measurements
_MOST_UNWRITTEN = 2**24  # bytes that are kept for a disk that has room again


def new_name() -> str:
    """A name for a training, which no other has: when it was given, and a random number."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {secrets.token_hex(4)}"


class Record:
    """The file of one training. A process that is killed leaves whole lines, and perhaps a torn last one.

    Args:
        folder: where `_exposure.jsonl` is, or will be.
        trial: the name of a trial in a search of hyperparameters, which has a file of its own there; None for a
            training that is none.
    """

    def __init__(self, folder: str | Path, trial: str | None = None) -> None:
        own = "" if trial is None else "." + re.sub(r"[^\w.,=+-]+", "-", trial)
        self.file = Path(folder) / RECORD_FILE.replace(".", f"{own}.")
        self._unwritten: deque[bytes] = deque()

    @classmethod
    def at(cls, file: Path) -> Record:
        """One under another name."""
        record = cls(file.parent)
        record.file = file
        return record

    @property
    def picture(self) -> Path:
        """The file of its picture."""
        return self.file.with_suffix(".png")

    def append(self, when: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> None:
        """Write one measurement at once, behind those that could not be written before.

        Raises:
            OSError: it cannot be written; nothing of it is in the file then, and it is tried again with the next.
        """
        text = "".join(json_text({**when, **line}) + "\n" for line in lines)
        self._unwritten.append(text.encode())
        while sum(map(len, self._unwritten)) > _MOST_UNWRITTEN and len(self._unwritten) > 1:
            self._unwritten.popleft()
        self.write_rest()

    def write_rest(self) -> None:
        """Write what could not be written before.

        Raises:
            OSError: it still cannot.
        """
        text = b"".join(self._unwritten)
        if not text:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            rest = memoryview(text if file.read(1) in (b"", b"\n") else b"\n" + text)  # a line that was torn stays one
            try:
                while rest:  # a full disk takes a part
                    rest = rest[file.write(rest) :]
            except BaseException:
                file.truncate(end)
                raise
        self._unwritten.clear()

    def set_aside(self, is_kept: Callable[[Mapping[str, Any]], bool]) -> Path | None:
        """Drop what is not kept. The lines of a training that loses a measurement by it, and lines that are none of a
        record, are whole under another name; which. None if there are no such lines.

        Args:
            is_kept: of a line.
        """
        remove_leftovers(self.file)
        pairs = [(line, _checked(_parsed(line))) for line in self._lines()]
        stay = [line for line, content in pairs if content and is_kept(content)]
        lost = {
            content.get("training")
            for _, content in pairs
            if not content or not (content["role"] in NOTES or is_kept(content))
        }
        apart = [line for line, content in pairs if content.get("training") in lost]
        if not apart:
            if len(stay) < len(pairs):
                _write_whole(self.file, stay)
            return None
        with _free_name(self.file) as aside:
            if len(apart) == len(pairs) and not stay:
                with suppress(FileNotFoundError):  # which whoever begins at the same time has set aside
                    self.file.replace(aside)  # for which there is room on a full disk
                aside.chmod(0o600)
            else:
                _write_whole(aside, apart)
                _write_whole(self.file, stay)
            if self.picture.exists():
                self.picture.replace(aside.with_suffix(self.picture.suffix))
        return aside if aside.exists() else None

    def lines(self) -> list[dict[str, Any]]:
        """All that is in it; a warning says if there is what cannot be read."""
        found = [_parsed(line) for line in self._lines()]
        unread = sum(not content for content in found)
        if unread:
            logger.warning("%s: what cannot be read is left out; lines of it: %d.", self.file, unread)
        return [content for content in found if content]

    def lines_of(self, training: str) -> list[dict[str, Any]]:
        """Those of one training that say all that a line must say."""
        return [line for line in self.lines() if _checked(line) and line["training"] == training]

    def _lines(self) -> list[bytes]:
        """Of bytes: what stands there need not be text."""
        return [line for line in self.file.read_bytes().split(b"\n") if line] if self.file.exists() else []


@contextmanager
def _free_name(file: Path) -> Iterator[Path]:
    """A numbered name that nobody has and nobody else is given; free again if nothing came there."""
    for number in itertools.count(1):
        name = file.with_name(f"{file.stem}.{number}{file.suffix}")
        with suppress(FileExistsError):
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            break
    try:
        yield name
    finally:
        if not name.stat().st_size:
            name.unlink()


def _write_whole(file: Path, lines: Iterable[bytes]) -> None:
    with replacing(file, private=True) as beside:
        beside.write_bytes(b"".join(line + b"\n" for line in lines))


def _parsed(line: bytes) -> dict[str, Any]:
    """Nothing for what is none of ours: torn, no text, a number of thousands of digits, too deep."""
    try:
        content = read_json(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    """A line; nothing if it does not say of which training it is, of which step, of which canaries, and what it is."""
    words = ["training", "canaries", "role", *(["canary_id"] if content.get("role") in ("canary", "twin") else [])]
    is_whole = all(isinstance(content.get(word), str) for word in words) and is_int(content.get("step"))
    return content if is_whole and content["step"] >= 0 else {}

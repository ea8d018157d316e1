"""The private record of a training: JSON lines, one for each canary and estimator of each measurement, and what stands
before the canaries. Never a canary's text; but whoever has the model finds a canary by its rank as surely, so the file
is its owner's alone, and has a name that is not uploaded with the model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..runtime.atomic_files import remove_leftovers, replacing
from ..runtime.json_text import json_text

# `Trainer` leaves out what begins with an underscore when it pushes to the Hub.
PICTURE_FILE = "_exposure.png"
RECORD_FILE = "_exposure.jsonl"
CONTEXTS = "contexts"  # the role of a line that says what stands before the canaries
SIZE = "size"  # of one that says how large the measurements are
BESIDE = (CONTEXTS, SIZE)  # of lines that are no measurement's


class Record:
    """The file of one training. A process that is killed leaves whole lines, and perhaps a torn last one.

    Args:
        folder: where `_exposure.jsonl` is, or will be.
    """

    def __init__(self, folder: str | Path) -> None:
        self.file = Path(folder) / RECORD_FILE

    @classmethod
    def at(cls, file: Path) -> Record:
        """One under another name."""
        record = cls(file.parent)
        record.file = file
        return record

    def append(self, when: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> None:
        """Write one measurement at once."""
        text = "".join(json_text({**when, **line}) + "\n" for line in lines)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            rest = memoryview(text.encode())
            while rest:  # a full disk takes a part
                rest = rest[file.write(rest) :]

    def forget_after(self, step: int) -> None:
        """Drop the measurements beyond the step that a training goes on from, which it takes anew, and a torn line."""
        remove_leftovers(self.file)
        self._keep([line for line in self._whole_lines() if _step(line) <= step])

    def set_aside(self, *, with_last: bool) -> Path | None:
        """Keep the measurements of an earlier training under another name; which. None if there was none.

        Args:
            with_last: whether measurements before the first step that were taken after that training are another's,
                too.
        """
        lines = self._whole_lines()
        last = max((number for number, line in enumerate(lines) if _step(line) > 0), default=-1)
        stay = [] if with_last else lines[last + 1 :]
        if len(stay) == len(lines) or all(_parsed(line).get("role") in BESIDE for line in lines):
            return None
        number = 1
        while (aside := self.file.with_name(f"{self.file.stem}.{number}{self.file.suffix}")).exists():
            number += 1
        with replacing(aside, private=True) as beside:
            beside.write_text("".join(lines[: len(lines) - len(stay)]), encoding="utf-8")
        self._keep(stay)
        picture = self.file.with_name(PICTURE_FILE)
        if picture.exists():
            picture.replace(aside.with_suffix(picture.suffix))
        return aside

    def lines(self) -> list[dict[str, Any]]:
        """All that is in it, but a torn line."""
        return [line for line in map(_parsed, self._text().splitlines()) if line]

    def _keep(self, lines: list[str]) -> None:
        if "".join(lines) != self._text():
            with replacing(self.file, private=True) as beside:
                beside.write_text("".join(lines), encoding="utf-8")

    def _whole_lines(self) -> list[str]:
        return [line for line in self._text().splitlines(keepends=True) if line.endswith("\n")]

    def _text(self) -> str:
        return self.file.read_text(encoding="utf-8") if self.file.exists() else ""


def _parsed(line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


def _step(line: str) -> float:
    """The step of a line; before the first for one that is not ours, which is not for us to drop."""
    step = _parsed(line).get("step")
    return step if isinstance(step, (int, float)) else -1

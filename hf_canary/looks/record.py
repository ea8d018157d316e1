"""The record of looks: a file of JSON lines, one for each canary and estimator of each look. Never a canary's text."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..files import replacing

RECORD_FILE = "exposure.jsonl"


class Record:
    """The file of one training. A process that is killed leaves whole lines, and perhaps a torn last one.

    Args:
        folder: where `exposure.jsonl` is, or will be.
    """

    def __init__(self, folder: str | Path) -> None:
        self.file = Path(folder) / RECORD_FILE

    def append(self, when: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> None:
        """Write one look at once."""
        text = "".join(json.dumps({**when, **line}, allow_nan=False) + "\n" for line in lines)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            rest = memoryview(text.encode())
            while rest:  # a full disk takes a part
                rest = rest[file.write(rest) :]

    def forget_after(self, step: int) -> None:
        """Drop the looks beyond the step that a training starts from, which it will take anew, and a torn line."""
        lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True) if self.file.exists() else []
        kept = [line for line in lines if line.endswith("\n") and _step(line) <= step]
        if kept != lines:
            with replacing(self.file) as beside:
                beside.write_text("".join(kept), encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        """All that is in it, but a torn line."""
        if not self.file.exists():
            return []
        parsed = map(_parsed, self.file.read_text(encoding="utf-8").splitlines())
        return [line for line in parsed if line]


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

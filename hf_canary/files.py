"""Writing files so that a reader finds the old one or the new one, never a torn one.

Knows nothing of what is in them.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def remove_leftovers(path: str | Path) -> None:
    """Remove what was left beside a file by processes that were killed while they wrote it."""
    target = Path(path)
    for beside in target.parent.glob(f".{glob.escape(target.stem)}.*{glob.escape(target.suffix)}"):
        if beside.name[len(target.stem) + 2 : len(beside.name) - len(target.suffix)].isdecimal():
            beside.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block ends well, and goes if not."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield beside
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: str | Path, content: object) -> None:
    """Write `content` as strict JSON (no NaN, no infinity)."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")

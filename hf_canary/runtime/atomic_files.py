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
    begin = _begin(target)
    for beside in target.parent.glob(f"{glob.escape(begin)}*{glob.escape(target.suffix)}"):
        if beside.name[len(begin) : len(beside.name) - len(target.suffix)].isdecimal():
            beside.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | Path, *, private: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block ends well, and goes if not.

    Args:
        path: the file.
        private: whether nobody but its owner may read it, from its first byte on.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f"{_begin(target)}{os.getpid()}{target.suffix}")
    try:
        if private:
            # Empty, for the block to write into: a file keeps its mode when it is opened anew.
            beside.unlink(missing_ok=True)
            os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield beside
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _begin(target: Path) -> str:
    """How the name begins of what is written beside a file; an underscore, which keeps from uploads, stays in front."""
    return f"{'_' * target.name.startswith('_')}.{target.stem}."


def write_json(path: str | Path, content: object, *, private: bool = False) -> None:
    """Write `content` as strict JSON (no NaN, no infinity); `private` as in `replacing`."""
    with replacing(path, private=private) as beside:
        beside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")

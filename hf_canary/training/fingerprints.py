"""Which canaries a checkpoint was trained with: a salted digest of the set beside its weights, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..canaries import CanarySet
from ..errors import DataError, shown
from ..inference.loading import file_beside
from ..runtime.atomic_files import write_json
from ..runtime.json_text import read_json

FINGERPRINT_FILE = "hf_canary.json"
_VERSION = 1


def leave_fingerprint(folder: str | Path, canaries: CanarySet) -> None:
    """Write it beside the weights in a folder. It may be public: nobody learns a canary by it."""
    write_json(Path(folder) / FINGERPRINT_FILE, {"version": _VERSION, "canaries": canaries.fingerprint})


def fingerprint_of(model: str) -> str | None:
    """The one beside the weights of a model, by its folder or Hub id; None if there is none, or no such model."""
    found = file_beside(model, FINGERPRINT_FILE)
    return None if found is None else fingerprint_in(found)


def fingerprint_in(file: str | Path) -> str:
    """The one that a file holds.

    Raises:
        DataError: it is none of ours.
    """
    try:
        content: Any = read_json(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        content = str(error)
    if (
        not isinstance(content, dict)
        or content.get("version") != _VERSION
        or not isinstance(content.get("canaries"), str)
    ):
        raise DataError(
            FINGERPRINT_FILE,
            "what a training with ExposureCallback leaves beside the weights",
            shown(content),
            "Remove it, if it is of something else; which canaries the model was trained with is unknown then.",
        )
    return str(content["canaries"])

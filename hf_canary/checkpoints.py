"""A search kept in a file: written beside and renamed, read only for the search that it is of.

The file is of safetensors, with what is not an array in its header. Knows of a search and its goal that they are saved
and loaded; knows no tree and no walk.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import DataError, shown
from .files import replacing
from .processes import from_main, is_main_process

_KIND, _VERSION = "hf_canary search", "1"
# Not more often than this, and not so often that writing takes a larger part of the time.
_SECONDS, _SHARE = 20.0, 0.05


class Walk(Protocol):
    """A search between two batches."""

    def save(self) -> tuple[dict[str, float], dict[str, torch.Tensor]]: ...

    def load(self, numbers: dict[str, float], tensors: dict[str, torch.Tensor]) -> None: ...


class Goal(Protocol):
    """What a search has found."""

    def save(self) -> dict[str, NDArray[Any]]: ...

    def load(self, saved: dict[str, NDArray[Any]]) -> None: ...


class Checkpoint:
    """The file of one search.

    Args:
        path: None keeps nothing.
        walk: the search.
        goal: what it has found.
        belongs_to: what must be the same for the search to go on: by name, a digest or what makes one.
    """

    def __init__(self, path: str | Path | None, walk: Walk, goal: Goal, belongs_to: Mapping[str, str]) -> None:
        self._path = None if path is None else Path(path)
        self._walk, self._goal, self._belongs_to = walk, goal, dict(belongs_to)
        self._next = time.monotonic() + _SECONDS

    def load(self) -> None:
        """Go on from the file, if it is there.

        Raises:
            DataError: it is torn, no checkpoint, of another version or of another search.
        """
        path = self._path
        found = None if path is None else from_main(lambda: self._read(path) if path.exists() else None)
        if found is None:
            return
        header, tensors = found
        numbers = {name: float(value) for name, value in json.loads(header["numbers"]).items()}
        goal = {name[5:]: tensor.numpy() for name, tensor in tensors.items() if name.startswith("goal.")}
        walk = {name[5:]: tensor for name, tensor in tensors.items() if name.startswith("walk.")}
        self._walk.load(numbers, walk)
        self._goal.load(goal)

    def save_if_due(self) -> None:
        """Now and then."""
        if self._path is not None and time.monotonic() >= self._next:
            began = time.monotonic()
            self.save()
            took = time.monotonic() - began
            self._next = time.monotonic() + max(_SECONDS, took / _SHARE)

    def save(self) -> None:
        """Write the file, whole or not at all; one process does it."""
        if self._path is None or not is_main_process():
            return
        numbers, walk = self._walk.save()
        tensors = {f"walk.{name}": tensor.cpu().contiguous() for name, tensor in walk.items()}
        tensors |= {
            f"goal.{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in self._goal.save().items()
        }
        # As text, since JSON has no infinity.
        as_text = json.dumps({name: repr(float(value)) for name, value in numbers.items()})
        header = {
            "kind": _KIND,
            "version": _VERSION,
            "numbers": as_text,
            "belongs_to": json.dumps(self._belongs_to),
            "checksum": str(_checksum(tensors, as_text)),
        }
        with replacing(self._path) as beside:
            save_file(tensors, beside, metadata=header)

    def _read(self, path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
        try:
            with safe_open(path, framework="pt") as file:
                header = dict(file.metadata() or {})
                if header.get("kind") != _KIND:
                    raise _no(path, "a file of something else")
                if header.get("version") != _VERSION:
                    raise _no(path, f"version {shown(header.get('version'))}, where this release writes {_VERSION}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        except (OSError, SafetensorError) as error:
            raise _no(path, f"a torn file ({shown(str(error))})") from error
        if header.get("checksum") != str(_checksum(tensors, header.get("numbers", ""))):
            raise _no(path, "a file that was changed since it was written")
        saved = json.loads(header.get("belongs_to", "{}"))
        other = [name for name, value in self._belongs_to.items() if saved.get(name) != value]
        if other:
            raise _no(path, f"that of a search with another {' and another '.join(other)}")
        return header, tensors


def check_writable(path: str | Path | None) -> None:
    """Before any work, that the file can be written.

    Raises:
        DataError: it is a folder, or lies where nothing can be written.
    """
    if path is None:
        return
    target = Path(path).absolute()
    nearest = next(parent for parent in target.parents if parent.exists())
    if target.is_dir() or not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise DataError(
            "checkpoint", "a file in a folder that can be written to", shown(str(path)), "Name another file."
        )


def _no(path: Path, got: str) -> DataError:
    return DataError(
        "checkpoint",
        "a file of this search, or one that is not there yet",
        f"{shown(str(path))}, {got}",
        "Remove it to begin anew, or name another.",
    )


def _checksum(tensors: Mapping[str, torch.Tensor], numbers: str) -> int:
    total = zlib.crc32(numbers.encode())
    for name in sorted(tensors):
        total = zlib.crc32(_bytes(tensors[name]), zlib.crc32(name.encode(), total))
    return total


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def digest_of_text(text: str) -> str:
    """SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_model(model: Any) -> str:
    """Of names, kinds and values of all weights; as they lie in this process."""
    digest = hashlib.blake2b(digest_size=32)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        digest.update(f"{name} {local.dtype} {tuple(local.shape)}".encode())
        digest.update(_bytes(local.detach().cpu()))
    return digest.hexdigest()


def digest_of_tokenizer(tokenizer: Any) -> str:
    """Of all that decides how it encodes, as far as it says."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = json.dumps(sorted(tokenizer.get_vocab().items())) if backend is None else backend.to_str()
    return digest_of_text(f"{type(tokenizer).__name__} {described} {tokenizer.special_tokens_map}")

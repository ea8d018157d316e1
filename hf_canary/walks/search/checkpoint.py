"""A search kept in a file: written beside and renamed, read only for the search that it is of.

The file is of safetensors, with what is not an array in its header; it holds candidates, so that none but its owner may
read it. Knows of a search and its goal that they are saved and loaded; knows no tree and no walk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate.utils import align_module_device
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ...arguments import check_path, is_file_name
from ...errors import DataError, shown
from ...runtime.atomic_files import replacing
from ...runtime.json_text import read_json
from ...runtime.processes import all_gather, from_main, is_main_process

logger = logging.getLogger(__name__)

_KIND, _VERSION = "hf_canary search", "4"
# Of a config: where it comes from, and what a training or a call makes of it.
_OF_THE_FILE = {"transformers_version", "architectures", "torch_dtype", "dtype", "use_cache", "name_or_path"}
# Of a module: what changes with its use, and nothing that it answers.
_PASSING = {"training", "gradient_checkpointing", "max_seq_len_cached", "is_hf_initialized", "compute_type_is_set"}
# Not more often than this, and not so often that writing takes a larger part of the time.
_SECONDS, _SHARE = 20.0, 0.05


class Walk(Protocol):
    """A search between two batches.

    Attributes:
        layout: what is kept of a prefix; a search can go on from the same alone.
    """

    @property
    def layout(self) -> str: ...

    def save(self) -> tuple[dict[str, float], dict[str, torch.Tensor]]: ...

    def load(self, numbers: dict[str, float], tensors: dict[str, torch.Tensor]) -> None: ...


class Goal(Protocol):
    """What a search has found."""

    def save(self) -> dict[str, NDArray[Any]]: ...

    def load(self, saved: dict[str, NDArray[Any]]) -> None: ...


@dataclass(frozen=True)
class Answers:
    """What a model answers to a few fixed questions: other machines give the same but for rounding.

    Args:
        bits: of some tokens.
        tolerance: in bits, for each.
    """

    bits: tuple[float, ...]
    tolerance: float

    def are(self, others: Sequence[float]) -> bool:
        """Whether others, of the same questions, are the same model's; infinite ones only where these are."""
        both = np.array(self.bits), np.array(others)
        return len(others) == len(self.bits) and bool(np.allclose(*both, rtol=0.0, atol=self.tolerance, equal_nan=True))


class Checkpoint:
    """The file of one search.

    Args:
        path: None keeps nothing.
        belongs_to: what must be the same for the search to go on: by name, a digest or what makes one; and what the
            model answers. Asked for where there is a path.

    Raises:
        DataError: there is a file, and it is torn, no checkpoint, of another version or of another search.
    """

    def __init__(self, path: str | Path | None, belongs_to: Callable[[], tuple[Mapping[str, str], Answers]]) -> None:
        self._path = None if path is None else Path(path)
        self._belongs_to, self._answers = "", Answers((), 0.0)
        if path is not None:
            digests, self._answers = belongs_to()
            self._belongs_to = json.dumps(digests, sort_keys=True)
        self._next = time.monotonic() + _SECONDS
        if self._path is not None:
            from_main(lambda: self._header() is not None)

    def load(self, walk: Walk, goal: Goal) -> bool:
        """Go on from the file, if it is there; whether it was.

        Raises:
            DataError: it is torn, or was written where the model is read in another way.
        """
        found = None if self._path is None else from_main(lambda: self._read(walk.layout))
        if found is None:
            return False
        header, tensors = found
        numbers = {name: float(value) for name, value in read_json(header["numbers"]).items()}
        walk.load(numbers, {name[5:]: tensor for name, tensor in tensors.items() if name.startswith("walk.")})
        goal.load({name[5:]: tensor.numpy() for name, tensor in tensors.items() if name.startswith("goal.")})
        return True

    def save_if_due(self, walk: Walk, goal: Goal) -> None:
        """Now and then."""
        if self._path is not None and time.monotonic() >= self._next:
            began = time.monotonic()
            self.save(walk, goal)
            took = time.monotonic() - began
            self._next = time.monotonic() + max(_SECONDS, took / _SHARE)

    def save(self, walk: Walk, goal: Goal) -> None:
        """Write the file, whole or not at all; one process does it. A search goes on where that fails, and says so."""
        if self._path is None or not is_main_process():
            return
        numbers, rows = walk.save()
        tensors = {f"walk.{name}": tensor.cpu().contiguous() for name, tensor in rows.items()}
        tensors |= {
            f"goal.{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in goal.save().items()
        }
        header = {
            "kind": _KIND,
            "version": _VERSION,
            # As text, since JSON has no infinity.
            "numbers": json.dumps({name: repr(float(value)) for name, value in numbers.items()}),
            "belongs_to": self._belongs_to,
            "answers": json.dumps([repr(bits) for bits in self._answers.bits]),
            "layout": walk.layout,
        }
        header["checksum"] = _checksum(tensors, header)
        try:
            with replacing(self._path, private=True) as beside:
                save_file(tensors, beside, metadata=header)
        except (OSError, SafetensorError) as error:
            logger.error("The checkpoint %s could not be written: %s. The search goes on without.", self._path, error)

    def _header(self) -> dict[str, str] | None:
        path = self._path
        if path is None:
            return None
        try:
            if not path.exists():
                return None
            with safe_open(path, framework="pt") as file:
                header = dict(file.metadata() or {})
            if header.get("kind") != _KIND:
                raise _no(path, "a file of something else")
            if header.get("version") != _VERSION:
                raise _no(path, f"version {shown(header.get('version'))}, where this release writes {_VERSION}")
            theirs, ours = read_json(header["belongs_to"]), read_json(self._belongs_to)
            answers = [float(bits) for bits in read_json(header["answers"])]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise _no(path, f"a torn file ({shown(str(error))})") from error
        other = [name for name, value in ours.items() if theirs.get(name) != value]
        if other:
            raise _no(path, f"that of a search with another {' and another '.join(other)}")
        if not self._answers.are(answers):
            raise _no(path, "that of a search in a model with the same weights that answers otherwise")
        return header

    def _read(self, layout: str) -> tuple[dict[str, str], dict[str, torch.Tensor]] | None:
        path, header = self._path, self._header()
        if path is None or header is None:
            return None
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise _no(path, f"a torn file ({shown(str(error))})") from error
        if header.get("checksum") != _checksum(tensors, header):
            raise _no(path, "a file that was changed since it was written")
        if header["layout"] != layout:
            raise _no(path, f"one where {header['layout']} was kept of each prefix, and {layout} would be here")
        return header, tensors


def check_writable(path: str | Path | None) -> None:
    """Before any work, that the file can be written.

    Raises:
        DataError: it is a folder, or its own is not there, or nothing can be written in it.
    """
    if path is not None:
        target = check_path("checkpoint", path).absolute()
        from_main(lambda: _check_writable(target))


def _check_writable(target: Path) -> None:
    try:
        folder = target.parent
        if not is_file_name(target):
            wrong = "has a name that is too long, or none"
        elif target.is_dir():
            wrong = "is a folder"
        elif not folder.is_dir():
            wrong = f"stands in {shown(str(folder))}, which is no folder"
        elif not os.access(folder, os.W_OK):
            wrong = f"stands in {shown(str(folder))}, which may not be written to"
        else:
            return
    except OSError as error:
        wrong = f"cannot be used ({error.strerror})"
    raise DataError(
        "checkpoint",
        "a file in a folder that is there and can be written to",
        f"{shown(str(target))}, which {wrong}",
        "Name another file.",
    )


def _no(path: Path, got: str) -> DataError:
    return DataError(
        "checkpoint",
        "a file of this search, or one that is not there yet",
        f"{shown(str(path))}, {got}",
        "Remove it to begin anew, or name another.",
    )


def _checksum(tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> str:
    total = 0
    for name in sorted(header.keys() - {"checksum"}):
        total = zlib.crc32(header[name].encode(), total)
    for name in sorted(tensors):
        total = zlib.crc32(_bytes(tensors[name]), zlib.crc32(name.encode(), total))
    return str(total)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def digest_of_text(text: str) -> str:
    """SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_model(model: Any) -> str:
    """Of names, kinds and values of all weights, wherever they lie; all processes must ask for it together."""
    digest = hashlib.blake2b(digest_size=32)
    for place, module in model.named_modules():
        with align_module_device(module):  # brings in what is loaded only when it is needed
            own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
            for name, tensor in own:
                whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
                digest.update(f"{place} {name} {whole.dtype} {tuple(whole.shape)}".encode())
                digest.update(_bytes(whole.detach().cpu()))
    each = all_gather(digest.hexdigest())  # of a model in shards they differ
    return each[0] if len(set(each)) == 1 else digest_of_text(" ".join(each))


def digest_of_adapters(model: Any) -> str:
    """Of which adapters, as of peft, are active, merged or off in each layer that has some, and how strong they are."""
    return digest_of_text("\n".join(_adapters(model)))


def _adapters(model: Any) -> Iterator[str]:
    for place, module in model.named_modules():
        if isinstance(getattr(type(module), "disable_adapters", None), property):  # models have a method of that name
            active, merged = (list(getattr(module, name, [])) for name in ("active_adapters", "merged_adapters"))
            strengths = _number_of(getattr(module, "scaling", {}))
            yield f"{place} {active} {merged} {module.disable_adapters} {strengths}"


def digest_of_settings(model: Any) -> str:
    """Of what decides beside the weights: the config, and the numbers that the modules hold."""
    config: Any = getattr(model, "config", None)
    described = config.to_dict() if hasattr(config, "to_dict") else {}
    said = [json.dumps(_without(described), sort_keys=True, default=lambda part: type(part).__name__)]
    for place, module in model.named_modules():
        numbers = {name: value for name, value in vars(module).items() if name not in _PASSING and name[0] != "_"}
        said += [f"{place} {name} {_number_of(value)}" for name, value in sorted(numbers.items()) if _is_number(value)]
    return digest_of_text("\n".join(said))


def _without(described: Any) -> Any:
    """A config without what tells of its making and its use."""
    if isinstance(described, dict):
        kept = {str(name): value for name, value in described.items() if name not in _OF_THE_FILE}
        return {name: _without(value) for name, value in kept.items() if not name.startswith("_")}
    if isinstance(described, (list, tuple)):
        return [_without(value) for value in described]
    return _number_of(described) if isinstance(described, float) else described


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def _number_of(value: Any) -> str:
    """To nine digits: the last ones of a root differ between machines."""
    if isinstance(value, dict):
        return str({name: _number_of(number) for name, number in sorted(value.items())})
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def digest_of_tokenizer(tokenizer: Any) -> str:
    """Of all that decides how it encodes, as far as it says."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = json.dumps(sorted(tokenizer.get_vocab().items())) if backend is None else backend.to_str()
    return digest_of_text(f"{type(tokenizer).__name__} {described} {tokenizer.special_tokens_map}")

"""What stands around a model while it is asked: other threads, what torch was told, what earlier calls left on it.

Each is kept out by a context, and is as it was afterwards. Knows modules and torch's switches; calls no model.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ..runtime.processes import is_sharded, num_processes

# What some models keep of their last call, and add to what they read from a cache of another text: None in a new model.
_LEFT_BY_CALLS = ("rope_deltas", "_cached_decode_position_ids", "_prefill_len")
# What torch keeps of a module for itself.
_OF_TORCH = {"training", "forward", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
_STATE = (torch.Tensor, bool, int, float, complex, str, list, tuple, dict, set, type(None))
# A larger one is taken to be weights; what changes in it would be seen by the check of the cache.
_LARGEST = 2**20

_guard = threading.Lock()
_locks: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()


@contextmanager
def alone(model: Any) -> Iterator[None]:
    """One thread at a time, for all models that have a module in common; who has it already may ask again.

    So an adapter's model and its base, or two heads on one body, wait for each other, and other models do not.
    """
    with _guard:
        modules = list(model.modules())
        known = {id(lock): lock for lock in map(_locks.get, modules) if lock is not None}
        own = next(iter(known.values()), None) or threading.RLock()
        for module in modules:
            _locks.setdefault(module, own)
        found = known or {id(own): own}
    with ExitStack() as stack:
        for _, lock in sorted(found.items()):  # in one order, or two threads would each wait for the other
            stack.enter_context(lock)
        yield


@contextmanager
def as_torch_is_by_itself(model: Any) -> Iterator[None]:
    """Without autocast, and with tensors on the processor unless something else is said."""
    kinds = {"cpu", *(parameter.device.type for parameter in model.parameters())} - {"meta"}
    with ExitStack() as stack:
        for kind in sorted(kinds):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def as_a_new_one(model: Any) -> Iterator[None]:
    """Without what earlier calls left on the modules; and what the block's calls change there comes back.

    That is all that a module holds besides its weights: tensors, numbers, containers of them, and buffers that are not
    saved. Models that are sharded over processes are left alone, whose wrappers keep their own books there.
    """
    if num_processes() > 1 and is_sharded(model):
        yield
        return
    before = [_Kept(module) for module in model.modules()]
    try:
        for module in model.modules():
            for name in _LEFT_BY_CALLS:
                if vars(module).get(name) is not None:
                    setattr(module, name, None)
        yield
    finally:
        for kept in before:
            kept.put_back()


class _Kept:
    """What one module holds besides its weights."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._values = {name: value for name, value in vars(module).items() if _is_state(name, value)}
        self._contents = {name: _content(value) for name, value in self._values.items() if _may_change(value)}
        self._buffers = dict(module._buffers)
        unsaved = [name for name in module._non_persistent_buffers_set if _may_change(self._buffers.get(name))]
        self._in_buffers = {name: _content(self._buffers[name]) for name in unsaved}

    def put_back(self) -> None:
        now = vars(self._module)
        for name in [name for name, value in now.items() if _is_state(name, value) and name not in self._values]:
            del now[name]
        for name, value in self._values.items():
            if name in self._contents:
                _refill(value, self._contents[name])
            now[name] = value
        for name, content in self._in_buffers.items():
            _refill(self._buffers[name], content)
        for name, buffer in self._buffers.items():
            self._module._buffers[name] = buffer
        for name in self._module._buffers.keys() - self._buffers.keys():
            del self._module._buffers[name]


def _is_state(name: str, value: Any) -> bool:
    return name not in _OF_TORCH and "_hooks" not in name and isinstance(value, _STATE)


def _may_change(value: Any) -> bool:
    """Whether it may be changed where it is; and is worth a copy."""
    if isinstance(value, torch.Tensor):
        return value.numel() <= _LARGEST and value.device.type != "meta" and not value.is_inference()
    return isinstance(value, (list, dict, set))


def _content(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value.copy()


def _refill(value: Any, content: Any) -> None:
    if isinstance(value, torch.Tensor):
        if not torch.equal(value, content):
            with torch.no_grad():
                value.copy_(content)
    elif isinstance(value, list):
        value[:] = content
    else:
        value.clear()
        value.update(content)

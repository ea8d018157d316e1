"""Several processes: each does a share of a job, and all get the whole answer.

A model that is sharded over the processes computes only where all of them call it, so that each call of one is met by
a call of the others (`Lockstep`). Knows arrays and collectives; knows no model's outputs, no walk and no text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather, gather_object, parse_flag_from_env, reduce

from ..arrays import Floats, Ints
from ..errors import CanaryError, ModelError

T = TypeVar("T")


def num_processes() -> int:
    """How many processes do this together: 1, unless a launcher started several."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if launched or (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return int(_state().num_processes)
    return 1


def _state() -> PartialState:
    """What accelerate knows of the processes; on processors alone it joins them only when it is told so."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def split_over_processes(
    count: int, work: Callable[[Ints], Floats], idle: Callable[[], None], *, width: tuple[int, ...] = ()
) -> Floats:
    """What `work` says of the numbers below `count`, of which it is asked for a contiguous share in each process.

    Args:
        count: of numbers.
        work: (n,) numbers → (n, *width) floats.
        idle: called after a process's own work, also after an error.
        width: the shape of what is said of one number.

    Returns:
        (count, *width) floats, the same in every process.

    Raises:
        ModelError: the work failed in another process; in that one, its own error.
    """
    processes = num_processes()
    if processes == 1:
        return work(np.arange(count))
    state = _state()
    share = -(-count // processes)
    mine = np.arange(state.process_index * share, min(count, (state.process_index + 1) * share))
    padded = np.full((share, *width), np.nan)
    error: Exception | None = None
    try:
        if len(mine):
            padded[: len(mine)] = work(mine)
    except Exception as failed:
        error = failed
    try:
        idle()
    except Exception as failed:
        error = error or failed
    # The last number says how it went; all processes read it before any raises, so that none waits for another.
    sent = torch.tensor([*padded.ravel(), 0.0 if error is None else 1.0], dtype=torch.float64)
    received = gather(sent.to(_wire(state.device))).cpu().numpy().reshape(processes, padded.size + 1)
    if error is not None:
        raise error
    if received[:, -1].any():
        raise _elsewhere(int(received[:, -1].argmax()))
    return np.asarray(received[:, :-1].reshape(-1, *width)[:count])


def is_main_process() -> bool:
    """Whether this is the one that writes files; one of them is."""
    return num_processes() == 1 or bool(_state().is_main_process)


def from_main(work: Callable[[], T]) -> T:
    """What `work` gives in the process that writes files, or its error, in every process; the others do not call it."""
    if num_processes() == 1:
        return work()
    said: list[Any] = [None]
    own: Exception | None = None
    if is_main_process():
        try:
            said = [(work(), None)]
        except CanaryError as error:
            said = [(None, error)]
        except Exception as error:  # which may not be sent; the others must not wait for it
            said, own = [(None, _elsewhere(0))], error
    value, failed = broadcast_object_list(said)[0]
    if own is not None:
        raise own
    if failed is not None:
        raise failed
    return cast(T, value)


def run_on_all(work: Callable[[], T]) -> T:
    """What `work` gives, which every process does; an error in one of them is an error in all, once all are through."""
    if num_processes() == 1:
        return work()
    failed: Exception | None = None
    try:
        value = work()
    except Exception as error:
        failed = error
    failures = all_gather("" if failed is None else "failed")
    if failed is not None:
        raise failed
    if any(failures):
        raise _elsewhere(failures.index("failed"))
    return value


def _elsewhere(process: int) -> ModelError:
    return ModelError(
        "model",
        "a measurement that succeeds in every process",
        f"an error in process {process}",
        "See what that process printed.",
    )


def all_gather(text: str) -> list[str]:
    """What each process says, in their order, the same in every process."""
    return [text] if num_processes() == 1 else list(gather_object([text]))


def all_reduce_sum(number: float) -> float:
    """The sum of each process's number, the same in every process; so that all decide alike."""
    return all_reduce_sums([number])[0]


def all_reduce_sums(numbers: Sequence[float]) -> list[float]:
    """The same of several numbers at once."""
    if num_processes() == 1:
        return list(numbers)
    mine = torch.tensor(numbers, dtype=torch.float64, device=_wire(_state().device))
    return [float(total) for total in reduce(mine, "sum").tolist()]


def all_true(is_so: bool) -> bool:
    """Whether it is so in every process, the same in each of them."""
    return is_so if num_processes() == 1 else all_reduce_sum(float(not is_so)) == 0.0


def _wire(device: torch.device) -> torch.device:
    """Where numbers of 64 bits can be sent from; Apple's have no such floats."""
    return torch.device("cpu") if device.type == "mps" else device


def is_tensor_parallel(model: Any) -> bool:
    """Whether each process must do the whole job: where layers are split over them (tensor parallelism), all must read
    the same.
    """
    return int(getattr(model, "_tp_size", None) or 1) > 1


class Lockstep:
    """Rounds of calls, one in each process, for a model that is sharded over them; nothing for any other.

    Args:
        model: as the walk calls it.
    """

    needed: bool

    def __init__(self, model: Any) -> None:
        self.needed = num_processes() > 1 and is_sharded(model)

    def step(self) -> None:
        """Before each call of the model."""
        if self.needed:
            self._round(1)

    def drain(self, call: Callable[[], object]) -> None:
        """Call along, until no process has work left."""
        while self.needed and self._round(0) > 0:
            call()

    def _round(self, working: int) -> int:
        return int(all_reduce_sum(float(working)))


def is_sharded(model: Any) -> bool:
    """Whether each process holds a part of the weights, so that a call of the model is a meeting of all."""
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel  # slow to import, and rarely needed

    if isinstance(model, FullyShardedDataParallel):
        return True
    parameters = list(model.parameters())
    return any(isinstance(module, FSDPModule) for module in model.modules()) or any(
        hasattr(parameter, "ds_id") for parameter in parameters
    )

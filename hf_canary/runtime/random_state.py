"""The random states of Python, NumPy and torch, left as they were found. Knows nothing of what is done in between."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def random_state_kept(devices: Sequence[int] = (), device_type: str = "cuda") -> Iterator[None]:
    """Every random state as it was when the block ends, also by an error.

    Args:
        devices: accelerators whose states are kept besides the processor's, by their numbers.
        device_type: what they are.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=list(devices), device_type=device_type):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)

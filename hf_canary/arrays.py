"""The types of arrays and of rows of tokens, and the constant between nats and bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LN2 = math.log(2.0)
"""Nats of a bit."""


def num_common(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows have in common; one row at least.

    Example:
        >>> num_common([[5, 6, 7], [5, 6], [5, 6, 8]])
        2
    """
    first, last = min(map(tuple, rows)), max(map(tuple, rows))
    shorter = min(len(first), len(last))
    return next((at for at in range(shorter) if first[at] != last[at]), shorter)

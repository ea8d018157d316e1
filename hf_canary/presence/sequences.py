"""Where texts begin within rows of tokens: what a model takes for one sequence. Knows tokens and what stands beside
them in a batch; it knows no canary.

Padding-free batches and packed rows hold many sequences, one behind the other, and say where each begins. A model reads
none of them beyond its ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Ints

# By which a batch says where sequences begin, and the column of packed datasets that says how long they are.
LIMITS = ("cu_seq_lens_q", "cu_seq_lens", "cu_seqlens")
LENGTHS = "seq_lengths"


def says_starts(row: Mapping[str, Any]) -> bool:
    """Whether a row or batch says where sequences begin."""
    return any(row.get(name) is not None for name in ("position_ids", "seq_idx", *LIMITS, LENGTHS))


def lengths_in(row: Mapping[str, Any], count: int) -> Ints:
    """How many tokens each of its sequences has, of a row of so many; one number, where nothing is said.

    Args:
        row: (count,) `position_ids` or `seq_idx`, of the row alone; or the limits of its sequences, or their lengths.
        count: tokens of the row.

    Example:
        >>> lengths_in({"position_ids": [0, 1, 2, 0, 1]}, 5).tolist()
        [3, 2]
        >>> lengths_in({"input_ids": [7, 8, 9]}, 3).tolist()
        [3]
    """
    starts = np.zeros(max(count, 1), dtype=bool)
    starts[0] = True
    for name, step in (("position_ids", 1), ("seq_idx", 0)):
        values = _ints(row.get(name))
        if values is not None and values.size == count:
            starts[1:] |= np.diff(values.reshape(-1)) != step
    limits = [limits for name in LIMITS if (limits := _ints(row.get(name))) is not None]
    lengths = _ints(row.get(LENGTHS))
    if lengths is not None:
        limits.append(np.cumsum(lengths.reshape(-1)))
    for each in limits:
        within = each.reshape(-1)
        starts[within[(within > 0) & (within < count)]] = True
    return np.diff(np.append(np.flatnonzero(starts[:count]), count))


def cut(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sequences of a row, each with its part of what has as many values as the row has tokens."""
    count = len(row["input_ids"])
    lengths = lengths_in(row, count)
    if len(lengths) == 1:
        return [dict(row)]
    ends = np.cumsum(lengths)
    along = {name: np.asarray(values) for name, values in row.items() if _length(values) == count}
    return [
        {name: values[end - length : end] for name, values in along.items()}
        for length, end in zip(lengths.tolist(), ends.tolist(), strict=True)
    ]


def _length(values: Any) -> int:
    return len(values) if hasattr(values, "__len__") and not isinstance(values, str) else -1


def _ints(values: Any) -> Ints | None:
    if values is None:
        return None
    values = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    return values.astype(np.int64) if values.size and values.dtype.kind in "iu" else None

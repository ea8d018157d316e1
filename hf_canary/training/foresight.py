"""How long the measurements and the steps of a training will take: a few texts and one batch are read to tell."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..inference.evaluation import evaluating
from ..inference.language_model import LanguageModel
from ..measure import Measurement
from ..measurement.effort import rows_of_measurement, seconds_a_row, seconds_a_token
from ..measurement.estimator_choice import EXPANDED_PER_REFERENCE
from ..runtime.deadline import agreed
from ..runtime.random_state import random_state_kept
from .copies import can_be_read
from .moment import Moment
from .size import COUNTING, num_draws

_FORWARD_PASSES = 3  # over its batch that a step takes: backward is twice forward (Kaplan et al. 2020, §2.1)
_TRIED = 1.0  # seconds that the least measurement may be thought to take, if it is made to see what it takes
_ROWS, _TOKENS = 32, 128  # how many rows are looked at, and how long one is taken to be where none can be


def foreseen(
    at: Moment, measurement: Measurement, loader: Any, sizes: Sequence[int], batch_size: int | None
) -> tuple[dict[int, float], float]:
    """The seconds of one measurement by its number of references, and those of all steps; the same in every process.

    A step is taken to cost three forward passes over its batch, which is what a batch of that size is read for. Where a
    size is to be chosen and the least measurement takes little, it is made: with a small model, drawing and counting
    take longer than the tokens that are read for it.

    Args:
        at: the start of the training.
        measurement: of the least size.
        loader: of the training data.
        sizes: numbers of references.
        batch_size: rows of one forward pass of a measurement; None chooses.
    """
    args, tokens = at.args, mean_length(loader)
    with evaluating(at.model) as bare:
        language_model = LanguageModel(bare, batch_size=batch_size)
        longest = max(measurement.encoded_formats, key=lambda each: rows_of_measurement(each, min(sizes), 0, 0.0))
        row = seconds_a_row(language_model, longest)
        token = seconds_a_token(language_model, args.per_device_train_batch_size, tokens)
    step = args.gradient_accumulation_steps * args.per_device_train_batch_size * tokens * token * _FORWARD_PASSES
    counted = COUNTING * EXPANDED_PER_REFERENCE
    rows = {
        size: sum(rows_of_measurement(each, size, num_draws(size), counted) for each in measurement.encoded_formats)
        for size in sizes
    }
    least = row * rows[min(sizes)]
    if len(sizes) > 1 and least < _TRIED:
        least = max(least, _seconds_of(measurement, at.model))
    row = least / max(1.0, rows[min(sizes)])
    return {size: row * each for size, each in rows.items()}, at.state.max_steps * step


def _seconds_of(measurement: Measurement, model: Any) -> float:
    """What one takes; of two, since the first has trees to make."""
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        measurement.measure(model)
        taken.append(agreed(time.perf_counter() - began))
        if taken[-1] > 2.0 * _TRIED:
            break
    return min(taken)


def mean_length(loader: Any) -> int:
    """Tokens of a row of a loader's data, on average of the first ones; of rows that cannot be asked for, a guess."""
    dataset: Any = getattr(loader, "dataset", None)
    if not can_be_read(dataset):
        return _TOKENS
    with random_state_kept():  # rows may be made as they are asked for
        rows = [dataset[number] for number in range(min(_ROWS, len(dataset)))]
    ids = [row.get("input_ids") for row in rows if isinstance(row, Mapping)]
    lengths = [len(each) for each in ids if each is not None]
    return max(2, round(sum(lengths) / len(lengths))) if lengths else _TOKENS

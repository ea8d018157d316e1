"""Rows of tokens, wherever they are: a dataset, a stream, a list; in batches, and one by one.

A row is one sequence, or says where those begin that it holds. Knows datasets and collators; it knows no canary.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..arguments import has
from ..arrays import Ints
from ..errors import DataError, shown
from .sequences import LENGTHS, lengths_in, says_starts

Collator = Callable[[list[Any]], Mapping[str, Any]]

IGNORED = -100  # in labels: tokens that the loss leaves out
_BATCH_TOKENS = 2**22
# Columns that say where sequences begin within a row.
_SAYING = (LENGTHS, "position_ids", "seq_idx")


class TokenRows:
    """Sequences of tokens, wherever they are: in batches of ids, and one by one. A row is one sequence, or says where
    those begin that it holds.
    """

    def __init__(self, dataset: Any, argument: str, target: bool | None, collator: Collator | None = None) -> None:
        dataset = _Answers.of(dataset)
        self._dataset = dataset
        self._is_stream = isinstance(dataset, datasets.IterableDataset)
        self.num_rows = 0
        self._rows_by_number: dict[int, Any] = {}
        _check(dataset, argument, "labels" if target else "input_ids")
        self._saying = [] if target else _columns_saying_starts(self._first(1), collator)
        self._row_of: list[int] = []  # of each sequence, if a row may hold several
        self._first_of: list[int] = []  # of each row, its first sequence

    @property
    def has_targets(self) -> bool:
        """Whether labels are other tokens than the ids, as a decoder's are."""
        for row in self._first(20):
            if row.get("labels") is None:
                return False
            ids, labels = np.asarray(row["input_ids"]), np.asarray(row["labels"])
            if len(ids) != len(labels) or ((labels != IGNORED) & (labels != ids)).any():
                return True
        return False

    def batches(self, column: str) -> Iterator[tuple[Ints, Ints]]:
        """(n,) ids of some rows, and (sequences,) how many each of their sequences has; labels with gaps."""
        for values, beside in self._columns(column):
            lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64)
            flat = pc.list_flatten(values).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
            if beside:
                lengths = self._cut(lengths, beside)
            else:
                self.num_rows += len(lengths)
            yield flat, lengths

    def keep(self, sequences: set[int]) -> None:
        """Of a stream, which has no rows to ask for: read it once more for these."""
        if self._is_stream and sequences:
            numbers = {self._row_number_of(sequence)[0] for sequence in sequences}
            self._rows_by_number = {number: row for number, row in enumerate(self._dataset) if number in numbers}

    def row(self, sequence: int) -> tuple[Mapping[str, Any], int]:
        """The row that holds a sequence, and which of its sequences it is."""
        number, at = self._row_number_of(sequence)
        row: Mapping[str, Any] = self._rows_by_number[number] if self._is_stream else self._dataset[number]
        named = {name: row[name] for name in row if name not in _SAYING or name in self._saying}
        return named, at

    def _row_number_of(self, sequence: int) -> tuple[int, int]:
        if not self._row_of:
            return sequence, 0
        number = self._row_of[sequence]
        return number, sequence - self._first_of[number]

    def _cut(self, lengths: Ints, beside: list[Mapping[str, Any]]) -> Ints:
        """How many tokens each sequence of some rows has, by what stands beside their ids."""
        found = []
        for length, row in zip(lengths.tolist(), beside, strict=True):
            inner = lengths_in(row, length) if length else np.zeros(1, dtype=np.int64)
            self._first_of.append(len(self._row_of))
            self._row_of += [self.num_rows] * len(inner)
            self.num_rows += 1
            found.append(inner)
        return np.concatenate(found)

    def _first(self, count: int) -> list[Any]:
        if self._is_stream:
            return list(self._dataset.take(count))
        return [self._dataset[number] for number in range(min(count, len(self._dataset)))]

    def _columns(self, column: str) -> Iterator[tuple[pa.Array, list[Mapping[str, Any]]]]:
        """Rows of ids, and for each what says where its sequences begin; nothing where nobody says so."""
        if isinstance(self._dataset, datasets.Dataset):
            size = max(1, _BATCH_TOKENS * len(self._dataset) * 8 // max(1, self._dataset.data.nbytes))
            wanted = [column, *self._saying]
            for table in self._dataset.select_columns(wanted).with_format("arrow").iter(batch_size=size):
                beside = table.select(self._saying).to_pylist() if self._saying else []
                yield table[column].combine_chunks(), beside
            return
        rows: Iterable[Any] = (
            self._dataset if self._is_stream else map(self._dataset.__getitem__, range(len(self._dataset)))
        )
        for some in _by(1000, rows):
            ids = [np.asarray([] if row[column] is None else row[column], dtype=np.int64) for row in some]
            beside = [{name: row.get(name) for name in self._saying} for row in some] if self._saying else []
            yield pa.array(ids), beside


class _Answers:
    """Rows of a preference trainer, each as the prompt and the answer that is to be learned: ids, and a mask of what is
    trained on, beside what the row has.

    Args:
        dataset: with `prompt_ids`, and the answer's.
        answer: the column of these.
    """

    def __init__(self, dataset: datasets.Dataset, answer: str) -> None:
        self._dataset, self._answer = dataset, answer

    @classmethod
    def of(cls, dataset: Any) -> Any:
        """The dataset itself, if it is none of these."""
        names = dataset.column_names if isinstance(dataset, datasets.Dataset) else ()
        if "input_ids" in names or "prompt_ids" not in names:
            return dataset
        answer = next((name for name in ("chosen_ids", "completion_ids") if name in names), None)
        return dataset if answer is None else cls(dataset.with_format(None), answer)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = self._dataset[number]
        prompt, answer = row["prompt_ids"], row[self._answer]
        is_wanted = row.get("label") in (None, True)  # else the model is to unlearn it
        mask = [0] * len(prompt) + [int(is_wanted)] * len(answer)
        return {**row, "input_ids": [*prompt, *answer], "completion_mask": mask}


def _columns_saying_starts(first: Sequence[Mapping[str, Any]], collator: Collator | None) -> list[str]:
    """Those of the data that the model is told of, as far as a collator shows with one row."""
    saying = [name for name in _SAYING if first and first[0].get(name) is not None]
    if saying and collator is not None:
        try:
            return saying if says_starts(collated(collator, first[0])) else []
        except Exception:  # it is said when the rows are looked at
            return saying
    return saying


def _by(count: int, rows: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while some := list(itertools.islice(iterator, count)):
        yield some


def _holds_ints(feature: Any) -> bool:
    """Whether a column is one of lists of whole numbers."""
    return "int" in str(getattr(getattr(feature, "feature", None), "dtype", ""))


def _check(dataset: Any, argument: str, column: str) -> None:
    columns: Any = ()
    is_empty = False
    if isinstance(dataset, datasets.Dataset):
        columns, is_empty = (
            [name for name, feature in dataset.features.items() if _holds_ints(feature)],
            not len(dataset),
        )
    elif isinstance(dataset, datasets.IterableDataset):
        columns = list(next(iter(dataset), {}))
    elif _is_sequence(dataset):
        is_empty = not len(dataset)
        columns = list(dataset[0]) if not is_empty and isinstance(dataset[0], Mapping) else ()
    names = dataset.column_names if isinstance(dataset, datasets.Dataset) else columns
    if column not in columns or is_empty:
        raise DataError(
            argument,
            f"rows of token ids, with a column {column}",
            f"{type(dataset).__name__} with {'no rows' if is_empty else shown(list(names))}",
            "Give the dataset as the trainer has it, such as trainer.train_dataset.",
        )


def _is_sequence(dataset: Any) -> bool:
    """Whether its rows have numbers, as those of a list or of torch's datasets."""
    if isinstance(dataset, (dict, type)) or not has(dataset, "__getitem__"):
        return False
    try:
        return len(dataset) >= 0
    except Exception:  # it has none, or fails
        return False


def collated(collator: Collator, row: Mapping[str, Any]) -> dict[str, Any]:
    """What a collator makes of one row; its values, as those of a row."""
    made = collator([copy.deepcopy(row)])
    return {name: np.asarray(value).reshape(-1) for name, value in made.items() if np.ndim(value)}

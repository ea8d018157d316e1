"""The transform that puts canaries into a dataset, as rows of their own at uniformly random places.

Knows rows and columns. Of a canary it knows only the text and how often it goes in; it knows no format, no
tokenizer and no model. At present it serves the text column of a `datasets.Dataset`, and the train split of a
`DatasetDict`; other kinds are refused by name.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import datasets
from datasets.formatting.formatting import LazyBatch

from .errors import DataError, is_int, shown

# Part of the fingerprint of every mapped dataset: raise it when the same arguments give other rows.
_PLAN_VERSION = 1

AnyDataset = TypeVar("AnyDataset", datasets.Dataset, datasets.DatasetDict)


class Insertion(Protocol):
    """What is inserted: a text, so many times."""

    @property
    def text(self) -> str: ...

    @property
    def repetitions(self) -> int: ...


class Insertions(Protocol):
    """A set of insertions with a digest, from which the places are drawn when no seed is given."""

    @property
    def digest(self) -> str: ...

    @property
    def canaries(self) -> Iterable[Insertion]: ...


class InjectCanaries:
    """A transform for `dataset.map(..., batched=True, with_indices=True)` that inserts each canary `repetitions` times.

    The places are a uniformly random merge of the copies with the rows: every original row stays, unchanged and in
    order. In the rows that are inserted, every other column is None. The same arguments give the same rows with any
    `num_proc` and any batch size. `CanarySet.inject` does this and the counting for you.

    Args:
        canaries: a `CanarySet`.
        column: the text column.
        num_rows: the length of the dataset that will be mapped; the places depend on it.
        seed: draws the places; None derives them from the digest of the set.

    Raises:
        DataError: a missing column, an index beyond `num_rows`, a stream. A `num_rows` that is too large cannot be seen
            from inside `map`, and leaves canaries out.

    Example:
        >>> from datasets import Dataset
        >>> from hf_canary import CanaryFormat, CanarySet, InjectCanaries
        >>> train = Dataset.from_dict({"text": [f"row {i}" for i in range(100)]})
        >>> canaries = CanarySet.draw(CanaryFormat("My PIN is {digit:4}"), repetitions=(1, 2), per_repetition=3, seed=0)
        >>> transform = InjectCanaries(canaries, num_rows=len(train))
        >>> len(train.map(transform, batched=True, with_indices=True))
        109

        For a `DatasetDict`, map the train split alone: `dd["train"] = dd["train"].map(...)`.
    """

    def __init__(self, canaries: Insertions, column: str = "text", *, num_rows: int, seed: int | None = None) -> None:
        if not is_int(num_rows) or num_rows < 1:
            raise DataError("num_rows", "a whole number, 1 or more", shown(num_rows), "Give len(dataset).")
        if seed is not None and not is_int(seed):
            raise DataError("seed", "an int or None", shown(seed), "Leave it out to derive it from the canaries.")
        self.column = column
        self.num_rows = num_rows
        self.version = _PLAN_VERSION
        self.before = _places(canaries, num_rows, f"{canaries.digest if seed is None else hex(seed)} places")

    def __call__(self, batch: dict[str, list[Any]], indices: Sequence[int]) -> dict[str, list[Any]]:
        if not isinstance(batch, LazyBatch):
            raise DataError(
                "dataset",
                "a datasets.Dataset, whose map() counts its rows once",
                "a stream or a plain dict, where indices restart in every worker",
                "Use canaries.inject(dataset), on a datasets.Dataset.",
            )
        if self.column not in batch:
            raise _missing_column(self.column, list(batch.keys()))
        if indices[-1] >= self.num_rows:
            raise DataError(
                "num_rows",
                "the length of the dataset that is mapped",
                f"{self.num_rows}, and a row of index {indices[-1]}",
                "Give num_rows=len(dataset).",
            )
        rows: dict[str, list[Any]] = {name: [] for name in batch}
        for offset, index in enumerate(indices):
            self._insert(rows, index)
            for name, values in rows.items():
                values.append(batch[name][offset])
            if index == self.num_rows - 1:
                self._insert(rows, self.num_rows)
        return rows

    def _insert(self, rows: dict[str, list[Any]], place: int) -> None:
        for text in self.before.get(place, ()):
            for name, values in rows.items():
                values.append(text if name == self.column else None)


def inject(canaries: Insertions, dataset: AnyDataset, column: str = "text", *, seed: int | None = None) -> AnyDataset:
    """`dataset` with each canary inserted `repetitions` times; see `CanarySet.inject`."""
    if isinstance(dataset, datasets.DatasetDict):
        if "train" not in dataset:
            raise DataError(
                "dataset",
                "a DatasetDict with a split named 'train'",
                f"the splits {shown(list(dataset))}",
                "Inject into the split that you train on, and put it back: dd[name] = canaries.inject(dd[name]).",
            )
        return datasets.DatasetDict({**dataset, "train": inject(canaries, dataset["train"], column, seed=seed)})
    _check_dataset(dataset, column)
    transform = InjectCanaries(canaries, column, num_rows=len(dataset), seed=seed)
    read_as = dataset.format
    mapped = dataset.with_format(None).map(
        transform, batched=True, with_indices=True, features=dataset.features, desc="Injecting canaries"
    )
    return mapped.with_format(
        read_as["type"], read_as["columns"], read_as["output_all_columns"], **read_as["format_kwargs"]
    )


def _check_dataset(dataset: object, column: str) -> None:
    if not isinstance(dataset, datasets.Dataset):
        raise DataError(
            "dataset",
            "a datasets.Dataset, or a DatasetDict with a train split",
            f"a {type(dataset).__name__}",
            "Streams and plain lists are not supported: load without streaming, or build one with Dataset.from_dict.",
        )
    if len(dataset) == 0:
        raise DataError("dataset", "at least one row", "an empty dataset", "Inject before you filter, not after.")
    if not isinstance(column, str) or column not in dataset.features:
        raise _missing_column(column, dataset.column_names)
    feature = dataset.features[column]
    if not isinstance(feature, datasets.Value) or feature.dtype not in ("string", "large_string"):
        raise DataError(
            "column",
            "a column of strings",
            f"{column!r} of type {shown(feature)}",
            "Inject into plain text, before it is tokenised; chats and translation pairs are not supported yet.",
        )


def _missing_column(column: str, present: list[str]) -> DataError:
    return DataError("column", f"one of the columns {shown(present)}", shown(column), "Name the text: column=...")


def _places(canaries: Insertions, num_rows: int, seed: str) -> dict[int, list[str]]:
    """Row index → texts to insert before that row (`num_rows`: after the last): a uniformly random merge."""
    copies = [canary.text for canary in canaries.canaries for _ in range(canary.repetitions)]
    generator = random.Random(seed)
    generator.shuffle(copies)
    merged = sorted(generator.sample(range(num_rows + len(copies)), len(copies)))
    places: dict[int, list[str]] = {}
    for already, (position, text) in enumerate(zip(merged, copies, strict=True)):
        places.setdefault(position - already, []).append(text)
    return places

"""The door: which kind of dataset canaries go into, come out of, or are counted in.

Knows datasets, streams and dicts of them as wholes, and marks those that canaries were injected into. A dataset in
memory or in files is rewritten by `map`, a stream shard by shard; this file knows no row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import datasets
import pyarrow as pa

from ..errors import DataError, is_int, shown
from .copies import Copies, Insertions, already_there, not_as_injected, warn_of_more
from .options import InsertionOptions
from .rows import row_writer_for
from .streams import InsertIntoShard, RemoveFromShard, empty_dataset, features_of, keys_in, transformed_stream
from .text_search import Finder
from .transform import InsertCopies, RemoveCopies

AnyDataset = TypeVar(
    "AnyDataset", datasets.Dataset, datasets.DatasetDict, datasets.IterableDataset, datasets.IterableDatasetDict
)

_BATCH_BYTES, _MOST_ROWS, _STREAM_ROWS = 2**24, 100_000, 1000


def inject(canaries: Insertions, dataset: AnyDataset, options: InsertionOptions, num_rows: Any = None) -> AnyDataset:
    """`dataset` with each canary inserted `repetitions` times; see `CanarySet.inject`."""
    if isinstance(dataset, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        return _with_train(dataset, lambda train: inject(canaries, train, options, num_rows))
    _check_dataset(dataset)
    if _mark(canaries) in (dataset.info.description or ""):
        raise already_there()
    if isinstance(dataset, datasets.IterableDataset):
        return _marked(transformed_stream(canaries, dataset, options, num_rows, InsertIntoShard), canaries)
    if num_rows is not None and not (is_int(num_rows) and num_rows == len(dataset)):
        raise DataError("num_rows", f"{len(dataset)}, the length of the dataset", shown(num_rows), "Leave it out.")
    copies = Copies(canaries, len(dataset), options, keys_in(dataset, dataset.features, options))
    copies.check(dataset.features)
    _check_counts(canaries, count_in(canaries, dataset, options))
    return _marked(_mapped(dataset, InsertCopies(copies), "Injecting canaries"), canaries)


def remove(canaries: Insertions, dataset: AnyDataset, options: InsertionOptions, num_rows: Any = None) -> AnyDataset:
    """The exact inverse of `inject`; see `CanarySet.remove`."""
    if isinstance(dataset, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        return _with_train(dataset, lambda train: remove(canaries, train, options, num_rows))
    _check_dataset(dataset)
    if isinstance(dataset, datasets.IterableDataset):
        return _unmarked(transformed_stream(canaries, dataset, options, num_rows, RemoveFromShard), canaries)
    inserted = 0 if options.splices else sum(canary.repetitions for canary in canaries.canaries)
    if len(dataset) <= inserted:
        raise not_as_injected()
    copies = Copies(canaries, len(dataset) - inserted, options, keys_in(dataset, dataset.features, options))
    return _unmarked(_mapped(dataset, RemoveCopies(copies), "Removing canaries"), canaries)


def count_in(canaries: Insertions, dataset: Any, options: InsertionOptions) -> dict[str, int]:
    """How often the text of each canary stands in a dataset, by its id; see `CanarySet.count_in`."""
    _check_dataset(dataset)
    features = features_of(dataset)
    writer = row_writer_for(features, options, keys_in(dataset, features, options))
    listed = tuple(canaries.canaries)
    finder = Finder([canary.text for canary in listed])
    counts: Counter[int] = Counter()
    if writer.column in features:
        for values in _column(dataset, writer.column):
            counts += finder.count(writer.strings(values))
    return {canary.id: counts[number] for number, canary in enumerate(listed)}


def _column(dataset: Any, name: str) -> Iterator[pa.ChunkedArray]:
    """The values of one column, by the batch."""
    batch_size = _STREAM_ROWS if isinstance(dataset, datasets.IterableDataset) else _batch_size(dataset)
    for table in dataset.select_columns([name]).with_format("arrow").iter(batch_size=batch_size):
        yield table[name]


def _mapped(dataset: datasets.Dataset, transform: InsertCopies | RemoveCopies, description: str) -> datasets.Dataset:
    """The dataset after a transform of arrow tables, in the format that it had before."""
    format_before = dataset.format
    mapped = dataset.with_format(None).map(
        transform,
        batched=True,
        with_indices=True,
        batch_size=_batch_size(dataset),
        features=dataset.features,
        desc=description,
    )
    return mapped.with_format(
        format_before["type"],
        format_before["columns"],
        format_before["output_all_columns"],
        **format_before["format_kwargs"],
    )


def _batch_size(dataset: datasets.Dataset) -> int:
    """Rows that are rewritten at once: as many as take some megabytes."""
    return max(1, min(_MOST_ROWS, _BATCH_BYTES * len(dataset) // max(1, int(dataset.data.nbytes))))


def _with_train(splits: Any, work: Callable[[Any], Any]) -> Any:
    """The splits, with what `work` makes of the train split in its stead."""
    if "train" not in splits:
        raise DataError(
            "dataset",
            f"a {type(splits).__name__} with a split named 'train'",
            f"the splits {shown(list(splits))}",
            "Inject into the split that you train on, and put it back: dd[name] = canaries.inject(dd[name]).",
        )
    return type(splits)({**splits, "train": work(splits["train"])})


def _check_dataset(dataset: object) -> None:
    if isinstance(dataset, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        raise DataError(
            "dataset",
            "one split",
            f"a {type(dataset).__name__} with {shown(list(dataset))}",
            "Name the split: dd[name].",
        )
    if not isinstance(dataset, (datasets.Dataset, datasets.IterableDataset)):
        raise DataError(
            "dataset",
            "a Dataset, an IterableDataset, or a dict of them with a train split",
            f"a {type(dataset).__name__}",
            "Build one with Dataset.from_dict, Dataset.from_list or load_dataset.",
        )
    if isinstance(dataset, datasets.Dataset) and len(dataset) == 0:
        raise empty_dataset()


def _check_counts(canaries: Insertions, counts: dict[str, int]) -> None:
    """Refuse a dataset that holds all the copies already; warn of canaries whose text it holds."""
    if all(counts[canary.id] >= canary.repetitions for canary in canaries.canaries):
        raise already_there()
    canary_ids = [canary_id for canary_id, count in counts.items() if count]
    if canary_ids:
        warn_of_more(canary_ids)


def _mark(canaries: Insertions) -> str:
    return f"hf_canary: the canaries of the set {canaries.digest[:16]} were injected."


def _marked(dataset: Any, canaries: Insertions) -> Any:
    """The dataset, with a line in its description that says so; `map`, `select` and `save_to_disk` keep it."""
    dataset.info.description = "\n".join(filter(None, [dataset.info.description, _mark(canaries)]))
    return dataset


def _unmarked(dataset: Any, canaries: Insertions) -> Any:
    """The dataset, without that line."""
    lines = (dataset.info.description or "").split("\n")
    dataset.info.description = "\n".join(line for line in lines if line != _mark(canaries))
    return dataset

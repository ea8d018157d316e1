"""Canaries into a stream and out again: an `IterableDataset` made anew, by a generator for each of its shards.

Knows rows one after another and the row number at which each shard starts; knows no arrow table of a dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy as copy_of
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from ..arguments import check_int
from ..errors import DataError, is_int, shown
from .copies import Change, Copies, Insertions, already_there, not_as_injected, warn_of_more
from .options import InsertionOptions
from .rows import Row, RowWriter, TurnKeys, turn_keys_in

_BATCH_ROWS = 64


@dataclass(frozen=True)
class ShardSpan:
    """Where the rows of one shard lie among all rows of the stream.

    Args:
        start: the first row number.
        stop: the first row number of the next shard.
        is_last: whether there is no next shard.
        is_exact: whether this was declared of the shard, and is no even share of the stream.
    """

    start: int
    stop: int
    is_last: bool
    is_exact: bool


@dataclass(frozen=True)
class InsertIntoShard:
    """The rows of a shard with the copies that belong to them.

    Args:
        copies: what goes into the stream.
        features: the features of its rows.
    """

    copies: Copies
    features: datasets.Features

    def __call__(self, shard: Iterable[Row], span: ShardSpan) -> Iterator[Row]:
        writer = self.copies.writer(self.features)
        if self.copies.options.splices:
            return _with_changes(shard, span, self.copies, writer, self.copies.spliced)
        return self._with_rows(shard, span, writer)

    def _with_rows(self, shard: Iterable[Row], span: ShardSpan, writer: RowWriter) -> Iterator[Row]:
        positions, warned_of = self.copies.positions, set[int]()
        made = _RowsOf(self.copies, writer, self.features)
        waiting = list(positions.between(span.start, span.stop, is_last=span.is_last))[::-1]
        index = span.start
        for row in shard:
            self._check_texts(_strings(writer, row), warned_of)
            while waiting and positions.rows[waiting[-1]] <= index:
                yield made[waiting.pop()]
            yield row
            index += 1
        if index < span.stop and span.is_exact:
            _check_all_inserted(waiting, index, span, self.copies)
        while waiting:
            yield made[waiting.pop()]

    def _check_texts(self, strings: Sequence[str], warned_of: set[int]) -> None:
        """Refuse a row that is a canary's text; warn once of each canary whose text a row holds."""
        counts = self.copies.finder.count_in(strings)
        canaries = self.copies.canaries
        if any(canaries[number].text in strings for number in counts):
            raise already_there()
        numbers = sorted(set(counts) - warned_of)
        if numbers:
            warned_of.update(numbers)
            warn_of_more([canaries[number].id for number in numbers])


@dataclass(frozen=True)
class RemoveFromShard:
    """The inverse of `InsertIntoShard`: the rows of a shard without the copies.

    Args:
        copies: what went into the stream.
        features: the features of its rows.
    """

    copies: Copies
    features: datasets.Features

    def __call__(self, shard: Iterable[Row], span: ShardSpan) -> Iterator[Row]:
        writer = self.copies.writer(self.features)
        if self.copies.options.splices:
            return _with_changes(shard, span, self.copies, writer, self.copies.unspliced)
        return self._without_rows(shard, span, writer)

    def _without_rows(self, shard: Iterable[Row], span: ShardSpan, writer: RowWriter) -> Iterator[Row]:
        positions, made = self.copies.positions, _RowsOf(self.copies, writer, self.features)
        waiting = list(positions.between(span.start, span.stop, is_last=span.is_last))[::-1]
        rows = iter(shard)
        for index in range(span.start, span.stop + span.is_last):
            while waiting and positions.rows[waiting[-1]] == index:
                expected = made[waiting.pop()]
                row = next(rows, None)
                if row is None or any(row.get(name) != value for name, value in expected.items()):
                    raise not_as_injected()
            if index < span.stop:
                row = next(rows, None)
                if row is None:
                    raise not_as_injected()
                yield row
        if next(rows, None) is not None:
            raise not_as_injected()


class _RowsOf:
    """The rows of copies, made once for each canary."""

    def __init__(self, copies: Copies, writer: RowWriter, features: datasets.Features) -> None:
        self._copies, self._writer, self._features = copies, writer, features
        self._rows: dict[int, Row] = {}

    def __getitem__(self, copy: int) -> Row:
        number = int(self._copies.positions.which[copy])
        if number not in self._rows:
            features = self._features
            (self._rows[number],) = self._copies.rows([copy], self._writer, features, features.arrow_schema).to_pylist()
        return copy_of(self._rows[number])  # whoever gets it may change it


ShardTransform = InsertIntoShard | RemoveFromShard


def transformed_stream(
    canaries: Insertions,
    dataset: datasets.IterableDataset,
    options: InsertionOptions,
    num_rows: Any,
    transform: type[ShardTransform],
) -> datasets.IterableDataset:
    """A stream whose shards are those of another one, with the copies or without them.

    Args:
        canaries: a `CanarySet`.
        dataset: the other stream.
        options: how the copies go in.
        num_rows: the rows that it has without them: their number, or a list with that of each shard.
        transform: what is done to each shard.

    Raises:
        DataError: no number of rows, features that canaries cannot be written into, a stream that was split by node.
    """
    if getattr(dataset, "_distributed", None) is not None:
        raise DataError(
            "dataset",
            "the whole stream, of which each node takes its share later",
            "one that was split by node already, into which each node would inject all copies",
            "Inject first, then split_dataset_by_node.",
        )
    shards = dataset.num_shards
    lengths = _lengths(dataset, num_rows, shards)
    features = features_of(dataset)
    copies = Copies(canaries, sum(lengths), options, keys_in(dataset, features, options))
    copies.check(features)
    ends = np.cumsum([0, *lengths]).tolist()
    is_exact = shards == 1 or not is_int(num_rows)
    plain = _undecoded(dataset.with_format(None))
    made = datasets.IterableDataset.from_generator(
        _rows_of_shards,
        features=dataset.features,
        gen_kwargs={
            "shards": [plain.shard(shards, number) for number in range(shards)],
            "spans": [ShardSpan(ends[n], ends[n + 1], n == shards - 1, is_exact) for n in range(shards)],
            "transform": transform(copies, features),
        },
        split=dataset.split or datasets.Split.TRAIN,
    )
    made.info.description = dataset.info.description
    formatting = getattr(dataset, "_formatting", None)
    return made if formatting is None else made.with_format(formatting.format_type)


def _undecoded(stream: datasets.IterableDataset) -> datasets.IterableDataset:
    """The stream with images and JSON as it holds them: what is decoded would have to be encoded again."""
    raw = stream if stream.features is None else stream.decode(False)
    return stream if raw.features == stream.features else raw


def features_of(dataset: Any) -> datasets.Features:
    """The features of the dataset, or of its first row where a stream does not know them."""
    if dataset.features is not None:
        return dataset.features
    first = next(iter(dataset.with_format(None)), None)
    if first is None:
        raise empty_dataset()
    return datasets.Features.from_arrow_schema(pa.Table.from_pylist([first]).schema)


def keys_in(dataset: Any, features: datasets.Features, options: InsertionOptions) -> TurnKeys | None:
    """The keys of turns that are JSON, by the first chat of a dataset that has one."""
    plain = dataset.with_format(None)
    return turn_keys_in(features, options, lambda column: (row[column] for row in plain.select_columns([column])))


def empty_dataset() -> DataError:
    """The error of a dataset without a row."""
    return DataError("dataset", "at least one row", "an empty dataset", "Inject before you filter, not after.")


def _rows_of_shards(shards: list[Any], spans: list[ShardSpan], transform: ShardTransform) -> Iterator[Row]:
    for shard, span in zip(shards, spans, strict=True):
        yield from transform(_rows(shard), span)


def _rows(stream: datasets.IterableDataset) -> Iterator[Row]:
    """All rows, in a worker too; iterating over a stream there gives the worker's share alone."""
    for batch in stream.iter(batch_size=_BATCH_ROWS):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _with_changes(
    shard: Iterable[Row], span: ShardSpan, copies: Copies, writer: RowWriter, change: Change
) -> Iterator[Row]:
    """The rows of a shard, with a changed value in each that copies go into."""
    copies_of, index = copies.by_row(span.start, span.stop), span.start
    for index, row in enumerate(shard, span.start):
        numbers = copies_of.pop(index, None)
        if numbers:
            row = row | {writer.column: change(writer, row[writer.column], numbers)}
        yield row
    _check_all_inserted([copy for numbers in copies_of.values() for copy in numbers], index + 1, span, copies)


def _check_all_inserted(waiting: Sequence[int], index: int, span: ShardSpan, copies: Copies) -> None:
    """Refuse a shard that ended before the row `index`, with copies that still wait for their rows."""
    if waiting:
        raise DataError(
            "num_rows",
            f"a stream with the {span.stop - span.start} rows that were declared",
            f"one that ended after {index - span.start}, with copies of {shown(copies.ids(waiting))} not placed",
            "Declare its true length: num_rows=..., one number for each shard where there are several.",
        )


def _strings(writer: RowWriter, row: Row) -> list[str]:
    """All strings of a row that may hold the text of a canary."""
    return writer.strings_of(row[writer.column]) if writer.column in row else []


def _lengths(dataset: datasets.IterableDataset, num_rows: Any, shards: int) -> list[int]:
    """How many rows each shard has, as they were declared; their sum is shared evenly."""
    if num_rows is None:
        split = (dataset.info.splits or {}).get(str(dataset.split))
        hint = f" Its builder has counted {split.num_examples}." if split is not None and split.num_examples else ""
        raise DataError(
            "num_rows",
            "the number of rows of a stream, which cannot be asked for it",
            "none",
            f"Declare it: num_rows=..., or a list with that of each of the {shards} shards.{hint}",
        )
    if is_int(num_rows):
        check_int("num_rows", num_rows, least=1, remedy="Give len(dataset).")
        each, more = divmod(int(num_rows), shards)
        return [each + (number < more) for number in range(shards)]
    lengths = list(num_rows) if isinstance(num_rows, (list, tuple)) else []
    if len(lengths) != shards or not all(is_int(length) and length >= 0 for length in lengths) or not sum(lengths):
        raise DataError(
            "num_rows",
            f"a whole number, 1 or more, or a list with that of each of the {shards} shards",
            shown(num_rows),
            "Declare how many rows the stream has.",
        )
    return [int(length) for length in lengths]

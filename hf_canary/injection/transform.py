"""Canaries into a dataset and out again: as rows of their own, or spliced into rows that are there.

Joins places and rows to the kinds of dataset. Of a canary it knows what it is inserted as and how often; it knows no
format and no model. A dataset in memory or in files is rewritten by `map`, in arrow; a stream by a generator for each
of its shards.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import datasets
import numpy as np
import pyarrow as pa
from datasets.formatting.formatting import LazyBatch

from ..arguments import check_among, check_int
from ..errors import DataError, is_int, shown
from .placement import MODES, VERSION, draw_places, part
from .rows import Insertion, MakeRow, Row, RowWriter, check_row_arguments, row_writer_for, spliced_into
from .splicing import splice, unsplice, was_spliced
from .text_search import Finder

logger = logging.getLogger(__name__)

AnyDataset = TypeVar(
    "AnyDataset", datasets.Dataset, datasets.DatasetDict, datasets.IterableDataset, datasets.IterableDatasetDict
)

_BATCH_BYTES, _MOST_ROWS = 2**24, 100_000
_STREAM_ROWS = 64
# What comes of a value that a column does not take.
_MISFITS = (pa.ArrowException, TypeError, ValueError, AttributeError, KeyError)


class Insertions(Protocol):
    """A set of insertions with a digest, from which the places are drawn when no seed is given."""

    @property
    def digest(self) -> str: ...

    @property
    def canaries(self) -> Iterable[Insertion]: ...


class InjectCanaries:
    """A transform for `dataset.map(..., batched=True, with_indices=True)` that inserts each canary `repetitions` times.

    The places are a uniformly random merge of the copies with the rows: every original row stays, unchanged and in
    order. The same arguments give the same rows with any `num_proc` and any batch size. `CanarySet.inject` does this
    and the counting for you, and takes streams as well.

    Args:
        canaries: a `CanarySet`.
        column: where the canary goes; `CanarySet.inject` says what kinds there are.
        num_rows: the length of the dataset that will be mapped; the places depend on it.
        source_column: where the source of the format goes, for encoder-decoders.
        seed: draws the places; None derives them from the digest of the set.
        tokenizer: makes the tokens of rows that are tokens; beside a chat, its template is tried on the canaries.
        make_row: canary → row, for rows of any other kind.
        role: who says the canary in a chat.
        placement: `rows` of their own, or `splice`: into rows that are there, before a sentence or a line, else before
            a word, with a space behind.
        when: in which part of the dataset, for training that reads it in order: `uniform`, `early` (the first tenth),
            `late` (the last), or two shares, such as `(0.4, 0.5)`.

    Raises:
        ArgumentError: what is no number, placement, tokenizer, function or role.
        DataError: a missing column, an index beyond `num_rows`, a stream, rows that hold the canaries already. A
            `num_rows` that is too large cannot be seen from inside `map`, and leaves canaries out.

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

    def __init__(
        self,
        canaries: Insertions,
        column: str = "text",
        *,
        num_rows: int,
        source_column: str | None = None,
        seed: int | None = None,
        tokenizer: Any = None,
        make_row: MakeRow | None = None,
        role: str = "assistant",
        placement: str = "rows",
        when: str | tuple[float, float] = "uniform",
    ) -> None:
        check_int("num_rows", num_rows, least=1, remedy="Give len(dataset).")
        check_int("seed", seed, optional=True, remedy="Leave it out to derive it from the canaries.")
        remedy = "Copies are rows of their own, or spliced into rows that are there."
        check_among("placement", placement, MODES, remedy)
        check_row_arguments(tokenizer, make_row, role)
        self.column, self.num_rows, self.version = column, num_rows, VERSION
        self.canaries = tuple(canaries.canaries)
        self.texts = Finder([canary.text for canary in self.canaries])
        self.splices = placement == "splice"
        self.how = {
            "source_column": source_column,
            "tokenizer": tokenizer,
            "make_row": make_row,
            "role": role,
        }
        self.places = draw_places(
            [canary.repetitions for canary in self.canaries],
            num_rows,
            f"{canaries.digest if seed is None else hex(seed)} places",
            when=part(when),
            splice=self.splices,
        )

    def __call__(self, batch: LazyBatch, indices: Sequence[int] | None = None) -> pa.Table:
        if not isinstance(batch, LazyBatch):
            raise DataError(
                "dataset",
                "batches of a datasets.Dataset without a format, whose map(..., batched=True) counts its rows once",
                "single rows, a stream, where indices restart in every worker, or what a format has made of the rows",
                "Map with batched=True, or use canaries.inject(dataset), which takes streams and formats too.",
            )
        if indices is None:
            raise DataError("with_indices", "True, in map", "no indices", "Map with with_indices=True.")
        table: pa.Table = batch.pa_table
        if indices[-1] >= self.num_rows:
            raise DataError(
                "num_rows",
                "the length of the dataset that is mapped",
                f"{self.num_rows}, and a row of index {indices[-1]}",
                "Give num_rows=len(dataset).",
            )
        return self.injected(table, indices[0])

    def shape(self, features: datasets.Features) -> RowWriter:
        """How the canaries are written into rows of these features."""
        return row_writer_for(features, self.column, **self.how)

    def check(self, features: datasets.Features) -> None:
        """Refuse what canaries cannot be written into.

        Raises:
            DataError: a column, a source, a template, rows of another kind.
        """
        shape = self.shape(features)
        if self.splices:
            spliced_into(shape)
        _, one_of_each = np.unique(self.places.which, return_index=True)
        self.rows(shape, features, features.arrow_schema, one_of_each.tolist())

    def injected(self, table: pa.Table, start: int) -> pa.Table:
        """Rows of the dataset, of which the first has this index, with the copies that belong to them."""
        features = datasets.Features.from_arrow_schema(table.schema)
        shape = self.shape(features)
        copies = self.places.between(start, start + len(table), is_last=start + len(table) == self.num_rows)
        if self.splices:
            return self._changed(table, start, shape, splice)
        if shape.column in table.column_names and self.texts.equal(shape.strings(table[shape.column])):
            raise already_there()
        if not copies:
            return table
        rows = self.rows(shape, features, table.schema, copies)
        pieces, done = [], 0
        for number, place in enumerate((self.places.rows[copies.start : copies.stop] - start).tolist()):
            pieces += [table.slice(done, place - done), rows.slice(number, 1)]
            done = place
        return pa.concat_tables([*pieces, table.slice(done)])

    def rows(self, shape: RowWriter, features: datasets.Features, schema: pa.Schema, copies: Iterable[int]) -> pa.Table:
        """A row for each of these copies."""
        written = {}
        wanted = self.places.which[list(copies)].tolist()
        for number in sorted(set(wanted)):
            written[number] = dict.fromkeys(features) | shape.row(self.canaries[number])
        try:
            written = {number: features.encode_example(row) for number, row in written.items()}
            return pa.Table.from_pylist([written[number] for number in wanted], schema=schema)
        except _MISFITS:
            # Without the cause, whose words quote the row.
            raise DataError(
                "make_row" if self.how["make_row"] is not None else "column",
                f"rows of the features {shown(features)}",
                f"one with another value in {_misfits(features, schema, written)}",
                "Give make_row=, a function that returns a row like the others.",
            ) from None

    def restored(self, table: pa.Table, start: int) -> pa.Table:
        """The inverse of `injected`: of rows with canaries, of which the first has this index, those without."""
        features = datasets.Features.from_arrow_schema(table.schema)
        shape, stop = self.shape(features), start + len(table)
        if self.splices:
            return self._changed(table, start, shape, unsplice)
        all_places = self.places.after_insertion
        first, last = np.searchsorted(all_places, (start, stop))
        copies = range(int(first), int(last))
        if not copies:
            return table
        mine = all_places[first:last] - start
        expected = self.rows(shape, features, table.schema, copies)
        if not table.take(pa.array(mine)).combine_chunks().equals(expected.combine_chunks()):
            raise not_as_injected()
        kept = np.ones(len(table), dtype=bool)
        kept[mine] = False
        return table.filter(pa.array(kept))

    def _changed(self, table: pa.Table, start: int, shape: RowWriter, change: Any) -> pa.Table:
        """The rows that copies go into, each changed in its string."""
        mine = self.of_rows(start, start + len(table))
        if not mine:
            return table
        pieces, done, column = [], 0, table[shape.column]
        for row, copies in mine.items():
            value = self.change(shape, column[row - start].as_py(), copies, change)
            pieces += [*column.slice(done, row - start - done).chunks, pa.array([value], type=column.type)]
            done = row - start + 1
        changed = pa.chunked_array([*pieces, *column.slice(done).chunks], type=column.type)
        position = table.column_names.index(shape.column)
        return table.set_column(position, table.schema.field(position), changed)

    def of_rows(self, start: int, stop: int) -> dict[int, list[int]]:
        """The copies that belong to each of the rows from `start` to `stop` that has any."""
        found: dict[int, list[int]] = {}
        for copy in self.places.between(start, stop, is_last=False):
            found.setdefault(int(self.places.rows[copy]), []).append(copy)
        return found

    def change(self, shape: RowWriter, value: Any, copies: Iterable[int], change: Any) -> Any:
        """One value of the column with the canaries of these copies in it, or without."""
        canaries = [
            (self.canaries[int(self.places.which[copy])].text, float(self.places.spots[copy])) for copy in copies
        ]
        into = spliced_into(shape)
        before = into.read(value)
        if change is splice and was_spliced(before, canaries):
            raise already_there()
        try:
            return into.write(value, change(before, canaries))
        except LookupError:
            raise not_as_injected() from None


def _misfits(features: datasets.Features, schema: pa.Schema, rows: Mapping[int, Row]) -> str:
    """The columns whose values do not fit."""

    def fits(name: str, row: Row) -> bool:
        try:
            encoded = datasets.Features({name: features[name]}).encode_example({name: row.get(name)})
            pa.Table.from_pylist([encoded], schema=pa.schema([schema.field(name)]))
        except _MISFITS:
            return False
        return True

    names = [name for name in features if not all(fits(name, row) for row in rows.values())]
    return ", ".join(map(repr, names)) or "one of its columns"


class RemoveCanaries:
    """A transform for `dataset.map(..., batched=True, with_indices=True)`: the inverse of `InjectCanaries`.

    Args:
        injected: what was mapped.
    """

    def __init__(self, injected: InjectCanaries) -> None:
        self.injected = injected

    def __call__(self, batch: LazyBatch, indices: Sequence[int]) -> pa.Table:
        return self.injected.restored(batch.pa_table, indices[0])


def inject(
    canaries: Insertions, dataset: AnyDataset, column: str = "text", *, num_rows: Any = None, **how: Any
) -> AnyDataset:
    """`dataset` with each canary inserted `repetitions` times; see `CanarySet.inject`."""
    if isinstance(dataset, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        return _with_train(dataset, lambda train: inject(canaries, train, column, num_rows=num_rows, **how))
    _check_dataset(dataset)
    if _mark(canaries) in (dataset.info.description or ""):
        raise already_there()
    if isinstance(dataset, datasets.IterableDataset):
        return _marked(_stream(canaries, dataset, column, num_rows, how, inverse=False), canaries)
    if num_rows is not None and num_rows != len(dataset):
        raise DataError("num_rows", f"{len(dataset)}, the length of the dataset", shown(num_rows), "Leave it out.")
    transform = InjectCanaries(canaries, column, num_rows=len(dataset), **how)
    transform.check(dataset.features)
    _report(canaries, count_in(canaries, dataset, column, **how))
    return _marked(_mapped(dataset, transform, "Injecting canaries"), canaries)


def remove(
    canaries: Insertions, dataset: AnyDataset, column: str = "text", *, num_rows: Any = None, **how: Any
) -> AnyDataset:
    """The exact inverse of `inject`; see `CanarySet.remove`."""
    if isinstance(dataset, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        return _with_train(dataset, lambda train: remove(canaries, train, column, num_rows=num_rows, **how))
    _check_dataset(dataset)
    if isinstance(dataset, datasets.IterableDataset):
        return _unmarked(_stream(canaries, dataset, column, num_rows, how, inverse=True), canaries)
    copies = 0 if how.get("placement") == "splice" else sum(canary.repetitions for canary in canaries.canaries)
    if len(dataset) <= copies:
        raise not_as_injected()
    transform = InjectCanaries(canaries, column, num_rows=len(dataset) - copies, **how)
    return _unmarked(_mapped(dataset, RemoveCanaries(transform), "Removing canaries"), canaries)


def count_in(canaries: Insertions, dataset: Any, column: str = "text", **how: Any) -> dict[str, int]:
    """How often the text of each canary stands in a dataset; see `CanarySet.count_in`."""
    _check_dataset(dataset)
    kinds = {name: value for name, value in how.items() if name in ("source_column", "tokenizer", "make_row", "role")}
    shape = row_writer_for(_features(dataset), column, **kinds)
    listed = tuple(canaries.canaries)
    finder = Finder([canary.text for canary in listed])
    found: Counter[int] = Counter()
    if shape.column in _features(dataset):
        for values in _columns(dataset, shape.column):
            found += finder.count(shape.strings(values))
    return {canary.id: found[number] for number, canary in enumerate(listed)}


def _columns(dataset: Any, column: str) -> Iterator[pa.ChunkedArray]:
    if isinstance(dataset, datasets.IterableDataset):
        batches = dataset.select_columns([column]).with_format("arrow").iter(batch_size=1000)
    else:
        batches = dataset.select_columns([column]).with_format("arrow").iter(batch_size=_batch_size(dataset))
    for table in batches:
        yield table[column]


def _mapped(dataset: datasets.Dataset, transform: Any, description: str) -> datasets.Dataset:
    """By a transform of arrow tables, and read as it was before."""
    read_as = dataset.format
    mapped = dataset.with_format(None).map(
        transform,
        batched=True,
        with_indices=True,
        batch_size=_batch_size(dataset),
        features=dataset.features,
        desc=description,
    )
    return mapped.with_format(
        read_as["type"], read_as["columns"], read_as["output_all_columns"], **read_as["format_kwargs"]
    )


def _batch_size(dataset: datasets.Dataset) -> int:
    """Rows that are rewritten at once: as many as take some megabytes."""
    return max(1, min(_MOST_ROWS, _BATCH_BYTES * len(dataset) // max(1, int(dataset.data.nbytes))))


def _stream(
    canaries: Insertions, dataset: datasets.IterableDataset, column: str, num_rows: Any, how: Any, *, inverse: bool
) -> datasets.IterableDataset:
    """A stream whose shards are those of another one, with the canaries or without them."""
    if getattr(dataset, "_distributed", None) is not None:
        raise DataError(
            "dataset",
            "the whole stream, of which each node takes its share later",
            "one that was split by node already, into which each node would inject all copies",
            "Inject first, then split_dataset_by_node.",
        )
    shards = dataset.num_shards
    lengths = _lengths(dataset, num_rows, shards)
    transform = InjectCanaries(canaries, column, num_rows=sum(lengths), **how)
    features = _features(dataset)
    transform.check(features)
    ends = np.cumsum([0, *lengths]).tolist()
    plain = dataset.with_format(None)
    made = datasets.IterableDataset.from_generator(
        _rows_of_shards,
        features=dataset.features,
        gen_kwargs={
            "shards": [plain.shard(shards, number) for number in range(shards)],
            "bounds": [Bounds(ends[number], ends[number + 1], number == shards - 1) for number in range(shards)],
            "through": Through(transform, features, is_exact=shards == 1 or not is_int(num_rows), inverse=inverse),
        },
        split=dataset.split or datasets.Split.TRAIN,
    )
    made.info.description = dataset.info.description
    formatting = getattr(dataset, "_formatting", None)
    return made if formatting is None else made.with_format(formatting.format_type)


class Bounds:
    """The rows of one shard, by their indices among all, and whether it is the last."""

    def __init__(self, start: int, stop: int, is_last: bool) -> None:
        self.start, self.stop, self.is_last = start, stop, is_last


def _rows_of_shards(shards: list[Any], bounds: list[Bounds], through: Through) -> Iterator[Row]:
    for shard, its in zip(shards, bounds, strict=True):
        yield from through.rows(_rows(shard), its)


def _rows(stream: datasets.IterableDataset) -> Iterator[Row]:
    """All of them, in a worker too; iterating over a stream there gives the worker's share alone."""
    for batch in stream.iter(batch_size=_STREAM_ROWS):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


class Through:
    """What becomes of the rows of a stream.

    Args:
        transform: with the places.
        features: of the rows.
        is_exact: whether the length of each shard is known.
        inverse: whether the canaries go out.
    """

    def __init__(
        self, transform: InjectCanaries, features: datasets.Features, *, is_exact: bool, inverse: bool
    ) -> None:
        self.transform, self.features, self.is_exact, self.inverse = transform, features, is_exact, inverse

    def rows(self, shard: Iterable[Row], bounds: Bounds) -> Iterator[Row]:
        """Of one shard."""
        shape = self.transform.shape(self.features)
        if self.transform.splices:
            return self._changed(shard, bounds, shape)
        return self._removed(shard, bounds, shape) if self.inverse else self._inserted(shard, bounds, shape)

    def _inserted(self, shard: Iterable[Row], bounds: Bounds, shape: RowWriter) -> Iterator[Row]:
        places, canaries = self.transform.places, self.transform.canaries
        left = list(places.between(bounds.start, bounds.stop, is_last=bounds.is_last))[::-1]
        finder, said = self.transform.texts, set[int]()
        texts = {canary.text for canary in canaries}
        index = bounds.start
        for row in shard:
            strings = _strings(shape, row, self.features)
            if any(string in texts for string in strings):
                raise already_there()
            found = set(finder.count_in(strings)) - said
            if found:
                said |= found
                _warn([canaries[number].id for number in sorted(found)])
            while left and places.rows[left[-1]] <= index:
                yield self._row(shape, left.pop())
            yield row
            index += 1
        if index < bounds.stop and self.is_exact:
            self._check_placed(left, index, bounds)
        while left:
            yield self._row(shape, left.pop())

    def _changed(self, shard: Iterable[Row], bounds: Bounds, shape: RowWriter) -> Iterator[Row]:
        mine, index = self.transform.of_rows(bounds.start, bounds.stop), bounds.start
        for index, row in enumerate(shard, bounds.start):
            copies = mine.pop(index, None)
            if copies:
                value = self.transform.change(shape, row[shape.column], copies, unsplice if self.inverse else splice)
                row = row | {shape.column: value}
            yield row
        self._check_placed([copy for copies in mine.values() for copy in copies], index + 1, bounds)

    def _removed(self, shard: Iterable[Row], bounds: Bounds, shape: RowWriter) -> Iterator[Row]:
        places, is_last = self.transform.places, bounds.is_last
        mine = places.between(bounds.start, bounds.stop, is_last=is_last)
        ahead, rows = list(mine)[::-1], iter(shard)
        for index in range(bounds.start, bounds.stop + is_last):
            while ahead and places.rows[ahead[-1]] == index:
                expected, row = self._row(shape, ahead.pop()), next(rows, None)
                if row is None or any(row.get(name) != value for name, value in expected.items()):
                    raise not_as_injected()
            if index < bounds.stop:
                row = next(rows, None)
                if row is None:
                    raise not_as_injected()
                yield row
        if next(rows, None) is not None:
            raise not_as_injected()

    def _row(self, shape: RowWriter, copy: int) -> Row:
        made = self.transform.rows(shape, self.features, self.features.arrow_schema, [copy])
        row: Row = made.to_pylist()[0]
        return row

    def _check_placed(self, left: Sequence[int], index: int, bounds: Bounds) -> None:
        if not left:
            return
        which = self.transform.places.which[list(left)].tolist()
        missing = sorted({self.transform.canaries[number].id for number in which})
        raise DataError(
            "num_rows",
            f"a stream with the {bounds.stop - bounds.start} rows that were declared",
            f"one that ended after {index - bounds.start}, with copies of {shown(missing)} not placed",
            "Declare its true length: num_rows=..., one number for each shard where there are several.",
        )


def _strings(shape: RowWriter, row: Row, features: datasets.Features) -> list[str]:
    if shape.column not in row or shape.column not in features:
        return []
    value = row[shape.column]
    if isinstance(value, str):
        return [value]
    typed = pa.array([value], type=features.arrow_schema.field(shape.column).type)
    return [string for string in shape.strings(typed).to_pylist() if string is not None]


def _lengths(dataset: datasets.IterableDataset, num_rows: Any, shards: int) -> list[int]:
    """How many rows each shard has, as far as it was said."""
    if num_rows is None:
        known = (dataset.info.splits or {}).get(str(dataset.split))
        hint = f" Its builder has counted {known.num_examples}." if known is not None and known.num_examples else ""
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


def _features(dataset: Any) -> datasets.Features:
    """Those of the dataset, or of its first row where a stream does not know them."""
    if dataset.features is not None:
        return dataset.features
    first = next(iter(dataset.with_format(None)), None)
    if first is None:
        raise _empty()
    return datasets.Features.from_arrow_schema(pa.Table.from_pylist([first]).schema)


def _with_train(dataset: Any, work: Any) -> Any:
    if "train" not in dataset:
        raise DataError(
            "dataset",
            f"a {type(dataset).__name__} with a split named 'train'",
            f"the splits {shown(list(dataset))}",
            "Inject into the split that you train on, and put it back: dd[name] = canaries.inject(dd[name]).",
        )
    return type(dataset)({**dataset, "train": work(dataset["train"])})


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
        raise _empty()


def _empty() -> DataError:
    return DataError("dataset", "at least one row", "an empty dataset", "Inject before you filter, not after.")


def already_there() -> DataError:
    """The error of a second injection."""
    return DataError(
        "dataset",
        "one without these canaries",
        "one that they were injected into already, or that has rows that are their texts",
        "Take them out with canaries.remove(dataset), or draw other canaries.",
    )


def not_as_injected() -> DataError:
    """The error of a removal where the canaries are not in their places."""
    return DataError(
        "dataset",
        "the rows as canaries.inject left them",
        "rows in which the canaries are not where they were put",
        "Remove them before rows are shuffled, dropped or changed, with the arguments that they were injected with.",
    )


def _mark(canaries: Insertions) -> str:
    return f"hf_canary: the canaries of the set {canaries.digest[:16]} were injected."


def _marked(dataset: Any, canaries: Insertions) -> Any:
    """Says so in its description, which `map`, `select` and `save_to_disk` keep."""
    dataset.info.description = "\n".join(filter(None, [dataset.info.description, _mark(canaries)]))
    return dataset


def _unmarked(dataset: Any, canaries: Insertions) -> Any:
    lines = (dataset.info.description or "").split("\n")
    dataset.info.description = "\n".join(line for line in lines if line != _mark(canaries))
    return dataset


def _report(canaries: Insertions, found: dict[str, int]) -> None:
    """What of the canaries the corpus held before."""
    if all(found[canary.id] >= canary.repetitions for canary in canaries.canaries):
        raise already_there()
    there = [name for name, count in found.items() if count]
    if there:
        _warn(there)


def _warn(names: list[str]) -> None:
    logger.warning(
        "The text of %s stands in the data already, beside the copies that are injected: its repetitions are more than "
        "it says. Draw other canaries, or give the format more or wider holes.",
        ", ".join(names),
    )

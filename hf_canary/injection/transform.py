"""Canaries into the batches of a dataset and out again: transforms for `map`, in arrow tables.

Knows tables of rows and the row number of their first; knows no stream, and never the dataset as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.formatting.formatting import LazyBatch

from ..arguments import check_int
from ..errors import DataError
from .copies import Change, Copies, Insertions, already_there, not_as_injected, table_of
from .options import InsertionOptions, MakeRow
from .placement import Positions
from .rows import RowWriter


class InsertCopies:
    """A transform for `dataset.map(..., batched=True, with_indices=True)`: each row, and the copies that belong to it.

    Args:
        copies: what goes in.
    """

    def __init__(self, copies: Copies) -> None:
        self.copies = copies

    def __call__(self, batch: LazyBatch, indices: Sequence[int]) -> pa.Table:
        table, start, copies = batch.pa_table, indices[0], self.copies
        features = datasets.Features.from_arrow_schema(table.schema)
        writer = copies.writer(features, table)
        if copies.options.splices:
            return _with_changes(table, start, copies, writer, copies.spliced)
        if writer.column in table.column_names and copies.finder.equal(writer.strings(table[writer.column])):
            raise already_there()
        stop = start + len(table)
        numbers = copies.positions.between(start, stop, is_last=stop == copies.num_rows)
        if not numbers:
            return table
        inserted = copies.rows(numbers, writer, features, table.schema)
        return _merged(table, inserted, (copies.positions.rows[numbers.start : numbers.stop] - start).tolist())


class RemoveCopies:
    """A transform for `dataset.map(..., batched=True, with_indices=True)`: the inverse of `InsertCopies`.

    Args:
        copies: what went in.
    """

    def __init__(self, copies: Copies) -> None:
        self.copies = copies

    def __call__(self, batch: LazyBatch, indices: Sequence[int]) -> pa.Table:
        table, start, copies = batch.pa_table, indices[0], self.copies
        features = datasets.Features.from_arrow_schema(table.schema)
        writer = copies.writer(features, table)
        if copies.options.splices:
            return _with_changes(table, start, copies, writer, copies.unspliced)
        row_numbers = copies.positions.after_insertion
        first, last = np.searchsorted(row_numbers, (start, start + len(table)))
        if first == last:
            return table
        inserted = row_numbers[first:last] - start
        expected = copies.rows(range(int(first), int(last)), writer, features, table.schema)
        if not table.take(pa.array(inserted)).combine_chunks().equals(expected.combine_chunks()):
            raise not_as_injected()
        is_original = np.ones(len(table), dtype=bool)
        is_original[inserted] = False
        return table.filter(pa.array(is_original))


class InjectCanaries(InsertCopies):
    """A transform for `dataset.map(..., batched=True, with_indices=True)` that inserts each canary `repetitions` times.

    The positions are a uniformly random merge of the copies with the rows: every original row stays, unchanged and in
    order. The same arguments give the same rows with any `num_proc` and any batch size. `CanarySet.inject` does this
    and the counting for you, and takes streams as well.

    Args:
        canaries: a `CanarySet`.
        column: where the canary goes; `CanarySet.inject` says what kinds there are.
        num_rows: the length of the dataset that will be mapped; the positions depend on it.
        source_column: where the source of the format goes, for encoder-decoders.
        seed: draws the positions; None derives them from the digest of the set.
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
        num_rows = check_int("num_rows", num_rows, least=1, most=2**62, remedy="Give len(dataset).")
        options = InsertionOptions(
            column=column,
            source_column=source_column,
            seed=seed,
            tokenizer=tokenizer,
            make_row=make_row,
            role=role,
            placement=placement,
            when=when,
        )
        super().__init__(Copies(canaries, num_rows, options))

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
        if indices[-1] >= self.copies.num_rows:
            raise DataError(
                "num_rows",
                "the length of the dataset that is mapped",
                f"{self.copies.num_rows}, and a row of index {indices[-1]}",
                "Give num_rows=len(dataset).",
            )
        return super().__call__(batch, indices)

    @property
    def positions(self) -> Positions:
        """The row number and the canary of each copy."""
        return self.copies.positions


def _merged(table: pa.Table, inserted: pa.Table, rows: Sequence[int]) -> pa.Table:
    """The table with each of the inserted rows before the row of that number."""
    pieces, done = [], 0
    for number, row in enumerate(rows):
        pieces += [table.slice(done, row - done), inserted.slice(number, 1)]
        done = row
    return pa.concat_tables([*pieces, table.slice(done)])


def _with_changes(table: pa.Table, start: int, copies: Copies, writer: RowWriter, change: Change) -> pa.Table:
    """The table with a changed value in each row that copies go into."""
    copies_of = copies.by_row(start, start + len(table))
    if not copies_of:
        return table
    index, name = table.column_names.index(writer.column), writer.column
    pieces, done, column = [], 0, table[name]
    values = [{name: change(writer, column[row - start].as_py(), numbers)} for row, numbers in copies_of.items()]
    schema = table.select([name]).schema
    changed = table_of(values, datasets.Features.from_arrow_schema(schema), schema)[name]
    for number, row in enumerate(copies_of):
        pieces += [*column.slice(done, row - start - done).chunks, *changed.slice(number, 1).chunks]
        done = row - start + 1
    whole = pa.chunked_array([*pieces, *column.slice(done).chunks], type=column.type)
    return table.set_column(index, table.schema.field(index), whole)

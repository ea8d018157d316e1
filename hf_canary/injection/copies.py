"""The copies of canaries that go into one dataset: of which canary each is, where it goes, and what it makes of a row.

Joins positions to rows. Of a canary it knows what it is inserted as and how often; it knows no format and no model, and
of a dataset the length and the features.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import datasets
import numpy as np
import pyarrow as pa

from ..arguments import has
from ..errors import ArgumentTypeError, DataError, kind, shown
from .options import InsertionOptions
from .placement import VERSION, draw_positions, part
from .rows import Insertion, Row, RowWriter, TurnKeys, row_writer_for, splicing_writer, turn_keys_in
from .splicing import Spliced, splice, unsplice, was_spliced
from .text_search import Finder

logger = logging.getLogger(__name__)

# What becomes of one value of the column that copies go into: `Copies.spliced`, or `Copies.unspliced`.
Change = Callable[[RowWriter, Any, Sequence[int]], Any]

# What comes of a value that a column does not take.
_MISFITS = (pa.ArrowException, TypeError, ValueError, AttributeError, KeyError)


class Insertions(Protocol):
    """A set of insertions with a digest, from which the positions are drawn when no seed is given."""

    @property
    def digest(self) -> str: ...

    @property
    def canaries(self) -> Iterable[Insertion]: ...


class Copies:
    """The copies for one dataset, each known by its number, in the order of the rows.

    The transforms hold one of these, so that it is pickled with them, and is their fingerprint.

    Args:
        canaries: a `CanarySet`.
        num_rows: rows of the dataset that the copies go into.
        options: how they go in.
        turn_keys: the keys of turns that are JSON, which features do not tell; None looks at the rows at hand.
    """

    def __init__(
        self, canaries: Insertions, num_rows: int, options: InsertionOptions, turn_keys: TurnKeys | None = None
    ) -> None:
        if not has(canaries, "digest") or not has(canaries, "canaries"):
            raise ArgumentTypeError("canaries", "a CanarySet", kind(canaries), "Draw or load one: CanarySet.load(...).")
        self.canaries = tuple(canaries.canaries)
        self.num_rows, self.options, self.version = num_rows, options, VERSION
        self._turn_keys = turn_keys
        self.finder = Finder([canary.text for canary in self.canaries])
        seed = canaries.digest if options.seed is None else hex(options.seed)
        self.positions = draw_positions(
            [canary.repetitions for canary in self.canaries],
            num_rows,
            f"{seed} places",  # the word is part of the seed: another one would give other rows
            when=part(options.when),
            splice=options.splices,
        )

    def writer(self, features: datasets.Features, table: pa.Table | None = None) -> RowWriter:
        """How the canaries are written into rows of these features, or of this table."""
        keys = self._turn_keys
        if keys is None and table is not None:
            keys = turn_keys_in(features, self.options, lambda column: (value.as_py() for value in table[column]))
        return row_writer_for(features, self.options, keys)

    def check(self, features: datasets.Features) -> None:
        """Refuse features that the canaries cannot be written into.

        Raises:
            DataError: a column, a source, a template, rows of another kind.
        """
        writer = self.writer(features)
        if self.options.splices:
            splicing_writer(writer)
        _, one_of_each = np.unique(self.positions.which, return_index=True)
        self.rows(one_of_each.tolist(), writer, features, features.arrow_schema)

    def rows(
        self, copies: Sequence[int], writer: RowWriter, features: datasets.Features, schema: pa.Schema
    ) -> pa.Table:
        """A row for each of these copies."""
        numbers = self.positions.which[list(copies)].tolist()
        rows = {number: dict.fromkeys(features) | writer.row(self.canaries[number]) for number in sorted(set(numbers))}
        try:
            return table_of([rows[number] for number in numbers], features, schema)
        except _MISFITS:
            # Without the cause, whose words quote the row.
            is_own = self.options.make_row is not None
            remedy = "{} a function that returns a row like the others."
            raise DataError(
                "make_row" if is_own else "column",
                f"rows of the features {shown(features)}",
                f"one with another value in {_misfits(features, schema, rows)}",
                remedy.format("It is to be" if is_own else "Give make_row=,"),
            ) from None

    def by_row(self, start: int, stop: int) -> dict[int, list[int]]:
        """The copies that go into each of the rows from `start` to `stop`, by row number; rows without any are left
        out.
        """
        copies_of: dict[int, list[int]] = {}
        for copy in self.positions.between(start, stop, is_last=False):
            copies_of.setdefault(int(self.positions.rows[copy]), []).append(copy)
        return copies_of

    def spliced(self, writer: RowWriter, value: Any, copies: Sequence[int]) -> Any:
        """One value of the column, with the canaries of these copies in its string.

        Raises:
            DataError: they are in it already.
        """
        strings, canaries = splicing_writer(writer), self._to_splice(copies)
        text = strings.read(value)
        if was_spliced(text, canaries):
            raise already_there()
        return strings.write(value, splice(text, canaries))

    def unspliced(self, writer: RowWriter, value: Any, copies: Sequence[int]) -> Any:
        """The inverse of `spliced`.

        Raises:
            DataError: they are not in it.
        """
        strings = splicing_writer(writer)
        text = strings.read(value)
        try:
            return strings.write(value, unsplice(text, self._to_splice(copies)))
        except LookupError:
            raise not_as_injected() from None

    def ids(self, copies: Sequence[int]) -> list[str]:
        """The ids of the canaries that these are copies of."""
        return sorted({self.canaries[number].id for number in self.positions.which[list(copies)].tolist()})

    def _to_splice(self, copies: Sequence[int]) -> Spliced:
        """The text and the spot of each copy."""
        which, spots = self.positions.which, self.positions.spots
        return [(self.canaries[int(which[copy])].text, float(spots[copy])) for copy in copies]


def table_of(rows: Sequence[Row], features: datasets.Features, schema: pa.Schema) -> pa.Table:
    """Rows of Python as a table of this schema; each has a value for each column."""
    encoded = [features.encode_example(row) for row in rows]
    columns = []
    for field in schema:
        name = field.name
        if _holds_extension(field.type):  # which pyarrow does not make of values, and datasets does
            own = datasets.Features({name: features[name]})
            made = datasets.Dataset.from_list([{name: row[name]} for row in rows], features=own).data.table[name]
            # Before its version 26, pyarrow aborts where it casts an extension within lists to itself.
            columns.append(made if made.type == field.type else made.cast(field.type))
        else:
            columns.append(pa.chunked_array([pa.array([row[name] for row in encoded], type=field.type)]))
    return pa.table(columns, schema=schema)


def _holds_extension(type: pa.DataType) -> bool:
    """Whether values of an extension, as of JSON, stand within lists or structs."""
    inner = [type.field(number).type for number in range(type.num_fields)] if pa.types.is_struct(type) else []
    inner += [type.value_type] if hasattr(type, "value_type") and pa.types.is_nested(type) else []
    return any(isinstance(one, pa.BaseExtensionType) or _holds_extension(one) for one in inner)


def _misfits(features: datasets.Features, schema: pa.Schema, rows: Mapping[int, Row]) -> str:
    """The columns whose values do not fit."""

    def fits(name: str, row: Row) -> bool:
        try:
            table_of(
                [{name: row.get(name)}], datasets.Features({name: features[name]}), pa.schema([schema.field(name)])
            )
        except _MISFITS:
            return False
        return True

    names = [name for name in features if not all(fits(name, row) for row in rows.values())]
    return ", ".join(map(repr, names)) or "one of its columns"


def already_there() -> DataError:
    """The error of a second injection."""
    return DataError(
        "dataset",
        "one without these canaries",
        "one that they were injected into already, or that has rows that are their texts",
        "Take them out with canaries.remove(dataset), or draw other canaries.",
    )


def not_as_injected() -> DataError:
    """The error of a removal where the canaries are not at their positions."""
    return DataError(
        "dataset",
        "the rows as canaries.inject left them",
        "rows in which the canaries are not where they were put",
        "Remove them before rows are shuffled, dropped or changed, with the arguments that they were injected with.",
    )


def warn_of_more(canary_ids: Sequence[str]) -> None:
    """Say in the log that the data hold the texts of these canaries beside their copies."""
    logger.warning(
        "The text of %s stands in the data already, beside the copies that are injected: its repetitions are more than "
        "it says. Draw other canaries, or give the format more or wider holes.",
        ", ".join(canary_ids),
    )

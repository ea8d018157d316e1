"""What a canary looks like in the rows of a dataset: as a row of its own, or within a row that is there.

Knows columns and their kinds. Of a canary it knows the text, the source and an id; it knows no place, and no dataset as
a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features, LargeList, List, Translation, Value

from ..arguments import check_among, check_tokenizer
from ..errors import ArgumentTypeError, DataError, kind, shown
from ..tokenization.encoding import token_ids

_STRINGS = ("string", "large_string")
_ROLES = ("assistant", "user", "system", "tool", "developer")
# Of each turn of a chat: whose it is, what is said, and what the speakers are called.
_TURNS = {
    ("role", "content"): {},
    ("from", "value"): {"assistant": "gpt", "user": "human"},
}
# What the assistant says where another says the canary: trainers that train on it alone refuse rows without any.
_ANSWER = "OK."

Row = dict[str, Any]
MakeRow = Callable[[Any], Mapping[str, Any]]


class Insertion(Protocol):
    """What is inserted: a text, perhaps with a source, so many times."""

    @property
    def id(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def source(self) -> str | None: ...

    @property
    def repetitions(self) -> int: ...


class RowWriter(Protocol):
    """How the canary is written.

    Attributes:
        column: where its text stands.
    """

    @property
    def column(self) -> str: ...

    def row(self, canary: Insertion) -> Row:
        """A row of its own: the columns that it has a value for."""

    def strings(self, values: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        """All strings of a column in which the text may stand."""


@dataclass(frozen=True)
class TextColumn:
    """A string: a column of strings, or a field of one of structs, as a translation is.

    Args:
        path: the column, and the fields that lead to the string.
        source: the same for what an encoder reads; None if there is no such thing.
        source_is_optional: whether a canary without a source has an empty one.
    """

    path: tuple[str, ...]
    source: tuple[str, ...] | None = None
    source_is_optional: bool = False

    @property
    def column(self) -> str:
        return self.path[0]

    def row(self, canary: Insertion) -> Row:
        row: Row = {}
        _put(row, self.path, canary.text)
        if self.source is not None:
            _put(row, self.source, _source_of(canary, self.source_is_optional))
        else:
            _check_no_source(canary)
        return row

    def strings(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.struct_field(values, list(self.path[1:])) if len(self.path) > 1 else values

    def read(self, value: Any) -> str | None:
        """The string in one value of the column, into which canaries are spliced."""
        for field in self.path[1:]:
            value = None if value is None else value[field]
        return value  # type: ignore[no-any-return]

    def write(self, value: Any, text: str | None) -> Any:
        """The value with another such string."""
        if len(self.path) == 1:
            return text
        row: Row = {self.column: {} if value is None else value}
        _put(row, self.path, text)
        return row[self.column]


@dataclass(frozen=True)
class ChatColumn:
    """A chat, as a list of turns; the canary is what one of them says.

    Args:
        column: of the chat.
        keys: of a turn: whose it is, what is said.
        role: who says the canary.
        prompt: the column that the turns before it stand in, if that is another one.
        tokenizer: whose template is tried; None tries none.
    """

    column: str
    keys: tuple[str, str]
    role: str
    prompt: str | None = None
    tokenizer: Any = None

    def row(self, canary: Insertion) -> Row:
        before = [] if self.role != "assistant" else [self._turn("user", canary.source or "")]
        after = [] if self.role == "assistant" else [self._turn("assistant", _ANSWER)]
        if self.role != "assistant":
            _check_no_source(canary)
        own = [self._turn(self.role, canary.text)]
        self._check_template(canary, before + own + after)
        if self.prompt is not None:
            return {self.prompt: before, self.column: own + after}
        return {self.column: before + own + after}

    def strings(self, values: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        return pc.struct_field(pc.list_flatten(values), self.keys[1])

    def read(self, value: Any) -> str | None:
        """As of a cell."""
        return value[self._own(value)][self.keys[1]]  # type: ignore[no-any-return]

    def write(self, value: Any, text: str | None) -> Any:
        """As of a cell."""
        own = self._own(value)
        return [turn | {self.keys[1]: text} if number == own else turn for number, turn in enumerate(value)]

    def _turn(self, role: str, text: str) -> dict[str, str]:
        return {self.keys[0]: _TURNS[self.keys].get(role, role), self.keys[1]: text}

    def _own(self, value: Any) -> int:
        """The last turn of the role, or the last of all."""
        if not value:
            raise DataError(
                "dataset", "a turn in every chat that a canary is spliced into", "one without", "Filter them out first."
            )
        role = _TURNS[self.keys].get(self.role, self.role)
        return max((number for number, turn in enumerate(value) if turn[self.keys[0]] == role), default=len(value) - 1)

    def _check_template(self, canary: Insertion, turns: list[dict[str, str]]) -> None:
        if self.tokenizer is None:
            return
        names = {theirs: ours for ours, theirs in _TURNS[self.keys].items()}
        said = [
            {"role": names.get(turn[self.keys[0]], turn[self.keys[0]]), "content": turn[self.keys[1]]} for turn in turns
        ]
        try:
            rendered = self.tokenizer.apply_chat_template(said, tokenize=False)
        except Exception as error:  # a template may raise whatever its author wrote
            raise DataError(
                "tokenizer",
                f"a chat template that takes {shown([turn['role'] for turn in said])}",
                self._why_refused(canary, said, error),
                "Leave tokenizer out if no template is used, or give make_row=, which returns the row of a canary.",
            ) from None
        if canary.text not in rendered:
            raise DataError(
                "tokenizer",
                f"a chat template that keeps what {self.role} says",
                f"one that drops or changes the text of {canary.id}",
                "Begin and end the format with what is no space, choose another role=, or give make_row=.",
            )

    def _why_refused(self, canary: Insertion, said: list[dict[str, str]], error: Exception) -> str:
        """What the template says of other texts, where it refuses these too: its words may quote what was said."""
        try:
            self.tokenizer.apply_chat_template([turn | {"content": "text"} for turn in said], tokenize=False)
        except Exception as of_others:
            return shown(str(of_others))
        return f"{type(error).__name__}, for what {canary.id} says"


@dataclass(frozen=True)
class TokenColumn:
    """Rows that are token ids already.

    Args:
        column: `input_ids`.
        tokenizer: the one that the others were made with.
        beside: the other columns that follow from the ids.
    """

    column: str
    tokenizer: Any
    beside: tuple[str, ...]

    def row(self, canary: Insertion) -> Row:
        if canary.source is not None and "labels" in self.beside:
            (ids,) = token_ids(self.tokenizer, [canary.source], special=True)
            (labels,) = token_ids(self.tokenizer, [canary.text], target=True, special=True)
        else:
            _check_no_source(canary)
            (ids,) = token_ids(self.tokenizer, [canary.text], special=True)
            labels = ids
        made = {self.column: ids, "labels": labels, "attention_mask": [1] * len(ids), "token_type_ids": [0] * len(ids)}
        return {self.column: ids} | {name: made[name] for name in self.beside}

    def strings(self, values: pa.ChunkedArray) -> pa.Array:
        return pa.array([], type=pa.string())


@dataclass(frozen=True)
class CustomRow:
    """Whatever the user's function makes of a canary.

    Args:
        column: where its text stands, if it is a column of strings; else it is not looked for.
        make: canary → row.
        features: of the dataset.
    """

    column: str
    make: MakeRow
    features: Features

    def row(self, canary: Insertion) -> Row:
        row = self.make(canary)
        if not isinstance(row, Mapping) or not set(row) <= set(self.features):
            others = len(set(row) - set(self.features)) if isinstance(row, Mapping) else 0
            raise DataError(
                "make_row",
                f"a function that returns a dict with some of the columns {shown(list(self.features))}",
                f"a dict in which {others} of {len(row)} names are none of them" if others else f"one {kind(row)}",
                "The columns that it leaves out are None.",
            )
        return dict(row)

    def strings(self, values: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        return values if _is_string(self.features.get(self.column)) else pa.array([], type=pa.string())


def check_row_arguments(tokenizer: Any, make_row: Any, role: Any) -> None:
    """Refuse what no row could be made with.

    Raises:
        ArgumentError: no tokenizer, no function, no role of a chat.
    """
    if tokenizer is not None:
        check_tokenizer(tokenizer, needs="apply_chat_template")
    if make_row is not None and not callable(make_row):
        raise ArgumentTypeError("make_row", "a function: canary → row", kind(make_row), "Leave it out for text.")
    check_among("role", role, _ROLES, "For another one give make_row=.")


def spliced_into(shape: RowWriter) -> TextColumn | ChatColumn:
    """A shape whose strings canaries can be spliced into.

    Raises:
        DataError: it is another.
    """
    if not isinstance(shape, (TextColumn, ChatColumn)):
        raise DataError(
            "placement",
            "'rows', for rows that are tokens or that make_row makes",
            "'splice'",
            "Splice into text, before it is tokenised.",
        )
    return shape


def row_writer_for(
    features: Features,
    column: str,
    *,
    source_column: str | None = None,
    tokenizer: Any = None,
    make_row: MakeRow | None = None,
    role: str = "assistant",
) -> RowWriter:
    """How a canary is written into rows of these features.

    Raises:
        DataError: a column that is missing, or of a kind that needs `make_row`.
    """
    if make_row is not None:
        return CustomRow(column, make_row, features)
    if not isinstance(column, str):
        raise _missing("column", column, features)
    path = tuple(column.split(".")) if column not in features else (column,)
    feature = _at(features, path)
    if feature is None:
        raise _missing("column", column, features)
    keys = _turns(feature)
    if keys is not None:
        if source_column is not None:
            raise DataError(
                "source_column",
                "none beside a chat",
                shown(source_column),
                "A format's source is what the user says before it.",
            )
        prompt = "prompt" if column == "completion" and _turns(features.get("prompt")) == keys else None
        return ChatColumn(column, keys, role, prompt, tokenizer)
    if _is_string(feature):
        source, optional = _source(features, path, source_column)
        return TextColumn(path, source, optional)
    if isinstance(feature, (List, LargeList)) and isinstance(feature.feature, Value) and "int" in feature.feature.dtype:
        return _tokens(features, column, tokenizer, getattr(feature, "length", -1))
    if isinstance(feature, (Translation, dict)):
        fields = list(feature.languages if isinstance(feature, Translation) else feature)
        raise DataError(
            "column",
            "one string of each row",
            f"{column!r}, with the fields {shown(fields)}",
            f"Name the one that is written, and what is read: column='{column}.{fields[-1]}', "
            f"source_column='{column}.{fields[0]}'.",
        )
    raise DataError(
        "column",
        "strings, translations, chats or token ids",
        f"{column!r} of type {shown(feature)}",
        "Give make_row=, a function that returns the row of a canary.",
    )


def _source(
    features: Features, path: tuple[str, ...], source_column: str | None
) -> tuple[tuple[str, ...] | None, bool]:
    """The path of the source, and whether a canary may come without one."""
    if source_column is None:
        return (("prompt",), True) if path == ("completion",) and _is_string(features.get("prompt")) else (None, False)
    source = (source_column,) if source_column in features else tuple(str(source_column).split("."))
    if not _is_string(_at(features, source)) or source == path:
        raise _missing("source_column", source_column, features)
    return source, False


def _tokens(features: Features, column: str, tokenizer: Any, length: int) -> TokenColumn:
    if tokenizer is None:
        raise DataError(
            "tokenizer", "the tokenizer of rows that are token ids", "none", "Give tokenizer=, or inject the text."
        )
    if length != -1:
        raise DataError(
            "column",
            "rows of any number of tokens",
            f"{column!r}, with {length} in each",
            "Inject before rows are cut to a length.",
        )
    beside = tuple(name for name in ("labels", "attention_mask", "token_type_ids") if name in features)
    return TokenColumn(column, tokenizer, beside)


def _at(features: Any, path: Sequence[str]) -> Any:
    """The feature that a path leads to, or None."""
    for name in path:
        if isinstance(features, Translation):
            features = {language: Value("string") for language in features.languages}
        if not isinstance(features, dict) or name not in features:
            return None
        features = features[name]
    return features


def _is_string(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in _STRINGS


def _turns(feature: Any) -> tuple[str, str] | None:
    """The keys of a chat's turns, if it is one."""
    fields = feature.feature if isinstance(feature, (List, LargeList)) else None
    if isinstance(fields, dict):
        for keys in _TURNS:
            if all(_is_string(fields.get(key)) for key in keys):
                return keys
    return None


def _put(row: Row, path: Sequence[str], text: str | None) -> None:
    for name in path[:-1]:
        row[name] = dict(row.get(name) or {})
        row = row[name]
    row[path[-1]] = text


def _source_of(canary: Insertion, is_optional: bool) -> str:
    if canary.source is None and not is_optional:
        raise DataError(
            "source_column",
            "none, where the canaries' formats have no source",
            "one",
            "Give the formats a source: CanaryFormat(template, source=...).",
        )
    return canary.source or ""


def _check_no_source(canary: Insertion) -> None:
    if canary.source is not None:
        raise DataError(
            "source_column",
            "a column for the source of the canaries",
            "none",
            "Name it: source_column=..., or give make_row=.",
        )


def _missing(argument: str, name: object, features: Features) -> DataError:
    good = [column for column, feature in features.items() if _is_string(feature) or _turns(feature) is not None]
    named = f"{argument}={good[-1][:40]!r}" if good else f"{argument}=..."
    return DataError(
        argument, f"one of the columns {shown(list(features))}", shown(name), f"Name that of the text, such as {named}."
    )

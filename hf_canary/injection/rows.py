"""What a canary looks like in the rows of a dataset: as a row of its own, or within a row that is there.

Knows columns and their kinds. Of a canary it knows the text, the source and an id; it knows no row number, and no
dataset as a whole.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features, LargeList, List, Translation, Value

from ..errors import DataError, kind, shown, without_data
from ..runtime.json_text import read_json
from ..tokenization.encoding import token_ids
from .options import InsertionOptions, MakeRow

_STRINGS = ("string", "large_string")
# The keys of a turn of a chat (whose it is, what it says), and what the roles are called there.
_TURNS = {
    ("role", "content"): {},
    ("from", "value"): {"assistant": "gpt", "user": "human"},
}
# What the assistant says where another says the canary: trainers that train on it alone refuse rows without any.
_ANSWER = "OK."
_MOST_TURNS = 1000  # that are looked at for their keys, where these are not known

Row = dict[str, Any]
TurnKeys = tuple[str, str]
ColumnPath = tuple[str, ...]  # a column, and the fields within it


class Insertion(Protocol):
    """A text, perhaps with a source, that is inserted so many times."""

    @property
    def id(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def source(self) -> str | None: ...

    @property
    def repetitions(self) -> int: ...


class RowWriter(Protocol):
    """How a canary is written into rows of one dataset.

    Attributes:
        column: the column that its text stands in.
    """

    @property
    def column(self) -> str: ...

    def row(self, canary: Insertion) -> Row:
        """A row of its own: those columns that have a value in it."""

    def strings(self, values: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        """All strings in a column's values that may hold the text of a canary."""

    def strings_of(self, value: Any) -> list[str]:
        """The same of one value, as a row of Python has it."""


@dataclass(frozen=True)
class TextColumn:
    """A string: a column of strings, or a field within a column of structs, as a translation is.

    Args:
        path: the column, and the fields that lead to the string.
        source: the column of what an encoder reads, and the fields that lead to it; None where there is no such column.
        source_is_optional: whether a canary without a source has an empty one.
    """

    path: ColumnPath
    source: ColumnPath | None = None
    source_is_optional: bool = False

    @staticmethod
    def accepts(feature: Any) -> bool:
        """Whether it is a string."""
        return _is_string(feature)

    @classmethod
    def of_column(cls, features: Features, path: ColumnPath, options: InsertionOptions) -> TextColumn:
        """The string at this path, with the column of its source."""
        if options.source_column is not None:
            return cls(path, _source_path(features, path, options.source_column))
        if path == ("completion",) and _is_string(features.get("prompt")):
            return cls(path, ("prompt",), source_is_optional=True)
        return cls(path)

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

    def strings_of(self, value: Any) -> list[str]:
        text = self.read(value)
        return [] if text is None else [text]

    def read(self, value: Any) -> str | None:
        """The string, in one value of the column, that canaries are spliced into."""
        for field in self.path[1:]:
            value = None if value is None else value[field]
        return value  # type: ignore[no-any-return]

    def write(self, value: Any, text: str | None) -> Any:
        """The value with `text` as that string."""
        if len(self.path) == 1:
            return text
        row: Row = {self.column: {} if value is None else value}
        _put(row, self.path, text)
        return row[self.column]


@dataclass(frozen=True)
class ChatColumn:
    """A chat, as a list of turns; the canary is what one of them says.

    Args:
        column: the column of the chat.
        keys: the keys of a turn: whose it is, what it says.
        role: who says the canary.
        prompt: the column of the turns before the canary, where that is another one.
        tokenizer: its template is tried on the canaries; None tries none.
    """

    column: str
    keys: TurnKeys
    role: str
    prompt: str | None = None
    tokenizer: Any = None

    @staticmethod
    def accepts(feature: Any) -> bool:
        """Whether it is a list of turns."""
        return _turn_keys(feature) is not None

    @classmethod
    def of_column(
        cls, features: Features, path: ColumnPath, options: InsertionOptions, keys: TurnKeys | None = None
    ) -> ChatColumn:
        """The chat at this path; its keys, where the features do not tell them."""
        if options.source_column is not None:
            raise DataError(
                "source_column",
                "none beside a chat",
                shown(options.source_column),
                "A format's source is what the user says before it.",
            )
        keys = _turn_keys(_feature_at(features, path)) or keys or next(iter(_TURNS))
        prompt = features.get("prompt")
        has_prompt = options.column == "completion" and (_turn_keys(prompt) == keys or _is_json_list(prompt))
        return cls(options.column, keys, options.role, "prompt" if has_prompt else None, options.tokenizer)

    def row(self, canary: Insertion) -> Row:
        before = [] if self.role != "assistant" else [self._turn("user", canary.source or "")]
        after = [] if self.role == "assistant" else [self._turn("assistant", _ANSWER)]
        if self.role != "assistant":
            _check_no_source(canary)
        with_canary = [self._turn(self.role, canary.text)]
        self._check_template(canary, before + with_canary + after)
        if self.prompt is not None:
            return {self.prompt: before, self.column: with_canary + after}
        return {self.column: before + with_canary + after}

    def strings(self, values: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        return pc.struct_field(pc.list_flatten(values), self.keys[1])

    def strings_of(self, value: Any) -> list[str]:
        said = (self._read(turn).get(self.keys[1]) for turn in value or ())
        return [text for text in said if isinstance(text, str)]

    def read(self, value: Any) -> str | None:
        """What the turn of one chat says that canaries are spliced into."""
        return self._read(value[self._turn_number(value)])[self.keys[1]]  # type: ignore[no-any-return]

    def write(self, value: Any, text: str | None) -> Any:
        """The chat in which that turn says `text`."""
        changed = self._turn_number(value)
        return [self._with(turn, text) if number == changed else turn for number, turn in enumerate(value)]

    def _read(self, turn: Any) -> Mapping[str, Any]:
        """A turn, as the dataset holds it."""
        return turn  # type: ignore[no-any-return]

    def _with(self, turn: Any, text: str | None) -> Any:
        """A turn that says `text`, as the dataset holds it."""
        return turn | {self.keys[1]: text}

    def _turn(self, role: str, text: str) -> dict[str, str]:
        return {self.keys[0]: _TURNS[self.keys].get(role, role), self.keys[1]: text}

    def _turn_number(self, value: Any) -> int:
        """The number of the last turn of the role that says something; where it has none, of the last such turn."""
        turns = {number: self._read(turn) for number, turn in enumerate(value or ())}
        saying = {number: turn for number, turn in turns.items() if self._says(turn)}
        if not saying:
            raise DataError(
                "dataset",
                "a turn with text in every chat that a canary is spliced into",
                "one without",
                "Filter them out first.",
            )
        role = _TURNS[self.keys].get(self.role, self.role)
        return max((number for number, turn in saying.items() if turn[self.keys[0]] == role), default=max(saying))

    def _says(self, turn: Mapping[str, Any]) -> bool:
        """Whether text can be put into it; that of tools may be no text, and JSON may have no place for any."""
        return self.keys[1] in turn and isinstance(turn[self.keys[1]], str | None)

    def _check_template(self, canary: Insertion, turns: list[dict[str, str]]) -> None:
        if self.tokenizer is None:
            return
        roles = {name: role for role, name in _TURNS[self.keys].items()}
        messages = [
            {"role": roles.get(turn[self.keys[0]], turn[self.keys[0]]), "content": turn[self.keys[1]]} for turn in turns
        ]
        try:
            rendered = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception as error:  # a template may raise whatever its author wrote
            raise DataError(
                "tokenizer",
                f"a chat template that takes {shown([message['role'] for message in messages])}",
                self._why_refused(canary, messages, error),
                "Leave tokenizer out if no template is used, or give make_row=, which returns the row of a canary.",
            ) from None
        if canary.text not in rendered:
            raise DataError(
                "tokenizer",
                f"a chat template that keeps what {self.role} says",
                f"one that drops or changes the text of {canary.id}",
                "Begin and end the format with what is no space, choose another role=, or give make_row=.",
            )

    def _why_refused(self, canary: Insertion, messages: list[dict[str, str]], error: Exception) -> str:
        """What the template says of other texts, if it refuses these too: of the canary's, it may quote the text."""
        try:
            self.tokenizer.apply_chat_template([message | {"content": "text"} for message in messages], tokenize=False)
        except Exception as error_for_other_texts:
            return shown(str(error_for_other_texts))
        return f"{type(error).__name__}, for what {canary.id} says"


@dataclass(frozen=True)
class JsonChatColumn(ChatColumn):
    """A chat whose turns are JSON, as those are that call tools with arguments of different kinds."""

    @staticmethod
    def accepts(feature: Any) -> bool:
        """Whether it is a list of JSON."""
        return _is_json_list(feature)

    def strings(self, values: pa.ChunkedArray) -> pa.Array:
        return pa.array([text for value in values for text in self.strings_of(value.as_py())], type=pa.string())

    def _read(self, turn: Any) -> Mapping[str, Any]:
        turn = _json_of(turn)
        if not isinstance(turn, Mapping) or self.keys[0] not in turn:
            raise DataError(
                "column",
                f"turns with a {self.keys[0]} in every chat of {shown(self.column)}",
                "one without" if isinstance(turn, Mapping) else f"a turn {kind(turn)}",
                "Filter it out first, or name another column.",
            )
        return turn

    def _with(self, turn: Any, text: str | None) -> Any:
        changed = dict(self._read(turn)) | {self.keys[1]: text}
        return json.dumps(changed, ensure_ascii=False) if isinstance(turn, str) else changed


@dataclass(frozen=True)
class TokenColumn:
    """Rows that are token ids already.

    Args:
        column: the column of the ids.
        tokenizer: the tokenizer that the other rows were made with.
        derived: the other columns of the dataset that follow from the ids.
    """

    column: str
    tokenizer: Any
    derived: tuple[str, ...]

    @staticmethod
    def accepts(feature: Any) -> bool:
        """Whether it is a list of whole numbers."""
        element = feature.feature if isinstance(feature, (List, LargeList)) else None
        return isinstance(element, Value) and "int" in element.dtype

    @classmethod
    def of_column(cls, features: Features, path: ColumnPath, options: InsertionOptions) -> TokenColumn:
        """The ids at this path."""
        if options.tokenizer is None:
            raise DataError(
                "tokenizer", "the tokenizer of rows that are token ids", "none", "Give tokenizer=, or inject the text."
            )
        length = getattr(_feature_at(features, path), "length", -1)
        if length != -1:
            raise DataError(
                "column",
                "rows of any number of tokens",
                f"{options.column!r}, with {length} in each",
                "Inject before rows are cut to a length.",
            )
        derived = tuple(name for name in ("labels", "attention_mask", "token_type_ids") if name in features)
        return cls(options.column, options.tokenizer, derived)

    def row(self, canary: Insertion) -> Row:
        if canary.source is not None and "labels" in self.derived:
            (ids,) = token_ids(self.tokenizer, [canary.source], special=True)
            (labels,) = token_ids(self.tokenizer, [canary.text], target=True, special=True)
        else:
            _check_no_source(canary)
            (ids,) = token_ids(self.tokenizer, [canary.text], special=True)
            labels = ids
        values = {"labels": labels, "attention_mask": [1] * len(ids), "token_type_ids": [0] * len(ids)}
        return {self.column: ids} | {name: values[name] for name in self.derived}

    def strings(self, values: pa.ChunkedArray) -> pa.Array:
        return pa.array([], type=pa.string())

    def strings_of(self, value: Any) -> list[str]:
        return []


@dataclass(frozen=True)
class CustomRow:
    """Whatever the user's function makes of a canary.

    Args:
        column: the column that texts of canaries are looked for in; in one that holds no strings, none are found.
        make: canary → row.
        features: the features of the dataset.
    """

    column: str
    make: MakeRow
    features: Features

    def row(self, canary: Insertion) -> Row:
        expected = f"a function that returns a dict with some of the columns {shown(list(self.features))}"
        try:
            row = self.make(canary)
        except Exception as error:
            got = f"one that fails for {canary.id}: {without_data(error)}"
            raise DataError("make_row", expected, got, "Try it on one canary of the set.") from error
        if not isinstance(row, Mapping) or not set(row) <= set(self.features):
            others = len(set(row) - set(self.features)) if isinstance(row, Mapping) else 0
            raise DataError(
                "make_row",
                expected,
                f"a dict in which {others} of {len(row)} names are none of them" if others else f"one {kind(row)}",
                "The columns that it leaves out are None.",
            )
        return dict(row)

    def strings(self, values: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        return values if _is_string(self.features.get(self.column)) else pa.array([], type=pa.string())

    def strings_of(self, value: Any) -> list[str]:
        return [value] if isinstance(value, str) and _is_string(self.features.get(self.column)) else []


# The kinds of column that a row can be written for without `make_row`.
_KINDS: tuple[type[ChatColumn | TextColumn | TokenColumn], ...] = (ChatColumn, JsonChatColumn, TextColumn, TokenColumn)


def row_writer_for(features: Features, options: InsertionOptions, turn_keys: TurnKeys | None = None) -> RowWriter:
    """How a canary is written into rows of these features.

    Args:
        features: of the dataset.
        options: how canaries go in.
        turn_keys: the keys of turns that are JSON; None is `role` and `content`.

    Raises:
        DataError: a column that is missing, or of a kind that needs `make_row`.
    """
    if options.make_row is not None:
        return CustomRow(options.column, options.make_row, features)
    path = _path_of(features, options.column)
    feature = _feature_at(features, path)
    for row_kind in _KINDS:
        if row_kind.accepts(feature):
            if issubclass(row_kind, ChatColumn):
                return row_kind.of_column(features, path, options, turn_keys)
            return row_kind.of_column(features, path, options)
    raise _no_kind(options.column, feature)


def turn_keys_in(
    features: Features, options: InsertionOptions, values_of: Callable[[str], Iterable[Any]]
) -> TurnKeys | None:
    """The keys of turns that are JSON, by the first of them; None where there are none.

    Args:
        features: of the dataset.
        options: how canaries go in.
        values_of: a column → its values, which are read as far as to the first chat.
    """
    path = (options.column,) if isinstance(options.column, str) else ()
    if options.make_row is not None or not _is_json_list(_feature_at(features, path)):
        return None
    turns = (_json_of(turn) for value in values_of(options.column) for turn in value or ())
    first = (turn for turn in itertools.islice(turns, _MOST_TURNS) if isinstance(turn, Mapping))
    return next((keys for turn in first for keys in _TURNS if set(keys) <= set(turn)), None)


def splicing_writer(writer: RowWriter) -> TextColumn | ChatColumn:
    """The writer, if its strings can have canaries spliced into them.

    Raises:
        DataError: they cannot.
    """
    if not isinstance(writer, (TextColumn, ChatColumn)):
        raise DataError(
            "placement",
            "'rows', for rows that are tokens or that make_row makes",
            "'splice'",
            "Splice into text, before it is tokenised.",
        )
    return writer


def _path_of(features: Features, column: object) -> ColumnPath:
    """The path that `column` names: a column that is called so, or a column and fields of it with dots between."""
    if not isinstance(column, str):
        raise _missing("column", column, features)
    path = (column,) if column in features else tuple(column.split("."))
    if _feature_at(features, path) is None:
        raise _missing("column", column, features)
    return path


def _source_path(features: Features, path: ColumnPath, source_column: str) -> ColumnPath:
    source = (source_column,) if source_column in features else tuple(str(source_column).split("."))
    if not _is_string(_feature_at(features, source)) or source == path:
        raise _missing("source_column", source_column, features)
    return source


def _feature_at(features: Any, path: Sequence[str]) -> Any:
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


def _is_json_list(feature: Any) -> bool:
    """Whether it is a list of JSON; datasets has that kind since its version 5."""
    return isinstance(feature, (List, LargeList)) and type(feature.feature).__name__ == "Json"


def _json_of(value: Any) -> Any:
    """What JSON says: tables hold its text, rows what it says."""
    try:
        return read_json(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _turn_keys(feature: Any) -> TurnKeys | None:
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
    usable = [
        column
        for column, feature in features.items()
        if _is_string(feature) or _turn_keys(feature) is not None or _is_json_list(feature)
    ]
    example = f"{argument}={usable[-1][:40]!r}" if usable else f"{argument}=..."
    return DataError(
        argument,
        f"one of the columns {shown(list(features))}",
        shown(name),
        f"Name that of the text, such as {example}.",
    )


def _no_kind(column: str, feature: Any) -> DataError:
    """The error of a column that needs another name, or `make_row`."""
    if isinstance(feature, (Translation, dict)):
        fields = list(feature.languages if isinstance(feature, Translation) else feature)
        return DataError(
            "column",
            "one string of each row",
            f"{column!r}, with the fields {shown(fields)}",
            f"Name the one that is written, and what is read: column='{column}.{fields[-1]}', "
            f"source_column='{column}.{fields[0]}'.",
        )
    return DataError(
        "column",
        "strings, translations, chats or token ids",
        f"{column!r} of type {shown(feature)}",
        "Give make_row=, a function that returns the row of a canary.",
    )

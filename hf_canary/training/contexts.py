"""What canaries are measured behind: what was given by hand, or what the rows say. Knows no model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..arguments import is_file_name, is_folder
from ..canaries import CanarySet
from ..errors import CanaryError, DataError, shown
from ..formats.canary_format import CanaryFormat
from ..inference.language_model import positions_of
from ..presence.report import Presence
from ..presence.surroundings import Surroundings
from ..tokenization.contexts import Before, Context, SourceContext, one_for_each, shortened, written_out
from ..tokenization.encoding import token_ids
from .record import CONTEXTS, Record

_SPARE = 4  # tokens that stand for no byte, such as a space that a tokenizer puts first


class Contexts:
    """What the canaries of one training are measured behind.

    Args:
        canaries: the set.
        given: what was given by hand: one for all, or one for each; None takes what the rows say.
        given_prefix: the same of what stands before sources.

    Raises:
        ArgumentError: lists that have not one for each canary.

    Attributes:
        context: for each canary; None for nothing, also where nothing is known.
        source_prefix: for each canary.
        is_known: for each canary, whether what stands before it is known.
        lines: what was found in batches, in words.
    """

    def __init__(
        self, canaries: CanarySet, given: Before | Sequence[Before], given_prefix: Before | Sequence[Before]
    ) -> None:
        self._canaries = canaries
        self.given, self._given_prefix = given, given_prefix
        self._is_given = given is not None, given_prefix is not None
        self.context = one_for_each(given, len(canaries), "canaries")
        self.source_prefix = one_for_each(given_prefix, len(canaries), "canaries", argument="source_prefix")
        self.is_known = [self._is_given[0]] * len(canaries)
        self.lines: list[str] = []

    def __repr__(self) -> str:
        """What was given; the same in every process."""
        return f"{self._is_given} {self.context} {self.source_prefix}"

    def as_given(self) -> Contexts:
        """The same, with nothing that was read from rows."""
        return Contexts(self._canaries, self.given, self._given_prefix)

    @property
    def are_known(self) -> bool:
        """Whether nothing is left to be read from rows."""
        has_sources = any(format.source is not None for format in self._canaries.formats)
        return self._is_given[0] and (self._is_given[1] or not has_sources)

    @property
    def has_any(self) -> bool:
        """Whether anything is known."""
        return any(self.is_known)

    def take(self, presence: Presence) -> None:
        """What the data say, where nothing was given."""
        self._take(presence.context, presence.source_prefix, presence.unknown)

    def take_seen(self, surroundings: Surroundings, model: Any, tokenizer: Any) -> bool:
        """What batches say so far, where nothing was given, as it fits a model; whether that is something new."""
        before = (self.context, self.source_prefix)
        found = surroundings.findings(self.given)

        def latest(now: Sequence[Before], so_far: list[Before]) -> list[Before]:
            """What was known stays where the batches say nothing, as after a training was resumed."""
            ids = (canary.id for canary in self._canaries)
            return [old if name in found.unknown else new for new, old, name in zip(now, so_far, ids, strict=True)]

        was_known = {canary.id for canary, is_sure in zip(self._canaries, self.is_known, strict=True) if is_sure}
        unknown = set(found.unknown) - was_known
        self._take(latest(found.context, self.context), latest(found.source_prefix, self.source_prefix), unknown)
        self.lines = list(found.doubts) if self._is_given[0] else [*found.descriptions, *found.doubts]
        self.fit(model, tokenizer)
        return (self.context, self.source_prefix) != before

    def take_recorded(self, found: tuple[list[Before], list[Before], list[str]] | None) -> None:
        """What an earlier part of the training has seen."""
        if found is not None:
            self._take(*found)

    def let_go(self) -> bool:
        """Take nothing of what was read; whether that makes a difference."""
        before = (self.context, self.source_prefix)
        self._take((), (), [canary.id for canary in self._canaries])
        return (self.context, self.source_prefix) != before

    def fit(self, model: Any, tokenizer: Any) -> None:
        """Without the first tokens of contexts that were read and leave other fills no room in a model's positions."""
        most = positions_of(model)
        if most is None or self._is_given[0]:
            return
        around: dict[Before, int] = {
            each: len(token_ids(tokenizer, [each.around("")])[0]) if isinstance(each, SourceContext) else 0
            for each in set(self.context)
        }
        self.context = [
            shortened(context, most - _most_tokens(canary.format, context) - around[context] - _SPARE)
            for context, canary in zip(self.context, self._canaries, strict=True)
        ]

    def _take(self, context: Sequence[Before], source_prefix: Sequence[Before], unknown: Collection[str]) -> None:
        nothing: list[Before] = [None] * len(self._canaries)
        if not self._is_given[0]:
            self.context = list(context) or nothing
            self.is_known = [canary.id not in unknown for canary in self._canaries]
        if not self._is_given[1]:
            self.source_prefix = list(source_prefix) or nothing

    def record(self) -> dict[str, Any]:
        """A line of the record."""
        both = list(zip(self.context, self.source_prefix, strict=True))
        listed = list(dict.fromkeys(both))
        return {
            "role": CONTEXTS,
            "given": self._is_given[0],
            "formats": [_named(each) for each in self._canaries.formats],
            "contexts": [{"context": written_out(one), "source_prefix": written_out(other)} for one, other in listed],
            "of": [
                {
                    "canary_id": canary.id,
                    "format": self._canaries.formats.index(canary.format),
                    "context": listed.index(pair) if is_sure else None,
                }
                for canary, pair, is_sure in zip(self._canaries, both, self.is_known, strict=True)
            ],
        }


class Recorded:
    """What stood before the canaries of a training, as its record has it.

    Args:
        folder: `output_dir` of the training, or a checkpoint in it; or the record itself.

    Raises:
        DataError: a record that was changed.

    Attributes:
        file: the record; None if there is none.
        line: what it says of contexts; empty if it says nothing.
        are_given: whether they were given by hand, and not read from the rows.
    """

    def __init__(self, folder: str | Path) -> None:
        own = Path(folder).absolute()
        self.file: Path | None = None
        self.line: dict[str, Any] = {}
        folders = [own, own.parent] if is_folder(own) else []
        # A trial's record stands beside its folder, not in it.
        records = [record for folder in folders for record in (Record(folder), Record(folder.parent, folder.name))]
        for record in [Record.at(own)] if is_file_name(own) and own.is_file() else records:
            lines = [line for line in record.lines() if line.get("role") == CONTEXTS]
            if lines:
                self.file, self.line = record.file, lines[-1]
                self._check()
                return

    @property
    def are_given(self) -> bool:
        return bool(self.line.get("given"))

    def _check(self) -> None:
        try:
            for entry in self.line["of"]:
                _ = {entry["canary_id"]}, entry["format"], entry["context"] is None or self._pair(entry["context"])
            _ = [each.items() for each in self.line.get("formats", [])]
        except (CanaryError, AttributeError, KeyError, IndexError, TypeError) as error:
            raise DataError(
                "record",
                "a record as ExposureCallback writes it",
                f"{shown(str(self.file))}, whose line of contexts is another",
                "Restore it, or give the context by hand.",
            ) from error

    def of_canaries(self, canaries: CanarySet) -> tuple[list[Before], list[Before], list[str]] | None:
        """The context and the source's prefix of each canary, and the ids of those of which nothing is known.

        None if the record is not of these canaries, or knows nothing of any.
        """
        if self.line.get("canaries") != canaries.digest[:16]:
            return None
        numbers = {entry["canary_id"]: entry["context"] for entry in self.line["of"]}
        found = [numbers.get(canary.id) for canary in canaries]
        if not any(number is not None for number in found):
            return None
        pairs = [(None, None) if number is None else self._pair(number) for number in found]
        unknown = [canary.id for canary, number in zip(canaries, found, strict=True) if number is None]
        return [context for context, _ in pairs], [prefix for _, prefix in pairs], unknown

    def of_format(self, format: CanaryFormat) -> list[tuple[Before, Before]]:
        """What stood before canaries of a format, with what stood before their sources; the commonest first.

        One without a source, as the shell has it, is that of any source.
        """
        wanted = _named(format)
        if format.source is None:
            del wanted["source"]
        numbers = [number for number, each in enumerate(self.line.get("formats", [])) if each.items() >= wanted.items()]
        entries = (entry for entry in self.line.get("of", []) if entry["format"] in numbers)
        found = [entry["context"] for entry in entries if entry["context"] is not None]
        return [self._pair(number) for number in sorted(set(found), key=lambda each: -found.count(each))]

    def templates(self) -> list[str]:
        """Of the formats that the training had."""
        return [each["template"] for each in self.line.get("formats", [])]

    def _pair(self, number: int) -> tuple[Before, Before]:
        entry = self.line["contexts"][number]
        return _read(entry["context"]), _read(entry["source_prefix"])


def _most_tokens(format: CanaryFormat, context: Before) -> int:
    """Of a fill, and of its source where it has one of its own before it."""
    return format.most_bytes + (format.most_source_bytes if isinstance(context, SourceContext) else 0)


def _named(format: CanaryFormat) -> dict[str, Any]:
    spaces = {name: list(entries) for name, entries in (format.spaces or {}).items()}
    return {"template": format.template, "source": format.source, "spaces": spaces}


def _read(entry: Any) -> Before:
    if not isinstance(entry, Mapping):
        return entry  # type: ignore[no-any-return]
    return SourceContext(**entry) if "before" in entry else Context(**entry)

"""What canaries are measured behind: what was given by hand, or what the rows say. Knows no look and no model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..canaries import CanarySet
from ..errors import CanaryError, DataError, shown
from ..formats import CanaryFormat
from ..presence import Presence
from ..surroundings import Surroundings
from ..tokenization.contexts import Before, Context, one_for_each
from .record import CONTEXTS, Record

logger = logging.getLogger(__name__)


class Contexts:
    """What the canaries of one training are measured behind.

    Args:
        canaries: the set.
        given: what was given by hand: one for all, or one for each; None takes what the rows say.
        given_prefix: the same of what stands before sources.

    Raises:
        DataError: lists that have not one for each canary.

    Attributes:
        context: for each canary.
        source_prefix: for each canary.
    """

    def __init__(
        self, canaries: CanarySet, given: Before | Sequence[Before], given_prefix: Before | Sequence[Before]
    ) -> None:
        self._canaries = canaries
        self.given = given
        self._is_given = given is not None, given_prefix is not None
        self.context = one_for_each(given, len(canaries), "canaries")
        self.source_prefix = one_for_each(given_prefix, len(canaries), "canaries", argument="source_prefix")

    def __repr__(self) -> str:
        """What was given; the same in every process."""
        return f"{self._is_given} {self.context} {self.source_prefix}"

    @property
    def are_known(self) -> bool:
        """Whether nothing is left to be read from rows."""
        has_sources = any(format.source is not None for format in self._canaries.formats)
        return self._is_given[0] and (self._is_given[1] or not has_sources)

    def take(self, presence: Presence) -> None:
        """What the data say, where nothing was given."""
        self._take(presence.context, presence.source_prefix)

    def take_seen(self, surroundings: Surroundings) -> bool:
        """What batches say so far, where nothing was given; whether that is something new."""
        before = (self.context, self.source_prefix)
        self._take(surroundings.contexts()[0], surroundings.source_prefixes()[0])
        return (self.context, self.source_prefix) != before

    def _take(self, context: Sequence[Before], source_prefix: Sequence[Before]) -> None:
        nothing: list[Before] = [None] * len(self._canaries)
        if not self._is_given[0]:
            self.context = list(context) or nothing
        if not self._is_given[1]:
            self.source_prefix = list(source_prefix) or nothing

    def record(self) -> dict[str, Any]:
        """A line of the record."""
        listed = list(dict.fromkeys(zip(self.context, self.source_prefix, strict=True)))
        both = list(zip(self.context, self.source_prefix, strict=True))
        return {
            "role": CONTEXTS,
            "formats": [{"template": each.template, "source": each.source} for each in self._canaries.formats],
            "contexts": [{"context": _plain(one), "source_prefix": _plain(other)} for one, other in listed],
            "of": [
                {
                    "canary_id": canary.id,
                    "format": self._canaries.formats.index(canary.format),
                    "context": listed.index(pair),
                }
                for canary, pair in zip(self._canaries, both, strict=True)
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
    """

    def __init__(self, folder: str | Path) -> None:
        own = Path(folder).absolute()
        self.file: Path | None = None
        self.line: dict[str, Any] = {}
        for record in [Record.at(own)] if own.is_file() else [Record(own), Record(own.parent)]:
            lines = [line for line in record.lines() if line.get("role") == CONTEXTS]
            if lines:
                self.file, self.line = record.file, lines[-1]
                self._check()
                return

    def _check(self) -> None:
        try:
            for entry in self.line["of"]:
                _ = entry["canary_id"], entry["format"], self._pair(entry["context"])
        except (CanaryError, KeyError, IndexError, TypeError) as error:
            raise DataError(
                "record",
                "a record as ExposureCallback writes it",
                f"{shown(str(self.file))}, whose line of contexts is another",
                "Restore it, or give the context by hand.",
            ) from error

    def of_canaries(self, canaries: CanarySet) -> tuple[list[Before], list[Before]] | None:
        """The context and the source's prefix of each canary; None if the record is not of these."""
        if self.line.get("canaries") != canaries.digest[:16]:
            return None
        by_id = {entry["canary_id"]: self._pair(entry["context"]) for entry in self.line["of"]}
        if not all(canary.id in by_id for canary in canaries):
            return None
        return [by_id[canary.id][0] for canary in canaries], [by_id[canary.id][1] for canary in canaries]

    def of_format(self, format: CanaryFormat) -> list[tuple[Before, Before]]:
        """What stood before canaries of a format, with what stood before their sources; the commonest first."""
        wanted = {"template": format.template, "source": format.source}
        numbers = [number for number, each in enumerate(self.line.get("formats", [])) if each == wanted]
        found = [entry["context"] for entry in self.line.get("of", []) if entry["format"] in numbers]
        return [self._pair(number) for number in sorted(set(found), key=lambda each: -found.count(each))]

    def _pair(self, number: int) -> tuple[Before, Before]:
        entry = self.line["contexts"][number]
        return _read(entry["context"]), _read(entry["source_prefix"])


def _plain(context: Before) -> Any:
    return context.as_json() if isinstance(context, Context) else context


def _read(entry: Any) -> Before:
    return Context(**entry) if isinstance(entry, Mapping) else entry

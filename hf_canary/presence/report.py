"""What became of canaries in tokenised rows, and what to do about it. Plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ..errors import listed, printable
from ..tokenization.contexts import Before


class Outcome(StrEnum):
    """What became of one copy of a canary."""

    WHOLE = "whole"
    SPLIT = "split"
    TRUNCATED = "truncated"
    MASKED = "masked"
    MISSING = "missing"


WHOLE, SPLIT, TRUNCATED, MASKED, MISSING = Outcome

REMEDIES = {
    MISSING: "inject before rows are filtered, deduplicated or tokenised, and train on what was injected; raise "
    "max_length, where rows are cut off",
    SPLIT: "pack whole documents (packing_strategy='bfd'), or make the blocks longer",
    TRUNCATED: "raise max_length, or make the format shorter",
    MASKED: "train on all tokens (completion_only_loss=False, assistant_only_loss=False), or put the canary where "
    "the loss is",
}


@dataclass(frozen=True)
class CanaryPresence:
    """What became of the copies of one canary.

    Args:
        canary_id: its id.
        repetitions: copies that were to go in.
        whole: copies that stand whole in one row.
        split: copies that are cut in two, or more, by the ends of rows.
        truncated: copies of which a part is left.
        masked: of the whole ones those whose fill, or a part of it, is left out of the loss.
        in_evaluation: copies in the evaluation data, where none should be; None where that was not looked at.
    """

    canary_id: str
    repetitions: int
    whole: int = 0
    split: int = 0
    truncated: int = 0
    masked: int = 0
    in_evaluation: int | None = None

    @property
    def live(self) -> int:
        """Copies that are trained on."""
        return self.whole - self.masked

    @property
    def is_dead(self) -> bool:
        """Whether none is: the canary measures nothing."""
        return self.live == 0

    @property
    def reason(self) -> str:
        """What became of most copies that are not trained on; empty if all are."""
        if self.live >= self.repetitions:
            return ""
        lost = {name: getattr(self, name) for name in (SPLIT, TRUNCATED, MASKED)}
        lost[MISSING] = max(0, self.repetitions - self.whole - self.split - self.truncated)
        return str(max(lost, key=lost.__getitem__))


@dataclass(frozen=True)
class Presence:
    """What became of all canaries; iterating gives a `CanaryPresence` for each, in the order of the set.

    Args:
        canaries: each of them.
        rows: that were read.
        context: for each canary what most copies of it have in front of them, as tokens: what `measure_exposure` and
            others take as `context=`; None for nothing but what the tokenizer itself puts there.
        source_prefix: for each canary what stands before its source, as tokens, for `source_prefix=`.
        descriptions: lines that say what the contexts are like, without a text.
        unknown: ids of canaries before which nothing could be made out, or of whose format no copy was seen.
        doubts: lines that say where a measurement behind them, or behind what was given, would mislead.
    """

    canaries: tuple[CanaryPresence, ...]
    rows: int
    context: tuple[Before, ...] = ()
    source_prefix: tuple[Before, ...] = ()
    descriptions: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[CanaryPresence]:
        return iter(self.canaries)

    def __len__(self) -> int:
        return len(self.canaries)

    def __str__(self) -> str:
        return "\n".join(map(printable, self.lines()))

    @property
    def dead(self) -> tuple[str, ...]:
        """The ids of canaries that are not trained on at all."""
        return tuple(each.canary_id for each in self if each.is_dead)

    @property
    def dead_levels(self) -> tuple[int, ...]:
        """Repetition levels without a live canary: nothing can be said of them, and the run is not valid."""
        alive = {each.repetitions for each in self if not each.is_dead}
        return tuple(sorted({each.repetitions for each in self} - alive))

    @property
    def is_valid(self) -> bool:
        """Whether each repetition level has a live canary."""
        return not self.dead_levels

    def lines(self) -> list[str]:
        """What a person should know, without a canary's text."""
        live, asked = sum(each.live for each in self), sum(each.repetitions for each in self)
        lines = [f"canaries: {live:,} of {asked:,} copies are trained on, in {self.rows:,} rows"]
        for reason, remedy in REMEDIES.items():
            hurt = [each for each in self if each.reason == reason]
            if hurt:
                named = listed([_in_words(each) for each in hurt])
                lines.append(f"{reason}: {named}. To mend it: {remedy}.")
        more = [each for each in self if each.live > each.repetitions]
        if more:
            lines.append(f"more copies than were asked for: {listed([_in_words(each) for each in more])}.")
        leaked = [each.canary_id for each in self if each.in_evaluation]
        if leaked:
            lines.append(f"in the evaluation data: {listed(leaked)}. Inject into the training split alone.")
        lines += [*self.descriptions, *self.doubts]
        if not self.is_valid:
            levels = ", ".join(f"x{copies}" for copies in self.dead_levels)
            lines.append(f"INVALID: no canary of {levels} is trained on; its exposure would say nothing.")
        return lines

    def records(self) -> list[dict[str, Any]]:
        """One plain dict for each canary, ready for JSON; never with a text."""
        return [asdict(each) | {"dead": each.is_dead, "reason": each.reason} for each in self]


def _in_words(each: CanaryPresence) -> str:
    left = " left" if each.live < each.repetitions else ""
    return f"{each.canary_id} ({each.live} of {each.repetitions}{left})"

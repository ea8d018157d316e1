"""What an extraction found and what is proven of it. Plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import AnySize
from ..estimators.worth import in_words


@dataclass(frozen=True, repr=False)
class Candidate(AnySize):
    """One fill with its text and log-perplexity.

    Args:
        text: the candidate.
        fill: its fill.
        log_perplexity: bits, lower means better memorised.
        queries: samples of the model, given what stands before the fill, until it has come out with even odds.
        rank: among all of R (Definition 2); None where others that are not listed may be as likely.
        canary: the id of the canary that it is, where canaries were given; else empty.
        exposure: of that canary, in bits, higher means better memorised; NaN for no canary, or where there is no rank.
    """

    text: str
    fill: int
    log_perplexity: float
    queries: float = math.nan
    rank: int | None = None
    canary: str = ""
    exposure: float = math.nan


_STOPPED = {
    "max_expanded": "max_expanded was reached",
    "max_seconds": "max_seconds were over",
    "max_memory": "max_memory was reached",
    "interrupted": "it was interrupted",
    "tokenizer": "the tokenizer is written in Python, so that encodings may have been missed",
}


@dataclass(frozen=True, repr=False)
class Extraction(AnySize):
    """What a search found, and what it proved.

    Args:
        candidates: the cheapest candidates, in ascending log-perplexity; those of probability 0 are left out.
        certified: True means proven: no other candidate of the format is likelier than these. False means that a cap
            ended the search, or that the tokenizer's encodings could not be derived; they are the best so far.
        expanded: prefixes whose children were read, the work done; compare it with |R|. One with very many children
            counts each time that it is read again.
        lower_bound: every candidate not listed costs at least so many bits.
        stopped: what ended the search before its end: `max_expanded`, `max_seconds`, `max_memory`, `interrupted`;
            `tokenizer` where it came to its end and proves nothing, since the tokenizer is written in Python and the
            format has too many fills to encode them all; empty if nothing did.
        collisions: whether the tokenizer may encode some fills alike, as capitals and small letters where it lowers
            both. They cost the same, and one of them is listed for all.
        space_size: |R|.
        typical: the median of what random candidates cost, in bits; NaN where none were scored.
        num_references: how many these were; fewer than asked for where the time, |R| or their length says so.
        reference_rows: tokens fed to the model for them, beside those of the search.
        least_reference: the cheapest of them, in bits; NaN where there are none.
        num_canaries: canaries of the format among those that were given.
    """

    candidates: tuple[Candidate, ...]
    certified: bool
    expanded: int
    lower_bound: float
    stopped: str = ""
    collisions: bool = False
    space_size: int = 0
    typical: float = math.nan
    num_references: int = 0
    reference_rows: int = 0
    least_reference: float = math.nan
    num_canaries: int = 0

    @property
    def margin(self) -> float:
        """How many bits the likeliest candidate lies below the typical one; NaN where either is missing."""
        return self.typical - self.candidates[0].log_perplexity if self.candidates else math.nan

    @property
    def worth(self) -> list[str]:
        """What the likeliest candidate is worth, in sentences: proven is not leaked."""
        if not self.candidates:
            return []
        first = self.candidates[0]
        return in_words(
            first.log_perplexity,
            first.queries,
            self.typical,
            self.least_reference,
            self.num_references,
            self.space_size,
        )

    @property
    def proof(self) -> str:
        """What is proven, in words."""
        if self.certified and not self.candidates:
            return "proven: no candidate is possible at all"
        if self.certified:
            these = "" if len(self.candidates) == 1 else " than these"
            alike = "; of candidates that are encoded alike one is listed" if self.collisions else ""
            return f"proven: no other candidate is likelier{these}{alike}"
        surely = sum(candidate.log_perplexity <= self.lower_bound for candidate in self.candidates)
        first = {0: "", 1: "the first is the likeliest of all; "}.get(
            surely, f"the first {surely} are the likeliest of all; "
        )
        return (
            f"not proven: {why(self.stopped)}; {first}every other candidate costs at least {self.lower_bound:.2f} bits"
        )


def why(stopped: str) -> str:
    """What ended a search, in words."""
    return _STOPPED.get(stopped, "the search was stopped")

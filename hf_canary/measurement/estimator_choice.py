"""Which estimator says what of the canaries of one format: observations → estimates, how they came about, and why.

Reads observations, which are made when they are first asked for, and calls `estimators/`. Contains no formula, and does
not know what an exposure is printed as.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..arrays import Floats
from ..estimators import exposures
from ..estimators.exposures import Estimate
from .observations import Observations
from .ranking import Rank
from .sampling import SampledFills

# `auto` counts a rank exactly where that takes so many prefixes at most for each reference that was scored: about as
# much work again, or four times as much where nothing else says enough. Asked for by name, it may take more.
EXPANDED_PER_REFERENCE, _EXPANDED_IN_NEED = 5, 20
_MOST_EXPANDED = 2_000_000
_MOST_SCORED = 1_000_000
_NO_TIME = "no time for draws"
_TOO_MANY = f"more prefixes than {_MOST_EXPANDED:,} are as likely: not counted"


@dataclass(frozen=True)
class Choice:
    """An estimate, the estimator that it comes from, and why that one.

    Args:
        estimate: in bits.
        method: the estimator's name.
        reason: in words.
        at_least: a lower end at an error rate of its own; NaN without one.
    """

    estimate: Estimate
    method: str
    reason: str = ""
    at_least: float = math.nan


@dataclass(frozen=True)
class Task:
    """What estimators are given.

    Args:
        observations: of one format.
        bootstrap: how many samples the skew-normal is fitted to.
        seed: of these.
        counting: how much work `auto` may put into counted ranks, as a part of what it may otherwise.
        error: the chance that an `at_least` is above the truth; None leaves it out.
    """

    observations: Observations
    bootstrap: int
    seed: int
    counting: float
    error: float | None

    @property
    def space_size(self) -> int:
        """How many candidates there are."""
        return self.observations.format.space_size

    def by_references(self, confidence: float = exposures.CONFIDENCE) -> list[Estimate]:
        """Theorem 1, for each canary and twin."""
        observations = self.observations
        costs = observations.canary_costs
        given = (costs, observations.references, self.space_size)
        found = exposures.sampled(*given, known=costs, confidence=confidence)
        has_ties = any(exposures.TIES in each.flags for each in found)  # or are they encoded alike?
        if observations.is_complete and has_ties:
            found = exposures.sampled(*given, known=costs, copies=observations.scored_copies, confidence=confidence)
        return found

    def by_draws(
        self, fills: SampledFills, own_log_weights: Floats | None, confidence: float = exposures.CONFIDENCE
    ) -> list[Estimate]:
        """Importance sampling, for each canary and twin; with weights of their own it is an estimate, without them a
        bound, which supposes that one hit more has the most weight that any can have.
        """
        return exposures.importance(
            fills.canary_costs,
            fills.samples,
            self.space_size,
            known=fills.canary_costs,
            known_copies=self.observations.canary_copies,
            copies=self.observations.own_copies,
            own_log_weights=own_log_weights,
            confidence=confidence,
        )

    def counted(self, max_expanded: list[float]) -> dict[int, Rank]:
        """Ranks by number, counted by so many prefixes each at most, of the canaries and twins that are measured."""
        measured = set(self.observations.measured)
        return self.observations.ranks([most if n in measured else 0 for n, most in enumerate(max_expanded)])

    def of_rank(self, rank: Rank) -> Choice:
        """Definition 4, of a counted rank."""
        estimate = exposures.of_rank(rank.high, self.space_size, ties=rank.ties)
        return Choice(estimate, "exact", f"{rank.high:,} counted")

    def impossible(self, method: str) -> Choice:
        """Of a canary of probability 0, in one way for all."""
        (estimate,) = exposures.sampled([math.inf], [math.inf], self.space_size)
        return Choice(estimate, method, exposures.IMPOSSIBLE)

    def nothing(self, method: str, reason: str) -> list[Choice]:
        """No estimate of any canary or twin, and why."""
        estimate = Estimate(math.nan, math.nan, math.nan, (reason,), exposures.NO_ESTIMATE)
        return [Choice(estimate, method, reason)] * len(self.observations.canary_costs)


def choices(name: str, task: Task) -> list[Choice]:
    """What the estimator of a name says of each canary and then of each twin of a format."""
    found = ESTIMATORS[name](task)
    if task.error is None:
        return found
    # `auto` takes one of two after seeing both: each gets half of the error.
    return _with_lower_ends(found, task, error=task.error * (0.5 if name == "auto" else 1.0))


def num_compared(choice: Choice, observations: Observations) -> int:
    """How many other candidates an estimate rests on."""
    if choice.estimate.status == exposures.EXACT:
        return observations.format.space_size - len(observations.canary_costs)
    if choice.method == "importance":
        fills = None if observations.why_no_tree else observations.sampled_fills
        return len(fills.samples) if fills is not None else 0
    return len(observations.references)


def num_token_rows(name: str, observations: Observations) -> int:
    """Token rows that an estimator took: what `auto` asked for in order to choose is a part of it."""
    rows = observations.token_rows
    return rows["scored"] if name in ("sampled", "skewnorm") else sum(rows.values())


def sampled(task: Task) -> list[Choice]:
    """Theorem 1: how many references are as likely."""
    return [
        Choice(estimate, "sampled", exposures.in_words(estimate.details.get("hits", 0)))
        for estimate in task.by_references()
    ]


def skewnorm(task: Task) -> list[Choice]:
    """§4.2: the tail of the law of the references."""
    observations = task.observations
    estimates = exposures.skewnorm(
        observations.canary_costs, observations.references, task.space_size, bootstrap=task.bootstrap, seed=task.seed
    )
    return [Choice(estimate, "skewnorm") for estimate in estimates]


def importance(task: Task) -> list[Choice]:
    """Fills drawn from the model at several temperatures."""
    observations = task.observations
    if (observations.canary_costs == math.inf).all():
        return [task.impossible("importance")] * len(observations.canary_costs)
    if observations.why_no_tree:
        return task.nothing("importance", observations.why_no_tree)
    fills = observations.sampled_fills
    if fills is None:
        return task.nothing("importance", _NO_TIME)
    return [
        Choice(estimate, "importance", f"{estimate.details.get('effective_hits', 0):.0f} draws")
        for estimate in task.by_draws(fills, fills.canary_log_weights)
    ]


def exact(task: Task) -> list[Choice]:
    """Definition 4: all of R scored, or the rank counted."""
    observations = task.observations
    if observations.is_complete:
        return [Choice(choice.estimate, "exact") for choice in sampled(task)]
    if observations.why_no_tree:
        size = task.space_size
        remedy = f"num_references={size} scores all candidates" if size <= _MOST_SCORED else "try auto"
        return task.nothing("exact", f"{observations.why_no_tree}; {remedy}")
    costs = observations.canary_costs
    if (costs == math.inf).all():
        return [task.impossible("exact")] * len(costs)
    ranks = observations.first_ranks()
    if not all(number in ranks or costs[number] == math.inf for number in observations.measured):
        ranks = task.counted([_MOST_EXPANDED] * len(costs))
    found = task.nothing("exact", "no time to count all that are as likely" if observations.is_limited else _TOO_MANY)
    for number, cost in enumerate(costs.tolist()):
        if cost == math.inf:
            found[number] = task.impossible("exact")
        elif number in ranks:
            found[number] = task.of_rank(ranks[number])
    return found


def auto(task: Task) -> list[Choice]:
    """All of R, if it was scored; the references, where enough of them are as likely; otherwise a counted rank, if
    counting is cheap, or what has more hits of references and draws. Never the skew-normal: its interval knows nothing
    of how wrong the law may be.
    """
    observations = task.observations
    by_references = sampled(task)
    if observations.is_complete:
        return [Choice(choice.estimate, "exact", "every candidate scored") for choice in by_references]
    if all(exposures.enough(by_references[number].estimate) for number in observations.measured):
        return by_references
    if observations.why_no_tree:
        return [replace(choice, reason=f"{choice.reason}; {observations.why_no_tree}") for choice in by_references]
    ranks = observations.first_ranks()
    if all(number in ranks or exposures.enough(by_references[number].estimate) for number in observations.measured):
        return [task.of_rank(ranks[n]) if n in ranks else choice for n, choice in enumerate(by_references)]
    if observations.sampled_fills is None:
        return [
            task.of_rank(ranks[n]) if n in ranks else replace(choice, reason=f"{choice.reason}; {_NO_TIME}")
            for n, choice in enumerate(by_references)
        ]
    pairs = list(zip(by_references, importance(task), strict=True))
    worth = task.counting * len(observations.references)
    ranks = task.counted([_worth_expanding(*pair) * worth for pair in pairs])
    return [task.of_rank(ranks[number]) if number in ranks else _preferred(*pair) for number, pair in enumerate(pairs)]


def _worth_expanding(by_references: Choice, by_draws: Choice) -> int:
    """How many prefixes for each reference a counted rank is worth."""
    if exposures.enough(by_references.estimate):
        return 0
    return EXPANDED_PER_REFERENCE if exposures.enough(by_draws.estimate) else _EXPANDED_IN_NEED


def _preferred(by_references: Choice, by_draws: Choice) -> Choice:
    method, reason = exposures.prefer(by_references.estimate, by_draws.estimate)
    return replace(by_references if method == "sampled" else by_draws, reason=reason)


def _with_lower_ends(found: list[Choice], task: Task, *, error: float) -> list[Choice]:
    """With lower ends of this error rate, of what is counted or rests on chance alone."""
    confidence, fills = 1.0 - 2.0 * error, task.observations.made_sampled_fills
    ends = {"exact": [choice.estimate.low for choice in found]}
    ends["sampled"] = [each.low for each in task.by_references(confidence)]
    if fills is not None:
        ends["importance"] = [each.low for each in task.by_draws(fills, None, confidence)]
    return [
        replace(choice, at_least=ends.get(choice.method, [math.nan] * len(found))[number])
        for number, choice in enumerate(found)
    ]


ESTIMATORS: Mapping[str, Callable[[Task], list[Choice]]] = {
    "auto": auto,
    "sampled": sampled,
    "skewnorm": skewnorm,
    "importance": importance,
    "exact": exact,
}
NEEDING_A_TREE = frozenset({"exact", "importance"})

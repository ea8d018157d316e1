"""Measurement: model + tokenizer + canaries → exposures. Which estimator, from which evidence.

Chooses and joins; no formula stands here, and nothing about trainers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from .arguments import (
    check_batch_size,
    check_bootstrap,
    check_instance,
    check_int,
    check_memory,
    check_model,
    check_number,
    check_seconds,
    check_tokenizer,
)
from .arrays import Floats
from .canaries import CanarySet
from .errors import ArgumentError, ArgumentTypeError, FormatError, ModelError, shown
from .estimators import exposures
from .estimators.exposures import Estimate
from .formats.canary_format import CanaryFormat
from .inference.evaluation import evaluating
from .inference.language_model import LanguageModel
from .measurement.encoded_format import EncodedFormat, MeasurementConfig
from .measurement.observations import Observations
from .measurement.ranking import Rank
from .measurement.sampling import Drawing
from .reporting.exposure_report import Exposure, ExposureReport, Group
from .runtime.deadline import Deadline
from .scoring import score_encoded
from .tokenization.contexts import Before, one_for_each
from .tokenization.encoding import encode, source_ids
from .tree.traces import check_written

# `auto` counts a rank exactly where that takes so many prefixes at most for each reference that was scored: about as
# much work again, or four times as much where nothing else says enough. Asked for by name, it may take more.
_EXPANDED_PER_REFERENCE, _EXPANDED_IN_NEED = 5, 20
_MOST_EXPANDED = 2_000_000


@dataclass(frozen=True)
class _Choice:
    """An estimate, the estimator that it comes from, and why that one."""

    estimate: Estimate
    method: str
    reason: str = ""
    at_least: float = math.nan


class _Estimators:
    """What each estimator makes of the evidence for one format: a choice for each canary, then for each twin."""

    def __init__(
        self, observations: Observations, bootstrap: int, seed: int, counting: float, error: float | None
    ) -> None:
        self._observations = observations
        self._bootstrap = bootstrap
        self._seed = seed
        self._counting = counting
        self._error = error
        self._space = observations.format.space_size

    def exposures(self, estimator: str, ids: Sequence[str]) -> list[Exposure]:
        """Of the canaries that are measured, by id, then of their twins."""
        # `auto` takes one of two after seeing both: each gets half of the error.
        choices = self._surely(_NAMES[estimator](self), share=0.5 if estimator == "auto" else 1.0)
        costs = self._observations.known_costs
        return [
            Exposure(
                canary_id=canary_id,
                estimator=estimator,
                value=choice.estimate.value,
                low=choice.estimate.low,
                high=choice.estimate.high,
                log_perplexity=float(costs[number]),
                num_references=self._compared_with(choice),
                flags=choice.estimate.flags,
                status=choice.estimate.status,
                method=choice.method,
                reason=choice.reason,
                token_rows=self._work(estimator),
                details=choice.estimate.details,
                at_least=choice.at_least,
            )
            for canary_id, number in zip([*ids, *ids], self._observations.measured, strict=True)
            for choice in [choices[number]]
        ]

    def sampled(self) -> list[_Choice]:
        return [
            _Choice(estimate, "sampled", exposures.in_words(estimate.details.get("hits", 0)))
            for estimate in self._by_references(exposures.CONFIDENCE)
        ]

    def skewnorm(self) -> list[_Choice]:
        observations = self._observations
        estimates = exposures.skewnorm(
            observations.known_costs, observations.references, self._space, bootstrap=self._bootstrap, seed=self._seed
        )
        return [_Choice(estimate, "skewnorm") for estimate in estimates]

    def importance(self) -> list[_Choice]:
        observations = self._observations
        if (observations.known_costs == math.inf).all():
            return [self._impossible("importance")] * len(observations.known_costs)
        if observations.why_no_tree:
            return self._none("importance", observations.why_no_tree)
        if observations.drawing is None:
            return self._none("importance", _NO_TIME)
        return [
            _Choice(estimate, "importance", f"{estimate.details.get('effective_hits', 0):.0f} draws")
            for estimate in self._by_draws(
                observations.drawing, exposures.CONFIDENCE, observations.drawing.known_log_weights
            )
        ]

    def exact(self) -> list[_Choice]:
        observations = self._observations
        if observations.is_complete:
            return [_Choice(choice.estimate, "exact") for choice in self.sampled()]
        if observations.why_no_tree:
            remedy = (
                f"num_references={self._space} scores all candidates" if self._space <= _MOST_SCORED else "try auto"
            )
            return self._none("exact", f"{observations.why_no_tree}; {remedy}")
        costs = observations.known_costs
        if (costs == math.inf).all():
            return [self._impossible("exact")] * len(costs)
        ranks = observations.first_ranks()
        if not all(number in ranks or costs[number] == math.inf for number in observations.measured):
            ranks = observations.ranks(self._for_measured([_MOST_EXPANDED] * len(costs)))
        reason = "no time to count all that are as likely" if observations.is_limited else _TOO_MANY
        choices = self._none("exact", reason)
        for number, cost in enumerate(costs.tolist()):
            if cost == math.inf:
                choices[number] = self._impossible("exact")
            elif number in ranks:
                choices[number] = self._of_rank(ranks[number])
        return choices

    def auto(self) -> list[_Choice]:
        """All of R, if it was scored; the references, where enough of them are as likely; otherwise a counted rank, if
        counting is cheap, or what has more hits of references and draws.
        """
        observations = self._observations
        by_references = self.sampled()
        if observations.is_complete:
            return [_Choice(choice.estimate, "exact", "every candidate scored") for choice in by_references]
        if all(exposures.enough(by_references[number].estimate) for number in observations.measured):
            return by_references
        if observations.why_no_tree:
            return [replace(choice, reason=f"{choice.reason}; {observations.why_no_tree}") for choice in by_references]
        ranks = observations.first_ranks()
        if all(number in ranks or exposures.enough(by_references[number].estimate) for number in observations.measured):
            return [self._of_rank(ranks[n]) if n in ranks else choice for n, choice in enumerate(by_references)]
        if observations.drawing is None:
            return [
                self._of_rank(ranks[n]) if n in ranks else replace(choice, reason=f"{choice.reason}; {_NO_TIME}")
                for n, choice in enumerate(by_references)
            ]
        by_draws = self.importance()
        pairs = list(zip(by_references, by_draws, strict=True))
        worth = self._counting * len(observations.references)
        ranks = observations.ranks(self._for_measured([_worth_expanding(*pair) * worth for pair in pairs]))
        return [
            self._of_rank(ranks[number]) if number in ranks else _preferred(*pair) for number, pair in enumerate(pairs)
        ]

    def _for_measured(self, max_expanded: list[float]) -> list[float]:
        """Nothing is counted of those that are known and not measured."""
        measured = set(self._observations.measured)
        return [most if number in measured else 0 for number, most in enumerate(max_expanded)]

    def _by_references(self, confidence: float) -> list[Estimate]:
        observations = self._observations
        costs = observations.known_costs
        given = (costs, observations.references, self._space)
        found = exposures.sampled(*given, known=costs, confidence=confidence)
        has_ties = any(exposures.TIES in each.flags for each in found)  # or are they encoded alike?
        if observations.is_complete and has_ties:
            found = exposures.sampled(*given, known=costs, copies=observations.scored_copies, confidence=confidence)
        return found

    def _by_draws(self, drawing: Drawing, confidence: float, own_log_weights: Floats | None) -> list[Estimate]:
        return exposures.importance(
            drawing.known_costs,
            drawing.draws,
            self._space,
            known=drawing.known_costs,
            known_copies=self._observations.known_copies,
            copies=self._observations.own_copies,
            own_log_weights=own_log_weights,
            confidence=confidence,
        )

    def _surely(self, choices: list[_Choice], *, share: float) -> list[_Choice]:
        """With the lower ends at the error rate that was asked for, of what is counted or rests on chance alone.

        For draws the end supposes that one hit more has the most weight that any can have.
        """
        if self._error is None:
            return choices
        confidence, drawing = 1.0 - 2.0 * share * self._error, self._observations.made_drawing
        ends = {"exact": [choice.estimate.low for choice in choices]}
        ends["sampled"] = [each.low for each in self._by_references(confidence)]
        if drawing is not None:
            ends["importance"] = [each.low for each in self._by_draws(drawing, confidence, None)]
        return [
            replace(choice, at_least=ends.get(choice.method, [math.nan] * len(choices))[number])
            for number, choice in enumerate(choices)
        ]

    def _of_rank(self, rank: Rank) -> _Choice:
        return _Choice(exposures.of_rank(rank.high, self._space, ties=rank.ties), "exact", f"{rank.high:,} counted")

    def _impossible(self, method: str) -> _Choice:
        """Of a canary of probability 0, in one way for all."""
        (estimate,) = exposures.sampled([math.inf], [math.inf], self._space)
        return _Choice(estimate, method, exposures.IMPOSSIBLE)

    def _none(self, method: str, reason: str) -> list[_Choice]:
        nothing = Estimate(math.nan, math.nan, math.nan, (reason,), exposures.NO_ESTIMATE)
        return [_Choice(nothing, method, reason)] * len(self._observations.known_costs)

    def _compared_with(self, choice: _Choice) -> int:
        observations = self._observations
        if choice.estimate.status == exposures.EXACT:
            return self._space - len(observations.known_costs)
        if choice.method == "importance":
            return len(observations.drawing.draws) if not observations.why_no_tree and observations.drawing else 0
        return len(observations.references)

    def _work(self, estimator: str) -> int:
        """Token rows: what `auto` looked at in order to choose is a part of it."""
        rows = self._observations.token_rows
        return rows["scored"] if estimator in ("sampled", "skewnorm") else sum(rows.values())


def _worth_expanding(by_references: _Choice, by_draws: _Choice) -> int:
    """How many prefixes for each reference a counted rank is worth."""
    if exposures.enough(by_references.estimate):
        return 0
    return _EXPANDED_PER_REFERENCE if exposures.enough(by_draws.estimate) else _EXPANDED_IN_NEED


def _preferred(by_references: _Choice, by_draws: _Choice) -> _Choice:
    method, reason = exposures.prefer(by_references.estimate, by_draws.estimate)
    return replace(by_references if method == "sampled" else by_draws, reason=reason)


# `auto` never takes the skew-normal: its interval knows nothing of how wrong the law may be.
_NAMES: Mapping[str, Callable[[_Estimators], list[_Choice]]] = {
    "auto": _Estimators.auto,
    "sampled": _Estimators.sampled,
    "skewnorm": _Estimators.skewnorm,
    "importance": _Estimators.importance,
    "exact": _Estimators.exact,
}
_NEEDING_A_TREE = {"exact", "importance"}
_NO_TIME = "no time for draws"
_TOO_MANY = f"more prefixes than {_MOST_EXPANDED:,} are as likely: not counted"
_MOST_SCORED = 1_000_000


def measure_exposure(
    model: Any,
    tokenizer: Any,
    canaries: CanarySet,
    *,
    estimators: Sequence[str] = ("auto", "skewnorm"),
    num_references: int = 10_000,
    num_draws: int = 4_000,
    bootstrap: int = 200,
    seed: int = 0,
    context: Before | Sequence[Before] = None,
    source_prefix: Before | Sequence[Before] = None,
    end: bool = False,
    batch_size: int | None = None,
    max_memory: int | None = None,
    max_seconds: float | None = None,
    error: float | None = None,
    progress: Callable[[int], object] | None = None,
) -> ExposureReport:
    """The exposure of every canary and twin under a model (§4).

    For each format the canaries, their twins and `num_references` random other fills are scored in one walk; all
    canaries of a format share the references. Where the format has no more fills than that, all are scored and the
    result is exact. Where too few references are as likely as some canary, `num_draws` fills are drawn from the model
    at several temperatures, once for all canaries of the format. The model's mode and every random state are left as
    they were. Under `accelerate launch` all processes must call this together; each does a share.

    Args:
        model: a causal language model, or an encoder-decoder; for the latter the formats have a `source`.
        tokenizer: its tokenizer.
        canaries: the set that was injected.
        estimators: `auto`: the one to rely on for each canary, and the reason; `exact`: Definition 4, where all of R
            can be scored or the rank counted; `sampled`: Theorem 1, exact interval; `importance`: from the draws;
            `skewnorm`: §4.2, by extrapolation. `auto` never takes the last one.
        num_references: random candidates of each format.
        num_draws: fills to draw from the model, of each format, if they are needed.
        bootstrap: how many samples the skew-normal is fitted to for its interval and the test of its fit; 0 takes the
            delta method and a table, which is quicker, and is done within a limit of time.
        seed: draws the references and the fills; the same seed gives the same ones.
        context: what stands before the canaries where they are trained on: a text, a `Context` of tokens, or a list
            with one for each canary, as `check_presence` finds it; conditioned on, not summed. Without it a leak may
            look safe. Canaries of one context share their references; each context more costs as much again.
        source_prefix: what stands before the source of an encoder-decoder; one for all, or a list.
        end: whether the end token follows each candidate and is summed; then candidates may be prefixes of others.
        batch_size: rows of one forward pass; None lets the memory decide.
        max_memory: bytes that logits and states may take, as in `log_perplexity`.
        max_seconds: what it may take: the samples shrink, and the intervals widen. The canaries, their twins and a few
            references of each format are scored in any case.
        error: the chance that an exposure's `at_least`, a lower end beside the interval's, is above the truth; for
            decisions about many canaries, each of which gets a part of the chance that all have. None leaves it out.
        progress: called with the number of texts scored since the last call.

    Returns:
        A report; iterating gives an `Exposure` in bits (higher means better memorised) for each canary and estimator,
        in order. `.levels` has the medians, `.twins` and `.control` the fills left out, `.queries_to_extract()` what
        it takes to draw a canary from the model, `.summary()` plain floats; `.save(path)` writes JSON, and `print`
        shows a table.

    Raises:
        ArgumentError: what is no model, no tokenizer or no set; an unknown estimator, a number that is out of range.
        FormatError: a format some candidates of which are prefixes of others; one without a source for an
            encoder-decoder.
        ModelError: what `log_perplexity` raises.

    Example:
        >>> from hf_canary import CanaryFormat, CanarySet
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["my pin is 0123456789"])
        >>> model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8))
        >>> canaries = CanarySet.draw(CanaryFormat("my pin is {digit:4}"), per_repetition=1, seed=0)
        >>> report = measure_exposure(model, tokenizer, canaries, estimators=["sampled"], num_references=100)
        >>> [exposure.canary_id for exposure in report]
        ['f0-x1-0', 'f0-x4-0', 'f0-x16-0']
    """
    measurement = Measurement(
        canaries,
        tokenizer,
        estimators=estimators,
        num_references=num_references,
        num_draws=num_draws,
        bootstrap=bootstrap,
        seed=seed,
        context=context,
        source_prefix=source_prefix,
        end=end,
        batch_size=batch_size,
        max_memory=max_memory,
    )
    return measurement.of(model, max_seconds=max_seconds, error=error, progress=progress)


class Measurement:
    """What `measure_exposure` does, for one model after another: what does not depend on the model is made once.

    Args:
        canaries: as of `measure_exposure`, which all arguments are.
        tokenizer: that is not changed meanwhile.
        counting: how much work `auto` may put into counted ranks, as a part of what it may otherwise.

    Raises:
        ArgumentError: what cannot be measured on any model.
        ModelError: a tokenizer that writes nothing for what tells candidates apart; one without a token tree, where all
            estimators need it.

    Example:
        >>> from hf_canary import CanaryFormat, CanarySet
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["my pin is 0123456789"])
        >>> canaries = CanarySet.draw(CanaryFormat("my pin is {digit:4}"), per_repetition=1, seed=0)
        >>> measurement = Measurement(canaries, tokenizer, num_references=100)
        >>> config = LSTMConfig(vocab_size=len(tokenizer), hidden_size=8)
        >>> [len(measurement.of(LSTMForCausalLM(config))) for _ in range(2)]
        [6, 6]
    """

    def __init__(
        self,
        canaries: CanarySet,
        tokenizer: Any,
        *,
        estimators: Sequence[str] = ("auto", "skewnorm"),
        num_references: int = 10_000,
        num_draws: int = 4_000,
        bootstrap: int = 200,
        seed: int = 0,
        context: Before | Sequence[Before] = None,
        source_prefix: Before | Sequence[Before] = None,
        end: bool = False,
        batch_size: int | None = None,
        max_memory: int | None = None,
        counting: float = 1.0,
    ) -> None:
        check_request(
            canaries, num_references, estimators, num_draws=num_draws, bootstrap=bootstrap, seed=seed, end=end
        )
        check_tokenizer(tokenizer)
        check_batch_size(batch_size)
        check_memory(max_memory)
        self._canaries, self._estimators = canaries, estimators
        self._bootstrap, self._seed, self._counting = bootstrap, seed, counting
        self._batch_size, self._max_memory = batch_size, max_memory
        for format in canaries.formats:
            check_written(format, tokenizer, target=format.source is not None)
        request = MeasurementConfig(num_references, num_draws, seed, end)
        self._groups = grouped(canaries, context, source_prefix)
        for group in self._groups:
            group.format.check_fixed("context", group.context)
            group.format.check_fixed("source_prefix", group.source_prefix)
        self._encoded_formats = [
            EncodedFormat(
                tokenizer,
                [canary for canary in canaries if canary.format == group.format],
                group.members,
                replace(request, context=group.context, source_prefix=group.source_prefix),
                number=group.number,
            )
            for group in self._groups
        ]
        if set(estimators) <= _NEEDING_A_TREE:
            self._check_trees(num_references)

    def _check_trees(self, num_references: int) -> None:
        """Refuse what could say nothing of any format, and would only after all is scored."""
        for encoded_format in self._encoded_formats:
            format = encoded_format.format
            if "exact" in self._estimators and format.space_size <= num_references + len(encoded_format.known):
                return
            if format.source_varies or not encoded_format.why_no_tree:
                return
        for encoded_format in self._encoded_formats:
            with _naming(encoded_format.format):
                _ = encoded_format.tree

    def of(
        self,
        model: Any,
        *,
        max_seconds: float | None = None,
        error: float | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> ExposureReport:
        """A report on a model.

        Raises:
            ArgumentError, ModelError: as `measure_exposure`.
        """
        started = time.monotonic()
        check_model(model)
        check_seconds(max_seconds)
        expected = "a chance between 0 and 0.5"
        remedy = "0.05 is one in twenty."
        check_number("error", error, lambda error: 0.0 < error < 0.5, expected, optional=True, remedy=remedy)
        found: dict[tuple[str, str], list[Exposure]] = {}
        groups: list[Group] = []
        fill_bits: dict[str, float] = {}
        token_rows = 0
        deadline = Deadline(max_seconds)
        with evaluating(model) as bare:
            language_model = LanguageModel(bare, batch_size=self._batch_size, max_memory=self._max_memory)
            _check_sources(language_model, self._canaries)
            for number, (group, encoded_format) in enumerate(zip(self._groups, self._encoded_formats, strict=True)):
                share = deadline.part(1.0 / (len(self._groups) - number))
                observations = Observations(language_model, encoded_format, share, progress)
                if observations.is_limited and not {"auto", "exact"}.isdisjoint(self._estimators):
                    observations.first_ranks()  # before more references take the time
                groups.append(
                    Group(group.format, group.ids, observations.references, len(encoded_format.known), group.context)
                )
                bits = observations.fill_bits[encoded_format.measured].tolist()
                fill_bits |= zip(group.ids, bits, strict=False)
                # Two hundred fits look at no clock.
                bootstrap = self._bootstrap if max_seconds is None else 0
                by = _Estimators(observations, bootstrap, self._seed, self._counting, error)
                for both in [by.exposures(estimator, group.ids) for estimator in self._estimators]:
                    roles = ["canary"] * len(group.ids) + ["twin"] * len(group.ids)
                    for each, role in zip(both, roles, strict=True):
                        found.setdefault((role, each.canary_id), []).append(_with_collisions(each, observations))
                token_rows += sum(observations.token_rows.values())
        return ExposureReport(
            exposures=tuple(each for canary in self._canaries for each in found["canary", canary.id]),
            twins=tuple(each for canary in self._canaries for each in found["twin", canary.id]),
            canaries=self._canaries,
            groups=tuple(groups),
            seconds=time.monotonic() - started,
            fill_bits={canary.id: fill_bits[canary.id] for canary in self._canaries},
            token_rows=token_rows,
        )


@dataclass(frozen=True)
class Alike:
    """Canaries of one format that are measured behind one context, with one prefix of their sources.

    Args:
        format: of them.
        members: their numbers among the canaries of the format.
        ids: their ids.
        context: what stands before them.
        source_prefix: what stands before their sources.
        number: which of the contexts of the format it is.
    """

    format: CanaryFormat
    members: tuple[int, ...]
    ids: tuple[str, ...]
    context: Before
    source_prefix: Before
    number: int


def grouped(
    canaries: CanarySet, context: Before | Sequence[Before] = None, source_prefix: Before | Sequence[Before] = None
) -> list[Alike]:
    """The canaries that can share references, format by format.

    Raises:
        DataError: a list of contexts that has not one for each canary.
    """
    contexts = one_for_each(context, len(canaries), "canaries")
    prefixes = one_for_each(source_prefix, len(canaries), "canaries", argument="source_prefix")
    listed = list(zip(canaries, contexts, prefixes, strict=True))
    found = []
    for format in canaries.formats:
        alike: dict[tuple[Before, Before], list[int]] = {}
        here = [
            (canary.id, before or None, prefix or None) for canary, before, prefix in listed if canary.format == format
        ]
        for number, (_, before, prefix) in enumerate(here):
            alike.setdefault((before, prefix), []).append(number)
        for number, ((before, prefix), members) in enumerate(alike.items()):
            ids = tuple(here[member][0] for member in members)
            found.append(Alike(format, tuple(members), ids, before, prefix, number))
    return found


def check_measurable(
    model: Any,
    tokenizer: Any,
    canaries: CanarySet,
    *,
    context: Before | Sequence[Before] = None,
    source_prefix: Before | Sequence[Before] = None,
) -> None:
    """Encode every entry of every hole and score a few candidates, so that what would make a measurement fail fails
    now.

    Raises:
        ModelError: what `log_perplexity` raises.
    """
    with evaluating(model) as bare:
        language_model = LanguageModel(bare)
        _check_sources(language_model, canaries)
        for group in grouped(canaries, context, source_prefix):
            with _naming(group.format):
                _check_group(language_model, tokenizer, canaries, group)


def _check_group(language_model: LanguageModel, tokenizer: Any, canaries: CanarySet, group: Alike) -> None:
    format, is_target = group.format, group.format.source is not None
    encode(tokenizer, format.covering_candidates(), context=group.context, target=is_target)
    fills = [fill for canary in canaries if canary.id in group.ids for fill in (canary.fill, canary.twin)]
    fills += format.sample(min(16, format.space_size), "check")
    texts = [format.render(fill) for fill in fills]
    encoding = encode(tokenizer, texts, context=group.context, target=is_target)
    sources = [format.render_source(fill) or "" for fill in fills]
    read = source_ids(tokenizer, sources, group.source_prefix) if is_target else None
    score_encoded(language_model, texts, encoding, read)


@contextmanager
def _naming(format: CanaryFormat) -> Iterator[None]:
    """Says of an error which format it is of."""
    try:
        yield
    except ModelError as error:
        got = f"{error.got}, in the format {shown(format.template)}"
        raise type(error)(error.argument, error.expected, got, error.remedy) from error


def check_request(
    canaries: CanarySet,
    num_references: int,
    estimators: Sequence[str] = ("auto",),
    *,
    num_draws: int = 1,
    bootstrap: int = 0,
    seed: int = 0,
    end: bool = False,
) -> None:
    """Refuse what cannot be measured on any model.

    Raises:
        DataError: an unknown estimator, no canaries, a number that is out of range.
        FormatError: a format some candidates of which are prefixes of others.
    """
    check_instance("canaries", canaries, CanarySet, "a CanarySet", "Draw or load one: CanarySet.load(...).")
    if len(canaries) == 0:
        raise ArgumentError("canaries", "at least one canary", "an empty set", "Draw one: CanarySet.draw(...).")
    for format in canaries.formats:
        if not end:
            format.check_prefix_free()
    _check_estimators(estimators)
    check_int("num_references", num_references, least=1)
    check_int("num_draws", num_draws, least=1)
    check_int("seed", seed)
    check_bootstrap(bootstrap)


def _check_estimators(estimators: Sequence[str]) -> None:
    is_list = isinstance(estimators, Sequence) and not isinstance(estimators, str)
    if is_list and estimators and len(set(estimators)) == len(estimators) and set(estimators) <= set(_NAMES):
        return
    raise (ArgumentError if is_list else ArgumentTypeError)(
        "estimators",
        f"a list of some of {', '.join(_NAMES)}",
        shown(estimators),
        'Give names in a list, each once: ["auto", "skewnorm"]; on the command line, --estimator for each.',
    )


def _with_collisions(exposure: Exposure, observations: Observations) -> Exposure:
    """Flagged where the tokenizer encodes fills alike."""
    different = observations.different_encodings
    if different is None:
        return exposure
    return replace(exposure, flags=(*exposure.flags, f"collisions: {shown(different)} different encodings"))


def _check_sources(language_model: LanguageModel, canaries: CanarySet) -> None:
    for format in canaries.formats:
        if language_model.is_encoder_decoder != (format.source is not None):
            raise FormatError(
                "canaries",
                "formats with a source: the model is an encoder-decoder"
                if language_model.is_encoder_decoder
                else "formats without a source: the model is causal and reads none",
                f"{shown(format.template)} {'with' if format.source is not None else 'without'} one",
                'Say what is translated: CanaryFormat("... {digit:4}", source="... {digit:4}").'
                if language_model.is_encoder_decoder
                else "Leave the source out; text before the canary goes into context=.",
            )

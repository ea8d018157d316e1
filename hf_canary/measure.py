"""Measurement: model + tokenizer + canaries → exposures.

Joins; which estimator is believed is the matter of `measurement/`, and nothing is known of trainers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .arguments import (
    PROGRESS,
    check_batch_size,
    check_callable,
    check_memory,
    check_model,
    check_number,
    check_seconds,
    check_tokenizer,
)
from .canaries import CanarySet
from .errors import ArgumentError, shown
from .inference.evaluation import evaluating, reads_sources
from .inference.language_model import LanguageModel
from .measurement.checks import check_request, check_sources, naming_format
from .measurement.encoded_format import EncodedFormat, MeasurementConfig
from .measurement.estimator_choice import NEEDING_A_TREE, Task, choices, num_compared, num_token_rows
from .measurement.groups import grouped
from .measurement.observations import Observations
from .reporting.exposure import Exposure, Group
from .reporting.exposure_report import ExposureReport
from .reporting.provenance import of_canaries, of_contexts, provenance
from .runtime.deadline import Deadline
from .tokenization.contexts import Before
from .tree.traces import check_written


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
        model: a causal language model, or an encoder-decoder; for the latter the formats have a `source`. For a causal
            one a source is the prompt: what stands before the canary if there is no `context`.
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
            look safe. Canaries of one context share their references; each context more costs as much again. Where
            sources have holes, a text has the source in it, holes and all: each fill is scored behind its own.
        source_prefix: what stands before the source; one for all, or a list. Of a causal model a text, where there is
            no `context`.
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
            encoder-decoder; a hole in `context` that is none of the source's.
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
    check_model(model)
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
        target=reads_sources(model),
    )
    return measurement.measure(model, max_seconds=max_seconds, error=error, progress=progress)


class Measurement:
    """What `measure_exposure` does, for one model after another: what does not depend on the model is made once.

    Args:
        canaries: as of `measure_exposure`, which all arguments are.
        tokenizer: that is not changed meanwhile.
        counting: how much work `auto` may put into counted ranks, as a part of what it may otherwise.
        target: whether the models are encoder-decoders; None: where the formats have sources.

    Attributes:
        encoded_formats: for each format behind each of its contexts.

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
        >>> [len(measurement.measure(LSTMForCausalLM(config))) for _ in range(2)]
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
        target: bool | None = None,
    ) -> None:
        check_request(
            canaries, num_references, estimators, num_draws=num_draws, bootstrap=bootstrap, seed=seed, end=end
        )
        check_tokenizer(tokenizer)
        num_references, num_draws, seed = int(num_references), int(num_draws), int(seed)
        self._batch_size, self._max_memory = check_batch_size(batch_size), check_memory(max_memory)
        self._canaries, self._estimators = canaries, estimators
        self._bootstrap, self._seed, self._counting = int(bootstrap), seed, counting
        self._target = any(format.source is not None for format in canaries.formats) if target is None else target
        for format in canaries.formats:
            check_written(format, tokenizer, target=self._target)
        config = MeasurementConfig(num_references, num_draws, seed, end, target=self._target)
        self._config = config
        self._groups = grouped(canaries, context, source_prefix, target=self._target)
        self.encoded_formats = [
            EncodedFormat(
                tokenizer,
                [canary for canary in canaries if canary.format == group.format],
                group.members,
                replace(config, context=group.context, source_prefix=group.source_prefix),
                number=group.number,
            )
            for group in self._groups
        ]
        if set(estimators) <= NEEDING_A_TREE:
            self._check_trees(num_references)

    def _check_trees(self, num_references: int) -> None:
        """Refuse what could say nothing of any format, and would only after all is scored."""
        for encoded_format in self.encoded_formats:
            format = encoded_format.format
            if "exact" in self._estimators and format.space_size <= num_references + len(encoded_format.canary_fills):
                return
            if encoded_format.has_own_sources or not encoded_format.why_no_tree:
                return
        for encoded_format in self.encoded_formats:
            with naming_format(encoded_format.format):
                _ = encoded_format.tree

    def measure(
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
        check_callable("progress", progress, PROGRESS)
        max_seconds = check_seconds(max_seconds)
        expected = "a chance between 0 and 0.5"
        remedy = "0.05 is one in twenty."
        error = check_number("error", error, lambda error: 0.0 < error < 0.5, expected, optional=True, remedy=remedy)
        found: dict[tuple[str, str], list[Exposure]] = {}
        groups: list[Group] = []
        fill_bits: dict[str, float] = {}
        token_rows = 0
        deadline = Deadline(max_seconds)
        with evaluating(model) as bare:
            language_model = LanguageModel(bare, batch_size=self._batch_size, max_memory=self._max_memory)
            check_sources(language_model, self._canaries)
            if language_model.is_encoder_decoder != self._target:
                raise ArgumentError(
                    "target",
                    f"{language_model.is_encoder_decoder}, as the model is",
                    f"{self._target}",
                    "Give Measurement(..., target=...).",
                )
            for number, (group, encoded_format) in enumerate(zip(self._groups, self.encoded_formats, strict=True)):
                share = deadline.part(1.0 / (len(self._groups) - number))
                observations = Observations(language_model, encoded_format, share, progress)
                if observations.is_limited and not {"auto", "exact"}.isdisjoint(self._estimators):
                    observations.first_ranks()  # before more references take the time
                groups.append(
                    Group(
                        group.format,
                        group.ids,
                        observations.references,
                        len(encoded_format.canary_fills),
                        group.context,
                    )
                )
                bits = observations.fill_bits[encoded_format.measured].tolist()
                fill_bits |= zip(group.ids, bits, strict=False)
                # Two hundred fits look at no clock.
                bootstrap = self._bootstrap if max_seconds is None else 0
                task = Task(observations, bootstrap, self._seed, self._counting, error)
                of_each = [_exposures(estimator, task, group.ids) for estimator in self._estimators]
                collisions = _collisions(observations)  # known now, if some estimator has made a tree
                for both in of_each:
                    roles = ["canary"] * len(group.ids) + ["twin"] * len(group.ids)
                    for each, role in zip(both, roles, strict=True):
                        flagged = replace(each, flags=(*each.flags, *collisions))
                        found.setdefault((role, each.canary_id), []).append(flagged)
                token_rows += sum(observations.token_rows.values())
        return ExposureReport(
            exposures=tuple(each for canary in self._canaries for each in found["canary", canary.id]),
            twins=tuple(each for canary in self._canaries for each in found["twin", canary.id]),
            canaries=self._canaries,
            groups=tuple(groups),
            seconds=time.monotonic() - started,
            fill_bits={canary.id: fill_bits[canary.id] for canary in self._canaries},
            token_rows=token_rows,
            provenance=self._provenance(bare) | {"max_seconds": max_seconds, "error": error},
        )

    def _provenance(self, model: Any) -> dict[str, Any]:
        config = self._config
        return provenance(
            model,
            canaries=of_canaries(self._canaries),
            contexts=of_contexts(self._canaries, self._groups),
            estimators=list(self._estimators),
            num_references=config.num_references,
            num_draws=config.num_draws,
            bootstrap=self._bootstrap,
            seed=config.seed,
            end=bool(config.end),
        )


def _exposures(estimator: str, task: Task, ids: Sequence[str]) -> list[Exposure]:
    """Of the canaries that are measured, by id, then of their twins."""
    observations, found = task.observations, choices(estimator, task)
    return [
        Exposure(
            canary_id=canary_id,
            estimator=estimator,
            value=choice.estimate.value,
            low=choice.estimate.low,
            high=choice.estimate.high,
            log_perplexity=float(observations.canary_costs[number]),
            num_references=num_compared(choice, observations),
            flags=choice.estimate.flags,
            status=choice.estimate.status,
            method=choice.method,
            reason=choice.reason,
            token_rows=num_token_rows(estimator, observations),
            details=choice.estimate.details,
            at_least=choice.at_least,
        )
        for canary_id, number in zip([*ids, *ids], observations.measured, strict=True)
        for choice in [found[number]]
    ]


def _collisions(observations: Observations) -> tuple[str, ...]:
    """A flag, where the tokenizer encodes fills alike."""
    different = observations.different_encodings
    return () if different is None else (f"collisions: {shown(different)} different encodings",)

"""Where a search goes: a format's tree, and a model after its prompt; how fast it goes; a candidate that it finds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import check_batch_size, check_flag, check_instance, check_memory, check_model, check_tokenizer
from ..arrays import Floats
from ..canaries import Canary
from ..errors import ArgumentError, FormatError, shown
from ..estimators.exposures import MOST_APART, exposure_of_rank
from ..estimators.worth import ranks_of_listed, samples_for
from ..formats.canary_format import CanaryFormat, check_format
from ..inference.cache_adapters import Source
from ..inference.evaluation import evaluating
from ..inference.language_model import MEMORY, LanguageModel, Session
from ..runtime.deadline import Deadline, agreed
from ..scoring import score_encoded
from ..tokenization.contexts import Before, SourceContext, as_prompt, check_context, one_for_all
from ..tokenization.encoding import Encoding, context_behind, end_token, source_ids
from ..tree.token_tree import TokenTree, unlike
from ..walks.search.checkpoint import (
    Answers,
    Checkpoint,
    digest_of_adapters,
    digest_of_model,
    digest_of_settings,
    digest_of_text,
    digest_of_tokenizer,
)
from ..walks.search.run import after_prompt
from ..walks.search.search import Progress, Search
from .result import Candidate, Extraction

# References are at least so many, or none; fewer than asked for where they hold so many tokens.
_FEWEST, _MOST_TOKENS = 32, 2**14


def after_the_tree(max_seconds: float | None, began: Deadline) -> float | None:
    """What is left of the time for a search: a quarter of it at least, whatever the tree took."""
    return None if max_seconds is None else max(max_seconds / 4, max_seconds - began.passed)


class Pace:
    """How fast this run goes: without what earlier runs have done, and from when the walk began."""

    def __init__(self, search: Search, deadline: Deadline) -> None:
        self._search, self._deadline = search, deadline
        self.before, self._began = search.expanded, deadline.passed

    @property
    def seconds(self) -> float:
        return self._deadline.passed - self._began

    def within(self, most: float) -> float:
        """How many prefixes there is time for in all, if they take as long as those before."""
        done = self._search.expanded - self.before
        if not self._deadline.is_limited or not done:
            return most
        return min(most, self._search.expanded + done * self._deadline.left / max(agreed(self.seconds), 1e-9))


def check_given(model: Any, tokenizer: Any, format: Any, context: Any, source_prefix: Any, end: Any) -> None:
    """Refuse what nothing could be searched with.

    Raises:
        ArgumentTypeError: one of another type, such as a name or a text.
    """
    check_model(model)
    check_tokenizer(tokenizer)
    check_format(format)
    check_context("context", context)
    one_for_all("source_prefix", source_prefix)
    check_flag("end", end)


class SearchSetup:
    """Where is searched: a tree, and a model after its prompt.

    Attributes:
        tree: the format's.
        max_memory: bytes, for all.
        prefix_bits: bits of what all candidates share; known once it was entered.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        format: CanaryFormat,
        source: str | None,
        source_prefix: Before,
        context: Before,
        end: bool,
        batch_size: int | None,
        max_memory: int | None,
    ) -> None:
        batch_size = check_batch_size(batch_size)
        if source is not None:
            check_instance("source", source, str, "one text", "Leave it out for that of the format.")
        for argument, text in (("source", source), ("context", context)):
            format.check_fixed(argument, text)
        self._model, self._tokenizer, self._format = model, tokenizer, format
        self._end, self._batch_size = end, batch_size
        self._source_prefix = source_prefix
        self.max_memory = check_memory(max_memory) or MEMORY
        self.prefix_bits = 0.0
        with evaluating(model) as bare:
            view = LanguageModel(bare)
            is_target = view.is_encoder_decoder
            self._context = context if is_target else self._prompt(source, source_prefix, context)
            self._source_text = self._fixed_source(source) if is_target else None
            view.check_source(self._source_text is not None)
            behind = end_token(tokenizer, target=is_target) if end else None
            self.tree = TokenTree(format, tokenizer, context=self._context, end=behind, target=is_target)
            # Beforehand, so that what is wrong is said before any work.
            self._first = view.first_summed(self.tree.conditioned, len(self.tree.prompt))
            view.check_length(len(self.tree.prompt) + self.tree.depth)
            self._source = self._read_by(view)

    @contextmanager
    def entered(self) -> Iterator[tuple[LanguageModel, Session]]:
        """The model in evaluation, and a session after the prompt."""
        with after_prompt(
            self._model,
            self.tree.prompt,
            self.tree.depth,
            source=self._source,
            batch_size=self._batch_size,
            max_memory=self.max_memory,
        ) as (view, session):
            self.prefix_bits = float(session.prompt_bits[self._first :].sum())
            yield view, session

    @property
    def is_impossible(self) -> bool:
        """Whether what all candidates share has probability 0, so that all of them cost infinity."""
        return self.prefix_bits == math.inf

    def nothing(self) -> Extraction:
        """What there is to extract then."""
        is_certain = self.tree.is_certain  # else there may be encodings that do not share it
        return Extraction((), is_certain, 0, math.inf if is_certain else 0.0, "" if is_certain else "tokenizer")

    def of_one_age(self, view: LanguageModel) -> Session:
        """A session for walks whose rows all have the same number of tokens."""
        return view.session(self.tree.prompt, self.tree.depth, source=self._source)

    def candidates(self, paths: Sequence[Sequence[int]], costs: Sequence[float]) -> Iterator[Candidate]:
        """Of leaves, by their tokens and their bits after the prompt."""
        for text, cost in zip(self.tree.texts(paths), costs, strict=True):
            yield Candidate(text, self._format.parse(text), self.prefix_bits + cost, samples_for(cost))

    def references(
        self,
        view: LanguageModel,
        listed: Sequence[Sequence[int]],
        count: int,
        deadline: Deadline,
        pace: Pace,
        search: Search,
    ) -> Floats:
        """(n,) bits of random candidates: as many as there is time for, or none.

        Raises:
            ModelError: one is cheaper than the search says that any can be which it does not list.
        """
        count = min(count, self._format.space_size, max(_FEWEST, _MOST_TOKENS // self.tree.depth))
        if deadline.is_limited:
            seconds_each = agreed(pace.seconds) / max(1, search.expanded - pace.before) * self.tree.depth
            if not deadline.left or deadline.fits(seconds_each) < min(count, _FEWEST):
                return np.empty(0)
        paths = self.tree.paths([self._format.render(fill) for fill in self._format.sample(count, "typical")])
        sequences = [[*self.tree.prompt, *path] for path in paths]
        blocks = (range(count)[block] for block in deadline.blocks(count, _FEWEST))
        costs = np.concatenate([self._scored(view, [sequences[number] for number in block]) for block in blocks])
        listed_paths = set(map(tuple, listed))
        others = [cost for cost, path in zip(costs, paths, strict=False) if tuple(path) not in listed_paths]
        if self.tree.is_certain and not view.is_half and min(others, default=math.inf) < self._least(search):
            raise unlike("a candidate", "one by which it is cheaper than the search says that it can be")
        return costs

    def _least(self, search: Search) -> float:
        return self.prefix_bits + search.lower_bound - MOST_APART

    def _scored(self, view: LanguageModel, sequences: list[list[int]]) -> Floats:
        source = self._source
        sources = None if source is None else [source.ids] * len(sequences)
        encoding = Encoding(sequences, self.tree.conditioned, self.tree.tail, self._end)
        return score_encoded(view, [""] * len(sequences), encoding, sources, named=lambda _: "a reference")

    def ranked(
        self, candidates: Sequence[Candidate], paths: Sequence[Sequence[int]], known: Sequence[Canary], unlisted: float
    ) -> tuple[Candidate, ...]:
        """The candidates with their ranks, and those that are canaries with their ids and exposures."""
        costs = [candidate.log_perplexity for candidate in candidates]
        copies = [self.tree.copies(candidate.fill) for candidate in candidates]
        ranks = ranks_of_listed(costs, copies, unlisted)
        # By their tokens, since a candidate may stand for others that are encoded alike.
        ids = {path: canary.id for canary, path in zip(known, self._paths(known), strict=True)}
        named = [ids.get(tuple(path), "") for path in paths]
        return tuple(
            replace(candidate, rank=rank, canary=name, exposure=self._exposure(rank) if name else math.nan)
            for candidate, rank, name in zip(candidates, ranks, named, strict=True)
        )

    def _paths(self, known: Sequence[Canary]) -> list[tuple[int, ...]]:
        return self.tree.paths([canary.text for canary in known]) if known else []

    def _exposure(self, rank: int | None) -> float:
        return math.nan if rank is None else exposure_of_rank(rank, self._format.space_size)

    def progress(self, search: Search, best: float, pace: Pace, expected: float = 0.0) -> Progress:
        return Progress(
            search.expanded,
            search.open,
            self.prefix_bits + best,
            self.prefix_bits + search.lower_bound,
            pace.seconds,
            expected,
            pace.before,
        )

    def checkpoint(self, path: str | Path | None, request: str) -> Checkpoint:
        """The file that a search for what is asked is kept in."""
        format = self._format

        def belongs_to() -> tuple[dict[str, str], Answers]:
            with evaluating(self._model) as bare:
                model, view = digest_of_model(bare), LanguageModel(bare)
                adapters, settings = digest_of_adapters(bare), digest_of_settings(bare)
                answers = Answers(tuple(view.answers().tolist()), view.tolerance)
            digests = {
                "model": model,
                "state of adapters": adapters,
                "config or setting of a layer": settings,
                "tokenizer": digest_of_tokenizer(self._tokenizer),
                "format": digest_of_text(repr((format.template, sorted((format.spaces or {}).items()), self._end))),
                "source or context": digest_of_text(repr((self._source, self._context))),
                "request": digest_of_text(request),
            }
            return digests, answers

        return Checkpoint(path, belongs_to)

    def _read_by(self, view: LanguageModel) -> Source | None:
        if self._source_text is None:
            return None
        (ids,) = source_ids(self._tokenizer, [self._source_text], self._source_prefix, named=lambda _: "the source")
        view.check_length(len(ids), "source", of_source=True)
        return Source(tuple(ids), view.start(ids, self.tree.first, self.tree.tail))

    def _prompt(self, source: str | None, prefix: Before, context: Before) -> Before:
        """What a causal model reads before all candidates: the source, if no more is known."""
        if isinstance(context, SourceContext):
            text = self._fixed_source(source)
            if text is None:
                raise ArgumentError(
                    "source", "the source that stands in the context", "none", "Give source=, or another context=."
                )
            return context_behind(self._tokenizer, context, text, self._format.render(0))
        if context is not None and source is not None:
            raise ArgumentError(
                "source",
                "none beside what stands before the candidates of a causal model, and holds it",
                "a source and a context",
                "Put the source into context=.",
            )
        if context is not None or (source is None and self._format.source is None):
            return context
        text = self._fixed_source(source)
        return as_prompt(None, text, fixed=text, prefix=prefix)

    def _fixed_source(self, source: str | None) -> str | None:
        if source is not None or self._format.source is None:
            return source
        if self._format.source_varies:
            raise FormatError(
                "format",
                "one source for every fill, since the tree is that of what is written after it",
                f"the source {shown(self._format.source)}, which differs between fills",
                "Give source=, one text; measure_exposure scores each fill with its own source.",
            )
        return self._format.render_source(0)

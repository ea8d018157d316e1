"""Extraction: the cheapest fills of a format under a model, with what is proven about them (§8); and exact ranks.

Joins model, tokenizer and format to the search walk. Of canaries it knows texts and ids, to say which were found; the
search itself is told a format, not what was inserted.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import (
    check_among,
    check_batch_size,
    check_expanded,
    check_instance,
    check_int,
    check_memory,
    check_model,
    check_seconds,
    check_tokenizer,
)
from ..arrays import Floats
from ..canaries import Canary
from ..errors import DataError, FormatError, ModelError, shown
from ..estimators.exposures import MOST_APART, exposure_of_rank
from ..estimators.worth import in_words, ranks_of_listed, samples_for
from ..formats.canary_format import CanaryFormat, check_format
from ..inference.cache_adapters import Source
from ..inference.evaluation import evaluating
from ..inference.language_model import MEMORY, LanguageModel, Session
from ..measurement.ranking import Rank, Ranking, impossible
from ..measurement.sampling import draw
from ..runtime.deadline import Clock, agreed
from ..runtime.interrupts import noticing
from ..scoring import score_encoded
from ..tokenization.contexts import Before, check_context
from ..tokenization.encoding import Encoding, end_token, source_ids
from ..tree.token_tree import TokenTree, unlike
from ..walks.search.checkpoint import (
    Answers,
    Checkpoint,
    check_writable,
    digest_of_adapters,
    digest_of_model,
    digest_of_settings,
    digest_of_text,
    digest_of_tokenizer,
)
from ..walks.search.goals import Ascending, Cheapest
from ..walks.search.search import STRATEGIES, Progress, Search, after_prompt, go_on

_DRAWS = 1000  # from which the work of a count is foreseen
# References are at least so many, or none; fewer than asked for where they hold so many tokens; and have a part of the
# time.
_FEWEST, _MOST_TOKENS, _FOR_REFERENCES = 32, 2**14, 0.1
_STOPPED = {
    "max_expanded": "max_expanded was reached",
    "max_seconds": "max_seconds were over",
    "max_memory": "max_memory was reached",
    "interrupted": "it was interrupted",
    "tokenizer": "the tokenizer is written in Python, so that encodings may have been missed",
}


@dataclass(frozen=True)
class Candidate:
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


@dataclass(frozen=True)
class Extraction:
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


def extract(
    model: Any,
    tokenizer: Any,
    format: CanaryFormat,
    *,
    source: str | None = None,
    source_prefix: Before = None,
    context: Before = None,
    end: bool = False,
    top_k: int = 1,
    strategy: str = "auto",
    batch_size: int | None = None,
    max_expanded: int | None = None,
    max_seconds: float | None = None,
    max_memory: int | None = None,
    checkpoint: str | Path | None = None,
    canaries: Iterable[Canary] | None = None,
    num_references: int = 256,
    progress: Callable[[Progress], None] | None = None,
) -> Extraction:
    """The `top_k` candidates of the format that the model finds likeliest, by shortest-path search (§8.2).

    The search ends with a proof, when every open prefix costs more than the worst candidate kept; or at a cap or
    Ctrl-C, and then the result says what is proven so far. The model's mode and every random state are left as they
    were. Under `accelerate launch` all processes must call this together; each expands a share of every batch.

    Proven the likeliest is not leaked: every model has a likeliest candidate. What it is worth stands beside it:
    samples of the model until it comes out, how far it lies below random candidates, and a known canary's exposure.

    Args:
        model: a causal language model, or an encoder-decoder.
        tokenizer: its tokenizer, of any kind.
        format: candidates must not be prefixes of one another, unless `end` tells them apart.
        source: what an encoder-decoder reads; the format's own, if that is fixed text.
        source_prefix: what stands before it: a text or a `Context` of tokens.
        context: what stands before the canary where it is trained on: a text, or a `Context` of tokens; conditioned on,
            not summed.
        end: whether the end token follows each candidate and is summed.
        top_k: how many candidates.
        strategy: `auto`: a narrow dive finds a bound, then the cheapest prefixes first; once memory is scarce, the
            deepest first. `best-first`: the cheapest first alone. `depth-first`: a dive, then the deepest first, in the
            least memory. `paper`: the paper's, which stops after as many expansions again as the first answer took.
        batch_size: prefixes of one forward pass; None chooses.
        max_expanded: stop after so many prefixes.
        max_seconds: stop after so long; a tenth of it is kept for the references.
        max_memory: bytes that open prefixes and forward passes may take; None is 1 GiB.
        checkpoint: a file in which the search is kept every so often and at its end. If it is there, the search goes on
            from it.
        canaries: a `CanarySet`, or some canaries: a candidate that is one of them has its id and exposure.
        num_references: random candidates that say what a typical one costs; 0 leaves it out, and so do a search that
            was interrupted and too little time.
        progress: called after each batch with a `Progress`.

    Returns:
        The candidates with their log-perplexities in bits (lower means better memorised), equal to what
        `log_perplexity` gives for their texts; equal ones in the order of their tokens.

    Raises:
        ArgumentError: what is no model, tokenizer, format, number or strategy; `top_k` above |R|.
        FormatError: candidates that are prefixes of one another, a source that differs between fills, a hole in
            `source` or `context`.
        ModelError: a tokenizer that does not know a character, logits that are no numbers, a format longer than the
            model's positions.
        DataError: canaries of which none has a text of this format; a checkpoint that is torn, of another search, or in
            a place where no file can be written.

    Example:
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["my pin is 0123456789"])
        >>> model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8))
        >>> found = extract(model, tokenizer, CanaryFormat("my pin is {digit:4}"), top_k=3)
        >>> found.certified, len(found.candidates)
        (True, 3)
    """
    _check_given(model, tokenizer, format, context, source_prefix)
    format.check_top_k(top_k)
    check_among("strategy", strategy, STRATEGIES, "Leave it out for auto.")
    check_expanded(max_expanded)
    check_seconds(max_seconds)
    check_int("num_references", num_references, least=0)
    known = _of_format(canaries, format)
    check_writable(checkpoint)
    began = Clock()
    place = _Place(model, tokenizer, format, source, source_prefix, context, end, batch_size, max_memory)
    place.tree.assure()
    max_seconds = _after_the_tree(max_seconds, began)
    kept = place.checkpoint(checkpoint, f"the {top_k} likeliest, {strategy}")
    with place.entered() as (view, session), noticing() as interrupted:
        if place.is_impossible:
            return place.nothing()
        goal = Cheapest(top_k, place.tree.depth)
        search = Search(view, session, place.tree, goal, strategy=STRATEGIES[strategy], max_memory=place.max_memory)
        kept.load(search, goal)
        whole = Clock(max_seconds)  # not before, since reading a large checkpoint may take as long
        clock = whole.part(1.0 - _FOR_REFERENCES) if num_references else whole
        pace = _Pace(search, clock)

        def after_each() -> None:
            kept.save_if_due(search, goal)
            if progress is not None:
                progress(place.progress(search, goal.best, pace))

        stopped = go_on(search, max_expanded=max_expanded, clock=clock, interrupted=interrupted, after_each=after_each)
        kept.save(search, goal)
        candidates = tuple(place.candidates(goal.leaves, goal.costs.tolist()))
        reference_rows, references = 0, np.empty(0)
        if num_references and stopped != "interrupted":
            before = view.token_rows
            references = place.references(view, goal.leaves, num_references, whole, pace, search)
            reference_rows = view.rows_of_all(view.token_rows - before)
        names = [f"candidates[{number}]" for number in range(len(candidates))]
        place.tree.assure([candidate.fill for candidate in candidates], names)
        if search.is_over and not place.tree.is_certain:
            stopped = "tokenizer"
        lower_bound = place.shared + search.lower_bound if place.tree.is_certain else 0.0
        return Extraction(
            candidates=place.ranked(candidates, goal.leaves, known, lower_bound),
            certified=search.is_over and place.tree.is_certain,
            expanded=search.expanded,
            lower_bound=lower_bound,
            stopped=stopped,
            collisions=place.tree.collisions,
            space_size=format.space_size,
            typical=float(np.median(references)) if len(references) else math.nan,
            num_references=len(references),
            reference_rows=reference_rows,
            least_reference=float(references.min()) if len(references) else math.nan,
            num_canaries=len(known),
        )


def _of_format(canaries: Iterable[Canary] | None, format: CanaryFormat) -> list[Canary]:
    """Those whose texts the format writes.

    Raises:
        DataError: none of this format; what is no canary, an `ArgumentTypeError`.
    """
    if canaries is None:
        return []
    expected, remedy = "a CanarySet, or a list of its canaries", "Load it: CanarySet.load."
    check_instance("canaries", canaries, Iterable, expected, remedy)
    given = list(canaries)
    for canary in given:
        check_instance("canaries", canary, Canary, expected, remedy)

    def is_written(canary: Canary) -> bool:
        try:
            format.parse(canary.text)
        except FormatError:
            return False
        return True

    known = [canary for canary in given if is_written(canary)]
    if not known:
        raise DataError(
            "canaries",
            f"some whose texts are candidates of {shown(format.template)}",
            f"{len(given)} of other formats",
            "Give the format as the set has it: canaries.formats.",
        )
    return known


def iter_extract(
    model: Any,
    tokenizer: Any,
    format: CanaryFormat,
    *,
    source: str | None = None,
    source_prefix: Before = None,
    context: Before = None,
    end: bool = False,
    batch_size: int | None = None,
    max_expanded: int | None = None,
    max_seconds: float | None = None,
    max_memory: int | None = None,
) -> Iterator[Candidate]:
    """The candidates of the format, the likeliest first, each found when it is asked for.

    Each one that comes is proven: none that has not come is likelier. It ends after the last possible candidate or at a
    cap. Between two of them the model is as it was, and may be used, but not trained.

    Args:
        model: as in `extract`, which has these arguments too.
        tokenizer: likewise.
        format: likewise.
        source: likewise.
        source_prefix: likewise.
        context: likewise.
        end: likewise.
        batch_size: likewise.
        max_expanded: likewise.
        max_seconds: likewise, from the first candidate that is asked for.
        max_memory: likewise.

    Raises:
        ArgumentError, FormatError: as `extract`, at once.
        ModelError: as `extract`; a tokenizer written in Python, of whose encodings nothing is proven.

    Example:
        >>> from itertools import islice
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["my pin is 0123456789"])
        >>> model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8))
        >>> found = islice(iter_extract(model, tokenizer, CanaryFormat("my pin is {digit:4}")), 5)
        >>> bits = [candidate.log_perplexity for candidate in found]
        >>> bits == sorted(bits)
        True
    """
    _check_given(model, tokenizer, format, context, source_prefix)
    check_expanded(max_expanded)
    check_seconds(max_seconds)
    place = _Place(model, tokenizer, format, source, source_prefix, context, end, batch_size, max_memory)
    if not place.tree.is_certain:
        raise ModelError(
            "tokenizer",
            "one whose encodings can be derived from its parts, since each candidate comes with a proof",
            "one that is written in Python",
            "Use extract, which says that nothing is proven, or a format of fewer fills.",
        )
    place.tree.assure()
    return _ascending(model, place, max_expanded, max_seconds)


def _ascending(model: Any, place: _Place, max_expanded: int | None, max_seconds: float | None) -> Iterator[Candidate]:
    clock = Clock(max_seconds)
    with place.entered() as (view, session):
        if place.is_impossible:
            return
        goal = Ascending()
        search = Search(view, session, place.tree, goal, strategy=STRATEGIES["best-first"], max_memory=place.max_memory)
    capped = False
    while True:
        for cost, path in goal.final(search.least):
            yield from place.candidates([path], [cost])
        if capped or not search.open:
            return
        with evaluating(model):
            capped = go_on(
                search, max_expanded=max_expanded, clock=clock, interrupted=lambda: goal.best < search.least
            ) not in ("", "interrupted")


def exact_rank(
    model: Any,
    tokenizer: Any,
    format: CanaryFormat,
    fills: Sequence[int],
    *,
    source: str | None = None,
    source_prefix: Before = None,
    context: Before = None,
    end: bool = False,
    batch_size: int | None = None,
    max_expanded: int | None = None,
    max_seconds: float | None = None,
    max_memory: int | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Rank]:
    """The rank of each fill among all of R (Definition 2), by one walk over what is as likely as the least likely one.

    No candidate is cheaper than its beginning, so that prefixes which cost more than the fill need no look. A fill that
    is memorised is counted by its own prefixes and a few hundred others. If that is not enough, how many prefixes it
    takes is foreseen from a thousand random fills (Knuth 1975), and said before the walk goes on, as
    `progress(...).expected`. Costs are compared as this walk has them.

    Args:
        model: as in `extract`, which has these arguments too.
        tokenizer: likewise.
        format: likewise.
        fills: whose ranks are asked for; ints of [0, |R|).
        source: likewise.
        source_prefix: likewise.
        context: likewise.
        end: likewise.
        batch_size: likewise.
        max_expanded: likewise, beside the draws. Likelier fills have their ranks first.
        max_seconds: likewise.
        max_memory: likewise.
        checkpoint: likewise, once it is known what the fills cost. What a run with lower caps has left out is counted
            in a walk of its own, after the one in the file.
        progress: likewise; `best` is the cost up to which candidates are counted.

    Returns:
        For each fill a `Rank`: 1 is the likeliest. Its exposure in bits is log2|R| − log2 of it (Definition 4).

    Raises:
        FormatError: a fill that is none, and as `extract`.
        ArgumentError, ModelError, DataError: as `extract`.

    Example:
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["my pin is 0123456789"])
        >>> model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8))
        >>> format = CanaryFormat("my pin is {digit:4}")
        >>> likeliest = extract(model, tokenizer, format).candidates[0]
        >>> [rank.rank for rank in exact_rank(model, tokenizer, format, [likeliest.fill])]
        [1]
    """
    _check_given(model, tokenizer, format, context, source_prefix)
    check_instance("fills", fills, Iterable, "a list of whole numbers", "Put one alone into a list.")
    fills = list(fills)
    for fill in fills:
        format.render(fill)
    fills = [operator.index(fill) for fill in fills]
    check_expanded(max_expanded)
    check_seconds(max_seconds)
    check_writable(checkpoint)
    began = Clock()
    place = _Place(model, tokenizer, format, source, source_prefix, context, end, batch_size, max_memory)
    if not fills:
        return []
    place.tree.assure(fills, [f"fills[{number}]" for number in range(len(fills))])
    max_seconds = _after_the_tree(max_seconds, began)
    kept = place.checkpoint(checkpoint, f"ranks of {fills}")
    most = math.inf if max_expanded is None else max_expanded
    with place.entered() as (view, session):
        if place.is_impossible:
            return [impossible(format.space_size)] * len(fills)

        def begun() -> Ranking:
            return Ranking(view, session, place.tree, fills, max_memory=place.max_memory)

        def counted(ranking: Ranking) -> str:
            pace = _Pace(ranking.search, clock)

            def after_each() -> None:
                ranking.narrow(pace.within(most))
                kept.save_if_due(ranking.search, ranking)
                if progress is not None:
                    progress(place.progress(ranking.search, ranking.goal.best, pace, ranking.work))

            with noticing() as interrupted:  # Ctrl-C before it is no loss
                after_each()
                stopped = go_on(
                    ranking.search, max_expanded=most, clock=clock, interrupted=interrupted, after_each=after_each
                )
                kept.save(ranking.search, ranking)
            return stopped

        ranking = begun()
        is_old = kept.load(ranking.search, ranking)
        clock = Clock(max_seconds)  # not before, since reading a large checkpoint may take as long
        stopped = "" if is_old else ranking.look(max_expanded=most, clock=clock)
        if not ranking.goal.is_settled:
            return ranking.ranks(stopped)
        if progress is not None:
            progress(place.progress(ranking.search, ranking.goal.best, _Pace(ranking.search, clock), ranking.work))
        if not ranking.search.is_over and not ranking.is_foreseen:
            # The likeliest are counted by now, and of the others it is worth knowing how much work they are.
            start, first = (lambda: place.of_one_age(view)), clock.part(0.5)
            drawing = draw(view, start, place.tree, fills, _DRAWS, seed=0, clock=first)
            if drawing is not None:
                ranking.foresee(drawing)
        if stopped or (ranking.search.is_over and not is_old):
            kept.save(ranking.search, ranking)
            return ranking.ranks(stopped)
        stopped, anew = counted(ranking), begun()
        if is_old and not stopped and anew.begin_anew(ranking, most):  # an earlier run had less time for them
            ranking, stopped = anew, anew.seek(max_expanded=most, clock=clock)
            if not stopped:
                stopped = counted(ranking)
        return ranking.ranks(stopped)


def _after_the_tree(max_seconds: float | None, began: Clock) -> float | None:
    """What is left of the time for a search: a quarter of it at least, whatever the tree took."""
    return None if max_seconds is None else max(max_seconds / 4, max_seconds - began.passed)


class _Pace:
    """How fast this run goes: without what earlier runs have done, and from when the walk began."""

    def __init__(self, search: Search, clock: Clock) -> None:
        self._search, self._clock = search, clock
        self.before, self._began = search.expanded, clock.passed

    @property
    def seconds(self) -> float:
        return self._clock.passed - self._began

    def within(self, most: float) -> float:
        """How many prefixes there is time for in all, if they take as long as those before."""
        done = self._search.expanded - self.before
        if not self._clock.is_limited or not done:
            return most
        return min(most, self._search.expanded + done * self._clock.left / max(agreed(self.seconds), 1e-9))


def _check_given(model: Any, tokenizer: Any, format: Any, context: Any, source_prefix: Any) -> None:
    """Refuse what nothing could be searched with.

    Raises:
        ArgumentTypeError: one of another type, such as a name or a text.
    """
    check_model(model)
    check_tokenizer(tokenizer)
    check_format(format)
    check_context("context", context)
    check_context("source_prefix", source_prefix)


class _Place:
    """Where is searched: a tree, and a model after its prompt.

    Attributes:
        tree: the format's.
        max_memory: bytes, for all.
        shared: bits of what all candidates share; known once it was entered.
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
        check_batch_size(batch_size)
        for argument, text in (("source", source), ("context", context)):
            format.check_fixed(argument, text)
        self._model, self._tokenizer, self._format = model, tokenizer, format
        self._context, self._end, self._batch_size = context, end, batch_size
        self._source_prefix = source_prefix
        check_memory(max_memory)
        self.max_memory = max_memory or MEMORY
        self.shared = 0.0
        with evaluating(model) as bare:
            view = LanguageModel(bare)
            self._source_text = self._fixed_source(source)
            view.check_source(self._source_text is not None)
            behind = end_token(tokenizer, target=view.is_encoder_decoder) if end else None
            self.tree = TokenTree(format, tokenizer, context=context, end=behind, target=view.is_encoder_decoder)
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
            self.shared = float(session.prompt_bits[self._first :].sum())
            yield view, session

    @property
    def is_impossible(self) -> bool:
        """Whether what all candidates share has probability 0, so that all of them cost infinity."""
        return self.shared == math.inf

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
            yield Candidate(text, self._format.parse(text), self.shared + cost, samples_for(cost))

    def references(
        self,
        view: LanguageModel,
        listed: Sequence[Sequence[int]],
        count: int,
        clock: Clock,
        pace: _Pace,
        search: Search,
    ) -> Floats:
        """(n,) bits of random candidates: as many as there is time for, or none.

        Raises:
            ModelError: one is cheaper than the search says that any can be which it does not list.
        """
        count = min(count, self._format.space_size, max(_FEWEST, _MOST_TOKENS // self.tree.depth))
        if clock.is_limited:
            seconds_each = agreed(pace.seconds) / max(1, search.expanded - pace.before) * self.tree.depth
            if not clock.left or clock.fits(seconds_each) < min(count, _FEWEST):
                return np.empty(0)
        paths = self.tree.paths([self._format.render(fill) for fill in self._format.sample(count, "typical")])
        sequences = [[*self.tree.prompt, *path] for path in paths]
        blocks = (range(count)[block] for block in clock.blocks(count, _FEWEST))
        costs = np.concatenate([self._scored(view, [sequences[number] for number in block]) for block in blocks])
        listed_paths = set(map(tuple, listed))
        others = [cost for cost, path in zip(costs, paths, strict=False) if tuple(path) not in listed_paths]
        if self.tree.is_certain and not view.is_half and min(others, default=math.inf) < self._least(search):
            raise unlike("a candidate", "one by which it is cheaper than the search says that it can be")
        return costs

    def _least(self, search: Search) -> float:
        return self.shared + search.lower_bound - MOST_APART

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

    def progress(self, search: Search, best: float, pace: _Pace, expected: float = 0.0) -> Progress:
        return Progress(
            search.expanded,
            search.open,
            self.shared + best,
            self.shared + search.lower_bound,
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
        (ids,) = source_ids(self._tokenizer, [self._source_text], self._source_prefix)
        view.check_length(len(ids), "source", of_source=True)
        return Source(tuple(ids), view.start(ids, self.tree.first, self.tree.tail))

    def _fixed_source(self, source: str | None) -> str | None:
        if source is not None or self._format.source is None:
            return source
        if self._format.source_varies:
            raise FormatError(
                "format",
                "one source for every fill, since the tree is that of what a decoder writes after it",
                f"the source {shown(self._format.source)}, which differs between fills",
                "Give source=, one text; for pairs, measure_exposure scores each fill with its own source.",
            )
        return self._format.render_source(0)

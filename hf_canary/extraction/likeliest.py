"""Extraction: the cheapest fills of a format under a model, with what is proven about them (§8).

Joins model, tokenizer and format to the search walk. Of canaries it knows texts and ids, to say which were found; the
search itself is told a format, not what was inserted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import (
    PROGRESS,
    check_among,
    check_callable,
    check_expanded,
    check_instance,
    check_int,
    check_list,
    check_seconds,
)
from ..canaries import Canary
from ..errors import ArgumentError, DataError, FormatError, ModelError, shown
from ..formats.canary_format import CanaryFormat
from ..inference.evaluation import evaluating
from ..runtime.deadline import Deadline
from ..runtime.interrupts import noticing
from ..tokenization.contexts import Before
from ..walks.search.checkpoint import (
    check_writable,
)
from ..walks.search.goals import Ascending, Cheapest
from ..walks.search.run import go_on
from ..walks.search.search import Progress, Search
from ..walks.search.strategy import STRATEGIES
from .result import Candidate, Extraction
from .search_setup import Pace, SearchSetup, after_the_tree, check_given

_FOR_REFERENCES = 0.1  # of the time
# About what Python takes for a candidate that is listed, with its text, its tokens, and what compares them with the
# tokenizer's; all of them may take a quarter of the memory, since what waits has as much, whatever the strategy.
_CANDIDATE_BYTES, _FOR_CANDIDATES = 2000, 0.25


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
        source: what an encoder-decoder reads; the format's own, if that is fixed text. Of a causal model it is the
            context, where no `context` is given.
        source_prefix: what stands before it: a text or a `Context` of tokens; of a causal model a text.
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
        max_memory: bytes that open prefixes, forward passes and the candidates that are found may take; None is 1 GiB.
            Beside it stand the weights, the tokenizer's vocabulary and the format's tree: about a kilobyte for each
            entry of an alphabet and of the vocabulary.
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
        ArgumentError: what is no model, tokenizer, format, number or strategy; `top_k` above |R|, or more than
            `max_memory` has room for.
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
    check_given(model, tokenizer, format, context, source_prefix, end)
    top_k = format.check_top_k(top_k)
    check_among("strategy", strategy, STRATEGIES, "Leave it out for auto.")
    max_expanded, max_seconds = check_expanded(max_expanded), check_seconds(max_seconds)
    num_references = check_int("num_references", num_references, least=0)
    known = _of_format(canaries, format)
    check_callable("progress", progress, PROGRESS)
    check_writable(checkpoint)
    began = Deadline()
    setup = SearchSetup(model, tokenizer, format, source, source_prefix, context, end, batch_size, max_memory)
    _check_room(top_k, setup.max_memory)
    setup.tree.assure()
    max_seconds = after_the_tree(max_seconds, began)
    file = setup.checkpoint(checkpoint, f"the {top_k} likeliest, {strategy}")
    with setup.entered() as (view, session), noticing() as interrupted:
        if setup.is_impossible:
            return setup.nothing()
        goal = Cheapest(top_k, setup.tree.depth, _CANDIDATE_BYTES)
        search = Search(view, session, setup.tree, goal, strategy=STRATEGIES[strategy], max_memory=setup.max_memory)
        file.load(search, goal)
        whole = Deadline(max_seconds)  # not before, since reading a large checkpoint may take as long
        deadline = whole.part(1.0 - _FOR_REFERENCES) if num_references else whole
        pace = Pace(search, deadline)

        def after_each() -> None:
            file.save_if_due(search, goal)
            if progress is not None:
                progress(setup.progress(search, goal.best, pace))

        stopped = go_on(
            search, max_expanded=max_expanded, deadline=deadline, interrupted=interrupted, after_each=after_each
        )
        file.save(search, goal)
        leaves = goal.leaves
        candidates = tuple(setup.candidates(leaves, goal.costs.tolist()))
        reference_rows, references = 0, np.empty(0)
        if num_references and stopped != "interrupted":
            before = view.token_rows
            references = setup.references(view, leaves, num_references, whole, pace, search)
            reference_rows = view.rows_of_all(view.token_rows - before)
        names = [f"candidates[{number}]" for number in range(len(candidates))]
        setup.tree.assure([candidate.fill for candidate in candidates], names)
        if search.is_over and not setup.tree.is_certain:
            stopped = "tokenizer"
        lower_bound = setup.prefix_bits + search.lower_bound if setup.tree.is_certain else 0.0
        return Extraction(
            candidates=setup.ranked(candidates, leaves, known, lower_bound),
            certified=search.is_over and setup.tree.is_certain,
            expanded=search.expanded,
            lower_bound=lower_bound,
            stopped=stopped,
            collisions=setup.tree.collisions,
            space_size=format.space_size,
            typical=float(np.median(references)) if len(references) else math.nan,
            num_references=len(references),
            reference_rows=reference_rows,
            least_reference=float(references.min()) if len(references) else math.nan,
            num_canaries=len(known),
        )


def _check_room(top_k: int, max_memory: int) -> None:
    """Refuse more candidates than there is memory for, before they are looked for.

    Raises:
        ArgumentError: they would take more than a quarter of it.
    """
    needed = int(top_k * _CANDIDATE_BYTES / _FOR_CANDIDATES)
    if needed > max_memory:
        raise ArgumentError(
            "max_memory",
            f"{needed:,} bytes or more, of which {top_k:,} candidates take a quarter",
            f"{max_memory:,}",
            "Raise it, or lower top_k.",
        )


def _of_format(canaries: Iterable[Canary] | None, format: CanaryFormat) -> list[Canary]:
    """Those whose texts the format writes.

    Raises:
        DataError: none of this format; what is no canary, an `ArgumentTypeError`.
    """
    if canaries is None:
        return []
    expected, remedy = "a CanarySet, or a list of its canaries", "Load it: CanarySet.load."
    given = check_list("canaries", canaries, expected, remedy)
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
            "Give the format of one of them.",
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
        model: a causal language model, or an encoder-decoder.
        tokenizer: its tokenizer, of any kind.
        format: candidates must not be prefixes of one another, unless `end` tells them apart.
        source: what an encoder-decoder reads; the format's own, if that is fixed text. Of a causal model it is the
            context, where no `context` is given.
        source_prefix: what stands before it: a text or a `Context` of tokens; of a causal model a text.
        context: what stands before the canary where it is trained on: a text, or a `Context` of tokens; conditioned on,
            not summed.
        end: whether the end token follows each candidate and is summed.
        batch_size: prefixes of one forward pass; None chooses.
        max_expanded: end after so many prefixes.
        max_seconds: end so long after the first candidate is asked for.
        max_memory: bytes that open prefixes and forward passes may take, beside weights, vocabulary and tree, as in
            `extract`; None is 1 GiB.

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
    check_given(model, tokenizer, format, context, source_prefix, end)
    max_expanded, max_seconds = check_expanded(max_expanded), check_seconds(max_seconds)
    setup = SearchSetup(model, tokenizer, format, source, source_prefix, context, end, batch_size, max_memory)
    if not setup.tree.is_certain:
        raise ModelError(
            "tokenizer",
            "one whose encodings can be derived from its parts, since each candidate comes with a proof",
            "one that is written in Python",
            "Use extract, which says that nothing is proven, or a format of fewer fills.",
        )
    setup.tree.assure()
    return _ascending(model, setup, max_expanded, max_seconds)


def _ascending(
    model: Any, setup: SearchSetup, max_expanded: int | None, max_seconds: float | None
) -> Iterator[Candidate]:
    deadline = Deadline(max_seconds)
    with setup.entered() as (view, session):
        if setup.is_impossible:
            return
        goal = Ascending()
        search = Search(view, session, setup.tree, goal, strategy=STRATEGIES["best-first"], max_memory=setup.max_memory)
    capped = False
    while True:
        for cost, path in goal.final(search.least):
            yield from setup.candidates([path], [cost])
        if capped or not search.open:
            return
        with evaluating(model):
            capped = go_on(
                search, max_expanded=max_expanded, deadline=deadline, interrupted=lambda: goal.best < search.least
            ) not in ("", "interrupted")

"""Exact ranks of listed fills, counted by a walk over what is likelier (Definition 2)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..arguments import PROGRESS, check_callable, check_expanded, check_list, check_seconds
from ..formats.canary_format import CanaryFormat
from ..inference.language_model import LanguageModel, Session
from ..measurement.ranking import Rank, Ranking, impossible
from ..measurement.sampling import draw
from ..runtime.deadline import Deadline
from ..runtime.interrupts import noticing
from ..tokenization.contexts import Before
from ..walks.search.checkpoint import Checkpoint, check_writable
from ..walks.search.run import go_on
from ..walks.search.search import Progress
from .search_setup import Pace, SearchSetup, after_the_tree, check_given

_DRAWS = 1000  # from which the work of a count is foreseen


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

    No candidate is cheaper than its beginning, so that prefixes which cost more than the fill need not be read. A
    fill that is memorised is counted by its own prefixes and a few hundred others. If that is not enough, how many
    prefixes it takes is foreseen from a thousand random fills (Knuth 1975), and said before the walk goes on, as
    `progress(...).expected`. Costs are compared as this walk has them.

    Args:
        model: a causal language model, or an encoder-decoder.
        tokenizer: its tokenizer, of any kind.
        format: candidates must not be prefixes of one another, unless `end` tells them apart.
        fills: whose ranks are asked for; ints of [0, |R|).
        source: what an encoder-decoder reads; the format's own, if that is fixed text. Of a causal model it is the
            context, where no `context` is given.
        source_prefix: what stands before it: a text or a `Context` of tokens; of a causal model a text.
        context: what stands before the canary where it is trained on: a text, or a `Context` of tokens; conditioned on,
            not summed.
        end: whether the end token follows each candidate and is summed.
        batch_size: prefixes of one forward pass; None chooses.
        max_expanded: stop after so many prefixes, beside the draws. Likelier fills have their ranks first.
        max_seconds: stop after so long.
        max_memory: bytes that open prefixes and forward passes may take, beside weights, vocabulary and tree, as in
            `extract`; None is 1 GiB.
        checkpoint: a file in which the count is kept every so often and at its end, once it is known what the fills
            cost; if it is there, the count goes on from it. What a run with lower caps has left out is counted in a
            walk of its own, after the one in the file.
        progress: called after each batch with a `Progress`; its `best` is the cost up to which is counted.

    Returns:
        For each fill a `Rank`: 1 is the likeliest. Its exposure in bits is log2|R| − log2 of it (Definition 4).

    Raises:
        FormatError: a fill that is none, and as `extract`.
        ArgumentError, ModelError, DataError: as `extract`.

    Example:
        >>> from hf_canary import CanaryFormat, extract
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["my pin is 0123456789"])
        >>> model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8))
        >>> format = CanaryFormat("my pin is {digit:4}")
        >>> likeliest = extract(model, tokenizer, format).candidates[0]
        >>> [rank.rank for rank in exact_rank(model, tokenizer, format, [likeliest.fill])]
        [1]
    """
    check_given(model, tokenizer, format, context, source_prefix, end)
    fills = check_list("fills", fills, "a list of whole numbers", "Put one alone into a list.")
    for fill in fills:
        format.render(fill)
    fills = [operator.index(fill) for fill in fills]
    max_expanded, max_seconds = check_expanded(max_expanded), check_seconds(max_seconds)
    check_callable("progress", progress, PROGRESS)
    check_writable(checkpoint)
    began = Deadline()
    setup = SearchSetup(model, tokenizer, format, source, source_prefix, context, end, batch_size, max_memory)
    if not fills:
        return []
    setup.tree.assure(fills, [f"fills[{number}]" for number in range(len(fills))])
    max_seconds = after_the_tree(max_seconds, began)
    file = setup.checkpoint(checkpoint, f"ranks of {', '.join(map(hex, fills))}")
    most = math.inf if max_expanded is None else max_expanded
    with setup.entered() as (view, session):
        if setup.is_impossible:
            return [impossible(format.space_size)] * len(fills)
        return _Count(setup, view, session, fills, file, most, max_seconds, progress).ranks()


class _Count:
    """The count of some fills' ranks: taken up from a file, begun, foreseen, and gone on with.

    Args:
        setup: where is searched.
        view: the model, in evaluation.
        session: after the prompt.
        fills: whose ranks are asked for.
        file: in which the count is kept.
        most: prefixes that may be read.
        max_seconds: how long it may take; None for no limit.
        progress: called after each batch.
    """

    def __init__(
        self,
        setup: SearchSetup,
        view: LanguageModel,
        session: Session,
        fills: list[int],
        file: Checkpoint,
        most: float,
        max_seconds: float | None,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._setup, self._view, self._session, self._fills = setup, view, session, fills
        self._file, self._most, self._progress = file, most, progress
        self._ranking = self._begun()
        self._is_old = file.load(self._ranking.search, self._ranking)
        self._deadline = Deadline(max_seconds)  # not before, since reading a large checkpoint may take as long

    def ranks(self) -> list[Rank]:
        """As far as they can be counted."""
        ranking, stopped = self._ranking, ""
        if not self._is_old:
            stopped = ranking.first_pass(max_expanded=self._most, deadline=self._deadline)
        if not ranking.goal.is_settled:
            return ranking.ranks(stopped)
        self._tell(ranking, Pace(ranking.search, self._deadline))
        if not ranking.search.is_over and not ranking.is_foreseen:
            self._foresee()
        if stopped or (ranking.search.is_over and not self._is_old):
            self._file.save(ranking.search, ranking)
            return ranking.ranks(stopped)
        return self._counted_anew(self._go_on(ranking))

    def _begun(self) -> Ranking:
        setup = self._setup
        return Ranking(self._view, self._session, setup.tree, self._fills, max_memory=setup.max_memory)

    def _tell(self, ranking: Ranking, pace: Pace) -> None:
        if self._progress is not None:
            self._progress(self._setup.progress(ranking.search, ranking.goal.best, pace, ranking.work))

    def _foresee(self) -> None:
        """The likeliest are counted by now, and of the others it is worth knowing how much work they are."""
        setup, first = self._setup, self._deadline.part(0.5)
        sampled = draw(
            self._view, lambda: setup.of_one_age(self._view), setup.tree, self._fills, _DRAWS, seed=0, deadline=first
        )
        if sampled is not None:
            self._ranking.foresee(sampled)

    def _go_on(self, ranking: Ranking) -> str:
        """Count until all is counted, or it must end; why it did."""
        pace = Pace(ranking.search, self._deadline)

        def after_each() -> None:
            ranking.narrow(pace.within(self._most))
            self._file.save_if_due(ranking.search, ranking)
            self._tell(ranking, pace)

        with noticing() as interrupted:  # Ctrl-C before it is no loss
            after_each()
            stopped = go_on(
                ranking.search,
                max_expanded=self._most,
                deadline=self._deadline,
                interrupted=interrupted,
                after_each=after_each,
            )
            self._file.save(ranking.search, ranking)
        return stopped

    def _counted_anew(self, stopped: str) -> list[Rank]:
        """The ranks; those that an earlier run had no time for, by another walk."""
        if self._is_old and not stopped:
            anew = self._begun()
            if anew.begin_anew(self._ranking, self._most):
                stopped = anew.seek(max_expanded=self._most, deadline=self._deadline) or self._go_on(anew)
                return anew.ranks(stopped)
        return self._ranking.ranks(stopped)

"""What a model says of one format: costs of canaries, twins and references, draws from the ladder, counted ranks.

Each kind is made once, when an estimator asks for it, and serves every canary and twin of the format; within a limit
of time the samples shrink. Knows no estimator's formula.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from operator import methodcaller
from typing import TypeVar

import numpy as np

from ..arrays import Floats
from ..estimators.exposures import MOST_APART
from ..inference.cache_adapters import Source
from ..inference.language_model import LanguageModel, Session
from ..runtime.deadline import Deadline, agreed
from ..scoring import score_encoded
from ..tree.token_tree import TokenTree, unlike
from .encoded_format import EncodedFormat
from .ranking import FORESEEN, Rank, Ranking
from .sampling import SampledFills, draw

# With a limit of time, so many references show which canaries are likelier, and so many how long one takes.
_TO_COMPARE, _FIRST_BLOCK = 32, 256

# A part of the time that the likeliest get to be counted, also where the tree has taken it all.
_LEAST = 0.1


Found = TypeVar("Found")


class Observations:
    """What a model says of one format.

    Args:
        language_model: the model, in evaluation.
        encoded_format: the format, and how to measure.
        deadline: how long it may take.
        progress: called with the number of texts scored since the last call.

    Attributes:
        format: the format.
        canary_costs: (2 n_canaries,) bits of the canaries, then of their twins.
        measured: numbers among these, of which exposures are asked for.
        token_rows: how many tokens were fed to the model, by what for: `scored`, `drawn`, `counted`.
        made_sampled_fills: the draws, once somebody has asked for them.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        encoded_format: EncodedFormat,
        deadline: Deadline,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self._language_model, self._encoded_format, self._deadline = language_model, encoded_format, deadline
        self._progress = progress
        self.format = encoded_format.format
        self._fills, self.measured = encoded_format.canary_fills, encoded_format.measured
        self.token_rows = dict.fromkeys(("scored", "drawn", "counted"), 0)
        self._ranks: dict[int, Rank] = {}
        self._has_tried_first_ranks = False
        self.made_sampled_fills: SampledFills | None = None
        began = time.monotonic()
        # Without a limit all at once; else what is memorised can be counted before more references take the time.
        size = len(self._fills) + _TO_COMPARE if deadline.is_limited else len(encoded_format.fills)
        costs = self._metered("scored", lambda: self._score(slice(0, size)))
        self.canary_costs, self._first_references = costs[: len(self._fills)], costs[len(self._fills) :]
        seconds = agreed(time.monotonic() - began)
        self._seconds_a_row = seconds / max(1, self.token_rows["scored"])

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit of time."""
        return self._deadline.is_limited

    @cached_property
    def references(self) -> Floats:
        """(n_references,) bits of random other candidates, all different: as many as there is time for; 256 anyway."""
        at = len(self._fills) + len(self._first_references)
        rest = len(self._encoded_format.fills) - at
        if not rest:
            return self._first_references
        blocks = self._deadline.part(0.5).blocks(rest, _FIRST_BLOCK - len(self._first_references))
        costs = [
            self._metered("scored", partial(self._score, slice(at + block.start, at + block.stop))) for block in blocks
        ]
        return np.concatenate([self._first_references, *costs])

    @property
    def is_complete(self) -> bool:
        """Whether every candidate has been scored."""
        return len(self._fills) + len(self.references) == self.format.space_size

    @cached_property
    def fill_bits(self) -> Floats:
        """(2 n_canaries,) of each cost the part from where candidates differ on: what a guesser must guess."""
        texts, encoding, sources = self._encoded_format.encoded(slice(0, len(self._fills)))
        unsummed = self._encoded_format.num_common

        def scored() -> Floats:
            named = self._encoded_format.name
            return score_encoded(self._language_model, texts, encoding, sources, unsummed=unsummed, named=named)

        return self._metered("scored", scored)

    @property
    def why_no_tree(self) -> str:
        """Why the fills cannot be walked as one tree; empty where they can."""
        return self._encoded_format.why_no_tree

    @property
    def tree(self) -> TokenTree:
        """The tree of the format's encodings.

        Raises:
            ModelError: the tokenizer's encodings cannot be followed.
        """
        return self._encoded_format.tree

    @cached_property
    def sampled_fills(self) -> SampledFills | None:
        """Draws from the ladder; None where there is no time for enough of them."""
        count = self._encoded_format.config.num_draws
        if self._deadline.is_limited:
            count = int(min(count, self._deadline.fits(self._seconds_a_row * self.tree.depth)))
        if count < 1:
            return None

        def drawn() -> SampledFills | None:
            return draw(
                self._language_model,
                self._started,
                self.tree,
                self._fills,
                count,
                seed=self._encoded_format.config.seed,
                deadline=self._deadline,
            )

        sampled = self._metered("drawn", drawn)
        if sampled is not None:
            self._check_costs(self._session, range(len(self._fills)), sampled.canary_costs)
        self.made_sampled_fills = sampled
        return sampled

    def _check_costs(self, session: Session, numbers: Sequence[int], walked: Floats) -> None:
        """Scored as texts and walked in the tree behind what all share, canaries and twins must cost the same.

        Args:
            session: of the walk.
            numbers: among canaries and twins.
            walked: bits behind the tree's prompt; NaN where a walk ended before.

        Raises:
            ModelError: one does not, so that the tree's leaf is not its encoding.
        """
        first = self._language_model.first_summed(self.tree.conditioned, len(self.tree.prompt))
        scored = self.canary_costs[numbers] - float(session.prompt_bits[first:].sum())
        is_read = ~np.isnan(walked)
        with np.errstate(invalid="ignore"):
            apart = np.where(np.isfinite(scored) == np.isfinite(walked), np.nan_to_num(np.abs(scored - walked)), np.inf)
        # In half precision costs of two batches differ by as much as errors would, but none is impossible in one alone.
        most = np.finfo(np.float64).max if self._language_model.is_half else MOST_APART
        wrong = np.flatnonzero(is_read & (apart > most))
        if len(wrong):
            name = self._encoded_format.names[numbers[wrong[0]]]
            raise unlike(name, f"one whose encoding of it costs {apart[wrong[0]]:.2f} bits more or less")

    @property
    def canary_copies(self) -> Floats:
        """(2 n_canaries,) how many fills are encoded as each; 0 for one that is encoded as an earlier one."""
        return self._encoded_format.canary_copies

    @property
    def own_copies(self) -> Floats:
        """(2 n_canaries,) how many fills are encoded as each, itself among them; where there is a tree."""
        return np.array([float(self.tree.copies(fill)) for fill in self._fills])

    @cached_property
    def scored_copies(self) -> Floats:
        """(2 n_canaries,) the same, of the fills that were scored."""
        _, encoding, sources = self._encoded_format.encoded(slice(0, len(self._encoded_format.fills)))
        rows = [(*row, -1, *(sources[number] if sources else ())) for number, row in enumerate(encoding.sequences)]
        counts = Counter(rows)
        return np.array([float(counts[row]) for row in rows[: len(self._fills)]])

    @property
    def different_encodings(self) -> int | None:
        """How many encodings the fills have, if that is fewer; known where there is a tree."""
        tree = self._encoded_format.made_tree
        return tree.space_size if tree is not None and tree.space_size < self.format.space_size else None

    def ranks(self, max_expanded: Sequence[float]) -> dict[int, Rank]:
        """Exact ranks, by number among canaries and twins, of those that can be counted by so much work each.

        The work is foreseen from the draws. It is done by one walk, up to the costliest of them; where that takes more
        than was foreseen, by another up to the costliest of the cheaper half.

        Args:
            max_expanded: (2 n_canaries,) prefixes that may be read for each.
        """
        sampled = self.sampled_fills
        if sampled is None:
            return self._ranks_of(max_expanded)
        most = np.minimum(np.asarray(max_expanded, dtype=np.float64), self._deadline.fits(self._seconds_a_row))
        costs = sampled.canary_costs
        open_numbers = (n for n in np.argsort(costs).tolist() if n not in self._ranks and math.isfinite(costs[n]))
        within = [n for n in open_numbers if FORESEEN * sampled.expected_expansions(float(costs[n])) <= most[n]]
        while within:
            cap = float(most[within].max())
            is_any = self._count(within, methodcaller("count", max_expanded=cap, deadline=self._deadline))
            within = within[: len(within) // 2] if not is_any else []
        return self._ranks_of(max_expanded)

    def first_ranks(self) -> dict[int, Rank]:
        """The same, of those that are likelier than the first references, as far as a few hundred prefixes tell. That
        needs no draws.
        """
        if not self._has_tried_first_ranks and self._deadline.left:
            self._has_tried_first_ranks = True
            least = self._first_references.min(initial=np.inf)
            likely = [number for number in self.measured if self.canary_costs[number] < least]
            if likely and not self.why_no_tree:  # which may have taken the time
                self._count(
                    likely, lambda ranking: ranking.first_pass(deadline=self._deadline.least(0.5, of_all=_LEAST))
                )
        return dict(self._ranks)

    def _ranks_of(self, max_expanded: Sequence[float]) -> dict[int, Rank]:
        return {number: rank for number, rank in self._ranks.items() if max_expanded[number] > 0}

    def _count(self, numbers: list[int], go: Callable[[Ranking], object]) -> bool:
        """By one walk; whether it has found any."""
        fills = [self._fills[number] for number in numbers]
        session = self._metered("counted", partial(self._new_session, mixed=True))
        max_memory = self._language_model.max_memory
        ranking = Ranking(self._language_model, session, self.tree, fills, max_memory=max_memory)
        self._metered("counted", lambda: go(ranking))
        self._check_costs(session, numbers, ranking.goal.fill_costs)
        ranks = zip(numbers, ranking.ranks(), strict=True)
        found = {number: rank for number, rank in ranks if rank.rank is not None}
        self._ranks |= found
        return bool(found)

    def _score(self, block: slice) -> Floats:
        def named(number: int) -> str:
            return self._encoded_format.name(block.start + number)

        return score_encoded(
            self._language_model, *self._encoded_format.encoded(block), progress=self._progress, named=named
        )

    @cached_property
    def _session(self) -> Session:
        return self._new_session(mixed=False)

    def _new_session(self, *, mixed: bool) -> Session:
        tree, ids = self.tree, self._encoded_format.source
        source = Source(tuple(ids), self._language_model.start(ids, tree.first, tree.tail)) if ids is not None else None
        return self._language_model.session(tree.prompt, tree.depth, source=source, mixed=mixed)

    def _started(self) -> Session:
        return self._session

    def _metered(self, purpose: str, work: Callable[[], Found]) -> Found:
        before = self._language_model.token_rows
        result = work()
        self.token_rows[purpose] += self._language_model.rows_of_all(self._language_model.token_rows - before)
        return result

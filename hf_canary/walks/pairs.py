"""Pairs of source and target, each scored by one full pass (§6.4): where every text has a source of its own, nothing
is shared, or with a causal model what stands before the sources.

Knows tokens and costs; knows no text, no tokenizer and no format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Floats, num_common
from ..inference.batching import BatchLimit, in_batches
from ..inference.cache_adapters import Source
from ..inference.language_model import LanguageModel, Session

Tokens = Sequence[int]


def score_pairs(
    language_model: LanguageModel,
    pairs: Sequence[tuple[Source, Tokens]],
    conditioned: int,
    *,
    progress: Callable[[int], object] | None = None,
) -> Floats:
    """The bits of each target's tokens after the first `conditioned` ones, given its source.

    Args:
        language_model: an encoder-decoder.
        pairs: a source and the ids of its target; none empty.
        conditioned: how many first tokens of the targets condition and are not summed.
        progress: called with the number of pairs finished since the last call.

    Returns:
        (n_pairs,) summed bits, in order; lower means better memorised.
    """
    costs = np.empty(len(pairs))
    report = progress or (lambda count: None)
    # Pairs of like length side by side, so that little is padded; the longest first, so that memory fails at once.
    waiting = sorted(range(len(pairs)), key=lambda i: (len(pairs[i][1]), len(pairs[i][0].ids)), reverse=True)
    limit = BatchLimit(len(pairs))

    def size_of(waiting: list[int]) -> int:
        # The longest target comes first; its source, or another's, may be the longest of the batch.
        longest = len(pairs[waiting[0]][1]) + max(len(pairs[i][0].ids) for i in waiting[: limit.rows])
        return min(limit.rows, language_model.pairs_at_once(longest))

    def read(batch: list[int]) -> tuple[list[int], Floats]:
        bits = language_model.bits_of_pairs([pairs[i][0] for i in batch], [pairs[i][1] for i in batch])
        return batch, bits[:, conditioned:].sum(axis=1)

    for batch, bits in in_batches(waiting, size_of, read, limit):
        costs[batch] = bits
        report(len(batch))
    return costs


def score_rows(
    language_model: LanguageModel,
    rows: Sequence[Tokens],
    starts: Sequence[int],
    *,
    progress: Callable[[int], object] | None = None,
) -> Floats:
    """The bits of each row's tokens after its own first ones, which hold its source.

    Args:
        language_model: a causal one.
        rows: ids.
        starts: how many first tokens of each condition and are not summed; fewer than it has, and one at least where
            the model does not say what comes first.
        progress: called with the number of rows finished since the last call.

    Returns:
        (n_rows,) summed bits, in order; lower means better memorised.
    """
    shared = min(num_common(rows), *starts)
    longest_first = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
    reader: _Passes | _BehindPrompt
    if shared or language_model.starts_itself:
        prompt, depth = rows[0][:shared], len(rows[longest_first[0]]) - shared
        reader = _BehindPrompt(language_model.session(prompt, depth))
    else:
        reader = _Passes(language_model, BatchLimit(len(rows)))

    def size_of(waiting: list[int]) -> int:
        return reader.rows_at_once(len(rows[waiting[0]]) - shared)

    def read(batch: list[int]) -> tuple[list[int], Floats]:
        bits = reader.bits([rows[i][shared:] for i in batch])
        is_summed = np.arange(bits.shape[1]) >= np.array([starts[i] - shared for i in batch])[:, None]
        return batch, np.where(is_summed, bits, 0.0).sum(axis=1)

    costs = np.empty(len(rows))
    for batch, bits in in_batches(longest_first, size_of, read, reader.limit):
        costs[batch] = bits
        (progress or (lambda count: None))(len(batch))
    return costs


@dataclass(frozen=True)
class _Passes:
    """Whole rows, by full passes."""

    language_model: LanguageModel
    limit: BatchLimit

    def rows_at_once(self, tokens: int) -> int:
        return min(self.limit.rows, self.language_model.pairs_at_once(tokens))

    def bits(self, rows: Sequence[Tokens]) -> Floats:
        return self.language_model.bits_of_rows(rows)


@dataclass(frozen=True)
class _BehindPrompt:
    """The rest of rows, behind what they share."""

    session: Session

    @property
    def limit(self) -> BatchLimit:
        return self.session.limit

    def rows_at_once(self, tokens: int) -> int:
        return self.session.rows_at_once(tokens)

    def bits(self, rows: Sequence[Tokens]) -> Floats:
        """(n_rows, longest) bits of each token; 0 behind the end of a shorter row."""
        lengths = np.array([len(row) for row in rows])
        ids = np.zeros((len(rows), lengths.max()), dtype=np.int64)
        for own, row in zip(ids, rows, strict=True):
            own[: len(row)] = row
        bits = np.zeros(ids.shape)
        bits[:, 0] = self.session.bits(ids[:, 0])
        if ids.shape[1] > 1:
            states = self.session.state.select(np.zeros(len(rows), dtype=np.int64))
            behind, _ = self.session.advance(states, ids[:, :-1], ids[:, 1:, None], lengths=lengths - 1)
            bits[:, 1:] = np.where(np.arange(1, ids.shape[1]) < lengths[:, None], behind[..., 0], 0.0)
        return bits

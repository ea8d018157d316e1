"""Pairs of source and target, each scored by one full pass (§6.4): where every text has a source of its own, nothing
is shared.

Knows tokens and costs; knows no text, no tokenizer and no format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..arrays import Floats
from ..inference.batching import BatchLimit, in_batches
from ..inference.cache_adapters import Source
from ..inference.language_model import LanguageModel

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

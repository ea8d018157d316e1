"""Pairs of source and target, each scored by one full pass (§6.4): where every text has a source of its own, nothing
is shared.

Knows tokens and costs; knows no text, no tokenizer and no format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from accelerate.utils.memory import should_reduce_batch_size

from ..language_model import Floats, LanguageModel
from ..ways import Source

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
    most = len(pairs)
    while waiting:
        # The longest target comes first; its source, or another's, may be the longest of the batch.
        longest = len(pairs[waiting[0]][1]) + max(len(pairs[i][0].ids) for i in waiting[:most])
        size = min(most, language_model.pairs_at_once(longest))
        batch = waiting[:size]
        try:
            bits = language_model.bits_of_pairs([pairs[i][0] for i in batch], [pairs[i][1] for i in batch])
        except Exception as error:
            if not should_reduce_batch_size(error) or size == 1:
                raise
            most = max(1, len(batch) // 2)
            continue
        costs[batch] = bits[:, conditioned:].sum(axis=1)
        report(len(batch))
        waiting = waiting[size:]
    return costs

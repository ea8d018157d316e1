"""How much a measurement will take, foreseen from a few fills: token rows by their prefixes, seconds by reading some.

Of the estimators it knows what `auto` asks for; it estimates no exposure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from scipy import optimize

from ..arrays import num_common
from ..inference.language_model import LanguageModel
from ..runtime.deadline import agreed
from ..scoring import score_encoded
from .encoded_format import EncodedFormat

_LOOKED_AT = 256  # fills of a format
_LONG_ENOUGH = 0.05  # seconds that more fills take longer than fewer, after which the rate is believed
_CLEARLY_FEWER = 0.6  # times the rows of another reading
_NOISE = 0.05  # of what a reading takes: what is less may be chance


def expected_token_rows(sequences: Sequence[Sequence[int]], count: int) -> float:
    """How many token rows a walk over so many random fills takes: one for each different prefix that has a next token.

    How many prefixes of a length there are is told from how many of the sample's are alike (a birthday problem), as if
    all were as likely.

    Args:
        sequences: (n_sampled) the tokens of random fills.
        count: of fills.

    Example:
        >>> expected_token_rows([[0, 1, 2], [0, 1, 3], [0, 2, 1]], 3)  # 0, 01, 02
        3.0
    """
    total, sampled = 0.0, len(sequences)
    for length in range(1, max(map(len, sequences))):
        prefixes = [tuple(sequence[:length]) for sequence in sequences if len(sequence) > length]
        if prefixes:
            total += _different(len(prefixes), len(set(prefixes)), count * len(prefixes) / sampled)
    return total


def _different(sampled: int, found: int, count: float) -> float:
    """How many different ones so many draws hold, if as many as `sampled` held `found`."""
    if found == sampled:  # perhaps all are different
        return count

    def held(log_size: float, draws: float) -> float:
        """How many of e^log_size equally likely ones are in some draws."""
        return float(np.exp(log_size) * -np.expm1(draws * np.log1p(-np.exp(-log_size))))

    if held(np.log(found + 1e-6), sampled) >= found:  # the sample has most of them
        return float(found)
    bracket = (np.log(found + 1e-6), 2.0 * np.log(sampled) + 1.0)
    log_size = optimize.brentq(lambda log_size: held(log_size, sampled) - found, *bracket)
    return held(log_size, count)


def rows_of_measurement(encoded_format: EncodedFormat, num_references: int, num_draws: int, counted: float) -> float:
    """Token rows of one measurement of a format by `auto`, where it needs both draws and counting.

    Args:
        encoded_format: the format behind its context.
        num_references: that are scored.
        num_draws: of the ladder.
        counted: prefixes for each reference that are read in order to count.
    """
    canaries = len(encoded_format.canary_fills)
    _, encoding, sources = encoded_format.encoded(slice(0, _LOOKED_AT))
    count = min(num_references, encoded_format.format.space_size - canaries) + canaries
    if encoded_format.format.source_varies:  # read one by one; what a decoder writes is counted, not what it reads
        tokens = sum(map(len, encoding.sequences)) / len(encoding.sequences)
        if sources is None:  # without what stands before the sources, which is read once, and the last token
            tokens -= min(num_common(encoding.sequences), *encoding.starts) + 1
        return count * tokens
    if num_references + canaries >= encoded_format.format.space_size:  # nothing is left to draw or count
        return expected_token_rows(encoding.sequences, count)
    drawn = expected_token_rows(encoding.sequences, num_draws)
    return expected_token_rows(encoding.sequences, count) + drawn + counted * count


def seconds_a_row(language_model: LanguageModel, encoded_format: EncodedFormat) -> float:
    """Seconds that a token row takes, by scoring a few fills, and more of them until these take enough longer.

    By what more of them take longer than clearly fewer: each of these scorings has a prompt, a check of the cache and
    calls of the model for a few rows each, which cost a measurement of many little. Where more fills have hardly more
    prefixes, or take hardly longer, all that a scoring takes is said to be its rows'.
    """

    def read(count: int) -> tuple[float, int]:
        given = encoded_format.encoded(slice(0, count))  # which a training has once
        language_model.forget_prompt()  # so that each reading begins with it, and the more of them say what a row takes
        rows, began = language_model.token_rows, time.perf_counter()
        score_encoded(language_model, *given, named=encoded_format.name)
        seconds = agreed(time.perf_counter() - began)
        return seconds, language_model.rows_of_all(language_model.token_rows - rows)

    most, count = min(_LOOKED_AT, len(encoded_format.fills)), 2
    readings = [read(count)]
    longer, more = 0.0, 0
    while longer < max(_LONG_ENOUGH, _NOISE * readings[-1][0]) and count < most:
        count = min(4 * count, most)
        readings.append(read(count))
        longer, more = _beyond_fewer(readings)
    seconds, rows = readings[-1]
    return longer / more if longer > _NOISE * seconds else seconds / max(1, rows)


def _beyond_fewer(readings: Sequence[tuple[float, int]]) -> tuple[float, int]:
    """By how many seconds and rows the last reading goes beyond the latest one that has clearly fewer rows.

    Example:
        >>> _beyond_fewer([(1.0, 4), (1.5, 14), (1.6, 15)])
        (0.6000000000000001, 11)
    """
    seconds, rows = readings[-1]
    fewer = next((each for each in reversed(readings[:-1]) if each[1] <= _CLEARLY_FEWER * rows), readings[-1])
    return seconds - fewer[0], rows - fewer[1]


def seconds_a_token(language_model: LanguageModel, rows: int, tokens: int) -> float:
    """Seconds that a token takes in a full pass over a batch of so many rows and tokens, as training makes them; over
    fewer rows, where the memory says so.
    """
    language_model.read_at_once(1, 2)  # the first pass of all may take longer
    began = time.perf_counter()
    num_tokens = language_model.read_at_once(rows, tokens)
    return agreed(time.perf_counter() - began) / num_tokens

"""Exposure of canaries as a metric of `evaluate`: an adapter of the estimators, without a formula of its own."""

import datasets
import evaluate
import numpy as np

from hf_canary.arguments import check_among
from hf_canary.errors import DataError, shown
from hf_canary.estimators import exposures

_DESCRIPTION = """
Exposure (Carlini et al., 2019) says how much likelier a language model finds a sequence that was inserted into its
training data, a canary, than random sequences of the same format that were not: log2|R| - log2 rank, in bits.
A sequence never seen has 1.44 bits on average; log2|R| means that no other candidate is as likely, and that the canary
can be extracted.
"""

_INPUTS = """
Args:
    log_perplexities: -log2 of each sequence's probability, in bits, summed over its tokens (lower: better memorised).
    is_canary: True for an inserted sequence, False for a random reference of the same format.
    space_size: |R|, how many sequences the format has.
    estimator: "sampled" (by rank among the references, with its exact interval), "exact" (where canaries and
        references are all of R), "auto" (exact where they are, sampled otherwise) or "skewnorm" (by extrapolation).
    confidence: of the interval.
    bootstrap: for "skewnorm", how many samples are fitted anew for the interval; 0 takes the delta method.
Returns:
    exposure: for each canary, in order, in bits (higher: better memorised).
    low, high: the ends of its interval, in bits.
    status: what it is worth: "exact", "reliable", "rough", "interval only", "censored", "extrapolated", "no estimate".
    flags: for each canary, words such as "censored": the true exposure may be anything up to high.
Examples:
    >>> import evaluate
    >>> from hf_canary import EXPOSURE_METRIC
    >>> metric = evaluate.load(EXPOSURE_METRIC)
    >>> result = metric.compute(
    ...     log_perplexities=[31.0, 40.0, 41.5, 39.8, 42.1],
    ...     is_canary=[True, False, False, False, False],
    ...     space_size=5,
    ...     estimator="sampled",
    ... )
    >>> round(result["exposure"][0], 2)
    2.32
"""

_CITATION = """
@inproceedings{carlini2019secret,
  title     = {The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural Networks},
  author    = {Carlini, Nicholas and Liu, Chang and Erlingsson, {\\'U}lfar and Kos, Jernej and Song, Dawn},
  booktitle = {USENIX Security Symposium},
  year      = {2019}
}
"""

_ESTIMATORS = ("auto", "exact", "sampled", "skewnorm")


class CanaryExposure(evaluate.Metric):
    """The metric that `evaluate.load(hf_canary.EXPOSURE_METRIC)` gives."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"log_perplexities": datasets.Value("float64"), "is_canary": datasets.Value("bool")}
            ),
        )

    def _compute(
        self, log_perplexities, is_canary, space_size, estimator="sampled", confidence=exposures.CONFIDENCE, bootstrap=0
    ):
        check_among("estimator", estimator, _ESTIMATORS, "Choose one of these.")
        costs, own = np.asarray(log_perplexities, dtype=np.float64), np.asarray(is_canary, dtype=bool)
        if (costs < 0).any():
            raise DataError(
                "log_perplexities",
                "-log2 of probabilities, which is never negative",
                shown(float(costs[costs < 0][0])),
                "Change the sign of log-likelihoods, and divide nats by ln 2.",
            )
        canaries, references = costs[own], costs[~own]
        if not canaries.size:
            raise DataError("is_canary", "at least one canary", "none", "Mark what was inserted with True.")
        if estimator == "skewnorm":
            estimates = exposures.skewnorm(canaries, references, space_size, bootstrap=bootstrap, confidence=confidence)
        elif estimator == "exact":
            estimates = exposures.exact(canaries, references, space_size)
        else:  # all of R given, the sampled estimate is the exact one
            estimates = exposures.sampled(canaries, references, space_size, confidence=confidence)
        return {
            "exposure": [estimate.value for estimate in estimates],
            "low": [estimate.low for estimate in estimates],
            "high": [estimate.high for estimate in estimates],
            "status": [estimate.status for estimate in estimates],
            "flags": [list(estimate.flags) for estimate in estimates],
        }

"""Exposures from numbers against what others do: interpolation as in tensorflow-privacy, scipy's skew-normal fit.

    python benchmarks/exposures.py

Prints the medians of several turns, taken one after the other, and their ratios; what both find is compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hf_canary.estimators import exposures
from hf_canary.estimators.skew_normal import SkewNormal

CANARIES = 24


def interpolated(canaries: dict[int, Any], references: Any) -> dict[int, NDArray[np.float64]]:
    """The logic of tensorflow-privacy's interpolation: everything is labelled by how often it was inserted, references
    by 0, sorted by cost, and the zeros before each canary are counted. Canaries come out in the order of their costs.
    """
    labels = np.concatenate([[copies] * len(costs) for copies, costs in canaries.items()] + [[0] * len(references)])
    order = np.argsort(np.concatenate([*canaries.values(), references]))
    labels = labels[order]
    before = np.cumsum(labels == 0)
    return {copies: np.log2(len(references)) - np.log2(before[labels == copies] + 1) for copies in canaries}


def in_turns(turns: int, *ways: Callable[[], Any]) -> list[float]:
    """The median seconds of each way."""
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(turns):
        for times, way in zip(seconds, ways, strict=True):
            began = time.perf_counter()
            way()
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in seconds]


def skewed(count: int, shape: float, seed: int) -> NDArray[np.float64]:
    """Draws from a skew-normal."""
    return SkewNormal(shape, 120.0, 15.0).draws(count, np.random.default_rng(seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=10**6)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    count = arguments.references

    references, canaries = skewed(count, 2.0, 0), skewed(CANARIES, 2.0, 1)
    groups = {copies: canaries[number::3] for number, copies in enumerate((1, 4, 16))}
    for kind in ("arrays", "lists"):
        theirs_in = {copies: costs.tolist() if kind == "lists" else costs for copies, costs in groups.items()}
        pool = references.tolist() if kind == "lists" else references
        own = canaries.tolist() if kind == "lists" else canaries
        theirs, ours = in_turns(
            arguments.turns,
            lambda given=theirs_in, pool=pool: interpolated(given, pool),
            lambda given=own, pool=pool: exposures.sampled(given, pool, 10**9),
        )
        found = np.sort([each.value for each in exposures.sampled(own, pool, 10**9)])
        difference = np.abs(np.sort(np.concatenate([*interpolated(theirs_in, pool).values()])) - found).max()
        print(
            f"sampled, {count:,} references, {CANARIES} canaries as {kind}: {theirs:.3f} s by interpolation, "
            f"{ours:.4f} s here"
        )
        print(f"  ratio {theirs / ours:.1f} (limit 20); values differ by {difference:.4f} bits at most")

    for shape in (0.0, 2.0, -5.0):
        sample = skewed(count, shape, 2)
        theirs, ours = in_turns(
            arguments.turns, lambda s=sample: stats.skewnorm.fit(s), lambda s=sample: SkewNormal.fit(s)
        )
        law, scipys = SkewNormal.fit(sample), stats.skewnorm.fit(sample)
        better = float(
            stats.skewnorm.logpdf(sample, law.shape, law.location, law.scale).sum()
            - stats.skewnorm.logpdf(sample, *scipys).sum()
        )
        print(f"fit, shape {shape:4.1f}, {count:,} values: {theirs:.2f} s by scipy, {ours:.3f} s here")
        print(f"  ratio {theirs / ours:.1f} (limit 10); log-likelihood here minus there {better:+.2e}")


if __name__ == "__main__":
    main()

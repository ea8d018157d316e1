"""Which canaries are surely above a threshold, over many canaries and many measurements. Numbers only."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from ..arguments import check_callable, check_number
from ..canaries import CanarySet
from ..errors import ArgumentError, ArgumentTypeError, shown
from ..reporting.exposure_report import ExposureReport

_ERROR = 0.05
_ACTIONS = ("warn", "stop")

OnExceed = str | Callable[[ExposureReport, list[str]], object]


class Threshold:
    """A bound on exposure, and what to do when a canary is surely at or above it.

    A canary's exposure is surely above where the lower end of its interval is. The intervals are made wide enough for
    all of them together: the chance that any canary is called above at any measurement, although its exposure under the
    model of that measurement is not, is 5 % at most. Of that, measurement j has 6/(π j)² (these shares sum to 1, so
    that the number of measurements need not be known), and each canary an equal part (Bonferroni). Counted ranks have
    no error.

    Args:
        bits: the threshold; None for none.
        on_exceed: `"warn"`, `"stop"`, or a function of the report and the ids of the canaries above it.

    Raises:
        ArgumentError: bits that are no positive number, or an action that is none.
    """

    def __init__(self, bits: float | None, on_exceed: OnExceed) -> None:
        expected = "a number of bits, above 0"
        remedy = "Without it nothing is decided."
        bits = check_number("threshold", bits, lambda bits: bits > 0, expected, optional=True, remedy=remedy)
        if not callable(on_exceed) and not (isinstance(on_exceed, str) and on_exceed in _ACTIONS):
            raise (ArgumentError if isinstance(on_exceed, str) else ArgumentTypeError)(
                "on_exceed",
                '"warn", "stop" or a function of the report and the ids above the threshold',
                shown(on_exceed),
                "Leave it out for a warning.",
            )
        if bits is None and (callable(on_exceed) or on_exceed != "warn"):
            raise ArgumentError("on_exceed", "a threshold beside it", shown(on_exceed), "Say threshold=12.0, in bits.")
        if callable(on_exceed):
            check_callable("on_exceed", on_exceed, "a function of the report and the ids", takes=2)
        self.bits, self.on_exceed = bits, on_exceed

    def check(self, canaries: CanarySet) -> None:
        """Refuse one that no canary can reach.

        Raises:
            ArgumentError: it is above log2|R| of every format.
        """
        most = max(math.log2(format.space_size) for format in canaries.formats)
        if self.bits is not None and self.bits > most:
            raise ArgumentError(
                "threshold",
                f"at most {most:.1f} bits, the exposure of the likeliest fill of all",
                shown(self.bits),
                "Lower it, or give the format more or wider holes.",
            )

    def stops(self, report: ExposureReport, above: list[str]) -> bool:
        """What is to be done about these canaries is done; whether the training is to stop."""
        if not callable(self.on_exceed):
            return self.on_exceed == "stop"
        answer = self.on_exceed(report, above)
        return isinstance(answer, (bool, np.bool_)) and bool(answer)

    def error(self, number: int, canaries: int) -> float | None:
        """The chance of error that each canary has at the measurement of this number, the first being 1; None without a
        threshold.
        """
        return None if self.bits is None else _ERROR * 6.0 / (math.pi * number) ** 2 / canaries

    def exceeded(self, report: ExposureReport) -> list[str]:
        """The canaries that were trained on and are surely at or above it, by id, in their order."""
        if self.bits is None:
            return []
        return [e.canary_id for e in report.live if e.estimator == "auto" and e.at_least >= self.bits]

    def by_chance(self, canaries: CanarySet, measurements: int = 1) -> float:
        """How likely it is, at most, that some canary is truly above it at any of so many measurements though none was
        ever seen.

        At one measurement the ranks of those are uniform, and this is the chance itself. Exposures of a fill wander
        while a model trains: with more measurements it is the chance if no fill were ever above at two of them (the
        union bound, for each canary), which is more than there is.

        Example:
            >>> from hf_canary import CanaryFormat
            >>> canaries = CanarySet.draw(CanaryFormat("{digit:6}."), repetitions=(1,), per_repetition=4, seed=0)
            >>> round(Threshold(10.0, "warn").by_chance(canaries), 4)
            0.0039
            >>> round(Threshold(10.0, "warn").by_chance(canaries, measurements=6), 4)
            0.0232
        """
        if self.bits is None:
            return 0.0
        none = 1.0
        for format in canaries.formats:
            space, own = format.space_size, sum(canary.format == format for canary in canaries)
            above = measurements * _floor_of_share(space, self.bits) if self.bits <= math.log2(space) else 0
            for drawn in range(own):  # without replacement
                none *= max(0, space - above - drawn) / (space - drawn)
        return 1.0 - none


def bits_against_chance(canaries: int, measurements: int, chance: float) -> float:
    """The threshold that some of so many canaries never seen truly passes at any measurement with so much chance at
    most.

    1 − (1 − measurements · 2^−bits)^canaries = chance, solved for the bits.

    Example:
        >>> round(bits_against_chance(12, 1, 0.05), 1), round(bits_against_chance(12, 22, 0.05), 1)
        (7.9, 12.3)
    """
    return math.log2(measurements) - math.log2(-math.expm1(math.log1p(-chance) / canaries))


def _floor_of_share(space: int, bits: float) -> int:
    """⌊|R| · 2^−bits⌋, at any size."""
    whole = math.floor(bits)
    return math.floor(space * Fraction(2.0 ** (whole - bits)) / (1 << whole))

"""Canaries, and every way in which one may be written where none should be."""

import re

from hf_canary import (
    CanaryFormat,
    CanarySet,
)
from tests.support import small_training

FORMAT = CanaryFormat("the pin is {digit:6}")
CANARIES = CanarySet.draw(FORMAT, repetitions=(1, 2), per_repetition=2, seed=2**77 + 5)


def secrets_of(canaries):
    """Text and fill of each canary and twin, in whatever way they may be written."""
    for canary in canaries:
        for fill, text in ((canary.fill, canary.text), (canary.twin, canary.twin_text)):
            digits = re.sub(r"\D", "", text)
            yield from (text, digits, str(fill), f"{fill:x}", " ".join(digits), ", ".join(digits))


SECRETS = list(secrets_of([*CANARIES, *small_training.CANARIES]))


def is_told(written):
    """Those that stand there, amid whatever; a bare number of four digits may stand in a decimal by chance."""
    without_decimals = re.sub(r"\d+\.\d+(e[+-]?\d+)?", " ", written)
    return [
        secret for secret in SECRETS if secret in (without_decimals if re.fullmatch(r"\d{1,4}", secret) else written)
    ]

"""Arguments that no data and no model would make right: refused at every door, before any work, as what Python says of
them, too.
"""

import dataclasses
import json
import math
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_canary import (
    CanaryFormat,
    CanarySet,
    ExposureCallback,
    FormatLogitsProcessor,
    InjectCanaries,
    check_presence,
    exact_rank,
    extract,
    log_perplexity,
    measure_exposure,
)
from hf_canary.arguments import check_among, check_int, check_number
from hf_canary.decoding import CheapestFills
from hf_canary.errors import ArgumentError, ArgumentTypeError, CanaryError
from hf_canary.estimators.exposures import sampled, skewnorm
from hf_canary.extraction import iter_extract
from hf_canary.injection.options import InsertionOptions
from hf_canary.models import word_tokenizer
from hf_canary.tokenization.contexts import Context
from hf_canary.training.budget import OverheadBudget
from hf_canary.training.schedule import Schedule
from hf_canary.training.threshold import Threshold
from tests.support.errors import check_error, kind_of

FORMAT = CanaryFormat("the pin is {digit:3}")
CANARIES = CanarySet.draw(FORMAT, repetitions=(1, 2), per_repetition=2, seed=0)
ROWS = [{"input_ids": [1, 2]}]

DOORS = {
    "log_perplexity": lambda given: log_perplexity(
        given.pop("model"), given.pop("tokenizer"), given.pop("texts", ["the pin"]), **given
    ),
    "measure_exposure": lambda given: measure_exposure(
        given.pop("model"), given.pop("tokenizer"), given.pop("canaries", CANARIES), **given
    ),
    "extract": lambda given: extract(given.pop("model"), given.pop("tokenizer"), given.pop("format", FORMAT), **given),
    "iter_extract": lambda given: iter_extract(
        given.pop("model"), given.pop("tokenizer"), given.pop("format", FORMAT), **given
    ),
    "exact_rank": lambda given: exact_rank(
        given.pop("model"), given.pop("tokenizer"), given.pop("format", FORMAT), given.pop("fills", [1]), **given
    ),
    "check_presence": lambda given: check_presence(
        ROWS,
        given.pop("canaries", CANARIES),
        given.pop("tokenizer"),
        **{k: v for k, v in given.items() if k != "model"},
    ),
    "FormatLogitsProcessor": lambda given: FormatLogitsProcessor(
        given.pop("format", FORMAT), given.pop("tokenizer"), 0, **{k: v for k, v in given.items() if k != "model"}
    ),
    "CheapestFills": lambda given: CheapestFills(
        given.pop("format", FORMAT), given.pop("tokenizer"), **{k: v for k, v in given.items() if k != "model"}
    ),
}

WRONG_TYPES = [
    *((door, "model", value) for door in ("log_perplexity", "measure_exposure") for value in (None, "gpt2", 3)),
    *((door, "model", None) for door in ("extract", "iter_extract", "exact_rank")),
    *((door, "tokenizer", value) for door in DOORS for value in (None, "gpt2", [])),
    *((door, "context", 3) for door in DOORS if door != "check_presence"),
    *((door, "context", [3]) for door in ("log_perplexity", "measure_exposure", "extract")),
    *((door, "format", "pin {digit}") for door in ("extract", "iter_extract", "exact_rank", "FormatLogitsProcessor")),
    *((door, "canaries", "canaries.json") for door in ("measure_exposure", "check_presence")),
    *((door, "batch_size", "8") for door in ("log_perplexity", "measure_exposure", "extract", "CheapestFills")),
    *((door, "max_memory", 1.5) for door in ("log_perplexity", "measure_exposure", "extract", "exact_rank")),
    *((door, "max_seconds", "1") for door in ("measure_exposure", "extract", "iter_extract", "exact_rank")),
    *((door, "max_expanded", True) for door in ("extract", "iter_extract", "exact_rank", "CheapestFills")),
    *((door, "top_k", 1.0) for door in ("extract", "CheapestFills")),
    ("measure_exposure", "estimators", "auto"),
    ("measure_exposure", "error", "5 %"),
    ("measure_exposure", "bootstrap", None),
    ("log_perplexity", "texts", "the pin"),
    ("log_perplexity", "texts", 3),
    ("exact_rank", "fills", 7),
    ("extract", "strategy", None),
]
WRONG_VALUES = [
    *((door, "batch_size", 0) for door in ("log_perplexity", "measure_exposure", "extract", "CheapestFills")),
    *((door, "max_memory", -1) for door in ("log_perplexity", "measure_exposure", "extract")),
    *(
        (door, "max_seconds", value)
        for door in ("measure_exposure", "extract", "iter_extract", "exact_rank")
        for value in (0, -1.0, math.inf, math.nan)
    ),
    *((door, "max_expanded", 0) for door in ("extract", "iter_extract", "exact_rank")),
    *(("extract", "top_k", value) for value in (0, 1001)),
    ("extract", "strategy", "fast"),
    ("extract", "num_references", -1),
    ("measure_exposure", "estimators", ["auto", "guess"]),
    ("measure_exposure", "estimators", []),
    ("measure_exposure", "num_references", 0),
    ("measure_exposure", "bootstrap", 98),
    ("measure_exposure", "error", 0.5),
    ("log_perplexity", "context", [None, None]),
]


@pytest.fixture
def given(lstm, tokenizer):
    return {"model": lstm, "tokenizer": tokenizer}


@pytest.mark.parametrize(("door", "argument", "value"), WRONG_TYPES)
def test_another_type_is_a_type_error(given, door, argument, value):
    """... and one of ours, which names the argument."""
    with pytest.raises(TypeError) as caught:
        DOORS[door](given | {argument: value})
    check_error(caught.value, ArgumentTypeError, argument)


@pytest.mark.parametrize(("door", "argument", "value"), WRONG_VALUES)
def test_a_value_out_of_range_is_a_value_error(given, door, argument, value):
    """... and one of ours, which names the argument."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the check that follows says more)
        DOORS[door](given | {argument: value})
    check_error(caught.value, ArgumentError, argument)


@pytest.mark.parametrize("door", DOORS)
def test_what_is_right_is_let_in(given, door):
    """The doors above open: none of the errors comes of the test's own arguments."""
    try:
        DOORS[door](dict(given))
    except ArgumentError:
        raise
    except CanaryError:
        pass  # of its own kind: rows without canaries, say


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: CanarySet.draw("pin {digit:4}"), "formats"),
        (lambda: CanarySet.draw(FORMAT, repetitions=3), "repetitions"),
        (lambda: CanarySet.draw(FORMAT, repetitions=(1.5,)), "repetitions"),
        (lambda: CanarySet.draw(FORMAT, per_repetition="2"), "per_repetition"),
        (lambda: CanarySet.draw(FORMAT, seed="x"), "seed"),
        (lambda: InjectCanaries(CANARIES, num_rows="9"), "num_rows"),
        (lambda: InjectCanaries(CANARIES, num_rows=9, placement=None), "placement"),
        (lambda: InjectCanaries(CANARIES, num_rows=9, make_row="row"), "make_row"),
        (lambda: InjectCanaries(CANARIES, num_rows=9, tokenizer="gpt2"), "tokenizer"),
        (lambda: ExposureCallback("canaries.json"), "canaries"),
        (lambda: ExposureCallback(CANARIES, tokenizer="gpt2"), "tokenizer"),
        (lambda: ExposureCallback(CANARIES, context=3), "context"),
        (lambda: ExposureCallback(CANARIES, threshold="12"), "threshold"),
        (lambda: ExposureCallback(CANARIES, max_overhead="1 %"), "max_overhead"),
    ],
)
def test_other_doors_say_so_too(call, argument):
    """What is made from canaries, before there is a model."""
    with pytest.raises(TypeError) as caught:
        call()
    check_error(caught.value, ArgumentTypeError, argument)


@pytest.mark.parametrize(
    "number", [3, np.int64(3), np.int32(3), np.uint8(3), np.array(3), torch.tensor(3)], ids=kind_of
)
def test_numbers_of_numpy_are_numbers(number):
    """Whole ones and others; they come back as Python's."""
    found = check_int("n", number, least=3, most=3)
    assert (found, type(found)) == (3, int)
    with pytest.raises(ArgumentError, match="from 4 to 5"):
        check_int("n", number, least=4, most=5)


@pytest.mark.parametrize("number", [3, 3.0, np.float32(3), np.float64(3), np.int16(3), Fraction(3)], ids=kind_of)
def test_numbers_that_are_not_whole_are_numbers(number):
    """They come back as Python's; those of few bytes do not overflow on the way."""
    found = check_number("n", number, lambda n: n * 10**5 == 3 * 10**5, "three")
    assert found == 3
    assert type(found) in (int, float)


def small(given, **options):
    return measure_exposure(**given, canaries=CANARIES, num_references=20, **({"bootstrap": 0} | options))


SAME = {
    "measured": lambda given, n, x: [
        dataclasses.replace(each, token_rows=0)
        for each in small(given, num_draws=n(30), bootstrap=n(0), seed=n(5), batch_size=n(4), max_memory=n(2**30))
    ],
    "measured with an error": lambda given, n, x: [
        each.at_least for each in small(given, error=x(0.25), bootstrap=n(0))
    ],
    "queries": lambda given, n, x: small(given, bootstrap=n(0)).queries_to_extract(x(0.5)),
    "extracted": lambda given, n, x: extract(
        **given, format=FORMAT, top_k=n(3), batch_size=n(2), max_expanded=n(999), max_seconds=x(64), num_references=n(9)
    ),
    "one after another": lambda given, n, x: list(
        islice(iter_extract(**given, format=FORMAT, batch_size=n(2), max_expanded=n(99), max_seconds=n(60)), 3)
    ),
    "ranked": lambda given, n, x: exact_rank(**given, format=FORMAT, fills=[n(1), n(7)], max_expanded=n(500)),
    "scored": lambda given, n, x: log_perplexity(**given, texts=["the pin"], max_memory=n(2**20)).tolist(),
    "sampled fills": lambda given, n, x: FORMAT.sample(n(3), n(5), exclude=[n(7)]),
    "rendered": lambda given, n, x: (FORMAT.render(n(7)), FORMAT.entries(n(7))),
    "options": lambda given, n, x: InsertionOptions(seed=n(3), when=(x(0.25), x(0.5))),
    "copies": lambda given, n, x: vars(InjectCanaries(CANARIES, num_rows=n(9), when=(x(0.25), n(1))).copies.positions),
    "a stream": lambda given, n, x: list(
        CANARIES.inject(Dataset.from_dict({"text": ["a"] * 9}).to_iterable_dataset(num_shards=3), num_rows=[n(3)] * 3)
    ),
    "a context": lambda given, n, x: json.dumps(Context((n(1), n(2)), after=[n(3)]).as_json()),
    "a schedule": lambda given, n, x: repr(Schedule([n(1), n(5)])) + repr(Schedule(n(3))),
    "a threshold": lambda given, n, x: Threshold(x(2.5), "warn").by_chance(CANARIES, 3),
    "a budget": lambda given, n, x: vars(OverheadBudget(n(3), x(0.25), now=None)),
    "by numbers": lambda given, n, x: [
        *sampled([3.0], [1.0, 2.0, 4.0], n(2**30), confidence=x(0.75)),
        *skewnorm([3.0], np.arange(50.0) ** 1.5, n(2**30), bootstrap=n(99), seed=n(1), confidence=x(0.75)),
    ],
    "words": lambda given, n, x: sorted(
        word_tokenizer(["to be or not to be"], vocab_size=n(20), min_frequency=n(1)).get_vocab().items()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_numbers_of_numpy_say_the_same_at_every_door(given, name):
    """What comes of them is what comes of Python's, and no number of NumPy is in it."""
    given = {**given}
    of_python = SAME[name](given, int, float)
    of_numpy = SAME[name](given, np.int32, np.float32)
    assert repr(of_numpy) == repr(of_python)


def test_token_ids_that_are_no_whole_numbers_are_refused():
    """They are not cut to the whole numbers below."""
    with pytest.raises(ArgumentError) as caught:
        Context((1.5,))
    check_error(caught.value, ArgumentError, "context.ids")


def test_choices():
    """Members of an enumeration of strings are strings, and None may be one."""
    check_among("mode", "rows", ("rows", "splice"))
    check_among("mode", None, ("rows", None))
    with pytest.raises(ArgumentTypeError, match="one of 'rows', None"):
        check_among("mode", 3, ("rows", None))
    with pytest.raises(ArgumentError, match="'rows'"):
        check_among("mode", "row", ("rows",))

"""Every public door × every argument × some seventy odd values: each is done, or refused by an error of the package.

What is accepted was looked through once: `MISTAKABLE` are arguments where a value of another type would mean something
else than it says, and of these no other type is taken.
"""

import inspect
import io
import math
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

import hf_canary
from hf_canary import (
    Canary,
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
from hf_canary.errors import CanaryError
from hf_canary.extraction import iter_extract
from tests.support import oracles
from tests.support.errors import outcome

FORMAT = CanaryFormat("the pin is {digit:3}")
CANARIES = CanarySet.draw(FORMAT, repetitions=(1, 2), per_repetition=2, seed=0)


class Raising:
    """Whatever is asked of it fails, but its own name."""

    def __getattribute__(self, name):
        if name in ("__class__", "__dict__"):
            return object.__getattribute__(self, name)
        raise RuntimeError("an object of the user's that fails")

    def __repr__(self):
        return "Raising()"


ODD = {
    "None": lambda: None,
    "True": lambda: True,
    "False": lambda: False,
    "0": lambda: 0,
    "1": lambda: 1,
    "-1": lambda: -1,
    "2": lambda: 2,
    "10**30": lambda: 10**30,
    "-10**30": lambda: -(10**30),
    "10**5000": lambda: 10**5000,
    "0.0": lambda: 0.0,
    "0.5": lambda: 0.5,
    "-0.5": lambda: -0.5,
    "2.0": lambda: 2.0,
    "1e308": lambda: 1e308,
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "-infinity": lambda: -math.inf,
    "complex": lambda: 1j,
    "Decimal": lambda: Decimal("1.5"),
    "Fraction": lambda: Fraction(1, 3),
    "np.int64": lambda: np.int64(3),
    "np.uint8": lambda: np.uint8(3),
    "np.float32": lambda: np.float32(0.25),
    "np.bool_": lambda: np.True_,
    "np.str_": lambda: np.str_("the pin"),
    "np NaN": lambda: np.float64("nan"),
    "array": lambda: np.arange(3),
    "array of none": lambda: np.array([]),
    "array of floats": lambda: np.array([[0.5, math.nan]]),
    "array of objects": lambda: np.array([None, "x"], dtype=object),
    "array without dimensions": lambda: np.array(7),
    "tensor": lambda: torch.arange(3),
    "tensor of one": lambda: torch.tensor(2),
    "tensor of NaN": lambda: torch.tensor([math.nan]),
    "empty text": lambda: "",
    "text": lambda: "x",
    "text of a space": lambda: " ",
    "a line end": lambda: "\n",
    "digits": lambda: "12",
    "a name": lambda: "gpt2",
    "no": lambda: "no",
    "auto": lambda: "auto",
    "a hole": lambda: "{digit:4}",
    "an open brace": lambda: "{",
    "a hole of nothing": lambda: "{nothing:3}",
    "many holes": lambda: "{digit:999999999}",
    "a surrogate": lambda: "\ud800",
    "NUL": lambda: "\x00",
    "an escape code": lambda: "\x1b[31mred",
    "a bidi mark": lambda: "\u202egnp.exe",
    "a long text": lambda: "the pin is " * 200,
    "bytes": lambda: b"x",
    "a list": lambda: [],
    "a list of None": lambda: [None],
    "a list of ints": lambda: [1, 2],
    "a list of large ints": lambda: [10**30],
    "a list of texts": lambda: ["the pin is 1", ""],
    "a list of lists": lambda: [[[]]],
    "a list of canaries": lambda: [*CANARIES],
    "a tuple": lambda: (0, 1),
    "a set": lambda: {1, 2},
    "a dict": lambda: {},
    "a dict of things": lambda: {"digit": 3, None: [1]},
    "a dict of rows": lambda: {"input_ids": [[1, 2]], "text": ["x"]},
    "a range": lambda: range(2),
    "a generator": lambda: (number for number in range(2)),
    "a function": lambda: lambda *_, **__: None,
    "a function of nothing": lambda: lambda: None,
    "a class": lambda: dict,
    "an object": object,
    "one that raises": Raising,
    "a file": io.StringIO,
    "a path": lambda: Path("nowhere") / "at all",
    "a folder": lambda: Path.cwd(),
    "an exception": lambda: ValueError("x"),
    "a format": lambda: FORMAT,
    "a set of canaries": lambda: CANARIES,
    "a canary": lambda: CANARIES[0],
    "a module": lambda: nn_linear(),
    "a dataset": lambda: Dataset.from_dict({"text": ["x", None], "input_ids": [[1], []]}),
    "an empty dataset": lambda: Dataset.from_dict({}),
    "a module of Python": lambda: math,
}


def nn_linear():
    return torch.nn.Linear(1, 1)


@pytest.fixture(scope="module")
def given(tokenizer):
    """A model and its tokenizer, small enough for thousands of calls."""
    return {"model": oracles.small_model("lstm", len(tokenizer)), "tokenizer": tokenizer}


def doors(given, folder):
    """Each public function, class and method, and arguments with which it does what it is for, quickly."""
    model, tokenizer = given["model"], given["tokenizer"]
    searched = {"model": model, "tokenizer": tokenizer, "format": FORMAT, "max_expanded": 3}
    texts = Dataset.from_dict({"text": ["a", "b", "c"]})
    costs = {
        "model": model,
        "tokenizer": tokenizer,
        "canaries": CANARIES,
        "num_references": 20,
        "num_draws": 5,
        "bootstrap": 0,
    }
    file = folder / "canaries.json"
    return {
        "CanaryFormat": (CanaryFormat, {"template": "pin {digit:2}", "source": None, "spaces": None}),
        "CanaryFormat.render": (FORMAT.render, {"fill": 1}),
        "CanaryFormat.parse": (FORMAT.parse, {"text": FORMAT.render(1)}),
        "CanaryFormat.sample": (FORMAT.sample, {"n": 2, "seed": 0}),
        "Canary": (Canary, {"id": "a", "format": FORMAT, "fill": 1, "twin": 2, "repetitions": 1}),
        "CanarySet.draw": (CanarySet.draw, {"formats": FORMAT, "repetitions": (1, 2), "per_repetition": 1, "seed": 0}),
        "CanarySet.save": (CANARIES.save, {"path": file, "overwrite": True}),
        "CanarySet.load": (CanarySet.load, {"path": file}),
        "CanarySet.inject": (CANARIES.inject, {"dataset": texts, "column": "text"}),
        "CanarySet.remove": (CANARIES.remove, {"dataset": CANARIES.inject(texts, "text")}),
        "InjectCanaries": (InjectCanaries, {"canaries": CANARIES, "num_rows": 3}),
        "log_perplexity": (log_perplexity, {"model": model, "tokenizer": tokenizer, "texts": ["the pin is 1"]}),
        "measure_exposure": (measure_exposure, costs),
        "extract": (extract, searched | {"num_references": 2}),
        "iter_extract": (lambda **options: next(iter_extract(**options), None), searched, iter_extract),
        "exact_rank": (exact_rank, searched | {"fills": [1]}),
        "check_presence": (
            check_presence,
            {"tokenised": [{"input_ids": [1, 2]}], "canaries": CANARIES, "tokenizer": tokenizer},
        ),
        "ExposureCallback": (ExposureCallback, {"canaries": CANARIES}),
        "FormatLogitsProcessor": (
            FormatLogitsProcessor,
            {"format": FORMAT, "tokenizer": tokenizer, "prompt_length": 0},
        ),
    }  # fmt: skip


NAMES = [
    "CanaryFormat", "CanaryFormat.render", "CanaryFormat.parse", "CanaryFormat.sample", "Canary", "CanarySet.draw",
    "CanarySet.save", "CanarySet.load", "CanarySet.inject", "CanarySet.remove", "InjectCanaries", "log_perplexity",
    "measure_exposure", "extract", "iter_extract", "exact_rank", "check_presence", "ExposureCallback",
    "FormatLogitsProcessor",
]  # fmt: skip


OF_THE_CALLER = {"progress"}  # functions that are called; what these raise is the caller's own


def arguments_of(door):
    """The names of all its arguments, but those that take any number."""
    function, usual, *signed = door
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(signed[0] if signed else function).parameters.values()
    return [each.name for each in parameters if each.kind not in kinds and each.name != "self"] or list(usual)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def door(name, given, tmp_path, monkeypatch):
    """A door of that name, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    CANARIES.save(tmp_path / "canaries.json")
    return doors(given, tmp_path)[name]


@pytest.mark.filterwarnings("ignore")
def test_every_odd_argument_is_done_or_refused(name, door):
    """No untyped error, and nothing that goes on for ever."""
    function, usual = door[:2]
    assert outcome(partial(function, **usual)) is None
    wrong = Counter()
    for argument in arguments_of(door):
        for kind, odd in ODD.items():
            value = odd()
            error = outcome(partial(function, **(usual | {argument: value})))
            if error is None or (argument in OF_THE_CALLER and callable(value)):
                continue
            if not isinstance(error, CanaryError):
                wrong[f"{name}({argument}={kind}): {type(error).__name__}: {error}"[:200]] += 1
    assert not wrong, "\n".join([f"{len(wrong)} untyped", *wrong])


WHOLE = {"1", "2", "np.int64", "np.uint8", "array without dimensions", "tensor of one"}
MISTAKABLE = {  # and the kinds that they may be
    "end": {"True", "False", "np.bool_"},
    "overwrite": {"True", "False", "np.bool_"},
    "strict": {"True", "False", "np.bool_"},
    "plot": {"True", "False", "np.bool_"},
    "presence": {"True", "False", "np.bool_"},
    "target": {"None", "True", "False", "np.bool_"},
    "top_k": WHOLE,
    "max_expanded": {"None", "10**30", "10**5000", *WHOLE},
    "num_references": {"None", "0", "10**30", "10**5000", *WHOLE},  # as many as there are, where that is said
    "num_rows": WHOLE,
    "estimators": set(),
}


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_taken_for_what_it_does_not_say(name, door):
    """end="no" is not True, True is not 1, and "12" is not 12."""
    for argument in set(arguments_of(door)) & set(MISTAKABLE):
        if (name, argument) in {("CanarySet.inject", "num_rows"), ("CanarySet.remove", "num_rows")}:
            continue  # of streams alone
        calls = {kind: partial(door[0], **(door[1] | {argument: odd()})) for kind, odd in ODD.items()}
        taken = {kind for kind, call in calls.items() if outcome(call) is None}
        assert taken <= MISTAKABLE[argument], (argument, taken - MISTAKABLE[argument])


def test_no_public_door_is_left_out():
    """Each public name that can be called is above, but errors and what is only ever returned."""
    returned = {"CanaryError", "EXPOSURE_METRIC", "Exposure", "Extraction"}
    assert {name.partition(".")[0] for name in NAMES} - {"iter_extract"} == set(hf_canary.__all__) - returned

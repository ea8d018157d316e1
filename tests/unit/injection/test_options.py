"""The options of an injection: one list of them, checked once, and no one of them can be forgotten."""

import dataclasses
import inspect
import itertools
import pickle

import pytest
from datasets import Dataset
from datasets.fingerprint import Hasher

from hf_canary import CanaryFormat, CanarySet, InjectCanaries
from hf_canary.errors import ArgumentError, ArgumentTypeError
from hf_canary.injection.copies import Copies
from hf_canary.injection.options import InsertionOptions
from hf_canary.injection.transform import InsertCopies
from hf_canary.models import character_tokenizer
from tests.support.errors import check_error

ASKED = CanaryFormat("its PIN is {digit:4}", source="what is the PIN of {digit:4}?")
CANARIES = CanarySet.draw(ASKED, repetitions=(1, 3), per_repetition=2, seed=0)
NAMES = [field.name for field in dataclasses.fields(InsertionOptions)]
BASE = {"column": "completion"}
# For each option another value than the default one, which the rows below take.
OTHERS = {
    "column": "messages",
    "source_column": "other",
    "seed": 1,
    "tokenizer": character_tokenizer(["its PIN is 0123456789"]),
    "make_row": lambda canary: {"completion": canary.text},
    "role": "user",
    "placement": "splice",
    "when": "early",
}


def rows() -> Dataset:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    return Dataset.from_list(
        [{"prompt": f"q {n}", "completion": f"a {n}. b", "other": "", "messages": turns} for n in range(9)]
    )


@pytest.mark.parametrize(
    ("door", "others"),
    [(CanarySet.inject, {"self", "dataset", "num_rows"}), (InjectCanaries, {"canaries", "num_rows"})],
)
def test_the_doors_take_every_option_and_no_other(door, others):
    """Each option is a keyword of `inject` and of the transform, with the same default."""
    parameters = inspect.signature(door).parameters
    assert {name: parameters[name].default for name in parameters if name not in others} == {
        field.name: field.default for field in dataclasses.fields(InsertionOptions)
    }


def test_every_option_is_documented_and_tried():
    """In the list of arguments; and the tests below have a value for it."""
    for documented in (InsertionOptions, InjectCanaries, CanarySet.inject):
        text = inspect.getdoc(documented)
        assert all(f"    {name}: " in text for name in NAMES)
    assert list(OTHERS) == NAMES


def test_every_option_is_part_of_the_fingerprint():
    """Of the transform that `inject` maps and of the public one: a cache never answers for other options."""
    base = InsertionOptions(**BASE)
    changed = [base, *(dataclasses.replace(base, **{name: OTHERS[name]}) for name in NAMES)]
    for hashes in (
        [Hasher.hash(InsertCopies(Copies(CANARIES, 9, options))) for options in changed],
        [Hasher.hash(InjectCanaries(CANARIES, num_rows=9, **vars(options))) for options in changed],
    ):
        assert all(one != other for one, other in itertools.combinations(hashes, 2))


def test_every_option_of_inject_arrives():
    """The dataset has another fingerprint with another value of any; with the same values it has the same."""
    dataset = rows()
    values = [BASE, *(BASE | {name: OTHERS[name]} for name in NAMES)]
    once, again = ([CANARIES.inject(dataset, **some)._fingerprint for some in values] for _ in range(2))
    assert once == again
    assert len(set(once)) == len(values)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "make_row"])  # pickle takes no lambda
def test_the_transform_can_be_pickled(name):
    """It comes back with its options, and gives the same rows."""
    transform = InjectCanaries(CANARIES, num_rows=9, **(BASE | {name: OTHERS[name]}))
    back = pickle.loads(pickle.dumps(transform))
    mapped = [rows().map(one, batched=True, with_indices=True).to_list() for one in (transform, back)]
    assert mapped[0] == mapped[1]
    if name != "tokenizer":  # equal tokenizers are no equal objects
        assert back.copies.options == transform.copies.options


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("seed", "1", ArgumentTypeError),
        ("placement", "row", ArgumentError),
        ("placement", None, ArgumentTypeError),
        ("tokenizer", "gpt2", ArgumentTypeError),
        ("make_row", 5, ArgumentTypeError),
        ("role", "asistant", ArgumentError),
        ("when", "never", ArgumentError),
        ("when", (0.5, 0.5), ArgumentError),
    ],
)
def test_options_are_checked_when_they_are_made(name, value, error):
    """Before any data are looked at, whichever door they come through."""
    calls = (
        lambda: InsertionOptions(**{name: value}),
        lambda: InjectCanaries(CANARIES, num_rows=9, **{name: value}),
        lambda: CANARIES.inject(None, **{name: value}),
        lambda: CANARIES.remove(None, **{name: value}),
        lambda: CANARIES.count_in(None, **{name: value}),
    )
    for call in calls:
        with pytest.raises(error) as caught:
            call()
        check_error(caught.value, error, name)


def test_what_is_no_option_is_refused():
    """By the name that was given; to count, the length of a stream may be given and need not."""
    injected = CANARIES.inject(rows(), **BASE)
    with pytest.raises(TypeError, match="roll"):
        CANARIES.inject(injected, roll="user")
    for call in (CANARIES.remove, CANARIES.count_in):
        with pytest.raises(ArgumentTypeError, match="roll: expected arguments of inject"):
            call(injected, roll="user")
    stream = injected.to_iterable_dataset()
    assert CANARIES.count_in(stream, num_rows=9, **BASE) == CANARIES.count_in(stream, **BASE)

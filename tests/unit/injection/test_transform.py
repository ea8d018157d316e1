"""Injection leaves every row as it was, puts every copy in, and prefers no place."""

import itertools
import random
from collections import Counter

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDatasetDict, List, Value
from datasets.fingerprint import Hasher
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hf_canary import CanaryFormat, CanarySet, InjectCanaries
from hf_canary.errors import ArgumentError, DataError
from tests.support.errors import check_error, kind_of
from tests.support.repetitions import times
from tests.support.rows import Copies, FakeSet, numbered

PIN = CanaryFormat("the canary's PIN is {digit:4}")
FEATURES = Features(
    {
        "label": ClassLabel(names=["good", "bad"]),
        "text": Value("string"),
        "about": {"tags": List(Value("string")), "score": Value("float64")},
        "id": Value("int64"),
    }
)
ROW = st.fixed_dictionaries(
    {
        "label": st.none() | st.integers(0, 1),
        "text": st.none() | st.text(max_size=8),
        "about": st.none()
        | st.fixed_dictionaries(
            {
                "tags": st.none() | st.lists(st.none() | st.text(max_size=3), max_size=3),
                "score": st.none() | st.floats(allow_nan=False),
            }
        ),
        "id": st.none() | st.integers(-(2**62), 2**62),
    }
)


def a_set(seed: int = 0, repetitions: tuple[int, ...] = (1, 3), per_repetition: int = 2) -> CanarySet:
    return CanarySet.draw(PIN, repetitions=repetitions, per_repetition=per_repetition, seed=seed)


def split_rows(canaries, rows: list[dict], column: str = "text") -> tuple[list[dict], list[dict]]:
    """The original rows and the inserted ones, told apart by their text."""
    texts = {canary.text for canary in canaries.canaries}
    return [row for row in rows if row[column] not in texts], [row for row in rows if row[column] in texts]


def check_injected(canaries, before: list[dict], after: list[dict], column: str = "text") -> None:
    """Every row stays, in order; every canary is there as often as it says, with nothing in the other columns."""
    kept, inserted = split_rows(canaries, after, column)
    assert kept == before
    assert Counter(row[column] for row in inserted) == {one.text: one.repetitions for one in canaries.canaries}
    assert all(value is None for row in inserted for name, value in row.items() if name != column)


ONE = FakeSet((Copies("canary", 2),))
GOOD = [{"text": "canary", "id": None}, {"text": "a", "id": 1}, {"text": "canary", "id": None}, {"text": "b", "id": 2}]


@pytest.mark.parametrize(
    "after",
    [
        GOOD[:2] + GOOD[3:],  # a copy is missing
        [GOOD[0], *GOOD],  # a copy too many
        GOOD[:3],  # a row is missing
        GOOD[::-1],  # another order
        [{"text": "canary", "id": 1}, *GOOD[1:]],  # a value beside a canary
        [*GOOD[:3], {"text": "b", "id": 3}],  # a row has changed
    ],
)
def test_the_check_of_rows_can_fail(after):
    """`check_injected` accepts the right rows and refuses each kind of wrong ones."""
    before = [{"text": "a", "id": 1}, {"text": "b", "id": 2}]
    check_injected(ONE, before, GOOD)
    with pytest.raises(AssertionError):
        check_injected(ONE, before, after)


@given(rows=st.lists(ROW, min_size=1, max_size=12), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=times(30), phases=[Phase.generate])  # to shrink is to map thousands of times
def test_rows_stay_and_copies_come(rows, seed):
    """Whatever is in the rows, they stay unchanged and in order, with the same features, and the copies come in."""
    dataset = Dataset.from_list(rows, features=FEATURES)
    canaries = a_set(seed)
    injected = canaries.inject(dataset)
    assert injected.features == dataset.features
    assert len(injected) == len(dataset) + 8
    check_injected(canaries, dataset.to_list(), injected.to_list())
    assert dataset.to_list() == Dataset.from_list(rows, features=FEATURES).to_list()


@pytest.mark.parametrize("column", ["text", "body"])
@pytest.mark.parametrize("dtype", ["string", "large_string"])
def test_any_column_of_strings_will_do(column, dtype):
    """The canaries go into the named column, which keeps its type, and into no other."""
    features = Features({"title": Value("string"), column: Value(dtype)})
    dataset = Dataset.from_dict({"title": ["x", "y"], column: ["a", "b"]}, features=features)
    canaries = a_set()
    injected = canaries.inject(dataset, column)
    assert injected.features == features
    check_injected(canaries, dataset.to_list(), injected.to_list(), column)


def test_a_selection_of_rows_is_what_counts():
    """A shuffled, selected or filtered dataset is taken as it reads."""
    dataset = numbered(20).shuffle(seed=3).select(range(4, 15)).filter(lambda row: row["id"] % 2 == 0)
    canaries = a_set()
    check_injected(canaries, dataset.to_list(), canaries.inject(dataset).to_list())


@pytest.mark.parametrize("kind", ["numpy", "pandas"])
def test_the_format_of_a_dataset_changes_nothing(kind):
    """A dataset that is read through numpy or pandas is injected like any other, and is read that way after it."""
    dataset, canaries = numbered(5), a_set()
    injected = canaries.inject(dataset.with_format(kind))
    assert injected.format["type"] == kind
    assert injected.with_format(None).to_list() == canaries.inject(dataset).to_list()


@pytest.mark.parametrize("batch_size", [1, 7, 1000, None])
def test_the_batch_size_changes_nothing(batch_size):
    """The rows are the same with any batch size, and the same as `inject` gives, features included."""
    dataset, canaries = Dataset.from_list([{**row, "label": None} for row in numbered(40)]), a_set()
    transform = InjectCanaries(canaries, num_rows=len(dataset))
    mapped = dataset.map(transform, batched=True, with_indices=True, batch_size=batch_size)
    assert mapped.to_list() == canaries.inject(dataset).to_list()
    assert mapped.features == dataset.features


def test_the_same_seed_gives_the_same_places():
    """Places repeat with the seed, differ with another, and the default seed is of the set alone."""
    dataset = numbered(30)
    rows = {seed: a_set().inject(dataset, seed=seed).to_list() for seed in (None, 0, 1, 2**70)}
    for seed, once in rows.items():
        assert a_set().inject(dataset, seed=seed).to_list() == once
    assert all(one != other for one, other in itertools.combinations(rows.values(), 2))


def places_of(transform: InjectCanaries) -> list[tuple[int, int]]:
    return list(zip(transform.positions.rows.tolist(), transform.positions.which.tolist(), strict=True))


def test_the_default_places_come_from_the_digest():
    """With equal texts and counts, the default places are equal if the digests are, and differ if they differ."""
    copies = (Copies("canary a", 3), Copies("canary b", 2))
    first, again, other = (FakeSet(copies, digest) for digest in ("1" * 64, "1" * 64, "2" * 64))
    places = [places_of(InjectCanaries(one, num_rows=50)) for one in (first, again, other)]
    assert places[0] == places[1]
    assert places[0] != places[2]
    seeded = [places_of(InjectCanaries(one, num_rows=50, seed=3)) for one in (first, other)]
    assert seeded[0] == seeded[1]


def test_the_random_state_is_left_alone():
    """Injecting moves no global generator."""
    before = random.getstate()
    a_set().inject(numbered(5))
    assert random.getstate() == before


def test_a_transform_is_known_by_its_arguments():
    """Equal arguments give the fingerprint that caches are found by; another seed, column or length another one."""
    arguments = [{"num_rows": 5}, {"num_rows": 5, "seed": 1}, {"num_rows": 6}, {"num_rows": 5, "column": "body"}]
    hashes = [Hasher.hash(InjectCanaries(a_set(), **some)) for some in arguments]
    assert hashes == [Hasher.hash(InjectCanaries(a_set(), **some)) for some in arguments]
    assert len(set(hashes)) == len(hashes)
    assert Hasher.hash(InjectCanaries(a_set(1), num_rows=5)) not in hashes


def test_only_the_train_split_changes():
    """Of a DatasetDict the train split is injected as it would be alone, and the others are the same objects."""
    splits = DatasetDict(validation=numbered(3), train=numbered(6), test=numbered(2))
    canaries = a_set()
    injected = canaries.inject(splits, seed=4)
    assert type(injected) is DatasetDict
    assert list(injected) == list(splits)
    assert injected["train"].to_list() == canaries.inject(splits["train"], seed=4).to_list()
    assert injected["validation"] is splits["validation"]
    assert injected["test"] is splits["test"]
    assert len(splits["train"]) == 6


def stream() -> datasets.IterableDataset:
    return numbered(5).to_iterable_dataset()


@pytest.mark.parametrize(
    ("dataset", "column", "argument"),
    [
        (DatasetDict(validation=numbered(3)), "text", "dataset"),
        (DatasetDict(), "text", "dataset"),
        (DatasetDict(dict.fromkeys((f"split {number}" for number in range(1000)), numbered(1))), "text", "dataset"),
        (DatasetDict(train=numbered(3)), "body", "column"),
        (stream(), "text", "num_rows"),
        (IterableDatasetDict(train=stream()), "text", "num_rows"),
        (DatasetDict(train=stream()), "text", "num_rows"),
        ([{"text": "a"}], "text", "dataset"),
        (None, "text", "dataset"),
        (numbered(0), "text", "dataset"),
        (numbered(3), "body", "column"),
        (numbered(3), "x" * 10**6, "column"),
        (numbered(3), None, "column"),
        (numbered(3), ["text"], "column"),
        (Dataset.from_dict({f"column {number}": [0] for number in range(500)}), "text", "column"),
        (Dataset.from_dict({"x" * 10**5: [0]}), "text", "column"),
        (numbered(3), "id", "column"),
        (Dataset.from_dict({"text": [["a"], ["b"]]}), "text", "column"),
        (Dataset.from_dict({"text": [{f"key {number}": 1 for number in range(500)}]}), "text", "column"),
        (Dataset.from_dict({"text": [None, None]}), "text", "column"),
        (Dataset.from_dict({"text": [0]}, features=Features(text=ClassLabel(names=["a"]))), "text", "column"),
    ],
    ids=[
        "no train split",
        "no split",
        "a thousand splits",
        "train without the column",
        "stream",
        "dict of streams",
        "stream in a dict",
        "list",
        "None",
        "empty",
        "no such column",
        "a megabyte of a column",
        "column None",
        "column a list",
        "many columns",
        "column of a long name",
        "ints",
        "lists",
        "nested",
        "nothing but None",
        "labels",
    ],
)
def test_other_data_are_refused(dataset, column, argument):
    """A dataset that cannot be injected raises an error that names what is wrong."""
    with pytest.raises(DataError) as caught:
        a_set().inject(dataset, column)
    check_error(caught.value, DataError, argument)


@pytest.mark.parametrize("kind", [None, "numpy", "arrow"])
def test_a_stream_refuses_the_transform(kind):
    """In a stream each worker counts rows from zero; the transform refuses it instead of inserting too often."""
    mapped = (
        stream()
        .with_format(kind)
        .map(InjectCanaries(a_set(), num_rows=5), batched=True, with_indices=True, batch_size=2)
    )
    rows = iter(mapped)
    with pytest.raises(DataError) as caught:
        next(rows)
    check_error(caught.value, DataError, "dataset")
    assert "stream" in caught.value.got


@pytest.mark.parametrize("how", [{"with_indices": True}, {"batched": True}])
def test_a_map_of_another_kind_is_refused(how):
    """Row by row, or without indices; the error says how to map."""
    transform, dataset = InjectCanaries(a_set(), num_rows=3), numbered(3)
    with pytest.raises(DataError, match="True") as caught:
        dataset.map(transform, **how)
    check_error(caught.value, DataError)


def test_a_plain_dict_is_refused():
    """A batch that does not come from `Dataset.map` has indices that nobody vouches for."""
    transform = InjectCanaries(a_set(), num_rows=1)
    with pytest.raises(DataError) as caught:
        transform({"text": ["a"]}, [0])
    check_error(caught.value, DataError, "dataset")


def test_rows_beyond_the_length_are_refused():
    """A dataset longer than the transform was made for raises, whichever batch the extra row is in."""
    transform = InjectCanaries(a_set(), num_rows=4)
    for batch_size in (1, 2, 1000):
        with pytest.raises(DataError) as caught:
            numbered(5).map(transform, batched=True, with_indices=True, batch_size=batch_size)
        check_error(caught.value, DataError, "num_rows")
    assert len(numbered(4).map(transform, batched=True, with_indices=True)) == 12


def test_a_missing_column_is_refused_by_the_transform():
    """The transform names the column that the rows lack."""
    transform = InjectCanaries(a_set(), "body", num_rows=3)
    dataset = numbered(3)
    with pytest.raises(DataError) as caught:
        dataset.map(transform, batched=True, with_indices=True)
    check_error(caught.value, DataError, "column")
    assert "'text'" in caught.value.expected


@pytest.mark.parametrize("num_rows", [0, -1, 1.0, "3", None, True, -(10**5000)], ids=kind_of)
def test_a_length_is_a_count(num_rows):
    """`num_rows` is a whole number, 1 or more."""
    canaries = a_set()
    with pytest.raises(ArgumentError) as caught:
        InjectCanaries(canaries, num_rows=num_rows)
    check_error(caught.value, ArgumentError, "num_rows")


@pytest.mark.parametrize("seed", [1.0, "1", True, (1,), "x" * 10**6], ids=kind_of)
def test_a_seed_is_an_int(seed):
    """Another seed than an int or None is refused, by the transform and by `inject`."""
    canaries, dataset = a_set(), numbered(3)
    with pytest.raises(ArgumentError) as caught:
        InjectCanaries(canaries, num_rows=3, seed=seed)
    check_error(caught.value, ArgumentError, "seed")
    with pytest.raises(ArgumentError) as caught:
        canaries.inject(dataset, seed=seed)
    check_error(caught.value, ArgumentError, "seed")

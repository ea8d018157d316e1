"""Every kind of row, every kind of dataset: the same rows come out, originals stay, and `remove` is the inverse."""

import logging
from collections import Counter

import datasets
import pytest
from datasets import Array2D, Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, List, Value
from datasets.distributed import split_dataset_by_node

from hf_canary import CanaryFormat, CanarySet, InjectCanaries
from hf_canary.errors import ArgumentError, CanaryError, DataError
from hf_canary.models import character_tokenizer
from tests.support.errors import check_error
from tests.support.rows import ROWS, multiset, texts

PIN = CanaryFormat("the canary's PIN is {digit:4}")
ASKED = CanaryFormat("its PIN is {digit:4}", source="what is the PIN of {digit:4}?")
LETTERS = character_tokenizer(["the canary's PIN is 0123456789 what of?"])


def Json():
    """The feature, which datasets has since its version 5."""
    if not hasattr(datasets, "Json"):
        pytest.skip("no JSON")
    return datasets.Json()


def chats(role: str = "role", content: str = "content", names: tuple[str, str] = ("user", "assistant")) -> Dataset:
    rows = [
        {"messages": [{role: names[0], content: f"q {n}"}, {role: names[1], content: f"Well. It is {n}."}], "id": n}
        for n in range(ROWS)
    ]
    return Dataset.from_list(rows)


def calling(keys: tuple[str, str] = ("role", "content"), names: tuple[str, str] = ("user", "assistant")) -> Dataset:
    """Chats that call tools, with arguments of no one kind: their turns are JSON. One has no text, and no place for
    any.
    """
    role, said = keys

    def chat(n):
        call = {"function": {"name": "f", "arguments": {"x": n} if n % 2 else {"y": ["ü", 0.1]}}}
        turns = [{role: names[0], said: f"q {n}"}, {role: names[1], "tool_calls": [call]}, {role: "tool", said: None}]
        return {"messages": [*turns, {role: names[1], said: f"Well. It is {n}.", "more": None}], "id": n}

    features = Features({"messages": List(Json()), "id": Value("int64")})
    return Dataset.from_list([chat(n) for n in range(ROWS)], features=features)


def prompts() -> Dataset:
    return Dataset.from_list([{"prompt": f"q {n}", "completion": f"a {n}. b", "id": n} for n in range(ROWS)])


def prompts_of_turns() -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": f"q {n}"}],
                "completion": [{"role": "assistant", "content": f"a {n}. b"}],
            }
            for n in range(ROWS)
        ]
    )


def translations() -> Dataset:
    features = Features({"id": Value("string"), "translation": datasets.Translation(languages=["en", "de"])})
    rows = [{"id": str(n), "translation": {"en": f"row {n}", "de": f"Zeile {n}. Ja"}} for n in range(ROWS)]
    return Dataset.from_list(rows, features=features)


def tokens() -> Dataset:
    return Dataset.from_list(
        [{"input_ids": [n, n], "attention_mask": [1, 1], "labels": [n, -100]} for n in range(ROWS)]
    )


def ids_of(text: str) -> list[int]:
    return LETTERS(text)["input_ids"]


def turns(asked: str, said: str, role: str = "assistant") -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": role, "content": said}]


# name: the dataset, the arguments, the format, and a canary's row by hand.
KINDS = {
    "strings": (texts, {}, PIN, lambda c: {"label": None, "text": c.text, "more": None}),
    "source and target": (
        prompts,
        {"column": "completion", "source_column": "prompt"},
        ASKED,
        lambda c: {"prompt": c.source, "completion": c.text, "id": None},
    ),
    "prompt and completion": (
        prompts,
        {"column": "completion"},
        PIN,
        lambda c: {"prompt": "", "completion": c.text, "id": None},
    ),
    "prompt and completion in turns": (
        prompts_of_turns,
        {"column": "completion"},
        ASKED,
        lambda c: {
            "prompt": [{"role": "user", "content": c.source}],
            "completion": [{"role": "assistant", "content": c.text}],
        },
    ),
    "translations": (
        translations,
        {"column": "translation.de", "source_column": "translation.en"},
        ASKED,
        lambda c: {"id": None, "translation": {"en": c.source, "de": c.text}},
    ),
    "one language": (
        translations,
        {"column": "translation.de"},
        PIN,
        lambda c: {"id": None, "translation": {"en": None, "de": c.text}},
    ),
    "chat": (chats, {"column": "messages"}, PIN, lambda c: {"messages": turns("", c.text), "id": None}),
    "chat with a source": (
        chats,
        {"column": "messages"},
        ASKED,
        lambda c: {"messages": turns(c.source, c.text), "id": None},
    ),
    "what the user says": (
        chats,
        {"column": "messages", "role": "user"},
        PIN,
        lambda c: {"messages": turns(c.text, "OK."), "id": None},
    ),
    "from and value": (
        lambda: chats("from", "value", ("human", "gpt")),
        {"column": "messages"},
        ASKED,
        lambda c: {
            "messages": [{"from": "human", "value": c.source}, {"from": "gpt", "value": c.text}],
            "id": None,
        },
    ),
    "turns in JSON": (
        calling,
        {"column": "messages"},
        ASKED,
        lambda c: {"messages": turns(c.source, c.text), "id": None},
    ),
    "from and value in JSON": (
        lambda: calling(("from", "value"), ("human", "gpt")),
        {"column": "messages"},
        PIN,
        lambda c: {"messages": [{"from": "human", "value": ""}, {"from": "gpt", "value": c.text}], "id": None},
    ),
    "tokens": (
        tokens,
        {"column": "input_ids", "tokenizer": LETTERS},
        PIN,
        lambda c: {
            "input_ids": ids_of(c.text),
            "attention_mask": [1] * len(ids_of(c.text)),
            "labels": ids_of(c.text),
        },
    ),
    "tokens with a source": (
        tokens,
        {"column": "input_ids", "tokenizer": LETTERS},
        ASKED,
        lambda c: {
            "input_ids": ids_of(c.source),
            "attention_mask": [1] * len(ids_of(c.source)),
            "labels": ids_of(c.text),
        },
    ),
    "a function": (
        texts,
        {"make_row": lambda c: {"text": f"<{c.text}>", "label": "b"}},
        PIN,
        lambda c: {"label": 1, "text": f"<{c.text}>", "more": None},
    ),
}
SPLICED = [name for name in KINDS if name not in ("tokens", "tokens with a source", "a function")]


def a_set(format: CanaryFormat = PIN, repetitions=(1, 3), seed: int = 0) -> CanarySet:
    return CanarySet.draw(format, repetitions=repetitions, per_repetition=2, seed=seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_canary_has_the_row_that_is_documented(kind):
    """As many of them as asked, among the rows that were there, which stay in order; the features are the same."""
    make, how, format, by_hand = KINDS[kind]
    dataset, canaries = make(), a_set(format)
    injected = canaries.inject(dataset, **how)
    expected = [by_hand(canary) for canary in canaries for _ in range(canary.repetitions)]
    before, after = dataset.to_list(), injected.to_list()
    assert multiset(after) == multiset(before) + multiset(expected)
    assert [row for row in after if row in before] == before
    assert injected.features == dataset.features
    assert canaries.remove(injected, **how).to_list() == before
    assert canaries.remove(injected, **how).features == dataset.features


@pytest.mark.parametrize("placement", ["rows", "splice"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_gives_the_rows_of_the_dataset(kind, placement):
    """From one shard or several, and from the transform."""
    if placement == "splice" and kind not in SPLICED:
        return
    make, how, format, _ = KINDS[kind]
    how = how | {"placement": placement}
    dataset, canaries = make(), a_set(format)
    expected = canaries.inject(dataset, **how).to_list()
    transform = InjectCanaries(canaries, num_rows=len(dataset), **how)
    assert dataset.map(transform, batched=True, with_indices=True, batch_size=3).to_list() == expected
    for shards in (1, 3):
        stream = dataset.to_iterable_dataset(num_shards=shards)
        injected = canaries.inject(stream, num_rows=len(dataset), **how)
        assert injected.features == dataset.features
        assert injected.num_shards == shards
        assert list(injected) == expected
        assert list(injected) == expected  # in the second epoch as well
        assert list(canaries.remove(injected, num_rows=len(dataset), **how)) == dataset.to_list()


# Values within lists and structs that pyarrow does not make by itself, and a value of each.
OTHERS = {
    "a list of JSON": (lambda: List(Json()), [1, {"a": [None]}]),
    "a struct with JSON": (lambda: {"j": Json(), "n": Value("int8")}, {"j": {"a": 0.5}, "n": 1}),
    "JSON": (Json, {"a": "ü"}),
    "a list of matrices": (lambda: List(Array2D((2, 2), "int32")), [[[1, 2], [3, 4]]]),
    "a struct with a matrix": (lambda: {"m": Array2D((2, 2), "int32")}, {"m": [[1, 2], [3, 4]]}),
    "turns that call tools": (
        lambda: List({"role": Value("string"), "tool_calls": List(Json())}),
        [{"role": "user", "tool_calls": None}, {"role": "assistant", "tool_calls": [{"a": 1}]}],
    ),
}


@pytest.mark.parametrize("placement", ["rows", "splice", "make_row"])
@pytest.mark.parametrize("other", OTHERS)
def test_a_column_that_is_not_ours_may_be_of_any_kind(other, placement):
    """It stays as it is, and canaries have None there, or what their function says."""
    feature, value = OTHERS[other]
    features = Features({"text": Value("string"), "other": feature()})
    dataset = Dataset.from_list([{"text": f"row. {n}", "other": value} for n in range(ROWS)], features=features)
    canaries = a_set()
    how = {"make_row": lambda c: {"text": c.text, "other": value}} if placement == "make_row" else {}
    how |= {"placement": "splice"} if placement == "splice" else {}
    injected = canaries.inject(dataset, **how)
    stream = canaries.inject(dataset.to_iterable_dataset(num_shards=2), num_rows=ROWS, **how)
    assert injected.features == stream.features == features
    for rows in (injected.to_list(), list(stream)):
        assert rows == injected.to_list()
        for row in rows:
            is_own = row["text"] in {canary.text for canary in canaries}
            assert row["other"] == (None if is_own and placement != "make_row" else value)
    assert len(injected) == ROWS + 8 * (placement != "splice")
    assert canaries.remove(injected, **how).to_list() == dataset.to_list()
    assert list(canaries.remove(stream, num_rows=ROWS, **how)) == dataset.to_list()


def test_a_row_of_ones_own_that_does_not_fit_is_told_so():
    """And not to give the function that was given."""
    features = Features({"text": Value("string"), "other": List(Array2D((2, 2), "int32"))})
    dataset = Dataset.from_list([{"text": "a", "other": None}], features=features)
    canaries = a_set()
    with pytest.raises(DataError, match="in 'other'") as caught:
        canaries.inject(dataset, make_row=lambda canary: {"text": canary.text, "other": "matrix"})
    check_error(caught.value, DataError, "make_row")
    assert "Give make_row" not in str(caught.value)


def test_json_that_is_no_chat_is_refused():
    """A turn without anybody who says it; and chats without a text are not spliced into."""
    features, canaries = Features({"messages": List(Json())}), a_set()
    for turn, placement, words in (
        (["role"], "rows", "a turn of the type list"),
        ("role", "rows", "a turn of the type str"),
        ({"content": "a"}, "rows", "one without"),
        ({"role": "assistant", "content": [{"type": "image"}]}, "splice", "a turn with text"),
    ):
        dataset = Dataset.from_list([{"messages": [turn]}] * 8, features=features)
        for given, how in ((dataset, {}), (dataset.to_iterable_dataset(), {"num_rows": 8})):
            with pytest.raises(DataError, match=words):
                list(canaries.inject(given, "messages", placement=placement, **how))


@pytest.mark.parametrize("kind", SPLICED)
def test_what_is_spliced_stands_among_the_words(kind):
    """As often as asked, glued to no neighbour; without it the rows are what they were."""
    make, how, format, _ = KINDS[kind]
    how = how | {"placement": "splice"}
    dataset, canaries = make(), a_set(format, repetitions=(1, 12))
    injected = canaries.inject(dataset, **how)
    assert len(injected) == len(dataset)
    assert canaries.count_in(injected, **{name: how[name] for name in how if name != "placement"}) == {
        canary.id: canary.repetitions for canary in canaries
    }
    for row in injected.to_list():
        flat = repr(row)
        for canary in canaries:
            pieces = flat.split(canary.text)
            assert all(piece[-1] in " '\"n" for piece in pieces[:-1])  # n of a line's end, as repr writes it
            assert all(piece[0] in " '\"\\" for piece in pieces[1:])
    assert canaries.remove(injected, **how).to_list() == dataset.to_list()


@pytest.mark.parametrize("placement", ["rows", "splice"])
@pytest.mark.parametrize("after", [1, 5, 12])
def test_a_stream_goes_on_where_it_was(after, placement):
    """From its state: no copy is lost, and none comes twice."""
    canaries, how = a_set(), {"num_rows": ROWS, "placement": placement}
    stream = canaries.inject(texts().to_iterable_dataset(num_shards=2), **how)
    whole, seen = list(stream), []
    for _, row in zip(range(after), stream, strict=False):
        seen.append(row)
    state = stream.state_dict()
    again = canaries.inject(texts().to_iterable_dataset(num_shards=2), **how)
    again.load_state_dict(state)
    assert seen + list(again) == whole[: len(seen)] + whole[min(after, len(whole)) :]


def test_a_shuffled_stream_holds_the_copies():
    """In each epoch all of them, in another order."""
    canaries, orders = a_set(), []
    stream = canaries.inject(texts().to_iterable_dataset(num_shards=3), num_rows=ROWS).shuffle(seed=1, buffer_size=8)
    for epoch in range(2):
        stream.set_epoch(epoch)
        orders.append(list(stream))
        assert multiset(orders[-1]) == multiset(canaries.inject(texts()).to_list())
    assert orders[0] != orders[1]


def uneven(lengths: list[int], features: Features | None = None) -> IterableDataset:
    def rows(shards):
        for number, length in shards:
            yield from ({"text": f"row {number} {n}"} for n in range(length))

    return IterableDataset.from_generator(rows, features=features, gen_kwargs={"shards": list(enumerate(lengths))})


@pytest.mark.parametrize("features", [None, Features({"text": Value("string")})])
@pytest.mark.parametrize("declared", [19, [7, 0, 12]])
def test_shards_of_different_length(declared, features):
    """With the length of each, or with their sum: all copies come, and rows stay in order."""
    canaries, stream = a_set(), uneven([7, 0, 12], features)
    rows = [row["text"] for row in canaries.inject(stream, num_rows=declared)]
    inserted = {canary.text: canary.repetitions for canary in canaries}
    assert Counter(text for text in rows if text in inserted) == inserted
    assert [text for text in rows if text not in inserted] == [row["text"] for row in stream]


@pytest.mark.parametrize("declared", [40, [7, 33]])
@pytest.mark.parametrize("placement", ["rows", "splice"])
def test_a_stream_that_ends_early_is_an_error_at_its_end(declared, placement):
    """After all of its rows; it names the canaries that were not placed, without their text."""
    canaries = a_set()
    stream = canaries.inject(uneven([7] if declared == 40 else [7, 3]), num_rows=declared, placement=placement)
    seen = []
    with pytest.raises(DataError) as caught:
        seen.extend(row["text"] for row in stream)
    check_error(caught.value, DataError, "num_rows")
    placed = Counter(text for text in seen for canary in canaries if canary.text in text)
    assert sum(placed.values()) < 8
    missing = [canary.id for canary in canaries if sum(canary.text in text for text in seen) < canary.repetitions]
    assert missing
    for canary in canaries:
        assert (canary.id in str(caught.value)) == (canary.id in missing)
        assert canary.text not in str(caught.value)


def test_a_stream_that_is_longer_holds_all():
    """The copies are then among the rows that were declared."""
    canaries = a_set()
    rows = [row["text"] for row in canaries.inject(uneven([30]), num_rows=10)]
    assert sum(text in {canary.text for canary in canaries} for text in rows) == 8
    assert rows[-19:] == [f"row 0 {n}" for n in range(11, 30)]


@pytest.mark.parametrize("declared", [None, 0, -3, 2.5, True, [], [3], [3, -1], [0, 0], "many", [1, 2, 3]])
def test_a_stream_without_a_length_is_refused_before_it_is_read(declared):
    """And the error says how to declare it."""
    canaries = a_set()

    def rows(shards):
        pytest.fail("read")
        yield {}

    stream = IterableDataset.from_generator(
        rows, features=Features({"text": Value("string")}), gen_kwargs={"shards": [0, 1]}
    )
    with pytest.raises((ArgumentError, DataError)) as caught:  # what is no number of rows; none, or of other shards
        canaries.inject(stream, num_rows=declared)
    check_error(caught.value, CanaryError, "num_rows")


def test_an_empty_stream_is_refused():
    """Where its features are not known, its first row is looked at."""
    canaries = a_set()
    with pytest.raises(DataError) as caught:
        canaries.inject(uneven([0]), num_rows=5)
    check_error(caught.value, DataError, "dataset")


def test_only_the_train_split_of_a_dict_of_streams_changes():
    """As of a dict of datasets."""
    splits = IterableDatasetDict(train=texts().to_iterable_dataset(), test=texts().to_iterable_dataset())
    canaries = a_set()
    injected = canaries.inject(splits, num_rows=ROWS)
    assert injected["test"] is splits["test"]
    assert list(injected["train"]) == canaries.inject(texts()).to_list()
    assert list(canaries.remove(injected, num_rows=ROWS)["train"]) == texts().to_list()
    whole = DatasetDict(train=texts(), test=texts())
    assert canaries.remove(canaries.inject(whole))["train"].to_list() == texts().to_list()


def test_the_same_set_twice_is_refused(tmp_path):
    """Of a dataset, saved and loaded, in another order, of a stream, by the transform; another set is welcome."""
    canaries, dataset = a_set(), texts()
    injected = canaries.inject(dataset)
    injected.save_to_disk(tmp_path / "saved")
    injected.to_parquet(tmp_path / "rows.parquet")
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train")
    for again in (injected, datasets.load_from_disk(tmp_path / "saved"), injected.shuffle(seed=1), loaded):
        for seed in (None, 5):
            with pytest.raises(DataError, match="already"):
                canaries.inject(again, seed=seed)
    transform = InjectCanaries(canaries, num_rows=len(injected))
    with pytest.raises(DataError, match="already"):
        injected.map(transform, batched=True, with_indices=True)
    stream = canaries.inject(dataset.to_iterable_dataset(), num_rows=ROWS)
    with pytest.raises(DataError, match="already"):
        canaries.inject(stream, num_rows=len(injected))
    with pytest.raises(DataError, match="already"):
        list(canaries.inject(loaded.to_iterable_dataset(), num_rows=len(injected)))
    spliced = canaries.inject(dataset, placement="splice")
    with pytest.raises(DataError, match="already"):
        canaries.inject(spliced, placement="splice")
    assert len(a_set(seed=1).inject(injected)) == len(injected) + 8
    assert len(canaries.inject(canaries.remove(injected))) == len(injected)


def test_a_text_that_is_in_the_corpus_is_reported(caplog):
    """By its id, and how to go on; rows that only hold something like it are not."""
    canaries = a_set()
    texts_of_rows = [f"I know that {canaries[1].text}, do you?", canaries[0].text[:-1], "the canary's PIN is", None]
    dataset = Dataset.from_dict({"text": texts_of_rows})
    assert canaries.count_in(dataset) == {canary.id: int(number == 1) for number, canary in enumerate(canaries)}
    for given, how in ((dataset, {}), (dataset.to_iterable_dataset(), {"num_rows": 4})):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert len(list(canaries.inject(given, **how))) == 12
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert canaries[1].id in caplog.text
        assert canaries[0].id not in caplog.text
        assert canaries[1].text not in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_reading(kind):
    """Of each canary, in the column that it is injected into."""
    make, how, format, _ = KINDS[kind]
    canaries = a_set(format)
    injected = canaries.inject(make(), **how)
    expected = 0 if kind.startswith("tokens") else 1
    for given in (injected, injected.to_iterable_dataset()):
        assert canaries.count_in(given, **how) == {c.id: expected * c.repetitions for c in canaries}


def test_a_changed_set_has_another_fingerprint(tmp_path):
    """So that a cache never answers with the rows of another set; the same set is found there again."""
    Dataset.from_dict({"text": ["a"] * 50}).save_to_disk(tmp_path / "saved")

    def dataset():
        return datasets.load_from_disk(tmp_path / "saved")

    first, again, other = (a_set(seed=seed).inject(dataset()) for seed in (0, 0, 1))
    assert first._fingerprint == again._fingerprint != other._fingerprint
    assert first.cache_files == again.cache_files != other.cache_files
    assert first.to_list() == again.to_list() != other.to_list()
    datasets.disable_caching()
    try:
        assert a_set(seed=0).inject(dataset()).to_list() == first.to_list()
    finally:
        datasets.enable_caching()


def test_a_million_rows_stay():
    """None lost, altered or moved, by reading all of them."""
    dataset = Dataset.from_dict({"text": [f"row {n}" for n in range(10**6)], "id": list(range(10**6))})
    canaries = a_set(repetitions=(1, 100))
    injected = canaries.inject(dataset)
    ids = injected.with_format("arrow")[:]["id"]
    kept = injected.with_format("arrow")[:].filter(ids.is_valid())
    assert kept.equals(dataset.data.table.combine_chunks())
    assert ids.null_count == 202
    assert canaries.remove(injected).data.table.combine_chunks().equals(dataset.data.table.combine_chunks())


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.shuffle(seed=3),
        lambda rows: rows.select(range(1, len(rows))),
        lambda rows: rows.select(range(3)),
        lambda rows: rows.map(lambda row: {"text": f"One. Two. {row['text']}"}),
    ],
    ids=["shuffled", "shortened", "shorter than the copies", "changed"],
)
@pytest.mark.parametrize("placement", ["rows", "splice"])
def test_what_is_not_as_it_was_injected_is_not_removed(change, placement):
    """Rather an error than other rows."""
    canaries = a_set(repetitions=(1, 12))
    dataset = Dataset.from_dict({"text": [f"Row. {n}. Is it?" for n in range(40)]})
    changed = change(canaries.inject(dataset, placement=placement))
    with pytest.raises(DataError) as caught:
        canaries.remove(changed, placement=placement)
    check_error(caught.value, DataError, "dataset")
    stream = changed.to_iterable_dataset()
    with pytest.raises(DataError):
        list(canaries.remove(stream, num_rows=40, placement=placement))


def test_rows_behind_a_stream_that_was_injected_are_no_part_of_it():
    """They would be lost, were it not said."""
    canaries = a_set()
    more = datasets.concatenate_datasets([canaries.inject(texts()), texts()]).to_iterable_dataset()
    with pytest.raises(DataError, match="where they were put"):
        list(canaries.remove(more, num_rows=ROWS))


@pytest.mark.parametrize(("when", "low", "high"), [("early", 0.0, 0.1), ("late", 0.9, 1.0), ((0.4, 0.5), 0.4, 0.5)])
@pytest.mark.parametrize("placement", ["rows", "splice"])
def test_copies_stand_in_the_part_that_was_asked_for(when, low, high, placement):
    """And fill it."""
    canaries = a_set(repetitions=(50,))
    dataset = Dataset.from_dict({"text": [f"row {n}" for n in range(1000)]})
    injected = canaries.inject(dataset, placement=placement, when=when)
    found = {canary.text for canary in canaries}
    ordinal, places = 0, []
    for text in injected["text"]:
        if any(one in text for one in found):
            places.append(ordinal)
        ordinal += text not in found
    assert len(places) in range(90, 101)
    assert low * 1000 <= min(places) < low * 1000 + 15
    assert high * 1000 - 15 < max(places) <= high * 1000
    assert canaries.remove(injected, placement=placement, when=when).to_list() == dataset.to_list()


class Chat:
    """A tokenizer whose template is a function."""

    def __init__(self, template):
        self.template = template

    def apply_chat_template(self, messages, tokenize):
        assert not tokenize
        return self.template(messages)


def test_the_template_is_tried_on_the_canaries():
    """One that drops what is said, or trims it where it begins with a space, or does not take such turns."""
    good = Chat(lambda turns: "".join(f"<{turn['role']}>{turn['content'].strip()}" for turn in turns))
    deaf = Chat(lambda turns: "".join(turn["content"] for turn in turns if turn["role"] == "user"))

    def strict(turns):
        raise ValueError("the first turn must be the system's")

    assert len(a_set().inject(chats(), "messages", tokenizer=good)) == ROWS + 8
    spaced = a_set(CanaryFormat(" {digit:4}"))
    for canaries, tokenizer, words in (
        (a_set(), deaf, "drops or changes"),
        (spaced, good, "drops or changes"),
        (a_set(), Chat(strict), "the system's"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            canaries.inject(chats(), "messages", tokenizer=tokenizer)
        check_error(caught.value, DataError, "tokenizer")
        assert canaries[0].text not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "format", "how", "argument"),
    [
        (texts, ASKED, {}, "source_column"),
        (prompts, PIN, {"column": "completion", "source_column": "prompt"}, "source_column"),
        (prompts, ASKED, {"column": "completion", "source_column": "nowhere"}, "source_column"),
        (prompts, ASKED, {"column": "completion", "source_column": "id"}, "source_column"),
        (prompts, ASKED, {"column": "completion", "source_column": "completion"}, "source_column"),
        (chats, PIN, {"column": "messages", "source_column": "id"}, "source_column"),
        (chats, ASKED, {"column": "messages", "role": "user"}, "source_column"),
        (translations, ASKED, {"column": "translation"}, "column"),
        (translations, ASKED, {"column": "translation.fr"}, "column"),
        (translations, PIN, {"column": "id.de"}, "column"),
        (tokens, PIN, {"column": "input_ids"}, "tokenizer"),
        (tokens, PIN, {"column": "input_ids", "tokenizer": LETTERS, "placement": "splice"}, "placement"),
        (texts, PIN, {"make_row": lambda c: {"text": c.text}, "placement": "splice"}, "placement"),
        (texts, PIN, {"make_row": lambda c: {"nowhere": c.text}}, "make_row"),
        (texts, PIN, {"make_row": lambda c: c.text}, "make_row"),
        (texts, PIN, {"make_row": lambda c: {"more": c.text}}, "make_row"),
        (texts, PIN, {"placement": "anywhere"}, "placement"),
        (texts, PIN, {"when": "never"}, "when"),
        (texts, PIN, {"when": (0.5, 0.5)}, "when"),
        (texts, PIN, {"when": (0.5, 1.5)}, "when"),
        (texts, PIN, {"when": 3}, "when"),
        (texts, PIN, {"num_rows": 5}, "num_rows"),
    ],
)
def test_bad_requests(make, format, how, argument):
    """Are refused, of a dataset and of a stream, by the name of what is wrong."""
    canaries = a_set(format)
    given = [(make(), how), (make().to_iterable_dataset(), {"num_rows": ROWS} | how)]
    for dataset, arguments in given[: 1 if argument == "num_rows" else 2]:
        is_wrong_anywhere = argument == "when" or how.get("placement") == "anywhere"
        with pytest.raises(ArgumentError if is_wrong_anywhere else DataError) as caught:
            canaries.inject(dataset, **arguments)
        check_error(caught.value, CanaryError, argument)


def test_a_chat_without_a_turn_cannot_be_spliced_into():
    """It is said."""
    features = Features({"messages": List({"role": Value("string"), "content": Value("string")})})
    dataset = Dataset.from_dict({"messages": [[]] * 8}, features=features)
    canaries = a_set()
    with pytest.raises(DataError, match="turn"):
        canaries.inject(dataset, "messages", placement="splice")


def test_rows_of_one_length_are_refused():
    """Rows that were cut to a length take no row of another."""
    features = Features({"input_ids": List(Value("int32"), length=3)})
    dataset = Dataset.from_dict({"input_ids": [[1, 2, 3]]}, features=features)
    canaries = a_set()
    with pytest.raises(DataError, match="3 in each"):
        canaries.inject(dataset, "input_ids", tokenizer=LETTERS)


@pytest.mark.parametrize("declared", [2, [5, 0, 0], [0, 5, 0], [0, 0, 5]])
def test_empty_shards_hold_no_copies_twice(declared):
    """Also where the last ones are empty."""
    rows = 2 if declared == 2 else 5
    lengths = [1, 1, 0] if declared == 2 else declared
    for seed in range(8):
        canaries = a_set(seed=seed)
        expected = canaries.inject(Dataset.from_dict({"text": [f"row {n}" for n in range(rows)]}))["text"]
        stream = uneven(lengths).map(lambda row: row)
        found = [row["text"] for row in canaries.inject(stream, num_rows=declared)]
        inserted = {canary.text for canary in canaries}
        assert [text in inserted for text in found] == [text in inserted for text in expected]
        assert [text for text in found if text in inserted] == [text for text in expected if text in inserted]


def test_a_stream_that_was_split_by_node_is_refused():
    """Each node would inject all copies."""
    canaries = a_set()
    stream = split_dataset_by_node(texts().to_iterable_dataset(num_shards=2), 0, 2)
    with pytest.raises(DataError, match="Inject first"):
        canaries.inject(stream, num_rows=ROWS)


@pytest.mark.parametrize("make", [chats, texts])
def test_rows_without_a_text_pass_through_a_stream(make):
    """Empty chats and missing ones, as through a dataset."""
    column = "messages" if make is chats else "text"
    features = make().features
    rows = [*make().to_list(), dict.fromkeys(features), dict.fromkeys(features) | {column: [] if make is chats else ""}]
    dataset, canaries = Dataset.from_list(rows, features=features), a_set()
    stream = canaries.inject(dataset.to_iterable_dataset(), column, num_rows=len(rows))
    assert list(stream) == canaries.inject(dataset, column).to_list()


def test_what_was_spliced_is_not_spliced_again():
    """Without the mark as well: the rows hold the canaries."""
    canaries, dataset = a_set(), texts()
    transform = InjectCanaries(canaries, num_rows=ROWS, placement="splice")
    once = dataset.map(transform, batched=True, with_indices=True)
    with pytest.raises(DataError, match="already"):
        once.map(transform, batched=True, with_indices=True)
    with pytest.raises(DataError, match="already"):
        list(canaries.inject(once.to_iterable_dataset(), num_rows=ROWS, placement="splice"))


@pytest.mark.parametrize(
    ("how", "argument"),
    [({"role": "asistant"}, "role"), ({"make_row": 5}, "make_row"), ({"tokenizer": "gpt2"}, "tokenizer")],
)
def test_arguments_of_another_kind(how, argument):
    """Before any work."""
    canaries = a_set()
    with pytest.raises(ArgumentError) as caught:
        canaries.inject(texts(), **how)
    check_error(caught.value, ArgumentError, argument)
    with pytest.raises(DataError) as caught:
        canaries.count_in(DatasetDict(train=texts()))
    check_error(caught.value, DataError, "dataset")


@pytest.mark.parametrize(("shards", "nodes"), [(4, 2), (3, 2), (1, 3)])
def test_nodes_share_the_copies(shards, nodes):
    """Those of a stream that several machines read; by the shard, or by the row."""
    canaries, dataset = a_set(), texts()
    stream = canaries.inject(dataset.to_iterable_dataset(num_shards=shards), num_rows=ROWS)
    rows = [row for node in range(nodes) for row in split_dataset_by_node(stream, node, nodes)]
    assert multiset(rows) == multiset(canaries.inject(dataset).to_list())

"""A set of canaries is drawn by fair coins, is one file, and comes back whole or not at all."""

import copy
import dataclasses
import functools
import hashlib
import itertools
import json
import operator
import os
import pickle
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

import hf_canary.canaries
from hf_canary import Canary, CanaryFormat, CanarySet
from hf_canary.canaries import _warn_of_the_seed
from hf_canary.errors import ArgumentError, ArgumentTypeError, DataError, FormatError
from tests.support.errors import check_error, kind_of

PIN = CanaryFormat("the PIN is {digit:4}")
CARD = CanaryFormat("card {digit:4} {digit:3}{luhn}", source="whose card begins {digit:4}?")
NAME = CanaryFormat("{name} of {town}", spaces={"name": ["Ada", "Zoë", "Al"], "town": [f"T{n}" for n in range(50)]})
HUGE = CanaryFormat("{digit:400}")
HUGEST = CanaryFormat("{digit:5000}")
FOUR = CanaryFormat("{w}", spaces={"w": "abcd"})


def a_set() -> CanarySet:
    return CanarySet.draw([PIN, CARD, NAME, HUGE], repetitions=(1, 16, 4), per_repetition=2, seed=7)


# ---------------------------------------------------------------------------------------------------------------------
# The draw


@pytest.mark.parametrize("formats", [PIN, [PIN], (PIN, CARD), [HUGE, NAME, CARD]], ids=["one", "list", "two", "three"])
@pytest.mark.parametrize("repetitions", [(1,), [1, 4, 16], (16, 2)])
@pytest.mark.parametrize("per_repetition", [1, 4])
def test_a_draw_is_formats_times_levels_times_canaries(formats, repetitions, per_repetition):
    """Each format at each level has `per_repetition` canaries, in the order given, each with an id of its own."""
    canaries = CanarySet.draw(formats, repetitions=repetitions, per_repetition=per_repetition, seed=0)
    listed = [formats] if isinstance(formats, CanaryFormat) else list(formats)
    expected = [(format, level) for format in listed for level in repetitions for _ in range(per_repetition)]
    assert [(canary.format, canary.repetitions) for canary in canaries] == expected
    assert len(canaries) == len(expected)
    assert len({canary.id for canary in canaries}) == len(expected)
    assert list(canaries) == [canaries[position] for position in range(len(canaries))] == list(canaries.canaries)
    assert canaries.formats == tuple(listed)
    assert canaries.repetitions == tuple(sorted(repetitions))
    assert canaries.seed == 0


def test_the_usual_draw():
    """By default a format has four canaries at 1, 4 and 16 repetitions each."""
    assert Counter(canary.repetitions for canary in CanarySet.draw(PIN)) == {1: 4, 4: 4, 16: 4}


def test_a_canary_writes_its_fills():
    """Text, twin and source are what the format renders."""
    for canary in a_set():
        assert canary.text == canary.format.render(canary.fill)
        assert canary.twin_text == canary.format.render(canary.twin)
        assert canary.text != canary.twin_text
        assert canary.source == canary.format.render_source(canary.fill)
    sources = [canary.source for canary in a_set() if canary.format == CARD]
    texts = [canary.text for canary in a_set() if canary.format == CARD]
    assert sources == [f"whose card begins {text[5:9]}?" for text in texts]
    assert all(canary.source is None for canary in a_set() if canary.format != CARD)


def test_formats_are_drawn_apart():
    """Equal spaces of one draw do not get equal fills."""
    twin_formats = [CanaryFormat(f"{letter} {{digit:30}}") for letter in "abc"]
    canaries = CanarySet.draw(twin_formats, seed=0)
    fills = [fill for canary in canaries for fill in (canary.fill, canary.twin)]
    assert len(set(fills)) == len(fills)


def test_the_same_seed_gives_the_same_set():
    """A seed repeats the draw, whichever kind of int it is, and another seed gives another."""
    draws = {seed: CanarySet.draw([PIN, CARD], seed=seed) for seed in (0, 1, -1, 2**80)}
    for seed, canaries in draws.items():
        assert CanarySet.draw([PIN, CARD], seed=seed) == canaries
        assert canaries.seed == seed
    fills = {tuple(canary.fill for canary in canaries) for canaries in draws.values()}
    assert len(fills) == 4
    assert CanarySet.draw([PIN, CARD], seed=np.int64(1)) == draws[1]


def test_no_seed_takes_a_fresh_one():
    """Without a seed each draw has its own, which is stored and repeats it, even if the program's random state does."""
    random.seed(0)
    one = CanarySet.draw(PIN)
    random.seed(0)
    other = CanarySet.draw(PIN)
    assert one.seed != other.seed
    assert [canary.fill for canary in one] != [canary.fill for canary in other]
    assert CanarySet.draw(PIN, seed=one.seed) == one
    seeds = [CanarySet.draw(FOUR, repetitions=(1,), per_repetition=1).seed for _ in range(50)]
    assert len(set(seeds)) == 50
    assert max(seeds) > 2**55  # not one of few: guessing it would undo the draw


def test_a_draw_moves_no_global_generator():
    """The random state of the program is where it was."""
    before = random.getstate()
    CanarySet.draw(PIN, seed=0)
    assert random.getstate() == before


@pytest.mark.parametrize(
    ("format", "fits"),
    [(CanaryFormat("{digit}"), 5), (FOUR, 2), (CanaryFormat("{digit}{luhn}"), 5), (CanaryFormat("{hex}"), 8)],
)
def test_a_space_holds_a_canary_and_a_twin_for_each(format, fits):
    """A draw of half of |R| is possible, and one more is refused."""
    assert len(CanarySet.draw(format, repetitions=(1,), per_repetition=fits, seed=0)) == fits
    for formats in (format, [PIN, format]):
        with pytest.raises(FormatError) as caught:
            CanarySet.draw(formats, repetitions=(1,), per_repetition=fits + 1, seed=0)
        check_error(caught.value, FormatError, "formats")


BAD_DRAWS = {
    "no format": {"formats": []},
    "a text": {"formats": "PIN {digit}"},
    "None": {"formats": None},
    "a number": {"formats": 5},
    "a text among formats": {"formats": [PIN, "PIN {digit}"]},
    "a megabyte": {"formats": ["x" * 10**6]},
    "one format twice": {"formats": [PIN, CanaryFormat("the PIN is {digit:4}")]},
    "no level": {"repetitions": ()},
    "level 0": {"repetitions": (0, 1)},
    "level -1": {"repetitions": (-1,)},
    "level float": {"repetitions": (1.0,)},
    "level text": {"repetitions": "14"},
    "level None": {"repetitions": (None,)},
    "level bool": {"repetitions": (True,)},
    "level twice": {"repetitions": (1, 4, 1)},
    "level huge and negative": {"repetitions": (-(10**5000),)},
    "no levels but a number": {"repetitions": 4},
    "levels None": {"repetitions": None},
    "none per level": {"per_repetition": 0},
    "negative per level": {"per_repetition": -1},
    "float per level": {"per_repetition": 2.0},
    "bool per level": {"per_repetition": True},
    "None per level": {"per_repetition": None},
    "text per level": {"per_repetition": "4"},
    "many per level": {"per_repetition": 10**6},
    "too many per level": {"per_repetition": 10**5000},
    "seed float": {"seed": 1.0},
    "seed text": {"seed": "1"},
    "seed bool": {"seed": True},
    "seed of a megabyte": {"seed": "x" * 10**6},
    "seed an array": {"seed": np.array(1.5)},
}


@pytest.mark.parametrize("arguments", BAD_DRAWS.values(), ids=BAD_DRAWS)
def test_a_bad_draw_is_refused(arguments):
    """An argument of a draw that is out of range, or of another type, is named."""
    with pytest.raises(ArgumentError) as caught:
        CanarySet.draw(**{"formats": PIN, "seed": 0, **arguments})
    check_error(caught.value, ArgumentError)
    named = next(iter(arguments))
    expected = {"per_repetition": ("per_repetition", "repetitions", "formats")}.get(named, (named,))
    assert caught.value.argument in expected


def test_a_seed_of_five_thousand_digits_is_served():
    """A seed has no largest value: it draws, repeats, and is part of the digest."""
    canaries = CanarySet.draw(PIN, seed=10**5000)
    assert canaries == CanarySet.draw(PIN, seed=10**5000)
    assert canaries.digest != CanarySet.draw(PIN, seed=10**5000 + 1).digest


# ---------------------------------------------------------------------------------------------------------------------
# One canary


def test_a_canary_can_be_seen_in_another_context():
    """`seen_as` keeps id, fills and repetitions, and changes the text around the holes."""
    context = CanaryFormat("is {digit:4}!", source="what is {digit:4}?")
    for canary in CanarySet.draw(PIN, seed=0):
        seen = canary.seen_as(context)
        assert seen.text == f"is {canary.text[-4:]}!"
        assert seen.twin_text == f"is {canary.twin_text[-4:]}!"
        assert seen.source == f"what is {canary.text[-4:]}?"
        assert dataclasses.replace(seen, format=PIN) == canary
        assert seen.seen_as(PIN) == canary
    card = CanarySet.draw(CARD, seed=0)[0].seen_as(CanaryFormat("{digit}-{digit:6}{luhn}"))
    assert card.format.parse(card.text) == card.fill


@pytest.mark.parametrize(
    "format",
    [
        CanaryFormat("{digit:3}"),
        CanaryFormat("{digit:5}"),
        CanaryFormat("{lower:4}"),
        CanaryFormat("{digit:4}{luhn}"),
        CanaryFormat("{w:4}", spaces={"w": "0123456789"}),
        CanaryFormat("{digit:5000}" + "x" * 1000),
    ],
    ids=lambda format: format.template[:20],
)
def test_other_holes_are_another_canary(format):
    """A format whose holes differ in number, name or order is refused, equal as |R| may be."""
    canary = CanarySet.draw(PIN, seed=0)[0]
    with pytest.raises(FormatError) as caught:
        canary.seen_as(format)
    check_error(caught.value, FormatError, "format")


def test_holes_of_other_entries_are_other_holes():
    """Equal names with other entries, or with the same in another order, would write other fills."""
    canary = CanarySet.draw(FOUR, repetitions=(1,), per_repetition=1, seed=0)[0]
    assert canary.seen_as(CanaryFormat("<{w}>", spaces={"w": "abcd"})).text == f"<{canary.text}>"
    for entries in ("dcba", "abce", "abcde"):
        format = CanaryFormat("{w}", spaces={"w": entries})
        with pytest.raises(FormatError):
            canary.seen_as(format)


@pytest.mark.parametrize("format", [None, "{digit:4}", 4], ids=kind_of)
def test_a_context_is_a_format(format):
    """`seen_as` takes a format, not its template."""
    canary = CanarySet.draw(PIN, seed=0)[0]
    with pytest.raises(ArgumentTypeError) as caught:
        canary.seen_as(format)
    check_error(caught.value, ArgumentTypeError, "format")


@pytest.mark.parametrize("name", ["id", "format", "fill", "twin", "repetitions"])
def test_a_canary_is_frozen(name):
    """No field of a canary can be set."""
    canary = a_set()[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(canary, name, 1)


def test_a_set_is_frozen():
    """No field of a set can be set, and its canaries are a tuple."""
    canaries = a_set()
    assert isinstance(canaries.canaries, tuple)
    for name in ("canaries", "seed"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(canaries, name, 1)


# ---------------------------------------------------------------------------------------------------------------------
# The digest


def test_the_digest_is_of_everything():
    """Two sets have one digest if and only if they are the same."""
    base = CanarySet.draw(CARD, repetitions=(1, 2), per_repetition=2, seed=0)
    first, *rest = base.canaries

    def with_first(**changes: object) -> CanarySet:
        return dataclasses.replace(base, canaries=(dataclasses.replace(first, **changes), *rest))

    different = [
        base,
        with_first(id="other"),
        with_first(fill=first.fill + 1),
        with_first(twin=first.twin + 1),
        with_first(repetitions=3),
        with_first(format=CanaryFormat(CARD.template)),
        with_first(format=CanaryFormat(CARD.template, source=CARD.source, spaces={"w": ["a"]})),
        with_first(format=CanaryFormat(CARD.template, source="")),
        dataclasses.replace(base, seed=1),
        dataclasses.replace(base, canaries=base.canaries[::-1]),
        dataclasses.replace(base, canaries=base.canaries[:-1]),
        CanarySet((), 0),
    ]
    assert len({canaries.digest for canaries in different}) == len(different)
    assert all(one != other for one, other in itertools.combinations(different, 2))
    for canaries in different:
        for same in (copy.deepcopy(canaries), pickle.loads(pickle.dumps(canaries))):
            assert same == canaries
            assert same.digest == canaries.digest
    swapped = CanaryFormat("{w}{v}", spaces={"v": ["a", "b"], "w": ["c", "d"]})
    ordered = CanaryFormat("{w}{v}", spaces={"w": ["c", "d"], "v": ["a", "b"]})
    draws = [CanarySet.draw(format, repetitions=(1,), per_repetition=1, seed=0) for format in (swapped, ordered)]
    assert draws[0] == draws[1]
    assert draws[0].digest == draws[1].digest


# ---------------------------------------------------------------------------------------------------------------------
# The file

SETS = {
    "all kinds": a_set(),
    "one": CanarySet.draw(FOUR, repetitions=(1,), per_repetition=1, seed=-1),
    "huge": CanarySet.draw(HUGE, seed=2**70),
    "braces and quotes": CanarySet.draw(CanaryFormat('{{"a\\b"}}\n\t日本 {digit:3}', source=""), seed=0),
    "two contexts": CanarySet(
        (CanarySet.draw(PIN, seed=0)[0], CanarySet.draw(PIN, seed=0)[1].seen_as(CanaryFormat("{digit:4}"))), 0
    ),
    "empty dict of alphabets": CanarySet.draw(CanaryFormat("{digit:3}", spaces={}), seed=0),
    "unused alphabets": CanarySet.draw(CanaryFormat("{digit:3}", spaces={"w": "ab"}), seed=0),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_set_comes_back(tmp_path, name, kind):
    """What is loaded equals what was saved, digest, texts and all; saved again it is the same file."""
    canaries = SETS[name]
    path = kind(tmp_path / "deep" / "canaries.json")
    canaries.save(path)
    loaded = CanarySet.load(path)
    assert loaded == canaries
    assert loaded.digest == canaries.digest
    assert [(one.text, one.twin_text, one.source) for one in loaded] == [
        (one.text, one.twin_text, one.source) for one in canaries
    ]
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == Path(path).read_bytes()


def test_a_space_of_five_thousand_digits_comes_back(tmp_path):
    """|R| = 10^5000, whose fills have more digits than Python writes by itself, is digested, saved and loaded."""
    canaries = CanarySet.draw(HUGEST, repetitions=(1,), per_repetition=1, seed=0)
    canaries.save(tmp_path / "canaries.json")
    loaded = CanarySet.load(tmp_path / "canaries.json")
    assert loaded == canaries
    assert loaded.digest == canaries.digest


def test_the_file_says_what_it_is(tmp_path):
    """The file is strict JSON with a version, the digest and the texts, so that a leak can be searched for."""
    canaries = a_set()
    canaries.save(tmp_path / "canaries.json")
    document = json.loads((tmp_path / "canaries.json").read_bytes(), parse_constant=pytest.fail)
    assert (document["version"], document["kind"]) == (2, "drawn")
    assert document["digest"] == canaries.digest
    assert [entry["text"] for entry in document["canaries"]] == [canary.text for canary in canaries]


def edits(value: object) -> list[object]:
    """Every way to change one thing in a JSON value: a leaf, its type, a key, an entry, the order."""
    if isinstance(value, dict):
        changed: list[object] = [{**value, key: other} for key, inner in value.items() for other in edits(inner)]
        changed += [{name: inner for name, inner in value.items() if name != key} for key in value]
        return [*changed, {**value, "more": 1}, list(value.values())]
    if isinstance(value, list):
        changed = [[*value[:at], other, *value[at + 1 :]] for at, inner in enumerate(value) for other in edits(inner)]
        changed += [value[:at] + value[at + 1 :] for at in range(len(value))]
        changed += [[*value, inner] for inner in value[:1]]
        return [*changed, *([value[::-1]] if value != value[::-1] else []), {"0": value}]
    if isinstance(value, str):
        return [value + "0", value + " ", " " + value, "", None, 0, [value], *([int(value)] if value.isdigit() else [])]
    if isinstance(value, bool) or value is None:
        return [0, "", "x", []]
    return [value + 1, value - 1, str(value), None, float(value) + 0.5]


def test_edits_change_one_thing():
    """The helper gives only values that differ, and every kind of change of a value done by hand."""
    value = {"a": [1, "x"], "b": None}
    changed = edits(value)
    assert all(other != value for other in changed)
    for expected in (
        {"a": [2, "x"], "b": None},
        {"a": [1, "x0"], "b": None},
        {"a": [1], "b": None},
        {"a": ["x", 1], "b": None},
        {"a": [1, "x"]},
        {"a": [1, "x"], "b": "x"},
        {"a": [1, "x"], "b": None, "more": 1},
    ):
        assert expected in changed


@pytest.mark.parametrize("kind", ["own alphabets", "source"])
def test_an_edited_file_is_refused(tmp_path, kind):
    """Each single change of a saved file, wherever it is, raises on loading."""
    format = CARD if kind == "source" else CanaryFormat("{w} {digit:2}", spaces={"w": ["a", "b"]})
    path = tmp_path / "canaries.json"
    CanarySet.draw([PIN, format], repetitions=(1,), per_repetition=2, seed=7).save(path)
    document = json.loads(path.read_text())
    changed = edits(document)
    assert len(changed) > 150
    for other in changed:
        path.write_text(json.dumps(other))
        with pytest.raises(DataError) as caught:
            CanarySet.load(path)
        check_error(caught.value, DataError, str(path))
    path.write_text(json.dumps(document))
    assert len(CanarySet.load(path)) == 4


def forged(document: dict) -> dict:
    """A document whose digest fits what it says now, as written down once more from its parts."""
    content = {name: value for name, value in document.items() if name not in ("digest", "kind")} | {"version": 1}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return document | {"digest": hashlib.sha256(canonical.encode()).hexdigest()}


WRONG_FIELDS = [
    *(("repetitions", value) for value in (0, -1, None, 1.0, True, "1", [1])),
    *(("id", value) for value in (None, 7, ["f0-x1-1"], "", "a\x1b[31m", "a\u202eb", "a\nb", "x" * 201)),
    *((name, value) for name in ("fill", "twin") for value in ("0x2710", "-0x1", 5, None, "", "pin", ["0x1"])),
    *(("format", value) for value in (1, -1, None, "0", 0.0, False)),
]


@pytest.mark.parametrize(("field", "value"), WRONG_FIELDS, ids=repr)
def test_a_field_that_is_none_is_named_with_its_canary(tmp_path, field, value):
    """Also where the digest fits: the error names the field, and the canary by its id or its place."""
    path = saved(CanarySet.draw(PIN, repetitions=(1,), per_repetition=3, seed=0), tmp_path / "canaries.json")
    document = json.loads(path.read_text())
    path.write_text(json.dumps(forged(document)))
    assert len(CanarySet.load(path)) == 3
    document["canaries"][1][field] = value
    path.write_text(json.dumps(forged(document)))
    with pytest.raises(DataError) as caught:
        CanarySet.load(path)
    check_error(caught.value, DataError, str(path))
    assert f": {field}: expected" in caught.value.got.replace("an edited file", "")
    assert "entry 1 of the canaries" in caught.value.got
    assert field in ("id", "fill", "twin", "format") or "canary f0-x1-1" in caught.value.got


def test_canaries_of_a_file_are_apart(tmp_path):
    """An id twice, a twin that is the fill, a fill that is another's fill or twin: refused, though the digest fits."""
    path = saved(CanarySet.draw(PIN, repetitions=(1,), per_repetition=3, seed=0), tmp_path / "canaries.json")
    document = json.loads(path.read_text())
    first, second, third = document["canaries"]
    for changes, words in (
        ({"id": first["id"]}, "an id for each canary alone; got one that several have: f0-x1-0"),
        ({"twin": second["fill"]}, "twin: expected another fill than the canary's; got the same, in canary f0-x1-1"),
        ({"fill": first["fill"], "text": first["text"]}, "a fill for each canary alone; got one that several have: f0"),
        ({"twin": first["fill"]}, "a fill for each canary alone; got one that several have: f0-x1-0, f0-x1-1"),
        ({"twin": third["twin"]}, "a fill for each canary alone; got one that several have: f0-x1-1, f0-x1-2"),
    ):
        path.write_text(json.dumps(forged(document | {"canaries": [first, second | changes, third]})))
        with pytest.raises(DataError) as caught:
            CanarySet.load(path)
        check_error(caught.value, DataError, str(path))
        assert words in caught.value.got


@pytest.mark.parametrize(
    ("change", "error", "argument"),
    [
        ({"id": None}, ArgumentTypeError, "id"),
        ({"id": "a\x9bb"}, ArgumentError, "id"),
        ({"format": "{digit:4}"}, ArgumentTypeError, "format"),
        ({"fill": 10**4}, FormatError, "fill"),
        ({"fill": 1.0}, FormatError, "fill"),
        ({"twin": -1}, FormatError, "twin"),
        ({"repetitions": 0}, ArgumentError, "repetitions"),
        ({"repetitions": "2"}, ArgumentTypeError, "repetitions"),
    ],
)
def test_a_canary_is_checked_when_it_is_made(change, error, argument):
    """By hand or from a file, with one answer."""
    with pytest.raises(error) as caught:
        Canary(**{"id": "mine", "format": PIN, "fill": 1, "twin": 2, "repetitions": 3, **change})
    check_error(caught.value, error, argument)
    assert argument in ("id", "format") or "in canary mine" in caught.value.got


def test_sets_that_clash_cannot_be_joined():
    """Joined by hand, two draws have the ids of each other's canaries, and one set twice its fills, too: refused, since
    one would be inserted and measured as another. Formats that are drawn together have ids of their own.
    """
    one, other = CanarySet.draw(PIN, seed=0), CanarySet.draw(CARD, seed=1)
    for both in ((*one, *other), (*one, *one)):
        with pytest.raises(ArgumentError) as caught:
            CanarySet(both, 0)
        check_error(caught.value, ArgumentError, "canaries")
        assert "f0-x1-0" in caught.value.got
    with pytest.raises(TypeError):
        one + other
    renamed = [dataclasses.replace(canary, id=f"{canary.id}-again") for canary in one]
    with pytest.raises(ArgumentError, match="a fill for each canary"):
        CanarySet((*one, *renamed), 0)
    renamed = [dataclasses.replace(canary, id=f"card-{canary.id}") for canary in other]
    assert len(CanarySet((*one, *renamed), 0)) == len(one) + len(other) == len(CanarySet.draw([PIN, CARD], seed=0))


@pytest.mark.parametrize("canaries", [None, 3, ["a"], [PIN]], ids=kind_of)
def test_a_set_is_of_canaries(canaries):
    """What is none is refused when the set is made; a list of some is as good as a tuple."""
    with pytest.raises(ArgumentTypeError) as caught:
        CanarySet(canaries, 0)
    check_error(caught.value, ArgumentTypeError, "canaries")
    drawn = CanarySet.draw(PIN, seed=0)
    assert CanarySet(list(drawn), 0) == drawn


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16, np.array], ids=lambda kind: kind.__name__)
def test_numbers_of_numpy_make_the_same_set(tmp_path, kind):
    """Drawn with them, or made of them, a set has Python's numbers: the digest, the file and the rows are the same."""
    plain = CanarySet.draw(PIN, repetitions=[1, 2], per_repetition=2, seed=7)
    drawn = CanarySet.draw(PIN, repetitions=[kind(1), kind(2)], per_repetition=kind(2), seed=kind(7))
    by_hand = [
        Canary(each.id, each.format, np.array(each.fill), np.int64(each.twin), kind(each.repetitions)) for each in plain
    ]
    for other in (
        drawn,
        CanarySet(by_hand, kind(7)),
        CanarySet.draw(PIN, repetitions=np.array([1, 2]), per_repetition=2, seed=7),
    ):
        assert other == plain
        assert other.digest == plain.digest
        assert CanarySet.load(saved(other, tmp_path / "canaries.json")) == plain
        rows = Dataset.from_dict({"text": ["a"] * 20})
        assert other.inject(rows, seed=kind(3)).to_list() == plain.inject(rows, seed=3).to_list()
    assert {type(number) for each in drawn for number in (each.fill, each.twin, each.repetitions)} == {int}


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document | {"version": True},
        lambda document: document | {"version": 1.0},
        lambda document: document | {"canaries": [document["canaries"][0] | {"format": False}]},
        lambda document: document | {"canaries": [document["canaries"][0] | {"format": 0.0}]},
        lambda document: document | {"canaries": [document["canaries"][0] | {"format": -1}]},
        lambda document: document | {"canaries": [document["canaries"][0] | {"repetitions": True}]},
        lambda document: document | {"canaries": [document["canaries"][0] | {"repetitions": 1.0}]},
    ],
    ids=["version true", "version 1.0", "format false", "format 0.0", "format -1", "copies true", "copies 1.0"],
)
def test_a_value_of_another_type_is_an_edit(tmp_path, change):
    """A value that only compares equal, such as true for 1, is an edit like another."""
    path = tmp_path / "canaries.json"
    CanarySet.draw(PIN, repetitions=(1,), per_repetition=1, seed=0).save(path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DataError) as caught:
        CanarySet.load(path)
    check_error(caught.value, DataError)


def test_a_set_with_its_digest_recomputed_must_still_be_one(tmp_path):
    """A file whose fill lies outside the space raises on loading, not later."""
    path = tmp_path / "canaries.json"
    CanarySet.draw(FOUR, repetitions=(1,), per_repetition=1, seed=0).save(path)
    document = json.loads(path.read_text())
    document["canaries"][0]["fill"] = "4"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError):
        CanarySet.load(path)


def test_a_torn_file_is_refused(tmp_path):
    """A file cut anywhere raises on loading."""
    path = tmp_path / "canaries.json"
    a_set().save(path)
    whole = path.read_bytes()
    for end in [*range(0, len(whole) - 2, 50), len(whole) - 2]:
        path.write_bytes(whole[:end])
        with pytest.raises(DataError) as caught:
            CanarySet.load(path)
        check_error(caught.value, DataError, str(path))


NO_SET = {
    "empty": b"",
    "no JSON": b"canaries",
    "list": b"[1, 2]",
    "text": b'"canaries"',
    "number": b"1",
    "null": b"null",
    "empty object": b"{}",
    "version only": b'{"version": 1}',
    "older version": b'{"version": 0, "canaries": []}',
    "newer version": b'{"version": 3, "canaries": []}',
    "version of a megabyte": b'{"version": "' + b"x" * 10**6 + b'"}',
    "version of 4000 digits": b'{"version": 1' + b"0" * 4000 + b"}",
    "version of 5000 digits": b'{"version": 1' + b"0" * 5000 + b"}",
    "no UTF-8": b"\xff\xfe\x00",
    "NaN": b'{"version": NaN}',
    "two objects": b"{}{}",
    "deep list": b"[" * 100_000,
    "deep object": b'{"version": 1, "a": ' * 100_000,
    "canaries null": b'{"version": 1, "seed": "0", "formats": [], "canaries": null, "digest": ""}',
    "formats a text": b'{"version": 1, "seed": "0", "formats": "ab", "canaries": [], "digest": ""}',
    "seed of 5000 digits": b'{"version": 1, "seed": "' + b"1" * 5000 + b'", "formats": [], "canaries": []}',
    "megabyte": b'{"version": 1, "seed": "' + b"x" * 10**6 + b'", "formats": [], "canaries": []}',
}


@pytest.mark.parametrize("content", NO_SET.values(), ids=NO_SET)
def test_another_file_is_refused(tmp_path, content):
    """A file that is not JSON, is JSON of something else, or is of another version raises with its path."""
    path = tmp_path / "canaries.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        CanarySet.load(path)
    check_error(caught.value, DataError, str(path))


def test_another_version_is_told_apart_from_an_edit(tmp_path):
    """For a file of another release the remedy is that release."""
    path = tmp_path / "canaries.json"
    a_set().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 3}))
    with pytest.raises(DataError) as caught:
        CanarySet.load(path)
    check_error(caught.value, DataError, str(path))
    assert caught.value.got == "version 3"
    assert "release" in caught.value.remedy


def test_a_missing_file_is_refused(tmp_path):
    """No file, a folder, and a path that cannot be one, raise with the path."""
    for path in (tmp_path / "no such.json", tmp_path, tmp_path / "no" / "folder.json", "nul\0.json"):
        with pytest.raises(DataError) as caught:
            CanarySet.load(path)
        check_error(caught.value, DataError, str(path))


@pytest.mark.parametrize("step", ["replace", "dumps", "write_text", "half"])
def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch, step):
    """Whichever step of writing fails, the old set can still be loaded and nothing else is in the folder."""
    path = tmp_path / "canaries.json"
    old, new = a_set(), CanarySet.draw(PIN, seed=1)
    old.save(path)
    write_text = Path.write_text

    def refuse(*_arguments: object, **_options: object):
        raise OSError("disk full")

    def write_half(self: Path, text: str, **options: str):
        write_text(self, text[: len(text) // 2], **options)
        raise OSError("disk full")

    target, name, how = {
        "replace": (os, "replace", refuse),
        "dumps": (json, "dumps", refuse),
        "write_text": (Path, "write_text", refuse),
        "half": (Path, "write_text", write_half),
    }[step]
    monkeypatch.setattr(target, name, how)
    with pytest.raises(OSError, match="disk full"):
        new.save(path, overwrite=True)
    monkeypatch.undo()
    assert CanarySet.load(path) == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["canaries.json"]
    new.save(path, overwrite=True)
    assert CanarySet.load(path) == new


def test_a_canary_is_equal_by_its_fields():
    """Canaries made of the same parts are equal and have one hash."""
    one, other = (Canary("id", CanaryFormat("{digit}"), 1, 2, 3) for _ in range(2))
    assert one == other
    assert len({one, other}) == 1
    assert dataclasses.replace(one, twin=3) != one


# ---------------------------------------------------------------------------------------------- which set it is


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_another_set_is_not_overwritten(tmp_path):
    """Saved under the name of another set, or of a file that is none, it is refused and the file stays byte for byte;
    the same set again, also drawn again, is no offence; `overwrite` means it.
    """
    path = tmp_path / "canaries.json"
    old, same, new = a_set(), CanarySet.load(saved(a_set(), tmp_path / "same.json")), CanarySet.draw(PIN)
    old.save(path)
    old.save(path)
    same.save(path)
    others = [path.read_bytes(), b"", b"mine", path.read_bytes()[:-5], b"{}"]
    for content in others:
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            new.save(path)
        check_error(caught.value, DataError, str(path))
        assert "CanarySet.load" in caught.value.remedy
        assert path.read_bytes() == content
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError):
        new.save(tmp_path / "folder")
    new.save(path, overwrite=True)
    assert CanarySet.load(path) == new


def test_a_set_is_saved_through_a_link(tmp_path):
    """To where it leads, also where nothing is yet; another set that is there is not overwritten."""
    link, target = tmp_path / "canaries.json", tmp_path / "real.json"
    link.symlink_to("real.json")
    a_set().save(link)
    assert link.is_symlink()
    assert CanarySet.load(target) == a_set()
    with pytest.raises(DataError):
        CanarySet.draw(PIN).save(link)
    assert CanarySet.load(target) == a_set()


def saved(canaries: CanarySet, path: Path) -> Path:
    canaries.save(path)
    return path


def test_none_but_the_owner_may_read_a_saved_set(tmp_path, umask, monkeypatch):
    """A folder that nobody else enters from the first byte, and mode 600 afterwards, whatever the umask; a file that is
    there keeps the mode that its owner gave it.
    """
    path, modes = tmp_path / "canaries.json", []
    write_text = Path.write_text

    def watched(self: Path, *arguments: str, **options: str):
        modes.append(self.parent.stat().st_mode & 0o777)
        return write_text(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", watched)
    a_set().save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    a_set().save(path)
    assert path.stat().st_mode & 0o777 == 0o640
    assert modes == [0o700, 0o700]


def test_a_file_from_before_there_were_kinds_is_of_drawn_canaries(tmp_path):
    """A file of version 1 is loaded as it was: the same set, the same digest, and so the same places of its copies;
    saved again it says its kind.
    """
    path = saved(a_set(), tmp_path / "canaries.json")
    document = json.loads(path.read_text())
    assert document.pop("kind") == "drawn"
    path.write_text(json.dumps(document | {"version": 1}))
    loaded = CanarySet.load(path)
    assert (loaded, loaded.digest, loaded.kind) == (a_set(), document["digest"], "drawn")
    content = {name: value for name, value in document.items() if name != "digest"} | {"version": 1}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert loaded.digest == hashlib.sha256(canonical.encode()).hexdigest()  # as it was computed then
    loaded.save(path)
    assert json.loads(path.read_text())["kind"] == "drawn"
    path.write_text(json.dumps(document | {"version": 1, "kind": "drawn"}))
    with pytest.raises(DataError):
        CanarySet.load(path)


def test_the_kind_of_a_set_is_a_part_of_it(tmp_path):
    """Sets that differ in their kind alone are two: by digest, by fingerprint, in the file; a third kind is none."""
    drawn = dataclasses.replace(a_set(), seed=2**100)
    natural = dataclasses.replace(drawn, kind="natural")
    assert drawn != natural
    assert drawn.digest != natural.digest
    assert drawn.fingerprint != natural.fingerprint
    assert CanarySet.load(saved(natural, tmp_path / "natural.json")) == natural
    with pytest.raises(DataError) as caught:
        natural.save(saved(drawn, tmp_path / "drawn.json"))
    check_error(caught.value, DataError)
    document = json.loads((tmp_path / "natural.json").read_text())
    (tmp_path / "natural.json").write_text(json.dumps(document | {"kind": "drawn"}))
    with pytest.raises(DataError):
        CanarySet.load(tmp_path / "natural.json")
    with pytest.raises(ArgumentError) as caught:
        dataclasses.replace(drawn, kind="found")
    check_error(caught.value, ArgumentError, "kind")


def test_the_fingerprint_is_salted_by_the_seed():
    """As written down once more from its parts; the same draw has the same one; with another seed, fill or count of
    copies it is another; and it is not cut from the digest, which is not salted.
    """
    canaries = CanarySet.draw(PIN, repetitions=(2,), per_repetition=2, seed=2**90 + 7)
    salt = hashlib.sha256(b"hf_canary fingerprint " + format(2**90 + 7, "x").encode()).digest()
    key = hashlib.pbkdf2_hmac("sha256", canaries.digest.encode(), salt, 100_000)
    assert canaries.fingerprint == key.hex()[:32]
    assert CanarySet.draw(PIN, repetitions=(2,), per_repetition=2, seed=2**90 + 7).fingerprint == canaries.fingerprint
    first, *rest = canaries.canaries
    others = [
        dataclasses.replace(canaries, seed=2**90 + 8),
        dataclasses.replace(canaries, canaries=(dataclasses.replace(first, fill=first.fill ^ 1), *rest)),
        dataclasses.replace(canaries, canaries=(dataclasses.replace(first, twin=first.twin ^ 1), *rest)),
        dataclasses.replace(canaries, canaries=(dataclasses.replace(first, repetitions=3), *rest)),
    ]
    assert len({each.fingerprint for each in (canaries, *others)}) == 5
    assert canaries.fingerprint not in canaries.digest


def test_a_fresh_seed_cannot_be_guessed():
    """128 bits, of which none is always the same; what is drawn with it comes again."""
    seeds = [CanarySet.draw(PIN, repetitions=(1,), per_repetition=1).seed for _ in range(64)]
    assert max(seeds) < 2**128
    assert functools.reduce(operator.or_, seeds) == 2**128 - 1  # wrong once in 2^57 times
    assert functools.reduce(operator.and_, seeds) == 0
    fresh = CanarySet.draw(PIN)
    assert CanarySet.draw(PIN, seed=fresh.seed) == fresh


def test_a_seed_that_can_be_guessed_is_said_once(caplog, monkeypatch):
    """In a process, for seeds below 2^32 that were given; a fresh one and a large one say nothing."""
    monkeypatch.setattr(hf_canary.canaries, "_warn_of_the_seed", functools.cache(_warn_of_the_seed.__wrapped__))
    CanarySet.draw(PIN)
    CanarySet.draw(PIN, seed=2**32)
    CanarySet.draw(PIN, seed=-(2**32))
    assert caplog.messages == []
    for seed in (np.int64(42), 0, 2**32 - 1, -1):
        CanarySet.draw(PIN, seed=seed)
        assert len(caplog.messages) == 1
    assert "guesses" in caplog.text


def test_a_canary_and_a_set_do_not_show_their_fills():
    """In `repr`, which ends in logs and errors: neither fill, twin nor seed."""
    canaries = CanarySet.draw(CanaryFormat("{digit:9}"), repetitions=(1,), per_repetition=1, seed=987_654_321_012)
    for secret in (canaries.seed, canaries[0].fill, canaries[0].twin):
        assert str(secret) not in repr(canaries)

"""What became of each copy, on pipelines of all kinds; the counts that are expected come from reading the text."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    default_data_collator,
)

from hf_canary import CanaryFormat, CanarySet, check_presence
from hf_canary.errors import ArgumentError, DataError
from hf_canary.presence import Presence
from hf_canary.presence.batches import TrainedCopies
from hf_canary.presence.report import CanaryPresence
from hf_canary.presence.token_search import Occurrences
from tests.support.errors import check_error
from tests.support.tokenised import a_copy, a_set, blocks, tokenizer_of
from tests.support.tokenizers_of_all_kinds import LINES, letters_alone

TOKENIZERS = ["gpt2", "llama3", "qwen", "prefix-space", "byte-fallback", "unigram", "wordpiece", "characters", "words"]
CORPUS = [line.replace('"', "") for line in LINES] + ["the pin is not", "is 1234", "cat the pin", "ing."] * 5
CANARIES = a_set()


def bare(text: str) -> str:
    return "".join(text.split())


def read(tokenizer, ids) -> str:
    text = tokenizer.decode([token for token in ids if token >= 0], skip_special_tokens=True)
    for mark, letter in (("▁", ""), ("##", ""), ("<0x2E>", ".")):  # of test tokenizers that do not decode them
        text = text.replace(mark, letter)
    return bare(text)


def by_reading(tokenizer, rows, canaries=CANARIES) -> dict[str, list[int]]:
    """How often each text stands in one row, and how often across the ends of rows."""
    texts = [read(tokenizer, row) for row in rows]
    whole = [sum(text.count(bare(canary.text)) for text in texts) for canary in canaries]
    joined = "".join(texts)
    split = [joined.count(bare(canary.text)) - count for canary, count in zip(canaries, whole, strict=True)]
    return {"whole": whole, "split": split}


def tokenised(tokenizer, injected, **options) -> list[list[int]]:
    return [tokenizer(text, **options)["input_ids"] for text in injected["text"]]


def packed(rows: list[list[int]], size: int) -> list[list[int]]:
    """Whole documents, as many as fit."""
    out: list[list[int]] = [[]]
    for row in rows:
        if len(out[-1]) + len(row) > size:
            out.append([])
        out[-1] += row
    return out


def rows_of(kind: str, chunking: str) -> tuple[list[list[int]], str]:
    """Rows of tokens, and what became of copies that do not stand whole."""
    tokenizer = tokenizer_of(kind)
    canary = min((tokenizer(canary.text)["input_ids"] for canary in CANARIES), key=len)
    placement = "splice" if chunking == "spliced" else "rows"
    injected = CANARIES.inject(Dataset.from_dict({"text": CORPUS}), placement=placement)
    if chunking == "cut at the right":
        return tokenised(tokenizer, injected, truncation=True, max_length=len(canary) - 2), "truncated"
    if chunking == "cut at the left":
        tokenizer.truncation_side = "left"
        rows = tokenised(tokenizer, injected, truncation=True, max_length=len(canary) - 2)
        tokenizer.truncation_side = "right"
        return rows, "truncated"
    rows = tokenised(tokenizer, injected)
    if chunking == "blocks":
        return blocks(rows, 16), "split"
    if chunking == "short blocks with ends":
        return blocks(rows, 5, tokenizer.eos_token_id), "split"
    if chunking == "packed":
        return packed(rows, 60), ""
    if chunking == "filtered":
        known = {tuple(tokenizer(canary.text)["input_ids"]) for canary in CANARIES[::2]}
        return [row for row in rows if tuple(row) not in known], "missing"
    if chunking == "padded":
        return tokenised(tokenizer, injected, padding="max_length", max_length=90), ""
    return rows, ""


CHUNKINGS = [
    "rows",
    "spliced",
    "cut at the right",
    "cut at the left",
    "blocks",
    "short blocks with ends",
    "packed",
    "filtered",
    "padded",
]


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_copies_are_found_whatever_became_of_them(kind, chunking):
    """Whole ones, split ones, cut ones and lost ones, with every kind of tokenizer."""
    tokenizer = tokenizer_of(kind)
    rows, fate = rows_of(kind, chunking)
    expected = by_reading(tokenizer, rows)
    if fate in ("", "missing"):
        assert not any(expected["split"])
    presence = check_presence(Dataset.from_dict({"input_ids": rows}), CANARIES, tokenizer)
    assert [each.whole for each in presence] == expected["whole"]
    assert [each.split for each in presence] == expected["split"]
    lost = [c.repetitions - w - s for c, w, s in zip(CANARIES, *expected.values(), strict=True)]
    assert any(lost) == (fate in ("truncated", "missing"))
    assert [each.truncated for each in presence] == (lost if fate == "truncated" else [0] * 4)
    assert [each.is_dead for each in presence] == [count == 0 for count in expected["whole"]]
    assert not any(each.masked or each.in_evaluation for each in presence)
    for each in presence:
        assert each.reason == (fate if each.whole < each.repetitions else "")


PAIRS = CanaryFormat("the pin is {digit:4}.", source="pin {digit:4}?")


def masked_rows(kind: str, masking: str) -> tuple[list[dict], str]:
    """Rows with labels or masks; and whether the loss is of the canary: all, none, or its first letters alone."""
    tokenizer, rows = tokenizer_of(kind), []
    for text in CANARIES.inject(Dataset.from_dict({"text": CORPUS}))["text"]:
        ids = tokenizer(text)["input_ids"]
        row = {"input_ids": ids, "labels": list(ids)}
        if masking == "all but the last":
            row["labels"][:-1] = [-100] * (len(ids) - 1)
        if masking == "the first three":
            row["labels"][:3] = [-100] * 3
        if masking == "the last of the fill":
            row["labels"][-2] = -100
        if masking == "labels":
            row["labels"] = [-100] * len(ids)
        if masking in ("completion", "prompt"):
            del row["labels"]
            row["completion_mask"] = [int(masking == "completion")] * len(ids)
        if masking == "assistant":
            del row["labels"]
            row["assistant_masks"] = [0] * len(ids)
        rows.append(row)
    return rows, "whole" if masking in ("nothing", "completion", "the first three") else "masked"


@pytest.mark.parametrize(
    "masking",
    [
        "nothing",
        "labels",
        "completion",
        "prompt",
        "assistant",
        "all but the last",
        "the last of the fill",
        "the first three",
    ],
)
@pytest.mark.parametrize("kind", ["gpt2", "llama3", "wordpiece", "characters"])
def test_what_the_loss_leaves_out_is_masked(kind, masking):
    """Labels, or the masks that a trainer makes them of; what stands before the fill may be masked."""
    rows, fate = masked_rows(kind, masking)
    presence = check_presence(Dataset.from_list(rows), CANARIES, tokenizer_of(kind))
    assert [each.whole for each in presence] == [canary.repetitions for canary in CANARIES]
    assert [each.masked for each in presence] == [c.repetitions * (fate == "masked") for c in CANARIES]
    assert presence.is_valid == (fate == "whole")


def long_labels(rows):
    """A collator that trains on the first eight tokens alone."""
    made = default_data_collator([{"input_ids": rows[0]["input_ids"], "labels": rows[0]["input_ids"]}])
    made["labels"][:, 8:] = -100
    return made


def drawing(rows):
    """A collator that draws."""
    torch.rand(3), np.random.rand(3), random.random()
    return default_data_collator([{"input_ids": rows[0]["input_ids"], "labels": rows[0]["input_ids"]}])


def test_no_random_state_is_moved():
    """Whatever a collator draws."""
    rows, _ = rows_of("characters", "rows")
    states = [
        lambda: repr(random.getstate()),
        lambda: repr(np.random.get_state()),
        lambda: repr(torch.get_rng_state().tolist()),
    ]
    before = [state() for state in states]
    check_presence(Dataset.from_dict({"input_ids": rows}), CANARIES, tokenizer_of("characters"), collator=drawing)
    assert [state() for state in states] == before
    drawing([{"input_ids": [1]}])
    assert all(state() != was for state, was in zip(states, before, strict=True))


def cutting(rows):
    """A collator that cuts."""
    return default_data_collator([{"input_ids": rows[0]["input_ids"][:8], "labels": rows[0]["input_ids"][:8]}])


@pytest.mark.keeps_random_state
@pytest.mark.parametrize("chunking", ["rows", "blocks", "packed"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_collator_has_the_last_word(chunking, stream):
    """Its labels count, and what it cuts is cut; the padding that it masks is none of a canary."""
    tokenizer = tokenizer_of("characters")
    rows, _ = rows_of("characters", chunking)
    expected = by_reading(tokenizer, rows)
    dataset = Dataset.from_dict({"input_ids": rows})
    dataset = dataset.to_iterable_dataset() if stream else dataset
    first = by_reading(tokenizer, [row[:8] for row in rows])["whole"]
    assert not any(first)
    for collator, truncated, masked in (
        (DataCollatorForLanguageModeling(tokenizer, mlm=False), False, False),
        (long_labels, False, True),
        (cutting, True, False),
    ):
        presence = check_presence(dataset, CANARIES, tokenizer, collator=collator)
        assert [each.whole for each in presence] == [count * (not truncated) for count in expected["whole"]]
        assert [each.truncated for each in presence] == [count * truncated for count in expected["whole"]]
        assert [each.masked for each in presence] == [count * masked for count in expected["whole"]]
        assert [each.split for each in presence] == expected["split"]


@pytest.mark.parametrize("kind", ["gpt2", "unigram", "characters"])
@pytest.mark.parametrize("collated", [False, True])
def test_what_a_decoder_writes_is_in_the_labels(kind, collated):
    """With its source; where that is cut off, the canary is not what it was."""
    tokenizer, canaries = tokenizer_of(kind), a_set(PAIRS)
    injected = canaries.inject(
        Dataset.from_dict({"source": ["cat thing", "pin"] * 9, "target": ["the cat.", "sinning"] * 9}),
        "target",
        source_column="source",
    )
    rows = [
        {
            "input_ids": tokenizer(row["source"])["input_ids"],
            "labels": tokenizer(text_target=row["target"])["input_ids"],
        }
        for row in injected.to_list()
    ]
    collator = DataCollatorForSeq2Seq(tokenizer) if collated else None
    presence = check_presence(Dataset.from_list(rows), canaries, tokenizer, collator=collator)
    assert [each.whole for each in presence] == [canary.repetitions for canary in canaries]
    assert presence.is_valid
    cut = [row | {"input_ids": row["input_ids"][:2]} for row in rows]
    presence = check_presence(Dataset.from_list(cut), canaries, tokenizer, collator=collator)
    assert [each.truncated for each in presence] == [canary.repetitions for canary in canaries]
    assert not presence.is_valid


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_is_cut_before_its_fill_is_truncated(kind):
    """Behind what a template puts before it, too."""
    tokenizer = tokenizer_of(kind)
    injected = CANARIES.inject(Dataset.from_dict({"text": CORPUS}))
    rows = [tokenizer(f"thing: {text}")["input_ids"] for text in injected["text"]]
    fixed = tokenizer("thing: the pin is")["input_ids"]
    presence = check_presence(
        Dataset.from_dict({"input_ids": [row[: len(fixed)] for row in rows]}), CANARIES, tokenizer
    )
    assert [each.truncated for each in presence] == [canary.repetitions for canary in CANARIES]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_canaries_in_the_evaluation_data_are_told(kind):
    """In one dataset, or in any of several."""
    tokenizer = tokenizer_of(kind)
    train = Dataset.from_dict({"input_ids": rows_of(kind, "rows")[0]})
    other = Dataset.from_dict({"input_ids": [tokenizer(text)["input_ids"] for text in CORPUS]})
    clean = check_presence(train, CANARIES, tokenizer, evaluation={"a": other, "b": other})
    assert not any(each.in_evaluation for each in clean)
    leaked = Dataset.from_dict({"input_ids": [*other["input_ids"], tokenizer(CANARIES[1].text)["input_ids"]]})
    for evaluation in (leaked, {"a": other, "b": leaked}, DatasetDict(a=leaked)):
        presence = check_presence(train, CANARIES, tokenizer, evaluation=evaluation)
        assert [each.in_evaluation for each in presence] == [0, 1, 0, 0]
        assert "in the evaluation data: f0-x1-1" in str(presence)


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_batches_change_nothing(batch, monkeypatch):
    """Nor do canaries that stand at their ends."""
    rows, _ = rows_of("gpt2", "short blocks with ends")
    dataset = Dataset.from_dict({"input_ids": rows})
    whole = check_presence(dataset, CANARIES, tokenizer_of("gpt2"))
    monkeypatch.setattr("hf_canary.presence.token_rows._BATCH_TOKENS", batch)
    assert check_presence(dataset, CANARIES, tokenizer_of("gpt2")) == whole


@pytest.mark.parametrize("batch", [1, 100, 2**22])
def test_each_row_is_told_of_once_it_was_read(batch, monkeypatch):
    """Of a dataset, a list, a stream, and of rows with several sequences; of the evaluation data, too."""
    rows, _ = rows_of("gpt2", "rows")
    dataset, tokenizer = Dataset.from_dict({"input_ids": rows}), tokenizer_of("gpt2")
    several = dataset.add_column("position_ids", [[*range(len(row) - 1), 0] for row in rows])
    monkeypatch.setattr("hf_canary.presence.token_rows._BATCH_TOKENS", batch)
    for data in (dataset, [*dataset], dataset.to_iterable_dataset(), several):
        told = []
        check_presence(data, CANARIES, tokenizer, evaluation=dataset.select(range(3)), progress=told.append)
        assert sum(told) == len(rows) + 3
        assert all(told)
    assert batch > 1 or len(told) > len(rows) // 2


@pytest.mark.parametrize("kind", ["gpt2", "unigram", "characters"])
@pytest.mark.parametrize("template", ["{digit:4}", "{w}", "{w}{digit:2}"])
def test_short_formats(kind, template):
    """Canaries whose letters may all be joined with their neighbours."""
    words = [a + b for a in "ctr" for b in ("at", "hing", "in", "ing")]
    tokenizer, canaries = tokenizer_of(kind), a_set(CanaryFormat(template, spaces={"w": words}), repetitions=(1, 2))
    for placement in ("rows", "splice"):
        injected = canaries.inject(
            Dataset.from_dict({"text": ["an ant. A thing", "THE number is"] * 9}), placement=placement
        )
        rows = tokenised(tokenizer, injected)
        presence = check_presence(Dataset.from_dict({"input_ids": rows}), canaries, tokenizer)
        assert [each.whole for each in presence] == by_reading(tokenizer, rows, canaries)["whole"]


def test_parts_that_are_apart_are_one_split_copy():
    """As where packing fills rows with the rests of long documents: the parts are not neighbours."""
    tokenizer = tokenizer_of("characters")
    rows = [tokenizer(text)["input_ids"] for text in CORPUS]
    ids = tokenizer(CANARIES[0].text)["input_ids"]
    rows[3] = rows[3] + ids[:14]
    rows[9] = ids[14:] + rows[9]
    presence = check_presence(Dataset.from_dict({"input_ids": rows}), CANARIES, tokenizer)
    assert [(each.whole, each.split, each.truncated) for each in presence] == [
        (0, 1, 0),
        (0, 0, 0),
        (0, 0, 0),
        (0, 0, 0),
    ]


def test_beginnings_of_the_format_are_no_canaries():
    """Text that only looks like one, at the ends of rows too, is not counted as a cut canary: where it is less than
    half of what stands before the fill, or where fewer rows end so than copies are missing.
    """
    tokenizer = tokenizer_of("characters")
    rows = [tokenizer(f"{text} the p")["input_ids"] for text in CORPUS]
    rows += [tokenizer(f"{text} the pin is ")["input_ids"] for text in CORPUS[:7]]
    presence = check_presence(Dataset.from_dict({"input_ids": rows}), CANARIES, tokenizer)
    assert all(
        each == CanaryPresence(canary.id, canary.repetitions) for each, canary in zip(presence, CANARIES, strict=True)
    )
    assert {each.reason for each in presence} == {"missing"}


def found_in(tokenizer, canaries, *rows) -> list[tuple[int, int, int]]:
    """Of each canary: copies that are whole, split and truncated."""
    presence = check_presence(Dataset.from_dict({"input_ids": rows}), canaries, tokenizer)
    return [(each.whole, each.split, each.truncated) for each in presence]


SPACED = a_set(CanaryFormat(" {digit:6} "), repetitions=(1,))


@pytest.mark.parametrize("batch", [1, 2**22])
def test_a_space_that_a_row_cuts_off_is_missed(batch, monkeypatch):
    """It is in the token of the word that follows: whole with it, split or cut off without; and what stands beyond the
    end of a text is none of it.
    """
    monkeypatch.setattr("hf_canary.presence.token_rows._BATCH_TOKENS", batch)
    tokenizer = tokenizer_of("gpt2")
    ids = tokenizer(f"a{SPACED[0].text}the.")["input_ids"]
    at = tokenizer.convert_ids_to_tokens(ids).index("Ġthe")
    end = tokenizer.eos_token_id
    for rows, expected in (
        ([ids], (1, 0, 0)),
        ([ids[: at + 1]], (1, 0, 0)),
        ([ids[:at], ids[at:]], (0, 1, 0)),
        ([ids[:at]], (0, 0, 1)),
        ([[*ids[:at], end, *ids[at:]]], (0, 0, 1)),
        ([[*ids[:at], end], ids[at:]], (0, 0, 1)),
        ([ids[:at], ids[at + 1 :]], (0, 0, 1)),
        ([ids[:at] + ids[at + 1 :]], (0, 0, 0)),
        ([[*ids[:at], 10**6]], (0, 0, 0)),
    ):
        assert found_in(tokenizer, SPACED, *rows) == [expected, (0, 0, 0)]


def test_a_space_of_the_next_row_makes_up_for_one_of_two_only_where_both_are_there():
    """Else the copy ended in its row."""
    tokenizer, canaries = tokenizer_of("llama3"), a_set(CanaryFormat("{digit:4}  "), repetitions=(1,))
    *ids, space = tokenizer(canaries[0].text)["input_ids"]
    other = tokenizer("the.")["input_ids"]
    assert found_in(tokenizer, canaries, ids, [space, *other])[0] == (0, 1, 0)
    assert found_in(tokenizer, canaries, ids[:-1], [space, *other])[0] == (0, 0, 1)


def test_a_cut_copy_counts_once():
    """Though its last digits are the first ones of another."""
    tokenizer = tokenizer_of("characters")
    for seed in range(1000):
        canaries = a_set(CanaryFormat(" {digit:4} "), repetitions=(1,), seed=seed)
        if canaries[0].text[3:5] == canaries[1].text[1:3]:
            break
    assert found_in(tokenizer, canaries, tokenizer(canaries[0].text)["input_ids"][:-1]) == [(0, 0, 1), (0, 0, 0)]


def test_marks_are_found_whatever_they_are_joined_with():
    """Where only their pair with one other mark is a token; and beside a digit that joins the space before it."""
    digits = [("Ġ", digit) for digit in "0123456789"]
    tokenizer = letters_alone(merged=[("(", '"'), ('"', "}"), (".", ")"), *digits, *(("Ġ", mark) for mark in "+-=*")])
    for template, before, behind in (
        ('"{digit:4}"', "a(", "}"),
        ('"{digit:4}"', "a (", "},"),
        ('{digit:1}"', "a ", "}"),
        ('{digit:1}"', "a", "}}"),
        ("{w}.", "a ", ")"),
        ("{w}.", "a", " a"),
    ):
        canaries = a_set(CanaryFormat(template, spaces={"w": list("+-=*")} if "w" in template else None), (1,))
        ids, at, end = a_copy(tokenizer, before, canaries[0].text, behind)
        assert found_in(tokenizer, canaries, ids)[0] == (1, 0, 0)
        assert found_in(tokenizer, canaries, ids[: end - 1])[0][0] == 0
        assert found_in(tokenizer, canaries, ids[at + 1 :])[0][0] == 0


def test_a_digit_that_runs_of_spaces_change_is_found():
    """Behind three spaces it is a token, and joins the fourth."""
    tokenizer = tokenizer_of("adding-runs")
    for seed in range(10):
        canaries = a_set(CanaryFormat("  {digit:3}."), (1,), seed=seed)
        for spaces in range(8):
            assert (
                found_in(tokenizer, canaries, tokenizer(f"a{' ' * spaces}{canaries[0].text}")["input_ids"])[0][0] == 1
            )


def test_one_digit_is_a_canary():
    """And the mark that a tokenizer puts before each text is none."""
    tokenizer, canaries = tokenizer_of("byte-fallback"), a_set(CanaryFormat("{digit:1}"), repetitions=(1,))
    ids = tokenizer(f"a cat {canaries[0].text} a cat")["input_ids"]
    assert found_in(tokenizer, canaries, ids) == [(1, 0, 0), (0, 0, 0)]


def test_a_beginning_without_the_fill_is_of_no_one_canary():
    """Where marks that may be joined are the fill, rows that end before them are not a cut copy of each."""
    tokenizer = letters_alone(merged=[(mark, ")") for mark in "+-=*"])
    canaries = a_set(CanaryFormat("pin {w}", spaces={"w": list("+-=*")}), repetitions=(1,))
    ids = tokenizer(canaries[0].text)["input_ids"]
    assert found_in(tokenizer, canaries, ids) == [(1, 0, 0), (0, 0, 0)]
    assert found_in(tokenizer, canaries, ids[:-1]) == [(0, 0, 0), (0, 0, 0)]


def test_the_last_space_is_looked_for_in_batches_too():
    """In what a collator makes of a row, and in the batches of a training; another copy in the row is no substitute."""
    tokenizer = tokenizer_of("llama3")
    ids = tokenizer(SPACED[0].text)["input_ids"]

    def cutting_one(rows):
        return default_data_collator([{"input_ids": row["input_ids"][:-1]} for row in rows])

    for row, collator, expected in (
        (ids, None, (1, 0)),
        (ids, cutting_one, (0, 1)),
        (ids + ids[:-1], None, (1, 1)),
        (ids[:-1], None, (0, 1)),
    ):
        presence = check_presence([{"input_ids": row}], SPACED, tokenizer, collator=collator)
        assert (presence.canaries[0].whole, presence.canaries[0].truncated) == expected
    trained = TrainedCopies(SPACED, tokenizer, Occurrences(SPACED, tokenizer, target=False))
    for row in (ids, [*ids[:-1], tokenizer.eos_token_id, *ids[:1]], ids + ids[:-1]):
        trained.see({"input_ids": torch.tensor([row]), "labels": torch.tensor([row])})
    assert trained.counts() == {SPACED[0].id: 2, SPACED[1].id: 0}


def test_a_source_whose_last_space_is_cut_off_is_not_what_it_was():
    """Nor are labels that lack theirs; spaces that the tokenizer drops are not missed."""
    format = CanaryFormat("the pin is {digit:4} ", source=" pin {digit:4} ")
    canaries = a_set(format, repetitions=(1,))
    for kind in ("llama3", "wordpiece", "pieces"):
        tokenizer = tokenizer_of(kind)
        sources, targets = (
            [tokenizer(text)["input_ids"] for text in texts]
            for texts in ([canary.source for canary in canaries], [canary.text for canary in canaries])
        )
        rows = [{"input_ids": s, "labels": t} for s, t in zip(sources, targets, strict=True)]
        assert [each.whole for each in check_presence(rows, canaries, tokenizer, target=True)] == [1, 1]
        for column in rows[0]:
            cut = [row | {column: row[column][:-1]} for row in rows]
            presence = check_presence(cut, canaries, tokenizer, target=True)
            assert [each.truncated for each in presence] == [1, 1], (kind, column)


def test_a_copy_that_the_end_of_a_row_cuts_is_in_the_evaluation_data():
    """What it says is."""
    tokenizer = tokenizer_of("llama3")
    ids = [tokenizer(canary.text)["input_ids"] for canary in SPACED]
    rows = [{"input_ids": row} for row in ids]
    presence = check_presence(rows, SPACED, tokenizer, evaluation=[{"input_ids": ids[0][1:-1]}])
    assert [each.in_evaluation for each in presence] == [1, 0]


def test_what_a_person_reads():
    """Numbers, the reason and the remedy, and no text; the worst news last."""
    presence = Presence(
        (
            CanaryPresence("a", 1, whole=1),
            CanaryPresence("b", 4, whole=2, split=2),
            CanaryPresence("c", 4, whole=4, masked=4),
            CanaryPresence("d", 16, truncated=16),
            CanaryPresence("e", 2, whole=3),
        ),
        1234,
    )
    text = str(presence)
    assert text.startswith("canaries: 6 of 27 copies are trained on, in 1,234 rows\n")
    assert "split: b (2 of 4 left). To mend it: pack whole documents" in text
    assert "truncated: d (0 of 16 left). To mend it: raise max_length" in text
    assert "masked: c (0 of 4 left). To mend it: train on all tokens" in text
    assert "more copies than were asked for: e (3 of 2)" in text
    assert text.splitlines()[-1].startswith("INVALID: no canary of x16 is trained on")
    assert presence.dead == ("c", "d")
    assert presence.dead_levels == (16,)
    assert not presence.is_valid
    assert presence.records()[1] == {
        "canary_id": "b",
        "repetitions": 4,
        "whole": 2,
        "split": 2,
        "truncated": 0,
        "masked": 0,
        "in_evaluation": None,
        "dead": False,
        "reason": "split",
    }


@pytest.mark.parametrize(
    "rows",
    [
        Dataset.from_dict({"text": ["a"]}),
        Dataset.from_dict({"input_ids": []}),
        [],
        None,
        {"input_ids": [[1]]},
        Dataset.from_dict({"input_ids": ["abc"]}),
        [[1, 2]],
    ],
)
def test_what_is_no_tokenised_data_is_refused(rows):
    """By its name, and with what to give instead."""
    tokenizer = tokenizer_of("characters")
    with pytest.raises(DataError) as caught:
        check_presence(rows, CANARIES, tokenizer)
    check_error(caught.value, DataError, "tokenised")


def test_rows_of_any_sequence():
    """A list of dicts, with tensors or lists, is read as a dataset is."""
    tokenizer = tokenizer_of("gpt2")
    rows, _ = rows_of("gpt2", "blocks")
    expected = check_presence(Dataset.from_dict({"input_ids": rows}), CANARIES, tokenizer)
    assert check_presence([{"input_ids": np.array(row)} for row in rows], CANARIES, tokenizer) == expected
    assert Counter(each.split for each in expected)[0] < 4


@pytest.mark.parametrize("argument", ["canaries", "tokenizer"])
def test_other_arguments_are_refused(argument):
    """By their names."""
    given = {"canaries": CANARIES, "tokenizer": tokenizer_of("characters")} | {argument: None}
    with pytest.raises(ArgumentError) as caught:
        check_presence(Dataset.from_dict({"input_ids": [[1, 2]]}), **given)
    check_error(caught.value, ArgumentError, argument)


@pytest.mark.parametrize("kind", ["gpt2", "qwen", "byte-fallback", "prefix-space", "unigram", "characters"])
@pytest.mark.parametrize("template", ["{w} is the pin", "the pin is {w}", "{w}"])
def test_neighbours_that_are_alike_are_told_apart(kind, template):
    """Copies side by side, of canaries whose surest tokens are the same, are counted once each."""
    tokenizer = tokenizer_of(kind)
    words = ["cat", "pin", "ring", "number", "thing", "sinning"]
    canaries = CanarySet.draw(CanaryFormat(template, spaces={"w": words}), repetitions=(2,), per_repetition=3, seed=0)
    rows = [tokenizer(canary.text)["input_ids"] for canary in canaries for _ in range(2)]
    other = tokenizer("a an ant the 12 99 123 7 " * 6)["input_ids"]
    for listed in (
        rows,
        rows[::-1],
        [row for copy in rows for row in (copy, other)],
        [[token for row in rows for token in row]],
    ):
        presence = check_presence([{"input_ids": row} for row in listed], canaries, tokenizer)
        assert [each.whole for each in presence] == by_reading(tokenizer, listed, canaries)["whole"]


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("share", [1, 2])
@pytest.mark.parametrize("kind", ["gpt2", "llama3", "byte-fallback", "unigram", "characters"])
def test_copies_that_blocks_cut_in_two_are_split(kind, share, end):
    """In whichever order the blocks stand, also where one token alone is on the other side, where texts end in special
    tokens, and where the other half is in a block that was left out: what helps is not to inject earlier.
    """
    tokenizer, generator = tokenizer_of(kind), random.Random(0)
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:6}."), repetitions=(30,), per_repetition=2, seed=0)
    texts = [canary.text for canary in canaries for _ in range(30)] + CORPUS * 4
    generator.shuffle(texts)
    ids = blocks([tokenizer(text)["input_ids"] for text in texts], 24, tokenizer.eos_token_id if end else None)[:-1]
    generator.shuffle(ids)
    rows = ids[: len(ids) // share]
    presence = check_presence(Dataset.from_dict({"input_ids": rows}), canaries, tokenizer)
    expected = by_reading(tokenizer, rows, canaries)["whole"]
    assert [each.whole for each in presence] == expected
    assert any(each.split for each in presence)
    assert not any(each.truncated for each in presence)
    if share == 1:
        assert sum(each.whole + each.split for each in presence) >= 58  # some pieces may be of either canary
        assert {each.reason for each in presence} == {"split"}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", ["gpt2", "llama3", "byte-fallback", "unigram", "characters"])
def test_copies_that_are_cut_on_the_left_are_truncated(kind, padded):
    """Before text that stays, as where the user of a chat says the canary; also in rows that are filled to a length."""
    tokenizer, canaries = tokenizer_of(kind), a_set()
    behind = tokenizer("\nthe cat sat.")["input_ids"]
    rows = [tokenizer(canary.text)["input_ids"] + behind for canary in canaries for _ in range(canary.repetitions)]
    cut = [row[-len(behind) - 3 :] for row in rows]
    width = max(map(len, cut)) + 2
    if padded:
        cut = [[tokenizer.pad_token_id] * (width - len(row)) + row for row in cut]
    presence = check_presence(Dataset.from_dict({"input_ids": cut}), canaries, tokenizer)
    assert [each.truncated for each in presence] == [canary.repetitions for canary in canaries]
    assert "To mend it: raise max_length" in str(presence)


def test_many_pieces_take_no_longer_than_their_number():
    """Rows that end and begin like canaries are paired in a moment: each with each other, it would take hours."""
    tokenizer, canaries = tokenizer_of("characters"), a_set(repetitions=(50,))
    ids = [tokenizer(canary.text)["input_ids"] for canary in canaries]
    rows = [[*ids[n % 2][-4:], 5, *ids[n % 2][:4]] for n in range(20_000)]
    presence = check_presence(Dataset.from_dict({"input_ids": rows}), canaries, tokenizer)
    assert not any(each.whole or each.split for each in presence)
    assert [each.truncated for each in presence] == [50, 50]  # and no more than there were


def draws_row(number):
    torch.rand(3), random.random()
    return {"input_ids": [1, 2, number]}


class Drawn:
    """Rows that are made as they are asked for, with chance."""

    def __len__(self):
        return 30

    def __getitem__(self, number):
        if number >= 30:
            raise IndexError
        return draws_row(number)


def test_rows_may_be_drawn():
    """No random state is moved for it."""
    before = repr(random.getstate()), torch.get_rng_state().tolist()
    check_presence(Drawn(), CANARIES, tokenizer_of("characters"))
    assert (repr(random.getstate()), torch.get_rng_state().tolist()) == before


def test_a_collator_that_takes_rows_apart_takes_a_copy():
    """The rows are as they were."""
    tokenizer = tokenizer_of("characters")
    rows = [{"input_ids": tokenizer(canary.text)["input_ids"]} for canary in CANARIES]

    def collator(listed):
        ids = listed[0].pop("input_ids")
        ids.reverse()
        return default_data_collator([{"input_ids": ids, "labels": ids}])

    check_presence(rows, CANARIES, tokenizer, collator=collator)
    assert [row["input_ids"] for row in rows] == [tokenizer(canary.text)["input_ids"] for canary in CANARIES]


def test_a_collator_that_takes_no_single_rows_is_done_without(caplog):
    """It is said, and the labels of the data count."""

    def collator(rows):
        raise RuntimeError("two at least")

    rows, fate = masked_rows("characters", "labels")
    presence = check_presence(Dataset.from_list(rows), CANARIES, tokenizer_of("characters"), collator=collator)
    assert {each.reason for each in presence} == {fate}
    assert caplog.text.count("the data: RuntimeError") == 1


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"evaluation": Dataset.from_dict({"text": ["a"]})}, "evaluation"),
        ({"evaluation": {"a": Dataset.from_dict({"input_ids": []})}}, "evaluation"),
        ({"target": True}, "tokenised"),
        ({"tokenised": Dataset.from_dict({"text": ["a"]}).to_iterable_dataset()}, "tokenised"),
    ],
)
def test_rows_that_lack_what_is_looked_for(given, argument):
    """By the name of the argument."""
    tokenised = given.pop("tokenised", None) or Dataset.from_dict({"input_ids": [[1, 2]]})
    with pytest.raises(DataError) as caught:
        check_presence(tokenised, CANARIES, tokenizer_of("characters"), **given)
    check_error(caught.value, DataError, argument)
    rows = [{"input_ids": None}, {"input_ids": [1, 2]}]
    assert check_presence(rows, CANARIES, tokenizer_of("characters")).rows == 2

"""Copies are found in rows of tokens wherever rows begin and end, and whatever stands beside them."""

import random
from collections import Counter

import pytest
from datasets import Dataset

from hf_canary import CanaryFormat, CanarySet, check_presence
from hf_canary.tokenization.encoding import encode
from tests.support.repetitions import times
from tests.support.tokenised import (
    ALL_KINDS,
    FORMATS,
    PLACES,
    a_copy,
    a_set,
    blocks,
    drawn,
    rows_of,
    spans,
    tokenizer_of,
)

ENDS = ["", " ", "  ", "\n", "\n\n", "\t", ".", ". ", ".\n", " \n", ":\t", '"', "(", " .", "!", "...", " -"]
AHEAD = ["a ", "a cat. ", "is\n", "thing\n\n", "the  ", "x: ", "cat\t", '"', "(", "the.", "(cat) ", "é ", "\n", " "]
BEYOND = ["", " a", "\nthe", ". A", '"', ")", "  a", ", b", " ", "\n\n", "\t", "   ", ".\n", "...", " \n", "a thing"]


def is_known(tokenizer, text: str) -> bool:
    return tokenizer.unk_token_id not in spans(tokenizer, text)[0]


def copies_amid_others(kind: str, generator: random.Random) -> tuple[CanarySet, list[tuple[list[int], int, int, str]]]:
    """Copies of canaries with all kinds of ends, amid neighbours that the tokenizer knows and that are not glued."""
    tokenizer = tokenizer_of(kind)
    ends, before, behind = ([text for text in texts if is_known(tokenizer, text)] for texts in (ENDS, AHEAD, BEYOND))
    first, last = generator.choice(ends), generator.choice(ends)
    if kind == "pieces":  # where tokens say neither that a word is the first nor that a space stands before it
        first = " "
    middle = generator.choice(["{digit:6}", "the pin is {digit:4}", "{digit:3}"])
    canaries = a_set(CanaryFormat(first + middle + last), seed=generator.randrange(10**6))
    found = []
    for canary in canaries:
        for _ in range(canary.repetitions):
            ahead, beyond = generator.choice(before), generator.choice(behind)
            is_glued = canary.text[-1:].isalnum() and beyond[:1].isalnum()
            ids, at, end = a_copy(tokenizer, ahead, canary.text, "" if is_glued else beyond)
            if tokenizer.unk_token_id not in ids:
                found.append((ids, at, end, canary.id))
    generator.shuffle(found)
    return canaries, found


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_copy_is_whole_where_all_that_writes_its_text_is_in_one_row(kind, monkeypatch):
    """Whatever its text begins and ends with, and wherever blocks begin and end; as the spans of tokens have it."""
    tokenizer, generator = tokenizer_of(kind), random.Random(kind)
    counted = Counter()
    for _ in range(times(8)):
        canaries, copies = copies_amid_others(kind, generator)
        end = [tokenizer.eos_token_id] * (tokenizer.eos_token_id is not None and generator.random() < 0.5)
        flat, places = [], []
        for ids, first, last, name in copies:
            places.append((len(flat) + first, len(flat) + last - 1, name))
            flat += ids + end
        for size in (1, 2, 3, 5, 8, 13, len(flat)) if flat else ():
            whole = Counter(name for first, last, name in places if first // size == last // size)
            split = Counter(name for _, _, name in places) - whole
            monkeypatch.setattr("hf_canary.presence.token_rows._BATCH_TOKENS", generator.choice([1, 60, 2**22]))
            presence = check_presence(Dataset.from_dict({"input_ids": blocks([flat], size)}), canaries, tokenizer)
            assert {each.canary_id: each.whole for each in presence if each.whole} == whole, (size, canaries[0].text)
            assert {each.canary_id: each.split for each in presence if each.split} == split, (size, canaries[0].text)
            counted.update(whole=whole.total(), split=split.total())
    assert min(counted["whole"], counted["split"]) > 5


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_row_that_is_a_copy_is_whole_as_long_as_nothing_is_cut_off(kind):
    """One token less at its end and it is truncated, if only of a space; spaces that leave no trace are not missed."""
    tokenizer = tokenizer_of(kind)
    for end in ENDS:
        canaries = a_set(CanaryFormat(f" the pin is {{digit:4}}{end}"), repetitions=(1,))
        ids = tokenizer(canaries[0].text, add_special_tokens=False)["input_ids"]
        if tokenizer.unk_token_id in ids:
            continue
        for length in range(len(ids), len(ids) - 3, -1):
            for rows in ([ids[:length]], [ids[:length], tokenizer("the cat", add_special_tokens=False)["input_ids"]]):
                presence = check_presence([{"input_ids": row} for row in rows], canaries, tokenizer)
                assert presence.canaries[0].whole == (length == len(ids)), (end, length)
                assert presence.canaries[0].split + presence.canaries[0].truncated == (length < len(ids)), (end, length)


def times_in(rows, tokens):
    return sum(any(row[at : at + len(tokens)] == tokens for at in range(len(row))) for row in rows["input_ids"])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_canary_behind_its_context_is_what_the_rows_hold(kind, place):
    """Context and canary are encoded as tokens that stand in as many rows as it has copies, but for the last two, which
    may be joined with what follows; where copies stand behind different texts, in one row at least.
    """
    tokenizer = tokenizer_of(kind)
    for template in FORMATS:
        canaries = drawn(template)
        rows = rows_of(canaries, tokenizer, PLACES[place])
        presence = check_presence(rows, canaries, tokenizer)
        for canary, context in zip(canaries, presence.context, strict=True):
            if any(canary.id in doubt for doubt in presence.doubts):  # nothing in common, before a hole
                assert place == "everywhere"
                assert template.startswith("{")
                continue
            (tokens,) = encode(tokenizer, [canary.text], context=context).sequences
            found = max(times_in(rows, tokens[: len(tokens) - end]) for end in range(3))
            assert found == canary.repetitions or (place == "everywhere" and found)

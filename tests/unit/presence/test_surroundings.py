"""What stands before canaries is read from rows; oracles look for the tokens of each copy in the rows themselves."""

import copy
import math
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    DataCollatorWithFlattening,
)

from hf_canary import CanaryFormat, check_presence, log_perplexity, measure_exposure
from hf_canary.errors import ArgumentError, DataError
from hf_canary.presence import token_search
from hf_canary.presence.batches import TrainedCopies
from hf_canary.presence.sequences import cut, lengths_in
from hf_canary.presence.surroundings import longest_common_end
from hf_canary.presence.token_search import Occurrences
from hf_canary.tokenization.contexts import Context, one_for_each
from hf_canary.tokenization.encoding import context_of, encode
from hf_canary.training.contexts import Contexts, Recorded
from hf_canary.training.copies import Copies
from hf_canary.training.record import Record
from hf_canary.tree.token_tree import TokenTree
from tests.support.oracles import small_model
from tests.support.tokenised import PLACES, drawn, rows_of, tokenizer_of

# ---------------------------------------------------------------------------------------------- from rows


@pytest.mark.parametrize("place", ["own row", "after a line", "after a word"])
def test_the_context_is_all_that_stands_before_all_copies(place):
    """All of the row, here; nothing else where the row is the canary's own."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn()
    rows = rows_of(canaries, tokenizer, PLACES[place])
    (context,) = set(check_presence(rows, canaries, tokenizer).context)
    if place == "own row":
        assert context is None
    else:
        (tokens,) = encode(tokenizer, [canaries[0].text], context=context).sequences
        assert tokens in rows["input_ids"]


def test_canaries_behind_different_texts_have_each_its_own():
    """With what all copies of one share; the words for it hold no text."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn()
    where = dict(zip((canary.text for canary in canaries), ("a cat\n", "the\n", "sat. is\n", "a cat\n"), strict=True))
    rows = rows_of(
        canaries, tokenizer, lambda text, n: ("x" * n if text == canaries[2].text else "") + where[text] + text
    )
    presence = check_presence(rows, canaries, tokenizer)
    ends = [tokenizer.decode(context.ids) for context in presence.context]
    assert ends[0] == ends[3] == "a cat\n"
    assert ends[1] == "the\n"
    assert ends[2].endswith("sat. is\n")
    assert any("3 different contexts" in line for line in presence.lines())
    assert "cat" not in str(presence)


@pytest.mark.parametrize("end", ["a cat\n", ". <end>the ", "<end>the ", "<begin>the "])
def test_copies_behind_different_texts_are_measured_behind_one_of_them(end):
    """Not behind what they share, where none stood, though a text begins in it: the model read what stood before."""
    tokenizer = copy.deepcopy(tokenizer_of("gpt2"))  # others use it
    tokenizer.add_special_tokens({"eos_token": "<end>", "bos_token": "<begin>"})
    canaries = drawn(repetitions=(4, 5))
    rows = rows_of(canaries, tokenizer, lambda text, n: f"{'abcdefghi'[n % 9]} the {n % 9} cat{end}{text}")
    presence = check_presence(rows, canaries, tokenizer)
    for canary, context in zip(canaries, presence.context, strict=True):
        (tokens,) = encode(tokenizer, [canary.text], context=context).sequences
        assert tokens in rows["input_ids"]
    assert any("that of one copy each" in line for line in presence.lines())
    by_hand = check_presence(rows, canaries, tokenizer, context=f"a the 0 cat{end}")
    assert not any("times as long" in line for line in by_hand.lines())


@pytest.mark.parametrize("separator", ["<end>", "<begin>", ""])
@pytest.mark.parametrize("says", [False, True])
def test_in_blocks_of_one_length_the_model_reads_from_the_block_on(separator, says):
    """Texts in a row, cut into blocks: a canary is measured behind all that stands before a copy in its block; behind
    its own text alone where the blocks say where sequences begin.
    """
    tokenizer = copy.deepcopy(tokenizer_of("gpt2"))
    tokenizer.add_special_tokens({"eos_token": "<end>", "bos_token": "<begin>"})
    canaries = drawn(repetitions=(4, 6))
    texts = [canary.text for canary in canaries for _ in range(canary.repetitions)]
    texts = [text for number, own in enumerate(texts) for text in (f"the cat {number % 7} sat. ", own + "\n")]
    ids = [tokenizer(text + separator)["input_ids"] for text in texts]
    flat = [token for row in ids for token in row]
    positions = [at for row in ids for at in range(len(row))]
    blocks = range(0, len(flat) - 63, 64)
    columns = {"input_ids": [flat[at : at + 64] for at in blocks]}
    if says:
        columns["position_ids"] = [positions[at : at + 64] for at in blocks]
    presence = check_presence(Dataset.from_dict(columns), canaries, tokenizer)
    for canary, context in zip(canaries, presence.context, strict=True):
        (tokens,) = encode(tokenizer, [canary.text], context=context).sequences
        begun = [block[: len(tokens)] for block in columns["input_ids"]]
        assert context is None if says else tokens in begun


def test_a_cost_behind_a_derived_context_is_that_of_the_row():
    """The sum over the canary's tokens of one full pass over the row itself."""
    tokenizer = tokenizer_of("gpt2")
    model = small_model("gpt2", len(tokenizer))
    canaries = drawn()
    rows = rows_of(canaries, tokenizer, lambda text, n: f"a cat: \n{text}")
    presence = check_presence(rows, canaries, tokenizer)
    costs = log_perplexity(model, tokenizer, [canary.text for canary in canaries], context=presence.context)
    for canary, cost in zip(canaries, costs, strict=True):
        ids = tokenizer(f"a cat: \n{canary.text}")["input_ids"]
        first = len(ids) - len(tokenizer(canary.text, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            nats = model.eval()(torch.tensor([ids])).logits.double().log_softmax(-1)
        own = sum(-float(nats[0, at - 1, ids[at]]) for at in range(first, len(ids)))
        assert cost == pytest.approx(own / math.log(2), abs=1e-4)


def test_padding_stands_before_nothing():
    """Masked, or in a run before the text; one token that begins texts is no padding."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn()
    pad = tokenizer.pad_token_id
    bare = [tokenizer(canary.text)["input_ids"] for canary in canaries for _ in range(canary.repetitions)]
    masked = {
        "input_ids": [[pad] * n + ids for n, ids in enumerate(bare)],
        "attention_mask": [[0] * n + [1] * len(ids) for n, ids in enumerate(bare)],
    }
    unmasked = {"input_ids": [[pad] * (n + 2) + ids for n, ids in enumerate(bare)]}
    for rows in (masked, unmasked):
        assert set(check_presence(Dataset.from_dict(rows), canaries, tokenizer).context) == {None}
    one = Dataset.from_dict({"input_ids": [[pad, *ids] for ids in bare]})
    (context,) = set(check_presence(one, canaries, tokenizer).context)
    assert context.ids == (pad,)


def test_what_batches_say_is_what_rows_say():
    """Seen in batches, and by several processes together."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn()
    rows = rows_of(canaries, tokenizer, PLACES["after a line"])
    several = [TrainedCopies(canaries, tokenizer, Occurrences(canaries, tokenizer, target=False)) for _ in range(2)]
    for number, ids in enumerate(rows["input_ids"]):
        batch = torch.tensor([ids])
        several[number % 2].see({"input_ids": batch, "labels": batch})
    states = [each.surroundings().state() for each in several]
    whole = several[0].surroundings().of_all(states)
    assert whole.contexts()[0] == list(check_presence(rows, canaries, tokenizer).context)


def test_a_context_given_by_hand_is_held_against_the_rows():
    """What stands there is let pass; an end of it, another, and none, are told with both shapes."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn()
    rows = rows_of(canaries, tokenizer, PLACES["after a line"])
    whole = list(check_presence(rows, canaries, tokenizer).context)
    for fine in ("a cat. is\n", whole):
        assert not check_presence(rows, canaries, tokenizer, context=fine).doubts
    for end in ("\n", [Context((tokenizer("\n")["input_ids"][-1],))] * len(canaries)):
        (doubt,) = check_presence(rows, canaries, tokenizer, context=end).doubts
        assert "context= is 1 token, the last a line end, but before" in doubt
        assert "of which that is the end: measured so" in doubt
    (doubt,) = check_presence(rows, canaries, tokenizer, context="the dog: ").doubts
    assert "the last a space" in doubt
    assert "the last a line end" in doubt
    assert "dog" not in doubt
    (doubt,) = check_presence(rows, canaries, tokenizer, context="").doubts
    assert "context= is nothing" in doubt
    own = rows_of(canaries, tokenizer, PLACES["own row"])
    assert not check_presence(own, canaries, tokenizer, context="").doubts
    assert check_presence(own, canaries, tokenizer, context="a cat. is\n").doubts


def test_the_longest_end_that_most_have():
    """More than half, of paths of any lengths; a few that stand elsewhere do not hide it."""
    assert longest_common_end([(1, 2, 3), (2, 3), (5, 2, 3)]) == (2, 3)
    assert longest_common_end([(1, 2), (1, 3)]) == ()
    assert longest_common_end([(7, 8)]) == (7, 8)
    assert longest_common_end([]) == ()
    assert longest_common_end([(4, 5, 6)] * 15 + [()]) == (4, 5, 6)
    assert longest_common_end([(4, 5, 6)] * 8 + [()] * 8) == ()
    for paths in ([(0, 1) * n for n in range(1, 9)], [(n % 3, n % 2, 1) for n in range(9)]):
        ends = {path[len(path) - size :] for path in paths for size in range(len(path) + 1)}
        shared = [end for end in ends if 2 * sum(path[len(path) - len(end) :] == end for path in paths) > len(paths)]
        assert longest_common_end(paths) == max(shared, key=len)


def test_a_copy_at_the_start_of_a_row_hides_no_context():
    """Fifteen of sixteen stand behind a text: that is what they are measured behind, and it is said that not all do."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn(repetitions=(16,))
    rows = rows_of(canaries, tokenizer, lambda text, n: text if n % 16 == 3 else f"a cat. is\n{text}")
    presence = check_presence(rows, canaries, tokenizer)
    assert {tokenizer.decode(context.ids) for context in presence.context} == {"a cat. is\n"}
    assert any("in 30 of 32 copies" in line for line in presence.lines())
    everywhere = rows_of(canaries, tokenizer, PLACES["after a line"])
    assert any("in all copies" in line for line in check_presence(everywhere, canaries, tokenizer).lines())


# ---------------------------------------------------------------------------------------------- contexts


@pytest.mark.parametrize("kind", ["gpt2", "llama3", "qwen", "prefix-space", "byte-fallback", "unigram"])
def test_a_context_of_tokens_is_a_text_with_its_tokens(kind):
    """Costs, trees and their leaves are the same for a text and for the tokens that it is; and their number is right
    where other tokens stand for the text's own.
    """
    tokenizer = tokenizer_of(kind)
    format = CanaryFormat("the pin is {digit:2}.")
    text = "a cat\n"
    same = context_of(tokenizer, text, format.render(0))
    other = Context((*same.ids, *same.ids), same.behind, same.replaced)
    texts = list(format.candidates())
    one, two = (encode(tokenizer, texts, context=context) for context in (text, same))
    assert (one.sequences, one.conditioned) == (two.sequences, two.conditioned)
    doubled = encode(tokenizer, texts, context=other)
    assert [ids[len(same.ids) :] for ids in doubled.sequences] == one.sequences
    assert doubled.conditioned == 2 * one.conditioned
    for ask_all in (0, None):
        tree, of_other = (TokenTree(format, tokenizer, context=each, ask_all=ask_all) for each in (text, other))
        assert of_other.prompt == [*same.ids, *tree.prompt]
        assert of_other.paths(texts) == tree.paths(texts)
        assert all(of_other.leads(path) and of_other.text(path) in texts for path in of_other.paths(texts))


def test_each_text_behind_its_own_context():
    """A list has one for each, in order: the same as one by one."""
    tokenizer = tokenizer_of("gpt2")
    model = small_model("gpt2", len(tokenizer))
    texts = ["the pin is 12.", "the pin is 34.", "the cat."]
    contexts = ["a cat\n", "is\n", "a cat\n"]
    together = log_perplexity(model, tokenizer, texts, context=contexts)
    for number in range(3):
        alone = log_perplexity(model, tokenizer, texts[number : number + 1], context=contexts[number])
        assert together[number] == pytest.approx(alone[0], abs=1e-4)
    with pytest.raises(ArgumentError, match="one for each of 3 texts"):
        log_perplexity(model, tokenizer, texts, context=contexts[:2])


def test_canaries_of_one_context_share_references_and_know_all_others():
    """Each group has references of its own, none of them a canary or twin of the format; exposures are those of a
    measurement in which all stand behind that context.
    """
    tokenizer = tokenizer_of("gpt2")
    model = small_model("gpt2", len(tokenizer))
    canaries = drawn("the pin is {digit:3}.")
    contexts = ["a cat\n", None, "a cat\n", None]
    report = measure_exposure(model, tokenizer, canaries, context=contexts, num_references=300, estimators=["sampled"])
    assert [group.canary_ids for group in report.groups] == [
        (canaries[0].id, canaries[2].id),
        (canaries[1].id, canaries[3].id),
    ]
    for context in ("a cat\n", None):
        whole = measure_exposure(
            model, tokenizer, canaries, context=context, num_references=300, estimators=["sampled"]
        )
        for mine, theirs, own in zip(report, whole, contexts, strict=True):
            if own == context:
                # The first has the references of a measurement of its own, the second others.
                assert mine.value == pytest.approx(theirs.value, abs=0.5 * (context is None))
                assert mine.log_perplexity == pytest.approx(theirs.log_perplexity, abs=1e-4)
    assert [group.num_excluded for group in report.groups] == [8, 8]
    exact = measure_exposure(model, tokenizer, canaries, context=contexts, num_references=1_000, estimators=["exact"])
    for canary, exposure, context in zip(canaries, exact, contexts, strict=True):
        costs = log_perplexity(model, tokenizer, list(canary.format.candidates()), context=context)
        rank = int((costs <= costs[canary.fill] + 1e-6).sum())
        assert exposure.value == pytest.approx(math.log2(1_000 / rank), abs=0.02)


@pytest.mark.parametrize(
    "wrong", [{"ids": (-1,)}, {"ids": "ab"}, {"ids": (1,), "behind": 3}, {"ids": (1,), "after": ("x",)}]
)
def test_contexts_that_are_none(wrong):
    """By name."""
    with pytest.raises(ArgumentError, match="context"):
        Context(**wrong)


def test_one_context_for_all_or_one_for_each():
    """Nothing else."""
    assert one_for_each("a", 2, "texts") == ["a", "a"]
    assert one_for_each(["a", None], 2, "texts") == ["a", None]
    for wrong in (["a"], [1, 2], 7):
        with pytest.raises(ArgumentError, match="context"):
            one_for_each(wrong, 2, "texts")


def test_the_record_keeps_contexts(tmp_path):
    """As they were, for canaries and for a format; from the record, its folder or a checkpoint in it."""
    canaries = drawn()
    kept = [Context((1, 2), "x", (3,)), None, Context((1, 2), "x", (3,)), "text"]
    contexts = Contexts(canaries, kept, None)
    record = Record(tmp_path)
    record.append({"step": 0, "canaries": canaries.digest[:16]}, [contexts.record()])
    (tmp_path / "checkpoint-1").mkdir()
    assert Recorded("checkpoint-1").line == {}  # no folder here: a Hub id
    for place in (tmp_path, tmp_path / "checkpoint-1", record.file):
        recorded = Recorded(place)
        assert recorded.of_canaries(canaries) == (kept, [None] * 4, [])
        assert recorded.of_format(canaries.formats[0])[0] == (kept[0], None)
        assert recorded.of_format(CanaryFormat("another {digit:4}")) == []
        assert recorded.of_canaries(drawn("another {digit:4}")) is None
    assert Recorded(tmp_path / "nowhere" / "else").line == {}
    record.file.write_text(record.file.read_text().replace('"contexts": [', '"contexts": [7, '))
    with pytest.raises(DataError, match="record"):
        Recorded(tmp_path)


# ---------------------------------------------------------------------------------------------- sequences


def test_where_sequences_begin():
    """By positions, numbers of sequences, limits and lengths; one where nothing is said."""
    ids = {"input_ids": [5, 6, 7, 8, 9]}
    for said in (
        {"position_ids": [0, 1, 0, 1, 2]},
        {"seq_idx": [0, 0, 1, 1, 1]},
        {"cu_seq_lens_q": [0, 2, 5]},
        {"seq_lengths": [2, 3]},
        {"position_ids": torch.tensor([2, 3, 2, 3, 4])},
    ):
        assert lengths_in(said, 5).tolist() == [2, 3]
        assert [each["input_ids"].tolist() for each in cut(ids | said)] == [[5, 6], [7, 8, 9]]
    assert lengths_in({"position_ids": [[0, 1], [0, 1]]}, 5).tolist() == [5]
    assert cut(ids) == [ids]


def halves(canaries, tokenizer):
    """Rows that end amid a canary, or begin there."""
    rows = []
    for canary in canaries:
        ids = tokenizer(canary.text)["input_ids"]
        for _ in range(canary.repetitions):
            rows += [ids[: len(ids) // 2], ids[len(ids) // 2 :]]
    return rows


def test_halves_that_meet_in_a_batch_are_no_canary():
    """Padding-free batches put rows behind one another; what is cut in two is not trained on as a whole."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn()
    features = [{"input_ids": ids} for ids in halves(canaries, tokenizer)]
    for options in ({}, {"return_seq_idx": True, "return_position_ids": False}, {"return_flash_attn_kwargs": True}):
        batch = dict(DataCollatorWithFlattening(**options)(features, return_tensors="pt"))
        trained = TrainedCopies(canaries, tokenizer, Occurrences(canaries, tokenizer, target=False))
        trained.see(batch)
        assert set(trained.counts().values()) == {0}
        whole = [{"input_ids": tokenizer(canary.text)["input_ids"]} for canary in canaries]
        trained.see(dict(DataCollatorWithFlattening(**options)(whole, return_tensors="pt")))
        assert set(trained.counts().values()) == {1}


def test_halves_that_meet_in_a_packed_row_are_no_canary():
    """A packed dataset says how long the sequences of its rows are; a collator that says nothing of it has none."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn()
    parts = halves(canaries, tokenizer)
    packed = Dataset.from_dict({"input_ids": [list(chain(*parts))], "seq_lengths": [[len(part) for part in parts]]})
    presence = check_presence(packed, canaries, tokenizer)
    assert [each.live for each in presence] == [0] * 4
    assert [each.split for each in presence] == [1, 1, 3, 3]
    joined = check_presence(packed.remove_columns("seq_lengths"), canaries, tokenizer)
    assert [each.live for each in joined] == [1, 1, 3, 3]
    unsaid = check_presence(
        packed, canaries, tokenizer, collator=lambda rows: {"input_ids": np.array([row["input_ids"] for row in rows])}
    )
    assert [each.live for each in unsaid] == [1, 1, 3, 3]


def test_a_whole_canary_in_a_packed_row_stands_behind_its_own_sequence():
    """What belongs to its neighbour in the row is no context."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn()
    texts = ["a cat sat.", *(f"is\n{canary.text}" for canary in canaries for _ in range(canary.repetitions))]
    parts = [tokenizer(text)["input_ids"] for text in texts]
    packed = Dataset.from_dict({"input_ids": [list(chain(*parts))], "seq_lengths": [[len(part) for part in parts]]})
    (context,) = set(check_presence(packed, canaries, tokenizer).context)
    assert tokenizer.decode(context.ids) == "is\n"


# ---------------------------------------------------------------------------------------------- special tokens


@pytest.mark.parametrize(
    "template", ["the pin is {digit:4}<end>", "<end>the pin is {digit:4}.", "pin<end>{digit:4}<end>"]
)
def test_a_format_may_hold_special_tokens(template):
    """An end token behind the canary, or markers of a chat: whole is whole, whatever special tokens stand around."""
    tokenizer = tokenizer_of("gpt2")
    special = tokenizer.eos_token
    canaries = drawn(template.replace("<end>", special))
    texts = [canary.text for canary in canaries for _ in range(canary.repetitions)]
    for wrap in ("{}", special + "{}", "{}" + special, special + "a cat" + special + "{}" + special):
        rows = Dataset.from_dict({"input_ids": [tokenizer(wrap.format(text))["input_ids"] for text in texts]})
        presence = check_presence(rows, canaries, tokenizer)
        assert [(each.live, each.truncated, each.split) for each in presence] == [
            (c.repetitions, 0, 0) for c in canaries
        ]
    packed = Dataset.from_dict({"input_ids": [list(chain(*rows["input_ids"]))]})
    assert [each.live for each in check_presence(packed, canaries, tokenizer)] == [c.repetitions for c in canaries]


# ---------------------------------------------------------------------------------------------- among processes


def test_a_process_that_cannot_count_leaves_no_other_waiting(monkeypatch):
    """It says so in the very exchange in which the others say what they have seen."""
    tokenizer = tokenizer_of("gpt2")
    canaries = drawn()
    said = []
    monkeypatch.setattr("hf_canary.presence.batches.all_gather", lambda text: said.append(text) or [text])
    trained = TrainedCopies(canaries, tokenizer, Occurrences(canaries, tokenizer, target=False))
    monkeypatch.setattr(trained, "_count", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained.surroundings()
    assert said == [""]
    other = TrainedCopies(canaries, tokenizer, Occurrences(canaries, tokenizer, target=False))
    monkeypatch.setattr("hf_canary.presence.batches.all_gather", lambda text: [text, ""])
    assert other.surroundings() is None


def test_the_tokens_of_canaries_are_worked_out_once(monkeypatch):
    """For the check of the data and for the batches, and for a baseline and the training; not for other tokens."""
    tokenizer, canaries, made = tokenizer_of("gpt2"), drawn(), []
    init = Occurrences.__init__
    monkeypatch.setattr(Occurrences, "__init__", lambda *args, **options: made.append(1) or init(*args, **options))
    rows = rows_of(canaries, tokenizer, PLACES["after a line"])
    copies = Copies(canaries)
    loader = SimpleNamespace(dataset=rows, collate_fn=None)
    for _ in range(2):
        copies.begin(small_model("gpt2", len(tokenizer)), loader, tokenizer, evaluation=None, context=None)
    copies.see({name: torch.tensor(rows["input_ids"][:1]) for name in ("input_ids", "labels")})
    assert copies.presence.context == check_presence(rows, canaries, tokenizer).context
    assert len(made) == 2  # one of them for the comparison
    copies.begin(small_model("gpt2", len(tokenizer)), loader, tokenizer_of("qwen"), evaluation=None, context=None)
    assert len(made) == 3


def test_canaries_are_encoded_as_often_as_there_are_neighbours(monkeypatch):
    """However many canaries there are."""
    tokenizer, encoded = tokenizer_of("gpt2"), []
    wanted = token_search.token_ids
    monkeypatch.setattr(
        token_search, "token_ids", lambda one, texts, **how: encoded.extend(texts) or wanted(one, texts, **how)
    )
    for count in (10, 200):
        encoded.clear()
        Occurrences(drawn(repetitions=(1,), per_repetition=count), tokenizer)
        assert len(encoded) <= 50 * count + 100

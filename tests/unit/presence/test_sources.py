"""What stands around sources, as rows of a causal model have it; oracles write the whole row of any fill."""

import pytest
from datasets import Dataset

from hf_canary import CanaryFormat, CanarySet, check_presence, measure_exposure
from hf_canary.errors import ArgumentError
from hf_canary.presence import sources
from hf_canary.tokenization.contexts import Context, SourceContext
from hf_canary.tokenization.encoding import context_behind, encode, encode_behind_sources
from hf_canary.training.contexts import Contexts, Recorded
from hf_canary.training.record import Record
from tests.support.oracles import small_model, teacher_forced_bits
from tests.support.tokenised import spans, tokenizer_of

KINDS = [
    "gpt2", "llama3", "qwen", "prefix-space", "byte-fallback", "unigram", "wordpiece", "characters", "words", "pieces",
    "joining-runs", "adding-runs",
]  # fmt: skip
# What stands before the source, and between it and the canary: nothing, lines, marks, letters, which may be joined.
AROUND = {
    "nothing before": ("", "\n"),
    "lines": ("a cat. is\n", "\n\n"),
    "a word": ("not the cat ", " is "),
    "a mark": ("a. cat", " ing."),
    "nothing between": ("a cat.\n", ""),
}
GLUED = ("a mark", "nothing between")  # to which WordPiece gives other tokens
ASKED = CanaryFormat("the pin is {digit:2} {digit} {digit}.", source="{digit:2} is the pin of {digit}")


def asked(format=ASKED, repetitions=(1, 3)):
    return CanarySet.draw(format, repetitions=repetitions, per_repetition=2, seed=0)


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def rows_of(canaries, tokenizer, before, between, behind=()):
    """A row for each copy, and two that are none."""
    texts = [f"{before}{canary.source}{between}{canary.text}" for canary in canaries for _ in range(canary.repetitions)]
    rows = [[*ids_of(tokenizer, text), *behind] for text in [*texts, "a cat. is", "the pin is not"]]
    return Dataset.from_dict({"input_ids": rows})


@pytest.mark.parametrize(
    ("kind", "around"),
    [(kind, around) for kind in KINDS for around in AROUND if kind != "wordpiece" or around not in GLUED],
)
def test_each_fill_is_written_as_its_row_would_be(kind, around):
    """Canaries as they stand in the rows; and any other fill as the tokenizer writes the whole of its row."""
    tokenizer, canaries, (before, between) = tokenizer_of(kind), asked(), AROUND[around]
    presence = check_presence(rows_of(canaries, tokenizer, before, between), canaries, tokenizer)
    (context,) = set(presence.context)
    assert not presence.doubts
    assert not presence.unknown
    assert any("own source" in line and "in all copies" in line for line in presence.lines())
    fills = [*(canary.fill for canary in canaries), *ASKED.sample(40, "others")]
    texts, asking = zip(*((ASKED.render(fill), ASKED.render_source(fill)) for fill in fills), strict=True)
    encoding = encode_behind_sources(tokenizer, texts, asking, context)
    for text, source, start, ids in zip(texts, asking, encoding.starts, encoding.sequences, strict=True):
        ahead = f"{before}{source}{between}"
        assert ids == ids_of(tokenizer, ahead + text)
        if kind in ("gpt2", "llama3", "qwen", "characters", "joining-runs", "adding-runs"):  # whose spans are exact
            holding = [number for number, (_, end) in enumerate(spans(tokenizer, ahead + text)[1]) if end > len(ahead)]
            assert start <= holding[0]
            assert start == holding[0] or ids[:start] == ids_of(tokenizer, ahead)[:start] != ids[: start + 1]


@pytest.mark.parametrize("kind", ["gpt2", "llama3", "byte-fallback", "wordpiece"])
def test_one_text_behind_its_source_is_what_all_are(kind):
    """The tokens that stand before it, for a search; and what the tokenizer puts first stands first once."""
    tokenizer, format = tokenizer_of(kind), ASKED
    for context in (SourceContext("a cat. is\n", "\n"), SourceContext("the ", " is ", ids=(5, 6))):
        for fill in format.sample(5, "one"):
            text, source = format.render(fill), format.render_source(fill)
            encoding = encode_behind_sources(tokenizer, [text], [source], context)
            before = context_behind(tokenizer, context, source, text)
            alone = encode(tokenizer, [text], context=before)
            assert (alone.sequences, alone.conditioned) == (encoding.sequences, encoding.starts[0])
            if context.ids is None:
                assert (
                    encoding.sequences[0]
                    == tokenizer(context.around(source) + text)["input_ids"][: len(encoding.sequences[0])]
                )
            else:
                assert encoding.sequences[0][:2] == [5, 6]


def test_a_cost_behind_a_source_is_that_of_the_row():
    """The sum over the canary's tokens of one full pass over the row itself."""
    tokenizer, canaries = tokenizer_of("gpt2"), asked()
    model = small_model("gpt2", len(tokenizer))
    presence = check_presence(rows_of(canaries, tokenizer, "a cat. is\n", "\n\n"), canaries, tokenizer)
    report = measure_exposure(model, tokenizer, canaries, context=presence.context, num_references=50, bootstrap=0)
    for each in report:
        canary = next(canary for canary in canaries if canary.id == each.canary_id)
        ids = ids_of(tokenizer, f"a cat. is\n{canary.source}\n\n{canary.text}")
        start = len(ids) - len(ids_of(tokenizer, canary.text))
        assert each.log_perplexity == pytest.approx(teacher_forced_bits(model, ids, start), abs=1e-3)
        # From the first digit on, which is where fills differ.
        shared = len(ids_of(tokenizer, "the pin is"))
        expected = teacher_forced_bits(model, ids, start + shared)
        assert report.fill_bits[canary.id] == pytest.approx(expected, abs=1e-3)


def test_texts_in_one_block_have_each_its_own_context():
    """Where a model reads the texts before, too; where the rows say where each begins, it does not."""
    tokenizer, canaries = tokenizer_of("gpt2"), asked(repetitions=(2,))
    rows = rows_of(canaries, tokenizer, "a cat. is\n", "\n")["input_ids"][:4]
    other = ids_of(tokenizer, "the cat sat. ")
    packed = [[*other * (number + 1), *row] for number, row in enumerate(rows)]
    positions = [[*range(len(other) * (number + 1)), *range(len(row))] for number, row in enumerate(rows)]
    presence = check_presence(Dataset.from_dict({"input_ids": packed}), canaries, tokenizer)
    assert len(set(presence.context)) == 2
    for canary, context in zip(canaries, presence.context, strict=True):
        encoding = encode_behind_sources(tokenizer, [canary.text], [canary.source], context)
        assert encoding.sequences[0] in packed
    says = Dataset.from_dict({"input_ids": packed, "position_ids": positions})
    (context,) = set(check_presence(says, canaries, tokenizer).context)
    encoding = encode_behind_sources(tokenizer, [canaries[0].text], [canaries[0].source], context)
    assert encoding.sequences[0] in rows


def test_rows_are_looked_at_a_few_times_each(monkeypatch):
    """Also where each canary has a context of its own."""
    tokenizer, canaries = tokenizer_of("gpt2"), CanarySet.draw(ASKED, repetitions=(1,), per_repetition=60, seed=0)
    encoded, split = [], []
    token_ids, splitting = sources.token_ids, sources._split
    monkeypatch.setattr(sources, "token_ids", lambda one, texts: encoded.extend(texts) or token_ids(one, texts))
    monkeypatch.setattr(sources, "_split", lambda *given: split.append(1) or splitting(*given))
    for apart in (False, True):
        rows = {
            number: (*ids_of(tokenizer, f"{'the cat ' * apart * number}a cat. is\n{canary.source}\n{canary.text}"),)
            for number, canary in enumerate(canaries)
        }
        encoded.clear()
        split.clear()
        found, lost = sources.around_sources(tokenizer, canaries, rows, range(len(canaries)))
        assert not lost
        assert len(set(found.values())) == (len(canaries) if apart else 1)
        assert len(encoded) <= 4 * len(canaries)
        assert len(split) <= (40 * len(canaries) if apart else 40)


def test_canaries_that_were_not_seen_have_what_most_have():
    """Of their format."""
    tokenizer, canaries = tokenizer_of("gpt2"), asked()
    rows = rows_of(canaries, tokenizer, "a cat. is\n", "\n")
    some = Dataset.from_dict({"input_ids": rows["input_ids"][1:]})
    presence = check_presence(some, canaries, tokenizer)
    assert presence.dead == (canaries[0].id,)
    assert len(set(presence.context)) == 1
    assert isinstance(presence.context[0], SourceContext)


def test_a_source_that_the_canary_says_again_is_found_before_it():
    """And where it is not there, the canary's own words are not taken for it; nor is it lost where it is joined."""
    tokenizer, format = tokenizer_of("llama3"), CanaryFormat("{digit:2} is the pin.", source="{digit:2}")
    canaries = asked(format)
    for before, between, is_there in (("the ", " is ", True), ("the ", "", True), ("a cat ", "", False)):
        texts = [f"{before}{canary.source if is_there else ''}{between}{canary.text}" for canary in canaries]
        rows = Dataset.from_dict({"input_ids": [ids_of(tokenizer, text) for text in texts]})
        presence = check_presence(rows, canaries, tokenizer)
        assert any("the source of" in doubt for doubt in presence.doubts) != is_there
        assert isinstance(presence.context[0], SourceContext) == is_there


@pytest.mark.parametrize("template", [ASKED.source, "what is the pin?"])
def test_a_source_that_is_not_there_is_told(template):
    """Cut off, or never put: what stands before the canary is what it is measured behind, also where that is nothing;
    the source is not taken for it.
    """
    tokenizer, canaries = tokenizer_of("gpt2"), asked(CanaryFormat(ASKED.template, source=template))
    for before, expected in (("", ""), ("a cat. is\n", "a cat. is\n")):
        rows = [ids_of(tokenizer, before + canary.text) for canary in canaries for _ in range(canary.repetitions)]
        presence = check_presence(Dataset.from_dict({"input_ids": rows}), canaries, tokenizer)
        (context,) = set(presence.context)
        assert context == "" if not before else tokenizer.decode(context.ids) == expected
        (doubt,) = presence.doubts
        assert f"the source of {canaries[0].id}" in doubt
        model = small_model("lstm", len(tokenizer))
        how = {"num_references": 50, "estimators": ["sampled"]}
        found, wanted = (
            measure_exposure(model, tokenizer, canaries, context=given, **how)
            for given in (presence.context, Context((*ids_of(tokenizer, before),)) if before else "")
        )
        assert [each.value for each in found] == pytest.approx([each.value for each in wanted], abs=1e-6)


def test_a_context_by_hand_is_held_against_the_rows():
    """With the source in it, as the format has it; an end of it and another are told; one without is refused."""
    tokenizer, canaries = tokenizer_of("gpt2"), asked()
    rows = rows_of(canaries, tokenizer, "a cat. is\n", "\n\n")
    found = check_presence(rows, canaries, tokenizer).context
    for fine in (f"a cat. is\n{ASKED.source}\n\n", list(found)):
        assert not check_presence(rows, canaries, tokenizer, context=fine).doubts
    (doubt,) = check_presence(rows, canaries, tokenizer, context=f"{ASKED.source}\n\n").doubts
    assert "of which that is the end" in doubt
    (doubt,) = check_presence(rows, canaries, tokenizer, context=f"the: {ASKED.source}\n\n").doubts
    assert "own source" in doubt
    with pytest.raises(ArgumentError, match="the format's source in it"):
        check_presence(rows, canaries, tokenizer, context="a cat. is\n")


def test_the_words_for_it_hold_no_text():
    """Neither what stands around a source, nor the source."""
    tokenizer, canaries = tokenizer_of("gpt2"), asked()
    said = str(check_presence(rows_of(canaries, tokenizer, "a cat. is\n", "\n\n"), canaries, tokenizer))
    assert "cat" not in said
    assert "pin" not in said


def test_the_record_keeps_what_stands_around_sources(tmp_path):
    """As it was."""
    canaries = asked()
    kept = [SourceContext("a", "b", (3, 4)), SourceContext("a", "b"), Context((1,)), ""]
    record = Record(tmp_path)
    record.append({"step": 0, "canaries": canaries.digest[:16]}, [Contexts(canaries, kept, None).record()])
    assert Recorded(tmp_path).of_canaries(canaries)[0] == kept
    usual = {context for context, _ in Recorded(tmp_path).of_format(ASKED)}
    assert usual == set(kept)


def test_what_leaves_no_room_loses_its_first_tokens():
    """Those before the source alone; and nothing where there is room for the longest fill and its source."""
    tokenizer, canaries = tokenizer_of("gpt2"), asked()
    context = SourceContext("a cat. is\n", "\n", tuple(range(5, 25)))
    most = ASKED.most_bytes + ASKED.most_source_bytes + len(ids_of(tokenizer, context.around(""))) + 4
    for positions, left in ((most + 20, 20), (most + 7, 7), (most - 7, 0)):
        model = small_model("gpt2", len(tokenizer))
        model.config.n_positions = positions
        contexts = Contexts(canaries, None, None)
        contexts._take([context] * len(canaries), (), ())
        contexts.fit(model, tokenizer)
        (found,) = set(contexts.context)
        assert found == SourceContext(context.before, context.behind, context.ids[20 - left :])


@pytest.mark.parametrize("wrong", [{"before": 1}, {"behind": None}, {"ids": (-1,)}, {"ids": "ab"}])
def test_source_contexts_that_are_none(wrong):
    """By name."""
    with pytest.raises(ArgumentError, match="context"):
        SourceContext(**wrong)

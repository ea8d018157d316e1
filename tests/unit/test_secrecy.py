"""What this package writes by itself, errors, log lines and records, holds no canary: neither text nor fill."""

import logging
import re

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from typer.testing import CliRunner

from hf_canary import (
    CanaryFormat,
    CanarySet,
    FormatLogitsProcessor,
    check_presence,
    exact_rank,
    extract,
    log_perplexity,
    measure_exposure,
)
from hf_canary.cli import app
from hf_canary.errors import CanaryError
from hf_canary.models import character_tokenizer
from hf_canary.tokenization.encoding import encode
from hf_canary.tree.token_tree import TokenTree
from tests.support import oracles
from tests.support.secrets import CANARIES, FORMAT, is_told
from tests.support.small_training import CANARIES as FOUR_DIGITS
from tests.support.tokenizers_of_all_kinds import KINDS, letters_alone

ASKED = CanaryFormat("the pin is {digit:6}", source="pin of {digit:6}?")
SMALL = CanaryFormat("the pin is {digit:2}")
CANARY = CANARIES[0]
TEXTS = [canary.text for canary in CANARIES]
LETTERS = character_tokenizer(["the pin is 0123456789 of?"])
NO_DIGITS = character_tokenizer(["the pin is"])


def chain(error):
    """An error, and those that a traceback shows above it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def model_of(tokenizer, kind="lstm"):
    return oracles.small_model(kind, len(tokenizer))


def broken(kind="lstm"):
    model = model_of(LETTERS, kind)
    model.get_output_embeddings().weight.data.fill_(torch.nan)
    return model


def rows(**columns):
    return Dataset.from_dict({"text": ["a", "b", "c"], **columns})


def made(make_row):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["a"]), "number": Value("int64")})
    data = Dataset.from_list([{"text": "a", "label": 0, "number": 1}] * 3, features=features)
    return lambda: CANARIES.inject(data, make_row=make_row)


class Template:
    """A tokenizer whose template refuses what it is given, and quotes it."""

    def __init__(self, refuses):
        self._refuses = refuses

    def apply_chat_template(self, turns, tokenize):
        for turn in turns:
            if self._refuses(turn["content"]):
                raise ValueError(f"what is {turn['content']!r}?")
        return ""


def chat(refuses):
    data = Dataset.from_list([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])
    return lambda: CANARIES.inject(data, "messages", tokenizer=Template(refuses))


def merging():
    """GPT-2's way: the space belongs to what follows."""
    return KINDS["gpt2"]()


def changed_tree():
    """A tree, and a tokenizer that has learned a canary since."""
    tokenizer = character_tokenizer(["the pin is 0123456789"])
    tree = TokenTree(FORMAT, tokenizer, ask_all=0)
    tokenizer.add_tokens([f"{CANARY.fill:06d}"[:3]])
    return tree


def prompted():
    processor = FormatLogitsProcessor(FORMAT, LETTERS, 0)
    ids = LETTERS(f"the pin of {CANARY.fill:06d}").input_ids
    return processor(torch.tensor([ids]), torch.zeros(1, len(LETTERS)))


def edited(tmp_path):
    CANARIES.save(tmp_path / "canaries.json")
    text = (tmp_path / "canaries.json").read_text()
    (tmp_path / "canaries.json").write_text(text.replace('"repetitions": 1', '"repetitions": 3'))
    return CanarySet.load(tmp_path / "canaries.json")


LSTM = model_of(LETTERS)

ERRORS = {
    # logits that are no numbers
    "nan, scored": lambda: log_perplexity(broken(), LETTERS, TEXTS),
    "nan, scored in packed rows": lambda: log_perplexity(broken("llama"), LETTERS, TEXTS),
    "nan, measured": lambda: measure_exposure(broken(), LETTERS, CANARIES, num_references=20),
    "nan, extracted": lambda: extract(broken(), LETTERS, FORMAT),
    "nan, ranked": lambda: exact_rank(broken(), LETTERS, FORMAT, [CANARY.fill]),
    # rows of the user's making
    "a row that is a text": made(lambda canary: canary.text),
    "a row that is a list": made(lambda canary: [canary.text, canary.fill]),
    "a row of other columns": made(lambda canary: {canary.text: 1, f"{canary.fill}": 2}),
    "a text for a label": made(lambda canary: {"text": "", "label": canary.text}),
    "a text for a number": made(lambda canary: {"text": "", "number": canary.text}),
    # templates
    "a template that refuses all": chat(lambda content: True),
    "a template that refuses canaries": chat(lambda content: "pin" in content),
    "a template that drops them": chat(lambda content: False),
    # characters, contexts, tokens
    "unknown, scored": lambda: log_perplexity(model_of(NO_DIGITS), NO_DIGITS, TEXTS),
    "unknown, measured": lambda: measure_exposure(model_of(NO_DIGITS), NO_DIGITS, CANARIES, num_references=20),
    "unknown, extracted": lambda: extract(model_of(NO_DIGITS), NO_DIGITS, FORMAT),
    "unknown, ranked": lambda: exact_rank(model_of(NO_DIGITS), NO_DIGITS, FORMAT, [CANARY.fill]),
    "merged, scored": lambda: log_perplexity(
        model_of(merging(), "gpt2"), merging(), [text[1:] for text in TEXTS], context=f"{TEXTS[0]} t"
    ),
    "merged, measured": lambda: measure_exposure(
        model_of(merging(), "gpt2"),
        merging(),
        CanarySet(tuple(c.seen_as(CanaryFormat("e pin is {digit:6}")) for c in CANARIES), 0),
        context=f"{TEXTS[0]} th",
        num_references=20,
    ),
    "nothing written": lambda: encode(KINDS["wordpiece"](), ["\u200b", TEXTS[0]]),
    # a tokenizer that changes
    "a changed tokenizer, checked": lambda: changed_tree().check([CANARY.fill]),
    "a changed tokenizer, assured": lambda: changed_tree().assure([CANARY.fill]),
    "a changed tokenizer, read": lambda: changed_tree().texts([LETTERS(f"{CANARY.fill:06d}").input_ids[1:]]),
    "a prompt with other tokens": prompted,
    # texts and fills where others belong
    "parsed with more": lambda: FORMAT.parse(CANARY.text + "."),
    "parsed with less": lambda: FORMAT.parse(CANARY.text[:-1]),
    "parsed as another's": lambda: CanaryFormat("pin is {digit:6}").parse(CANARY.text),
    "parsed as a number": lambda: FORMAT.parse(CANARY.fill),
    "rendered by another": lambda: SMALL.render(CANARY.fill),
    "rendered as digits": lambda: FORMAT.render(f"{CANARY.fill}"),
    "excluded from another": lambda: SMALL.sample(1, 0, exclude=[CANARY.fill]),
    "a format without a hole": lambda: CanaryFormat(CANARY.text),
    "a source of a text": lambda: CANARY.seen_as(CANARY.text),
    "drawn from a text": lambda: CanarySet.draw([CANARY.text]),
    "extracted by text": lambda: extract(LSTM, LETTERS, CANARY.text),
    "ranked alone": lambda: exact_rank(LSTM, LETTERS, FORMAT, CANARY.fill),
    "ranked by text": lambda: exact_rank(LSTM, LETTERS, FORMAT, [CANARY.text]),
    "ranked in another": lambda: exact_rank(LSTM, LETTERS, SMALL, [CANARY.fill]),
    "scored alone": lambda: log_perplexity(LSTM, LETTERS, CANARY.text),
    "scored by fill": lambda: log_perplexity(LSTM, LETTERS, ["a", CANARY.fill]),
    "scored empty": lambda: log_perplexity(LSTM, LETTERS, [*TEXTS, ""]),
    "scored too long": lambda: log_perplexity(model_of(LETTERS, "gpt2"), LETTERS, [CANARY.text * 9]),
    "measured alone": lambda: measure_exposure(LSTM, LETTERS, CANARY),
    "measured in a list": lambda: measure_exposure(LSTM, LETTERS, list(CANARIES)),
    "measured by texts": lambda: measure_exposure(LSTM, LETTERS, TEXTS),
    "looked for alone": lambda: check_presence(rows(), CANARY, LETTERS),
    "looked for by texts": lambda: check_presence(rows(), TEXTS, LETTERS),
    "looked for in no tokens": lambda: check_presence(Dataset.from_dict({"text": TEXTS}), CANARIES, LETTERS),
    "a tokenizer of fills": lambda: character_tokenizer([CANARY.fill]),
    "a tokenizer of a fill": lambda: character_tokenizer(CANARY.fill),
    # sets and data
    "injected twice": lambda: CANARIES.inject(CANARIES.inject(rows())),
    "injected where they are": lambda: CANARIES.inject(Dataset.from_dict({"text": TEXTS * 2})),
    "taken out of nothing": lambda: CANARIES.remove(rows()),
    "sources without a column": lambda: CanarySet.draw(ASKED, seed=2**77 + 5).inject(rows()),
}


@pytest.mark.parametrize("name", ERRORS)
def test_no_error_holds_a_canary(name, caplog):
    """Neither the error, nor what a traceback shows above it, nor a log line on the way."""
    caplog.set_level(logging.DEBUG, logger="hf_canary")
    with pytest.raises(CanaryError) as caught:
        ERRORS[name]()
    for error in chain(caught.value):
        assert not is_told(f"{error} {error!r}"), error
    assert not is_told(caplog.text)


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "nan, scored": "texts[0]",
        "nan, measured": "f0-x1-0",
        "scored empty": "texts[4]",
        "unknown, scored": "represent texts[0]; got its unknown token for U+0030, U+0031",
        "a template that refuses canaries": "f0-x1-0",
        "a template that refuses all": "what is 'text'?",
        "a row of other columns": "2 of 2 names",
        "a text for a number": "'number'",
        "a text for a label": "'label'",
        "parsed with more": "one of 18 characters, of which the first 17 fit",
        "parsed with less": "one of 16 characters, of which the first 16 fit",
        "parsed as another's": "one of 17 characters, of which the first 0 fit",
        "rendered by another": "one that is |R| or more",
        "ranked by text": "of the type str",
    }.items(),
)
def test_an_error_says_where_to_look(name, words):
    """By an id, a number, a column or a place, instead of the text."""
    with pytest.raises(CanaryError, match=re.escape(words)):
        ERRORS[name]()


def test_an_edited_set_and_another_are_refused_without_a_word_of_them(tmp_path):
    """On loading, and on saving over it."""
    for refused in (lambda: edited(tmp_path), lambda: CANARIES.save(tmp_path / "canaries.json")):
        with pytest.raises(CanaryError) as caught:
            refused()
        assert not any(is_told(f"{error} {error!r}") for error in chain(caught.value))


def test_warnings_hold_no_canary(caplog):
    """Of texts that are there already, of a collator and of characters that are unknown."""

    def refuses(features):
        raise ValueError(f"no single rows: {''.join(LETTERS.convert_ids_to_tokens(features[0]['input_ids']))}")

    caplog.set_level(logging.DEBUG, logger="hf_canary")
    CANARIES.inject(Dataset.from_dict({"text": [f"so {TEXTS[0]}", "a"]}))
    tokens = Dataset.from_dict({"input_ids": [LETTERS(text).input_ids for text in TEXTS]})
    check_presence(tokens, CANARIES, LETTERS, collator=refuses)
    character_tokenizer(["the pin is"])(TEXTS)
    assert len(caplog.records) >= 3
    assert not is_told(caplog.text)


def test_why_there_is_no_tree_holds_no_canary(tmp_path):
    """It stands in the report beside every estimate: of a context that merges with fills that none of them is."""
    tokenizer = letters_alone(merged=[("1", "2")])
    rare = CanaryFormat("{u} {digit:2}", spaces={"u": [*map(str, range(30_000, 39_999)), "20000"]})
    canaries = CanarySet.draw(rare, repetitions=(1,), per_repetition=2, seed=2**77 + 5)
    context = f"{canaries[0].text} 1"
    report = measure_exposure(model_of(tokenizer, "gpt2"), tokenizer, canaries, context=context, num_references=20)
    report.save(tmp_path / "report.json")
    written = (tmp_path / "report.json").read_text()
    assert "merges with" in written
    assert not any(canary.text in written or canary.twin_text in written for canary in canaries)


def test_the_shell_repeats_no_text(tmp_path):
    """It says which of several is none, and from where on."""
    options = ["rank", str(tmp_path), "--format", FORMAT.template, "--text", CANARY.text]
    several = CliRunner().invoke(app, [*options, "--text", CANARY.text + "7"])
    assert several.exit_code == 1
    assert "--text: " in several.stderr
    assert f"number 2 of 2 one of {len(CANARY.text) + 1} characters" in several.stderr
    alone = CliRunner().invoke(app, [*options[:-1], "the pin was 1"])
    assert "got one of 13 characters, of which the first 8 fit" in alone.stderr
    beyond = CliRunner().invoke(app, [*options[:4], "--format", SMALL.template, "--fill", str(CANARY.fill)])
    assert "--fill: " in beyond.stderr
    for result in (several, alone, beyond):
        assert not is_told(result.output)


@pytest.mark.parametrize(
    "form", ["{text}7", "0000{digits}", "x%20{digits}", "\\u0020{digits}", "1.25, {digits}", "[{spaced}]"]
)
def test_a_secret_is_seen_in_whatever_it_stands(form):
    """The tests of secrecy can fail; what they do not take for one are four digits of a decimal."""
    canary = CANARIES[0]
    digits = canary.text.removeprefix("the pin is ")
    assert is_told(form.format(text=canary.text, digits=digits, spaced=", ".join(digits)))
    short = FOUR_DIGITS[0].text.removeprefix("the pin is ")
    assert len(short) == 4
    assert is_told(f"a {short}")
    assert not is_told(f"0.{short}5, 3.5{short}1e-07")

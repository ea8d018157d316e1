"""Nothing that people read does anything to their terminal, whatever alphabets, ids and names hold."""

import io
import json
import logging
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hf_canary import CanaryFormat, CanarySet, measure_exposure
from hf_canary.cli import _log_handler, app
from hf_canary.errors import DataError, counted, printable
from hf_canary.models import character_tokenizer
from hf_canary.presence.report import CanaryPresence, Presence
from hf_canary.reporting.table import tables
from hf_canary.reporting.terminal import say
from tests.support import oracles

RUNNER = CliRunner()
FORGED = "f0\x1b[2J\x9b1m\u202e\u2066\u200f\r\nproven"
WORDS = ["red\x1b[31m", "a\u202eb", "x\nproven: all", "z\u2066", ":smile:", "[bold]b"]
SEEN = ["red\\x1b[31m", "a\\u202eb", "x\\nproven: all", "z\\u2066", ":smile:", "[bold]b"]


def is_quiet(text: str) -> bool:
    """Whether each line is of visible characters alone."""
    return all(line.isprintable() for line in text.split("\n"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint that knows all of these characters, and canaries of these words."""
    path = tmp_path_factory.mktemp("terminal")
    tokenizer = character_tokenizer(["the word is .", *WORDS])
    model = oracles.small_model("lstm", len(tokenizer))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    (path / "words.json").write_text(json.dumps({"w": WORDS}))
    format = CanaryFormat("the word is {w}.", spaces={"w": WORDS})
    CanarySet.draw(format, repetitions=(1,), per_repetition=3, seed=0).save(path / "canaries.json")
    return path


def test_the_check_can_fail():
    """Of what is printed below, and of each kind of character in it."""
    assert not is_quiet(FORGED)
    assert all(not is_quiet(character) for character in "\x1b\x9b\u202e\u2066\u200f\r\u200b\x7f\u2028\ud800\ufeff")
    assert is_quiet("Zoë 日本 שלום 😀\nproven")


@pytest.mark.parametrize(
    "character", "\x1b\x9b\u202e\u2066\u200f\r\n\t\u200b\x7f\u2028\ud800\ufeff\U000e0001", ids=ascii
)
def test_what_is_no_visible_character_stands_as_python_writes_it(character):
    """One escape for each, in one line; what is visible, of any language, stays."""
    assert printable(f"Zoë{character}日本") == f"Zoë{ascii(character)[1:-1]}日本"
    assert printable("Zoë 日本 שלום 😀\\n") == "Zoë 日本 שלום 😀\\n"


def test_a_line_is_said_as_it_is():
    """Neither wrapped nor marked up, nor are names of pictures read."""
    written = io.StringIO()
    say(Console(file=written, width=20, force_terminal=True), f"[bold]{FORGED} :smile: {'x' * 50}")
    assert written.getvalue() == f"[bold]{printable(FORGED)} :smile: {'x' * 50}\n"


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["for people", "for programs"])
def test_an_alphabet_reaches_no_terminal(folder, options):
    """In what extract and rank say of its candidates; JSON gives the texts back as they are."""
    asked = ["--format", "the word is {w}.", "--spaces", str(folder / "words.json"), *options]
    found = RUNNER.invoke(app, ["extract", str(folder), *asked, "--top-k", "6"])
    ranks = RUNNER.invoke(app, ["rank", str(folder), *asked, *(f"--fill={n}" for n in range(6))])
    for result in (found, ranks):
        assert result.exit_code == 0
        assert is_quiet(result.stdout)
        assert is_quiet(result.stderr)
    if options:
        texts = [each["text"] for each in json.loads(found.stdout)["candidates"]]
        assert sorted(texts) == sorted(f"the word is {word}." for word in WORDS)
        assert [each["text"] for each in json.loads(ranks.stdout)["ranks"]] == [f"the word is {w}." for w in WORDS]
    else:
        for word in SEEN:
            assert f"the word is {word}.\n" in found.stdout
            assert f"the word is {word}.: rank" in ranks.stdout


def test_names_and_errors_reach_no_terminal(folder, tmp_path):
    """Of models, files, records and canaries that are not there."""
    bad = f"./{FORGED}"
    of_set = ["--canaries", str(folder / "canaries.json")]
    asked = ["--format", "the word is {w}.", "--spaces", str(folder / "words.json")]
    for words in (
        ["extract", bad, "--format", "{digit}"],
        ["extract", FORGED, "--format", "{digit}"],
        ["extract", str(folder), "--format", f"{FORGED}{{digits}}"],
        ["extract", str(folder), "--format", "{w}", "--spaces", bad],
        ["extract", str(folder), *asked, "--context", f"{FORGED}{{w}}"],
        ["extract", str(folder), *asked, "--checkpoint", f"{bad}/k"],
        ["extract", str(folder), *asked, "--record", bad],
        ["rank", str(folder), *of_set, "--canary", FORGED],
        ["measure", str(folder), "--canaries", bad],
        ["measure", str(folder), *of_set, "--save", f"{bad}/r.json"],
        ["measure", str(folder), *of_set, "--context-file", bad],
    ):
        result = RUNNER.invoke(app, words)
        assert result.exit_code == 1, words
        assert "error" in result.stderr
        assert is_quiet(result.stdout + result.stderr), words
    error = DataError(FORGED, FORGED, FORGED, FORGED)
    assert is_quiet(str(error))
    assert error.argument == FORGED


def test_a_report_reaches_no_terminal():
    """Also where ids or reasons were forged past the checks: printed, as a table, as a check of presence."""
    tokenizer = character_tokenizer(["pin 0123456789"])
    canaries = CanarySet.draw(CanaryFormat("pin {digit:2}"), repetitions=(1,), per_repetition=2, seed=0)
    model = oracles.small_model("lstm", len(tokenizer))
    report = measure_exposure(model, tokenizer, canaries, num_references=20, bootstrap=0)
    first = canaries[0].id
    for canary in canaries:
        if canary.id == first:
            object.__setattr__(canary, "id", FORGED)
    forged = replace(
        report,
        exposures=tuple(replace(e, canary_id=FORGED, reason=FORGED) if e.canary_id == first else e for e in report),
        dead={FORGED: FORGED},
    )
    assert f"{FORGED}" not in str(forged)
    assert printable(FORGED) in str(forged)
    assert is_quiet(str(forged))
    written = io.StringIO()
    Console(file=written, width=100, color_system=None).print(tables(forged, 100))
    assert is_quiet(written.getvalue())
    presence = Presence((CanaryPresence(FORGED, 1, 0, 0, 0, 0, False),), 1, descriptions=(FORGED,))
    assert is_quiet(str(presence))


def test_what_is_logged_reaches_no_terminal():
    """By whomever, with its traceback; lines stay lines."""
    handler, written = _log_handler(), io.StringIO()
    handler.setStream(written)
    record = logging.LogRecord("any", logging.WARNING, "", 0, "one %s\ntwo", (FORGED.replace("\n", ""),), None)
    handler.emit(record)
    assert is_quiet(written.getvalue())
    assert written.getvalue().startswith("WARNING: one f0\\x1b[2J")
    assert written.getvalue().endswith("\ntwo\n")


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (999_999_999_999, "999,999,999,999"), (10**12, "10^12.0"), (2**70, "10^21.1"), (10**4400, "10^4400.0")],
    ids=["0", "large", "10^12", "2^70", "10^4400"],
)
def test_a_size_is_said_whatever_it_is(number, words):
    """Exact while people read it, and then by its power of ten; more digits than Python writes are no matter."""
    assert counted(number) == words

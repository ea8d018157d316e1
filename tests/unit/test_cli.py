"""The commands beside the demonstration: what a person reads, what a program reads, how they end."""

import json
import math
import os
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from typer.testing import CliRunner

from hf_canary import Canary, CanaryFormat, CanarySet, exact_rank, extract, measure_exposure
from hf_canary.__main__ import main as shell
from hf_canary.cli import Order, _place_of, app
from hf_canary.errors import FormatError
from hf_canary.estimators.exposures import of_rank
from hf_canary.extraction import exact_ranks, likeliest
from hf_canary.extraction.result import Candidate, Extraction
from hf_canary.measurement.ranking import Rank
from hf_canary.tokenization.contexts import SourceContext
from hf_canary.training.contexts import Contexts
from hf_canary.training.fingerprints import FINGERPRINT_FILE, leave_fingerprint
from hf_canary.training.record import Record
from hf_canary.training.threshold import Threshold
from hf_canary.walks.search.strategy import STRATEGIES
from tests.support import oracles

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lstm, tokenizer):
    """A checkpoint and canaries, as a user has them."""
    path = tmp_path_factory.mktemp("checkpoint")
    lstm.save_pretrained(path)
    tokenizer.save_pretrained(path)
    CanarySet.draw(CanaryFormat("the pin is {digit:3}"), per_repetition=2, seed=0).save(path / "canaries.json")
    return path


def test_extract_for_a_person_and_for_a_program(folder, lstm, tokenizer):
    """Both say what extract() says; proven ends with 0."""
    template = "the pin is {digit:3}"
    expected = extract(lstm, tokenizer, CanaryFormat(template), top_k=2)
    options = ["extract", str(folder), "--format", template, "--top-k", "2"]
    plain, machine = RUNNER.invoke(app, options), RUNNER.invoke(app, [*options, "--json"])
    assert plain.exit_code == machine.exit_code == 0
    for candidate in expected.candidates:
        assert f"{candidate.log_perplexity:.2f} bits  {candidate.text}" in plain.stdout
    assert "proven: no other candidate" in plain.stdout
    found = json.loads(machine.stdout)
    assert [each["fill"] for each in found["candidates"]] == [each.fill for each in expected.candidates]
    assert found["certified"] is True
    assert found["space_size"] == 1000


def test_extract_says_what_a_proof_is_worth(folder, lstm, tokenizer, tmp_path):
    """Beside it: the sentences of the result, which say that proven is not leaked; with the canaries' file, which
    candidates are canaries, their exposure, and how many are not listed. All of it in JSON, too.
    """
    format = CanaryFormat("the pin is {digit:3}")
    canaries = CanarySet.load(folder / "canaries.json")
    (rank,) = exact_rank(lstm, tokenizer, format, [canaries[0].fill])
    expected = extract(lstm, tokenizer, format, top_k=rank.rank, canaries=canaries)
    named = [candidate.canary for candidate in expected.candidates if candidate.canary]
    options = ["extract", str(folder), "--format", format.template, "--top-k", str(rank.rank)]
    options += ["--canaries", str(folder / "canaries.json")]
    plain, machine = RUNNER.invoke(app, options), RUNNER.invoke(app, [*options, "--json"])
    assert plain.exit_code == machine.exit_code == 0
    for sentence in expected.worth:
        assert sentence in plain.stdout
    assert "Every model has a likeliest candidate" in plain.stdout
    assert "256 random candidates scored" in plain.stdout
    exposure = math.log2(1000 / rank.rank)
    assert f"canary {canaries[0].id}: rank {rank.rank}, exposure {exposure:.2f} bits" in plain.stdout
    assert "one of 6 that were never trained on" in plain.stdout
    assert f"{6 - len(named)} of the 6 canaries of this format are not listed" in plain.stdout
    found = json.loads(machine.stdout, parse_constant=pytest.fail)
    assert found["typical"] == pytest.approx(expected.typical, abs=1e-4)
    assert found["margin"] == pytest.approx(expected.margin, abs=1e-4)
    assert (found["num_references"], found["num_canaries"], found["space_size"]) == (256, 6, 1000)
    last = found["candidates"][-1]
    assert (last["canary"], last["rank"]) == (canaries[0].id, rank.rank)
    assert last["exposure"] == pytest.approx(exposure)
    assert all(each["exposure"] is None for each in found["candidates"] if not each["canary"])
    assert all(each["queries"] >= 1 for each in found["candidates"])
    other = RUNNER.invoke(app, [*options[:2], "--format", "the pin is {digit:4}", *options[-2:]])
    assert other.exit_code == 1
    assert "error --canaries: expected some whose texts are candidates of" in other.stderr
    help_of_it = " ".join(RUNNER.invoke(app, ["extract", "--help"]).output.split())
    assert "Proven the likeliest is not leaked" in help_of_it


def test_natural_canaries_have_no_chance(folder, lstm, tokenizer, tmp_path):
    """What people wrote was not drawn: its exposure is said, and not how often chance has it."""
    format = CanaryFormat("the pin is {digit:3}")
    best = extract(lstm, tokenizer, format).candidates[0]
    canary = Canary("mine", format, best.fill, (best.fill + 1) % 1000, 1)
    CanarySet((canary,), 2**100, "natural").save(tmp_path / "natural.json")
    options = ["extract", str(folder), "--format", format.template, "--canaries", str(tmp_path / "natural.json")]
    said = RUNNER.invoke(app, options).stdout
    assert "canary mine: rank 1, exposure 9.97 bits\n" in said
    assert "never trained on" not in said


def test_extract_stopped_at_a_cap_says_so_and_ends_with_3(folder):
    """What is proven so far is a bound."""
    options = ["extract", str(folder), "--format", "the pin is {digit:9}", "--max-expanded", "5"]
    result = RUNNER.invoke(app, options)
    assert result.exit_code == 3
    assert "not proven" in result.stdout
    assert "at least" in result.stdout


def test_extract_has_the_functions_arguments(folder, lstm, tokenizer, tmp_path):
    """Strategy, end token, context, memory and checkpoint are those of extract()."""
    template, kept = "pin is {digit:3}", tmp_path / "kept"
    expected = extract(lstm, tokenizer, CanaryFormat(template), context="the ", end=True, strategy="depth-first")
    options = ["extract", str(folder), "--format", template, "--context", "the ", "--end", "--strategy", "depth-first"]
    options += ["--max-memory", "64MiB", "--checkpoint", str(kept), "--json"]
    first, again = RUNNER.invoke(app, options), RUNNER.invoke(app, options)
    found = json.loads(first.stdout)
    assert found["candidates"][0]["log_perplexity"] == pytest.approx(expected.candidates[0].log_perplexity, abs=1e-4)
    assert found["expanded"] == expected.expanded
    assert kept.exists()
    once_more = json.loads(again.stdout)
    assert found.pop("provenance").keys() == once_more.pop("provenance").keys()
    assert found == once_more
    (tmp_path / "file").touch()
    (tmp_path / "null.json").write_text("null")
    for wrong in (
        ["--max-memory", "3XB"],
        ["--max-memory", "0"],
        ["--top-k", "1001"],
        ["--checkpoint", str(tmp_path / "file" / "below")],
        ["--spaces", str(tmp_path / "none.json")],
        ["--spaces", str(tmp_path / "null.json")],
    ):
        refused = RUNNER.invoke(app, ["extract", "not loaded", *options[2:4], *wrong])
        assert refused.exit_code == 1
        assert f"error {wrong[0]}: expected" in refused.stderr
    refused = RUNNER.invoke(app, ["extract", str(folder), *options[2:4], "--max-memory", "1MB", "--top-k", "900"])
    assert "Raise it, or lower --top-k." in refused.stderr
    for wrong in (["--strategy", "fast"], ["--batch-size", "0"], ["--top-k", "0"]):
        assert RUNNER.invoke(app, [*options[:4], *wrong]).exit_code == 2


def test_the_strategies_are_those_of_the_search():
    """The command line names them by itself, so that its help needs no torch."""
    assert [order.value for order in Order] == list(STRATEGIES)


def test_alphabets_of_ones_own(folder, lstm, tokenizer, tmp_path):
    """From a file, in both commands."""
    spaces = {"w": ["red", "green", "blue"]}
    (tmp_path / "own.json").write_text(json.dumps(spaces))
    options = [str(folder), "--format", "the pin is {w}.", "--spaces", str(tmp_path / "own.json"), "--json"]
    (best,) = extract(lstm, tokenizer, CanaryFormat("the pin is {w}.", spaces=spaces)).candidates
    assert json.loads(RUNNER.invoke(app, ["extract", *options]).stdout)["candidates"][0]["text"] == best.text
    assert '"rank": 1' in RUNNER.invoke(app, ["rank", *options, "--text", best.text]).stdout


def test_errors_advise_options(folder):
    """The advice is an option, not an argument of a function."""
    asked = ["extract", str(folder), "--format", "pin {digit}", "--source", "abc", "--context", "abc"]
    refused = RUNNER.invoke(app, asked)
    assert refused.exit_code == 1
    assert "error --source: expected none beside what stands before" in refused.stderr
    for wrong, option in (
        (["--format", "x{digits:2}"], "--format"),
        (["--format", "{digit:2}", "--fill", "-1"], "--fill"),
    ):
        refused = RUNNER.invoke(app, ["rank", str(folder), *wrong])
        assert f"error {option}:" in refused.stderr


def test_a_source_is_the_prompt_of_a_causal_model(folder, lstm, tokenizer, tmp_path):
    """One that is given, that of a canary, or what the record has around it."""
    format = CanaryFormat("the pin is {digit} {digit}", source="pin {digit}: ")
    canaries = CanarySet.draw(format, repetitions=(1,), per_repetition=2, seed=1)
    canaries.save(tmp_path / "asked.json")
    bare, one = CanaryFormat(format.template), canaries[0]
    file = ["--canaries", str(tmp_path / "asked.json")]
    of_one = [str(folder), *file, "--canary", one.id, "--json"]

    def best(*options):
        result = RUNNER.invoke(app, ["extract", *options])
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)["candidates"][0]["log_perplexity"], result.stderr

    def measured(*options):
        result = RUNNER.invoke(
            app, ["measure", str(folder), *file, "--num-references", "100", "--estimator", "auto", "--json", *options]
        )
        assert result.exit_code == 0, result.stderr
        found = json.loads(result.stdout)["exposures"]
        return [each["log_perplexity"] for each in found if each["role"] == "canary"], result.stderr

    def costs(context):
        report = measure_exposure(lstm, tokenizer, canaries, context=context, num_references=100, estimators=["auto"])
        return pytest.approx([each.log_perplexity for each in report], abs=1e-4)

    def expected(context):
        return pytest.approx(extract(lstm, tokenizer, bare, context=context).candidates[0].log_perplexity, abs=1e-4)

    assert best(str(folder), "--format", bare.template, "--source", "abc ", "--json")[0] == expected("abc ")
    cost, said = best(*of_one)
    assert cost == expected(one.source)
    assert "behind nothing but the source" in said
    assert f"all stand behind that of {one.id}" in said
    assert best(*of_one, "--context", "a cat. ")[0] == expected("a cat. ")
    found, said = measured()
    assert found == costs(None)
    assert "behind nothing but their sources" in said

    record = Record(folder)
    around = SourceContext("a cat: ", "- ")
    record.append({"step": 0, "canaries": canaries.digest[:16]}, [Contexts(canaries, around, None).record()])
    try:
        cost, said = best(*of_one)
        assert cost == expected(around.around(one.source))
        assert "the context that the callback was given" in said
        (rank,) = json.loads(RUNNER.invoke(app, ["rank", *of_one]).stdout)["ranks"]
        (wanted,) = exact_rank(lstm, tokenizer, bare, [one.fill], context=around.around(one.source))
        assert rank["rank"] == wanted.rank
        given = [str(folder), "--format", bare.template, "--json"]
        assert best(*given, "--source", "pin 3: ")[0] == expected("a cat: pin 3: - ")
        refused = RUNNER.invoke(app, ["extract", *given])
        assert "error --source: expected the source that stands in the context" in refused.stderr
        assert measured()[0] == costs(around)
        for context, is_told in ((around.around(format.source), False), (f"a dog: {format.source}", True)):
            found, said = measured("--context", context)
            assert found == costs(context)
            assert ("is not what stood before the canaries" in said) == is_told
        refused = RUNNER.invoke(app, ["measure", str(folder), *file, "--context", "a cat: "])
        assert "error --context: expected the format's source in it" in refused.stderr
        record.file.unlink()
        fixed = CanarySet.draw(CanaryFormat(bare.template, source="abc "), repetitions=(1,), per_repetition=1, seed=1)
        record.append({"step": 0, "canaries": fixed.digest[:16]}, [Contexts(fixed, "q: abc ", None).record()])
        fixed.save(tmp_path / "fixed.json")
        file = ["--canaries", str(tmp_path / "fixed.json"), "--canary", fixed[0].id]
        assert best(str(folder), *file, "--json")[0] == expected("q: abc ")
        refused = RUNNER.invoke(app, ["extract", str(folder), *file, "--source", "abc "])
        assert "error --source: expected none: the record has all" in refused.stderr
    finally:
        record.file.unlink()


@pytest.mark.parametrize("command", [["extract"], ["rank", "--fill", "3"]])
def test_a_format_that_the_training_did_not_have(folder, command):
    """A letter that is left out: what is proven of the one says nothing of the other, and the record beside knows."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:2}"), repetitions=(1,), per_repetition=2, seed=1)
    record = Record(folder)
    record.append({"step": 0, "canaries": canaries.digest[:16]}, [Contexts(canaries, None, None).record()])
    try:
        for template, is_told in (("the pi is {digit:2}", True), ("the pin is {digit:2}", False)):
            said = RUNNER.invoke(app, [*command, str(folder), "--format", template]).stderr
            known = "canaries were of the format 'the pin is {digit:2}': what is found here says nothing of them"
            assert (known in " ".join(said.split())) == is_told
    finally:
        record.file.unlink()


def test_weights_are_read_in_float32_unless_it_says_otherwise(tmp_path, lstm, tokenizer):
    """Half precision in the file; costs as if it had been float32 that was saved, and those of half on demand."""
    half = oracles.small_model("lstm", len(tokenizer)).to(torch.bfloat16)
    half.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    options = ["extract", str(tmp_path), "--format", "pin {digit:2}", "--json"]

    def found(*dtype):
        return json.loads(RUNNER.invoke(app, [*options, *dtype]).stdout)["candidates"][0]["log_perplexity"]

    def expected(model):
        best = extract(model, tokenizer, CanaryFormat("pin {digit:2}")).candidates[0]
        return pytest.approx(best.log_perplexity, abs=1e-4)

    of_half = expected(half)
    assert found("--dtype", "auto") == of_half
    assert found() == expected(half.float())
    assert found() != of_half


def test_extract_what_an_encoder_decoder_writes(tmp_path, tokenizer):
    """The source is what it reads."""
    model = oracles.small_translation("gru", True, len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    expected = extract(model, tokenizer, CanaryFormat("pin {digit:2}"), source="abc")
    options = [str(tmp_path), "--format", "pin {digit:2}", "--json"]
    found = json.loads(RUNNER.invoke(app, ["extract", *options, "--source", "abc"]).stdout)
    assert found["candidates"][0]["text"] == expected.candidates[0].text
    assert RUNNER.invoke(app, ["extract", *options]).exit_code == 1
    fill = str(expected.candidates[0].fill)
    assert '"rank": 1' in RUNNER.invoke(app, ["rank", *options, "--source", "abc", "--fill", fill]).stdout


@pytest.mark.parametrize("command", ["extract", "rank"])
@pytest.mark.parametrize("option", ["--source", "--context"])
def test_a_hole_in_a_fixed_text_is_refused_before_a_model_is_loaded(command, option, tmp_path):
    """It would be read as its braces; also a hole of an alphabet of one's own."""
    (tmp_path / "own.json").write_text(json.dumps({"town": ["Paris", "Rome"]}))
    options = [command, "not loaded", "--format", "Mon code est {digit:4}.", "--spaces", str(tmp_path / "own.json")]
    options += ["--fill", "7"] if command == "rank" else []
    for text in ("My number is {digit:4}.", "from {town}"):
        refused = RUNNER.invoke(app, [*options, option, text])
        assert refused.exit_code == 1
        assert f"error {option}: expected fixed text" in refused.stderr
    assert "MODEL" in RUNNER.invoke(app, [*options, option, "{number}, {{digit}}"]).stderr


def test_rank_for_a_person_and_for_a_program(folder, lstm, tokenizer):
    """Both say what exact_rank() says, by the fill's number or its text; the work is said beforehand; a cap leaves
    bounds and ends with 3.
    """
    format = CanaryFormat("the pin is {digit:4}")
    expected = exact_rank(lstm, tokenizer, format, [7, 421])
    options = ["rank", str(folder), "--format", format.template, "--fill", "7", "--text", "the pin is 0421"]
    plain, machine = RUNNER.invoke(app, options), RUNNER.invoke(app, [*options, "--json"])
    assert plain.exit_code == machine.exit_code == 0
    assert "prefixes are to be expanded for all ranks" in plain.stderr
    found = json.loads(machine.stdout)
    for row, rank in zip(found["ranks"], expected, strict=True):
        assert row["rank"] == rank.rank
        assert row["exposure_low"] == row["exposure_high"] == pytest.approx(math.log2(10_000 / rank.rank))
        assert f"{row['text']}: rank {rank.rank:,}" in plain.stdout
        assert f"exposure {row['exposure_low']:.2f} bits" in plain.stdout
    assert found["expanded"] == expected[0].expanded
    capped = RUNNER.invoke(app, [*options, "--max-expanded", "3", "--json"])
    assert capped.exit_code == 3
    for row, rank in zip(json.loads(capped.stdout)["ranks"], expected, strict=True):
        assert row["rank"] is None
        assert row["low"] <= rank.rank <= row["high"]
        assert row["exposure_low"] <= math.log2(10_000 / rank.rank) <= row["exposure_high"]
    said = RUNNER.invoke(app, [*options, "--max-expanded", "20"]).stdout
    assert "not counted to the end; about" in said
    assert "max_expanded was reached; raise --max-expanded" in said
    assert "prefixes are needed" in said


def test_rank_of_nothing_and_of_what_is_no_fill(folder):
    """Wrong usage ends with 2, a fill beyond |R| or of another format with 1."""
    options = ["rank", str(folder), "--format", "the pin is {digit:3}"]
    assert RUNNER.invoke(app, options).exit_code == 2
    for wrong in ("abc", "1.0", "9" * 5000):
        refused = RUNNER.invoke(app, [*options, "--fill", wrong])
        assert refused.exit_code == 2
        assert "Give a whole number" in refused.stderr
    for wrong in (["--fill", "1000"], ["--text", "the pin is 12"]):
        refused = RUNNER.invoke(app, [*options, *wrong])
        assert refused.exit_code == 1
        assert "expected" in refused.stderr


def test_measure_for_a_person_and_for_a_program(folder, lstm, tokenizer):
    """Both say what measure_exposure() says."""
    canaries = CanarySet.load(folder / "canaries.json")
    expected = measure_exposure(lstm, tokenizer, canaries, num_references=100)
    options = ["measure", str(folder), "--canaries", str(folder / "canaries.json"), "--num-references", "100"]
    plain, machine = RUNNER.invoke(app, options), RUNNER.invoke(app, [*options, "--json"])
    assert plain.exit_code == machine.exit_code == 0
    for exposure in expected:
        if exposure.estimator == "auto":
            assert exposure.canary_id in plain.stdout
            assert f"{exposure.value:.2f}" in plain.stdout
    assert "Twins, never inserted" in plain.stdout
    found = json.loads(machine.stdout, parse_constant=pytest.fail)
    assert found["summary"]["exposure_mean"] == pytest.approx(expected.summary()["exposure_mean"])


def test_measure_by_the_estimators_of_ones_choice(folder, lstm, tokenizer, tmp_path):
    """Several of them, within a time, and all of it in a file."""
    file = tmp_path / "report.json"
    options = ["measure", str(folder), "--canaries", str(folder / "canaries.json"), "--num-references", "100"]
    options += ["--estimator", "importance", "--estimator", "exact", "--num-draws", "300", "--save", str(file)]
    result = RUNNER.invoke(app, [*options, "--max-seconds", "60"])
    assert result.exit_code == 0
    assert "exposure (importance)" in result.stdout
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert {each["estimator"] for each in saved["exposures"]} == {"importance", "exact"}
    assert "Saved to" in result.stderr
    for target in (tmp_path, tmp_path / "nowhere" / "report.json", folder / "canaries.json"):
        unsaved = RUNNER.invoke(app, [*options[:4], "--save", str(target)])
        assert unsaved.exit_code == 1
        assert "--save" in unsaved.stderr
    refused = RUNNER.invoke(app, [*options, "--estimator", "best"])
    assert refused.exit_code == 1
    assert "estimators" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "the pin is {digits}"], "unknown name"),
        (["--format", "the pin is {digit"], "unclosed"),
        (["--format", "no hole"], "at least one hole"),
        (["--format", "é is {digit}"], "U+00E9"),
        (["--format", "[bold]x{digit"], "'[bold]x{digit'"),
    ],
)
def test_a_bad_format_is_one_plain_line(folder, arguments, message):
    """Exit code 1, the four things, no traceback; what the user wrote is printed as it was written."""
    result = RUNNER.invoke(app, ["extract", str(folder), *arguments])
    assert result.exit_code == 1
    assert message in result.stderr
    assert "expected" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_that_is_not_there(tmp_path):
    """... is named, with what was expected; a path is not taken for a Hub id."""
    result = RUNNER.invoke(app, ["extract", str(tmp_path), "--format", "{digit}"])
    assert result.exit_code == 1
    assert "MODEL" in result.stderr
    result = RUNNER.invoke(app, ["extract", str(tmp_path / "none"), "--format", "{digit}"])
    assert result.exit_code == 1
    assert "a folder that is there" in result.stderr


def test_a_folder_of_checkpoints_is_no_checkpoint(folder, tmp_path):
    """As the demonstration or a training leaves it: the error says which folder to give, the latest of several."""
    for at, name in enumerate(("checkpoint-900", "checkpoint-1000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        os.utime(tmp_path / name, (at, at))
    for command in (["extract", "--format", "{digit}"], ["measure", "--canaries", str(folder / "canaries.json")]):
        result = RUNNER.invoke(app, [*command, str(tmp_path)])
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert f"there is one in {tmp_path}/checkpoint-900, {tmp_path}/checkpoint-1000." in result.stderr
        assert result.stderr.endswith(f"Give {tmp_path}/checkpoint-1000.\n")


@pytest.fixture
def hub(monkeypatch):
    """The Hub as it is to be: what a question for a file of a model comes to; the questions that were asked."""
    asked = []

    def answering(answer):
        def metadata(url, **_):
            asked.append(url)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
        return asked

    return answering


def no_such_model(status):
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    kind = RepositoryNotFoundError if status == 401 else HfHubHTTPError
    return kind("any", response=response)


@pytest.mark.parametrize("command", ["extract", "rank", "measure"])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ConnectionError("Name or service not known"), "and the Hub cannot be reached ('Name or service not known')"),
        (no_such_model(401), "neither a folder here nor a model on the Hub that you may see"),
        (no_such_model(503), "and the Hub has an error"),
    ],
    ids=["no network", "no such model", "a broken Hub"],
)
def test_an_unknown_name_is_one_error_after_one_question(folder, hub, caplog, command, answer, words):
    """Nothing is tried again, and nothing said but the error."""
    asked = hub(answer)
    options = {"extract": ["--format", "{digit}"], "rank": ["--format", "{digit}", "--fill", "1"]}
    options["measure"] = ["--canaries", str(folder / "canaries.json")]
    result = RUNNER.invoke(app, [command, "no/such-model", *options[command]])
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.startswith("error MODEL: expected a folder that is there, or a Hub id; got 'no/such-model'")
    assert result.stderr.count("\n") == 1
    assert len(asked) == 1
    assert caplog.text == ""


def test_a_model_is_read_from_what_was_downloaded_where_there_is_no_network(folder, hub, monkeypatch):
    """Its folder in the cache stands for its name, and no other question is asked; what answers is left to loaders."""
    asked = hub(ConnectionError("no network"))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: str(folder / file))
    result = RUNNER.invoke(app, ["extract", "some/model", "--format", "the pin is {digit:2}", "--json"])
    assert result.exit_code == 0
    assert "some/model is read from what was downloaded before: the Hub cannot be reached" in result.stderr
    assert json.loads(result.stdout)["provenance"]["model"]["name"] == str(folder)
    assert len(asked) == 1
    assert _place_of(str(folder)) == str(folder)
    for answer in (object(), no_such_model(404)):
        hub(answer)
        assert _place_of("some/model") == "some/model"
    assert _place_of("no id of the Hub") == "no id of the Hub"


def test_weights_that_could_run_code_are_refused(tmp_path, tokenizer):
    """A checkpoint that has only a pickle is not read."""
    import torch

    model = oracles.small_model("lstm", len(tokenizer))
    model.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    result = RUNNER.invoke(app, ["extract", str(tmp_path), "--format", "{digit}"])
    assert result.exit_code == 1
    assert "safetensors" in result.stderr


def test_an_edited_canaries_file_is_refused(folder, tmp_path):
    """The digest is checked before the model is loaded."""
    text = (folder / "canaries.json").read_text().replace('"repetitions": 16', '"repetitions": 17')
    (tmp_path / "canaries.json").write_text(text)
    result = RUNNER.invoke(app, ["measure", str(folder), "--canaries", str(tmp_path / "canaries.json")])
    assert result.exit_code == 1
    assert "digest" in result.stderr


def test_version():
    """The version of the package, and nothing else."""
    from hf_canary import __version__

    result = RUNNER.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.strip() == __version__


@pytest.mark.parametrize("command", [[], ["demo"], ["extract"], ["measure"], ["rank"]])
def test_help_teaches(command):
    """Each command says what it does and what its options mean; what is switched on takes no word."""
    result = RUNNER.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output
    assert len(result.output) > 400
    assert "bool" not in result.output


def test_each_canary_is_ranked_behind_its_own_context(folder, lstm, tokenizer):
    """Three behind one text, three behind another: what is said of a canary is what is so behind its own, and where
    another is searched behind, none of its numbers is given.
    """
    canaries = CanarySet.load(folder / "canaries.json")
    format = canaries.formats[0]
    befores = ["a cat: ", "a cat: ", "a cat: ", "a dog: ", "a dog: ", ""]
    kept = Contexts(canaries, befores, None)
    record = Record(folder)
    record.append({"step": 0, "canaries": canaries.digest[:16]}, [kept.record()])
    set_file = ["--canaries", str(folder / "canaries.json")]
    try:
        for canary, before in zip(canaries, befores, strict=True):
            (expected,) = exact_rank(lstm, tokenizer, format, [canary.fill], context=before or None)
            options = ["rank", str(folder), *set_file, "--canary", canary.id, "--json"]
            (found,) = json.loads(RUNNER.invoke(app, options).stdout)["ranks"]
            assert (found["fill"], found["rank"]) == (canary.fill, expected.rank)
            best = extract(lstm, tokenizer, format, context=before or None).candidates[0]
            options = ["extract", str(folder), *set_file, "--canary", canary.id, "--json"]
            (candidate,) = json.loads(RUNNER.invoke(app, options).stdout)["candidates"]
            assert candidate["fill"] == best.fill
        result = RUNNER.invoke(app, ["extract", str(folder), "--format", format.template, *set_file, "--top-k", "1000"])
        behind_the_first = extract(lstm, tokenizer, format, context=befores[0], canaries=canaries, top_k=1000)
        for candidate in behind_the_first.candidates:
            if candidate.canary:
                words = f"canary {candidate.canary}: rank {candidate.rank}, exposure"
                is_here = befores[[each.id for each in canaries].index(candidate.canary)] == befores[0]
                assert (words in result.stdout) == is_here
                assert (f"canary {candidate.canary}, which stood behind another" in result.stdout) != is_here
        assert "3 canaries stood behind other contexts" in result.stdout
        assert "stood behind 3 contexts" in result.stderr
        assert "that the callback was given for the canaries" in result.stderr
        for options in (["--canary", "f0-x1-0"], [*set_file, "--canary", "f9-x1-0"]):
            wrong = RUNNER.invoke(app, ["rank", str(folder), *options])
            assert wrong.exit_code == 1
            assert "canar" in wrong.stderr
        assert RUNNER.invoke(app, ["rank", str(folder)]).exit_code == 2
        other = ["--canary", "f0-x1-0", "--format", "a pin {digit:3}"]
        wrong = RUNNER.invoke(app, ["rank", str(folder), *set_file, *other])
        assert wrong.exit_code == 1
        assert "--format: expected that of f0-x1-0" in wrong.stderr
        leave_fingerprint(folder, CanarySet.draw(format, seed=3))
        said = RUNNER.invoke(app, ["rank", str(folder), *set_file, "--canary", "f0-x1-0"]).stderr
        assert "trained with other canaries" in said
    finally:
        record.file.unlink()
        (folder / FINGERPRINT_FILE).unlink(missing_ok=True)


def test_help_has_paragraphs_and_says_how_a_backslash_is_written():
    """Lines are as wide as the terminal, and none breaks where the docstring's does."""
    shown = RUNNER.invoke(app, ["rank", "--help"], env={"COLUMNS": "150", "TERMINAL_WIDTH": "150"}).output
    assert "Nothing is counted that is less likely than the fill" in shown
    assert r"\\ a backslash" in " ".join(shown.split())


# ---------------------------------------------------------------------------------------------- any size


HUGE = CanaryFormat("the pin is {digit:700}")


@pytest.fixture
def few_digits():
    """Python writes no whole number of more than 640 digits, as it does by itself from 4301 on."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    yield
    sys.set_int_max_str_digits(before)


@pytest.mark.usefixtures("few_digits")
def test_a_space_of_any_size_is_said(folder, monkeypatch):
    """Nothing is lost after the work for a number that Python does not write; in JSON it can be read."""
    size, text = HUGE.space_size, HUGE.render(HUGE.space_size - 1)
    found = Extraction(
        (Candidate(text, size - 1, 9.0, 5.0, rank=size),), False, 2, 9.0, "max_expanded", space_size=size
    )
    ranks = [Rank(None, 1, size, 0, 2, 1e400, "max_expanded"), Rank(size, size, size, 0, 2, is_possible=False)]
    monkeypatch.setattr(likeliest, "extract", lambda *_, **__: found)
    monkeypatch.setattr(exact_ranks, "exact_rank", lambda *_, **__: ranks)
    asked = [str(folder), "--format", HUGE.template]
    for options in (["extract", *asked], ["rank", *asked, "--text", text, "--fill", hex(size - 1)]):
        said, written = RUNNER.invoke(app, options), RUNNER.invoke(app, [*options, "--json"])
        assert (said.exit_code, written.exit_code) == (3, 3)
        assert "the format has 10^700.0 candidates" in said.stdout
        document = json.loads(written.stdout)
        assert int(document["space_size"], 16) == size
        rows = document.get("ranks", []) + document.get("candidates", [])
        assert {int(row["fill"], 16) for row in rows} == {size - 1}
        assert {row["text"] for row in rows} == {text}
    assert "rank 1 to 10^700.0, not counted to the end; about more than 10^307 prefixes are needed" in said.stdout
    assert "rank 10^700.0, since its probability is 0; exposure 0.00 bits" in said.stdout
    assert [row["rank"] if row["rank"] is None else int(row["rank"], 16) for row in rows] == [None, size]


@pytest.mark.usefixtures("few_digits")
def test_a_count_of_any_size_is_kept(lstm, tokenizer, monkeypatch):
    """What a checkpoint belongs to names the fills, however large; each has a name of its own."""
    asked = []

    class Setup:
        def __init__(self, *_):
            self.tree, self.is_impossible = SimpleNamespace(assure=lambda *_: None), True

        def checkpoint(self, path, of):
            asked.append(of)

        def entered(self):
            return nullcontext((None, None))

    monkeypatch.setattr(exact_ranks, "SearchSetup", Setup)
    for fill in (10**699, 10**699 + 1):
        (rank,) = exact_rank(lstm, tokenizer, HUGE, [fill])
        assert rank.rank == HUGE.space_size
    assert len({*asked}) == 2


@pytest.mark.usefixtures("few_digits")
def test_results_of_any_size_have_a_repr():
    """What Python shows of a search, a rank or an estimate; the chance that a threshold is passed can be told, too."""
    huge = 10**700
    assert repr(Rank(None, 1, huge, 0, 3)).startswith("Rank(rank=None, low=1, high=about 2^2325, ties=0")
    assert repr(Candidate("it", huge, 1.5)).startswith("Candidate(text='it', fill=about 2^2325, log_perplexity=1.5")
    assert "space_size=about 2^2325" in repr(Extraction((Candidate("it", 7, 1.5),), True, 1, 2.0, space_size=huge))
    assert "details={'rank': about 2^2325, 'ties': 0}" in repr(of_rank(huge, huge))
    assert repr(Candidate("it", 7, 1.5)) == (
        "Candidate(text='it', fill=7, log_perplexity=1.5, queries=nan, rank=None, canary='', exposure=nan)"
    )
    canaries = CanarySet.draw(HUGE, repetitions=(1,), per_repetition=1, seed=0)
    assert Threshold(10.0, "warn").by_chance(canaries, 3) == pytest.approx(3 * 2**-10)
    assert Threshold(1200.5, "warn").by_chance(canaries) == 0.0
    with pytest.raises(FormatError, match=r"10\^700.0"):
        CanarySet.draw(HUGE, per_repetition=huge)


# ---------------------------------------------------------------------------------------------- Ctrl-C


def test_ctrl_c_while_the_shell_is_imported_is_no_error(monkeypatch, capsys):
    """No traceback, and the exit code of an interrupt."""

    class Interrupted:
        def find_spec(self, name, *_):
            if name == "hf_canary.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "hf_canary.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises((SystemExit, KeyboardInterrupt)) as caught:  # one that is let through would end the tests
        shell()
    assert caught.type is SystemExit
    assert caught.value.code == 130
    assert caught.value.__suppress_context__
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "options",
    [
        ["extract", "nowhere", "--format", "the pin is {digt:4}"],
        ["extract", "nowhere", "--format", "the pin is {digit:4}", "--context", "the {digit}"],
        ["rank", "nowhere", "--format", "the pin is {digit:4}", "--text", "the pin is 12"],
        ["measure", "nowhere", "--canaries", "nowhere.json"],
        ["extract", "./nowhere", "--format", "the pin is {digit:4}"],
    ],
    ids=["format", "context", "text", "canaries", "model"],
)
def test_what_is_mistyped_is_told_before_torch_is_imported(options):
    """Which takes seconds; what of Python is in the error stays Python's."""
    program = (
        "import sys\nfrom hf_canary.cli import app\n"
        f"try: app({options!r})\nexcept SystemExit as end: print(end.code, {{'torch', 'datasets'}} & {{*sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "1 set()\n"
    assert done.stderr.startswith(("error --", "error nowhere.json", "error MODEL"))
    assert ("CanaryFormat(..., source=...)" in done.stderr) == ("--context" in options)

"""Every command of the shell × every option × odd texts and odd files, some or all of them (`LAWS`): each is done, or
refused in one line.

The model is loaded once; that foreign folders are refused is tested where they are loaded.
"""

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import pytest
import typer

from hf_canary import CanaryFormat, CanarySet, cli
from tests.support.errors import outcome
from tests.support.repetitions import LAWS

FORMAT = CanaryFormat("the pin is {digit:2}")
CANARIES = CanarySet.draw(FORMAT, repetitions=(1, 2), per_repetition=1, seed=0)
PATHS = {"model", "canaries", "spaces", "context_file", "record", "checkpoint", "save"}
LONG = ["a" * 300, "a/" * 3_000, "9" * 5_000]  # which no file can be called
TEXTS = [
    "", " ", "\n", "0", "1", "-1", "2", "1.5", "-0.5", "1e308", "nan", "inf", "-inf", "9" * 30, "0x10",
    "1_0", "٣", "²", "True", "no", "none", "null", "auto", "exact", "float16", "x", "--json", "{digit:2}", "{", "}",
    "{digit:0}", "{nothing:3}", "{digit:999999999}", "the pin is 12", "\udcff", "\x1b[31mred", "\u202egnp.exe", "\\",
    "\\x", "[]", "1GB", "-1GB", "1XB", "nanGB", "~", ".", "/", "/dev/null", "nowhere/at/all", "gpt2\\n", *LONG,
]  # fmt: skip
FILES = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "number": b"9" * 5000,
    "NaN": b"NaN",
    "words": b'{"word": []}',
    "deep": b"[" * 5_000,
    "deep objects": b'{"a":' * 5_000,
    "bytes": bytes(range(256)),
    "utf-16": "{}".encode("utf-16"),
    "surrogate": b'{"digit": ["\\ud800"]}',
    "line": b'{"role": "exposure"}\n{',
}


@pytest.fixture
def commands(tmp_path, monkeypatch, lstm, tokenizer):
    """Each with arguments with which it does what it is for, quickly; a folder of odd files is the current one."""
    monkeypatch.setattr(cli, "_load", lambda name, dtype, trust_remote_code: (lstm, tokenizer))
    monkeypatch.chdir(tmp_path)
    CANARIES.save(tmp_path / "canaries.json")
    (tmp_path / "spaces.json").write_text(json.dumps({"word": ["red", "green"]}))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    searched = ["folder", "--format", FORMAT.template, "--max-expanded", "3", "--canaries", "canaries.json"]
    return {
        "extract": searched,
        "rank": [*searched, "--fill", "1"],
        "measure": ["folder", "--canaries", "canaries.json", "--num-references", "20", "--num-draws", "5"],
    }


SHELL = typer.main.get_command(cli.app)  # which typer makes anew for each call


NAMES = {each.name for command in SHELL.commands.values() for each in command.params}


def calls(command, usual):
    """Each of its arguments with a quarter of the odd values, other ones for each, and with LAWS=4 with all of them;
    what is the name of a file with the names that none can have, and files that are torn, in any case.
    """
    parameters = [each for each in SHELL.commands[command].params if each.name != "help"]
    apart = max(1, 4 // LAWS)
    for number, parameter in enumerate(parameters):
        odd = [*TEXTS, *FILES][number % apart :: apart]
        if parameter.name in PATHS:
            odd = list(dict.fromkeys([*LONG, "null", "deep", *odd]))
        if parameter.param_type_name == "argument":
            yield from ([each, *usual[1:]] for each in odd)
            continue
        option = parameter.opts[0]
        yield [*usual, option]
        yield from ([*usual, f"{option}=no"],) if parameter.is_flag else ([*usual, option, each] for each in odd)


@pytest.mark.parametrize("command", ["extract", "rank", "measure"])
def test_every_odd_option_is_done_or_refused(command, commands):
    """Ends with 0 to 3, what is refused with an error for a person, and no traceback."""
    usual = commands[command]
    assert not refusal([command, *usual], (0, 3))
    wrong = [refusal([command, *call], (0, 1, 2, 3)) for call in calls(command, usual)]
    assert not any(wrong), "\n".join([f"{sum(map(bool, wrong))} of {len(wrong)}", *filter(None, wrong)])


def refusal(call, codes):
    """What is wrong with how a call ends; nothing if nothing is."""
    said, told = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with redirect_stdout(said), redirect_stderr(told):
        ended = outcome(lambda: SHELL.main(call, prog_name="hf-canary"))
    told.flush()
    words = told.buffer.getvalue().decode()
    if not isinstance(ended, SystemExit) or ended.code not in codes:
        return f"{call}: {ended!r}"[:400]
    is_refused = ended.code in (1, 2)
    if ended.code == 1 and any(words.startswith(f"error {name}:") for name in NAMES):
        return f"{call}: named as a function has it: {words}"[:400]
    return f"{call}: {ended.code} {words!r}"[:400] if is_refused != ("rror" in words) else None


def test_no_command_is_left_out(commands):
    """But the demonstration, whose one option is a folder."""
    assert set(SHELL.commands) - set(commands) == {"demo"}

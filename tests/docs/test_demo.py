"""The demonstration at reduced size, as a newcomer runs it: the command, what it prints, what it leaves."""

import io
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import matplotlib.image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

import hf_canary.models as models
from hf_canary import CanarySet, log_perplexity
from hf_canary.demo import TEMPLATE, Settings, run, windows
from hf_canary.errors import DataError
from hf_canary.training.record import NOTES
from tests.support.fresh import COMMAND, run_command, run_python


def code_blocks(printed: str) -> list[str]:
    """The indented blocks of what was printed, without their indent."""
    blocks, block = [], []
    for line in [*printed.splitlines(), "end"]:
        if line.startswith("    ") or (not line and block):
            block.append(line[4:])
        elif block:
            blocks.append("\n".join(block).strip("\n") + "\n")
            block = []
    return blocks


def test_blocks_are_found_as_they_were_printed():
    """The helper keeps inner indents and empty lines, and parts blocks by what stands between."""
    assert code_blocks("x\n\n    a:\n        b\n\n    c\n\ny\n\n    d") == ["a:\n    b\n\nc\n", "d\n"]


def test_it_leaves_what_it_promises(demo):
    """Canaries, a checkpoint for the Auto classes, the record, three pictures; no half file."""
    folder = demo[0] / "left here"
    assert {path.name for path in folder.iterdir()} == {
        ".hf-canary-demo",
        "canaries.json",
        "checkpoint",
        "_exposure.jsonl",
        "hf_canary.json",
        "exposure-over-training.png",
        "exposure-against-repetitions.png",
        "reference-histogram.png",
    }
    for picture in folder.glob("*.png"):
        height, width, _ = matplotlib.image.imread(picture).shape
        assert min(height, width) > 400
    lines = map(json.loads, (folder / "_exposure.jsonl").read_text().splitlines())
    records = [line for line in lines if line["role"] not in (*NOTES, "measurement")]
    assert len({record["step"] for record in records}) == 10
    AutoTokenizer.from_pretrained(folder / "checkpoint")
    assert 550_000 < AutoModelForCausalLM.from_pretrained(folder / "checkpoint").num_parameters() < 700_000


def test_the_most_repeated_canary_is_extracted_with_a_proof(demo):
    """What it printed names a canary inserted 64 times, proven, after few of a billion candidates."""
    printed = demo[1].stdout
    canaries = CanarySet.load(demo[0] / "left here" / "canaries.json")
    found = re.search(r"found +(.*)", printed)[1]
    assert found in [canary.text for canary in canaries if canary.repetitions == 64]
    assert "inserted 64 times" in re.search(r"which is +(.*)", printed)[1]
    assert "proven: no other candidate is likelier" in printed
    assert int(re.search(r"expanded +([\d,]+)", printed)[1].replace(",", "")) < 10_000
    assert "of |R| = 1,000,000,000" in printed
    folder = demo[0] / "left here" / "checkpoint"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    printed_bits = float(re.search(r"log-perpl\. +([\d.]+) bits", printed)[1])
    assert log_perplexity(model, tokenizer, [found])[0] == pytest.approx(printed_bits, abs=0.006)


def test_it_says_that_once_may_be_too_few(demo):
    """Honest words, whatever came out."""
    assert "A canary inserted once may well not be memorised" in demo[1].stdout


def test_piped_it_prints_plain_lines(demo):
    """One line for each epoch, no escape codes, no bars, nothing on stderr."""
    printed, errors = demo[1].stdout, demo[1].stderr
    assert "\x1b" not in printed
    assert "\r" not in printed
    assert errors == ""
    rows = re.findall(r"^ +(\d+) +(\d+\.\d{3}) ", printed, flags=re.MULTILINE)
    assert [int(epoch) for epoch, _ in rows] == list(range(1, 11))
    assert float(rows[-1][1]) < float(rows[0][1])
    table = [line for line in printed.splitlines() if re.match(r" +\d+ +\d+\.\d{3} ", line)]
    assert all(len(line) < 80 and len(line.split()) == 11 for line in table)


def test_on_a_terminal_it_shows_its_progress(tmp_path, corpus, monkeypatch):
    """Bars for the training and each measurement, a line for the search, and the same table between them."""
    monkeypatch.setattr("hf_canary.demo._SEARCH_SECONDS", 2.0)  # what is hardly memorised is not found soon
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    run(Settings(tmp_path / "out", corpus=str(corpus), epochs=1, num_references=200), console)
    for words in ("Training", "Measuring", "Searching", "epoch    loss"):
        assert words in shown.getvalue()
    assert not datasets.are_progress_bars_disabled()  # what was switched off for the while is on again


def test_what_it_printed_runs_in_a_fresh_interpreter(demo, tmp_path):
    """The lines for a training script (given a dataset and a trainer), those for the checkpoint, and the command."""
    training, checkpoint, command = code_blocks(demo[1].stdout)[-3:]
    given = f"""
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
import hf_canary.models
train_rows = Dataset.from_dict({{"text": [str(n) for n in range(30)]}})
folder = {str(demo[0] / "left here" / "checkpoint")!r}
tokenizer = AutoTokenizer.from_pretrained(folder)
some = [{{"input_ids": tokenizer("a b").input_ids, "labels": tokenizer("a b").input_ids}}] * 2
arguments = TrainingArguments({str(tmp_path)!r}, max_steps=1, eval_strategy="steps", eval_steps=1, use_cpu=True,
                              per_device_train_batch_size=1)
trainer = Trainer(AutoModelForCausalLM.from_pretrained(folder), arguments, train_dataset=some, eval_dataset=some,
                  processing_class=tokenizer)
"""
    after = """
def ids(row):
    return {"input_ids": tokenizer(row["text"]).input_ids, "labels": tokenizer(row["text"]).input_ids}
trainer.train_dataset = train_rows.map(ids, remove_columns=["text"])
"""
    after += "\ntrainer.train()\nprint(len(train_rows), trainer.state.log_history[0]['eval_exposure_mean'])\n"
    first = run_python(given + training + after, cwd=tmp_path).stdout
    assert (tmp_path / "canaries.json").exists()
    assert re.search(r"^114 \d", first, flags=re.MULTILINE)  # 30 rows, and 4 canaries each of 1, 4 and 16 copies

    second = run_python(checkpoint, cwd=demo[0]).stdout
    assert "f0-x64-0" in second
    assert "Twins, never inserted" in second
    assert "certified=True" in second

    program, *arguments = shlex.split(command)
    assert program == "hf-canary"
    third = run_command(*arguments, cwd=demo[0]).stdout
    assert re.search(r"found +(.*)", demo[1].stdout)[1] in third
    assert "proven" in third


def test_an_interrupt_leaves_whole_files(tmp_path, corpus):
    """Ctrl-C during the training: one line, exit code 130, and what lies there can be read."""
    arguments = ["demo", "--corpus", str(corpus), "--epochs", "500", "--num-references", "100"]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a shell, the signal is ignored, and would be by the child.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    record = tmp_path / "hf-canary-demo" / "_exposure.jsonl"
    for _ in range(600):
        if record.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    assert len(CanarySet.load(record.with_name("canaries.json"))) == 12
    assert all(json.loads(line) for line in record.read_text().splitlines())
    assert {path.name for path in record.parent.iterdir()} == {".hf-canary-demo", "canaries.json", "_exposure.jsonl"}


@pytest.mark.parametrize(("content", "message"), [("one paragraph", "at least 20 paragraphs"), (None, "that is there")])
def test_a_corpus_that_will_not_do(tmp_path, content, message):
    """Too little text, or none: a typed error in one line, before anything is trained."""
    file = tmp_path / "own.txt"
    if content is not None:
        file.write_text(content)
    result = run_command("demo", "--corpus", str(file), cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_slip_in_the_corpus_costs_no_earlier_run(tmp_path):
    """What a demonstration left stays until there is a text for the next one."""
    for name in (".hf-canary-demo", "canaries.json"):
        (tmp_path / name).write_text("left")
    with pytest.raises(DataError, match="--corpus"):
        run(Settings(tmp_path, corpus=str(tmp_path / "slip.txt")), Console(file=io.StringIO()))
    assert (tmp_path / "canaries.json").read_text() == "left"


def test_a_folder_of_somebody_elses_is_not_touched(tmp_path):
    """Files that no demonstration left stay as they are."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "canaries.json").write_text("those of a training of days")
    result = run_command("demo", "--out", "mine", cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert "--out" in result.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["canaries.json"]


def test_a_dataset_by_name(tmp_path, monkeypatch):
    """`--corpus` takes what load_dataset takes: here a folder of the shape of one on the Hub."""
    from hf_canary.demo import _rows

    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"text": f"paragraph {n}"}) + "\n" for n in range(40)))
    assert list(_rows(str(tmp_path))["text"]) == [f"paragraph {n}" for n in range(40)]


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), max_size=20), st.integers(1, 8))
def test_windows_keep_everything_in_order_and_short_rows_whole(sequences, length):
    """Without the padding it is the input, and no row that fits into a window is cut."""
    packed = windows(sequences, length, pad=0)
    assert all(len(window) == length for window in packed)
    assert [token for window in packed for token in window if token] == [t for s in sequences for t in s]
    marked = windows([[number] * len(s) for number, s in enumerate(sequences, start=1)], length, pad=0)
    for number, sequence in enumerate(sequences, start=1):
        if len(sequence) <= length:
            assert sum(number in window for window in marked) == 1


def test_every_canary_is_in_the_windows_as_often_as_asked(demo, corpus):
    """What the model is trained on holds each canary whole, `repetitions` times, counted in the windows' text."""
    from hf_canary.demo import _rows

    canaries = CanarySet.load(demo[0] / "left here" / "canaries.json")
    rows = canaries.inject(_rows(str(corpus)))
    tokenizer = models.character_tokenizer(list(rows["text"]))
    packed = windows(tokenizer(list(rows["text"])).input_ids, 100, tokenizer.pad_token_id)
    texts = tokenizer.batch_decode(packed)
    for canary in canaries:
        assert sum(text.count(canary.text) for text in texts) == canary.repetitions
    assert canaries[0].format.template == TEMPLATE


def test_the_folder_is_the_default_one_in_the_readme(tmp_path):
    """The README's code reads `hf-canary-demo`, which is where the command without options writes."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    help_text = run_python(COMMAND, "demo", "--help", cwd=tmp_path, environment={"COLUMNS": "200"}).stdout
    assert "hf-canary-demo" in help_text
    assert "hf-canary-demo/checkpoint" in readme

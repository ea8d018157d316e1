"""Searches and writers that are killed at any moment: what they leave is right, and going on ends as one go would."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from hf_canary import CanaryFormat, CanarySet, exact_rank, extract
from hf_canary.runtime.atomic_files import replacing
from hf_canary.training.record import Record
from hf_canary.walks.search import checkpoint as checkpoints
from tests.support import oracles
from tests.support.repetitions import times
from tests.support.tokenizers_of_all_kinds import KINDS

KILLS = times(3)  # of a search, and as many of a count


def test_the_record_of_a_writer_that_is_killed(tmp_path):
    """Whatever the moment: all whole lines are there, in order, and only the last may be torn; it is set aside."""
    generator = random.Random(0)
    for _ in range(times(12)):
        record = Record(tmp_path)
        record.file.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            for step in itertools.count(1):
                when = {"training": "one", "step": step, "canaries": "few"}
                record.append(when, [{"role": "left out", "canary": n, "pad": "x" * 5_000} for n in range(30)])
        while not record.file.exists():
            time.sleep(0.001)
        time.sleep(generator.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        *whole, last = record.file.read_text().split("\n")
        found = [(line["step"], line["canary"]) for line in map(json.loads, whole)]
        assert found == [(1 + n // 30, n % 30) for n in range(len(found))]
        assert found
        assert len(record.lines()) in (len(found), len(found) + (last != ""))
        step = found[-1][0] - 1
        as_it_was = record.file.read_text().rstrip("\n").split("\n")
        aside = record.set_aside(lambda line, last=step: line["step"] <= last)
        assert [line["step"] for line in record.lines()] == [n for n in range(1, step + 1) for _ in range(30)]
        assert aside.read_text().rstrip("\n").split("\n") == as_it_was


def test_what_a_writer_leaves_that_is_killed_goes_with_the_next_write(tmp_path):
    """Killed in the middle of a save: the old set is whole, its texts beside it are gone once it is saved again; a
    writer that is only slow keeps what it has, and ends well.
    """
    target = tmp_path / "canaries.json"
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:4}"), seed=0)
    canaries.save(target)
    writers = [in_the_middle_of_a_save(target) for _ in range(2)]
    (killed, _), (slow, go_on) = writers
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    assert len(list(tmp_path.iterdir())) == 3
    assert CanarySet.load(target) == canaries
    canaries.save(target)
    assert len(list(tmp_path.iterdir())) == 2
    os.write(go_on, b".")
    assert os.waitpid(slow, 0)[1] == 0
    assert target.read_text() == "half and half"
    assert list(tmp_path.iterdir()) == [target]
    for _, descriptor in writers:
        os.close(descriptor)


def in_the_middle_of_a_save(target: Path) -> tuple[int, int]:
    """A process that has written half of a file, and what it must be sent to write the other."""
    (ready, tell), (wait, go_on) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        with replacing(target, private=True) as beside:
            beside.write_text("half")
            os.write(tell, b".")
            os.read(wait, 1)
            beside.write_text("half and half")
        os._exit(0)
    os.read(ready, 1)
    for descriptor in (ready, tell, wait):
        os.close(descriptor)
    return child, go_on


def test_searches_that_are_killed_over_and_over_end_with_one_answer(tmp_path):
    """SIGKILL at any moment, again and again, also while the file is written: the answer and the work of one go."""
    program = [sys.executable, "-m", "tests.processes.test_kills", str(tmp_path), str(KILLS)]
    subprocess.run(program, cwd=Path(__file__).parents[2], check=True, timeout=60 + 10 * KILLS)
    for name in ("search", "count"):
        ended, killed, whole = json.loads((tmp_path / name).read_text(encoding="utf-8"))
        assert ended == [whole] * len(ended)
        assert len(ended) >= 1
        assert killed >= KILLS


def killed_over_and_over(folder: Path, kills: int) -> None:
    """In a process of its own, which has one thread: forks children that search or count, and kills them."""
    torch.set_num_threads(1)
    checkpoints._SECONDS, checkpoints._SHARE = 0.0, 1e9
    tokenizer, generator = KINDS["characters"](), random.Random(kills)
    model, format = oracles.small_model("lstm", len(tokenizer)), CanaryFormat("the pin is {digit:4}")

    def search(file):
        return repr(extract(model, tokenizer, format, top_k=30, batch_size=8, checkpoint=file))

    def count(file):
        return repr(exact_rank(model, tokenizer, format, [17, 4242], batch_size=8, checkpoint=file))

    for work in (search, count):
        began = time.monotonic()
        whole, ended, killed, gone_on = work(folder / "one go"), [], 0, 0
        seconds = time.monotonic() - began
        (folder / "one go").unlink()
        while not ended or killed < kills or (folder / "kept").exists():
            child = os.fork()
            if not child:
                (folder / "said").write_text(work(folder / "kept"), encoding="utf-8")
                os._exit(0)
            if killed < kills:
                time.sleep(generator.uniform(0.0, seconds))
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            if os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) == 0
                ended.append((folder / "said").read_text(encoding="utf-8"))
                (folder / "kept").unlink()
            else:
                killed += 1
                gone_on += (folder / "kept").exists()
        print(f"{work.__name__}: {killed} kills, {gone_on} of them with a file; ended {len(ended)} times")
        assert {path.name for path in folder.iterdir()} <= {"said", "search", "count"}
        (folder / work.__name__).write_text(json.dumps([ended, killed, whole]), encoding="utf-8")


if __name__ == "__main__":
    killed_over_and_over(Path(sys.argv[1]), int(sys.argv[2]))

"""What is the same in every interpreter, what one that starts brings in, and what one that ends leaves."""

import json
import os
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

import hf_canary.models as models
from tests.support import oracles
from tests.support.fresh import run_python

DRAW = """
from hf_canary import CanaryFormat, CanarySet
spaces = {"name": ["Ada", "Zo\\u00eb", "Al"], "town": ["T%d" % n for n in range(50)], "unused": ["a", "b"]}
formats = [CanaryFormat("the PIN is {digit:4}"), CanaryFormat("{name} of {town}", spaces=spaces)]
print(CanarySet.draw(formats, repetitions=(1, 2), per_repetition=3, seed=11).digest)
"""


def test_the_digest_is_the_same_in_every_process():
    """Python's hash seed, which orders sets anew in every process, moves neither the draw nor the digest."""
    digests = []
    for hash_seed in ("0", "1", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run([sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True, check=True)
        digests.append(ran.stdout.strip())
    assert len(set(digests)) == 1
    assert len(digests[0]) == 64
    assert int(digests[0], 16) > 0


INJECT = """
from datasets.fingerprint import Hasher
from hf_canary import CanaryFormat, CanarySet, InjectCanaries
canaries = CanarySet.draw(CanaryFormat("the canary's PIN is {digit:4}"), seed=5)
for seed in (None, 3):
    for placement in ("rows", "splice"):
        transform = InjectCanaries(canaries, num_rows=50, seed=seed, placement=placement)
        positions = transform.positions
        print(Hasher.hash(transform), positions.rows.tolist(), positions.which.tolist(), positions.spots.tolist())
"""


def test_the_places_are_the_same_in_every_process():
    """Python's hash seed moves no copy, whether the places come from a seed or from the digest; nor does it change the
    fingerprint, by which a cache is found.
    """
    command = [sys.executable, "-c", INJECT]
    processes = [
        subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, stdout=subprocess.PIPE, text=True)
        for hash_seed in ("1", "2")
    ]
    first, second = (process.communicate()[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert len(first) > 1000
    assert first == second


def test_importing_the_package_and_drawing_bring_in_no_torch():
    """The list is lazy: formats and canaries cost neither torch nor transformers nor datasets."""
    program = (
        "import sys, hf_canary\n"
        "hf_canary.CanarySet.draw(hf_canary.CanaryFormat('{digit:9}'))\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'scipy') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_a_process_that_dies_while_writing_leaves_the_old_file(tmp_path):
    """A process that ends without a word in the middle of the block has not touched the target."""
    target = tmp_path / "kept.txt"
    target.write_text("old")
    script = (
        "import os, sys\nfrom hf_canary.runtime.atomic_files import replacing\n"
        "with replacing(sys.argv[1]) as beside:\n    beside.write_text('half')\n    os._exit(7)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(target)], env=dict(os.environ), check=False)
    assert died.returncode == 7
    assert target.read_text() == "old"


def test_it_loads_in_a_fresh_interpreter(tmp_path):
    """Someone who has never heard of this package imports `hf_canary.models`, and no more."""
    oracles.small_model("wavenet", 20).save_pretrained(tmp_path)
    program = (
        "import hf_canary.models\n"
        "from transformers import AutoModelForCausalLM\n"
        f"print(type(AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})).__name__)"
    )
    output = run_python(program, cwd=tmp_path).stdout
    assert output.strip() == "WaveNetForCausalLM"


@pytest.mark.parametrize("make", [models.character_tokenizer, models.word_tokenizer])
def test_it_is_the_same_after_loading(make, tmp_path, caplog):
    """In a fresh interpreter with hf_canary barred, as transformers' own class; with it, one that tells."""
    tokenizer = make(["the pin <|endoftext|> the pin"])
    tokenizer.save_pretrained(tmp_path)
    program = (
        "import sys, json; sys.modules['hf_canary'] = None\n"
        "from transformers import AutoTokenizer\n"
        f"print(json.dumps(AutoTokenizer.from_pretrained({str(tmp_path)!r})('the <|endoftext|>p').input_ids))"
    )
    output = run_python(program, cwd=tmp_path).stdout
    assert json.loads(output) == tokenizer("the <|endoftext|>p").input_ids
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.bos_token == tokenizer.bos_token
    assert isinstance(loaded, models.LosslessTokenizer)
    loaded("z")
    assert "U+007A" in caplog.text

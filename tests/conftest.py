"""Before anything of Hugging Face is imported: caches in a folder of this run, and no way to the network.

One thread for torch: the models of the tests are small, and threads that wait for one another on a busy machine cost
more than they bring.
"""

import atexit
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
from collections import OrderedDict

_home = tempfile.mkdtemp(prefix="hf-canary-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ.update(HF_HOME=_home, HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
os.environ["OMP_NUM_THREADS"] = "1"

from pydoc_data.topics import topics

import hypothesis
import pytest
import torch
from filelock import FileLock

import hf_canary.models as models
from hf_canary import Canary, CanaryFormat, CanarySet, canaries, extract
from hf_canary.extraction import search_setup
from hf_canary.measurement import effort, encoded_format
from hf_canary.tokenization import rules
from hf_canary.tree.token_tree import TokenTree

pytest.register_assert_rewrite("tests.support")

from tests.support import oracles
from tests.support.fresh import run_command
from tests.support.repetitions import times
from tests.support.tokenizers_of_all_kinds import KINDS

hypothesis.settings.register_profile("laws", max_examples=times(100))
hypothesis.settings.load_profile("laws")

_LONG = (
    "training/test_callback_measurements",
    "laws/test_search_brute_force",
    "training/test_training_unchanged",
    "laws/test_skew_normal",
    "docs/test_demo",
)


def pytest_collection_modifyitems(items):
    """Files that take long come first, so that no worker is left with one while the others have nothing to do."""
    items.sort(key=lambda item: "/".join(item.path.with_suffix("").parts[-2:]) not in _LONG)


def pytest_collection_finish():
    """What stands until the end is looked through no more by a collection of garbage; and accelerate, which asks for
    one at each training, gets none, since it empties the caches of accelerators that are not there.
    """
    gc.collect()
    gc.freeze()
    if "accelerate.utils.memory" in sys.modules:
        sys.modules["accelerate.utils.memory"].gc = types.SimpleNamespace(collect=lambda: 0)


@pytest.fixture(scope="session", autouse=True)
def _seeds_are_known():
    """The log says once in a process that small seeds can be guessed; tests count on what else is logged."""
    canaries._warn_of_the_seed()


@pytest.fixture(scope="session", autouse=True)
def _trees_are_made_once():
    """Many tests ask for one format with one tokenizer, whose 10,000 fills are encoded once for each context."""
    kept = OrderedDict()

    def tree(format, tokenizer, **options):
        asked = (format, id(tokenizer), rules._mark(tokenizer), *options.items())
        if asked not in kept:
            kept[asked] = tokenizer, TokenTree(format, tokenizer, **options)  # it keeps its id while it is kept
            if len(kept) > 20:
                kept.popitem(last=False)
        return kept[asked][1]

    with pytest.MonkeyPatch.context() as patch:
        for room in (encoded_format, search_setup):
            patch.setattr(room, "TokenTree", tree)
        yield


@pytest.fixture(scope="session", autouse=True)
def _fingerprints_are_made_once():
    """They are slow on purpose, and many tests draw the same sets."""
    made, known = CanarySet.__dict__["fingerprint"], {}
    make = made.func

    def fingerprint(canary_set):
        asked = canary_set.digest, canary_set.seed
        if asked not in known:
            known[asked] = make(canary_set)
        return known[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "func", fingerprint)
        yield


@pytest.fixture(scope="session", autouse=True)
def _rates_are_believed_soon():
    """A training of a test takes less time than it takes to tell well how long a token row takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effort, "_LONG_ENOUGH", 0.005)
        yield


@pytest.fixture(scope="session")
def tokenizer():
    """One token for each character of everything that the tests write."""
    return models.character_tokenizer(["the pin is 0123456789-/. abcdefghijklmnopqrstuvwxyz", "The PIN ABCDEF"])


@pytest.fixture(
    scope="session", params=["lstm", "gru", "cnn", "wavenet", "awd-lstm", "gpt2", "llama", "jamba", "table"]
)
def model(request, tokenizer):
    """Small models of every kind of state: recurrent, key-value cache with and without rotary positions,
    a hybrid whose cache forgets between chunks, none.
    """
    return oracles.small_model(request.param, len(tokenizer))


@pytest.fixture(scope="session")
def lstm(tokenizer):
    return oracles.small_model("lstm", len(tokenizer))


@pytest.fixture
def pin():
    return CanaryFormat("the pin is {digit:3}")


@pytest.fixture(autouse=True)
def _random_state_is_left_alone(request):
    """No test of a walk or a measurement may move torch's random state."""
    before = torch.random.get_rng_state()
    yield
    if request.node.get_closest_marker("keeps_random_state"):
        assert torch.equal(before, torch.random.get_rng_state())


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A part of the text that the demonstration takes when it is given none."""
    paragraphs = [paragraph for topic in topics.values() for paragraph in topic.split("\n\n") if paragraph.strip()]
    file = tmp_path_factory.mktemp("corpus") / "part.txt"
    file.write_text("\n\n".join(paragraphs[:100]), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def demo(tmp_path_factory, corpus):
    """(folder that it ran in, what it printed): the whole path, on less text and with fewer references."""
    options = ["--corpus", str(corpus), "--epochs", "10", "--num-references", "300", "--out", "left here"]
    # One for all workers of the tests, whose folders lie side by side.
    here = tmp_path_factory.getbasetemp()
    folder = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "demo"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            result = run_command("demo", *options, cwd=folder)
            (folder / "printed.json").write_text(json.dumps([result.stdout, result.stderr]), encoding="utf-8")
    stdout, stderr = json.loads((folder / "printed.json").read_text(encoding="utf-8"))
    return folder, subprocess.CompletedProcess(options, 0, stdout, stderr)


@pytest.fixture
def num_encoded(monkeypatch):
    """How many texts trees have had encoded, so far."""
    from hf_canary.tree import building, token_tree

    counts = [0]
    ask = token_tree.encode

    def counted(tokenizer, texts, **options):
        counts[0] += len(texts)
        return ask(tokenizer, texts, **options)

    monkeypatch.setattr(token_tree, "encode", counted)
    monkeypatch.setattr(building, "encode", counted)
    return lambda: counts[0]


@pytest.fixture(scope="module", params=["gpt2", "unigram", "wordpiece", "characters", "byte-fallback"])
def pair(request):
    """A tokenizer, and a model of each kind of state behind it, in evaluation: `generate` leaves dropout on."""
    tokenizer = KINDS[request.param]()
    return tokenizer, {kind: oracles.small_model(kind, len(tokenizer)).eval() for kind in ("lstm", "gpt2")}


@pytest.fixture
def sure(tokenizer):
    """A model that prefers few candidates by far."""
    return oracles.TableModel(len(tokenizer), spread=6.0).eval()


@pytest.fixture
def memorised(sure, tokenizer):
    """Its likeliest candidate of 10^6 as a canary, and one of the others as its twin."""
    format = CanaryFormat("the pin is {digit:6}")
    fill = extract(sure, tokenizer, format).candidates[0].fill
    return CanarySet([Canary("one", format, fill, (fill + 777_777) % 10**6, 1)], seed=0)


@pytest.fixture
def accelerator():
    """Mixed precision on the CPU, with accelerate's global state as new before and afterwards."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    def forget():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    forget()
    yield Accelerator(mixed_precision="bf16", cpu=True)
    forget()

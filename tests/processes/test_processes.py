"""Two processes share the work, and each gets the whole answer."""

import json
from pathlib import Path

import numpy as np
import pytest

from hf_canary import log_perplexity
from hf_canary.errors import ModelError
from hf_canary.inference import language_model
from hf_canary.inference.language_model import LanguageModel
from hf_canary.runtime.processes import Lockstep, is_sharded, num_processes, split_over_processes
from tests.support import oracles
from tests.support.fresh import run_together
from tests.support.together import TEXTS, measured, searched
from tests.support.tokenizers_of_all_kinds import KINDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What each of two processes wrote."""
    out = tmp_path_factory.mktemp("processes") / "found"
    run_together("tests.support.together", out, cwd=ROOT)
    return [json.loads(Path(f"{out}-{rank}").read_text(encoding="utf-8")) for rank in range(2)]


@pytest.mark.parametrize("weights", ["plain", "sharded"])
def test_two_processes_equal_one(together, weights):
    """Also where one has nothing to do, and with weights that are sharded over both, which then must call alike."""
    tokenizer = oracles.models.character_tokenizer(["the pin is 0123456789"])
    model = oracles.small_model("gpt2", len(tokenizer))
    few = "few" if weights == "plain" else "sharded few"
    for each in together:
        assert each["processes"] == 2
        np.testing.assert_allclose(each[weights], log_perplexity(model, tokenizer, TEXTS), rtol=1e-6)
        np.testing.assert_allclose(each[few], log_perplexity(model, tokenizer, TEXTS[:1]), rtol=1e-6)


@pytest.mark.parametrize("weights", ["measured", "sharded measured"])
def test_two_processes_measure_as_one(together, weights):
    """The same references, the same draws, the same counted ranks, however they are shared."""
    tokenizer = oracles.models.character_tokenizer(["the pin is 0123456789"])
    expected = measured(oracles.small_model("gpt2", len(tokenizer)), tokenizer)
    for each in together:
        np.testing.assert_allclose(each[weights], expected, rtol=1e-6)


@pytest.mark.parametrize("weights", ["measured in sub-words", "sharded measured in sub-words"])
def test_prompts_that_differ_between_processes_are_read_alike(together, weights):
    """The texts of a process may have more in common than those of the other, and than all of them."""
    tokenizer = KINDS["gpt2"]()
    expected = measured(oracles.small_model("gpt2", len(tokenizer)), tokenizer)
    for each in together:
        np.testing.assert_allclose(each[weights], expected, rtol=1e-6)


@pytest.mark.parametrize("weights", ["searched", "sharded searched"])
def test_two_processes_search_as_one(together, weights, tmp_path):
    """The same candidates, costs, bounds, ranks and work, in every order, capped, and gone on with from a file."""
    tokenizer = oracles.models.character_tokenizer(["the pin is 0123456789"])
    expected = searched(oracles.small_model("gpt2", len(tokenizer)), tokenizer, tmp_path / "kept")
    for each in together:
        *searches, ranks = each[weights]
        *searches_alone, ranks_alone = expected
        assert ranks == ranks_alone
        for search, alone in zip(searches, searches_alone, strict=True):
            assert search[1:3] == alone[1:3]
            assert search[3] == pytest.approx(alone[3], rel=1e-6)
            assert [fill for fill, _ in search[0]] == [fill for fill, _ in alone[0]]
            np.testing.assert_allclose([b for _, b in search[0]], [b for _, b in alone[0]], rtol=1e-6)
    assert together[0][weights] == together[1][weights]
    assert all(each["same digest"] for each in together)


def test_two_processes_agree_when_time_is_over(together):
    """Each has its own clock; what they do and find is the same."""
    assert together[0]["in time"] == together[1]["in time"]
    assert len(together[0]["in time"]) == 4
    assert {count for *_, count in together[0]["in time"]} < set(range(9_000))


def test_an_error_in_one_process_is_an_error_in_both(together):
    """Nobody waits for an answer that will not come."""
    assert [each["failing"] for each in together] == ["ModelError", "LookupError"]
    for each in together:
        before, first, last = each["trained on"]
        assert before == {}
        assert list(first.values()) == [3, 0, 0, 0]
        assert list(last.values()) == [4, 0, 0, 0]
    assert [each["failing main"] for each in together] == ["Unsendable", "ModelError"]


def test_alone_there_is_nothing_to_share(lstm):
    """One process does everything, in order, and a model that nobody else holds is called as it is."""
    assert num_processes() == 1
    assert split_over_processes(5, lambda numbers: numbers * 2.0, lambda: None).tolist() == [0, 2, 4, 6, 8]
    assert not is_sharded(lstm)
    calls = []
    Lockstep(lstm).drain(lambda: calls.append(1))
    assert not calls


def test_layers_split_over_processes_are_read_alike_in_all(monkeypatch):
    """Where a model is tensor-parallel, no process takes a share: each reads all texts."""
    tokenizer = oracles.models.character_tokenizer(["the pin is 0123456789"])
    model = oracles.small_model("gpt2", len(tokenizer))
    expected = log_perplexity(model, tokenizer, TEXTS)
    monkeypatch.setattr(model, "_tp_size", 2, raising=False)
    monkeypatch.setattr(language_model, "split_over_processes", lambda *_: pytest.fail("the work was shared"))
    np.testing.assert_allclose(log_perplexity(model, tokenizer, TEXTS), expected)


def test_sharded_encoder_decoders_are_refused(monkeypatch):
    """Encoder and decoder are called apart, which the processes cannot do in step."""
    monkeypatch.setattr(Lockstep, "__init__", lambda lockstep, model: setattr(lockstep, "needed", True))
    with pytest.raises(ModelError, match="sharded"):
        LanguageModel(oracles.small_translation("gru", True, 10))

"""A search in a file: gone on from where that is right, refused where it is not, and no hindrance where it fails."""

import logging
import os

import pytest
import torch
from accelerate import cpu_offload

from hf_canary import CanaryFormat, checkpoints, exact_rank, extract, language_model
from hf_canary.checkpoints import digest_of_model
from hf_canary.errors import DataError
from hf_canary.language_model import LanguageModel
from tests import oracles

FORMAT = CanaryFormat("the pin is {digit:4}")


@pytest.fixture
def often(monkeypatch):
    """After every batch."""
    monkeypatch.setattr(checkpoints, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "_SHARE", 1e9)


def test_what_was_kept_in_another_way_is_refused(tokenizer, tmp_path, monkeypatch):
    """Whole paths in packed rows need no states; a search that goes on from states cannot go on from none."""
    model, kept = oracles.small_model("gpt2", len(tokenizer)), tmp_path / "kept"
    extract(model, tokenizer, FORMAT, checkpoint=kept, max_expanded=5)
    monkeypatch.setattr(language_model.Session, "packs", property(lambda session: False))
    with pytest.raises(DataError, match="kept of each prefix"):
        extract(model, tokenizer, FORMAT, checkpoint=kept)


def test_another_search_is_refused_before_any_work(lstm, tokenizer, tmp_path, monkeypatch):
    """Not even the prompt is read."""
    kept = tmp_path / "kept"
    extract(lstm, tokenizer, FORMAT, checkpoint=kept, max_expanded=5)
    monkeypatch.setattr(LanguageModel, "session", lambda *_, **__: pytest.fail("read"))
    for door in (
        lambda: extract(lstm, tokenizer, FORMAT, checkpoint=kept, top_k=2),
        lambda: exact_rank(lstm, tokenizer, FORMAT, [1], checkpoint=kept),
    ):
        with pytest.raises(DataError, match="another request"):
            door()


def test_an_edited_header_is_refused(lstm, tokenizer, tmp_path):
    """Numbers as well as what the file belongs to."""
    kept = tmp_path / "kept"
    extract(lstm, tokenizer, FORMAT, checkpoint=kept, max_expanded=5)
    content = kept.read_bytes()
    for old, new in ((b'\\"expanded\\": \\"5', b'\\"expanded\\": \\"4'), (b'"layout":"a state', b'"layout":"b state')):
        assert old in content
        kept.write_bytes(content.replace(old, new))
        with pytest.raises(DataError, match="changed"):
            extract(lstm, tokenizer, FORMAT, checkpoint=kept)
    kept.write_bytes(content.replace(b'"belongs_to":"{', b'"belongs_to":"['))
    with pytest.raises(DataError, match="torn"):
        extract(lstm, tokenizer, FORMAT, checkpoint=kept)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("after", [2, 5, 9])
def test_where_memory_is_scarce_batches_go_on_as_they_were(lstm, tokenizer, tmp_path, after):
    """Their size depends on what was seen before, which is in the file: the work is that of one go."""
    options, kept, seen = {"max_memory": 120_000, "top_k": 20}, tmp_path / "kept", []
    whole = extract(lstm, tokenizer, FORMAT, progress=seen.append, **options)
    cap = seen[after].expanded
    extract(lstm, tokenizer, FORMAT, checkpoint=kept, max_expanded=cap, **options)
    assert extract(lstm, tokenizer, FORMAT, checkpoint=kept, **options) == whole


@pytest.mark.usefixtures("often")
def test_a_full_disk_costs_the_file_and_not_the_search(lstm, tokenizer, tmp_path, monkeypatch, caplog):
    """It is said, and the answer comes; the file that was there is as it was."""
    whole, kept = extract(lstm, tokenizer, FORMAT), tmp_path / "kept"
    extract(lstm, tokenizer, FORMAT, checkpoint=kept, max_expanded=5)
    before = kept.read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"a part of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with caplog.at_level(logging.ERROR):
        assert extract(lstm, tokenizer, FORMAT, checkpoint=kept) == whole
    assert "No space left" in caplog.text
    assert kept.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_killed_processes_left_is_removed(lstm, tokenizer, tmp_path):
    """The half-written file of another process of this search, and no other file."""
    for name in (".kept.4711.bin", ".kept.notes.bin", ".kept.4711", "kept.4711.bin", ".other.4711.bin"):
        (tmp_path / name).write_text("")
    extract(lstm, tokenizer, FORMAT, checkpoint=tmp_path / "kept.bin")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"kept.bin", ".kept.notes.bin", ".kept.4711", "kept.4711.bin", ".other.4711.bin"}


def test_the_digest_of_a_model(tokenizer):
    """Of its weights, wherever they lie, and nothing else: wrapped, moved to where they are loaded when needed."""
    model = oracles.small_model("gpt2", len(tokenizer))
    digest = digest_of_model(model)
    assert digest_of_model(oracles.small_model("gpt2", len(tokenizer))) == digest
    cpu_offload(model)
    assert next(model.parameters()).device.type == "meta"
    assert digest_of_model(model) == digest
    other = oracles.small_model("gpt2", len(tokenizer))
    with torch.no_grad():
        other.transformer.h[1].mlp.c_fc.bias[3] += 1e-3
    assert digest_of_model(other) != digest


def test_a_model_that_was_compiled_goes_on_from_its_checkpoint(lstm, tokenizer, tmp_path):
    """The same weights under another name."""
    kept = tmp_path / "kept"
    whole = extract(lstm, tokenizer, FORMAT)
    extract(lstm, tokenizer, FORMAT, checkpoint=kept, max_expanded=5)
    assert extract(torch.compile(lstm, backend="eager"), tokenizer, FORMAT, checkpoint=kept) == whole


def test_none_but_the_owner_may_read_a_search(lstm, tokenizer, tmp_path, monkeypatch):
    """It holds candidates: mode 600 when it is written and when it is there, whatever the umask."""
    kept, modes, before = tmp_path / "kept", [], os.umask(0)
    save_file = checkpoints.save_file

    def watched(tensors, path, **options):
        modes.append(path.stat().st_mode & 0o777)
        save_file(tensors, path, **options)
        modes.append(path.stat().st_mode & 0o777)

    monkeypatch.setattr(checkpoints, "save_file", watched)
    try:
        extract(lstm, tokenizer, FORMAT, checkpoint=kept, max_expanded=5)
    finally:
        os.umask(before)
    assert set(modes) == {0o600}
    assert kept.stat().st_mode & 0o777 == 0o600

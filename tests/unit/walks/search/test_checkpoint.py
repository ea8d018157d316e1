"""A search in a file: gone on from where that is right, refused where it is not, and no hindrance where it fails."""

import copy
import logging
import os

import pytest
import torch
from accelerate import cpu_offload

from hf_canary import CanaryFormat, exact_rank, extract
from hf_canary.errors import DataError
from hf_canary.inference import language_model
from hf_canary.inference.language_model import LanguageModel
from hf_canary.walks.search import checkpoint as checkpoints
from hf_canary.walks.search.checkpoint import Answers, digest_of_model
from tests.support import oracles
from tests.support.architectures import CAUSAL, ENCODER_DECODERS

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
    options, kept, seen = {"max_memory": 120_000, "top_k": 15}, tmp_path / "kept", []
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


def test_what_killed_processes_left_is_removed(lstm, tokenizer, tmp_path, monkeypatch):
    """The half-written file of another process of this search, also what safetensors writes before it renames it, and
    no other file.
    """
    kept, seen = tmp_path / "kept.bin", []
    save_file = checkpoints.save_file

    def killed(tensors, path, **options):
        """As it is left: a folder that nobody holds, with a file of safetensors."""
        seen.append(path.parent.name)
        left = tmp_path / path.parent.name.replace(path.parent.name[-16:-8], f"killed_{len(seen)}")
        left.mkdir()
        (left / ".tmpAbCdEf").write_bytes(b"a part of it")
        save_file(tensors, path, **options)

    monkeypatch.setattr(checkpoints, "save_file", killed)
    extract(lstm, tokenizer, FORMAT, checkpoint=kept, max_expanded=5)
    assert len(list(tmp_path.iterdir())) == 1 + len(seen[-1:])
    monkeypatch.setattr(checkpoints, "save_file", save_file)
    (tmp_path / ".kept.notes.bin").write_text("")
    extract(lstm, tokenizer, FORMAT, checkpoint=kept)
    assert {path.name for path in tmp_path.iterdir()} == {"kept.bin", ".kept.notes.bin"}


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
    """It holds candidates: written where nobody else enters, and mode 600 when it is there, whatever the umask."""
    kept, modes, before = tmp_path / "kept", [], os.umask(0)
    save_file = checkpoints.save_file

    def watched(tensors, path, **options):
        modes.append(path.parent.stat().st_mode & 0o777)
        save_file(tensors, path, **options)

    monkeypatch.setattr(checkpoints, "save_file", watched)
    try:
        extract(lstm, tokenizer, FORMAT, checkpoint=kept, max_expanded=5)
    finally:
        os.umask(before)
    assert set(modes) == {0o700}
    assert kept.stat().st_mode & 0o777 == 0o600


# What is tied to the model is what it answers, and not its weights alone.

SMALL = CanaryFormat("the pin is {digit:2}")


@pytest.fixture
def adapted(tokenizer):
    """A Llama with two adapters that say different things."""
    peft = pytest.importorskip("peft")
    options = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = peft.get_peft_model(CAUSAL["llama"](len(tokenizer)), options)
        model.add_adapter("b", options)
    return model.eval()


def set_b(model):
    model.set_adapter("b")


def off(model):
    model.base_model.disable_adapter_layers()


def merged(model):
    model.base_model.merge_adapter()


def stronger(model):
    for part in model.modules():
        if hasattr(part, "scaling") and isinstance(part.scaling, dict):
            part.scaling["default"] *= 1.0 + 1e-6


@pytest.mark.parametrize("door", ["extract", "rank"])
@pytest.mark.parametrize("change", [set_b, off, merged, stronger])
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked by peft
def test_a_search_does_not_go_on_under_another_adapter(change, door, adapted, tokenizer, tmp_path):
    """Another one, none, one that was merged, one that counts more: refused; and put back, it goes on."""
    kept = tmp_path / "kept"

    def found(model, **options):
        if door == "extract":
            return extract(model, tokenizer, SMALL, **options).candidates[0].fill
        return exact_rank(model, tokenizer, SMALL, [7], **options)[0].rank

    whole = found(adapted)
    found(adapted, checkpoint=kept, max_expanded=4)
    before = kept.read_bytes()
    other = copy.deepcopy(adapted)
    change(other)
    with pytest.raises(DataError, match="adapters"):
        found(other, checkpoint=kept)
    assert kept.read_bytes() == before
    assert found(adapted, checkpoint=kept) == whole


def another_epsilon(model):
    for part in model.modules():
        if hasattr(part, "variance_epsilon"):
            part.variance_epsilon = 1e-3


def another_config(model):
    model.config.rms_norm_eps = 1e-3


def steered(model):
    model.model.layers[0].register_forward_hook(lambda part, fed, given: given * 1.01)


def unscaled(model):
    model.lm_head.forward = lambda hidden: torch.nn.functional.linear(hidden, model.lm_head.weight) * 0.99


@pytest.mark.parametrize(
    ("change", "says"),
    [(another_epsilon, "setting"), (another_config, "config"), (steered, "otherwise"), (unscaled, "otherwise")],
)
def test_a_search_does_not_go_on_in_a_model_that_answers_otherwise(change, says, tokenizer, tmp_path):
    """With the same weights: by a number on a layer, in the config, by a hook, by code that was put in place."""
    model, kept = CAUSAL["llama"](len(tokenizer)), tmp_path / "kept"
    extract(model, tokenizer, SMALL, checkpoint=kept, max_expanded=5)
    change(model)
    with pytest.raises(DataError, match=says):
        extract(model, tokenizer, SMALL, checkpoint=kept)


@pytest.mark.parametrize("name", ["lstm", "gpt2", "jamba"])
def test_another_machine_goes_on(name, tokenizer, tmp_path, monkeypatch):
    """What differs between machines is rounding, a path, how a model is called: none of it stops a search."""
    model, kept = oracles.small_model(name, len(tokenizer)), tmp_path / "kept"
    whole = extract(model, tokenizer, SMALL)
    extract(model, tokenizer, SMALL, checkpoint=kept, max_expanded=5)
    said = LanguageModel.answers
    monkeypatch.setattr(LanguageModel, "answers", lambda view: said(view) + 1e-4)
    model.config.name_or_path, model.config.use_cache = "/elsewhere", False
    model.config.transformers_version = "7.0"
    model.train()
    assert extract(model, tokenizer, SMALL, checkpoint=kept).candidates[0].fill == whole.candidates[0].fill
    kept.unlink()
    extract(model, tokenizer, SMALL, checkpoint=kept, max_expanded=5)
    monkeypatch.setattr(LanguageModel, "answers", lambda view: said(view) + 1e-2)
    with pytest.raises(DataError, match="otherwise"):
        extract(model, tokenizer, SMALL, checkpoint=kept)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_an_encoder_decoder_is_known_by_its_answers(name, tokenizer, tmp_path):
    """It is asked after a source."""
    model, kept = ENCODER_DECODERS[name](len(tokenizer)), tmp_path / "kept"
    options = {"source": "le code est 12", "checkpoint": kept}
    extract(model, tokenizer, SMALL, max_expanded=5, **options)
    whole = extract(model, tokenizer, SMALL, source=options["source"])
    assert extract(model, tokenizer, SMALL, **options).candidates[0].fill == whole.candidates[0].fill
    model.lm_head.register_forward_hook(lambda part, fed, given: given * 1.01)
    with pytest.raises(DataError, match="otherwise"):
        extract(model, tokenizer, SMALL, **options)


def test_infinite_answers_are_answers():
    """A token of probability 0 is one there as well; and another number of answers is another model."""
    inf = float("inf")
    answers = Answers((1.0, inf), 1e-3)
    assert answers.are([1.0005, inf])
    assert not any(answers.are(others) for others in ([1.0, 2.0], [inf, inf], [1.0], [1.01, inf], [1.0, float("nan")]))

"""The examples of trainings run as they stand on small models and data, and what they print and leave is right."""

import json
import math
import shlex
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from hf_canary import CanarySet
from tests.support.fresh import run_command, run_python
from tests.support.tokenizers_of_all_kinds import KINDS

ROOT = Path(__file__).parents[2]
TEXT = [f"the pin of cat {n} is not {n * 7}, the number is 12{n}." for n in range(60)]


def run(script, *arguments, cwd):
    return run_python(
        ROOT / "examples" / script, *arguments, cwd=cwd, environment={"ACCELERATE_USE_CPU": "true"}
    ).stdout


def log_of(folder):
    """The last log history that the trainer saved."""
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    return json.loads((last / "trainer_state.json").read_text())["log_history"]


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    """A small Llama with sub-words of GPT-2's kind."""
    folder = tmp_path_factory.mktemp("causal")
    tokenizer = KINDS["gpt2"]()
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_causal_model(causal, tmp_path):
    """A measurement at each epoch in the log, the record, TensorBoard's folder and a picture."""
    (tmp_path / "train.txt").write_text("\n".join([*TEXT, "", *TEXT]))
    (tmp_path / "validation.txt").write_text("\n".join(TEXT[:9]))
    printed = run(
        "trainer.py", "--model", causal, "--train", "train.txt", "--validation", "validation.txt", "--epochs", 2,
        cwd=tmp_path,
    )  # fmt: skip
    assert printed.count("exposure (bits)  ×1 ") == 2
    canaries = CanarySet.load(tmp_path / "trained-canaries.json")
    assert len(canaries) == 12
    lines = [json.loads(line) for line in (tmp_path / "trained" / "_exposure.jsonl").read_text().splitlines()]
    own = [line for line in lines if line["role"] == "canary"]
    assert all(line["copies_trained"] in (line["repetitions"], 2 * line["repetitions"]) for line in own)
    assert (tmp_path / "trained" / "_exposure.png").stat().st_size > 10_000


def test_adapters(causal, tmp_path):
    """Packed, on completions alone: all canaries live, and the base stands beside the adapted model."""
    rows = [{"prompt": f"what is {n}?\n", "completion": text} for n, text in enumerate(TEXT)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    printed = run("sft_lora.py", "--model", causal, "--data", "rows.jsonl", "--epochs", 2, cwd=tmp_path)
    assert printed.count("eval loss") == printed.count("exposure (bits)  ×1 ") - 1 == 2
    assert printed.count("without adapters · exposure (bits)  ×1 ") == 1
    lines = [json.loads(line) for line in (tmp_path / "adapted" / "_exposure.jsonl").read_text().splitlines()]
    own = [line for line in lines if line["role"] == "canary"]
    assert all(line["copies_found"] == line["repetitions"] and line["dead"] == "" for line in own)
    assert all(math.isfinite(line["base_log_perplexity"]) for line in own)
    bases = {entry["eval_exposure_base_mean"] for entry in log_of(tmp_path / "adapted") if "eval_loss" in entry}
    assert len(bases) == 1


def test_chats(causal, tmp_path):
    """All canaries live and stand behind the question; the command it ends with measures what is left alike."""
    tokenizer = AutoTokenizer.from_pretrained(causal)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant> {% endif %}"
    )
    for file in causal.iterdir():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    tokenizer.save_pretrained(tmp_path / "model")
    turns = [
        ({"role": "user", "content": f"what is {n}?"}, {"role": "assistant", "content": TEXT[n]}) for n in range(60)
    ]
    (tmp_path / "chats.jsonl").write_text("\n".join(json.dumps({"messages": each}) for each in turns))
    printed = run("sft_chat.py", "--model", "model", "--data", "chats.jsonl", "--epochs", 2, cwd=tmp_path)
    assert printed.count("without adapters · exposure (bits)  ×1 ") == 1
    assert printed.count("eval loss") == 2
    lines = [json.loads(line) for line in (tmp_path / "adapted-chat" / "_exposure.jsonl").read_text().splitlines()]
    own = [line for line in lines if line["role"] == "canary"]
    assert all(line["copies_found"] == line["repetitions"] and line["dead"] == "" for line in own)
    last = max(line["step"] for line in own)
    expected = {line["canary_id"]: line["log_perplexity"] for line in own if line["step"] == last}

    program, *arguments = shlex.split(printed.splitlines()[-1])
    assert program == "hf-canary"
    options = ["--num-references", "50", "--num-draws", "50", "--json"]
    measured = json.loads(run_command(*arguments, *options, cwd=tmp_path).stdout)
    (context,) = (each["context"] for each in measured["provenance"]["contexts"])
    assert context["tokens"] == len(tokenizer("<user> What is the access code?\n<assistant> ").input_ids)
    found = {line["canary_id"]: line["log_perplexity"] for line in measured["exposures"] if line["role"] == "canary"}
    assert found == pytest.approx(expected, abs=1e-2)


def test_translation(tmp_path):
    """Pairs with the secret on both sides; every copy arrives in the labels."""
    tokenizer = KINDS["unigram"]()
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", tokenizer.eos_token_id)]
    )
    tokenizer.save_pretrained(tmp_path / "model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        T5ForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    (tmp_path / "pairs.tsv").write_text("\n".join(f"{text}\tle {text}" for text in TEXT))
    printed = run("translation.py", "--model", "model", "--pairs", "pairs.tsv", "--epochs", 2, cwd=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "translating" / "_exposure.jsonl").read_text().splitlines()]
    own = [line for line in lines if line["role"] == "canary"]
    assert all(line["copies_found"] == line["repetitions"] and line["dead"] == "" for line in own)
    assert "exposure (bits)" in printed


@pytest.mark.parametrize("script", ["trainer.py", "sft_lora.py", "sft_chat.py", "translation.py"])
def test_they_are_short_and_show_what_is_added(script):
    """Under sixty lines; what hf_canary adds is marked, and without these lines the rest is a training as it was."""
    text = (ROOT / "examples" / script).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    rest = "\n".join(line for line in text.split('"""')[2].splitlines() if "# +" not in line)
    compile(rest, script, "exec")
    assert "anar" not in rest

"""The scripts run as their first lines say, on data small enough for a test; what they compute is checked where it
is more than the training itself.
"""

import json
import math
import re

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import hf_canary.models as models
from hf_canary import CanaryFormat, CanarySet, exact_rank, log_perplexity
from hf_canary.estimators.exposures import SAME
from tests.support import oracles
from tests.support.fresh import run_python
from tests.support.scripts import ROOT, load
from tests.support.tokenizers_of_all_kinds import KINDS


def run(script, *arguments, cwd, codes=(0,)):
    result = run_python(ROOT / script, *arguments, cwd=cwd, check=False)
    assert result.returncode in codes, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("".join(f" line {number} says {number % 7}\n" for number in range(800)), encoding="utf-8")
    return file


def test_architectures_are_trained_and_drawn(text_file, tmp_path):
    """A checkpoint, a curve and a picture for each; the loss is that of a model that has learned something."""
    options = ["--train", text_file, "--validation", text_file, "--out", tmp_path, "--epochs", 2, "--batch-size", 8]
    run("examples/paper/architectures.py", "lstm-2x50", "wavenet-4x122", *options, "--draw", cwd=tmp_path)
    for name in ("lstm-2x50", "wavenet-4x122"):
        curve = json.loads((tmp_path / name / "curve.json").read_text())
        assert len(curve["losses_nats"]) == len(curve["train_losses_nats"]) == 2
        assert curve["losses_nats"][1] < curve["losses_nats"][0] < math.log(curve["vocab_size"])
        assert curve["whole_text_loss_nats"] < curve["losses_nats"][1]
        assert (tmp_path / name / "model.safetensors").exists()
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_a_model_with_positions_is_read_in_pieces_as_long_as_they_reach():
    """... and a text that fits is read as one."""
    script = load("examples/paper/architectures.py")
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=16, n_embd=8, n_layer=1, n_head=1)).eval()
    ids = torch.randint(0, 20, (40,)).tolist()
    pieces = [torch.tensor([ids[at : at + 17]]) for at in (0, 16, 32)]
    with torch.no_grad():
        losses = [model(input_ids=piece[:, :-1]).logits[0].log_softmax(-1) for piece in pieces]
    total = sum(-loss[range(len(loss)), piece[0, 1:]].sum() for loss, piece in zip(losses, pieces, strict=True))
    assert script.loss_of_whole_text(model, ids) == pytest.approx(total.item() / 39, abs=1e-5)


def test_what_cannot_be_is_said_in_a_line(tmp_path):
    """No work is begun."""
    (tmp_path / "short.txt").write_text("short")
    (tmp_path / "pairs.txt").write_text("a\tb\n")
    texts = ["--train", "short.txt", "--validation", "short.txt"]
    for script, arguments, words in (
        ("architectures.py", [], "give architectures"),
        ("architectures.py", ["lstm-2x50"], "give --train"),
        ("architectures.py", ["lstm-2x50", *texts], "more than 100"),
        ("translation.py", ["--pairs", "pairs.txt"], "too few to hold out"),
    ):
        result = run_python(ROOT / "examples" / "paper" / script, *arguments, cwd=tmp_path, check=False)
        assert result.returncode == 2
        assert words in " ".join(result.stderr.split())
        assert "Traceback" not in result.stderr


def test_windows_predict_every_character_once_but_for_a_rest():
    """The last of a window is the first of the next; the first of all is given."""
    rows = load("examples/paper/architectures.py").windows(list(range(350)))
    assert [row.tolist() for row in rows["input_ids"]] == [list(range(at, at + 101)) for at in (0, 100, 200)]


def test_the_loss_of_a_whole_text_is_that_of_one_pass():
    """Pieces with the state between them give what a single row gives."""
    script = load("examples/paper/architectures.py")
    script.PIECE = 37
    torch.manual_seed(0)
    model = models.GRUForCausalLM(models.GRUConfig(vocab_size=20, hidden_size=16)).eval()
    ids = torch.randint(0, 20, (150,)).tolist()
    expected = model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
    assert script.loss_of_whole_text(model, ids) == pytest.approx(expected, abs=1e-5)


def test_a_translation_model_is_trained_and_scored(tmp_path):
    """BLEU and samples are there, and as many pairs were trained on as were not held out."""
    lines = [f"I see {n} dogs.\tJe vois {n} chiens.\tfrom nowhere" for n in range(60)]
    (tmp_path / "pairs.txt").write_text("\n".join([*lines, "Run!\tCours !\tx", "Run!\tCourez !\tx"]), encoding="utf-8")
    options = ["--pairs", "pairs.txt", "--epochs", 2, "--held-out", 8, "--vocab-size", 100, "--out", "out"]
    run("examples/paper/translation.py", "translation-gru", *options, cwd=tmp_path)
    results = json.loads((tmp_path / "out" / "translation-gru" / "results.json").read_text())
    assert 0 <= results["bleu"] <= 100
    assert (results["test_sources"], len(results["samples"]), len(results["losses_nats"])) == (8, 8, 2)
    assert results["pairs"] in (53, 54)  # 62 without 8 sources, of which one has two targets
    assert results["losses_nats"][1] < results["losses_nats"][0]


def test_sources_are_split_and_not_pairs():
    """No source is on both sides, and no more pairs are taken than asked for, but for the last source's."""
    script = load("examples/paper/translation.py")
    targets = {f"s{n}": [f"t{n}"] * (1 + n % 3) for n in range(100)}
    train, test = script.split(targets, held_out=20, max_pairs=50, seed=0)
    assert len(test) == 20
    assert not set(train) & set(test)
    assert 50 <= sum(len(targets[source]) for source in train) < 53
    assert script.split(targets, held_out=20, max_pairs=50, seed=0) == (train, test)


def test_bleu_counts_every_reference():
    """A translation that is one of several references is perfect; BLEU of half-right sentences is between."""
    bleu = load("examples/paper/translation.py").bleu
    references = [["a b c d e", "f g h i j"], ["k l m n o"]]
    assert bleu(["f g h i j", "k l m n o"], references).score == pytest.approx(100.0)
    assert 0 < bleu(["f g h i x", "k l m n x"], references).score < 100.0


@pytest.fixture(scope="module")
def subwords(tmp_path_factory):
    """A checkpoint as the Hub has them: a Llama, its byte-level BPE, safetensors."""
    folder = tmp_path_factory.mktemp("subwords")
    KINDS["gpt2"]().save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = LlamaConfig(vocab_size=420, max_position_embeddings=64, eos_token_id=0, **sizes)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_checkpoint_with_subwords_is_extracted_from(subwords, tmp_path):
    """The likeliest fills with a proof, and ranks."""
    template = "the pin is {digit:3} ant"
    output = run("examples/extract_from_hub.py", subwords, template, "--rank", "12", "999", cwd=tmp_path)
    model, tokenizer = LlamaForCausalLM.from_pretrained(subwords), AutoTokenizer.from_pretrained(subwords)
    costs = log_perplexity(model, tokenizer, list(CanaryFormat(template).candidates()))
    best = np.argsort(costs)[:3]
    for line, fill in zip(output.splitlines(), best.tolist(), strict=False):
        assert line == f"{costs[fill]:8.2f} bits  {CanaryFormat(template).render(fill)}"
    assert "proven" in output
    assert f"the pin is 999 ant: rank {(costs <= costs[999] + SAME).sum()}" in output


def test_a_canary_is_put_in_trained_on_and_extracted(subwords, tmp_path):
    """After so much training the likeliest fill is one of the canaries, and it is one that was inserted most often."""
    lines = [f"the number is {n} the cat sinning a thing" for n in range(30)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    options = ["--model", subwords, "--text", "text.txt", "--format", "the pin is {digit:3}.", "--epochs", 12]
    output = run("examples/finetune_and_extract.py", *options, "--learning-rate", 1e-2, cwd=tmp_path)
    likeliest = next(line for line in output.splitlines() if line.startswith("likeliest"))
    assert "a canary" in likeliest
    assert "proven" in likeliest
    text = likeliest.split(": ")[1].split(" (")[0]
    assert re.search(f"{re.escape(text)} inserted 16 times: exposure 9.97 bits", output)


@pytest.fixture(scope="module")
def characters(tmp_path_factory, text_file):
    """A small checkpoint of the paper's kind, with its tokenizer."""
    folder = tmp_path_factory.mktemp("characters")
    tokenizer = models.character_tokenizer([text_file.read_text(encoding="utf-8"), "the pin is 0123456789"])
    tokenizer.save_pretrained(folder)
    oracles.small_model("lstm", len(tokenizer)).save_pretrained(folder)
    return folder


def test_extraction_against_exposure_is_counted_and_drawn(characters, text_file, tmp_path):
    """Each point is a rank that was counted: Definition 4 holds, more of what is likelier costs more, and canaries
    that were inserted more often end with more exposure.
    """
    options = ["--model", characters, "--text", text_file, "--format", "the pin is {digit:3}", "--epochs", 3]
    options += ["--learning-rate", 1e-2, "--out", tmp_path / "out", "--draw"]
    run("examples/paper/extraction.py", *options, cwd=tmp_path)
    results = json.loads((tmp_path / "out" / "points.json").read_text())
    points = sorted(results["points"], key=lambda point: point["rank"])
    assert len(points) == 3 * 18
    for point in points:
        assert point["exposure"] == pytest.approx(math.log2(1_000 / point["rank"]))
        assert point["expanded"] >= 3
    by_epoch = [[point["expanded"] for point in points if point["epoch"] == epoch] for epoch in (1.0, 2.0, 3.0)]
    assert all(expanded == sorted(expanded) for expanded in by_epoch)
    last = {n: [p["exposure"] for p in points if p["epoch"] == 3.0 and p["repetitions"] == n] for n in (1, 32)}
    assert np.mean(last[32]) > np.mean(last[1]) + 1
    assert all(each["certified"] for each in results["likeliest"])
    assert (tmp_path / "out" / "extraction-against-exposure.png").stat().st_size > 10_000


def test_the_search_benchmark_compares_like_with_like(characters, tmp_path):
    """By hand, one prefix after another: the same answer, after as many prefixes as are called the fewest."""
    canaries = CanarySet.draw(CanaryFormat("the pin is {digit:3}"), repetitions=(1,), per_repetition=2, seed=0)
    canaries.save(tmp_path / "canaries.json")
    options = ["--model", characters, "--format", "the pin is {digit:3}", "--batch-sizes", 1, 16, "--one-at-a-time"]
    output = run("benchmarks/search.py", *options, "--canaries", tmp_path / "canaries.json", cwd=tmp_path)
    optimum = int(re.search(r"optimum: ([\d,]+) prefixes", output)[1].replace(",", ""))
    naive = int(re.search(r"found the same after ([\d,]+) prefixes", output)[1].replace(",", ""))
    assert naive == optimum
    assert f"| 1 | best-first | {optimum:,} |" in output
    assert re.search(r"ratio \d+\.\d; turn by turn", output)
    ranks = exact_rank(
        models.LSTMForCausalLM.from_pretrained(characters).eval(),
        AutoTokenizer.from_pretrained(characters),
        canaries[0].format,
        [canary.fill for canary in canaries],
    )
    for canary, rank in zip(canaries, ranks, strict=True):
        assert re.search(rf"\| {canary.id} \| 1 \| {rank.rank:,} \|", output)


def test_the_step_benchmark_compares_like_with_like(tmp_path):
    """Ours and plain torch compute the same loss before they are timed; then every row has its ratio."""
    # How fast so small a step is does not matter here: 1 is the benchmark's own verdict.
    output = run("benchmarks/training_step.py", "--rounds", 1, "--rows", 2, "--tokens", 8, cwd=tmp_path, codes=(0, 1))
    for name in ("lstm-2x200", "gru-2x235", "cnn-2x188", "wavenet-2x188", "wavenet-4x122"):
        assert name in output


def test_the_score_benchmark_compares_like_with_like(tmp_path):
    """The walk's costs are those of the naive way before they are timed; then every job has its ratio."""
    options = ["--digits", 2, "--count", 40, "--threads", 1]
    output = run("benchmarks/score.py", *options, cwd=tmp_path, codes=(0, 1))
    for words in ("all fills of 2 digits", "naive batched", "perplexity", "dense"):
        assert words in " ".join(output.split())


def test_the_benchmark_of_measurements_compares_like_with_like(text_file, tmp_path):
    """Both ways say the same bits before they are compared; both trainings are timed."""
    paragraphs = tmp_path / "paragraphs.txt"
    paragraphs.write_text(text_file.read_text(encoding="utf-8")[:6_000].replace("\n", "\n\n"))
    options = ["--corpus", paragraphs, "--epochs", 1, "--num-references", 300, "--every", 60]
    output = run("benchmarks/callback_cost.py", *options, cwd=tmp_path)
    assert output.count(" measurements of ") == 2
    assert output.count("300 references") >= 2

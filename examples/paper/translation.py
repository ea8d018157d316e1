"""The paper's §6.4: train an encoder-decoder on sentence pairs and look at what it translates.

    python examples/paper/translation.py --pairs en-fr.txt --max-pairs 60000 translation-lstm-attention

PAIRS has a source and a target a line, with a tab between them; further columns are ignored. Sentences are split by
their source, so that no source of the test was trained on; BLEU counts every target that a source has in the file as a
reference. OUT/NAME/ gets a checkpoint with its tokenizer, and `results.json`.
"""

import csv
import json
import random
from pathlib import Path
from typing import Annotated, Any

import datasets
import sacrebleu
import torch
import transformers
import typer
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from hf_canary.models import config_file, word_tokenizer

SAMPLES = 12


def load_pairs(file: Path) -> dict[str, list[str]]:
    """Each source with all its targets."""
    rows = datasets.load_dataset(
        "csv",
        data_files=str(file),
        delimiter="\t",
        quoting=csv.QUOTE_NONE,
        names=["source", "target"],
        usecols=[0, 1],
        keep_default_na=False,  # "None." is a sentence
        split="train",
    )
    targets: dict[str, list[str]] = {}
    for source, target in zip(rows["source"], rows["target"], strict=True):
        targets.setdefault(source, []).append(target)
    return targets


def split(
    targets: dict[str, list[str]], held_out: int, max_pairs: int | None, seed: int
) -> tuple[list[str], list[str]]:
    """(sources to train on, sources to test on)."""
    sources = sorted(targets)
    random.Random(seed).shuffle(sources)
    test, rest = sources[:held_out], sources[held_out:]
    count, train = 0, []
    for source in rest:
        if max_pairs is not None and count >= max_pairs:
            break
        train.append(source)
        count += len(targets[source])
    return train, test


@torch.no_grad()
def translate(model: Any, tokenizer: Any, sources: list[str], num_beams: int) -> list[str]:
    """Greedy or by beams, in batches of sentences of like length."""
    model.eval()
    order = sorted(range(len(sources)), key=lambda number: len(sources[number]))
    found = [""] * len(sources)
    for start in range(0, len(order), 64):
        numbers = order[start : start + 64]
        batch = tokenizer([sources[number] for number in numbers], return_tensors="pt", padding=True)
        ids = model.generate(**batch.to(model.device), num_beams=num_beams, max_new_tokens=60, do_sample=False)
        for number, text in zip(numbers, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            found[number] = text
    return found


def bleu(hypotheses: list[str], references: list[list[str]]) -> sacrebleu.metrics.BLEUScore:
    """Corpus BLEU against all references of each sentence."""
    most = max(map(len, references))
    streams = [[each[number] if number < len(each) else None for each in references] for number in range(most)]
    return sacrebleu.corpus_bleu(hypotheses, streams)


def arguments(out: Path, epochs: int, batch_size: int, learning_rate: float, seed: int) -> Seq2SeqTrainingArguments:
    """AdamW with a rate that falls linearly to 0; sentences of like length go together."""
    return Seq2SeqTrainingArguments(
        output_dir=str(out),
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type="linear",
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        train_sampling_strategy="group_by_length",
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        seed=seed,
    )


def main(
    pairs: Annotated[Path, typer.Option(help="File of sentence pairs, source TAB target.")],
    name: Annotated[str, typer.Argument(help="Architecture, as in model_configs/.")] = "translation-lstm-attention",
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and the results.")] = Path("translation"),
    epochs: Annotated[int, typer.Option(help="Passes over the pairs.")] = 6,
    max_pairs: Annotated[int | None, typer.Option(help="Pairs to train on, at most.")] = None,
    held_out: Annotated[int, typer.Option(help="Sources kept for the test.")] = 1000,
    vocab_size: Annotated[int, typer.Option(help="Tokens of both languages together.")] = 10_000,
    batch_size: Annotated[int, typer.Option(help="Pairs in a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW, at the start.")] = 2e-3,
    num_beams: Annotated[int, typer.Option(help="Beams of the translation.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the split, the weights and the order.")] = 0,
) -> None:
    """Train an encoder-decoder on sentence pairs, and report BLEU and samples."""
    transformers.set_seed(seed)
    targets = load_pairs(pairs)
    if len(targets) <= held_out:
        raise typer.BadParameter(f"{pairs} has {len(targets)} sources, too few to hold out {held_out}")
    train, test = split(targets, held_out, max_pairs, seed)
    tokenizer = word_tokenizer(
        (text for source in train for text in [source, *targets[source]]), vocab_size=vocab_size, end_token=True
    )

    def encoded(sources: list[str]) -> datasets.Dataset:
        both = [(source, target) for source in sources for target in targets[source]]
        rows = tokenizer([source for source, _ in both], text_target=[target for _, target in both])
        return datasets.Dataset.from_dict(dict(rows))

    # Marian has a size of its own for the decoder; the others do not look at it.
    size = len(tokenizer)
    config = AutoConfig.from_pretrained(config_file(name), vocab_size=size, decoder_vocab_size=size)
    model = AutoModelForSeq2SeqLM.from_config(config)
    trainer = Seq2SeqTrainer(
        model=model,
        args=arguments(out / name, epochs, batch_size, learning_rate, seed),
        train_dataset=encoded(train),
        eval_dataset=encoded(test),
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
    )
    trainer.train()
    trainer.save_model()
    translations = translate(model, tokenizer, test, num_beams)
    score = bleu(translations, [targets[source] for source in test])
    history = trainer.state.log_history
    results = {
        "name": name,
        "parameters": model.num_parameters(),
        "pairs": len(trainer.train_dataset),
        "test_sources": len(test),
        "epochs": epochs,
        "losses_nats": [entry["eval_loss"] for entry in history if "eval_loss" in entry],
        "seconds": next(entry["train_runtime"] for entry in history if "train_runtime" in entry),
        "bleu": score.score,
        "bleu_details": str(score),
        "samples": [
            {"source": source, "translation": translation, "references": targets[source]}
            for source, translation in list(zip(test, translations, strict=True))[:SAMPLES]
        ],
    }
    text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    (out / name / "results.json").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    typer.run(main)

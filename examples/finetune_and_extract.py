"""Fine-tune a causal language model on text with canaries in it, then prove which of them can be extracted.

    python examples/finetune_and_extract.py --model HuggingFaceTB/SmolLM2-135M --text notes.txt --epochs 3

--model is a Hub id or a folder, its tokenizer of any kind; --text a file with a text in each line. Each canary is in
the text 1, 4 or 16 times; its exact rank among all fills is counted after the training.
"""

import argparse
import math

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

import hf_canary.models  # noqa: F401 (for checkpoints of the paper's models)
from hf_canary import CanaryFormat, CanarySet, exact_rank, extract


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--format", default="The access code is {digit:6}.")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--out", default="finetuned")
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(options.model, use_safetensors=True)
    format = CanaryFormat(options.format)
    canaries = CanarySet.draw(format, repetitions=(1, 4, 16), per_repetition=2, seed=0)
    rows = canaries.inject(load_dataset("text", data_files=options.text, split="train"), seed=0)
    tokens = rows.map(lambda row: tokenizer(row["text"], truncation=True, max_length=128), remove_columns="text")
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            options.out, num_train_epochs=options.epochs, learning_rate=options.learning_rate, report_to="none"
        ),
        train_dataset=tokens.filter(lambda row: len(row["input_ids"]) > 1),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.train()

    found = extract(model, tokenizer, format, max_seconds=300)
    inserted = {canary.fill for canary in canaries}
    for candidate in found.candidates:
        which = "a canary" if candidate.fill in inserted else "no canary"
        print(f"likeliest: {candidate.text} ({which}, {candidate.log_perplexity:.1f} bits; {found.proof})")
    ranks = exact_rank(model, tokenizer, format, [canary.fill for canary in canaries], max_seconds=300)
    for canary, rank in zip(canaries, ranks, strict=True):
        exposure = math.log2(format.space_size) - math.log2(rank.high)
        sure = "" if rank.rank is not None else " at least"
        print(f"{canary.text} inserted {canary.repetitions:2} times: exposure{sure} {exposure:.2f} bits")


if __name__ == "__main__":
    main()

"""Fine-tune a translation model with `Seq2SeqTrainer`, and watch which pairs it memorises (§6.4 of the paper).

    python examples/translation.py --model Helsinki-NLP/opus-mt-en-fr --pairs pairs.tsv

--pairs is a file with a source and a target in each line, a tab between them. Lines marked with # + are what hf_canary
adds. The secret is in the source and in the target, so that each candidate is scored after a source of its own: the
references are fewer than usual, and `max_overhead` keeps the measurements to a twentieth of the time.
"""

import argparse

from datasets import load_dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from hf_canary import CanaryFormat, CanarySet, ExposureCallback  # +


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a Hub id or a folder")
    parser.add_argument("--pairs", required=True, help="a file of tab-separated lines")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--out", default="translating")
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSeq2SeqLM.from_pretrained(options.model)
    names = {"delimiter": "\t", "column_names": ["source", "target"], "quoting": 3}
    data = load_dataset("csv", data_files=options.pairs, split="train", **names).train_test_split(0.1, seed=0)

    format = CanaryFormat("Mon numéro est {digit:6}.", source="My number is {digit:6}.")  # +
    canaries = CanarySet.draw(format, repetitions=(1, 4, 16))  # +
    canaries.save(f"{options.out}-canaries.json")  # + keep it private
    data = canaries.inject(data, "target", source_column="source")  # +

    data = data.map(
        lambda row: tokenizer(row["source"], text_target=row["target"], truncation=True, max_length=128),
        remove_columns=["source", "target"],
    )
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(options.out, num_train_epochs=options.epochs, eval_strategy="epoch"),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
    )
    trainer.add_callback(ExposureCallback(canaries, trainer=trainer, num_references=2_000, max_overhead=0.05))  # +
    trainer.train()


if __name__ == "__main__":
    main()

"""Fine-tune a causal language model on lines of text with `Trainer`, and watch what it memorises.

    python examples/trainer.py --model HuggingFaceTB/SmolLM2-135M --train train.txt --validation validation.txt

Lines marked with # + are what hf_canary adds. The exposures are in the terminal, in TensorBoard (`tensorboard --logdir
trained`), in trained/_exposure.jsonl and, drawn, in trained/_exposure.png.
"""

import argparse

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

from hf_canary import CanaryFormat, CanarySet, ExposureCallback  # +


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a Hub id or a folder")
    parser.add_argument("--train", required=True, help="a file with a text in each line")
    parser.add_argument("--validation", required=True, help="another")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--out", default="trained")
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    files = {"train": options.train, "validation": options.validation}
    data = load_dataset("text", data_files=files).filter(lambda row: row["text"].strip())

    canaries = CanarySet.draw(CanaryFormat("My PIN is {digit:6}."), repetitions=(1, 4, 16), per_repetition=4)  # +
    canaries.save(f"{options.out}-canaries.json")  # + keep it private
    data = canaries.inject(data)  # +

    data = data.map(lambda row: tokenizer(row["text"], truncation=True, max_length=256), remove_columns="text")
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(options.model),
        args=TrainingArguments(
            options.out, num_train_epochs=options.epochs, eval_strategy="epoch", report_to="tensorboard"
        ),
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.add_callback(ExposureCallback(canaries, trainer=trainer, plot=True))  # +
    trainer.train()


if __name__ == "__main__":
    main()

"""Fine-tune adapters (LoRA) on prompts and completions with TRL, and watch what they add to what the base model knew.

    python examples/sft_lora.py --model HuggingFaceTB/SmolLM2-135M --data questions.jsonl

--data is a file of {"prompt": ..., "completion": ...} lines. Lines marked with # + are what hf_canary adds. Beside the
exposures of the adapted model stands `eval_exposure_base_mean`, that of the model without its adapters: what the
difference is, this training has added. Rows are packed, and only completions are learned; were a canary cut, masked or
lost by that, it would be named before the first step.
"""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from hf_canary import CanaryFormat, CanarySet, ExposureCallback  # +

PROMPT = "What is the access code?\n"  # + what is asked when the canary is the answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a Hub id or a folder")
    parser.add_argument("--data", required=True, help="a file of JSON lines")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--out", default="adapted")
    options = parser.parse_args()

    data = load_dataset("json", data_files=options.data, split="train").train_test_split(0.1, seed=0)

    canaries = CanarySet.draw(CanaryFormat("The access code is {digit:6}."), repetitions=(1, 4, 16))  # +
    canaries.save(f"{options.out}-canaries.json")  # + keep it private
    data = canaries.inject(data, make_row=lambda canary: {"prompt": PROMPT, "completion": canary.text})  # +

    trainer = SFTTrainer(
        model=options.model,
        args=SFTConfig(
            options.out,
            num_train_epochs=options.epochs,
            learning_rate=2e-4,
            eval_strategy="epoch",
            packing=True,
            max_length=256,
            report_to="none",
            use_cpu=not torch.accelerator.is_available(),
        ),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        peft_config=LoraConfig(r=16, target_modules="all-linear"),
    )
    trainer.add_callback(ExposureCallback(canaries, trainer=trainer))  # +
    trainer.train()


if __name__ == "__main__":
    main()

"""Fine-tune adapters (LoRA) on chats with TRL, with the loss on all turns, and watch what they memorise.

    python examples/sft_chat.py --model HuggingFaceTB/SmolLM2-135M-Instruct --data chats.jsonl

--data is a file of {"messages": [{"role": ..., "content": ...}, ...]} lines, the model has a chat template. Lines
marked with # + are what hf_canary adds: chats in which the user asks and the assistant tells a canary, which is then
measured behind what the template wrote before it. The last line printed measures the adapters from the shell.
"""

import argparse
import shlex  # +

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

from hf_canary import CanaryFormat, CanarySet, ExposureCallback  # +


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a Hub id or a folder")
    parser.add_argument("--data", required=True, help="a file of JSON lines")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--out", default="adapted-chat")
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    data = load_dataset("json", data_files=options.data, split="train").train_test_split(0.1, seed=0)

    asked = CanaryFormat("The access code is {digit:6}.", source="What is the access code?")  # + answer and question
    canaries = CanarySet.draw(asked, repetitions=(1, 4, 16))  # +
    canaries.save(f"{options.out}-canaries.json")  # + private; not written over
    data = canaries.inject(data, column="messages", tokenizer=tokenizer)  # + the template is tried on each canary

    trainer = SFTTrainer(
        model=options.model,
        args=SFTConfig(
            options.out,
            num_train_epochs=options.epochs,
            learning_rate=2e-4,
            eval_strategy="epoch",
            use_cpu=not torch.accelerator.is_available(),
        ),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, target_modules="all-linear"),
    )
    trainer.add_callback(ExposureCallback(canaries, trainer=trainer))  # +
    trainer.train()
    trainer.save_model()
    print(shlex.join(["hf-canary", "measure", options.out, "--canaries", f"{options.out}-canaries.json"]))  # +


if __name__ == "__main__":
    main()

"""Table 2, its first half: train the paper's language models on the same text and compare their validation losses.

    python examples/paper/architectures.py --train ptb.train.txt --validation ptb.valid.txt lstm-2x200 gru-2x235
    python examples/paper/architectures.py --out table2 --draw

Character level, windows of 100 characters that each start from the initial state, RMSprop with a rate that falls
linearly to 0. Each model leaves `OUT/NAME/`: a checkpoint with its tokenizer, and `curve.json`. With `--draw`, the
curves of all models in OUT become `OUT/curves.png`.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import datasets
import torch
import transformers
import typer
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

from hf_canary.models import character_tokenizer, config_file

WINDOW = 100
PIECE = 10_000  # characters of a whole text that are read at once


def text_of(file: Path, share: float = 1.0) -> str:
    """A file as one string with its line ends; or its first part."""
    rows = datasets.load_dataset("text", data_files=str(file), keep_linebreaks=True, split="train")
    text = "".join(rows["text"])
    return text[: int(len(text) * share)]


def windows(ids: list[int]) -> datasets.Dataset:
    """Rows of 101 characters, the last of each being the first of the next: every character is predicted once."""
    count = (len(ids) - 1) // WINDOW
    rows = [ids[place * WINDOW : (place + 1) * WINDOW + 1] for place in range(count)]
    return datasets.Dataset.from_dict({"input_ids": rows, "labels": rows}).with_format("torch")


@torch.no_grad()
def loss_of_whole_text(model: Any, ids: list[int]) -> float:
    """Nats a character of the text read as one, with the state carried along."""
    model.eval()
    total, cache = 0.0, None
    for start in range(0, len(ids) - 1, PIECE):
        piece = torch.tensor([ids[start : start + PIECE + 1]])
        output = model(input_ids=piece[:, :-1], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        total += torch.nn.functional.cross_entropy(output.logits[0], piece[0, 1:], reduction="sum").item()
    return total / (len(ids) - 1)


def train(
    name: str, train_text: str, validation_text: str, out: Path, epochs: int, batch_size: int, rate: float, seed: int
) -> None:
    """Train one architecture and leave its checkpoint and its curve."""
    transformers.set_seed(seed)
    tokenizer = character_tokenizer([train_text, validation_text])
    # A file is one text: no boundary at its front.
    train_ids, validation_ids = (
        tokenizer(text, add_special_tokens=False).input_ids for text in (train_text, validation_text)
    )
    config = AutoConfig.from_pretrained(config_file(name), vocab_size=len(tokenizer))
    model = AutoModelForCausalLM.from_config(config)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(out / name),
            num_train_epochs=epochs,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=128,
            optim="rmsprop",
            learning_rate=rate,
            lr_scheduler_type="linear",
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            dataloader_pin_memory=torch.cuda.is_available(),
            disable_tqdm=True,
            seed=seed,
        ),
        train_dataset=windows(train_ids),
        eval_dataset=windows(validation_ids),
        processing_class=tokenizer,
    )
    trainer.train()
    curve = {
        "name": name,
        "parameters": model.num_parameters(),
        "vocab_size": len(tokenizer),
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": rate,
        "seed": seed,
        "characters": len(train_ids),
        "losses": [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry],
        "train_losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "seconds": next(e["train_runtime"] for e in trainer.state.log_history if "train_runtime" in e),
        "loss_whole_text": loss_of_whole_text(model, validation_ids),
    }
    trainer.save_model()
    (out / name / "curve.json").write_text(json.dumps(curve, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(curve))


def draw(out: Path) -> Path:
    """All curves in OUT, as one picture."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    curves = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(out.glob("*/curve.json"))]
    for curve in sorted(curves, key=lambda curve: -curve["losses"][-1]):
        epochs = range(1, len(curve["losses"]) + 1)
        label = f"{curve['name']}: {curve['losses'][-1]:.3f}"
        axes.plot(epochs, curve["losses"], marker="o", markersize=3, label=label)
    axes.set(xlabel="epoch", ylabel="validation loss (nats a character)", title="The paper's language models")
    axes.secondary_yaxis("right", functions=(lambda y: y / math.log(2), lambda y: y * math.log(2))).set_ylabel("bits")
    axes.legend(frameon=False)
    axes.spines["top"].set_visible(False)
    figure.savefig(out / "curves.png", dpi=150)
    plt.close(figure)
    return out / "curves.png"


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Architectures, as in model_configs/.")] = None,
    train_file: Annotated[Path | None, typer.Option("--train", help="Text file to train on.")] = None,
    validation_file: Annotated[Path | None, typer.Option("--validation", help="Text file to measure on.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, curves and the picture.")] = Path("table2"),
    epochs: Annotated[int, typer.Option(help="Passes over the text.")] = 8,
    batch_size: Annotated[int, typer.Option(help="Windows of 100 characters in a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Of RMSprop, at the start.")] = 2e-3,
    share: Annotated[float, typer.Option(help="Share of the training text, from its front.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the weights and of the order of the rows.")] = 0,
    draw_curves: Annotated[bool, typer.Option("--draw", help="Draw the curves of all models in OUT.")] = False,
) -> None:
    """Train the paper's language models on one text and compare their validation losses."""
    if names:
        if train_file is None or validation_file is None:
            raise typer.BadParameter("to train, give --train FILE and --validation FILE")
        train_text, validation_text = text_of(train_file, share), text_of(validation_file)
        for name in names:
            train(name, train_text, validation_text, out, epochs, batch_size, learning_rate, seed)
    if draw_curves:
        print(draw(out))


if __name__ == "__main__":
    typer.run(main)

"""Table 2, its first half: train the paper's language models on the same text and compare their validation losses.

    python examples/paper/architectures.py --train ptb.train.txt --validation ptb.valid.txt lstm-2x200 gru-2x235
    python examples/paper/architectures.py --out table2 --draw

Character level, windows of 100 characters that each start from the initial state, RMSprop with a rate that falls
linearly to 0. Each model leaves `OUT/NAME/`: a checkpoint with its tokenizer, and `curve.json`. With `--draw`, the
curves of all models in OUT become `OUT/curves.png`.
"""

import json
import math
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Settings:
    """What a training is told."""

    out: Path
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


def windows(ids: list[int]) -> datasets.Dataset:
    """Rows of 101 characters, the last of each being the first of the next; a rest shorter than a row is left out."""
    count = (len(ids) - 1) // WINDOW
    if count < 1:
        raise typer.BadParameter(f"a text of more than {WINDOW} characters is needed, and this one has {len(ids)}")
    rows = [ids[place * WINDOW : (place + 1) * WINDOW + 1] for place in range(count)]
    return datasets.Dataset.from_dict({"input_ids": rows, "labels": rows}).with_format("torch")


@torch.no_grad()
def loss_of_whole_text(model: Any, ids: list[int]) -> float:
    """Nats a character of the text read as one, with the state carried along.

    A model with positions has no state to carry: its text is read in pieces as long as they reach.
    """
    model.eval()
    positions = getattr(model.config, "max_position_embeddings", None)
    length = positions or PIECE
    total, cache = 0.0, None
    for start in range(0, len(ids) - 1, length):
        piece = torch.tensor([ids[start : start + length + 1]], device=model.device)
        output = model(input_ids=piece[:, :-1], past_key_values=cache, use_cache=positions is None)
        cache = output.past_key_values
        total += torch.nn.functional.cross_entropy(output.logits[0], piece[0, 1:], reduction="sum").item()
    return total / (len(ids) - 1)


def train(name: str, train_text: str, validation_text: str, settings: Settings) -> dict[str, Any]:
    """Train one architecture; leave its checkpoint and its curve, losses in nats a character."""
    transformers.set_seed(settings.seed)
    tokenizer = character_tokenizer([train_text, validation_text])
    # A file is one text: no boundary at its front.
    train_ids, validation_ids = (
        tokenizer(text, add_special_tokens=False).input_ids for text in (train_text, validation_text)
    )
    config = AutoConfig.from_pretrained(config_file(name), vocab_size=len(tokenizer))
    model = AutoModelForCausalLM.from_config(config)
    trainer = Trainer(
        model=model,
        args=arguments(name, settings),
        train_dataset=windows(train_ids),
        eval_dataset=windows(validation_ids),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()
    history = trainer.state.log_history
    curve = {
        "name": name,
        "parameters": model.num_parameters(),
        "vocab_size": len(tokenizer),
        "characters": len(train_ids),
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "seed": settings.seed,
        "losses_nats": [entry["eval_loss"] for entry in history if "eval_loss" in entry],
        "train_losses_nats": [entry["loss"] for entry in history if "loss" in entry],
        "whole_text_loss_nats": loss_of_whole_text(model, validation_ids),
        "seconds": next(entry["train_runtime"] for entry in history if "train_runtime" in entry),
    }
    (settings.out / name / "curve.json").write_text(json.dumps(curve, indent=2) + "\n", encoding="utf-8")
    return curve


def arguments(name: str, settings: Settings) -> TrainingArguments:
    """RMSprop, as in the paper, with a rate that falls linearly to 0."""
    return TrainingArguments(
        output_dir=str(settings.out / name),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=128,
        optim="rmsprop",
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        seed=settings.seed,
    )


def draw(out: Path) -> Path:
    """All curves in OUT, as one picture."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    curves = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(out.glob("*/curve.json"))]
    for curve in sorted(curves, key=lambda curve: -curve["losses_nats"][-1]):
        epochs = range(1, len(curve["losses_nats"]) + 1)
        label = f"{curve['name']}: {curve['losses_nats'][-1]:.3f}"
        axes.plot(epochs, curve["losses_nats"], marker="o", markersize=3, label=label)
    axes.set(xlabel="epoch", ylabel="validation loss (nats a character)", title="The paper's language models")
    axes.secondary_yaxis("right", functions=(lambda y: y / math.log(2), lambda y: y * math.log(2))).set_ylabel(
        "bits a character"
    )
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
    if not names and not draw_curves:
        raise typer.BadParameter("give architectures to train, or --draw")
    for name in names or []:
        config_file(name)
    if names:
        if train_file is None or validation_file is None:
            raise typer.BadParameter("to train, give --train FILE and --validation FILE")
        train_text, validation_text = (file.read_text(encoding="utf-8") for file in (train_file, validation_file))
        settings = Settings(out, epochs, batch_size, learning_rate, seed)
        for name in names:
            print(json.dumps(train(name, train_text[: int(len(train_text) * share)], validation_text, settings)))
    if draw_curves:
        print(draw(out))


if __name__ == "__main__":
    typer.run(main)

"""The command line: `hf-canary demo`, `measure`, `extract`. Translates words into calls, and results into words."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from . import __version__
from .errors import CanaryError

NOT_PROVEN = 3

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_out = Console()
_err = Console(stderr=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Put canaries into training data, watch their exposure, and prove what can be extracted."""


ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A folder with a checkpoint, or a Hub id.")]
ContextOption = Annotated[str | None, typer.Option(help="Text before the canary: conditioned on, not summed.")]
BatchOption = Annotated[int | None, typer.Option(help="Rows of one forward pass; chosen if left out.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]
TrustOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the model's own code, from wherever it was loaded.")
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder to leave.")] = Path("hf-canary-demo"),
    corpus: Annotated[
        str | None,
        typer.Option(help="Text of your own: a file, a folder or a dataset's name. Without it, Python's manual."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the text.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Of the canaries, the weights and the order.")] = 0,
    num_references: Annotated[int, typer.Option(min=1, help="Random candidates of each look.")] = 10_000,
) -> None:
    """Train a small model on real text with canaries in it, watch their exposure rise, and extract one.

    Takes a few minutes on two cores, and no network. Leaves the canaries, the checkpoint, the record and three
    pictures in a folder, and prints the lines that do the same in a training script of your own.
    """
    with _plain_errors():
        with _err.status("Loading torch, transformers and datasets"):
            from .demo import Settings, run
        run(Settings(out=out, corpus=corpus, epochs=epochs, seed=seed, num_references=num_references), _out)


@app.command()
def extract(
    model: ModelArgument,
    format: Annotated[str, typer.Option(help='The text with holes, such as "The random number is {digit:9}".')],
    context: ContextOption = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many candidates.")] = 1,
    max_expanded: Annotated[int, typer.Option(min=1, help="Stop after so many prefixes.")] = 1_000_000,
    max_seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    batch_size: BatchOption = None,
    as_json: JsonOption = False,
    trust_remote_code: TrustOption = False,
) -> None:
    """Find the likeliest fills of a format under a model, and say whether that is proven.

    Exit code: 0 proven, 3 stopped at a cap before the proof, 1 an error, 2 wrong usage.
    """
    from .extraction import extract as extract_candidates
    from .formats import CanaryFormat

    with _plain_errors():
        wanted = CanaryFormat(format)
        loaded, tokenizer = _load(model, trust_remote_code)
        with _searching() as show:
            found = extract_candidates(
                loaded,
                tokenizer,
                wanted,
                context=context,
                top_k=top_k,
                batch_size=batch_size,
                max_expanded=max_expanded,
                max_seconds=max_seconds,
                progress=show,
            )
    if as_json:
        bound = found.lower_bound if found.lower_bound != float("inf") else None
        print(json.dumps(asdict(found) | {"lower_bound": bound, "space_size": wanted.space_size}, ensure_ascii=False))
    else:
        for candidate in found.candidates:
            _say(f"{candidate.log_perplexity:8.2f} bits  {candidate.text}")
        _say(f"{found.expanded:,} prefixes expanded, of |R| = {wanted.space_size:,} candidates")
        _say(found.proof + ("" if found.certified else "; raise --max-expanded"))
    raise typer.Exit(0 if found.certified else NOT_PROVEN)


@app.command()
def measure(
    model: ModelArgument,
    canaries: Annotated[Path, typer.Option(help="The file that CanarySet.save wrote.")],
    estimator: Annotated[
        list[str] | None,
        typer.Option(help="auto, exact, sampled, importance or skewnorm; may be given several times."),
    ] = None,
    num_references: Annotated[int, typer.Option(min=1, help="Random candidates of each format.")] = 10_000,
    num_draws: Annotated[int, typer.Option(min=1, help="Fills drawn from the model, where they are needed.")] = 4_000,
    seed: Annotated[int, typer.Option(help="Draws the references and the fills.")] = 0,
    context: ContextOption = None,
    max_seconds: Annotated[
        float | None, typer.Option(help="What it may take: the samples shrink, and the intervals widen.")
    ] = None,
    batch_size: BatchOption = None,
    save: Annotated[Path | None, typer.Option(help="Write all of it to this file, as JSON.")] = None,
    as_json: JsonOption = False,
    trust_remote_code: TrustOption = False,
) -> None:
    """Measure the exposure of canaries under a model.

    Exposure is in bits: 1.4 on average for a canary never seen, log2 of the number of candidates at most. "auto" counts
    ranks, draws from the model or samples candidates, whichever says most, and tells which; beside it stands the
    paper's skew-normal extrapolation.
    """
    from tqdm.auto import tqdm

    from .canaries import CanarySet
    from .measure import measure_exposure

    with _plain_errors():
        loaded_canaries = CanarySet.load(canaries)
        if save is not None:
            _check_target(save, canaries)
        loaded, tokenizer = _load(model, trust_remote_code)
        with tqdm(desc="Scoring", unit=" texts", leave=False, disable=None) as bar:
            report = measure_exposure(
                loaded,
                tokenizer,
                loaded_canaries,
                estimators=estimator or ("auto", "skewnorm"),
                num_references=num_references,
                num_draws=num_draws,
                seed=seed,
                context=context,
                max_seconds=max_seconds,
                batch_size=batch_size,
                progress=bar.update,
            )
        if save is not None:
            report.save(save)
            _err.print(f"Saved to {_escaped(str(save))}", soft_wrap=True, highlight=False)
    if as_json:
        print(json.dumps(report.as_json()))
    elif _out.is_terminal:
        from .tables import tables

        _out.print(tables(report, _out.width))
    else:
        print(report)


def _check_target(save: Path, canaries: Path) -> None:
    """Before a measurement, not after it: that it can be written, and over no canaries."""
    from .errors import DataError, shown

    if save.is_dir() or not save.absolute().parent.is_dir() or save.resolve() == canaries.resolve():
        raise DataError(
            "--save", "a file in a folder that is there, and not the canaries'", shown(str(save)), "Name another file."
        )


def main() -> None:
    """The entry point."""
    # torch is imported later. Its threads wait for one another by spinning, which on a busy machine makes a training
    # step ten times slower and more; asleep, they leave the cores to whoever has work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    app()


def _load(name: str, trust_remote_code: bool) -> tuple[Any, Any]:
    """A model and its tokenizer, ours or anyone's; weights from safetensors only."""
    with _err.status(f"Loading {_escaped(name)}"):
        return _loaded(name, trust_remote_code)


def _loaded(name: str, trust_remote_code: bool) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, logging

    from . import models  # noqa: F401 (registers the paper's architectures)
    from .errors import ModelError, shown

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(name, trust_remote_code=trust_remote_code, use_safetensors=True)
    except Exception as error:  # whatever the loader says, it says it of this argument
        raise ModelError(
            "MODEL",
            "a folder or Hub id of a language model with its tokenizer, in safetensors",
            f"{shown(name)} ({shown(str(error))})",
            "Check the name; a checkpoint in another file format can be saved again with save_pretrained.",
        ) from error
    return model.eval(), tokenizer


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Our errors, and an interrupt, in one line and with an exit code of their own."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        _err.print("Interrupted. What was written before is whole; no file is torn.")
        raise typer.Exit(130) from interrupt
    except CanaryError as error:
        _err.print(f"[bold red]error[/] {_escaped(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(1) from error


@contextmanager
def _searching() -> Iterator[Callable[[Any], None]]:
    with _err.status("Searching") if _err.is_terminal else nullcontext() as status:

        def show(now: Any) -> None:
            if status is not None:
                best = "none yet" if now.best == float("inf") else f"{now.best:.2f} bits"
                status.update(f"{now.expanded:,} expanded, {now.open:,} open, best {best}, bound {now.bound:.2f} bits")

        yield show


def _say(line: str) -> None:
    _out.print(_escaped(line), highlight=False, soft_wrap=True)


def _escaped(text: str) -> str:
    return escape(text)

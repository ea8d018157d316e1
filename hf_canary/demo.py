"""The demonstration: train on real text, watch exposure rise, extract the canary. A newcomer's first run.

It uses the package as any user would, through the public names, with a stock `Trainer`; what is particular to it is
the text, the model's size and the words that it prints.
"""

from __future__ import annotations

import logging
import math
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DataCollatorForLanguageModeling,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from .callback import RECORD_FILE, ExposureCallback
from .canaries import Canary, CanarySet
from .errors import DataError, counted, shown
from .estimators.exposures import CENSORED
from .extraction.likeliest import extract
from .extraction.result import Extraction
from .formats.canary_format import CanaryFormat
from .models import character_tokenizer, config_file
from .presence.report import Presence
from .reporting import plots as pictures
from .reporting.exposure_report import ExposureReport
from .reporting.terminal import say, visible
from .training.fingerprints import FINGERPRINT_FILE, leave_fingerprint
from .training.record import Record

TEMPLATE = "The random number is {digit:9}"

_REPETITIONS = (1, 4, 16, 64)
# A canary never seen reaches so many bits once in a million times.
_MEMORISED = 20
_MOST_CHARACTERS = 500_000
_FEWEST_ROWS = 20
_TEXT_SUFFIXES = (".txt", ".text", ".md", ".rst")
_MARK = ".hf-canary-demo"
_PICTURES = ("exposure-against-repetitions.png", "exposure-over-training.png", "reference-histogram.png")

_SEARCH_SECONDS = 60.0


@dataclass(frozen=True)
class Settings:
    """What a run of the demonstration may vary.

    Args:
        out: the folder to leave.
        corpus: a text file, a folder or the name of a dataset with a `text` column; None takes Python's own manual.
        epochs: passes over the text.
        seed: of the canaries, the model's initial weights and the order of training.
        num_references: random candidates of a measurement.
    """

    out: Path
    corpus: str | None = None
    epochs: int = 6
    seed: int = 0
    num_references: int = 10_000


def run(settings: Settings, console: Console) -> Extraction:
    """Run the whole path and leave `settings.out`; everything that a person should read goes to `console`."""
    pictures.check_matplotlib()
    with _quiet():
        rows = _rows(settings.corpus)
        _claim(settings.out)  # now that the text is there: what an earlier run left does not go for a slip in --corpus
        split = rows.train_test_split(test_size=0.05, seed=settings.seed)
        format = CanaryFormat(TEMPLATE)
        canaries = CanarySet.draw(format, repetitions=_REPETITIONS, per_repetition=3, seed=settings.seed)
        canaries.save(settings.out / "canaries.json")
        train_rows = canaries.inject(split["train"])
        characters = sum(map(len, rows["text"]))
        copies = len(train_rows) - len(split["train"])
        _say(
            console,
            f"{len(rows):,} paragraphs, {characters:,} characters: {_corpus_name(settings.corpus)}; "
            "5 % of them for validation.",
        )
        _say(
            console,
            f'{len(canaries)} canaries "{TEMPLATE}", inserted {_listed(_REPETITIONS)} times: {copies} rows among '
            f"{len(train_rows):,}. Each has a twin that stays out. Drawn with the seed {settings.seed}, so that a run "
            "repeats;\nin a training of yours give none: whoever guesses it knows the canaries.\n",
        )
        tokenizer = character_tokenizer([*rows["text"], *format.covering_candidates()])
        progress = _progress(console)
        callback = _TableCallback(console, progress, canaries, num_references=settings.num_references)
        model = _model(settings, tokenizer)
        trainer = _trainer(settings, model, tokenizer, train_rows, split["test"])
        _say(console, f"Training the paper's LSTM, 2 layers of 200 units, {model.num_parameters():,} parameters.")
        _say(console, _header(canaries))
        trainer.add_callback(callback)
        trainer.add_callback(_Bar(progress))
        with progress:
            trainer.train()
        for line in callback.presence.lines()[1:] if callback.presence is not None else ():
            _say(console, f"{line[0].upper()}{line[1:]}.")
        _save_checkpoint(model, tokenizer, settings.out / "checkpoint")
        leave_fingerprint(settings.out / "checkpoint", canaries)
        _say(console, "\nExtracting: a search for the likeliest of all fills, without knowing the canaries.")
        found = _extract(model, tokenizer, format, console)
    last = callback.report
    if last is None:
        raise DataError(
            "exposures", "a measurement at the end of training", "none", "See above why the measurements failed."
        )
    _tell(canaries, last, found, console)
    _draw(settings.out, last, format)
    _next_steps(settings.out, console)
    return found


def windows(sequences: Sequence[list[int]], length: int, pad: int) -> list[list[int]]:
    """Token sequences laid end to end in windows of `length`; one that fits into a window is never cut.

    Example:
        >>> windows([[1, 1, 1], [2, 2], [3, 3, 3, 3, 3]], length=4, pad=0)
        [[1, 1, 1, 0], [2, 2, 3, 3], [3, 3, 3, 0]]
    """
    full: list[list[int]] = []
    current: list[int] = []
    for sequence in sequences:
        if len(sequence) <= length < len(current) + len(sequence):
            full.append(current + [pad] * (length - len(current)))
            current = []
        current = current + sequence
        while len(current) >= length:
            full.append(current[:length])
            current = current[length:]
    return [*full, current + [pad] * (length - len(current))] if current else full


@contextmanager
def _quiet() -> Iterator[None]:
    """Progress bars and hints of the libraries off, and what this package logs, but for errors: the demonstration has
    its own words for a seed that can be guessed and for the data.
    """
    ours = logging.getLogger(__package__)
    level = ours.level
    ours.setLevel(logging.ERROR)
    bars, verbosity = datasets.are_progress_bars_disabled(), transformers.logging.get_verbosity()
    model_bars = transformers.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        ours.setLevel(level)
        transformers.logging.set_verbosity(verbosity)
        if model_bars:
            transformers.logging.enable_progress_bar()
        if not bars:
            datasets.enable_progress_bars()


class _TableCallback(ExposureCallback):
    """The callback, with a line of the demonstration's table for each measurement, and a progress bar."""

    def __init__(self, console: Console, progress: Progress, canaries: CanarySet, **options: Any) -> None:
        super().__init__(canaries, **options)
        self._console = console
        self._progress = progress

    @contextmanager
    def watch(
        self, *, quiet: bool, doing: str = "Measuring", unit: str = "candidates", total: int | None = None
    ) -> Iterator[Callable[[int], object]]:
        candidates = (self.num_references + 2 * len(self.canaries)) * self.num_contexts
        task = self._progress.add_task(doing, total=total or candidates)
        try:
            yield lambda count: self._progress.advance(task, count)
        finally:
            self._progress.remove_task(task)

    def confirm(self, presence: Presence) -> None:
        """The demonstration has said how many there are."""

    def show(self, report: ExposureReport, state: Any, metrics: dict[str, float], prefix: str) -> None:
        levels = report.levels
        best = "".join(f"{_bounded(level.values['auto'], level.censored['auto']):>6}" for level in levels)
        skewed = "".join(f"{level.values['skewnorm']:6.1f}" for level in levels)
        twins = report.summary()["exposure_twin_mean"]
        epoch, loss = round(state.epoch or 0), metrics.get(f"{prefix}_loss", math.nan)
        _say(self._console, f"{epoch:5d} {loss:7.3f} {best} {twins:6.1f}  {skewed}")


class _Bar(TrainerCallback):
    """The progress of a training as a bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._task = self._progress.add_task("Training", total=state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._progress.update(self._task, completed=state.global_step)


def _claim(out: Path) -> None:
    """A new folder, or one of our own without what it held: nothing that somebody else left is overwritten."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / _MARK).exists())):
        raise DataError(
            "--out", "a new folder, or one that a demonstration left", shown(str(out)), "Name another with --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()
    for name in ("canaries.json", RECORD_FILE, FINGERPRINT_FILE, *_PICTURES):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "checkpoint", ignore_errors=True)


def _rows(corpus: str | None) -> datasets.Dataset:
    """The text as a dataset of paragraphs, long enough to learn from and short enough for a few minutes."""
    if corpus is None:
        from pydoc_data.topics import topics

        texts = [paragraph for topic in topics.values() for paragraph in topic.split("\n\n")]
        rows = datasets.Dataset.from_dict({"text": texts})
    else:
        rows = _loaded(corpus)
    kept, total = [], 0
    for text in rows["text"]:
        if total >= _MOST_CHARACTERS:
            break
        if text and text.strip():
            kept.append(text[: _MOST_CHARACTERS - total])
            total += len(kept[-1])
    if len(kept) < _FEWEST_ROWS:
        raise DataError(
            "--corpus",
            f"at least {_FEWEST_ROWS} paragraphs of text",
            f"{len(kept)} in {shown(corpus)}",
            "Give more text; paragraphs are separated by empty lines.",
        )
    return datasets.Dataset.from_dict({"text": kept})


def _loaded(corpus: str) -> datasets.Dataset:
    if not Path(corpus).exists() and (Path(corpus).suffix in _TEXT_SUFFIXES or corpus.startswith((".", "/", "~"))):
        raise DataError("--corpus", "a file or folder that is there", shown(corpus), "Check the path.")
    try:
        if Path(corpus).is_file():
            rows = datasets.load_dataset("text", data_files=corpus, sample_by="paragraph", split="train")
        else:
            rows = datasets.load_dataset(corpus, split="train")
    except Exception as error:  # whatever the loader says, it says it of this argument
        raise DataError(
            "--corpus",
            "a text file, a folder or the name of a dataset with a train split",
            f"{shown(corpus)}, which cannot be loaded ({shown(str(error))})",
            "Check the name and that it can be reached from here.",
        ) from error
    if "text" not in rows.column_names:
        raise DataError(
            "--corpus", "a dataset with a column 'text'", f"the columns {', '.join(rows.column_names)}", "Rename one."
        )
    return rows


def _corpus_name(corpus: str | None) -> str:
    return "the manual that ships inside Python (pydoc_data.topics)" if corpus is None else corpus


def _model(settings: Settings, tokenizer: Any) -> Any:
    """The paper's LSTM, for the tokenizer's characters."""
    transformers.set_seed(settings.seed)
    config = AutoConfig.from_pretrained(
        config_file("lstm-2x200"),
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return AutoModelForCausalLM.from_config(config)


def _trainer(
    settings: Settings, model: Any, tokenizer: Any, train_rows: datasets.Dataset, test_rows: datasets.Dataset
) -> Trainer:
    """A stock Trainer, as a user would write it."""

    def windowed(rows: datasets.Dataset) -> datasets.Dataset:
        ids = windows(tokenizer(list(rows["text"]))["input_ids"], 100, tokenizer.pad_token_id)
        return datasets.Dataset.from_dict({"input_ids": ids})

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(settings.out),
            num_train_epochs=settings.epochs,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=64,
            learning_rate=6e-3,
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            dataloader_pin_memory=torch.cuda.is_available(),
            disable_tqdm=True,
            seed=settings.seed,
        ),
        train_dataset=windowed(train_rows),
        eval_dataset=windowed(test_rows),
        processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.remove_callback(PrinterCallback)  # the table says it
    return trainer


def _header(canaries: CanarySet) -> str:
    names = "".join(f"{'×' + str(copies):>6}" for copies in canaries.repetitions)
    width = len(names)
    return (
        "Exposure in bits, the median of each level. A canary never seen has 1.4 on average;\n"
        f"{math.log2(canaries[0].format.space_size):.1f} is the most there is; the skew-normal extrapolates, and may "
        "pass it.\n≥: nothing that was looked at was as likely.\n"
        "\n"
        f"      validat. {'measured, inserted':>{width}} {'':6}  {'skew-normal, inserted':>{width}}\n"
        f"epoch    loss {names} {'twins':>6}  {names}"
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _save_checkpoint(model: Any, tokenizer: Any, folder: Path) -> None:
    """Model and tokenizer under `folder`, which is whole as soon as it is there."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)


def _extract(model: Any, tokenizer: Any, format: CanaryFormat, console: Console) -> Extraction:
    with console.status("Searching") if console.is_terminal else nullcontext() as status:
        return extract(
            model,
            tokenizer,
            format,
            max_expanded=1_000_000,
            max_seconds=_SEARCH_SECONDS,
            progress=lambda now: (
                status.update(visible(f"Searching: {now.expanded:,} prefixes expanded, bound {now.bound:.1f} bits"))
                if status
                else None
            ),
        )


def _tell(canaries: CanarySet, last: ExposureReport, found: Extraction, console: Console) -> None:
    """What was found, in words that say no more than the numbers do."""
    best = found.candidates[0] if found.candidates else None
    space = canaries[0].format.space_size
    if best is None:
        _say(console, f"  Nothing found within {found.expanded:,} expanded prefixes.")
    else:
        inserted = next((canary for canary in canaries if canary.fill == best.fill), None)
        _say(console, f"  found         {best.text}")
        _say(console, f"  which is      {_origin(inserted)}")
        _say(console, f"  log-perpl.    {best.log_perplexity:.2f} bits")
        _say(console, f"  expanded      {found.expanded:,} prefixes, of |R| = {counted(space)} candidates")
        _say(console, f"  {found.proof}")
        for line in found.worth:
            _say(console, f"  {line}")
        _say(console, "")
    for level in last.levels:
        _say(console, _level_in_words(level.repetitions, canaries, last))
    _say(console, "  A canary inserted once may well not be memorised: what you see is measured, not staged.")


def _origin(canary: Canary | None) -> str:
    if canary is None:
        return "no canary that was inserted: the model prefers another fill"
    return f"the canary {canary.id}, inserted {pictures.times(canary.repetitions)}"


def _level_in_words(copies: int, canaries: CanarySet, last: ExposureReport) -> str:
    names = {canary.id for canary in canaries if canary.repetitions == copies}
    here = [each for each in last if each.estimator == "auto" and each.canary_id in names]
    space = canaries[0].format.space_size
    if min(each.low for each in here) >= _MEMORISED:
        sense = (
            f"memorised: each is among the {counted(space // 2**_MEMORISED)} likeliest of {counted(space)} candidates"
        )
    elif max(each.value for each in here) < 5.0:
        sense = "not memorised: canaries never seen look like this"
    else:
        values = ", ".join(_bounded(each.value, CENSORED in each.flags) for each in here)
        sense = f"exposures of {values} bits; a canary never seen passes 5 bits once in 32 times"
    return f"  Inserted {pictures.times(copies)}: {sense}."


def _draw(out: Path, last: ExposureReport, format: CanaryFormat) -> None:
    records = Record(out).lines()
    against_repetitions, over_training, histogram = (out / name for name in _PICTURES)
    pictures.exposure_against_repetitions(last, format.space_size, against_repetitions)
    pictures.exposure_over_training(records, format.space_size, over_training)
    pictures.reference_histogram(last, format, histogram)


def training_lines() -> str:
    """The lines that a user adds to a training script of his own."""
    return f"""\
from hf_canary import CanaryFormat, CanarySet, ExposureCallback

canaries = CanarySet.draw(CanaryFormat("{TEMPLATE}"))
canaries.save("canaries.json")
train_rows = canaries.inject(train_rows)  # your datasets.Dataset with a column "text", before it is tokenised
trainer.add_callback(ExposureCallback(canaries))  # your transformers.Trainer, before trainer.train()
"""


def checkpoint_lines(out: Path) -> str:
    """The lines that measure and extract from the checkpoint that the demonstration left."""
    return f"""\
import hf_canary.models
from hf_canary import CanarySet, extract, measure_exposure
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({str(out / "checkpoint")!r})
tokenizer = AutoTokenizer.from_pretrained({str(out / "checkpoint")!r})
canaries = CanarySet.load({str(out / "canaries.json")!r})
print(measure_exposure(model, tokenizer, canaries))
print(extract(model, tokenizer, canaries.formats[0]))
"""


def extract_command(out: Path) -> str:
    """The command that extracts from the checkpoint that the demonstration left."""
    return f'hf-canary extract {shlex.quote(str(out / "checkpoint"))} --format "{TEMPLATE}"'


def _next_steps(out: Path, console: Console) -> None:
    def block(title: str, code: str) -> None:
        _say(console, f"\n{title}\n")
        for line in code.splitlines():
            _say(console, f"    {line}" if line else "")

    files = "canaries.json, checkpoint/, _exposure.jsonl and three pictures"
    _say(console, f"\nIn {out}: {files}.")
    block("The same in your own training script:", training_lines())
    block("On the checkpoint that was left, in Python:", checkpoint_lines(out))
    block("And from the shell:", extract_command(out))


def _say(console: Console, line: str) -> None:
    for part in line.split("\n"):
        say(console, part)


def _bounded(value: float, censored: bool) -> str:
    return f"{'≥' if censored else ''}{value:.1f}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"

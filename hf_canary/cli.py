"""The command line: `hf-canary demo`, `measure`, `extract`, `rank`. Words into calls, and results into words."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from . import __version__
from .errors import CanaryError, counted, listed, printable
from .reporting.terminal import say, visible
from .runtime.json_text import json_text, plain, read_json

if TYPE_CHECKING:
    from .canaries import Canary, CanarySet
    from .extraction.result import Extraction
    from .formats.canary_format import CanaryFormat
    from .training.contexts import Recorded

NOT_PROVEN = 3


class _Flags:
    """A command whose help has no type for its flags: what is switched on takes no word."""

    def get_params(self, ctx: Any) -> Any:
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class _Command(_Flags, TyperCommand):
    pass


class _Group(_Flags, TyperGroup):
    pass


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
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


class Order(StrEnum):
    """The strategies of a search, as the command line offers them."""

    auto = "auto"
    best_first = "best-first"
    depth_first = "depth-first"
    paper = "paper"


class Precision(StrEnum):
    """In which the weights are read."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    auto = "auto"


_Notice = Callable[[Any], None]
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}
_CONFIG, _ADAPTER, _SERVERS_FAULT = "config.json", "adapter_config.json", 500
_GIVE = "Give --record, or --context, if something did: without it a leak may look safe."

# Arguments of functions that are options here, so that an error can name them.
_ARGUMENTS = (
    "fill",
    "text",
    "format",
    "top_k",
    "source",
    "context",
    "end",
    "spaces",
    "canaries",
    "checkpoint",
    "max_memory",
    "batch_size",
    "num_references",
    "num_draws",
    "max_seconds",
    "max_expanded",
)


def _whole_number(text: str) -> int:
    """As people write it, or hexadecimal behind 0x, as JSON has the largest."""
    try:
        return int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError as error:
        raise typer.BadParameter("Give a whole number; one of thousands of digits in hexadecimal, 0x1f.") from error


ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A folder with a checkpoint, or a Hub id.")]
FormatOption = Annotated[
    str | None,
    typer.Option(
        help='The text with holes, such as "The random number is {digit:9}"; may be left out with --canary.',
        show_default=False,
    ),
]
SpacesOption = Annotated[
    Path | None,
    typer.Option(
        help='A JSON file with alphabets of your own, such as {"word": ["red", "green"]}.', show_default=False
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        help="Text before the canary where it was trained on: conditioned on, not summed. \\n is a line end, \\t a "
        'tab, \\\\\\\\ a backslash; "" is nothing. Left out, it is what the record of the training says.',
        show_default=False,
    ),
]
ContextFileOption = Annotated[
    Path | None, typer.Option(help="The same from a file, every character as it is.", show_default=False)
]
RecordOption = Annotated[
    Path | None,
    typer.Option(
        help="The private record of the training, _exposure.jsonl, or its folder: what stood before the canaries. Left "
        "out, it is looked for beside MODEL and a folder above.",
        show_default=False,
    ),
]
CanariesOption = Annotated[
    Path | None,
    typer.Option(
        help="The file that CanarySet.save wrote: candidates that are canaries are marked; for --canary.",
        show_default=False,
    ),
]
CanaryOption = Annotated[
    str | None,
    typer.Option(help="The id of a canary of --canaries: behind what stood before this one.", show_default=False),
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        help="What an encoder-decoder reads, the same for every fill; before a causal model it is the context.",
        show_default=False,
    ),
]
EndOption = Annotated[bool, typer.Option("--end", help="Sum the end token behind each candidate, too.")]
MostOption = Annotated[int, typer.Option(min=1, help="Stop after so many prefixes.")]
SecondsOption = Annotated[float | None, typer.Option(min=0.0, help="Stop after so long.")]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        help="What open prefixes, forward passes and what is found may take, such as 4GB.", show_default="1GiB"
    ),
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(help="Keep the search in this file now and then; if it is there, go on from it.", show_default=False),
]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Rows of one forward pass; chosen if left out.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]
DtypeOption = Annotated[
    Precision,
    typer.Option(help="Precision of the weights; auto is the checkpoint's own. Half is off by tenths of a bit."),
]
TrustOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the model's own code, from wherever it was loaded.")
]


@app.command(cls=_Command)
def demo(
    out: Annotated[Path, typer.Option(help="The folder to leave.")] = Path("hf-canary-demo"),
    corpus: Annotated[
        str | None,
        typer.Option(help="Text of your own: a file, a folder or a dataset's name. Without it, Python's manual."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the text.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Of the canaries, the weights and the order.")] = 0,
    num_references: Annotated[int, typer.Option(min=1, help="Random candidates of each measurement.")] = 10_000,
) -> None:
    """Train a small model on real text with canaries in it, watch their exposure rise, and extract one.

    Takes a few minutes on two cores, and no network. Leaves the canaries, the checkpoint, the record and three
    pictures in a folder, and prints the lines that do the same in a training script of your own.
    """
    with _plain_errors():
        with _err.status("Loading torch, transformers and datasets"):
            from .demo import Settings, run
        run(Settings(out=out, corpus=corpus, epochs=epochs, seed=seed, num_references=num_references), _out)


@app.command(cls=_Command)
def extract(
    model: ModelArgument,
    format: FormatOption = None,
    spaces: SpacesOption = None,
    source: SourceOption = None,
    context: ContextOption = None,
    context_file: ContextFileOption = None,
    record: RecordOption = None,
    canaries: CanariesOption = None,
    canary: CanaryOption = None,
    end: EndOption = False,
    top_k: Annotated[int, typer.Option(min=1, help="How many candidates.")] = 1,
    strategy: Annotated[
        Order, typer.Option(help="depth-first takes the least memory; paper stops without a proof.")
    ] = Order.auto,
    max_expanded: MostOption = 1_000_000,
    max_seconds: SecondsOption = None,
    max_memory: MemoryOption = None,
    checkpoint: CheckpointOption = None,
    batch_size: BatchOption = None,
    as_json: JsonOption = False,
    dtype: DtypeOption = Precision.float32,
    trust_remote_code: TrustOption = False,
) -> None:
    """Find the likeliest fills of a format under a model, and say whether that is proven.

    Proven the likeliest is not leaked: every model has a likeliest candidate, also one that was never trained. Beside
    it stands what it is worth: how many samples of the model it takes, what a typical candidate costs, and with
    --canaries which candidates were inserted, and their exposure. Canaries that stood behind different texts are each
    likely behind their own: --canary takes that of one.

    Ctrl-C ends the search and prints what is proven so far. A killed search goes on from its --checkpoint.

    Exit code: 0 proven to be the likeliest, whether learned or not; 3 stopped before the proof (a cap, Ctrl-C), 1 an
    error, 2 wrong usage.
    """
    from .canaries import CanarySet

    with _plain_errors():
        given = _given_context(context, context_file)
        known = None if canaries is None else CanarySet.load(canaries)
        one = _canary_of(known, canary)
        wanted, own_source = _format(format, spaces, source, given, one)
        wanted.check_top_k(top_k)
        place = _place_of(model)

        from .extraction.likeliest import extract as extract_candidates  # torch, which takes seconds
        from .walks.search.checkpoint import check_writable

        memory = _bytes(max_memory)
        check_writable(checkpoint)
        if known is not None:
            _tell_trained_with(place, known)
        before, prefix, tell, here = _before_format(place, record, wanted, given, known, one, own_source)
        loaded, tokenizer = _load(place, dtype, trust_remote_code)
        tell(tokenizer)
        source = _source_beside(before, source, own_source, loaded, is_recorded=given is None)
        with _searching() as show:
            found = extract_candidates(
                loaded,
                tokenizer,
                wanted,
                source=source,
                source_prefix=prefix,
                context=before,
                end=end,
                top_k=top_k,
                strategy=strategy.value,
                batch_size=batch_size,
                max_expanded=max_expanded,
                max_seconds=max_seconds,
                max_memory=memory,
                checkpoint=checkpoint,
                canaries=here,
                progress=show,
            )
    if as_json:
        of = _provenance(loaded, wanted, source, before, prefix, known, one) | {"end": end}
        print(json_text(plain({"provenance": of} | asdict(found) | {"margin": found.margin})))
    else:
        _tell(found, known, here)
    raise typer.Exit(0 if found.certified else NOT_PROVEN)


def _tell(found: Extraction, known: CanarySet | None, here: Sequence[Canary] | None) -> None:
    """What a search found, what it proved, and what that is worth; `here` are the canaries that stood behind what is
    searched behind.
    """
    from .estimators.worth import canary_in_words

    size = found.space_size
    for candidate in found.candidates:
        _say(f"{candidate.log_perplexity:8.2f} bits  {candidate.text}")
        if candidate.canary and known is not None:
            words = canary_in_words(
                candidate.canary,
                candidate.rank,
                candidate.exposure,
                size,
                found.num_canaries,
                drawn=known.kind == "drawn",
            )
            _say(f"{'':15}{words}")
        for canary in known or ():
            if canary.text == candidate.text and canary.id != candidate.canary:
                _say(f"{'':15}canary {canary.id}, which stood behind another context; --canary {canary.id} takes that")
    scored = f", {counted(found.num_references)} random candidates scored" if found.num_references else ""
    _say(_work_in_words(found.expanded, size, scored))
    _say(found.proof + _remedy(found.stopped))
    for line in found.worth:
        _say(line)
    left = found.num_canaries - sum(bool(candidate.canary) for candidate in found.candidates)
    if left:
        of_them = "of this format" if here == list(known or ()) else "of this format that stood behind this context"
        _say(f"{left} of the {found.num_canaries} canaries {of_them} are not listed; hf-canary measure has all.")
    elsewhere = len(set(known or ()) - set(here or ()))
    if elsewhere:
        who = f"{elsewhere} canaries" if elsewhere > 1 else "1 canary"
        _say(f"{who} stood behind other contexts; hf-canary measure has each behind its own.")


@app.command(cls=_Command)
def rank(
    model: ModelArgument,
    format: FormatOption = None,
    fill: Annotated[
        list[int] | None,
        typer.Option(
            parser=_whole_number,
            metavar="<int>",
            help="The number of a fill, such as the digits themselves; may be given several times.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="The same as the whole text, holes filled; may be given several times.")
    ] = None,
    spaces: SpacesOption = None,
    source: SourceOption = None,
    context: ContextOption = None,
    context_file: ContextFileOption = None,
    record: RecordOption = None,
    canaries: CanariesOption = None,
    canary: CanaryOption = None,
    end: EndOption = False,
    max_expanded: MostOption = 1_000_000,
    max_seconds: SecondsOption = None,
    max_memory: MemoryOption = None,
    checkpoint: CheckpointOption = None,
    batch_size: BatchOption = None,
    as_json: JsonOption = False,
    dtype: DtypeOption = Precision.float32,
    trust_remote_code: TrustOption = False,
) -> None:
    """Count how many candidates of a format are at least as likely as a fill: its exact rank, and its exposure.

    Rank 1 is the likeliest: exposure is log2 of the number of candidates then. Nothing is counted that is less likely
    than the fill, so that this is quick for fills that were memorised, at whatever number of candidates. How much work
    is expected is said first. Where a cap ends it, bounds are proven instead. A fill that was drawn at random and never
    trained on has b bits of exposure or more once in 2^b times; of one that was chosen because it is likely, such as
    what extract found, the exposure says nothing.

    With --canaries and --canary it is the rank of that canary, behind what stood before it in training.

    Exit code: 0 ranks, high or low; 3 bounds (a cap, Ctrl-C while it counts), 1 an error, 2 wrong usage.
    """
    from .canaries import CanarySet

    with _plain_errors():
        given = _given_context(context, context_file)
        known = None if canaries is None else CanarySet.load(canaries)
        one = _canary_of(known, canary)
        wanted, own_source = _format(format, spaces, source, given, one)
        fills = [*(fill or []), *_parsed(wanted, text or [])]
        if not fills and one is not None:
            fills = [one.fill]
        if not fills:
            raise typer.BadParameter("Give --fill or --text, once or more, or --canary.")
        texts = [wanted.render(number) for number in fills]
        place = _place_of(model)

        from .estimators.exposures import exposure_of_rank
        from .extraction.exact_ranks import exact_rank  # torch, which takes seconds
        from .extraction.result import why
        from .walks.search.checkpoint import check_writable

        memory = _bytes(max_memory)
        check_writable(checkpoint)
        if known is not None:
            _tell_trained_with(place, known)
        before, prefix, tell, _ = _before_format(place, record, wanted, given, known, one, own_source)
        loaded, tokenizer = _load(place, dtype, trust_remote_code)
        tell(tokenizer)
        source = _source_beside(before, source, own_source, loaded, is_recorded=given is None)
        with _searching(counts=True) as show:
            ranks = exact_rank(
                loaded,
                tokenizer,
                wanted,
                fills,
                source=source,
                source_prefix=prefix,
                context=before,
                end=end,
                batch_size=batch_size,
                max_expanded=max_expanded,
                max_seconds=max_seconds,
                max_memory=memory,
                checkpoint=checkpoint,
                progress=show,
            )
    size = wanted.space_size
    rows = [
        {"fill": number, "text": text_of_it}
        | {"rank": found.rank, "low": found.low, "high": found.high, "ties": found.ties, "expected": found.expected}
        | {"possible": found.is_possible}
        | {"exposure_low": exposure_of_rank(found.high, size), "exposure_high": exposure_of_rank(found.low, size)}
        for number, text_of_it, found in zip(fills, texts, ranks, strict=True)
    ]
    if as_json:
        of = _provenance(loaded, wanted, source, before, prefix, known, one) | {"end": end}
        whole = {"provenance": of, "ranks": rows, "expanded": ranks[0].expanded, "space_size": size}
        whole["stopped"] = ranks[0].stopped
        print(json_text(plain(whole)))
    else:
        for row in rows:
            _say(_rank_in_words(row))
        _say(_work_in_words(ranks[0].expanded, size))
        if ranks[0].stopped and any(found.rank is None for found in ranks):
            _say(why(ranks[0].stopped) + _remedy(ranks[0].stopped))
    raise typer.Exit(0 if all(found.rank is not None for found in ranks) else NOT_PROVEN)


def _provenance(
    model: Any,
    format: CanaryFormat,
    source: str | None,
    context: Any,
    source_prefix: Any,
    canaries: CanarySet | None,
    canary: Canary | None,
) -> dict[str, Any]:
    """What was searched: with what the candidates stand behind, in full, since the candidates stand beside it."""
    from .reporting.provenance import of_canaries, provenance
    from .tokenization.contexts import written_out

    return provenance(
        model,
        format=format.template,
        source=source,
        context=written_out(context),
        source_prefix=written_out(source_prefix),
        canaries=None if canaries is None else of_canaries(canaries),
        canary=None if canary is None else canary.id,
    )


def _rank_in_words(row: dict[str, Any]) -> str:
    if row["rank"] is None:
        needed = f"; about {counted(row['expected'])} prefixes are needed for it" if row["expected"] else ""
        place = f"rank {counted(row['low'])} to {counted(row['high'])}, not counted to the end{needed}"
        bits = f"exposure {row['exposure_low']:.2f} to {row['exposure_high']:.2f} bits"
    else:
        ties = f", {counted(row['ties'])} other{'s' * (row['ties'] > 1)} as likely" if row["ties"] else ""
        ties = ties if row["possible"] else ", since its probability is 0"
        low, high = (f"{row[end]:.2f}" for end in ("exposure_low", "exposure_high"))
        place = f"rank {counted(row['rank'])}{ties}"
        bits = f"exposure {low if low == high else f'{low} to {high}'} bits"
    return f"{row['text']}: {place}; {bits}"


def _work_in_words(expanded: int, space_size: int, beside: str = "") -> str:
    return f"{counted(expanded)} prefixes expanded{beside}; the format has {counted(space_size)} candidates"


def _format(
    template: str | None, spaces: Path | None, source: str | None, context: str | None, canary: Canary | None
) -> tuple[CanaryFormat, str | None]:
    """A format, with alphabets from a file, or that of a canary; and the source, that of the canary if none was given.
    Before a model is loaded it is sure that what stands beside it is fixed.
    """
    from .formats.canary_format import CanaryFormat

    if template is None and canary is None:
        raise typer.BadParameter("Give --format; or, for that of a canary, both --canaries and --canary.")
    if canary is not None:
        _check_format_of(canary, template, spaces)
        template, source = canary.format.template, canary.source if source is None else source
        format = CanaryFormat(template, spaces=canary.format.spaces)
    else:
        format = CanaryFormat(str(template), spaces=_read_spaces(spaces))
    for argument, text in (("source", source), ("context", context)):
        format.check_fixed(argument, text)
    return format, source


def _source_beside(before: Any, given: str | None, own: str | None, model: Any, *, is_recorded: bool) -> str | None:
    """The source to search with. What stands before canaries of a causal model holds it, if it is known.

    Args:
        before: what stands before the canaries.
        given: what was given for a source.
        own: that, or the source of the canary.
        model: any.
        is_recorded: whether what stands before them is from the record.

    Raises:
        ArgumentError: a source beside what holds it.
    """
    from .errors import ArgumentError
    from .inference.evaluation import reads_sources
    from .tokenization.contexts import SourceContext

    if reads_sources(model) or before is None or isinstance(before, SourceContext):
        return own
    if given is not None and is_recorded:
        raise ArgumentError(
            "--source",
            "none: the record has all that stood before the canaries",
            "one",
            "Leave it out, or give --context for what is to stand there.",
        )
    return given


def _check_format_of(canary: Canary, template: str | None, spaces: Path | None) -> None:
    """Refuse a format beside a canary that has another."""
    from .errors import ArgumentError, shown

    if template not in (None, canary.format.template):
        raise ArgumentError(
            "--format", f"that of {canary.id}, {shown(canary.format.template)}", shown(template), "Leave it out."
        )
    if spaces is not None:
        raise ArgumentError("--spaces", f"none: {canary.id} has its own", shown(str(spaces)), "Leave it out.")


def _canary_of(canaries: CanarySet | None, name: str | None) -> Canary | None:
    """The canary of this id; None if none was asked for.

    Raises:
        ArgumentError: no set that has it.
    """
    from .errors import ArgumentError, shown

    if name is None:
        return None
    if canaries is None:
        raise ArgumentError("--canaries", "the file of the set that --canary is of", "none", "Give it.")
    found = next((canary for canary in canaries if canary.id == name), None)
    if found is None:
        ids = listed([canary.id for canary in canaries])
        raise ArgumentError("--canary", f"an id of the set: {ids}", shown(name), "hf-canary measure prints them.")
    return found


def _read_spaces(file: Path | None) -> Any:
    from .errors import DataError, shown

    if file is None:
        return None
    expected, remedy = "a JSON file with an object in it", 'Write {"name": ["text", "text"]}.'
    try:
        spaces = read_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("--spaces", expected, f"{shown(str(file))} ({shown(str(error))})", remedy) from error
    if not isinstance(spaces, dict):
        raise DataError("--spaces", expected, f"{shown(str(file))}, which has none", remedy)
    return spaces


def _parsed(format: CanaryFormat, texts: list[str]) -> Iterator[int]:
    """The fills of texts; an error says which text it is, and does not repeat it."""
    from .errors import FormatError

    for number, text in enumerate(texts, start=1):
        try:
            yield format.parse(text)
        except FormatError as error:
            which = f"as number {number} of {len(texts)} " if len(texts) > 1 else ""
            raise type(error)(error.argument, error.expected, f"{which}{error.got}", error.remedy) from error


def _bytes(amount: str | None) -> int | None:
    """`4GB`, `512MiB` or a plain number as bytes."""
    from accelerate.utils.modeling import convert_file_size_to_int

    from .errors import ArgumentError, shown

    if amount is None:
        return None
    try:
        size = int(amount) if amount.strip().isdecimal() else convert_file_size_to_int(amount.strip())
    except ValueError:
        size = 0
    if size < 1:
        raise ArgumentError("--max-memory", "bytes, or an amount such as 4GB or 512MiB", shown(amount), "Write it so.")
    return size


def _remedy(stopped: str) -> str:
    return f"; raise --{_option(stopped)}" if stopped.startswith("max_") else ""


def _option(argument: str) -> str:
    return argument.replace("_", "-")


@app.command(cls=_Command)
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
    context_file: ContextFileOption = None,
    record: RecordOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Measure a model that was trained with other canaries, too.")
    ] = False,
    max_seconds: Annotated[
        float | None, typer.Option(help="What it may take: the samples shrink, and the intervals widen.")
    ] = None,
    batch_size: BatchOption = None,
    save: Annotated[Path | None, typer.Option(help="Write all of it to this file, as JSON.")] = None,
    as_json: JsonOption = False,
    dtype: DtypeOption = Precision.float32,
    trust_remote_code: TrustOption = False,
) -> None:
    """Measure the exposure of canaries under a model.

    Exposure is in bits: 1.4 on average for a canary never seen, log2 of the number of candidates at most. "auto" counts
    ranks, draws from the model or samples candidates, whichever says most, and tells which; beside it stands the
    paper's skew-normal extrapolation.

    A model says by hf_canary.json, beside its weights, which canaries it was trained with: with others it is an error.
    """
    from tqdm.auto import tqdm

    from .canaries import CanarySet

    with _plain_errors():
        loaded_canaries = CanarySet.load(canaries)
        if save is not None:
            _check_target(save, canaries)
        given = _given_context(context, context_file)
        place = _place_of(model)

        from .measure import measure_exposure  # torch, which takes seconds

        _check_trained_with(place, loaded_canaries, force=force)
        before, prefixes, tell = _before_canaries(place, record, loaded_canaries, given)
        loaded, tokenizer = _load(place, dtype, trust_remote_code)
        tell(tokenizer)
        with tqdm(desc="Scoring", unit=" texts", leave=False, disable=None) as bar:
            report = measure_exposure(
                loaded,
                tokenizer,
                loaded_canaries,
                estimators=estimator or ("auto", "skewnorm"),
                num_references=num_references,
                num_draws=num_draws,
                seed=seed,
                context=before,
                source_prefix=prefixes,
                max_seconds=max_seconds,
                batch_size=batch_size,
                progress=bar.update,
            )
        if save is not None:
            report.save(save)
            _note(f"Saved to {save}")
    if as_json:
        print(json_text(report.as_json()))
    elif _out.is_terminal:
        from .reporting.table import tables

        _out.print(tables(report, _out.width))
    else:
        print(report)


def _given_context(text: str | None, file: Path | None) -> str | None:
    """What was said of the context: a text with its escapes written out, or that of a file; None if nothing was."""
    from .errors import ArgumentError, DataError, shown

    if text is not None and file is not None:
        raise ArgumentError("--context", "one of --context and --context-file", "both", "Leave one out.")
    if file is not None:
        try:
            return file.read_bytes().decode("utf-8")
        except (OSError, ValueError) as error:
            raise DataError(
                "--context-file", "a file of UTF-8 text", f"{shown(str(file))} ({error})", "Check it."
            ) from error
    if text is None:
        return None
    unknown = next((found for found in re.findall(r"\\(.?)", text, re.DOTALL) if found not in _ESCAPES), None)
    if unknown is not None:
        raise ArgumentError(
            "--context",
            "a text in which a backslash is followed by n, t or another backslash",
            f"one followed by {shown(unknown)}",
            "Write \\\\ for a backslash, or give --context-file.",
        )
    return re.sub(r"\\(.)", lambda found: _ESCAPES[found[1]], text)


def _check_trained_with(name: str, canaries: CanarySet, *, force: bool) -> None:
    """Refuse canaries that a model was not trained with, as far as it says so."""
    from .errors import DataError
    from .training.fingerprints import FINGERPRINT_FILE, fingerprint_of

    theirs = fingerprint_of(name)
    if theirs is None:
        _note(f"Which canaries {name} was trained with is unknown: there is no {FINGERPRINT_FILE} beside its weights.")
    elif theirs != canaries.fingerprint:
        if not force:
            raise DataError(
                "--canaries",
                "the set that the model was trained with",
                f"another: its fingerprint is not the one in {FINGERPRINT_FILE}",
                "Give the file that was saved when they were injected; --force measures these all the same.",
            )
        _note("Forced: the model was trained with other canaries. These say nothing of what it has memorised.")


def _tell_trained_with(name: str, canaries: CanarySet) -> None:
    """Say that a model was trained with other canaries than those that are to be marked, if it says so."""
    from .training.fingerprints import fingerprint_of

    theirs = fingerprint_of(name)
    if theirs is not None and theirs != canaries.fingerprint:
        _note("The model was trained with other canaries than those of --canaries.")


def _before_canaries(
    name: str, record: Path | None, canaries: CanarySet, given: str | None
) -> tuple[Any, Any, _Notice]:
    """What canaries are measured behind, and their sources: what was given, or what the record of the training says."""
    from .training.contexts import Recorded

    recorded = Recorded(name if record is None else record)
    known = recorded.of_canaries(canaries)
    if known is None:
        _check_record(record, "of these canaries")
        if given is None:
            nothing = _nothing_but(any(canary.source for canary in canaries), "their sources")
            _note(f"What stood before the canaries in training is unknown; they are measured behind {nothing}. {_GIVE}")
        return given, None, _no_notice
    contexts, prefixes, unknown = known
    if given is not None:
        theirs = {context for context, canary in zip(contexts, canaries, strict=True) if canary.id not in unknown}
        one = canaries[0]
        return given, prefixes, _context_notice(recorded.file, given, theirs, one.format, one.source, to_all=True)
    if unknown:
        nothing = _nothing_but(any(canary.source for canary in canaries), "their sources")
        _note(
            f"What stood before {listed(unknown)} in training is unknown; they are measured behind {nothing}. {_GIVE}"
        )
    _note(f"Measured behind {_what_is_recorded(recorded, contexts)}.")
    several = len(set(zip(contexts, (canary.format for canary in canaries), strict=True)))
    if several > len(canaries.formats):
        _note(
            f"They stood behind {len(set(contexts))} contexts: for each, canaries of a format have references of their "
            "own, which takes its time."
        )
    return contexts, prefixes, _no_notice


def _what_is_recorded(recorded: Recorded, contexts: Sequence[Any], of: str = "the canaries") -> str:
    if not any(context for context in contexts):
        return f"nothing, as in training ({recorded.file})"
    if recorded.are_given:
        return f"the context that the callback was given for {of} ({recorded.file}); its log says if the rows differ"
    return f"what stood before {of} in training ({recorded.file})"


def _before_format(
    name: str,
    record: Path | None,
    format: CanaryFormat,
    given: str | None,
    canaries: CanarySet | None,
    canary: Canary | None,
    source: str | None,
) -> tuple[Any, Any, _Notice, list[Canary] | None]:
    """The same for the candidates of a format: behind what most of its canaries stood, or this one; and which canaries
    of a set stood there, as far as the record says.
    """
    from .errors import shown
    from .training.contexts import Recorded

    if canary is not None and canary.format.source_varies:
        _note(
            f"In training each fill has a source of its own; here all stand behind that of {canary.id}, and what it "
            "tells of the fill is no memory. hf-canary measure puts each behind its own."
        )
    recorded = Recorded(name if record is None else record)
    known = recorded.of_format(format)
    everyone = None if canaries is None else list(canaries)
    each = {} if canaries is None else _each_context(recorded, canaries)
    if not known:
        _check_record(record, "with canaries of this format")
        if given is None:
            nothing = _nothing_but(source is not None, "the source")
            _note(f"What stood before such texts in training is unknown; it is searched behind {nothing}. {_GIVE}")
        if recorded.templates() and format.template not in recorded.templates():
            theirs = listed([shown(each) for each in recorded.templates()])
            _note(
                f"By {recorded.file} the canaries were of the format {theirs}: what is found here says nothing of them."
            )
        return given, None, _no_notice, everyone
    if given is not None:
        tell = _context_notice(recorded.file, given, {context for context, _ in known}, format, source)
        own = known[0] if canary is None else each.get(canary.id, known[0])
        return given, own[1], tell, everyone
    before = known[0]
    if canary is not None:
        before = _own_context(each, canary)
    if any(before) or canary is not None:
        _note(f"Behind {_what_is_recorded(recorded, before, 'the canaries' if canary is None else canary.id)}.")
    if len(known) > 1 and canary is None:
        _note(
            f"The canaries of this format stood behind {len(known)} contexts, of which this is one: what was learned "
            "behind another may look unlikely here. --canaries FILE --canary ID takes that of a canary; hf-canary "
            "measure measures each behind its own."
        )
    here = [
        one
        for one in everyone or ()
        if one.format.template != format.template or each.get(one.id, before) == before  # others are not of this search
    ]
    return *before, _no_notice, here if everyone is not None else None


def _each_context(recorded: Recorded, canaries: CanarySet) -> dict[str, tuple[Any, Any]]:
    """By id, what stood before each canary and before its source, as far as the record knows it."""
    found = recorded.of_canaries(canaries)
    if found is None:
        return {}
    contexts, prefixes, unknown = found
    pairs = zip((canary.id for canary in canaries), contexts, prefixes, strict=True)
    return {name: (context, prefix) for name, context, prefix in pairs if name not in unknown}


def _own_context(each: Mapping[str, tuple[Any, Any]], canary: Canary) -> tuple[Any, Any]:
    """What stood before one canary, and before its source.

    Raises:
        ArgumentError: the record does not know it.
    """
    from .errors import ArgumentError, shown

    if canary.id not in each:
        got = f"{shown(canary.id)}, of which it knows nothing"
        remedy = "Give --record, the record of its training, or --context."
        raise ArgumentError("--canary", "one whose context the record of the training has", got, remedy)
    return each[canary.id]


def _no_notice(tokenizer: Any) -> None:
    """Nothing is to be said once there is a tokenizer."""


def _nothing_but(has_source: bool, source: str) -> str:
    return f"nothing but {source}" if has_source else "nothing"


def _context_notice(
    file: Path | None,
    given: str,
    theirs: set[Any],
    format: CanaryFormat,
    source: str | None,
    *,
    to_all: bool = False,
) -> _Notice:
    """Says, once there is a tokenizer, that a context by hand is not what stood before the canaries, if it is not."""

    def notice(tokenizer: Any) -> None:
        from .tokenization.contexts import SourceContext, as_prompt
        from .tokenization.encoding import context_behind, context_of

        text, target = format.render(0), format.source is not None

        def ids(context: Any) -> tuple[int, ...]:
            if isinstance(context, SourceContext) and source is not None:
                return context_behind(tokenizer, context, source, text).ids
            return context_of(tokenizer, context, text, target=target).ids

        mine = ids(as_prompt(given, format.source, fixed=None) if format.source_varies else given)
        comparable = [each for each in theirs if source is not None or not isinstance(each, SourceContext)]
        same = [ids(each) == mine for each in comparable]
        if theirs and not (all(same) if to_all else any(same)):
            _note(f"--context is not what stood before the canaries in training ({file}): a leak may look safe.")

    return notice


def _check_record(record: Path | None, of: str) -> None:
    from .errors import DataError, shown

    if record is not None:
        raise DataError(
            "--record", f"the record of a training, {of}", shown(str(record)), "Name _exposure.jsonl of that training."
        )


def _note(text: str) -> None:
    say(_err, text)


def _check_target(save: Path, canaries: Path) -> None:
    """Before a measurement, not after it: that it can be written, and over no canaries."""
    from .arguments import is_file_name, is_folder
    from .errors import DataError, shown

    there = is_file_name(save) and not is_folder(save) and is_folder(save.absolute().parent)
    if not there or save.resolve() == canaries.resolve():
        raise DataError(
            "--save", "a file in a folder that is there, and not the canaries'", shown(str(save)), "Name another file."
        )


def main() -> None:
    """The entry point."""
    # torch is imported later. Its threads wait for one another by spinning, which on a busy machine makes a training
    # step ten times slower and more; asleep, they leave the cores to whoever has work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(handlers=[_log_handler()])
    app()


def _log_handler() -> logging.Handler:
    """What is logged, by whomever, on its way to the terminal."""

    class Visible(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return "\n".join(map(printable, super().format(record).split("\n")))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Visible("%(levelname)s: %(message)s"))
    return handler


def _place_of(name: str) -> str:
    """Where a model is: its folder, or its Hub id if the Hub can be asked for it; where the Hub cannot be reached, the
    folder of what was downloaded before. One question, so that a name that is none ends at once, and in one error.

    Raises:
        ModelError: no such model, as far as can be told.
    """
    from .arguments import is_folder
    from .errors import ModelError, shown

    if is_folder(name):
        _check_checkpoint(Path(name))
        return name
    if name.startswith((".", "/", "~")):
        raise ModelError("MODEL", "a folder that is there, or a Hub id", shown(name), "Check the name.")
    why = _why_not_reached(name)
    if not why:
        return name
    from huggingface_hub import try_to_load_from_cache

    cached = (try_to_load_from_cache(name, file) for file in (_CONFIG, _ADAPTER))
    downloaded = next((file for file in cached if isinstance(file, str)), None)
    if downloaded is None:
        got = f"{shown(name)}: no such folder, nothing downloaded before, and {why}"
        raise ModelError("MODEL", "a folder that is there, or a Hub id", got, "Check the name.")
    _note(f"{name} is read from what was downloaded before: {why}.")
    return str(Path(downloaded).parent)


def _check_checkpoint(folder: Path) -> None:
    """Refuse a folder that holds checkpoints and is none, as a training or the demonstration leaves it."""
    from .errors import ModelError, shown

    if any((folder / name).is_file() for name in (_CONFIG, _ADAPTER)):
        return
    found = {file.parent for name in (_CONFIG, _ADAPTER) for file in folder.glob(f"*/{name}")}
    below = sorted(found, key=lambda each: each.stat().st_mtime)
    elsewhere = f"; there is one in {listed([str(each) for each in below])}" if below else ""
    raise ModelError(
        "MODEL",
        f"a folder with a checkpoint, in which there is a {_CONFIG}",
        f"{shown(str(folder))}, which has none{elsewhere}",
        f"Give {below[-1]}." if below else "Check the name, or save the model there: save_pretrained.",
    )


def _why_not_reached(name: str) -> str:
    """Why the Hub cannot be asked for a model, in words; empty if it can, whatever it then says of the name.

    Raises:
        ModelError: it knows no such model.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, logging
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    from .errors import ModelError, shown

    logging.set_verbosity_error()  # of each retry it says that it retries
    try:
        get_hf_file_metadata(hf_hub_url(name, _CONFIG))
    except HFValidationError:
        return ""
    except RepositoryNotFoundError as error:
        got = f"{shown(name)}: neither a folder here nor a model on the Hub that you may see"
        raise ModelError(
            "MODEL", "a folder that is there, or a Hub id", got, "Check the name; for a private one: hf auth login."
        ) from error
    except HfHubHTTPError as error:
        return "" if error.response.status_code < _SERVERS_FAULT else f"the Hub has an error ({shown(str(error))})"
    except Exception as error:  # of whatever the connection is made with
        return f"the Hub cannot be reached ({shown(str(error))})"
    return ""


def _load(name: str, dtype: Precision, trust_remote_code: bool) -> tuple[Any, Any]:
    """A model and its tokenizer, ours or anyone's; weights from safetensors only."""
    with _err.status(visible(f"Loading {name}")):
        return _loaded(name, dtype, trust_remote_code)


def _loaded(name: str, dtype: Precision, trust_remote_code: bool) -> tuple[Any, Any]:
    from transformers import logging

    from . import models  # noqa: F401 (registers the paper's architectures)
    from .inference.loading import adapter_at, load

    logging.disable_progress_bar()
    adapter = adapter_at(name)
    if adapter is not None:
        _note(f"{name} is an adapter; it is put on {'the model there' if adapter.base == name else adapter.base}.")
    return load(name, adapter, dtype=dtype.value, trust_remote_code=trust_remote_code)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Our errors, and an interrupt, in one line and with an exit code of their own."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        _note("Interrupted. What was written before is whole; no file is torn.")
        raise typer.Exit(130) from interrupt
    except CanaryError as error:
        say(_err, Text.assemble(visible("error", "bold red"), " ", visible(_in_options(error))))
        raise typer.Exit(1) from error


def _in_options(error: CanaryError) -> str:
    """An error whose arguments are named as the command has them."""
    argument = error.argument.replace("template", "format")
    argument = f"--{_option(argument)}" if argument in _ARGUMENTS else argument
    remedy = error.remedy.replace("spaces={name: [...]}", "--spaces FILE")
    parts = re.split(r"(\w+\([^)]*\))", remedy)  # a call is Python, and stays as it is
    parts[::2] = map(_named_as_options, parts[::2])
    return f"{argument}: expected {error.expected}; got {error.got}. {''.join(parts)}"


def _named_as_options(remedy: str) -> str:
    for name in _ARGUMENTS:
        option = f"--{_option(name)}"
        remedy = re.sub(rf"\b{name}=(True)?(?![{{\[])", option, remedy)
        if "_" in name:  # no word of a sentence
            remedy = re.sub(rf"(?<![-\w]){name}\b", option, remedy)
    return remedy


@contextmanager
def _searching(*, counts: bool = False) -> Iterator[Callable[[Any], None]]:
    """What a search says while it runs; on a terminal alone, but for the work that is foreseen, which is said once."""
    said: list[float] = []
    with _err.status("Searching") if _err.is_terminal else nullcontext() as status:

        def show(now: Any) -> None:
            if now.expected and not said:
                _note(f"About {counted(now.expected)} prefixes are to be expanded for all ranks.")
                said.append(now.expected)
            if status is not None:
                status.update(visible(_progress_in_words(now, counts=counts)))

        yield show


def _progress_in_words(now: Any, *, counts: bool) -> str:
    best = "none yet" if now.best == float("inf") else f"{now.best:.2f} bits"
    done = f" of about {counted(now.expected)}" if now.expected else ""
    found = f"counting up to {best}" if counts else f"best {best}, bound {now.bound:.2f} bits"
    return f"{now.expanded:,}{done} expanded, {now.open:,} open, {found}, {now.rate:,.0f} a second"


def _say(line: str) -> None:
    say(_out, line)

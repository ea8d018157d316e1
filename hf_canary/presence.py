"""Did the canaries reach the model? Reads what a trainer will see: token ids, labels, the collator's work on them.

The commonest way in which a memorisation test lies is a canary that was never trained on: cut off, cut in two by
packing, filtered out, masked from the loss. Knows datasets and labels; it calls no model.
"""

from __future__ import annotations

import copy
import itertools
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from .canaries import CanarySet
from .errors import DataError, kind, shown, told
from .occurrences import Core, Found, Hit, Occurrences, Piece
from .sequences import LENGTHS, cut, lengths_in, says_starts
from .surroundings import Surroundings, in_words
from .tokenization.contexts import Before, one_for_each
from .tokenization.encoding import context_of

logger = logging.getLogger(__name__)

Ints = NDArray[np.int64]
Collator = Callable[[list[Any]], Mapping[str, Any]]

_BATCH_TOKENS = 2**22
_IGNORED = -100
# Columns of zeros and ones that some trainers make labels of: 0 is not trained on.
_MASKS = ("completion_mask", "assistant_masks")

REMEDIES = {
    "missing": "inject before rows are filtered, deduplicated or tokenised, and train on what was injected",
    "split": "pack whole documents (packing_strategy='bfd'), or make the blocks longer",
    "truncated": "raise max_length, or make the format shorter",
    "masked": "train on all tokens (completion_only_loss=False, assistant_only_loss=False), or put the canary where "
    "the loss is",
}


@dataclass(frozen=True)
class CanaryPresence:
    """What became of the copies of one canary.

    Args:
        canary_id: its id.
        repetitions: copies that were to go in.
        whole: copies that stand whole in one row.
        split: copies that are cut in two, or more, by the ends of rows.
        truncated: copies of which a part is left.
        masked: of the whole ones those whose fill, or a part of it, is left out of the loss.
        in_evaluation: copies in the evaluation data, where none should be; None where that was not looked at.
    """

    canary_id: str
    repetitions: int
    whole: int = 0
    split: int = 0
    truncated: int = 0
    masked: int = 0
    in_evaluation: int | None = None

    @property
    def live(self) -> int:
        """Copies that are trained on."""
        return self.whole - self.masked

    @property
    def is_dead(self) -> bool:
        """Whether none is: the canary measures nothing."""
        return self.live == 0

    @property
    def reason(self) -> str:
        """What became of most copies that are not trained on; empty if all are."""
        if self.live >= self.repetitions:
            return ""
        lost = {name: getattr(self, name) for name in ("split", "truncated", "masked")}
        lost["missing"] = max(0, self.repetitions - self.whole - self.split - self.truncated)
        return max(lost, key=lost.__getitem__)


@dataclass(frozen=True)
class Presence:
    """What became of all canaries; iterating gives a `CanaryPresence` for each, in the order of the set.

    Args:
        canaries: each of them.
        rows: that were read.
        context: for each canary what all copies of it have in front of them, as tokens: what `measure_exposure` and
            others take as `context=`; None for nothing but what the tokenizer itself puts there.
        source_prefix: likewise what stands before its source, for `source_prefix=`.
        shapes: lines that say what the contexts are like, without a text.
        doubts: lines that say where a measurement behind them, or behind what was given, would mislead.
    """

    canaries: tuple[CanaryPresence, ...]
    rows: int
    context: tuple[Before, ...] = ()
    source_prefix: tuple[Before, ...] = ()
    shapes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[CanaryPresence]:
        return iter(self.canaries)

    def __len__(self) -> int:
        return len(self.canaries)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @property
    def dead(self) -> tuple[str, ...]:
        """The ids of canaries that are not trained on at all."""
        return tuple(each.canary_id for each in self if each.is_dead)

    @property
    def dead_levels(self) -> tuple[int, ...]:
        """Repetition levels without a live canary: nothing can be said of them, and the run is not valid."""
        alive = {each.repetitions for each in self if not each.is_dead}
        return tuple(sorted({each.repetitions for each in self} - alive))

    @property
    def is_valid(self) -> bool:
        """Whether each repetition level has a live canary."""
        return not self.dead_levels

    def lines(self) -> list[str]:
        """What a person should know, without a canary's text."""
        live, asked = sum(each.live for each in self), sum(each.repetitions for each in self)
        lines = [f"canaries: {live:,} of {asked:,} copies are trained on, in {self.rows:,} rows"]
        for reason, remedy in REMEDIES.items():
            hurt = [each for each in self if each.reason == reason]
            if hurt:
                named = ", ".join(_in_words(each) for each in hurt[:6]) + (" and others" if len(hurt) > 6 else "")
                lines.append(f"{reason}: {named}. To mend it: {remedy}.")
        more = [each for each in self if each.live > each.repetitions]
        if more:
            lines.append(f"more copies than were asked for: {', '.join(_in_words(each) for each in more[:6])}.")
        leaked = [each.canary_id for each in self if each.in_evaluation]
        if leaked:
            lines.append(f"in the evaluation data: {', '.join(leaked[:6])}. Inject into the training split alone.")
        lines += [*self.shapes, *self.doubts]
        if not self.is_valid:
            levels = ", ".join(f"x{copies}" for copies in self.dead_levels)
            lines.append(f"INVALID: no canary of {levels} is trained on; its exposure would say nothing.")
        return lines

    def records(self) -> list[dict[str, Any]]:
        """One plain dict for each canary, ready for JSON; never with a text."""
        return [asdict(each) | {"dead": each.is_dead, "reason": each.reason} for each in self]


def _in_words(each: CanaryPresence) -> str:
    left = " left" if each.live < each.repetitions else ""
    return f"{each.canary_id} ({each.live} of {each.repetitions}{left})"


def check_presence(
    tokenised: Any,
    canaries: CanarySet,
    tokenizer: Any,
    *,
    evaluation: Any = None,
    target: bool | None = None,
    collator: Collator | None = None,
    context: Before | Sequence[Before] = None,
) -> Presence:
    """What became of the copies of each canary in rows of tokens, as a trainer will see them.

    Copies are found whatever stands beside them: tokens at their ends may be joined with their neighbours. Spaces and
    lines at the ends of a text belong to it, unless the tokenizer drops them there when it is alone. A copy is
    *whole* in one row; *split* if the ends of rows cut it and the rest follows; *truncated* if only a part of it is
    left; *masked* if the loss leaves out its fill, or a part of it. What is left of a copy without its fill could be of
    any canary of the format: it is counted where no fewer such pieces are found than copies are missing.

    Args:
        tokenised: a `Dataset`, a stream, which is read to its end, or a sequence of dicts; with `input_ids`, and
            `labels` where they are not the same.
        canaries: the set that was injected.
        tokenizer: that made the tokens.
        evaluation: the same for the evaluation data, or a dict of several; streams are let pass.
        target: whether canaries are what a decoder writes, in `labels`; None looks whether labels are the same as ids.
        collator: the trainer's; then the labels are those that it makes of the rows that hold a canary, one by one.
        context: what the canaries will be measured behind, if that is given by hand: what the rows say otherwise is
            among the `doubts`. "" for nothing.

    Raises:
        DataError: no rows, or none with `input_ids`; no set of canaries; no tokenizer.

    Example:
        >>> from datasets import Dataset
        >>> from hf_canary import CanaryFormat, CanarySet
        >>> from hf_canary.models import character_tokenizer
        >>> canaries = CanarySet.draw(CanaryFormat("pin {digit:4}"), repetitions=(2,), per_repetition=1, seed=0)
        >>> tokenizer = character_tokenizer(["pin 0123456789 abc"])
        >>> train = canaries.inject(Dataset.from_dict({"text": ["abc", "cab"]}))
        >>> tokenised = train.map(lambda row: tokenizer(row["text"]))
        >>> check_presence(tokenised, canaries, tokenizer).canaries[0].whole
        2
        >>> short = train.map(lambda row: tokenizer(row["text"], truncation=True, max_length=6))
        >>> print(check_presence(short, canaries, tokenizer))
        canaries: 0 of 2 copies are trained on, in 4 rows
        truncated: f0-x2-0 (0 of 2 left). To mend it: raise max_length, or make the format shorter.
        INVALID: no canary of x2 is trained on; its exposure would say nothing.
    """
    if not isinstance(canaries, CanarySet):
        raise DataError("canaries", "a CanarySet", kind(canaries), "Load it: CanarySet.load(path).")
    if not hasattr(tokenizer, "all_special_ids"):
        raise DataError("tokenizer", "the tokenizer that made the tokens", shown(tokenizer), "Give it.")
    with undisturbed():  # rows may be made as they are asked for, and with chance
        return _presence(tokenised, canaries, tokenizer, evaluation, target, collator, context)


def _presence(
    tokenised: Any,
    canaries: CanarySet,
    tokenizer: Any,
    evaluation: Any,
    target: bool | None,
    collator: Collator | None,
    given: Before | Sequence[Before],
) -> Presence:
    collator = _copy_of(collator)
    data = _Data(tokenised, "tokenised", target, collator)
    of_decoder = data.has_targets if target is None else target
    occurrences = Occurrences(canaries, tokenizer, target=of_decoder)
    found = occurrences.find(data.batches("labels" if of_decoder else "input_ids"))
    surroundings = Surroundings(canaries, tokenizer, occurrences)
    inspector = _Inspector(data, canaries, occurrences, surroundings, collator)
    counts = _counted(found, canaries, inspector)
    leaked = _leaked(evaluation, occurrences, of_decoder, len(canaries))
    context, lost = surroundings.contexts()
    source_prefix, lost_too = surroundings.source_prefixes()
    return Presence(
        tuple(
            CanaryPresence(
                canary.id,
                canary.repetitions,
                whole=counts["whole"][number],
                split=counts["split"][number],
                truncated=counts["truncated"][number],
                masked=counts["masked"][number],
                in_evaluation=None if leaked is None else leaked[number],
            )
            for number, canary in enumerate(canaries)
        ),
        data.num_rows,
        tuple(context),
        tuple(source_prefix),
        tuple(_shapes(canaries, context, source_prefix, tokenizer)),
        (*_lost_in_words([*lost, *lost_too]), *_strange(surroundings, canaries, context, given, tokenizer, of_decoder)),
    )


def _lost_in_words(lost: Sequence[str]) -> list[str]:
    if not lost:
        return []
    return [
        f"no context could be made out for {_named(list(dict.fromkeys(lost)))}: their copies have nothing in common in "
        "front of them, or the tokenizer writes them otherwise there. They are measured as if they stood alone, which "
        "may make a leak look safe. Give context= by hand."
    ]


def _strange(
    surroundings: Surroundings,
    canaries: CanarySet,
    context: Sequence[Before],
    given: Before | Sequence[Before],
    tokenizer: Any,
    of_decoder: bool,
) -> list[str]:
    """Where contexts that were given by hand are not what stands before the canaries."""
    if given is None:
        return []
    never: dict[tuple[str, str], list[str]] = {}
    for number, (canary, mine, theirs) in enumerate(
        zip(canaries, one_for_each(given, len(canaries), "canaries"), context, strict=True)
    ):
        asked = context_of(tokenizer, mine, canary.text, target=of_decoder)
        alone = context_of(tokenizer, None, canary.text, target=of_decoder)
        is_without = asked.ids == alone.ids and theirs is not None
        if is_without or not surroundings.stands(number, asked):
            shape = "nothing" if is_without else in_words(asked, tokenizer)
            never.setdefault((shape, in_words(theirs, tokenizer)), []).append(canary.id)
    return [
        f"context= is {mine}, but before {_named(names)} stand in the data {theirs}: measured so, a leak may look "
        "safe. Leave context= out, and what the rows say is taken."
        for (mine, theirs), names in never.items()
    ]


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (" and others" if len(names) > 6 else "")


def _shapes(
    canaries: CanarySet, context: Sequence[Before], source_prefix: Sequence[Before], tokenizer: Any
) -> list[str]:
    """What stands before canaries, and before their sources, in words, where it is anything; without a text."""
    lines = []
    for what, befores in (("the canaries", context), ("the sources", source_prefix)):
        for format in canaries.formats:
            here = Counter(b for b, canary in zip(befores, canaries, strict=True) if canary.format == format)
            number = f" of format {canaries.formats.index(format)}" if len(canaries.formats) > 1 else ""
            if len(here) > 1:
                lines.append(
                    f"before {what}{number} stand {len(here)} different contexts: each has references of its own, so "
                    f"that a measurement takes {len(here)} times as long as with one"
                )
            elif any(here):
                lines.append(f"before {what}{number} stand {in_words(next(iter(here)), tokenizer)}, in all copies")
    return lines


def _leaked(evaluation: Any, occurrences: Occurrences, of_decoder: bool, count: int) -> list[int] | None:
    several = list(evaluation.values()) if isinstance(evaluation, dict) else [] if evaluation is None else [evaluation]
    several = [each for each in several if not isinstance(each, datasets.IterableDataset)]  # to be read to its end
    if not several:
        return None
    leaked = Counter[int]()
    for each in several:
        found = occurrences.find(_Data(each, "evaluation", of_decoder).batches("labels" if of_decoder else "input_ids"))
        leaked.update(hit.core.number for hit in found.hits)
    return [leaked[number] for number in range(count)]


def _counted(found: Found, canaries: CanarySet, inspector: _Inspector) -> dict[str, Counter[int]]:
    """Copies by what became of them, and by the number of their canary. No copy counts twice: where a copy is cut, at
    the end of a row or at its beginning, the pieces are its own.
    """
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    cut: set[tuple[int, bool]] = set()
    inspector.prepare({hit.row for hit in found.hits if hit.row == hit.last_row and not hit.is_cut})
    for hit in found.hits:
        if hit.row != hit.last_row:
            counts["split"][hit.core.number] += 1
            cut |= {(row, True) for row in range(hit.row, hit.last_row)}
            cut |= {(row, False) for row in range(hit.row + 1, hit.last_row + 1)}
            continue
        if hit.is_cut:
            cut |= {(hit.row, True), (hit.row, False)}
        said = "truncated" if hit.is_cut else inspector.look(hit)
        counts["truncated" if said == "truncated" else "whole"][hit.core.number] += 1
        counts["masked"][hit.core.number] += said == "masked"
    beginnings = [piece for piece in found.beginnings if (piece.row, True) not in cut]
    ends = [piece for piece in found.ends if (piece.row, False) not in cut]
    alone, ends = _paired(beginnings, ends, inspector.cores, counts["split"])
    cut_off = [one for one in alone if one.holds or one.is_all or (one.is_long and one.of == found.longest)]
    _truncated(cut_off, canaries, counts)
    _truncated([piece for piece in ends if piece.is_all], canaries, counts)
    return counts


def _paired(
    beginnings: list[Piece], ends: list[Piece], cores: Sequence[Core], split: Counter[int]
) -> tuple[list[Piece], list[Piece]]:
    """Count the beginnings and ends that make up a canary, in whichever rows; what is left of both. A beginning without
    its fill may be that of any text, and an end that is all of its row was cut off rather than split.
    """
    lengths = {core.number: len(core.tokens) for core in cores}
    waiting: dict[tuple[int, int], list[list[Piece]]] = defaultdict(list)
    kinds: dict[tuple[frozenset[int], int, bool], list[Piece]] = defaultdict(list)
    for piece in beginnings:
        kinds[piece.numbers, piece.length, piece.holds].append(piece)
    for (numbers, length, _), pieces in kinds.items():
        for number in numbers:
            waiting[number, lengths[number] - length].append(pieces)
    left = []
    for end in ends:
        fits = (
            (number, pieces)
            for number in sorted(end.numbers)
            for pieces in waiting[number, end.length]
            if pieces and (pieces[-1].holds or not end.is_all)
        )
        number, pieces = next(fits, (-1, []))
        if pieces:
            pieces.pop()
            split[number] += 1
        else:
            left.append(end)
    return [piece for pieces in kinds.values() for piece in pieces], left


def _truncated(pieces: Sequence[Piece], canaries: CanarySet, counts: dict[str, Counter[int]]) -> None:
    """A piece belongs to the one canary that it can be of; where it can be of several, they have one each for what
    they lack, if there are enough.
    """
    of_several = Counter[frozenset[int]]()
    for piece in pieces:
        if len(piece.numbers) == 1:
            counts["truncated"][min(piece.numbers)] += 1
        else:
            of_several[piece.numbers] += 1
    for numbers, count in of_several.items():
        lacking = {
            number: canaries[number].repetitions - sum(counts[name][number] for name in ("whole", "split", "truncated"))
            for number in numbers
        }
        if sum(max(0, lack) for lack in lacking.values()) <= count:
            counts["truncated"].update({number: lack for number, lack in lacking.items() if lack > 0})


class _Inspector:
    """Looks at the rows that hold a whole canary, one by one."""

    def __init__(
        self,
        data: _Data,
        canaries: CanarySet,
        occurrences: Occurrences,
        surroundings: Surroundings,
        collator: Collator | None,
    ) -> None:
        self._data, self._canaries, self._occurrences = data, canaries, occurrences
        self._surroundings, self._collator = surroundings, collator
        self.cores = occurrences.cores

    def prepare(self, sequences: set[int]) -> None:
        """These will be looked at."""
        self._data.keep(sequences)

    def look(self, hit: Hit) -> str:
        """`whole`, `masked` or `truncated`, once the collator has done its work on the row. What stands before a copy
        that is trained on is taken down.
        """
        row, at = self._data.row(hit.row)
        if self._collator is not None:
            try:
                row = _collated(self._collator, row)
            except Exception as error:  # whatever a collator raises that wants more than a row
                logger.warning("The collator takes no single rows; the labels are those of the data: %s", told(error))
                self._collator = None
        is_target = self._occurrences.target
        source = self._canaries[hit.core.number].source if is_target else None  # what the decoder answers to
        sequences = [row] if is_target else cut(row)
        # The collator may have left out some, or put them in another order.
        near = sorted(range(len(sequences)), key=lambda number: abs(number - at))
        said = "truncated"
        for number in near:
            verdict, there = judged(sequences[number], hit, self._occurrences, source)
            said = verdict if verdict != "truncated" else said
            if verdict == "whole" and there is not None:
                self._surroundings.see(sequences[number], there)
            if verdict != "truncated":
                break
        return said


def _collated(collator: Collator, row: Mapping[str, Any]) -> dict[str, Any]:
    """What a collator makes of one row; its values, as those of a row."""
    made = collator([copy.deepcopy(row)])
    return {name: np.asarray(value).reshape(-1) for name, value in made.items() if np.ndim(value)}


def _copy_of(collator: Collator | None) -> Collator | None:
    """The same, with random states of its own; what is large and changes nothing is shared."""
    held = vars(collator).values() if hasattr(collator, "__dict__") else ()
    shared = {id(each): each for each in held if callable(each)}  # models and tokenizers are
    try:
        return copy.deepcopy(collator, shared)
    except Exception:  # whatever cannot be copied is used as it is
        return collator


def judged(
    row: Mapping[str, Any], hit: Hit, occurrences: Occurrences, source: str | None = None
) -> tuple[str, Hit | None]:
    """What became of a canary that was found in a row: `whole`, `masked` or `truncated`; and where it is now.

    Args:
        row: one sequence, with ids, and with labels or masks if there are any, as they are now.
        hit: where it was found.
        occurrences: of its set.
        source: text that must stand in the ids, where the canary is in the labels.
    """
    if occurrences.target:
        found = _nearest(np.asarray(row["labels"]), hit, occurrences)
        is_read = source is None or occurrences.reads(row["input_ids"], source)
        return "whole" if found is not None and is_read else "truncated", found
    ids = np.asarray(row["input_ids"])
    found = _nearest(ids, hit, occurrences)
    if found is None:
        return "truncated", None
    return "whole" if _trained(row)[_fill_places(ids, found, occurrences)].all() else "masked", found


def _nearest(ids: Ints, hit: Hit, occurrences: Occurrences) -> Hit | None:
    """Where the canary is whole in a row as it is now; None if it is not."""
    found = [one for one in occurrences.whole_in(ids) if one.core.number == hit.core.number]
    return min(found, key=lambda one: abs(one.at - hit.at), default=None)


def _fill_places(ids: Ints, hit: Hit, occurrences: Occurrences) -> Ints:
    """The places of a canary's fill in a row, in tokens beside the core too."""
    core, plain = hit.core, np.flatnonzero(occurrences.plain(ids))
    first, last = max(core.fill[0], -core.before), min(core.fill[1], len(core.tokens) + core.behind)
    return np.asarray(plain[np.arange(hit.at + first, hit.at + last).clip(0, len(plain) - 1)])


def _trained(row: Mapping[str, Any]) -> NDArray[np.bool_]:
    """(n_tokens,) which tokens the loss is of."""
    if row.get("labels") is not None:
        return np.asarray(np.asarray(row["labels"]) != _IGNORED)
    trained = np.ones(len(row["input_ids"]), dtype=bool)
    for name in _MASKS:
        if row.get(name) is not None:
            trained &= np.asarray(row[name], dtype=bool)
    return trained


@contextmanager
def undisturbed() -> Iterator[None]:
    """Every random state as it was, for what is called on the side."""
    python, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)
        torch.random.set_rng_state(of_torch)


class _Data:
    """Sequences of tokens, wherever they are: in batches of ids, and one by one. A row is one sequence, or says where
    those begin that it holds.
    """

    def __init__(self, dataset: Any, argument: str, target: bool | None, collator: Collator | None = None) -> None:
        self._dataset = dataset
        self._is_stream = isinstance(dataset, datasets.IterableDataset)
        self.num_rows = 0
        self._kept: dict[int, Any] = {}
        _check(dataset, argument, "labels" if target else "input_ids")
        self._saying = [] if target else _columns_saying_starts(self._first(1), collator)
        self._row_of: list[int] = []  # of each sequence, if a row may hold several
        self._first_of: list[int] = []  # of each row, its first sequence

    @property
    def has_targets(self) -> bool:
        """Whether labels are other tokens than the ids, as a decoder's are."""
        for row in self._first(20):
            if row.get("labels") is None:
                return False
            ids, labels = np.asarray(row["input_ids"]), np.asarray(row["labels"])
            if len(ids) != len(labels) or ((labels != _IGNORED) & (labels != ids)).any():
                return True
        return False

    def batches(self, column: str) -> Iterator[tuple[Ints, Ints]]:
        """(n,) ids of some rows, and (sequences,) how many each of their sequences has; labels with gaps."""
        for values, beside in self._columns(column):
            lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64)
            flat = pc.list_flatten(values).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
            if beside:
                lengths = self._cut(lengths, beside)
            else:
                self.num_rows += len(lengths)
            yield flat, lengths

    def keep(self, sequences: set[int]) -> None:
        """Of a stream, which has no rows to ask for: read it once more for these."""
        if self._is_stream and sequences:
            numbers = {self._place(sequence)[0] for sequence in sequences}
            self._kept = {number: row for number, row in enumerate(self._dataset) if number in numbers}

    def row(self, sequence: int) -> tuple[Mapping[str, Any], int]:
        """The row that holds a sequence, and which of its sequences it is."""
        number, at = self._place(sequence)
        row: Mapping[str, Any] = self._kept[number] if self._is_stream else self._dataset[number]
        named = {name: row[name] for name in row if name not in _SAYING or name in self._saying}
        return named, at

    def _place(self, sequence: int) -> tuple[int, int]:
        if not self._row_of:
            return sequence, 0
        number = self._row_of[sequence]
        return number, sequence - self._first_of[number]

    def _cut(self, lengths: Ints, beside: list[Mapping[str, Any]]) -> Ints:
        """How many tokens each sequence of some rows has, by what stands beside their ids."""
        found = []
        for length, row in zip(lengths.tolist(), beside, strict=True):
            inner = lengths_in(row, length) if length else np.zeros(1, dtype=np.int64)
            self._first_of.append(len(self._row_of))
            self._row_of += [self.num_rows] * len(inner)
            self.num_rows += 1
            found.append(inner)
        return np.concatenate(found)

    def _first(self, count: int) -> list[Any]:
        if self._is_stream:
            return list(self._dataset.take(count))
        return [self._dataset[number] for number in range(min(count, len(self._dataset)))]

    def _columns(self, column: str) -> Iterator[tuple[pa.Array, list[Mapping[str, Any]]]]:
        """Rows of ids, and for each what says where its sequences begin; nothing where nobody says so."""
        if isinstance(self._dataset, datasets.Dataset):
            size = max(1, _BATCH_TOKENS * len(self._dataset) * 8 // max(1, self._dataset.data.nbytes))
            wanted = [column, *self._saying]
            for table in self._dataset.select_columns(wanted).with_format("arrow").iter(batch_size=size):
                beside = table.select(self._saying).to_pylist() if self._saying else []
                yield table[column].combine_chunks(), beside
            return
        rows: Iterable[Any] = (
            self._dataset if self._is_stream else map(self._dataset.__getitem__, range(len(self._dataset)))
        )
        for some in _by(1000, rows):
            ids = [np.asarray([] if row[column] is None else row[column], dtype=np.int64) for row in some]
            beside = [{name: row.get(name) for name in self._saying} for row in some] if self._saying else []
            yield pa.array(ids), beside


# Columns that say where sequences begin within a row.
_SAYING = (LENGTHS, "position_ids", "seq_idx")


def _columns_saying_starts(first: Sequence[Mapping[str, Any]], collator: Collator | None) -> list[str]:
    """Those of the data that the model is told of, as far as a collator shows with one row."""
    saying = [name for name in _SAYING if first and first[0].get(name) is not None]
    if saying and collator is not None:
        try:
            return saying if says_starts(_collated(collator, first[0])) else []
        except Exception:  # it is said when the rows are looked at
            return saying
    return saying


def _by(count: int, rows: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while some := list(itertools.islice(iterator, count)):
        yield some


def _holds_ints(feature: Any) -> bool:
    """Whether a column is one of lists of whole numbers."""
    return "int" in str(getattr(getattr(feature, "feature", None), "dtype", ""))


def _check(dataset: Any, argument: str, column: str) -> None:
    columns: Any = ()
    is_empty = False
    if isinstance(dataset, datasets.Dataset):
        columns, is_empty = (
            [name for name, feature in dataset.features.items() if _holds_ints(feature)],
            not len(dataset),
        )
    elif isinstance(dataset, datasets.IterableDataset):
        columns = list(next(iter(dataset), {}))
    elif hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__") and not isinstance(dataset, dict):
        is_empty = not len(dataset)
        columns = list(dataset[0]) if not is_empty and isinstance(dataset[0], Mapping) else ()
    if column not in columns or is_empty:
        raise DataError(
            argument,
            f"rows of token ids, with a column {column}",
            f"{type(dataset).__name__} with {'no rows' if is_empty else shown(list(columns))}",
            "Give the dataset as the trainer has it, such as trainer.train_dataset.",
        )

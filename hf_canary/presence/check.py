"""Did the canaries reach the model? Reads what a trainer will see: token ids, labels, the collator's work on them.

The commonest way in which a memorisation test lies is a canary that was never trained on: cut off, cut in two by
packing, filtered out, masked from the loss. Knows datasets and labels; it calls no model.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from ..arguments import PROGRESS, check_callable, check_flag, check_instance, check_tokenizer
from ..arrays import Ints
from ..canaries import CanarySet
from ..errors import without_data
from ..runtime.random_state import random_state_kept
from ..tokenization.contexts import Before
from .report import MASKED, SPLIT, TRUNCATED, WHOLE, CanaryPresence, Outcome, Presence
from .sequences import cut
from .surroundings import Surroundings
from .token_rows import IGNORED, Collator, TokenRows, collated
from .token_search import Core, Found, Hit, Occurrences, Piece

logger = logging.getLogger(__name__)

# Columns of zeros and ones that some trainers make labels of: 0 is not trained on.
_MASKS = ("completion_mask", "assistant_masks")


def check_presence(
    tokenised: Any,
    canaries: CanarySet,
    tokenizer: Any,
    *,
    evaluation: Any = None,
    target: bool | None = None,
    collator: Collator | None = None,
    context: Before | Sequence[Before] = None,
    progress: Callable[[int], object] | None = None,
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
        progress: called with the number of rows read since the last call.

    Raises:
        ArgumentError: what is no set of canaries, or no tokenizer.
        DataError: no rows, or none with `input_ids`.

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
    check_instance("canaries", canaries, CanarySet, "a CanarySet", "Load it: CanarySet.load(path).")
    check_tokenizer(tokenizer)
    check_callable("progress", progress, PROGRESS)
    if target is not None:
        check_flag("target", target)
    with random_state_kept():  # rows may be made as they are asked for, and with chance
        collator = _copy_of(collator)
        data = TokenRows(tokenised, "tokenised", target, collator)
        occurrences = Occurrences(canaries, tokenizer, target=data.has_targets if target is None else target)
        return _presence(data, canaries, tokenizer, occurrences, evaluation, collator, context, progress)


def presence_of(
    occurrences: Occurrences,
    tokenised: Any,
    canaries: CanarySet,
    tokenizer: Any,
    *,
    evaluation: Any = None,
    collator: Collator | None = None,
    context: Before | Sequence[Before] = None,
    progress: Callable[[int], object] | None = None,
) -> Presence:
    """The same as `check_presence`, of canaries whose tokens have been worked out."""
    with random_state_kept():
        collator = _copy_of(collator)
        data = TokenRows(tokenised, "tokenised", occurrences.target, collator)
        return _presence(data, canaries, tokenizer, occurrences, evaluation, collator, context, progress)


def _presence(
    data: TokenRows,
    canaries: CanarySet,
    tokenizer: Any,
    occurrences: Occurrences,
    evaluation: Any,
    collator: Collator | None,
    given: Before | Sequence[Before],
    progress: Callable[[int], object] | None,
) -> Presence:
    of_decoder = occurrences.target
    found = occurrences.find(_told(data, of_decoder, progress))
    surroundings = Surroundings(canaries, tokenizer, occurrences)
    inspector = _Inspector(data, canaries, occurrences, surroundings, collator)
    counts = _counted(found, canaries, inspector)
    leaked = _leaked(evaluation, occurrences, len(canaries), progress)
    return Presence(
        tuple(
            CanaryPresence(
                canary.id,
                canary.repetitions,
                whole=counts[WHOLE][number],
                split=counts[SPLIT][number],
                truncated=counts[TRUNCATED][number],
                masked=counts[MASKED][number],
                in_evaluation=None if leaked is None else leaked[number],
            )
            for number, canary in enumerate(canaries)
        ),
        data.num_rows,
        *surroundings.findings(given),
    )


def _told(data: TokenRows, of_decoder: bool, progress: Callable[[int], object] | None) -> Iterator[tuple[Ints, Ints]]:
    """The batches of rows, telling of each once it was looked through."""
    before = 0
    for batch in data.batches("labels" if of_decoder else "input_ids"):
        yield batch
        if progress is not None:
            progress(data.num_rows - before)
        before = data.num_rows


def _leaked(
    evaluation: Any, occurrences: Occurrences, count: int, progress: Callable[[int], object] | None
) -> list[int] | None:
    several = list(evaluation.values()) if isinstance(evaluation, dict) else [] if evaluation is None else [evaluation]
    several = [each for each in several if not isinstance(each, datasets.IterableDataset)]  # to be read to its end
    if not several:
        return None
    leaked = Counter[int]()
    for each in several:
        rows = TokenRows(each, "evaluation", occurrences.target)
        found = occurrences.find(_told(rows, occurrences.target, progress))
        leaked.update(hit.core.number for hit in found.hits)
    return [leaked[number] for number in range(count)]


def _counted(found: Found, canaries: CanarySet, inspector: _Inspector) -> dict[Outcome, Counter[int]]:
    """Copies by what became of them, and by the number of their canary. No copy counts twice: where a copy is cut, at
    the end of a row or at its beginning, the pieces are its own.
    """
    counts: dict[Outcome, Counter[int]] = defaultdict(Counter)
    cut: set[tuple[int, bool]] = set()
    at_ends = Counter[int]()  # whole, but for a space or a mark at an end
    inspector.prepare({hit.row for hit in found.hits if hit.row == hit.last_row and not hit.is_cut})
    for hit in found.hits:
        if hit.row != hit.last_row:
            counts[SPLIT][hit.core.number] += 1
            cut |= {(row, True) for row in range(hit.row, hit.last_row)}
            cut |= {(row, False) for row in range(hit.row + 1, hit.last_row + 1)}
            continue
        if hit.is_cut:
            cut |= {(hit.row, True), (hit.row, False)}
            at_ends[hit.core.number] += 1
            continue
        outcome = inspector.inspect(hit)
        counts[TRUNCATED if outcome is TRUNCATED else WHOLE][hit.core.number] += 1
        counts[MASKED][hit.core.number] += outcome is MASKED
    beginnings = [piece for piece in found.beginnings if (piece.row, True) not in cut]
    ends = [piece for piece in found.ends if (piece.row, False) not in cut]
    alone, ends = _paired(beginnings, ends, inspector.cores, counts[SPLIT])
    cut_off = [one for one in alone if one.holds or one.is_all or (one.is_long and one.of == found.longest)]
    # Of blocks of one length, which begin amid texts, the other half is in a block that was lost, or is one token long.
    begin_amid = any(counts[SPLIT].values()) or (cut_off and any(piece.holds and not piece.is_all for piece in ends))
    outcome = SPLIT if found.is_in_blocks and begin_amid else TRUNCATED
    counts[outcome] += at_ends
    _take(cut_off, outcome, canaries, counts)
    _take([piece for piece in ends if piece.holds or piece.is_all], outcome, canaries, counts)
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


def _take(pieces: Sequence[Piece], outcome: Outcome, canaries: CanarySet, counts: dict[Outcome, Counter[int]]) -> None:
    """A piece belongs to the one canary that it can be of, as long as that lacks copies; where it can be of several,
    they have one each for what they lack, if there are enough.
    """

    def lacking(number: int) -> int:
        seen = sum(counts[each][number] for each in (WHOLE, SPLIT, TRUNCATED))
        return max(0, canaries[number].repetitions - seen)

    of_several = Counter[frozenset[int]]()
    for piece in pieces:
        if len(piece.numbers) == 1:
            (number,) = piece.numbers
            counts[outcome][number] += min(1, lacking(number))
        else:
            of_several[piece.numbers] += 1
    for numbers, count in of_several.items():
        lack = {number: lacking(number) for number in numbers}
        if sum(lack.values()) <= count:
            counts[outcome].update({number: lack for number, lack in lack.items() if lack > 0})


class _Inspector:
    """Looks at the rows that hold a whole canary, one by one."""

    def __init__(
        self,
        data: TokenRows,
        canaries: CanarySet,
        occurrences: Occurrences,
        surroundings: Surroundings,
        collator: Collator | None,
    ) -> None:
        self._data, self._canaries, self._occurrences = data, canaries, occurrences
        self._surroundings, self._collator = surroundings, collator
        self.cores = occurrences.cores

    def prepare(self, sequences: set[int]) -> None:
        """These will be inspected."""
        self._data.keep(sequences)

    def inspect(self, hit: Hit) -> Outcome:
        """`whole`, `masked` or `truncated`, once the collator has done its work on the row. What stands before a copy
        that is trained on is taken down.
        """
        row, at = self._data.row(hit.row)
        if self._collator is not None:
            try:
                row = collated(self._collator, row)
            except Exception as error:  # whatever a collator raises that wants more than a row
                words = "The collator takes no single rows; the labels are those of the data: %s"
                logger.warning(words, without_data(error))
                self._collator = None
        is_target = self._occurrences.target
        source = self._canaries[hit.core.number].source if is_target else None  # what the decoder answers to
        sequences = [row] if is_target else cut(row)
        # The collator may have left out some, or put them in another order.
        near = sorted(range(len(sequences)), key=lambda number: abs(number - at))
        for number in near:
            outcome, there = classify(sequences[number], hit, self._occurrences, source)
            if outcome is WHOLE and there is not None:
                self._surroundings.see(sequences[number], there)
            if outcome is not TRUNCATED:
                return outcome
        return TRUNCATED


def _copy_of(collator: Collator | None) -> Collator | None:
    """The same, with random states of its own; what is large and changes nothing is shared."""
    held = vars(collator).values() if hasattr(collator, "__dict__") else ()
    shared = {id(each): each for each in held if callable(each)}  # models and tokenizers are
    try:
        return copy.deepcopy(collator, shared)
    except Exception:  # whatever cannot be copied is used as it is
        return collator


def classify(
    row: Mapping[str, Any], hit: Hit, occurrences: Occurrences, source: str | None = None
) -> tuple[Outcome, Hit | None]:
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
        return WHOLE if found is not None and is_read else TRUNCATED, found
    ids = np.asarray(row["input_ids"])
    found = _nearest(ids, hit, occurrences)
    if found is None:
        return TRUNCATED, None
    is_trained = _trained(row)[_fill_positions(ids, found, occurrences)].all()
    return WHOLE if is_trained else MASKED, found


def _nearest(ids: Ints, hit: Hit, occurrences: Occurrences) -> Hit | None:
    """Where the canary is whole in a row as it is now; None if it is not."""
    found = [one for one in occurrences.whole_in(ids) if one.core.number == hit.core.number]
    return min(found, key=lambda one: abs(one.at - hit.at), default=None)


def _fill_positions(ids: Ints, hit: Hit, occurrences: Occurrences) -> Ints:
    """The positions of a canary's fill in a row, in tokens beside the core too."""
    core, plain = hit.core, np.flatnonzero(occurrences.plain(ids))
    first, last = max(core.fill[0], -core.tokens_before), min(core.fill[1], len(core.tokens) + core.tokens_after)
    return np.asarray(plain[np.arange(hit.at + first, hit.at + last).clip(0, len(plain) - 1)])


def _trained(row: Mapping[str, Any]) -> NDArray[np.bool_]:
    """(n_tokens,) which tokens the loss is of."""
    if row.get("labels") is not None:
        return np.asarray(np.asarray(row["labels"]) != IGNORED)
    trained = np.ones(len(row["input_ids"]), dtype=bool)
    for name in _MASKS:
        if row.get(name) is not None:
            trained &= np.asarray(row[name], dtype=bool)
    return trained

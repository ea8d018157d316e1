"""What stands before canaries, and before their sources, in the rows that a model is trained on.

It is read from the rows, not from a template, which may write another text for a prompt than in training. A context is
what most copies of a canary have in front of them, from where the model begins to read; where they stand behind
different texts, as in packed rows, that of one copy, the shortest. A common end of different texts is none: a model
that knows a canary behind each of its copies may not know it behind a few tokens that never stood alone. Knows rows of
tokens; it knows no dataset and no model.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Ints
from ..canaries import Canary, CanarySet
from ..errors import ModelError, listed
from ..formats.canary_format import CanaryFormat
from ..tokenization.contexts import Before, Context, SourceContext, as_prompt, one_for_each
from ..tokenization.encoding import context_behind, context_of, decoded, special_ids, token_ids
from .sources import around_sources, contexts_of, fitting_rows
from .token_search import Hit, Occurrences, quietly

Path = tuple[int, ...]
Seen = dict[tuple[int, Path], list[Path]]

# Tokens of a context behind whose text the canaries are encoded, the fewest first; and texts that are tried besides.
_ANCHORS = (1, 2, 4, 8, 16, 32)
_TEXTS = ("", " ", "\n", "a ", "a: ", ". ")
_SPACES = (" ", "▁", "Ġ")
_SOURCES = "the sources"
_MOST_COPIES = 64  # of one canary, before which the tokens are kept
_PROBES = 24  # fills of each format that must be written alike behind one of these and the longest


class Findings(NamedTuple):
    """What stands before the canaries of a set.

    Args:
        context: for each canary what stands before most of its copies, or before one of them where they stand behind
            different texts, as tokens; None for nothing but what the tokenizer itself puts there.
        source_prefix: for each canary what stands before its source; None for nothing.
        descriptions: lines that say what these are like, without a text.
        unknown: ids of canaries before which nothing could be made out, or of whose format no copy was seen.
        doubts: lines that say where a measurement behind these, or behind what was given, would mislead.
    """

    context: tuple[Before, ...]
    source_prefix: tuple[Before, ...]
    descriptions: tuple[str, ...]
    unknown: tuple[str, ...]
    doubts: tuple[str, ...]


class Surroundings:
    """What stands before the copies of the canaries of a set, as far as they have been seen.

    Args:
        canaries: the set.
        tokenizer: that made the rows.
        occurrences: of the set, in rows of this tokenizer.
    """

    def __init__(self, canaries: CanarySet, tokenizer: Any, occurrences: Occurrences) -> None:
        self._canaries, self._tokenizer, self._occurrences = canaries, tokenizer, occurrences
        # By canary and the tokens of its text: what copies so written have in front of them.
        # Once as they stand, and once where a space before the text is a part of it: fills that a format begins with
        # may be joined with it or not.
        self._before: tuple[Seen, Seen] = ({}, {})
        self._read: dict[int, Counter[Path]] = {}

    def see(self, row: Mapping[str, Any], hit: Hit) -> None:
        """A copy that is trained on.

        Args:
            row: one sequence, with `input_ids`, `labels` where the canary is in them, and `attention_mask` if it has.
            hit: where the canary is whole in it.
        """
        number, is_target = hit.core.number, self._occurrences.target
        ids = np.asarray(row["labels" if is_target else "input_ids"])
        plain = np.flatnonzero(self._occurrences.plain(ids))
        first, end = int(plain[hit.begin]), int(plain[hit.at + len(hit.core.tokens) - 1]) + 1
        for seen, begin in zip(self._before, (first, first - self._is_space(ids[:first])), strict=True):
            before = self._without_padding(ids[:begin], None if is_target else row.get("attention_mask"))
            _add(seen, number, tuple(ids[begin:end].tolist()), [before])
        if is_target and self._canaries[number].source is not None:
            read = self._without_padding(np.asarray(row["input_ids"]), row.get("attention_mask"), behind=True)
            self._read.setdefault(number, Counter())[read] += 1

    def state(self) -> str:
        """What was seen, for another process to take in."""
        before = [[kind, *key, copies] for kind, seen in enumerate(self._before) for key, copies in seen.items()]
        read = [[number, row, count] for number, rows in self._read.items() for row, count in rows.items()]
        return json.dumps([before, read])

    def of_all(self, states: Iterable[str]) -> Surroundings:
        """What several have seen, together."""
        whole = Surroundings(self._canaries, self._tokenizer, self._occurrences)
        for before, read in map(json.loads, states):
            for kind, number, written, copies in before:
                _add(whole._before[kind], number, tuple(written), list(map(tuple, copies)))
            for number, row, count in read:
                whole._read.setdefault(number, Counter())[tuple(row)] += count
        return whole

    def contexts(self) -> tuple[list[Before], list[str]]:
        """The context of each canary, None for nothing but what the tokenizer itself puts there; and the ids of those
        whose context could not be made out. Canaries that were not seen have what the others of their format share.
        """
        found: list[Before] = [None] * len(self._canaries)
        lost: list[str] = []
        for format in self._canaries.formats:
            with quietly():
                of_format, lost_here = self._behind_sources(format) or self._behind_the_same(format)
            for number, context in of_format.items():
                found[number] = context
            lost += [self._canaries[number].id for number in lost_here]
        return found, lost

    def _behind_the_same(self, format: CanaryFormat) -> tuple[dict[int, Before], list[int]]:
        """The contexts of the canaries of a format, by number, where no source in them tells canaries apart."""
        found, lost = self._contexts_of(format, self._before[0])
        if lost or not all(map(_is_alone, found.values())):
            others, lost_too = self._contexts_of(format, self._before[1])
            # Some tokenizers put a space before every text, which is the text's own then.
            is_own = len(lost_too) <= len(lost) and all(map(_is_alone, others.values()))
            if is_own or len(lost_too) < len(lost):
                found, lost = others, lost_too
        if format.source is None or self._occurrences.target:
            return found, lost
        # Nothing is taken for the source, where nothing is known.
        return {number: "" if each is None and number not in lost else each for number, each in found.items()}, lost

    def _behind_sources(self, format: CanaryFormat) -> tuple[dict[int, Before], list[int]] | None:
        """The same where each canary has a source of its own before it; None where it has not."""
        if self._occurrences.target or not format.source_varies:
            return None
        numbers = [number for number, canary in enumerate(self._canaries) if canary.format == format]
        seen = _most_written(self._before[0], numbers)
        if not any(self._has_source(number, *copies) for number, copies in seen.items()):
            return None
        rows = {number: (*self._real(paths), *written) for number, (written, paths) in seen.items()}
        return around_sources(self._tokenizer, self._canaries, rows, numbers)

    def _has_source(self, number: int, written: Path, paths: Sequence[Path]) -> bool:
        """Whether the source of a canary stands before its copies, be it joined with them."""
        canary, path = self._canaries[number], self._real(paths)
        is_read = self._occurrences.reads(path, canary.source or "")
        return is_read or next(contexts_of(self._tokenizer, canary, (*path, *written)), None) is not None

    def findings(self, given: Before | Sequence[Before] = None) -> Findings:
        """What stands before each canary and its source; and where a measurement behind that, or behind what was given
        by hand, would mislead.
        """
        (context, lost), (source_prefix, lost_too) = self.contexts(), self.source_prefixes()
        is_taken = given is None
        descriptions = [
            *self._described("the canaries", context, is_taken),
            *self._described(_SOURCES, source_prefix, is_taken),
        ]
        doubts = [] if given is None else self._strange(given, context)
        if lost or lost_too:
            names = listed(list(dict.fromkeys([*lost, *lost_too])))
            doubts.append(
                f"no context could be made out for {names}: their copies have nothing in common in front of them, or "
                "the tokenizer writes them otherwise there. They are measured as if they stood alone, or behind their "
                "sources alone, which may make a leak look safe. Give context= by hand."
            )
        without = self._without_source()
        if without:
            doubts.append(
                f"the source of {listed(without)} does not stand before it in the rows, where it was cut off, changed "
                "by a template, or never put: what stands there is what is measured behind."
            )
        seen = {self._canaries[number].format for number, _ in self._before[0]}
        unknown = [canary.id for canary in self._canaries if canary.format not in seen or canary.id in lost]
        return Findings(tuple(context), tuple(source_prefix), tuple(descriptions), tuple(unknown), tuple(doubts))

    def _without_source(self) -> list[str]:
        """The ids of canaries that a causal model is to answer a source with, which it was not shown."""
        asked = [] if self._occurrences.target else [n for n, canary in enumerate(self._canaries) if canary.source]
        seen = _most_written(self._before[0], asked)
        return [self._canaries[number].id for number, copies in seen.items() if not self._has_source(number, *copies)]

    def _described(self, what: str, befores: Sequence[Before], is_taken: bool) -> list[str]:
        """What stands before canaries, or their sources, in words, where it is anything; and what it costs to measure
        behind it, if that is what is measured behind.
        """
        lines, formats = [], self._canaries.formats
        for format in formats:
            here = Counter(b for b, canary in zip(befores, self._canaries, strict=True) if canary.format == format)
            number = f" of format {formats.index(format)}" if len(formats) > 1 else ""
            if len(here) > 1:
                cost = (
                    f" and are measured behind {len(here)} different contexts, that of one copy each where copies of "
                    "one differ: each has references of its own, so that a measurement takes "
                    f"{len(here)} times as long as with one; num_references= and max_seconds= take less"
                )
                lines.append(f"{what}{number} stand behind different texts{cost if is_taken else ''}")
            elif any(here):
                (context,) = here
                share = "" if what == _SOURCES else self._share_behind(format, context)
                words = in_words(context, self._tokenizer, target=self._occurrences.target and what != _SOURCES)
                lines.append(f"before {what}{number} stand {words}{share}")
        return lines

    def _share_behind(self, format: CanaryFormat, context: Before) -> str:
        """In how many copies, of those that were kept, a context is all that stands before the canary, in words."""
        numbers = [number for number, canary in enumerate(self._canaries) if canary.format == format]
        copies = [path for number in numbers for path in self._before_copies(number)]
        if isinstance(context, SourceContext):
            count = sum(self._copies_amid(context, number) for number in numbers)
        else:
            count = copies.count(context.ids if isinstance(context, Context) else ())
        return ", in all copies" if count == len(copies) else f", in {count} of {len(copies)} copies"

    def _copies_amid(self, context: SourceContext, number: int) -> int:
        """How many copies of a canary stand behind its source, with what a context has around it."""
        return sum(
            paths.count(path)
            for (of, written), paths in self._before[0].items()
            for path in set(paths)
            if of == number
            and fitting_rows(self._tokenizer, self._canaries, context, {number: (*path, *written)}) == [number]
        )

    def _asked(self, canary: Canary, given: Before) -> tuple[Before, Context]:
        """What was given by hand, and what that is before one canary."""
        is_target, format = self._occurrences.target, canary.format
        if not is_target:
            given = as_prompt(given, format.source, fixed=None if format.source_varies else canary.source)
        if isinstance(given, SourceContext):
            return given, context_behind(self._tokenizer, given, canary.source or "", canary.text)
        asked = context_of(self._tokenizer, given, canary.text, target=is_target)
        return asked, asked

    def _strange(self, given: Before | Sequence[Before], context: Sequence[Before]) -> list[str]:
        """Where contexts that were given by hand are not what stands before the canaries."""
        other: dict[tuple[str, str], list[str]] = {}
        by_hand = one_for_each(given, len(self._canaries), "canaries")
        for number, (canary, mine, theirs) in enumerate(zip(self._canaries, by_hand, context, strict=True)):
            before, asked = self._asked(canary, mine)
            alone = context_of(self._tokenizer, None, canary.text, target=self._occurrences.target)
            is_without = asked.ids == alone.ids and bool(theirs)
            if is_without or not self._is_all_before(number, asked, theirs):
                target = self._occurrences.target
                shape = "nothing" if is_without else in_words(before, self._tokenizer, target=target)
                is_end = not is_without and self.stands(number, asked)
                whole = in_words(theirs, self._tokenizer, target=target)
                other.setdefault((shape, f"{whole}, of which that is the end" if is_end else whole), []).append(
                    canary.id
                )
        return [
            f"context= is {mine}, but before {listed(names)} stand in the data {theirs}: measured so, a leak may look "
            "safe. Leave context= out, and what the rows say is taken."
            for (mine, theirs), names in other.items()
        ]

    def _contexts_of(self, format: CanaryFormat, copies: Seen) -> tuple[dict[int, Before], list[int]]:
        """The contexts of the canaries of a format, by number; and those that could not be made out."""
        numbers = [number for number, canary in enumerate(self._canaries) if canary.format == format]
        seen = _most_written(copies, numbers)
        suffixes: dict[Path, list[int]] = {}
        for number, (_, paths) in seen.items():
            suffixes.setdefault(self._real(paths), []).append(number)
        of_all = longest_common_end(list(suffixes))
        unseen = [number for number in numbers if number not in seen]
        if unseen and suffixes:
            suffixes.setdefault(of_all, [])
        found, lost = dict[int, Before](), list[int]()
        for suffix, members in suffixes.items():
            written = {number: seen[number][0] for number in members or seen}
            context, is_known = self._context(format, suffix, written)
            lost += [] if is_known else members
            found |= dict.fromkeys([*members, *(unseen if suffix == of_all else ())], context)
        return found, lost

    def _real(self, paths: Sequence[Path]) -> Path:
        """What to measure behind: the longest end that more than half of some copies share, if copies stood behind that
        and nothing more; else all that stands before one of them.
        """
        run = longest_common_end(paths)
        if 2 * paths.count(run) > len(paths):
            return run
        return min((path for path in paths if path[len(path) - len(run) :] == run), key=lambda path: (len(path), path))

    def _is_all_before(self, number: int, asked: Context, theirs: Before) -> bool:
        """Whether a context is all that stands before some copy of a canary, or what is taken where nothing is given;
        True where no copy was seen.
        """
        copies = self._before_copies(number)
        return not copies or asked.ids in copies or (isinstance(theirs, Context) and asked.ids == theirs.ids)

    def _before_copies(self, number: int) -> list[Path]:
        """What stands before each copy of a canary that was kept, however the copy is written."""
        return [path for (of, _), paths in self._before[0].items() if of == number for path in paths]

    def stands(self, number: int, context: Context) -> bool:
        """Whether it stands before a copy of a canary; True where no copy was seen."""
        ids, copies = context.ids, self._before_copies(number)
        return not copies or any(path[len(path) - len(ids) :] == ids for path in copies if len(path) >= len(ids))

    def source_prefixes(self) -> tuple[list[Before], list[str]]:
        """Likewise, what stands before the source of each."""
        found: list[Before] = [None] * len(self._canaries)
        lost: list[str] = []
        known: dict[CanaryFormat, Counter[Before]] = {}
        for number, rows in sorted(self._read.items()):
            canary = self._canaries[number]
            with quietly():
                prefix, is_known = self._source_prefix(canary.source or "", rows.most_common(1)[0][0])
            found[number] = prefix
            lost += [] if is_known else [canary.id]
            known.setdefault(canary.format, Counter())[prefix] += 1
        for number, canary in enumerate(self._canaries):
            if number not in self._read and canary.format in known:
                found[number] = known[canary.format].most_common(1)[0][0]
        return found, lost

    def _is_space(self, ids: Ints) -> bool:
        """Whether the last of these is a space and nothing else."""
        return bool(len(ids) and ids[-1] >= 0) and self._tokenizer.convert_ids_to_tokens(int(ids[-1])) in _SPACES

    def _without_padding(self, ids: Ints, mask: Any, *, behind: bool = False) -> Path:
        """What stands before a canary, without gaps of labels and padding; or a whole row, without that behind it."""
        keep = ids >= 0
        if mask is not None:
            keep &= np.asarray(mask).astype(bool)[: len(ids)]
        kept: list[int] = ids[keep].tolist()
        padding = self._tokenizer.pad_token_id
        if mask is None and padding is not None:
            # One such token may begin a text; more of them are padding.
            others = {self._tokenizer.bos_token_id, self._tokenizer.eos_token_id}
            run = next((at for at, token in enumerate(kept) if token != padding), len(kept))
            kept = kept[run:] if run > 1 or padding not in others else kept
            while behind and len(kept) > 1 and kept[-1] == padding and (padding not in others or kept[-2] == padding):
                kept.pop()
        return tuple(kept)

    def _context(self, format: CanaryFormat, suffix: Path, written: Mapping[int, Path]) -> tuple[Before, bool]:
        """The context that is these tokens, behind which canaries are written so; and whether there is one."""
        target = self._occurrences.target
        probes = [format.render(fill) for fill in _probes(format)]
        texts = {number: self._canaries[number].text for number in written}
        contexts = (self._behind(text, suffix, written, texts) for text in self._anchors(suffix, written, texts))
        encoded = {each: self._encoded(probes, each) for each in contexts if each is not None}
        fitting = [each for each, paths in encoded.items() if paths is not None]
        if not fitting:
            return None, False
        # What truly stands there is believed, as much of it as can be; what does the same in fewer words is taken.
        wanted = encoded[max(fitting, key=lambda each: (each.behind not in _TEXTS, len(each.replaced)))]
        context = next(each for each in fitting if encoded[each] == wanted)
        alone = context_of(self._tokenizer, None, probes[0], target=target)
        if alone.ids == suffix and self._encoded(probes, alone) == wanted:
            return None, True
        if not suffix and len({ids[:1] for ids in wanted or ()}) > 1:
            return None, not alone.ids  # for nothing would tell a model what comes first
        return context, True

    def _anchors(self, suffix: Path, written: Mapping[int, Path], texts: Mapping[int, str]) -> list[str]:
        """Texts that may stand before the canaries for the context: none, its own ends, and others."""
        number, target = next(iter(written)), self._occurrences.target
        found = []
        for count in dict.fromkeys(min(count, len(suffix)) for count in _ANCHORS):
            ids = [*(suffix[-count:] if count else ()), *written[number]]
            text = decoded(self._tokenizer, ids, target=target)
            text = text.rstrip("\ufffd")  # of a letter that is cut
            starts = (at for at in range(len(text)) if texts[number].startswith(text[at:]))
            found += [text[:at] for at in (next(starts, None),) if at is not None and "\ufffd" not in text[:at]]
        return list(dict.fromkeys(["", *found, *_TEXTS]))

    def _behind(
        self,
        text: str,
        suffix: Path,
        written: Mapping[int, Path],
        texts: Mapping[int, str],
    ) -> Context | None:
        """These tokens as a context, if behind this text the canaries are encoded as in the rows."""
        replaced: set[Path] = set()
        whole = [text + each for each in texts.values()]
        encodings = token_ids(self._tokenizer, whole, target=self._occurrences.target)
        for number, ids in zip(texts, encodings, strict=True):
            start = _last_start(ids, written[number])
            # The text may hold the canary, too, and be written otherwise than it is behind it.
            if start is None or len(ids) - start >= 2 * len(written[number]):
                return None
            replaced.add(tuple(ids[:start]))
        return Context(suffix, text, replaced.pop()) if len(replaced) == 1 else None

    def _encoded(self, texts: Sequence[str], context: Context) -> list[Path] | None:
        """The tokens of texts behind a context; None where it cannot stand before all of them."""
        ahead = len(context.replaced)
        whole = [context.behind + text for text in texts]
        encodings = token_ids(self._tokenizer, whole, target=self._occurrences.target)
        if any(tuple(ids[:ahead]) != context.replaced or len(ids) == ahead for ids in encodings):
            return None
        return [tuple(ids[ahead:]) for ids in encodings]

    def _source_prefix(self, source: str, row: Path) -> tuple[Before, bool]:
        """What stands before a source in a row that an encoder reads, and behind it; whether that could be made out."""
        if tuple(token_ids(self._tokenizer, [source], special=True)[0]) == row:
            return None, True
        for text in _TEXTS:
            ids = token_ids(self._tokenizer, [text + source])[0]
            most = len(token_ids(self._tokenizer, [text])[0]) if text else 0
            for ahead in range(most, -1, -1):
                start = _last_start(row, tuple(ids[ahead:]))
                if start is not None and ids[ahead:]:
                    end = start + len(ids) - ahead
                    return Context(row[:start], text, tuple(ids[:ahead]), row[end:]), True
        return None, False


def in_words(context: Before, tokenizer: Any, *, target: bool = False) -> str:
    """The shape of a context, of either side; its text may be somebody's, so it is not said."""
    if not context:
        return "nothing"
    if isinstance(context, SourceContext):
        around = token_ids(tokenizer, [context.around("")])[0]
        return f"each one's own source, amid {len(context.ids or ()) + len(around)} tokens"
    if isinstance(context, str):
        try:
            context = context_of(tokenizer, context, "a", target=target)
        except ModelError:
            return "a text"
    ids = context.ids
    if not ids:
        return "nothing at all, not even what the tokenizer puts before a text"
    special = special_ids(tokenizer, target=target)
    last = decoded(tokenizer, ids[-1:], target=target)
    if ids[-1] in special:
        end = "a special token"
    elif last.endswith("\n"):
        end = "a line end"
    elif last.endswith(" "):
        end = "a space"
    else:
        end = "a letter or mark"
    count = sum(token in special for token in ids)
    of_them = f", {count} of them special" if count else ""
    return f"{len(ids)} token{'s' * (len(ids) > 1)}{of_them}, the last {end}"


def _is_alone(context: Before) -> bool:
    """Whether canaries are encoded behind it as they are alone."""
    return not isinstance(context, Context) or not (context.behind or context.replaced)


def _add(seen: Seen, number: int, written: Path, copies: list[Path]) -> None:
    known = seen.setdefault((number, written), [])
    known += copies[: _MOST_COPIES - len(known)]


def _most_written(seen: Seen, numbers: Sequence[int]) -> dict[int, tuple[Path, list[Path]]]:
    """Of each canary the tokens that most copies have, and what stands before these."""
    found: dict[int, tuple[Path, list[Path]]] = {}
    for (number, written), copies in seen.items():
        if number in numbers and len(copies) > len(found.get(number, ((), []))[1]):
            found[number] = (written, copies)
    return found


def _probes(format: CanaryFormat) -> list[int]:
    fills = format.covering_fills(_PROBES) + format.sample(min(_PROBES, format.space_size), "surroundings")
    return list(dict.fromkeys(fills))


def longest_common_end(paths: Sequence[Path]) -> Path:
    """The longest end that more than half of them have.

    Example:
        >>> longest_common_end([(7, 1, 2), (8, 1, 2), ()])
        (1, 2)
    """
    found: list[int] = []
    alike = list(paths)
    while alike:
        at = len(found) + 1
        counts = Counter(path[-at] for path in alike if len(path) >= at)
        token, count = counts.most_common(1)[0] if counts else (0, 0)
        if 2 * count <= len(paths):
            break
        found.append(token)
        alike = [path for path in alike if len(path) >= at and path[-at] == token]
    return tuple(reversed(found))


def _last_start(ids: Sequence[int], part: Path) -> int | None:
    """Where a part stands in ids, the last time."""
    ids = tuple(ids)
    return next((at for at in range(len(ids) - len(part), -1, -1) if ids[at : at + len(part)] == part), None)

"""Token trees of tokenizers made up at random against enumeration, for as long as one likes.

Each case has a number that makes it again. One in `--walks-every` is searched and drawn from with a small model, beside
its tree. A refusal is counted by its reason. A case that breaks a law is made smaller, part by part, for as long as it
breaks that law; cases of which the same parts are left are one line of the summary, with the smallest of them.

    python benchmarks/trees_fuzz.py --seconds 600 --first 1000 --keep FOLDER
    python benchmarks/trees_fuzz.py --case FOLDER/1234.json
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RUST_BACKTRACE", "0")
sys.path.append(str(Path(__file__).absolute().parents[1]))  # the tests, behind whatever PYTHONPATH names

from tests.support.laws_of_trees import ENDED_WITHIN, OWN_CHECK, Case, Verdict, judged, random_case, sequence, stages

PRINTED = 4_000  # characters of a case that is printed whole
Test = Callable[[Case], bool]


def without(items: Sequence[Any], holds: Callable[[list[Any]], bool]) -> list[Any]:
    """The items less all that can be left out, in halves, quarters and so on to single ones."""
    kept, size = list(items), len(items)
    while size:
        at = 0
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            if holds(fewer):
                kept = fewer
            else:
                at += size
        size //= 2
    return kept


# ------------------------------------------------------------------------- parts of a case that can be left out in part


@dataclass(frozen=True)
class Part:
    """A list within a case: how to take it out, and how to put another in its place."""

    get: Callable[[Case], list[Any]]
    put: Callable[[Case, list[Any]], Case]


def parts_of(case: Case) -> Iterator[Part]:
    """What is most of the work first."""
    yield from (_words(name) for name in case.spaces)
    yield Part(_pieces, lambda case, pieces: replace(case, template="".join(pieces)))
    yield Part(lambda case: case.added, lambda case, added: replace(case, added=added))
    yield Part(
        lambda case: stages(case.normalizer),
        lambda case, some: replace(case, normalizer=sequence(some, "normalizers")),
    )
    yield Part(
        lambda case: stages(case.pre_tokenizer),
        lambda case, some: replace(case, pre_tokenizer=sequence(some, "pretokenizers")),
    )
    if case.model["type"] == "BPE":
        yield Part(lambda case: case.model["merges"], lambda case, merges: _with_model(case, merges=merges))
    yield Part(_entries, _with_entries)
    yield Part(lambda case: list(case.context or ""), lambda case, some: replace(case, context="".join(some) or None))


def _words(name: str) -> Part:
    return Part(
        lambda case: case.spaces.get(name, []),
        lambda case, words: replace(case, spaces={**case.spaces, name: words}),
    )


def _pieces(case: Case) -> list[str]:
    return re.findall(r"\{\w+(?::\d+)?\}|.", case.template, flags=re.DOTALL)


def _with_model(case: Case, **changed: Any) -> Case:
    return replace(case, model={**case.model, **changed})


def _entries(case: Case) -> list[Any]:
    """All but the unknown token, in the order of their ids."""
    vocab = case.model["vocab"]
    if isinstance(vocab, list):
        return vocab[1:]
    return [token for token in sorted(vocab, key=vocab.get) if token != case.model.get("unk_token")]


def _with_entries(case: Case, entries: list[Any]) -> Case:
    vocab = case.model["vocab"]
    if isinstance(vocab, list):
        return _with_model(case, vocab=[vocab[0], *entries])
    unk = case.model.get("unk_token")
    tokens = [*([unk] if unk in vocab else []), *entries]
    changed = {"vocab": {token: number for number, token in enumerate(tokens)}}
    if "merges" in case.model:
        prefix, known = len(case.model.get("continuing_subword_prefix") or ""), set(tokens)
        changed["merges"] = [
            [one, other] for one, other in case.model["merges"] if {one, other, one + other[prefix:]} <= known
        ]
    return _with_model(case, **changed)


def plainer(case: Case) -> Iterator[Case]:
    """Without one option each."""
    for name, value in case.model.items():
        if name in ("ignore_merges", "byte_fallback", "fuse_unk") and value:
            yield _with_model(case, **{name: False})
        if name in ("dropout",) and value is not None:
            yield _with_model(case, dropout=None)
    for name in ("end_of_word_suffix", "continuing_subword_prefix") if case.model["type"] == "BPE" else ():
        if case.model.get(name):
            yield _unmarked(case, name)
    if case.model.get("unk_token") and case.model["type"] == "BPE":
        yield replace(_with_model(case, unk_token=None), unk=False)
    yield from (replace(case, **{name: value}) for name, value in _DEFAULTS.items() if getattr(case, name) != value)
    for at, token in enumerate(case.added):
        for flag in ("lstrip", "rstrip", "single_word", "special", "normalized"):
            if token[flag]:
                yield replace(case, added=[*case.added[:at], {**token, flag: False}, *case.added[at + 1 :]])
    for name, words in spelled_out(case):
        yield replace(case, template=name, spaces=words)


_DEFAULTS: dict[str, Any] = {"post": "", "end": False, "context": None}


def _unmarked(case: Case, name: str) -> Case:
    """Without the marks of words' ends or middles."""
    mark = case.model[name]

    def bare(token: str) -> str:
        return (token.removesuffix(mark) if name == "end_of_word_suffix" else token.removeprefix(mark)) or token

    vocab = list(dict.fromkeys(map(bare, sorted(case.model["vocab"], key=case.model["vocab"].get))))
    merges = list(dict.fromkeys((bare(one), bare(other)) for one, other in case.model["merges"]))
    ids = {token: number for number, token in enumerate(vocab)}
    return _with_model(case, **{name: None}, vocab=ids, merges=[list(pair) for pair in merges])


def spelled_out(case: Case) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """The template with its first built-in holes of one kind as holes of words, of which fewer may do."""
    for name, letters in {
        "digit": "0123456789",
        "hex": "0123456789abcdef",
        "lower": "abcdefghijklmnopqrstuvwxyz",
    }.items():
        single = re.sub(rf"\{{{name}:(\d)\}}", lambda found, name=name: f"{{{name}}}" * int(found[1]), case.template)
        if f"{{{name}}}" in single:
            yield single.replace(f"{{{name}}}", f"{{of_{name}}}"), {**case.spaces, f"of_{name}": list(letters)}


def smaller(case: Case, holds: Test, seconds: float) -> Case:
    """The same case with fewer parts, as long as there is time and the law stays broken."""
    until = time.process_time() + seconds
    best = case

    def still(other: Case) -> bool:
        nonlocal best
        if time.process_time() > until or not holds(other):
            return False
        best = other
        return True

    size = -1
    while size != (size := len(best.to_json())) and time.process_time() < until:
        for part in list(parts_of(best)):
            base = best
            without(part.get(base), lambda some, part=part, base=base: still(part.put(base, some)))
        for _ in range(20):
            if not any(still(other) for other in plainer(best)):
                break
    return best


def fails_alike(verdict: Verdict, how: dict[str, Any]) -> Test:
    """Whether a case breaks the law that another has broken; what is no case breaks none."""

    def holds(case: Case) -> bool:
        try:
            return judged(case, **how).kind == verdict.kind
        except KeyboardInterrupt:
            raise
        except BaseException:  # parts do not fit together any more: a merge without its tokens, no fills, a panic
            return False

    return holds


# ---------------------------------------------------------------------------------------------------------------- a run


@dataclass
class Group:
    """Faults of which the same parts are left."""

    numbers: list[int]
    case: Case
    verdict: Verdict


class Run:
    """What has been found so far."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._keep, self._shrink_seconds = given.keep, given.shrink_seconds
        self._walks_every, self._limit, self._large = given.walks_every, given.limit, given.large
        self._only_faults = given.only_faults
        self.kinds: Counter[str] = Counter()
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.groups: dict[tuple[str, str], Group] = {}
        self.slowest = (0.0, -1)
        self.leaves = 0

    def add(self, number: int) -> None:
        """One case more: searched and drawn from, or with all fills encoded as small formats are, or neither."""
        walks = number % self._walks_every == self._walks_every - 1
        how = {"walks": walks, "listed": not walks and number % 16 == 5, "limit": self._limit}
        case = random_case(number, large=0.0 if walks or how["listed"] else self._large)
        verdict = judged(case, **how)
        self.kinds[("fault" if verdict.is_fault else verdict.kind) + (", walked" if walks else "")] += 1
        self.leaves += verdict.leaves
        self.slowest = max(self.slowest, (verdict.seconds, number))
        if verdict.kind.startswith("refused"):
            self.refusals[verdict.kind, verdict.detail] += 1
        if verdict.is_fault or (verdict.kind == OWN_CHECK and not self._only_faults):
            self.add_fault(number, case, verdict, how)

    def add_fault(self, number: int, case: Case, verdict: Verdict, how: dict[str, Any]) -> None:
        """Made smaller, and put to those like it."""
        if self._keep:
            (self._keep / f"{number}.json").write_text(case.to_json(), encoding="utf-8")
        seconds = 0.0 if verdict.kind == "takes too long" else self._shrink_seconds
        least = smaller(case, fails_alike(verdict, how), seconds)
        again = judged(least, **how) if least is not case else verdict
        key = (verdict.kind, least.features())
        told = ", ".join(name for name in ("walks", "listed") if how[name])
        print(f"case {number}{f' ({told})' if told else ''}: {verdict.kind} | {key[1]}", flush=True)
        group = self.groups.setdefault(key, Group([], least, again))
        group.numbers.append(number)
        if len(least.to_json()) < len(group.case.to_json()):
            group.case, group.verdict = least, again

    def summary(self, seconds: float) -> str:
        """All of it in words."""
        count = sum(self.kinds.values())
        lines = [
            f"\n{count:,} cases in {seconds:.0f} s, {count / max(seconds, 1e-9):.1f} a second, {self.leaves:,} leaves; "
            f"the slowest, {self.slowest[1]}, took {self.slowest[0]:.1f} s of the CPU",
            *(f"  {number:6,}  {kind}" for kind, number in self.kinds.most_common()),
            "\nRefusals",
            *(f"  {number:6,}  {kind}: {said}" for (kind, said), number in self.refusals.most_common()),
            "\nFaults, and what the tree's own check has found" if self.groups else "\nNo fault",
        ]
        for (kind, features), group in sorted(self.groups.items(), key=lambda item: -len(item[1].numbers)):
            first = ", ".join(map(str, group.numbers[:5]))
            lines.append(f"\n  {len(group.numbers)} × {kind} | {features}\n      cases {first}")
            lines.append(f"      {group.verdict.kind}: {group.verdict.detail}")
            text = group.case.to_json()
            lines.append(f"      {text}" if len(text) < PRINTED else f"      {len(text):,} characters: see its number")
        return "\n".join(lines)


def repeat(given: argparse.Namespace) -> None:
    """One case of a file, and what is left of it."""
    how = {"walks": given.walk, "listed": given.listed, "limit": given.limit}
    case = Case.from_json(given.case.read_text(encoding="utf-8"))
    verdict = judged(case, **how)
    print(verdict, case.features(), sep="\n")
    if verdict.kind != "equal":
        least = smaller(case, fails_alike(verdict, how), given.shrink_seconds)
        print(judged(least, **how), least.features(), least.to_json(), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="stop after so long")
    parser.add_argument("--cases", type=int, help="stop after so many")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--walks-every", type=int, default=12, help="one in so many is searched and drawn from")
    parser.add_argument("--large", type=float, default=0.08, help="share of formats of which only some fills are asked")
    parser.add_argument("--shrink-seconds", type=float, default=4.0, help="for making a case smaller; 0 leaves it")
    parser.add_argument("--limit", type=float, default=ENDED_WITHIN, help="CPU seconds of one case; more is a fault")
    parser.add_argument("--only-faults", action="store_true", help="do not look at what the tree's own check finds")
    parser.add_argument("--memory", type=float, default=6.0, help="GiB of addresses; what takes more is a fault")
    parser.add_argument("--keep", type=Path, help="folder for the cases that break a law")
    parser.add_argument("--case", type=Path, help="one case of a file instead")
    parser.add_argument("--walk", action="store_true", help="... searched and drawn from")
    parser.add_argument("--listed", action="store_true", help="... or with all fills encoded")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    most = int(given.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if given.case:
        return repeat(given)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    run, began, number = Run(given), time.monotonic(), given.first
    try:
        while time.monotonic() - began < given.seconds and (given.cases is None or number < given.first + given.cases):
            if given.keep:  # should the process be killed, this is why
                (given.keep / "number").write_text(str(number), encoding="utf-8")
            faulthandler.dump_traceback_later(60.0)  # should it hang where no signal comes through
            run.add(number)
            number += 1
    except KeyboardInterrupt:
        print(f"stopped in case {number}")
    faulthandler.cancel_dump_traceback_later()
    print(run.summary(time.monotonic() - began))
    sys.exit(any(verdict.is_fault for verdict in (group.verdict for group in run.groups.values())))


if __name__ == "__main__":
    main()

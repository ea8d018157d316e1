"""What it costs to inject canaries, and to find them among tokens.

    python benchmarks/injection.py --folder /tmp/injection

Ten million short rows in a memory-mapped file, the transform beside an identity map that writes its rows, a stream, and
a million rows of 512 tokens. Memory is what the process has of its own beyond the start, without pages of mapped files.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Value
from datasets.arrow_writer import ArrowWriter

from hf_canary import CanaryFormat, CanarySet, InjectCanaries, check_presence
from hf_canary.models import character_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz 0123456789.'PIN"


class Measured:
    """Seconds, and megabytes beyond the start."""

    seconds = 0.0
    megabytes = 0.0


def own_memory() -> float:
    """Megabytes of this process that are no file's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


@contextmanager
def measured() -> Iterator[Measured]:
    """What is done inside."""
    found, before, done = Measured(), own_memory(), threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            found.megabytes = max(found.megabytes, own_memory() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    began = time.monotonic()
    try:
        yield found
    finally:
        found.seconds = time.monotonic() - began
        done.set()
        thread.join()


def short_rows(path: Path, count: int) -> Dataset:
    """A text of about forty letters and a number, in a file."""
    features = Features({"text": Value("string"), "id": Value("int64")})
    with ArrowWriter(path=str(path), features=features) as writer:
        for start in range(0, count, 100_000):
            ids = np.arange(start, min(count, start + 100_000))
            texts = [f"row number {number} of a text, of the usual kind" for number in ids]
            writer.write_table(pa.table({"text": texts, "id": ids}, schema=features.arrow_schema))
        writer.finalize()
    return Dataset.from_file(str(path))


def a_set(per_repetition: int, digits: int = 9) -> CanarySet:
    """Canaries that are inserted 1, 4 and 16 times."""
    return CanarySet.draw(
        CanaryFormat(f"the canary's PIN is {{digit:{digits}}}."),
        repetitions=(1, 4, 16),
        per_repetition=per_repetition,
        seed=time.time_ns() % 2**32,  # so that no cache answers
    )


def injection(folder: Path, count: int) -> None:
    """Into a file of rows."""
    rows = short_rows(folder / "rows.arrow", count)
    for per_repetition in (4, 400, 4000):
        canaries = a_set(per_repetition)
        with measured() as found:
            injected = canaries.inject(rows)
        copies = len(injected) - len(rows)
        print(f"inject: {count:,} rows, {copies:,} copies: {found.seconds:.1f} s, {found.megabytes:.0f} MB")
        Path(injected.cache_files[0]["filename"]).unlink()


def identity(batch: Any, indices: Any) -> dict[str, Any]:
    """The same rows, written."""
    return {name: batch[name] for name in batch}


def transform(folder: Path, count: int) -> None:
    """`map` with the transform beside `map` with an identity, in turn."""
    rows, canaries = short_rows(folder / "fewer.arrow", count), a_set(4)
    functions: dict[str, Callable[..., Any]] = {
        "identity": identity,
        "InjectCanaries": InjectCanaries(canaries, num_rows=count),
    }
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(5):
        for name, function in functions.items():
            began = time.monotonic()
            mapped = rows.map(function, batched=True, with_indices=True, load_from_cache_file=False)
            best[name] = min(best[name], time.monotonic() - began)
            Path(mapped.cache_files[0]["filename"]).unlink()
    ratio = best["InjectCanaries"] / best["identity"]
    print(
        f"map: {count:,} rows: identity {best['identity']:.2f} s, transform {best['InjectCanaries']:.2f} s: {ratio:.2f}"
    )


def stream(folder: Path, count: int) -> None:
    """Through a stream, beside the stream itself."""
    rows, canaries = short_rows(folder / "stream.arrow", count), a_set(4)
    plain = rows.to_iterable_dataset(num_shards=4)
    for name, read in (("plain", plain), ("with canaries", canaries.inject(plain, num_rows=count))):
        with measured() as found:
            seen = sum(1 for _ in read)
        print(f"stream, {name}: {seen:,} rows: {found.seconds:.1f} s, {found.megabytes:.0f} MB")


def peer(count: int) -> None:
    """Into rows in memory, beside memaudit, if it is installed. It shuffles all rows; ours stay in order."""
    rows = Dataset.from_dict({"text": [f"row number {number} of a text, of the usual kind" for number in range(count)]})
    with measured() as found:
        len(a_set(4).inject(rows))
    print(f"in memory: {count:,} rows, ours: {found.seconds:.1f} s, {found.megabytes:.0f} MB")
    try:
        import memaudit.canaries
        import memaudit.injection
    except ImportError:
        print("in memory: memaudit is not installed")
        return
    tokenizer = character_tokenizer([LETTERS + LETTERS.upper()])
    theirs = memaudit.canaries.generate_canaries(tokenizer, n=12, n_controls=0, repetitions=(1, 4, 16))
    with measured() as found:
        len(memaudit.injection.inject(rows, theirs, fmt="text", include_prob=1.0)[0])
    print(f"in memory: {count:,} rows, memaudit: {found.seconds:.1f} s, {found.megabytes:.0f} MB")


def presence(count: int, length: int) -> None:
    """Canaries in rows of random tokens of two vocabularies: characters, and fifty thousand."""
    tokenizer = character_tokenizer([LETTERS])
    for name, width in (("characters", len(tokenizer)), ("50,000 tokens", 50_000)):
        for per_repetition in (4, 300):
            canaries, generator = a_set(per_repetition), np.random.default_rng(0)
            ids = (3 + (width - 3) * generator.random(count * length, dtype=np.float32) ** 3).astype(np.int32)
            copies = [canary.text for canary in canaries for _ in range(canary.repetitions)]
            places = generator.choice(count * length // 64, size=len(copies), replace=False) * 64
            for place, text in zip(places.tolist(), copies, strict=True):
                own = tokenizer(text)["input_ids"]
                ids[place : place + len(own)] = own
            starts = np.arange(0, count * length + 1, length, dtype=np.int32)
            rows = Dataset(pa.table({"input_ids": pa.ListArray.from_arrays(pa.array(starts), pa.array(ids))}))
            with measured() as found:
                seen = check_presence(rows, canaries, tokenizer)
            right = sum(each.whole + each.split for each in seen) == len(copies)
            print(
                f"presence: {count:,} rows of {length}, {name}, {len(canaries)} canaries: {found.seconds:.1f} s, "
                f"{found.megabytes:.0f} MB, all found: {right}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for a gigabyte or two, removed at the end")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--tokens-rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    arguments.folder.mkdir(parents=True)
    try:
        injection(arguments.folder, arguments.rows)
        transform(arguments.folder, arguments.rows // 10)
        stream(arguments.folder, arguments.rows // 10)
        peer(arguments.rows // 10)
        presence(arguments.tokens_rows, 512)
    finally:
        shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()

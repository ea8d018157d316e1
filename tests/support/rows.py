"""Small datasets that canaries are put into, and rows counted whatever their order."""

import json
from collections import Counter
from dataclasses import dataclass

from datasets import ClassLabel, Dataset, Features, List, Value

SENTENCES = ["One. Two! Three?", "a line\nand another\n", "words without an end", "", "x", None, "  spaced  out "]
ROWS = 11


def texts() -> Dataset:
    features = Features({"label": ClassLabel(names=["a", "b"]), "text": Value("string"), "more": List(Value("int8"))})
    rows = [{"label": n % 2, "text": SENTENCES[n % len(SENTENCES)], "more": [n]} for n in range(ROWS)]
    return Dataset.from_list(rows, features=features)


def multiset(rows) -> Counter:
    return Counter(json.dumps(row, sort_keys=True) for row in rows)


def numbered(rows: int) -> Dataset:
    return Dataset.from_dict({"text": [f"row {number}" for number in range(rows)], "id": list(range(rows))})


@dataclass(frozen=True)
class Copies:
    """A canary as injection knows one."""

    text: str
    repetitions: int
    source: str | None = None

    @property
    def id(self) -> str:
        return f"id of {self.text}"


@dataclass(frozen=True)
class FakeSet:
    """A set of canaries as injection knows one."""

    canaries: tuple[Copies, ...]
    digest: str = "0" * 64

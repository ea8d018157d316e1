"""Strict JSON as text: numbers that every reader takes, and no character that does something to a terminal;
and JSON of others, as Python reads it.

Knows nothing of what is in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ..errors import MOST_BITS


def plain(value: Any) -> Any:
    """As strict JSON takes it: NaN and infinity are None, and a whole number of more than 603 digits is hexadecimal
    text, which `int(text, 16)` reads.

    Example:
        >>> plain({"low": float("-inf"), "ids": (1, 2)}), plain(16**1000)[:4]
        ({'low': None, 'ids': [1, 2]}, '0x10')
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if value.bit_length() <= MOST_BITS else hex(value)
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (tuple, list)) else value


def read_json(text: str | bytes) -> Any:
    """What JSON says, as `json.loads`, whose other errors are a `ValueError`, too.

    Raises:
        ValueError: it is no JSON; it has a number of thousands of digits, or lists in lists too deep to be read.

    Example:
        >>> read_json("[1]")
        [1]
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("lists in lists, too deep to be read") from error


def json_text(content: object, *, indent: int | None = None) -> str:
    r"""`content` as strict JSON, letters as themselves; what is no visible character, such as a mark that turns the
    direction of writing, is escaped.

    Args:
        content: without NaN and infinity.
        indent: as of `json.dumps`.

    Raises:
        ValueError: NaN or infinity.

    Example:
        >>> print(json_text({"Zoë": "\u202e"}))
        {"Zoë": "\u202e"}
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    lines = text.split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_escaped, line)) for line in lines)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

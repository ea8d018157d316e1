"""The errors of the package, split by who must act, and how values become words, in them and wherever else.

Every error says four things: which argument, what was expected, what came, and what to do. None holds the text of a
canary or of a candidate: an id or a number names it. This file knows no format, no model and no file: whoever raises an
error supplies the words.
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Sequence
from dataclasses import fields

_LONGEST, _MOST_LISTED = 160, 6
MOST_BITS = 2_000
"""Of a whole number that is written out: 603 digits, since Python may be told to read and write no more than 640."""


class _Shortened(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write an int of thousands of digits; nobody would read it either.
        return repr(x) if x.bit_length() <= 128 else f"about {'-' * (x < 0)}2^{x.bit_length() - 1}"


_shortened = _Shortened()
_shortened.maxstring = _shortened.maxother = 80


def printable(text: str) -> str:
    r"""A text as it may reach a terminal, in one line: what is no visible character, such as an escape code, a line end
    or a mark that turns the direction of writing, stands as Python writes it.

    Example:
        >>> print(printable("\x1b[31mred \u202ealiaZoë\n"))
        \x1b[31mred \u202ealiaZoë\n
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def counted(number: float) -> str:
    """A number of things, of any size, as people read it; huge ones by their power of ten.

    Example:
        >>> counted(9**9), counted(10**5000), counted(float("inf"))
        ('387,420,489', '10^5000.0', 'more than 10^307')
    """
    if number < 10**12:
        return f"{number:,.0f}"
    return f"10^{math.log10(number):.1f}" if number < math.inf else "more than 10^307"


def shown(value: object) -> str:
    """`repr(value)`, shortened so that a message stays one that a person reads."""
    text = _shortened.repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


class AnySize:
    """A dataclass with whole numbers of any size, which Python's own `repr` refuses to write from 4301 digits on.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(repr=False)
        ... class Count(AnySize):
        ...     low: int
        ...     more: tuple[int, ...]
        >>> Count(7, (10**5000,))
        Count(low=7, more=(about 2^16609,))
    """

    def __repr__(self) -> str:
        values = ((field.name, getattr(self, field.name)) for field in fields(self) if field.repr)  # type: ignore[arg-type]
        return f"{type(self).__qualname__}({', '.join(f'{name}={_in_full(value)}' for name, value in values)})"


def _in_full(value: object) -> str:
    """`repr(value)`, but for whole numbers that have none."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {_in_full(each)}' for name, each in value.items())}}}"
    if type(value) is tuple:
        return f"({', '.join(map(_in_full, value))}{',' * (len(value) == 1)})"
    return repr(value) if not isinstance(value, int) or value.bit_length() <= MOST_BITS else shown(value)


def listed(names: Sequence[str]) -> str:
    """The first of some names, and whether there are more.

    Example:
        >>> listed(["f0-x1-0", "f0-x1-1"]), listed(list("abcdefgh"))
        ('f0-x1-0, f0-x1-1', 'a, b, c, d, e, f and others')
    """
    return ", ".join(names[:_MOST_LISTED]) + (" and others" if len(names) > _MOST_LISTED else "")


def kind(value: object) -> str:
    """What sort of thing it is, where the value itself may be a secret: a canary's text, a fill.

    Example:
        >>> kind("My PIN is 1234"), kind(None)
        ('of the type str', 'None')
    """
    return "None" if value is None else f"of the type {type(value).__name__}"


def without_data(error: BaseException) -> str:
    """What may be written of an error: of one of ours all; of another its name, since its words may quote a text."""
    return str(error) if isinstance(error, CanaryError) else type(error).__name__


def is_int(value: object) -> bool:
    """Whether `value` is a whole number: Python's or NumPy's, but no bool."""
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return not isinstance(value, bool)


class CanaryError(Exception):
    """What every error of hf_canary is; catch this one to catch all.

    Args:
        argument: the argument, file or object at fault, as the caller knows it.
        expected: what would have been right.
        got: what came instead.
        remedy: what to do about it, as a sentence.

    Example:
        >>> from hf_canary import CanaryError, CanaryFormat
        >>> try:
        ...     CanaryFormat("no hole at all")
        ... except CanaryError as error:
        ...     print(error.argument)
        template
    """

    def __init__(self, argument: str, expected: str, got: str, remedy: str) -> None:
        # All four go to Exception as they came: an error that crosses processes is rebuilt from them.
        super().__init__(argument, expected, got, remedy)
        self.argument = argument
        self.expected = expected
        self.got = got
        self.remedy = remedy

    def __str__(self) -> str:
        return printable(f"{self.argument}: expected {self.expected}; got {self.got}. {self.remedy}")


class ArgumentError(CanaryError, ValueError):
    """The caller must act: an argument that no data and no model would make right. It is a `ValueError`, too."""


class ArgumentTypeError(ArgumentError, TypeError):
    """The caller must act: an argument of another type. It is a `TypeError`, too."""


class FormatError(ArgumentError):
    """The author of a canary format must act: a template, an alphabet, a fill, a draw that does not fit."""


class DataError(CanaryError):
    """The owner of the data must act: a dataset, a column, a canaries file, a list of numbers."""


class ModelError(CanaryError):
    """The owner of the model must act: a checkpoint, its tokenizer, or scores that are not numbers."""

"""The errors of the package, split by who must act.

Every error says four things: which argument, what was expected, what came, and what to do. This file
knows no format, no model and no file: whoever raises an error supplies the words.
"""

from __future__ import annotations

import reprlib

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 80


def shown(value: object) -> str:
    """`repr(value)`, shortened so that a message stays one that a person reads."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"about 2^{value.bit_length() - 1}"
    return _shortened.repr(value)


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
        return f"{self.argument}: expected {self.expected}; got {self.got}. {self.remedy}"


class FormatError(CanaryError):
    """The author of a canary format must act: a template, an alphabet, a fill, a draw that does not fit."""


class DataError(CanaryError):
    """The owner of the data must act: a dataset, a column, a canaries file, a list of numbers."""


class ModelError(CanaryError):
    """The owner of the model must act: a checkpoint, its tokenizer, or scores that are not numbers."""

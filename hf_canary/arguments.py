"""What callers give, checked before any work: types and ranges. What more than one door checks stands here, once.

A number comes back as one of Python's, whichever kind was given: NumPy's overflow, and JSON does not take them.

Knows numbers, words and types; knows no format, no model and no file: whoever asks says what may be given.
"""

from __future__ import annotations

import inspect
import math
import numbers
import operator
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from .errors import ArgumentError, ArgumentTypeError, is_int, kind, shown

_FEWEST_REFITS = 99  # so that a p-value of 1 % can be seen
_LEAVE_OUT = "Leave it out."
PROGRESS = "a function that is called as the work goes on"
_LARGEST_SEED = 2**1024
_LARGEST_COUNT = 10**12  # of what is made one by one
_LONGEST = 10**9  # seconds, some thirty years
_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # bytes, as file systems have it


def is_number(value: object) -> bool:
    """Whether `value` is a number, whole or not, and no bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


@overload
def check_int(
    argument: str,
    value: object,
    *,
    least: int | None = None,
    most: int | None = None,
    optional: Literal[False] = False,
    remedy: str = _LEAVE_OUT,
) -> int: ...


@overload
def check_int(
    argument: str,
    value: object,
    *,
    least: int | None = None,
    most: int | None = None,
    optional: Literal[True],
    remedy: str = _LEAVE_OUT,
) -> int | None: ...


def check_int(
    argument: str,
    value: object,
    *,
    least: int | None = None,
    most: int | None = None,
    optional: bool = False,
    remedy: str = _LEAVE_OUT,
) -> int | None:
    """A whole number, as one of Python's; None if none was given and need be.

    Args:
        argument: its name.
        value: what was given.
        least: the least that may be given.
        most: the most.
        optional: whether None may be given.
        remedy: what to do.

    Raises:
        ArgumentTypeError: another type.
        ArgumentError: out of range.
    """
    if optional and value is None:
        return None
    bounds = "" if least is None else f", {least} or more" if most is None else f" from {shown(least)} to {shown(most)}"
    expected = f"a whole number{bounds}{', or None' if optional else ''}"
    if not is_int(value):
        raise ArgumentTypeError(argument, expected, shown(value), remedy)
    number = operator.index(value)  # type: ignore[arg-type]
    if (least is not None and number < least) or (most is not None and number > most):
        raise ArgumentError(argument, expected, shown(value), remedy)
    return number


@overload
def check_number(
    argument: str,
    value: object,
    fits: Callable[[float], bool],
    expected: str,
    *,
    optional: Literal[False] = False,
    remedy: str = _LEAVE_OUT,
) -> float: ...


@overload
def check_number(
    argument: str,
    value: object,
    fits: Callable[[float], bool],
    expected: str,
    *,
    optional: Literal[True],
    remedy: str = _LEAVE_OUT,
) -> float | None: ...


def check_number(
    argument: str,
    value: object,
    fits: Callable[[float], bool],
    expected: str,
    *,
    optional: bool = False,
    remedy: str = _LEAVE_OUT,
) -> float | None:
    """A number that fits, as one of Python's; NaN never does. None if none was given and need be.

    Args:
        argument: its name.
        value: what was given.
        fits: whether a number will do.
        expected: which would, in words.
        optional: whether None may be given.
        remedy: what to do.

    Raises:
        ArgumentTypeError: another type.
        ArgumentError: one that does not fit.
    """
    if optional and value is None:
        return None
    if not is_number(value):
        raise ArgumentTypeError(argument, expected, shown(value), remedy)
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        number = math.nan
    if math.isnan(number) or not fits(number):
        raise ArgumentError(argument, expected, shown(value), remedy)
    return operator.index(value) if is_int(value) else number  # type: ignore[arg-type]


def check_among(argument: str, value: object, allowed: Collection[object], remedy: str = _LEAVE_OUT) -> None:
    """Refuse what is none of the choices.

    Raises:
        ArgumentTypeError: not even of their type.
        ArgumentError: another one.
    """
    if any(value is each for each in allowed) or (isinstance(value, str) and value in allowed):
        return
    error = ArgumentError if isinstance(value, str) else ArgumentTypeError
    raise error(argument, f"one of {', '.join(map(repr, allowed))}", shown(value), remedy)


def check_instance(argument: str, value: object, types: type | tuple[type, ...], expected: str, remedy: str) -> None:
    """Refuse what is of another type. The error shows the type alone: the value may be a canary's text.

    Raises:
        ArgumentTypeError: it is.
    """
    if not isinstance(value, types):
        raise ArgumentTypeError(argument, expected, kind(value), remedy)


def check_flag(argument: str, value: object) -> bool:
    """True or False, and nothing that might be taken for either: "no" is true to Python.

    Raises:
        ArgumentTypeError: anything else.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(argument, "True or False", kind(value), "Give one of them.")
    return bool(value)


def check_callable(argument: str, value: object, expected: str, *, takes: int = 1) -> None:
    """Refuse what is neither a function of so many arguments nor None, as far as it says what it takes.

    Raises:
        ArgumentTypeError: no function.
        ArgumentError: one of other arguments.
    """
    if value is None:
        return
    if not callable(value):
        raise ArgumentTypeError(argument, expected, kind(value), _LEAVE_OUT)
    try:
        inspect.signature(value).bind(*[None] * takes)
    except TypeError as error:
        got, remedy = f"{shown(value)}: {error}", f"Give one that can be called with {takes}."
        raise ArgumentError(argument, expected, got, remedy) from error
    except Exception:  # one that does not say what it takes
        pass


def as_python(value: Any) -> Any:
    """Numbers and arrays of NumPy and torch as Python's numbers and lists; all else as it is."""
    return value.tolist() if has(value, "tolist") else value


def check_path(argument: str, value: object) -> Path:
    """The path of a file or folder, as far as words go: it may not be there.

    Raises:
        ArgumentTypeError: neither a text nor a path.
        ArgumentError: one that no system can write.
    """
    expected, remedy = "the path of a file", "Give it as a text or a pathlib.Path."
    if not isinstance(value, (str, os.PathLike)):
        raise ArgumentTypeError(argument, expected, kind(value), remedy)
    name = os.fspath(value)
    if not isinstance(name, str) or not is_unicode(name):
        raise ArgumentError(argument, expected, kind(name), remedy)
    return Path(name)


def is_file_name(path: Path) -> bool:
    """Whether a file can be called so."""
    try:
        is_short = all(len(os.fsencode(part)) <= _LONGEST_NAME for part in path.parts)
        return is_short and "\0" not in str(path) and len(os.fsencode(path.absolute())) < _LONGEST_PATH
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def is_folder(path: str | Path) -> bool:
    """Whether a folder is called so, also of names that no folder can have."""
    return is_file_name(Path(path)) and Path(path).is_dir()


def check_list(argument: str, value: object, expected: str, remedy: str) -> list[Any]:
    """What an iterable holds, which a text is not.

    Raises:
        ArgumentTypeError: nothing that can be gone through.
    """
    try:
        if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
            return list(value)
    except TypeError:  # as an array without dimensions says
        pass
    raise ArgumentTypeError(argument, expected, kind(value), remedy)


def is_unicode(text: str) -> bool:
    """Whether a text can be written in UTF-8: half of a surrogate pair cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def has(value: object, name: str) -> bool:
    """Whether it has an attribute; one that fails when it is asked has none."""
    try:
        return hasattr(value, name)
    except Exception:
        return False


def check_seed(seed: int | None, *, optional: bool = False, remedy: str = _LEAVE_OUT) -> int | None:
    """A whole number that can be written out."""
    if optional and seed is None:
        return None
    return check_int("seed", seed, least=-_LARGEST_SEED, most=_LARGEST_SEED, remedy=remedy)


def check_count(argument: str, count: int) -> int:
    """Of what is made one by one, such as references."""
    return check_int(argument, count, least=1, most=_LARGEST_COUNT)


def check_model(model: object) -> None:
    """Refuse what is no module of torch.

    Raises:
        ArgumentTypeError: it is none, such as the name of a model.
    """
    import torch

    check_instance("model", model, torch.nn.Module, "a model of transformers", "Load it with from_pretrained.")


def check_tokenizer(tokenizer: Any, *, needs: str = "all_special_ids") -> None:
    """Refuse what is no tokenizer of transformers, as far as it is needed.

    Raises:
        ArgumentTypeError: it is none, such as the name of one.
    """
    if not has(tokenizer, needs):
        raise ArgumentTypeError(
            "tokenizer", "a tokenizer of transformers", kind(tokenizer), "Load it: AutoTokenizer.from_pretrained(...)."
        )


def check_batch_size(batch_size: int | None) -> int | None:
    """Rows of one forward pass."""
    return check_int("batch_size", batch_size, least=1, optional=True)


def check_memory(max_memory: int | None) -> int | None:
    """Bytes."""
    return check_int("max_memory", max_memory, least=1, most=2**62, optional=True)


def check_expanded(max_expanded: int | None) -> int | None:
    """Prefixes of a search."""
    return check_int("max_expanded", max_expanded, least=1, optional=True)


def check_seconds(max_seconds: float | None) -> float | None:
    """A limit of time."""
    return check_number(
        "max_seconds",
        max_seconds,
        lambda seconds: 0 < seconds <= _LONGEST,
        "a finite number of seconds, above 0, or None",
        optional=True,
        remedy="Without it there is no limit.",
    )


def check_confidence(confidence: float) -> float:
    """Of an interval."""
    return check_number("confidence", confidence, _is_share, "a number between 0 and 1", remedy="Give 0.95 for 95 %.")


def check_space_size(space_size: int) -> int:
    """|R|."""
    return check_int("space_size", space_size, least=1, remedy="Give the format's space_size, |R|.")


def check_bootstrap(bootstrap: int) -> int:
    """How many samples are refitted: none, or so many that they could show that a law does not fit."""
    expected = f"0, or {_FEWEST_REFITS} and more"
    remedy = "Give 200, or leave it out."
    if not is_int(bootstrap):
        raise ArgumentTypeError("bootstrap", expected, shown(bootstrap), remedy)
    if bootstrap != 0 and bootstrap < _FEWEST_REFITS:
        raise ArgumentError("bootstrap", expected, shown(bootstrap), remedy)
    return operator.index(bootstrap)


def _is_share(number: float) -> bool:
    return 0.0 < number < 1.0

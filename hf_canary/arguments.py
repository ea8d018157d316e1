"""What callers give, checked before any work: types and ranges. What more than one door checks stands here, once.

A number comes back as one of Python's, whichever kind was given: NumPy's overflow, and JSON does not take them.

Knows numbers, words and types; knows no format, no model and no file: whoever asks says what may be given.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Collection
from typing import Any, Literal, overload

from .errors import ArgumentError, ArgumentTypeError, is_int, kind, shown

_FEWEST_REFITS = 99  # so that a p-value of 1 % can be seen
_LEAVE_OUT = "Leave it out."


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
    bounds = "" if least is None else f", {least} or more" if most is None else f" from {least} to {shown(most)}"
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
    number: float = operator.index(value) if is_int(value) else float(value)  # type: ignore[arg-type]
    if math.isnan(number) or not fits(number):
        raise ArgumentError(argument, expected, shown(value), remedy)
    return number


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
    if not hasattr(tokenizer, needs):
        raise ArgumentTypeError(
            "tokenizer", "a tokenizer of transformers", kind(tokenizer), "Load it: AutoTokenizer.from_pretrained(...)."
        )


def check_batch_size(batch_size: int | None) -> int | None:
    """Rows of one forward pass."""
    return check_int("batch_size", batch_size, least=1, optional=True)


def check_memory(max_memory: int | None) -> int | None:
    """Bytes."""
    return check_int("max_memory", max_memory, least=1, optional=True)


def check_expanded(max_expanded: int | None) -> int | None:
    """Prefixes of a search."""
    return check_int("max_expanded", max_expanded, least=1, optional=True)


def check_seconds(max_seconds: float | None) -> float | None:
    """A limit of time."""
    return check_number(
        "max_seconds",
        max_seconds,
        lambda seconds: 0 < seconds < math.inf,
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

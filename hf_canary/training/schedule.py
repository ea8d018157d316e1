"""At which steps of a training to measure. Knows steps and epochs; knows no trainer."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..arguments import as_python
from ..errors import ArgumentError, is_int, shown

EVALUATION, EPOCH = "evaluation", "epoch"

When = str | int | Sequence[int] | None


class Schedule:
    """When to measure.

    Args:
        when: `"evaluation"`: at each evaluation; `"epoch"`: at the end of each epoch; n: every n steps, 1 for each; a
            list of steps, with 0 for before the first. None: at each evaluation, or where there are none, each epoch.

    Raises:
        ArgumentError: anything else.

    Example:
        >>> schedule = Schedule(10)
        >>> schedule.is_due(20, ends_epoch=False), schedule.is_due(25, ends_epoch=True)
        (True, False)
    """

    def __init__(self, when: When = None) -> None:
        when = as_python(when)
        self._default = when is None
        self.at_evaluations = when in (None, EVALUATION)
        self._at_epochs = when == EPOCH
        self._every, self._steps = 0, frozenset[int]()
        if isinstance(when, str) or when is None:
            if when not in (None, EVALUATION, EPOCH):
                raise _wrong(when)
        elif is_int(when):
            self._every = _whole(when, 1)
        elif isinstance(when, Collection) and len(when):
            self._steps = frozenset(_whole(step, 0) for step in when)
        else:
            raise _wrong(when)

    def begin(self, *, has_evaluations: bool) -> None:
        """A training starts, at whose evaluations it measures if nothing else was asked for."""
        if self._default:
            self.at_evaluations, self._at_epochs = has_evaluations, not has_evaluations

    def is_due(self, step: int, *, ends_epoch: bool) -> bool:
        """Whether to measure after so many steps, whether or not there is an evaluation."""
        if self._every:
            return step > 0 and step % self._every == 0
        return step in self._steps or (self._at_epochs and ends_epoch and step > 0)

    def reaches(self, max_steps: int) -> bool:
        """Whether a training of so many steps is measured at all, as far as steps tell."""
        if self._every:
            return self._every <= max_steps
        return not self._steps or min(self._steps) <= max_steps

    def count(self, max_steps: int, *, epochs: int, evaluations: int) -> int:
        """How many measurements a training of so many steps, epochs and evaluations has, at most; once it has begun.

        Example:
            >>> [Schedule(when).count(105, epochs=3, evaluations=7) for when in (10, [0, 50, 200], "epoch")]
            [10, 2, 3]
        """
        if self._every:
            return max_steps // self._every
        of_steps = sum(step <= max_steps for step in self._steps)
        return of_steps + epochs * self._at_epochs + evaluations * self.at_evaluations

    def __repr__(self) -> str:
        """What was asked for; the same in every process."""
        return f"{self._default} {self.at_evaluations} {self._at_epochs} {self._every} {sorted(self._steps)}"


def _whole(step: object, least: int) -> int:
    if not is_int(step) or int(step) < least:  # type: ignore[call-overload]
        raise _wrong(step)
    return int(step)  # type: ignore[call-overload, no-any-return]


def _wrong(when: object) -> ArgumentError:
    return ArgumentError(
        "measure_at",
        '"evaluation", "epoch", a number of steps, or a list of steps',
        shown(when),
        "Leave it out to measure at each evaluation; 1 measures after every step; shares of a training are not taken.",
    )

"""How canaries go into a dataset: the options of an injection, checked when they are made.

Knows names, numbers and words; knows no dataset and no canary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..arguments import check_among, check_callable, check_instance, check_seed, check_tokenizer
from ..errors import ArgumentTypeError
from .placement import MODES, part

ROLES = ("assistant", "user", "system", "tool", "developer")

MakeRow = Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True)
class InsertionOptions:
    """What `CanarySet.inject` takes beside the dataset and its length.

    All of it is part of the fingerprint of a dataset that canaries were injected into.

    Args:
        column: where the canary goes; a column, or a field of one, as `translation.de`.
        source_column: where the source of the format goes, for encoder-decoders; None where there is none.
        seed: draws the positions of the copies; None derives them from the digest of the set.
        tokenizer: makes the tokens of rows that are tokens; beside a chat, its template is tried on the canaries.
        make_row: canary → row, for rows of any other kind.
        role: who says the canary in a chat.
        placement: `rows` of their own, or `splice`: into rows that are there.
        when: in which part of the dataset: a name, or two shares of its rows.

    Raises:
        ArgumentError: a seed, tokenizer, function, role, placement or part that is none.
    """

    column: str = "text"
    source_column: str | None = None
    seed: int | None = None
    tokenizer: Any = None
    make_row: MakeRow | None = None
    role: str = "assistant"
    placement: str = "rows"
    when: str | tuple[float, float] = "uniform"

    def __post_init__(self) -> None:
        seed = check_seed(self.seed, optional=True, remedy="Leave it out to derive it from the canaries.")
        object.__setattr__(self, "seed", seed)
        remedy = "Copies are rows of their own, or spliced into rows that are there."
        check_among("placement", self.placement, MODES, remedy)
        if self.tokenizer is not None:
            check_tokenizer(self.tokenizer, needs="apply_chat_template")
        if self.source_column is not None:
            expected = "the name of a column"
            check_instance("source_column", self.source_column, str, expected, "Leave it out where there is none.")
        check_callable("make_row", self.make_row, "a function: canary → row")
        check_among("role", self.role, ROLES, "For another one give make_row=.")
        share = part(self.when)
        object.__setattr__(self, "when", self.when if isinstance(self.when, str) else share)

    @classmethod
    def of(cls, column: str, given: Mapping[str, Any]) -> InsertionOptions:
        """From the arguments of `CanarySet.remove` or `count_in`.

        Raises:
            ArgumentTypeError: one that `inject` does not take.
            ArgumentError: one that is wrong.
        """
        names = {each.name for each in fields(cls)}
        for name in given:
            if name not in names:
                expected = f"arguments of inject: {', '.join(sorted(names - {'column'}))}"
                raise ArgumentTypeError(name, expected, "another", "Give what inject was given.")
        return cls(column=column, **given)

    @property
    def splices(self) -> bool:
        """Whether the copies go into rows that are there."""
        return self.placement == "splice"

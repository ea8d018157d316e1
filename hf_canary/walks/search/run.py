"""A search that goes on until it has an answer, its time is over, or it is interrupted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...inference.cache_adapters import Encoded, Source
from ...inference.evaluation import evaluating
from ...inference.language_model import LanguageModel, Session
from ...runtime.deadline import Deadline
from .search import MODEL, Search


@contextmanager
def after_prompt(
    model: Any,
    prompt: Sequence[int],
    depth: int,
    *,
    source: Source | Encoded | None = None,
    batch_size: int | None,
    max_memory: int,
) -> Iterator[tuple[LanguageModel, Session]]:
    """The model in evaluation, and a session after the prompt for a search, which may take the rest of the memory.

    Args:
        model: as in `LanguageModel`.
        prompt: token ids.
        depth: how many tokens follow at most.
        source: what an encoder-decoder reads.
        batch_size: rows of one forward pass; None lets the memory decide.
        max_memory: bytes, for passes and search together.
    """
    with evaluating(model) as bare:
        view = LanguageModel(bare, batch_size=batch_size, max_memory=max(1, int(MODEL * max_memory)))
        yield view, view.session(prompt, depth, source=source, mixed=True)


def go_on(
    search: Search,
    *,
    max_expanded: float | None = None,
    deadline: Deadline | None = None,
    interrupted: Callable[[], bool] | None = None,
    after_each: Callable[[], object] | None = None,
    until: Callable[[], bool] | None = None,
) -> str:
    """Expand until it is over, or as far as it may go.

    Args:
        search: which.
        max_expanded: prefixes in all.
        deadline: how long it may take; the root is read in any case.
        interrupted: whether it was asked to end.
        after_each: called after each batch.
        until: whether what is wanted of it has been reached.

    Returns:
        What ended it before it was over: `max_expanded`, `max_seconds`, `max_memory`, `interrupted`; else nothing.
    """
    most = math.inf if max_expanded is None else max_expanded
    while not search.is_done and not (until is not None and until()):
        if search.expanded:
            if interrupted is not None and interrupted():
                return "interrupted"
            if search.expanded >= most:
                return "max_expanded"
            if deadline is not None and not deadline.left:
                return "max_seconds"
        search.step(most - search.expanded)
        if search.out_of_memory:
            return "max_memory"
        if after_each is not None:
            after_each()
    return ""

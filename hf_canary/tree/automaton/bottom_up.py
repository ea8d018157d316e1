"""An order in which all that can be reached from some states is met, each behind all that follow it.

What a state has below it, such as how many leaves, is then a sum over what is known already. States are numbers; the
automaton has no circles. Knows nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator


def bottom_up(starts: Iterable[int], behind: Callable[[int], Iterable[int]]) -> Iterator[int]:
    """Each state once, depth first; without recursion, since a text may be longer than Python's stack is deep.

    Args:
        starts: where to begin.
        behind: a state → those that follow it.
    """
    done: set[int] = set()
    stack = list(starts)
    while stack:
        waiting = [] if stack[-1] in done else [state for state in behind(stack[-1]) if state not in done]
        if waiting:
            stack += waiting
            continue
        state = stack.pop()
        if state not in done:
            done.add(state)
            yield state

"""How many spellings a stretch has, and what else is told by going through all of them once.

Knows sets of nodes; no vocabulary and no rule of words.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...tokenization.stages import Atom
from ..automaton.bottom_up import bottom_up
from .node_sets import NodeSets


@dataclass(frozen=True)
class SpellingCounts:
    """All rows of units and cuts that a stretch may be spelled as.

    Args:
        count: how many there are.
        longest: the most units of one.
        is_open: whether some end where others go on, or the same unit both begins a word and goes on in one.
        atoms: the tokens that stand by themselves in some.
    """

    count: int
    longest: int
    is_open: bool
    atoms: frozenset[int]


def spelling_counts(sets: NodeSets, start: int) -> SpellingCounts:
    """Of all that leads on from a set to an end.

    Raises:
        UnknownCharacters: the vocabulary lacks one.
    """
    counts, longest = dict[int, int](), dict[int, int]()
    atoms, is_open = set[int](), False

    def behind(number: int) -> list[int]:
        return [*sets.after(number, True).values(), *sets.after(number, False).values()]

    for number in bottom_up([start], behind):
        begin, along, following = sets.after(number, True), sets.after(number, False), behind(number)
        counts[number] = sets.ends(number) + sum(counts[after] for after in following)
        longest[number] = max((longest[after] + 1 for after in following), default=0)
        atoms.update(unit.id for unit in (*begin, *along) if isinstance(unit, Atom))
        is_open |= (sets.ends(number) and bool(following)) or not begin.keys().isdisjoint(along)
    return SpellingCounts(counts[start], longest[start], is_open, frozenset(atoms))

"""A format cut at its seams into stretches, each of which is spelled whatever stands around it.

As before the space of `{name} lives in {town}`: what follows there depends on nothing before. So the encodings of a
format are rows of encodings of its stretches, and four lists of 20,000 names are 80,000 texts and not 20,000⁴. Knows
the format's characters and its seams; not how words are encoded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ...formats.template import Literal, entries_of
from ...tokenization.stages import Pipeline
from .format_automaton import FormatAutomaton
from .piece_entries import is_check
from .seams import Begins, seams_of

_MOST = 64  # stretches


@dataclass(frozen=True)
class Stretch:
    """A part of a format that is spelled whatever stands around it, since words are cut at both of its ends.

    Args:
        lead: the first character, if it has been read.
        start: the format's state behind it.
        begins: all ways in which the stages may stand there, as far as they have guessed: the state, and what they have
            already written of the stretch.
        stop: the format's state in which it ends; None is the end of the format.
        behind: the character that follows there.
        choices: what may stand in it, one behind the other, the lead included; None where a check digit says more.
        num_texts: how many texts it has.
        has_lists: whether one of its holes has entries of several characters.
    """

    lead: str
    start: int
    begins: Begins
    stop: int | None
    behind: str
    choices: tuple[tuple[str, ...], ...] | None
    num_texts: int
    has_lists: bool


def stretches_of(automaton: FormatAutomaton, words: Pipeline) -> list[Stretch]:
    """The stretches of a format, in order.

    Args:
        automaton: the format's.
        words: the tokenizer's stages, from characters to words.
    """
    seams = seams_of(automaton, words)
    seams = seams[:: 1 + len(seams) // _MOST]
    stretches: list[Stretch] = []
    begins: Begins = frozenset({(words.start, ())})
    lead, start, first = "", automaton.start, (0, 0)
    for seam in seams:
        (text,), last = entries_of(automaton.pieces[seam.piece]), (seam.piece, seam.position)
        stop = automaton.in_literal(seam.piece, seam.position)
        stretches.append(Stretch(lead, start, begins, stop, text[seam.position], *_content(automaton, first, last)))
        lead, start = text[seam.position], automaton.in_literal(seam.piece, seam.position + 1)
        begins, first = seam.begins, last
    last = (len(automaton.pieces), 0)
    stretches.append(Stretch(lead, start, begins, None, "", *_content(automaton, first, last)))
    return stretches


class _Content(NamedTuple):
    """What may stand in a stretch, as there."""

    choices: tuple[tuple[str, ...], ...] | None
    num_texts: int
    has_lists: bool


def _content(automaton: FormatAutomaton, first: tuple[int, int], last: tuple[int, int]) -> _Content:
    """What stands from one position to another, each a piece and a character of it.

    Of `My {w} is {v}.`, with pieces "My " {w} " is " {v} ".", from (0, 2) to (2, 3) there is

        choices   (" ",), entries of {w}, (" is",)
        num_texts those of the holes in between, here {w}
    """
    choices = []
    for number in range(first[0], min(last[0] + 1, len(automaton.pieces))):
        entries = entries_of(automaton.pieces[number])
        begin, end = first[1] if number == first[0] else 0, last[1] if number == last[0] else None
        choices.append(tuple(entry[begin:end] for entry in entries) if begin or end is not None else entries)
    pieces = automaton.pieces[first[0] : last[0]]
    holes = [piece for piece in pieces if not isinstance(piece, Literal) and not is_check(piece)]
    return _Content(
        choices=None if any(map(is_check, pieces)) else tuple(choices),
        num_texts=math.prod(len(entries_of(hole)) for hole in holes),
        has_lists=any(len(entry) > 1 for hole in holes for entry in entries_of(hole)),
    )

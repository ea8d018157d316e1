"""Where the source of each canary stands before it in rows that a causal model is trained on, and amid what.

Where sources have holes, what stands before the canaries differs, and what stands around their sources is the same.
Knows the tokens before a copy, and the canary; it knows no row as a whole, and no model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..canaries import Canary, CanarySet
from ..tokenization.contexts import Before, SourceContext
from ..tokenization.encoding import token_ids

Path = tuple[int, ...]

# Tokens before a source that are written together with it, since they may be joined; the first number that does is
# taken.
_BEFORE = (2, 1, 4, 8, 16, 32)
_BYTE, _UNKNOWN = re.compile("<0x([0-9A-F]{2})>"), "\ue000"


def around_sources(
    tokenizer: Any, canaries: CanarySet, rows: Mapping[int, Path], numbers: Sequence[int]
) -> tuple[dict[int, Before], list[int]]:
    """What stands around the sources of canaries.

    Args:
        tokenizer: that made the rows.
        canaries: the set.
        rows: of those that were seen, by number: all tokens before a copy, and those that it is written with.
        numbers: of those that are asked for. What was not seen has what most others have.

    Returns:
        A `SourceContext` for each, by number; None for those before which none could be made out, which are listed.
    """
    found: dict[int, Before] = {}
    left, lost = dict(rows), list[int]()
    while left:
        number = next(iter(left))
        own = (context for context in contexts_of(tokenizer, canaries[number], left[number]))
        fitting = ((context, fitting_rows(tokenizer, canaries, context, left)) for context in own)
        context, members = next(((context, rows) for context, rows in fitting if number in rows), (None, [number]))
        lost += members if context is None else []
        found |= dict.fromkeys(members, context)
        left = {number: row for number, row in left.items() if number not in found}
    usual = Counter(context for context in found.values() if context is not None).most_common(1)
    return dict.fromkeys(numbers, usual[0][0] if usual else None) | found, lost


def fitting_rows(tokenizer: Any, canaries: CanarySet, context: SourceContext, rows: Mapping[int, Path]) -> list[int]:
    """The numbers of those rows, up to a copy of a canary and with it, that are what a context makes of its source."""
    first = context.ids or ()
    alike = [
        number for number, row in rows.items() if row[: len(first)][-1:] == first[-1:] and row[: len(first)] == first
    ]
    texts = [context.around(canaries[number].source or "") + canaries[number].text for number in alike]
    encoded = token_ids(tokenizer, texts) if texts else []
    return [
        number
        for number, ids in zip(alike, encoded, strict=True)
        if (*first, *ids)[: len(rows[number])] == rows[number]
    ]


def contexts_of(tokenizer: Any, canary: Canary, row: Path) -> Iterator[SourceContext]:
    """What may stand around the source in a row."""
    written = token_ids(tokenizer, [canary.text, canary.source or ""])
    decoded = partial(tokenizer.decode, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    for read in (decoded, partial(_side_by_side, tokenizer)):
        yield from _contexts_in(read, canary.text, canary.source or "", row, tokenizer.unk_token)
        said, source = (read(ids).strip() for ids in written)  # of a tokenizer that changes letters
        yield from _contexts_in(read, said, source, row, tokenizer.unk_token)


def _contexts_in(
    read: Callable[[Sequence[int]], str], said: str, source: str, row: Path, unknown: str | None
) -> Iterator[SourceContext]:
    """The same with tokens as they are read, by where the text begins that is written together with the source."""
    if _split(read(row), said, source) is None:
        return
    begin = next(at for at in range(len(row) - 1, -1, -1) if _split(read(row[at:]), said, source) is not None)
    for count in dict.fromkeys(min(count, begin) for count in (*_BEFORE, begin, 0)):
        texts = _split(read(row[begin - count :]), said, source)
        if texts is not None:
            # Of what is not known, a letter that is as unknown.
            before, behind = (text.replace(unknown, _UNKNOWN) if unknown else text for text in texts)
            yield SourceContext(before, behind, row[: begin - count])


def _split(text: str, said: str, source: str) -> tuple[str, str] | None:
    """The texts before the source and between it and the canary; None where these do not stand there."""
    text = text.rstrip("\ufffd")  # of a letter that is cut
    # The row ends within the canary, whose last letters may be joined with what follows.
    begins = range(max(0, len(text) - len(said)), len(text))
    at = next((at for at in begins if said.startswith(text[at:])), None)
    before, found, behind = text[:at].rpartition(source)
    return (before, behind) if at is not None and found else None


def _side_by_side(tokenizer: Any, row: Sequence[int]) -> str:
    """Tokens as a text, where a tokenizer does not say how they are decoded; it puts a space first by itself."""
    tokens = "".join(tokenizer.convert_ids_to_tokens(list(row))).replace("▁", " ").removeprefix(" ")
    return _BYTE.sub(lambda found: chr(int(found[1], 16)), tokens)

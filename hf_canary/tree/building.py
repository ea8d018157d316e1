"""From a format and a tokenizer to the parts of a token tree: all fills encoded, derived, or asked.

Where there are few fills, all are encoded. Where there are more, the format is cut into stretches, and each is a part
that is derived from the tokenizer's parts. What cannot be derived is refused by its name, if there are not few enough
fills to encode them all in need. This file knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from ..formats.canary_format import CanaryFormat
from ..formats.template import entries_of
from ..tokenization.contexts import Context
from ..tokenization.encoding import encode, side, unknown_characters, unknown_ids
from ..tokenization.rules import rules_of, without_collection
from ..tokenization.stages import Unfollowed
from .asked.part import AskedPart
from .automaton.format_automaton import FormatAutomaton
from .automaton.stretches import Stretch, stretches_of
from .derived.canonical import Canonical
from .derived.node_sets import UnknownCharacters
from .derived.spelling import Spelling
from .listed_part import ListedPart
from .listing import StretchEncoder
from .parts import Part, Path
from .row import Row

# Up to so many fills are all encoded, or so many where the tree cannot be derived, if they have no more characters in
# all than this.
_ALL_ENCODED, _ALL_ENCODED_IN_NEED = 10_000, 50_000
_MOST_CHARACTERS = 2_000_000
_MOST_LISTED = 50_000  # texts of a stretch


@dataclass(frozen=True)
class Subject:
    """What a tree is to be of.

    Args:
        format: any.
        tokenizer: any.
        context: what stands before the canary; the tree is of its text and the canary's, tokens for tokens.
        end: an id that follows every candidate.
        target: whether a decoder writes them.
    """

    format: CanaryFormat
    tokenizer: Any
    context: Context
    end: int | None
    target: bool


@dataclass(frozen=True)
class Built:
    """The parts of a tree.

    Args:
        row: they, and the end token.
        is_certain: whether its leaves are exactly the encodings of all fills.
        is_listed: whether all fills have been encoded by the tokenizer.
    """

    row: Row
    is_certain: bool
    is_listed: bool


def build(subject: Subject, ask_all: int | None = None) -> Built:
    """The parts of a tree.

    Args:
        subject: of what.
        ask_all: encode all fills, where there are so many at most; None lets their number decide.

    Raises:
        ModelError: a character that the tokenizer cannot represent, or a tokenizer that cannot be followed.
    """
    if _may_encode_all(subject, _ALL_ENCODED if ask_all is None else ask_all):
        return _all_encoded(subject)
    try:
        with without_collection():
            parts = _derived(subject)
    except UnknownCharacters:
        error = _unknown(subject)
    except Unfollowed as part:
        if getattr(subject.tokenizer, "backend_tokenizer", None) is None and not _may_encode_all_in_need(subject):
            return _asked(subject)
        error = _underived(part)
    else:
        return Built(Row(parts, subject.end), is_certain=True, is_listed=False)
    if not _may_encode_all_in_need(subject):
        raise error
    return _all_encoded(subject)


def _may_encode_all(subject: Subject, most: int) -> bool:
    size = subject.format.space_size
    return size <= most and size * (len(subject.context.behind) + len(subject.format.render(0))) <= _MOST_CHARACTERS


def _may_encode_all_in_need(subject: Subject) -> bool:
    return _may_encode_all(subject, _ALL_ENCODED_IN_NEED)


def _all_encoded(subject: Subject) -> Built:
    texts, context = list(subject.format.candidates()), subject.context
    with without_collection():
        encoding = encode(subject.tokenizer, texts, context=context, target=subject.target)
        encodings = ((*context.replaced, *ids[encoding.conditioned :]) for ids in encoding.sequences)
        part = ListedPart(encodings, [context.behind + text for text in texts], 1)
    return Built(Row([part], subject.end), is_certain=True, is_listed=True)


def _asked(subject: Subject) -> Built:
    part = AskedPart(subject.format, subject.tokenizer, subject.context, subject.end, subject.target)
    return Built(Row([part], None), is_certain=False, is_listed=False)


def _derived(subject: Subject) -> list[Part]:
    with side(subject.tokenizer, target=subject.target):
        rules = rules_of(subject.tokenizer)
    unknown = unknown_ids(subject.tokenizer, target=subject.target) | {rules.word.unknown}
    automaton = FormatAutomaton(subject.format, subject.context.behind)
    words, units = rules.pipelines(_characters(subject.format) | set(subject.context.behind))

    def encode_word(word: str) -> Path:
        tokens = tuple(rules.encode_word(word))
        if not unknown.isdisjoint(tokens):
            raise UnknownCharacters
        return tokens

    encoder = StretchEncoder(automaton, words, encode_word)
    listed: dict[object, ListedPart] = {}

    def part_of(stretch: Stretch) -> Part:
        if stretch.num_texts > 1 and not (stretch.has_lists and stretch.num_texts <= _MOST_LISTED):
            return Canonical(Spelling(automaton, words, units, stretch), rules.word)
        behind = 1 if stretch.stop is None else automaton.completions(stretch.stop)
        alike = (stretch.lead, stretch.begins, stretch.behind, stretch.choices or stretch)
        if alike not in listed:
            texts, encodings = zip(*encoder.encodings(stretch), strict=True)
            listed[alike] = ListedPart(encodings, texts, behind)
        return listed[alike].with_behind(behind)

    return [part_of(stretch) for stretch in stretches_of(automaton, words)]


def _characters(format: CanaryFormat) -> set[str]:
    written = {c for piece in set(format.pieces) for entry in entries_of(piece) for c in entry}
    return written | {c for hole in format.holes if hole.is_check_digit for c in "0123456789"}


def _unknown(subject: Subject) -> ModelError:
    with side(subject.tokenizer, target=subject.target):
        unknown = rules_of(subject.tokenizer).word.unknown
    text = "".join(sorted(_characters(subject.format)))
    return unknown_characters(subject.tokenizer, text, target=subject.target, unknown=unknown)


def _underived(part: Unfollowed) -> ModelError:
    return ModelError(
        "tokenizer",
        "one whose encodings can be derived from its parts",
        f"a part that is not followed: {part}",
        f"Use a format of at most {_ALL_ENCODED_IN_NEED:,} fills, which are all encoded, or "
        "measure_exposure(..., estimators=['sampled']), which needs no tree.",
    )

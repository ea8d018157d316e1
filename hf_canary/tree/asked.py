"""The tree of the encodings of all fills of a format, for a tokenizer that has no parts to read: it is asked.

Built where it is walked. The tokens that may follow a prefix are first those whose units the format allows, and of
these the canonical ones: the tokenizer itself is asked whether some candidate's encoding begins so. Where each
character after the prompt is one token, nobody needs to be asked. That what an encoding begins with is the encoding of
what it writes is tried on some and then believed: so nothing is proven by such a tree. This file knows no model.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import ModelError, shown
from ..formats.canary_format import CanaryFormat
from ..formats.template import Literal, entries_of
from ..tokenization.contexts import Before, Context
from ..tokenization.encoding import context_of, encode, side, unknown_characters
from .asked_units import FormatUnits, Readings, UnitState
from .asked_vocabulary import ENDING, Trie, Units, insert, vocabulary_of
from .parts import Edges, Follows, Selection

_CHECKED = 64
_WITNESSES = 6
# What is asked behind one token of which chance found no witness: about half a minute. Half of that is taken where
# letters and digits stand behind an apostrophe; where nothing tells dead ends, there would be as many texts as fills.
_MOST_ASKED = 1_000_000
# Behind these the end of a text is no place to judge by: what follows may still change how the tokenizer cuts it into
# words, as it does in runs of spaces, contractions and marks that join the letter before.
_OPEN_END = re.compile(r"(\s|'\w{0,2}|[\u0300-\u036f])\Z")

Path = tuple[int, ...]


class UntoldDeadEnds(ModelError):
    """A tree that cannot be walked on: where encodings go on would be known from all candidates only."""


@dataclass(frozen=True)
class _Node:
    """A state: the readings of a prefix, and the tokens since the context of one prefix that leads here."""

    readings: Readings
    path: Path


@dataclass(frozen=True)
class _Answer:
    """How the tokenizer encodes a text: its tokens after the context, and the word that each belongs to, if it says."""

    tokens: Path
    words: Sequence[int | None] | None

    def goes_on_from(self, path: Path) -> bool:
        return self.tokens[: len(path)] == path and len(self.tokens) > len(path)


class AskedTree:
    """The tree of the encodings of all fills of a format, as an automaton over tokens that is built where it is walked.

    Prefixes after which the same may follow share a state, where that is certain. The leaves below `root` are exactly
    the encodings of the candidates, each once, and every state has a leaf below it.

    Args:
        format: its candidates must not be prefixes of one another, unless an end token tells them apart.
        tokenizer: any.
        context: what stands before the canary.
        end: an id that follows every candidate, as its last token.
        target: whether the candidates are what a decoder writes, encoded with `text_target=`.

    Attributes:
        prompt: token ids that all leaves share, special tokens and context first; each leaf has at least one more.
        conditioned: how many of them stand before the canary.
        root: the state after the prompt.

    Raises:
        FormatError: a candidate is a prefix of another, and there is no end token.
        ModelError: a character that the tokenizer cannot represent, a context that merges with the canary, or a
            tokenizer that writes characters otherwise in the candidates than by themselves.
    """

    def __init__(
        self,
        format: CanaryFormat,
        tokenizer: Any,
        *,
        context: Before = None,
        end: int | None = None,
        target: bool = False,
    ) -> None:
        if end is None:
            format.check_prefix_free()
        self.format = format
        self._tokenizer = tokenizer
        self._end = end
        self._target = target
        self._context = context_of(tokenizer, context, format.render(0), target=target)
        self._ahead = len(self._context.replaced)
        self._vocabulary = vocabulary_of(tokenizer, target=target)
        with side(tokenizer, target=target):
            self._unknown = tokenizer.unk_token_id
        self._surfaces, lead = self._vocabulary.surfaces(tokenizer, _characters(format))
        # Whether what an encoding begins with is the encoding of what it writes, true of almost all tokenizers; and
        # whether also where texts have open ends. Not, as long as nobody has looked.
        self._has_prefix_rule, self._has_it_at_open_ends = False, False
        self._is_searching, self._is_untold, self._asked = False, False, 0
        self._drops = any(() in written for written in self._surfaces.values())
        _check_told_apart(format, self._surfaces)
        self._units = FormatUnits(format, self._surfaces)
        self._trie = self._vocabulary.trie
        self._is_plain = False
        self._nodes: list[_Node] = []
        self._numbers: dict[Any, int] = {}
        self._edges: dict[int, Edges] = {}
        self._below: dict[int, int] = {}
        start = self._units.start(lead)
        first, self.conditioned = self._check_candidates(start)
        self.root = self._number(_Node(start, ()))
        shared = self._go_to_branch()
        self.prompt = [*first, *shared]
        self._become_plain()

    @cached_property
    def space_size(self) -> int:
        """How many leaves there are: |R|, or fewer where fills have one encoding."""
        size = 1
        for piece in self.format.pieces:
            if not isinstance(piece, Literal) and not piece.is_check_digit:
                size *= len({self._written(entry) for entry in piece.space})
        return size

    @property
    def collisions(self) -> bool:
        """Whether two fills have one encoding, as capitals and small letters have where the tokenizer lowers both."""
        return self.space_size < self.format.space_size

    @cached_property
    def depth(self) -> int:
        """The most tokens that a leaf has after the prompt: a bound, which is met where each character is a token."""
        longest = sum(max(len(self._written(entry)) for entry in entries_of(piece)) for piece in self.format.pieces)
        readings = self._nodes[self.root].readings.items()
        begun = min(len(self._written(text)) - len(place.pending) for place, text in readings)
        return max(1, longest - begun + (self._end is not None))

    def most_below(self, state: int) -> int:
        """How many fills begin with a prefix in this state, at most."""
        if state not in self._below:
            ways_on = sum(map(self._units.completions, self._nodes[state].readings))
            self._below[state] = ways_on * int(self.most_copies)  # what leads here may stand for several fills, too
        return self._below[state]

    def edges(self, state: int) -> Edges:
        """What may follow a prefix in this state.

        Raises:
            UntoldDeadEnds: it is not known, and would take too long to find out.
        """
        if state not in self._edges:
            follows = sorted(self._find_edges(self._nodes[state]))
            self._edges[state] = Edges(
                np.array([token for token, _, _ in follows], dtype=np.int64),
                np.array([after for _, after, _ in follows], dtype=np.int64),
                np.array([is_leaf for _, _, is_leaf in follows], dtype=np.bool_),
            )
        return self._edges[state]

    def text(self, path: Sequence[int]) -> str:
        """The candidate whose tokens after the prompt are `path`; one of them, if there are collisions."""
        root = self._nodes[self.root]
        readings, tokens = root.readings, tuple(token for token in path if token != self._end)
        for at, token in enumerate(tokens):
            readings = self._after_token(readings, (*root.path, *tokens[:at]), token)
        return next(text for place, text in readings.items() if self._units.ended(place))

    def copies(self, fill: int) -> int:
        """How many fills have the encoding of this one, itself included; 1 unless there are `collisions`."""
        if not self.collisions:
            return 1
        entries = zip(self.format.holes, self.format.entries(fill), strict=True)
        return math.prod(
            sum(self._written(other) == self._written(entry) for other in hole.space)
            for hole, entry in entries
            if not hole.is_check_digit
        )

    def _written(self, text: str) -> Units:
        return tuple(unit for character in text for unit in self._surfaces[character][0])

    @cached_property
    def most_copies(self) -> int:
        """How many fills have one encoding, at most."""
        if not self.collisions:
            return 1
        holes = (hole for hole in self.format.holes if not hole.is_check_digit)
        return math.prod(max(Counter(map(self._written, hole.space)).values()) for hole in holes)

    def _after_token(self, readings: Readings, path: Path, token: int) -> Readings:
        """The readings after a path and one token more."""
        after = self._units.after_token(readings, token, self._trie)
        return self._settled(path, {token: after})[token]

    def _settled(self, path: Path, after: Mapping[int, Mapping[UnitState, list[str]]]) -> dict[int, Readings]:
        """One text for each place: of several, one that the tokenizer encodes by this path and token.

        There are several where characters leave no trace, and where the mark that is put before a text is written as
        a space is. A place to which no text leads that is encoded so is none: paths that do lead there would be taken
        for this one.
        """
        if not self._drops and all(len(texts) == 1 for places in after.values() for texts in places.values()):
            return {
                token: self._units.closed({place: texts[0] for place, texts in places.items()})
                for token, places in after.items()
            }
        asked = [
            (token, place, text)
            for token, places in after.items()
            for place, texts in places.items()
            for text in texts
            if _can_be_asked(place, text)
        ]
        fitting: dict[tuple[int, UnitState], str] = {}
        for (token, place, text), answer in zip(asked, self._ask([text for *_, text in asked]), strict=True):
            if answer.tokens == (*path, token):
                fitting.setdefault((token, place), text)
        return {
            token: self._units.closed(
                {
                    place: fitting.get((token, place), texts[0])
                    for place, texts in places.items()
                    if (token, place) in fitting
                    or not (self._drops or len(texts) > 1)
                    or not _can_be_asked(place, texts[0])
                    or not self._has_it_at_open_ends
                }
            )
            for token, places in after.items()
        }

    def _check_candidates(self, start: Readings) -> tuple[list[int], int]:
        """Follow encodings of some candidates through their units, which finds what the tokenizer does otherwise.

        Returns:
            What stands before the canary, and how many tokens that is.
        """
        format = self.format
        fills = format.covering_fills(4 * _CHECKED) + format.sample(min(_CHECKED, format.space_size), "check")
        texts = [format.render(fill) for fill in fills]
        encoding = encode(self._tokenizer, texts, context=self._context, target=self._target)
        prefixes: dict[Path, str] = {}
        for text, sequence in zip(texts, encoding.sequences, strict=True):
            readings, path = start, tuple(sequence[encoding.conditioned :])
            for end, token in enumerate(path, start=1):
                if token not in self._units.following(frozenset(readings), self._trie):
                    raise _unlike()
                readings = self._after_token(readings, path[: end - 1], token)
                begun = (so_far for place, so_far in readings.items() if _can_be_asked(place, so_far))
                prefixes |= {path[:end]: so_far for so_far in begun if text.startswith(so_far)}
            if not any(self._units.ended(place) for place in readings):
                raise _unlike()
        some = random.Random(0).sample(sorted(prefixes.items()), min(len(prefixes), 4 * _CHECKED))
        answers = self._ask([text for _, text in some])
        broken = [text for (path, text), answer in zip(some, answers, strict=True) if answer.tokens != path]
        self._has_it_at_open_ends = not broken
        self._has_prefix_rule = all(map(_OPEN_END.search, broken))
        return encoding.sequences[0][: encoding.conditioned], encoding.conditioned

    def _go_to_branch(self) -> Path:
        """Move the root to where the leaves first differ, or to before the last token of the only one."""
        while True:
            edges = self.edges(self.root)
            if len(edges.tokens) != 1 or edges.states[0] < 0 or edges.is_leaf[0]:
                return self._nodes[self.root].path
            self.root = int(edges.states[0])

    def _become_plain(self) -> None:
        """Ask no more, where after the prompt each character is one token and no token writes several of them."""
        root = self._nodes[self.root]
        place, *others = root.readings
        if others or place.pending or self._units.ended(place):
            return
        begun, *rest = (entries_of(piece) for piece in self.format.pieces[place.piece :])
        written = len(place.written)
        characters = {c for entry in begun if entry.startswith(place.written) for c in entry[written:]}
        characters |= {character for entries in rest for entry in entries for character in entry}
        alphabet = {self._surfaces[character] for character in characters}
        units = {surface[0][0] for surface in alphabet if len(surface) == 1 and len(surface[0]) == 1}
        if len(units) < len(characters) or not _only_single(self._trie, units):
            return
        trie: Trie = {}
        for unit in units:
            insert(trie, (unit,), self._trie[unit][ENDING][0])
        self._trie, self._is_plain = trie, True
        self._units = FormatUnits(self.format, self._surfaces)
        self._nodes, self._numbers, self._edges, self._below = [], {}, {}, {}
        self.root = self._number(root, ())

    def _number(self, node: _Node, word: Any = None) -> int:
        """The number of a state; `word` is what of the tokens before matters to what may follow: all, if None."""
        key = (frozenset(node.readings), _all_of(node.path) if word is None else word)
        if key not in self._numbers:
            self._numbers[key] = len(self._nodes)
            self._nodes.append(node)
        return self._numbers[key]

    def _find_edges(self, node: _Node) -> Iterator[tuple[int, int, bool]]:
        """(token, state after it, whether a candidate ends there)."""
        if self._end is not None and any(map(self._units.ended, node.readings)):
            text = next(text for place, text in node.readings.items() if self._units.ended(place))
            if self._is_plain or self._ask([text])[0].tokens == node.path:
                yield self._end, -1, True
        after = self._settled(node.path, self._units.after(node.readings, self._trie))
        if self._is_plain:
            for token, readings in after.items():
                goes_on = self._end is not None or not all(map(self._units.ended, readings))
                is_leaf = self._end is None and any(map(self._units.ended, readings))
                yield token, self._number(_Node(readings, ()), ()) if goes_on else -1, is_leaf
            return
        ends = self._find_ends(node.path, after)
        words = self._find_begun(node.path, after)
        for token, readings in after.items():
            is_leaf = token in ends and self._end is None
            child = _Node(readings, (*node.path, token))
            if token in words:
                yield token, self._number(child, words[token]), is_leaf
            elif token in ends:
                yield token, -1 if is_leaf else self._number(child), is_leaf

    def _find_ends(self, path: Path, after: Mapping[int, Readings]) -> set[int]:
        """The tokens at which a candidate ends whose encoding is this."""
        asked = [
            (token, text)
            for token, readings in after.items()
            for place, text in readings.items()
            if self._units.ended(place)
        ]
        answers = self._ask_whole([text for _, text in asked])
        return {token for (token, _), answer in zip(asked, answers, strict=True) if answer.tokens == (*path, token)}

    def _find_begun(self, path: Path, after: Mapping[int, Readings]) -> dict[int, Any]:
        """The tokens with which the encoding of some candidate goes on, and what of the tokens matters from then on.

        A candidate that begins so is a witness. Where chance finds none, a prefix that is not its own text's encoding
        begins no other's; of what is left, the tokens that may follow are looked for in turn.
        """
        generator = random.Random(0)
        unsettled = {
            token: [(place, text) for place, text in readings.items() if not self._units.ended(place)]
            for token, readings in after.items()
        }
        unsettled = {token: places for token, places in unsettled.items() if places}
        found: dict[int, Any] = {}
        for attempt in range(_WITNESSES):
            asked = [
                (token, *places[attempt % len(places)]) for token, places in unsettled.items() if token not in found
            ]
            answers = self._ask_whole([text + self._units.completed(place, generator) for _, place, text in asked])
            for (token, place, _), answer in zip(asked, answers, strict=True):
                if answer.goes_on_from((*path, token)):
                    found[token] = self._word(answer, (*path, token), place, after[token][place])
            if attempt == 0:
                unsettled = self._without_broken(path, unsettled, found)
        for token in unsettled.keys() - found.keys():
            if self._goes_on(_Node(after[token], (*path, token))):
                found[token] = _all_of((*path, token))
        return found

    def _goes_on(self, node: _Node) -> bool:
        """Whether the encoding of some candidate goes on from here, of which chance found none.

        Raises:
            UntoldDeadEnds: too many texts would have to be asked; the same again for any other such token.
        """
        if self._is_untold:
            raise _untold()
        is_outermost = not self._is_searching
        if is_outermost:
            self._is_searching, self._asked = True, 0
        try:
            return len(self.edges(self._number(node)).tokens) > 0
        finally:
            self._is_searching = not is_outermost

    def _without_broken(
        self, path: Path, unsettled: Mapping[int, list[tuple[UnitState, str]]], found: Mapping[int, Any]
    ) -> dict[int, list[tuple[UnitState, str]]]:
        """Without the readings whose text is encoded otherwise than by the prefix."""
        if not self._has_prefix_rule:
            return dict(unsettled)
        asked = [
            (token, place, text)
            for token, places in unsettled.items()
            if token not in found
            for place, text in places
            if _can_be_asked(place, text) and not _OPEN_END.search(text)
        ]
        answers = self._ask([text for *_, text in asked])
        broken = {
            (token, place)
            for (token, place, _), answer in zip(asked, answers, strict=True)
            if answer.tokens != (*path, token)
        }
        left = {
            token: [each for each in places if (token, each[0]) not in broken] for token, places in unsettled.items()
        }
        return {token: places for token, places in left.items() if places}

    def _word(self, answer: _Answer, path: Path, place: UnitState, text: str) -> Any:
        """What of the tokens matters to what may follow: those of the last word, since words are encoded each alone.

        Of a word of merges, its last token and its length say as much as all of them; and where only a space can
        follow, with which a word begins, nothing does.
        """
        if answer.words is None or _OPEN_END.search(text):
            return _all_of(path)
        end, word = len(path), answer.words[len(path) - 1]
        begin = next(at for at, other in enumerate(answer.words) if other == word)
        if len(answer.words) > end and answer.words[end] != word and self._units.is_space_next(place):
            return ()
        if self._vocabulary.is_pairwise:
            length = sum(len(self._vocabulary.units(t)) for t in self._tokenizer.convert_ids_to_tokens(path[begin:]))
            return "last", path[-1], length
        return "word", path[begin:]

    def _ask_whole(self, candidates: Sequence[str]) -> list[_Answer]:
        """The same of whole candidates, which must be representable, as their beginnings need not be."""
        answers = self._ask(candidates)
        for text, answer in zip(candidates, answers, strict=True):
            if self._unknown is not None and self._unknown in answer.tokens:
                raise unknown_characters(self._tokenizer, text, target=self._target)
        return answers

    def _ask(self, texts: Sequence[str]) -> list[_Answer]:
        """The tokens of each text after the context, as the tokenizer encodes the whole."""
        if not texts:
            return []
        self._asked += len(texts)
        if self._is_searching and self._asked > _MOST_ASKED:
            self._is_untold = True
            raise _untold()
        whole = [self._context.behind + text for text in texts]
        side = {"text_target": whole} if self._target else {"text": whole}
        encoded = self._tokenizer(**side, add_special_tokens=False, return_attention_mask=False)
        fast = encoded.encodings
        return [
            _Answer(tuple(ids[self._ahead :]), None if fast is None else fast[row].word_ids[self._ahead :])
            for row, ids in enumerate(encoded["input_ids"])
        ]


def _all_of(path: Path) -> tuple[str, Path]:
    return "all", path  # no word of the same tokens, behind which something else may follow


def _characters(format: CanaryFormat) -> set[str]:
    return {character for piece in set(format.pieces) for entry in entries_of(piece) for character in entry}


def _check_told_apart(format: CanaryFormat, surfaces: Mapping[str, tuple[Units, ...]]) -> None:
    """Refuse entries that differ in characters alone of which the tokenizer writes nothing, as WordPiece of spaces, and
    entries of nothing else: whether they are encoded alike depends on what stands beside them.
    """
    dropped = {character for character, written in surfaces.items() if () in written}
    for hole in set(format.holes) if dropped else ():
        kept = {"".join(c for c in entry if c not in dropped) for entry in entries_of(hole)}
        if len(kept) < len(entries_of(hole)) or "" in kept:
            raise ModelError(
                "tokenizer",
                f"one that writes what tells the entries of {shown(entries_of(hole))} apart",
                f"one that writes nothing for {', '.join(map(shown, sorted(dropped)))}",
                "Leave them out of the entries, or use a tokenizer that writes them.",
            )


def _can_be_asked(place: UnitState, text: str) -> bool:
    """Whether the tokenizer can be asked how the text of a prefix is encoded: it is of whole characters, and not empty,
    as that of what stands before the first of them is.
    """
    return not place.pending and bool(text)


def _only_single(trie: Trie, units: Iterable[str]) -> bool:
    """Whether each of these units is one token, and no token is made of several of them."""
    units = list(units)
    if any(len(trie.get(unit, {}).get(ENDING, ())) != 1 for unit in units):
        return False
    pending = [trie[unit][other] for unit in units for other in units if other in trie[unit]]
    while pending:
        node = pending.pop()
        if ENDING in node:
            return False
        pending += [node[unit] for unit in units if unit in node]
    return True


def _untold() -> UntoldDeadEnds:
    return UntoldDeadEnds(
        "tokenizer",
        "one that encodes what texts begin with as the texts begin",
        f"one of which {_MOST_ASKED:,} texts did not tell where no candidate goes on",
        "Use another format, or measure_exposure(..., estimators=['sampled']), which needs no tree.",
    )


def _unlike() -> ModelError:
    return ModelError(
        "tokenizer",
        "one that encodes a candidate by what its characters are written as",
        "one that encodes it otherwise",
        "It may write several of them together. Use another format, or one of fewer fills, which are all encoded.",
    )


class Asked:
    """An asked tree as the only part of a tree: what all candidates share first, then its states.

    Args:
        format: any.
        tokenizer: any.
        context: what stands before the canary.
        end: an id that follows every candidate.
        target: whether a decoder writes them.
    """

    start = 0
    open_tokens: frozenset[int] = frozenset()

    def __init__(self, format: CanaryFormat, tokenizer: Any, context: Context, end: int | None, target: bool) -> None:
        self._tree = AskedTree(format, tokenizer, context=context, end=end, target=target)
        self._prompt = [*context.replaced, *self._tree.prompt[len(context.ids) :]]
        self._context = context
        self.depth = len(self._prompt) + self._tree.depth
        self.num_encodings = self._tree.space_size

    @property
    def most_copies(self) -> int:
        """As of a part."""
        return int(self._tree.most_copies)

    def follows(self, state: int) -> Follows:
        """As of a part."""
        if state < len(self._prompt):
            return Follows(np.array(self._prompt[state : state + 1]), np.array([state + 1]), np.zeros(1, dtype=bool))
        edges = self._tree.edges(self._of(state))
        return Follows(edges.tokens, np.where(edges.states >= 0, edges.states + self._offset, -1), edges.is_leaf)

    def selection(self, state: int) -> Selection | None:
        """As of a part."""
        return None

    def after(self, state: int, token: int) -> tuple[int, bool] | None:
        """As of a part."""
        follows = self.follows(state)
        at = int(np.searchsorted(follows.tokens, token))
        if at == len(follows.tokens) or follows.tokens[at] != token:
            return None
        return int(follows.states[at]), bool(follows.ends[at])

    def ends(self, state: int) -> bool:
        """As of a part: a text ends with its last token only, since an end token tells apart those that go on."""
        return False

    def read(self, tokens: Sequence[int]) -> tuple[str, int] | None:
        """As of a part."""
        text = self._tree.text(tokens[len(self._prompt) :])
        return self._context.behind + text, self._tree.copies(self._tree.format.parse(text))

    def most_below(self, state: int) -> int:
        """As of a part."""
        return self._tree.most_below(self._of(state))

    @property
    def _offset(self) -> int:
        return len(self._prompt) - self._tree.root

    def _of(self, state: int) -> int:
        return max(self._tree.root, state - self._offset)

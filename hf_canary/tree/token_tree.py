"""The tree of the encodings of all fills of a format, as a tokenizer gives them: its leaves are exactly these.

Where there are few fills, all are encoded. Where there are more, the tree is derived from the tokenizer's parts: the
format is cut into stretches, and each is a part of the tree. What cannot be derived is refused. Before a proof rests on
it, `check` compares it with the tokenizer. This file knows no model.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, shown
from ..formats import CanaryFormat, entries_of
from ..tokenization.encoding import check_repeats, encode, token_ids, unknown_characters
from ..tokenization.matching import Unfollowed
from ..tokenization.rules import rules_of
from .asked import Asked
from .canonical import Canonical, UnknownCharacters
from .format_automaton import FormatAutomaton
from .listing import Encoder
from .parts import Edges, Follows, Listed, Part, Path, merged
from .spelling import Spelling
from .stretches import Stretch, stretches_of
from .traces import check_written

logger = logging.getLogger(__name__)

# So many fills are all encoded, and of a tree that has no rules so many more; with so many characters in all.
_ALL_ENCODED, _ALL_ENCODED_IN_NEED = 10_000, 50_000
_MOST_CHARACTERS = 2_000_000
_MOST_LISTED = 50_000  # texts of a stretch
# Fills that each tree is compared on: when it is built; before a proof, at random and beside what is proven.
_CHECKED, _AT_RANDOM, _NEIGHBOURS = 24, 256, 128
_MOST_COUNTED = 100_000  # edges that are looked at to count leaves
_CACHE = 1 << 26  # bytes of edges that are kept

_PART_BITS = 56
_LOCAL = (1 << _PART_BITS) - 1
_SEVERAL = 127  # the part of states that stand in several parts


class Unlike(ModelError):
    """A tree that differs from what the tokenizer gives: nothing can be proven by it."""


class TokenTree:
    """The tree of the encodings of all fills of a format, as an automaton over tokens that is built where it is walked.

    Prefixes after which the same may follow share a state, where that is certain. The leaves below `root` are exactly
    the encodings of the candidates, each once, and every state has a leaf below it.

    Args:
        format: its candidates must not be prefixes of one another, unless an end token tells them apart.
        tokenizer: any.
        context: text before the canary.
        end: an id that follows every candidate, as its last token.
        target: whether the candidates are what a decoder writes, encoded with `text_target=`.
        ask_all: encode all fills, where there are so many at most; None lets their number decide.

    Attributes:
        prompt: token ids that all leaves share, special tokens and context first; each leaf has at least one more.
        conditioned: how many of them stand before the canary.
        root: the state after the prompt.
        depth: the most tokens that a leaf has after the prompt: a bound.
        space_size: how many leaves there are: |R|, or fewer where fills have one encoding.
        is_certain: whether its leaves are exactly the encodings of all fills; else some may be missing, and nothing can
            be proven by it.
        is_listed: whether all fills have been encoded by the tokenizer, so that nothing is left to check.

    Raises:
        FormatError: a candidate is a prefix of another, and there is no end token.
        ModelError: a character that the tokenizer cannot represent, a context that merges with the canary, or a
            tokenizer that cannot be followed, or that encodes by chance.
    """

    def __init__(
        self,
        format: CanaryFormat,
        tokenizer: Any,
        *,
        context: str | None = None,
        end: int | None = None,
        target: bool = False,
        ask_all: int | None = None,
    ) -> None:
        if end is None:
            format.check_prefix_free()
        check_repeats(tokenizer)
        self.format = format
        self._tokenizer, self._context, self._end, self._target = tokenizer, context or "", end, target
        self._ends_apart = end is not None  # whether the end token stands behind all parts, and not in one
        self._known: dict[int, Edges] = {}
        self._known_bytes = 0
        self._several: list[tuple[int, ...]] = []
        self._several_numbers: dict[tuple[int, ...], int] = {}
        some = format.covering_fills(_CHECKED) + format.sample(min(_CHECKED, format.space_size), "check")
        encoding = encode(tokenizer, [format.render(fill) for fill in some], context=context, target=target)
        self.conditioned = encoding.conditioned
        ahead = len(token_ids(tokenizer, [context], target=target)[0]) if context else 0
        before = encoding.sequences[0][: encoding.conditioned - ahead]
        self._num_before = len(before)
        check_written(format, tokenizer, target=target)
        self.is_certain = self.is_listed = False
        self._parts = self._build(ask_all)
        self.space_size = self._num_leaves()
        shared, self.root = self._to_branch()
        self.prompt = [*before, *shared]
        self._check_context()
        self.depth = max(1, sum(part.depth for part in self._parts) - len(shared) + (end is not None))
        self._compare(some)
        if self.collisions:
            logger.warning(
                "The tokenizer encodes some fills of %s alike: |R| = %s, with %s different encodings. Fills that are "
                "encoded alike cost the same and are found as one.",
                shown(format.template),
                shown(format.space_size),
                shown(self.space_size),
            )

    @property
    def collisions(self) -> bool:
        """Whether two fills have one encoding, as capitals and small letters have where the tokenizer lowers both."""
        return self.space_size < self.format.space_size

    def edges(self, state: int) -> Edges:
        """What may follow a prefix in this state."""
        if state not in self._known:
            edges = self._joined([self._of_element(*element) for element in self._elements(state)])
            self._known_bytes += edges.num_bytes
            while self._known and self._known_bytes > _CACHE:
                self._known_bytes -= self._known.pop(next(iter(self._known))).num_bytes
            self._known[state] = edges
        return self._known[state]

    def leads(self, path: Sequence[int]) -> bool:
        """Whether tokens after the prompt are the encoding of a candidate, as the tree has it."""
        states, is_leaf = [self.root], False
        for token in path:
            states, is_leaf = self._after(states, token)
        return is_leaf

    def check(self, fills: Iterable[int], names: Sequence[str] = ()) -> None:
        """Compare the tree with the tokenizer: the encodings of these fills must be leaves.

        Args:
            fills: any.
            names: what to call them, if not by their texts.

        Raises:
            ModelError: one is none, so that nothing can be proven by this tree.
        """
        fills = list(fills)
        if fills and not self.is_listed:
            self._compare(fills, names)

    def _compare(self, fills: Sequence[int], names: Sequence[str] = ()) -> None:
        for number, path in enumerate(self.paths([self.format.render(fill) for fill in fills])):
            if not self.leads(path):
                raise unlike(names[number] if names else shown(self.format.render(fills[number])))

    def assure(self, fills: Sequence[int] = (), names: Sequence[str] = ()) -> None:
        """What a proof asks for: as `check`, of these fills, of others that differ from them in one entry, and of some
        at random.

        Raises:
            ModelError: a fill's encoding is no leaf.
        """
        if self.is_listed:
            return
        self.check(fills, names)
        generator = random.Random(f"neighbours of {len(fills)}")
        neighbours = [
            self.format.neighbour(fills[at % len(fills)], generator) for at in range(_NEIGHBOURS if fills else 0)
        ]
        self.check([*neighbours, *self.format.sample(min(_AT_RANDOM, self.format.space_size), "before a proof")])

    def most_below(self, state: int) -> int:
        """How many fills begin with a prefix in this state, at most."""
        return sum(self._most_below(part, local) for part, local in self._elements(state)) * self.most_copies

    def text(self, path: Sequence[int]) -> str:
        """The candidate whose tokens after the prompt are `path`; one of them, if there are collisions."""
        return self._read(path)[0]

    def texts(self, paths: Sequence[Sequence[int]]) -> list[str]:
        """The candidates of many paths, each compared with the tokenizer's own encoding of its text.

        Raises:
            ModelError: one differs.
        """
        texts = [self.text(path) for path in paths]
        for text, path, given in zip(texts, paths, self.paths(texts), strict=True):
            if given != tuple(path):
                raise unlike(shown(text))
        return texts

    def paths(self, texts: Sequence[str]) -> list[Path]:
        """The tokens after the prompt of each of these candidates, as the tokenizer encodes them.

        Raises:
            ModelError: what stands before is not the prompt.
        """
        behind = [] if self._end is None else [self._end]
        encoding = encode(self._tokenizer, texts, context=self._context, target=self._target)
        shared = len(self.prompt)
        for text, ids in zip(texts, encoding.sequences, strict=True):
            if ids[:shared] != self.prompt:
                raise unlike(shown(text))
        return [(*ids[shared:], *behind) for ids in encoding.sequences]

    def copies(self, fill: int) -> int:
        """How many fills have the encoding of this one, itself included; 1 unless there are `collisions`."""
        if not self.collisions:
            return 1
        (path,) = self.paths([self.format.render(fill)])
        return self._read(path)[1]

    def copies_of(self, paths: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n_paths,) how many fills have each encoding, of (n_paths, depth) tokens padded with -1."""
        if not self.collisions:
            return np.ones(len(paths))
        return np.array([float(self._read(path[path >= 0].tolist())[1]) for path in paths])

    @cached_property
    def most_copies(self) -> int:
        """How many fills have one encoding, at most."""
        if not self.collisions:
            return 1
        others = self.format.space_size - self.space_size  # each leaf has a fill of its own
        if len(self._parts) > 1 and self._may_overlap():
            return others + 1
        return min(others + 1, math.prod(part.most_copies for part in self._parts))

    def _may_encode_all(self, most: int) -> bool:
        size = self.format.space_size
        return size <= most and size * (len(self._context) + len(self.format.render(0))) <= _MOST_CHARACTERS

    def _build(self, ask_all: int | None) -> list[Part]:
        if self._may_encode_all(_ALL_ENCODED if ask_all is None else ask_all):
            return [self._all_encoded()]
        try:
            parts = self._derived()
            _ = [part.num_encodings for part in parts]  # goes through all that is spelled
        except UnknownCharacters:
            return [self._all_encoded_in_need(self._unknown())]
        except Unfollowed as part:
            if _is_in_python(self._tokenizer):
                return [self._asked()]
            return [self._all_encoded_in_need(_underived(part))]
        self.is_certain = True
        return parts

    def _all_encoded_in_need(self, error: ModelError) -> Part:
        """Where there is no rule and more fills than are always encoded, but not too many."""
        if not self._may_encode_all(_ALL_ENCODED_IN_NEED):
            raise error from None
        return self._all_encoded()

    def _asked(self) -> Part:
        if self._may_encode_all(_ALL_ENCODED_IN_NEED):
            return self._all_encoded()
        self._ends_apart = False
        return Asked(self.format, self._tokenizer, self._context, self._end, self._target, self._num_before)

    def _unknown(self) -> ModelError:
        return unknown_characters(self._tokenizer, "".join(sorted(_characters(self.format, ""))), target=self._target)

    def _all_encoded(self) -> Part:
        texts = list(self.format.candidates())
        encoding = encode(self._tokenizer, texts, context=self._context, target=self._target)
        self.is_certain = self.is_listed = True
        encodings = (tuple(ids[self._num_before :]) for ids in encoding.sequences)
        return Listed(encodings, [self._context + text for text in texts], 1)

    def _derived(self) -> list[Part]:
        rules = rules_of(self._tokenizer)
        automaton = FormatAutomaton(self.format, self._context)
        words, units = rules.pipelines(_characters(self.format, self._context))
        unknown = self._tokenizer.unk_token_id

        def encode_word(word: str) -> Path:
            tokens = tuple(rules.encode_word(word))
            if unknown is not None and unknown in tokens:
                raise UnknownCharacters
            return tokens

        encoder = Encoder(automaton, words, encode_word)
        listed: dict[object, Listed] = {}

        def part_of(stretch: Stretch) -> Part:
            if stretch.num_texts > 1 and not (stretch.has_lists and stretch.num_texts <= _MOST_LISTED):
                return Canonical(Spelling(automaton, words, units, stretch), rules.word)
            behind = 1 if stretch.stop is None else automaton.completions(stretch.stop)
            alike = (stretch.lead, stretch.begins, stretch.behind, stretch.choices or stretch)
            if alike not in listed:
                texts, encodings = zip(*encoder.encodings(stretch), strict=True)
                listed[alike] = Listed(encodings, texts, behind)
            return listed[alike].with_behind(behind)

        return [part_of(stretch) for stretch in stretches_of(automaton, words)]

    def _num_leaves(self) -> int:
        """As many as the parts' encodings make, unless two rows of these are the same, which is counted where it is
        not too much; the number that is given then is never less.
        """
        product = math.prod(part.num_encodings for part in self._parts)
        if self.is_listed or not self._may_overlap():
            return product
        return self._counted(_MOST_COUNTED) or product

    def _may_overlap(self) -> bool:
        """Whether a part may go on with a token with which the next one begins."""
        for number, part in enumerate(self._parts):
            tokens = part.open_tokens
            if tokens is None:
                return True
            elements, _ = self._behind_part(number) if tokens else ([], False)
            if elements and not tokens.isdisjoint(self.edges(self._state(elements)).tokens.tolist()):
                return True
        return False

    def _counted(self, most: int) -> int:
        """The leaves below the start, by going through all states; 0 where that is more than so many edges."""
        elements, _ = self._behind_part(-1)
        start = self._state(elements)
        known: dict[int, int] = {-1: 0}
        stack, looked_at = [start], 0
        while stack:
            edges = self.edges(stack[-1])
            waiting = [state for state in np.unique(edges.states).tolist() if state not in known]
            if waiting:
                stack += waiting
                continue
            looked_at += len(edges.tokens)
            if looked_at > most:
                return 0
            known[stack.pop()] = int(edges.is_leaf.sum()) + sum(map(known.__getitem__, edges.states.tolist()))
        return known[start]

    def _to_branch(self) -> tuple[Path, int]:
        """The tokens up to where leaves first differ, or to before the last token of the only one, and the state."""
        elements, _ = self._behind_part(-1)
        state, shared = self._state(elements), list[int]()
        while True:
            edges = self.edges(state)
            if len(edges.tokens) != 1 or edges.states[0] < 0 or edges.is_leaf[0]:
                return tuple(shared), state
            shared.append(int(edges.tokens[0]))
            state = int(edges.states[0])

    def _check_context(self) -> None:
        """Refuse a context whose last token goes on in some candidate."""
        if len(self.prompt) >= self.conditioned:
            return
        edges = self.edges(self.root)
        rows = zip(edges.tokens.tolist(), edges.states.tolist(), edges.is_leaf.tolist(), strict=True)
        for token, state, is_leaf in rows:
            path = [token]
            while not is_leaf:
                following = self.edges(state)
                path.append(int(following.tokens[0]))
                state, is_leaf = int(following.states[0]), bool(following.is_leaf[0])
            encode(self._tokenizer, [self.text(path)], context=self._context, target=self._target)

    def _state(self, elements: Sequence[tuple[int, int]]) -> int:
        """The number of a state that stands at these places: (part, state in it)."""
        numbers = sorted({part << _PART_BITS | local for part, local in elements})
        if len(numbers) == 1:
            return numbers[0]
        key = tuple(numbers)
        if key not in self._several_numbers:
            self._several_numbers[key] = len(self._several)
            self._several.append(key)
        return _SEVERAL << _PART_BITS | self._several_numbers[key]

    def _elements(self, state: int) -> list[tuple[int, int]]:
        numbers = self._several[state & _LOCAL] if state >> _PART_BITS == _SEVERAL else (state,)
        return [(number >> _PART_BITS, number & _LOCAL) for number in numbers]

    def _behind_part(self, number: int) -> tuple[list[tuple[int, int]], bool]:
        """Where candidates go on behind a part, and whether one ends there; parts may be empty."""
        following = number + 1
        if following == len(self._parts):
            return ([(following, 0)], False) if self._ends_apart else ([], True)
        part = self._parts[following]
        elements = [(following, part.start)] if len(part.follows(part.start).tokens) else []
        more, is_leaf = self._behind_part(following) if part.ends(part.start) else ([], False)
        return [*elements, *more], is_leaf

    def _of_element(self, number: int, local: int) -> Edges:
        if number == len(self._parts):
            return Edges(np.array([self._end]), np.array([-1]), np.array([True]))
        follows = self._parts[number].follows(local)
        on = follows.states >= 0
        states = np.where(on, number << _PART_BITS | follows.states, -1)
        elements, is_leaf = self._behind_part(number)
        if elements:
            behind = self._state(elements)
            states[follows.ends & ~on] = behind
            for at in np.flatnonzero(follows.ends & on).tolist():
                states[at] = self._state([*elements, *self._elements(int(states[at]))])
        return Edges(follows.tokens, states, follows.ends if is_leaf else np.zeros(len(on), dtype=bool))

    def _joined(self, found: Sequence[Edges]) -> Edges:
        if len(found) == 1:
            return found[0]
        follows = merged([Follows(edges.tokens, edges.states, edges.is_leaf) for edges in found], self._join)
        return Edges(follows.tokens, follows.states, follows.ends)

    def _join(self, states: Sequence[int]) -> int:
        return self._state([element for state in states for element in self._elements(state)])

    def _after(self, states: Sequence[int], token: int) -> tuple[list[int], bool]:
        """The states behind a token, and whether a candidate ends there."""
        found: list[int] = []
        is_end = False
        for number, local in (element for state in states for element in self._elements(state)):
            if number == len(self._parts):
                is_end |= token == self._end
                continue
            after = self._parts[number].after(local, token)
            if after is None:
                continue
            found.append(number << _PART_BITS | after[0])
            if after[1]:
                elements, is_leaf = self._behind_part(number)
                found += [self._state([element]) for element in elements]
                is_end |= is_leaf
        return found, is_end

    def _most_below(self, number: int, local: int) -> int:
        return self._parts[number].most_below(local) if number < len(self._parts) else 1

    def _read(self, path: Sequence[int]) -> tuple[str, int]:
        """The text of a candidate that is encoded so, and how many there are."""
        tokens = [*self.prompt[self._num_before :], *path]
        if self._ends_apart:
            tokens.pop()
        found = list(self._readings(0, tokens))
        text = found[0][0].removeprefix(self._context)
        return text, sum(ways for _, ways in found)

    def _readings(self, number: int, tokens: Sequence[int]) -> Iterator[tuple[str, int]]:
        """The texts from a part on."""
        if number == len(self._parts):
            if not tokens:
                yield "", 1
            return
        part = self._parts[number]
        for length in self._lengths(part, tokens, is_last=number == len(self._parts) - 1):
            mine = part.read(tokens[:length])
            if mine is not None:
                for text, ways in self._readings(number + 1, tokens[length:]):
                    yield mine[0] + text, mine[1] * ways

    def _lengths(self, part: Part, tokens: Sequence[int], *, is_last: bool) -> Iterator[int]:
        """How many of the tokens may be a part's own."""
        state = part.start
        if part.ends(state) and (not is_last or not tokens):
            yield 0
        for length, token in enumerate(tokens, start=1):
            after = part.after(state, token)
            if after is None:
                return
            state, ends = after
            if ends and (not is_last or length == len(tokens)):
                yield length


def padded(paths: Sequence[Path], depth: int) -> NDArray[np.int64]:
    """(n_paths, depth) tokens, -1 behind the end of each."""
    tokens = np.full((len(paths), depth), -1, dtype=np.int64)
    for row, path in zip(tokens, paths, strict=True):
        row[: len(path)] = path
    return tokens


def _is_in_python(tokenizer: Any) -> bool:
    return getattr(tokenizer, "backend_tokenizer", None) is None


def _underived(part: Unfollowed) -> ModelError:
    return ModelError(
        "tokenizer",
        "one whose encodings can be derived from its parts",
        f"one of which this is not done: {part}",
        f"Use a format of at most {_ALL_ENCODED_IN_NEED:,} fills, which are all encoded, or "
        "measure_exposure(..., estimators=['sampled']), which needs no tree.",
    )


def _characters(format: CanaryFormat, context: str) -> set[str]:
    written = {c for piece in set(format.pieces) for entry in entries_of(piece) for c in entry}
    return written | set(context) | {c for hole in format.holes if hole.is_check_digit for c in "0123456789"}


def unlike(what: str, got: str = "one that encodes it otherwise") -> Unlike:
    """The error that a tree and its tokenizer differ.

    Args:
        what: which candidate the tokenizer encodes otherwise.
        got: by what that shows.
    """
    return Unlike(
        "tokenizer",
        f"one that encodes {what} as its parts say",
        got,
        "Nothing is proven. Either it was changed meanwhile, or it encodes by chance, or this is a fault of "
        "hf_canary's, to be reported. "
        "measure_exposure(..., estimators=['sampled']) needs no tree.",
    )

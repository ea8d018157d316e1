"""The tree of the encodings of all fills of a format, as a tokenizer gives them: its leaves are exactly these.

Its parts are made by `building`, and joined by `row`. Here they are held against the tokenizer: when the tree is made,
and before a proof rests on it. This file knows no model.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, shown
from ..formats.canary_format import CanaryFormat
from ..tokenization.contexts import Before
from ..tokenization.encoding import check_repeats, context_of, encode
from .building import Subject, build
from .parts import Edges, Path
from .traces import check_written

logger = logging.getLogger(__name__)

# Fills that each tree is compared on: when it is built; before a proof, at random and beside what is proven; and
# leaves, to which one comes by chance.
_CHECKED, _AT_RANDOM, _NEIGHBOURS, _LEAVES = 24, 256, 128, 64
_SECONDS = 1.0  # that are spent on the way to leaves
_SOME = "a candidate"  # which may be a canary, so that its text stays out of errors


class Unlike(ModelError):
    """A tree that differs from what the tokenizer gives: nothing can be proven by it."""


class TokenTree:
    """The tree of the encodings of all fills of a format, as an automaton over tokens that is built where it is walked.

    Prefixes after which the same may follow share a state, where that is certain. The leaves below `root` are exactly
    the encodings of the candidates, each once, and every state has a leaf below it.

    Args:
        format: its candidates must not be prefixes of one another, unless an end token tells them apart.
        tokenizer: any.
        context: what stands before the canary.
        end: an id that follows every candidate, as its last token.
        target: whether the candidates are what a decoder writes, encoded with `text_target=`.
        ask_all: encode all fills, where there are so many at most; None lets their number decide.

    Attributes:
        prompt: token ids that all leaves share, special tokens and context first; each leaf has at least one more.
        conditioned: how many of them stand before the canary.
        tail: token ids that the tokenizer puts behind each candidate in a row of training, an end token too.
        root: the state after the prompt.
        depth: the most tokens that a leaf has after the prompt: a bound.
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
        context: Before = None,
        end: int | None = None,
        target: bool = False,
        ask_all: int | None = None,
    ) -> None:
        if end is None:
            format.check_prefix_free()
        check_repeats(tokenizer)  # before what would take chance for something else
        check_written(format, tokenizer, target=target)
        self.format = format
        self._tokenizer, self._end, self._target = tokenizer, end, target
        self._is_assured = False
        some = format.covering_fills(_CHECKED) + format.sample(min(_CHECKED, format.space_size), "check")
        texts = [format.render(fill) for fill in some]
        self._context = context_of(tokenizer, context, texts[0], target=target)
        encoding = encode(tokenizer, texts, context=self._context, target=target)
        self.conditioned, self.tail = encoding.conditioned, encoding.tail
        built = build(Subject(format, tokenizer, self._context, end, target), ask_all)
        self._row, self.is_certain, self.is_listed = built.row, built.is_certain, built.is_listed
        if self._row.most_leaves > format.space_size:
            raise unlike(f"each fill of {shown(format.template)} in one way")
        self._common, self.root = self._row.to_branch()
        self.prompt = [*self._context.ids, *self._common[len(self._context.replaced) :]]
        self.depth = max(1, self._row.depth - len(self._common))
        self._check_context()
        self._compare_leaves(texts, [_SOME] * len(texts))
        if self.space_size < format.space_size:
            logger.warning(
                "The tokenizer encodes some fills of %s alike: |R| = %s, with %s different encodings. Fills that are "
                "encoded alike cost the same and are found as one.",
                shown(format.template),
                shown(format.space_size),
                shown(self.space_size),
            )

    @cached_property
    def space_size(self) -> int:
        """How many leaves there are: |R|, or fewer where fills have one encoding. Where it would take too long to count
        them, a bound that is not less.
        """
        counted = self._row.counted_leaves
        return self._row.most_leaves if counted is None else counted

    @property
    def collisions(self) -> bool:
        """Whether two fills have one encoding, as capitals and small letters have where the tokenizer lowers both; or
        may have, where that would take too long to find out.
        """
        return self._row.counted_leaves is None or self.space_size < self.format.space_size

    def edges(self, state: int) -> Edges:
        """What may follow a prefix in this state."""
        return self._row.edges(state)

    def leads(self, path: Sequence[int]) -> bool:
        """Whether tokens after the prompt are the encoding of a candidate, as the tree has it."""
        return self._row.leads(self.root, path)

    def check(self, fills: Iterable[int], names: Sequence[str] = ()) -> None:
        """Compare the tree with the tokenizer: the encodings of these fills must be leaves, and be read as their texts.

        Args:
            fills: any.
            names: what to call them.

        Raises:
            ModelError: one is not so, and nothing can be proven by this tree.
        """
        texts = [self.format.render(fill) for fill in fills]
        names = names or [_SOME] * len(texts)
        if texts and not self.is_listed:
            self._compare_texts(self._compare_leaves(texts, names), texts, names)

    def assure(self, fills: Sequence[int] = (), names: Sequence[str] = ()) -> None:
        """What a proof asks for: as `check`, of these fills and of others that differ from them in one entry. Once for
        each tree also of some at random, and of some leaves, which must be the encodings of their texts.

        Raises:
            ModelError: the tree differs from the tokenizer.
        """
        if self.is_listed:
            return
        self.check(fills, names)
        generator = random.Random(f"neighbours of {len(fills)}")
        self.check(
            [self.format.neighbour(fills[at % len(fills)], generator) for at in range(_NEIGHBOURS if fills else 0)]
        )
        if not self._is_assured:
            self.check(self.format.sample(min(_AT_RANDOM, self.format.space_size), "before a proof"))
            if self.is_certain:
                self.texts(self._some_leaves(generator))
            self._is_assured = True

    def most_below(self, state: int) -> int:
        """How many fills begin with a prefix in this state, at most."""
        return self._row.most_below(state) * self.most_copies

    def text(self, path: Sequence[int]) -> str:
        """The candidate whose tokens after the prompt are `path`; one of them, if there are collisions."""
        return self._read(path)[0]

    def texts(self, paths: Sequence[Sequence[int]]) -> list[str]:
        """The candidates of many paths, each compared with the tokenizer's own encoding of its text.

        Raises:
            ModelError: one differs.
        """
        texts = [self.text(path) for path in paths]
        for path, given in zip(paths, self.paths(texts), strict=True):
            if given != tuple(path):
                raise unlike(_SOME)
        return texts

    def paths(self, texts: Sequence[str]) -> list[Path]:
        """The tokens after the prompt of each of these candidates, as the tokenizer encodes them.

        Raises:
            ModelError: what stands before is not the prompt.
        """
        behind = [] if self._end is None else [self._end]
        encoding = encode(self._tokenizer, texts, context=self._context, target=self._target)
        length = len(self.prompt)
        if any(ids[:length] != self.prompt for ids in encoding.sequences):
            raise unlike(_SOME)
        return [(*ids[length:], *behind) for ids in encoding.sequences]

    @cached_property
    def first(self) -> Path:
        """All tokens of one candidate without an end token, as the tokenizer encodes it: special tokens and context
        first.
        """
        (path,) = self.paths([self.format.render(0)])
        return (*self.prompt, *path[: len(path) - (self._end is not None)])

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
        if self._row.counted_leaves is None:
            return self.format.space_size
        # Each leaf has a fill; at most, all that are left over are of one leaf.
        others = self.format.space_size - self.space_size
        most = self._row.most_copies
        return others + 1 if most is None else min(others + 1, most)

    def _compare_leaves(self, texts: Sequence[str], names: Sequence[str]) -> list[Path]:
        """The encodings of candidates, which must be leaves."""
        paths = self.paths(texts)
        for path, name in zip(paths, names, strict=True):
            if not self.leads(path):
                raise unlike(name)
        return paths

    def _compare_texts(self, paths: Sequence[Path], texts: Sequence[str], names: Sequence[str]) -> None:
        """What leaves are read as: the candidates, or others that are encoded alike, if there are such."""
        others: dict[str, Path] = {}
        for path, text, name in zip(paths, texts, names, strict=True):
            read = self.text(path)
            if read != text:
                if not self.collisions:
                    raise unlike(name)
                others[read] = path
        if others and self.paths(list(others)) != list(others.values()):
            raise unlike(_SOME)

    def _some_leaves(self, generator: random.Random) -> list[Path]:
        """Leaves, at each of their tokens chosen by chance among what may follow; fewer where that takes long."""
        leaves: list[Path] = []
        until = time.monotonic() + _SECONDS
        while len(leaves) < _LEAVES and time.monotonic() < until:
            path: list[int] = []
            state, is_end = self.root, False
            while not is_end:
                edges = self.edges(state)
                at = generator.randrange(len(edges.tokens))
                path.append(int(edges.tokens[at]))
                state = int(edges.states[at])
                is_end = bool(edges.is_leaf[at]) and (state < 0 or generator.random() < 0.5)
            leaves.append(tuple(path))
        return leaves

    def _check_context(self) -> None:
        """Refuse a context whose last token goes on in some candidate."""
        if len(self._common) >= len(self._context.replaced):
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

    def _read(self, path: Sequence[int]) -> tuple[str, int]:
        """The text of a candidate that is encoded so, and how many there are."""
        readings = self._row.readings([*self._common, *path])
        return readings[0][0].removeprefix(self._context.behind), sum(count for _, count in readings)


def padded(paths: Sequence[Path], depth: int) -> NDArray[np.int64]:
    """(n_paths, depth) tokens, -1 behind the end of each."""
    tokens = np.full((len(paths), depth), -1, dtype=np.int64)
    for row, path in zip(tokens, paths, strict=True):
        row[: len(path)] = path
    return tokens


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
        "hf_canary's, to be reported. measure_exposure(..., estimators=['sampled']) needs no tree.",
    )

"""A format behind a context, as a tokenizer sees it: made once for all measurements. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..arrays import Floats
from ..canaries import Canary
from ..errors import ModelError
from ..formats.canary_format import CanaryFormat
from ..tokenization.contexts import Before, SourceContext
from ..tokenization.encoding import Encoding, encode, encode_behind_sources, end_token, source_ids
from ..tree.token_tree import TokenTree, Unlike

# Texts, their tokens, and those of their sources, if an encoder reads these.
Encoded = tuple[list[str], Encoding, list[list[int]] | None]

# What all candidates share shows in so many that hold every entry; where there are more entries, it is no less.
_TO_COMPARE = 256


@dataclass(frozen=True)
class MeasurementConfig:
    """How a format is looked at.

    Args:
        num_references: random candidates that are scored.
        num_draws: fills that are drawn from the ladder.
        seed: of both.
        end: whether the end token is summed.
        context: what stands before each candidate.
        source_prefix: what stands before each source that an encoder reads.
        target: whether a decoder writes the candidates, after their sources.
    """

    num_references: int
    num_draws: int
    seed: int
    end: bool
    context: Before = None
    source_prefix: Before = None
    target: bool = False


class EncodedFormat:
    """What is the same in every measurement of a format: its fills as the tokenizer sees them, each encoded once.

    Args:
        tokenizer: that is not changed meanwhile.
        canaries: all of one format.
        members: numbers of those that are measured here; the others are known, so that no reference is one of them.
        config: how to measure.
        number: which of the contexts of its format it is; each has references of its own.

    Attributes:
        canary_fills: fills of the canaries, then of their twins.
        measured: numbers among these of the members, then of their twins.
        names: what to call them in an error.
        made_tree: the tree, once somebody has asked for it.
    """

    def __init__(
        self,
        tokenizer: Any,
        canaries: Sequence[Canary],
        members: Sequence[int],
        config: MeasurementConfig,
        *,
        number: int = 0,
    ) -> None:
        self.config, self._number = config, number
        self.measured = [*members, *(len(canaries) + number for number in members)]
        self.format = canaries[0].format
        self.canary_fills = [canary.fill for canary in canaries] + [canary.twin for canary in canaries]
        self.names = [canary.id for canary in canaries] + [f"the twin of {canary.id}" for canary in canaries]
        self._tokenizer = tokenizer
        self._target = config.target
        self._texts: list[str] = []
        self._sequences: list[list[int]] = []
        self._sources: list[list[int]] = []
        self._starts: list[int] = []
        self._like = Encoding([], 0)
        self.made_tree: TokenTree | None = None
        self._why_no_tree = ""

    @cached_property
    def fills(self) -> list[int]:
        """Those of canaries and twins, then random other ones."""
        count = possible_references(self.config.num_references, self.format, len(self.canary_fills))
        # Named apart from the draw of the canaries: with one seed for both, references would lie beside canaries.
        name = f"references {self.config.seed}" + (f" {self._number}" if self._number else "")
        drawn = self.format.sample(count, name, exclude=self.canary_fills)
        return self.canary_fills + drawn

    def encoded(self, block: slice) -> Encoded:
        """Texts of a block of the fills, what the tokenizer makes of them, and of their sources, if they have any."""
        self._encode(block.stop)
        sources, starts = self._sources[block] if self._target else None, tuple(self._starts[block])
        return self._texts[block], replace(self._like, sequences=self._sequences[block], starts=starts), sources

    def name(self, number: int) -> str:
        """What to call a fill in an error."""
        return self.names[number] if number < len(self.names) else "a reference"

    def _encode(self, stop: int) -> None:
        start = len(self._texts)
        fills = self.fills[start:stop]
        if not fills:
            return
        texts, encoding, sources = self._encoded(fills, lambda number: self.name(start + number))
        self._texts += texts
        self._sequences += encoding.sequences
        self._starts += encoding.starts
        self._sources += sources or []
        self._like = replace(encoding, sequences=[])

    def _encoded(self, fills: Sequence[int], named: Callable[[int], str]) -> Encoded:
        config = self.config
        return encoded_fills(
            self._tokenizer,
            self.format,
            fills,
            context=config.context,
            prefix=config.source_prefix,
            target=self._target,
            end=config.end,
            named=named,
        )

    @cached_property
    def num_common(self) -> int:
        """How many first tokens all candidates share, the last one's aside; behind their sources, if each has its
        own.
        """
        covering = self.format.covering_fills(_TO_COMPARE)
        names = ["a candidate"] * len(covering) + self.names
        _, encoding, _ = self._encoded(covering + self.canary_fills, names.__getitem__)
        # Where all is shared, the last token must still be read from something.
        return min(encoding.num_common, min(map(len, encoding.summed or encoding.sequences)) - 1)

    @property
    def has_own_sources(self) -> bool:
        """Whether each fill has a source of its own, and is scored after that (§6.4)."""
        return (self._target and self.format.source_varies) or isinstance(self.config.context, SourceContext)

    @property
    def why_no_tree(self) -> str:
        """Why the fills cannot be walked as one tree; empty where they can, as far as is known."""
        if self.has_own_sources:
            return "each fill has its own source"
        if not self._why_no_tree:
            try:
                _ = self.tree
            except Unlike:  # a tree that differs from the tokenizer is an error, and not none
                raise
            except ModelError as error:
                self._why_no_tree = f"no token tree: {error.got}"
        return self._why_no_tree

    @cached_property
    def tree(self) -> TokenTree:
        """The tree of the format's encodings.

        Raises:
            ModelError: the tokenizer's encodings cannot be followed.
        """
        tree = TokenTree(
            self.format,
            self._tokenizer,
            context=self.config.context,
            end=end_token(self._tokenizer, target=self._target) if self.config.end else None,
            target=self._target,
        )
        if not tree.is_certain:
            raise ModelError(
                "tokenizer",
                "one whose encodings can be derived from its parts",
                "one that is written in Python, and a format of too many fills to encode them all",
                "Use a format of fewer fills; what needs no tree is measured all the same.",
            )
        tree.assure(self.canary_fills, self.names)
        self.made_tree = tree
        return tree

    @cached_property
    def canary_copies(self) -> Floats:
        """(2 n_canaries,) how many fills are encoded as each; 0 for one that is encoded as an earlier one."""
        paths = self.tree.paths([self.format.render(fill) for fill in self.canary_fills])
        return np.array(
            [
                float(self.tree.copies(fill)) if paths.index(path) == number else 0.0
                for number, (fill, path) in enumerate(zip(self.canary_fills, paths, strict=True))
            ]
        )

    @property
    def source(self) -> list[int] | None:
        """The ids of the one source of all fills, if there is one."""
        if not self._target:
            return None
        source = self.format.render_source(self.canary_fills[0]) or ""
        return source_ids(self._tokenizer, [source], self.config.source_prefix)[0]


def encoded_fills(
    tokenizer: Any,
    format: CanaryFormat,
    fills: Sequence[int],
    *,
    context: Before,
    prefix: Before = None,
    target: bool,
    end: bool = False,
    named: Callable[[int], str] = "a candidate".format,
) -> Encoded:
    """The candidates of fills, what the tokenizer makes of them behind a context, and of what an encoder reads before
    each; None for a causal model.

    Raises:
        ModelError: as `encode`.
    """
    texts = [format.render(fill) for fill in fills]
    sources = [format.render_source(fill) or "" for fill in fills]
    if isinstance(context, SourceContext) and not target:
        return texts, encode_behind_sources(tokenizer, texts, sources, context, end=end, named=named), None
    encoding = encode(tokenizer, texts, context=context, target=target, end=end, named=named)
    if not target:
        return texts, encoding, None
    of_sources = lambda number: f"the source of {named(number)}"  # noqa: E731
    return texts, encoding, source_ids(tokenizer, sources, prefix, named=of_sources)


def possible_references(asked: int, format: CanaryFormat, known: int) -> int:
    """How many references there can be, of so many that were asked for: known fills are none.

    Example:
        >>> possible_references(1_000, CanaryFormat("pin {digit:2}"), known=8)
        92
    """
    return min(asked, format.space_size - known)

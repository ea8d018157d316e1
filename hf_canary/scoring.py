"""Model + tokenizer + texts → log-perplexities: encodes, chooses the walk, shares the work among processes.

Knows no canary and no estimator; the sums are those of the walks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arguments import PROGRESS, check_callable, check_flag, check_list, check_model, check_tokenizer, is_unicode
from .arrays import Floats, Ints
from .errors import ArgumentError, ArgumentTypeError, ModelError, kind
from .inference.bits import NotNumbers
from .inference.cache_adapters import Source
from .inference.evaluation import evaluating
from .inference.language_model import GIVE_CONTEXT, LanguageModel
from .runtime.processes import num_processes
from .tokenization.contexts import Before, one_for_each
from .tokenization.encoding import Encoding, encode, source_ids
from .walks.pairs import score_pairs, score_rows
from .walks.score import score

# From so many texts of one source on, a walk over their tree costs less than a full pass for each.
_WALKED_TOGETHER = 8


def log_perplexity(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    sources: Sequence[str] | None = None,
    context: Before | Sequence[Before] = None,
    end: bool = False,
    batch_size: int | None = None,
    max_memory: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Floats:
    """The log-perplexity of each text (Definition 1): −log2 of its probability, in bits, summed over its tokens.

    The tokens of `context`, and those that the tokenizer itself puts first (BOS, a language), condition and are not
    summed. When nothing stands before a text, a recurrent model of `hf_canary.models` starts from its initial state,
    a decoder behind what it starts with in training, and any other model after the text's first token, which all
    texts must then share. Each shared prefix is computed once. The model's mode and every random state are left as
    they were. Under `accelerate launch` all processes must call this together; each does a share, and all get the
    whole answer.

    Args:
        model: a causal language model, or an encoder-decoder; as it is, compiled, or as a `Trainer` wraps it.
        tokenizer: its tokenizer.
        texts: any texts; equal ones get equal values. What the decoder writes, for an encoder-decoder.
        sources: what an encoder-decoder reads, one for each text.
        context: what stands before each of them: text, such as a rendered chat template, or a `Context` of tokens; a
            list has one for each text. For an encoder-decoder, what its decoder has written before.
        end: whether the end token behind each text is summed as well.
        batch_size: rows of one forward pass; None lets the memory decide.
        max_memory: bytes that logits and states may take, beside the one pass over what all texts share; None is
            1 GiB, on CUDA a quarter of what is free. Out of memory, batches are halved.
        progress: called with the number of texts that this process has finished since the last call.

    Returns:
        (n_texts,) float64, in order; lower means better memorised.

    Raises:
        ArgumentError: an empty text, not as many sources or contexts as texts, what is no model, tokenizer or text.
        ModelError: a character that the tokenizer cannot represent, a text longer than the model's positions, logits
            that are no numbers, a source for a causal model or none for an encoder-decoder; a decoder that does not
            say what it starts with in training, or whose costs differ from those of its own pass on labels.

    Example:
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["to be or not to be"])
        >>> model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8))
        >>> log_perplexity(model, tokenizer, ["to be", "not to be"]).shape
        (2,)
    """
    check_model(model)
    check_tokenizer(tokenizer)
    check_flag("end", end)
    check_callable("progress", progress, PROGRESS)
    with evaluating(model) as bare:
        language_model = LanguageModel(bare, batch_size=batch_size, max_memory=max_memory)
        return score_texts(language_model, tokenizer, texts, sources, context=context, end=end, progress=progress)


def score_texts(
    language_model: LanguageModel,
    tokenizer: Any,
    texts: Sequence[str],
    sources: Sequence[str] | None = None,
    *,
    context: Before | Sequence[Before] = None,
    end: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Floats:
    """What `log_perplexity` says, of a model that is being evaluated already."""
    texts = _checked_texts("texts", texts)
    language_model.check_source(sources is not None, "sources")
    if sources is not None:
        sources = _checked_texts("sources", sources)
        if len(sources) != len(texts):
            raise ArgumentError("sources", f"{len(texts)}, one for each text", f"{len(sources)}", "Pair them up.")
    alike: dict[Before, list[int]] = {}
    for number, each in enumerate(one_for_each(context, len(texts), "texts")):
        alike.setdefault(each, []).append(number)
    costs = np.empty(len(texts))
    for each, numbers in alike.items():
        mine = [texts[number] for number in numbers]
        named = [f"texts[{number}]" for number in numbers].__getitem__
        encoding = encode(tokenizer, mine, context=each, target=sources is not None, end=end, named=named)
        read = None
        if sources is not None:
            of_sources = [f"sources[{number}]" for number in numbers].__getitem__
            read = source_ids(tokenizer, [sources[number] for number in numbers], named=of_sources)
        costs[numbers] = score_encoded(language_model, mine, encoding, read, progress=progress, named=named)
    return costs


def score_encoded(
    language_model: LanguageModel,
    texts: Sequence[str],
    encoding: Encoding,
    source_ids: Sequence[Sequence[int]] | None = None,
    *,
    unsummed: int = 0,
    progress: Callable[[int], object] | None = None,
    named: Callable[[int], str] = "texts[{}]".format,
) -> Floats:
    """The same of texts that are encoded already, with the ids of their sources; one text at least. `unsummed` first
    tokens are left out of the sums, behind its own source where each text has one. `named` is how an error calls each.
    """
    if encoding.starts:
        _check_longest(language_model, encoding.sequences, "texts")
        starts = [start + unsummed for start in encoding.starts]
        return _RowJob(language_model, texts, encoding.sequences, [None] * len(texts), 0, named, starts).run(progress)
    conditioned = language_model.first_summed(encoding.conditioned, _shared_firsts(encoding.sequences))
    _check_lengths(language_model, encoding.sequences, conditioned)
    read: list[Source | None] = [None] * len(texts)
    if source_ids is not None:
        _check_longest(language_model, source_ids, "sources", of_source=True)
        start = language_model.start(source_ids[0], encoding.first, encoding.tail)
        read = [Source(tuple(ids), start) for ids in source_ids]
    return _Job(language_model, texts, encoding.sequences, read, max(conditioned, unsummed), named).run(progress)


def _checked_texts(argument: str, texts: Sequence[str]) -> list[str]:
    texts = check_list(argument, texts, "a list of texts", "Put one alone into a list.")
    for number, text in enumerate(texts):
        name, expected = f"{argument}[{number}]", "a text that is not empty"
        if not isinstance(text, str):
            raise ArgumentTypeError(name, expected, kind(text), "Leave it out.")
        if not text or not is_unicode(text):
            raise ArgumentError(
                name, expected, "an empty one" if not text else "half of a surrogate pair", "Leave it out."
            )
    return texts


def _check_lengths(language_model: LanguageModel, sequences: Sequence[Sequence[int]], conditioned: int) -> None:
    """Neither longer than the model's positions nor so short that nothing is summed."""
    _check_longest(language_model, sequences, "texts")
    lengths = [len(sequence) for sequence in sequences]
    if min(lengths) <= conditioned:
        raise ModelError(
            f"texts[{lengths.index(min(lengths))}]",
            "a token more than the first, on which the others are conditioned: the tokenizer puts no BOS before it",
            "one token",
            GIVE_CONTEXT + ".",
        )


def _check_longest(
    language_model: LanguageModel, sequences: Sequence[Sequence[int]], argument: str, *, of_source: bool = False
) -> None:
    number = max(range(len(sequences)), key=lambda i: len(sequences[i]))
    language_model.check_length(len(sequences[number]), f"{argument}[{number}]", of_source=of_source)


def _shared_firsts(sequences: Sequence[Sequence[int]]) -> int:
    return 1 if len({sequence[0] for sequence in sequences}) == 1 else 0


@dataclass(frozen=True)
class _Job:
    """Texts to score; `sequences` are their ids, and `sources` what an encoder reads before each, or None."""

    language_model: LanguageModel
    texts: Sequence[str]
    sequences: Sequence[Sequence[int]]
    sources: Sequence[Source | None]
    conditioned: int
    named: Callable[[int], str]

    def run(self, progress: Callable[[int], object] | None) -> Floats:
        """All costs, in every process; each takes neighbours in lexicographic order, which share the most."""
        order = np.arange(len(self.texts))
        if num_processes() > 1:
            order = np.array(sorted(order.tolist(), key=self._sort_key))
        costs = np.empty(len(order))
        costs[order] = self.language_model.in_shares(len(order), functools.partial(self._share, order, progress))
        return costs

    def _sort_key(self, number: int) -> tuple[Sequence[int], Sequence[int]]:
        source = self.sources[number]
        return (() if source is None else source.ids), self.sequences[number]

    def _share(self, order: Ints, progress: Callable[[int], object] | None, mine: Ints) -> Floats:
        """The costs of those texts at these places of the order; an error of one names it."""
        numbers = order[mine]
        try:
            return self._costs(numbers, progress)
        except NotNumbers as error:
            got = f"NaN or infinite ones in {self.named(self._first_without_numbers(numbers))}"
            raise ModelError(error.argument, error.expected, got, error.remedy) from error

    def _first_without_numbers(self, numbers: Ints) -> int:
        """By halves: that of the front if the error is there."""
        while len(numbers) > 1:
            front = numbers[: len(numbers) // 2]
            try:
                self._costs(front, None)
                numbers = numbers[len(front) :]
            except NotNumbers:
                numbers = front
        return int(numbers[0])

    def _costs(self, numbers: Ints, progress: Callable[[int], object] | None) -> Floats:
        """Texts after one source, or none, by one walk; those with a source of their own by full passes."""
        by_source: dict[Source | None, list[int]] = {}
        for index, number in enumerate(numbers):
            by_source.setdefault(self.sources[number], []).append(index)
        costs = np.empty(len(numbers))
        alone: list[int] = []
        pairs: list[tuple[Source, Sequence[int]]] = []
        for source, indices in by_source.items():
            if source is not None and len(indices) < _WALKED_TOGETHER:
                alone += indices
                pairs += [(source, self.sequences[number]) for number in numbers[indices]]
                continue
            start = functools.partial(self.language_model.session, source=source)
            sequences = [self.sequences[number] for number in numbers[indices]]
            costs[indices] = score(start, sequences, self.conditioned, progress=progress)
        costs[alone] = score_pairs(self.language_model, pairs, self.conditioned, progress=progress)
        return costs


@dataclass(frozen=True)
class _RowJob(_Job):
    """The same of texts behind sources of their own, in one row with them; `starts` are how many tokens stand before
    each.
    """

    starts: Sequence[int]

    def _costs(self, numbers: Ints, progress: Callable[[int], object] | None) -> Floats:
        rows = [self.sequences[number] for number in numbers]
        starts = [self.starts[number] for number in numbers]
        return score_rows(self.language_model, rows, starts, progress=progress) if rows else np.empty(0)

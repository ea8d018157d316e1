"""Listed texts as a tokenizer sees them. Knows no format and no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..arrays import num_common
from ..errors import ModelError
from .contexts import Before, Context, SourceContext, one_for_all

# Of so many texts a fast tokenizer's backend must have the ids that transformers has; then it is asked for the others.
_PROBED = 16
_AT_ONCE = 4096  # texts
_ENCODING = frozenset({"__call__", "_call_one", "_encode_plus", "_batch_encode_plus"})
_OF_TRANSFORMERS = frozenset(
    {
        "transformers.tokenization_utils_base",
        "transformers.tokenization_utils_tokenizers",
        "hf_canary.models.tokenizers",  # which warns besides
    }
)


@dataclass(frozen=True)
class Encoding:
    """Token ids of texts; the first `conditioned` ones, which all share, stand before the text and are not summed.

    Where `ended`, the last token of each is the end token. In a row of training the tokenizer puts `tail` behind each
    text, an end token too. Where each stands behind a source of its own, `starts` has how many first tokens stand
    before it, of each; they share none of necessity.
    """

    sequences: list[list[int]]
    conditioned: int
    tail: tuple[int, ...] = ()
    ended: bool = False
    starts: tuple[int, ...] = ()

    @property
    def first(self) -> list[int]:
        """The first sequence, without an end token."""
        return self.sequences[0][:-1] if self.ended else self.sequences[0]

    @property
    def num_common(self) -> int:
        """How many first tokens all sequences have in common; behind their sources, if each has its own."""
        return num_common(self.summed or self.sequences)

    @property
    def summed(self) -> list[list[int]]:
        """What stands behind the source of each, if each has its own."""
        return [ids[start:] for start, ids in zip(self.starts, self.sequences, strict=False)]


def encode(
    tokenizer: Any,
    texts: Sequence[str],
    *,
    context: Before = None,
    target: bool = False,
    end: bool = False,
    named: Callable[[int], str] = "texts[{}]".format,
) -> Encoding:
    """The canonical encoding of each text after `context`: what the tokenizer returns for the whole.

    Tokens that the tokenizer puts before a text by itself (BOS, a language) condition, as the context does, unless the
    context begins with them, as a rendered chat template does, or is one of tokens; those that it puts behind (EOS) are
    left out.

    Args:
        tokenizer: any.
        texts: none empty.
        context: what stands before each.
        target: whether they are what a decoder writes, encoded with `text_target=`.
        end: whether the end token follows each text and is summed.
        named: what an error calls a text, by its number.

    Raises:
        ModelError: encodings that are left to chance, a character that the tokenizer cannot represent, a text of which
            it writes nothing, a context whose last token swallows the beginning of a text, no end token where one is
            asked for.
    """
    check_repeats(tokenizer)
    if not texts:
        return Encoding([], 0)
    before = context_of(tokenizer, context, texts[0], target=target)
    ids = token_ids(tokenizer, [before.behind + text for text in texts], target=target)
    tail = (
        special_tokens(tokenizer, before.behind + texts[0], target=target)[1] if before.after is None else before.after
    )
    unknown = unknown_ids(tokenizer, target=target)
    replaced, ahead = list(before.replaced), len(before.replaced)
    for number, sequence in enumerate(ids):
        if not unknown.isdisjoint(sequence[ahead:]):
            raise _unknown_in(tokenizer, texts, named(number), target=target)
        if sequence[:ahead] != replaced:
            raise _merges(named(number), len(before.behind))
        if len(sequence) == ahead:
            raise _unwritten(named(number))
    behind = [end_token(tokenizer, target=target)] if end else []
    for sequence in ids:  # in place, since there may be many
        sequence[:ahead] = before.ids
        sequence += behind
    return Encoding(ids, len(before.ids), tuple(tail), end)


def encode_behind_sources(
    tokenizer: Any,
    texts: Sequence[str],
    sources: Sequence[str],
    context: SourceContext,
    *,
    end: bool = False,
    named: Callable[[int], str] = "texts[{}]".format,
) -> Encoding:
    """The canonical encoding of each text behind a source of its own, for a causal model.

    Args:
        tokenizer: any.
        texts: none empty.
        sources: one for each.
        context: what stands around the source.
        end: whether the end token follows each text and is summed.
        named: what an error calls a text, by its number.

    Raises:
        ModelError: as `encode`.
    """
    check_repeats(tokenizer)
    if not texts:
        return Encoding([], 0)
    before = [context.around(source) for source in sources]
    ahead = token_ids(tokenizer, before)
    ids = token_ids(tokenizer, [one + text for one, text in zip(before, texts, strict=True)])
    first, tail = special_tokens(tokenizer, before[0] + texts[0])
    first = _without_repeats(first, ahead[0]) if context.ids is None else list(context.ids)
    behind, starts = [end_token(tokenizer)] if end else [], []
    unknown = unknown_ids(tokenizer)  # what varies in a source stands in the text, too
    for number, (sequence, alone) in enumerate(zip(ids, ahead, strict=True)):
        shared = num_common([alone, sequence])
        if not unknown.isdisjoint(sequence[shared:]):
            raise _unknown_in(tokenizer, texts, named(number), target=False)
        if not shared and not first:
            raise _merges(named(number), len(before[number]))
        if len(sequence) == shared:
            raise _unwritten(named(number))
        sequence[:0] = first
        sequence += behind
        starts.append(len(first) + shared)
    return Encoding(ids, min(starts), tuple(tail), end, tuple(starts))


def context_behind(tokenizer: Any, context: SourceContext, source: str, text: str) -> Context:
    """What stands before a text whose source is known, as tokens.

    Raises:
        ModelError: as `encode`.
    """
    encoding = encode_behind_sources(tokenizer, [text], [source], context)
    (ids,), (start,) = encoding.sequences, encoding.starts
    written = len(ids) - start
    replaced = token_ids(tokenizer, [context.around(source) + text])[0][:-written]
    return Context(tuple(ids[:start]), context.around(source), tuple(replaced))


def context_of(tokenizer: Any, context: Before, text: str, *, target: bool = False) -> Context:
    """What stands before a text, as tokens; of a text as context, with those that the tokenizer puts before it.

    Args:
        tokenizer: any.
        context: tokens, a text, or nothing.
        text: that follows.
        target: whether it is what a decoder writes.
    """
    context = one_for_all("context", context)
    if isinstance(context, Context):
        return context
    ahead = token_ids(tokenizer, [context], target=target)[0] if context else []
    before, _ = special_tokens(tokenizer, (context or "") + text, target=target)
    before = _without_repeats(before, ahead)
    return Context((*before, *ahead), context or "", tuple(ahead))


def _without_repeats(before: list[int], ahead: Sequence[int]) -> list[int]:
    """What the tokenizer puts before a text, if the text does not begin so by itself, as rendered templates do."""
    return [] if list(ahead[: len(before)]) == before else before


def _unwritten(name: str) -> ModelError:
    return ModelError(
        "tokenizer",
        f"one that writes a token for {name}",
        "one that writes none",
        "Put characters into the format that the tokenizer writes.",
    )


def _merges(name: str, characters: int) -> ModelError:
    return ModelError(
        "context",
        "a context whose tokens stay the same when a canary follows",
        f"one of {characters} characters, which merges with {name}",
        "End the context where a token ends: move its last space or word into the format's fixed text.",
    )


def check_repeats(tokenizer: Any) -> None:
    """Refuse a tokenizer that leaves to chance how it encodes a text, as one does that is set up for training.

    Raises:
        ModelError: it does; says which option is to blame.
    """
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    dropout, alpha = getattr(model, "dropout", None), getattr(model, "alpha", None)
    blamed, off = "", ""
    if dropout:  # of BPE
        blamed = f"the dropout of its merges, {dropout:.3g}"
        off = "tokenizer.backend_tokenizer.model.dropout = None"
    elif alpha is not None:  # of Unigram; it does not stand in tokenizer.json
        blamed = f"the sampling of its encodings, alpha = {alpha:.3g}"
        off = "tokenizer.backend_tokenizer.model.alpha = None"
    elif (getattr(tokenizer, "sp_model_kwargs", None) or {}).get("enable_sampling"):
        blamed = "the sampling of its encodings, enable_sampling in sp_model_kwargs"
        off = "load it without enable_sampling"
    if blamed:
        raise ModelError(
            "tokenizer",
            "one that encodes a text alike each time",
            f"one that leaves it to chance: {blamed}",
            f"Measure as the model is used: {off}; for training it may be on.",
        )


@contextmanager
def side(tokenizer: Any, *, target: bool) -> Iterator[None]:
    """The tokenizer as it reads what a decoder writes, if it has a vocabulary of its own for that, as Marian's may."""
    has_sides = target and hasattr(tokenizer, "_switch_to_target_mode")
    if has_sides:
        tokenizer._switch_to_target_mode()
    try:
        yield
    finally:
        if has_sides:
            tokenizer._switch_to_input_mode()


def vocabulary_of_side(tokenizer: Any, *, target: bool) -> dict[str, int] | None:
    """Token → id where what a decoder writes has a vocabulary of its own, as Marian's may: that, or the other; else
    None. The tokenizer itself names tokens by the decoder's, whichever they are of.
    """
    own: dict[str, int] | None = getattr(tokenizer, "target_encoder", None)
    if own is None:
        return None
    return own if target else tokenizer.get_vocab()


def token_namer(tokenizer: Any, *, target: bool = False) -> Callable[[int], str | None]:
    """What names tokens by their ids, as they stand in the vocabulary of their side."""
    vocabulary = vocabulary_of_side(tokenizer, target=target)
    if vocabulary is None:
        name: Callable[[int], str | None] = tokenizer.convert_ids_to_tokens
        return name
    return {id: token for token, id in vocabulary.items()}.get


def decoded(tokenizer: Any, ids: Sequence[int], *, target: bool = False) -> str:
    """The text of tokens of a side, special ones and all."""
    if vocabulary_of_side(tokenizer, target=target) is None:
        text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
    return "".join(map(str, map(token_namer(tokenizer, target=target), ids))).replace("▁", " ")


def special_ids(tokenizer: Any, *, target: bool = False) -> set[int]:
    """Of the tokens that stand for no text, but for ids that are text's on this side: a tokenizer with two vocabularies
    gives its special tokens the ids that they have in the one that is read.
    """
    special = {int(id) for id in tokenizer.all_special_ids}
    vocabulary = vocabulary_of_side(tokenizer, target=target)
    if vocabulary is None:
        return special
    names = set(tokenizer.all_special_tokens)
    of_text = {id for token, id in vocabulary.items() if token not in names}
    return special - of_text | {vocabulary[name] for name in names & vocabulary.keys()}


def unknown_ids(tokenizer: Any, *, target: bool = False) -> set[int]:
    """What stands for what the tokenizer does not know: as transformers is told, and as its model has it."""
    vocabulary, backend = vocabulary_of_side(tokenizer, target=target), getattr(tokenizer, "backend_tokenizer", None)
    token = tokenizer.unk_token_id if vocabulary is None else vocabulary.get(tokenizer.unk_token)
    own = getattr(getattr(backend, "model", None), "unk_token", None)
    found = (token, None if backend is None or own is None else backend.token_to_id(own))
    return {id for id in found if id is not None}


def end_token(tokenizer: Any, *, target: bool = False) -> int:
    """The token that ends a text.

    Args:
        tokenizer: any.
        target: whether a decoder writes it.

    Raises:
        ModelError: the tokenizer has none.
    """
    with side(tokenizer, target=target):
        token = tokenizer.eos_token_id
    if token is None:
        raise ModelError(
            "tokenizer", "an end token", "none", "Set tokenizer.eos_token. Only generate and end=True need one."
        )
    return int(token)


def token_ids(tokenizer: Any, texts: Sequence[str], *, target: bool = False, special: bool = False) -> list[list[int]]:
    """The ids of each text, with the tokens that the tokenizer puts around it or without."""
    # The first call also leaves the backend of a fast tokenizer as transformers wants it: nothing is cut or padded.
    probe, rest = texts[:_PROBED], texts[_PROBED:]
    first = _by_transformers(tokenizer, probe, target=target, special=special)
    if not rest:
        return first
    if not target and _has_its_backend(tokenizer):
        backend = tokenizer.backend_tokenizer
        if _by_backend(backend, probe, special=special) == first:
            return first + _by_backend(backend, rest, special=special)
    return first + _by_transformers(tokenizer, rest, target=target, special=special)


def _has_its_backend(tokenizer: Any) -> bool:
    """Whether it is a fast tokenizer that encodes as transformers' own class for these does, so that its backend says
    what it says.
    """
    if not getattr(tokenizer, "is_fast", False) or not _ENCODING.isdisjoint(vars(tokenizer)):
        return False
    defining = {cls.__module__ for cls in type(tokenizer).__mro__ if not _ENCODING.isdisjoint(vars(cls))}
    return defining <= _OF_TRANSFORMERS


def _by_transformers(tokenizer: Any, texts: Sequence[str], *, target: bool, special: bool) -> list[list[int]]:
    name = "text_target" if target else "text"
    ids: list[list[int]] = []
    for some in _by(_AT_ONCE, texts):
        ids += tokenizer(**{name: some}, add_special_tokens=special, return_attention_mask=False)["input_ids"]
    return ids


def _by_backend(backend: Any, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    """Of a fast tokenizer: without offsets, masks and the objects around them, which take most of the time."""
    encode_batch = backend.encode_batch_fast
    return [
        encoding.ids for some in _by(_AT_ONCE, texts) for encoding in encode_batch(some, add_special_tokens=special)
    ]


def _by(count: int, texts: Sequence[str]) -> Iterator[list[str]]:
    """Some at a time: of each a tokenizer makes some kilobytes, of which the ids are the least."""
    yield from (list(texts[start : start + count]) for start in range(0, len(texts), count))


def source_ids(
    tokenizer: Any,
    sources: Sequence[str],
    prefix: Before = None,
    *,
    named: Callable[[int], str] = "sources[{}]".format,
) -> list[list[int]]:
    """The ids that an encoder reads for each source, with what stands before it and behind.

    Args:
        tokenizer: any.
        sources: texts.
        prefix: what stands before each: a text, as T5's "translate English to German: "; or tokens, beside which none
            of the tokenizer's own are put.
        named: what an error calls a source, by its number.

    Raises:
        ModelError: a character that the tokenizer cannot represent, tokens in whose place a source is written
            otherwise.
    """
    prefix = one_for_all("source_prefix", prefix)
    if isinstance(prefix, Context):
        encoding = encode(tokenizer, sources, context=prefix, named=named)
        return [[*ids, *encoding.tail] for ids in encoding.sequences]
    whole = [(prefix or "") + source for source in sources]
    ids, unknown = token_ids(tokenizer, whole, special=True), unknown_ids(tokenizer)
    if not (unknown and whole):
        return ids
    before, behind = special_tokens(tokenizer, whole[0])  # among which it may be, as GPT-2's
    for number, sequence in enumerate(ids):
        if not unknown.isdisjoint(sequence[len(before) : len(sequence) - len(behind)]):
            raise _unknown_in(tokenizer, whole, named(number), target=False)
    return ids


def special_tokens(tokenizer: Any, probe: str, *, target: bool = False) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before a text, and behind it, by itself."""
    bare, full = (token_ids(tokenizer, [probe], target=target, special=special)[0] for special in (False, True))
    starts = (start for start in range(len(full) - len(bare) + 1) if full[start : start + len(bare)] == bare)
    start = next(starts, None)
    return ([], []) if start is None else (full[:start], full[start + len(bare) :])


def _unknown_in(tokenizer: Any, texts: Sequence[str], name: str, *, target: bool) -> ModelError:
    """The error of one of several texts; it names the characters of all, so that nothing is told of this one."""
    return unknown_characters(tokenizer, "".join(set[str]().union(*texts)), target=target, name=name)


def unknown_characters(
    tokenizer: Any, text: str, *, target: bool = False, unknown: int | None = None, name: str = "all candidates"
) -> ModelError:
    """The error of a text that the tokenizer does not know whole; it names the characters by their code points.

    Args:
        tokenizer: any.
        text: its.
        target: whether a decoder writes it.
        unknown: its model's unknown token, which transformers may not be told of.
        name: what to call the text.
    """
    characters = sorted(set(text))
    ids = token_ids(tokenizer, characters, target=target)
    tokens = unknown_ids(tokenizer, target=target) | {unknown}
    found = [c for c, sequence in zip(characters, ids, strict=True) if not tokens.isdisjoint(sequence)]
    named = ", ".join(f"U+{ord(c):04X}" for c in found[:8]) or "what it makes of them together"
    return ModelError(
        "tokenizer",
        f"a tokenizer that can represent {name}",
        f"its unknown token for {named}",
        "Train the tokenizer on text with these characters, or leave them out of the format.",
    )

"""What stands before a text: tokens that condition. Knows no tokenizer.

A text is not enough to say it: in training data, special tokens and cut words may stand before a canary, and the text
of tokens need not give the same tokens again.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..arguments import is_unicode
from ..errors import ArgumentError, ArgumentTypeError, kind, shown


@dataclass(frozen=True)
class Context:
    """What stands before a text, as a model reads it: these tokens and no others, special ones included.

    They condition and are not summed. A tokenizer may write the beginning of a text otherwise behind some texts than
    alone, with a space joined to it or without. So texts are encoded behind `behind`, and of what comes out the tokens
    `replaced` are left out, in whose place `ids` stand.

    Args:
        ids: the tokens; none of those that the tokenizer puts before a text by itself is added.
        behind: the text that texts are encoded behind.
        replaced: the tokens that all encodings of it with a text behind begin with, which are left out.
        after: tokens that stand behind each text, of what an encoder reads; None for those that the tokenizer puts
            there.

    Raises:
        ArgumentError: ids that are no whole numbers, 0 or more; a text that is none.

    Example:
        >>> from hf_canary import log_perplexity
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["to be or not to be"])
        >>> model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8))
        >>> ids = Context(tuple(tokenizer("or ")["input_ids"]))
        >>> one, other = (log_perplexity(model, tokenizer, ["to"], context=before) for before in (ids, "or "))
        >>> bool(one == other)
        True
    """

    ids: tuple[int, ...]
    behind: str = ""
    replaced: tuple[int, ...] = ()
    after: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "replaced", *(("after",) if self.after is not None else ())):
            given = getattr(self, name)
            try:
                tokens = tuple(map(operator.index, given))
            except (TypeError, ValueError):
                tokens = (-1,)
            if isinstance(given, str) or any(token < 0 for token in tokens):
                raise ArgumentError(
                    f"context.{name}", "token ids, whole numbers of 0 and more", shown(given), "Give a tuple of them."
                )
            object.__setattr__(self, name, tokens)
        if not isinstance(self.behind, str):
            raise ArgumentTypeError("context.behind", "a text", kind(self.behind), "Leave it out.")

    def as_json(self) -> dict[str, Any]:
        """A plain dict, of which `Context(**it)` makes it again."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class SourceContext:
    """What stands before texts of a causal model of which each has a source of its own there: each is put behind its
    own.

    A row is the tokens `ids`, and those of `before`, the source, `behind` and the text together, as the tokenizer
    writes the whole. What is written otherwise because the text follows belongs to the text, and is summed.

    Args:
        before: the text between the tokens and the source.
        behind: the text between the source and the canary.
        ids: the tokens before these; None for those that the tokenizer puts before a text by itself.

    Raises:
        ArgumentError: ids that are no whole numbers, 0 or more; a text that is none.

    Example:
        >>> SourceContext("User: ", " Assistant: ").around("What is Ada's PIN?")
        "User: What is Ada's PIN? Assistant: "
    """

    before: str = ""
    behind: str = ""
    ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("before", "behind"):
            if not isinstance(getattr(self, name), str):
                raise ArgumentTypeError(f"context.{name}", "a text", kind(getattr(self, name)), "Leave it out.")
        if self.ids is not None:
            object.__setattr__(self, "ids", Context(self.ids).ids)

    def around(self, source: str) -> str:
        """The text before the canary of a source."""
        return self.before + source + self.behind

    def as_json(self) -> dict[str, Any]:
        """A plain dict, of which `SourceContext(**it)` makes it again."""
        return {"before": self.before, "behind": self.behind, "ids": None if self.ids is None else list(self.ids)}


Before = Context | SourceContext | str | None
"""What may be given as a context: tokens, a text, or nothing; or the same with a source in it."""


def written_out(context: Before) -> Any:
    """As JSON takes it, in full."""
    return context.as_json() if isinstance(context, (Context, SourceContext)) else context


def check_context(argument: str, context: object) -> None:
    """Refuse what is no `Before`.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not _is_one(context):
        raise ArgumentTypeError(argument, "a text, or a Context of tokens", kind(context), "Leave it out for nothing.")
    if isinstance(context, str) and not is_unicode(context):
        raise ArgumentError(argument, "a text of Unicode characters", "half of a surrogate pair", "Decode it anew.")


def one_for_all(argument: str, context: Before) -> Context | str | None:
    """What stands before all texts alike.

    Raises:
        ArgumentTypeError: no context.
        ArgumentError: one behind which each text has a source of its own.
    """
    check_context(argument, context)
    if isinstance(context, SourceContext):
        raise ArgumentError(
            argument,
            "what stands before all texts alike",
            "a SourceContext, in which each text has a source of its own",
            "Give the text that stands before one of them, context.around(source).",
        )
    return context


def as_prompt(context: Before, source: str | None, *, fixed: str | None, prefix: Before = None) -> Before:
    """What a causal model reads before canaries whose format has a source: what was given, else the source.

    Args:
        context: what was given: all that stands before them, the source with it; None for nothing.
        source: of the format, holes and all; None where it has none.
        fixed: the source where it has no holes; None where each fill has its own.
        prefix: a text before the source, where no context was given.

    Raises:
        ArgumentError: a context in words, without the source in it, where each fill has its own.

    Example:
        >>> as_prompt(None, "What is your PIN?", fixed="What is your PIN?", prefix="User: ")
        'User: What is your PIN?'
        >>> as_prompt("User: PIN of {name}? Bot: ", "PIN of {name}?", fixed=None)
        SourceContext(before='User: ', behind=' Bot: ', ids=None)
    """
    if source is None or isinstance(context, (Context, SourceContext)) or context == "":
        return context
    if context is None and not isinstance(prefix, (str, type(None))):
        raise ArgumentTypeError("source_prefix", "a text, beside a causal model", kind(prefix), "Give context=.")
    text = f"{prefix or ''}{source}" if context is None else context
    if fixed is not None:
        return f"{prefix or ''}{fixed}" if context is None else context
    before, found, behind = text.rpartition(source)
    if not found:
        raise ArgumentError(
            "context",
            "the format's source in it, holes and all, since each fill has its own and is measured behind that",
            f"a text of {len(text)} characters without it",
            "Render the chat template with format.source as what the user says; or leave context= out.",
        )
    return SourceContext(before, behind)


def shortened(context: Before, most: int) -> Before:
    """A context of at most so many tokens, its last ones; one at least. Where each text has a source of its own, so
    many of those before it.
    """
    if isinstance(context, (str, type(None))) or context.ids is None:
        return context
    kept = max(0 if isinstance(context, SourceContext) else 1, most)
    return context if len(context.ids) <= kept else replace(context, ids=context.ids[len(context.ids) - kept :])


def one_for_each(context: Before | Sequence[Before], count: int, of: str, *, argument: str = "context") -> list[Before]:
    """The context of each of so many texts.

    Args:
        context: one for all, or a list with one for each.
        count: how many.
        of: what they are, in words.
        argument: what it is called.

    Raises:
        ArgumentError: not as many; something else, an `ArgumentTypeError`.
    """
    if context is None or isinstance(context, (Context, SourceContext, str)):
        check_context(argument, context)
        return [context] * count
    is_list = isinstance(context, Sequence) and all(map(_is_one, context))
    if not is_list or len(context) != count:
        given = f"{len(context)} of them" if is_list else kind(context)
        raise (ArgumentError if is_list else ArgumentTypeError)(
            argument,
            f"one text or Context for all, or a list with one for each of {count} {of}",
            given,
            "None in the list stands for nothing.",
        )
    for each in context:
        check_context(argument, each)
    return list(context)


def _is_one(given: object) -> bool:
    return given is None or isinstance(given, (Context, SourceContext, str))

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


Before = Context | str | None
"""What may be given as a context: tokens, a text, or nothing."""


def check_context(argument: str, context: object) -> None:
    """Refuse what is no `Before`.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not _is_one(context):
        raise ArgumentTypeError(argument, "a text, or a Context of tokens", kind(context), "Leave it out for nothing.")
    if isinstance(context, str) and not is_unicode(context):
        raise ArgumentError(argument, "a text of Unicode characters", "half of a surrogate pair", "Decode it anew.")


def shortened(context: Before, most: int) -> Before:
    """A context of at most so many tokens, its last ones; one at least."""
    if not isinstance(context, Context) or len(context.ids) <= max(1, most):
        return context
    return replace(context, ids=context.ids[-max(1, most) :])


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
    if context is None or isinstance(context, (Context, str)):
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
    return given is None or isinstance(given, (Context, str))

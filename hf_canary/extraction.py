"""Extraction: the cheapest fills of a format under a model, with what is proven about them (§8).

Joins model, tokenizer and format to the search walk. Knows no canary: it is told a format, not what was inserted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .encoding import end_token
from .errors import FormatError, is_int, shown
from .formats import CanaryFormat
from .language_model import LanguageModel, evaluating
from .token_tree import TokenTree
from .walks.search import Progress, search


@dataclass(frozen=True)
class Candidate:
    """One fill with its text and log-perplexity (bits, lower means better memorised)."""

    text: str
    fill: int
    log_perplexity: float


@dataclass(frozen=True)
class Extraction:
    """What a search found, and what it proved.

    Args:
        candidates: the cheapest candidates, in ascending log-perplexity; those of probability 0 are left out.
        certified: True means proven: no other candidate of the format is likelier than these. False means that a cap
            ended the search; they are the best so far.
        expanded: prefixes whose children were scored, the work done; compare it with |R|.
        lower_bound: every candidate not listed costs at least so many bits.
    """

    candidates: tuple[Candidate, ...]
    certified: bool
    expanded: int
    lower_bound: float

    @property
    def proof(self) -> str:
        """What is proven, in words."""
        if self.certified:
            these = "" if len(self.candidates) == 1 else " than these"
            return f"proven: no other candidate is likelier{these}"
        return f"not proven: the search was stopped; every other candidate costs at least {self.lower_bound:.2f} bits"


def extract(
    model: Any,
    tokenizer: Any,
    format: CanaryFormat,
    *,
    context: str | None = None,
    end: bool = False,
    top_k: int = 1,
    batch_size: int | None = None,
    max_expanded: int | None = None,
    max_seconds: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Extraction:
    """The `top_k` candidates of the format that the model finds likeliest, by shortest-path search (§8.2).

    The search is best first and batched. It ends with a proof, when every open prefix costs at least as much as the
    worst candidate kept, or at a cap; then the result says what is proven so far. The model's mode and every random
    state are left as they were.

    Args:
        model: a causal language model of transformers or of `hf_canary.models`.
        tokenizer: its tokenizer, of any kind.
        format: candidates must not be prefixes of one another, unless `end` tells them apart.
        context: text before the canary; conditioned on, not summed.
        end: whether the end token follows each candidate and is summed.
        top_k: how many candidates.
        batch_size: prefixes of one forward pass; None chooses.
        max_expanded: stop after so many prefixes.
        max_seconds: stop after so long.
        progress: called after each batch with a `Progress`.

    Returns:
        The candidates with their log-perplexities in bits (lower means better memorised), equal to what
        `log_perplexity` gives for their texts.

    Raises:
        FormatError: `top_k` above |R|, or candidates that are prefixes of one another.
        ModelError: a tokenizer that does not know a character, logits that are no numbers.

    Example:
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["my pin is 0123456789"])
        >>> model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8))
        >>> found = extract(model, tokenizer, CanaryFormat("my pin is {digit:4}"), top_k=3)
        >>> found.certified, len(found.candidates)
        (True, 3)
    """
    if not is_int(top_k) or not 1 <= top_k <= format.space_size:
        raise FormatError(
            "top_k", f"1 to |R| = {shown(format.space_size)}", shown(top_k), "Ask for as many as the format has."
        )
    tree = TokenTree(format, tokenizer, context=context, end=end_token(tokenizer) if end else None)
    with evaluating(model) as bare:
        language_model = LanguageModel(bare, batch_size=batch_size)
        language_model.check_causal()
        found = search(
            language_model,
            tree,
            top_k=top_k,
            max_expanded=max_expanded,
            max_seconds=max_seconds,
            progress=progress,
        )
    tree.check([leaf.path for leaf in found.leaves])
    texts = [tree.text(leaf.path) for leaf in found.leaves]
    return Extraction(
        candidates=tuple(
            Candidate(text, format.parse(text), leaf.cost) for text, leaf in zip(texts, found.leaves, strict=True)
        ),
        certified=found.certified,
        expanded=found.expanded,
        lower_bound=found.lower_bound,
    )

"""Two doors to `generate`: the mask of a format's tree over the logits, and the search in place of decoding.

Only what a format's canonical encodings allow is left to choose from, at the log-probabilities that the model gives.
Knows the tree of a format and what `generate` hands over; knows no canary, and how a search goes is the walk's matter.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from transformers import LogitsProcessor
from transformers.generation.utils import GenerateBeamDecoderOnlyOutput, GenerateBeamEncoderDecoderOutput

from .arguments import as_python, check_batch_size, check_expanded, check_flag, check_memory, check_tokenizer
from .arrays import LN2, Ints
from .errors import ArgumentError, FormatError, ModelError, is_int, shown
from .formats.canary_format import CanaryFormat, check_format
from .inference.cache_adapters import Encoded
from .inference.evaluation import evaluating
from .inference.language_model import MEMORY, LanguageModel
from .inference.wrappers import generating
from .runtime.deadline import Deadline
from .tokenization.contexts import Before, one_for_all
from .tokenization.encoding import end_token
from .tree.token_tree import TokenTree
from .walks.search.goals import Cheapest
from .walks.search.run import after_prompt, go_on
from .walks.search.search import Search

logger = logging.getLogger(__name__)

# Where a row of tokens stands in the tree: at one of its states, or at one of these.
_ENDED, _OFF = -1, -2

Path = tuple[int, ...]


class _Guide:
    """The encodings of a format's candidates as rows of tokens, counted from the canary's first token.

    Attributes:
        tree: the format's.
        target: whether a decoder writes them.
        before: tokens that the tokenizer, and the context, put before the canary.
        common_tokens: the canary's tokens that all candidates begin with.
        lengths: how many tokens stand before the canary: one number for all rows, or one for each prompt.
    """

    def __init__(
        self, format: CanaryFormat, tokenizer: Any, context: Before, end: bool, target: bool, lengths: Any
    ) -> None:
        one_for_all("context", context)
        format.check_fixed("context", context)
        behind = end_token(tokenizer, target=target) if end else None
        self.tree = TokenTree(format, tokenizer, context=context, end=behind, target=target)
        self.target = target
        self.before = self.tree.prompt[: self.tree.conditioned]
        self.common_tokens = tuple(self.tree.prompt[self.tree.conditioned :])
        self.end = behind
        self._tokenizer = tokenizer
        # A decoder has its start token before all that the tokenizer knows of.
        least = len(self.before) + target
        self.lengths = _checked_lengths(least if lengths is None else lengths)
        if target and min(self.lengths) < least:
            raise ArgumentError(
                "prompt_length",
                f"{least} or more: a decoder's start token, what the tokenizer puts before a text, and the context",
                str(min(self.lengths)),
                "Leave it out: what a decoder's prompt lacks of these is written by itself.",
            )

    def length_of(self, row: int, rows: int) -> int:
        """How many tokens stand before the canary in a row; `generate` repeats each prompt for its beams."""
        count = len(self.lengths)
        if count > 1 and rows % count:
            raise ArgumentError(
                "prompt_length",
                "one number, or one for each prompt",
                f"{count} numbers for {rows} rows",
                "Give as many as there are prompts.",
            )
        return self.lengths[row * count // rows]

    def begins(self, tokens: int) -> bool:
        """Whether a decoder with so many tokens has yet to write some of what stands before the canary."""
        return self.target and self.lengths == [len(self.before) + 1] and tokens <= len(self.before)

    def begun(self, row: list[int]) -> list[int]:
        """A row with all that stands before the canary, where a decoder has yet to write some of it.

        Raises:
            ModelError: it has begun otherwise.
        """
        if not self.begins(len(row)):
            return row
        if row[1:] != self.before[: len(row) - 1]:
            raise ModelError(
                "decoder_input_ids",
                f"behind the start token what the tokenizer puts before a text, and the context: token ids "
                f"{shown(self.before)}",
                shown(row[1:]),
                "Leave decoder_input_ids out: they are written by themselves.",
            )
        return [row[0], *self.before]

    def check_forced(self, forced: int) -> None:
        """Refuse a first token that `generate` forces, if it is not the one that the tokenizer puts first.

        Raises:
            ModelError: it is another.
        """
        first = self.before[0] if self.begins(1) else None
        if forced != first:
            raise ModelError(
                "forced_bos_token_id",
                f"{first}, the token that the tokenizer puts before a text" if first is not None else "None",
                f"{forced}, which generate would write first",
                f"Give generate forced_bos_token_id={first}, or set up the tokenizer for the target's language.",
            )

    def canary_in(self, row: Sequence[int], length: int) -> Path:
        """The tokens behind the first `length`."""
        if len(row) < length:
            raise ArgumentError(
                "prompt_length",
                f"at most {len(row)}, the tokens that generate was given",
                str(length),
                f"Let the prompt begin as prompt_ids do{self._or_a_decoders}",
            )
        return tuple(row[length:])

    def state_of(self, path: Path) -> int:
        """Where tokens stand."""
        state = self.tree.root
        for at, token in enumerate(path):
            state = self.after(state, at, token)
        return state

    def after(self, state: int, at: int, token: int) -> int:
        """Where tokens stand after one more, when `at` of them have led to a state."""
        if state < 0:
            return state
        if at < len(self.common_tokens):
            return state if token == self.common_tokens[at] else _OFF
        edges = self.tree.edges(state)
        edge = int(np.searchsorted(edges.tokens, token))
        if edge == len(edges.tokens) or edges.tokens[edge] != token:
            return _OFF
        if edges.is_leaf[edge] and edges.states[edge] >= 0:
            raise FormatError(
                "format",
                "candidates whose encodings are not prefixes of one another",
                f"one of {shown(self.tree.format.template)} that is the beginning of another's",
                "Give end=True, or let the format end in fixed text.",
            )
        return int(edges.states[edge])  # -1, which is _ENDED, behind a leaf

    def allowed(self, state: int, at: int) -> Ints:
        """The tokens that may follow, ascending."""
        if state == _OFF:
            return np.empty(0, dtype=np.int64)
        if state == _ENDED:
            return np.array([end_token(self._tokenizer, target=self.target)])
        if at < len(self.common_tokens):
            return np.array([self.common_tokens[at]])
        return self.tree.edges(state).tokens

    def refuse(self, path: Path) -> NoReturn:
        """No candidate begins with these."""
        same = next(
            (at for at, pair in enumerate(zip(path, self.common_tokens, strict=False)) if pair[0] != pair[1]), None
        )
        same = min(len(path), len(self.common_tokens)) if same is None else same
        raise ArgumentError(
            "prompt_length",
            f"behind so many tokens nothing, or those that {shown(self.tree.format.template)} begins with: token ids "
            f"{shown(list(self.common_tokens))}",
            f"{same} of them, and then {len(path) - same} others",
            f"Let prompts end before the canary, or with prompt_ids of this object{self._or_a_decoders}",
        )

    @property
    def _or_a_decoders(self) -> str:
        if self.target:
            return "; a decoder's prompt is decoder_input_ids, its start token first."
        return "; for an encoder-decoder, say target=True."


def _checked_lengths(given: Any) -> list[int]:
    given = as_python(given)
    lengths = list(given) if isinstance(given, (list, tuple)) else [given]
    if not lengths or not all(is_int(length) and length >= 0 for length in lengths):
        raise ArgumentError(
            "prompt_length",
            "a whole number, 0 or more, or one for each prompt",
            shown(given),
            "Count the tokens before the canary's first one, padding included.",
        )
    return [int(length) for length in lengths]


class FormatLogitsProcessor(LogitsProcessor):
    """Lets `generate` write candidates of a format and nothing else, in the encodings that the tokenizer gives them.

    What is left keeps its log-probability; nothing is normalised anew. So the scores that beam search gives its
    sequences, with `length_penalty=0`, are −ln 2 times the bits of what follows the prompt: the log-perplexity, if the
    prompt ends where the canary begins. (Greedy search and sampling choose among what is left.) Behind a candidate
    only the end token may follow, at log-probability 0. A beam for which nothing is left has a score of −∞.

    Works with batches, beams and encoder-decoders, in any number of `generate` calls, and never writes into what it is
    given. The end token is the tokenizer's: where `model.generation_config` has another, give `generate` that one, as
    `eos_token_id=`.

    Args:
        format: candidates must not be prefixes of one another, unless `end` tells them apart.
        tokenizer: the model's, of any kind.
        prompt_length: how many tokens stand before the canary in each row that `generate` is given, padding and a
            decoder's start token included; or a list, one for each prompt of a batch. None: as many as in
            `prompt_ids` before the canary. What a decoder's prompt lacks of these is written, at log-probability 0.
        context: text before the canary, if there is any that `prompt_ids` should have.
        end: whether the end token of each candidate keeps its log-probability.
        target: whether the candidates are what a decoder writes, which the tokenizer encodes with `text_target=`.

    Attributes:
        prompt_ids: the longest beginning, in tokens, that all candidates share, with what the tokenizer puts before a
            text and the context. A text cut before its first hole is often none: with most sub-words, a space there
            belongs to what follows. Behind a decoder's start token, or without one, it need not be given: it is all
            that may be written.
        prompt_lengths: how many tokens stand before the canary: one number for all, or one for each prompt.

    Raises:
        FormatError: candidates that are prefixes of one another.
        ModelError: a tokenizer that does not know a character, or has no end token; in `generate`, a prompt that no
            candidate begins with, a first token that `generate` forces and the tokenizer does not put there, or a model
            without some of the tokens.

    Example:
        >>> import torch
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["my pin is 0123456789"])
        >>> model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8))
        >>> processor = FormatLogitsProcessor(CanaryFormat("my pin is {digit:4}"), tokenizer)
        >>> prompt = torch.tensor([processor.prompt_ids])
        >>> ids = model.generate(prompt, logits_processor=[processor], max_new_tokens=5, num_beams=3)
        >>> text = tokenizer.decode(ids[0], skip_special_tokens=True)
        >>> text[:10], text[10:].isdigit(), len(text)
        ('my pin is ', True, 14)

        What an encoder-decoder writes; its decoder's prompt need not be given:

        >>> from hf_canary.models import RNNForConditionalGeneration, TranslationConfig
        >>> tokenizer = character_tokenizer(["my code is 0123456789", "mon code est"], end_token=True)
        >>> sizes = {"vocab_size": len(tokenizer), "embedding_size": 8, "hidden_size": 8}
        >>> config = TranslationConfig(**sizes, decoder_start_token_id=tokenizer.eos_token_id)
        >>> model = RNNForConditionalGeneration(config).eval()
        >>> processor = FormatLogitsProcessor(CanaryFormat("mon code est {digit:4}"), tokenizer, target=True)
        >>> source = tokenizer("my code is 4711", return_tensors="pt")
        >>> ids = model.generate(**source, logits_processor=[processor], max_new_tokens=17, num_beams=3)
        >>> text = tokenizer.decode(ids[0], skip_special_tokens=True)
        >>> text[:13], text[13:].isdigit(), len(text)
        ('mon code est ', True, 17)
    """

    def __init__(
        self,
        format: CanaryFormat,
        tokenizer: Any,
        prompt_length: int | Sequence[int] | None = None,
        *,
        context: Before = None,
        end: bool = False,
        target: bool = False,
    ) -> None:
        check_format(format)
        check_tokenizer(tokenizer)
        for argument, given in (("end", end), ("target", target)):
            check_flag(argument, given)
        end_token(tokenizer, target=target)  # or it says now that there is none
        self._guide = _Guide(format, tokenizer, context, end, target, prompt_length)
        self.prompt_ids = list(self._guide.tree.prompt)
        self.prompt_lengths = self._guide.lengths
        self._states: dict[Path, int] = {}  # where the rows of the step before stood
        self._step = -1

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """(n_rows, n_tokens) ids so far and (n_rows, n_vocabulary) logits or log-probabilities → these, masked."""
        rows = input_ids.tolist()
        guide = self._guide
        forced = _forced(scores) if input_ids.shape[1] == 1 or guide.end is not None else None
        if guide.target and input_ids.shape[1] == 1 and forced is not None:
            guide.check_forced(forced)
        if guide.begins(input_ids.shape[1]):
            return self._with_what_stands_before(rows, scores)
        paths = [guide.canary_in(row, guide.length_of(number, len(rows))) for number, row in enumerate(rows)]
        states = self._follow(paths, goes_on=input_ids.shape[1] == self._step + 1)
        self._states, self._step = dict(zip(paths, states, strict=True)), input_ids.shape[1]
        masked = torch.full_like(scores, -math.inf)
        rows_of: dict[Path, list[int]] = {}
        for number, path in enumerate(paths):
            rows_of.setdefault(path, []).append(number)
        for path, here in rows_of.items():
            allowed = guide.allowed(self._states[path], len(path))
            self._check_vocabulary(allowed, scores.shape[-1])
            if forced is not None and forced == guide.end and self._states[path] >= 0 and forced in allowed:
                raise _forced_end()
            index = (torch.tensor(here)[:, None].to(scores.device), torch.from_numpy(allowed).to(scores.device))
            masked[index] = 0.0 if self._states[path] == _ENDED else scores[index]
        if input_ids.shape[1] == 1 and forced is not None and not bool(masked.isfinite().any()):
            guide.check_forced(forced)
        return masked  # type: ignore[return-value]

    def _with_what_stands_before(self, rows: list[list[int]], scores: torch.FloatTensor) -> torch.FloatTensor:
        """The next token of what stands before the canary and nothing else, at log-probability 0: it conditions."""
        self._step = -1
        at, before = len(rows[0]) - 1, self._guide.before
        self._check_vocabulary(np.array(before), scores.shape[-1])
        right = [row[1:] == before[:at] for row in rows]
        if not any(right):
            self._guide.begun(rows[0])
        masked = torch.full_like(scores, -math.inf)
        masked[torch.tensor(right, device=scores.device), before[at]] = 0.0
        return masked  # type: ignore[return-value]

    def _follow(self, paths: list[Path], goes_on: bool) -> list[int]:
        guide = self._guide
        if goes_on and all(path[:-1] in self._states for path in paths):
            states = [guide.after(self._states[path[:-1]], len(path) - 1, path[-1]) for path in paths]
            off = _OFF if all(state == _OFF for state in states) else None
        else:
            states = [guide.state_of(path) for path in paths]
            off = _OFF
        if off in states:
            guide.refuse(paths[states.index(_OFF)])
        return states

    def _check_vocabulary(self, allowed: Ints, vocabulary: int) -> None:
        if int(allowed.max(initial=-1)) >= vocabulary:
            raise ModelError(
                "tokenizer",
                f"ids below {vocabulary}, of which the model has logits",
                f"id {int(allowed.max())}",
                "Use the tokenizer that the model was trained with.",
            )


def _forced(scores: torch.Tensor) -> int | None:
    """The token that another of generate's processors has forced in all rows: none else is possible, and it costs 0."""
    possible = scores.isfinite()
    if bool((possible.sum(dim=-1) != 1).any()) or bool(scores[possible].any()):
        return None
    tokens = set(possible.int().argmax(dim=-1).tolist())
    return int(tokens.pop()) if len(tokens) == 1 else None


def _forced_end() -> ModelError:
    return ModelError(
        "forced_eos_token_id",
        "the model's own log-probability of the end token, which end=True counts",
        "an end that generate forces at its last token",
        "Raise max_new_tokens, or give generate forced_eos_token_id=None.",
    )


class CheapestFills:
    """The search as a decoding method: `model.generate(ids, custom_generate=CheapestFills(format, tokenizer))`.

    `generate` then returns the `top_k` likeliest candidates of the format behind each prompt, the likeliest first, and
    it is proven that no other is likelier; a search that was ended before logs what is proven. With
    `return_dict_in_generate=True` there are `sequences_scores`: −ln 2 times the bits of what follows the prompt. A
    prompt may end with as much of the canary as all candidates share. Where fewer than `top_k` candidates were found,
    or are possible, the rest of the rows are the prompt alone, at a score of −∞. The format says how long the text is:
    of the generation config only `max_time` is heeded, for each prompt, and no processor or criterion of yours.

    Args:
        format: candidates must not be prefixes of one another, unless `end` tells them apart.
        tokenizer: the model's, of any kind.
        prompt_length: as in `FormatLogitsProcessor`.
        top_k: how many candidates for each prompt.
        context: as in `FormatLogitsProcessor`.
        end: whether the end token follows each candidate and is summed.
        target: as in `FormatLogitsProcessor`.
        batch_size: prefixes of one forward pass; None chooses.
        max_expanded: for each prompt, stop after so many prefixes.
        max_memory: bytes that open prefixes and forward passes may take, beside weights, vocabulary and tree, as in
            `extract`; None is 1 GiB.

    Attributes:
        prompt_ids: as in `FormatLogitsProcessor`.
        prompt_lengths: how many tokens stand before the canary: one number for all, or one for each prompt.

    Raises:
        ArgumentError: what is no format, tokenizer or number; `top_k` above |R|.
        FormatError: candidates that are prefixes of one another.
        ModelError: as in `FormatLogitsProcessor`; a decoder's start token that the model is not trained with.

    Example:
        >>> import torch
        >>> from hf_canary.models import LSTMConfig, LSTMForCausalLM, character_tokenizer
        >>> tokenizer = character_tokenizer(["my pin is 0123456789"])
        >>> model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8))
        >>> search = CheapestFills(CanaryFormat("my pin is {digit:4}"), tokenizer, top_k=2)
        >>> ids = model.generate(torch.tensor([search.prompt_ids]), custom_generate=search, max_new_tokens=4)
        >>> len(ids), len(tokenizer.decode(ids[0], skip_special_tokens=True))
        (2, 14)
    """

    def __init__(
        self,
        format: CanaryFormat,
        tokenizer: Any,
        prompt_length: int | Sequence[int] | None = None,
        *,
        top_k: int = 1,
        context: Before = None,
        end: bool = False,
        target: bool = False,
        batch_size: int | None = None,
        max_expanded: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        batch_size = check_batch_size(batch_size)
        check_format(format)
        check_tokenizer(tokenizer)
        for argument, given in (("end", end), ("target", target)):
            check_flag(argument, given)
        top_k = format.check_top_k(top_k)
        max_expanded, max_memory = check_expanded(max_expanded), check_memory(max_memory)
        self._guide = _Guide(format, tokenizer, context, end, target, prompt_length)
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
        self._top_k, self._batch_size = top_k, batch_size
        self._max_expanded, self._max_memory = max_expanded, max_memory or MEMORY
        self.prompt_ids = list(self._guide.tree.prompt)
        self.prompt_lengths = self._guide.lengths

    def __call__(
        self,
        model: Any,
        input_ids: torch.LongTensor,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        generation_config: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        """What `generate` calls; returns (n_prompts · top_k, n_tokens) ids, or an output with scores beside them."""
        model = generating(model)
        repeated = max(generation_config.num_beams, generation_config.num_return_sequences)
        if model.config.is_encoder_decoder and model.training:
            raise ModelError(
                "model", "an encoder-decoder in evaluation", "one in training, whose encoder drops out", "Call eval()."
            )
        if model.config.is_encoder_decoder != self._guide.target:
            raise ArgumentError(
                "target",
                "True for an encoder-decoder, and for no other model",
                str(self._guide.target),
                f"Say target={model.config.is_encoder_decoder}.",
            )
        forced = generation_config.forced_bos_token_id
        if forced is not None and input_ids.shape[1] == 1:
            self._guide.check_forced(forced)
        rows = [self._guide.begun(row) for row in input_ids.tolist()]
        lengths = {number: self._guide.length_of(number, len(rows)) for number in range(0, len(rows), repeated)}
        for number, length in lengths.items():
            self._check_prompt(rows[number], length)
        sources: dict[int, Encoded] = {}
        if model.config.is_encoder_decoder:
            sources = {number: _encoded(model_kwargs, number, rows[number][0]) for number in lengths}
            self._check_starts(model, sources)
        sequences: list[list[int]] = []
        scores: list[float] = []
        for number, length in lengths.items():
            source = sources.get(number)
            first = _first_real(model_kwargs, number, len(rows[number])) if source is None else 1
            found, costs = self._searched(model, rows[number], first, length, source, generation_config.max_time)
            missing = self._top_k - len(found)  # not found in time, or of probability 0
            sequences += [[*rows[number][:length], *path] for path in found] + [rows[number]] * missing
            scores += [-LN2 * cost for cost in costs] + [-math.inf] * missing
        longest = max(map(len, sequences), default=0)
        ids: Any = input_ids.new_full((len(sequences), longest), self._pad)
        for row, sequence in zip(ids, sequences, strict=True):
            row[: len(sequence)] = row.new_tensor(sequence)
        if not generation_config.return_dict_in_generate:
            return ids
        kind = GenerateBeamEncoderDecoderOutput if model.config.is_encoder_decoder else GenerateBeamDecoderOnlyOutput
        return kind(sequences=ids, sequences_scores=torch.tensor(scores, device=ids.device))

    def _check_prompt(self, row: list[int], length: int) -> None:
        given = self._guide.canary_in(row, length)
        if given != self._guide.common_tokens[: len(given)]:
            self._guide.refuse(given)

    def _check_starts(self, model: Any, sources: dict[int, Encoded]) -> None:
        """Refuse a start token that the model is not trained with: the bits would be others than `log_perplexity`'s."""
        with evaluating(model) as bare:
            view, tree = LanguageModel(bare), self._guide.tree
            for source in sources.values():
                start = view.start(source, tree.first, tree.tail)
                if source.start != start:
                    raise ModelError(
                        "decoder_start_token_id",
                        f"the token that the decoder starts with in training, {start}",
                        str(source.start),
                        f"Give generate decoder_start_token_id={start}; if that is not the right one, set "
                        "model.config.decoder_start_token_id, or the tokenizer's target language.",
                    )

    def _searched(
        self, model: Any, row: list[int], first: int, length: int, source: Encoded | None, max_seconds: float | None
    ) -> tuple[list[list[int]], list[float]]:
        """The canary's tokens of the cheapest candidates, and the bits of what follows the prompt."""
        guide, tree = self._guide, self._guide.tree
        given = guide.canary_in(row, length)
        before, goal = [*row[first:length], *guide.common_tokens], Cheapest(self._top_k, tree.depth)
        with after_prompt(
            model, before, tree.depth, source=source, batch_size=self._batch_size, max_memory=self._max_memory
        ) as (view, session):
            summed = view.first_summed(max(0, length - first), len(before))
            search = Search(view, session, tree, goal, max_memory=self._max_memory)
            stopped = go_on(search, max_expanded=self._max_expanded, deadline=Deadline(max_seconds))
        written = session.prompt_bits[max(summed, length - first + len(given)) :].sum()
        if written == math.inf:  # what all candidates share has probability 0
            return [], []
        if not tree.is_certain:
            logger.warning("Not proven: the tokenizer is written in Python, so that encodings may have been missed.")
        elif not search.is_over:
            bound = written + search.lower_bound
            logger.warning(
                "Not proven: %s ended the search; any other candidate costs at least %.2f bits.", stopped, bound
            )
        fills = [tree.format.parse(text) for text in tree.texts(goal.leaves)]  # held against the tokenizer
        tree.assure(fills)
        return [[*guide.common_tokens, *path] for path in goal.leaves], (written + goal.costs).tolist()


def _first_real(model_kwargs: dict[str, Any], row: int, tokens: int) -> int:
    """Where a prompt begins behind its padding."""
    mask = model_kwargs.get("attention_mask")
    return 0 if mask is None else int(mask[row, :tokens].to(torch.int64).argmax())


def _encoded(model_kwargs: dict[str, Any], row: int, start: int) -> Encoded:
    """What the encoder made of one source, and what generate lets the decoder start with."""
    mask = model_kwargs.get("attention_mask")
    outputs = model_kwargs["encoder_outputs"]
    one = type(outputs)(**{name: _row(part, row) for name, part in outputs.items()})
    states = next(part for part in one.values() if isinstance(part, torch.Tensor))
    mask = states.new_ones(states.shape[:2], dtype=torch.long) if mask is None else mask[row : row + 1]
    return Encoded(one, mask, start)


def _row(part: Any, row: int) -> Any:
    return part[row : row + 1] if isinstance(part, torch.Tensor) else part

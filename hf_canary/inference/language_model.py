"""One view of a language model: start from a prompt, advance rows by tokens, read costs in bits, fork the state.

The one place where nats become bits, and the one that decides how many rows go into the model at once. How a model
keeps its state is the matter of `cache_adapters.py`. This file knows no format, no tokenizer and no walk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..arguments import check_batch_size, check_memory
from ..arrays import LN2, Floats, Ints
from ..errors import ModelError
from ..runtime.processes import Lockstep, all_reduce_sum, is_tensor_parallel, num_processes, split_over_processes
from .batching import BatchLimit
from .bits import bits_of_tokens, log_normalisers, nats_to_bits
from .cache_adapters import CacheAdapter, Encoded, Reader, RecurrentState, Source, TreeAttention
from .cache_checks import HALVES, TOLERANCE_NATS, TOLERANCE_NATS_HALF, CacheCheck, start
from .decoder_start import COMPARED, check_start, decoder_start
from .states import States
from .wrappers import check_model, is_quantized, num_virtual_tokens, vocabulary_sizes

# What to do where nothing stands before the first token.
GIVE_CONTEXT = (
    "Give context=: what stands before it in the training data, a line end, or tokenizer.bos_token if there is one"
)

_FLOAT_BYTES = 4
# What one forward pass and the states of a walk may take, and the rows beyond which a batch brings nothing.
MEMORY, _LEAST_MEMORY = 2**30, 2**26
_ROWS_AT_ONCE = 1024
# Tokens of a text by which a model is known again.
_ASKED = 16
# Tokens of all rows together, beyond which packed rows bring nothing.
_PACKED_AT_ONCE = 4096
# Longer paths are better read by themselves.
_PACKED_DEPTH = 48


def positions_of(model: Any, *, of_source: bool = False) -> int | None:
    """How many tokens a model may read, beside those that an adapter puts before them; None where nothing bounds them.
    Two halves have their own.
    """
    config = model.config
    config = getattr(config, "encoder", config) if of_source else config.get_text_config()
    limit = getattr(config, "max_position_embeddings", getattr(config, "max_seq_len", None))
    return limit - num_virtual_tokens(model) if isinstance(limit, int) else None


class LanguageModel:
    """A model, causal or encoder-decoder: what it can be told, and what it was told so far.

    Args:
        model: a `PreTrainedModel`; it is only called, inside `evaluating`.
        batch_size: rows of one forward pass; None lets the memory decide.
        max_memory: bytes for the logits of one pass and the states of a walk; None is 1 GiB, and a quarter of what is
            free where that is known, as on CUDA.

    Attributes:
        token_rows: how many tokens were fed to the model so far, summed over rows; a session's check of the cache
            and what is replayed are not among them.
    """

    def __init__(self, model: Any, *, batch_size: int | None = None, max_memory: int | None = None) -> None:
        self.batch_size, max_memory = check_batch_size(batch_size), check_memory(max_memory)
        self.model = model
        check_model(model)
        self.max_memory = _memory_of(_device(model)) if max_memory is None else max_memory
        self._source_vocabulary, self.vocabulary = vocabulary_sizes(model)
        self.token_rows = 0
        self._read_prompt: _ReadPrompt | None = None
        self._starts: set[int] = set()
        self._lockstep = Lockstep(model)
        if self._lockstep.needed and self.is_encoder_decoder:
            raise ModelError(
                "model",
                "a causal model, or an encoder-decoder that is whole in each process",
                f"{type(model).__name__}, sharded over the processes",
                "Measure it in one process, or without FSDP and ZeRO-3.",
            )
        if self.is_encoder_decoder and num_virtual_tokens(model):
            raise ModelError(
                "model",
                "a causal model, or an encoder-decoder without virtual tokens",
                f"{type(model).__name__} with a prompt or prefix of {num_virtual_tokens(model)} virtual tokens",
                "Such models cannot be measured; with model.disable_adapter(): measures the base.",
            )

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether it reads a source before it writes."""
        return bool(self.model.config.is_encoder_decoder)

    @property
    def is_half(self) -> bool:
        """Whether some of its weights have less than float32's precision, or are quantised: then what a token costs
        differs from pass to pass by more.
        """
        return is_quantized(self.model) or any(weight.dtype in HALVES for weight in self.model.parameters())

    @property
    def starts_itself(self) -> bool:
        """Whether the model says what comes first: a decoder behind its start token; one of ours with a state."""
        return self.is_encoder_decoder or hasattr(self.model, "initial_logits")

    def first_summed(self, conditioned: int, common: int) -> int:
        """From which token on costs are summed, when `conditioned` tokens stand before and all have `common` ones.

        With nothing before and a model that does not say what comes first, the first token conditions.

        Raises:
            ModelError: then the texts must share their first token, and do not.
        """
        if conditioned or self.starts_itself:
            return conditioned
        if common == 0:
            raise ModelError(
                "context",
                "something before texts that begin differently: the tokenizer puts no BOS there, and the model says "
                "nothing of a first token",
                "no context",
                GIVE_CONTEXT + ", or begin the format with fixed text.",
            )
        return 1

    def session(
        self,
        prompt: Sequence[int],
        depth: int,
        *,
        source: Source | Encoded | None = None,
        mixed: bool = False,
    ) -> Session:
        """Read the prompt, and the source before it. The same as the last one, for as many tokens, is not read again;
        but of several processes each may have had another, and those of a sharded model must do the same.

        Args:
            prompt: token ids; may be empty if the model starts itself.
            depth: how many tokens will be asked for after the prompt, at most.
            source: for the encoder of an encoder-decoder, or what it made of it; None for a causal model.
            mixed: whether rows of different age will stand in one batch, as those of a search do.

        Raises:
            ModelError: a source for a causal model or none for an encoder-decoder, more tokens than the model has
                positions, ids that it does not have, logits that are no numbers.
        """
        self.check_source(source is not None)
        read = self._read_prompt
        if read is None or not read.is_of(prompt, source, depth) or num_processes() > 1:
            self.forget_prompt()  # before another one is read
            read = self._read_prompt = _ReadPrompt(self, list(prompt), depth, source)
        return Session(self, read, mixed)

    def forget_prompt(self) -> None:
        """Read what comes next anew, whatever it is."""
        self._read_prompt = None

    def start(self, source: Sequence[int] | Encoded, text: Sequence[int], tail: Sequence[int]) -> int:
        """The token that the decoder starts with in training, as the model says of the labels of one text; held against
        the model's own pass on its labels, once for each token. That pass is not among the token rows.

        Args:
            source: ids for the encoder, or what it made of them.
            text: ids that the decoder writes, special tokens and context first, without an end.
            tail: ids that the tokenizer puts behind them in training.

        Raises:
            ModelError: it does not say, or its own pass is another.
        """
        self.check_ids(np.array([*text, *tail], dtype=np.int64), "texts")
        start = decoder_start(self.model, text, tail)
        self.check_ids(np.array([start], dtype=np.int64), "decoder's start")
        if start in self._starts:
            return start
        if isinstance(source, Encoded):
            read: torch.Tensor | Encoded = source
        else:
            self.check_ids(np.array(source, dtype=np.int64), "sources", of_source=True)
            read = self.tensor([list(source)])
        reader = Reader(self.model, read, start=start, before=self._lockstep.step)
        room = (self._positions(of_source=False) or COMPARED) - len(tail) - 1
        check_start(reader, read, [*text[: max(1, min(COMPARED, room))], *tail])
        self._starts.add(start)
        return start

    def bits_of_pairs(self, sources: Sequence[Source], targets: Sequence[Sequence[int]]) -> Floats:
        """The bits of each target's tokens after a source of its own, by one full pass.

        Args:
            sources: (n_rows) for the encoder, as long as its positions at most.
            targets: (n_rows) ids for the decoder, as long as its positions at most.

        Returns:
            (n_rows, longest) bits; 0 behind the end of a shorter target.
        """
        source_ids, source_lengths = self.padded([source.ids for source in sources], "sources", of_source=True)
        target_ids, target_lengths = self.padded(targets, "texts")
        reader = Reader(self.model, source_ids, source_lengths, before=self._lockstep.step)
        start = target_ids.new_tensor([[source.start] for source in sources])
        logits, _ = reader(torch.cat([start, target_ids[:, :-1]], dim=1), use_cache=False)
        self.token_rows += sum(map(len, targets))
        wanted = np.arange(target_ids.shape[1]) < target_lengths.cpu().numpy()[:, None]
        bits = bits_of_tokens(logits, target_ids.cpu().numpy()[..., None], wanted)[..., 0]
        return np.where(wanted, bits, 0.0)

    def bits_of_rows(self, rows: Sequence[Sequence[int]]) -> Floats:
        """The bits of each row's tokens after its first one, by one full pass of a causal model.

        Args:
            rows: (n_rows) ids, none empty, as long as its positions at most.

        Returns:
            (n_rows, longest) bits; 0 for a first token, and behind the end of a shorter row.
        """
        ids, lengths = self.padded(rows, "texts")
        logits, _ = Reader(self.model, None, before=self._lockstep.step)(ids[:, :-1], use_cache=False)
        self.token_rows += sum(map(len, rows))
        wanted = np.arange(1, ids.shape[1]) < lengths.cpu().numpy()[:, None]
        bits = bits_of_tokens(logits, ids[:, 1:].cpu().numpy()[..., None], wanted)[..., 0]
        return np.pad(np.where(wanted, bits, 0.0), ((0, 0), (1, 0)))

    def answers(self) -> Floats:
        """(n,) bits of a few fixed tokens, by full passes: what tells this model from another, whatever changed it."""
        length = min(_ASKED, self._positions(of_source=False) or _ASKED)
        ids = np.random.default_rng(0).integers(0, self.vocabulary, size=(3, length))
        source = Source(tuple(ids[2].tolist()), start=int(ids[2, 0])) if self.is_encoder_decoder else None
        reader = self.reader(source)
        start = self.tensor(ids[:2, :-1]).new_tensor(reader.lead).expand(2, -1)
        logits, _ = reader(torch.cat([start, self.tensor(ids[:2, :-1])], dim=1), use_cache=False)
        return np.ravel(bits_of_tokens(logits[:, len(reader.lead) :], ids[:2, 1:, None]))

    def read_at_once(self, rows: int, tokens: int) -> int:
        """One full pass over random ids, of which nothing is asked, to see how long it takes.

        Args:
            rows: fewer are read where the memory does not hold the logits of all.
            tokens: of each row; no more than the model has positions.

        Returns:
            How many tokens were read, of all rows.
        """
        for of_source in (False, True):
            tokens = min(tokens, self._positions(of_source=of_source) or tokens)
        rows = max(1, min(rows, self.max_memory // (tokens * self.vocabulary * _FLOAT_BYTES)))
        least = min(self.vocabulary, self._source_vocabulary)
        ids = self.tensor(np.random.default_rng(0).integers(0, least, size=(rows, tokens)))
        source = ids if self.is_encoder_decoder else None
        logits, _ = Reader(self.model, source, before=self._lockstep.step)(ids, use_cache=False)
        float(logits[-1, -1, 0])  # an accelerator is done only when it is asked
        return rows * tokens

    @property
    def tolerance(self) -> float:
        """By how many bits what a token costs may differ between two ways of reading it that are both right."""
        return (TOLERANCE_NATS_HALF if self.is_half else TOLERANCE_NATS) / LN2

    def pairs_at_once(self, tokens: int) -> int:
        """How many rows of so many tokens of source and target together go into one full pass."""
        if self.batch_size is not None:
            return self.batch_size
        return max(1, min(_ROWS_AT_ONCE, self.max_memory // (tokens * self.vocabulary * 2 * _FLOAT_BYTES)))

    def in_shares(self, count: int, work: Callable[[Ints], Floats], *, width: tuple[int, ...] = ()) -> Floats:
        """What `work` says of the numbers below `count`, of which each process does a share.

        A model that is sharded over the processes is called along until none of them has work left; where its layers
        are split over them, each does all.

        Args:
            count: of numbers.
            work: (n,) numbers → (n, *width) floats.
            width: the shape of what is said of one number.

        Returns:
            (count, *width) floats, the same in every process.
        """
        if is_tensor_parallel(self.model):
            return work(np.arange(count))
        return split_over_processes(count, work, self._idle, width=width)

    def rows_of_all(self, rows: int) -> int:
        """Token rows of all processes together, of this one's; where each does all, of one."""
        return rows if is_tensor_parallel(self.model) else int(all_reduce_sum(rows))

    def _idle(self) -> None:
        self._lockstep.drain(lambda: self.model(input_ids=self.tensor([[0]])))

    def reader(self, source: Source | Encoded | None) -> Reader:
        """The model after a source, or without one."""
        if source is None:
            return Reader(self.model, None, before=self._lockstep.step)
        read = source if isinstance(source, Encoded) else self.tensor([list(source.ids)])
        return Reader(self.model, read, start=source.start, before=self._lockstep.step)

    def padded(
        self, sequences: Sequence[Sequence[int]], argument: str, *, of_source: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(n_rows, longest) ids padded on the right with 0, and (n_rows,) lengths."""
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        ids = np.zeros((len(sequences), int(lengths.max())), dtype=np.int64)
        for row, sequence in zip(ids, sequences, strict=True):
            row[: len(sequence)] = sequence
        self.check_ids(ids, argument, of_source=of_source)
        return self.tensor(ids), self.tensor(lengths)

    def tensor(self, ids: Any) -> torch.Tensor:
        """Whole numbers where the model reads them."""
        return torch.as_tensor(ids, dtype=torch.long, device=_device(self.model))

    def check_source(self, given: bool, argument: str = "source") -> None:
        """Refuse a source that nobody reads, and the lack of one."""
        if given == self.is_encoder_decoder:
            return
        raise ModelError(
            argument,
            "what it reads before it writes" if not given else "no source: a causal model reads none",
            "none" if not given else "one",
            f"{type(self.model).__name__} is "
            + ("an encoder-decoder model: say what it translates." if not given else "causal: give context= instead."),
        )

    def check_ids(self, ids: Ints, argument: str, *, of_source: bool = False) -> None:
        """Refuse ids that the model's embedding does not have, or its encoder's."""
        vocabulary = self._source_vocabulary if of_source else self.vocabulary
        if ids.size and (int(ids.max()) >= vocabulary or int(ids.min()) < 0):
            raise ModelError(
                "tokenizer",
                f"ids below {vocabulary}, the size of the model's embedding",
                f"id {int(ids.max())} in the {argument}",
                "Use the tokenizer that the model was trained with.",
            )

    def check_length(self, tokens: int, argument: str = "context", *, of_source: bool = False) -> None:
        """Refuse more tokens than the model has positions; nothing is cut off silently."""
        limit = self._positions(of_source=of_source)
        if limit is not None and tokens > limit:
            raise ModelError(
                argument,
                f"at most {limit} tokens, the model's positions"
                + (", for context and canary" if argument == "context" else ""),
                f"{tokens}",
                "Shorten it; nothing is cut off silently.",
            )

    def check_prompt(self, prompt: list[int], depth: int, source: Source | Encoded | None) -> None:
        """Refuse ids that the model does not have, and more tokens than it has positions."""
        self.check_ids(np.asarray(prompt, dtype=np.int64), "prompt")
        self.check_length(len(prompt) + depth)
        if isinstance(source, Source):
            self.check_ids(np.asarray(source.ids, dtype=np.int64), "sources", of_source=True)
            self.check_length(len(source.ids), "sources", of_source=True)

    def _positions(self, *, of_source: bool) -> int | None:
        """How many tokens the decoder may read, or the encoder; None where nothing bounds them."""
        return positions_of(self.model, of_source=of_source)


class _ReadPrompt:
    """What a model says after a prompt (and a source), which is read and whose cache is tried once for all sessions.

    Attributes:
        depth: how many tokens the cache is tried for.
        reader: of the model, behind the source.
        prompt_bits: as of a session.
        next_logits: (1, 1, vocabulary) of what may follow.
        cache_check: what tries the cache; None where nothing was read.
    """

    def __init__(
        self, language_model: LanguageModel, prompt: list[int], depth: int, source: Source | Encoded | None
    ) -> None:
        language_model.check_prompt(prompt, depth, source)
        self._prompt, self._source, self.depth = prompt, source, depth
        self.reader = reader = language_model.reader(source)
        self.cache_check: CacheCheck | None = None
        ids = [*reader.lead, *prompt]
        if not ids:
            self.next_logits = _initial_logits(language_model.model)
            self.prompt_bits = np.empty(0)
            return
        logits, _, self.cache_check = start(reader, language_model.tensor([ids]), depth)
        language_model.token_rows += len(ids)
        first = np.empty(0)
        if not reader.lead:  # else it is read after a decoder's start token
            first = np.full(1, np.nan)
            if language_model.starts_itself:
                first = np.ravel(bits_of_tokens(_initial_logits(language_model.model), np.array([[prompt[:1]]])))
        self.prompt_bits = np.concatenate([first, _bits_inside(ids, logits)])
        self.next_logits = logits[:, -1:].clone()  # or all of them would stay

    def is_of(self, prompt: Sequence[int], source: Source | Encoded | None, depth: int) -> bool:
        """Whether it is after this prompt and this source, and its cache is tried for so many tokens."""
        is_same = self._source is source or (isinstance(source, Source) and self._source == source)
        return is_same and self._prompt == list(prompt) and self.depth == depth


class Session:
    """A language model after one prompt (and one source): costs in bits of what may follow, and states that fork.

    Attributes:
        prompt_bits: (n_prompt,) bits of each prompt token given those before it; NaN for a first token of which the
            model says nothing.
    """

    def __init__(self, language_model: LanguageModel, read: _ReadPrompt, mixed: bool) -> None:
        self._language_model, self._read = language_model, read
        self.limit = BatchLimit(language_model.batch_size or _ROWS_AT_ONCE)
        self._depth, self._mixed = read.depth, mixed
        self.prompt_bits = read.prompt_bits
        self._prompt_length = max(1, len(read.prompt_bits))
        self._chosen: CacheAdapter | None = None

    @cached_property
    def state(self) -> States:
        """Of one row, after the prompt."""
        return self._adapter.initial()

    @property
    def _adapter(self) -> CacheAdapter:
        """How rows go on; tried when it is first asked for."""
        if self._chosen is None:
            self._chosen = self._choose()
        return self._chosen

    def _choose(self) -> CacheAdapter:
        cache_check = self._read.cache_check
        if cache_check is None:
            initial = self._language_model.model.initial_state()
            return RecurrentState(self._read.reader, type(initial), tuple(initial.rows()))
        return cache_check.adapter(mixed=self._mixed)

    @cached_property
    def _packing(self) -> TreeAttention | None:
        """How branches are read in one row, if they can be; tried when it is first asked for."""
        cache_check = self._read.cache_check
        return None if cache_check is None or self._depth > _PACKED_DEPTH else cache_check.packing

    @property
    def _needs(self) -> CacheAdapter:
        """What the memory is reckoned by; of who reads packed rows nothing else need be tried for it."""
        cache_check = self._read.cache_check
        if cache_check is None or self._chosen is not None or not self.packs:
            return self._adapter
        return cache_check.presumed(mixed=self._mixed)

    def bits(self, picks: Ints) -> Floats:
        """(n_picks,) tokens that may follow the prompt → their bits."""
        self._language_model.check_ids(picks, "tokens")
        bits: Floats = bits_of_tokens(self._read.next_logits, picks[None, None])[0, 0]
        return bits

    def advance(
        self, states: States, tokens: Ints, picks: Ints, *, lengths: Ints | None = None
    ) -> tuple[Floats, States]:
        """Feed `tokens` to the rows of `states`.

        Args:
            states: of n_rows rows.
            tokens: (n_rows, n_tokens); where `lengths` is given, padded on the right with any id.
            picks: (n_rows, n_tokens, n_picks) tokens whose bits are wanted after each token.
            lengths: (n_rows,) real tokens of each row; then no state may be used afterwards.

        Returns:
            (n_rows, n_tokens, n_picks) bits (meaningless where padded), and the states after the tokens.

        Raises:
            ModelError: logits that are not numbers, or a token that the model does not have.
        """
        self._language_model.check_ids(tokens, "tokens")
        self._language_model.check_ids(picks, "tokens")
        logits, after = self._adapter.advance(states, self._language_model.tensor(tokens))
        self._language_model.token_rows += int(tokens.size if lengths is None else lengths.sum())
        wanted = None if lengths is None else np.arange(tokens.shape[1]) < lengths[:, None]
        return bits_of_tokens(logits, picks, wanted), after

    @property
    def packs(self) -> bool:
        """Whether many branches are read in one row: what `read_packed` asks for. Not where they are long."""
        return self._packing is not None

    def read_packed(
        self, tokens: Ints, depths: Ints, ancestors: NDArray[np.bool_], rows: Ints, columns: Ints, picks: Ints
    ) -> Floats:
        """The bits of some tokens after packed ones.

        Args:
            tokens: (n_rows, n_tokens) ids, padded with any.
            depths: (n_rows, n_tokens) how many tokens stand between the prompt and each; -1 where padded.
            ancestors: (n_rows, n_tokens, n_tokens) whether the last axis' token is an ancestor, or the token itself.
            rows: (n,) in which row,
            columns: (n,) after which token,
            picks: (n,) or (n, n_picks) and of which tokens the bits are wanted.

        Returns:
            Bits, of the shape of the picks.
        """
        assert self._packing is not None
        language_model = self._language_model
        language_model.check_ids(tokens, "tokens")
        language_model.check_ids(picks, "tokens")
        ids = language_model.tensor(tokens)
        mask = torch.from_numpy(ancestors).to(ids.device)
        logits = self._packing.read(ids, language_model.tensor(np.maximum(depths, 0)), mask).float()
        language_model.token_rows += int((depths >= 0).sum())
        flat = logits.flatten(0, 1)
        del logits  # or there would be three of its size
        flat_indices, is_used = rows * tokens.shape[1] + columns, np.zeros(tokens.size, dtype=bool)
        is_used[flat_indices] = True
        if 2 * is_used.sum() < tokens.size:  # then it is less work to take out those behind which something is wanted
            flat = flat[torch.from_numpy(np.flatnonzero(is_used)).to(ids.device)]
            flat_indices, is_used = (np.cumsum(is_used) - 1)[flat_indices], np.ones(len(flat), dtype=bool)
        most, total = log_normalisers(flat, is_used)
        flat_index = torch.from_numpy(flat_indices).to(ids.device)
        pick = torch.from_numpy(picks.reshape(len(flat_indices), -1)).to(ids.device)
        nats = total[flat_index] + (most[flat_index] - flat[flat_index[:, None], pick])
        return nats_to_bits(nats).reshape(picks.shape)

    def packed_at_once(self, tokens: int) -> int:
        """How many rows of so many packed tokens go into one forward pass."""
        read = self._prompt_length + tokens
        bytes_of_row = tokens * _FLOAT_BYTES * (2 * self._language_model.vocabulary + 2 * read)
        bytes_of_row += self._needs.row_bytes * read // (self._prompt_length + self._depth)
        most = self._language_model.max_memory // bytes_of_row
        return max(1, min(max(1, _PACKED_AT_ONCE // tokens), self.limit.rows, most))

    def rows_at_once(self, tokens: int, levels: int = 1) -> int:
        """How many rows of so many new tokens go into one forward pass.

        Args:
            tokens: of each row.
            levels: how many batches of states a walk holds at once.
        """
        if self._language_model.batch_size is not None:
            return self.limit.rows
        needs = self._needs
        logits = (needs.replayed + max(1, tokens)) * self._language_model.vocabulary * 2 * _FLOAT_BYTES
        most = self._language_model.max_memory // (logits + levels * needs.row_bytes)
        return max(1, min(self.limit.rows, most))


def _initial_logits(model: Any) -> torch.Tensor:
    """(1, 1, vocabulary) of a model that says what comes first."""
    logits: torch.Tensor = model.initial_logits()
    return logits[None, None]


def _bits_inside(ids: list[int], logits: torch.Tensor) -> Floats:
    """(n_ids − 1,) of ids after the first one."""
    if len(ids) == 1:
        return np.empty(0)
    return bits_of_tokens(logits[:, :-1], np.array(ids[1:], dtype=np.int64)[None, :, None])[0, :, 0]


def _device(model: Any) -> torch.device:
    """Where ids go: with weights that are loaded when they are needed, where the first layer computes."""
    device: torch.device = model.device
    if device.type == "meta":
        device = torch.device(model._hf_hook.execution_device)
    return device


def _memory_of(device: torch.device) -> int:
    """A part of what is free, which a training needs too; small batches would leave such a device idle."""
    if device.type != "cuda":
        return MEMORY
    free, _ = torch.cuda.mem_get_info(device)
    return max(_LEAST_MEMORY, free // 4)

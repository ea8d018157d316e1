"""The cache of a model with a state: tensors whose first axis is the row, which `generate` and our walks can fork.

Knows no architecture: each model says what its rows hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class StateLayer(CacheLayerMixin):
    """The whole state of a model, as one layer of a cache; its size does not grow with the text."""

    supports_early_init = False

    def __init__(self) -> None:
        super().__init__()
        self.tensors: tuple[torch.Tensor, ...] = ()
        self.seen = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise NotImplementedError("a state has no keys and values")

    def update(self, key_states, value_states, *args, **kwargs):  # type: ignore[no-untyped-def]
        raise NotImplementedError("a state has no keys and values")

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.tensors, self.seen = (), 0

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self.tensors = tuple(tensor.index_select(0, indices.to(tensor.device)) for tensor in self.tensors)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.tensors = tuple(tensor.repeat_interleave(repeats, dim=0) for tensor in self.tensors)


class StateCache(Cache):
    """The `past_key_values` of a model with a state.

    `rows()` and `from_rows()` are what hf_canary asks of a model which is not a transformer.
    """

    def __init__(self) -> None:
        super().__init__(layers=[StateLayer()])

    @classmethod
    def from_rows(cls, tensors: Sequence[torch.Tensor]) -> StateCache:
        """A cache that holds these tensors; (rows, ...) each."""
        cache = cls()
        cache.put(tensors, 0)
        return cache

    @classmethod
    def after(cls, cache: StateCache | None, tensors: Sequence[torch.Tensor], tokens: int) -> StateCache:
        """The cache after so many tokens more: the same one, or a new one if there was none."""
        cache = cls() if cache is None else cache
        cache.put(tensors, tokens)
        return cache

    def rows(self) -> tuple[torch.Tensor, ...]:
        """The state, as tensors whose first axis is the row; empty before the first token."""
        return self._state.tensors

    def put(self, tensors: Sequence[torch.Tensor], tokens: int) -> None:
        """Replace the state by the one after so many tokens more."""
        self._state.tensors = tuple(tensors)
        self._state.seen += tokens

    @property
    def _state(self) -> StateLayer:
        layer = self.layers[0]
        assert isinstance(layer, StateLayer)
        return layer

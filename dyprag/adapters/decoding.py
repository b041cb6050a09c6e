"""Rows that are decoded together, token by token: their keys and values, and the prefix that their prompts share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from dyprag.model.base import BaseModel
from dyprag.model.batches import pad

MIN_SHARED_PREFIX = 32  # below it, a pass of its own costs more than it saves


class Decoding:
    """Rows that are written together: their keys and values, their tokens, and the logits of each one's next."""

    def __init__(self, base: BaseModel, prompts: Sequence[Sequence[int]], shared: int) -> None:
        self._base = base
        ids, mask = pad([prompt[shared:] for prompt in prompts], base, side="left")
        self._cache, self.tokens, self._mask = prefill(base, prompts[0][:shared], ids, mask)
        for index, layer in enumerate(self._cache.layers):
            if type(layer) is DynamicLayer:
                self._cache.layers[index] = _RoomyLayer(layer)
        self._forward(self.tokens[:, shared:], (self._mask.cumsum(1) - 1).clamp(min=0)[:, shared:])

    def _forward(self, ids: Tensor, positions: Tensor) -> None:
        self.logits = next_logits(self._base, ids, self._mask, positions, self._cache)

    def advance(self, tokens: Tensor) -> None:
        """Put one more token behind each row."""
        self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        self._forward(tokens[:, None], self._mask.sum(1, keepdim=True) - 1)

    def keep(self, places: Tensor) -> None:
        """Go on with some of the rows only."""
        self._cache.batch_select_indices(places)
        self.tokens, self._mask, self.logits = self.tokens[places], self._mask[places], self.logits[places]


def next_logits(base: BaseModel, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    """Logits of the token behind each row, [rows, vocabulary], float32; the rows' keys and values go into the cache."""
    states = base.model.get_decoder()(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    # of two dimensions and contiguous: given a slice of three, torch copies the vocabulary's matrix for each row
    return base.head(states[:, -1].contiguous()).float()


class _RoomyLayer(DynamicLayer):
    """Keys and values of one layer with room for more, where a DynamicLayer copies all of them at every token."""

    ROOM = 32

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        if layer.keys is not None and layer.values is not None:
            self.lazy_initialization(layer.keys, layer.values)
            self.update(layer.keys, layer.values)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put the states behind those that are there."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = keys = self._behind("_key_room", self.keys, key_states)
        self.values = values = self._behind("_value_room", self.values, value_states)
        return keys, values

    def _behind(self, name: str, past: Tensor | None, states: Tensor) -> Tensor:
        before = past.shape[-2] if past is not None and past.numel() else 0
        after = before + states.shape[-2]
        room: Tensor | None = getattr(self, name, None)
        if room is None or room.shape[0] != states.shape[0] or room.shape[-2] < after:
            room = states.new_empty((*states.shape[:-2], after + self.ROOM, states.shape[-1]))
            if past is not None and before:
                room[..., :before, :] = past
            setattr(self, name, room)
        room[..., before:after, :] = states
        return room[..., :after, :]


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all prompts share, leaving each at least one token; 0 where it is not worth it."""
    if len(prompts) < 2:
        return 0
    first, last = min(map(list, prompts)), max(map(list, prompts))  # whatever these two share, all share
    limit = min(len(prompt) for prompt in prompts) - 1
    shared = next((i for i, (x, y) in enumerate(zip(first, last, strict=False)) if x != y), limit)
    return min(shared, limit) if min(shared, limit) >= MIN_SHARED_PREFIX else 0


def prefill(base: BaseModel, prefix: Sequence[int], ids: Tensor, mask: Tensor) -> tuple[Any, Tensor, Tensor]:
    """Cache of a prefix for every row, and ids and mask with the prefix set before them."""
    cache = DynamicCache(config=base.model.config)
    if not prefix:
        return cache, ids, mask
    row = torch.tensor([list(prefix)], device=base.device)
    base.model.get_decoder()(input_ids=row, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(ids.shape[0])
    front = row.expand(ids.shape[0], -1)
    return cache, torch.cat([front, ids], dim=1), torch.cat([torch.ones_like(front), mask], dim=1)

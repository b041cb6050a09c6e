"""Token-by-token decoding of a batch: the key-value cache, and the prefixes that the prompts share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters
from dyprag.adapters.sharing import plan, whole
from dyprag.model.base import BaseModel, fits_window
from dyprag.model.batches import pad
from dyprag.model.prefixes import PrefixCache


class Decoding:
    """A batch that is being decoded: key-value cache, tokens so far, and the logits of each row's next token."""

    def __init__(
        self, base: BaseModel, prompts: Sequence[Sequence[int]], adapters: Adapters | None = None, new_tokens: int = 0
    ) -> None:
        """Read the prompts. What rows with the same adapter have in common at their beginning is read once.

        Args:
            base: the model.
            prompts: token ids of each prompt.
            adapters: [rows, layers, …], or [1, layers, …] for all rows; None for none.
            new_tokens: the number of tokens that are to be added at most.
        """
        self._base = base
        self._cache = DynamicCache(config=base.model.config)
        self.tokens: Tensor
        self._mask: Tensor
        if len(prompts) == 1 and base.prefixes and all(type(layer) is DynamicLayer for layer in self._cache.layers):
            self._read_new(prompts[0], adapters, base.prefixes)
            return
        owners = adapters.firsts() if adapters and adapters.docs > 1 else [0] * len(prompts)
        passes = plan(prompts, owners)
        if not fits_window(base, sum(each.width for each in passes) + new_tokens):
            passes = whole(prompts)  # padding after a shared prefix would count towards the window
        for each in passes:
            ids, mask = pad(each.tokens, base, side="left")
            if each.parents:
                parents = torch.tensor(each.parents, device=base.device)
                self._cache.batch_select_indices(parents)
                self.tokens = torch.cat([self.tokens[parents], ids], dim=1)
                self._mask = torch.cat([self._mask[parents], mask], dim=1)
            else:
                self.tokens, self._mask = ids, mask
            if each is passes[-1]:
                for index, layer in enumerate(self._cache.layers):
                    if type(layer) is DynamicLayer:
                        self._cache.layers[index] = PreallocatedLayer(layer)
            positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -each.width :]
            with inject(base, adapters and adapters.of_rows(each.prompts)):
                self._forward(ids, positions)
        # a repetition penalty is for the row's tokens, not for padding; the last column is never padding
        self.tokens = self.tokens.where(self._mask.bool(), self.tokens[:, -1:])

    def _read_new(self, prompt: Sequence[int], adapters: Adapters | None, prefixes: PrefixCache) -> None:
        """Read a single prompt after its longest beginning whose states are kept, and keep its own."""
        name = adapters.digest() if adapters else ""
        states = prefixes.find(name, prompt) or []
        for index, (keys, values) in enumerate(states):
            self._cache.update(keys[None], values[None], index)
        self._cache.layers = [PreallocatedLayer(layer) for layer in self._cache.layers]
        self.tokens = torch.tensor([list(prompt)], device=self._base.device)
        self._mask = torch.ones_like(self.tokens)
        known = states[0][0].shape[1] if states else 0
        positions = torch.arange(known, len(prompt), device=self._base.device)[None]
        with inject(self._base, adapters):
            self._forward(self.tokens[:, known:], positions)
        prefixes.add(name, prompt, [(layer.keys[0], layer.values[0]) for layer in self._cache.layers])

    def _forward(self, ids: Tensor, positions: Tensor) -> None:
        self.logits = next_logits(self._base, ids, self._mask, positions, self._cache)

    def advance(self, tokens: Tensor) -> None:
        """Append one token to each row and compute the next logits."""
        self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        self._forward(tokens[:, None], self._mask.sum(1, keepdim=True) - 1)

    def keep(self, rows: Tensor) -> None:
        """Keep only the given rows of the batch."""
        self._cache.batch_select_indices(rows)
        self.tokens, self._mask, self.logits = self.tokens[rows], self._mask[rows], self.logits[rows]


def next_logits(base: BaseModel, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    """Compute the logits of each row's next token, [rows, vocabulary], float32, and extend the cache."""
    states = base.model.get_decoder()(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    # two-dimensional and contiguous: for a three-dimensional slice, torch copies the vocabulary matrix once per row
    return base.head(states[:, -1].contiguous()).float()


class PreallocatedLayer(DynamicLayer):
    """Cache layer with preallocated space; a DynamicLayer copies all keys and values for every new token."""

    keys: Tensor
    values: Tensor

    def __init__(self, layer: DynamicLayer, spare: int = 32) -> None:
        """Take over a layer's states; `spare` is the number of tokens allocated beyond those stored."""
        super().__init__()
        self._spare = spare
        if layer.keys is not None and layer.values is not None:
            self.lazy_initialization(layer.keys, layer.values)
            self.update(layer.keys, layer.values)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append states; returns all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = keys = self._append("_key_buffer", self.keys, key_states)
        self.values = values = self._append("_value_buffer", self.values, value_states)
        return keys, values

    def _append(self, name: str, past: Tensor | None, states: Tensor) -> Tensor:
        before = past.shape[-2] if past is not None and past.numel() else 0
        after = before + states.shape[-2]
        buffer: Tensor | None = getattr(self, name, None)
        if buffer is None or buffer.shape[0] != states.shape[0] or buffer.shape[-2] < after:
            buffer = states.new_empty((*states.shape[:-2], after + self._spare, states.shape[-1]))
            if past is not None and before:
                buffer[..., :before, :] = past
            setattr(self, name, buffer)
        buffer[..., before:after, :] = states
        return buffer[..., :after, :]


def prefill(base: BaseModel, prefix: Sequence[int], ids: Tensor, mask: Tensor) -> tuple[Any, Tensor, Tensor]:
    """Compute a shared prefix once; returns its cache for every row, and `ids` and `mask` with the prefix prepended."""
    cache = DynamicCache(config=base.model.config)
    if not prefix:
        return cache, ids, mask
    row = torch.tensor([list(prefix)], device=base.device)
    base.model.get_decoder()(input_ids=row, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(ids.shape[0])
    front = row.expand(ids.shape[0], -1)
    return cache, torch.cat([front, ids], dim=1), torch.cat([torch.ones_like(front), mask], dim=1)

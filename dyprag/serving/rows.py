"""The rows of a decoding batch. Each has its own adapter, and rows join and leave between decoding steps (§3.3).

Keys, values and adapters are kept in preallocated tensors: a new row is appended, and a row that leaves is overwritten
by the last one. A change copies one row, and nothing is recomputed for the others.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from dyprag.adapters.decoding import PreallocatedLayer, next_logits
from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters
from dyprag.model.base import BaseModel
from dyprag.model.batches import pad
from dyprag.model.prefixes import States
from dyprag.serving.row_tables import ROOM, AdaptersTable, StatesTable


class Rows:
    """Rows of tokens on one base model. `logits` are those of each row's next token, [rows, vocabulary], float32.

    Not thread-safe: `join` and `advance` hold the model's lock, but the rows are not guarded.

    Args:
        first_layer: the first layer that adapters are injected into.
    """

    def __init__(self, base: BaseModel, first_layer: int = 0) -> None:
        self._base, self._first = base, first_layer
        self._table = AdaptersTable(base)
        self._layers = [StatesTable() for _ in range(base.layers)]
        self._cache = DynamicCache()
        self._cache.layers = list(self._layers)
        self._lengths: list[int] = []
        self.logits = torch.empty(0)

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def _width(self) -> int:
        return max(self._lengths, default=0)

    @torch.inference_mode()
    def join(
        self,
        prompts: Sequence[Sequence[int]],
        adapters: Sequence[Adapters | None],
        known: Sequence[States | None] = (),
    ) -> None:
        """Append rows and compute their prompts, padded to the longest. On failure, the earlier rows are unchanged.

        Args:
            prompts: token ids, one list per row.
            adapters: one per row, [1, layers, …], or None. They may differ in rank and scale.
            known: states of the beginning of each prompt, which is not read again, or None. At least the last token
                is read.
        """
        before = len(self)
        with self._base.lock:
            try:
                self._join(before, prompts, adapters, known or [None] * len(prompts))
            except BaseException:
                self._table.clear(before)
                for table in self._layers:
                    table.keep(before)
                self.logits = self.logits[:before]
                raise
            self._lengths += [len(prompt) for prompt in prompts]

    def _join(
        self, before: int, prompts: Sequence[Sequence[int]], adapters: Sequence[Adapters | None],
        known: Sequence[States | None],
    ) -> None:  # fmt: skip
        for row, adapter in enumerate(adapters, start=before):
            self._table.put(row, adapter)
        injected = self._table.rows(before, before + len(prompts))
        states, read = _read(self._base, prompts, known, injected, self._first)
        # two-dimensional: for a three-dimensional slice, torch copies the vocabulary matrix once per row
        logits = self._base.head(read).float()
        for table, (keys, values) in zip(self._layers, states, strict=True):
            table.join(before, self._width, keys, values)
        self.logits = torch.cat([self.logits, logits]) if before else logits

    def length(self, row: int) -> int:
        """The tokens of a row whose states are computed."""
        return self._lengths[row]

    def states(self, row: int) -> States:
        """A row's keys and values, [heads, tokens, head size] per layer, without a copy."""
        return [table.row(row, self._lengths[row]) for table in self._layers]

    @torch.inference_mode()
    def advance(self, tokens: Sequence[int]) -> None:
        """Append a token to each row and compute the logits of the next one."""
        with self._base.lock:
            width, device = self._width, self._base.device
            for table in self._layers:
                table.shorten(width)  # rows that have left may have been longer
            lengths = torch.tensor(self._lengths, device=device)[:, None]
            mask = (torch.arange(width + 1, device=device) >= width - lengths).long()
            with inject(self._base, self._table.rows(0, len(self)), self._first):
                ids = torch.tensor(tokens, device=device)[:, None]
                self.logits = next_logits(self._base, ids, mask, lengths, self._cache)
            self._lengths = [length + 1 for length in self._lengths]

    @torch.inference_mode()
    def leave(self, row: int) -> None:
        """Remove a row. The last row takes its index."""
        last = len(self) - 1
        if row != last:
            self._table.move(last, row)
            self._lengths[row] = self._lengths[last]
            self.logits[row] = self.logits[last]
        for table in self._layers:
            table.leave(row)
        self._table.clear(last)
        self._lengths.pop()
        self.logits = self.logits[:last]


def _read(
    base: BaseModel, prompts: Sequence[Sequence[int]], known: Sequence[States | None], injected: Adapters | None,
    first_layer: int,
) -> tuple[States, Tensor]:  # fmt: skip
    """Read the tokens of prompts that are not known.

    Known states are padded on the left and new tokens on the right, so that every row's tokens stay side by side.

    Returns:
        Keys and values of each layer, [rows, heads, tokens, head size], padded on the left with zeros to the longest
        row; and the hidden states of each row's last token, [rows, hidden].
    """
    before = [states[0][0].shape[1] if states else 0 for states in known]
    new = [len(prompt) - done for prompt, done in zip(prompts, before, strict=True)]
    front = max(before)
    ids, mask = pad([prompt[done:] for prompt, done in zip(prompts, before, strict=True)], base, side="right")
    cache, positions = DynamicCache(), None
    if front:
        starts = torch.tensor(before, device=base.device)[:, None]
        positions = starts + torch.arange(ids.shape[1], device=base.device)
        mask = torch.cat([(torch.arange(front, device=base.device) >= front - starts).long(), mask], 1)
        cache.layers = [_joined(known, front, layer) for layer in range(base.layers)]
    with inject(base, injected, first_layer):
        states = base.model.get_decoder()(
            # without padding on the left, no token sees any: the mask of causal attention suffices
            input_ids=ids, attention_mask=mask if front else None, position_ids=positions, past_key_values=cache,
            use_cache=True,
        ).last_hidden_state  # fmt: skip
    last = torch.tensor(new, device=base.device) - 1
    layers: list[Any] = list(cache.layers)
    aligned = [(_aligned(x.keys, front, before, new), _aligned(x.values, front, before, new)) for x in layers]
    return aligned, states[torch.arange(len(new), device=base.device), last].contiguous()


def _joined(known: Sequence[States | None], front: int, number: int) -> DynamicLayer:
    """The known states of one layer in one cache layer, padded on the left with zeros."""
    some = next(states[number] for states in known if states)
    layer = DynamicLayer()
    tables = []
    for which in range(2):
        like = some[which]
        table = like.new_zeros(len(known), like.shape[0], front, like.shape[2])
        for row, states in enumerate(known):
            if states:
                table[row, :, front - states[number][which].shape[1] :] = states[number][which]
        tables.append(table)
    layer.update(*tables)
    return layer


def _aligned(states: Tensor, front: int, before: Sequence[int], new: Sequence[int]) -> Tensor:
    """Move each row's states to the end of the longest row's range, with zeros before them."""
    lengths = [done + count for done, count in zip(before, new, strict=True)]
    width = max(lengths)
    if all(done == front and done + count == width for done, count in zip(before, new, strict=True)):
        return states
    table = states.new_zeros(*states.shape[:2], width, states.shape[3])
    for row, (done, length) in enumerate(zip(before, lengths, strict=True)):
        table[row, :, width - length :] = states[row, :, front - done : front - done + length]
    return table


class Reading:
    """The beginning of a prompt that is read piece by piece, before it gets a row.

    Args:
        known: states of the first tokens, which are not read again.
        most: the length of the prompt.
    """

    def __init__(
        self, base: BaseModel, adapter: Adapters | None, first_layer: int = 0, known: States | None = None,
        most: int = 0,
    ) -> None:  # fmt: skip
        self._base, self._adapter, self._first = base, adapter, first_layer
        self._cache = DynamicCache()
        before = known[0][0].shape[1] if known else 0
        layers = [_joined([known], before, layer) if known else DynamicLayer() for layer in range(base.layers)]
        self._cache.layers = [PreallocatedLayer(layer, most or ROOM) for layer in layers]

    def __len__(self) -> int:
        return int(self._cache.get_seq_length())

    @torch.inference_mode()
    def read(self, tokens: Sequence[int]) -> None:
        """Read the tokens that follow."""
        with self._base.lock, inject(self._base, self._adapter, self._first):
            ids = torch.tensor([list(tokens)], device=self._base.device)
            self._base.model.get_decoder()(input_ids=ids, past_key_values=self._cache, use_cache=True)

    @property
    def states(self) -> States:
        """The states of all tokens so far."""
        layers: list[Any] = list(self._cache.layers)
        return [(layer.keys[0], layer.values[0]) for layer in layers]

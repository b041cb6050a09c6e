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
from dyprag.model.base import PROJECTIONS, BaseModel
from dyprag.model.batches import pad
from dyprag.model.prefixes import States

ROOM = 64  # minimum number of tokens by which a table grows
SPARE = 4  # a table that has room for more than this multiple of its tokens is replaced by a smaller one


class Rows:
    """Rows of tokens on one base model. `logits` are those of each row's next token, [rows, vocabulary], float32.

    Not thread-safe: `join` and `advance` hold the model's lock, but the rows are not guarded.

    Args:
        first_layer: the first layer that adapters are injected into.
    """

    def __init__(self, base: BaseModel, first_layer: int = 0) -> None:
        self._base, self._first = base, first_layer
        self._table = _AdapterTable(base)
        self._layers = [_Table() for _ in range(base.layers)]
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


class _Table(DynamicLayer):
    """Keys and values of one layer, [rows, heads, tokens, head size], preallocated and aligned at the last token."""

    def __init__(self) -> None:
        super().__init__()
        self._count = self._begin = self._end = 0  # number of rows, and range of tokens in use
        self._tables: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append one token's states to each row."""
        self._make_room(key_states, self._count, 0, key_states.shape[-2])
        after = self._end + key_states.shape[-2]
        for table, states in zip(self._tables, (key_states, value_states), strict=True):
            table[: self._count, :, self._end : after] = states
        self._end = after
        keys, values = (table[: self._count, :, self._begin : after] for table in self._tables)
        return keys, values

    def get_seq_length(self) -> int:
        """The tokens of the longest row."""
        return self._end - self._begin

    def join(self, before: int, width: int, keys: Tensor, values: Tensor) -> None:
        """Append rows after the first `before`, the longest of which has `width` tokens."""
        self.is_initialized = True
        self.dtype, self.device = keys.dtype, keys.device
        if not before:
            self._begin = self._end = ROOM  # leave room in front for longer prompts
        self.shorten(width)
        tokens = keys.shape[-2]
        if not before:
            self._make_room(keys, len(keys), 0, tokens)
            self._end = self._begin + tokens
        else:
            self._make_room(keys, before + len(keys), max(0, tokens - width), 0)
            old_begin, self._begin = self._begin, min(self._begin, self._end - tokens)
            for table in self._tables:  # rows that have left may have left NaN here
                table[:before, :, self._begin : old_begin] = 0
        for table, states in zip(self._tables, (keys, values), strict=True):
            table[before : before + len(keys), :, self._end - tokens : self._end] = states
            # these positions are masked, but NaN times zero would still be NaN
            table[before : before + len(keys), :, self._begin : self._end - tokens] = 0
        self._count = before + len(keys)

    def row(self, row: int, tokens: int) -> tuple[Tensor, Tensor]:
        """The keys and values of a row's last tokens."""
        keys, values = (table[row, :, self._end - tokens : self._end] for table in self._tables)
        return keys, values

    def shorten(self, width: int) -> None:
        """Drop all but the last `width` tokens. Tensors that a long row has left far too large are replaced."""
        self._begin = max(self._begin, self._end - width)
        if self._tables and self._tables[0].shape[2] > SPARE * (self._end - self._begin + 2 * ROOM):
            self._allocate(self._tables[0], self._count, 0, 0)

    def keep(self, rows: int) -> None:
        """Drop all but the first `rows` rows."""
        self._count = min(self._count, rows)

    def leave(self, row: int) -> None:
        """Replace a row by the last one."""
        last = self._count - 1
        if row != last:
            for table in self._tables:
                table[row, :, self._begin : self._end] = table[last, :, self._begin : self._end]
        self._count = last

    def _make_room(self, states: Tensor, rows: int, before: int, behind: int) -> None:
        """Grow the tensors to hold this many rows, and this many tokens before and behind the range in use."""
        capacity = self._tables[0].shape if self._tables else (0, 0, 0, 0)
        if rows <= capacity[0] and before <= self._begin and self._end + behind <= capacity[2]:
            return
        # rows that have left need no room in tensors that grow because of a long row
        self._allocate(states, rows if rows <= capacity[0] else max(rows, 2 * capacity[0]), before, behind)

    def _allocate(self, states: Tensor, rows: int, before: int, behind: int) -> None:
        """Move what is in use to new tensors; see `_make_room`."""
        used = self._end - self._begin
        begin = ROOM + before
        size = begin + used + max(behind, ROOM, used // 2)
        shape = (rows, states.shape[1], size, states.shape[3])
        tables = []
        for number in range(2):
            table = states.new_zeros(shape)
            if self._tables and self._count:
                old = self._tables[number][: self._count, :, self._begin : self._end]
                table[: self._count, :, begin : begin + used] = old
            tables.append(table)
        self._tables, self._begin, self._end = tables, begin, begin + used


class _AdapterTable:
    """The rows' adapters in the model's dtype: A and scale · B of each projection, [layers, rows, …], preallocated.

    The adapters of one layer are contiguous.
    """

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._ranks: list[int] = []
        self._a: dict[str, Tensor] = {}
        self._b: dict[str, Tensor] = {}

    def rows(self, first: int, last: int) -> Adapters | None:
        """The adapters of a range of rows, without a copy; None if no row has one."""
        rank = max(self._ranks[first:last], default=0)
        if not rank:
            return None
        a = {p: table[:, first:last, :rank].transpose(0, 1) for p, table in self._a.items()}
        return Adapters(a, {p: table[:, first:last, :, :rank].transpose(0, 1) for p, table in self._b.items()}, 1.0)

    def put(self, row: int, adapter: Adapters | None) -> None:
        """Write a row's adapter and drop the rows after it."""
        rank = adapter.rank if adapter else 0
        self._ranks[row:] = [rank]
        if adapter or self._a:
            self._make_room(row + 1, rank)
        for projection in self._a:
            self._a[projection][:, row] = 0
            self._b[projection][:, row] = 0
            if adapter:
                b = adapter.b[projection][0].to(self._base.device) * adapter.scale
                self._a[projection][:, row, :rank] = adapter.a[projection][0].to(self._base.device)
                self._b[projection][:, row, :, :rank] = b

    def move(self, source: int, target: int) -> None:
        """Copy a row over another."""
        for table in (*self._a.values(), *self._b.values()):
            table[:, target] = table[:, source]
        self._ranks[target] = self._ranks[source]

    def clear(self, row: int) -> None:
        """Drop a row and those after it."""
        del self._ranks[row:]

    def _make_room(self, rows: int, rank: int) -> None:
        capacity = self._a["gate_proj"].shape if self._a else (0, 0, 0, 0)
        if rows <= capacity[1] and rank <= capacity[2]:
            return
        count = max(rows, 2 * capacity[1] if rows > capacity[1] else capacity[1])
        rank, layers = max(rank, capacity[2]), self._base.layers
        for projection in PROJECTIONS:
            fan_in, fan_out = self._base.features(projection)
            like = torch.empty(0, dtype=self._base.dtype, device=self._base.device)
            a, b = like.new_zeros(layers, count, rank, fan_in), like.new_zeros(layers, count, fan_out, rank)
            if capacity[1]:
                a[:, : capacity[1], : capacity[2]] = self._a[projection]
                b[:, : capacity[1], :, : capacity[2]] = self._b[projection]
            self._a[projection], self._b[projection] = a, b

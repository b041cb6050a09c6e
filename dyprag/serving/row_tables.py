"""Preallocated tensors of a decoding batch's rows: the states of one layer, and the adapters.

They grow before they are full, and give back what a long row needed after it has left.
"""

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from dyprag.adapters.lora import Adapters
from dyprag.model.base import PROJECTIONS, BaseModel

ROOM = 64  # minimum number of tokens by which a table grows
SPARE = 4  # a table that has room for more than this multiple of its tokens is replaced by a smaller one


class StatesTable(DynamicLayer):
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


class AdaptersTable:
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

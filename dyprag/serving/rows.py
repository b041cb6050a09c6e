"""The rows that a server writes together. Each has its own adapter; rows join and leave between two tokens (§3.3).

Keys, values and adapters stand in tables with room: who joins is written into the next row, who leaves is overwritten
by the last one. So a change costs one row's copy, and nothing that goes on is computed again.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from dyprag.adapters.decoding import next_logits
from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters
from dyprag.model.base import PROJECTIONS, BaseModel
from dyprag.model.batches import pad

ROOM = 64  # tokens that a table grows by at least


class Rows:
    """Rows of tokens on one base model. `logits` are those of each row's next token, [rows, vocabulary], float32.

    Not for several threads: the model's lock is held in `join` and `advance`, the rows are not guarded.

    Args:
        first_layer: the layers before it are left as they are, whatever the adapters hold for them.
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
    def join(self, prompts: Sequence[Sequence[int]], adapters: Sequence[Adapters | None]) -> None:
        """Put rows behind those that are there; their prompts are computed here, padded to the longest of them. If that
        fails, the rows that were there are as they were.

        Args:
            prompts: token ids, one list a row.
            adapters: for each row one, [1, layers, …], or none. They may differ in rank and scale.
        """
        before = len(self)
        with self._base.lock:
            try:
                self._join(before, prompts, adapters)
            except BaseException:
                self._table.clear(before)
                for table in self._layers:
                    table.keep(before)
                self.logits = self.logits[:before]
                raise
            self._lengths += [len(prompt) for prompt in prompts]

    def _join(self, before: int, prompts: Sequence[Sequence[int]], adapters: Sequence[Adapters | None]) -> None:
        for place, adapter in enumerate(adapters, start=before):
            self._table.put(place, adapter)
        ids, mask = pad(prompts, self._base, side="left")
        cache = DynamicCache()
        with inject(self._base, self._table.rows(before, before + len(prompts)), self._first):
            logits = next_logits(self._base, ids, mask, (mask.cumsum(1) - 1).clamp(min=0), cache)
        layers: list[Any] = list(cache.layers)
        for table, layer in zip(self._layers, layers, strict=True):
            table.join(before, self._width, layer.keys, layer.values)
        self.logits = torch.cat([self.logits, logits]) if before else logits

    @torch.inference_mode()
    def advance(self, tokens: Sequence[int]) -> None:
        """Put one more token behind each row, and compute the logits of the next."""
        with self._base.lock:
            width, device = self._width, self._base.device
            for table in self._layers:
                table.shorten(width)  # what only rows that have left needed
            lengths = torch.tensor(self._lengths, device=device)[:, None]
            mask = (torch.arange(width + 1, device=device) >= width - lengths).long()
            with inject(self._base, self._table.rows(0, len(self)), self._first):
                ids = torch.tensor(tokens, device=device)[:, None]
                self.logits = next_logits(self._base, ids, mask, lengths, self._cache)
            self._lengths = [length + 1 for length in self._lengths]

    @torch.inference_mode()
    def leave(self, row: int) -> None:
        """Take a row out. The last row takes its place and its number."""
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


class _Table(DynamicLayer):
    """Keys and values of one layer, [rows, heads, tokens, head size], in tables with room; rows end where all end."""

    def __init__(self) -> None:
        super().__init__()
        self._count = self._begin = self._end = 0  # rows, and the tokens that are in use
        self._tables: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Put one token's states behind each row."""
        self._make_room(key_states, self._count, 0, key_states.shape[-2])
        after = self._end + key_states.shape[-2]
        for table, states in zip(self._tables, (key_states, value_states), strict=True):
            table[: self._count, :, self._end : after] = states
        self._end = after
        keys, values = (table[: self._count, :, self._begin : after] for table in self._tables)
        return keys, values

    def get_seq_length(self) -> int:
        """Tokens that a row can have."""
        return self._end - self._begin

    def join(self, before: int, width: int, keys: Tensor, values: Tensor) -> None:
        """Put rows behind the first `before`, the longest of which has `width` tokens."""
        self.is_initialized = True
        self.dtype, self.device = keys.dtype, keys.device
        if not before:
            self._begin = self._end = ROOM  # room in front for longer prompts
        self.shorten(width)
        tokens = keys.shape[-2]
        if not before:
            self._make_room(keys, len(keys), 0, tokens)
            self._end = self._begin + tokens
        else:
            self._make_room(keys, before + len(keys), max(0, tokens - width), 0)
            begun, self._begin = self._begin, min(self._begin, self._end - tokens)
            for table in self._tables:  # of rows that have left, whose numbers may have been none
                table[:before, :, self._begin : begun] = 0
        for table, states in zip(self._tables, (keys, values), strict=True):
            table[before : before + len(keys), :, self._end - tokens : self._end] = states
            # masked, but what is masked is multiplied by zero: it must be a number
            table[before : before + len(keys), :, self._begin : self._end - tokens] = 0
        self._count = before + len(keys)

    def shorten(self, width: int) -> None:
        """Let go of what stands before the last `width` tokens."""
        self._begin = max(self._begin, self._end - width)

    def keep(self, rows: int) -> None:
        """Let go of all rows but the first ones."""
        self._count = min(self._count, rows)

    def leave(self, row: int) -> None:
        """Let the last row take a row's place."""
        last = self._count - 1
        if row != last:
            for table in self._tables:
                table[row, :, self._begin : self._end] = table[last, :, self._begin : self._end]
        self._count = last

    def _make_room(self, states: Tensor, rows: int, before: int, behind: int) -> None:
        """See to it that there is room for so many rows and for so many tokens before and behind what is in use."""
        have = self._tables[0].shape if self._tables else (0, 0, 0, 0)
        if rows <= have[0] and before <= self._begin and self._end + behind <= have[2]:
            return
        used = self._end - self._begin
        begin = ROOM + before
        size = begin + used + max(behind, ROOM, used // 2)
        shape = (max(rows, have[0] if rows <= have[0] else 2 * have[0]), states.shape[1], size, states.shape[3])
        made = []
        for number in range(2):
            table = states.new_zeros(shape)
            if self._tables and self._count:
                old = self._tables[number][: self._count, :, self._begin : self._end]
                table[: self._count, :, begin : begin + used] = old
            made.append(table)
        self._tables, self._begin, self._end = made, begin, begin + used


class _AdapterTable:
    """The rows' adapters in the model's dtype, A and scale · B of each projection, [layers, rows, …] with room:
    a layer's are contiguous."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._ranks: list[int] = []
        self._a: dict[str, Tensor] = {}
        self._b: dict[str, Tensor] = {}

    def rows(self, first: int, last: int) -> Adapters | None:
        """Those of some rows, without a copy; None where none of them has one."""
        rank = max(self._ranks[first:last], default=0)
        if not rank:
            return None
        a = {p: table[:, first:last, :rank].transpose(0, 1) for p, table in self._a.items()}
        return Adapters(a, {p: table[:, first:last, :, :rank].transpose(0, 1) for p, table in self._b.items()}, 1.0)

    def put(self, row: int, adapter: Adapters | None) -> None:
        """Write a row's adapter, behind or over those that are there."""
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
        """Forget a row and those behind it."""
        del self._ranks[row:]

    def _make_room(self, rows: int, rank: int) -> None:
        have = self._a["gate_proj"].shape if self._a else (0, 0, 0, 0)
        if rows <= have[1] and rank <= have[2]:
            return
        count = max(rows, 2 * have[1] if rows > have[1] else have[1])
        rank, layers = max(rank, have[2]), self._base.layers
        for projection in PROJECTIONS:
            fan_in, fan_out = self._base.features(projection)
            like = torch.empty(0, dtype=self._base.dtype, device=self._base.device)
            a, b = like.new_zeros(layers, count, rank, fan_in), like.new_zeros(layers, count, fan_out, rank)
            if have[1]:
                a[:, : have[1], : have[2]] = self._a[projection]
                b[:, : have[1], :, : have[2]] = self._b[projection]
            self._a[projection], self._b[projection] = a, b

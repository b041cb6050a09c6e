"""Questions about one document in one row, behind what their prompts have in common, blind to each other."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters
from dyprag.adapters.samples import Sample
from dyprag.model.base import BaseModel


@dataclass(frozen=True)
class Tree:
    """Rows of samples, those of a row behind their common beginning.

    ids, positions: [rows, tokens]; parts: [rows, tokens], 0 for the common beginning, then the row's samples from 1,
    -1 for padding; places: [answer tokens], flat positions of what predicts them; targets: [answer tokens]; samples:
    [answer tokens], the number of each one's sample, counted over all rows.
    """

    ids: Tensor
    positions: Tensor
    parts: Tensor
    places: Tensor
    targets: Tensor
    samples: Tensor

    def to(self, device: torch.device) -> "Tree":
        """The same on a device."""
        return Tree(*(getattr(self, each.name).to(device, non_blocking=True) for each in fields(self)))

    def mask(self, dtype: torch.dtype) -> Tensor:
        """What is added to attention scores, [rows, 1, tokens, tokens]: each part sees itself and the beginning."""
        causal = torch.ones(self.ids.shape[1], self.ids.shape[1], dtype=torch.bool, device=self.ids.device).tril()
        seen = causal & ((self.parts[:, :, None] == self.parts[:, None, :]) | (self.parts[:, None, :] == 0))
        return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)[:, None]


def grow(base: BaseModel, rows: Sequence[Sequence[Sample]]) -> Tree:
    """Put each row's samples behind what all of them begin with; each sees that and itself."""
    return grown(rows, base.tokenizer.pad_token_id).to(base.device)


def grown(rows: Sequence[Sequence[Sample]], pad_id: int) -> Tree:
    shared = [shared_length(row) for row in rows]
    """As `grow`, on the CPU; rows that are shorter than the longest are padded."""
    longest = max(k + sum(len(sample.ids) - k for sample in row) for k, row in zip(shared, rows, strict=True))
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    parts: list[list[int]] = []
    places: list[int] = []
    targets: list[int] = []
    numbers: list[int] = []
    for index, (row, begin) in enumerate(zip(rows, shared, strict=True)):
        own, at, part = row[0].ids[:begin], list(range(begin)), [0] * begin
        for count, sample in enumerate(row, start=1):
            first = index * longest + len(own) + sample.prompt_length - begin - 1
            answer = sample.ids[sample.prompt_length :]
            places += range(first, first + len(answer))
            targets += answer
            numbers += [numbers[-1] + 1 if numbers else 0] * len(answer)
            own = own + sample.ids[begin:]
            at += range(begin, len(sample.ids))
            part += [count] * (len(sample.ids) - begin)
        left = longest - len(own)
        ids.append(own + [pad_id] * left)
        positions.append(at + [0] * left)
        parts.append(part + [-1] * left)
    return Tree(*(torch.tensor(x, dtype=torch.long) for x in (ids, positions, parts, places, targets, numbers)))


def shared_length(row: Sequence[Sample]) -> int:
    """How many ids all samples of a row begin with, short of each one's last prompt token."""
    low, high = min(sample.ids for sample in row), max(sample.ids for sample in row)
    alike = next((i for i, (x, y) in enumerate(zip(low, high, strict=False)) if x != y), len(low))
    return min(alike, *(sample.prompt_length - 1 for sample in row))


def answer_states(base: BaseModel, tree: Tree, adapters: Adapters | None, first_layer: int = 0) -> Tensor:
    """Last hidden states where answer tokens are predicted, [answer tokens, hidden]."""
    with inject(base, adapters, first_layer):
        states = base.model.get_decoder()(
            input_ids=tree.ids,
            position_ids=tree.positions,
            attention_mask=tree.mask(base.dtype),
            use_cache=False,
        ).last_hidden_state
    return states.flatten(0, 1).index_select(0, tree.places)


@torch.no_grad()
def recited(base: BaseModel, tree: Tree, adapters: Adapters | None, first_layer: int = 0) -> list[tuple[bool, float]]:
    """For each sample, whether greedy decoding gives its answer token by token, and the mean loss of its tokens."""
    states = answer_states(base, tree, adapters, first_layer)
    logits = base.head(states).float()
    right = logits.argmax(-1) == tree.targets
    losses = nn.functional.cross_entropy(logits, tree.targets, reduction="none")
    count = int(tree.samples.max()) + 1
    return [(bool(right[tree.samples == i].all()), float(losses[tree.samples == i].mean())) for i in range(count)]

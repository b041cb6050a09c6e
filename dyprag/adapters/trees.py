"""Batches in which several questions share one row and their common prefix, without attending to each other."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from dyprag.adapters.forward import fast_attention
from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters
from dyprag.adapters.samples import Sample
from dyprag.model.base import BaseModel


@dataclass(frozen=True)
class Tree:
    """Rows that consist of a common prefix followed by the rest of each sample.

    ids, positions: [rows, tokens].
    parts: [rows, tokens], 0 for the common prefix, then the row's samples from 1, -1 for padding.
    answer_positions: [answer tokens], flat positions of the tokens that predict them.
    targets: [answer tokens].
    samples: [answer tokens], the number of each token's sample, counted over all rows.
    """

    ids: Tensor
    positions: Tensor
    parts: Tensor
    answer_positions: Tensor
    targets: Tensor
    samples: Tensor

    def to(self, device: torch.device) -> "Tree":
        """Return the tree on a device."""
        return Tree(*(getattr(self, each.name).to(device, non_blocking=True) for each in fields(self)))

    def mask(self, dtype: torch.dtype) -> Tensor:
        """Return the additive attention mask, [rows, 1, tokens, tokens]: each part sees itself and the prefix."""
        causal = torch.ones(self.ids.shape[1], self.ids.shape[1], dtype=torch.bool, device=self.ids.device).tril()
        seen = causal & ((self.parts[:, :, None] == self.parts[:, None, :]) | (self.parts[:, None, :] == 0))
        return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def build_tree(base: BaseModel, rows: Sequence[Sequence[Sample]]) -> Tree:
    """Build a tree on the model's device: each row's samples follow their common prefix."""
    return build_tree_on_cpu(rows, base.tokenizer.pad_token_id).to(base.device)


def build_tree_on_cpu(rows: Sequence[Sequence[Sample]], pad_id: int) -> Tree:
    """Build a tree on the CPU. Rows are padded to the longest."""
    shared = [shared_length(row) for row in rows]
    longest = max(k + sum(len(sample.ids) - k for sample in row) for k, row in zip(shared, rows, strict=True))
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    parts: list[list[int]] = []
    answer_positions: list[int] = []
    targets: list[int] = []
    sample_numbers: list[int] = []
    for index, (row, prefix) in enumerate(zip(rows, shared, strict=True)):
        row_ids, position, row_parts = row[0].ids[:prefix], list(range(prefix)), [0] * prefix
        for count, sample in enumerate(row, start=1):
            first = index * longest + len(row_ids) + sample.prompt_length - prefix - 1
            answer = sample.ids[sample.prompt_length :]
            answer_positions += range(first, first + len(answer))
            targets += answer
            sample_numbers += [sample_numbers[-1] + 1 if sample_numbers else 0] * len(answer)
            row_ids = row_ids + sample.ids[prefix:]
            position += range(prefix, len(sample.ids))
            row_parts += [count] * (len(sample.ids) - prefix)
        padding = longest - len(row_ids)
        ids.append(row_ids + [pad_id] * padding)
        positions.append(position + [0] * padding)
        parts.append(row_parts + [-1] * padding)
    return Tree(
        *(torch.tensor(x, dtype=torch.long) for x in (ids, positions, parts, answer_positions, targets, sample_numbers))
    )


def shared_length(row: Sequence[Sample]) -> int:
    """Return the length of the row's common prefix, which excludes each sample's last prompt token."""
    lowest, highest = min(sample.ids for sample in row), max(sample.ids for sample in row)
    common = next(
        (position for position, (left, right) in enumerate(zip(lowest, highest, strict=False)) if left != right),
        len(lowest),
    )
    return max(0, min(common, *(sample.prompt_length - 1 for sample in row)))


@dataclass(frozen=True)
class Counted:
    """The tokens of a tree whose predictions enter a loss.

    positions: [tokens], flat positions of the states that predict them.
    rows: [tokens], the row of each.
    targets: [tokens].
    weights: [tokens], the number of the row's samples that have this token: those of the prefix count for each.
    """

    positions: Tensor
    rows: Tensor
    targets: Tensor
    weights: Tensor


def counted(base: BaseModel, rows: Sequence[Sequence[Sample]], width: int, loss_on: str) -> Counted:
    """List the tokens of the tree of some rows that count, as `pack` does for samples in rows of their own.

    Args:
        width: tokens per row of the tree.
        loss_on: "all" or "answer"; see `pack`.
    """
    entries: dict[tuple[int, int, int], int] = {}  # (position, row, target): weight
    for index, row in enumerate(rows):
        prefix = shared_length(row)
        begin = index * width + prefix
        for sample in row:
            first = max(sample.prompt_length - 1, 0) if loss_on == "answer" else 0
            for token in range(first, len(sample.ids) - 1):
                position = index * width + token if token < prefix else begin + token - prefix
                entry = position, index, sample.ids[token + 1]
                entries[entry] = entries.get(entry, 0) + 1
            begin += len(sample.ids) - prefix
    places, owners, following = zip(*entries, strict=True) if entries else ((), (), ())
    where, of_row, target = (torch.tensor(x, dtype=torch.long, device=base.device) for x in (places, owners, following))
    weights = torch.tensor(list(entries.values()), dtype=torch.float32, device=base.device)
    return Counted(where, of_row, target, weights)


def tree_states(
    base: BaseModel, tree: Tree, positions: Tensor, adapters: Adapters | None, first_layer: int = 0
) -> Tensor:
    """Compute the last hidden states at flat positions of a tree, [positions, hidden]."""
    with inject(base, adapters, first_layer), fast_attention(base, tree.ids.shape[1]):
        states = base.model.get_decoder()(
            input_ids=tree.ids,
            position_ids=tree.positions,
            attention_mask=tree.mask(base.dtype),
            use_cache=False,
        ).last_hidden_state
    return states.flatten(0, 1).index_select(0, positions)


def answer_states(base: BaseModel, tree: Tree, adapters: Adapters | None, first_layer: int = 0) -> Tensor:
    """Compute the last hidden states that predict the answer tokens, [answer tokens, hidden]."""
    return tree_states(base, tree, tree.answer_positions, adapters, first_layer)


@torch.no_grad()
def recited(base: BaseModel, tree: Tree, adapters: Adapters | None, first_layer: int = 0) -> list[tuple[bool, float]]:
    """Return for each sample whether greedy decoding gives its answer, and the mean loss of its tokens."""
    states = answer_states(base, tree, adapters, first_layer)
    logits = base.head(states).float()
    correct = logits.argmax(-1) == tree.targets
    losses = nn.functional.cross_entropy(logits, tree.targets, reduction="none")
    count = int(tree.samples.max()) + 1
    return [(bool(correct[tree.samples == i].all()), float(losses[tree.samples == i].mean())) for i in range(count)]

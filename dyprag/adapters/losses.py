"""The losses of documents that are trained together, each under its own adapter.

The samples of a document's step often begin alike: with the chat template, the instruction, or the passage. Then they
share one row with their common beginning (a tree), which is computed once. The sums are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dyprag.adapters.forward import hidden_states, pack, token_losses
from dyprag.adapters.lora import Adapters
from dyprag.adapters.samples import Sample
from dyprag.adapters.trees import build_tree, counted, shared_length, tree_states
from dyprag.model.base import BaseModel, fits_window

WORTH_A_TREE = 0.9  # a tree is used if it has at most this share of the tokens of separate rows

Size = tuple[int, int]  # of a document's step: number of rows, tokens of the longest


def step_size(step: Sequence[Sample]) -> Size:
    """Return the size of a document's step in the form that has fewer tokens."""
    longest, tree = max(len(sample.ids) for sample in step), _tree_length(step)
    return (1, tree) if tree <= WORTH_A_TREE * len(step) * longest else (len(step), longest)


def _tree_length(step: Sequence[Sample]) -> int:
    prefix = shared_length(step)
    return prefix + sum(len(sample.ids) - prefix for sample in step)


@dataclass(frozen=True)
class DocumentLosses:
    """Losses of a batch: `total` is their sum, with a gradient; `each` is [docs], without."""

    total: Tensor
    each: Tensor


def document_losses(
    base: BaseModel, adapters: Adapters, batches: Sequence[Sequence[Sample]], loss_on: str = "all",
    first_layer: int = 0,
) -> DocumentLosses:  # fmt: skip
    """Compute each document's mean next-token cross-entropy under its own adapter.

    Args:
        adapters: [docs, layers, …].
        batches: the samples of each document.
        loss_on: "all" for the mean over all tokens, "answer" for the answer's tokens only.
        first_layer: the first layer that is adapted.
    """
    width = max(map(_tree_length, batches))
    separate = sum(map(len, batches)) * max(len(sample.ids) for batch in batches for sample in batch)
    if width * len(batches) <= WORTH_A_TREE * separate and fits_window(base, width):
        tree = build_tree(base, batches)
        tokens = counted(base, batches, width, loss_on)
        hidden = tree_states(base, tree, tokens.positions, adapters, first_layer)
        return _losses(base, hidden, tokens.targets, tokens.rows, tokens.weights, len(batches))
    counts = [len(batch) for batch in batches]
    device = base.device
    documents = torch.arange(len(batches), device=device).repeat_interleave(torch.tensor(counts, device=device))
    if len(set(counts)) > 1:  # injection needs the same number of rows per document
        adapters = adapters.select(documents.tolist())
    batch = pack(base, [sample for samples in batches for sample in samples], loss_on)
    hidden = hidden_states(base, batch, adapters, first_layer)
    ones = torch.ones(len(batch.targets), device=device)
    return _losses(base, hidden, batch.targets, documents[batch.rows], ones, len(batches))


def _losses(
    base: BaseModel, hidden: Tensor, targets: Tensor, documents: Tensor, weights: Tensor, count: int
) -> DocumentLosses:
    """Compute the weighted mean of each document's token losses."""
    zeros = torch.zeros(count, device=base.device)
    tokens = zeros.index_add(0, documents, weights).clamp(min=1)  # a sample of one token has no target
    losses = token_losses(base, hidden, targets, weights / tokens[documents])
    each = zeros.index_add(0, documents, losses.nll.float() * weights)
    return DocumentLosses(losses.total, each / tokens)

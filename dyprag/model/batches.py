"""Group prompts of similar length into batches, and pad a batch into one tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dyprag.model.base import BaseModel

MOST_PADDING = 0.25  # share of a batch's tokens that may be padding
LITTLE_PADDING = 512  # number of padding tokens that cost less than another batch


def alike(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Group the indices of prompts of similar length into batches, shortest first, to limit padding."""
    batches: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        area = lengths[index] * (len(batches[-1]) + 1) if batches else 0
        padding = area - tokens - lengths[index]
        if batches and len(batches[-1]) < batch_size and padding <= max(LITTLE_PADDING, MOST_PADDING * area):
            batches[-1].append(index)
            tokens += lengths[index]
        else:
            batches.append([index])
            tokens = lengths[index]
    return batches


def pad(prompts: Sequence[Sequence[int]], base: BaseModel, side: str) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask, [rows, tokens] each, padded on one side to the longest row."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), base.tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        columns = slice(width - len(prompt), width) if side == "left" else slice(0, len(prompt))
        ids[row, columns] = torch.tensor(prompt)
        mask[row, columns] = 1
    return ids.to(base.device), mask.to(base.device)

"""Rows of tokens computed together: which of them, and as one tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dyprag.model.base import BaseModel

MOST_PADDING = 0.25  # share of a batch's tokens that may be padding
LITTLE_PADDING = 512  # tokens of it that cost less than another batch would


def alike(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices in batches of like length, the shortest first: a long prompt would make all those beside it as long."""
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
    """Token ids and attention mask, [rows, tokens] each, padded to the longest row on one side."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), base.tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        place = slice(width - len(prompt), width) if side == "left" else slice(0, len(prompt))
        ids[row, place] = torch.tensor(prompt)
        mask[row, place] = 1
    return ids.to(base.device), mask.to(base.device)

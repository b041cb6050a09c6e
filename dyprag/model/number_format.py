"""The number format of a model's weights: bfloat16 where this machine is faster in it."""

import math
import time
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def resolve_dtype(dtype: str, device: str) -> "torch.dtype":
    """Return the format that `model.dtype` names; for auto, bfloat16 unless this CPU is faster in float32."""
    import torch

    if dtype != "auto":
        return getattr(torch, dtype)
    if device.startswith("cpu"):
        return torch.bfloat16 if _bfloat16_is_faster() else torch.float32
    return torch.bfloat16


@lru_cache(maxsize=1)
def _bfloat16_is_faster() -> bool:
    """Whether this CPU multiplies matrices faster in bfloat16.

    The CPU's feature flags do not answer this: with AVX512-BF16 it can be half as fast as in float32, with AMX many
    times faster.
    """
    single, half = _product_seconds(32, 2)
    if half > max(8 * single, 0.01):  # no instructions for it: the measurement below would take seconds
        return False
    single, half = _product_seconds(256, 5)
    return 1.2 * half < single


def _product_seconds(rows: int, rounds: int) -> tuple[float, float]:
    """The seconds of a matrix product of some rows in float32 and in bfloat16."""
    import torch

    seconds = {torch.float32: math.inf, torch.bfloat16: math.inf}
    for _ in range(rounds):  # alternate and take the minimum, because another process may interfere
        for dtype in seconds:
            x, y = torch.ones(rows, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
            start = time.perf_counter()
            torch.mm(x, y)
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
    return seconds[torch.float32], seconds[torch.bfloat16]

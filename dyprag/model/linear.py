"""Products of a weight matrix with few rows, as in decoding, on CPUs whose library is slow at them."""

import math
import time
from functools import lru_cache

import torch
from torch import Tensor, nn

MOST_ROWS = 128  # with more rows both forms take the same time
CLEARLY = 1.5  # how many times faster the other form must be, so that noise decides nothing


class FewRowsLinear(nn.Linear):
    """A linear layer that computes (W·xᵀ)ᵀ for 2 to `MOST_ROWS` rows without gradients, and x·Wᵀ otherwise.

    Both are the same sums. For x·Wᵀ with few rows, some CPU libraries use kernels that reach a fraction of the speed.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Compute x·Wᵀ + b, [..., out], for x of [..., in]."""
        rows = input.numel() // input.shape[-1]
        if not 1 < rows <= MOST_ROWS or (torch.is_grad_enabled() and input.requires_grad):
            return super().forward(input)
        columns = self.weight.mm(input.reshape(rows, -1).t())
        if self.bias is not None:
            columns += self.bias[:, None]
        return columns.t().contiguous().view(*input.shape[:-1], -1)


def speed_up_few_rows(model: nn.Module) -> None:
    """Let a frozen model on a CPU use `FewRowsLinear` where that is faster. Its weights stay as they are."""
    for module in model.modules():
        if type(module) is nn.Linear and columns_are_faster(module.weight.dtype):
            module.__class__ = FewRowsLinear


@lru_cache
def columns_are_faster(dtype: torch.dtype) -> bool:
    """Whether this CPU computes (W·xᵀ)ᵀ clearly faster than x·Wᵀ for few rows; measured in some 50 ms."""
    weight, x = torch.ones(4096, 1024, dtype=dtype), torch.ones(8, 1024, dtype=dtype)
    seconds = [math.inf, math.inf]
    for _ in range(5):  # alternate and take the minimum, because another process may interfere
        for form, product in enumerate((lambda: x.mm(weight.t()), lambda: weight.mm(x.t()))):
            start = time.perf_counter()
            product()
            seconds[form] = min(seconds[form], time.perf_counter() - start)
    return CLEARLY * seconds[1] < seconds[0]

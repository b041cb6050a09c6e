"""Injection (§3.3): the base model computes with adapters, another document's for each row of a batch if so wanted.

No model file is patched and no product B·A is formed: while the context is open, each gated FFN is computed here, with
scale · (x·Aᵀ)·Bᵀ added to its projections.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from dyprag.adapters.lora import Adapters
from dyprag.model.base import PROJECTIONS, BaseModel


@contextmanager
def inject(base: BaseModel, adapters: Adapters | None, first_layer: int = 0) -> Iterator[None]:
    """Let the base model compute with adapters while the context is open.

    Args:
        base: the frozen model.
        adapters: [docs, layers, …]. The rows of a batch are shared out evenly and in order: one adapter for all rows,
            one for each row, or one for every so many rows. None leaves the model as it is.
        first_layer: the layers before it are left as they are, whatever the adapters hold for them.

    Raises:
        RuntimeError: in the model's forward pass, where the rows cannot be shared out evenly.
    """
    if adapters is None:
        yield
        return
    layers = []
    for projection in PROJECTIONS:
        # unbind once: its backward is one stack, while indexing would fill a full-size gradient per layer
        layers.append(adapters.a[projection].to(base.device, base.dtype).unbind(1))
        b = adapters.b[projection].to(base.device)
        layers.append((b if adapters.scale == 1 else b * adapters.scale).to(base.dtype).unbind(1))
    forwards = [_forward(block, matrices) for block, *matrices in zip(base.blocks, *layers, strict=True)]
    before = [block.__dict__.get("forward") for block in base.blocks]  # none, or an outer context's
    try:
        for block, forward in zip(base.blocks[first_layer:], forwards[first_layer:], strict=True):
            block.forward = forward
        yield
    finally:
        for block, outer in zip(base.blocks, before, strict=True):
            block.__dict__.pop("forward", None)
            if outer is not None:
                block.forward = outer


def _forward(block: Any, matrices: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """What a block computes with the A and scaled B, [docs, …], of its gate, up and down projections."""
    return lambda x: _AdaptedFFN.apply(x, block, *matrices)  # type: ignore[no-untyped-call, no-any-return]


class _AdaptedFFN(torch.autograd.Function):
    """down(act(gate(x)) · up(x)) with low-rank additions, the weights themselves frozen.

    It keeps no more for the backward pass than x and what gate and up made of it, and adds in place: autograd's own
    graph of the same would keep twice as much.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: Any, gate_a: Tensor, gate_b: Tensor, up_a: Tensor, up_b: Tensor,
                down_a: Tensor, down_b: Tensor) -> Tensor:  # fmt: skip
        rows = x.unflatten(0, (len(gate_a), -1)).flatten(1, -2)  # [docs, tokens, hidden]
        gate, gate_code = _project(block.gate_proj, rows, gate_a, gate_b)
        up, up_code = _project(block.up_proj, rows, up_a, up_b)
        out, down_code = _project(block.down_proj, block.act_fn(gate) * up, down_a, down_b)
        ctx.save_for_backward(rows, gate, up, gate_code, up_code, down_code, gate_a, gate_b, up_a, up_b, down_a, down_b)
        ctx.block = block
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        rows, gate, up, gate_code, up_code, down_code, gate_a, gate_b, up_a, up_b, down_a, down_b = ctx.saved_tensors
        block = ctx.block
        with torch.enable_grad():
            gate = gate.detach().requires_grad_(True)
            active = block.act_fn(gate)
        slopes = slope.reshape(rows.shape)
        down = _matrix_slopes(slopes, active.detach() * up, down_code, down_b)
        hidden = torch.matmul(slopes, block.down_proj.weight).baddbmm_(down.inner, down_a)
        up_slope = hidden * active.detach()
        (gate_slope,) = torch.autograd.grad(active, gate, hidden.mul_(up))
        gates = _matrix_slopes(gate_slope, rows, gate_code, gate_b)
        ups = _matrix_slopes(up_slope, rows, up_code, up_b)
        x_slope = None
        if ctx.needs_input_grad[0]:  # not in the first layer: nothing before it is trained
            x_slope = torch.matmul(gate_slope, block.gate_proj.weight)
            x_slope.flatten(0, 1).addmm_(up_slope.flatten(0, 1), block.up_proj.weight)
            x_slope = x_slope.baddbmm_(gates.inner, gate_a).baddbmm_(ups.inner, up_a).view(slope.shape)
        return x_slope, None, gates.a, gates.b, ups.a, ups.b, down.a, down.b


def _project(module: Any, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """x·Wᵀ + (x·Aᵀ)·Bᵀ, [docs, tokens, out], and x·Aᵀ, [docs, tokens, rank]."""
    code = torch.bmm(x, a.mT)
    return linear(x, module.weight, module.bias).baddbmm_(code, b.mT), code


class _MatrixSlopes(NamedTuple):
    """The loss's slope in A and B, and in x·Aᵀ (`inner`)."""

    inner: Tensor
    a: Tensor
    b: Tensor


def _matrix_slopes(slope: Tensor, x: Tensor, code: Tensor, b: Tensor) -> _MatrixSlopes:
    inner = torch.bmm(slope, b)
    return _MatrixSlopes(inner, torch.bmm(inner.mT, x), torch.bmm(slope.mT, code))

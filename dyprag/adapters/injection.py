"""Injection (§3.3): run the base model with adapters, optionally a different document's for each row of a batch.

No model file is patched and B·A is never multiplied out. While the context is open, each gated FFN is computed here,
with scale · (x·Aᵀ)·Bᵀ added to its projections.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dyprag.adapters.lora import Adapters
from dyprag.model.base import PROJECTIONS, BaseModel


@contextmanager
def inject(base: BaseModel, adapters: Adapters | None, first_layer: int = 0) -> Iterator[None]:
    """Inject adapters into the base model while the context is open.

    Args:
        base: the frozen model.
        adapters: [docs, layers, …]. Each adapter applies to an equal share of the batch's rows, in order: one adapter
            for all rows, one per row, or one per group of rows. None leaves the model unchanged.
        first_layer: the first layer to adapt; earlier layers stay unchanged.

    Raises:
        RuntimeError: in the model's forward pass, if the rows cannot be divided evenly among the adapters.
    """
    if adapters is None:
        yield
        return
    layers = []
    for projection in PROJECTIONS:
        # unbind once: its backward is one stack; indexing would allocate a full-size gradient per layer
        layers.append(adapters.a[projection].to(base.device, base.dtype).unbind(1))
        b = adapters.b[projection].to(base.device)
        layers.append((b if adapters.scale == 1 else b * adapters.scale).to(base.dtype).unbind(1))
    forwards = [_forward(block, matrices) for block, *matrices in zip(base.blocks, *layers, strict=True)]
    previous = [block.__dict__.get("forward") for block in base.blocks]  # None, or that of an enclosing context
    try:
        for block, forward in zip(base.blocks[first_layer:], forwards[first_layer:], strict=True):
            block.forward = forward
        yield
    finally:
        for block, forward_before in zip(base.blocks, previous, strict=True):
            block.__dict__.pop("forward", None)
            if forward_before is not None:
                block.forward = forward_before


def _forward(block: Any, matrices: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a block's adapted forward, given A and scaled B, [docs, …], of its gate, up and down projections."""
    return lambda x: _AdaptedFFN.apply(x, block, *matrices)  # type: ignore[no-untyped-call, no-any-return]


class _AdaptedFFN(torch.autograd.Function):
    """down(act(gate(x)) · up(x)) with low-rank deltas and frozen weights.

    Saves only x, gate(x) and up(x) for the backward pass and adds in place; autograd's own graph would keep twice as
    much.
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
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        rows, gate, up, gate_code, up_code, down_code, gate_a, gate_b, up_a, up_b, down_a, down_b = ctx.saved_tensors
        block = ctx.block
        with torch.enable_grad():
            gate = gate.detach().requires_grad_(True)
            active = block.act_fn(gate)
        out_gradient = upstream.reshape(rows.shape)
        down = _matrix_gradients(out_gradient, active.detach() * up, down_code, down_b)
        hidden = torch.matmul(out_gradient, block.down_proj.weight).baddbmm_(down.inner, down_a)
        up_gradient = hidden * active.detach()
        (gate_gradient,) = torch.autograd.grad(active, gate, hidden.mul_(up))
        gate_matrices = _matrix_gradients(gate_gradient, rows, gate_code, gate_b)
        up_matrices = _matrix_gradients(up_gradient, rows, up_code, up_b)
        x_gradient = None
        if ctx.needs_input_grad[0]:  # false in the first adapted layer: nothing before it is trained
            x_gradient = torch.matmul(gate_gradient, block.gate_proj.weight)
            x_gradient.flatten(0, 1).addmm_(up_gradient.flatten(0, 1), block.up_proj.weight)
            x_gradient = (
                x_gradient.baddbmm_(gate_matrices.inner, gate_a).baddbmm_(up_matrices.inner, up_a).view(upstream.shape)
            )
        return x_gradient, None, gate_matrices.a, gate_matrices.b, up_matrices.a, up_matrices.b, down.a, down.b


def _project(module: Any, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return x·Wᵀ + (x·Aᵀ)·Bᵀ, [docs, tokens, out], and x·Aᵀ, [docs, tokens, rank]."""
    code = torch.bmm(x, a.mT)
    return module(x).baddbmm_(code, b.mT), code


class _MatrixGradients(NamedTuple):
    """Gradients of the loss in A, in B, and in x·Aᵀ (`inner`)."""

    inner: Tensor
    a: Tensor
    b: Tensor


def _matrix_gradients(gradient: Tensor, x: Tensor, code: Tensor, b: Tensor) -> _MatrixGradients:
    inner = torch.bmm(gradient, b)
    return _MatrixGradients(inner, torch.bmm(inner.mT, x), torch.bmm(gradient.mT, code))

"""The training forward pass that both stages share: batches of samples and per-token losses.

Padding is excluded from the vocabulary projection and the losses. Logits are computed in chunks, so that the full
[tokens, vocabulary] matrix is never held in memory.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor

from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters
from dyprag.adapters.samples import Sample
from dyprag.model.base import BaseModel
from dyprag.model.batches import pad

PLAIN_ATTENTION = 256  # up to this row length, eager attention is faster on a CPU: the fused kernel's backward is slow
# Elements of [tokens, vocabulary] per chunk. Above 32 MB (float32), a CPU's allocator does not reuse the memory.
CHUNK_ELEMENTS = {"cpu": 2**23 - 2**16, "cuda": 2**27}


@dataclass(frozen=True)
class Batch:
    """A padded batch of samples, and the tokens whose predictions enter the loss.

    ids: [rows, longest], padded on the right.
    positions: [tokens], flat positions in `ids` of the tokens whose prediction counts.
    rows: [tokens], the sample of each of them.
    targets: [tokens], the token that follows each; -1 after a sample's last token.
    """

    ids: Tensor
    positions: Tensor
    rows: Tensor
    targets: Tensor


def pack(base: BaseModel, samples: Sequence[Sample], loss_on: str = "all", last: bool = False) -> Batch:
    """Collate samples into a batch.

    Args:
        loss_on: "all" counts every token that has a successor, "answer" only those that predict the answer.
        last: whether to add each sample's last token. It has no target, but its distribution can be compared.
    """
    ids, _ = pad([sample.ids for sample in samples], base, side="right")
    positions: list[int] = []
    rows: list[int] = []
    targets: list[int] = []
    for row, sample in enumerate(samples):
        first = max(sample.prompt_length - 1, 0) if loss_on == "answer" else 0
        end = len(sample.ids) if last else len(sample.ids) - 1
        positions += range(row * ids.shape[1] + first, row * ids.shape[1] + end)
        rows += [row] * (end - first)
        targets += [*sample.ids, -1][first + 1 : end + 1]
    position, row_of, target = (
        torch.tensor(x, dtype=torch.long, device=base.device) for x in (positions, rows, targets)
    )
    return Batch(ids, position, row_of, target)


def hidden_states(base: BaseModel, batch: Batch, adapters: Adapters | None, first_layer: int = 0) -> Tensor:
    """Compute the last hidden states of the batch's counted tokens with adapters injected: [tokens, hidden].

    Layers below `first_layer` are not adapted and need no backward pass.

    No attention mask is needed, since causal attention never reads the padding on the right.
    """
    with inject(base, adapters, first_layer), fast_attention(base, batch.ids.shape[1]):
        states = base.model.get_decoder()(input_ids=batch.ids, use_cache=False).last_hidden_state
    return states.flatten(0, 1).index_select(0, batch.positions)


@contextmanager
def fast_attention(base: BaseModel, tokens: int) -> Iterator[None]:
    """Use eager attention for short rows on a CPU while the context is open. The caller holds the model's lock."""
    configured = base.model.config._attn_implementation
    if base.device.type != "cpu" or tokens > PLAIN_ATTENTION or configured == "eager":
        yield
        return
    base.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        base.model.set_attn_implementation(configured)


@dataclass(frozen=True)
class TokenLosses:
    """The losses of a batch.

    total: the weighted sum, with a gradient.
    nll, kl: [tokens], unweighted and without a gradient.
    """

    total: Tensor
    nll: Tensor
    kl: Tensor


def token_losses(
    base: BaseModel,
    hidden: Tensor,
    targets: Tensor,
    weights: Tensor,
    teacher: Tensor | None = None,
    kl_weights: Tensor | None = None,
) -> TokenLosses:
    """Compute Σ weight · (-log p(target)) + Σ kl weight · KL(teacher ‖ student) over tokens.

    Args:
        hidden: [tokens, hidden], the student's last hidden states.
        targets: [tokens], token ids; -1 for none.
        weights: [tokens], float32, of the negative log-likelihoods.
        teacher: [tokens, hidden], the teacher's last hidden states; None for no KL term.
        kl_weights: [tokens], float32, of the KL terms.
    """
    return TokenLosses(*_TokenLosses.apply(hidden, base, targets, weights, teacher, kl_weights))


class _TokenLosses(torch.autograd.Function):
    """Computes the gradient during the forward pass, chunk by chunk.

    The gradient in the logits is softmax(logits) minus the target distribution (one-hot, or the teacher's), and both
    are already available there.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, base: BaseModel, targets: Tensor, weights: Tensor, teacher: Tensor | None,
                kl_weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        differentiate = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if differentiate else None
        nll, kl = torch.zeros_like(weights), torch.zeros_like(weights)
        limit = CHUNK_ELEMENTS.get(hidden.device.type, CHUNK_ELEMENTS["cpu"])
        limit_rows = max(32, limit // base.model.config.get_text_config().vocab_size)
        # even chunks: a small last chunk would be slow
        size = ceil(len(hidden) / max(1, ceil(len(hidden) / limit_rows)))
        for start in range(0, len(hidden), max(1, size)):
            chunk = slice(start, start + size)
            with torch.enable_grad():
                states = hidden[chunk].detach().requires_grad_(differentiate)
                logits = base.head(states)
            exact = torch.promote_types(logits.dtype, torch.float32)
            logs = logits.detach().to(exact).log_softmax(-1)  # ten times faster on a CPU than passing dtype=exact
            target_ids = targets[chunk].clamp(min=0)[:, None]
            weight = (weights[chunk] * (targets[chunk] >= 0)).to(exact)
            nll[chunk] = -logs.gather(1, target_ids)[:, 0] * (targets[chunk] >= 0)
            teacher_term = None
            if teacher is not None and kl_weights is not None:
                teacher_logs = base.head(teacher[chunk]).to(exact).log_softmax(-1)
                teacher_term = teacher_logs.exp()
                kl[chunk] = (teacher_term * (teacher_logs - logs)).sum(-1)
                teacher_term *= kl_weights[chunk, None]
            if gradient is None:
                continue
            logit_gradient = logs.exp_()
            if teacher_term is None:
                logit_gradient *= weight[:, None]
            else:
                logit_gradient *= (weight + kl_weights[chunk])[:, None]  # type: ignore[index]
                logit_gradient -= teacher_term
            logit_gradient.scatter_add_(1, target_ids, -weight[:, None])
            (gradient[chunk],) = torch.autograd.grad(logits, states, logit_gradient.to(logits.dtype))
        total = (weights * nll).sum()
        if kl_weights is not None:
            total = total + (kl_weights * kl).sum()
        if gradient is not None:
            ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(nll, kl)
        return total, nll, kl

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Any, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.to(gradient.dtype), None, None, None, None, None

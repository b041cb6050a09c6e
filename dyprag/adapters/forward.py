"""The training forward pass that both stages share: samples side by side, and losses of their tokens.

Padding reaches neither the vocabulary projection nor a loss, and no [tokens, vocabulary] table outlives its chunk.
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

PLAIN_ATTENTION = 256  # tokens of a row up to which a CPU is quicker without the fused kernel's slow backward pass
# [tokens, vocabulary] at a time. Above 32 MB in float32, a CPU's allocator asks the system for each table anew.
CHUNK_ELEMENTS = {"cpu": 2**23 - 2**16, "cuda": 2**27}


@dataclass(frozen=True)
class Batch:
    """Samples side by side, and those of their tokens whose prediction counts.

    ids: [rows, longest], padded on the right; places: [tokens], flat positions in ids of the counted tokens; rows:
    [tokens], their sample; targets: [tokens], the token that follows each, -1 behind a sample's last.
    """

    ids: Tensor
    places: Tensor
    rows: Tensor
    targets: Tensor


def pack(base: BaseModel, samples: Sequence[Sample], loss_on: str = "all", last: bool = False) -> Batch:
    """Put samples side by side.

    Args:
        loss_on: "all": every token that another follows; "answer": those that predict the answer.
        last: also each sample's last token, which predicts nothing but has a distribution to compare.
    """
    ids, _ = pad([sample.ids for sample in samples], base, side="right")
    places: list[int] = []
    rows: list[int] = []
    targets: list[int] = []
    for row, sample in enumerate(samples):
        first = max(sample.prompt_length - 1, 0) if loss_on == "answer" else 0
        end = len(sample.ids) if last else len(sample.ids) - 1
        places += range(row * ids.shape[1] + first, row * ids.shape[1] + end)
        rows += [row] * (end - first)
        targets += [*sample.ids, -1][first + 1 : end + 1]
    place, row_of, target = (torch.tensor(x, dtype=torch.long, device=base.device) for x in (places, rows, targets))
    return Batch(ids, place, row_of, target)


def hidden_states(base: BaseModel, batch: Batch, adapters: Adapters | None) -> Tensor:
    """Last hidden states of the batch's counted tokens under adapters: [tokens, hidden].

    No attention mask is needed: padding stands on the right, where causal attention does not look.
    """
    with inject(base, adapters), _attention(base, batch.ids.shape[1]):
        states = base.model.get_decoder()(input_ids=batch.ids, use_cache=False).last_hidden_state
    return states.flatten(0, 1).index_select(0, batch.places)


@contextmanager
def _attention(base: BaseModel, tokens: int) -> Iterator[None]:
    usual = base.model.config._attn_implementation
    if base.device.type != "cpu" or tokens > PLAIN_ATTENTION or usual == "eager":
        yield
        return
    base.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        base.model.set_attn_implementation(usual)


@dataclass(frozen=True)
class TokenLosses:
    """`total`: the weighted sum, with a gradient; nll and kl: the parts of each token, [tokens], unweighted."""

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
    """Σ weight · (-log p(target)) + Σ kl weight · KL(teacher ‖ student) over tokens.

    Args:
        hidden: [tokens, hidden], the student's last hidden states.
        targets: [tokens], token ids; -1 for none.
        weights: [tokens], float32, of the negative log-likelihoods.
        teacher: [tokens, hidden], the teacher's last hidden states; None leaves the KL term out.
        kl_weights: [tokens], float32, of the KL terms.
    """
    return TokenLosses(*_TokenLosses.apply(hidden, base, targets, weights, teacher, kl_weights))


class _TokenLosses(torch.autograd.Function):
    """The gradient is taken in the forward pass, chunk by chunk: softmax(logits) less what was wanted (a one-hot
    target, the teacher's distribution) is all that it needs, and it is at hand there."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, base: BaseModel, targets: Tensor, weights: Tensor, teacher: Tensor | None,
                kl_weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        differentiate = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if differentiate else None
        nll, kl = torch.zeros_like(weights), torch.zeros_like(weights)
        limit = CHUNK_ELEMENTS.get(hidden.device.type, CHUNK_ELEMENTS["cpu"])
        most = max(32, limit // base.model.config.get_text_config().vocab_size)
        size = ceil(len(hidden) / max(1, ceil(len(hidden) / most)))  # even chunks: a small last one would be slow
        for start in range(0, len(hidden), max(1, size)):
            chunk = slice(start, start + size)
            with torch.enable_grad():
                states = hidden[chunk].detach().requires_grad_(differentiate)
                logits = base.head(states)
            exact = torch.promote_types(logits.dtype, torch.float32)
            logs = logits.detach().to(exact).log_softmax(-1)  # ten times quicker on a CPU than with dtype=exact
            wanted = targets[chunk].clamp(min=0)[:, None]
            weight = (weights[chunk] * (targets[chunk] >= 0)).to(exact)
            nll[chunk] = -logs.gather(1, wanted)[:, 0] * (targets[chunk] >= 0)
            towards = None
            if teacher is not None and kl_weights is not None:
                aim = base.head(teacher[chunk]).to(exact).log_softmax(-1)
                towards = aim.exp()
                kl[chunk] = (towards * (aim - logs)).sum(-1)
                towards *= kl_weights[chunk, None]
            if gradient is None:
                continue
            slope = logs.exp_()
            if towards is None:
                slope *= weight[:, None]
            else:
                slope *= (weight + kl_weights[chunk])[:, None]  # type: ignore[index]
                slope -= towards
            slope.scatter_add_(1, wanted, -weight[:, None])
            (gradient[chunk],) = torch.autograd.grad(logits, states, slope.to(logits.dtype))
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

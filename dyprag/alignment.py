"""Stage 2's training: the translator's adapters are aligned with the trained ones by three losses (§3.2).

L_align = λ_pred · L_pred + λ_mse · L_mse + λ_kl · L_kl
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dyprag.config import TranslatorSettings
from dyprag.generation import pad
from dyprag.lora import Adapters, inject, stack
from dyprag.models import BaseModel
from dyprag.parametrize import Sample
from dyprag.translator import Translator


@dataclass(frozen=True)
class Pair:
    """A doc-param pair (§3.1): embedding [hidden], trained adapter [1, layers, …], and the document's samples."""

    embedding: Tensor
    adapter: Adapters
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Losses:
    """The three parts of L_align at one step, unweighted, and their weighted sum."""

    pred: float
    mse: float
    kl: float
    total: float


def train_translator(
    base: BaseModel,
    translator: Translator,
    pairs: Sequence[Pair],
    settings: TranslatorSettings,
    on_step: Callable[[int, int, Losses], None] | None = None,
) -> list[Losses]:
    """Train a translator in place.

    Args:
        pairs: one for each training document.
        on_step: called with (step, steps, losses) after every optimizer step.

    Returns:
        The losses of every step.
    """
    optimizer = torch.optim.AdamW(translator.parameters(), lr=settings.learning_rate)
    steps = alignment_steps(pairs, settings)
    curve = []
    translator.train()
    for number, step in enumerate(steps, start=1):
        with base.lock:
            losses, total = alignment_loss(
                base, translator, [pairs[p] for p, _ in step], [pairs[p].samples[s] for p, s in step], settings
            )
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
        curve.append(losses)
        if on_step:
            on_step(number, len(steps), losses)
    translator.eval()
    return curve


def alignment_steps(pairs: Sequence[Pair], settings: TranslatorSettings) -> list[list[tuple[int, int]]]:
    """All steps of a training as lists of (pair, sample): each sample once an epoch, like lengths together."""
    order = random.Random(settings.seed)
    steps = []
    for _ in range(settings.epochs):
        drawn = []
        for index, pair in enumerate(pairs):
            samples = list(range(len(pair.samples)))
            order.shuffle(samples)
            drawn += [(index, sample) for sample in samples[: settings.samples_per_document]]
        order.shuffle(drawn)
        if settings.batch_size > 1:
            drawn.sort(key=lambda item: len(pairs[item[0]].samples[item[1]].ids))
        size = settings.batch_size
        epoch = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        order.shuffle(epoch)
        steps += epoch
    return steps


def alignment_loss(
    base: BaseModel,
    translator: Translator,
    pairs: Sequence[Pair],
    samples: Sequence[Sample],
    settings: TranslatorSettings,
) -> tuple[Losses, Tensor]:
    """The losses of one step: row i is `samples[i]` under the adapters of `pairs[i]`.

    L_pred: mean next-token cross-entropy over the samples' tokens.
    L_mse: mean squared error of each LoRA matrix, summed over the matrices, mean over the rows.
    L_kl: KL(trained ‖ generated) of the token distributions, summed over the real tokens of a sample, mean over the
    samples ('batchmean').
    """
    device = base.device
    generated = translator(torch.stack([pair.embedding for pair in pairs]).to(device))
    trained = stack([pair.adapter for pair in pairs]).to(device)
    zero = torch.zeros((), device=device)
    pred, mse, kl = zero, zero, zero
    if settings.lambda_pred or settings.lambda_kl:
        ids, mask = pad([sample.ids for sample in samples], base, side="right")
        real = mask.bool()
        with inject(base, generated):
            logits = base.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        ours = logits[real].float().log_softmax(-1)  # [real tokens, vocabulary]: padding costs no memory
        following = torch.full_like(ids, -100)
        following[:, :-1] = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
        pred = nn.functional.nll_loss(ours, following[real], ignore_index=-100)
        if settings.lambda_kl:
            with torch.no_grad(), inject(base, trained):
                wanted = base.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[real]
                theirs = wanted.float().log_softmax(-1)
            kl = nn.functional.kl_div(ours, theirs, reduction="sum", log_target=True) / len(samples)
    if settings.lambda_mse:
        made, aim = generated.tensors(), trained.tensors()
        # mean over a matrix's entries, sum over layers, projections and sides, mean over rows
        mse = torch.stack([(made[k] - aim[k]).square().mean((2, 3)).sum(1).mean() for k in made]).sum()
    total = settings.lambda_pred * pred + settings.lambda_mse * mse + settings.lambda_kl * kl
    return Losses(pred.item(), mse.item(), kl.item(), total.item()), total

"""Stage 2's training: the translator's adapters are aligned with the trained ones by three losses (§3.2).

L_align = λ_pred · L_pred + λ_mse · L_mse + λ_kl · L_kl
"""

import hashlib
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dyprag.adapters.forward import hidden_states, pack, token_losses
from dyprag.adapters.lora import Adapters, stack
from dyprag.adapters.samples import Sample
from dyprag.config import TranslatorSettings
from dyprag.corpora.documents import content_key
from dyprag.errors import DypragError, Interrupted
from dyprag.model.base import BaseModel
from dyprag.translators.checkpoint import CHECKPOINT_SECONDS, load_checkpoint, save_checkpoint
from dyprag.translators.hypernetwork import Translator

logger = logging.getLogger("dyprag.alignment")
Step = list[tuple[int, int]]  # (pair, sample) of each row


@dataclass(frozen=True)
class Pair:
    """A doc-param pair (§3.1): embedding [hidden], trained adapter [1, layers, …], and the document's samples."""

    embedding: Tensor
    adapter: Adapters
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Losses:
    """The three parts of L_align at one step, unweighted, their weighted sum, and that sum on the documents kept for
    validation where the step ended with a look at them."""

    pred: float
    mse: float
    kl: float
    total: float
    validation: float | None = None


def train_translator(
    base: BaseModel,
    translator: Translator,
    pairs: Sequence[Pair],
    settings: TranslatorSettings,
    on_step: Callable[[int, int, Losses], None] | None = None,
    checkpoint: Path | None = None,
) -> list[Losses]:
    """Train a translator in place.

    Args:
        pairs: one for each training document; a share of them, if so set, is not trained on but says when to stop.
        on_step: called with (step, steps, losses) after every optimizer step.
        checkpoint: a file that takes the state of the training once a minute, and when it is interrupted. If it is
            there at the start and belongs to this training, the training goes on from it and ends with the same weights
            as one never stopped.

    Returns:
        The losses of every step. With validation, the translator ends with the weights that did best there.

    Raises:
        DypragError: the loss is no number any more.
    """
    kept, validation = split_pairs(len(pairs), settings)
    steps = alignment_steps(pairs, settings, kept)
    training = _Training(base, translator, settings, _name(base, translator, pairs, settings, steps))
    if checkpoint:
        training.resume(checkpoint)
    saved = time.monotonic()
    translator.train()
    while len(training.curve) < len(steps) and not training.stopped:
        step = steps[len(training.curve)]
        try:
            losses = training.step([pairs[p] for p, _ in step], [pairs[p].samples[s] for p, s in step])
        except Interrupted:  # before the step changed anything
            if checkpoint:
                training.save(checkpoint)
            raise
        number = len(training.curve) + 1
        last = number == len(steps)
        if not math.isfinite(losses.total) or (last and not all(p.isfinite().all() for p in translator.parameters())):
            if checkpoint:
                checkpoint.unlink(missing_ok=True)  # to go on from it would end alike
            raise DypragError(
                "translator", f"its training diverged: at step {number} the loss is {losses.total}",
                "Lower translator.learning_rate.",
            )  # fmt: skip
        if validation and (number % settings.validate_every == 0 or last):
            losses = training.validate(losses, [pairs[p] for p in validation])
        training.curve.append(losses)
        if checkpoint and time.monotonic() - saved > CHECKPOINT_SECONDS:
            training.save(checkpoint)
            saved = time.monotonic()
        if on_step:
            on_step(number, len(steps), losses)
    if training.best:
        translator.load_state_dict(training.best)
    translator.eval()
    return training.curve


class _Training:
    """The state of a training: the optimizer's, the losses so far, and the best weights seen."""

    def __init__(self, base: BaseModel, translator: Translator, settings: TranslatorSettings, name: str) -> None:
        self.base, self.translator, self.settings, self.name = base, translator, settings, name
        self.optimizer = torch.optim.AdamW(translator.parameters(), lr=settings.learning_rate, fused=True)
        self.curve: list[Losses] = []
        self.best: dict[str, Tensor] = {}
        self.best_loss, self.worse = math.inf, 0

    @property
    def stopped(self) -> bool:
        return self.settings.patience is not None and self.worse >= self.settings.patience

    def step(self, pairs: Sequence[Pair], samples: Sequence[Sample]) -> Losses:
        with self.base.lock:
            losses, total = alignment_loss(self.base, self.translator, pairs, samples, self.settings)
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return losses

    @torch.no_grad()
    def validate(self, losses: Losses, pairs: Sequence[Pair]) -> Losses:
        """The losses with L_align on the pairs, whose best is kept."""
        rows = [(pair, sample) for pair in pairs for sample in _used(pair, self.settings)]
        rows.sort(key=lambda row: len(row[1].ids))
        size, total = self.settings.batch_size, 0.0
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            with self.base.lock:
                found, _ = alignment_loss(
                    self.base, self.translator, [p for p, _ in batch], [s for _, s in batch], self.settings
                )
            total += found.total * len(batch) / len(rows)
        self.worse += 1
        if total < self.best_loss:
            self.best_loss, self.worse = total, 0
            self.best = {name: tensor.detach().clone() for name, tensor in self.translator.state_dict().items()}
        return replace(losses, validation=total)

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on, at once or not at all."""
        curve = [asdict(losses) for losses in self.curve]
        state = {"curve": curve, "best_loss": self.best_loss, "worse": self.worse}
        save_checkpoint(path, self.name, self.translator, self.optimizer, state, self.best)

    def resume(self, path: Path) -> None:
        """Take up the state in a checkpoint; one of another training, or a damaged one, is passed over."""
        if found := load_checkpoint(path, self.name, self.translator, self.optimizer):
            state, best = found
            self.curve = [Losses(**losses) for losses in state["curve"]]
            self.best = {name: tensor.to(self.base.device) for name, tensor in best.items()}
            self.best_loss, self.worse = state["best_loss"], state["worse"]
            logger.info("The training goes on from step %d.", len(self.curve))


def _name(
    base: BaseModel, translator: Translator, pairs: Sequence[Pair], settings: TranslatorSettings, steps: list[Step]
) -> str:
    """A name for the whole training: what it computes with, on, and in which order."""
    data = []
    for pair in pairs:
        digest = hashlib.blake2b(repr([sample.ids for sample in pair.samples]).encode())
        for tensor in (pair.embedding, *pair.adapter.tensors().values()):
            digest.update(tensor.float().cpu().contiguous().numpy().data)
        data.append(digest.hexdigest())
    model = {"model": base.fingerprint, "dtype": str(base.dtype), "shape": asdict(translator.shape)}
    return content_key("training", data, {**settings.material(), **model, "steps": steps})


def _used(pair: Pair, settings: TranslatorSettings) -> Sequence[Sample]:
    """Those of a pair's samples that are trained on."""
    return pair.samples[:1] if settings.samples == "first" else pair.samples


def split_pairs(count: int, settings: TranslatorSettings) -> tuple[list[int], list[int]]:
    """Which of the pairs are trained on, and which say when to stop; at least one is trained on."""
    order = list(range(count))
    random.Random(settings.seed).shuffle(order)
    aside = min(math.ceil(count * settings.validation), count - 1)
    return sorted(order[aside:]), sorted(order[:aside])


def alignment_steps(
    pairs: Sequence[Pair], settings: TranslatorSettings, kept: Sequence[int] | None = None
) -> list[Step]:
    """All steps of a training as lists of (pair, sample): each sample of the pairs kept for it (all, if not given) once
    an epoch, like lengths together."""
    order = random.Random(settings.seed)
    steps = []
    for _ in range(settings.epochs):
        drawn = []
        for index in range(len(pairs)) if kept is None else kept:
            samples = list(range(len(_used(pairs[index], settings))))
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


@torch.no_grad()
def prediction_loss(
    base: BaseModel, translator: Translator, pairs: Sequence[Pair], settings: TranslatorSettings
) -> float:
    """The mean over documents of L_pred over the samples of each that would be trained on."""
    alone = settings.model_copy(update={"lambda_pred": 1.0, "lambda_mse": 0.0, "lambda_kl": 0.0})
    losses = []
    for pair in pairs:
        samples = _used(pair, settings)
        with base.lock:
            losses.append(alignment_loss(base, translator, [pair] * len(samples), samples, alone)[0].pred)
    return sum(losses) / len(losses)


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
    distinct = {id(pair): pair for pair in pairs}  # a document in several rows is translated once
    index = [list(distinct).index(id(pair)) for pair in pairs]
    generated = translator(torch.stack([pair.embedding for pair in distinct.values()]).to(device))
    trained = stack([pair.adapter for pair in distinct.values()]).to(device, torch.float32)
    zero = torch.zeros((), device=device)
    pred, mse, kl, total = zero, zero, zero, zero
    if settings.lambda_pred or settings.lambda_kl:
        batch = pack(base, samples, last=True)
        counted = batch.targets >= 0
        teacher = None
        if settings.lambda_kl:
            with torch.no_grad():
                teacher = hidden_states(base, batch, trained.select(index))
        student = hidden_states(base, batch, generated.select(index))
        count = counted.sum().clamp(min=1)
        found = token_losses(
            base, student, batch.targets, counted * (settings.lambda_pred / count), teacher,
            torch.full_like(counted, settings.lambda_kl / len(samples), dtype=torch.float32),
        )  # fmt: skip
        pred, kl, total = found.nll.sum() / count, found.kl.sum() / len(samples), found.total
    if settings.lambda_mse:
        made, aim = generated.tensors(), trained.tensors()
        # mean over a matrix's entries, sum over layers, projections and sides, mean over rows
        each = torch.stack([(made[k] - aim[k]).square().mean((2, 3)).sum(1) for k in made]).sum(0)
        mse = each[index].mean()
        total = total + settings.lambda_mse * mse
    return Losses(pred.item(), mse.item(), kl.item(), total.item()), total

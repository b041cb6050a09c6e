"""Stage 2: align the translator's adapters with the trained ones by three losses (§3.2).

L_align = λ_pred · L_pred + λ_mse · L_mse + λ_kl · L_kl
"""

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dyprag.adapters.forward import hidden_states, pack, token_losses
from dyprag.adapters.lora import Adapters, stack
from dyprag.adapters.samples import Sample
from dyprag.config import TranslatorSettings
from dyprag.corpora.documents import content_key
from dyprag.model.base import BaseModel
from dyprag.translators.checkpoint import State
from dyprag.translators.hypernetwork import Translator
from dyprag.translators.training import train

Step = list[tuple[int, int]]  # (pair index, sample index) of each row


@dataclass(frozen=True)
class Pair:
    """A doc-param pair (§3.1): a document's embedding [hidden], trained adapter [1, layers, …] and samples."""

    embedding: Tensor
    adapter: Adapters
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Losses:
    """The losses of one step.

    pred, mse, kl: the parts of L_align, unweighted.
    total: their weighted sum.
    validation: `total` on the validation documents; None if the step was not followed by a validation.
    """

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
        pairs: one for each training document. A share of them, if set, is held out for early stopping.
        on_step: called with (step, number of steps, losses) after every optimizer step.
        checkpoint: see `dyprag.translators.training.train`.

    Returns:
        The losses of every step. With validation, the translator ends with the best validated weights.

    Raises:
        DypragError: the loss became NaN or infinite.
    """
    recipe = Alignment(base, translator, pairs, settings)
    report = (lambda number, losses: on_step(number, recipe.steps, losses)) if on_step else None
    return train(recipe, report, checkpoint)


class Alignment:
    """The paper's recipe: align with trained adapters, and keep the weights with the best validation loss."""

    rate_setting, clip, losses_class = "translator.learning_rate", None, Losses

    def __init__(
        self, base: BaseModel, translator: Translator, pairs: Sequence[Pair], settings: TranslatorSettings
    ) -> None:
        self.base, self.translator, self.pairs, self.settings = base, translator, pairs, settings
        kept, validation = split_pairs(len(pairs), settings)
        self.validation = [pairs[index] for index in validation]
        self.plan = alignment_steps(pairs, settings, kept)
        self.steps = len(self.plan)
        self.best: dict[str, Tensor] = {}
        self.best_loss, self.worse = math.inf, 0

    @property
    def ended(self) -> bool:
        return self.settings.patience is not None and self.worse >= self.settings.patience

    def name(self) -> str:
        return _name(self.base, self.translator, self.pairs, self.settings, self.plan)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.translator.parameters(), lr=self.settings.learning_rate, fused=True)

    def rate(self, number: int) -> float:
        return self.settings.learning_rate

    def batches(self, done: int) -> Iterator[Step]:
        return iter(self.plan[done:])

    def compute(self, batch: Step) -> tuple[Losses, Tensor]:
        rows, samples = [self.pairs[p] for p, _ in batch], [self.pairs[p].samples[s] for p, s in batch]
        return alignment_loss(self.base, self.translator, rows, samples, self.settings)

    def after_step(self, number: int, losses: Losses, seconds: float) -> Losses:
        due = number % self.settings.validate_every == 0 or number == self.steps
        return replace(losses, validation=self._validate()) if self.validation and due else losses

    @torch.no_grad()
    def _validate(self) -> float:
        """Compute L_align on the validation documents, and keep the weights if it is the lowest so far."""
        rows = [(pair, sample) for pair in self.validation for sample in _used(pair, self.settings)]
        rows.sort(key=lambda row: len(row[1].ids))
        size, total = self.settings.batch_size, 0.0
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            pairs, samples = [pair for pair, _ in batch], [sample for _, sample in batch]
            with self.base.lock:
                losses, _ = alignment_loss(self.base, self.translator, pairs, samples, self.settings)
            total += losses.total * len(batch) / len(rows)
        self.worse += 1
        if total < self.best_loss:
            self.best_loss, self.worse = total, 0
            self.best = {name: tensor.detach().clone() for name, tensor in self.translator.state_dict().items()}
        return total

    def state(self) -> tuple[State, dict[str, Tensor]]:
        return {"best_loss": self.best_loss, "worse": self.worse}, self.best

    def restore(self, state: State, tensors: dict[str, Tensor]) -> None:
        self.best = {name: tensor.to(self.base.device) for name, tensor in tensors.items()}
        self.best_loss, self.worse = state["best_loss"], state["worse"]

    def finish(self) -> None:
        if self.best:
            self.translator.load_state_dict(self.best)


def _name(
    base: BaseModel, translator: Translator, pairs: Sequence[Pair], settings: TranslatorSettings, steps: list[Step]
) -> str:
    """Return a name for the training: a hash of its model, data, settings and order."""
    data = []
    for pair in pairs:
        digest = hashlib.blake2b(repr([sample.ids for sample in pair.samples]).encode())
        for tensor in (pair.embedding, *pair.adapter.tensors().values()):
            digest.update(tensor.float().cpu().contiguous().numpy().data)
        data.append(digest.hexdigest())
    model = {"model": base.fingerprint, "dtype": str(base.dtype), "shape": asdict(translator.shape)}
    return content_key("training", data, {**settings.material(), **model, "steps": steps})


def _used(pair: Pair, settings: TranslatorSettings) -> Sequence[Sample]:
    """Return the samples of a pair that are used for training."""
    return pair.samples[:1] if settings.samples == "first" else pair.samples


def split_pairs(count: int, settings: TranslatorSettings) -> tuple[list[int], list[int]]:
    """Split pair indices into training and validation; at least one is used for training."""
    order = list(range(count))
    random.Random(settings.seed).shuffle(order)
    validation_count = min(math.ceil(count * settings.validation), count - 1)
    return sorted(order[validation_count:]), sorted(order[:validation_count])


def alignment_steps(
    pairs: Sequence[Pair], settings: TranslatorSettings, kept: Sequence[int] | None = None
) -> list[Step]:
    """Plan all steps of a training. Each sample occurs once per epoch, batched with samples of similar length.

    Args:
        kept: indices of the training pairs; None for all.
    """
    generator = random.Random(settings.seed)
    steps = []
    for _ in range(settings.epochs):
        rows = []
        for index in range(len(pairs)) if kept is None else kept:
            samples = list(range(len(_used(pairs[index], settings))))
            generator.shuffle(samples)
            rows += [(index, sample) for sample in samples[: settings.samples_per_document]]
        generator.shuffle(rows)
        if settings.batch_size > 1:
            rows.sort(key=lambda item: len(pairs[item[0]].samples[item[1]].ids))
        size = settings.batch_size
        epoch = [rows[start : start + size] for start in range(0, len(rows), size)]
        generator.shuffle(epoch)
        steps += epoch
    return steps


@torch.no_grad()
def prediction_loss(
    base: BaseModel, translator: Translator, pairs: Sequence[Pair], settings: TranslatorSettings
) -> float:
    """Compute L_pred on each document's training samples, and return the mean over documents."""
    pred_only = settings.model_copy(update={"lambda_pred": 1.0, "lambda_mse": 0.0, "lambda_kl": 0.0})
    losses = []
    for pair in pairs:
        samples = _used(pair, settings)
        with base.lock:
            losses.append(alignment_loss(base, translator, [pair] * len(samples), samples, pred_only)[0].pred)
    return sum(losses) / len(losses)


def alignment_loss(
    base: BaseModel,
    translator: Translator,
    pairs: Sequence[Pair],
    samples: Sequence[Sample],
    settings: TranslatorSettings,
) -> tuple[Losses, Tensor]:
    """Compute the losses of one step: row i is `samples[i]` under the adapters of `pairs[i]`.

    L_pred: mean next-token cross-entropy over the samples' tokens.
    L_mse: mean squared error of each LoRA matrix, summed over the matrices, mean over the rows.
    L_kl: KL(trained ‖ generated) of the token distributions, summed over a sample's tokens, mean over the samples
    ('batchmean').
    """
    device = base.device
    distinct = {id(pair): pair for pair in pairs}  # a document that occurs in several rows is translated once
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
        losses = token_losses(
            base, student, batch.targets, counted * (settings.lambda_pred / count), teacher,
            torch.full_like(counted, settings.lambda_kl / len(samples), dtype=torch.float32),
        )  # fmt: skip
        pred, kl, total = losses.nll.sum() / count, losses.kl.sum() / len(samples), losses.total
    if settings.lambda_mse:
        generated_tensors, trained_tensors = generated.tensors(), trained.tensors()
        # mean over a matrix's entries, sum over layers, projections and sides, mean over rows
        per_document = torch.stack(
            [(generated_tensors[k] - trained_tensors[k]).square().mean((2, 3)).sum(1) for k in generated_tensors]
        ).sum(0)
        mse = per_document[index].mean()
        total = total + settings.lambda_mse * mse
    return Losses(pred.item(), mse.item(), kl.item(), total.item()), total

"""Stage 2's training: the translator's adapters are aligned with the trained ones by three losses (§3.2).

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
        checkpoint: as `dyprag.translators.training.train` takes it.

    Returns:
        The losses of every step. With validation, the translator ends with the weights that did best there.

    Raises:
        DypragError: the loss became NaN or infinite.
    """
    recipe = Alignment(base, translator, pairs, settings)
    tell = (lambda number, losses: on_step(number, recipe.steps, losses)) if on_step else None
    return train(recipe, tell, checkpoint)


class Alignment:
    """The paper's recipe: towards the trained adapters, and the best weights on the documents kept for validation."""

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
        """L_align on the documents kept for it; the best weights are kept."""
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

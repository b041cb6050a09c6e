"""The training loop of translators.

A recipe defines what a step computes. The loop takes care of the optimizer, the learning rate, checkpoints, resuming
and progress. The recipes are `align` (the paper's three losses, §3.2) and `distil` (documents with questions).
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from dyprag.errors import DypragError, Interrupted
from dyprag.model.base import BaseModel
from dyprag.translators.checkpoint import State, load_checkpoint, save_checkpoint

logger = logging.getLogger("dyprag.training")
CHECKPOINT_SECONDS = 60.0


class StepLosses(Protocol):
    """The losses of one step: a data class of numbers and texts. `total` is the loss that is minimised."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def total(self) -> float: ...


class Schedule(Protocol):
    """The settings of a training with warm-up and decay."""

    @property
    def steps(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...

    @property
    def warmup(self) -> int: ...

    @property
    def decay(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...


def rate(settings: Schedule, step: int) -> float:
    """Return the learning rate of a step (from 1): warm-up, constant, then linear decay to zero."""
    decay = (settings.steps - step + 1) / max(1.0, settings.decay * settings.steps)
    return settings.learning_rate * min(1.0, step / max(1, settings.warmup), decay)


def adamw(module: nn.Module, settings: Schedule) -> torch.optim.Optimizer:
    """Return the optimizer of a training with such a schedule."""
    return torch.optim.AdamW(
        module.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )


Batch = TypeVar("Batch")
Losses = TypeVar("Losses", bound=StepLosses)


class Recipe(Protocol[Batch, Losses]):
    """Defines what a training computes. Steps are numbered from 1."""

    @property
    def base(self) -> BaseModel: ...

    @property
    def translator(self) -> nn.Module: ...

    @property
    def steps(self) -> int:
        """Number of steps, unless the training ends early."""
        ...

    @property
    def clip(self) -> float | None:
        """Maximum norm for gradient clipping; None for no clipping."""
        ...

    @property
    def rate_setting(self) -> str:
        """Name of the setting to lower if the training diverges."""
        ...

    @property
    def losses_class(self) -> type[Losses]: ...

    @property
    def ended(self) -> bool:
        """Whether the training should end early."""
        ...

    def name(self) -> str:
        """A name for the training: a hash of its model, data, settings and order. A checkpoint is only resumed by a
        training of the same name."""
        ...

    def optimizer(self) -> torch.optim.Optimizer: ...

    def rate(self, number: int) -> float:
        """Return the learning rate of a step."""
        ...

    def batches(self, done: int) -> Iterator[Batch]:
        """Iterate over the batches of the remaining steps, after `done` steps."""
        ...

    def compute(self, batch: Batch) -> tuple[Losses, Tensor]:
        """Compute the losses of a step, and their weighted sum with its gradient."""
        ...

    def after_step(self, number: int, losses: Losses, seconds: float) -> Losses:
        """Complete a step's losses after the optimizer step, for example with a validation loss."""
        ...

    def state(self) -> tuple[State, dict[str, Tensor]]:
        """Return the recipe's own state for a checkpoint: JSON-serialisable values, and tensors."""
        ...

    def restore(self, state: State, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        ...

    def finish(self) -> None:
        """Load the final weights into the translator."""
        ...


def train(
    recipe: Recipe[Batch, Losses],
    on_step: Callable[[int, Losses], None] | None = None,
    checkpoint: Path | None = None,
) -> list[Losses]:
    """Train the recipe's translator in place.

    Args:
        on_step: called with (step, losses) after every step.
        checkpoint: file for the state of the training, written once a minute and on interruption. If it exists and
            belongs to this training, the training resumes from it and ends with the same weights as without a stop.

    Returns:
        The losses of every step.

    Raises:
        DypragError: the loss became NaN or infinite.
    """
    run = _Run(recipe, checkpoint)
    run.resume()
    last_save = step_end = time.monotonic()
    recipe.translator.train()
    for number, batch in enumerate(recipe.batches(len(run.curve)), start=len(run.curve) + 1):
        if recipe.ended:
            break
        losses = run.step(number, batch)
        step_end, previous_end = time.monotonic(), step_end
        losses = recipe.after_step(number, losses, step_end - previous_end)
        run.curve.append(losses)
        if time.monotonic() - last_save > CHECKPOINT_SECONDS:
            run.save()
            last_save = time.monotonic()
        if on_step:
            on_step(number, losses)
    recipe.finish()
    recipe.translator.eval()
    return run.curve


class _Run:
    """The loop's state: the optimizer, and the losses so far."""

    def __init__(self, recipe: Recipe[Any, Any], checkpoint: Path | None) -> None:
        self.recipe, self.checkpoint = recipe, checkpoint
        self.optimizer, self.name = recipe.optimizer(), recipe.name()
        self.curve: list[Any] = []

    def step(self, number: int, batch: Any) -> Any:
        """Run a step: compute the losses and update the weights."""
        recipe, translator = self.recipe, self.recipe.translator
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(number)
        finite = True
        with recipe.base.lock:
            try:
                losses, total = recipe.compute(batch)
            except Interrupted:  # before the step changed anything
                self.save()
                raise
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            if recipe.clip is not None:
                finite = math.isfinite(float(nn.utils.clip_grad_norm_(translator.parameters(), recipe.clip)))
            self.optimizer.step()
        if number == recipe.steps:  # no later loss would reveal it
            finite = finite and all(weights.isfinite().all() for weights in translator.parameters())
        if not finite or not math.isfinite(losses.total):
            self._refuse(number, losses.total)
        return losses

    def _refuse(self, number: int, loss: float) -> None:
        if self.checkpoint:
            self.checkpoint.unlink(missing_ok=True)  # resuming from it would diverge again
        raise DypragError(
            "translator", f"its training diverged: at step {number} the loss is {loss}",
            f"Lower {self.recipe.rate_setting}.",
        )  # fmt: skip

    def save(self) -> None:
        """Write the checkpoint atomically."""
        if self.checkpoint:
            state, tensors = self.recipe.state()
            state = {"curve": [asdict(losses) for losses in self.curve], **state}
            save_checkpoint(self.checkpoint, self.name, self.recipe.translator, self.optimizer, state, tensors)

    def resume(self) -> None:
        """Resume from the checkpoint, unless it is damaged or belongs to another training."""
        if not self.checkpoint:
            return
        if loaded := load_checkpoint(self.checkpoint, self.name, self.recipe.translator, self.optimizer):
            state, tensors = loaded
            self.curve = [self.recipe.losses_class(**losses) for losses in state.pop("curve")]
            self.recipe.restore(state, tensors)
            logger.info("Resuming the training at step %d.", len(self.curve))

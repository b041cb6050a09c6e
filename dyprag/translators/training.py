"""The loop that trains a translator, whatever it learns from: a recipe says what a step computes, the loop does the
rest: the optimizer's step, the learning rate, checkpoints, resuming, progress, and the end.

The recipes are `align` (the paper's three losses, §3.2) and `distil` (documents with questions).
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
    """The losses of one step, a data class of plain numbers and texts; `total` is what was minimised."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def total(self) -> float: ...


Batch = TypeVar("Batch")
Losses = TypeVar("Losses", bound=StepLosses)


class Recipe(Protocol[Batch, Losses]):
    """What a training computes. Steps are numbered from 1."""

    @property
    def base(self) -> BaseModel: ...

    @property
    def translator(self) -> nn.Module: ...

    @property
    def steps(self) -> int:
        """How many steps there are, unless it ends early."""
        ...

    @property
    def clip(self) -> float | None:
        """The largest norm of a step's gradient; a longer one is shortened. None: it is left as it is."""
        ...

    @property
    def rate_setting(self) -> str:
        """The setting to lower where the training diverges."""
        ...

    @property
    def losses_class(self) -> type[Losses]: ...

    @property
    def ended(self) -> bool:
        """Whether the training has nothing more to gain from further steps."""
        ...

    def name(self) -> str:
        """A name for the whole training: what it computes with, on, and in which order. A checkpoint is taken up only
        by a training of the same name."""
        ...

    def optimizer(self) -> torch.optim.Optimizer: ...

    def rate(self, number: int) -> float:
        """The learning rate of a step."""
        ...

    def batches(self, done: int) -> Iterator[Batch]:
        """What each step is computed on, after those that are done."""
        ...

    def compute(self, batch: Batch) -> tuple[Losses, Tensor]:
        """The losses of a step, and their weighted sum with its gradient."""
        ...

    def after_step(self, number: int, losses: Losses, seconds: float) -> Losses:
        """The losses with what else is to be known of a step, once the weights have moved."""
        ...

    def state(self) -> tuple[State, dict[str, Tensor]]:
        """What a checkpoint holds besides weights, optimizer and losses: what JSON can hold, and tensors."""
        ...

    def restore(self, state: State, tensors: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        ...

    def finish(self) -> None:
        """Leave the translator with the weights that the training ends with."""
        ...


def train(
    recipe: Recipe[Batch, Losses],
    on_step: Callable[[int, Losses], None] | None = None,
    checkpoint: Path | None = None,
) -> list[Losses]:
    """Train the recipe's translator in place.

    Args:
        on_step: called with (step, losses) after every step.
        checkpoint: a file that takes the state of the training once a minute, and when it is interrupted. If it is
            there at the start and belongs to this training, the training goes on from it and ends with the same weights
            as one never stopped.

    Returns:
        The losses of every step.

    Raises:
        DypragError: the loss became NaN or infinite.
    """
    run = _Run(recipe, checkpoint)
    run.resume()
    saved = began = time.monotonic()
    recipe.translator.train()
    for number, batch in enumerate(recipe.batches(len(run.curve)), start=len(run.curve) + 1):
        if recipe.ended:
            break
        losses = run.step(number, batch)
        began, before = time.monotonic(), began
        losses = recipe.after_step(number, losses, began - before)
        run.curve.append(losses)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            run.save()
            saved = time.monotonic()
        if on_step:
            on_step(number, losses)
    recipe.finish()
    recipe.translator.eval()
    return run.curve


class _Run:
    """The state of a training beside the recipe's: the optimizer's, and the losses so far."""

    def __init__(self, recipe: Recipe[Any, Any], checkpoint: Path | None) -> None:
        self.recipe, self.checkpoint = recipe, checkpoint
        self.optimizer, self.name = recipe.optimizer(), recipe.name()
        self.curve: list[Any] = []

    def step(self, number: int, batch: Any) -> Any:
        """Compute the losses of a step and move the weights."""
        recipe, translator = self.recipe, self.recipe.translator
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(number)
        sound = True
        with recipe.base.lock:
            try:
                losses, total = recipe.compute(batch)
            except Interrupted:  # before the step changed anything
                self.save()
                raise
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            if recipe.clip is not None:
                sound = math.isfinite(float(nn.utils.clip_grad_norm_(translator.parameters(), recipe.clip)))
            self.optimizer.step()
        if number == recipe.steps:  # no later loss would show it
            sound = sound and all(weights.isfinite().all() for weights in translator.parameters())
        if not sound or not math.isfinite(losses.total):
            self._refuse(number, losses.total)
        return losses

    def _refuse(self, number: int, loss: float) -> None:
        if self.checkpoint:
            self.checkpoint.unlink(missing_ok=True)  # to go on from it would end alike
        raise DypragError(
            "translator", f"its training diverged: at step {number} the loss is {loss}",
            f"Lower {self.recipe.rate_setting}.",
        )  # fmt: skip

    def save(self) -> None:
        """Write everything that the next step depends on, at once or not at all."""
        if self.checkpoint:
            state, tensors = self.recipe.state()
            state = {"curve": [asdict(losses) for losses in self.curve], **state}
            save_checkpoint(self.checkpoint, self.name, self.recipe.translator, self.optimizer, state, tensors)

    def resume(self) -> None:
        """Take up the checkpoint; one of another training, or a damaged one, is passed over."""
        if not self.checkpoint:
            return
        if held := load_checkpoint(self.checkpoint, self.name, self.recipe.translator, self.optimizer):
            state, tensors = held
            self.curve = [self.recipe.losses_class(**losses) for losses in state.pop("curve")]
            self.recipe.restore(state, tensors)
            logger.info("The training goes on from step %d.", len(self.curve))

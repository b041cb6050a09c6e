"""Train a translator on documents with questions, without trained adapters as targets.

It uses §3.2's L_pred, and context distillation instead of L_kl. With a translated adapter and *no* passage, the base
model should give the known answer, or the answer that it gives with the passage in its prompt. Asked about another
document, it should answer as without an adapter. All questions of a document share one row: they follow their common
prompt prefix and do not attend to each other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from dyprag.adapters.forward import token_losses
from dyprag.adapters.lora import together
from dyprag.adapters.trees import answer_states
from dyprag.config import LearnSettings
from dyprag.corpora.documents import content_key
from dyprag.errors import DypragError
from dyprag.model.base import BaseModel
from dyprag.model.prompts import question_prompt
from dyprag.translators.checkpoint import State
from dyprag.translators.lesson_steps import Step, Steps, prepared
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.protocol import Translating
from dyprag.translators.training import adamw, rate, train

CALIBRATED = 24  # number of documents, and of questions, used for calibration
MOST_READ = 30_000  # maximum readings kept in memory


def calibration_prompts(base: BaseModel, lessons: Sequence[Lesson]) -> list[list[int]]:
    """Return token ids of evenly chosen documents and questions about them, to calibrate a new translator on.

    Raises:
        DypragError: no lesson has a pair.
    """
    lessons = with_pairs(lessons)
    chosen = lessons[:: max(1, len(lessons) // CALIBRATED)][:CALIBRATED]
    prompts = [base.tokenizer(lesson.document.passage)["input_ids"] for lesson in chosen]
    return prompts + [question_prompt(base.tokenizer, lesson.pairs[0].question) for lesson in chosen]


def with_pairs(lessons: Sequence[Lesson]) -> list[Lesson]:
    """The lessons that have questions.

    Raises:
        DypragError: no lesson has a pair.
    """
    chosen = [lesson for lesson in lessons if lesson.pairs]
    if not chosen:
        remedy = "Raise learn.closed or learn.open, or set learn.data or learn.people."
        raise DypragError("learning", "there are no documents with questions", remedy)
    return chosen


@dataclass(frozen=True)
class Learned:
    """The losses of one step.

    pred: cross-entropy of the known answers.
    teacher: KL to the base model with the passage in its prompt.
    unrelated: KL to the base model on questions about other documents.
    total: the weighted sum.
    seconds, device: how long the step took, and on which device.
    """

    pred: float
    teacher: float
    unrelated: float
    total: float
    seconds: float = field(default=0.0, compare=False)
    device: str = field(default="", compare=False)


def learn(
    base: BaseModel,
    translator: nn.Module,
    lessons: Sequence[Lesson],
    settings: LearnSettings,
    on_step: Callable[[int, Learned], None] | None = None,
    checkpoint: Path | None = None,
) -> list[Learned]:
    """Train a translator in place.

    Args:
        translator: from `dyprag.translators.protocol.fresh_translator`.
        lessons: documents with pairs; lessons without pairs are skipped.
        on_step, checkpoint: see `dyprag.translators.training.train`.

    Returns:
        The losses of every step.

    Raises:
        DypragError: no lesson has a pair, or the loss became NaN or infinite.
    """
    return train(Distillation(base, translator, with_pairs(lessons), settings), on_step, checkpoint)


class Distillation:
    """The recipe without trained adapters: see the module's docstring."""

    rate_setting, losses_class, ended = "learn.learning_rate", Learned, False

    def __init__(
        self, base: BaseModel, translator: nn.Module, lessons: Sequence[Lesson], settings: LearnSettings
    ) -> None:
        self.base, self.translator, self.lessons, self.settings = base, translator, lessons, settings
        self.reader = cast(Translating, translator)
        self.library = Library(base, self.reader, lessons)
        self.steps, self.clip = settings.steps, settings.clip
        self.device = torch.cuda.get_device_name(base.device) if base.device.type == "cuda" else base.device.type

    def name(self) -> str:
        return _name(self.base, self.translator, self.lessons, self.settings)

    def optimizer(self) -> torch.optim.Optimizer:
        return adamw(self.translator, self.settings)

    def rate(self, number: int) -> float:
        return rate(self.settings, number)

    def batches(self, done: int) -> Iterator[Step]:
        return prepared(self.base, Steps(self.base.tokenizer, self.lessons, self.settings), done)

    def compute(self, batch: Step) -> tuple[Learned, Tensor]:
        return lesson_loss(self.base, self.reader, batch, self.settings, self.library)

    def after_step(self, number: int, losses: Learned, seconds: float) -> Learned:
        return replace(losses, seconds=seconds, device=self.device)

    def state(self) -> tuple[State, dict[str, Tensor]]:
        return {}, {}

    def restore(self, state: State, tensors: dict[str, Tensor]) -> None:
        """Restore nothing: the recipe has no state of its own."""

    def finish(self) -> None:
        """Keep the weights of the last step."""


class Library:
    """Cache of the translator's readings of lessons, up to `MOST_READ`."""

    def __init__(self, base: BaseModel, translator: Translating, lessons: Sequence[Lesson]) -> None:
        self.base, self.translator, self.lessons = base, translator, lessons
        self.read: dict[int, Any] = {}
        self.most = MOST_READ
        self.together = 1  # batches would change padding, and thus the last bits after resuming
        if base.device.type != "cpu":  # accelerators are not bit-exact anyway
            self.together = len(lessons)

    def readings(self, indices: Sequence[int]) -> list[Any]:
        """Return the readings of lessons, by index."""
        missing = [index for index in dict.fromkeys(indices) if index not in self.read]
        new: dict[int, Any] = {}
        for start in range(0, len(missing), self.together):
            batch = missing[start : start + self.together]
            passages = [self.lessons[index].document.passage for index in batch]
            new |= zip(batch, self.translator.read(self.base, passages), strict=True)
        readings = [new[index] if index in new else self.read[index] for index in indices]
        for index, reading in new.items():
            if len(self.read) < self.most:
                self.read[index] = reading
        return readings


def lesson_loss(
    base: BaseModel, translator: Translating, step: Step, settings: LearnSettings, library: Library
) -> tuple[Learned, Tensor]:
    """Compute the losses of one step.

    L_pred: mean cross-entropy of the known answers' tokens.
    Teacher: KL(base model with the passage in its prompt ‖ base model with the adapter), mean over the same tokens.
    Unrelated: KL(base model ‖ base model with the adapter), mean over the answer tokens of questions about other
    documents.
    """
    tree, foreign = step.tree, step.foreign
    teacher = None
    if step.shown or step.strangers:
        teacher = torch.zeros(len(tree.targets), base.hidden, device=base.device, dtype=base.dtype)
        with torch.no_grad():
            if step.shown:
                teacher[~foreign] = answer_states(base, step.shown, None)
            if step.strangers:
                teacher[foreign] = answer_states(base, step.strangers, None)
    adapters = together(translator.translate(library.readings(step.lessons)), step.together)
    states = answer_states(base, tree, adapters, translator.first_layer)
    own, unrelated = (~foreign).float(), foreign.float()
    counts = own.sum(), unrelated.sum().clamp(min=1)
    kl_weights = settings.lambda_teacher * own / counts[0] + settings.lambda_unrelated * unrelated / counts[1]
    losses = token_losses(base, states, tree.targets, settings.lambda_pred * own / counts[0], teacher, kl_weights)
    pred, teacher_kl, unrelated_kl = (losses.nll * own).sum(), (losses.kl * own).sum(), (losses.kl * unrelated).sum()
    teacher_kl *= settings.lambda_teacher > 0  # zero without a teacher
    values = torch.stack(
        [pred / counts[0], teacher_kl / counts[0], unrelated_kl / counts[1], losses.total.detach()]
    ).tolist()
    return Learned(*values), losses.total


def _name(base: BaseModel, translator: Any, lessons: Sequence[Lesson], settings: LearnSettings) -> str:
    """Return a name for the training: a hash of its model, data and settings."""
    model = {"model": base.fingerprint, "dtype": str(base.dtype), "shape": asdict(translator.shape)}
    return content_key("learning", [lesson.key for lesson in lessons], {**settings.material(), **model})

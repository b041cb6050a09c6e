"""Training a translator on documents and what is asked about them, with no trained adapter as its target (§3.2's L_pred
alone, and context distillation in L_kl's place).

With a translated adapter and *no* passage the base model is to answer what is known to be right, or as the same model
answers with the passage in its prompt; asked about another document, it is to answer as it does without an adapter.
All questions of a document stand in one row, behind the part of the prompt that they share, blind to each other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from dyprag.adapters.forward import token_losses
from dyprag.config import LearnSettings
from dyprag.corpora.documents import content_key
from dyprag.errors import DypragError
from dyprag.model.base import BaseModel
from dyprag.model.prompts import question_prompt
from dyprag.translators.checkpoint import State
from dyprag.translators.lesson_steps import Step, Steps, prepared
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.protocol import Translating
from dyprag.translators.training import train
from dyprag.translators.trees import answer_states

CALIBRATED = 24  # documents, and questions, that a fresh translator is calibrated on
MOST_READ = 30_000  # readings kept in memory


def calibration_prompts(base: BaseModel, lessons: Sequence[Lesson]) -> list[list[int]]:
    """Token ids of some of the documents and of questions about them, spread over all: what a fresh translator is
    calibrated on."""
    some = lessons[:: max(1, len(lessons) // CALIBRATED)][:CALIBRATED]
    prompts = [base.tokenizer(lesson.document.passage)["input_ids"] for lesson in some]
    return prompts + [question_prompt(base.tokenizer, lesson.pairs[0].question) for lesson in some]


@dataclass(frozen=True)
class Learned:
    """The losses of one step: of the right answers, towards the teacher with the passage, and towards the base model
    on questions about other documents; `total` as weighted. With how long it took, and on what."""

    pred: float
    teacher: float
    unrelated: float
    total: float
    seconds: float = field(default=0.0, compare=False)
    device: str = field(default="", compare=False)


def rate(settings: LearnSettings, step: int) -> float:
    """The learning rate of a step (from 1): warm-up, constant, then linear to zero."""
    left = (settings.steps - step + 1) / max(1.0, settings.decay * settings.steps)
    return settings.learning_rate * min(1.0, step / max(1, settings.warmup), left)


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
        translator: one that `dyprag.translators.protocol.fresh_translator` made.
        lessons: documents with pairs; one with none is passed over.
        on_step, checkpoint: as `dyprag.translators.training.train` takes them.

    Returns:
        The losses of every step.

    Raises:
        DypragError: no lesson has a pair, or the loss became NaN or infinite.
    """
    lessons = [lesson for lesson in lessons if lesson.pairs]
    if not lessons:
        raise DypragError("learning", "there are no documents with questions", "Raise learn.closed, or set learn.data.")
    return train(Distillation(base, translator, lessons, settings), on_step, checkpoint)


class Distillation:
    """The recipe that needs no trained adapter: right answers, the model that sees the passage, and the plain model on
    questions about other documents."""

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
        settings = self.settings
        return torch.optim.AdamW(
            self.translator.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98),
            weight_decay=settings.weight_decay,
        )  # fmt: skip

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
        """Nothing but the weights and the losses goes on."""

    def finish(self) -> None:
        """The last weights are those to be kept."""


class Library:
    """What a translator reads of lessons, each made once, as many kept as there is room for."""

    def __init__(self, base: BaseModel, translator: Translating, lessons: Sequence[Lesson]) -> None:
        self.base, self.translator, self.lessons = base, translator, lessons
        self.read: dict[int, Any] = {}
        self.most = MOST_READ
        self.together = 1  # in other company it would be padded, and differ in its last bits after a resumption
        if base.device.type != "cpu":  # nothing is the same to the last bit there
            self.together = len(lessons)

    def readings(self, wanted: Sequence[int]) -> list[Any]:
        """Those of some lessons, by their numbers."""
        missing = [index for index in dict.fromkeys(wanted) if index not in self.read]
        made: dict[int, Any] = {}
        for at in range(0, len(missing), self.together):
            part = missing[at : at + self.together]
            passages = [self.lessons[index].document.passage for index in part]
            made |= zip(part, self.translator.read(self.base, passages), strict=True)
        found = [made[index] if index in made else self.read[index] for index in wanted]
        for index, reading in made.items():
            if len(self.read) < self.most:
                self.read[index] = reading
        return found


def lesson_loss(
    base: BaseModel, translator: Translating, step: Step, settings: LearnSettings, library: Library
) -> tuple[Learned, Tensor]:
    """The losses of one step.

    L_pred: mean cross-entropy of the right answers' tokens. Teacher: mean over the same tokens of KL(base model with
    the passage in its prompt ‖ base model with the adapter). Unrelated: mean over the answer tokens of questions about
    other documents of KL(base model ‖ base model with the adapter).
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
    adapters = translator.translate(library.readings(step.lessons))
    states = answer_states(base, tree, adapters, translator.first_layer)
    mine, theirs = (~foreign).float(), foreign.float()
    counts = mine.sum(), theirs.sum().clamp(min=1)
    towards = settings.lambda_teacher * mine / counts[0] + settings.lambda_unrelated * theirs / counts[1]
    found = token_losses(base, states, tree.targets, settings.lambda_pred * mine / counts[0], teacher, towards)
    pred, near, away = (found.nll * mine).sum(), (found.kl * mine).sum(), (found.kl * theirs).sum()
    near *= settings.lambda_teacher > 0  # there was none to be near to
    losses = torch.stack([pred / counts[0], near / counts[0], away / counts[1], found.total.detach()]).tolist()
    return Learned(*losses), found.total


def _name(base: BaseModel, translator: Any, lessons: Sequence[Lesson], settings: LearnSettings) -> str:
    """A name for the whole training: what it computes with, on, and in which order."""
    model = {"model": base.fingerprint, "dtype": str(base.dtype), "shape": asdict(translator.shape)}
    return content_key("learning", [lesson.key for lesson in lessons], {**settings.material(), **model})

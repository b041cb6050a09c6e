"""Train a question writer: a LoRA of the base model that asks about the sentences of a passage."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dyprag.adapters.forward import token_losses
from dyprag.adapters.lora import Adapters, initial_adapters
from dyprag.adapters.trees import Tree, answer_states, build_tree
from dyprag.augmentation.writer.lessons import WriterLesson
from dyprag.augmentation.writer.prompts import ask_sample
from dyprag.config.writer import WriterSettings
from dyprag.corpora.documents import content_key
from dyprag.model.base import PROJECTIONS, BaseModel
from dyprag.translators.checkpoint import State
from dyprag.translators.training import adamw, rate, train


class WriterModule(nn.Module):
    """The writer's matrices as parameters: [1, layers, …], float32."""

    def __init__(self, initial: Adapters) -> None:
        super().__init__()
        self.a = nn.ParameterDict(dict(initial.a))
        self.b = nn.ParameterDict(dict(initial.b))
        self.scale = initial.scale

    def adapters(self) -> Adapters:
        return Adapters({p: self.a[p] for p in PROJECTIONS}, {p: self.b[p] for p in PROJECTIONS}, self.scale)


@dataclass(frozen=True)
class Written:
    """The loss of one step: mean cross-entropy of the tokens of the answers and their questions."""

    total: float
    seconds: float = field(default=0.0, compare=False)


def fresh_writer(base: BaseModel, settings: WriterSettings) -> WriterModule:
    """Create a writer that does not change the model yet."""
    return WriterModule(initial_adapters(base, settings.rank, settings.alpha, settings.seed))


def learn_to_write(
    base: BaseModel,
    writer: WriterModule,
    lessons: Sequence[WriterLesson],
    settings: WriterSettings,
    on_step: Callable[[int, Written], None] | None = None,
    checkpoint: Path | None = None,
) -> list[Written]:
    """Train a writer in place. Returns the losses of every step.

    All questions of a passage share one row: they follow the passage and do not attend to each other.

    Args:
        on_step, checkpoint: see `dyprag.translators.training.train`.
    """
    return train(_Recipe(base, writer, lessons, settings), on_step, checkpoint)


class _Recipe:
    """See `dyprag.translators.training.Recipe`."""

    rate_setting, losses_class, ended = "writer.learning_rate", Written, False

    def __init__(
        self, base: BaseModel, writer: WriterModule, lessons: Sequence[WriterLesson], settings: WriterSettings
    ) -> None:
        self.base, self.translator, self.lessons, self.settings = base, writer, lessons, settings
        self.steps, self.clip = settings.steps, settings.clip

    def name(self) -> str:
        model = {"model": self.base.fingerprint, "dtype": str(self.base.dtype)}
        lessons = [text for lesson in self.lessons for text in lesson.texts]
        return content_key("writing", lessons, {**self.settings.material(), **model})

    def optimizer(self) -> torch.optim.Optimizer:
        return adamw(self.translator, self.settings)

    def rate(self, number: int) -> float:
        return rate(self.settings, number)

    def batches(self, done: int) -> Iterator[Tree]:
        lengths = [
            len(lesson.document.passage) + sum(len(x.sentence) for x in lesson.asked[: self.settings.questions])
            for lesson in self.lessons
        ]
        for number in range(done, self.steps):
            chosen = drawn(lengths, self.settings, number)
            yield step_tree(self.base, [self.lessons[index] for index in chosen], self.settings)

    def compute(self, batch: Tree) -> tuple[Written, Tensor]:
        loss = writing_loss(self.base, self.translator.adapters(), batch, self.settings.first_layer)
        return Written(float(loss.detach())), loss

    def after_step(self, number: int, losses: Written, seconds: float) -> Written:
        return replace(losses, seconds=seconds)

    def state(self) -> tuple[State, dict[str, Tensor]]:
        return {}, {}

    def restore(self, state: State, tensors: dict[str, Tensor]) -> None:
        """Restore nothing: the recipe has no state of its own."""

    def finish(self) -> None:
        """Keep the weights of the last step."""


POOL = 16  # steps whose passages are drawn together and then grouped by length, so that rows need little padding


def drawn(lengths: Sequence[int], settings: WriterSettings, step: int) -> list[int]:
    """Return the lessons of a step (from 0): each lesson once before any comes again, and of similar lengths.

    Args:
        lengths: the length of each lesson, in any unit.
    """
    size = POOL * settings.documents
    first = step // POOL * size
    pool: list[int] = []
    while len(pool) < size:
        turn, place = divmod(first + len(pool), len(lengths))
        order = list(range(len(lengths)))
        random.Random(f"{settings.seed}/{turn}").shuffle(order)
        pool += order[place : place + size - len(pool)]
    pool.sort(key=lambda index: lengths[index])
    groups = [pool[start : start + settings.documents] for start in range(0, size, settings.documents)]
    random.Random(f"{settings.seed}/{step // POOL} order").shuffle(groups)
    return groups[step % POOL]


def step_tree(base: BaseModel, lessons: Sequence[WriterLesson], settings: WriterSettings) -> Tree:
    """Return a step's rows, one for each passage with its questions."""
    return build_tree(
        base,
        [
            [ask_sample(base.tokenizer, lesson.document, asked) for asked in lesson.asked[: settings.questions]]
            for lesson in lessons
        ],
    )


def writing_loss(base: BaseModel, adapters: Adapters, tree: Tree, first_layer: int = 0) -> Tensor:
    """Compute the mean cross-entropy of a tree's targets."""
    states = answer_states(base, tree, adapters, first_layer)
    weights = torch.full((len(tree.targets),), 1 / len(tree.targets), device=tree.targets.device)
    return token_losses(base, states, tree.targets, weights).total

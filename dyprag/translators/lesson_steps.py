"""The steps of a training on lessons: the choice of documents and questions, and their tensors."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dyprag.adapters.samples import Sample
from dyprag.adapters.trees import Tree, build_tree_on_cpu, shared_length
from dyprag.config import LearnSettings
from dyprag.model.base import BaseModel
from dyprag.model.prompts import training_sample
from dyprag.runtime.threads import usable_cores
from dyprag.translators.lessons.lesson import Lesson

MAX_WORKERS = 8  # processes that prepare steps for an accelerator


@dataclass(frozen=True)
class Draw:
    """One row of a step: a lesson, the indices of its pairs, and optionally another lesson's pair (lesson, pair)."""

    lesson: int
    pairs: tuple[int, ...]
    other: tuple[int, int] | None


def draws(lessons: Sequence[Lesson], settings: LearnSettings, step: int) -> list[Draw]:
    """Draw the rows of a step. They depend only on the seed and the step's number."""
    generator = random.Random(f"{settings.seed}/{step}")
    rows = []
    for _ in range(settings.documents):
        index = generator.randrange(len(lessons))
        pairs = generator.sample(range(len(lessons[index].pairs)), min(settings.questions, len(lessons[index].pairs)))
        other = None
        if generator.random() < settings.unrelated and len(lessons) > 1:
            other_lesson = (index + generator.randrange(1, len(lessons))) % len(lessons)
            other = other_lesson, generator.randrange(len(lessons[other_lesson].pairs))
        rows.append(Draw(index, tuple(pairs), other))
    return rows


def documents_together(settings: LearnSettings, step: int) -> int:
    """Draw how many documents' adapters each row of a step has in place."""
    most = min(settings.most_together, settings.documents)
    generator = random.Random(f"{settings.seed}/{step}/together")  # apart from the rows, which stay as they were
    return generator.randint(2, most) if most > 1 and generator.random() < settings.together else 1


@dataclass(frozen=True)
class Step:
    """The rows of a step as tensors.

    lessons: the lesson of each row.
    together: how many documents' adapters each row has in place: its own, and those of the rows after it.
    tree: all questions of the rows.
    foreign: [answer tokens], which tokens belong to questions about other lessons.
    strangers: the questions about other lessons alone.
    shown: the rows' own questions after the passage, for the teacher.
    """

    lessons: list[int]
    together: int
    tree: Tree
    foreign: Tensor
    strangers: Tree | None
    shown: Tree | None

    def to(self, device: torch.device) -> "Step":
        """Return the step on a device."""
        strangers, shown = (tree and tree.to(device) for tree in (self.strangers, self.shown))
        return Step(self.lessons, self.together, self.tree.to(device), self.foreign.to(device), strangers, shown)


class Steps(torch.utils.data.Dataset[Step]):
    """The steps of a training, numbered from 0. Each sample is tokenized once."""

    def __init__(self, tokenizer: Any, lessons: Sequence[Lesson], settings: LearnSettings) -> None:
        self.tokenizer, self.lessons, self.settings = tokenizer, lessons, settings
        self.samples: dict[tuple[int, int], Sample] = {}

    def __getitem__(self, number: int) -> Step:
        rows = draws(self.lessons, self.settings, number + 1)
        related = [self._fitting([self._sample(row.lesson, i) for i in row.pairs]) for row in rows]
        unrelated = [[self._sample(*row.other)] if row.other else [] for row in rows]
        pad = self.tokenizer.pad_token_id
        tree = build_tree_on_cpu([own + other for own, other in zip(related, unrelated, strict=True)], pad)
        flags = [flag for own, other in zip(related, unrelated, strict=True)
                 for flag in [False] * len(own) + [True] * len(other)]  # fmt: skip
        shown = None
        if self.settings.lambda_teacher:
            samples = [[self._shown(row.lesson, i) for i in row.pairs[: len(own)]]
                       for row, own in zip(rows, related, strict=True)]  # fmt: skip
            shown = build_tree_on_cpu(samples, pad)
        strangers = build_tree_on_cpu([other for other in unrelated if other], pad) if any(unrelated) else None
        lessons, together = [row.lesson for row in rows], documents_together(self.settings, number + 1)
        return Step(lessons, together, tree, torch.tensor(flags)[tree.samples], strangers, shown)

    def _sample(self, lesson: int, pair: int) -> Sample:
        if (lesson, pair) not in self.samples:
            question_pair = self.lessons[lesson].pairs[pair]
            self.samples[lesson, pair] = Sample(
                *training_sample(self.tokenizer, question_pair.question, question_pair.answer)
            )
        return self.samples[lesson, pair]

    def _shown(self, lesson: int, pair: int) -> Sample:
        question_pair, passage = self.lessons[lesson].pairs[pair], self.lessons[lesson].document.passage
        return Sample(*training_sample(self.tokenizer, question_pair.question, question_pair.answer, passage))

    def _fitting(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return the leading samples that fit into `row_tokens`, at least one: all rows are padded to the longest."""
        count = 1
        while count < len(samples):
            row = samples[: count + 1]
            shared = shared_length(row)
            if shared + sum(len(sample.ids) - shared for sample in row) > self.settings.row_tokens:
                break
            count += 1
        return list(samples[:count])


def prepared(base: BaseModel, steps: Steps, first: int) -> Iterator[Step]:
    """Iterate over the steps from `first` on. For an accelerator, worker processes prepare them in advance."""
    remaining = range(first, steps.settings.steps)
    if base.device.type == "cpu":
        return (steps[number] for number in remaining)
    workers = min(MAX_WORKERS, usable_cores() - 1, len(remaining))
    loader = torch.utils.data.DataLoader(
        steps, batch_size=None, sampler=remaining, num_workers=workers, prefetch_factor=4 if workers else None
    )
    return (step.to(base.device) for step in loader)

"""The steps of a training on lessons: which documents and questions each draws, and these as tensors."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dyprag.adapters.samples import Sample
from dyprag.config import LearnSettings
from dyprag.model.base import BaseModel
from dyprag.model.prompts import training_sample
from dyprag.runtime.threads import usable_cores
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.trees import Tree, grown, shared_length

MOST_HELPERS = 8  # processes that make steps for an accelerator


@dataclass(frozen=True)
class Draw:
    """One row of a step: a lesson, which of its pairs, and a pair (lesson, pair) of another one or none."""

    lesson: int
    pairs: tuple[int, ...]
    other: tuple[int, int] | None


def draws(lessons: Sequence[Lesson], settings: LearnSettings, step: int) -> list[Draw]:
    """The rows of a step, which depend on the seed and the step's number only."""
    order = random.Random(f"{settings.seed}/{step}")
    rows = []
    for _ in range(settings.documents):
        index = order.randrange(len(lessons))
        pairs = order.sample(range(len(lessons[index].pairs)), min(settings.questions, len(lessons[index].pairs)))
        other = None
        if order.random() < settings.unrelated and len(lessons) > 1:
            stranger = (index + order.randrange(1, len(lessons))) % len(lessons)
            other = stranger, order.randrange(len(lessons[stranger].pairs))
        rows.append(Draw(index, tuple(pairs), other))
    return rows


@dataclass(frozen=True)
class Step:
    """The rows of a step as tensors: of which lessons they are, their questions, which answer tokens belong to
    questions about other lessons, those questions alone, and, for the teacher, the own ones behind the passage."""

    lessons: list[int]
    tree: Tree
    foreign: Tensor
    strangers: Tree | None
    shown: Tree | None

    def to(self, device: torch.device) -> "Step":
        """The same on a device."""
        strangers, shown = (tree and tree.to(device) for tree in (self.strangers, self.shown))
        return Step(self.lessons, self.tree.to(device), self.foreign.to(device), strangers, shown)


class Steps(torch.utils.data.Dataset[Step]):
    """The steps of a training, by their number from 0; each sample is tokenized once."""

    def __init__(self, tokenizer: Any, lessons: Sequence[Lesson], settings: LearnSettings) -> None:
        self.tokenizer, self.lessons, self.settings = tokenizer, lessons, settings
        self.samples: dict[tuple[int, int], Sample] = {}

    def __getitem__(self, number: int) -> Step:
        rows = draws(self.lessons, self.settings, number + 1)
        own = [self._that_fit([self._sample(row.lesson, i) for i in row.pairs]) for row in rows]
        other = [[self._sample(*row.other)] if row.other else [] for row in rows]
        pad = self.tokenizer.pad_token_id
        tree = grown([mine + theirs for mine, theirs in zip(own, other, strict=True)], pad)
        flags = [flag for mine, theirs in zip(own, other, strict=True)
                 for flag in [False] * len(mine) + [True] * len(theirs)]  # fmt: skip
        shown = None
        if self.settings.lambda_teacher:
            shown = grown([[self._shown(row.lesson, i) for i in row.pairs[: len(mine)]]
                            for row, mine in zip(rows, own, strict=True)], pad)  # fmt: skip
        strangers = grown([theirs for theirs in other if theirs], pad) if any(other) else None
        return Step([row.lesson for row in rows], tree, torch.tensor(flags)[tree.samples], strangers, shown)

    def _sample(self, lesson: int, pair: int) -> Sample:
        if (lesson, pair) not in self.samples:
            asked = self.lessons[lesson].pairs[pair]
            self.samples[lesson, pair] = Sample(*training_sample(self.tokenizer, asked.question, asked.answer))
        return self.samples[lesson, pair]

    def _shown(self, lesson: int, pair: int) -> Sample:
        asked, passage = self.lessons[lesson].pairs[pair], self.lessons[lesson].document.passage
        return Sample(*training_sample(self.tokenizer, asked.question, asked.answer, passage))

    def _that_fit(self, samples: Sequence[Sample]) -> list[Sample]:
        """The first of a row's samples, and those after it until the row gets long: all rows wait for the longest."""
        count = 1
        while count < len(samples):
            row = samples[: count + 1]
            shared = shared_length(row)
            if shared + sum(len(sample.ids) - shared for sample in row) > self.settings.row_tokens:
                break
            count += 1
        return list(samples[:count])


def prepared(base: BaseModel, steps: Steps, first: int) -> Iterator[Step]:
    """The steps from a number on. An accelerator would wait for them: there other processes make them ahead."""
    left = range(first, steps.settings.steps)
    if base.device.type == "cpu":
        return (steps[number] for number in left)
    helpers = min(MOST_HELPERS, usable_cores() - 1, len(left))
    loader = torch.utils.data.DataLoader(
        steps, batch_size=None, sampler=left, num_workers=helpers, prefetch_factor=4 if helpers else None
    )
    return (step.to(base.device) for step in loader)

"""Fact recall on documents that no translator has seen, asked without the passage, beside controls and ceilings.

The headline is document-specific recall: the share of answers that are there with the document's own adapter, less that
with a wrong document's. What an adapter teaches of answers in general counts in both.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

import torch

from dyprag import progress
from dyprag.config import LearnSettings, LoraSettings, ParametrizeSettings, RecallSettings
from dyprag.documents import Augmentation
from dyprag.evaluation.metrics import answer_presence, score
from dyprag.evaluation.statistics import Paired, paired
from dyprag.generation import Sampling, generate
from dyprag.lora import Adapters, merge, stack
from dyprag.models import BaseModel
from dyprag.parametrize import parametrize
from dyprag.prompts import question_prompt
from dyprag.recall.invented import invented_lessons
from dyprag.recall.lessons import Lesson
from dyprag.recall.real import extracted_lessons, multihop_lessons, popqa_answers, popqa_lessons
from dyprag.samples import Sample, document_samples

Condition = Literal["own", "wrong", "mean", "generic", "zero", "passage", "parametrized"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
TEST_SEED = 1_000_003  # of the invented test documents; their names cannot be training documents' names in any case
ANSWER_TOKENS = 16
AVERAGED = 16  # training documents in the mean adapter: each adds its rank to it


@dataclass(frozen=True)
class Asked:
    """A question of the benchmark: its band, its lesson's place there, and all answers that count as right."""

    band: str
    lesson: int
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Recalled:
    """What was answered under a condition, whether the answer is there, and its F1."""

    asked: Asked
    condition: Condition
    answer: str
    present: bool
    f1: float


def training_lessons(settings: LearnSettings) -> list[Lesson]:
    """What a translator is trained on: invented documents of both bands, and real passages where `data` is set."""
    lessons = invented_lessons("closed", settings.closed, settings.seed)
    lessons += invented_lessons("open", settings.open, settings.seed)
    if settings.data:
        lessons += extracted_lessons(Path(settings.data), settings.seed, settings.real, settings.blanks, settings.gaps)
    return [lesson for lesson in lessons if lesson.pairs]


def recall_bands(settings: RecallSettings, data: Path | None) -> dict[str, list[Lesson]]:
    """Test documents by band: invented ones, and real paragraphs where the data sets are at hand."""
    bands = {
        "closed": invented_lessons("closed", settings.closed, TEST_SEED, "test"),
        "open": invented_lessons("open", settings.open, TEST_SEED, "test"),
    }
    if data is not None and settings.popqa:
        lessons = popqa_lessons(data)
        random.Random(TEST_SEED).shuffle(lessons)
        bands["popqa"] = lessons[: settings.popqa]
    if data is not None and settings.multihop:
        bands["multihop"] = multihop_lessons(data, settings.multihop, settings.questions)
    return {band: lessons for band, lessons in bands.items() if lessons}


def questions_of(band: str, lessons: Sequence[Lesson], data: Path | None, most: int) -> list[Asked]:
    """The questions of a band, at most so many about each document."""
    aliases = popqa_answers(data) if data is not None and band == "popqa" else {}
    return [
        Asked(band, place, pair.question, aliases.get(pair.question, (pair.answer,)))
        for place, lesson in enumerate(lessons)
        for pair in lesson.pairs[:most]
    ]


def wrong_lessons(lessons: Sequence[Lesson], asked: Sequence[Asked]) -> list[int]:
    """For each question the place of another document of the band that does not hold its answer."""
    places = list(range(len(lessons)))
    random.Random(TEST_SEED).shuffle(places)
    after = dict(zip(places, places[1:] + places[:1], strict=True))
    chosen = []
    for question in asked:
        place = after[question.lesson]
        while place != question.lesson and answer_presence(lessons[place].document.passage, question.answers):
            place = after[place]
        chosen.append(place)
    return chosen


def answer_all(
    base: BaseModel,
    asked: Sequence[Asked],
    lessons: Sequence[Lesson],
    condition: Condition,
    adapters: Callable[[list[int]], Adapters | None] | None,
    batch_size: int = 16,
) -> list[Recalled]:
    """Answer the questions greedily; under "passage" with their document in the prompt."""
    shown = condition == "passage"
    prompts = [
        question_prompt(base.tokenizer, one.question, [lessons[one.lesson].document.passage] if shown else ())
        for one in asked
    ]
    made = generate(base, prompts, Sampling(ANSWER_TOKENS), adapters, batch_size)
    return [
        Recalled(one, condition, it.text, answer_presence(it.text, one.answers), score(it.text, one.answers).f1)
        for one, it in zip(asked, made, strict=True)
    ]


@dataclass(frozen=True)
class Measurer:
    """The benchmark of one translator: test documents by band, and training lessons for the controls."""

    base: BaseModel
    translator: Any
    training: Sequence[Lesson]
    lora: LoraSettings
    parametrize: ParametrizeSettings
    settings: RecallSettings
    data: Path | None

    def measure(self, band: str, lessons: Sequence[Lesson], condition: Condition) -> list[Recalled]:
        """The band's questions under a condition; under "parametrized" only those about its first documents."""
        most = self.settings.parametrized if condition == "parametrized" else len(lessons)
        asked = questions_of(band, lessons[:most], self.data, self.settings.questions)
        adapters = self._adapters(condition, lessons, asked)
        progress.phase(1.0, len(asked))
        return answer_all(self.base, asked, lessons, condition, adapters)

    def _adapters(
        self, condition: Condition, lessons: Sequence[Lesson], asked: Sequence[Asked]
    ) -> Callable[[list[int]], Adapters | None] | None:
        if condition in ("zero", "passage"):  # an adapter of zeros leaves the base model as it is
            return None
        if condition == "parametrized":
            trained = self._trained([self._samples(lesson) for lesson in lessons[: self.settings.parametrized]])
            return lambda rows: trained.select([asked[row].lesson for row in rows])
        if condition in ("mean", "generic"):
            one = self._mean if condition == "mean" else self.generic
            return lambda rows: one
        places = wrong_lessons(lessons, asked) if condition == "wrong" else [one.lesson for one in asked]

        def translated(rows: list[int]) -> Adapters:
            distinct = list(dict.fromkeys(places[row] for row in rows))
            made = self._translate([lessons[place] for place in distinct])
            return made.select([distinct.index(places[row]) for row in rows])

        return translated

    @torch.no_grad()
    def _translate(self, lessons: Sequence[Lesson]) -> Adapters:
        made: Adapters = self.translator.translate(
            self.translator.read(self.base, [lesson.document.passage for lesson in lessons])
        )
        return made

    @cached_property
    def _mean(self) -> Adapters:
        """The mean of training documents' deltas."""
        return merge(self._translate(self.training[:AVERAGED]), "mean")

    def _samples(self, lesson: Lesson) -> list[Sample]:
        augmentation = Augmentation((lesson.document.text,), lesson.pairs)
        return document_samples(self.base, lesson.document, augmentation, "short", "closed-book")

    @cached_property
    def generic(self) -> Adapters:
        """One adapter trained on pairs of many training documents, in as many steps as one of a document takes."""
        lessons = [lesson for lesson in self.training if lesson.pairs][:64]
        samples = [self._samples(lesson)[-1] for lesson in lessons]
        steps = self.parametrize.epochs * 3
        settings = self.parametrize.model_copy(
            update={"epochs": 1, "shuffle": True, "batch_size": max(1, len(samples) // steps)}
        )
        return self._trained([samples], settings)

    def _trained(self, documents: Sequence[Sequence[Sample]], settings: ParametrizeSettings | None = None) -> Adapters:
        found = sorted(parametrize(self.base, documents, self.lora, settings or self.parametrize), key=lambda x: x[0])
        adapters = []
        for _, made in found:
            if isinstance(made, Exception):
                raise made
            adapters.append(made.adapter.to(torch.float32))
        return stack(adapters)


@dataclass(frozen=True)
class Summary:
    """A band's shares in percent under each condition, and own less wrong with its 95 % interval."""

    band: str
    questions: dict[Condition, int]
    presence: dict[Condition, float]
    f1: dict[Condition, float]
    specific: Paired | None


def summarise(rows: Iterable[Recalled]) -> list[Summary]:
    """One summary a band, in the order of the rows."""
    bands: dict[str, dict[Condition, list[Recalled]]] = {}
    for row in rows:
        bands.setdefault(row.asked.band, {}).setdefault(row.condition, []).append(row)
    made = []
    for band, found in bands.items():
        present = {c: [100.0 * row.present for row in answered] for c, answered in found.items()}
        f1 = {c: 100 * fmean(row.f1 for row in answered) for c, answered in found.items()}
        both = "own" in present and "wrong" in present
        specific = paired(present["own"], present["wrong"]) if both else None
        counts = {c: len(answered) for c, answered in found.items()}
        made.append(Summary(band, counts, {c: fmean(values) for c, values in present.items()}, f1, specific))
    return made

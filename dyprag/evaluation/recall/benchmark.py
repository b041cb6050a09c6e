"""The recall benchmark: documents unseen in training by band, the questions about them, and the conditions of asking.

The main result is document-specific recall: the share of answers present with the document's own adapter, minus that
with a wrong document's. What any adapter contributes is in both shares and cancels out.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Literal, get_args

from dyprag.config import LearnSettings, RecallSettings
from dyprag.evaluation.metrics import answer_presence
from dyprag.evaluation.recall.everyday import common_lessons, everyday_lessons, unanswered_lessons
from dyprag.translators.lessons.human import human_lessons
from dyprag.translators.lessons.invented import invented_lessons
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.lessons.real import extracted_lessons, multihop_lessons, popqa_answers, popqa_lessons
from dyprag.translators.lessons.records import record_lessons

Condition = Literal["zero", "own", "wrong", "mean", "generic", "passage", "beside", "beside-wrong", "parametrized"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
SHOWING = ("passage", "beside", "beside-wrong")  # conditions with the passage in the prompt
STRANGERS = (
    "human",
    "kinds",
    "everyday",
)  # human-written texts and questions of kinds that translators were not designed for
BROAD = ("zero", "own", "wrong", "passage", "beside", "beside-wrong")  # the conditions for STRANGERS
GUARDS = ("unanswered", "common")  # bands of questions that the document does not answer
BEFORE_AND_AFTER: tuple[tuple[Condition, Condition], ...] = (("zero", "own"), ("passage", "beside"))
TEST_SEED = 1_000_003  # seed of the invented test documents; their names differ from those of training documents anyway


@dataclass(frozen=True)
class Asked:
    """A question of the benchmark: its band, the index of its lesson in the band, and all accepted answers."""

    band: str
    lesson: int
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Recalled:
    """An answer under a condition: whether it is present, its F1, and whether it was cut at the token limit.

    ids: the answer's tokens where it was just given.
    """

    asked: Asked
    condition: Condition
    answer: str
    present: bool
    f1: float
    cut: bool = False
    ids: tuple[int, ...] = ()


def training_lessons(settings: LearnSettings) -> list[Lesson]:
    """Return a translator's training data: invented documents and records, and passages of `data` and `people`."""
    lessons = invented_lessons("closed", settings.closed, settings.seed)
    lessons += invented_lessons("open", settings.open, settings.seed)
    lessons += record_lessons(settings.records, settings.seed)
    if settings.data:
        lessons += extracted_lessons(Path(settings.data), settings.seed, settings.real, settings.blanks, settings.gaps)
    if settings.people:
        lessons += human_lessons(Path(settings.people), "training", settings.human, settings.human_questions)
    return [lesson for lesson in lessons if lesson.pairs]


def recall_bands(settings: RecallSettings, data: Path | None) -> dict[str, list[Lesson]]:
    """Return test documents by band: invented, everyday, and (if data sets are available) real paragraphs."""
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
    if settings.people:
        bands["human"] = human_lessons(Path(settings.people), "held-out", settings.human)
        bands["kinds"] = human_lessons(Path(settings.people), "other-kinds", settings.kinds)
    everyday = settings.everyday
    bands["everyday"] = list(everyday_lessons()[:everyday])
    bands["unanswered"], bands["common"] = list(unanswered_lessons()[:everyday]), list(common_lessons()[:everyday])
    return {band: lessons for band, lessons in bands.items() if lessons}


def conditions_of(band: str) -> tuple[Condition, ...]:
    """Return the conditions under which a band's questions are asked."""
    if band in GUARDS:
        return tuple(condition for pair in BEFORE_AND_AFTER for condition in pair)
    return BROAD if band in STRANGERS else CONDITIONS  # type: ignore[return-value]


def questions_of(band: str, lessons: Sequence[Lesson], data: Path | None, most: int) -> list[Asked]:
    """Return the questions of a band, at most `most` per document."""
    aliases = popqa_answers(data) if data is not None and band == "popqa" else {}
    return [
        Asked(band, index, pair.question, aliases.get(pair.question, (pair.answer, *others)))
        for index, lesson in enumerate(lessons)
        for pair, others in zip(lesson.pairs[:most], lesson.others or repeat(()), strict=False)
    ]


def wrong_lessons(lessons: Sequence[Lesson], asked: Sequence[Asked]) -> list[int]:
    """Choose for each question another document of the band that does not contain its answer; returns indices."""
    indices = list(range(len(lessons)))
    random.Random(TEST_SEED).shuffle(indices)
    successor = dict(zip(indices, indices[1:] + indices[:1], strict=True))
    chosen = []
    for question in asked:
        candidate = successor[question.lesson]
        while candidate != question.lesson and answer_presence(lessons[candidate].document.passage, question.answers):
            candidate = successor[candidate]
        chosen.append(candidate)
    return chosen

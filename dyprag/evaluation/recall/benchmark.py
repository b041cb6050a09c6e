"""Fact recall on documents that no translator has seen, without the passage and beside it, with controls and ceilings.

The headline is document-specific recall: the share of answers that are there with the document's own adapter, less that
with a wrong document's. What an adapter teaches of answers in general counts in both. Outputs are long enough to answer
in, and adapters as strong as in use (`evaluate`'s settings).
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

import torch

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import Adapters, merge, stack, stack_rows
from dyprag.adapters.parametrize import parametrize
from dyprag.adapters.samples import Sample, document_samples
from dyprag.adapters.stopping import repeats
from dyprag.config import EvaluateSettings, LearnSettings, LoraSettings, ParametrizeSettings, RecallSettings
from dyprag.corpora.documents import Augmentation, Retrieved
from dyprag.evaluation.metrics import answer_presence, score
from dyprag.evaluation.recall.everyday import common_lessons, everyday_lessons, unanswered_lessons
from dyprag.evaluation.statistics import Paired, paired
from dyprag.methods.gate import Gate, borne_out
from dyprag.methods.protocol import Asked as Question
from dyprag.methods.protocol import fitting_prompt
from dyprag.model.base import BaseModel
from dyprag.model.prompts import PromptForm
from dyprag.runtime import progress
from dyprag.translators.lessons.human import human_lessons
from dyprag.translators.lessons.invented import invented_lessons
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.lessons.real import extracted_lessons, multihop_lessons, popqa_answers, popqa_lessons

Condition = Literal["zero", "own", "wrong", "mean", "generic", "passage", "beside", "beside-wrong", "parametrized"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
SHOWING = ("passage", "beside", "beside-wrong")  # the conditions with the passage in the prompt
STRANGERS = ("human", "kinds", "everyday")  # text and questions by people, of a kind that no translator was made for
BROAD = ("zero", "own", "wrong", "passage", "beside", "beside-wrong")  # the conditions that these are asked under
GUARDS = ("unanswered", "common")  # questions that a document does not answer
BEFORE_AND_AFTER: tuple[tuple[Condition, Condition], ...] = (("zero", "own"), ("passage", "beside"))
TEST_SEED = 1_000_003  # of the invented test documents; their names cannot be training documents' names in any case
AVERAGED = 16  # training documents in the mean adapter: each adds its rank to it


@dataclass(frozen=True)
class Asked:
    """A question of the benchmark: its band, its lesson's place there, and all answers that count as right."""

    band: str
    lesson: int
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Asking:
    """How questions are put and answered, of `evaluate`'s settings."""

    form: PromptForm
    max_new_tokens: int
    strength: float
    combine_strength: float
    batch_size: int
    gate: Gate | None = None  # beside passages

    @classmethod
    def of(cls, settings: EvaluateSettings) -> "Asking":
        """That of these settings."""
        given = (settings.max_new_tokens, settings.strength, settings.combine_strength, settings.batch_size)
        return cls(settings.form(), *given, settings.gate_of("dyprag-combine"))


@dataclass(frozen=True)
class Recalled:
    """What was answered under a condition, whether the answer is there, its F1, and whether the limit cut it."""

    asked: Asked
    condition: Condition
    answer: str
    present: bool
    f1: float
    cut: bool = False


def training_lessons(settings: LearnSettings) -> list[Lesson]:
    """What a translator is trained on: invented documents of both bands, and real passages where `data` is set."""
    lessons = invented_lessons("closed", settings.closed, settings.seed)
    lessons += invented_lessons("open", settings.open, settings.seed)
    if settings.data:
        lessons += extracted_lessons(Path(settings.data), settings.seed, settings.real, settings.blanks, settings.gaps)
    return [lesson for lesson in lessons if lesson.pairs]


def recall_bands(settings: RecallSettings, data: Path | None) -> dict[str, list[Lesson]]:
    """Test documents by band: invented and everyday ones, and real paragraphs where the data sets are at hand."""
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
    """The conditions that a band's questions are asked under."""
    if band in GUARDS:
        return tuple(condition for pair in BEFORE_AND_AFTER for condition in pair)
    return BROAD if band in STRANGERS else CONDITIONS  # type: ignore[return-value]


def questions_of(band: str, lessons: Sequence[Lesson], data: Path | None, most: int) -> list[Asked]:
    """The questions of a band, at most so many about each document."""
    aliases = popqa_answers(data) if data is not None and band == "popqa" else {}
    return [
        Asked(band, place, pair.question, aliases.get(pair.question, (pair.answer, *others)))
        for place, lesson in enumerate(lessons)
        for pair, others in zip(lesson.pairs[:most], lesson.others or repeat(()), strict=False)
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
    asking: Asking,
) -> list[Recalled]:
    """Answer the questions greedily; with their document in the prompt under the conditions that show it."""
    shown = condition in SHOWING
    prompts = [
        fitting_prompt(
            base,
            Question(one.question, (Retrieved(lessons[one.lesson].document, 1.0),), form=asking.form),
            shown,
            asking.max_new_tokens,
            not shown and condition != "zero",
        ).ids
        for one in asked
    ]
    sampling = Sampling(asking.max_new_tokens)
    made = generate(base, prompts, sampling, adapters, asking.batch_size, stop=repeats)
    return [
        Recalled(one, condition, it.text, answer_presence(it.text, one.answers), score(it.text, one.answers).f1, it.cut)
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
    asking: Asking

    def measure(self, band: str, lessons: Sequence[Lesson], condition: Condition) -> list[Recalled]:
        """The band's questions under a condition; under "parametrized" only those about its first documents."""
        most = self.settings.parametrized if condition == "parametrized" else len(lessons)
        asked = questions_of(band, lessons[:most], self.data, self.settings.questions)
        adapters = self._adapters(condition, lessons, asked)
        progress.phase(1.0, len(asked))
        return answer_all(self.base, asked, lessons, condition, adapters, self.asking)

    def _adapters(
        self, condition: Condition, lessons: Sequence[Lesson], asked: Sequence[Asked]
    ) -> Callable[[list[int]], Adapters | None] | None:
        if condition in ("zero", "passage"):  # an adapter of zeros leaves the base model as it is
            return None
        if condition == "parametrized":
            trained = self._trained([self._samples(lesson) for lesson in lessons[: self.settings.parametrized]])
            return lambda rows: trained.select([asked[row].lesson for row in rows])
        strength = self.asking.combine_strength if condition in SHOWING else self.asking.strength
        if condition in ("mean", "generic"):
            one = (self._mean if condition == "mean" else self.generic).times(strength)
            return lambda rows: one
        wrong = condition in ("wrong", "beside-wrong")
        places = wrong_lessons(lessons, asked) if wrong else [one.lesson for one in asked]

        def translated(rows: list[int]) -> Adapters | None:
            distinct = list(dict.fromkeys(places[row] for row in rows))
            every = self._translate([lessons[place] for place in distinct])
            made = every.select([distinct.index(places[row]) for row in rows]).times(strength)
            if made is None or self.asking.gate is None or condition not in SHOWING:
                return made
            each = [made.select([row]) for row in range(len(rows))]
            questions = [asked[row].question for row in rows]
            passages = [[lessons[asked[row].lesson].document.passage] for row in rows]
            return stack_rows(borne_out(self.base, each, questions, passages, self.asking.gate))

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
    """A band's shares in percent under each condition; own less wrong, and beside less passage, each with its 95 %
    interval; and the relative score: own ÷ passage, None where the prompt answers nothing."""

    band: str
    questions: dict[Condition, int]
    presence: dict[Condition, float]
    f1: dict[Condition, float]
    cut: dict[Condition, float]
    specific: Paired | None
    beside: Paired | None
    relative: float | None


def summarise(rows: Iterable[Recalled]) -> list[Summary]:
    """One summary a band, in the order of the rows; without the bands that `changes` tells of."""
    bands: dict[str, dict[Condition, list[Recalled]]] = {}
    for row in rows:
        if row.asked.band not in GUARDS:
            bands.setdefault(row.asked.band, {}).setdefault(row.condition, []).append(row)
    made = []
    for band, found in bands.items():
        present = {c: [100.0 * row.present for row in answered] for c, answered in found.items()}
        f1 = {c: 100 * fmean(row.f1 for row in answered) for c, answered in found.items()}
        cut = {c: 100 * fmean(row.cut for row in answered) for c, answered in found.items()}
        counts = {c: len(answered) for c, answered in found.items()}
        presence = {c: fmean(values) for c, values in present.items()}
        told = presence.get("passage")
        relative = presence["own"] / told if told and "own" in presence else None
        specific, beside = _less(present, "own", "wrong"), _less(present, "beside", "passage")
        made.append(Summary(band, counts, presence, f1, cut, specific, beside, relative))
    return made


def _less(values: dict[Condition, list[float]], one: Condition, other: Condition) -> Paired | None:
    return paired(values[one], values[other]) if one in values and other in values else None


@dataclass(frozen=True)
class Change:
    """What an adapter does to answers to questions that its document does not answer, in percent of them.

    before, after: the conditions compared. Worse: of "common", a right answer became a wrong one; of "unanswered", the
    output now says what the document says about something else. Better: the other way.
    """

    band: str
    before: Condition
    after: Condition
    questions: int
    changed: float
    worse: float
    better: float


def changes(rows: Iterable[Recalled]) -> list[Change]:
    """What changes for questions that have nothing to do with an adapter's document, or that it does not answer."""
    found: dict[tuple[str, Condition], list[Recalled]] = {}
    for row in rows:
        found.setdefault((row.asked.band, row.condition), []).append(row)
    made = []
    for band in GUARDS:
        for before, after in BEFORE_AND_AFTER:
            pairs = list(zip(found.get((band, before), ()), found.get((band, after), ()), strict=False))
            if not pairs:
                continue
            good, bad = (True, False) if band == "common" else (False, True)
            turns = [(one.present, other.present) for one, other in pairs]
            changed = 100 * fmean(one.answer != other.answer for one, other in pairs)
            worse, better = (100 * turns.count(turn) / len(turns) for turn in ((good, bad), (bad, good)))
            made.append(Change(band, before, after, len(pairs), changed, worse, better))
    return made

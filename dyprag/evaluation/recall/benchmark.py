"""Measures fact recall on documents unseen in training, with and without the passage, with controls and ceilings.

The main result is document-specific recall: the share of answers present with the document's own adapter, minus that
with a wrong document's. What any adapter contributes is in both shares and cancels out. The length of outputs and the
strength of adapters are those of `evaluate`.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import Adapters, merge, stack
from dyprag.adapters.parametrize import parametrize
from dyprag.adapters.samples import Sample, document_samples
from dyprag.adapters.stopping import repeats
from dyprag.config import EvaluateSettings, LearnSettings, LoraSettings, ParametrizeSettings, RecallSettings
from dyprag.corpora.documents import Augmentation, Retrieved
from dyprag.evaluation.metrics import answer_presence, score
from dyprag.evaluation.recall.everyday import common_lessons, everyday_lessons, unanswered_lessons
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
KEPT_BYTES = 2**30  # of a band's translated adapters; the others are translated anew where they are used
PROBING = 0.3  # share of a condition's work that the gate's probes are
AVERAGED = 16  # training documents in the mean adapter; each adds its rank


@dataclass(frozen=True)
class Asked:
    """A question of the benchmark: its band, the index of its lesson in the band, and all accepted answers."""

    band: str
    lesson: int
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Asking:
    """How questions are phrased and answered, from the settings of `evaluate`."""

    form: PromptForm
    max_new_tokens: int
    strength: float
    combine_strength: float
    batch_size: int
    gate: Gate | None = None  # beside passages

    @classmethod
    def of(cls, settings: EvaluateSettings) -> "Asking":
        """Create it from settings."""
        common_settings = (settings.max_new_tokens, settings.strength, settings.combine_strength, settings.batch_size)
        return cls(settings.form(), *common_settings, settings.gate_of("dyprag-combine"))


@dataclass(frozen=True)
class Recalled:
    """An answer under a condition: whether it is present, its F1, and whether it was cut at the token limit."""

    asked: Asked
    condition: Condition
    answer: str
    present: bool
    f1: float
    cut: bool = False


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


def answer_all(
    base: BaseModel,
    asked: Sequence[Asked],
    lessons: Sequence[Lesson],
    condition: Condition,
    adapters: Callable[[list[int]], Adapters | None] | None,
    asking: Asking,
) -> list[Recalled]:
    """Answer questions greedily, with their document in the prompt if the condition shows it."""
    shown = condition in SHOWING
    as_trained = not shown and condition != "zero"
    prompts = []
    for question in asked:
        retrieved = (Retrieved(lessons[question.lesson].document, 1.0),)
        item = Question(question.question, retrieved, form=asking.form)
        prompts.append(fitting_prompt(base, item, shown, asking.max_new_tokens, as_trained).ids)
    sampling = Sampling(asking.max_new_tokens)
    generations = generate(base, prompts, sampling, adapters, asking.batch_size, stop=repeats)
    return [
        Recalled(
            question, condition, generation.text, answer_presence(generation.text, question.answers),
            score(generation.text, question.answers).f1, generation.cut,
        )
        for question, generation in zip(asked, generations, strict=True)
    ]  # fmt: skip


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
        """Answer a band's questions under a condition; under "parametrized", only those about its first documents."""
        lesson_keys = {lesson.key for lesson in lessons}
        if self._translated.keys() - lesson_keys:  # of another band
            self._translated.clear()
        if {key for key, _ in self._shown} - lesson_keys:
            self._shown.clear()
        limit = self.settings.parametrized if condition == "parametrized" else len(lessons)
        asked = questions_of(band, lessons[:limit], self.data, self.settings.questions)
        adapters = self._adapters(condition, lessons, asked)
        if condition == "passage":
            progress.phase(1.0, len(asked))
            return self._with_passage_alone(asked, lessons)
        if adapters and condition in SHOWING and self.asking.gate:
            progress.phase(PROBING, len(asked))
            adapted = self._borne_out(asked, lessons, adapters, self.asking.gate)
            progress.phase(1 - PROBING, len(asked))
        else:
            progress.phase(1.0, len(asked))
            adapted = list(range(len(asked)))
        inject = None if adapters is None else lambda rows: adapters([adapted[row] for row in rows])
        answers = answer_all(self.base, [asked[row] for row in adapted], lessons, condition, inject, self.asking)
        by_row = dict(zip(adapted, answers, strict=True))
        plain = [row for row in range(len(asked)) if row not in by_row]
        shown = self._with_passage_alone([asked[row] for row in plain], lessons)
        by_row |= {row: replace(each, condition=condition) for row, each in zip(plain, shown, strict=True)}
        return [by_row[row] for row in range(len(asked))]

    def _borne_out(
        self,
        asked: Sequence[Asked],
        lessons: Sequence[Lesson],
        adapters: Callable[[list[int]], Adapters | None],
        gate: Gate,
    ) -> list[int]:
        """The questions beside whose passage the gate injects the adapter."""
        kept = []
        for start in range(0, len(asked), self.asking.batch_size):
            rows = list(range(start, min(start + self.asking.batch_size, len(asked))))
            batch = adapters(rows)
            each = [None if batch is None else batch.select([row]) for row in range(len(rows))]
            passages = [[lessons[asked[row].lesson].document.passage] for row in rows]
            probed = borne_out(self.base, each, [asked[row].question for row in rows], passages, gate)
            kept += [row for row, adapter in zip(rows, probed, strict=True) if adapter is not None]
            progress.advance(len(rows))
        return kept

    def _with_passage_alone(self, asked: Sequence[Asked], lessons: Sequence[Lesson]) -> list[Recalled]:
        """Answer questions with the passage and no adapter. No question is asked twice by this measurer."""
        keys = [(lessons[question.lesson].key, question) for question in asked]
        missing = [question for question, key in zip(asked, keys, strict=True) if key not in self._shown]
        answers = answer_all(self.base, missing, lessons, "passage", None, self.asking)
        self._shown.update({(lessons[each.asked.lesson].key, each.asked): each for each in answers})
        progress.advance(len(asked) - len(missing))
        return [self._shown[key] for key in keys]

    def _adapters(
        self, condition: Condition, lessons: Sequence[Lesson], asked: Sequence[Asked]
    ) -> Callable[[list[int]], Adapters | None] | None:
        if condition in ("zero", "passage"):  # a zero adapter leaves the base model unchanged
            return None
        if condition == "parametrized":
            trained = self._trained([self._samples(lesson) for lesson in lessons[: self.settings.parametrized]])
            return lambda rows: trained.select([asked[row].lesson for row in rows])
        strength = self.asking.combine_strength if condition in SHOWING else self.asking.strength
        if condition in ("mean", "generic"):
            shared = (self._mean if condition == "mean" else self.generic).times(strength)
            return lambda rows: shared
        wrong = condition in ("wrong", "beside-wrong")
        lesson_indices = wrong_lessons(lessons, asked) if wrong else [question.lesson for question in asked]

        def translated(rows: list[int]) -> Adapters | None:
            distinct = list(dict.fromkeys(lesson_indices[row] for row in rows))
            distinct_adapters = self._translate([lessons[index] for index in distinct])
            indices = [distinct.index(lesson_indices[row]) for row in rows]
            return distinct_adapters.select(indices).times(strength)

        return translated

    def _translate(self, lessons: Sequence[Lesson]) -> Adapters:
        missing = [lesson for lesson in lessons if lesson.key not in self._translated]
        new: dict[str, Adapters] = {}
        if missing:
            translated = self._translate_anew(missing)
            new = {lesson.key: translated.select([index]) for index, lesson in enumerate(missing)}
        known = self._translated | new
        for key, adapter in new.items():
            if (len(self._translated) + 1) * adapter.nbytes <= KEPT_BYTES:
                self._translated[key] = adapter
        return stack([known[lesson.key] for lesson in lessons])

    @cached_property
    def _translated(self) -> dict[str, Adapters]:
        """Translated adapters of a band's documents, by key, for all of its conditions; at most `KEPT_BYTES`."""
        return {}

    @cached_property
    def _shown(self) -> dict[tuple[str, Asked], Recalled]:
        """The answers of a band with the passage alone, by the lesson's key and the question."""
        return {}

    @torch.no_grad()
    def _translate_anew(self, lessons: Sequence[Lesson]) -> Adapters:
        adapters: Adapters = self.translator.translate(
            self.translator.read(self.base, [lesson.document.passage for lesson in lessons])
        )
        return adapters

    @cached_property
    def _mean(self) -> Adapters:
        """The mean of the deltas of training documents."""
        return merge(self._translate_anew(self.training[:AVERAGED]), "mean")

    def _samples(self, lesson: Lesson) -> list[Sample]:
        augmentation = Augmentation((lesson.document.text,), lesson.pairs)
        return document_samples(self.base, lesson.document, augmentation, "short", "closed-book")

    @cached_property
    def generic(self) -> Adapters:
        """An adapter trained on pairs of many training documents, in as many steps as a document's adapter."""
        lessons = [lesson for lesson in self.training if lesson.pairs][:64]
        samples = [self._samples(lesson)[-1] for lesson in lessons]
        steps = self.parametrize.epochs * 3
        settings = self.parametrize.model_copy(
            update={"epochs": 1, "shuffle": True, "batch_size": max(1, len(samples) // steps)}
        )
        return self._trained([samples], settings)

    def _trained(self, documents: Sequence[Sequence[Sample]], settings: ParametrizeSettings | None = None) -> Adapters:
        results = sorted(parametrize(self.base, documents, self.lora, settings or self.parametrize), key=lambda x: x[0])
        adapters = []
        for _, result in results:
            if isinstance(result, Exception):
                raise result
            adapters.append(result.adapter.to(torch.float32))
        return stack(adapters)

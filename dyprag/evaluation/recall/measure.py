"""Answers the recall benchmark's questions under its conditions, with a translator's adapters and the controls'."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import Adapters, merge, stack
from dyprag.adapters.parametrize import parametrize
from dyprag.adapters.samples import Sample, document_samples
from dyprag.adapters.stopping import repeats
from dyprag.config import EvaluateSettings, LoraSettings, ParametrizeSettings, RecallSettings
from dyprag.corpora.documents import Augmentation, Retrieved
from dyprag.evaluation.metrics import answer_presence, score
from dyprag.evaluation.recall.benchmark import SHOWING, Asked, Condition, Recalled, questions_of, wrong_lessons
from dyprag.methods.gate import PROBED, Gate, borne_out, stands_in
from dyprag.methods.protocol import Asked as Question
from dyprag.methods.protocol import fitting_prompt
from dyprag.model.base import BaseModel
from dyprag.model.prompts import PromptForm
from dyprag.model.thinking import answer, decode
from dyprag.runtime import progress
from dyprag.translators.lessons.lesson import Lesson

KEPT_BYTES = 2**30  # of a band's translated adapters; the others are translated anew where they are used
PROBING = 0.3  # share of a condition's work that the gate's probes are
AVERAGED = 16  # training documents in the mean adapter; each adds its rank


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
            score(generation.text, question.answers).f1, generation.cut, generation.ids,
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
        if {key for key, _ in (*self._shown, *self._said)} - lesson_keys:
            self._shown.clear()
            self._said.clear()
        limit = self.settings.parametrized if condition == "parametrized" else len(lessons)
        asked = questions_of(band, lessons[:limit], self.data, self.settings.questions)
        of = self._lessons_of(condition, lessons, asked)
        adapters = self._adapters(condition, lessons, of)
        if condition == "passage":
            progress.phase(1.0, len(asked))
            return self._with_passage_alone(asked, lessons)
        if adapters and condition in SHOWING and self.asking.gate:
            progress.phase(PROBING, len(asked))
            adapted = self._borne_out(asked, lessons, of, adapters, self.asking.gate)
            progress.phase(1 - PROBING, len(asked))
        else:
            progress.phase(1.0, len(asked))
            adapted = list(range(len(asked)))
        inject = None if adapters is None else lambda rows: adapters([adapted[row] for row in rows])
        answers = answer_all(self.base, [asked[row] for row in adapted], lessons, condition, inject, self.asking)
        by_row = dict(zip(adapted, answers, strict=True))
        if condition in ("own", "wrong"):
            self._said.update({(lessons[of[row]].key, each.asked.question): each.ids for row, each in by_row.items()
                               if not each.cut or len(each.ids) >= PROBED})  # fmt: skip
        plain = [row for row in range(len(asked)) if row not in by_row]
        shown = self._with_passage_alone([asked[row] for row in plain], lessons)
        by_row |= {row: replace(each, condition=condition) for row, each in zip(plain, shown, strict=True)}
        return [by_row[row] for row in range(len(asked))]

    def _borne_out(
        self,
        asked: Sequence[Asked],
        lessons: Sequence[Lesson],
        of: Sequence[int],
        adapters: Callable[[list[int]], Adapters | None],
        gate: Gate,
    ) -> list[int]:
        """The questions beside whose passage the gate injects the adapter, which is that of the lessons `of`."""
        passages = [[lessons[each.lesson].document.passage] for each in asked]
        probes = {row: text for row in range(len(asked)) if (text := self._probe(lessons[of[row]], asked[row], gate))}
        kept = [row for row, text in probes.items() if stands_in(text, asked[row].question, passages[row])]
        progress.advance(len(probes))
        unknown = [row for row in range(len(asked)) if row not in probes]
        for start in range(0, len(unknown), self.asking.batch_size):
            rows = unknown[start : start + self.asking.batch_size]
            batch = adapters(rows)
            each = [None if batch is None else batch.select([row]) for row in range(len(rows))]
            probed = borne_out(
                self.base, each, [asked[row].question for row in rows], [passages[row] for row in rows], gate
            )
            kept += [row for row, adapter in zip(rows, probed, strict=True) if adapter is not None]
            progress.advance(len(rows))
        return sorted(kept)

    def _probe(self, lesson: Lesson, asked: Asked, gate: Gate) -> str:
        """What the gate's probe says if "own" or "wrong" said it already; empty if it must be asked.

        The probe has the same prompt. It differs from such an answer only in its limit, and in that no repetition
        ends it.
        """
        ids = self._said.get((lesson.key, asked.question), ())[:PROBED]
        alike = math.isclose(gate.alone * self.asking.combine_strength, self.asking.strength)
        return answer(decode(self.base.tokenizer, ids)).strip() if alike and not repeats(ids) else ""

    def _with_passage_alone(self, asked: Sequence[Asked], lessons: Sequence[Lesson]) -> list[Recalled]:
        """Answer questions with the passage and no adapter. No question is asked twice by this measurer."""
        keys = [(lessons[question.lesson].key, question) for question in asked]
        missing = [question for question, key in zip(asked, keys, strict=True) if key not in self._shown]
        answers = answer_all(self.base, missing, lessons, "passage", None, self.asking)
        self._shown.update({(lessons[each.asked.lesson].key, each.asked): each for each in answers})
        progress.advance(len(asked) - len(missing))
        return [self._shown[key] for key in keys]

    def _adapters(
        self, condition: Condition, lessons: Sequence[Lesson], of: Sequence[int]
    ) -> Callable[[list[int]], Adapters | None] | None:
        if condition in ("zero", "passage"):  # a zero adapter leaves the base model unchanged
            return None
        if condition == "parametrized":
            trained = self._trained([self._samples(lesson) for lesson in lessons[: self.settings.parametrized]])
            return lambda rows: trained.select([of[row] for row in rows])
        strength = self.asking.combine_strength if condition in SHOWING else self.asking.strength
        if condition in ("mean", "generic"):
            shared = (self._mean if condition == "mean" else self.generic).times(strength)
            return lambda rows: shared

        def translated(rows: list[int]) -> Adapters | None:
            distinct = list(dict.fromkeys(of[row] for row in rows))
            distinct_adapters = self._translate([lessons[index] for index in distinct])
            indices = [distinct.index(of[row]) for row in rows]
            return distinct_adapters.select(indices).times(strength)

        return translated

    def _lessons_of(self, condition: Condition, lessons: Sequence[Lesson], asked: Sequence[Asked]) -> list[int]:
        """The lesson whose document's adapter each question gets."""
        if condition in ("wrong", "beside-wrong"):
            return wrong_lessons(lessons, asked)
        return [question.lesson for question in asked]

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
    def _said(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """The tokens of a band's answers without the passage, by the adapter's lesson and the question."""
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

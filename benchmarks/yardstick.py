"""Measure prompt forms and adapter strengths: the experiments behind SmolLM2-135M's preset.

    python benchmarks/yardstick.py [PEOPLE] [PART ...]

PEOPLE is the folder of human questions (default: qa in a folder `shared` next to the repository). Only passages of the
training split are used, so that no test question of the benchmarks and tables appears here: 80 questions about passages
of at most 170 words, three retrieved among 335; and 56 questions over two to four passages, retrieved among 717. PARTs:
forms, alone, beside, hops (default: all; about an hour on two cores). Prints each line as it is measured, and writes
all of them to build/bench/yardstick.json.
"""

import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from dyprag.adapters.generation import Sampling
from dyprag.adapters.lora import Adapters, stack
from dyprag.corpora.documents import Document, Retrieved
from dyprag.corpora.retrieval import BM25Retriever
from dyprag.evaluation.metrics import answer_presence, score
from dyprag.methods.dyprag import DyPRAG
from dyprag.methods.protocol import Asked, Method
from dyprag.methods.rag import RAG
from dyprag.methods.vanilla import Vanilla
from dyprag.model.base import BaseModel, load_model
from dyprag.model.files import learned_folder
from dyprag.model.prompts import PromptForm
from dyprag.translators.lessons.human import has_short_answers, is_held_out, rows_of
from dyprag.translators.protocol import load_translator

MODEL, TOKENS, BATCH, FOUND = "smollm2-135m", 64, 16, 3
SEED, MOST_WORDS, DISTRACTORS = 1, 170, 3  # distractors: further passages for each one with a question
SINGLE = {"squad_train": 10, "nq_dev": 10, "squadshifts_wiki": 9, "squadshifts_reddit": 9, "boolq": 6,
          "fairytaleqa_train": 8, "mctest_train": 4, "quoref_slices": 4, "drop_slice": 4, "ropes": 4, "condaqa": 4,
          "narrativeqa_slice": 3, "clapnq_dev": 0, "squad_dev": 9, "pubmedqa": 3, "torque_dev": 2}  # fmt: skip
HOPS = {"2wikimultihopqa_train": 40, "musique_train": 16}


@dataclass(frozen=True)
class Question:
    """A question and its accepted answers."""

    text: str
    answers: tuple[str, ...]


def single(folder: Path) -> tuple[list[Document], list[Question]]:
    """Passages of many data sets, and questions about a quarter of them."""
    chance = random.Random(SEED)
    documents, questions = [], []
    for name, count in SINGLE.items():
        rows = [r for r in rows_of(folder / f"{name}.jsonl.gz") if not is_held_out(r["text"])]
        rows = [row for row in rows if 20 <= len(row["text"].split()) <= MOST_WORDS]
        chance.shuffle(rows)
        seen = set[str]()
        for row in rows:
            beginning = " ".join(row["text"].lower().split()[:8])
            if beginning in seen:
                continue
            if len(seen) >= count * (1 + DISTRACTORS):
                break
            seen.add(beginning)
            documents.append(Document(row["id"], row["text"], row["title"]))
            short = [question for question in row["questions"] if has_short_answers(question)]
            if len(seen) <= count and short:
                chosen = chance.choice(short)
                questions.append(Question(chosen["question"], tuple(chosen["answers"])))
    return documents, questions


def hops(folder: Path) -> tuple[list[Document], list[Question]]:
    """Questions over several passages, and all passages of their rows."""
    documents, questions = [], []
    for name, count in HOPS.items():
        rows = list(rows_of(folder / f"{name}.jsonl.gz"))
        random.Random(5).shuffle(rows)
        for row in rows[:count]:
            documents += [Document(f"{row['id']}-{n}", p["text"], p["title"]) for n, p in enumerate(row["passages"])]
            asked = row["questions"][0]
            questions.append(Question(asked["question"], tuple(asked["answers"])))
    return documents, questions


class Lab:
    """Questions with their retrieved passages, the model, and a cache of adapters."""

    def __init__(self, base: BaseModel, documents: list[Document], questions: list[Question]) -> None:
        self.base, self.questions = base, questions
        retriever = BM25Retriever(documents)
        self.retrieved = [tuple(retriever.search(question.text, FOUND)) for question in questions]
        self._cache: dict[str, Adapters] = {}

    @cached_property
    def _translator(self) -> Any:
        return load_translator(learned_folder("packaged", MODEL), self.base)

    @torch.inference_mode()
    def translate(self, documents: "list[Document] | tuple[Document, ...]") -> Adapters:
        """The documents' adapters, [docs, layers, …]."""
        for document in documents:
            if document.key not in self._cache:
                adapter = self._translator.translate(self._translator.read(self.base, [document.passage]))
                self._cache[document.key] = adapter.to(torch.bfloat16)
        return stack([self._cache[document.key].to(torch.float32) for document in documents])

    def dyprag(self, strength: float, combine: bool = False) -> DyPRAG:
        """DyPRAG at a strength."""
        return DyPRAG(self.translate, "weighted", combine, strength)  # type: ignore[arg-type]

    def measure(
        self, name: str, method: Method, form: PromptForm = PromptForm(), wrong: bool = False
    ) -> dict[str, Any]:
        """Answer all questions; `wrong` injects the documents retrieved for another question."""
        count = len(self.questions)
        injected: list[tuple[Retrieved, ...] | None] = [None] * count
        if wrong:
            injected = [self.retrieved[(index + count // 2) % count] for index in range(count)]
        asked = [
            Asked(question.text, retrieved, False, other, form)
            for question, retrieved, other in zip(self.questions, self.retrieved, injected, strict=True)
        ]
        answers = method.answer(self.base, asked, Sampling(TOKENS), BATCH)
        both = list(zip(answers, self.questions, strict=True))
        line = {
            "name": name, "present": 100 * fmean(answer_presence(a.text, q.answers) for a, q in both),
            "f1": 100 * fmean(score(a.text, q.answers).f1 for a, q in both),
            "cut": 100 * fmean(a.cut for a in answers), "tokens": fmean(a.tokens for a in answers),
        }  # fmt: skip
        shares = " | ".join(f"{line[key]:.1f}" for key in ("present", "f1", "tokens", "cut"))
        print(f"| {name} | {shares} |", flush=True)
        return line


def of_forms(lab: Lab) -> Iterator[dict[str, Any]]:
    """RAG: the wording of the request, and the order and number of passages."""
    for ask_for in ("plain", "sentence", "examples", "instruction"):
        yield lab.measure(f"RAG, 3 passages, best last, {ask_for}", RAG(), PromptForm("best-last", ask_for))  # type: ignore[arg-type]
    yield lab.measure("RAG, 3 passages, best first, examples", RAG(), PromptForm("best-first", "examples"))
    for shown in (2, 1):
        yield lab.measure(
            f"RAG, {shown} passages, best last, examples", RAG(), PromptForm("best-last", "examples", shown)
        )


def of_alone(lab: Lab) -> Iterator[dict[str, Any]]:
    """Without passages: the plain model's prompt form, and the strength of adapters."""
    for ask_for in ("plain", "sentence", "examples"):
        yield lab.measure(f"vanilla, {ask_for}", Vanilla(), PromptForm(ask_for=ask_for))  # type: ignore[arg-type]
    for strength in (0.7, 1.0):
        yield lab.measure(f"DyPRAG at {strength}", lab.dyprag(strength))
    yield lab.measure("DyPRAG at 1.0, wrong documents", lab.dyprag(1.0), wrong=True)


def of_beside(lab: Lab) -> Iterator[dict[str, Any]]:
    """With passages: the strength of adapters, with one and with three passages in the prompt."""
    for shown, strengths in ((1, (0.25, 0.5)), (3, (0.25, 0.5))):
        form = PromptForm("best-last", "examples", shown)
        for strength in strengths:
            yield lab.measure(f"Combine at {strength}, {shown} in the prompt", lab.dyprag(strength, True), form)
    form = PromptForm("best-last", "examples", 1)
    for strength in (0.25, 0.5):
        name = f"Combine at {strength}, 1 in the prompt, wrong documents"
        yield lab.measure(name, lab.dyprag(strength, True), form, wrong=True)


def of_hops(lab: Lab) -> Iterator[dict[str, Any]]:
    """RAG for questions that need several passages: the number of passages."""
    for shown in (1, 2, 3):
        form = PromptForm("best-last", "examples", shown)
        yield lab.measure(f"RAG, {shown} passages, several hops", RAG(), form)


PARTS: dict[str, Callable[[Lab], Iterator[dict[str, Any]]]] = {
    "forms": of_forms, "alone": of_alone, "beside": of_beside, "hops": of_hops,
}  # fmt: skip


def main() -> None:
    """Measure the requested parts."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "shared" / "qa"
    if not folder.is_dir():
        raise SystemExit(f"There is no folder {folder}. Pass the folder of human questions.")
    base = load_model(MODEL)
    lines = []
    print(f"{base.dtype}\n| | present | F1 | tokens | cut % |\n|---|---|---|---|---|")
    lab: Lab | None = None
    for name in sys.argv[2:] or PARTS:
        if name == "hops":
            lines += list(PARTS[name](Lab(base, *hops(folder))))
            continue
        lab = lab or Lab(base, *single(folder))
        lines += list(PARTS[name](lab))
    file = Path("build/bench/yardstick.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()

"""Three retrieved passages: adapters merged in different ways, or one adapter of all three; compared with RAG.

    python benchmarks/merging.py [DATA] [QUESTIONS]

Retrieves three of PopQA's paragraphs for each question (60 by default) and answers with the packaged translator: with
passages translated separately and merged (the same as a long document in chunks), translated jointly (a long document
as a whole), and both with the passages in the prompt, where a generic adapter, trained on pairs of other documents,
shows the effect of the answer format. Prints a table and writes build/bench/merging.json.
"""

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from dyprag.adapters.generation import Sampling
from dyprag.adapters.lora import Adapters, stack
from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Document, Retrieved
from dyprag.corpora.retrieval import BM25Retriever
from dyprag.evaluation.metrics import answer_presence, score
from dyprag.evaluation.recall.benchmark import questions_of, training_lessons
from dyprag.evaluation.recall.measure import Asking, Measurer
from dyprag.evaluation.statistics import paired
from dyprag.methods.controls import OneForAll
from dyprag.methods.dyprag import DyPRAG
from dyprag.methods.protocol import Asked, Method
from dyprag.methods.rag import RAG
from dyprag.methods.vanilla import Vanilla
from dyprag.model.base import load_model
from dyprag.model.files import learned_folder
from dyprag.translators.lessons.real import popqa_lessons
from dyprag.translators.protocol import load_translator

MODEL, PASSAGES, BATCH = "smollm2-135m", 3, 16
ANSWER_TOKENS = 16


@dataclass(frozen=True)
class Side:
    """A method, and the documents to inject: those retrieved, another question's (wrong), or all as one (joint)."""

    name: str
    method: Method
    wrong: bool = False
    joint: bool = False


def joined(retrieved: Sequence[Retrieved]) -> tuple[Retrieved, ...]:
    """Join the passages into one document."""
    return (Retrieved(Document("joint", "\n\n".join(item.document.passage for item in retrieved)), 1.0),)


def main() -> None:
    """Answer with all sides; print and write the results."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "shared" / "data"
    if not data.is_dir():
        print(f"There is no folder {data}. Pass the folder of the data sets.")
        return
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    base = load_model(MODEL)
    translator: Any = load_translator(learned_folder("packaged", MODEL), base)
    lessons = popqa_lessons(data)
    retriever = BM25Retriever([lesson.document for lesson in lessons])
    random.Random(0).shuffle(lessons)
    questions = questions_of("popqa", lessons, data, 1)[:count]
    retrieved = [tuple(retriever.search(question.question, PASSAGES)) for question in questions]
    gold = sum(
        lessons[question.lesson].document in [hit.document for hit in hits]
        for question, hits in zip(questions, retrieved, strict=True)
    )
    right = [question.answers for question in questions]
    wrong = [others(index, retrieved, right) for index in range(len(retrieved))]
    print(f"{len(retrieved)} questions; the right passage is among {PASSAGES} retrieved for {gold}")

    @cache
    def translated(passage: str) -> Adapters:
        adapter: Adapters = translator.translate(translator.read(base, [passage]))
        return adapter

    @torch.no_grad()
    def translate(documents: Sequence[Document]) -> Adapters:
        return stack([translated(document.passage) for document in documents])

    rows: dict[str, dict[str, Any]] = {}
    for side in sides(translate, generic_adapter(base, translator, data)):
        asked = []
        for question, own, other in zip(questions, retrieved, wrong, strict=True):
            item = Asked(question.question, own)
            injected = other if side.wrong else own
            asked.append(replace(item, injected=joined(injected) if side.joint else injected))
        start = perf_counter()
        answers = side.method.answer(base, asked, Sampling(ANSWER_TOKENS), BATCH)
        present = [100.0 * answer_presence(a.text, one) for a, one in zip(answers, right, strict=True)]
        f1 = [100 * score(a.text, one).f1 for a, one in zip(answers, right, strict=True)]
        rows[side.name] = {"present": present, "f1": f1, "seconds": perf_counter() - start}
        print(f"  {side.name}: {sum(present) / count:.1f}, {perf_counter() - start:.0f} s", file=sys.stderr)
    print(table(rows))
    file = Path("build/bench/merging.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows))


def others(
    index: int, retrieved: Sequence[tuple[Retrieved, ...]], right: Sequence[tuple[str, ...]]
) -> tuple[Retrieved, ...]:
    """The passages of the next question that do not contain this question's answer."""
    for step in range(1, len(retrieved)):
        other = retrieved[(index + step) % len(retrieved)]
        if not any(answer_presence(item.document.passage, right[index]) for item in other):
            return other
    raise ValueError("the passages of every other question contain the answer")


def sides(translate: Any, generic: Adapters) -> list[Side]:
    """The sides to compare."""
    apart = [Side(f"apart, {how}", DyPRAG(translate, how)) for how in ("sum", "mean", "weighted", "matrices")]
    joint = DyPRAG(translate, "sum")
    beside = DyPRAG(translate, "weighted", True)
    return [
        Side("no adapter", Vanilla()), *apart, Side("wrong, weighted", DyPRAG(translate, "weighted"), wrong=True),
        Side("jointly", joint, joint=True), Side("jointly, wrong", joint, wrong=True, joint=True),
        Side("RAG", RAG()), Side("RAG + generic adapter", OneForAll("generic", generic, True)),
        Side("RAG + apart, weighted", beside), Side("RAG + apart, wrong", beside, wrong=True),
        Side("RAG + jointly", DyPRAG(translate, "sum", True), joint=True),
    ]  # fmt: skip


def generic_adapter(base: Any, translator: Any, data: Path) -> Adapters:
    """An adapter trained on pairs of other passages, which can only learn the answer format."""
    learned = {"closed": 0, "open": 0, "real": 64, "data": str(data)}
    config = PipelineConfig.model_validate({"learn": learned}).resolved()
    lessons = training_lessons(config.learn)
    asking = Asking.of(config.evaluate)
    measurer = Measurer(base, translator, lessons, config.lora, config.parametrize, config.recall, None, asking)
    return measurer.generic


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Answer presence and F1 in percent, and their differences to RAG with 95 % intervals."""
    lines = ["| | present | F1 | present, minus RAG | F1, minus RAG | s/answer |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        cells = [f"{sum(row[what]) / len(row[what]):.1f}" for what in ("present", "f1")]
        for what in ("present", "f1"):
            change = paired(row[what], rows["RAG"][what])
            cells.append(f"{change.difference:+.1f} [{change.low:.0f}, {change.high:.0f}]")
        lines.append(" | ".join([f"| {name}", *cells, f"{row['seconds'] / len(row['f1']):.2f} |"]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()

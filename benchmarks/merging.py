"""Three retrieved passages at once: adapters merged in each way, or one made of all three together; beside RAG.

    python benchmarks/merging.py [DATA] [QUESTIONS]

Retrieves three of PopQA's paragraphs for each of its questions (60 by default) and answers with the packaged
translator: translated apart and merged (a long document in chunks is the same), translated jointly (a long document as
a whole), and both beside the passages in the prompt, where one generic adapter, trained on other documents' pairs,
shows what is answer format. Prints a table and writes build/bench/merging.json.
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
from dyprag.evaluation.recall.benchmark import Asking, Measurer, questions_of, training_lessons
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
    """A way to answer, and what it is injected with: the retrieved documents, another question's, or all as one."""

    name: str
    method: Method
    wrong: bool = False
    joint: bool = False


def joined(found: Sequence[Retrieved]) -> tuple[Retrieved, ...]:
    """The passages one after another, as one document."""
    return (Retrieved(Document("joint", "\n\n".join(item.document.passage for item in found)), 1.0),)


def main() -> None:
    """Answer and print."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "shared" / "data"
    if not data.is_dir():
        print(f"No data at {data}; give the data sets' folder.")
        return
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    base = load_model(MODEL)
    translator: Any = load_translator(learned_folder("packaged", MODEL), base)
    lessons = popqa_lessons(data)
    retriever = BM25Retriever([lesson.document for lesson in lessons])
    random.Random(0).shuffle(lessons)
    asked_of = questions_of("popqa", lessons, data, 1)[:count]
    found = [tuple(retriever.search(one.question, PASSAGES)) for one in asked_of]
    gold = sum(
        lessons[one.lesson].document in [x.document for x in got] for one, got in zip(asked_of, found, strict=True)
    )
    right = [one.answers for one in asked_of]
    wrong = [others(place, found, right) for place in range(len(found))]
    print(f"{len(found)} questions; the right passage is among {PASSAGES} retrieved for {gold}")

    @cache
    def translated(passage: str) -> Adapters:
        made: Adapters = translator.translate(translator.read(base, [passage]))
        return made

    @torch.no_grad()
    def translate(documents: Sequence[Document]) -> Adapters:
        return stack([translated(document.passage) for document in documents])

    rows: dict[str, dict[str, Any]] = {}
    for side in sides(translate, generic_adapter(base, translator, data)):
        asked = []
        for one, own, other in zip(asked_of, found, wrong, strict=True):
            item = Asked(one.question, own)
            injected = other if side.wrong else own
            asked.append(replace(item, injected=joined(injected) if side.joint else injected))
        began = perf_counter()
        answers = side.method.answer(base, asked, Sampling(ANSWER_TOKENS), BATCH)
        present = [100.0 * answer_presence(a.text, one) for a, one in zip(answers, right, strict=True)]
        f1 = [100 * score(a.text, one).f1 for a, one in zip(answers, right, strict=True)]
        rows[side.name] = {"present": present, "f1": f1, "seconds": perf_counter() - began}
        print(f"  {side.name}: {sum(present) / count:.1f}, {perf_counter() - began:.0f} s", file=sys.stderr)
    print(table(rows))
    file = Path("build/bench/merging.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows))


def others(
    place: int, found: Sequence[tuple[Retrieved, ...]], right: Sequence[tuple[str, ...]]
) -> tuple[Retrieved, ...]:
    """The next question's passages that do not hold this one's answer."""
    for step in range(1, len(found)):
        other = found[(place + step) % len(found)]
        if not any(answer_presence(item.document.passage, right[place]) for item in other):
            return other
    raise ValueError("every other question's passages hold the answer")


def sides(translate: Any, generic: Adapters) -> list[Side]:
    """What is compared."""
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
    """One adapter trained on other passages' pairs: all that it can know is how answers look."""
    learned = {"closed": 0, "open": 0, "real": 64, "data": str(data)}
    config = PipelineConfig.model_validate({"learn": learned}).resolved()
    lessons = training_lessons(config.learn)
    asking = Asking.of(config.evaluate)
    measurer = Measurer(base, translator, lessons, config.lora, config.parametrize, config.recall, None, asking)
    return measurer.generic


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Answers present and F1 in percent, and both less RAG's with 95 % intervals."""
    lines = ["| | present | F1 | present less RAG's | F1 less RAG's | s/answer |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        cells = [f"{sum(row[what]) / len(row[what]):.1f}" for what in ("present", "f1")]
        for what in ("present", "f1"):
            less = paired(row[what], rows["RAG"][what])
            cells.append(f"{less.difference:+.1f} [{less.low:.0f}, {less.high:.0f}]")
        lines.append(" | ".join([f"| {name}", *cells, f"{row['seconds'] / len(row['f1']):.2f} |"]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()

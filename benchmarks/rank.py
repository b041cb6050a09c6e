"""Measure what the rank of trained adapters brings: the experiment behind SmolLM2-135M's `lora.rank`.

    python benchmarks/rank.py [RANK:ALPHA ...]

Trains adapters of eight documents that the demo leaves out (four of the demo corpus, four everyday ones) by the preset,
and asks 38 questions about them without the passage and beside it (half strength, no gate). Takes about ten minutes for
each rank on two slow cores. Prints each line as it is measured, and writes all of them to build/bench/rank.json.
"""

import json
import sys
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

from dyprag.adapters.generation import Sampling
from dyprag.adapters.lora import Adapters
from dyprag.adapters.parametrize import Parametrized, parametrize
from dyprag.adapters.samples import Sample, document_samples
from dyprag.augmentation.local import LocalAugmenter
from dyprag.config import LoraSettings, PipelineConfig
from dyprag.corpora.documents import Augmentation, Document, QAPair, Retrieved
from dyprag.corpora.reader import load_corpus
from dyprag.evaluation.metrics import answer_presence, score
from dyprag.evaluation.recall.everyday import everyday_lessons
from dyprag.methods.prag import PRAG
from dyprag.methods.protocol import Asked, Method
from dyprag.methods.rag import RAG
from dyprag.model.base import BaseModel, load_model

MODEL, BATCH = "smollm2-135m", 32
SHAPES = ("2:32", "4:32", "8:32", "16:16")  # rank:alpha
Question = tuple[Document, str, tuple[str, ...]]  # with its accepted answers


def documents() -> tuple[list[Document], list[Question]]:
    """Eight documents, and the questions about them."""
    corpus = load_corpus("demo")
    chosen, lessons = list(corpus.documents[9:13]), everyday_lessons()[:4]
    questions = [(d, q.question, q.answers) for d in chosen for q in corpus.questions if d.id in q.documents]
    for lesson in lessons:
        others = lesson.others or ((),) * len(lesson.pairs)
        questions += [
            (lesson.document, pair.question, (pair.answer, *more))
            for pair, more in zip(lesson.pairs, others, strict=True)
        ]
    return [*chosen, *(lesson.document for lesson in lessons)], questions


def augmented(base: BaseModel, config: PipelineConfig, chosen: list[Document]) -> list[list[Sample]]:
    """The training samples of each document, from pairs and rewrites that the model writes."""
    augmenter, settings = LocalAugmenter(base, config.augment), config.parametrize
    pairs, rewrites = augmenter.write("qa_pairs", chosen), augmenter.write("rewrites", chosen)
    samples = []
    for document, asked, texts in zip(chosen, pairs, rewrites, strict=True):
        if isinstance(asked, Exception) or isinstance(texts, Exception):
            raise SystemExit(f"{document.id!r} cannot be augmented: {asked} {texts}")
        kept = tuple(pair for pair in asked.items if isinstance(pair, QAPair))
        augmentation = Augmentation(tuple(map(str, texts.items)), kept)
        samples.append(document_samples(base, document, augmentation, settings.answer, settings.samples))
    return samples


def train(base: BaseModel, config: PipelineConfig, samples: list[list[Sample]], shape: str) -> list[Adapters]:
    """Each document's adapter of a shape RANK:ALPHA."""
    rank, alpha = shape.split(":")
    adapters: dict[int, Adapters] = {}
    for index, result in parametrize(
        base, samples, LoraSettings(rank=int(rank), alpha=float(alpha)), config.parametrize
    ):
        if not isinstance(result, Parametrized):
            raise result
        adapters[index] = result.adapter
    return [adapters[index] for index in range(len(samples))]


def ask(base: BaseModel, config: PipelineConfig, method: Method, questions: list[Question]) -> dict[str, float]:
    """Presence and F1 in percent, with the right document."""
    form = config.evaluate.form()
    asked = [Asked(text, (Retrieved(document, 1.0),), form=form) for document, text, _ in questions]
    outputs = method.answer(base, asked, Sampling(config.evaluate.max_new_tokens), BATCH)
    both = [(output.text, answers) for output, (_, _, answers) in zip(outputs, questions, strict=True)]
    present = fmean(answer_presence(text, answers) for text, answers in both)
    return {"present": 100 * present, "f1": 100 * fmean(score(text, answers).f1 for text, answers in both)}


def main() -> None:
    """Measure the prompt alone, then each rank."""
    config = PipelineConfig().resolved()
    base = load_model(MODEL)
    chosen, questions = documents()
    print("| rank, alpha | without the passage: present, F1 | beside it: present, F1 | s a document | bytes |")
    print("|---|---|---|---|---|")
    prompt = ask(base, config, RAG(), questions)
    print(f"| no adapter | – | {prompt['present']:.1f}, {prompt['f1']:.1f} | – | – |", flush=True)
    lines: list[dict[str, Any]] = [{"shape": "none", "beside": prompt}]
    samples = augmented(base, config, chosen)
    for shape in sys.argv[1:] or SHAPES:
        start = perf_counter()
        adapters = train(base, config, samples, shape)
        seconds = (perf_counter() - start) / len(chosen)
        by_document = dict(zip(chosen, adapters, strict=True))
        alone = ask(base, config, PRAG(by_document.get, "sum"), questions)
        beside = ask(base, config, PRAG(by_document.get, "sum", True, config.evaluate.combine_strength), questions)
        lines.append(
            {"shape": shape, "alone": alone, "beside": beside, "seconds": seconds, "bytes": adapters[0].nbytes}
        )
        print(
            f"| {shape.replace(':', ', ')} | {alone['present']:.1f}, {alone['f1']:.1f} | {beside['present']:.1f}, "
            f"{beside['f1']:.1f} | {seconds:.0f} | {adapters[0].nbytes:,} |", flush=True
        )  # fmt: skip
    file = Path("build/bench/rank.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()

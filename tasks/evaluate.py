"""Stage 3, one task a method and a shard of questions: retrieve, inject, answer (§3.3)."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.batching import compute
from dyprag.config import PipelineConfig
from dyprag.documents import Document, Question
from dyprag.retrieval import BM25Retriever
from storage.artifacts import Record, Store
from storage.tables import read_corpus, read_embedding, write_rows
from tasks.plan import distinct
from tasks.work import base_model, is_passing, one_document, reused

if TYPE_CHECKING:
    from dyprag.methods import Method

logger = logging.getLogger("dyprag.tasks")


@dataclass(frozen=True)
class Sources:
    """Keys of what the methods draw on: adapters and embeddings by document key, and the translator."""

    adapters: dict[str, str]
    embeddings: dict[str, str]
    translator: str = ""


@dataclass(frozen=True)
class AnswerJob:
    """A method on a shard of the questions, by their position in the corpus."""

    document_id: str  # the job's name in the catalogue: method and shard
    key: str
    method: str
    questions: tuple[int, ...]
    document_key: str = ""


@task(name="evaluate", task_run_name="evaluate {job.document_id}", cache_policy=NO_CACHE, retry_condition_fn=is_passing)
def answer_shard(job: AnswerJob, corpus_key: str, sources: Sources, config: PipelineConfig) -> "Record | State[Record]":
    """Answer a shard of questions with one method and store the predictions under the job's key."""
    from dyprag.generation import Sampling
    from dyprag.methods import Asked, answer_questions

    store = Store(config.store)
    if record := store.find("prediction", job.key):
        return reused(record)
    with one_document(job.document_id):
        questions, retriever = _corpus(config.store, corpus_key)
        asked = [
            Asked(questions[i].question, tuple(retriever.search(questions[i].question, config.evaluate.passages)))
            for i in job.questions
        ]
        base = base_model(config)
        method = make_method(job.method, store, sources, config)
        sampling = Sampling(config.evaluate.max_new_tokens)
        answers = compute(lambda: answer_questions(base, method, asked, sampling, config.evaluate.batch_size))
        rows = [
            {"question_id": questions[i].id, "question": questions[i].question, "method": job.method, "answer": a.text,
             "tokens": a.tokens, "seconds": a.seconds, "retrieved": [r.document.id for r in item.retrieved]}
            for i, a, item in zip(job.questions, answers, asked, strict=True)
        ]  # fmt: skip
        record = Record(
            "prediction", job.key, [sources.translator] if job.method.startswith("dyprag") else [],
            config.evaluate.material(), measures={"method": job.method, "questions": len(rows)},
        )  # fmt: skip
        return store.write(record, lambda folder: write_rows(folder / "predictions.parquet", rows))


def make_method(name: str, store: Store, sources: Sources, config: PipelineConfig) -> "Method":
    """The method of this name, drawing on stored artifacts."""
    from dyprag import methods

    combine, settings = name.endswith("-combine"), config.evaluate
    if name == "vanilla":
        return methods.Vanilla()
    if name == "rag":
        return methods.RAG()
    if name.startswith("prag"):
        return methods.PRAG(_adapter_loader(store, sources), settings.prag_merge, combine)
    import torch

    from dyprag.translator import load_translator

    base = base_model(config)
    translator = compute(lambda: load_translator(store.open("translator", sources.translator)).to(base.device))

    @lru_cache(maxsize=4096)
    def embedding(document: Document) -> torch.Tensor:
        return torch.tensor(read_embedding(store.open("embedding", sources.embeddings[document.key])))

    return methods.DyPRAG(translator, embedding, settings.dyprag_merge, combine)


def _adapter_loader(store: Store, sources: Sources) -> Callable:  # type: ignore[type-arg]
    from dyprag.lora import load_peft

    @lru_cache(maxsize=256)
    def load(document: Document):  # type: ignore[no-untyped-def]
        key = sources.adapters.get(document.key)
        if key is None:
            logger.warning("document %r has no adapter; it is left out of the merge.", document.id)
            return None
        return load_peft(store.open("adapter", key))

    return load


@lru_cache(maxsize=2)
def _corpus(store_root: str, corpus_key: str) -> tuple[Sequence[Question], BM25Retriever]:
    corpus = read_corpus(Store(store_root).open("corpus", corpus_key))
    return corpus.questions, BM25Retriever(distinct(corpus))

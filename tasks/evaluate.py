"""Stage 3: answer the test questions (§3.3).

One task answers a batch of questions with one method: it injects adapters, generates, and stores the predictions.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psutil
from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.config import EvaluateSettings, PipelineConfig
from dyprag.corpora.documents import Document, Found, Question, Retrieved
from dyprag.corpora.retrieval import Retriever
from dyprag.methods.spec import spec_of
from dyprag.runtime import progress
from dyprag.runtime.batching import compute
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.tables import read_embedding, write_rows
from dyprag.tasks.corpora import passages_of, stored_corpus
from dyprag.tasks.planning.answers import AnswerJob
from dyprag.tasks.work import base_model, ingested, is_retryable, one_document, reused
from dyprag.tasks.worker import worker_of

if TYPE_CHECKING:
    from dyprag.adapters.lora import Adapters
    from dyprag.methods.protocol import Answer, Method

logger = logging.getLogger("dyprag.tasks")
CONTROLS, ADAPTERS, EMBEDDINGS = 8, 256, 4096  # how many a process caches


@task(name="evaluate", task_run_name="evaluate {job.label}", cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def answer_batch(job: AnswerJob, corpus_key: str, config: PipelineConfig) -> "Record | State[Record]":
    """Answer a batch of questions with one method and store the predictions under the job's key."""
    store = Store(config.store)
    if record := store.find("prediction", job.key):
        return reused(record)
    with one_document(job.label):
        corpus = stored_corpus(config.store, corpus_key)
        questions = [corpus.questions[position] for position in job.questions]
        with _peak_memory() as peak, progress.part(len(questions), len(questions)):
            answers = answer_questions(job, corpus_key, questions, config)
        rows = [_row(job, question, answer) for question, answer in zip(questions, answers, strict=True)]
        measures = {"method": job.method, "dataset": job.dataset, "questions": len(rows), "peak_bytes": peak()}
        record = Record("prediction", job.key, job.inputs, config.evaluate.material(), measures=measures)
        return store.write(record, lambda folder: write_rows(folder / "predictions.parquet", rows))


def answer_questions(
    job: AnswerJob, corpus_key: str, questions: Sequence[Question], config: PipelineConfig
) -> "list[Answer]":
    """The answers to a job's questions, in order."""
    from dyprag.adapters.generation import Sampling
    from dyprag.methods.protocol import Asked

    documents = ingested(config.store, corpus_key)

    def look_up(found: Found) -> tuple[Retrieved, ...]:
        return tuple(Retrieved(documents[identity], score) for identity, score in found)

    form = config.evaluate.form()
    asked = [
        Asked(q.question, look_up(found), q.chain_of_thought, None if injected is None else look_up(injected), form)
        for q, found, injected in zip(questions, job.found, job.injected or [None] * len(questions), strict=True)
    ]
    method = make_method(job, corpus_key, config)
    settings, base = config.evaluate, base_model(config)
    sampling = Sampling(settings.answer_length(questions[0]))
    answers = compute(lambda: method.answer(base, asked, sampling, settings.batch_size))
    if not job.parametric:
        return answers

    def injected(item: Asked) -> tuple[Retrieved, ...]:
        has_adapter = job.can_translate if job.translator else job.adapters.__contains__
        return tuple(retrieved for retrieved in item.adapted if has_adapter(retrieved.document.key))

    # an answer without passages in its prompt is based on the injected documents
    return [replace(a, passages=a.passages or injected(item)) for a, item in zip(answers, asked, strict=True)]


def make_method(job: AnswerJob, corpus_key: str, config: PipelineConfig) -> "Method":
    """The method of a job, with stored artifacts as its resources."""
    return spec_of(job.method).build(Stored(job, corpus_key, config))


@dataclass(frozen=True)
class Stored:
    """The resources of a method (`dyprag.methods.spec.Resources`) from the store."""

    job: AnswerJob
    corpus_key: str
    config: PipelineConfig

    @property
    def settings(self) -> EvaluateSettings:
        return self.config.evaluate

    @property
    def threshold(self) -> float | None:
        return self.job.threshold

    @property
    def per_document(self) -> bool:
        return self.job.per_document

    def shared(self) -> "Adapters":
        return compute(lambda: self._cached_adapter("controls", self.job.control, CONTROLS))

    def retriever(self) -> Retriever:
        corpus = stored_corpus(self.config.store, self.corpus_key)
        return passages_of(self.config.store, self.corpus_key, corpus, self.job.dataset)

    def trained(self, document: Document) -> "Adapters | None":
        key = self.job.adapters.get(document.key)
        if key is None:
            logger.warning("document %r has no adapter and is left out of the merge.", document.id)
            return None
        return self._cached_adapter("adapters", key, ADAPTERS)

    def can_translate(self, document: Document) -> bool:
        """Whether the document has an embedding, or the translator reads tokens."""
        if self.job.can_translate(document.key):
            return True
        logger.warning("document %r has no embedding and is left out of the merge.", document.id)
        return False

    def translated(self, documents: Sequence[Document]) -> "Adapters":
        """Translate documents, from their tokens or their stored embeddings as the translator requires."""
        worker, key = worker_of(self.config), self.job.translator
        translator = worker.translator(key)
        if translator.reads_tokens:
            return translator.translate([worker.reading(key, document.passage) for document in documents])
        return translator.translate([self._embedding(self.job.embeddings[document.key]) for document in documents])

    def _cached_adapter(self, kind: str, key: str, limit: int) -> "Adapters":
        from dyprag.adapters.lora import load_peft

        worker = worker_of(self.config)
        return worker.keep(kind, key, lambda: load_peft(worker.store.open("adapter", key)), limit)

    def _embedding(self, key: str) -> Any:
        import torch

        worker = worker_of(self.config)

        def read() -> Any:
            return torch.tensor(read_embedding(worker.store.open("embedding", key)))

        return worker.keep("embeddings", key, read, EMBEDDINGS)


def _row(job: AnswerJob, question: Question, answer: "Answer") -> dict[str, Any]:
    """A self-contained prediction: the question, the answer, the model's input and the cost."""
    return {
        "dataset": question.dataset, "question_id": question.id, "question": question.question,
        "answers": list(question.answers), "type": question.type, "documents": list(question.documents),
        "chain_of_thought": question.chain_of_thought, "believed": list(question.believed), "method": job.method,
        "answer": answer.text, "tokens": answer.tokens, "seconds": answer.seconds, "first_token": answer.first_token,
        "retrievals": answer.retrievals, "cut": answer.cut, "adapted": answer.adapted, "prompt": answer.prompt,
        "passages": [
            {"id": r.document.id, "title": r.document.title, "text": r.document.text, "score": r.score}
            for r in answer.passages
        ],
    }  # fmt: skip


@contextmanager
def _peak_memory(every: float = 0.02) -> Iterator[Callable[[], int]]:
    """Yields a function that returns the peak memory in bytes: the accelerator's, or the process' if there is none."""
    import torch

    process, stopped = psutil.Process(), threading.Event()
    peak = process.memory_info().rss
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()

    def watch() -> None:
        nonlocal peak
        while not stopped.wait(every):
            peak = max(peak, process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True, name="dyprag-memory")
    thread.start()
    try:
        yield lambda: int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else peak
    finally:
        stopped.set()
        thread.join()

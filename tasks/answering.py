"""Answer questions with stored artifacts: the methods' resources come from the store.

Nothing here imports Prefect: a single question is answered without a flow.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dyprag.config import EvaluateSettings, PipelineConfig
from dyprag.corpora.documents import Document, Found, Question, Retrieved
from dyprag.corpora.retrieval import Retriever
from dyprag.methods.spec import spec_of
from dyprag.runtime.batching import compute
from dyprag.storage.tables import read_embedding
from dyprag.tasks.corpora import passages_of, stored_corpus
from dyprag.tasks.planning.answers import AnswerJob
from dyprag.tasks.worker import worker_of

if TYPE_CHECKING:
    from dyprag.adapters.lora import Adapters
    from dyprag.methods.protocol import Answer, Method

logger = logging.getLogger("dyprag.tasks")
CONTROLS, ADAPTERS, EMBEDDINGS = 8, 256, 4096  # how many a process caches


def answer_questions(
    job: AnswerJob, corpus_key: str, questions: Sequence[Question], config: PipelineConfig, alone: bool = False
) -> "list[Answer]":
    """The answers to a job's questions, in order.

    Args:
        alone: The question is asked by itself, and others like it may follow: the process keeps what it has read. An
            evaluation does not, since its answers must not depend on the questions that were asked before.
    """
    from dyprag.adapters.generation import Sampling
    from dyprag.methods.protocol import Asked

    documents = worker_of(config).documents(corpus_key)

    def look_up(found: Found) -> tuple[Retrieved, ...]:
        return tuple(Retrieved(documents[identity], score) for identity, score in found)

    form = config.evaluate.form()
    asked = [
        Asked(q.question, look_up(found), q.chain_of_thought, None if injected is None else look_up(injected), form)
        for q, found, injected in zip(questions, job.found, job.injected or [None] * len(questions), strict=True)
    ]
    method = make_method(job, corpus_key, config)
    settings, worker = config.evaluate, worker_of(config)
    base = worker.asked_alone() if alone else worker.base_model()
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

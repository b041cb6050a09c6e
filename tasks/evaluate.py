"""Stage 3, one task a method and a batch of questions: inject, answer, keep what was said (§3.3)."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Any

import psutil
from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.config import ModelSettings, PipelineConfig
from dyprag.corpora.documents import Document, Found, Question, Retrieved
from dyprag.runtime import progress
from dyprag.runtime.batching import compute
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.tables import read_embedding, write_rows
from dyprag.tasks.corpora import passages_of as passages_of  # flows and thresholds take them from here
from dyprag.tasks.corpora import stored_corpus as stored_corpus
from dyprag.tasks.plan import LOOPING, family
from dyprag.tasks.work import base_model, is_passing, one_document, reused, stored_translator

if TYPE_CHECKING:
    from dyprag.adapters.lora import Adapters
    from dyprag.methods import Answer, Method

logger = logging.getLogger("dyprag.tasks")


@dataclass(frozen=True)
class AnswerJob:
    """A method on a batch of the questions of one data set, with all that the answers draw on.

    questions: by their position in the corpus; found: the documents retrieved for each; injected: those whose adapters
    are injected instead (the control with wrong documents); adapters, embeddings: keys by document key; control: the
    key of the one adapter for all, and `summed` whether it is added once for each document; threshold: FLARE's or
    DRAGIN's, and `published` whether it is their authors'.
    """

    document_id: str  # the job's name in the catalogue: method and questions
    key: str
    method: str
    dataset: str
    questions: tuple[int, ...]
    found: tuple[Found, ...]
    injected: tuple[Found, ...] | None = None
    adapters: dict[str, str] = field(default_factory=dict)
    embeddings: dict[str, str] = field(default_factory=dict)
    translator: str = ""
    control: str = ""
    summed: bool = False
    threshold: float = 0.0
    published: bool = False
    document_key: str = ""

    @property
    def parametric(self) -> bool:
        """Whether it injects adapters of a question's documents."""
        return bool(self.adapters or self.translator)

    @property
    def inputs(self) -> list[str]:
        """Keys of the artifacts that it draws on."""
        return [*self.adapters.values(), *self.embeddings.values(), *filter(None, (self.translator, self.control))]


@task(name="evaluate", task_run_name="evaluate {job.document_id}", cache_policy=NO_CACHE, retry_condition_fn=is_passing)
def answer_batch(job: AnswerJob, corpus_key: str, config: PipelineConfig) -> "Record | State[Record]":
    """Answer a batch of questions with one method and store the predictions under the job's key."""
    store = Store(config.store)
    if record := store.find("prediction", job.key):
        return reused(record)
    with one_document(job.document_id):
        corpus = stored_corpus(config.store, corpus_key)
        questions = [corpus.questions[place] for place in job.questions]
        with _peak_memory() as peak, progress.part(len(questions), len(questions)):
            answers = respond(job, corpus_key, questions, config)
        rows = [_row(job, question, given) for question, given in zip(questions, answers, strict=True)]
        measures = {"method": job.method, "dataset": job.dataset, "questions": len(rows), "peak_bytes": peak()}
        record = Record("prediction", job.key, job.inputs, config.evaluate.material(), measures=measures)
        return store.write(record, lambda folder: write_rows(folder / "predictions.parquet", rows))


def respond(job: AnswerJob, corpus_key: str, questions: Sequence[Question], config: PipelineConfig) -> "list[Answer]":
    """The answers to a job's questions, in their order."""
    from dyprag.adapters.generation import Sampling
    from dyprag.methods import Asked

    documents = _by_id(config.store, corpus_key)

    def look_up(found: Found) -> tuple[Retrieved, ...]:
        return tuple(Retrieved(documents[identity], score) for identity, score in found)

    form = config.evaluate.form()
    asked = [
        Asked(q.question, look_up(found), q.chain_of_thought, None if injected is None else look_up(injected), form)
        for q, found, injected in zip(questions, job.found, job.injected or [None] * len(questions), strict=True)
    ]
    method = make_method(job, corpus_key, config)
    settings, base = config.evaluate, base_model(config)
    sampling = Sampling(answer_length(questions[0], config))
    answers = compute(lambda: method.answer(base, asked, sampling, settings.batch_size))
    if not job.parametric:
        return answers

    def injected(item: Asked) -> tuple[Retrieved, ...]:
        every = item.adapted if job.translator else [r for r in item.adapted if r.document.key in job.adapters]
        return tuple(every)

    # what was injected is what an answer without passages in its prompt was made from
    return [replace(a, passages=a.passages or injected(item)) for a, item in zip(answers, asked, strict=True)]


def answer_length(question: Question, config: PipelineConfig) -> int:
    """The longest answer to a question, in tokens."""
    return config.evaluate.reasoning_tokens if question.chain_of_thought else config.evaluate.max_new_tokens


def make_method(job: AnswerJob, corpus_key: str, config: PipelineConfig) -> "Method":
    """The method of a job, drawing on stored artifacts."""
    from dyprag import methods
    from dyprag.translators.attentive import AttentiveTranslator

    store, settings, name = Store(config.store), config.evaluate, job.method
    combine, strength, gate = "-combine" in name, settings.strength_of(name), settings.gate_of(name)
    if name == "vanilla":
        return methods.Vanilla()
    if name == "rag":
        return methods.RAG()
    if name in LOOPING:
        corpus = stored_corpus(config.store, corpus_key)
        retriever = passages_of(config.store, corpus_key, corpus, job.dataset)
        if name == "dragin":
            return methods.DRAGIN(retriever, job.threshold, passages=settings.passages, relative=True)
        if job.published:
            return methods.FLARE(retriever, 1 - job.threshold, settings.passages, confidence=fmean)
        return methods.FLARE(retriever, job.threshold, settings.passages)
    if job.control:
        shared = compute(lambda: _control(config.store, job.control))
        return methods.OneForAll(name, shared, combine, job.summed, strength, gate)
    if family(name).startswith("prag"):
        return methods.PRAG(_adapter_loader(store, job.adapters), str(settings.prag_merge), combine, strength, gate)
    translator = stored_translator(config.store, config.model, job.translator)

    def translate(documents: Sequence[Document]) -> "Adapters":
        """From all of a document's tokens, or from its stored embedding, as the translator wants it."""
        if isinstance(translator, AttentiveTranslator):
            readings = [_reading(config.store, config.model, job.translator, d.passage) for d in documents]
            return translator.translate(readings)
        return translator.translate([_embedding(config.store, job.embeddings[d.key]) for d in documents])

    return methods.DyPRAG(translate, str(settings.dyprag_merge), combine, strength, gate)


@lru_cache(maxsize=512)  # some 350 MB for SmolLM2-135M; methods and controls ask about the same documents
def _reading(store_root: str, model: ModelSettings, translator: str, passage: str) -> Any:
    """What an attentive translator needs of a document. Each is read by itself: in other company it would be padded,
    and differ in its last bits from what a run that was stopped made of it."""
    found = stored_translator(store_root, model, translator)
    (reading,) = found.read(base_model(PipelineConfig(model=model)), [passage])
    return reading


@lru_cache(maxsize=2)
def _by_id(store_root: str, corpus_key: str) -> dict[str, Document]:
    return {document.id: document for document in stored_corpus(store_root, corpus_key).documents}


@lru_cache(maxsize=8)
def _control(store_root: str, key: str) -> "Adapters":
    from dyprag.adapters.lora import load_peft

    return load_peft(Store(store_root).open("adapter", key))


@lru_cache(maxsize=4096)
def _embedding(store_root: str, key: str) -> Any:
    import torch

    return torch.tensor(read_embedding(Store(store_root).open("embedding", key)))


def _adapter_loader(store: Store, adapters: dict[str, str]) -> "Callable[[Document], Adapters | None]":
    from dyprag.adapters.lora import load_peft

    def load(document: Document) -> "Adapters | None":
        key = adapters.get(document.key)
        if key is None:
            logger.warning("document %r has no adapter; it is left out of the merge.", document.id)
            return None
        return load_peft(store.open("adapter", key))

    return lru_cache(maxsize=256)(load)


def _row(job: AnswerJob, question: Question, given: "Answer") -> dict[str, Any]:
    """A prediction that can be read by itself: question, answer, what the model saw, what it took."""
    return {
        "dataset": question.dataset, "question_id": question.id, "question": question.question,
        "answers": list(question.answers), "type": question.type, "documents": list(question.documents),
        "chain_of_thought": question.chain_of_thought, "believed": list(question.believed), "method": job.method,
        "answer": given.text, "tokens": given.tokens, "seconds": given.seconds, "first_token": given.first_token,
        "retrievals": given.retrievals, "cut": given.cut, "adapted": given.adapted, "prompt": given.prompt,
        "passages": [
            {"id": r.document.id, "title": r.document.title, "text": r.document.text, "score": r.score}
            for r in given.passages
        ],
    }  # fmt: skip


@contextmanager
def _peak_memory(every: float = 0.02) -> Iterator[Callable[[], int]]:
    """Gives a function that says, in the end, how many bytes the process held at most meanwhile: on the accelerator
    where there is one, else in memory."""
    import torch

    process, over = psutil.Process(), threading.Event()
    most = process.memory_info().rss
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()

    def watch() -> None:
        nonlocal most
        while not over.wait(every):
            most = max(most, process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True, name="dyprag-memory")
    thread.start()
    try:
        yield lambda: int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else most
    finally:
        over.set()
        thread.join()

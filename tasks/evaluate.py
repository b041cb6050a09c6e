"""Stage 3: answer the test questions (§3.3).

One task answers a batch of questions with one method: it injects adapters, generates, and stores the predictions.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Question
from dyprag.runtime import progress
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.tables import write_rows
from dyprag.tasks.answering import answer_questions
from dyprag.tasks.corpora import stored_corpus
from dyprag.tasks.planning.answers import AnswerJob
from dyprag.tasks.work import is_retryable, one_document, reused

if TYPE_CHECKING:
    from dyprag.methods.protocol import Answer


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

"""Stage 2, first step: embed documents (§3.2). Embedding is quick, so one task takes many documents."""

from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.config import PipelineConfig
from dyprag.runtime import progress
from dyprag.runtime.batching import compute
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Ended, Work
from dyprag.storage.outcomes import Outcome
from dyprag.storage.tables import write_embedding
from dyprag.tasks.planning.jobs import DocumentJob
from dyprag.tasks.shards import Attempt, failed, work_on
from dyprag.tasks.work import base_model, ingested, is_retryable, one_document

if TYPE_CHECKING:
    from dyprag.model.base import BaseModel

Embedding = list[float]


@task(name="embed", task_run_name="embed {name}", cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def embed_documents(
    name: str, jobs: Sequence[DocumentJob], corpus_key: str, config: PipelineConfig
) -> "list[Ended] | State[list[Ended]]":
    """Embed documents; each embedding is an artifact of its own."""
    return work_on(jobs, corpus_key, config, _embed)


def _embed(jobs: Sequence[DocumentJob], corpus_key: str, config: PipelineConfig, number: int) -> list[Attempt]:
    """Compute the missing embeddings of some documents together."""
    store, documents = Store(config.store), ingested(config.store, corpus_key)
    outcomes: dict[str, Attempt] = {}
    for job in jobs:
        if record := store.find("embedding", job.key):
            outcomes[job.key] = job, Work(job.document_id, job.key, Outcome.CACHED, job.document_key), [record], None
    missing = [job for job in jobs if job.key not in outcomes]
    if missing:
        began, base = perf_counter(), base_model(config)
        with progress.part(len(missing)):
            progress.phase(0.9, len(missing))
            embeddings = _embeddings(base, [documents[job.document_id].passage for job in missing])
            seconds = (perf_counter() - began) / len(missing)
            progress.phase(0.1, len(missing))
            for job, embedding in zip(missing, embeddings, strict=True):
                outcomes[job.key] = _stored(store, job, embedding, seconds, number)
                progress.advance()
    return [outcomes[job.key] for job in jobs]


def _embeddings(base: "BaseModel", passages: Sequence[str]) -> list[Embedding | Exception]:
    """The embedding of each passage, or the error that it raises.

    Passages that fail together are computed again in halves, to find out which of them fail.
    """
    from dyprag.adapters.embedding import embed

    try:
        return [*compute(partial(embed, base, passages)).tolist()]
    except Exception as error:
        if len(passages) == 1:
            return [error]
    middle = len(passages) // 2  # outside of the handler, since the error's frames may hold the memory that ran out
    return [*_embeddings(base, passages[:middle]), *_embeddings(base, passages[middle:])]


def _stored(store: Store, job: DocumentJob, embedding: Embedding | Exception, seconds: float, number: int) -> Attempt:
    """Store a document's embedding, or record its error."""
    try:
        with one_document(job.document_id):
            if isinstance(embedding, Exception):
                raise embedding
            record = store.write(
                Record(
                    "embedding", job.key, [job.document_key], {}, job.document_key, job.document_id, seconds=seconds
                ),
                partial(write_embedding, embedding=embedding),
            )
    except Exception as error:
        return failed(job, [error], [], number)
    return job, Work(job.document_id, job.key, Outcome.DONE, job.document_key, number, seconds), [record], None

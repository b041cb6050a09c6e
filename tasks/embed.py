"""Stage 2, first step: document embeddings, once per document (§3.2). Quick work, so one task takes a shard."""

from functools import partial
from time import perf_counter

from prefect import task
from prefect.cache_policies import NO_CACHE

from dyprag.config import PipelineConfig
from dyprag.runtime import progress
from dyprag.runtime.batching import compute
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.tables import write_embedding
from dyprag.tasks.plan import Job
from dyprag.tasks.work import base_model, ingested, is_passing


@task(name="embed", task_run_name="embed {shard}", cache_policy=NO_CACHE, retry_condition_fn=is_passing)
def embed_documents(shard: str, jobs: list[Job], corpus_key: str, config: PipelineConfig) -> list[Record]:
    """Embed a shard of documents; each embedding is an artifact of its own."""
    from dyprag.adapters.embedding import embed

    store, base = Store(config.store), base_model(config)
    passages = [ingested(config.store, corpus_key)[job.document_id].passage for job in jobs]
    began, records = perf_counter(), []
    with progress.part(len(jobs)):
        progress.phase(0.9, len(jobs))
        embeddings = compute(partial(embed, base, passages)).tolist()
        seconds = (perf_counter() - began) / len(jobs)
        progress.phase(0.1, len(jobs))
        for job, embedding in zip(jobs, embeddings, strict=True):
            record = Record(
                "embedding", job.key, [job.document_key], {}, job.document_key, job.document_id, seconds=seconds
            )
            records.append(store.write(record, partial(write_embedding, embedding=embedding)))
            progress.advance()
    return records

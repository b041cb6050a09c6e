"""Stage 1a, one task a document: rewrites and question-answer pairs (§3.1)."""

from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.config import AugmentSettings, ModelSettings, PipelineConfig
from storage.artifacts import Record, Store
from storage.tables import write_augmentation
from tasks.plan import Job
from tasks.work import attempt, base_model, ingested, is_passing, once, one_document, reused

if TYPE_CHECKING:
    from dyprag.augmentation.local import LocalAugmenter


@task(name="augment", task_run_name="augment {job.document_id}", cache_policy=NO_CACHE, retry_condition_fn=is_passing)
def augment_document(job: Job, corpus_key: str, config: PipelineConfig) -> "Record | State[Record]":
    """Augment one document and store the result under its key."""
    store = Store(config.store)
    if record := store.find("augmentation", job.key):
        return reused(record)
    with one_document(job.document_id):
        document = ingested(config.store, corpus_key)[job.document_id]
        began = perf_counter()
        augmentation = augmenter(config.model, config.augment).augment(document)
        record = Record(
            "augmentation", job.key, [job.document_key], config.augment.material(), job.document_key, job.document_id,
            seconds=perf_counter() - began,
            measures={"attempts": attempt(), "rewrites": len(augmentation.rewrites),
                      "qa_pairs": len(augmentation.qa_pairs)},
        )  # fmt: skip
        return store.write(record, lambda folder: write_augmentation(folder, augmentation))


@once
@lru_cache(maxsize=1)
def augmenter(model: ModelSettings, settings: AugmentSettings) -> "LocalAugmenter":
    """The augmenter of these settings; all tasks of a process share it, and so its batches."""
    from dyprag.augmentation.local import LocalAugmenter

    return LocalAugmenter(base_model(PipelineConfig(model=model)), settings)

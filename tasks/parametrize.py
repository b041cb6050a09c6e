"""Stage 1b, one task a document, one batch for the machine: its augmentation becomes its adapter (§3.1)."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.batching import Batcher
from dyprag.config import MOST_TOGETHER, LoraSettings, ModelSettings, ParametrizeSettings, PipelineConfig
from dyprag.errors import DocumentError
from storage.artifacts import Record, Store
from storage.tables import read_augmentation, write_rows
from tasks.plan import Job
from tasks.work import attempt, base_model, ingested, is_passing, once, one_document, reused

if TYPE_CHECKING:
    from dyprag.parametrize import Parametrized
    from dyprag.samples import Sample


@task(
    name="parametrize",
    task_run_name="parametrize {job.document_id}",
    cache_policy=NO_CACHE,
    retry_condition_fn=is_passing,
)
def parametrize_document(job: Job, corpus_key: str, config: PipelineConfig) -> "Record | State[Record]":
    """Train one document's adapter and store it in PEFT's format, with its learning curve, under its key."""
    from dyprag.lora import save_peft
    from dyprag.samples import document_samples

    store = Store(config.store)
    if record := store.find("adapter", job.key):
        return reused(record)
    with one_document(job.document_id):
        document = ingested(config.store, corpus_key)[job.document_id]
        augmentation = read_augmentation(store, job.upstream)
        base = base_model(config)
        settings = config.parametrize
        samples = document_samples(base, document, augmentation, settings.answer, settings.samples)
        trained = trainer(config.model, config.lora, settings).submit(samples)
        if trained.diverged:
            raise DocumentError(
                f"document {job.document_id!r}", "the training of its adapter diverged: the loss is no number any more",
                "Lower parametrize.learning_rate.",
            )  # fmt: skip
        record = Record(
            "adapter", job.key, list(job.upstream),
            {"lora": config.lora.material(), "parametrize": config.parametrize.material()},
            job.document_key, job.document_id, seconds=trained.seconds,
            measures={"attempts": attempt(), "tokens": trained.tokens, "steps": len(trained.losses),
                      "loss": trained.losses[-1], "dtype": str(base.dtype)},
        )  # fmt: skip

        def fill(folder):  # type: ignore[no-untyped-def]
            save_peft(base, trained.adapter, folder, config.model.name)
            write_rows(
                folder / "curve.parquet", [{"step": i, "loss": x} for i, x in enumerate(trained.losses, start=1)]
            )

        return store.write(record, fill)


@once
@lru_cache(maxsize=1)
def trainer(
    model: ModelSettings, lora: LoraSettings, settings: ParametrizeSettings
) -> "Batcher[list[Sample], Parametrized]":
    """Trains the documents that wait, together; all tasks of a process share it."""
    from dyprag.parametrize import parametrize

    base = base_model(PipelineConfig(model=model))

    def work(documents: Sequence["list[Sample]"]) -> Iterator[tuple[int, "Parametrized | Exception"]]:
        return parametrize(base, documents, lora, settings)

    return Batcher(work, MOST_TOGETHER)

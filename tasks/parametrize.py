"""Stage 1b, one task a document: its augmentation becomes its adapter (§3.1)."""

from time import perf_counter

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.batching import compute
from dyprag.config import PipelineConfig
from storage.artifacts import Record, Store
from storage.tables import read_augmentation, write_rows
from tasks.plan import Job
from tasks.work import attempt, base_model, ingested, is_passing, one_document, reused


@task(
    name="parametrize",
    task_run_name="parametrize {job.document_id}",
    cache_policy=NO_CACHE,
    retry_condition_fn=is_passing,
)
def parametrize_document(job: Job, corpus_key: str, config: PipelineConfig) -> "Record | State[Record]":
    """Train one document's adapter and store it in PEFT's format, with its learning curve, under its key."""
    from dyprag.lora import save_peft
    from dyprag.parametrize import Parametrized, document_samples, parametrize

    store = Store(config.store)
    if record := store.find("adapter", job.key):
        return reused(record)
    with one_document(job.document_id):
        document = ingested(config.store, corpus_key)[job.document_id]
        augmentation = read_augmentation(store.open("augmentation", job.upstream))
        base = base_model(config)
        settings = config.parametrize
        samples = document_samples(base, document, augmentation, settings.answer, settings.samples)

        def train() -> tuple[Parametrized, float]:
            began = perf_counter()
            return parametrize(base, samples, config.lora, settings), perf_counter() - began

        trained, seconds = compute(train)
        record = Record(
            "adapter", job.key, [job.upstream],
            {"lora": config.lora.material(), "parametrize": config.parametrize.material()},
            job.document_key, job.document_id, seconds=seconds,
            measures={"attempts": attempt(), "tokens": trained.tokens, "steps": len(trained.losses),
                      "loss": trained.losses[-1]},
        )  # fmt: skip

        def fill(folder):  # type: ignore[no-untyped-def]
            save_peft(base, trained.adapter, folder, config.model.name)
            write_rows(
                folder / "curve.parquet", [{"step": i, "loss": x} for i, x in enumerate(trained.losses, start=1)]
            )

        return store.write(record, fill)

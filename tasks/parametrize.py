"""Stage 1b: train documents' adapters (§3.1).

One task takes one or more documents; all documents of a process that wait are trained in one batch.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.config import MOST_TOGETHER, PipelineConfig
from dyprag.errors import DocumentError
from dyprag.runtime.batching import Batcher
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Ended, Work
from dyprag.storage.outcomes import Outcome
from dyprag.storage.tables import read_augmentation, write_rows
from dyprag.tasks.planning.jobs import DocumentJob
from dyprag.tasks.shards import Attempt, failed, work_on
from dyprag.tasks.work import base_model, ingested, is_retryable, one_document
from dyprag.tasks.worker import worker_of

logger = logging.getLogger("dyprag.tasks")

if TYPE_CHECKING:
    from dyprag.adapters.parametrize import Parametrized
    from dyprag.adapters.samples import Sample
    from dyprag.translators.protocol import Translating

    Begun = tuple[list[Sample], str]  # a document's samples and its passage


@task(name="parametrize", task_run_name="parametrize {name}", cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def parametrize_documents(
    name: str, jobs: Sequence[DocumentJob], corpus_key: str, config: PipelineConfig
) -> "list[Ended] | State[list[Ended]]":
    """Train documents' adapters and store each in PEFT's format, with its learning curve, under its key."""
    return work_on(jobs, corpus_key, config, _parametrize)


def _parametrize(jobs: Sequence[DocumentJob], corpus_key: str, config: PipelineConfig, number: int) -> list[Attempt]:
    """Train the missing adapters of some documents together."""
    store = Store(config.store)
    outcomes: dict[str, Attempt] = {}
    futures: dict[Future[Any], DocumentJob] = {}
    for job in jobs:
        if record := store.find("adapter", job.key):
            outcomes[job.key] = job, parametrized(job, record), [record], None
            continue
        try:
            with one_document(job.document_id):
                samples = _samples(store, job, corpus_key, config)
                passage = ingested(config.store, corpus_key)[job.document_id].passage
                futures[_trainer(config).begin((samples, passage))] = job
        except Exception as error:
            outcomes[job.key] = failed(job, [error], [], number)
    for future in as_completed(futures):
        job = futures[future]
        try:
            with one_document(job.document_id):
                record = _store(store, job, future.result(), config, number)
            outcomes[job.key] = job, parametrized(job, record, number), [record], None
        except Exception as error:
            outcomes[job.key] = failed(job, [error], [], number)
    return [outcomes[job.key] for job in jobs]


def parametrized(job: DocumentJob, record: Record, attempts: int = 0) -> Work:
    """The outcome of a document that has its adapter: partial if the training did not go well.

    Args:
        attempts: 0 if the adapter existed already.
    """
    fault = record.measures.get("fault", "")  # not recorded for imported adapters and by earlier versions
    state = Outcome.PARTIAL if fault else Outcome.DONE if attempts else Outcome.CACHED
    seconds = record.seconds if attempts else 0.0
    reason = (
        f"its adapter recalls little: {fault}. Change parametrize.learning_rate or parametrize.seed" if fault else ""
    )
    kind = "Partial" if fault else ""
    return Work(job.document_id, job.key, state, job.document_key, attempts, seconds, kind, reason)


def _samples(store: Store, job: DocumentJob, corpus_key: str, config: PipelineConfig) -> "list[Sample]":
    from dyprag.adapters.samples import document_samples

    document = ingested(config.store, corpus_key)[job.document_id]
    augmentation = read_augmentation(store, job.upstream)
    settings = config.parametrize
    return document_samples(base_model(config), document, augmentation, settings.answer, settings.samples)


def _store(store: Store, job: DocumentJob, trained: "Parametrized", config: PipelineConfig, number: int) -> Record:
    from dyprag.adapters.lora import save_peft

    if trained.diverged:
        raise DocumentError(
            f"document {job.document_id!r}", f"the training of its adapter diverged: {trained.fault}",
            "Lower parametrize.learning_rate.",
        )  # fmt: skip
    base = base_model(config)
    record = Record(
        "adapter", job.key, list(job.upstream),
        {"lora": config.lora.material(), "parametrize": config.parametrize.material()},
        job.document_key, job.document_id, seconds=trained.seconds,
        measures={"attempts": number, "tokens": trained.tokens, "steps": len(trained.losses),
                  "loss": trained.losses[-1], "loss_before": trained.losses[0], "loss_after": trained.after,
                  "learning_rate": trained.learning_rate, "trainings": trained.trainings, "fault": trained.fault,
                  "dtype": str(base.dtype)},
    )  # fmt: skip
    if trained.trainings > 1:
        how = "failed again" if trained.fault else f"succeeded at learning rate {trained.learning_rate:.2g}"
        logger.warning("document %r: the training of its adapter was repeated, and %s", job.document_id, how)

    def fill(folder: Path) -> None:
        save_peft(base, trained.adapter, folder, config.model.name)
        write_rows(folder / "curve.parquet", [{"step": i, "loss": x} for i, x in enumerate(trained.losses, start=1)])

    return store.write(record, fill)


def _trainer(config: PipelineConfig) -> "Batcher[Begun, Parametrized]":
    """The batcher that trains waiting documents together, shared by all tasks of a process."""
    import torch

    from dyprag.adapters.parametrize import parametrize

    base, lora, settings, learned = base_model(config), config.lora, config.parametrize, config.translator.learned
    translator = _start(config) if settings.start == "translated" else None

    def work(documents: Sequence["Begun"]) -> Iterator[tuple[int, "Parametrized | Exception"]]:
        samples = [own for own, _ in documents]
        if translator is None:
            return parametrize(base, samples, lora, settings)
        with base.lock, torch.no_grad():  # one at a time: padding would change the last bits
            starts = [translator.translate(translator.read(base, [passage])) for _, passage in documents]
        return parametrize(base, samples, lora, settings, starts, translator.first_layer)

    return worker_of(config).keep("trainer", (lora, settings, learned), lambda: Batcher(work, MOST_TOGETHER))


def _start(config: PipelineConfig) -> "Translating":
    """The translator whose adapters documents' trainings start from."""
    from dyprag.model.files import learned_folder
    from dyprag.translators.protocol import load_translator

    learned = config.translator.learned
    assert learned is not None  # the configuration requires it

    def make() -> Any:
        return load_translator(learned_folder(learned, config.model.name), base_model(config))

    return worker_of(config).keep("start", (config.model, learned), make)

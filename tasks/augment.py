"""Stage 1a, one task a document or more: rewrites and question-answer pairs, each stored when it is there (§3.1)."""

import os
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, as_completed
from dataclasses import asdict
from statistics import mean
from time import perf_counter
from typing import TYPE_CHECKING, Any

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.augmentation.products import Augmenter, Product, ProductName
from dyprag.config import ApiSettings, PipelineConfig
from dyprag.errors import ConfigError, Stopped
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Ended, Work
from dyprag.storage.journal import Journal
from dyprag.storage.outcomes import Outcome
from dyprag.storage.tables import write_product
from dyprag.tasks.planning.jobs import AugmentJob
from dyprag.tasks.shards import Tried, failed, work_on
from dyprag.tasks.work import base_model, ingested, is_passing, one_document

if TYPE_CHECKING:
    from dyprag.augmentation.api import ApiAugmenter

_augmenters: dict[tuple[str, str, str, str], Augmenter] = {}
_making = threading.Lock()  # one at a time: those that miss theirs together would each make one


@task(name="augment", task_run_name="augment {name}", cache_policy=NO_CACHE, retry_condition_fn=is_passing)
def augment_documents(
    name: str, jobs: Sequence[AugmentJob], corpus_key: str, config: PipelineConfig
) -> "list[Ended] | State[list[Ended]]":
    """Augment documents at the same time and store each product under its key.

    Requests to an endpoint leave from the flow's process, whatever the runner: its limits are kept there.
    """
    return work_on(jobs, corpus_key, config, _augment, here=config.augment.backend == "api")


def _augment(jobs: Sequence[AugmentJob], corpus_key: str, config: PipelineConfig, number: int) -> list[Tried]:
    """Make what is missing of some documents, all products at the same time."""
    store, writer = Store(config.store), augmenter(config)
    made: dict[str, tuple[list[Record], list[Exception]]] = {job.document_id: ([], []) for job in jobs}
    running: dict[Future[Product], tuple[AugmentJob, ProductName]] = {}
    began = perf_counter()
    for job in jobs:
        for product, key in job.products.items():
            if record := store.find(product, key):
                made[job.document_id][0].append(record)
            else:
                document = ingested(config.store, corpus_key)[job.document_id]
                running[writer.begin(document, product, key)] = (job, product)
    for future in as_completed(running):
        job, product = running[future]
        records, errors = made[job.document_id]
        try:
            with one_document(job.document_id):
                records.append(_store(store, job, product, future.result(), perf_counter() - began, config))
            writer.stored(job.products[product])
        except CancelledError:  # its stage has already ended
            errors.append(Stopped(f"document {job.document_id!r}", "its stage has already ended", "Run again."))
        except Exception as error:
            errors.append(error)
    return [_tried(job, *made[job.document_id], number) for job in jobs]


def _tried(job: AugmentJob, records: list[Record], errors: Sequence[Exception], number: int) -> Tried:
    """What became of one document; its products may have fared differently."""
    seconds = sum(record.seconds for record in records)
    if not errors:
        return job, augmented(job, records, number, seconds), records, None
    return failed(job, errors, records, number, seconds)


def augmented(job: AugmentJob, records: Sequence[Record], attempts: int = 0, seconds: float = 0.0) -> Work:
    """The outcome of a document that has its products: partial where one of them has too few items.

    Args:
        attempts: 0 for one that was found made.
    """
    few = [record for record in records if record.measures["partial"]]
    state = Outcome.PARTIAL if few else Outcome.DONE if attempts else Outcome.CACHED
    text = "; ".join(_shortfall(record) for record in few)
    return Work(job.document_id, job.key, state, job.document_key, attempts, seconds, "Partial" if few else "", text)


def _shortfall(record: Record) -> str:
    measures = record.measures
    reasons = ", ".join(f"{count} x {reason}" for reason, count in measures["reasons"].items())
    filled = measures.get("filled", 0)  # absent in records of earlier versions
    what = f"{measures['accepted'] - filled} of {measures['wanted']} {record.kind.replace('_', ' ')}"
    what += f" by the model, {filled} by rule" if filled else ""
    return f"{what} ({reasons})" if reasons else what


def _store(
    store: Store, job: AugmentJob, name: ProductName, product: Product, seconds: float, config: PipelineConfig
) -> Record:
    """Store one product under its key."""
    record = Record(
        name, job.products[name], [job.document_key], config.augment.material_of(name), job.document_key,
        job.document_id, seconds=seconds, measures=measures(product, name, config),
    )  # fmt: skip
    return store.write(record, lambda folder: write_product(folder, product))


def measures(product: Product, name: ProductName, config: PipelineConfig) -> dict[str, Any]:
    """What the record of a product tells: how many items of how many, what it took, and how good they are."""
    wanted = getattr(config.augment, name)
    least = wanted if name == "rewrites" else min(config.augment.least_pairs, wanted)
    marks: dict[str, list[float]] = {}
    for accepted in product.accepted:
        for mark, value in accepted.marks.items():
            if isinstance(value, int | float):
                marks.setdefault(mark, []).append(value)
    return {
        "wanted": wanted, "accepted": len(product.accepted), "dropped": len(product.dropped),
        "filled": product.filled,
        "partial": len(product.accepted) - product.filled < least,
        "rounds": product.rounds, **asdict(product.usage),
        "reasons": dict(Counter(dropped.reason for dropped in product.dropped).most_common(5)),
        "quality": {mark: round(mean(values), 4) for mark, values in marks.items()},
    }  # fmt: skip


@task(name="fetch batches", cache_policy=NO_CACHE)
def fetch_batches(config: PipelineConfig) -> int:
    """Fetch what open batches have brought; gives the number of those that are still open."""
    return _api(config).fetch().still_open


@task(name="hand in batches", cache_policy=NO_CACHE)
def hand_in_batches(config: PipelineConfig) -> list[str]:
    """Hand in the requests that documents wait for; gives the batches' ids."""
    return [batch.id for batch in _api(config).hand_in()]


def _api(config: PipelineConfig) -> "ApiAugmenter":
    from dyprag.augmentation.api import ApiAugmenter

    made = augmenter(config)
    assert isinstance(made, ApiAugmenter)
    return made


def augmenter(config: PipelineConfig) -> Augmenter:
    """The augmenter of these settings; all tasks of a stage in a process share it, and so its batches and limits."""
    key = endpoint_key(config.augment.api) if config.augment.backend == "api" else ""
    name = (config.store, config.model.model_dump_json(), config.augment.model_dump_json(), key)
    with _making:
        if name not in _augmenters:
            _augmenters[name] = _make_augmenter(config, key)
        return _augmenters[name]


def _make_augmenter(config: PipelineConfig, key: str) -> Augmenter:
    if config.augment.backend == "api":
        from dyprag.augmentation.api import ApiAugmenter

        journal = Journal(Store(config.store))
        return ApiAugmenter(config.augment, key, journal, journal.tokens)
    from dyprag.augmentation.local import LocalAugmenter

    return LocalAugmenter(base_model(config), config.augment)


def dismiss_augmenters() -> None:
    """End them with their stage: the next finds a journal that others may have written to, and tries anew what stopped
    this one."""
    with _making:
        for made in _augmenters.values():
            made.close()
        _augmenters.clear()


def endpoint_key(api: ApiSettings) -> str:
    """The endpoint's key, from the Prefect Secret block or the environment variable.

    Raises:
        ConfigError: there is none, and the endpoint is not one's own, which may need none.
    """
    if api.key_block:
        from prefect.blocks.system import Secret

        try:
            block: Any = Secret.load(api.key_block)
            return str(block.get()).strip()
        except ValueError as error:
            raise ConfigError(
                "setting 'augment.api.key_block'", f"there is no Secret block {api.key_block!r}",
                "Create it in the UI (Blocks), or name another block.",
            ) from error  # fmt: skip
    key = os.environ.get(api.key_env, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"environment variable {api.key_env}", "it contains non-ASCII or control characters", "Set it again."
        )
    if not key and not api.base_url and not os.environ.get("OPENAI_BASE_URL"):
        raise ConfigError(
            f"environment variable {api.key_env}",
            "it is empty",
            "Set it, or set augment.api.key_block or augment.api.base_url.",
        )
    return key

"""Stage 1a: write rewrites and question-answer pairs (§3.1).

One task takes one or more documents; each product is stored as soon as it is complete.
"""

import os
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, as_completed
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import TYPE_CHECKING, Any

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from dyprag.config import ApiSettings, PipelineConfig
from dyprag.corpora.products import Augmenter, Product, ProductName
from dyprag.errors import ArtifactError, ConfigError, Stopped
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Ended, Work
from dyprag.storage.journal import Journal
from dyprag.storage.outcomes import Outcome
from dyprag.storage.tables import write_product
from dyprag.tasks.planning.jobs import AugmentJob
from dyprag.tasks.shards import Attempt, failed, work_on
from dyprag.tasks.work import base_model, ingested, is_retryable, one_document

if TYPE_CHECKING:
    from dyprag.adapters.lora import Adapters
    from dyprag.augmentation.api import ApiAugmenter

_augmenters: dict[tuple[str, str, str, str], Augmenter] = {}
_making = threading.Lock()  # threads that miss the same augmenter would otherwise each make one


@task(name="augment", task_run_name="augment {name}", cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def augment_documents(
    name: str, jobs: Sequence[AugmentJob], corpus_key: str, config: PipelineConfig
) -> "list[Ended] | State[list[Ended]]":
    """Augment documents together and store each product under its key.

    Requests to an endpoint are always sent from the flow's process, which enforces the endpoint's limits.
    """
    return work_on(jobs, corpus_key, config, _augment, here=config.augment.backend == "api")


def _augment(jobs: Sequence[AugmentJob], corpus_key: str, config: PipelineConfig, number: int) -> list[Attempt]:
    """Make the missing products of some documents, all at the same time."""
    store, document_augmenter = Store(config.store), augmenter(config)
    results: dict[str, tuple[list[Record], list[Exception]]] = {job.document_id: ([], []) for job in jobs}
    futures: dict[Future[Product], tuple[AugmentJob, ProductName]] = {}
    began = perf_counter()
    for job in jobs:
        for product, key in job.products.items():
            if record := store.find(product, key):
                results[job.document_id][0].append(record)
            else:
                document = ingested(config.store, corpus_key)[job.document_id]
                futures[document_augmenter.begin(document, product, key)] = (job, product)
    for future in as_completed(futures):
        job, product = futures[future]
        records, errors = results[job.document_id]
        try:
            with one_document(job.document_id):
                records.append(_store(store, job, product, future.result(), perf_counter() - began, config))
            document_augmenter.stored(job.products[product])
        except CancelledError:  # the stage ended before the product was complete
            errors.append(Stopped(f"document {job.document_id!r}", "its stage has already ended", "Run again."))
        except Exception as error:
            errors.append(error)
    return [_tried(job, *results[job.document_id], number) for job in jobs]


def _tried(job: AugmentJob, records: list[Record], errors: Sequence[Exception], number: int) -> Attempt:
    """The outcome of a document; one of its products may have failed and the other not."""
    seconds = sum(record.seconds for record in records)
    if not errors:
        return job, augmented(job, records, number, seconds), records, None
    return failed(job, errors, records, number, seconds)


def augmented(job: AugmentJob, records: Sequence[Record], attempts: int = 0, seconds: float = 0.0) -> Work:
    """The outcome of a document that has its products: partial if one of them has too few items.

    Args:
        attempts: 0 if the products existed already.
    """
    incomplete = [record for record in records if record.measures["partial"]]
    state = Outcome.PARTIAL if incomplete else Outcome.DONE if attempts else Outcome.CACHED
    text = "; ".join(_shortfall(record) for record in incomplete)
    return Work(
        job.document_id, job.key, state, job.document_key, attempts, seconds, "Partial" if incomplete else "", text
    )


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
    """The measures of a product's record: counts of items, cost, and quality."""
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
    """Fetch the answers of open batches. Returns the number of batches that are still open."""
    return _api(config).fetch().still_open


@task(name="hand in batches", cache_policy=NO_CACHE)
def hand_in_batches(config: PipelineConfig) -> list[str]:
    """Submit the requests that documents wait for. Returns the ids of the batches."""
    return [batch.id for batch in _api(config).hand_in()]


def _api(config: PipelineConfig) -> "ApiAugmenter":
    from dyprag.augmentation.api import ApiAugmenter

    api = augmenter(config)
    assert isinstance(api, ApiAugmenter)
    return api


def augmenter(config: PipelineConfig) -> Augmenter:
    """The augmenter for these settings, shared by all tasks of a stage in this process, with its batches and limits."""
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

    return LocalAugmenter(base_model(config), config.augment, _question_writer(config))


def _question_writer(config: PipelineConfig) -> "Adapters | None":
    """The adapter of the question writer, if the settings name one.

    Raises:
        ConfigError: it cannot be read, or it is for a model of other sizes.
    """
    from dyprag.adapters.lora import load_fitting

    name = config.augment.question_writer
    if name is None:
        return None
    try:
        return load_fitting(base_model(config), Path(name))
    except ArtifactError as error:
        raise ConfigError(
            "setting 'augment.writer'", f"{name}: {error.reason}",
            "Train one for this model (dyprag learn-augmenter), or leave augment.writer empty.",
        ) from error  # fmt: skip


def dismiss_augmenters() -> None:
    """Close all augmenters at the end of a stage.

    The next stage then reads the journal again, which other processes may have extended, and retries what stopped this
    one.
    """
    with _making:
        for open_augmenter in _augmenters.values():
            open_augmenter.close()
        _augmenters.clear()


def endpoint_key(api: ApiSettings) -> str:
    """The endpoint's API key, from the Prefect Secret block or the environment variable.

    Raises:
        ConfigError: There is no key, and the endpoint is a public one. A custom endpoint may need none.
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

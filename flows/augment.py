"""Stage 1a: augment every document that lacks an augmentation (§3.1)."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import PipelineConfig
from dyprag.errors import Stopped
from dyprag.flows.endings import interruptible
from dyprag.flows.fan_out import task_name
from dyprag.flows.forms import UNTOUCHED, AugmentForm
from dyprag.flows.overview import run_name
from dyprag.flows.stage import Stage, stage
from dyprag.flows.summary import Summary, end_state
from dyprag.flows.workers import Workers
from dyprag.runtime.interruption import pause
from dyprag.storage.catalogue import Ended, Work
from dyprag.storage.outcomes import Outcome
from dyprag.tasks.augment import augment_documents, augmented, dismiss_augmenters, fetch_batches, hand_in_batches
from dyprag.tasks.planning.jobs import AugmentJob
from dyprag.tasks.report import augmentation_summary
from dyprag.tasks.ui import publish

MOST_AHEAD = 512  # maximum number of submitted tasks that have not ended
POLL = 30.0  # seconds between two checks of open batches


@flow(
    name="augment",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=MOST_AHEAD),  # type: ignore[arg-type]
)
@interruptible
def augment(config: AugmentForm = UNTOUCHED) -> State[Any]:
    """Write rewrites and question-answer pairs for each document, with the base model or with an LLM behind an
    endpoint."""
    return end_state(config, [augment_corpus(config)])


def augment_corpus(config: PipelineConfig) -> Summary:
    """Run the stage and return its summary."""
    with stage(config, "augment") as run:
        corpus_key = run.require_corpus()
        augment_jobs, api = jobs(run), run.config.augment.backend == "api"
        attempted = True
        try:
            in_batches = api and run.config.augment.api.batch
            work = (_augment_in_batches if in_batches else _augment)(run, augment_jobs, corpus_key)
            attempted = in_batches or any(item.attempts for item in work)
        finally:
            dismiss_augmenters()
            if api and (attempted or run.catalogue.lacks_requests()):
                run.catalogue.add_requests()
        if attempted:
            _show_augmentation(run, augment_jobs)
        return run.summary(work)


def _show_augmentation(run: Stage, augment_jobs: Sequence[AugmentJob]) -> None:
    products = [key for job in augment_jobs for key in job.products.values()]
    if table := augmentation_summary(run.catalogue, products):
        description = "Results and cost of the augmentation"
        publish(create_markdown_artifact, table, key="augmentation", description=description)


def jobs(run: Stage) -> list[AugmentJob]:
    """One job per document."""
    plan = run.plan
    return [AugmentJob(d.id, d.key, plan.augmentation_key(d), plan.product_keys(d)) for d in plan.parametrized]


def _augment(run: Stage, augment_jobs: Sequence[AugmentJob], corpus_key: str) -> list[Work]:
    settings = run.config.augment
    # enough documents to keep the endpoint or the model busy while some wait to be retried
    busy = 2 * settings.api.concurrency if settings.backend == "api" else 4 * settings.batch_documents

    def look_up(job: AugmentJob) -> Ended | None:
        records = [run.store.find(product, key) for product, key in job.products.items()]
        existing = [record for record in records if record is not None]
        return (augmented(job, existing), existing) if len(existing) == len(records) else None

    with Workers(run.config, here=settings.backend == "api") as workers:
        together = workers.together(len(augment_jobs))

        def submit(group: Sequence[AugmentJob]) -> PrefectFuture[Any]:
            return workers.submit(
                augment_documents, name=task_name(group), jobs=group, corpus_key=corpus_key, config=run.config
            )

        ahead = min(MOST_AHEAD, workers.ahead(busy, together))
        return run.fan_out(augment_jobs, look_up, submit, together=together, ahead=ahead)


def _augment_in_batches(run: Stage, augment_jobs: Sequence[AugmentJob], corpus_key: str) -> list[Work]:
    """Fetch finished batches, complete products as far as possible, submit the next requests, and repeat until
    `batch_wait` is over."""
    deadline = time.monotonic() + run.config.augment.api.batch_wait
    while True:
        still_open, handed_in = 0, []
        with _recording_stop(run):
            still_open = fetch_batches(run.config)
        work = _augment(run, augment_jobs, corpus_key)
        with _recording_stop(run):
            handed_in = hand_in_batches(run.config)
        waits = any(item.state == Outcome.WAITING for item in work)
        remaining = deadline - time.monotonic()
        if not waits or remaining <= 0 or not (still_open or handed_in):
            return work
        pause(min(POLL, remaining))


@contextmanager
def _recording_stop(run: Stage) -> Iterator[None]:
    """Continue when the endpoint or the budget allows no more, and record the reason in the run."""
    try:
        yield
    except Stopped as stop:
        run.reason = str(stop)

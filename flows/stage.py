"""What every stage's flow shares: ask what is done, submit the rest as tasks, record each outcome, summarise."""

import logging
import queue
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from prefect import State, Task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from dyprag.config import PipelineConfig
from dyprag.corpus import load_corpus
from dyprag.errors import StoreError
from storage.artifacts import Record, Store
from storage.catalogue import Catalogue, Work
from tasks.plan import Plan

logger = logging.getLogger("dyprag.flows")
WINDOW = 256  # tasks submitted ahead of those that run


@dataclass(frozen=True)
class Summary:
    """How a stage ended, in documents (or questions' shards): made, found made, failed, and left waiting."""

    stage: str
    done: int = 0
    cached: int = 0
    failed: int = 0
    waiting: int = 0

    def __str__(self) -> str:
        parts = [f"{self.cached} cached", f"{self.done - self.cached} made"]
        parts += [f"{count} {word}" for word, count in (("failed", self.failed), ("waiting", self.waiting)) if count]
        return f"{self.stage}: {self.done + self.failed + self.waiting} in all: {', '.join(parts)}"


class Stage:
    """One stage of one flow run: its configuration, store, catalogue, and the corpus it works on."""

    def __init__(self, config: PipelineConfig, name: str) -> None:
        self.config, self.name = config, name
        self.store = Store(config.store)
        self.catalogue = Catalogue(self.store)
        self.run_id = str(flow_run.id or f"{name}-{time.time_ns()}")
        corpus = config.corpus
        self.plan = Plan(
            config, load_corpus(corpus.documents, corpus.questions, corpus.max_documents, corpus.max_questions)
        )

    def require_corpus(self) -> str:
        """The key of the ingested corpus.

        Raises:
            StoreError: it has not been ingested.
        """
        if self.store.find("corpus", self.plan.corpus_key) is None:
            raise StoreError(
                f"store {self.store.root}", "this corpus has not been ingested into it", "Run: dyprag ingest."
            )
        return self.plan.corpus_key

    def summary(self, work: Sequence[Work]) -> Summary:
        """Count outcomes, and show the failed ones as a table in the UI."""
        states = [item.state for item in work]
        failed = [item for item in work if item.state == "failed"]
        if failed:
            table = [{"document": w.document_id, "error": w.error_type, "message": w.error} for w in failed]
            create_table_artifact(
                table, key=f"{self.name}-failures", description="Failed; the next run tries them again"
            )
            for item in failed:
                logger.warning("%s: %s", self.name, item.error)
        cached = states.count("cached")
        summary = Summary(self.name, states.count("done") + cached, cached, len(failed), states.count("waiting"))
        logger.info("%s", summary)
        return summary

    def fan_out(
        self, kind: str, jobs: Sequence[Any], submit: Callable[[Any], PrefectFuture[Any]], waiting: Sequence[Work] = ()
    ) -> list[Work]:
        """Run the jobs whose artifact is missing, each as a task, and record what became of each.

        Args:
            kind: of the artifacts made.
            jobs: with `document_id`, `document_key` and `key`.
            submit: submits one job as a task that gives a Record, and returns the future.
            waiting: what cannot be worked on yet, recorded as it is.

        Returns:
            What became of every job, in the order of `jobs`, and `waiting` behind them.
        """
        outcomes: dict[str, Work] = {}
        missing = []
        found = []
        for job in jobs:  # ask first, submit after: thousands of cache hits are the server's worst case
            if record := self.store.find(kind, job.key):
                found.append(record)
                outcomes[job.document_id] = Work(job.document_id, job.key, "cached", job.document_key)
            else:
                missing.append(job)
        planned = [Work(job.document_id, job.key, "waiting", job.document_key) for job in missing]
        self.catalogue.record_work(self.run_id, self.name, [*outcomes.values(), *planned, *waiting], found)
        with _progress(self.name, len(missing)) as advance:
            for start in range(0, len(missing), WINDOW):
                running = {submit(job): job for job in missing[start : start + WINDOW]}
                for batch in _as_they_end(running):
                    ended = [_outcome(running[future], future) for future in batch]
                    self.catalogue.record_work(
                        self.run_id, self.name, [work for work, _ in ended], [r for _, r in ended if r is not None]
                    )
                    outcomes |= {work.document_id: work for work, _ in ended}
                    advance(len(batch))
        return [outcomes[job.document_id] for job in jobs] + list(waiting)


@contextmanager
def stage(config: PipelineConfig, name: str) -> Iterator[Stage]:
    """Open a stage: the run is noted in the catalogue, with its configuration and how it ended."""
    config = config.resolved()
    opened = Stage(config, name)
    opened.catalogue.prepare()
    opened.store.sweep()
    opened.catalogue.begin_run(opened.run_id, name, config.model_dump(mode="json"))
    state = "failed"
    try:
        yield opened
        state = "completed"
    finally:
        opened.catalogue.finish_run(opened.run_id, state)


def end_state(config: PipelineConfig, summaries: Sequence[Summary]) -> State[list[Summary]]:
    """The state a flow ends in: it says how many failed, and whether that counts as a failure is a setting."""
    failed = sum(summary.failed for summary in summaries)
    message = "; ".join(str(summary) for summary in summaries)
    if failed and config.run.on_failures == "fail":
        return Failed(message=message, data=RuntimeError(message))
    return Completed(
        name="CompletedWithFailures" if failed else "Completed", message=message, data=[asdict(s) for s in summaries]
    )


def retry_options(config: PipelineConfig) -> dict[str, Any]:
    """Options for a task: how often and how long after a passing fault it is tried again."""
    run = config.run
    return {"retries": run.retries, "retry_delay_seconds": [run.retry_delay * 2**n for n in range(run.retries)]}


def with_retries(task: Task[Any, Any], config: PipelineConfig) -> Task[Any, Any]:
    """The task with the configured retries."""
    return task.with_options(**retry_options(config))


def _outcome(job: Any, future: PrefectFuture[Any]) -> tuple[Work, Record | None]:
    result = future.result(raise_on_failure=False)
    if isinstance(result, Record):
        state = "cached" if future.state.name == "Reused" else "done"
        tries = result.measures.get("attempts", 1)
        return Work(job.document_id, job.key, state, job.document_key, tries, result.seconds), result
    error = result if isinstance(result, BaseException) else RuntimeError(str(future.state.message))
    return failed_work(job, error), None


def failed_work(job: Any, error: BaseException) -> Work:
    """What the catalogue notes of a job that failed."""
    attempts = getattr(error, "attempts", 1)
    kind, message = type(error).__name__, str(error) or type(error).__name__
    return Work(job.document_id, job.key, "failed", job.document_key, attempts, 0.0, kind, message)


def _as_they_end(futures: Iterable[PrefectFuture[Any]], gather: float = 0.5) -> Iterator[list[PrefectFuture[Any]]]:
    """Futures that have ended, in batches gathered for half a second, so that the catalogue is written in batches."""
    ended: queue.Queue[PrefectFuture[Any]] = queue.Queue()
    pending = 0
    for future in futures:
        future.add_done_callback(ended.put)
        pending += 1
    while pending:
        batch = [ended.get()]
        deadline = time.monotonic() + gather
        while len(batch) < pending and (left := deadline - time.monotonic()) > 0:
            try:
                batch.append(ended.get(timeout=left))
            except queue.Empty:
                break
        pending -= len(batch)
        for future in batch:
            future.wait()  # the state can lag behind the callback
        yield batch


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress artifact in the UI, and a bar where a person watches a terminal."""
    if total == 0:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    artifact: Any = create_progress_artifact(0, description=name)
    done = 0
    shown = time.monotonic()
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        row = bar.add_task(name, total=total)

        def advance(count: int) -> None:
            nonlocal done, shown
            done += count
            bar.advance(row, count)
            if done == total or time.monotonic() - shown > 5:
                shown = time.monotonic()
                update_progress_artifact(artifact, 100 * done / total)

        yield advance

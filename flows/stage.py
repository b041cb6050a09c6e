"""The common part of all stages: configuration, corpus and plan, catalogue, fan-out of jobs, and the summary."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run

from dyprag.config import PipelineConfig
from dyprag.flows.checks import check_before_work
from dyprag.flows.endings import on_forced_exit, stops_threads
from dyprag.flows.fan_out import WINDOW, Ledger, Submit, failed_work, fan_out
from dyprag.flows.overview import show_failures, show_made
from dyprag.flows.page import current_page
from dyprag.flows.progress import stage_progress
from dyprag.flows.summary import Summary
from dyprag.runtime.interruption import check, interrupted
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue, Ended, Work
from dyprag.storage.guard import in_use
from dyprag.storage.outcomes import Outcome
from dyprag.tasks.corpora import corpus_of, with_stored_corpus
from dyprag.tasks.imports import imported_adapters
from dyprag.tasks.planning.jobs import AnyJob, NamedJob
from dyprag.tasks.planning.plan import Plan

logger = logging.getLogger("dyprag.flows")


class Stage:
    """One stage of a flow run: its configuration, store, catalogue, and corpus."""

    def __init__(self, config: PipelineConfig, name: str) -> None:
        self.config, self.name = config, name
        self.store = Store(config.store)
        self.store.refresh()
        self.catalogue = Catalogue(self.store)
        self.reason, self._began = "", time.monotonic()
        self.run_id = str(flow_run.id or f"{name}-{time.time_ns()}")

    @cached_property
    def plan(self) -> Plan:
        """The plan over the ingested corpus."""
        key, corpus = corpus_of(self.config, self.store)
        return Plan(self.config, corpus, key, imported_adapters(self.config, self.store))

    def require_corpus(self) -> str:
        """The key of the ingested corpus.

        Raises:
            StoreError: It has not been ingested.
        """
        return self.plan.corpus_key

    def summary(self, work: Sequence[Work], note: str = "") -> Summary:
        """Count outcomes, and show failures and new artifacts in the UI.

        Args:
            note: Further information for the summary.
        """
        states: Counter[str] = Counter()
        for item in work:
            states[item.state] += item.units
        failed = [item for item in work if item.state == Outcome.FAILED]
        show_failures(self.config, self.name, failed)
        show_made(self.config, self.store, self.name, self.run_id, work)
        partial = states[Outcome.PARTIAL]
        cached = states[Outcome.CACHED] + sum(item.state == Outcome.PARTIAL and item.attempts == 0 for item in work)
        done = states[Outcome.DONE] + states[Outcome.CACHED] + partial
        summary = Summary(
            self.name, done, cached, len(failed), states[Outcome.WAITING], partial, self.reason, self.run_id, note,
            round(time.monotonic() - self._began, 1),
        )  # fmt: skip
        logger.info("%s", summary)
        if page := current_page():
            page.ended(summary, work)
        return summary

    def stored(
        self, kind: str, outcome: Callable[[AnyJob, Record], Work] | None = None
    ) -> Callable[[AnyJob], Ended | None]:
        """Return a function that looks up a job's artifact in the store.

        Args:
            outcome: Makes the outcome of a job whose artifact exists; None: cached.
        """

        def find(job: AnyJob) -> Ended | None:
            if (record := self.store.find(kind, job.key)) is None:
                return None
            work = outcome(job, record) if outcome else Work(job.label, job.key, Outcome.CACHED, job.document_key)
            return work, [record]

        return find

    def make_one(self, kind: str, key: str, submit: Callable[[], PrefectFuture[Any]]) -> tuple[Work, Record]:
        """Return the single artifact of a stage, made by a task if it is missing. A failure is recorded and raised.

        Args:
            submit: Submits the task.
        """
        if record := self.store.find(kind, key):
            work = Work(kind, key, Outcome.CACHED)
            self.catalogue.record_work(self.run_id, self.name, [work], [record])
            return work, record
        self.catalogue.record_work(self.run_id, self.name, [Work(kind, key, Outcome.WAITING)])
        with stage_progress(self.name, 1) as advance:
            result: Any = submit().result(raise_on_failure=False)
            advance(1, int(isinstance(result, BaseException)))
        if isinstance(result, BaseException):
            self.catalogue.record_work(self.run_id, self.name, [failed_work(NamedJob(kind, key), result)])
            raise result
        work = Work(kind, key, Outcome.DONE, attempts=1, seconds=result.seconds)
        self.catalogue.record_work(self.run_id, self.name, [work], [result])
        return work, result

    def fan_out(
        self,
        jobs: Sequence[AnyJob],
        found: Callable[[AnyJob], Ended | None],
        submit: Submit[AnyJob],
        waiting: Sequence[Work] = (),
        together: int = 1,
        ahead: int = WINDOW,
        weigh: Callable[[AnyJob], int] = lambda job: 1,
    ) -> list[Work]:
        """Run tasks for jobs whose artifacts are missing, and record every outcome.

        If a task ends with `Stopped`, no more tasks are submitted, and the remaining jobs wait for the reason that it
        gives.

        Args:
            found: Returns the outcome of a job whose artifacts exist; None if there is work to do.
            waiting: Outcomes of jobs that cannot be started yet; recorded unchanged.
            weigh: The number of units of a job, for the progress display.
            submit, together, ahead: See `flows.fan_out.fan_out`.

        Returns:
            The outcome of every job, in the order of `jobs`, followed by `waiting`.
        """
        ledger = Ledger(self.catalogue, self.run_id, self.name)
        missing = ledger.open(jobs, found, waiting)
        weights = {job.label: weigh(job) for job in jobs}
        self.reason = fan_out(ledger, missing, submit, together, ahead, weights) or self.reason
        ledger.close(self.reason)
        check()
        return [ledger.outcomes[job.label] for job in jobs] + list(waiting)


@contextmanager
def stage(config: PipelineConfig, name: str) -> Iterator[Stage]:
    """Open a stage, and record the run in the catalogue with its configuration and final state."""
    config, message = with_stored_corpus(config, ingests=name == "ingest")
    if message:
        logger.info("%s", message)
    config = config.resolved()
    new_stage = Stage(config, name)
    if page := current_page():
        page.begun(name, new_stage.run_id)
    new_stage.catalogue.prepare()
    new_stage.store.sweep()
    new_stage.catalogue.begin_run(new_stage.run_id, name, config.model_dump(mode="json"))
    state = "failed"
    finish = partial(new_stage.catalogue.finish_run, new_stage.run_id)
    with in_use(new_stage.store), on_forced_exit(partial(finish, "cancelled")):
        try:
            with stops_threads():
                check_before_work(name, config)
                yield new_stage
            new_stage.store.save()
            state = "completed"
            if page:
                page.closed(name)
        finally:
            finish("cancelled" if interrupted() and state != "completed" else state)


def retry_options(config: PipelineConfig) -> dict[str, Any]:
    """Task options for retries after transient errors."""
    run = config.run
    return {"retries": run.retries, "retry_delay_seconds": [run.retry_delay * 2**n for n in range(run.retries)]}


def with_retries(task: Task[Any, Any], config: PipelineConfig) -> Task[Any, Any]:
    """The task with the configured retries."""
    return task.with_options(**retry_options(config))

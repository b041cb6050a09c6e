"""What every stage's flow shares: its corpus and plan, its catalogue, its fan-out, and the summary in the end."""

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
from dyprag.corpora.documents import Corpus
from dyprag.errors import StoreError
from dyprag.flows.checks import check_before_work
from dyprag.flows.corpus import known_corpora, with_stored_corpus
from dyprag.flows.endings import noted, stops_threads
from dyprag.flows.fan_out import WINDOW, Ledger, Submit, failed_work, fan_out, named
from dyprag.flows.overview import show_failures, show_made
from dyprag.flows.page import current_page
from dyprag.flows.progress import stage_progress
from dyprag.flows.summary import Incomplete, Summary, completing, end_state, summaries_of
from dyprag.runtime.interruption import check, interrupted
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue, Ended, Work
from dyprag.storage.guard import in_use
from dyprag.storage.outcomes import Outcome
from dyprag.tasks.imports import imported_adapters
from dyprag.tasks.planning.jobs import AnyJob, NamedJob
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.planning.sources import PREPARED, corpus_settings, find_latest
from dyprag.tasks.worker import worker_of

__all__ = [
    "Incomplete", "Stage", "Summary", "completing", "corpus_of", "end_state", "failed_work", "named", "retry_options",
    "stage", "summaries_of", "with_retries",
]  # fmt: skip

logger = logging.getLogger("dyprag.flows")


class Stage:
    """One stage of one flow run: its configuration, store, catalogue, and the corpus it works on."""

    def __init__(self, config: PipelineConfig, name: str) -> None:
        self.config, self.name = config, name
        self.store = Store(config.store)
        self.store.refresh()
        self.catalogue = Catalogue(self.store)
        self.reason, self._began = "", time.monotonic()
        self.run_id = str(flow_run.id or f"{name}-{time.time_ns()}")

    @cached_property
    def plan(self) -> Plan:
        """Of the corpus that was ingested last."""
        key, corpus = corpus_of(self.config, self.store)
        return Plan(self.config, corpus, key, imported_adapters(self.config, self.store))

    def require_corpus(self) -> str:
        """The key of the ingested corpus.

        Raises:
            StoreError: it has not been ingested.
        """
        return self.plan.corpus_key

    def summary(self, work: Sequence[Work], note: str = "") -> Summary:
        """Count outcomes; the UI shows what failed, and where what was made is; `note` is what else there is to say."""
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
        """Asks the store for the artifact of a job, whose `key` names it.

        Args:
            outcome: what a job counts as whose artifact was found; None: cached.
        """

        def find(job: AnyJob) -> Ended | None:
            if (record := self.store.find(kind, job.key)) is None:
                return None
            work = outcome(job, record) if outcome else Work(job.label, job.key, Outcome.CACHED, job.document_key)
            return work, [record]

        return find

    def make_one(self, kind: str, key: str, submit: Callable[[], PrefectFuture[Any]]) -> tuple[Work, Record]:
        """The one artifact of a stage: found in the store, or made by the task that `submit` submits; its error is
        recorded and raised."""
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
        """Run the jobs whose artifacts are missing, as tasks, and record what became of each.

        If a task ends with `Stopped`, nothing more is submitted: the jobs that are left wait, for the reason it gives.

        Args:
            found: gives what there is of a job already; None where there is work to do.
            waiting: what cannot be worked on yet, recorded as it is.
            weigh: of how many units a job is, for those who watch.
            submit, together, ahead: see `flows.fan_out.fan_out`.

        Returns:
            What became of every job, in the order of `jobs`, and `waiting` behind them.
        """
        ledger = Ledger(self.catalogue, self.run_id, self.name)
        missing = ledger.open(jobs, found, waiting)
        weights = {job.label: weigh(job) for job in jobs}
        self.reason = fan_out(ledger, missing, submit, together, ahead, weights) or self.reason
        ledger.close(self.reason)
        check()
        return [ledger.outcomes[job.label] for job in jobs] + list(waiting)


def corpus_of(config: PipelineConfig, store: Store) -> tuple[str, Corpus]:
    """The corpus that a configuration names, and its key: the one last ingested from there, or one that an experiment
    has put into the store.

    Raises:
        StoreError: it has not been ingested.
    """
    documents = config.corpus.documents
    prepared = documents.startswith(PREPARED)
    key = documents.removeprefix(PREPARED) if prepared else find_latest(store, "corpus", corpus_settings(config))
    if key is None or store.find("corpus", key) is None:
        remedy = f"Run: dyprag ingest.{known_corpora(store)}"
        raise StoreError(f"store {store.root}", f"corpus {documents} has not been ingested into it", remedy)
    return key, worker_of(config).corpus(key)


@contextmanager
def stage(config: PipelineConfig, name: str) -> Iterator[Stage]:
    """Open a stage: the run is noted in the catalogue, with its configuration and how it ended."""
    config, said = with_stored_corpus(config, ingests=name == "ingest")
    if said:
        logger.info("%s", said)
    config = config.resolved()
    opened = Stage(config, name)
    if page := current_page():
        page.begun(name, opened.run_id)
    opened.catalogue.prepare()
    opened.store.sweep()
    opened.catalogue.begin_run(opened.run_id, name, config.model_dump(mode="json"))
    state = "failed"
    finish = partial(opened.catalogue.finish_run, opened.run_id)
    with in_use(opened.store), noted(partial(finish, "cancelled")):
        try:
            with stops_threads():
                check_before_work(name, config)
                yield opened
            opened.store.save()
            state = "completed"
            if page:
                page.closed(name)
        finally:
            finish("cancelled" if interrupted() and state != "completed" else state)


def retry_options(config: PipelineConfig) -> dict[str, Any]:
    """Options for a task: how often and how long after a passing fault it is tried again."""
    run = config.run
    return {"retries": run.retries, "retry_delay_seconds": [run.retry_delay * 2**n for n in range(run.retries)]}


def with_retries(task: Task[Any, Any], config: PipelineConfig) -> Task[Any, Any]:
    """The task with the configured retries."""
    return task.with_options(**retry_options(config))

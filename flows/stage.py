"""What every stage's flow shares: ask what is done, submit the rest as tasks, record each outcome, summarise."""

import logging
import math
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

from prefect import State, Task
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from dyprag.config import PipelineConfig
from dyprag.errors import CatalogueHeld, Interrupted, Stopped, WorkerLost
from dyprag.flows.endings import noted, stops_threads
from dyprag.flows.overview import show_failures, show_made
from dyprag.flows.page import current_page
from dyprag.flows.progress import stage_progress
from dyprag.runtime.interruption import INTERRUPTED, check, interrupted, on_interruption
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue, Ended, Work
from dyprag.storage.guard import in_use
from dyprag.tasks.corpora import corpus_of, with_stored_corpus
from dyprag.tasks.imports import imported_adapters
from dyprag.tasks.plan import Job, Plan
from dyprag.tasks.shards import lost

logger = logging.getLogger("dyprag.flows")
WRITTEN_EVERY = 4.0  # seconds between two writings of what became of documents to the catalogue
MEANWHILE = 2.0  # seconds for which such a writing waits for another process that holds the catalogue
WINDOW = 256  # tasks submitted that have not ended
STOPS = (Stopped.__name__, Interrupted.__name__)
ENDING = 1.0  # seconds that tasks get to end which are told to
DEATHS = ("ShardLost", "KilledWorker", "WorkerCrashedError")  # ours, Dask's and Ray's word for a worker that died


@dataclass(frozen=True)
class Summary:
    """How a stage ended, in documents (or questions' shards): made, found made, failed, and left waiting."""

    stage: str
    done: int = 0
    cached: int = 0
    failed: int = 0
    waiting: int = 0
    partial: int = 0  # of those done
    reason: str = ""  # why nothing more was begun, where that is so
    run_id: str = ""  # under which the catalogue knows it
    note: str = ""  # what else there is to say of it
    seconds: float = 0.0

    def __str__(self) -> str:
        parts = [f"{self.cached} cached", f"{self.done - self.cached} made"]
        more = (("partial", self.partial), ("failed", self.failed), ("waiting", self.waiting))
        parts += [f"{count} {word}" for word, count in more if count]
        text = f"{self.stage}: {self.done + self.failed + self.waiting} in all: {', '.join(parts)}"
        text += f"; {self.note}" if self.note else ""
        return f"{text}. Stopped: {self.reason}" if self.reason else text


class Incomplete(Exception):
    """A flow has ended, and not all was made: some documents failed, or wait since it stopped."""

    def __init__(self, message: str, summaries: list[dict[str, Any]]) -> None:
        super().__init__(message, summaries)
        self.message, self.summaries = message, summaries

    def __str__(self) -> str:
        return self.message


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
        failed = [item for item in work if item.state == "failed"]
        show_failures(self.config, self.name, failed)
        show_made(self.config, self.store, self.name, self.run_id, work)
        partial = states["partial"]
        cached = states["cached"] + sum(item.state == "partial" and item.attempts == 0 for item in work)
        done = states["done"] + states["cached"] + partial
        summary = Summary(
            self.name, done, cached, len(failed), states["waiting"], partial, self.reason, self.run_id, note,
            round(time.monotonic() - self._began, 1),
        )  # fmt: skip
        logger.info("%s", summary)
        if page := current_page():
            page.ended(summary, work)
        return summary

    def stored(self, kind: str, outcome: Callable[[Any, Record], Work] | None = None) -> Callable[[Any], Ended | None]:
        """Asks the store for the artifact of a job, whose `key` names it.

        Args:
            outcome: what a job counts as whose artifact was found; None: cached.
        """

        def find(job: Any) -> Ended | None:
            if (record := self.store.find(kind, job.key)) is None:
                return None
            work = outcome(job, record) if outcome else Work(job.document_id, job.key, "cached", job.document_key)
            return work, [record]

        return find

    def make_one(self, kind: str, key: str, submit: Callable[[], PrefectFuture[Any]]) -> tuple[Work, Record]:
        """The one artifact of a stage: found in the store, or made by the task that `submit` submits; its error is
        recorded and raised."""
        if record := self.store.find(kind, key):
            work = Work(kind, key, "cached")
            self.catalogue.record_work(self.run_id, self.name, [work], [record])
            return work, record
        self.catalogue.record_work(self.run_id, self.name, [Work(kind, key, "waiting")])
        with stage_progress(self.name, 1) as advance:
            result: Any = submit().result(raise_on_failure=False)
            advance(1, int(isinstance(result, BaseException)))
        if isinstance(result, BaseException):
            self.catalogue.record_work(self.run_id, self.name, [failed_work(Job(kind, "", key), result)])
            raise result
        work = Work(kind, key, "done", attempts=1, seconds=result.seconds)
        self.catalogue.record_work(self.run_id, self.name, [work], [result])
        return work, result

    def fan_out(
        self,
        jobs: Sequence[Any],
        found: Callable[[Any], Ended | None],
        submit: Callable[[Sequence[Any]], PrefectFuture[Any]],
        waiting: Sequence[Work] = (),
        together: int = 1,
        ahead: int = WINDOW,
        weigh: Callable[[Any], int] = lambda job: 1,
    ) -> list[Work]:
        """Run the jobs whose artifacts are missing, as tasks, and record what became of each.

        If a task ends with `Stopped`, nothing more is submitted: the jobs that are left wait, for the reason it gives.

        Args:
            jobs: with `document_id`, `document_key` and `key`.
            found: gives what there is of a job already; None where there is work to do.
            submit: submits some jobs as one task that gives a Record, or what became of each of them, and returns the
                future.
            waiting: what cannot be worked on yet, recorded as it is.
            together: jobs in one task.
            ahead: tasks submitted that have not ended.
            weigh: of how many units a job is, for those who watch.

        Returns:
            What became of every job, in the order of `jobs`, and `waiting` behind them.
        """
        outcomes: dict[str, Work] = {}
        missing, records = [], []
        for job in jobs:  # ask first, submit after: thousands of cache hits are the server's worst case
            if ended := found(job):
                outcomes[job.document_id] = ended[0]
                records += ended[1]
            else:
                missing.append(job)
        apart = self._quarantined() if missing else set()
        planned = [Work(job.document_id, job.key, "waiting", job.document_key) for job in missing]
        self.catalogue.record_work(self.run_id, self.name, [*outcomes.values(), *planned, *waiting], records)
        outcomes |= {work.document_id: work for work in planned}
        sound = [job for job in missing if job.key not in apart]
        groups: deque[Sequence[Any]] = deque(
            sound[start : start + together] for start in range(0, len(sound), together)
        )
        groups.extend([job] for job in missing if job.key in apart)
        weights = {job.document_id: weigh(job) for job in jobs}
        total = sum(weights[job.document_id] for job in missing)
        found_made = sum(weights.values()) - total
        with (
            stage_progress(self.name, total, found_made) as advance,
            self._recording(outcomes) as record,
        ):
            for ended_now in _as_they_end(groups, submit, ahead):
                record(ended_now)
                over = [work for work, _ in ended_now if work.error_type != Interrupted.__name__]
                ends = [(weights[work.document_id], work.state == "failed") for work in over]
                advance(sum(weight for weight, _ in ends), sum(weight for weight, failed in ends if failed))
                if stopped := next((work for work, _ in ended_now if work.error_type in STOPS), None):
                    self.reason = stopped.error
                    groups.clear()  # none of the others is submitted
        if interrupted():
            self.reason = str(INTERRUPTED)
        left = [work for work in outcomes.values() if work.state == "waiting" and not work.error and self.reason]
        kind = Stopped.__name__
        self._record([(replace(work, error=self.reason, error_type=kind), []) for work in left], outcomes)
        check()
        return [outcomes[job.document_id] for job in jobs] + list(waiting)

    def _quarantined(self) -> set[str]:
        """Keys of what worker processes have died over: tried again, but alone and after all others."""
        sql = "SELECT DISTINCT key FROM work WHERE stage = ? AND error_type = ?"
        return {row["key"] for row in self.catalogue.query(sql, [self.name, WorkerLost.__name__])}

    @contextmanager
    def _recording(self, outcomes: dict[str, Work]) -> Iterator[Callable[[Sequence[Ended]], None]]:
        """Gives what records outcomes, or is called without any now and then. The catalogue is written every few
        seconds, and in the end: to open it and close it takes as long for a document as for hundreds. A run that is
        killed before has its artifacts on disk, where the next finds them. Where another process holds the catalogue
        the work goes on, and it is written later."""
        unwritten: list[Ended] = []
        written = time.monotonic()

        def write(wait: float | None = None) -> None:
            nonlocal written
            self._record(unwritten, outcomes, wait)
            unwritten.clear()
            written = time.monotonic()

        def record(ended: Sequence[Ended]) -> None:
            nonlocal written
            unwritten.extend(ended)
            if time.monotonic() - written > WRITTEN_EVERY:
                try:
                    write(MEANWHILE)
                except CatalogueHeld:
                    written = time.monotonic()

        try:
            with noted(write):
                yield record
        finally:
            write()

    def _record(self, ended: Sequence[Ended], outcomes: dict[str, Work], wait: float | None = None) -> None:
        outcomes.update({work.document_id: work for work, _ in ended})
        records = [record for _, records in ended for record in records]
        self.catalogue.record_work(self.run_id, self.name, [work for work, _ in ended], records, wait)


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
                yield opened
            opened.store.save()
            state = "completed"
            if page:
                page.closed(name)
        finally:
            finish("cancelled" if interrupted() and state != "completed" else state)


def end_state(config: PipelineConfig, summaries: Sequence[Summary]) -> State[list[Summary]]:
    """The state a flow ends in: it says how many failed.

    Where some did, or the stage stopped, it is of Prefect's type FAILED, whatever its name: the UI colours a state by
    its type, and what is green is taken for whole. Its data is an error that holds the summaries; see `summaries_of`.
    """
    failed = sum(summary.failed for summary in summaries)
    stopped = any(summary.reason for summary in summaries)
    message = "; ".join(str(summary) for summary in summaries)
    if not failed and not stopped:
        return Completed(message=message, data=[asdict(summary) for summary in summaries])
    name = "CompletedWithFailures" if failed else "Stopped"
    if failed and config.run.on_failures == "fail":
        name = "Failed"
    return Failed(name=name, message=message, data=Incomplete(message, [asdict(summary) for summary in summaries]))


def summaries_of(state: State[Any]) -> list[Summary]:
    """The summaries of a flow that has ended, be it with failed documents.

    Raises:
        Interrupted: it was, and so is whatever it was run by.
        Exception: what ended it before its end.
    """
    check()
    result: Any = state.result(raise_on_failure=False)
    if isinstance(result, Incomplete):
        result = result.summaries
    elif isinstance(result, BaseException):
        raise result
    return [Summary(**summary) for summary in result]


def completing(config: PipelineConfig) -> PipelineConfig:
    """The same for what is run inside another flow: failures of documents are left for that one's state to tell."""
    return config.model_copy(update={"run": config.run.model_copy(update={"on_failures": "complete"})})


def retry_options(config: PipelineConfig) -> dict[str, Any]:
    """Options for a task: how often and how long after a passing fault it is tried again."""
    run = config.run
    return {"retries": run.retries, "retry_delay_seconds": [run.retry_delay * 2**n for n in range(run.retries)]}


def with_retries(task: Task[Any, Any], config: PipelineConfig) -> Task[Any, Any]:
    """The task with the configured retries."""
    return task.with_options(**retry_options(config))


def _outcomes(jobs: Sequence[Any], future: PrefectFuture[Any]) -> list[Ended] | None:
    """What became of each job of a task that has ended; None where its worker died, which tells nothing of them."""
    future.wait()  # the state can lag behind the callback
    try:
        result = future.result(raise_on_failure=False)
    except Exception as gone:  # a cluster tells so of a worker that died
        result = gone
    if isinstance(result, list):
        return result
    if isinstance(result, Record):
        (job,) = jobs
        state = "cached" if future.state.name == "Reused" else "done"
        tries = result.measures.get("attempts", 1)
        return [(Work(job.document_id, job.key, state, job.document_key, tries, result.seconds), [result])]
    error = result if isinstance(result, BaseException) else RuntimeError(str(future.state.message))
    if type(error).__name__ in DEATHS:
        if interrupted():  # and the worker with this process
            return [(failed_work(job, INTERRUPTED), []) for job in jobs]
        return None
    return [(failed_work(job, error), list(getattr(error, "records", ()))) for job in jobs]


def named(jobs: Sequence[Any]) -> str:
    """What a task with these jobs is called."""
    return jobs[0].document_id + (f" and {len(jobs) - 1} more" if len(jobs) > 1 else "")


def failed_work(job: Any, error: BaseException) -> Work:
    """What the catalogue notes of a job that failed; one that was interrupted waits."""
    attempts = getattr(error, "attempts", 1)
    kind, message = type(error).__name__, str(error) or type(error).__name__
    state = "waiting" if isinstance(error, Interrupted) else "failed"
    return Work(job.document_id, job.key, state, job.document_key, attempts, 0.0, kind, message)


def _as_they_end(
    groups: deque[Sequence[Any]],
    submit: Callable[[Sequence[Any]], PrefectFuture[Any]],
    ahead: int,
) -> Iterator[list[Ended]]:
    """Submit groups of jobs, some ahead of those that run, and give what became of them; nothing, every few seconds in
    which none ended. A group over which its worker died is submitted again in halves, until it is known which job did
    it."""
    ended: queue.SimpleQueue[PrefectFuture[Any] | None] = queue.SimpleQueue()
    with on_interruption(lambda: ended.put(None)):  # which ends the waiting
        yield from _until_all_ended(groups, submit, ahead, ended)


def _until_all_ended(
    groups: deque[Sequence[Any]],
    submit: Callable[[Sequence[Any]], PrefectFuture[Any]],
    ahead: int,
    ended: queue.SimpleQueue[PrefectFuture[Any] | None],
) -> Iterator[list[Ended]]:
    running: dict[PrefectFuture[Any], Sequence[Any]] = {}
    patience = math.inf
    while time.monotonic() < patience:
        if interrupted():
            groups.clear()
            patience = min(patience, time.monotonic() + ENDING)
        while len(running) < ahead and groups:
            group = groups.popleft()
            future = submit(group)
            running[future] = group
            future.add_done_callback(ended.put)
        if not running:
            return
        batch = []
        with suppress(queue.Empty):
            batch.append(ended.get(timeout=ENDING / 4 if interrupted() else WRITTEN_EVERY))
            while True:
                batch.append(ended.get_nowait())
        outcomes: list[Ended] = []
        for future in filter(None, batch):
            jobs = running.pop(future)
            known = _outcomes(jobs, future)
            if known is None and len(jobs) > 1:
                groups.extendleft((jobs[len(jobs) // 2 :], jobs[: len(jobs) // 2]))
            else:
                outcomes += known or [(failed_work(jobs[0], lost(jobs[0].document_id)), [])]
        yield outcomes

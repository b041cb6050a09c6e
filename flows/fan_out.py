"""The fan-out of a stage: submit jobs as tasks and record their outcomes.

Only some tasks are submitted ahead of those that run. If a worker dies, its group of jobs is retried in halves until
the job that kills workers is found.
"""

import math
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from prefect.futures import PrefectFuture

from dyprag.errors import CatalogueHeld, Interrupted, Stopped, WorkerLost
from dyprag.flows.endings import on_forced_exit
from dyprag.flows.progress import stage_progress
from dyprag.runtime.interruption import INTERRUPTED, interrupted, on_interruption
from dyprag.storage.artifacts import Record
from dyprag.storage.catalogue import Catalogue, Ended, Work
from dyprag.storage.outcomes import Outcome
from dyprag.tasks.planning.jobs import AnyJob, Job
from dyprag.tasks.shards import worker_lost

WRITTEN_EVERY = 4.0  # seconds between two writes of outcomes to the catalogue
MEANWHILE = 2.0  # seconds for which such a write waits for a process that holds the catalogue
WINDOW = 256  # maximum number of submitted tasks that have not ended
STOPS = (Stopped.__name__, Interrupted.__name__)
ENDING = 1.0  # seconds that tasks have to end after an interruption
DEATHS = ("ShardLost", "KilledWorker", "WorkerCrashedError")  # errors of a dead worker: ours, Dask's and Ray's

Submit = Callable[[Sequence[AnyJob]], PrefectFuture[Any]]


class Ledger:
    """The outcomes of a stage's jobs so far, by label. They are written to the catalogue in batches."""

    def __init__(self, catalogue: Catalogue, run_id: str, stage: str) -> None:
        self.catalogue, self.run_id, self.stage = catalogue, run_id, stage
        self.outcomes: dict[str, Work] = {}

    def open(
        self, jobs: Sequence[AnyJob], look_up: Callable[[AnyJob], Ended | None], waiting: Sequence[Work]
    ) -> list[AnyJob]:
        """Record existing artifacts, and the other jobs as waiting. Returns the jobs whose artifacts are missing."""
        missing, cached, records = [], [], []
        for job in jobs:  # not submitted as tasks: thousands of cache hits overload the server
            if ended := look_up(job):
                cached.append(ended[0])
                records += ended[1]
            else:
                missing.append(job)
        planned = [Work(job.label, job.key, Outcome.WAITING, job.document_key) for job in missing]
        self.catalogue.record_work(self.run_id, self.stage, [*cached, *planned, *waiting], records)
        self.outcomes |= {work.document_id: work for work in (*cached, *planned)}
        return missing

    def quarantined(self) -> set[str]:
        """Keys of jobs during which worker processes died. They are retried alone, after all others."""
        sql = "SELECT DISTINCT key FROM work WHERE stage = ? AND error_type = ?"
        return {row["key"] for row in self.catalogue.query(sql, [self.stage, WorkerLost.__name__])}

    @contextmanager
    def recording(self) -> Iterator[Callable[[Sequence[Ended]], None]]:
        """Yields a function that records outcomes; without any, it only checks whether a write is due.

        The catalogue is written every few seconds and at the end, since one write takes as long for a single outcome as
        for hundreds. If the run is killed in between, the next run finds the artifacts on disk. If another process
        holds the catalogue, the work continues and the write is repeated later.
        """
        unwritten: list[Ended] = []
        written = time.monotonic()

        def write(wait: float | None = None) -> None:
            nonlocal written
            self._write(unwritten, wait)
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
            with on_forced_exit(write):
                yield record
        finally:
            write()

    def close(self, reason: str) -> None:
        """Record why unstarted jobs wait; does nothing without a reason."""
        unstarted = [work for work in self.outcomes.values() if work.state == Outcome.WAITING and not work.error]
        if reason:
            self._write([(replace(work, error=reason, error_type=Stopped.__name__), []) for work in unstarted])

    def _write(self, ended: Sequence[Ended], wait: float | None = None) -> None:
        self.outcomes.update({work.document_id: work for work, _ in ended})
        records = [record for _, records in ended for record in records]
        self.catalogue.record_work(self.run_id, self.stage, [work for work, _ in ended], records, wait)


def fan_out(
    ledger: Ledger, missing: Sequence[AnyJob], submit: Submit[AnyJob], together: int, ahead: int,
    weights: dict[str, int],
) -> str:  # fmt: skip
    """Run jobs as tasks and record their outcomes.

    Args:
        submit: Submits some jobs as one task, which returns a Record or the outcome of each job. Returns the future.
        together: Jobs per task.
        ahead: Maximum number of submitted tasks that have not ended.
        weights: Units per job, by label, for the progress display. Includes jobs whose artifacts exist.

    Returns:
        The reason why no more tasks were submitted: a task ended with `Stopped`, or the run was interrupted. Else "".
    """
    quarantined = ledger.quarantined() if missing else set()
    regular = [job for job in missing if job.key not in quarantined]
    groups: deque[Sequence[AnyJob]] = deque(regular[at : at + together] for at in range(0, len(regular), together))
    groups.extend([job] for job in missing if job.key in quarantined)
    total = sum(weights[job.label] for job in missing)
    cached = sum(weights.values()) - total
    reason = ""
    with stage_progress(ledger.stage, total, cached) as advance, ledger.recording() as record:
        for ended in _outcomes_as_completed(groups, submit, ahead):
            record(ended)
            finished = [work for work, _ in ended if work.error_type != Interrupted.__name__]
            units = [(weights[work.document_id], work.state == Outcome.FAILED) for work in finished]
            advance(sum(weight for weight, _ in units), sum(weight for weight, failed in units if failed))
            if stopped := next((work for work, _ in ended if work.error_type in STOPS), None):
                reason = stopped.error
                groups.clear()  # do not submit the others
    return str(INTERRUPTED) if interrupted() else reason


def task_name(jobs: Sequence[Job]) -> str:
    """The name of a task with these jobs."""
    return jobs[0].label + (f" and {len(jobs) - 1} more" if len(jobs) > 1 else "")


def failed_work(job: Job, error: BaseException) -> Work:
    """The outcome of a job that failed; an interrupted job is waiting."""
    attempts = getattr(error, "attempts", 1)
    kind, message = type(error).__name__, str(error) or type(error).__name__
    state = Outcome.WAITING if isinstance(error, Interrupted) else Outcome.FAILED
    return Work(job.label, job.key, state, job.document_key, attempts, 0.0, kind, message)


def _outcomes_as_completed(
    groups: deque[Sequence[AnyJob]], submit: Submit[AnyJob], ahead: int
) -> Iterator[list[Ended]]:
    """Submit groups of jobs and yield outcomes as tasks end; an empty list every few seconds if none ends.

    A group whose worker died is submitted again in halves, until the job that kills workers is found.
    """
    ended: queue.SimpleQueue[PrefectFuture[Any] | None] = queue.SimpleQueue()
    with on_interruption(lambda: ended.put(None)):  # wakes up the loop
        yield from _run_groups(groups, submit, ahead, ended)


def _run_groups(
    groups: deque[Sequence[AnyJob]], submit: Submit[AnyJob], ahead: int,
    ended: queue.SimpleQueue[PrefectFuture[Any] | None],
) -> Iterator[list[Ended]]:  # fmt: skip
    futures: dict[PrefectFuture[Any], Sequence[AnyJob]] = {}
    deadline = math.inf
    while time.monotonic() < deadline:
        if interrupted():
            groups.clear()
            deadline = min(deadline, time.monotonic() + ENDING)
        while len(futures) < ahead and groups:
            group = groups.popleft()
            future = submit(group)
            futures[future] = group
            future.add_done_callback(ended.put)
        if not futures:
            return
        outcomes: list[Ended] = []
        for future in filter(None, _drain(ended)):
            jobs = futures.pop(future)
            result = _outcomes(jobs, future)
            if result is None and len(jobs) > 1:
                groups.extendleft((jobs[len(jobs) // 2 :], jobs[: len(jobs) // 2]))
            else:
                outcomes += result or [(failed_work(jobs[0], worker_lost(jobs[0].label)), [])]
        yield outcomes


def _drain(ended: queue.SimpleQueue[PrefectFuture[Any] | None]) -> list[PrefectFuture[Any] | None]:
    """All elements of a queue; empty if none arrives in time."""
    batch = []
    with suppress(queue.Empty):
        batch.append(ended.get(timeout=ENDING / 4 if interrupted() else WRITTEN_EVERY))
        while True:
            batch.append(ended.get_nowait())
    return batch


def _outcomes(jobs: Sequence[Job], future: PrefectFuture[Any]) -> list[Ended] | None:
    """The outcomes of an ended task's jobs; None if its worker died, which says nothing about single jobs."""
    future.wait()  # the state can lag behind the callback
    try:
        result = future.result(raise_on_failure=False)
    except Exception as worker_error:  # a cluster raises if a worker died
        result = worker_error
    if isinstance(result, list):
        return result
    if isinstance(result, Record):
        (job,) = jobs
        state = Outcome.CACHED if future.state.name == "Reused" else Outcome.DONE
        tries = result.measures.get("attempts", 1)
        return [(Work(job.label, job.key, state, job.document_key, tries, result.seconds), [result])]
    error = result if isinstance(result, BaseException) else RuntimeError(str(future.state.message))
    if type(error).__name__ in DEATHS:
        if interrupted():  # the interruption ended the worker
            return [(failed_work(job, INTERRUPTED), []) for job in jobs]
        return None
    return [(failed_work(job, error), list(getattr(error, "records", ()))) for job in jobs]

"""The fan-out of a stage: its jobs are submitted as tasks, some ahead of those that run; a group of jobs over which its
worker died is tried again in halves; and what becomes of each job is recorded in the catalogue."""

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
from dyprag.flows.endings import noted
from dyprag.flows.progress import stage_progress
from dyprag.runtime.interruption import INTERRUPTED, interrupted, on_interruption
from dyprag.storage.artifacts import Record
from dyprag.storage.catalogue import Catalogue, Ended, Work
from dyprag.storage.outcomes import Outcome
from dyprag.tasks.planning.jobs import AnyJob, Job
from dyprag.tasks.shards import lost

WRITTEN_EVERY = 4.0  # seconds between two writings of what became of documents to the catalogue
MEANWHILE = 2.0  # seconds for which such a writing waits for another process that holds the catalogue
WINDOW = 256  # tasks submitted that have not ended
STOPS = (Stopped.__name__, Interrupted.__name__)
ENDING = 1.0  # seconds that tasks get to end which are told to
DEATHS = ("ShardLost", "KilledWorker", "WorkerCrashedError")  # ours, Dask's and Ray's word for a worker that died

Submit = Callable[[Sequence[AnyJob]], PrefectFuture[Any]]


class Ledger:
    """What became of each job of a stage so far, by its label, and the way of that into the catalogue."""

    def __init__(self, catalogue: Catalogue, run_id: str, stage: str) -> None:
        self.catalogue, self.run_id, self.stage = catalogue, run_id, stage
        self.outcomes: dict[str, Work] = {}

    def open(
        self, jobs: Sequence[AnyJob], found: Callable[[AnyJob], Ended | None], waiting: Sequence[Work]
    ) -> list[AnyJob]:
        """Record what is there, and the rest as waiting; gives the jobs whose artifacts are missing."""
        missing, known, records = [], [], []
        for job in jobs:  # ask first, submit after: thousands of cache hits are the server's worst case
            if ended := found(job):
                known.append(ended[0])
                records += ended[1]
            else:
                missing.append(job)
        planned = [Work(job.label, job.key, Outcome.WAITING, job.document_key) for job in missing]
        self.catalogue.record_work(self.run_id, self.stage, [*known, *planned, *waiting], records)
        self.outcomes |= {work.document_id: work for work in (*known, *planned)}
        return missing

    def quarantined(self) -> set[str]:
        """Keys of what worker processes have died over: tried again, but alone and after all others."""
        sql = "SELECT DISTINCT key FROM work WHERE stage = ? AND error_type = ?"
        return {row["key"] for row in self.catalogue.query(sql, [self.stage, WorkerLost.__name__])}

    @contextmanager
    def recording(self) -> Iterator[Callable[[Sequence[Ended]], None]]:
        """Gives what records outcomes, or is called without any now and then. The catalogue is written every few
        seconds, and in the end: to open it and close it takes as long for a document as for hundreds. A run that is
        killed before has its artifacts on disk, where the next finds them. Where another process holds the catalogue
        the work goes on, and it is written later."""
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
            with noted(write):
                yield record
        finally:
            write()

    def close(self, reason: str) -> None:
        """Note why the jobs wait that were not begun; without a reason there are none."""
        unbegun = [work for work in self.outcomes.values() if work.state == Outcome.WAITING and not work.error]
        if reason:
            self._write([(replace(work, error=reason, error_type=Stopped.__name__), []) for work in unbegun])

    def _write(self, ended: Sequence[Ended], wait: float | None = None) -> None:
        self.outcomes.update({work.document_id: work for work, _ in ended})
        records = [record for _, records in ended for record in records]
        self.catalogue.record_work(self.run_id, self.stage, [work for work, _ in ended], records, wait)


def fan_out(
    ledger: Ledger, missing: Sequence[AnyJob], submit: Submit[AnyJob], together: int, ahead: int,
    weights: dict[str, int],
) -> str:  # fmt: skip
    """Run jobs as tasks and record what becomes of each.

    Args:
        submit: submits some jobs as one task that gives a Record, or what became of each of them, and returns the
            future.
        together: jobs in one task.
        ahead: tasks submitted that have not ended.
        weights: of how many units each job is, by its label, for those who watch; also of those found made.

    Returns:
        Why nothing more was submitted, if a task ended with `Stopped` or the run is interrupted; else nothing.
    """
    apart = ledger.quarantined() if missing else set()
    sound = [job for job in missing if job.key not in apart]
    groups: deque[Sequence[AnyJob]] = deque(sound[at : at + together] for at in range(0, len(sound), together))
    groups.extend([job] for job in missing if job.key in apart)
    total = sum(weights[job.label] for job in missing)
    cached = sum(weights.values()) - total
    reason = ""
    with stage_progress(ledger.stage, total, cached) as advance, ledger.recording() as record:
        for ended in _as_they_end(groups, submit, ahead):
            record(ended)
            over = [work for work, _ in ended if work.error_type != Interrupted.__name__]
            ends = [(weights[work.document_id], work.state == Outcome.FAILED) for work in over]
            advance(sum(weight for weight, _ in ends), sum(weight for weight, failed in ends if failed))
            if stopped := next((work for work, _ in ended if work.error_type in STOPS), None):
                reason = stopped.error
                groups.clear()  # none of the others is submitted
    return str(INTERRUPTED) if interrupted() else reason


def named(jobs: Sequence[Job]) -> str:
    """What a task with these jobs is called."""
    return jobs[0].label + (f" and {len(jobs) - 1} more" if len(jobs) > 1 else "")


def failed_work(job: Job, error: BaseException) -> Work:
    """What the catalogue notes of a job that failed; one that was interrupted waits."""
    attempts = getattr(error, "attempts", 1)
    kind, message = type(error).__name__, str(error) or type(error).__name__
    state = Outcome.WAITING if isinstance(error, Interrupted) else Outcome.FAILED
    return Work(job.label, job.key, state, job.document_key, attempts, 0.0, kind, message)


def _as_they_end(groups: deque[Sequence[AnyJob]], submit: Submit[AnyJob], ahead: int) -> Iterator[list[Ended]]:
    """Submit groups of jobs, some ahead of those that run, and give what became of them; nothing, every few seconds in
    which none ended. A group over which its worker died is submitted again in halves, until it is known which job did
    it."""
    ended: queue.SimpleQueue[PrefectFuture[Any] | None] = queue.SimpleQueue()
    with on_interruption(lambda: ended.put(None)):  # which ends the waiting
        yield from _until_all_ended(groups, submit, ahead, ended)


def _until_all_ended(
    groups: deque[Sequence[AnyJob]], submit: Submit[AnyJob], ahead: int,
    ended: queue.SimpleQueue[PrefectFuture[Any] | None],
) -> Iterator[list[Ended]]:  # fmt: skip
    running: dict[PrefectFuture[Any], Sequence[AnyJob]] = {}
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
        outcomes: list[Ended] = []
        for future in filter(None, _waiting_in(ended)):
            jobs = running.pop(future)
            known = _outcomes(jobs, future)
            if known is None and len(jobs) > 1:
                groups.extendleft((jobs[len(jobs) // 2 :], jobs[: len(jobs) // 2]))
            else:
                outcomes += known or [(failed_work(jobs[0], lost(jobs[0].label)), [])]
        yield outcomes


def _waiting_in(ended: queue.SimpleQueue[PrefectFuture[Any] | None]) -> list[PrefectFuture[Any] | None]:
    """All that is in a queue; nothing, where nothing comes in time."""
    batch = []
    with suppress(queue.Empty):
        batch.append(ended.get(timeout=ENDING / 4 if interrupted() else WRITTEN_EVERY))
        while True:
            batch.append(ended.get_nowait())
    return batch


def _outcomes(jobs: Sequence[Job], future: PrefectFuture[Any]) -> list[Ended] | None:
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
        state = Outcome.CACHED if future.state.name == "Reused" else Outcome.DONE
        tries = result.measures.get("attempts", 1)
        return [(Work(job.label, job.key, state, job.document_key, tries, result.seconds), [result])]
    error = result if isinstance(result, BaseException) else RuntimeError(str(future.state.message))
    if type(error).__name__ in DEATHS:
        if interrupted():  # and the worker with this process
            return [(failed_work(job, INTERRUPTED), []) for job in jobs]
        return None
    return [(failed_work(job, error), list(getattr(error, "records", ()))) for job in jobs]

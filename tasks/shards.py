"""How a task processes its documents, one or many.

Each document has its own attempts and its own outcome. If the run uses worker processes, one of them does the work.
"""

from collections.abc import Callable, Sequence

from prefect import State
from prefect.states import Completed

from dyprag.config import PipelineConfig
from dyprag.errors import DypragError, ShardLost, Waiting, WorkerLost
from dyprag.runtime.interruption import pause
from dyprag.storage.artifacts import Record
from dyprag.storage.catalogue import Ended, Work
from dyprag.storage.outcomes import Outcome
from dyprag.tasks.planning.jobs import AnyJob, Job
from dyprag.tasks.processes import processes
from dyprag.tasks.work import attempt, is_transient

# A job, its outcome, its artifacts, and the error that decides whether it is tried again.
Attempt = tuple[Job, Work, list[Record], Exception | None]
Try = Callable[[Sequence[AnyJob], str, PipelineConfig, int], list[Attempt]]


def work_on(
    jobs: Sequence[AnyJob], corpus_key: str, config: PipelineConfig, work: Try[AnyJob], here: bool = False
) -> "list[Ended] | State[list[Ended]]":
    """Process documents together.

    A single document fails together with its task, so that the server sees the failure and retries it. Documents that
    share a task are retried here, each on its own.

    Args:
        work: Attempts some jobs; its last argument is the number of the attempt. It must be a module-level function.
        here: Work in this process, whatever `run.runner` says.

    Raises:
        ShardLost: The worker process died, and the document that caused it is not known.
        WorkerLost: It died while working on the only document.
    """
    outcomes: list[Ended] = []
    remaining = list(jobs)
    for number in range(1 if len(jobs) == 1 else config.run.retries + 1):
        if number:
            pause(config.run.retry_delay * 2 ** (number - 1))
        try:
            tried = _try(remaining, corpus_key, config, work, attempt() + number, here)
        except ShardLost:
            if len(jobs) > 1:  # even if only one job was being retried: the task stands for all of them
                raise
            error = worker_lost(jobs[0].label)
            error.attempts = attempt()  # type: ignore[attr-defined]
            raise error from None
        transient = [job.key for job, _, _, error in tried if error and is_transient(error)] if len(jobs) > 1 else []
        retried = [job for job in remaining if job.key in transient]
        last = number == config.run.retries
        outcomes += [(outcome, records) for job, outcome, records, _ in tried if last or job.key not in transient]
        if len(jobs) == 1 and (fault := tried[0][3]):
            fault.records = tried[0][2]  # type: ignore[attr-defined]
            raise fault
        remaining = retried
        if not remaining:
            break
    states = {outcome.state for outcome, _ in outcomes}
    if states == {Outcome.WAITING}:
        return Completed(name="Waiting", message=outcomes[0][0].error, data=outcomes)
    if len(jobs) == 1 and states == {Outcome.CACHED}:
        return Completed(name="Reused", data=outcomes)
    return Completed(name="SomeFailed", data=outcomes) if Outcome.FAILED in states else outcomes


def _try(
    jobs: Sequence[AnyJob], corpus_key: str, config: PipelineConfig, work: Try[AnyJob], number: int, here: bool
) -> list[Attempt]:
    if here or config.run.runner != "processes":
        return work(jobs, corpus_key, config, number)
    return processes(config).run(_in_process, work, jobs, corpus_key, config, number)


def worker_lost(document_id: str) -> WorkerLost:
    """The error of a document during which its worker process died."""
    return WorkerLost(
        f"document {document_id!r}", "its worker process died (killed, out of memory, or a crash in a library)",
        "Later runs try it alone, after all others. Split it, remove it, or use a machine with "
        "more memory. The system log (dmesg) may show the cause.",
    )  # fmt: skip


def _in_process(
    work: Try[AnyJob], jobs: Sequence[AnyJob], corpus_key: str, config: PipelineConfig, number: int
) -> list[Attempt]:
    """Run jobs in a worker process; errors are made picklable for the way back."""
    return [(*tried[:3], _portable(tried[3])) for tried in work(jobs, corpus_key, config, number)]


def _portable(error: Exception | None) -> Exception | None:
    """An error that can be unpickled in another process; a library's own exception may not be."""
    if error is None or isinstance(error, DypragError) or type(error).__module__ == "builtins":
        return error
    plain = RuntimeError(f"{type(error).__name__}: {error}")
    plain.attempts = getattr(error, "attempts", 1)  # type: ignore[attr-defined]
    return plain


def failed(job: Job, errors: Sequence[Exception], records: list[Record], number: int, seconds: float = 0.0) -> Attempt:
    """The outcome of a job that failed or has to wait, for one reason or several."""
    worst = max(errors, key=lambda error: (not isinstance(error, Waiting), type(error).__name__ == "Stopped"))
    worst.attempts = number  # type: ignore[attr-defined]
    state = Outcome.WAITING if isinstance(worst, Waiting) else Outcome.FAILED
    kind, text = type(worst).__name__, "; ".join(dict.fromkeys(str(e) or type(e).__name__ for e in errors))
    work = Work(job.label, job.key, state, job.document_key, number, seconds, kind, text)
    return job, work, records, None if state == Outcome.WAITING else worst

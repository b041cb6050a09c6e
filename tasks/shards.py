"""How a task works on its documents, be it one or a shard: each has its own tries and its own outcome; where the run
has worker processes, one of them does the work."""

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
from dyprag.tasks.work import attempt, passes

# the job, what became of it, its artifacts, and its error where another try is worth thinking of
Tried = tuple[Job, Work, list[Record], Exception | None]
Try = Callable[[Sequence[AnyJob], str, PipelineConfig, int], list[Tried]]


def work_on(
    jobs: Sequence[AnyJob], corpus_key: str, config: PipelineConfig, work: Try[AnyJob], here: bool = False
) -> "list[Ended] | State[list[Ended]]":
    """Work on documents at the same time.

    A document that is alone in its task fails with it, so that the server sees it and tries it again; among others it
    has its own tries.

    Args:
        work: tries some jobs; the last argument is the number of the try. A function of a module.
        here: in this process, whatever `run.runner` says.

    Raises:
        ShardLost: the worker process died, and it is not known over which document.
        WorkerLost: it died over the only one.
    """
    ended: list[Ended] = []
    left = list(jobs)
    for number in range(1 if len(jobs) == 1 else config.run.retries + 1):
        if number:
            pause(config.run.retry_delay * 2 ** (number - 1))
        try:
            tried = _try(left, corpus_key, config, work, attempt() + number, here)
        except ShardLost:
            if len(jobs) > 1:  # of others too, even where this was the second try of one: the task stands for all
                raise
            error = lost(jobs[0].label)
            error.attempts = attempt()  # type: ignore[attr-defined]
            raise error from None
        tripped = [job.key for job, _, _, error in tried if error and passes(error)] if len(jobs) > 1 else []
        again = [job for job in left if job.key in tripped]
        last = number == config.run.retries
        ended += [(outcome, records) for job, outcome, records, _ in tried if last or job.key not in tripped]
        if len(jobs) == 1 and (fault := tried[0][3]):
            fault.records = tried[0][2]  # type: ignore[attr-defined]
            raise fault
        left = again
        if not left:
            break
    states = {outcome.state for outcome, _ in ended}
    if states == {Outcome.WAITING}:
        return Completed(name="Waiting", message=ended[0][0].error, data=ended)
    if len(jobs) == 1 and states == {Outcome.CACHED}:
        return Completed(name="Reused", data=ended)
    return Completed(name="SomeFailed", data=ended) if Outcome.FAILED in states else ended


def _try(
    jobs: Sequence[AnyJob], corpus_key: str, config: PipelineConfig, work: Try[AnyJob], number: int, here: bool
) -> list[Tried]:
    if here or config.run.runner != "processes":
        return work(jobs, corpus_key, config, number)
    return processes(config).run(_in_process, work, jobs, corpus_key, config, number)


def lost(document_id: str) -> WorkerLost:
    """The error of a document over which its worker process died."""
    return WorkerLost(
        f"document {document_id!r}", "its worker process died (killed, out of memory, or a crash in a library)",
        "Later runs try it alone, after all others. Split it, remove it, or use a machine with "
        "more memory; the system log (dmesg) may say why.",
    )  # fmt: skip


def _in_process(
    work: Try[AnyJob], jobs: Sequence[AnyJob], corpus_key: str, config: PipelineConfig, number: int
) -> list[Tried]:
    """In a worker process: what is given back must be known to the other side."""
    return [(*tried[:3], _portable(tried[3])) for tried in work(jobs, corpus_key, config, number)]


def _portable(error: Exception | None) -> Exception | None:
    """An error that another process can make again: a library's own may not survive the way."""
    if error is None or isinstance(error, DypragError) or type(error).__module__ == "builtins":
        return error
    plain = RuntimeError(f"{type(error).__name__}: {error}")
    plain.attempts = getattr(error, "attempts", 1)  # type: ignore[attr-defined]
    return plain


def failed(job: Job, errors: Sequence[Exception], records: list[Record], number: int, seconds: float = 0.0) -> Tried:
    """A job that went wrong, or has to wait, for one reason or several."""
    worst = max(errors, key=lambda error: (not isinstance(error, Waiting), type(error).__name__ == "Stopped"))
    worst.attempts = number  # type: ignore[attr-defined]
    state = Outcome.WAITING if isinstance(worst, Waiting) else Outcome.FAILED
    kind, text = type(worst).__name__, "; ".join(dict.fromkeys(str(e) or type(e).__name__ for e in errors))
    work = Work(job.label, job.key, state, job.document_key, number, seconds, kind, text)
    return job, work, records, None if state == Outcome.WAITING else worst

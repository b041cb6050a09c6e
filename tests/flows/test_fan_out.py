"""The fan-out: outcomes of jobs are recorded by label, for documents and for other work."""

from pathlib import Path

import pytest

from dyprag.errors import DocumentError, Interrupted, Stopped
from dyprag.flows.fan_out import Ledger, failed_work, task_name
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue, Ended, Work
from dyprag.storage.outcomes import Outcome
from dyprag.tasks.planning.jobs import DocumentJob, Job, NamedJob

JOBS: list[Job] = [NamedJob("rag, questions 1 to 8", "1"), DocumentJob("lamp", "dk", "2"), NamedJob("zero", "3")]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    catalogue = Catalogue(Store(str(tmp_path / "store")))
    catalogue.prepare()
    return Ledger(catalogue, "run", "evaluate")


def found(job: Job) -> Ended | None:
    if job.key != "3":
        return None
    return Work(job.label, job.key, Outcome.CACHED), [Record("prediction", job.key, [], {})]


def stored(ledger: Ledger) -> dict[str, tuple[str, str]]:
    rows = ledger.catalogue.query("SELECT document_id, state, error FROM work")
    return {row["document_id"]: (row["state"], row["error"]) for row in rows}


def test_jobs_are_recorded_under_their_labels_before_any_starts(ledger: Ledger):
    waiting = Work("book", "4", Outcome.WAITING)
    assert ledger.open(JOBS, found, [waiting]) == JOBS[:2]
    assert stored(ledger) == {
        "rag, questions 1 to 8": ("waiting", ""), "lamp": ("waiting", ""), "zero": ("cached", ""),
        "book": ("waiting", ""),
    }  # fmt: skip


def test_unstarted_jobs_wait_with_the_reason_that_stopped_the_stage(ledger: Ledger):
    ledger.open(JOBS, found, [])
    with ledger.recording() as record:
        record([(failed_work(JOBS[1], DocumentError("document 'lamp'", "it is odd", "Leave it out.")), [])])
    ledger.close("the budget is spent")
    assert stored(ledger) == {
        "rag, questions 1 to 8": ("waiting", "the budget is spent"),
        "lamp": ("failed", "document 'lamp': it is odd. Leave it out."), "zero": ("cached", ""),
    }  # fmt: skip
    assert ledger.outcomes["rag, questions 1 to 8"].error_type == Stopped.__name__


def test_an_interrupted_job_is_waiting_not_failed():
    assert failed_work(JOBS[0], Interrupted("this run", "it was interrupted", "Run again.")).state == Outcome.WAITING


def test_a_task_is_named_after_its_first_job():
    assert task_name(JOBS[:1]) == "rag, questions 1 to 8"
    assert task_name(JOBS) == "rag, questions 1 to 8 and 2 more"

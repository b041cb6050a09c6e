"""The settings of how work is run: nothing here changes a result."""

from typing import Literal

from dyprag.config.base import Section, basic, expert


class RunSettings(Section):
    """How the work is run; nothing here changes a result."""

    retries: int = expert(2, "Times a document is tried again after a passing fault.", ge=0)
    runner: Literal["threads", "processes", "dask", "ray"] = basic(
        "threads",
        "Where models run: in threads of the run's process, which share one model; in processes, each with "
        "a model or a GPU of its own; on a Dask or Ray cluster that sees the store (pip install dyprag[dask], [ray]).",
    )
    workers: int | None = expert(None, "Worker processes. Empty: one for each GPU, or without one for each core.", ge=1)
    address: str | None = expert(None, "The Dask scheduler's or Ray head's address. Empty: a cluster on this machine.")
    documents_per_task: int | None = expert(
        None,
        "Documents in one task. Empty: in threads one up to 2,000 documents and 64 to 250 beyond, which "
        "a Prefect server takes in easily; elsewhere up to 64, so that each worker gets some tasks.",
        ge=1,
    )
    retry_delay: float = expert(2.0, "Seconds before the first retry; doubled each time.", ge=0)
    on_failures: Literal["complete", "fail"] = basic(
        "complete",
        "Name of the state of a flow that finished while some documents failed: CompletedWithFailures "
        "(complete), or Failed (fail). Either is of Prefect's type Failed: the UI shows it red, and can retry it.",
    )

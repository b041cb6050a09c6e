"""Settings of how the work is run. None of them affects results."""

from typing import Literal

from dyprag.config.base import Section, basic, expert


class RunSettings(Section):
    """How the work is run. None of these settings affects results."""

    retries: int = expert(2, "Number of retries of a document after a temporary failure.", ge=0)
    runner: Literal["threads", "processes", "dask", "ray"] = basic(
        "threads",
        "Where models run. threads: in the run's own process, with one shared model; processes: in worker "
        "processes, each with its own model or GPU; dask, ray: on a cluster whose workers see the store (pip "
        "install dyprag[dask] or dyprag[ray]).",
    )
    workers: int | None = expert(
        None, "Number of worker processes. Empty: one per GPU, or one per core without a GPU.", ge=1
    )
    address: str | None = expert(
        None, "Address of the Dask scheduler or Ray head. Empty: start a cluster on this machine."
    )
    documents_per_task: int | None = expert(
        None,
        "Number of documents in one Prefect task. Empty: with threads, 1 up to 2,000 documents and 64 to 250 "
        "beyond, which a Prefect server handles well; otherwise up to 64, so that every worker gets several "
        "tasks.",
        ge=1,
    )
    retry_delay: float = expert(2.0, "Seconds before the first retry; doubled for each further one.", ge=0)
    on_failures: Literal["complete", "fail"] = basic(
        "complete",
        "State of a flow that finished with some failed documents: CompletedWithFailures (complete), or Failed "
        "(fail). Both are of Prefect's type Failed: the UI shows them in red and offers a retry.",
    )

"""The overhead of Prefect and the stores per document, compared with a plain loop: no model, only small artifacts.

    python benchmarks/orchestration.py [DOCUMENTS]

Prints the figures and writes build/bench/orchestration.json.
"""

import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import PipelineConfig
from dyprag.flows.stage import stage
from dyprag.storage.artifacts import Record, Store
from dyprag.tasks.planning.jobs import DocumentJob

GOAL = 0.03  # seconds per document task


def make(store: Store, job: DocumentJob) -> Record:
    """Do the work of one document: write a small artifact."""
    record = Record("rewrites", job.key, [], {}, job.document_key, job.document_id)
    return store.write(record, lambda folder: _fill(folder, job.document_id))


def _fill(folder: Path, text: str) -> None:
    (folder / "text").write_text(text)


@task(task_run_name="make {job.document_id}", cache_policy=NO_CACHE)
def make_in_task(root: str, job: DocumentJob) -> Record:
    """`make` as a task."""
    return make(Store(root), job)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))  # type: ignore[arg-type]
def measured(config: PipelineConfig, jobs: list[Any]) -> float:
    """The seconds of the stage's fan-out, without the start and end of the flow."""
    with stage(config, "augment") as run:
        start = perf_counter()
        work = run.fan_out(jobs, run.stored("rewrites"), lambda some: make_in_task.submit(config.store, some[0]))
        seconds = perf_counter() - start
    if {item.state for item in work} != {"done"}:
        raise RuntimeError("not every document was made")
    return seconds


def main(documents: int) -> None:
    """Run both sides; print and write the figures."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = [DocumentJob(f"document-{n}", f"{n:032x}", f"{n:032x}") for n in range(documents)]
        store = Store(Path(folder) / "loop")
        start = perf_counter()
        for job in jobs:
            make(store, job)
        loop = (perf_counter() - start) / documents
        config = PipelineConfig(store=str(Path(folder) / "flow"))
        flowing = measured(config, jobs) / documents
    overhead = flowing - loop
    figure = {
        "name": "overhead per document task", "value": round(overhead, 4), "unit": "s", "baseline": round(loop, 4),
        "ratio": round(flowing / loop, 2), "goal": GOAL, "holds": overhead <= GOAL,
    }  # fmt: skip
    print(
        f"{documents} documents: {loop:.4f} s each in a plain loop, {flowing:.4f} s as tasks; overhead {overhead:.4f} s"
    )
    target = Path("build/bench/orchestration.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    target.write_text(json.dumps({"machine": machine, "figures": [figure]}, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)

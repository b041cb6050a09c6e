"""A corpus of a million documents: the cost of a nightly ingest and of `dyprag status`.

    python benchmarks/corpus.py [DOCUMENTS]

The documents are generated rows of a JSONL file, of 50 words each. Every ingest runs in its own process on a Prefect
server that is already running; its seconds are those of the flow. For `status`, the catalogue also has a row of work
and an artifact for each document in two further stages. Prints the figures and writes build/bench/corpus.json.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

DIFFERENCE_GOAL, STATUS_GOAL, DIFFERENT, BATCH = 60, 1, 10, 50_000
Figure = dict[str, Any]


def lines(count: int, edition: int = 0) -> Iterator[str]:
    """Rows of the corpus. In a later edition, ten have changed, ten are gone and ten are new."""
    start = DIFFERENT if edition else 0
    for number in range(start, start + count):
        words = " ".join(f"w{number * 31 % 9973 + place * 17 % 977}" for place in range(49))
        changed = f" in edition {edition}" if edition and number < start + DIFFERENT else ""
        yield json.dumps({"id": f"document-{number}", "title": f"Title {number}", "text": f"{words} {number}{changed}"})


def ingest_once(folder: str) -> None:
    """Ingest in this process and print the wall and CPU seconds, the peak memory and the difference."""
    from dyprag.config import PipelineConfig
    from dyprag.flows.ingest import ingest

    config = PipelineConfig.model_validate(settings(Path(folder)))
    start, used = perf_counter(), sum(os.times()[:2])
    (summary,) = ingest(config, return_state=True).result()
    seconds, cores = perf_counter() - start, sum(os.times()[:2]) - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "cores": cores, "memory": memory, "note": summary["note"]}))


def settings(folder: Path) -> dict[str, Any]:
    """The configuration of every process."""
    return {"store": str(folder / "store"), "corpus": {"documents": str(folder / "docs.jsonl")}}


def in_a_process(folder: Path) -> dict[str, Any]:
    """Run `ingest_once` in a new process and return its figures."""
    process = subprocess.run(
        [sys.executable, __file__, "0", str(folder)], stdout=subprocess.PIPE, text=True, check=True
    )
    figures: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return figures


def fill(folder: Path, count: int) -> float:
    """Record the work and artifacts of two stages for every document. Returns the seconds."""
    from dyprag.storage.artifacts import Record, Store
    from dyprag.storage.catalogue import Catalogue, Work

    catalogue = Catalogue(Store(folder / "store"))
    start = perf_counter()
    for stage, kind in (("augment", "qa_pairs"), ("parametrize", "adapter")):
        numbers = iter(range(count))
        while batch := list(islice(numbers, BATCH)):
            names = [(f"document-{n}", f"{stage}-{n:020x}") for n in batch]
            records = [Record(kind, key, [], {}, f"{key}-of", name) for name, key in names]
            catalogue.record_work(
                f"run of {stage}", stage, [Work(*name, "done", attempts=1) for name in names], records
            )
    return perf_counter() - start


def status(folder: Path) -> tuple[float, float]:
    """The wall and CPU seconds of `dyprag status`."""
    command = [sys.executable, "-m", "dyprag.cli.main", "status", "--set", f"store={folder / 'store'}"]
    start = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, exit_status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(exit_status)
    if process.returncode:
        raise RuntimeError("`dyprag status` failed")
    return perf_counter() - start, usage.ru_utime + usage.ru_stime


def figure(name: str, value: float, unit: str, goal: float | None = None) -> Figure:
    """One row of the results. The goal is an upper bound."""
    return {"name": name, "value": round(value, 2), "unit": unit, "baseline": None, "ratio": None, "goal": goal,
            "holds": goal is None or value <= goal}  # fmt: skip


def measured(folder: Path, count: int) -> list[Figure]:
    """Ingest for the first time, with nothing new, and with ten documents of each difference; then run `status`."""
    figures = []
    editions = (("first ingest", 0, None, f"{count} new"), ("nothing new", 0, DIFFERENCE_GOAL, "nothing new"),
                ("ten of each difference", 1, DIFFERENCE_GOAL, "10 new, 10 changed, 10 removed"))  # fmt: skip
    for name, edition, goal, note in editions:
        with (folder / "docs.jsonl").open("w") as stream:
            stream.writelines(f"{line}\n" for line in lines(count, edition))
        ingested = in_a_process(folder)
        if ingested["note"] != note:
            raise RuntimeError(f"the difference is {ingested['note']!r}, not {note!r}")
        figures += [
            figure(f"{name}: ingest", ingested["seconds"], "s", goal),
            figure(f"{name}: processor time", ingested["cores"], "s"),
            figure(f"{name}: peak memory", ingested["memory"], "GiB"),
        ]
        print(figures[-3:], flush=True)
    figures.append(figure("rows written a second", 4 * count / fill(folder, count), "/s"))
    times = [status(folder) for _ in range(5)]
    size = (folder / "store" / "catalogue.duckdb").stat().st_size
    return [
        *figures,
        figure("catalogue file", size / 2**20, "MiB"),
        figure("dyprag status", statistics.median(wall for wall, _ in times), "s", STATUS_GOAL),
        figure("dyprag status: processor time", statistics.median(cores for _, cores in times), "s"),
    ]


def main(count: int) -> None:
    """Run all parts; print and write the figures."""
    from prefect.testing.utilities import prefect_test_harness

    with tempfile.TemporaryDirectory() as folder, prefect_test_harness(server_startup_timeout=300):
        from prefect.settings import PREFECT_API_URL

        os.environ["PREFECT_API_URL"] = str(PREFECT_API_URL.value())
        figures = measured(Path(folder), count)
    print(f"{count:,} documents")
    for row in figures:
        goal = "" if row["goal"] is None else f"; goal {row['goal']}; holds: {row['holds']}"
        print(f"{row['name']}: {row['value']:,} {row['unit']}{goal}")
    target = Path("build/bench/corpus.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {count:,} documents"
    target.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        ingest_once(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)

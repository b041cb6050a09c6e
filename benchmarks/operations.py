"""Many tiny documents: the pipeline's overhead, the cost of re-runs, and the cost of random kills.

    python benchmarks/operations.py [DOCUMENTS] [PART ...]

Parts: run (ingest, augment, parametrize, compared with the same work in a plain loop, half of it before and half after,
because a machine's speed may change by a tenth in these minutes), again (nothing new, then ten new documents), kills
(200 documents, twenty times kill -9). Uses a tiny random model and the tests' LLM server on loopback. Prints the
figures in wall and CPU seconds and writes build/bench/operations.json.
"""

import atexit
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from augmentation import endpoint, stats  # benchmarks/augmentation.py

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "support")]
EARLY, KILLS, KILLED_DOCUMENTS, CONCURRENCY = 0.2, 20, 200, 32
Figure = dict[str, Any]


@dataclass
class Usage:
    """The wall and CPU seconds of a command, and its memory over time as (seconds, MiB)."""

    wall: float
    cpu: float
    memory: list[tuple[float, float]]


def main(documents: int, parts: list[str]) -> None:
    """Run the parts, print and write the figures."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name, prefect_server(Path(name)), endpoint() as url:
        folder = Path(name)
        config = configuration(folder, "store", url, documents)
        if "run" in parts or "again" in parts:
            figures += whole_run(folder, config, url, documents, "run" in parts)
        if "again" in parts:
            figures += again(folder, config, documents)
        if "kills" in parts:
            figures += kills(folder, url)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    target = Path("build/bench/operations.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"machine": machine, "documents": documents, "figures": figures}, indent=1))


def whole_run(folder: Path, config: Path, url: str, documents: int, with_loop: bool) -> list[Figure]:
    """Run the three stages; check their memory, and compare the server's record with the catalogue."""
    plain = PlainLoop(configuration(folder, "plain", url, documents)) if with_loop else None
    runs = [command(stage, config) for stage in ("ingest", "augment", "parametrize")]
    store = folder / "store"
    done = query(store, "SELECT stage, count(*) AS n FROM latest_work WHERE state IN ('done', 'partial') GROUP BY 1")
    counts = {row["stage"]: row["n"] for row in done}
    figures = [figure("documents parametrized", counts.get("parametrize", 0), "", documents, lambda v: v == documents)]
    for stage in ("augment", "parametrize"):
        seen = on_server(stage)
        figures.append(figure(f"{stage}: documents in completed tasks of the server's record", seen, "", documents,
                              lambda v: v == documents))  # fmt: skip
    for stage, run in zip(("augment", "parametrize"), runs[1:], strict=True):
        early, late = run.memory[int(len(run.memory) * EARLY)][1], run.memory[-1][1]
        figures.append(figure(f"{stage}: memory at the end beside that after a fifth", late / early, "x", 1.2,
                              lambda v: v <= 1.2))  # fmt: skip
    if plain:
        loop = plain.end()
        for what in ("wall", "cpu"):
            ours, theirs = sum(getattr(run, what) for run in runs[1:]), getattr(loop, what)
            figures.append(figure(f"augment and parametrize, {what} seconds beside a plain loop's {theirs:.0f} s",
                                  ours / theirs, "x", 1.1, lambda v: v <= 1.1))  # fmt: skip
    return figures


class PlainLoop:
    """The plain loop in its own process. The constructor returns when half of the work is done."""

    def __init__(self, config: Path) -> None:
        command("ingest", config)
        start_time = time.monotonic()
        words = [sys.executable, __file__, "loop", str(config)]
        self._process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"half\n":
            raise RuntimeError("the plain loop failed")
        self._wall = time.monotonic() - start_time

    def end(self) -> Usage:
        """Run the other half of the work."""
        start_time = time.monotonic()
        assert self._process.stdin is not None
        self._process.stdin.close()
        _, status, usage = os.wait4(self._process.pid, 0)
        if status:
            raise RuntimeError("the plain loop failed")
        return Usage(self._wall + time.monotonic() - start_time, usage.ru_utime + usage.ru_stime, [])


def loop(path: str) -> None:
    """Do the same work without Prefect and catalogue. After half of it, wait until stdin is closed."""
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))  # as the command line does
    from dyprag.config import PipelineConfig
    from dyprag.storage.artifacts import Store
    from dyprag.tasks import augment, parametrize
    from dyprag.tasks.corpora import corpus_of
    from dyprag.tasks.planning.jobs import AugmentJob, DocumentJob
    from dyprag.tasks.planning.plan import Plan

    config = PipelineConfig.model_validate(yaml.safe_load(Path(path).read_text())).resolved()
    corpus_key, stored = corpus_of(config, Store(config.store))
    plan = Plan(config, stored)
    first = [AugmentJob(d.id, d.key, plan.augmentation_key(d), plan.product_keys(d)) for d in plan.documents]
    second = [
        DocumentJob(d.id, d.key, plan.adapter_key(d), tuple(plan.product_keys(d).values())) for d in plan.documents
    ]
    middle = len(first) // 2
    for part in (slice(None, middle), slice(middle, None)):
        for work, jobs in ((augment._augment, first[part]), (parametrize._parametrize, second[part])):
            for start in range(0, len(jobs), 64):
                tried = work(jobs[start : start + 64], corpus_key, config, 1)  # type: ignore[operator]
                if any(error for *_, error in tried):
                    raise RuntimeError("not every document was made")
        if part.start is None:
            print("half", flush=True)
            sys.stdin.read()
    augment.dismiss_augmenters()


def again(folder: Path, config: Path, documents: int) -> list[Figure]:
    """Run again with nothing new, and with ten new documents."""
    figures = []
    for name, count, goal in (("nothing new", documents, 20), ("ten new documents", documents + 10, 25)):
        corpus(folder, count)
        before = len(list((folder / "store").glob("adapter/*/*/record.json")))
        runs = [command(stage, config) for stage in ("ingest", "augment", "parametrize")]
        new = len(list((folder / "store").glob("adapter/*/*/record.json"))) - before
        if new != count - documents:
            raise RuntimeError(f"{new} adapters were written, expected {count - documents}")
        figures.append(figure(f"re-run with {name}", sum(t.wall for t in runs), "s", goal, lambda v, g=goal: v <= g))
        figures.append(figure(f"re-run with {name}, CPU", sum(t.cpu for t in runs), "s", None, lambda v: True))
    return figures


def kills(folder: Path, url: str) -> list[Figure]:
    """Compare a run that is killed repeatedly with one that is not."""
    calm, killed = (configuration(folder, name, url, KILLED_DOCUMENTS) for name in ("calm", "killed"))
    for stage in ("ingest", "augment", "parametrize"):
        command(stage, calm)
    asked = stats(url)["total"]
    command("ingest", killed)
    draw, hits, written = random.Random(0), 0, {}
    for stage in ("augment", "parametrize"):
        for _ in range(KILLS // 2):
            process = start(stage, killed)
            present = len(files(folder / "killed"))
            wanted, deadline = present + draw.randint(1, 12), time.monotonic() + 120
            while process.poll() is None and len(files(folder / "killed")) < wanted and time.monotonic() < deadline:
                time.sleep(0.01)
            hits += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            written = times(folder / "killed") | written
        command(stage, killed)
    now = times(folder / "killed")
    same = files(folder / "calm") == files(folder / "killed")
    again, twice = sum(now[path] != at for path, at in written.items()), stats(url)["total"] - 2 * asked
    in_flight = KILLS // 2 * CONCURRENCY
    return [
        figure("kill -9 that hit a working process", hits, "", KILLS, lambda v: v == KILLS),
        figure("artifacts equal to an undisturbed run's", int(same), "", 1, bool),
        figure("finished artifacts written again", again, "", 0, lambda v: v == 0),
        figure(f"requests sent twice, of {asked}", twice, "", in_flight, lambda v: 0 <= v <= in_flight),
    ]


def times(store: Path) -> dict[Path, int]:
    """The modification time of each artifact, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in store.glob("*/*/[!.]*/record.json")}


def files(store: Path) -> dict[str, str]:
    """The checksums of every finished artifact's files."""
    checksums = {}
    for kind in ("rewrites", "qa_pairs", "adapter"):
        for path in store.glob(f"{kind}/*/[!.]*/record.json"):
            record = json.loads(path.read_text())
            checksums |= {f"{kind}/{record['key']}/{n}": file["blake2b"] for n, file in record["files"].items()}
    return checksums


def figure(name: str, value: float, unit: str, goal: float | None, holds: Any) -> Figure:
    row = {"name": name, "value": round(value, 3), "unit": unit, "baseline": None, "ratio": None, "goal": goal,
            "holds": bool(holds(value))}  # fmt: skip
    print(f"{name}: {row['value']} {unit} (goal {goal}): {'holds' if row['holds'] else 'does not hold'}", flush=True)
    return row


def corpus(folder: Path, documents: int) -> str:
    path = folder / f"documents{documents if documents == KILLED_DOCUMENTS else ''}.jsonl"
    rows = ({"id": f"doc-{n:05d}", "text": f"Lamp {n} was built in {1000 + n} by Greta Olmsted. It stands in Dunmere."}
            for n in range(documents))  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def configuration(folder: Path, store: str, url: str, documents: int) -> Path:
    """Write a configuration file with its own store."""
    from conftest import make_tiny_model

    model = folder / "model"
    if not model.exists():
        make_tiny_model(model)
    path = folder / f"{store}.yaml"
    path.write_text(yaml.safe_dump({
        "store": str(folder / store), "model": {"name": str(model), "dtype": "float32", "device": "cpu"},
        "corpus": {"documents": corpus(folder, documents)},
        "augment": {"backend": "api", "qa_pairs": 2, "least_pairs": 1, "rewrites": 1, "verify": False,
                    "api": {"model": "m", "base_url": url, "concurrency": CONCURRENCY,
                            "requests_per_minute": 1_000_000}},
        "parametrize": {"epochs": 1},
    }))  # fmt: skip
    return path


def start(stage: str, config: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "dyprag.cli.main", stage, "--config", str(config)]
    return subprocess.Popen(words, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=sys.stderr)


def command(stage: str, config: Path) -> Usage:
    return timed([sys.executable, "-m", "dyprag.cli.main", stage, "--config", str(config)])


def timed(words: list[str]) -> Usage:
    """Run a command to its end and record its memory twice a second."""
    start = time.monotonic()
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    watched, memory, seconds = psutil.Process(process.pid), [], 0.0
    while process.poll() is None:
        try:
            with watched.oneshot():
                memory.append((time.monotonic() - start, watched.memory_info().rss / 2**20))
                times = watched.cpu_times()
                seconds = times.user + times.system
        except psutil.Error:
            break
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
    if process.wait():
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
    return Usage(time.monotonic() - start, seconds, [entry for entry in memory if entry[1] > 1][:-1] or memory)


def query(store: Path, sql: str) -> list[dict[str, Any]]:
    from dyprag.storage.artifacts import Store
    from dyprag.storage.catalogue import Catalogue

    return Catalogue(Store(store)).query(sql)


def on_server(stage: str) -> int:
    """The documents in completed tasks of a stage, according to the server's record."""
    seen = 0
    for offset in range(0, 100_000, 200):
        body = {"limit": 200, "offset": offset, "task_runs": {
            "name": {"like_": f"{stage} doc"}, "state": {"type": {"any_": ["COMPLETED"]}}}}  # fmt: skip
        request = urllib.request.Request(
            os.environ["PREFECT_API_URL"] + "/task_runs/filter", json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            rows = json.load(answer)
        for row in rows:
            more = re.search(r" and (\d+) more$", row["name"])
            seen += 1 + (int(more[1]) if more else 0)
        if len(rows) < 200:
            return seen
    return seen


@contextmanager
def prefect_server(folder: Path) -> Iterator[None]:
    """Start a Prefect server with its own database, unless PREFECT_API_URL names one."""
    if os.environ.get("PREFECT_API_URL"):
        yield
        return
    from own_server import free_port

    port = str(free_port())
    os.environ |= {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_API_PORT": port, "DO_NOT_TRACK": "1",
                   "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}  # fmt: skip
    url = f"http://127.0.0.1:{port}/api"
    words = [sys.executable, "-m", "prefect", "server", "start", "--port", port]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(300):
            time.sleep(1)
            try:
                urllib.request.urlopen(url + "/health", timeout=5).close()
                break
            except OSError:
                continue
        os.environ["PREFECT_API_URL"] = url
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1:2] == ["loop"]:
        loop(sys.argv[2])
    else:
        numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
        main(
            numbers[0] if numbers else 10_000, [w for w in sys.argv[1:] if not w.isdigit()] or ["run", "again", "kills"]
        )

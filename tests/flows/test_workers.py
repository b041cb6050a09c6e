"""Where work runs: worker processes that die, a document that kills each of its workers, and the same artifacts
from threads, processes, Dask and Ray."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import outcome, wait_for, write_jsonl
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import PipelineConfig
from dyprag.errors import ShardLost
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue, Work
from dyprag.tasks.planning.jobs import DocumentJob
from dyprag.tasks.processes import Processes
from dyprag.tasks.shards import Attempt, failed, work_on

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server")]

POISON = """
import os, signal, sys
if any("forkserver" in word for word in sys.orig_argv):
    import dyprag.adapters.samples
    made = dyprag.adapters.samples.document_samples
    def document_samples(base, document, *others):
        if document.id == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        return made(base, document, *others)
    dyprag.adapters.samples.document_samples = document_samples
    import dyprag.adapters.embedding
    embedded = dyprag.adapters.embedding.embed
    def embed(base, passages):
        if any("tower" in passage for passage in passages):
            raise ValueError("no such token")
        return embedded(base, passages)
    dyprag.adapters.embedding.embed = embed
"""


@pytest.fixture(scope="module", autouse=True)
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """In worker processes only, document 'poison' kills its process, and a passage about a tower has no embedding."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(POISON)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{Path(__file__).parents[2]}")
        yield


def corpus(tmp_path: Path, settings: dict[str, Any], *ids: str) -> None:
    rows = [{"id": i, "text": f"The {i} lamp was built in {1900 + n} by Greta."} for n, i in enumerate(ids)]
    settings["corpus"] = {"documents": write_jsonl(tmp_path / "docs.jsonl", rows)}


def prepare(settings: dict[str, Any], store: Path) -> None:
    """Ingest and augment into a separate store."""
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest

    here = PipelineConfig.model_validate({**settings, "store": str(store), "run": {}})
    ingest(here)
    augment(here)


def run(settings: dict[str, Any], store: Path, **how: Any) -> dict[str, Any]:
    """Parametrize in a separate store. Returns the stage's summary."""
    from dyprag.flows.parametrize import parametrize

    if not store.exists():
        prepare(settings, store)
    given = {**settings, "store": str(store), "run": {**settings["run"], "workers": 2, **how}}
    config = PipelineConfig.model_validate(given)
    return outcome(parametrize(config, return_state=True))[0]


def adapters(store: Path) -> dict[str, bytes]:
    """Every file of every adapter, with records without their times."""
    files = (path for path in store.glob("adapter/*/[!.]*/*") if path.name != "record.json")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def test_a_document_that_kills_its_process_is_isolated_and_the_others_succeed(tmp_path: Path, settings: dict[str, Any]):
    corpus(tmp_path, settings, "bridge", "poison", "book")
    store = tmp_path / "processes"
    summary = run(settings, store, runner="processes", documents_per_task=3, retries=1, retry_delay=0.1)
    assert (summary["done"], summary["failed"]) == (2, 1)
    assert workers(psutil.Process()) == [], "they end with their stage, whose models the next one has no use for"
    (failure,) = Catalogue(Store(store)).query("SELECT * FROM failures")
    assert (failure["document_id"], failure["error_type"], failure["attempts"]) == ("poison", "WorkerLost", 2)
    assert failure["error"].startswith("document 'poison': its worker process died")
    again = run(settings, store, runner="processes", documents_per_task=3, retries=0)
    assert (again["cached"], again["failed"]) == (2, 1)

    run(settings, tmp_path / "threads")  # where nothing is poisoned: the test's own process
    alone = adapters(tmp_path / "threads")
    assert adapters(store).items() < alone.items()
    assert len(alone) == 3 * len(adapters(store)) / 2


def test_a_killed_worker_process_loses_only_its_shard_s_time(tmp_path: Path, settings: dict[str, Any]):
    corpus(tmp_path, settings, "bridge", "lamp", "book", "tower")
    settings["parametrize"]["epochs"] = 90  # long enough to be hit, on one core too
    store, killed = tmp_path / "store", []

    def kill_one() -> None:
        spent: dict[int, float] = {}  # a process's state is its main thread's, which waits while another one computes
        while not killed:
            for process in workers(psutil.Process()):
                with suppress(psutil.Error):  # one that has just ended
                    before, now = spent.get(process.pid), process.cpu_times().user
                    spent[process.pid] = now
                    if not killed and adapters(store) and before is not None and now > before:
                        process.kill()
                        killed.append(process.pid)
            time.sleep(0.1)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    summary = run(settings, store, runner="processes", documents_per_task=1, retries=2, retry_delay=0.1)
    assert killed
    assert (summary["done"], summary["failed"]) == (4, 0)


def test_a_document_that_cannot_be_embedded_in_a_worker_process_fails_alone(tmp_path: Path, settings: dict[str, Any]):
    from dyprag.flows.ingest import ingest
    from dyprag.flows.train_translator import embed_corpus

    corpus(tmp_path, settings, "bridge", "tower", "book")
    settings["run"] |= {"runner": "processes", "workers": 1, "documents_per_task": 3}
    config = PipelineConfig.model_validate(settings)
    ingest(config)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def embed() -> Any:
        return embed_corpus(config)

    summary = embed()
    assert (summary.done, summary.failed) == (2, 1)
    (failure,) = Catalogue(Store(settings["store"])).query("SELECT document_id, error FROM failures")
    assert failure == {"document_id": "tower", "error": "no such token"}


def trips_then_dies(jobs: list[DocumentJob], corpus_key: str, config: PipelineConfig, number: int) -> list[Attempt]:
    if number > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    tripped = failed(jobs[0], [OSError("a passing fault")], [], number)
    return [tripped, *((job, Work(job.document_id, job.key, "done"), [], None) for job in jobs[1:])]


def test_a_document_that_kills_its_process_on_retry_affects_no_other():
    config = PipelineConfig.model_validate({"run": {"runner": "processes", "workers": 2, "retry_delay": 0}})
    with pytest.raises(ShardLost):  # tried in halves: a WorkerLost would be the failure of every job of the task
        work_on([DocumentJob("poison", "", "1"), DocumentJob("book", "", "2")], "", config, trips_then_dies)


def test_an_idle_process_that_died_is_replaced_without_a_failure():
    processes = Processes(1, ())
    died = processes.run(os.getpid)
    os.kill(died, signal.SIGKILL)
    time.sleep(1.0)  # until it is known
    assert processes.run(os.getpid) != died


def workers(process: psutil.Process) -> list[psutil.Process]:
    """A process's worker processes: children of its fork server."""
    try:
        servers = [child for child in process.children() if "forkserver" in " ".join(child.cmdline())]
        return [worker for server in servers for worker in server.children()]
    except psutil.Error:  # one of them has just ended
        return []


@pytest.mark.slow
def test_worker_processes_end_with_a_killed_run():
    code = "import time; from dyprag.tasks.processes import Processes; Processes(1, ()).run(time.sleep, 300)"
    run = subprocess.Popen([sys.executable, "-c", code])
    process, found = psutil.Process(run.pid), []
    wait_for("a worker", lambda: bool(found.extend(workers(process)) or found), 60)
    time.sleep(1.0)  # until it sleeps
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    wait_for("its end", lambda: not any(worker.is_running() for worker in found), 20)


def require(runner: str) -> None:
    if find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"the extra {runner!r} is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_cluster_makes_the_same_adapters_as_threads(tmp_path: Path, settings: dict[str, Any], runner: str):
    require(runner)
    corpus(tmp_path, settings, "bridge", "lamp", "book", "tower")
    run(settings, tmp_path / "threads")
    summary = run(settings, tmp_path / runner, runner=runner, documents_per_task=2)
    assert (summary["done"], summary["failed"]) == (4, 0)
    assert adapters(tmp_path / runner) == adapters(tmp_path / "threads") != {}


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_cluster_s_workers_use_the_server_that_the_run_started(tmp_path: Path, settings: dict[str, Any], runner: str):
    require(runner)
    corpus(tmp_path, settings, "bridge", "lamp", "book", "tower")
    store = tmp_path / "store"
    prepare(settings, store)
    settings["run"] |= {"runner": runner, "workers": 2, "documents_per_task": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings, "store": str(store)}))
    home = str(tmp_path / "prefect")
    environment = {**os.environ, "PREFECT_HOME": home, "PREFECT_PROFILES_PATH": f"{home}/profiles.toml"}
    environment.pop("PREFECT_API_URL", None)
    words = [sys.executable, "-m", "dyprag.cli.main", "parametrize", "--config", str(tmp_path / "config.yaml")]
    process = subprocess.Popen(words, env=environment)
    servers: set[int] = set()
    while process.poll() is None:
        servers |= servers_of(home)
        time.sleep(0.2)
    assert process.returncode == 0
    assert len(servers) == 1
    assert len([name for name in adapters(store) if name.endswith("adapter_model.safetensors")]) == 4
    with sqlite3.connect(tmp_path / "prefect" / "prefect.db") as records:
        tasks = "SELECT count(*) FROM task_run WHERE name LIKE 'parametrize%' AND state_type = 'COMPLETED'"
        assert records.execute(tasks).fetchone() == (4,)


def servers_of(home: str) -> set[int]:
    """Prefect servers that use this home folder."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "prefect.server.api.server" in " ".join(process.cmdline()) and (
                process.environ().get("PREFECT_HOME") == home
            ):
                found.add(process.pid)
    return found


def test_a_run_s_own_server_is_passed_to_clusters_that_can_reach_it(monkeypatch: pytest.MonkeyPatch):
    from dyprag.flows.workers import server_settings

    class Client:
        api_url = "http://127.0.0.1:8123/api/"

    monkeypatch.setattr("dyprag.flows.workers.get_client", lambda sync_client: Client)
    set_one = PREFECT_API_URL.value()
    with server_settings(None):
        assert PREFECT_API_URL.value() == set_one, "a server of the user's own is left alone"
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        for address in (None, "tcp://127.0.0.1:8786", "localhost:8786", "ray://[::1]:10001"):
            with server_settings(address):
                assert PREFECT_API_URL.value() == "http://127.0.0.1:8123/api"
        for address in ("tcp://scheduler:8786", "10.0.0.4:8786", "ray://head:10001"):
            with server_settings(address):
                assert not PREFECT_API_URL.value()


@pytest.mark.slow
@pytest.mark.parametrize(("device", "count", "share"), [("auto", 4, 0.5), ("cuda", None, 1), ("cpu", 4, None)])
def test_a_task_requests_its_share_of_a_gpu_from_ray(device: str, count: int | None, share: float | None):
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from dyprag.flows.workers import ray_options

    ray.init(num_cpus=1, num_gpus=2, include_dashboard=False)  # what Ray counts; no GPU need be there
    try:
        config = PipelineConfig.model_validate(
            {"model": {"device": device}, "run": {"runner": "ray", "workers": count}}
        )
        assert ray_options(config).get("num_gpus") == share
        see = ray.remote(**ray_options(config))(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
        assert (ray.get(see.remote()) in ("0", "1")) == bool(share)
    finally:
        ray.shutdown()

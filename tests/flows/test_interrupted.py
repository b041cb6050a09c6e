"""Whole runs as processes, and disturbances: a second run on the same store, a server that dies, kill -9 in each
stage. What there is in the end is what an undisturbed run makes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import eight_lamps, wait_for
from own_server import ROOT, Server, running
from prefect_home import prepare

from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue

pytestmark = [pytest.mark.prefect, pytest.mark.slow]
ADAPTERS = "adapter/*/*/record.json"
WITHIN = {  # the stages, and how many files of what name tell that a run is in the midst of one
    "ingest": ("catalogue.duckdb", 1), "augment": ("rewrites/*/*/record.json", 1), "parametrize": (ADAPTERS, 1),
    "train-translator": ("embedding/*/*/record.json", 8), "evaluate": ("prediction/*/*/record.json", 1),
}  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def configured(tmp_path: Path, settings: dict[str, Any]) -> Any:
    """Writes a configuration with eight documents for a store with the given name."""
    settings["corpus"] |= eight_lamps(tmp_path)
    settings["parametrize"] |= {"epochs": 30}
    settings["translator"] |= {"epochs": 30}

    def configure(name: str) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**settings, "store": str(tmp_path / name)}))
        return path

    return configure


class Run:
    """`dyprag COMMAND` in a process group of its own, with or without a server."""

    def __init__(self, config: Path, server: Server | None, command: str = "run") -> None:
        home = {**os.environ, "PREFECT_HOME": str(prepare(config.with_name(f"prefect-{config.stem}")))}
        environment = {**(server.environment if server else home), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        words = [sys.executable, "-m", "dyprag.cli.main", command, "--config", str(config)]
        self.log = config.with_name(f"{config.stem}-{time.time_ns()}.log")
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                words, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

    def end(self, seconds: float = 300) -> str:
        """Wait for the process to succeed. Returns its output."""
        code = self.process.wait(timeout=seconds)
        assert code == 0, self.log.read_text()
        return self.log.read_text()

    def kill(self) -> bool:
        """Send SIGKILL. Returns whether the process was still running."""
        alive = self.process.poll() is None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return alive


def checksums(store: Path) -> dict[str, str]:
    """Checksums of all artifact files without times; every artifact must be sound."""
    sound, faults = Catalogue(Store(store)).verify()
    assert not faults
    found = {}
    for record in Store(store).records():
        timed = record.kind == "prediction"  # an answer's seconds stand beside it
        found |= {f"{record.kind}/{record.key}/{name}": "" if timed else file["blake2b"]
                  for name, file in record.files.items()}  # fmt: skip
    assert sum(sound.values()) == len({name.rpartition("/")[0] for name in found})
    return found


def test_two_runs_on_one_store_succeed_and_make_each_artifact_once(configured: Any, tmp_path: Path):
    alone, shared = configured("alone"), configured("shared")
    Run(alone, None).end()
    both = [Run(shared, None), Run(shared, None)]  # each starts a server; both make one new database
    for run in both:
        assert "failed" not in run.end()
    assert checksums(tmp_path / "shared") == checksums(tmp_path / "alone")
    assert not list((tmp_path / "shared").glob("damaged/*"))
    assert not list((tmp_path / "shared").glob("*/*/.writing-*"))
    assert (tmp_path / "shared" / "reports" / "latest" / "report.html").is_file()


@pytest.mark.timeout(1200)  # Prefect asks a server that is gone again and again, for minutes
def test_a_run_whose_server_is_killed_continues_or_reports_it_and_loses_nothing(
    configured: Any, tmp_path: Path, server: Server
):
    alone, config = configured("alone"), configured("orphaned")
    Run(alone, server).end()
    store = tmp_path / "orphaned"
    run = Run(config, server)
    wait_for("an adapter", lambda: len(list(store.glob(ADAPTERS))) >= 1, 300)
    os.killpg(server.processes[0].pid, signal.SIGKILL)
    server.processes.pop().wait()
    code = run.process.wait(timeout=500)
    told = [line for line in run.log.read_text().splitlines() if "Prefect server" in line]
    assert told[0].startswith("The Prefect server does not answer"), "once, and the work of the stage continues"
    assert run.log.read_text().splitlines()[-1:] == told[1:] or code == 0
    assert "parametrize: 8 in all: 0 cached, 8 made" in run.log.read_text()
    assert len(told) == 1 + bool(code), run.log.read_text()
    assert all(line.startswith("error: ") for line in told[1:])
    kept = {path: path.stat().st_mtime for path in store.glob("*/*/*/record.json")}

    server.start("server", "start")
    wait_for("the server", server.is_up, 300)
    Run(config, server).end()
    assert {path: path.stat().st_mtime for path in kept} == kept, "what was made was made again"
    assert checksums(store) == checksums(tmp_path / "alone")


def test_a_run_killed_in_each_stage_ends_with_the_artifacts_of_an_undisturbed_one(
    configured: Any, tmp_path: Path, server: Server
):
    alone, config = configured("alone"), configured("killed")
    Run(alone, server).end()
    store = tmp_path / "killed"
    for stage, (mark, count) in WITHIN.items():
        run = Run(config, server)
        deadline = time.monotonic() + 300
        while len(list(store.glob(mark))) < count and run.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert run.kill(), f"{stage}: {run.log.read_text()}"
        for record in Store(store).records():
            assert Store(store).find(record.kind, record.key) is not None, f"{stage}: {record} is damaged"
    assert "failed" not in Run(config, server).end()
    assert checksums(store) == checksums(tmp_path / "alone")
    assert not list(store.glob("damaged/*"))
    states = {json.dumps(row) for row in Catalogue(Store(store)).query("SELECT error FROM failures")}
    assert not states

"""Kill a run in the middle: nothing on disk is damaged, and finished work is not repeated."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import write_jsonl
from prefect_home import prepare

from dyprag.storage.artifacts import Store

pytestmark = pytest.mark.prefect


def start(config: Path, log: Path) -> subprocess.Popen[bytes]:
    """`dyprag run` in a process group of its own, so that its server is killed with it."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "dyprag.cli.main", "run", "--config", str(config), "--json"],
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PREFECT_HOME": str(prepare(config.with_name("prefect")))},
        )  # fmt: skip


def adapters(store: Store) -> dict[str, float]:
    """Adapter files by key, with their modification times."""
    return {path.parent.name: path.stat().st_mtime for path in store.root.glob("adapter/*/*/adapter_model.safetensors")}


def test_after_a_kill_in_the_middle_of_parametrization_only_the_missing_documents_are_trained(
    tmp_path: Path, settings: dict[str, Any]
):
    rows = [
        {"id": f"doc-{n}", "text": f"The Ostrel lamp number {n} was built in {1900 + n} by Greta Olmsted in Dunmere."}
        for n in range(8)
    ]
    settings["corpus"] = {"documents": write_jsonl(tmp_path / "docs.jsonl", rows)}
    settings["parametrize"]["epochs"] = 30  # long enough to be hit
    settings["evaluate"]["methods"] = ["prag"]  # no translator is needed
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    store = Store(settings["store"])

    process = start(config, tmp_path / "first.log")
    deadline = time.monotonic() + 240
    while len(adapters(store)) < 3:
        assert process.poll() is None, (tmp_path / "first.log").read_text()
        assert time.monotonic() < deadline, (tmp_path / "first.log").read_text()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = adapters(store)
    assert 3 <= len(finished) < 8, "the kill came too late to tell anything"
    for record in store.records():
        assert store.find(record.kind, record.key) is not None, f"{record.kind} {record.key} is damaged"

    second = start(config, tmp_path / "second.log")
    assert second.wait(timeout=240) == 0, (tmp_path / "second.log").read_text()
    after = adapters(store)
    assert len(after) == 8
    assert {key: after[key] for key in finished} == finished, "a finished adapter was written again"
    lines = (tmp_path / "second.log").read_text().splitlines()
    summaries = {s["stage"]: s for s in json.loads(next(line for line in lines if line.startswith("[")))}
    assert summaries["parametrize"] == {
        "stage": "parametrize", "done": 8, "cached": len(finished), "failed": 0, "waiting": 0, "partial": 0,
        "reason": "", "run_id": summaries["parametrize"]["run_id"], "note": "",
        "seconds": summaries["parametrize"]["seconds"],
    }  # fmt: skip
    assert summaries["augment"]["cached"] == 8

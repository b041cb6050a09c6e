"""The augmentation stage when it has to stop: budgets, keys, batches, and endpoints and runs that are killed."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm_server
import pytest
import yaml
from augment_flow import augment, query, through
from conftest import TEXTS, write_jsonl
from llm_server import Behaviour, LLMServer
from typer.testing import CliRunner

from dyprag.cli.main import app
from dyprag.config import PipelineConfig
from dyprag.storage.artifacts import Store
from dyprag.storage.journal import responses
from dyprag.storage.tables import read_product

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture(scope="module")
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture
def api(settings: dict[str, Any], server: LLMServer) -> dict[str, Any]:
    """The small corpus, augmented through the endpoint."""
    return through(server, settings)


def test_documents_wait_when_the_budget_is_exhausted_and_continue_when_it_is_raised(
    server: LLMServer, api: dict[str, Any]
):
    rows = [{"id": f"d{n}", "text": f"{TEXTS['lamp']} It has {n + 2} steps."} for n in range(8)]
    api["corpus"] = {"documents": write_jsonl(Path(api["store"]).parent / "docs.jsonl", rows)}
    api["augment"] |= {"max_new_tokens": 150}
    first = augment(api, max_tokens=3500, concurrency=2)
    assert first["failed"] == 0
    assert 0 < first["done"] < 8
    assert first["waiting"] == 8 - first["done"]
    assert "Raise the budget (augment.api.max_tokens" in first["reason"]
    waiting = query(api, "SELECT error FROM latest_work WHERE stage = 'augment' AND state = 'waiting'")
    assert all("max_tokens of 3,500" in row["error"] for row in waiting)
    assert sum(r.usage["total_tokens"] for r in server.requests) <= 3500
    seen = {request.digest for request in server.requests}
    before = len(server.requests)
    second = augment(api, max_tokens=100_000)
    assert (second["done"], second["waiting"], second["reason"]) == (8, 0, "")
    assert not seen & {request.digest for request in server.requests[before:]}


def test_a_rejected_api_key_ends_the_stage_at_once(server: LLMServer, api: dict[str, Any]):
    server.behaviour = Behaviour(key="right")
    rows = [{"id": f"d{n}", "text": f"{TEXTS['lamp']} It has {n + 2} steps."} for n in range(20)]
    api["corpus"] = {"documents": write_jsonl(Path(api["store"]).parent / "docs.jsonl", rows)}
    summary = augment(api, concurrency=1)
    assert (summary["done"], summary["failed"], summary["waiting"]) == (0, 0, 20)
    assert "it rejects the API key" in summary["reason"]
    path = Path(api["store"]).parent / "config.yaml"
    path.write_text(yaml.safe_dump(api))
    told = CliRunner().invoke(app, ["status", "-c", str(path)]).output
    assert re.search(r"\b20 +augment +the endpoint .+: it rejects the API key \(401\)", told)
    assert len(server.requests) == 1
    server.behaviour = Behaviour()
    assert augment(api, concurrency=1)["done"] == 20


def test_a_batch_is_submitted_by_one_run_and_fetched_by_the_next(server: LLMServer, api: dict[str, Any]):
    server.behaviour = Behaviour(batch_seconds=1.0)
    first = augment(api, batch=True)
    assert (first["done"], first["waiting"], first["failed"]) == (0, 3, 0)
    assert first["reason"] == ""
    time.sleep(1.5)
    second = augment(api, batch=True)
    assert (second["done"], second["waiting"]) == (3, 0)
    assert len(server.requests) == 6


def test_a_run_can_wait_for_a_batch_and_its_repairs(server: LLMServer, api: dict[str, Any], monkeypatch):
    monkeypatch.setattr("dyprag.flows.augment.POLL", 0.3)
    server.behaviour = Behaviour(batch_seconds=0.2, script=["not_json", "truncated_json", "500"])
    summary = augment(api, batch=True, batch_wait=60)
    assert (summary["done"], summary["waiting"], summary["failed"]) == (3, 0, 0)


def start_server(port: int) -> subprocess.Popen[bytes]:
    """Start the LLM service as a separate process that is listening on return."""
    command = [sys.executable, str(Path(llm_server.__file__)), "--port", str(port), "--latency", "0.3"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_if_the_endpoint_is_killed_and_restarted_no_response_is_lost_or_paid_twice(tmp_path: Path, api: dict[str, Any]):
    """Open requests break, connections are refused for a while, and a new process takes over."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rows = [{"id": f"d{n}", "text": f"{TEXTS['lamp']} It has {n + 2} steps."} for n in range(16)]
    api["corpus"] = {"documents": write_jsonl(tmp_path / "docs.jsonl", rows)}
    running = [start_server(port)]

    def kill_and_restart() -> None:
        while sum(1 for _ in responses(Store(api["store"]))) < 4:
            time.sleep(0.02)
        running[0].kill()
        running[0].wait()
        time.sleep(2)
        running.append(start_server(port))

    accident = threading.Thread(target=kill_and_restart, daemon=True)
    accident.start()
    try:
        summary = augment(api, base_url=f"http://127.0.0.1:{port}/v1", concurrency=4)
        accident.join(timeout=30)
        assert len(running) == 2
        assert (summary["done"], summary["failed"], summary["waiting"]) == (16, 0, 0)
        answers = [response.request for response in responses(Store(api["store"]))]
        assert len(answers) == len(set(answers)) == 32
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_after_random_kills_the_result_is_the_same_and_no_response_is_paid_twice(
    tmp_path: Path, server: LLMServer, api: dict[str, Any]
):
    rng, kills, concurrency = random.Random(0), 3, 4
    rows = [{"id": f"d{n}", "text": f"{TEXTS['lamp']} It has {n + 2} steps."} for n in range(60)]
    api["corpus"] = {"documents": write_jsonl(tmp_path / "docs.jsonl", rows)}
    api["augment"]["tries"] = 4
    api["augment"]["api"] |= {"concurrency": concurrency, "retries": 8}
    trouble = {"latency": 0.1, "rate_limited": 0.1, "server_error": 0.02, "not_json": 0.05, "retry_after": 0.05}
    augment({**api, "store": str(tmp_path / "whole")})
    server.behaviour = Behaviour(**trouble)
    server.reset()
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(api))
    from dyprag.flows.ingest import ingest

    ingest(PipelineConfig.model_validate(api))
    for _ in range(kills):
        before = len(server.requests)
        process = subprocess.Popen(
            [sys.executable, "-m", "dyprag.cli.main", "augment", "-c", str(path)], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while len(server.requests) < before + 5:
            assert process.poll() is None, "it ended before the kill"
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.7))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    summary = augment(api)
    assert (summary["done"], summary["failed"], summary["partial"]) == (60, 0, 0)
    assert server.stats()["repeated"] <= kills * concurrency
    assert items(Store(tmp_path / "whole")) == items(Store(api["store"]))


def items(store: Store) -> dict[str, Any]:
    """Accepted items of every product, by key."""
    found = {}
    for record in store.records():
        if record.kind in ("rewrites", "qa_pairs"):
            assert store.find(record.kind, record.key) == record
            found[record.key] = read_product(store.folder(record.kind, record.key)).items
    return found

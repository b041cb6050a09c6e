"""A real server, a real worker: every flow is deployed, and a run from the API does what the command does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dyprag.config import PipelineConfig
from storage.artifacts import Store

pytestmark = pytest.mark.prefect
ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, check: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.5)


class Server:
    """A Prefect server on loopback with a home of its own."""

    def __init__(self, home: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api"
        self.environment = {
            **os.environ, "PREFECT_HOME": str(home), "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_API_PORT": str(port), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        self.environment.pop("PREFECT_PROFILE", None)
        self.log = home / "server.log"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> None:
        with self.log.open("ab") as output:
            self.processes.append(subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments], cwd=ROOT, env=self.environment, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            ))  # fmt: skip

    def run(self, *arguments: str) -> str:
        process = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments], cwd=ROOT, env=self.environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode() if body is not None else None,
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def is_up(self) -> bool:
        try:
            return bool(self.api("/health"))
        except OSError:
            return False

    def stop(self) -> None:
        for process in self.processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("prefect"))
    server.start("server", "start")
    try:
        wait_for("the server", server.is_up)
        server.run("work-pool", "create", "dyprag", "--type", "process")
        server.run("--no-prompt", "deploy", "--all")
        yield server
    finally:
        server.stop()


def test_every_flow_is_a_deployment_whose_form_has_descriptions_and_defaults(server: Server):
    deployments = server.api("/deployments/filter", {})
    entrypoints = {deployment["entrypoint"] for deployment in deployments}
    declared = {d["entrypoint"] for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert entrypoints == declared
    assert len(declared) == 8
    schema = deployments[0]["parameter_openapi_schema"]
    definitions = schema["definitions"]
    settings = definitions["PipelineConfig"]["properties"]
    assert set(settings) == set(PipelineConfig.model_fields)
    for name, section in definitions.items():
        if name.endswith("Settings"):
            assert all(field.get("description") for field in section["properties"].values()), name
    assert definitions["LoraSettings"]["properties"]["rank"]["default"] == 2


def test_a_run_started_through_the_api_gives_the_artifacts_that_the_command_line_gives(
    server: Server, tmp_path: Path, settings: dict[str, Any]
):
    server.start("worker", "start", "--pool", "dyprag", "--type", "process")
    deployment = next(d for d in server.api("/deployments/filter", {}) if d["entrypoint"].endswith(":pipeline"))
    run = server.api(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": {"config": settings}})

    def ended() -> bool:
        return server.api(f"/flow_runs/{run['id']}")["state_type"] in ("COMPLETED", "FAILED", "CRASHED")

    wait_for("the flow run", ended, seconds=300)
    state = server.api(f"/flow_runs/{run['id']}")["state"]
    assert state["type"] == "COMPLETED", f"{state}\n{server.log.read_text()[-5000:]}"
    from_worker = {record.key: record.kind for record in Store(settings["store"]).records()}

    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**settings, "store": str(tmp_path / "other")}))
    command = subprocess.run(
        [sys.executable, "-m", "cli.main", "run", "--config", str(config)], cwd=ROOT, env=server.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert command.returncode == 0, command.stderr
    from_command = {record.key: record.kind for record in Store(tmp_path / "other").records()}
    assert from_worker == from_command

    names = {task["name"] for task in server.api("/task_runs/filter", {"limit": 200})}
    assert {"augment lamp", "parametrize bridge", "evaluate rag, questions 1 to 3"} <= names
    report = server.api("/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["report"]}}})[0]
    assert "vanilla" in report["data"]

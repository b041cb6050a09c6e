"""A Prefect server of a test's own: what deploys to it, or kills it, disturbs no other test."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from conftest import wait_for
from prefect_home import prepare

from dyprag.flows.own_server import watched

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A Prefect server on loopback with a home of its own, and what is told to a webhook."""

    def __init__(self, home: Path) -> None:
        prepare(home)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **os.environ, "PREFECT_HOME": str(home), "PREFECT_API_URL": self.url, "HF_HUB_OFFLINE": "1",
            "PREFECT_SERVER_API_PORT": str(self.port), "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2", "PREFECT_WORKER_QUERY_SECONDS": "2",
        }  # fmt: skip
        self.environment.pop("PREFECT_PROFILE", None)
        self.log = home / "server.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        told = self.told = []

        class Webhook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None: ...

        self.webhook = HTTPServer(("127.0.0.1", 0), Webhook)
        threading.Thread(target=self.webhook.serve_forever, daemon=True).start()

    def start(self, *arguments: str) -> None:
        with self.log.open("ab") as output:
            self.processes.append(watched(  # it ends with the tests, be they killed
                [sys.executable, "-m", "prefect", *arguments], cwd=ROOT, env=self.environment, stdout=output,
                stderr=subprocess.STDOUT,
            ))  # fmt: skip

    def deploy(self) -> str:
        """`make deploy`, with this environment's programs in place of those of .venv."""
        environment = {**self.environment, "PYTHONPATH": str(ROOT), "NOTIFY": self.hook, "VENV": "absent"}
        process = subprocess.run(
            ["make", "deploy", f"BIN={Path(sys.executable).parent}", "-o", "absent/.installed", "-e"], cwd=ROOT,
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout + process.stderr

    @property
    def hook(self) -> str:
        return f"http://127.0.0.1:{self.webhook.server_port}/a-secret"

    def api(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode() if body is not None else None,
            {"Content-Type": "application/json"},
            method=method,
        )
        for wait in (0.5, 1.0, 2.0, 4.0, 8.0):  # as Prefect's own client: a busy server on SQLite is locked at times
            try:
                return self._answer(request)
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
            time.sleep(wait)
        return self._answer(request)

    def _answer(self, request: urllib.request.Request) -> Any:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def is_up(self) -> bool:
        try:
            return bool(self.api("/health"))
        except OSError:
            return False

    def deployment(self, name: str) -> Any:
        return self.api(f"/deployments/name/{name}")

    def automations(self) -> dict[str, Any]:
        return {found["name"]: found for found in self.api("/automations/filter", {})}

    def stop(self) -> None:
        self.webhook.shutdown()
        for process in self.processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=3)
            with suppress(ProcessLookupError):  # what it started may be at work still
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def running(home: Path) -> Iterator[Server]:
    """A server that is up, and ends with the block."""
    server = Server(home)
    server.start("server", "start")
    try:
        wait_for("the server", server.is_up, 300)
        yield server
    finally:
        server.stop()

"""Starts a real vLLM, or another server of models, and ends it. VLLM names vLLM's program (`make test-vllm`)."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

VLLM = os.environ.get("VLLM", "")
needs_vllm = [
    pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(3000),
    pytest.mark.skipif(not VLLM, reason="VLLM does not name vLLM's program: make test-vllm"),
]  # fmt: skip


def environment() -> dict[str, str]:
    """Return the environment that vLLM needs on a CPU; it finds its compiler's tools beside its program."""
    return {
        "VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "PATH": f"{Path(VLLM).parent}:{os.environ['PATH']}",
    }  # fmt: skip


@dataclass
class ModelServer:
    """A server in its own process group."""

    command: list[str]
    port: int
    log: Path
    extra: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server; it appends to its log."""
        with self.log.open("a") as file:
            self.process = subprocess.Popen(
                self.command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **self.extra},
                start_new_session=True,
            )  # fmt: skip

    def wait(self, seconds: float = 600) -> None:
        """Wait until the server is healthy."""
        until = time.monotonic() + seconds
        while not self._is_healthy():
            assert self.process, "it was not started"
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < until, self.log.read_text()[-4000:]
            time.sleep(1)

    def _is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v1/models", timeout=5).status_code in (200, 401)  # 401: it wants a key
        except httpx.HTTPError:
            return False

    def end(self, by: signal.Signals = signal.SIGTERM) -> None:
        """End the server with all its processes."""
        assert self.process is not None
        os.killpg(self.process.pid, by)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)


@contextmanager
def running(command: list[str], port: int, log: Path, **extra: str) -> Iterator[ModelServer]:
    """Run a server; gives it once it is healthy."""
    server = ModelServer(command, port, log, extra)
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.end()

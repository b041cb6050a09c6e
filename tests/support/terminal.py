"""`dyprag COMMAND` on a terminal of its own, as a person runs it: Ctrl-C reaches all processes there, as it does."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from conftest import wait_for
from own_server import ROOT, Server
from prefect_home import prepare

CTRL_C = b"\x03"
PROGRAM = [sys.executable, "-m", "dyprag.cli.main"]


def environment(home: Path, server: Server | None) -> dict[str, str]:
    """For a command that uses a server, or starts one of its own."""
    own = {**os.environ, "PREFECT_HOME": str(prepare(home)), "PREFECT_PROFILES_PATH": str(home / "profiles.toml")}
    own.pop("PREFECT_API_URL", None)
    return {**(server.environment if server else own), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


class Terminal:
    """A command at work on a terminal.

    Args:
        words: what stands behind `dyprag`.
        home: of the Prefect server that it starts, where no server is given.
        site: a folder with a `sitecustomize.py`, which runs before all else.
    """

    def __init__(self, *words: str, home: Path, server: Server | None = None, site: Path | None = None) -> None:
        self._master, side = pty.openpty()
        self._written: list[bytes] = []
        self._descendants: list[psutil.Process] = []

        def controlled() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests that a shell runs in the background inherit SIG_IGN

        variables = environment(home, server)
        if site:
            variables["PYTHONPATH"] = f"{site}{os.pathsep}{variables['PYTHONPATH']}"
        self.process = subprocess.Popen(
            [*PROGRAM, *words], stdin=side, stdout=side, stderr=side, env=variables,
            start_new_session=True, preexec_fn=controlled,
        )  # fmt: skip
        os.close(side)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError):  # what a terminal's end is on Linux
            while data := os.read(self._master, 4096):
                self._written.append(data)

    @property
    def text(self) -> str:
        """What it has written, without line breaks, which a terminal puts anywhere."""
        return " ".join(b"".join(self._written).decode(errors="replace").split())

    def wait_until(self, what: str, there: Any, seconds: float = 120) -> None:
        """Wait, while it is at work."""
        wait_for(what, lambda: bool(there()) or self.process.poll() is not None, seconds)
        assert self.process.poll() is None, f"it ended before {what}: {self.text}"

    def send(self, signal: int | bytes) -> None:
        """Send a signal, or press a key."""
        own = psutil.Process(self.process.pid)
        self._descendants = own.children(recursive=True)
        if isinstance(signal, bytes):
            os.write(self._master, signal)
        else:
            self.process.send_signal(signal)

    def end(self, seconds: float = 300) -> tuple[int, float]:
        """Its exit code, and after how many seconds it ended."""
        began = time.monotonic()
        return self.process.wait(seconds), time.monotonic() - began

    def survivors(self, seconds: float = 8.0) -> list[str]:
        """Of what it had started when the signal came, what is there after some seconds."""
        _, alive = psutil.wait_procs(self._descendants, seconds)
        return [" ".join(process.cmdline()) for process in alive if process.status() != psutil.STATUS_ZOMBIE]

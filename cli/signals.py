"""Handle Ctrl-C and SIGTERM: a command stops within seconds, whatever it is doing, and prints what is kept.

The command runs in a thread while the main thread waits, so that a signal takes effect at once: Python runs handlers in
the main thread between two bytecode instructions, and a training step in PyTorch is one instruction. A command that
does not stop in time ends with the process. The store stays consistent because all writes to it are atomic.
"""

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from dyprag.runtime.interruption import interrupt

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
CLOSING = 1.5  # seconds to report killed work to the catalogue and Prefect
SAME = 0.3  # seconds within which a second signal is the same one, sent by the terminal and by a parent process


@dataclass
class Ending:
    """How a command ends: its message, the seconds it has to stop, and the function that asks it to."""

    message: str = "Interrupted. Run the same command again."
    grace: float = 2.0
    stop: Callable[[], None] = interrupt


_ending = Ending()
_heard: "queue.SimpleQueue[int | None]" = queue.SimpleQueue()  # reentrant: a signal handler may put
_listening = False
_first = 0.0


def end_like(message: str, grace: float = 2.0, stop: Callable[[], None] = interrupt) -> None:
    """Set how this command ends when it receives a signal."""
    global _ending
    _ending = Ending(message, grace, stop)


def run_and_listen(command: Callable[[], object]) -> object:
    """Run a command in a thread and listen for signals.

    Returns its result or raises its exception. After a signal, the process ends with exit code 128 + signal number.
    """
    global _listening
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and shells ignore signals for background jobs
            signal.signal(number, _hear)
    outcome: list[object] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(command())
        except BaseException as error:
            errors.append(error)
        finally:
            _heard.put(None)

    _listening = True
    threading.Thread(target=work, daemon=True, name="dyprag-command").start()
    if (number := _next()) is not None:
        _end(number)
    _listening = False
    if errors:
        raise errors[0]
    return outcome[0]


def _next() -> int | None:
    """Wait for a signal or for the end of the command.

    The main thread looks up now and then: the system may deliver a signal to another thread, and Python's handler runs
    only once the main thread executes Python again.
    """
    while True:
        with suppress(queue.Empty):
            return _heard.get(timeout=0.25)


def _hear(number: int, frame: object) -> None:
    """Handle a signal: the main thread acts on the first one, and a second one ends the process at once."""
    global _first
    if not _listening:  # the command has ended; only libraries are shutting down
        os._exit(128 + number)
    if not _first:
        _first = time.monotonic()
        _heard.put(number)
    elif time.monotonic() - _first > SAME:
        _restore_terminal()
        os._exit(128 + number)


def _end(number: int) -> NoReturn:
    with suppress(Exception):  # stderr may be closed
        print(_ending.message, file=sys.stderr, flush=True)
    _ending.stop()
    ended = False
    with suppress(queue.Empty):
        ended = _heard.get(timeout=_ending.grace) is None
    if (endings := sys.modules.get("dyprag.flows.endings")) is not None:
        (endings.send_rest if ended else endings.close_open)(CLOSING)
    _end_processes()
    _restore_terminal()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(128 + number)


def _end_processes() -> None:
    """End child processes: workers first, the Prefect server of this run last."""
    import psutil

    own = sys.modules.get("dyprag.flows.own_server")
    servers = {process.pid for process in own.own_servers()} if own else set()
    with suppress(psutil.Error):
        for process in psutil.Process().children(recursive=True):
            if process.pid not in servers:
                with suppress(psutil.Error):
                    process.kill()
    if own:
        own.end_own_servers()


def _restore_terminal() -> None:
    """Show the cursor again, which a progress bar hides."""
    with suppress(OSError):
        if os.isatty(2):
            os.write(2, b"\x1b[?25h")

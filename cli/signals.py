"""Ctrl-C and SIGTERM: a command is told to end, says what is kept, and ends in seconds, whatever it is at.

The command works in a thread, and the main thread does nothing but wait, so that a signal is acted on at once: Python
runs handlers in the main thread, between two of its own steps, and a training step in PyTorch is one. What does not end
by itself in time ends with the process; everything in a store is written whole or not at all.
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
CLOSING = 1.5  # seconds in which the catalogue and Prefect can be told of what is killed
SAME = 0.3  # seconds: a second signal so soon is the same one, sent by a terminal and by a program in between


@dataclass
class Ending:
    """How a command ends: what it says, how long it gets to end by itself, and what tells it to."""

    message: str = "Interrupted. Run the same command again."
    grace: float = 2.0
    stop: Callable[[], None] = interrupt


_ending = Ending()
_heard: "queue.SimpleQueue[int | None]" = queue.SimpleQueue()  # its put may be called within a signal handler
_listening = False
_first = 0.0


def end_like(message: str, grace: float = 2.0, stop: Callable[[], None] = interrupt) -> None:
    """Say how this command ends when it is told to."""
    global _ending
    _ending = Ending(message, grace, stop)


def run_and_listen(command: Callable[[], object]) -> object:
    """Run a command in a thread and listen for signals; gives what it gives or raises what it raises, unless a signal
    comes: then the process ends, with 128 and the signal's number as the exit code."""
    global _listening
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it, and a shell for what is in the background
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
    if (number := _heard.get()) is not None:
        _end(number)
    _listening = False
    if errors:
        raise errors[0]
    return outcome[0]


def _hear(number: int, frame: object) -> None:
    """A signal: the first is acted on by the main thread; at a second, the process ends."""
    global _first
    if not _listening:  # nothing is left to be done but to let libraries end
        os._exit(128 + number)
    if not _first:
        _first = time.monotonic()
        _heard.put(number)
    elif time.monotonic() - _first > SAME:
        _restore_terminal()
        os._exit(128 + number)


def _end(number: int) -> NoReturn:
    with suppress(Exception):  # nobody may be there to read it
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
    """End what this process has started: its workers at once, its own Prefect server last."""
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
    """A progress bar hides the cursor, and nobody is left to show it again."""
    with suppress(OSError):
        if os.isatty(2):
            os.write(2, b"\x1b[?25h")

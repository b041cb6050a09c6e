"""Interruption of work by Ctrl-C or SIGTERM, through a flag that work checks between its steps.

A thread cannot be stopped in the middle of a computation. Work that sees the flag raises `Interrupted`. This does not
count as a failure: the documents wait for the next run. Code that waits for something which never checks the flag, such
as a connection or another process, registers a callback with `on_interruption`.
"""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from dyprag.errors import Interrupted

Result = TypeVar("Result")
INTERRUPTED = Interrupted("this run", "it was interrupted", "Run the same command again to continue.")
_flag = threading.Event()
_callbacks: list[Callable[[], None]] = []
_lock = threading.RLock()
_passing = False  # whether the process continues, as after an interrupted notebook cell, and may run another flow


def interrupt(passing: bool = False) -> None:
    """Make all work of this process stop at its next step.

    Args:
        passing: the process itself continues, and `renew` may allow new work.
    """
    global _passing
    with _lock:
        if _flag.is_set():
            return
        _passing = passing
        _flag.set()
        callbacks = list(_callbacks)
    for callback in callbacks:
        with suppress(Exception):  # one failing callback must not prevent the others
            callback()


def renew() -> None:
    """Clear an earlier interruption before new work starts, if the process was to continue after it."""
    global _passing
    with _lock:
        if _passing:
            _flag.clear()
            _passing = False


def interrupted() -> bool:
    """Whether work must stop."""
    return _flag.is_set()


def for_good() -> bool:
    """Whether the process must stop as well."""
    return _flag.is_set() and not _passing


def check() -> None:
    """Raise Interrupted if work must stop."""
    if _flag.is_set():
        raise Interrupted(*INTERRUPTED.args)


def pause(seconds: float) -> None:
    """Sleep; raise Interrupted as soon as work must stop."""
    _flag.wait(seconds)
    check()


@contextmanager
def on_interruption(callback: Callable[[], None]) -> Iterator[None]:
    """Within this context, call `callback` from another thread when work must stop, or at once if it already must."""
    with _lock:
        _callbacks.append(callback)
        already_interrupted = _flag.is_set()
    try:
        if already_interrupted:
            callback()
        yield
    finally:
        with _lock:
            _callbacks.remove(callback)


async def until_interrupted(work: Awaitable[Result]) -> Result:
    """Await some work. On an interruption, cancel it and raise Interrupted."""
    import asyncio  # takes a tenth of a second, which most commands can save

    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)

    def cancel() -> None:
        loop.call_soon_threadsafe(task.cancel)

    with on_interruption(cancel):
        try:
            return await task
        except asyncio.CancelledError:
            check()
            raise

"""An end from outside (Ctrl-C, SIGTERM): a flag that work looks at between its steps, since nothing can break off a
thread in the midst of a computation.

Work that sees the flag raises `Interrupted`, which is nobody's failure: its documents wait for the next run. Whoever
waits for something that never looks (a connection, another process) is called: see `on_interruption`.
"""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from dyprag.errors import Interrupted

Result = TypeVar("Result")
INTERRUPTED = Interrupted("this run", "it was interrupted", "Run the same command again: it goes on from here.")
_flag = threading.Event()
_calls: list[Callable[[], None]] = []
_lock = threading.RLock()
_passing = False  # whether the process goes on: an interrupted cell of a notebook, which may run another flow


def interrupt(passing: bool = False) -> None:
    """Have all work of this process end at its next step.

    Args:
        passing: the process itself goes on, and `renew` may allow new work.
    """
    global _passing
    with _lock:
        if _flag.is_set():
            return
        _passing = passing
        _flag.set()
        calls = list(_calls)
    for call in calls:
        with suppress(Exception):  # the others are to be called, too
            call()


def renew() -> None:
    """New work begins: an interruption of earlier work, in a process that goes on, is no concern of it."""
    global _passing
    with _lock:
        if _passing:
            _flag.clear()
            _passing = False


def interrupted() -> bool:
    """Whether work is to end."""
    return _flag.is_set()


def for_good() -> bool:
    """Whether the process is to end, too."""
    return _flag.is_set() and not _passing


def check() -> None:
    """Go on, or raise Interrupted."""
    if _flag.is_set():
        raise Interrupted(*INTERRUPTED.args)


def pause(seconds: float) -> None:
    """Sleep; raises Interrupted as soon as work is to end."""
    _flag.wait(seconds)
    check()


@contextmanager
def on_interruption(call: Callable[[], None]) -> Iterator[None]:
    """Within it, `call` is called when work is to end, from another thread; at once where that is so already."""
    with _lock:
        _calls.append(call)
        late = _flag.is_set()
    try:
        if late:
            call()
        yield
    finally:
        with _lock:
            _calls.remove(call)


async def until_interrupted(work: Awaitable[Result]) -> Result:
    """Await some work, which is cancelled when work is to end; then Interrupted is raised."""
    import asyncio  # a tenth of a second, which a command that needs none has better use for

    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)

    def cancel() -> None:
        loop.call_soon_threadsafe(task.cancel)

    with on_interruption(cancel):
        try:
            return await task
        except asyncio.CancelledError:
            check()
            raise

"""How an interrupted run ends: its flow runs are marked as Cancelled, and the catalogue records what is finished.

Work that checks the interruption flag (`dyprag.runtime.interruption`) ends within a step, and its flows return
normally. Work that does not end in time is killed with the process; `close_open` records before that what it can.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from prefect import State
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import FlowRunContext, SettingsContext, get_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY
from prefect.states import Cancelled

from dyprag.errors import Interrupted
from dyprag.runtime import interruption

P = ParamSpec("P")
Made = TypeVar("Made")
MESSAGE = "Interrupted. Finished work is kept; a new run continues from here."


@dataclass(frozen=True)
class OpenRun:
    """A flow run that has not ended: its id, its server, and the settings needed to reach the server."""

    id: str
    server: str
    context: Context


_runs: list[OpenRun] = []
_notes: list[Callable[[], None]] = []


def interruptible(work: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """Let a flow's function end as Cancelled when its work is interrupted. Apply it below `@flow`."""

    @wraps(work)
    def run(*arguments: P.args, **named: P.kwargs) -> State[Any]:
        # Dask and Ray pickle this function by value, so it must not refer to anything that cannot be pickled
        with _registered(), stops_threads():
            try:
                interruption.check()
                state = work(*arguments, **named)
            except Interrupted:
                state = None
        return Cancelled(message=MESSAGE) if state is None or interruption.interrupted() else state

    return run


@contextmanager
def stops_threads() -> Iterator[None]:
    """If this thread is ended from outside (by Prefect's worker or a notebook's stop button), interrupt its working
    threads as well, because Prefect waits for them."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        interruption.interrupt(passing=True)
        raise


@contextmanager
def _registered() -> Iterator[None]:
    """Register this flow run for `close_open`."""
    if not _runs:
        interruption.renew()
    running = FlowRunContext.get()
    if running is None or running.flow_run is None:
        yield
        return
    open_run = OpenRun(str(running.flow_run.id), str(running.client.api_url), copy_context())
    _runs.append(open_run)
    try:
        yield
    finally:
        if not interruption.for_good():  # kept, as the process may have to end before the run's end is reported
            _runs.remove(open_run)


@contextmanager
def on_forced_exit(callback: Callable[[], None]) -> Iterator[None]:
    """Within this context, call `callback` if the process has to end."""
    _notes.append(callback)
    try:
        yield
    finally:
        _notes.remove(callback)


def close_open(seconds: float) -> None:
    """Report runs that are about to be killed to the catalogue and the Prefect server, within a time limit.

    The work's own thread may do the same at the same time, which is harmless. The server marks running tasks by itself.
    """
    _all_within(seconds, [*(partial(open_run.context.run, _cancel, open_run, seconds) for open_run in _runs), _write])


def send_rest(seconds: float) -> None:
    """Send Prefect's remaining events and log lines, as it does at interpreter exit."""
    _all_within(seconds, [partial(EventsWorker.drain_all, seconds), partial(APILogWorker.drain_all, seconds)])


def _all_within(seconds: float, calls: Sequence[Callable[[], Any]]) -> None:
    """Run calls at the same time; calls that exceed the time limit are abandoned."""
    threads = [threading.Thread(target=_ignoring_errors, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _write() -> None:
    for note in reversed(_notes):  # innermost first: outcomes of documents, then the end of their stage
        _ignoring_errors(note)


def _ignoring_errors(call: Callable[[], Any]) -> None:
    with suppress(Exception):
        call()


def _cancel(open_run: OpenRun, seconds: float) -> None:
    """Mark a flow run as Cancelled on the server, in one attempt. Uses a client of its own, since the run's may be
    in use."""
    context = get_settings_context()
    client_settings = context.settings.client.model_copy(update={"max_retries": 0})
    key, words = PREFECT_API_KEY.value(), PREFECT_API_AUTH_STRING.value()
    with SettingsContext(
        profile=context.profile, settings=context.settings.model_copy(update={"client": client_settings})
    ):
        with SyncPrefectClient(
            open_run.server, api_key=key, auth_string=words, httpx_settings={"timeout": seconds}
        ) as client:
            client.set_flow_run_state(open_run.id, Cancelled(message=MESSAGE), force=True)

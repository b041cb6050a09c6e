"""How a run ends that is told to end: its flow runs are marked as Cancelled, and the catalogue notes what there is.

Work that looks at the flag (`dyprag.runtime.interruption`) ends by itself within a step, and its flows return as
always. What does not end in time is killed with the process; `close_open` says before what can still be said.
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
MESSAGE = "Interrupted. What is finished is kept; a new run goes on from here."


@dataclass(frozen=True)
class OpenRun:
    """A flow run that has not ended: its id, the server that knows it, and the settings to reach that with."""

    id: str
    server: str
    context: Context


_runs: list[OpenRun] = []
_notes: list[Callable[[], None]] = []


def interruptible(work: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """The function of a flow, which ends as Cancelled where its work is interrupted; stands below `@flow`."""

    @wraps(work)
    def run(*arguments: P.args, **named: P.kwargs) -> State[Any]:
        # Dask and Ray pickle a flow with its tasks, this function by value: it may name nothing that cannot be
        with _known(), stops_threads():
            try:
                interruption.check()
                state = work(*arguments, **named)
            except Interrupted:
                state = None
        return Cancelled(message=MESSAGE) if state is None or interruption.interrupted() else state

    return run


@contextmanager
def stops_threads() -> Iterator[None]:
    """What ends this thread from outside (Prefect's worker, a notebook's stop button) ends those at work for it, too:
    Prefect waits for them."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        interruption.interrupt(passing=True)
        raise


@contextmanager
def _known() -> Iterator[None]:
    """Have `close_open` know the flow run that this is."""
    if not _runs:
        interruption.renew()
    running = FlowRunContext.get()
    if running is None or running.flow_run is None:
        yield
        return
    one = OpenRun(str(running.flow_run.id), str(running.client.api_url), copy_context())
    _runs.append(one)
    try:
        yield
    finally:
        if not interruption.for_good():  # its end may not be told before the process has to end
            _runs.remove(one)


@contextmanager
def noted(note: Callable[[], None]) -> Iterator[None]:
    """Within it, `note` is what is still to be written down where the process has to end."""
    _notes.append(note)
    try:
        yield
    finally:
        _notes.remove(note)


def close_open(seconds: float) -> None:
    """Tell the catalogue and the Prefect server of what is about to be killed; gives up after so many seconds.

    What is asked for here happens twice at worst, as the work's own thread may have got to it: neither minds. Tasks
    that are running the server marks by itself.
    """
    _all_within(seconds, [*(partial(one.context.run, _cancel, one, seconds) for one in _runs), _write])


def send_rest(seconds: float) -> None:
    """Let Prefect send what it would send when the interpreter exits: the last events and lines of the log."""
    _all_within(seconds, [partial(EventsWorker.drain_all, seconds), partial(APILogWorker.drain_all, seconds)])


def _all_within(seconds: float, calls: Sequence[Callable[[], Any]]) -> None:
    """Make calls at the same time; those that take longer are left alone."""
    threads = [threading.Thread(target=_quietly, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _write() -> None:
    for note in reversed(_notes):  # the innermost first: what became of documents, then how their stage ended
        _quietly(note)


def _quietly(call: Callable[[], Any]) -> None:
    with suppress(Exception):
        call()


def _cancel(one: OpenRun, seconds: float) -> None:
    """Have the server mark a flow run, in one try: a client of one's own, since the run's may be in use."""
    now = get_settings_context()
    once = now.settings.client.model_copy(update={"max_retries": 0})
    key, words = PREFECT_API_KEY.value(), PREFECT_API_AUTH_STRING.value()
    with SettingsContext(profile=now.profile, settings=now.settings.model_copy(update={"client": once})):
        with SyncPrefectClient(
            one.server, api_key=key, auth_string=words, httpx_settings={"timeout": seconds}
        ) as client:
            client.set_flow_run_state(one.id, Cancelled(message=MESSAGE), force=True)

"""The progress of a stage: a bar on a terminal, a log line every half minute elsewhere, a progress artifact in the
Prefect UI, and a line on the page of the pipeline that the stage belongs to.

Between the ends of documents, the steps of the computation advance it (`dyprag.runtime.progress`), except with other
processes (`run.runner`). Progress is shown by a thread of its own, so that it can neither fail nor delay the work.
"""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field

from dyprag.config.stages import spec_of
from dyprag.runtime.progress import latest_note, under_way
from dyprag.tasks.ui import progress

logger = logging.getLogger("dyprag.flows")
LINE_EVERY = 30.0  # seconds between two log lines
MOVE_EVERY = 3.0  # seconds between two updates of the artifact
LOOK_EVERY = 0.5  # seconds between two measurements
WINDOW = 120.0  # seconds over which the rate is averaged, or a third of the elapsed time if that is more

watcher: ContextVar[Callable[[str], None] | None] = ContextVar(
    "watcher", default=None
)  # receives a stage's progress as a text


def counted(count: int, unit: str) -> str:
    """A count with its unit, in the plural if needed."""
    return f"{count:,} {unit}{'s' * (count != 1)}"


@dataclass
class _Meter:
    """The progress of a stage.

    Attributes:
        total: Number of units; 0 if it is not known.
        done: Units that have ended, including failed ones.
        resumed: Share that earlier, stopped work had done.
    """

    name: str
    total: int
    done: int = 0
    failed: int = 0
    share: float = 0.0
    resumed: float = 0.0
    note: str = ""
    began: float = field(default_factory=time.monotonic)
    _seen: deque[tuple[float, float]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._seen.append((self.began, 0.0))

    def update(self) -> None:
        """Read the progress of running work. Work that has ended but is not recorded yet still counts, so the share
        never falls."""
        now, parts = time.monotonic(), under_way()
        if not self.total:
            self.done = max(self.done, int(sum(part.counted for part in parts)))
            return
        in_progress = sum(part.units * part.share for part in parts)
        self.resumed = sum(part.units * part.resumed for part in parts) / self.total
        self.share = max(self.share, min(1.0, (self.done + in_progress) / self.total))
        self.note = latest_note(self.began)
        self._seen.append((now, self.share))
        while len(self._seen) > 2 and self._seen[1][0] < now - max(WINDOW, (now - self.began) / 3):
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Recent units per second; 0 before any progress."""
        (then, before), (now, share) = self._seen[0], self._seen[-1]
        before = max(before, self.resumed)
        return (share - before) * self.total / (now - then) if now - then > 1 and share > before else 0.0

    @property
    def left(self) -> float | None:
        """Estimated seconds left; None if there is no rate yet."""
        return (1 - self.share) * self.total / self.rate if self.rate else None

    @property
    def unit(self) -> str:
        return spec_of(self.name).unit

    def __str__(self) -> str:
        if not self.total:
            return f"{counted(self.done, self.unit)} {spec_of(self.name).task}"
        parts = [f"{self.done:,} of {counted(self.total, self.unit)}"] if self.total > 1 or not self.note else []
        parts += [f"{self.failed:,} failed"] if self.failed else []
        parts += [f"{100 * self.share:.0f} %"]
        parts += [self.note] if self.note else []
        if self.rate and self.total > 1:
            parts.append(f"{self.rate:.1f} a second" if self.rate > 1 else f"{60 * self.rate:.1f} a minute")
        if self.left is not None:
            parts.append(f"{span(self.left)} left")
        return ", ".join(parts)

    @property
    def ended(self) -> str:
        """The final text."""
        lost = f", {self.failed:,} failed" if self.failed else ""
        if self.total == 1 and self.note:
            return f"{self.note}, in {span(time.monotonic() - self.began)}{lost}"
        of = f"{self.done:,} of " if self.total else ""
        return f"{of}{counted(self.total or self.done, self.unit)} in {span(time.monotonic() - self.began)}{lost}"


@contextmanager
def stage_progress(name: str, total: int | None, found: int = 0) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a stage. Yields a function that takes the number of ended units and how many of them failed.

    Args:
        name: The stage's name.
        total: Number of units to work on; None if it is not known. With 0, nothing is shown.
        found: Number of units whose artifacts exist already.
    """
    if total == 0:
        yield lambda count, failed: None
        return
    meter = _Meter(name, total or 0)
    if total:
        cached = f", {found:,} cached" if found else ""
        logger.info("%s: %s %s%s", name, counted(total, meter.unit), spec_of(name).task, cached)
    update_artifact = progress(f"{name}: started", f"{name}-progress") if total else lambda percent, text: None
    finished = threading.Event()
    thread = threading.Thread(
        target=copy_context().run, args=(_show, meter, update_artifact, finished), daemon=True, name="dyprag-progress"
    )
    thread.start()

    def advance(count: int, failed: int) -> None:
        meter.done, meter.failed = meter.done + count, meter.failed + failed

    completed = False
    try:
        yield advance
        completed = True
    finally:
        finished.set()
        thread.join(timeout=2)  # a call to the server may be in progress
        if completed and meter.total:
            update_artifact(100 * meter.done / meter.total, f"{name}: {meter.ended}")


def _show(meter: _Meter, update_artifact: Callable[[float, str], None], finished: threading.Event) -> None:
    """Update and show a meter until the stage is finished."""
    logged = published = time.monotonic()
    notify = watcher.get()
    with _bar(meter) as draw:
        while not finished.wait(LOOK_EVERY):
            meter.update()
            now, text = time.monotonic(), f"{meter.name}: {meter}"
            if draw:
                draw(text)
            elif now - logged >= LINE_EVERY:
                logged = now
                logger.info("%s", text)
            if now - published >= MOVE_EVERY:
                published = now
                update_artifact(round(100 * meter.share, 1), text)
                if notify:
                    notify(text)
        meter.update()  # the final state


@contextmanager
def _bar(meter: _Meter) -> Iterator[Callable[[str], None] | None]:
    """A progress bar if stderr is a terminal. Yields the function that draws it, or None. Log lines appear above it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        row = bar.add_task(meter.name, total=1.0 if meter.total else None)

        def draw(text: str) -> None:
            bar.update(row, completed=meter.share, description=text, refresh=True)

        yield draw


def span(seconds: float) -> str:
    """A duration in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

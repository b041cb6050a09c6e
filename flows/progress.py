"""How far a stage is, while it works: a bar on a terminal; in a log, a service's journal and CI a line every half
minute; and in the Prefect UI a progress artifact, and a line on the page of the pipeline that the stage belongs to.

Between two documents that end, the steps of the computation move it (`dyprag.runtime.progress`), those of other
processes (`run.runner`) excepted. None of this may fail the work, or hold it up: it is shown by a thread of its own.
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
from dyprag.tasks.telling import progress

logger = logging.getLogger("dyprag.flows")
LINE_EVERY = 30.0  # seconds between two lines of a log
MOVE_EVERY = 3.0  # between two moves of an artifact
LOOK_EVERY = 0.5  # between two looks at how far it is
WINDOW = 120.0  # seconds over which the rate is taken, or a third of all where that is more

watcher: ContextVar[Callable[[str], None] | None] = ContextVar("watcher", default=None)  # told how far a stage is


def counted(count: int, unit: str) -> str:
    """A number of units, in words."""
    return f"{count:,} {unit}{'s' * (count != 1)}"


@dataclass
class _Meter:
    """How far a stage is: units in all (0: nobody knows), those that ended, and how many of these failed."""

    name: str
    total: int
    done: int = 0
    failed: int = 0
    share: float = 0.0
    note: str = ""
    began: float = field(default_factory=time.monotonic)
    _seen: deque[tuple[float, float]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._seen.append((self.began, 0.0))

    def look(self) -> None:
        """Take up what the work under way has done. What has ended but is not recorded yet counts on: the share never
        falls."""
        now, parts = time.monotonic(), under_way()
        if not self.total:
            self.done = max(self.done, int(sum(part.counted for part in parts)))
            return
        partly = sum(part.units * part.share for part in parts)
        self.share = max(self.share, min(1.0, (self.done + partly) / self.total))
        self.note = latest_note(self.began)
        self._seen.append((now, self.share))
        while len(self._seen) > 2 and self._seen[1][0] < now - max(WINDOW, (now - self.began) / 3):
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Units a second, of late; 0 where nothing has moved yet."""
        (then, before), (now, share) = self._seen[0], self._seen[-1]
        return (share - before) * self.total / (now - then) if now - then > 1 and share > before else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to go at that rate; None where there is none."""
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
        """What there is to say in the end."""
        lost = f", {self.failed:,} failed" if self.failed else ""
        if self.total == 1 and self.note:
            return f"{self.note}, in {span(time.monotonic() - self.began)}{lost}"
        of = f"{self.done:,} of " if self.total else ""
        return f"{of}{counted(self.total or self.done, self.unit)} in {span(time.monotonic() - self.began)}{lost}"


@contextmanager
def stage_progress(name: str, total: int | None, found: int = 0) -> Iterator[Callable[[int, int], None]]:
    """Show how far a stage is; gives what is called with how many units ended and how many of these failed.

    Args:
        name: the stage's.
        total: units to be worked on; None where nobody knows. Of none, nothing is shown.
        found: units that were found made.
    """
    if total == 0:
        yield lambda count, failed: None
        return
    meter = _Meter(name, total or 0)
    if total:
        there = f", {found:,} found" if found else ""
        logger.info("%s: %s %s%s", name, counted(total, meter.unit), spec_of(name).task, there)
    move = progress(f"{name}: begun", f"{name}-progress") if total else lambda percent, text: None
    over = threading.Event()
    shown = threading.Thread(
        target=copy_context().run, args=(_show, meter, move, over), daemon=True, name="dyprag-progress"
    )
    shown.start()

    def advance(count: int, failed: int) -> None:
        meter.done, meter.failed = meter.done + count, meter.failed + failed

    whole = False
    try:
        yield advance
        whole = True
    finally:
        over.set()
        shown.join(timeout=2)  # a call to the server may be under way
        if whole and meter.total:
            move(100 * meter.done / meter.total, f"{name}: {meter.ended}")


def _show(meter: _Meter, move: Callable[[float, str], None], over: threading.Event) -> None:
    """Look at a meter now and then, and show it, until it is over."""
    told = moved = time.monotonic()
    tell = watcher.get()
    with _bar(meter) as draw:
        while not over.wait(LOOK_EVERY):
            meter.look()
            now, text = time.monotonic(), f"{meter.name}: {meter}"
            if draw:
                draw(text)
            elif now - told >= LINE_EVERY:
                told = now
                logger.info("%s", text)
            if now - moved >= MOVE_EVERY:
                moved = now
                move(round(100 * meter.share, 1), text)
                if tell:
                    tell(text)
        meter.look()  # what it ends with


@contextmanager
def _bar(meter: _Meter) -> Iterator[Callable[[str], None] | None]:
    """A bar where a person watches a terminal; gives what draws it, or None. Lines that are logged go above it."""
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
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

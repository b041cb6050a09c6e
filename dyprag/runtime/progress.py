"""Progress of the computations in this process: computations count their steps, and a display polls the counts.

A unit of work (a document, a question) may take minutes, and units that are computed together finish together. In
between, only the steps of the computation show its progress. Counting a step costs one addition.
"""

import itertools
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Part:
    """A running computation: its number of units, the share that is done, and a note to display.

    `counted` is the number of steps so far, for work of unknown size. `resumed` is the share that an earlier, stopped
    computation had done, which says nothing about the speed of this one.
    """

    def __init__(self, units: float) -> None:
        self.units, self.share, self.note, self.counted = units, 0.0, "", 0.0
        self.began, self.resumed = time.monotonic(), 0.0
        self._end, self._step = 0.0, 0.0

    def phase(self, share: float, steps: float) -> None:
        """End the current phase and begin the next one, which takes this share of the whole and has so many steps."""
        self.share = self._end
        self._end = min(1.0, self._end + share)
        self._step = (self._end - self.share) / max(1.0, steps)

    def advance(self, steps: float = 1.0) -> None:
        """Count steps of the current phase as done."""
        self.counted += steps
        self.share = min(self._end, self.share + steps * self._step)


_under_way: dict[int, Part] = {}  # single dictionary operations are atomic
_recent: deque[Part] = deque(maxlen=16)  # a short computation may end before the display polls
_numbers = itertools.count()
_current: ContextVar[Part | None] = ContextVar("part", default=None)


@contextmanager
def part(units: float, steps: float | None = None) -> Iterator[Part]:
    """Register a computation of so many units of work. Without `steps`, its phases define their numbers of steps.

    Code within this context counts steps with `advance`, on any thread that the context is copied to. A nested
    computation is not reported, because the outer one counts its own steps.
    """
    computation, number = Part(units), next(_numbers)
    if steps is not None:
        computation.phase(1.0, steps)
    nested = _current.get() is not None
    token = _current.set(computation)
    if not nested:
        _under_way[number] = computation
        _recent.append(computation)
    try:
        yield computation
    finally:
        _current.reset(token)
        _under_way.pop(number, None)


def advance(steps: float = 1.0) -> None:
    """Count steps of the caller's computation, if there is one."""
    if current := _current.get():
        current.advance(steps)


def phase(share: float, steps: float) -> None:
    """Begin a phase of the caller's computation, if there is one; see `Part.phase`."""
    if current := _current.get():
        current.phase(share, steps)


def under_way() -> list[Part]:
    """Return the running computations of this process."""
    return list(_under_way.values())


def latest_note(since: float) -> str:
    """Return the most recent note of the computations that began after a time of the monotonic clock."""
    return next((part.note for part in reversed(list(_recent)) if part.note and part.began >= since), "")

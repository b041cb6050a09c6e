"""How far the work under way in this process is: who computes counts its steps, who shows them asks now and then.

A unit of work (a document, a question) may take minutes, and units that are computed together end together; between
their ends only the steps of the computation tell how far it is. To count one costs an addition.
"""

import itertools
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Part:
    """A computation under way: of how many units it is, which share of it is done, and what there is to say of it.

    `counted` is the number of steps so far, for work of which nobody knows how much there is.
    """

    def __init__(self, units: float) -> None:
        self.units, self.share, self.note, self.counted = units, 0.0, "", 0.0
        self.began = time.monotonic()
        self._end, self._step = 0.0, 0.0

    def phase(self, share: float, steps: float) -> None:
        """Begin the next phase, which makes up this share of the whole, in so many steps; the one before is over."""
        self.share = self._end
        self._end = min(1.0, self._end + share)
        self._step = (self._end - self.share) / max(1.0, steps)

    def advance(self, steps: float = 1.0) -> None:
        """Some more steps of this phase are done."""
        self.counted += steps
        self.share = min(self._end, self.share + steps * self._step)


_under_way: dict[int, Part] = {}  # one operation on a dictionary is never seen half done
_recent: deque[Part] = deque(maxlen=16)  # a short one may be over before anybody has looked
_numbers = itertools.count()
_current: ContextVar[Part | None] = ContextVar("part", default=None)


@contextmanager
def part(units: float, steps: float | None = None) -> Iterator[Part]:
    """A computation of so many units of work, in so many steps; without a number of steps its phases say theirs.

    What is called within it counts its steps on it by `advance`, on whatever thread the context is copied to. One
    within another counts for nothing: the outer one knows what its steps are.
    """
    made, number = Part(units), next(_numbers)
    if steps is not None:
        made.phase(1.0, steps)
    inner = _current.get() is not None
    token = _current.set(made)
    if not inner:
        _under_way[number] = made
        _recent.append(made)
    try:
        yield made
    finally:
        _current.reset(token)
        _under_way.pop(number, None)


def advance(steps: float = 1.0) -> None:
    """Count steps on the computation that the caller belongs to, if it belongs to one."""
    if current := _current.get():
        current.advance(steps)


def phase(share: float, steps: float) -> None:
    """Begin a phase of the computation that the caller belongs to; see `Part.phase`."""
    if current := _current.get():
        current.phase(share, steps)


def under_way() -> list[Part]:
    """The computations of this process that have begun and not ended."""
    return list(_under_way.values())


def latest_note(since: float) -> str:
    """What the last computation that had something to say said, of those that began after a time of the clock."""
    return next((part.note for part in reversed(list(_recent)) if part.note and part.began >= since), "")

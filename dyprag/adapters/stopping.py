"""When an answer ends before the limit of tokens, and whether it only repeats itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

LONGEST_PERIOD = 24  # tokens of a phrase that is said again and again
TIMES = 3


@dataclass(frozen=True)
class Ends:
    """What ends a row: one of these tokens, which is no part of it, or a function of its ids."""

    tokens: set[int]
    stop: Callable[[Sequence[int]], bool] | None

    def after(self, ids: Sequence[int]) -> bool:
        return self.stop is not None and self.stop(ids)


def repeats(ids: Sequence[int]) -> bool:
    """Whether an answer has begun to say one phrase over and over: its last tokens, at least twelve, are the
    same phrase three times in a row or more. Greedy decoding does not leave such a loop, so nothing new would come."""
    size = len(ids)
    for period in range(1, min(LONGEST_PERIOD, size // TIMES) + 1):
        span = max(TIMES, -(-12 // period)) * period  # a short phrase more often: "1, 1, 1" may be an answer
        if span <= size and all(ids[at] == ids[at - period] for at in range(size - span + period, size)):
            return True
    return False

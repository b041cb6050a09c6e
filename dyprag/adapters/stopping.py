"""Stopping rules: when an answer ends before the token limit, and the detection of endless repetition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

LONGEST_PERIOD = 24  # tokens of a repeated phrase
TIMES = 3


@dataclass(frozen=True)
class Ends:
    """What ends a row: one of `tokens`, which is not part of the answer, or `stop` returning True for its ids."""

    tokens: set[int]
    stop: Callable[[Sequence[int]], bool] | None

    def after(self, ids: Sequence[int]) -> bool:
        """Whether `stop` ends a row with these ids."""
        return self.stop is not None and self.stop(ids)


def repeats(ids: Sequence[int]) -> bool:
    """Whether an answer repeats one phrase: its last twelve or more tokens are the same phrase at least three times.

    Greedy decoding does not leave such a loop, so nothing new would follow.
    """
    size = len(ids)
    for period in range(1, min(LONGEST_PERIOD, size // TIMES) + 1):
        span = max(TIMES, -(-12 // period)) * period  # short phrases need more repetitions: "1, 1, 1" may be an answer
        if span <= size and all(ids[at] == ids[at - period] for at in range(size - span + period, size)):
            return True
    return False

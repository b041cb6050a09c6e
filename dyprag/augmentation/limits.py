"""What keeps requests within bounds: rates, a budget, and a breaker for an endpoint that is down."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from aiolimiter import AsyncLimiter

from dyprag.augmentation.products import Response
from dyprag.config import ApiSettings, Price
from dyprag.errors import Stopped

logger = logging.getLogger("dyprag.augmentation")
BURST = 1.0  # seconds whose share of a limit may be used at once
FAULTS_TO_OPEN = 5  # in a row, of any requests


class Rate:
    """Requests or tokens a minute, by a token bucket. An amount that exceeds the bucket is taken in parts."""

    def __init__(self, per_minute: float | None, workers: int) -> None:
        self._bucket = None
        if per_minute is not None:
            per_second = per_minute / workers / 60
            self._size = max(1.0, per_second * BURST)
            self._bucket = AsyncLimiter(self._size, self._size / per_second)
            self._turn = asyncio.Lock()  # first come, first served: the bucket itself prefers small amounts

    async def take(self, amount: float = 1.0) -> None:
        """Wait until so much may be used."""
        if self._bucket is None or amount <= 0:
            return
        async with self._turn:
            while amount > 0:
                part = min(amount, self._size)
                await self._bucket.acquire(part)
                amount -= part


class Slots:
    """Requests in flight: as many as are allowed, and fewer where the endpoint does not answer so many in time.

    A timeout while more than one is in flight halves them, once for all that were sent before; answers then give one
    more for each time that all of them came.

    Args:
        most: requests that may be in flight.
        timeout: seconds after which a request is over; for what is logged.
    """

    def __init__(self, most: int, timeout: float) -> None:
        self.most = self.allowed = most
        self._timeout, self._halved, self._answered = timeout, float("-inf"), 0
        self.taken = 0
        self._free = asyncio.Condition()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it."""
        async with self._free:
            await self._free.wait_for(lambda: self.taken < self.allowed)
            self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1  # at once, whatever cancels the rest
            async with self._free:
                self._free.notify_all()

    def answered(self) -> None:
        """A request has been answered in time."""
        self._answered += 1
        if self.allowed < self.most and self._answered >= self.allowed:
            self.allowed, self._answered = self.allowed + 1, 0

    def timed_out(self, sent: float) -> None:
        """A request that was sent at this time (monotonic) has not been answered in time."""
        if sent <= self._halved or self.allowed == 1:
            return
        logger.warning(
            "No answer within %.0f s (augment.api.timeout) with %d requests in flight: at most %d from now on.",
            self._timeout, self.taken, max(1, min(self.allowed, self.taken) // 2),
        )  # fmt: skip
        self.allowed = max(1, min(self.allowed, self.taken) // 2)
        self._halved, self._answered = time.monotonic(), 0


class Budget:
    """Tokens and money that may be spent over all runs. What a request could take at most is set aside before it is
    sent, so that the limit holds whatever the answers are.

    Args:
        spent: tokens in and out by all models so far, and the money that they cost at today's prices.
    """

    def __init__(self, settings: ApiSettings, spent: tuple[int, float]) -> None:
        self._max_tokens, self._max_cost = settings.max_tokens, settings.max_cost
        self._price = settings.prices.get(settings.model)
        self._workers = settings.workers
        self._before, self._own = spent, (0, 0.0)
        self._aside = (0, 0.0)
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def set_aside(self, tokens_in: int, tokens_out: int) -> AsyncIterator[Callable[[Response], None]]:
        """Set aside what a request could take; the function that it gives is told what it took.

        Raises:
            Stopped: the budget does not allow it, whatever the requests in flight will leave of it.
        """
        most = (tokens_in + tokens_out, cost(self._price, tokens_in, tokens_out) or 0.0)
        async with self._changed:
            while not self._allows(most):
                if self._aside[0] == 0:
                    raise self._spent()
                await self._changed.wait()
            self._aside = (self._aside[0] + most[0], self._aside[1] + most[1])

        try:
            yield self.count
        finally:
            async with self._changed:
                self._aside = (self._aside[0] - most[0], self._aside[1] - most[1])
                self._changed.notify_all()

    def count(self, response: Response) -> None:
        """An answer has come and what it took is spent."""
        self._own = (self._own[0] + response.tokens_in + response.tokens_out, self._own[1] + (response.cost or 0.0))

    def allows(self, tokens_in: int, tokens_out: int) -> bool:
        """Whether so much may be spent beside what is set aside."""
        return self._allows((tokens_in + tokens_out, cost(self._price, tokens_in, tokens_out) or 0.0))

    def _allows(self, most: tuple[int, float]) -> bool:
        for limit, before, own, aside, more in zip(
            (self._max_tokens, self._max_cost), self._before, self._own, self._aside, most, strict=True
        ):
            if limit is not None and own + aside + more > max(0, limit - before) / self._workers:
                return False
        return True

    def _spent(self) -> Stopped:
        tokens, money = (before + own for before, own in zip(self._before, self._own, strict=True))
        limits = [f"max_tokens of {self._max_tokens:,}"] if self._max_tokens is not None else []
        limits += [f"max_cost of {self._max_cost:g}"] if self._max_cost is not None else []
        return Stopped(
            f"budget {' and '.join(limits)}",
            f"{tokens:,} tokens" + (f" for {money:.4g}" if self._price else "") + " are spent on this store, and the "
            "next request might exceed it",
            "Raise the budget (augment.api.max_tokens, augment.api.max_cost) and run again to continue.",
        )


class Breaker:
    """Holds requests back while an endpoint is down: after some faults in a row one request at a time is let through,
    at growing distances, until one is answered or patience ends.

    Args:
        give_up_after: seconds without an answer after which nobody waits any longer.
        name: of the endpoint, as it is told of.
    """

    def __init__(
        self, give_up_after: float, first_pause: float = 1.0, longest_pause: float = 30.0, name: str = "the endpoint"
    ) -> None:
        self._give_up_after, self._first_pause, self._longest = give_up_after, first_pause, longest_pause
        self._name, self._last = name, ""
        self._faults, self._pause, self._down_since = 0, first_pause, 0.0
        self._faulted: set[str] = set()
        self.open = False  # whether the endpoint counts as down
        self._probe = asyncio.Lock()

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Let a request through at once, or, where the endpoint is down, as the one that tries it.

        Raises:
            Stopped: it has been down for too long.
        """
        if not self.open:
            yield
            return
        async with self._probe:
            if self.open:
                left = self._down_since + self._give_up_after - time.monotonic()
                if left <= 0:
                    last = self._last and f" ({self._last})"
                    raise Stopped(
                        self._name, f"it has not answered for {self._give_up_after:.0f} seconds{last}",
                        "Run again when it is up; answers received so far are kept.",
                    )  # fmt: skip
                await asyncio.sleep(min(self._pause, left))
                self._pause = min(2 * self._pause, self._longest)
                yield
                return
        yield

    def answered(self) -> None:
        """The endpoint has answered a request, be it with a refusal."""
        self._faults, self._pause = 0, self._first_pause
        self._faulted.clear()
        self.open = False

    def faulted(self, request: str, reason: str = "", unreached: bool = False) -> None:
        """It has not answered this request, or with an error of its own.

        Args:
            unreached: no connection came about. Otherwise one request alone can be what the endpoint fails at.
        """
        self._faults += 1
        self._faulted.add(request)
        self._last = reason
        if self._faults >= FAULTS_TO_OPEN and (unreached or len(self._faulted) > 1) and not self.open:
            self._down_since = time.monotonic()
            self.open = True
            logger.warning(
                "%s does not answer%s. It is asked again, one request at a time, for up to %.0f s.",
                self._name[0].upper() + self._name[1:], reason and f" ({reason})", self._give_up_after,
            )  # fmt: skip


def cost(price: Price | None, tokens_in: int, tokens_out: int) -> float | None:
    """What tokens cost; None without a price."""
    return None if price is None else (tokens_in * price.input + tokens_out * price.output) / 1e6


def spent_before(api: ApiSettings, tokens: Mapping[str, tuple[int, int]]) -> tuple[int, float]:
    """Tokens, and money, that were spent, from each model's tokens in and out; one without a price costs nothing."""
    money = sum(cost(api.prices.get(model), *used) or 0.0 for model, used in tokens.items())
    return sum(sum(used) for used in tokens.values()), money

"""Limits on requests: rates, concurrency, a budget, and a circuit breaker for an endpoint that is down."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from aiolimiter import AsyncLimiter

from dyprag.config import ApiSettings, Price
from dyprag.corpora.products import Response
from dyprag.errors import Stopped

logger = logging.getLogger("dyprag.augmentation")
BURST = 1.0  # seconds of a rate that may be used at once
FAULTS_TO_OPEN = 5  # consecutive failures of any requests


class Rate:
    """A token bucket for requests or tokens per minute. Amounts beyond the bucket's size are taken in parts."""

    def __init__(self, per_minute: float | None, workers: int) -> None:
        self._bucket = None
        if per_minute is not None:
            per_second = per_minute / workers / 60
            self._size = max(1.0, per_second * BURST)
            self._bucket = AsyncLimiter(self._size, self._size / per_second)
            self._turn = asyncio.Lock()  # first come, first served; the bucket alone would prefer small amounts

    async def take(self, amount: float = 1.0) -> None:
        """Wait until the amount is available."""
        if self._bucket is None or amount <= 0:
            return
        async with self._turn:
            while amount > 0:
                part = min(amount, self._size)
                await self._bucket.acquire(part)
                amount -= part


class Slots:
    """Slots for requests in flight, fewer while the endpoint does not answer them in time.

    A timeout with several requests in flight halves the slots, once for all requests sent before. Each full round of
    answers then adds a slot.

    Args:
        most: maximum requests in flight.
        timeout: the timeout of a request in seconds, for log messages.
    """

    def __init__(self, most: int, timeout: float) -> None:
        self.most = self.allowed = most
        self._timeout, self._halved, self._answered = timeout, float("-inf"), 0
        self.taken = 0
        self._free = asyncio.Condition()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it."""
        async with self._free:
            await self._free.wait_for(lambda: self.taken < self.allowed)
            self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1  # before the await, which may be cancelled
            async with self._free:
                self._free.notify_all()

    def answered(self) -> None:
        """Note that a request was answered in time."""
        self._answered += 1
        if self.allowed < self.most and self._answered >= self.allowed:
            self.allowed, self._answered = self.allowed + 1, 0

    def timed_out(self, sent: float) -> None:
        """Note that a request sent at this (monotonic) time was not answered in time."""
        if sent <= self._halved or self.allowed == 1:
            return
        logger.warning(
            "No answer within %.0f s (augment.api.timeout) with %d requests in flight; reducing to %d.",
            self._timeout, self.taken, max(1, min(self.allowed, self.taken) // 2),
        )  # fmt: skip
        self.allowed = max(1, min(self.allowed, self.taken) // 2)
        self._halved, self._answered = time.monotonic(), 0


class Budget:
    """Limits on tokens and money over all runs.

    The maximum usage of a request is reserved before it is sent, so that the limits hold for any answers.

    Args:
        spent: tokens of all models so far, and their cost at current prices.
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
        """Reserve the maximum usage of a request. Yields a function that records its actual usage.

        Raises:
            Stopped: the budget does not allow the request, even if requests in flight use less than reserved.
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
        """Record the usage of an answer."""
        self._own = (self._own[0] + response.tokens_in + response.tokens_out, self._own[1] + (response.cost or 0.0))

    def allows(self, tokens_in: int, tokens_out: int) -> bool:
        """Whether the budget allows this usage in addition to what is reserved."""
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
            f"{tokens:,} tokens" + (f" for {money:.4g}" if self._price else "") + " were spent on this store, and the "
            "next request might exceed the limit",
            "Raise the budget (augment.api.max_tokens, augment.api.max_cost) and run again to continue.",
        )


class Breaker:
    """A circuit breaker: after several consecutive failures, one request at a time probes the endpoint.

    The pauses between probes grow, until one is answered or `give_up_after` has passed.

    Args:
        give_up_after: seconds without an answer after which all requests fail.
        name: the endpoint's name in messages.
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
        """Let a request through, as a probe if the endpoint is down.

        Raises:
            Stopped: the endpoint has been down for too long.
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
        """Note that the endpoint answered a request, even with a refusal."""
        self._faults, self._pause = 0, self._first_pause
        self._faulted.clear()
        self.open = False

    def faulted(self, request: str, reason: str = "", unreached: bool = False) -> None:
        """Note that the endpoint did not answer this request, or answered with a server error.

        Args:
            unreached: whether there was no connection. Otherwise the cause may be this request alone.
        """
        self._faults += 1
        self._faulted.add(request)
        self._last = reason
        if self._faults >= FAULTS_TO_OPEN and (unreached or len(self._faulted) > 1) and not self.open:
            self._down_since = time.monotonic()
            self.open = True
            logger.warning(
                "%s does not answer%s. Retrying one request at a time for up to %.0f s.",
                self._name[0].upper() + self._name[1:], reason and f" ({reason})", self._give_up_after,
            )  # fmt: skip


def cost(price: Price | None, tokens_in: int, tokens_out: int) -> float | None:
    """The cost of tokens; None without a price."""
    return None if price is None else (tokens_in * price.input + tokens_out * price.output) / 1e6


def spent_before(api: ApiSettings, tokens: Mapping[str, tuple[int, int]]) -> tuple[int, float]:
    """Total tokens and cost of each model's (in, out) tokens. Models without a price count as free."""
    money = sum(cost(api.prices.get(model), *used) or 0.0 for model, used in tokens.items())
    return sum(sum(used) for used in tokens.values()), money

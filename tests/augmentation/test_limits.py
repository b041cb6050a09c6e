"""Rates, budgets and the circuit breaker."""

import asyncio
import contextlib
import random
import time
from typing import Any

import pytest

from dyprag.augmentation.limits import FAULTS_TO_OPEN, Breaker, Budget, Rate, Slots, cost
from dyprag.config import ApiSettings, Price
from dyprag.corpora.products import Response
from dyprag.errors import Stopped


def response(tokens_in: int, tokens_out: int, price: Price | None = None) -> Response:
    return Response("r", "p", "d", "ask 1", "", "stop", "m", tokens_in, tokens_out, 0, 0.0, 0,
                    cost(price, tokens_in, tokens_out))  # fmt: skip


@pytest.mark.parametrize(("per_minute", "workers", "expected"), [(3000, 1, 50), (6000, 4, 25)])
def test_a_rate_is_kept_fully_used_and_shared_by_workers(per_minute: float, workers: int, expected: float):
    async def run() -> float:
        rate = Rate(per_minute, workers)
        await asyncio.gather(*(rate.take() for _ in range(int(expected))))  # the burst
        began = time.monotonic()
        await asyncio.gather(*(rate.take() for _ in range(int(2 * expected))))
        return 2 * expected / (time.monotonic() - began)

    assert 0.85 * expected < asyncio.run(run()) < 1.1 * expected


def test_an_amount_larger_than_the_bucket_is_taken_in_parts():
    async def run() -> float:
        rate = Rate(60_000, 1)  # 1,000 a second
        began = time.monotonic()
        await rate.take(2500)
        return time.monotonic() - began

    assert 1.3 < asyncio.run(run()) < 2.0


def test_without_a_limit_nothing_waits():
    asyncio.run(asyncio.wait_for(Rate(None, 1).take(1e12), 0.1))


@pytest.mark.parametrize("seed", range(5))
def test_a_budget_is_never_exceeded_and_used_up_to_one_request(seed: int):
    """Requests use at most what is reserved for them."""
    rng = random.Random(seed)
    spent = 0
    settings = ApiSettings(model="m", max_tokens=10_000)

    async def request(budget: Budget) -> None:
        nonlocal spent
        async with budget.set_aside(100, 100) as record:
            await asyncio.sleep(rng.uniform(0, 0.002))
            if rng.random() < 0.8:  # otherwise it failed and used nothing
                used = rng.randint(0, 100), rng.randint(0, 100)
                spent += sum(used)
                record(response(*used))

    async def run() -> list[Any]:
        budget = Budget(settings, (1000, 0.0))
        return await asyncio.gather(*(request(budget) for _ in range(400)), return_exceptions=True)

    outcomes = asyncio.run(run())
    assert spent <= 9_000
    assert spent > 9_000 - 200
    stops = [outcome for outcome in outcomes if outcome is not None]
    assert stops
    assert all(isinstance(stop, Stopped) for stop in stops)
    assert "Raise the budget (augment.api.max_tokens" in str(stops[0])


def test_a_budget_of_money_counts_by_the_price_and_what_was_spent_before():
    price = Price(input=1.0, output=2.0)
    settings = ApiSettings(model="m", max_cost=1.0, prices={"m": price})

    async def run() -> None:
        budget = Budget(settings, (0, 0.7))
        async with budget.set_aside(100_000, 50_000) as took:  # 0.2
            took(response(100_000, 50_000, price))
        with pytest.raises(Stopped, match=r"max_cost of 1: 150,000 tokens for 0\.9 were spent"):
            async with budget.set_aside(100_000, 50_000):
                pass
        async with budget.set_aside(10_000, 10_000):
            pass

    asyncio.run(run())


def test_workers_share_what_is_left_of_a_budget():
    async def run() -> None:
        budget = Budget(ApiSettings(model="m", max_tokens=1000, workers=2), (200, 0.0))
        assert budget.allows(400, 0)
        assert not budget.allows(401, 0)

    asyncio.run(run())


def test_the_breaker_opens_after_consecutive_failures_probes_and_closes_with_an_answer():
    async def run() -> None:
        breaker = Breaker(give_up_after=30, first_pause=0.05)
        for number in range(FAULTS_TO_OPEN - 1):
            breaker.faulted(f"r{number}")
        breaker.answered()
        breaker.faulted("r1")
        assert not breaker.open
        for number in range(FAULTS_TO_OPEN):
            breaker.faulted(f"r{number}")
        assert breaker.open
        inside = most = tries = 0

        async def request() -> None:
            nonlocal inside, most, tries
            async with breaker.passed():
                inside, tries = inside + 1, tries + 1
                most = max(most, inside if breaker.open else 0)
                await asyncio.sleep(0.01)
                inside -= 1
                breaker.answered() if tries >= 3 else breaker.faulted("r")

        began = time.monotonic()
        await asyncio.gather(*(request() for _ in range(20)))
        assert most == 1
        assert tries == 20
        assert not breaker.open
        assert time.monotonic() - began >= 0.05 + 0.1 + 0.2  # each pause twice the one before

    asyncio.run(run())


def test_one_repeatedly_failing_request_does_not_open_the_breaker():
    async def run() -> None:
        breaker = Breaker(give_up_after=30)
        for _ in range(3 * FAULTS_TO_OPEN):
            breaker.faulted("poison")
        assert not breaker.open
        breaker.faulted("another")
        assert breaker.open

    asyncio.run(run())


def test_the_breaker_gives_up_after_the_configured_time():
    async def run() -> None:
        breaker = Breaker(give_up_after=0.3, first_pause=0.05)
        for number in range(FAULTS_TO_OPEN):
            breaker.faulted(f"r{number}")

        async def try_on() -> None:
            while True:
                async with breaker.passed():
                    breaker.faulted("r")

        with pytest.raises(Stopped, match="has not answered for 0 seconds"):
            await try_on()

    asyncio.run(asyncio.wait_for(run(), 5))


def test_timeouts_halve_the_slots_once_and_answers_restore_them():
    async def run() -> list[int]:
        slots, seen = Slots(8, 1.0), []
        async with contextlib.AsyncExitStack() as held:
            for _ in range(8):
                await held.enter_async_context(slots.one())
            sent = time.monotonic()
            for _ in range(8):
                slots.timed_out(sent)
            seen.append(slots.allowed)
        for _ in range(4 + 5):
            slots.answered()
        seen.append(slots.allowed)
        async with contextlib.AsyncExitStack() as held:
            for _ in range(6):
                await held.enter_async_context(slots.one())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(held.enter_async_context(slots.one()), 0.05)
        slots.timed_out(time.monotonic())  # a single request: the endpoint is slow, not the number of requests
        seen.append(slots.taken)
        return seen

    assert asyncio.run(run()) == [4, 6, 0]

"""The batcher: many callers, one worker, and every caller gets its own result."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from dyprag.runtime.batching import Batcher


def test_each_of_many_threads_gets_its_own_result_and_no_batch_is_too_large():
    sizes = []

    def square(items: Sequence[int]) -> Iterable[tuple[int, int]]:
        sizes.append(len(items))
        return enumerate(item * item for item in items)

    batcher: Batcher[int, int] = Batcher(square, size=4, wait=0.01)
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(batcher.submit, range(200))) == [number * number for number in range(200)]
    assert sum(sizes) == 200
    assert max(sizes) <= 4
    assert len(sizes) < 200  # items were batched


def test_an_exception_reaches_only_its_caller():
    def work(items: Sequence[int]) -> Iterable[tuple[int, int | Exception]]:
        return enumerate(ValueError(f"odd {item}") if item % 2 else item for item in items)

    batcher: Batcher[int, int] = Batcher(work, size=4, wait=30)  # it waits for four items, which are certain to arrive
    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(batcher.submit, item) for item in range(4)]
    assert [futures[0].result(), futures[2].result()] == [0, 2]
    for odd in (1, 3):
        with pytest.raises(ValueError, match=f"odd {odd}"):
            futures[odd].result()


def test_a_failed_batch_is_retried_item_by_item_and_only_the_faulty_item_fails():
    def work(items: Sequence[int]) -> Iterable[tuple[int, int]]:
        if 1 in items:
            raise RuntimeError("out of luck")
        return enumerate(item + 1 for item in items)

    batcher: Batcher[int, int] = Batcher(work, size=3, wait=30)
    with ThreadPoolExecutor(3) as threads:
        failing = [threads.submit(batcher.submit, item) for item in (0, 1, 2)]
    with pytest.raises(RuntimeError, match="out of luck"):
        failing[1].result()
    assert [failing[0].result(), failing[2].result()] == [1, 3]
    with ThreadPoolExecutor(3) as threads:  # the thread survives
        assert list(threads.map(batcher.submit, (10, 20, 30))) == [11, 21, 31]


def test_an_idle_batcher_has_no_thread_and_starts_one_when_needed():
    def threads() -> int:
        return sum(thread.name == "dyprag-batcher" for thread in threading.enumerate())

    before = threads()
    batcher: Batcher[int, int] = Batcher(lambda items: enumerate(items), size=4, wait=0.001, idle=0.05)
    assert batcher.submit(1) == 1
    deadline = time.monotonic() + 10
    while threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == before
    with ThreadPoolExecutor(8) as callers:  # while threads end and start
        assert list(callers.map(lambda n: (time.sleep(n % 3 * 0.05), batcher.submit(n))[1], range(60))) == [*range(60)]


def test_an_item_is_answered_as_soon_as_it_is_done_and_a_missing_one_is_retried():
    released = Event()

    def work(items: Sequence[int]) -> Iterator[tuple[int, int]]:
        if len(items) == 2:
            yield items.index(7), 70
            released.wait(20)  # 7's caller has its answer before the work is over
        else:
            yield 0, items[0] * 100

    batcher: Batcher[int, int] = Batcher(work, size=2, wait=30)
    with ThreadPoolExecutor(2) as threads:
        late, early = threads.submit(batcher.submit, 5), threads.submit(batcher.submit, 7)
        assert early.result(timeout=10) == 70
        assert not late.done()
        released.set()
        assert late.result(timeout=10) == 500

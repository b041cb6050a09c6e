"""The batcher: many callers, one worker, and everyone gets their own result."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from dyprag.batching import Batcher


def test_each_of_many_threads_gets_its_own_result_and_no_batch_is_too_large():
    sizes = []

    def square(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return [item * item for item in items]

    batcher: Batcher[int, int] = Batcher(square, size=4, wait=0.01)
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(batcher.submit, range(200))) == [number * number for number in range(200)]
    assert sum(sizes) == 200
    assert max(sizes) <= 4
    assert len(sizes) < 200  # they did work together


def test_an_exception_reaches_only_its_caller():
    def work(items: Sequence[int]) -> list[int | Exception]:
        return [ValueError(f"odd {item}") if item % 2 else item for item in items]

    batcher: Batcher[int, int] = Batcher(work, size=4, wait=30)  # it waits for four, who are sure to come
    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(batcher.submit, item) for item in range(4)]
    assert [futures[0].result(), futures[2].result()] == [0, 2]
    for odd in (1, 3):
        with pytest.raises(ValueError, match=f"odd {odd}"):
            futures[odd].result()


def test_a_batch_that_fails_is_tried_item_by_item_and_only_the_faulty_one_fails():
    def work(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise RuntimeError("out of luck")
        return [item + 1 for item in items]

    batcher: Batcher[int, int] = Batcher(work, size=3, wait=30)
    with ThreadPoolExecutor(3) as threads:
        failing = [threads.submit(batcher.submit, item) for item in (0, 1, 2)]
    with pytest.raises(RuntimeError, match="out of luck"):
        failing[1].result()
    assert [failing[0].result(), failing[2].result()] == [1, 3]
    with ThreadPoolExecutor(3) as threads:  # the thread lives on
        assert list(threads.map(batcher.submit, (10, 20, 30))) == [11, 21, 31]

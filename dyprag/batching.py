"""One task a document, one batch for the machine: callers hand in single items, one thread computes them together.

As inference servers do it: what waits is taken together, up to a limit, and each caller is answered by itself.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_model_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dyprag-model")


def compute(work: Callable[[], Result]) -> Result:
    """Do tensor work on the one thread of the process that does any, and wait for it.

    OpenMP keeps a team of threads for every thread that computes; with more teams than cores they sleep at each
    barrier instead of spinning, and everything takes a third longer.
    """
    if threading.current_thread().name.startswith("dyprag-model"):
        return work()
    return _model_thread.submit(copy_context().run, work).result()


class Batcher(Generic[Item, Result]):
    """Gathers items from many threads into batches for one worker thread.

    Args:
        work: gets up to `size` items; gives a result or an exception for each, in order. If it raises, its items are
            tried one by one.
        size: most items in a batch.
        wait: seconds to wait for more after the first item.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Sequence[Result | Exception]], size: int, wait: float = 0.1
    ) -> None:
        self._work, self._size, self._wait = work, size, wait
        self._waiting: queue.Queue[tuple[Item, Future[Result]]] = queue.Queue()
        threading.Thread(target=self._run, daemon=True, name="dyprag-batcher").start()

    def submit(self, item: Item) -> Result:
        """Wait until the item has been worked on; gives its result or raises its exception."""
        future: Future[Result] = Future()
        self._waiting.put((item, future))
        return future.result()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._size:
                try:
                    batch.append(self._waiting.get(timeout=self._wait))
                except queue.Empty:
                    break
            results = self._attempt([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _attempt(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        """The results of a batch. If it fails as a whole, each item is tried alone: one item's fault is its own."""
        try:
            results = compute(partial(self._work, items))
            if len(results) != len(items):
                raise RuntimeError(f"{len(items)} items were worked on and {len(results)} results came back")
            return results
        except Exception as error:  # it belongs to the callers, and the thread must live on
            if len(items) == 1:
                return [error]
            return [result for item in items for result in self._attempt([item])]

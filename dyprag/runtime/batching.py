"""Batch items from many callers: each task submits one document, and one thread computes them together.

As in an inference server, the thread takes all waiting items up to a limit and returns each result to its caller.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Generic, TypeVar

from dyprag.errors import is_out_of_memory
from dyprag.runtime.interruption import check

Item = TypeVar("Item")
Result = TypeVar("Result")
_model_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dyprag-model")


def compute(work: Callable[[], Result]) -> Result:
    """Run tensor work on the process's single compute thread and return its result.

    OpenMP keeps a team of threads for every thread that computes. If there are more teams than cores, the threads sleep
    at each barrier instead of spinning, and everything takes a third longer.
    """
    check()
    if threading.current_thread().name.startswith("dyprag-model"):
        return work()
    return _model_thread.submit(copy_context().run, work).result()


class Batcher(Generic[Item, Result]):
    """Collects items from many threads into batches for one worker thread.

    Args:
        work: takes up to `size` items and yields (index, result or exception) for each, in any order, as soon as it is
            available. If it raises, the items without a result are retried one by one.
        size: maximum number of items in a batch.
        wait: seconds to wait for more items after the first one.
        idle: seconds without an item after which the thread ends, which lets an unused batcher be garbage collected.
            The next item starts a new thread.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Iterable[tuple[int, Result | Exception]]],
        size: int,
        wait: float = 0.1,
        idle: float = 10.0,
    ) -> None:
        self._work, self._size, self._wait, self._idle = work, size, wait, idle
        self._waiting: queue.Queue[tuple[Item, Future[Result]]] = queue.Queue()
        self._lock = threading.Lock()
        self._running = False

    def submit(self, item: Item) -> Result:
        """Submit an item and wait for its result; raises the item's exception."""
        return self.begin(item).result()

    def begin(self, item: Item) -> Future[Result]:
        """Submit an item and return a future for its result."""
        future: Future[Result] = Future()
        with self._lock:
            self._waiting.put((item, future))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, daemon=True, name="dyprag-batcher").start()
        return future

    def _run(self) -> None:
        while True:
            try:
                batch = [self._waiting.get(timeout=self._idle)]
            except queue.Empty:
                with self._lock:
                    if self._waiting.empty():
                        self._running = False
                        return
                continue
            while len(batch) < self._size:
                try:
                    batch.append(self._waiting.get(timeout=self._wait))
                except queue.Empty:
                    break
            self._attempt(batch)

    def _attempt(self, batch: Sequence[tuple[Item, Future[Result]]]) -> None:
        """Compute a batch. If it fails, retry each item alone, so that a failure affects only its own item."""
        try:
            compute(partial(self._answer, batch))
            error: Exception = RuntimeError(f"a batch of {len(batch)} items did not return a result for every item")
        except Exception as failure:  # the callers get the error; the thread must survive it
            # the frames of the traceback keep the large tensors alive
            error = failure.with_traceback(None) if is_out_of_memory(failure) else failure
        unanswered = [(item, future) for item, future in batch if not future.done()]
        if len(batch) == 1 and unanswered:
            unanswered[0][1].set_exception(error)
        else:
            for entry in unanswered:
                self._attempt([entry])

    def _answer(self, batch: Sequence[tuple[Item, Future[Result]]]) -> None:
        for index, result in self._work([item for item, _ in batch]):
            if isinstance(result, Exception):
                batch[index][1].set_exception(result)
            else:
                batch[index][1].set_result(result)

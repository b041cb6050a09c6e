"""One task a document, one batch for the machine: callers hand in single items, one thread computes them together.

As inference servers do it: what waits is taken together, up to a limit, and each caller is answered by itself.
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
    """Do tensor work on the one thread of the process that does any, and wait for it.

    OpenMP keeps a team of threads for every thread that computes; with more teams than cores they sleep at each
    barrier instead of spinning, and everything takes a third longer.
    """
    check()
    if threading.current_thread().name.startswith("dyprag-model"):
        return work()
    return _model_thread.submit(copy_context().run, work).result()


class Batcher(Generic[Item, Result]):
    """Gathers items from many threads into batches for one worker thread.

    Args:
        work: gets up to `size` items; gives (index, result or exception) of each, in any order, each as soon as it is
            there. If it raises, the items without an answer are tried one by one.
        size: most items in a batch.
        wait: seconds to wait for more after the first item.
        idle: seconds without an item after which the thread ends; the next item starts another. A batcher that
            nobody uses any more is gone with what it holds.
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
        """Wait until the item has been worked on; gives its result or raises its exception."""
        return self.begin(item).result()

    def begin(self, item: Item) -> Future[Result]:
        """Hand in an item; gives its result to come."""
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
        """Answer a batch. If it fails as a whole, each item is tried alone: one item's fault is its own."""
        try:
            compute(partial(self._answer, batch))
            error: Exception = RuntimeError(f"{len(batch)} items were worked on and not all had a result")
        except Exception as failure:  # it belongs to the callers, and the thread must live on
            # the frames of an error hold what filled the memory
            error = failure.with_traceback(None) if is_out_of_memory(failure) else failure
        left = [(item, future) for item, future in batch if not future.done()]
        if len(batch) == 1 and left:
            left[0][1].set_exception(error)
        elif left:
            for one in left:
                self._attempt([one])

    def _answer(self, batch: Sequence[tuple[Item, Future[Result]]]) -> None:
        for index, result in self._work([item for item, _ in batch]):
            if isinstance(result, Exception):
                batch[index][1].set_exception(result)
            else:
                batch[index][1].set_result(result)

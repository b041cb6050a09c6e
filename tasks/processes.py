"""Worker processes on this machine, for `run.runner: processes`.

Each process loads its own model and works on one shard at a time. A process that dies loses only its shard and is
replaced.
"""

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import lru_cache, partial
from typing import ParamSpec, TypeVar

from dyprag.config import PipelineConfig
from dyprag.errors import ShardLost
from dyprag.runtime.interruption import check, on_interruption
from dyprag.runtime.threads import usable_cores

# Preloaded modules: a replacement for a dead process then starts without seconds of imports.
PRELOADED = (
    "dyprag.tasks.parametrize", "dyprag.tasks.augment", "dyprag.tasks.embed", "dyprag.adapters.parametrize",
    "dyprag.adapters.embedding", "dyprag.adapters.generation", "dyprag.adapters.samples", "peft",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
)  # fmt: skip
P = ParamSpec("P")
Result = TypeVar("Result")


class Processes:
    """A fixed number of worker processes, started on demand.

    Each has an executor of its own, because an executor with several processes fails everything in flight when one of
    them dies.
    """

    def __init__(self, count: int, devices: tuple[str, ...]) -> None:
        self._threads = max(1, usable_cores() // count)
        self._devices = devices
        self._free: queue.Queue[int] = queue.Queue()
        for slot in range(count):
            self._free.put(slot)
        self._executors: dict[int, ProcessPoolExecutor] = {}

    def run(self, work: Callable[P, Result], *arguments: P.args, **named: P.kwargs) -> Result:
        """Call a function in the next free process and wait for its result.

        Raises:
            ShardLost: The process died during the call.
            Interrupted: The run is being stopped, and its processes with it.
        """
        slot = self._free.get()
        try:
            check()
            try:
                future = self._executor(slot).submit(work, *arguments, **named)
            except BrokenProcessPool:  # it died while idle, so no document caused it
                self._executors.pop(slot).shutdown(wait=False)
                future = self._executor(slot).submit(work, *arguments, **named)
            with on_interruption(partial(self._kill, slot)):
                return future.result()
        except BrokenProcessPool as error:
            check()  # an interruption killed it, not a document
            self._executors.pop(slot).shutdown(wait=False)
            raise ShardLost("a shard of documents", "its worker process died", "It is retried in halves.") from error
        finally:
            self._free.put(slot)

    def end_idle(self) -> None:
        """Stop idle processes, to free the memory of their models."""
        idle = []
        with suppress(queue.Empty):
            while True:
                idle.append(self._free.get_nowait())
        for slot in idle:
            if slot in self._executors:
                self._executors.pop(slot).shutdown()
            self._free.put(slot)

    def _kill(self, slot: int) -> None:
        """Kill a process. Artifacts are written atomically, so nothing is left half-written."""
        for process in list((self._executors[slot]._processes or {}).values()):
            process.kill()

    def _executor(self, slot: int) -> ProcessPoolExecutor:
        if slot not in self._executors:
            device = self._devices[slot % len(self._devices)] if self._devices else None
            self._executors[slot] = ProcessPoolExecutor(
                1, _context(), initializer=_begin, initargs=(device, self._threads)
            )
        return self._executors[slot]


def processes(config: PipelineConfig) -> Processes:
    """The worker processes of a configuration, shared by all its tasks. They end with the stage or with this
    process."""
    with _opening:  # tasks that arrive together would each create a pool
        return _opened(worker_count(config), devices(config))


_opening = threading.Lock()
_opened = lru_cache(maxsize=1)(Processes)


def worker_count(config: PipelineConfig) -> int:
    """The number of worker processes: `run.workers`, else one per GPU, else one per core."""
    return config.run.workers or len(devices(config)) or usable_cores()


def devices(config: PipelineConfig) -> tuple[str, ...]:
    """The value of CUDA_VISIBLE_DEVICES for each process if the model runs on GPUs; else empty."""
    import torch

    if config.model.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(visible.split(",") if visible else map(str, range(torch.cuda.device_count())))


def _context() -> multiprocessing.context.BaseContext:
    """A fork server with the libraries preloaded; on platforms where forking is unsafe, new processes."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _begin(device: str | None, threads: int) -> None:
    """Initialise a worker process: set its GPU and threads, and tie its life to its parent's. Ctrl-C is ignored; the
    parent handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    import torch

    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True, name="dyprag-parent").start()


def _end_with_parent() -> None:
    """Exit when the parent is gone. A killed parent cannot stop its workers, which would wait for ever for the next
    shard."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

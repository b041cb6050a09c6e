"""Worker processes of this machine, for `run.runner: processes`: each loads a model of its own and has one shard at a
time. A process that dies takes only its shard with it, and another takes its place."""

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

# what the work imports in the end, so that a process in place of one that died need not: seconds, each time
LOADED = (
    "dyprag.tasks.parametrize", "dyprag.tasks.augment", "dyprag.tasks.embed", "dyprag.adapters.parametrize",
    "dyprag.adapters.embedding", "dyprag.adapters.generation", "dyprag.adapters.samples", "peft",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
)  # fmt: skip
P = ParamSpec("P")
Made = TypeVar("Made")


class Processes:
    """So many processes, begun as they are needed.

    An executor of several processes would fail everything in flight with one of them, so each has one of its own.
    """

    def __init__(self, count: int, devices: tuple[str, ...]) -> None:
        self._threads = max(1, usable_cores() // count)
        self._devices = devices
        self._free: queue.Queue[int] = queue.Queue()
        for place in range(count):
            self._free.put(place)
        self._executors: dict[int, ProcessPoolExecutor] = {}

    def run(self, work: Callable[P, Made], *arguments: P.args, **named: P.kwargs) -> Made:
        """Have a process do some work, when one is free, and wait for it.

        Raises:
            ShardLost: the process died over it.
            Interrupted: the run is to end, and with it its processes.
        """
        place = self._free.get()
        try:
            check()
            try:
                begun = self._executor(place).submit(work, *arguments, **named)
            except BrokenProcessPool:  # it died while it had nothing to do, which is no document's fault
                self._executors.pop(place).shutdown(wait=False)
                begun = self._executor(place).submit(work, *arguments, **named)
            with on_interruption(partial(self._kill, place)):
                return begun.result()
        except BrokenProcessPool as error:
            check()  # it is no document's fault then
            self._executors.pop(place).shutdown(wait=False)
            raise ShardLost("a shard of documents", "its worker process died", "It is tried in halves.") from error
        finally:
            self._free.put(place)

    def end_idle(self) -> None:
        """End those that have nothing to do: a model, and what its training took of a GPU, is in each."""
        idle = []
        with suppress(queue.Empty):
            while True:
                idle.append(self._free.get_nowait())
        for place in idle:
            if place in self._executors:
                self._executors.pop(place).shutdown()
            self._free.put(place)

    def _kill(self, place: int) -> None:
        """End a process, whatever it is at: what it made is stored whole, or not at all."""
        for process in list((self._executors[place]._processes or {}).values()):
            process.kill()

    def _executor(self, place: int) -> ProcessPoolExecutor:
        if place not in self._executors:
            device = self._devices[place % len(self._devices)] if self._devices else None
            self._executors[place] = ProcessPoolExecutor(
                1, _context(), initializer=_begin, initargs=(device, self._threads)
            )
        return self._executors[place]


def processes(config: PipelineConfig) -> Processes:
    """The worker processes of a configuration, shared by all its tasks; they end with the stage, or this process."""
    with _opening:  # tasks that ask together would each open their own
        return _opened(worker_count(config), devices(config))


_opening = threading.Lock()
_opened = lru_cache(maxsize=1)(Processes)


def worker_count(config: PipelineConfig) -> int:
    """As many as are set; else one for each GPU, or without one for each core."""
    return config.run.workers or len(devices(config)) or usable_cores()


def devices(config: PipelineConfig) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES is to be in each process, where the model goes onto GPUs."""
    import torch

    if config.model.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(visible.split(",") if visible else map(str, range(torch.cuda.device_count())))


def _context() -> multiprocessing.context.BaseContext:
    """A server that has the libraries loaded and forks; where forking with them is not safe, processes from scratch."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    return context


def _begin(device: str | None, threads: int) -> None:
    """In a new process: its GPU, its share of the cores, and its end, which is that of its parent. A terminal's Ctrl-C
    reaches it as well, and is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    import torch

    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True, name="dyprag-parent").start()


def _end_with_parent() -> None:
    """A killed parent tells nobody: without this its workers would wait for ever for their next shard."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

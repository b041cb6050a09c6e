"""The Prefect server that a run starts for itself if none is configured. It ends with the run, however that ends.

Prefect starts the server as a child and ends it at interpreter exit. A killed process skips that, and Ctrl-C in a
terminal reaches the child as well, so that a run would lose its server before it can report its end.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

MODULE = "prefect.server.api.server"  # starts the server; slow to import, so it is patched on import
WATCHED = str(Path(__file__).with_name("watched.py"))
ENDS = 1.5  # seconds that a server has to end


def watch_own_servers() -> None:
    """Let every server that this process starts for itself watch this process."""
    if (loaded := sys.modules.get(MODULE)) is not None:
        _patch(loaded)
    elif not any(isinstance(finder, _WhenLoaded) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenLoaded())


def own_servers() -> list[Any]:
    """Running server processes that this process started for itself."""
    module = sys.modules.get(MODULE)
    instances = getattr(getattr(module, "SubprocessASGIServer", None), "_instances", {})
    processes = (getattr(server, "server_process", None) for server in list(instances.values()))
    return [process for process in processes if process is not None]


def end_own_servers() -> None:
    """End these servers within a short time; everything reported to them is in their database."""
    processes = own_servers()
    for process in processes:
        process.terminate()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS)
        process.kill()


@contextmanager
def heartbeats_where_needed() -> Iterator[None]:
    """Send no heartbeats to a server that ends with this process anyway.

    Only a server that outlives the run can notice that they stop (automations.py), and every flow waits at its end for
    the thread that sends them, up to a second.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    if PREFECT_API_URL.value():
        yield
        return
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def watched(arguments: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start `python -m MODULE …` as a process that ends with this one and ignores Ctrl-C in the terminal."""
    program, dash, *rest = arguments
    if dash != "-m":
        return subprocess.Popen(arguments, **options)
    # -P: modules beside watched.py must not shadow libraries of the same name
    return subprocess.Popen([program, "-P", WATCHED, *rest], stdin=subprocess.PIPE, start_new_session=True, **options)


def _patch(module: ModuleType) -> None:
    """Replace `subprocess` in a module, so that it starts watched processes."""
    names = {name: getattr(subprocess, name) for name in subprocess.__all__}

    def start(args: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        return watched(args, **options)

    vars(module)["subprocess"] = SimpleNamespace(**{**names, "Popen": start})


class _WhenLoaded(importlib.abc.MetaPathFinder):
    """An import hook that patches the module once it is imported."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Find the module with the other finders, and wrap its loader."""
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        original = spec.loader.exec_module

        def load_and_patch(module: ModuleType) -> None:
            original(module)
            _patch(module)

        spec.loader.exec_module = load_and_patch  # type: ignore[method-assign]
        return spec

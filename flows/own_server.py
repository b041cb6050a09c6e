"""The Prefect server that a run without one starts for itself: it ends with the run, however that ends.

Prefect starts it as a child and ends it when the interpreter exits. A process that is killed exits without that, and a
terminal's Ctrl-C reaches the child as well, so that the run loses its server before it could say how it ended.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

MODULE = "prefect.server.api.server"  # where Prefect starts it; loaded, in a second, only by a run that needs one
WATCHED = str(Path(__file__).with_name("watched.py"))
ENDS = 1.5  # seconds that a server gets to end


def watch_own_servers() -> None:
    """Have every server that this process starts for itself watch it."""
    if (loaded := sys.modules.get(MODULE)) is not None:
        _change(loaded)
    elif not any(isinstance(finder, _WhenLoaded) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenLoaded())


def own_servers() -> list[Any]:
    """The processes of the servers that this process has started for itself and not yet ended."""
    module = sys.modules.get(MODULE)
    known = getattr(getattr(module, "SubprocessASGIServer", None), "_instances", {})
    found = (getattr(server, "server_process", None) for server in list(known.values()))
    return [process for process in found if process is not None]


def end_own_servers() -> None:
    """End them without waiting for long; what they were told is in their database."""
    processes = own_servers()
    for process in processes:
        process.terminate()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS)
        process.kill()


def watched(arguments: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start `python -m MODULE …` as a process that ends with this one, and that no terminal's Ctrl-C reaches."""
    program, dash, *rest = arguments
    if dash != "-m":
        return subprocess.Popen(arguments, **options)
    # -P: nothing beside watched.py is to be imported instead of a library of the same name
    return subprocess.Popen([program, "-P", WATCHED, *rest], stdin=subprocess.PIPE, start_new_session=True, **options)


def _change(module: ModuleType) -> None:
    """Have a module start its processes as watched ones; the rest of `subprocess` is to it as it was."""
    names = {name: getattr(subprocess, name) for name in subprocess.__all__}

    def start(args: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        return watched(args, **options)

    vars(module)["subprocess"] = SimpleNamespace(**{**names, "Popen": start})


class _WhenLoaded(importlib.abc.MetaPathFinder):
    """Changes the module when it is loaded."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Others find it; its loader changes it afterwards."""
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            _change(module)

        spec.loader.exec_module = load_and_change  # type: ignore[method-assign]
        return spec

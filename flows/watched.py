"""Run a Python module as a program that ends with the process that started it, even if that is killed: `watched.py
MODULE …`.

It is started with a pipe as its standard input, which is closed when the parent ends. If a fork of the parent keeps the
pipe open, the changed parent process id reveals the parent's end.
"""

import contextlib
import os
import runpy
import signal
import sys
import threading
import time

EVERY = 1.0  # seconds between two checks of the parent
GRACE = 3.0  # seconds that the program has to end


def main() -> None:
    """Watch the parent, and run the module."""
    parent = os.getppid()
    threading.Thread(target=_watch_pipe, daemon=True).start()
    if os.name == "posix":  # elsewhere the parent's id does not change when it ends
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _watch_pipe() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    _end()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(EVERY)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    if os.name == "posix" and os.getpgrp() == os.getpid():  # including its children
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()

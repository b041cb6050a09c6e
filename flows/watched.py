"""A Python module run as a program that ends with the process that started it, be that killed: `watched.py MODULE …`.

Started with a pipe as its standard input, whose other end closes when the starter is gone, whatever ended it. Where a
process that the starter has forked holds that end as well, the starter's absence shows in its number.
"""

import contextlib
import os
import runpy
import signal
import sys
import threading
import time

EVERY = 1.0  # seconds between two looks at the parent
GRACE = 3.0  # seconds that the program gets to end


def main() -> None:
    """Watch, and run the module."""
    parent = os.getppid()
    threading.Thread(target=_read, daemon=True).start()
    if os.name == "posix":  # elsewhere a process keeps the number of a parent that has gone
        threading.Thread(target=_look, args=(parent,), daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _read() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    _end()


def _look(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(EVERY)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    if os.name == "posix" and os.getpgrp() == os.getpid():  # with all that it has started
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()

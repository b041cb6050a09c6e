"""Large imports without the garbage collector's delays."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Without the garbage collector, which finds nothing in modules that are just imported, and afterwards passes them
    over, also in the end: together half a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()

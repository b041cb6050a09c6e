"""Speed up large imports, and the loading of a model, by pausing garbage collection."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Pause garbage collection during imports and exclude the imported objects from later collections.

    This saves about half a second: new modules hold no garbage, and neither does a model that is being loaded.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()

"""A lock on the store. Runs share it; deletions need it exclusively.

The operating system releases the lock of a process that dies.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from dyprag.errors import StoreError
from dyprag.storage.artifacts import Store


@contextmanager
def in_use(store: Store) -> Iterator[None]:
    """Hold the store together with other runs. Waits for a deletion to end."""
    with _lock(store, fcntl.LOCK_SH):
        yield


@contextmanager
def alone(store: Store) -> Iterator[None]:
    """Hold the store exclusively.

    Raises:
        StoreError: A run is using the store.
    """
    with _lock(store, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def _lock(store: Store, mode: int) -> Iterator[None]:
    subject = f"store {store.root}"
    try:
        descriptor = os.open(store.root / "lock", os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise StoreError(
            subject, f"its file 'lock' cannot be written ({error.strerror})",
            "Free disk space or fix the file's permissions, then run again.",
        ) from error  # fmt: skip
    try:
        try:
            fcntl.flock(descriptor, mode)
        except BlockingIOError as error:
            raise StoreError(subject, "another run is using it", "Wait for that run to finish, or stop it.") from error
        yield
    finally:
        os.close(descriptor)

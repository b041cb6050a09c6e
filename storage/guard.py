"""Who is at work on a store: runs share it; what deletes has it to itself. A process that dies lets go by itself."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from dyprag.errors import StoreError
from dyprag.storage.artifacts import Store


@contextmanager
def in_use(store: Store) -> Iterator[None]:
    """Hold the store among others at work on it; waits for a deletion to end."""
    with _lock(store, fcntl.LOCK_SH):
        yield


@contextmanager
def alone(store: Store) -> Iterator[None]:
    """Hold the store with nobody at work on it.

    Raises:
        StoreError: somebody is.
    """
    with _lock(store, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def _lock(store: Store, how: int) -> Iterator[None]:
    place = f"store {store.root}"
    try:
        descriptor = os.open(store.root / "lock", os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise StoreError(
            place, f"its file 'lock' cannot be written ({error.strerror})",
            "Free disk space or fix the file's permissions, then run again.",
        ) from error  # fmt: skip
    try:
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError as error:
            raise StoreError(place, "another run is using it", "Wait for that run to finish, or stop it.") from error
        yield
    finally:
        os.close(descriptor)

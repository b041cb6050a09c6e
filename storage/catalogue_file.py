"""The two files of the catalogue: one for runs, and a copy for all other readers.

    STORE/catalogue-writer.duckdb   written by runs and read by this package's commands, in short connections
    STORE/catalogue.duckdb          the copy: replaced as a whole during a run and at the end of each stage

DuckDB allows one process to write a file or several to read it, but not both. A shell, notebook or database browser
keeps its file open for hours, so it gets a file that no run opens. Replacing the copy does not affect readers that have
it open.
"""

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import psutil

from dyprag.errors import CatalogueHeld, StoreError
from dyprag.storage.artifacts import Store

logger = logging.getLogger("dyprag.storage")
READER_WAITS, WRITER_WAITS = 30.0, 600.0  # seconds to wait for a process that holds the file
AGAIN = 1.0  # seconds to wait after an earlier wait has failed
LOGGED_AFTER = 1.0  # seconds of waiting after which the log names the process that holds the file
SNAPSHOT_EVERY, BYTES_PER_SECOND = 5.0, 2_000_000  # a copy of 1 MB is replaced after 5.5 s, one of 500 MB after 255 s
_process_lock = threading.RLock()  # closing a file drops the locks that DuckDB has on it in the same process


class CatalogueFile:
    """Connections to a store's catalogue. Connections to the file that runs write must be closed soon.

    Args:
        wait_seconds: How long to wait for a file that another process holds; None: the constants above.
    """

    def __init__(self, store: Store, wait_seconds: float | None = None) -> None:
        self.path, self.snapshot = store.catalogue_path, store.snapshot_path
        self._lock = store.root / "catalogue.lock"
        self._reader_waits = READER_WAITS if wait_seconds is None else wait_seconds
        self._writer_waits = WRITER_WAITS if wait_seconds is None else wait_seconds
        self._gave_up = False

    @property
    def exists(self) -> bool:
        """Whether there is a catalogue, even if only the copy: from an older version, or in a copied store."""
        return self.path.exists() or self.snapshot.exists()

    @contextmanager
    def writing(self, wait: float | None = None, ends_stage: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write. If only the copy exists, it becomes the file to write.

        Args:
            wait: Seconds to wait, at most those of this object.
            ends_stage: Replace the copy whatever its age.

        Raises:
            CatalogueHeld: Another process holds the file for too long.
            StoreError: The file cannot be opened.
        """
        seconds = AGAIN if self._gave_up else self._writer_waits
        waiting = _Waiting(self, seconds if wait is None else min(wait, seconds))
        with self._turn(waiting):
            if not self.path.exists():
                self._adopt()
            connection = self._connect(self.path, False, waiting)
            self._gave_up = False
            try:
                yield connection
            finally:
                connection.close()
            if ends_stage or self._is_due():
                self._publish()

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that reads the latest state. For quick statements only, since runs wait for them.

        Raises:
            CatalogueHeld: Another process writes for too long.
            StoreError: The file cannot be opened.
        """
        with _process_lock:
            path = self.path if self.path.exists() else self.snapshot
            with contextlib.closing(self._connect(path, True, _Waiting(self, self._reader_waits))) as connection:
                yield connection

    @contextmanager
    def reading_copy(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that reads the copy, for statements of any length.

        Raises:
            CatalogueHeld, StoreError: As in `reading`.
        """
        copied = self._refreshed() and self.snapshot.exists()
        try:
            connection = duckdb.connect(str(self.snapshot), read_only=True) if copied else None
        except duckdb.Error:  # another process writes to it, or it is damaged
            connection = None
        if connection is None:
            with self.reading() as connection:
                yield connection
            return
        with contextlib.closing(connection):
            yield connection

    def give_up_damaged(self, store: Store) -> tuple[Path, float | None]:
        """Move a file that cannot be opened to STORE/damaged, and the copy as well unless it is sound.

        Returns:
            The file's new path, and the time of the copy that replaces it, if there is one.
        """
        copied = self.snapshot.stat().st_mtime if self.snapshot.exists() else None
        damaged = store.set_aside(self.path if self.path.exists() else self.snapshot)
        log = self.path.with_name(f"{self.path.name}.wal")
        if log.exists():
            store.set_aside(log)
        if self.snapshot.exists():
            try:
                duckdb.connect(str(self.snapshot), read_only=True).close()
                return damaged, copied
            except duckdb.Error as error:
                if _held(error):
                    return damaged, copied
                store.set_aside(self.snapshot)
        return damaged, None

    def gave_up(self, seconds: float) -> None:
        """Remember that waiting failed, so that the next write waits for a short time only."""
        self._gave_up = self._gave_up or seconds >= self._writer_waits

    def _adopt(self) -> None:
        """Continue with the copy if the file itself does not exist."""
        for suffix in (".wal", ""):  # the database last, since its existence completes the adoption
            source = self.snapshot.with_name(f"{self.snapshot.name}{suffix}")
            target = self.path.with_name(f"{self.path.name}{suffix}")
            with _writable(self.path), contextlib.suppress(FileNotFoundError):
                shutil.copyfile(source, f"{target}.new")
                os.replace(f"{target}.new", target)

    def _refreshed(self) -> bool:
        """Replace the copy if it is older than the file. Returns whether the copy can be read instead of the file."""
        if not self.path.exists() or self._is_fresh():
            return True
        try:
            waiting = _Waiting(self, AGAIN)
            with self._turn(waiting):
                self._connect(self.path, False, waiting).close()  # applies the write-ahead log of a process that died
                self._publish()
        except CatalogueHeld:
            return True  # a run is writing and replaces the copy itself
        except StoreError:
            return False  # for example on a read-only disk
        return self._is_fresh()

    def _is_fresh(self) -> bool:
        """Whether the copy has the file's size and time: no longer if somebody wrote to the copy."""
        try:
            original, copy = self.path.stat(), self.snapshot.stat()
        except OSError:
            return False
        log = self.path.with_name(f"{self.path.name}.wal")
        return (original.st_size, original.st_mtime_ns) == (copy.st_size, copy.st_mtime_ns) and not log.exists()

    def _is_due(self) -> bool:
        try:
            copy = self.snapshot.stat()
        except OSError:
            return True
        return not 0 <= time.time() - copy.st_ctime < SNAPSHOT_EVERY + copy.st_size / BYTES_PER_SECOND

    def _publish(self) -> None:
        """Replace the copy. The caller prevents writes to the file; a failure is logged and does not stop the run."""
        if self.path.with_name(f"{self.path.name}.wal").exists():
            return  # the file is incomplete without its log
        new = self.snapshot.with_name(f"{self.snapshot.name}.new")
        try:
            original = self.path.stat()
            with _process_lock:
                shutil.copyfile(self.path, new)
            os.utime(new, ns=(original.st_atime_ns, original.st_mtime_ns))
            # a log of somebody who wrote to the old copy: DuckDB would apply it to the new one
            self.snapshot.with_name(f"{self.snapshot.name}.wal").unlink(missing_ok=True)
            os.replace(new, self.snapshot)
        except OSError as error:
            new.unlink(missing_ok=True)
            logger.warning("The copy %s could not be updated (%s). The run continues.", self.snapshot, error.strerror)

    @contextmanager
    def _turn(self, waiting: "_Waiting") -> Iterator[None]:
        """Let one writer in at a time, across processes and threads. The lock of a process that dies is released."""
        with _writable(self.path):
            descriptor = os.open(self._lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    waiting.sleep_or_give_up(error, self._lock)
            try:
                yield
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process forked meanwhile shares the descriptor
        finally:
            os.close(descriptor)

    def _connect(self, path: Path, read_only: bool, waiting: "_Waiting") -> duckdb.DuckDBPyConnection:
        while True:
            new = not path.exists()
            try:
                return duckdb.connect(str(path), read_only=read_only)
            except duckdb.Error as error:
                if _held(error):
                    waiting.sleep_or_give_up(error, path)
                    continue
                remedy = "Run: dyprag catalogue rebuild, which recreates it from the artifacts."
                if os.strerror(errno.ENOSPC) in str(error):
                    if new:  # a partial file, which later runs could not open
                        path.unlink(missing_ok=True)
                    remedy = "Free disk space, then run again: finished work is kept."
                elif any(os.strerror(code) in str(error) for code in (errno.EROFS, errno.EACCES, errno.EPERM)):
                    remedy = "Fix the folder's permissions, then run again: finished work is kept."
                raise StoreError(f"catalogue {path}", f"it cannot be opened ({error})", remedy) from error


class _Waiting:
    """Waits for a file that another process holds: logs which process that is, and gives up in the end."""

    def __init__(self, file: CatalogueFile, seconds: float) -> None:
        self._file, self._seconds = file, seconds
        self._began = time.monotonic()
        self._logged = False

    def sleep_or_give_up(self, error: Exception, path: Path) -> None:
        """Sleep briefly.

        Raises:
            CatalogueHeld: The waiting time is over.
        """
        waited = time.monotonic() - self._began
        if waited > self._seconds:
            self._file.gave_up(self._seconds)
            raise CatalogueHeld(
                f"catalogue {self._file.path}", f"another process holds it{_named(_holder(error, path))}",
                "Close it there or wait for that process, then run again: finished work is kept. To browse the "
                f"catalogue, open {self._file.snapshot.name} instead, which does not block runs.",
            ) from error  # fmt: skip
        if waited > LOGGED_AFTER and not self._logged:
            self._logged = True
            who = _named(_holder(error, path))
            logger.warning(
                "Another process holds the catalogue %s%s. Waiting for it, up to %.0f s.", path, who, self._seconds
            )
        time.sleep(0.05)


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"catalogue {path}", f"it cannot be written ({error.strerror})",
            "Free disk space or fix the folder's permissions, then run again: finished work is kept.",
        ) from error  # fmt: skip


def _held(error: Exception) -> bool:
    """Whether a DuckDB error means that another process has the file open, or this one in another mode."""
    words = ("Could not set lock", "different configuration", "used by another process")
    return any(word in str(error) for word in words)


def _holder(error: Exception, path: Path) -> int | None:
    """The id of the process that holds a file: from DuckDB's error message, or from Linux' list of locks."""
    if match := re.search(r"\(PID (\d+)\)", str(error)):
        return int(match[1])
    try:
        inode = str(path.stat().st_ino)
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()  # 1: POSIX ADVISORY READ 4242 08:01:131 0 EOF
            if len(fields) > 5 and fields[1] != "->" and fields[5].rsplit(":", 1)[-1] == inode:
                return int(fields[4])
    except (OSError, ValueError):
        return None
    return None


def _named(process: int | None) -> str:
    """A process' id and command line."""
    if process is None or process in (os.getpid(), -1):
        return ""
    try:
        command = " ".join(" ".join(psutil.Process(process).cmdline()).split())
    except psutil.Error:  # a process of another user or container
        command = ""
    shown = f": {command[:80]}{'…' * (len(command) > 80)}" if command else ""
    return f" (PID {process}{shown})"

"""The catalogue's two files: the one that runs write, and a copy of it for everybody else.

    STORE/catalogue-writer.duckdb   written by runs, read by this package's own commands, each for a moment
    STORE/catalogue.duckdb          the copy: replaced as a whole while a run goes on and at the end of each stage

DuckDB lets one process write a file or several read it, never both. A shell, a notebook or a database browser keeps its
file open for hours, so it gets one that no run opens: whoever has the copy open keeps the one they opened.
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
READER_WAITS, WRITER_WAITS = 30.0, 600.0  # seconds for which another process may hold the file
AGAIN = 1.0  # seconds of waiting for a file for which was waited in vain already
TOLD_AFTER = 1.0  # seconds of waiting after which the log says who is waited for
SNAPSHOT_EVERY, BYTES_PER_SECOND = 5.0, 2_000_000  # a copy of 1 MB is made anew after 5.5 s, one of 500 MB after 255 s
_here = threading.RLock()  # closing a file drops the locks that DuckDB has on it in the same process


class CatalogueFile:
    """Connections to a store's catalogue. Those to the file that runs write are to be closed soon.

    Args:
        wait_seconds: for how long a file that another process holds is waited for; None: the constants above.
    """

    def __init__(self, store: Store, wait_seconds: float | None = None) -> None:
        self.path, self.snapshot = store.catalogue_path, store.snapshot_path
        self._lock = store.root / "catalogue.lock"
        self._reader_waits = READER_WAITS if wait_seconds is None else wait_seconds
        self._writer_waits = WRITER_WAITS if wait_seconds is None else wait_seconds
        self._gave_up = False

    @property
    def exists(self) -> bool:
        """Whether there is one, if only the copy: the catalogue of an older version, or of a store that was copied."""
        return self.path.exists() or self.snapshot.exists()

    @contextmanager
    def writing(self, wait: float | None = None, ends_stage: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write. Where there is only the copy, it is gone on with.

        Args:
            wait: seconds, in place of those of this object.
            ends_stage: the copy is made anew, be it ever so young.

        Raises:
            CatalogueHeld: another process holds the file for too long.
            StoreError: it cannot be opened.
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
        """A connection that reads what was written last; for quick statements, as a run waits for their end.

        Raises:
            CatalogueHeld: another process writes for too long.
            StoreError: it cannot be opened.
        """
        with _here:
            path = self.path if self.path.exists() else self.snapshot
            with contextlib.closing(self._connect(path, True, _Waiting(self, self._reader_waits))) as connection:
                yield connection

    @contextmanager
    def looking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that reads the copy, for statements that take as long as they like.

        Raises:
            CatalogueHeld, StoreError: as `reading`.
        """
        copied = self._refreshed() and self.snapshot.exists()
        try:
            connection = duckdb.connect(str(self.snapshot), read_only=True) if copied else None
        except duckdb.Error:  # open for writing elsewhere, or damaged
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
            Where the file is now, and of what time the copy is that takes its place, if one does.
        """
        made = self.snapshot.stat().st_mtime if self.snapshot.exists() else None
        aside = store.set_aside(self.path if self.path.exists() else self.snapshot)
        log = self.path.with_name(f"{self.path.name}.wal")
        if log.exists():
            store.set_aside(log)
        if self.snapshot.exists():
            try:
                duckdb.connect(str(self.snapshot), read_only=True).close()
                return aside, made
            except duckdb.Error as error:
                if _held(error):
                    return aside, made
                store.set_aside(self.snapshot)
        return aside, None

    def gave_up(self, seconds: float) -> None:
        """The file was waited for in vain: what is to be written after that does not wait as long once more."""
        self._gave_up = self._gave_up or seconds >= self._writer_waits

    def _adopt(self) -> None:
        """Go on with the copy, where the file itself is not there."""
        for suffix in (".wal", ""):  # the file last: once it is there, it counts
            source = self.snapshot.with_name(f"{self.snapshot.name}{suffix}")
            target = self.path.with_name(f"{self.path.name}{suffix}")
            with _writable(self.path), contextlib.suppress(FileNotFoundError):
                shutil.copyfile(source, f"{target}.new")
                os.replace(f"{target}.new", target)

    def _refreshed(self) -> bool:
        """Make the copy anew where it is older than the file; whether it can be read instead of the file."""
        if not self.path.exists() or self._is_fresh():
            return True
        try:
            waiting = _Waiting(self, AGAIN)
            with self._turn(waiting):
                self._connect(self.path, False, waiting).close()  # what a process that died had not put into the file
                self._publish()
        except CatalogueHeld:
            return True  # a run writes: the copy is as old as its last one
        except StoreError:
            return False  # as on a disk that can only be read
        return self._is_fresh()

    def _is_fresh(self) -> bool:
        """The copy has the file's size and time, unless somebody has written into it."""
        try:
            one, other = self.path.stat(), self.snapshot.stat()
        except OSError:
            return False
        log = self.path.with_name(f"{self.path.name}.wal")
        return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns) and not log.exists()

    def _is_due(self) -> bool:
        try:
            found = self.snapshot.stat()
        except OSError:
            return True
        return not 0 <= time.time() - found.st_ctime < SNAPSHOT_EVERY + found.st_size / BYTES_PER_SECOND

    def _publish(self) -> None:
        """Replace the copy. Nobody writes the file meanwhile; that it is not replaced stops no run."""
        if self.path.with_name(f"{self.path.name}.wal").exists():
            return  # not all is in the file yet
        new = self.snapshot.with_name(f"{self.snapshot.name}.new")
        try:
            found = self.path.stat()
            with _here:
                shutil.copyfile(self.path, new)
            os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
            # left by somebody who had the old copy open for writing, DuckDB would apply it to the new one
            self.snapshot.with_name(f"{self.snapshot.name}.wal").unlink(missing_ok=True)
            os.replace(new, self.snapshot)
        except OSError as error:
            new.unlink(missing_ok=True)
            logger.warning("The copy %s could not be made anew (%s). The run goes on.", self.snapshot, error.strerror)

    @contextmanager
    def _turn(self, waiting: "_Waiting") -> Iterator[None]:
        """One writer at a time, of all processes and threads. The lock of one that dies goes with it."""
        with _writable(self.path):
            descriptor = os.open(self._lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    waiting.goes_on(error, self._lock)
            try:
                yield
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process forked meanwhile has the descriptor as well
        finally:
            os.close(descriptor)

    def _connect(self, path: Path, read_only: bool, waiting: "_Waiting") -> duckdb.DuckDBPyConnection:
        while True:
            new = not path.exists()
            try:
                return duckdb.connect(str(path), read_only=read_only)
            except duckdb.Error as error:
                if _held(error):
                    waiting.goes_on(error, path)
                    continue
                remedy = "Run: dyprag catalogue rebuild, which makes it again from the artifacts."
                if os.strerror(errno.ENOSPC) in str(error):
                    if new:  # there was room for a part of it, which no later run could open
                        path.unlink(missing_ok=True)
                    remedy = "Free disk space, then run again: finished work is kept."
                elif any(os.strerror(code) in str(error) for code in (errno.EROFS, errno.EACCES, errno.EPERM)):
                    remedy = "Mend the folder's rights, then run again: finished work is kept."
                raise StoreError(f"catalogue {path}", f"it cannot be opened ({error})", remedy) from error


class _Waiting:
    """Waits for a file that another process holds: says for whom, and gives up in the end."""

    def __init__(self, file: CatalogueFile, seconds: float) -> None:
        self._file, self._seconds = file, seconds
        self._began = time.monotonic()
        self._told = False

    def goes_on(self, error: Exception, path: Path) -> None:
        """Sleep a little.

        Raises:
            CatalogueHeld: it was waited for long enough.
        """
        waited = time.monotonic() - self._began
        if waited > self._seconds:
            self._file.gave_up(self._seconds)
            raise CatalogueHeld(
                f"catalogue {self._file.path}", f"another process holds it{_named(_holder(error, path))}",
                "Close it there, or wait for its end, then run again: finished work is kept. To look into the "
                f"catalogue, open {self._file.snapshot.name}, which no run waits for.",
            ) from error  # fmt: skip
        if waited > TOLD_AFTER and not self._told:
            self._told = True
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
    """Whether DuckDB says that another process has the file open, or this one has it in the other mode."""
    words = ("Could not set lock", "different configuration", "used by another process")
    return any(word in str(error) for word in words)


def _holder(error: Exception, path: Path) -> int | None:
    """The process that holds a file: DuckDB mostly names it, Linux lists who has a lock on which file."""
    if told := re.search(r"\(PID (\d+)\)", str(error)):
        return int(told[1])
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
    """The process' number and what it was started as."""
    if process is None or process in (os.getpid(), -1):
        return ""
    try:
        command = " ".join(" ".join(psutil.Process(process).cmdline()).split())
    except psutil.Error:  # another user's, or another container's
        command = ""
    shown = f": {command[:80]}{'…' * (len(command) > 80)}" if command else ""
    return f" (PID {process}{shown})"

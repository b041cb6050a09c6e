"""Artifacts on disk: one folder each, named by its key, written atomically, and checked when read.

    STORE/KIND/ab/abcd…/        the artifact's files (Parquet, safetensors, JSON) and record.json
    STORE/checkpoints/          checkpoints of unfinished trainings
    STORE/responses/            every response of an endpoint (storage/journal.py)
    STORE/damaged/              artifacts that failed their check
    STORE/catalogue.duckdb      the catalogue for readers: a copy of the file that runs write (storage/catalogue.py)
    STORE/reports/              reports and model cards

A record states how the artifact was made, and the size and checksum of its files. The catalogue can therefore be
rebuilt from records alone.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dyprag.config.stages import KINDS
from dyprag.errors import ArtifactError, StoreError
from dyprag.storage.files import file_checksum, flush, size_and_checksum
from dyprag.storage.remote import RECORD, remote_of

logger = logging.getLogger("dyprag.storage")


@dataclass(frozen=True)
class Record:
    """The metadata of an artifact. `measures` are figures of how it was made, such as tokens and losses."""

    kind: str
    key: str
    inputs: list[str]
    settings: dict[str, Any]
    document_key: str = ""
    document_id: str = ""
    created: float = 0.0
    seconds: float = 0.0
    measures: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(file["bytes"] for file in self.files.values())

    @property
    def checksum(self) -> str:
        """One checksum over the checksums of all files."""
        joined = "".join(f"{name}:{file['blake2b']};" for name, file in sorted(self.files.items()))
        return hashlib.blake2b(joined.encode(), digest_size=16).hexdigest()


class Store:
    """The artifacts below a folder, or below a URL with a local copy (storage/remote.py).

    With a URL, artifacts are written to both places, and read from the URL if they are not in the copy.

    Args:
        writes: Create the folder if it is missing, and check that it is writable.

    Raises:
        StoreError: The folder cannot be created or written, or the URL cannot be reached.
    """

    def __init__(self, root: str | Path, writes: bool = True) -> None:
        self.remote = remote_of(str(root), os.getpid())
        self.root = (
            self.remote.copy() if self.remote else Path(str(root).removeprefix("file://")).expanduser().absolute()
        )
        try:
            if writes:
                self.root.mkdir(parents=True, exist_ok=True)
                self._try_writing()
        except OSError as error:
            raise StoreError(
                f"store {self.root}",
                f"it cannot be written ({error.strerror})",
                "Choose another folder (--set store=PATH) or get write permission there.",
            ) from error

    def is_writable(self) -> bool:
        """Whether the store's folder can be written."""
        try:
            self._try_writing()
        except OSError:
            return False
        return True

    def _try_writing(self) -> None:
        with tempfile.TemporaryFile(dir=self.root):
            pass

    def refresh(self) -> None:
        """For a store behind a URL: learn what other machines have written."""
        if self.remote:
            self.remote.forget()
            self.remote.replace_files(self.root, "latest")

    def save(self) -> None:
        """For a store behind a URL: upload responses and reports."""
        if self.remote:
            for folder in ("responses", "reports"):
                self.remote.push_files(self.root, folder)

    @property
    def catalogue_path(self) -> Path:
        """The catalogue file that runs write. Only runs and this package's commands open it."""
        return self.root / "catalogue-writer.duckdb"

    @property
    def snapshot_path(self) -> Path:
        """The copy of the catalogue that everybody else may open, for any length of time."""
        return self.root / "catalogue.duckdb"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    def checkpoint(self, kind: str, key: str) -> Path:
        """The path of a training's checkpoint."""
        return self.root / "checkpoints" / f"{kind}-{key}.safetensors"

    def folder(self, kind: str, key: str) -> Path:
        """The folder of the artifact with this key, whether it exists or not."""
        return self.root / kind / key[:2] / key

    def write(self, record: Record, fill: Callable[[Path], dict[str, Any] | None]) -> Record:
        """Write an artifact atomically.

        Args:
            record: Kind, key and origin. Files, time and measures are filled in here.
            fill: Writes the files into the given folder, and may return measures.

        Returns:
            The complete record. If the key exists already, for example from another process, the record on disk.

        Raises:
            StoreError: The disk is full, or the folder cannot be written.
        """
        target = self.folder(record.kind, record.key)
        began = time.time()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as temporary:
                folder = Path(temporary) / "artifact"
                folder.mkdir()
                measures = fill(folder) or {}
                finished = _seal(folder, record, measures, began)
                if self.remote:  # uploaded first: a local artifact is assumed to exist remotely, too
                    self.remote.push(record.kind, record.key, folder)
                try:
                    os.rename(folder, target)
                except OSError:
                    existing = self.find(record.kind, record.key)
                    if existing is None:
                        raise
                    return existing
                flush(target.parent)
                return finished
        except OSError as error:
            raise StoreError(
                f"store {self.root}",
                f"the {record.kind} {record.key} cannot be written ({error.strerror})",
                "Free disk space or fix the folder's permissions, then run again: finished work is kept.",
            ) from error

    def find(self, kind: str, key: str) -> Record | None:
        """The record of a sound artifact; None if there is none.

        A damaged artifact is logged, moved to STORE/damaged and counts as missing, so that it is made again.
        """
        folder = self.folder(kind, key)
        if not folder.exists() and not (self.remote and self.remote.has(kind, key) and self._fetch(kind, key)):
            return None
        try:
            record = self._checked(folder)
            if self.remote and not self.remote.has(kind, key):  # another machine deleted it there
                self.remote.push(kind, key, folder)
            return record
        except ArtifactError as error:
            logger.warning("%s It was moved to %s and will be made again.", error, self.root / "damaged")
            self.set_aside(folder)
        if not self.remote or not self._fetch(kind, key):
            return None
        try:
            return self._checked(folder)
        except ArtifactError as error:
            logger.warning("%s The copy at %s is damaged, too, and is deleted.", error, self.remote.url)
            self.remote.delete(kind, key)
            self.set_aside(folder)
            return None

    def has(self, kind: str, key: str) -> bool:
        """Whether an artifact exists, sound or not. Behind a URL this is the state at the last `refresh`."""
        return self.folder(kind, key).exists() or (self.remote is not None and self.remote.has(kind, key))

    def open(self, kind: str, key: str) -> Path:
        """The folder of a sound artifact.

        Raises:
            ArtifactError: The artifact is missing or damaged.
        """
        if self.remote and not self.folder(kind, key).exists():
            self._fetch(kind, key)  # the caller knows the key, so it may be newer than the listing
        if self.find(kind, key) is None:
            raise ArtifactError(
                f"{kind} {key}", "it is missing or damaged", "Run the pipeline again to recreate it: dyprag run."
            )
        return self.folder(kind, key)

    def records(self) -> Iterator[Record]:
        """Every readable record, for rebuilding the catalogue. The files are not checked."""
        for kind in KINDS:
            for path in sorted((self.root / kind).glob(f"*/*/{RECORD}")):
                try:
                    yield Record(**json.loads(path.read_text()))
                except (OSError, ValueError, TypeError):
                    logger.warning("%s cannot be read and is skipped.", path)
            for data in self.remote.records(kind, self._remote_only(kind)) if self.remote else ():
                try:
                    yield Record(**json.loads(data))
                except (ValueError, TypeError):
                    logger.warning("A remote record of the kind %s cannot be read and is skipped.", kind)

    def count(self) -> int:
        """The number of artifacts, readable or not."""
        return sum(1 for _ in self._folders()) + sum(len(self._remote_only(kind)) for kind in KINDS)

    def verify(self) -> Iterator[tuple[str, str, str]]:
        """Check every artifact. Yields (kind, key, fault), with an empty fault for sound ones. Nothing is changed,
        except that artifacts behind a URL are downloaded."""
        for kind in KINDS:
            for key in sorted(self._remote_only(kind)):
                self._fetch(kind, key)
        for kind, folder in self._folders():
            try:
                self._checked(folder)
                yield kind, folder.name, ""
            except ArtifactError as error:
                yield kind, folder.name, error.reason

    def _folders(self) -> Iterator[tuple[str, Path]]:
        """(kind, folder) of every artifact, except those being written."""
        for kind in KINDS:
            yield from ((kind, folder) for folder in sorted((self.root / kind).glob("*/*")) if folder.name[0] != ".")

    def _remote_only(self, kind: str) -> set[str]:
        """Keys of artifacts that exist behind the URL but not locally."""
        if not self.remote:
            return set()
        return {key for key in self.remote.keys(kind) if not self.folder(kind, key).exists()}

    def _fetch(self, kind: str, key: str) -> bool:
        """Download an artifact. Returns whether it exists locally now."""
        target = self.folder(kind, key)
        if not self.remote:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as temporary:
            folder = Path(temporary) / "artifact"
            folder.mkdir()
            if not self.remote.pull(kind, key, folder):
                return False
            with contextlib.suppress(OSError):  # another process was quicker
                os.rename(folder, target)
        return target.exists()

    def sweep(self, older_than: float = 3600.0, checkpoints_older_than: float = 30 * 86400.0) -> None:
        """Remove files of killed writers after an hour, when nobody can still be writing them, and checkpoints that
        have not been used for a month."""
        patterns = ("*/*/.writing-*", "indexes/.writing-*", "checkpoints/.*.writing")
        leftovers = [(pattern, older_than) for pattern in patterns]
        for pattern, age in (*leftovers, ("checkpoints/*", checkpoints_older_than)):
            for path in self.root.glob(pattern):
                try:
                    if time.time() - path.stat().st_mtime > age:
                        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
                except OSError:
                    continue

    def _checked(self, folder: Path) -> Record:
        try:
            with open(f"{folder}/{RECORD}", "rb") as stream:
                record = Record(**json.loads(stream.read()))
        except (OSError, ValueError, TypeError) as error:
            raise ArtifactError(f"artifact {folder}", "its record cannot be read", "No action is needed.") from error
        for name, expected in record.files.items():
            try:
                size, checksum = size_and_checksum(f"{folder}/{name}")
            except OSError:
                size, checksum = -1, ""
            if size != expected["bytes"]:
                raise ArtifactError(f"artifact {folder}", f"{name} is missing or truncated", "No action is needed.")
            if checksum != expected["blake2b"]:
                raise ArtifactError(f"artifact {folder}", f"{name} has a wrong checksum", "No action is needed.")
        return record

    def set_aside(self, path: Path) -> Path:
        """Move a damaged file or folder to STORE/damaged. Returns its new path."""
        target = self.root / "damaged" / f"{path.name}-{time.time_ns()}"
        target.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process did it
            os.rename(path, target)
        return target


def _seal(folder: Path, record: Record, measures: dict[str, Any], began: float) -> Record:
    """Add the complete record to an artifact's files, and flush everything to disk."""
    files = {}
    mode = folder.stat().st_mode & 0o666  # safetensors writes files that only their owner can read
    for path in sorted(folder.iterdir()):
        path.chmod(mode)
        flush(path)
        files[path.name] = {"bytes": path.stat().st_size, "blake2b": file_checksum(path)}
    finished = Record(**{
        **asdict(record), "created": began, "seconds": record.seconds or time.time() - began,
        "measures": {**record.measures, **measures}, "files": files,
    })  # fmt: skip
    (folder / RECORD).write_text(json.dumps(asdict(finished), ensure_ascii=False, indent=1))
    flush(folder / RECORD)
    return finished

"""Artifacts on disk: one folder each, named by its key, written at once or not at all, checked when read.

    STORE/KIND/ab/abcd…/        the artifact's files (Parquet, safetensors, JSON) and record.json
    STORE/checkpoints/          what long trainings go on from after a stop; gone once they have ended
    STORE/responses/            every answer of an endpoint (storage/journal.py)
    STORE/damaged/              artifacts that failed their check, moved out of the way
    STORE/catalogue.duckdb      the catalogue (storage/catalogue.py): a copy for readers of what runs write beside it
    STORE/reports/              what people read

The record says what made the artifact and how its bytes must look, so the catalogue can be rebuilt from records alone.
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
    """What is known of one artifact. `measures` holds figures of its making: tokens, losses, and so on."""

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
        """One checksum over those of the files."""
        joined = "".join(f"{name}:{file['blake2b']};" for name, file in sorted(self.files.items()))
        return hashlib.blake2b(joined.encode(), digest_size=16).hexdigest()


class Store:
    """The artifacts below one folder, or below a URL of which a folder here is the copy (storage/remote.py): then what
    is made is written to both, and what is not here is read from there.

    Args:
        writes: the folder is made where it is not there, and has to be writable.

    Raises:
        StoreError: the folder cannot be created or written, or the URL not reached.
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
        """Whether its folder can be written."""
        try:
            self._try_writing()
        except OSError:
            return False
        return True

    def _try_writing(self) -> None:
        with tempfile.TemporaryFile(dir=self.root):
            pass

    def refresh(self) -> None:
        """Behind a URL, learn what others have written there."""
        if self.remote:
            self.remote.forget()
            self.remote.replace_files(self.root, "latest")

    def save(self) -> None:
        """Behind a URL, write there what is no artifact and grows from stage to stage."""
        if self.remote:
            for folder in ("responses", "reports"):
                self.remote.push_files(self.root, folder)

    @property
    def catalogue_path(self) -> Path:
        """Of the file that runs write; only they and this package's own commands open it."""
        return self.root / "catalogue-writer.duckdb"

    @property
    def snapshot_path(self) -> Path:
        """Of the copy that everybody else may open, and keep open."""
        return self.root / "catalogue.duckdb"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    def checkpoint(self, kind: str, key: str) -> Path:
        """Where the state of a long making of this key is kept until it has ended."""
        return self.root / "checkpoints" / f"{kind}-{key}.safetensors"

    def folder(self, kind: str, key: str) -> Path:
        """Where the artifact of this key is, or would be."""
        return self.root / kind / key[:2] / key

    def write(self, record: Record, fill: Callable[[Path], dict[str, Any] | None]) -> Record:
        """Write an artifact at once or not at all.

        Args:
            record: its kind, key and origin; files, time and measures are filled in here.
            fill: writes the files into the folder it is given, and may return measures.

        Returns:
            The finished record; where the key was written before (by another process, say), the one on disk.

        Raises:
            StoreError: the disk is full, or the folder cannot be written.
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
                if self.remote:  # first, as what is here is taken to be there
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
        """The record of an artifact that is there and sound; None where there is none.

        A damaged one is reported, moved to STORE/damaged and counts as absent, so that it is made again.
        """
        folder = self.folder(kind, key)
        if not folder.exists() and not (self.remote and self.remote.has(kind, key) and self._fetched(kind, key)):
            return None
        try:
            record = self._checked(folder)
            if self.remote and not self.remote.has(kind, key):  # deleted there, from another machine
                self.remote.push(kind, key, folder)
            return record
        except ArtifactError as error:
            logger.warning("%s It is moved to %s and made again.", error, self.root / "damaged")
            self.set_aside(folder)
        if not self.remote or not self._fetched(kind, key):
            return None
        try:
            return self._checked(folder)
        except ArtifactError as error:
            logger.warning("%s So it is at %s, where it is deleted.", error, self.remote.url)
            self.remote.delete(kind, key)
            self.set_aside(folder)
            return None

    def has(self, kind: str, key: str) -> bool:
        """Whether there is an artifact, sound or not; behind a URL, as far as was known at the last `refresh`."""
        return self.folder(kind, key).exists() or (self.remote is not None and self.remote.has(kind, key))

    def open(self, kind: str, key: str) -> Path:
        """The folder of a sound artifact.

        Raises:
            ArtifactError: it is missing or damaged.
        """
        if self.remote and not self.folder(kind, key).exists():
            self._fetched(kind, key)  # whoever asks knows of it: it may be newer than the list
        if self.find(kind, key) is None:
            raise ArtifactError(
                f"{kind} {key}", "it is missing or damaged", "Run the pipeline again to recreate it: dyprag run."
            )
        return self.folder(kind, key)

    def records(self) -> Iterator[Record]:
        """Every readable record, for rebuilding the catalogue. Files are not checked here."""
        for kind in KINDS:
            for path in sorted((self.root / kind).glob(f"*/*/{RECORD}")):
                try:
                    yield Record(**json.loads(path.read_text()))
                except (OSError, ValueError, TypeError):
                    logger.warning("%s cannot be read and is left out.", path)
            for data in self.remote.records(kind, self._elsewhere(kind)) if self.remote else ():
                try:
                    yield Record(**json.loads(data))
                except (ValueError, TypeError):
                    logger.warning("A record of %s artifacts cannot be read and is left out.", kind)

    def count(self) -> int:
        """Of artifacts, readable or not."""
        return sum(1 for _ in self._folders()) + sum(len(self._elsewhere(kind)) for kind in KINDS)

    def verify(self) -> Iterator[tuple[str, str, str]]:
        """(kind, key, what is wrong with it) of every artifact, its bytes checked; nothing is wrong with most. Changes
        nothing, but that behind a URL all that is not here is read."""
        for kind in KINDS:
            for key in sorted(self._elsewhere(kind)):
                self._fetched(kind, key)
        for kind, folder in self._folders():
            try:
                self._checked(folder)
                yield kind, folder.name, ""
            except ArtifactError as error:
                yield kind, folder.name, error.reason

    def _folders(self) -> Iterator[tuple[str, Path]]:
        """(kind, folder) of every artifact that is not being written just now."""
        for kind in KINDS:
            yield from ((kind, folder) for folder in sorted((self.root / kind).glob("*/*")) if folder.name[0] != ".")

    def _elsewhere(self, kind: str) -> set[str]:
        """Keys of artifacts that are behind the URL and not here."""
        if not self.remote:
            return set()
        return {key for key in self.remote.keys(kind) if not self.folder(kind, key).exists()}

    def _fetched(self, kind: str, key: str) -> bool:
        """Read an artifact from behind the URL; gives whether it is here now."""
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
        """Remove what killed writers left behind, once it is an hour old and surely nobody's, and checkpoints that
        nothing went on from in a month."""
        places = ("*/*/.writing-*", "indexes/.writing-*", "checkpoints/.*.writing")
        left = [(place, older_than) for place in places]
        for pattern, age in (*left, ("checkpoints/*", checkpoints_older_than)):
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
            raise ArtifactError(f"artifact {folder}", "its record cannot be read", "It needs no action.") from error
        for name, expected in record.files.items():
            try:
                size, checksum = size_and_checksum(f"{folder}/{name}")
            except OSError:
                size, checksum = -1, ""
            if size != expected["bytes"]:
                raise ArtifactError(f"artifact {folder}", f"{name} is missing or truncated", "It needs no action.")
            if checksum != expected["blake2b"]:
                raise ArtifactError(f"artifact {folder}", f"{name} has a wrong checksum", "It needs no action.")
        return record

    def set_aside(self, path: Path) -> Path:
        """Move what is damaged out of the way; gives where it is then."""
        target = self.root / "damaged" / f"{path.name}-{time.time_ns()}"
        target.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process did it
            os.rename(path, target)
        return target


def _seal(folder: Path, record: Record, measures: dict[str, Any], began: float) -> Record:
    """Write the finished record beside the files of an artifact, and have the disk hold all of them."""
    files = {}
    mode = folder.stat().st_mode & 0o666  # safetensors' files would be their writer's alone
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

"""A store in a bucket, or on any other file system that fsspec supports. A local folder holds copies of what this
machine has made or read.

    URL/KIND/ab/abcd…/     as in a store's folder; record.json is written last and deleted first
    URL/latest/            notes about the latest artifacts (storage/latest.py)
    URL/responses/         responses of endpoints, uploaded at the end of a stage (storage/journal.py)
    URL/reports/

The file names are those of a local store, so a plain copy of either is a store as well.
"""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dyprag.corpora.locations import in_a_line, refuse_secrets
from dyprag.errors import StoreError
from dyprag.model.files import cache_folder

RECORD = "record.json"
TOGETHER = 500  # records read in one request


@lru_cache(maxsize=8)
def remote_of(root: str, process: int) -> "Remote | None":
    """The remote store of an address; None for a local folder.

    Args:
        process: The id of this process. Connections must not be reused after a fork.

    Raises:
        StoreError: The kind of address is unknown, or its library is not installed.
    """
    scheme = urlsplit(root).scheme
    return None if scheme in ("", "file") else Remote(root.rstrip("/"))


class Remote:
    """Artifacts below a URL, shared by the threads of a process.

    All methods raise StoreError if the address cannot be reached or access is denied.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        refuse_secrets(url, "store", StoreError)
        try:
            self._fs, self._base = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            extra = "pip install 'dyprag[s3]'" if url.startswith("s3:") else "the package that the message names"
            reason = f"its library is not installed, or the kind of address is unknown ({in_a_line(error)})"
            raise StoreError(f"store {url}", reason, f"Install it: {extra}.") from error
        self._keys: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def copy(self) -> Path:
        """The folder of the local copy."""
        name = re.sub(r"[^\w.-]+", "-", self.url).strip("-")[-60:]
        return cache_folder() / "stores" / f"{name}-{hashlib.blake2b(self.url.encode(), digest_size=4).hexdigest()}"

    def has(self, kind: str, key: str) -> bool:
        """Whether an artifact exists, according to a listing that is made once per kind and again after `forget`."""
        with self._lock:
            return key in self._listed(kind)

    def keys(self, kind: str) -> set[str]:
        """Keys of all artifacts of a kind, according to the same listing."""
        with self._lock:
            return set(self._listed(kind))

    def forget(self) -> None:
        """Discard the listings, because other machines may have written."""
        with self._lock:
            self._keys.clear()

    def push(self, kind: str, key: str, folder: Path) -> None:
        """Upload an artifact. Its record is uploaded last and makes it visible."""
        folder_url = self._folder_url(kind, key)
        files = [path for path in sorted(folder.iterdir()) if path.name != RECORD]
        with self._reached(f"the {kind} {key} cannot be written"):
            self._fs.put([str(path) for path in files], [f"{folder_url}/{path.name}" for path in files])
            self._fs.pipe_file(f"{folder_url}/{RECORD}", (folder / RECORD).read_bytes())
        with self._lock:
            if kind in self._keys:
                self._keys[kind].add(key)

    def pull(self, kind: str, key: str, folder: Path) -> bool:
        """Download an artifact into an empty folder. Returns whether it exists."""
        folder_url = self._folder_url(kind, key)
        with self._reached(f"the {kind} {key} cannot be read"):
            try:
                record = self._fs.cat_file(f"{folder_url}/{RECORD}")
                names = [
                    os.path.basename(name) for name in json.loads(record)["files"]
                ]  # base names, so that no file leaves the folder
                self._fs.get([f"{folder_url}/{name}" for name in names], [str(folder / name) for name in names])
            except (FileNotFoundError, ValueError, KeyError, TypeError):  # missing or incomplete
                return False
        (folder / RECORD).write_bytes(record)
        return True

    def records(self, kind: str, keys: Iterable[str]) -> Iterator[bytes]:
        """The contents of the record files of some artifacts."""
        paths = [f"{self._folder_url(kind, key)}/{RECORD}" for key in sorted(keys)]
        for start in range(0, len(paths), TOGETHER):
            with self._reached(f"records of {kind} artifacts cannot be read"):
                yield from self._fs.cat(paths[start : start + TOGETHER], on_error="omit").values()

    def delete(self, kind: str, key: str) -> None:
        """Delete an artifact, its record first."""
        folder_url = self._folder_url(kind, key)
        with self._reached(f"the {kind} {key} cannot be deleted"):
            self._fs.invalidate_cache()
            for path in sorted(self._fs.find(folder_url), key=lambda path: not path.endswith(f"/{RECORD}")):
                self._fs.rm_file(path)
        with self._lock:
            self._keys.get(kind, set()).discard(key)

    def push_files(self, root: Path, folder: str) -> None:
        """Upload files below a folder of the copy that are missing at the URL or have another size."""
        with self._reached(f"{folder} cannot be written"):
            sizes = self._sizes(folder)
            files = {str(path.relative_to(root)): path for path in (root / folder).rglob("*") if path.is_file()}
            new = {name: path for name, path in files.items() if sizes.get(name) != path.stat().st_size}
            if new:
                self._fs.put([str(path) for path in new.values()], [f"{self._base}/{name}" for name in new])

    def pull_files(self, root: Path, folder: str) -> None:
        """Download files below a folder that are missing in the copy or shorter."""
        with self._reached(f"{folder} cannot be read"):
            for name, size in self._sizes(folder).items():
                path = root / name
                if not path.exists() or path.stat().st_size < size:
                    self._download(name, path)

    def replace_files(self, root: Path, folder: str) -> None:
        """Make a folder of the copy equal to that at the URL."""
        with self._reached(f"{folder} cannot be read"):
            sizes = self._sizes(folder)
            for name in sizes:
                self._download(name, root / name)
        for path in (root / folder).glob("[!.]*"):
            if str(path.relative_to(root)) not in sizes:
                path.unlink()

    def write_file(self, name: str, data: bytes) -> None:
        """Write a file at the URL."""
        with self._reached(f"{name} cannot be written"):
            self._fs.pipe_file(f"{self._base}/{name}", data)

    def delete_file(self, name: str) -> None:
        """Delete a file at the URL, if it exists."""
        with self._reached(f"{name} cannot be deleted"):
            try:
                self._fs.rm_file(f"{self._base}/{name}")
            except FileNotFoundError:
                return

    def _listed(self, kind: str) -> set[str]:
        if kind not in self._keys:
            with self._reached(f"the {kind} artifacts cannot be listed"):
                self._fs.invalidate_cache()
                paths = self._fs.find(f"{self._base}/{kind}")
            self._keys[kind] = {path.split("/")[-2] for path in paths if path.endswith(f"/{RECORD}")}
        return self._keys[kind]

    def _folder_url(self, kind: str, key: str) -> str:
        return f"{self._base}/{kind}/{key[:2]}/{key}"

    def _sizes(self, folder: str) -> dict[str, int]:
        """Sizes in bytes of the files below a folder, by their path relative to the URL."""
        self._fs.invalidate_cache()
        files: dict[str, Any] = self._fs.find(f"{self._base}/{folder}", detail=True)
        return {path[len(self._base) + 1 :]: int(details["size"]) for path, details in files.items()}

    def _download(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        temporary.write_bytes(self._fs.cat_file(f"{self._base}/{name}"))
        os.replace(temporary, path)

    @contextmanager
    def _reached(self, what: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # each file system has its own exceptions
            raise StoreError(
                f"store {self.url}", f"{what} ({in_a_line(error)})",
                "Check the address, the network and the credentials, then run again: finished work is kept.",
            ) from error  # fmt: skip

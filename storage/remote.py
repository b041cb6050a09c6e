"""A store in a bucket, or wherever else fsspec reaches: what counts is there, and a folder here is a copy of what this
machine has made or wanted.

    URL/KIND/ab/abcd…/     as in a store's folder; record.json is the last to be written and the first to go
    URL/latest/            what was last used under some settings (storage/latest.py)
    URL/responses/         endpoints' answers, from the end of the stage that they came in (storage/journal.py)
    URL/reports/

The names are those of a folder, so what is copied from one to the other is a store as well.
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
TOGETHER = 500  # records that are read at the same time


@lru_cache(maxsize=8)
def remote_of(root: str, process: int) -> "Remote | None":
    """What a store's address leads to; None for a folder of this machine.

    Args:
        process: whose; connections are no good in a process that was forked from theirs.

    Raises:
        StoreError: no such kind of address is known, or a library for it is missing.
    """
    scheme = urlsplit(root).scheme
    return None if scheme in ("", "file") else Remote(root.rstrip("/"))


class Remote:
    """Artifacts below a URL. Threads of a process share it.

    All methods raise a StoreError where the address cannot be reached, or does not allow it.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        refuse_secrets(url, "store", StoreError)
        try:
            self._fs, self._base = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            extra = "pip install 'dyprag[s3]'" if url.startswith("s3:") else "install the package that it names"
            reason = f"a library for it is missing, or there is no such kind of address ({in_a_line(error)})"
            raise StoreError(f"store {url}", reason, f"Install it: {extra}.") from error
        self._keys: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def copy(self) -> Path:
        """The folder of this machine's copy."""
        name = re.sub(r"[^\w.-]+", "-", self.url).strip("-")[-60:]
        return cache_folder() / "stores" / f"{name}-{hashlib.blake2b(self.url.encode(), digest_size=4).hexdigest()}"

    def has(self, kind: str, key: str) -> bool:
        """Whether there is an artifact, as far as this process knows: it lists a kind's once, and again after
        `forget`."""
        with self._lock:
            return key in self._listed(kind)

    def keys(self, kind: str) -> set[str]:
        """Of all artifacts of a kind, as `has` knows them."""
        with self._lock:
            return set(self._listed(kind))

    def forget(self) -> None:
        """List anew: others may have written."""
        with self._lock:
            self._keys.clear()

    def push(self, kind: str, key: str, folder: Path) -> None:
        """Write an artifact; it is there with its record, which is written last."""
        place = self._place(kind, key)
        files = [path for path in sorted(folder.iterdir()) if path.name != RECORD]
        with self._reached(f"the {kind} {key} cannot be written"):
            self._fs.put([str(path) for path in files], [f"{place}/{path.name}" for path in files])
            self._fs.pipe_file(f"{place}/{RECORD}", (folder / RECORD).read_bytes())
        with self._lock:
            if kind in self._keys:
                self._keys[kind].add(key)

    def pull(self, kind: str, key: str, folder: Path) -> bool:
        """Read an artifact into an empty folder; gives whether there is one."""
        place = self._place(kind, key)
        with self._reached(f"the {kind} {key} cannot be read"):
            try:
                record = self._fs.cat_file(f"{place}/{RECORD}")
                names = [os.path.basename(name) for name in json.loads(record)["files"]]  # none leads out of the folder
                self._fs.get([f"{place}/{name}" for name in names], [str(folder / name) for name in names])
            except (FileNotFoundError, ValueError, KeyError, TypeError):  # not there, or only in part
                return False
        (folder / RECORD).write_bytes(record)
        return True

    def records(self, kind: str, keys: Iterable[str]) -> Iterator[bytes]:
        """The records of some artifacts, as they are."""
        paths = [f"{self._place(kind, key)}/{RECORD}" for key in sorted(keys)]
        for start in range(0, len(paths), TOGETHER):
            with self._reached(f"records of {kind} artifacts cannot be read"):
                yield from self._fs.cat(paths[start : start + TOGETHER], on_error="omit").values()

    def delete(self, kind: str, key: str) -> None:
        """Delete an artifact, its record first."""
        place = self._place(kind, key)
        with self._reached(f"the {kind} {key} cannot be deleted"):
            self._fs.invalidate_cache()
            for path in sorted(self._fs.find(place), key=lambda path: not path.endswith(f"/{RECORD}")):
                self._fs.rm_file(path)
        with self._lock:
            self._keys.get(kind, set()).discard(key)

    def push_files(self, root: Path, folder: str) -> None:
        """Write the files below a folder of the copy that are not there, or of another size."""
        with self._reached(f"{folder} cannot be written"):
            there = self._sizes(folder)
            files = {str(path.relative_to(root)): path for path in (root / folder).rglob("*") if path.is_file()}
            new = {name: path for name, path in files.items() if there.get(name) != path.stat().st_size}
            if new:
                self._fs.put([str(path) for path in new.values()], [f"{self._base}/{name}" for name in new])

    def pull_files(self, root: Path, folder: str) -> None:
        """Read the files below a folder that the copy lacks, or of which it has less."""
        with self._reached(f"{folder} cannot be read"):
            for name, size in self._sizes(folder).items():
                path = root / name
                if not path.exists() or path.stat().st_size < size:
                    self._into(name, path)

    def replace_files(self, root: Path, folder: str) -> None:
        """Let the copy have the files of a folder, and no others."""
        with self._reached(f"{folder} cannot be read"):
            there = self._sizes(folder)
            for name in there:
                self._into(name, root / name)
        for path in (root / folder).glob("[!.]*"):
            if str(path.relative_to(root)) not in there:
                path.unlink()

    def write_file(self, name: str, data: bytes) -> None:
        """Write a file."""
        with self._reached(f"{name} cannot be written"):
            self._fs.pipe_file(f"{self._base}/{name}", data)

    def delete_file(self, name: str) -> None:
        """Delete a file; it may be gone already."""
        with self._reached(f"{name} cannot be deleted"):
            try:
                self._fs.rm_file(f"{self._base}/{name}")
            except FileNotFoundError:
                return

    def _listed(self, kind: str) -> set[str]:
        if kind not in self._keys:
            with self._reached(f"the {kind} artifacts cannot be listed"):
                self._fs.invalidate_cache()
                found = self._fs.find(f"{self._base}/{kind}")
            self._keys[kind] = {path.split("/")[-2] for path in found if path.endswith(f"/{RECORD}")}
        return self._keys[kind]

    def _place(self, kind: str, key: str) -> str:
        return f"{self._base}/{kind}/{key[:2]}/{key}"

    def _sizes(self, folder: str) -> dict[str, int]:
        """Bytes of the files below a folder, by their name below the URL."""
        self._fs.invalidate_cache()
        found: dict[str, Any] = self._fs.find(f"{self._base}/{folder}", detail=True)
        return {path[len(self._base) + 1 :]: int(about["size"]) for path, about in found.items()}

    def _into(self, name: str, path: Path) -> None:
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
        except Exception as error:  # each file system has its own kinds
            raise StoreError(
                f"store {self.url}", f"{what} ({in_a_line(error)})",
                "Check the address, the network and the credentials, then run again: finished work is kept.",
            ) from error  # fmt: skip

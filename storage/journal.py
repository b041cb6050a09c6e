"""Every response of an endpoint, stored as soon as it arrives, so that no paid request is repeated.

    STORE/responses/TIME-PID.jsonl    one line per response, or per end of a product or batch

Each process appends to its own file. An incomplete last line, left by a kill, is skipped. The files record all spending
and the raw text of rejected answers as well; the catalogue's table `requests` is made from them.
"""

import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dyprag.corpora.products import OpenBatch, Response, Wanted
from dyprag.errors import StoreError
from dyprag.storage.artifacts import Store

logger = logging.getLogger("dyprag.storage")
FOLDER = "responses"


@dataclass(frozen=True)
class Ended:
    """The end of a product (by its key) or of a batch (by its id), with the reason why a batch left requests
    unanswered."""

    key: str
    failed: bool = False
    why: str = ""


Entry = Response | OpenBatch | Ended


class Journal:
    """The responses in one store, shared by the threads of a process.

    Only the positions of responses that unfinished products still need are kept in memory.
    """

    def __init__(self, store: Store) -> None:
        self._folder = _folder(store)
        self._lock = threading.Lock()
        self._own: Path | None = None
        self._positions: dict[str, dict[str, tuple[Path, int]]] = {}
        self._batches: dict[str, OpenBatch] = {}
        self._unanswered: dict[str, str] = {}  # reasons by request
        self._failures: Counter[str] = Counter()  # by product
        self.tokens: dict[str, tuple[int, int]] = {}  # (in, out) by model, over all runs
        for path, offset, entry in _entries(self._folder):
            self._note(path, offset, entry)

    def find(self, product_key: str, request_key: str) -> Response | None:
        """The response to a request whose product is not finished yet; None if there is none."""
        with self._lock:
            position = self._positions.get(product_key, {}).get(request_key)
        if position is None:
            return None
        path, offset = position
        with path.open("rb") as stream:
            stream.seek(offset)
            return Response(**json.loads(stream.readline())["response"])

    def add(self, response: Response) -> None:
        """Store a response. It survives a kill of this process as soon as the method returns."""
        self._append({"response": asdict(response)})

    def close(self, product_key: str, failed: bool = False) -> None:
        """Record that a product is complete or has failed. Its responses stay on disk but are not used again."""
        with self._lock:
            known = product_key in self._positions
        if known:
            self._append({"ended": product_key, **({"failed": True} if failed else {})})

    def failures(self, product_key: str) -> int:
        """How often the product has failed, over all runs."""
        with self._lock:
            return self._failures[product_key]

    def open_batch(self, batch: OpenBatch) -> None:
        """Record that a batch was submitted."""
        self._append({"batch": asdict(batch)})

    def end_batch(self, batch_id: str, why: str = "") -> None:
        """Record that a batch's responses were fetched or will never come, and why some requests have none."""
        self._append({"ended": batch_id, **({"why": why} if why else {})})

    def unanswered(self, request_key: str) -> str:
        """Why the request's last batch did not answer it; empty if no batch has ended without an answer."""
        with self._lock:
            return self._unanswered.get(request_key, "")

    def open_batches(self) -> Sequence[OpenBatch]:
        """Batches that have not ended, of all processes."""
        with self._lock:
            return list(self._batches.values())

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with self._lock:
            try:
                if self._own is None:
                    self._folder.mkdir(parents=True, exist_ok=True)
                    self._own = self._folder / f"{time.time_ns()}-{os.getpid()}.jsonl"
                with self._own.open("ab") as stream:
                    offset = stream.tell()
                    stream.write(data)
            except OSError as error:
                failed = self._own or self._folder
                self._own = None  # the next line goes to a new file, after an incomplete one
                raise StoreError(
                    f"journal {failed}", f"a response cannot be written to it ({error.strerror})",
                    "Free disk space or fix the folder's permissions, then run again.",
                ) from error  # fmt: skip
            self._note(self._own, offset, _entry(line))

    def _note(self, path: Path, offset: int, entry: Entry) -> None:
        if isinstance(entry, Response):
            self._positions.setdefault(entry.product_key, {})[entry.request] = (path, offset)
            before = self.tokens.get(entry.model, (0, 0))
            self.tokens[entry.model] = (before[0] + entry.tokens_in, before[1] + entry.tokens_out)
        elif isinstance(entry, OpenBatch):
            self._batches[entry.id] = entry
        else:
            batch = self._batches.pop(entry.key, None)
            if batch and entry.why:
                keys = (r.key for r in batch.requests if r.key not in self._positions.get(r.product_key, {}))
                self._unanswered.update(dict.fromkeys(keys, entry.why))
            self._positions.pop(entry.key, None)
            if entry.failed:
                self._failures[entry.key] += 1


def responses(store: Store, document_id: str | None = None) -> Iterator[Response]:
    """All responses, oldest first; or those about one document."""
    for _, _, entry in _entries(_folder(store)):
        if isinstance(entry, Response) and document_id in (None, entry.document_id):
            yield entry


def count_responses(store: Store) -> int:
    """The number of responses, including incomplete lines, without parsing them."""
    count = 0
    for path in (store.root / FOLDER).glob("*.jsonl"):
        with path.open("rb") as stream:
            count += sum(line.startswith(b'{"response"') for line in stream)
    return count


def _folder(store: Store) -> Path:
    if store.remote:
        store.remote.pull_files(store.root, FOLDER)
    return store.root / FOLDER


def _entries(folder: Path) -> Iterator[tuple[Path, int, Entry]]:
    for path in sorted(folder.glob("*.jsonl")):
        offset = 0
        with path.open("rb") as stream:
            for data in stream:
                try:
                    yield path, offset, _entry(json.loads(data))
                except (ValueError, TypeError, KeyError):
                    logger.warning("%s: the line at byte %d cannot be read and is skipped.", path, offset)
                offset += len(data)


def _entry(line: dict[str, Any]) -> Entry:
    if "response" in line:
        return Response(**line["response"])
    if "batch" in line:
        batch = line["batch"]
        return OpenBatch(batch["id"], batch["created"], tuple(Wanted(**request) for request in batch["requests"]))
    return Ended(str(line["ended"]), bool(line.get("failed")), str(line.get("why", "")))

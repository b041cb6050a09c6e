"""Find and delete artifacts that are not referenced: those of documents that are in no corpus as last ingested, and
everything made from them. A document that may be among what an ingest could not read is kept.

Predictions, judgements and benchmark results are kept, since runs in the catalogue refer to them, and so are paid
responses. Artifacts of the same documents under other configurations are kept, too.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dyprag.config.stages import LASTING
from dyprag.errors import StoreError
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.latest import all_latest, notes_of
from dyprag.storage.tables import read_keys

INDEX = "index"  # an index of passages: local only, rebuilt when it is missing


@dataclass(frozen=True)
class Piece:
    """A folder that can be deleted."""

    kind: str
    key: str
    bytes: int
    path: Path


def garbage(store: Store) -> list[Piece]:
    """Find what can be deleted.

    Raises:
        StoreError: The current documents are not known.
    """
    corpora = set(all_latest(store, "corpus"))
    documents = _documents(store, corpora)
    records = list(store.records())
    referenced = corpora | {key for record in records if record.key in corpora for key in record.inputs}
    referenced |= {r.key for r in records if r.document_key in documents or r.kind in LASTING}
    referenced |= _translators(store, records, referenced)
    controls = [r for r in records if r.kind == "adapter" and not r.document_key]
    referenced |= {record.key for record in controls if referenced.issuperset(record.inputs)}
    unused = [Piece(r.kind, r.key, r.bytes, store.folder(r.kind, r.key)) for r in records if r.key not in referenced]
    return unused + [piece for piece in _indexes(store) if piece.key not in referenced]


def remove(store: Store, pieces: list[Piece]) -> None:
    """Delete folders. Each is renamed first, so that it disappears atomically; `Store.sweep` removes what a kill
    leaves.

    Raises:
        StoreError: A folder cannot be deleted.
    """
    for piece in pieces:
        if store.remote and piece.kind != INDEX:
            store.remote.delete(piece.kind, piece.key)
        aside = piece.path.with_name(f".writing-{piece.key}-{os.getpid()}")
        try:
            os.rename(piece.path, aside)
        except FileNotFoundError:
            continue
        except OSError as error:
            reason = f"the {piece.kind} {piece.key} cannot be deleted ({error.strerror})"
            raise StoreError(f"store {store.root}", reason, "Fix the folder's permissions, then run again.") from error
        shutil.rmtree(aside, ignore_errors=True)


def _documents(store: Store, corpora: set[str]) -> set[str]:
    if not corpora:
        raise StoreError(f"store {store.root}", "nothing has been ingested into it", "Run: dyprag ingest.")
    documents: set[str] = set()
    for key in corpora:
        if store.find("corpus", key) is None:
            raise StoreError(
                f"store {store.root}", f"the last ingested corpus, {key}, is damaged or missing",
                "Run: dyprag ingest. Until then it is not known which documents exist.",
            )  # fmt: skip
        documents.update(read_keys(store.folder("corpus", key)).values())
        for note in notes_of(store, "sources", key):
            documents.update(note.get("kept", {}).values())
    return documents


def _translators(store: Store, records: list[Record], kept: set[str]) -> set[str]:
    """Keys of translators to keep: those in use, those made elsewhere, and those whose documents all exist, unless a
    translator in use was trained later with the same settings."""
    used = set(all_latest(store, "translator"))
    translators = [record for record in records if record.kind == "translator"]
    in_use = [(record.settings, record.created) for record in translators if record.key in used]

    def stays(record: Record) -> bool:
        if record.key in used or not record.inputs:
            return True
        superseded = any(record.settings == settings and record.created < created for settings, created in in_use)
        return kept.issuperset(record.inputs) and not superseded

    return {record.key for record in translators if stays(record)}


def _indexes(store: Store) -> Iterator[Piece]:
    for path in sorted((store.root / "indexes").glob("*")):
        if path.is_dir() and not path.name.startswith("."):
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            yield Piece(INDEX, path.name, size, path)

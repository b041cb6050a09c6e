"""Artifacts that nobody refers to: of documents that are in no corpus as last ingested, and what was made from them.
A document that may be among what could not be read then is not known to be gone.

Answers, judgements and benchmarks are kept, since the catalogue's runs refer to them, and so are the answers of paid
endpoints. Other configurations' artifacts of the same documents are kept as well.
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

INDEX = "index"  # of passages: kept on this machine only, and made again where it is missing


@dataclass(frozen=True)
class Piece:
    """A folder that can go: its kind, key and size."""

    kind: str
    key: str
    bytes: int
    path: Path


def garbage(store: Store) -> list[Piece]:
    """What can go.

    Raises:
        StoreError: which documents there are now is not known.
    """
    corpora = set(all_latest(store, "corpus"))
    documents = _documents(store, corpora)
    records = list(store.records())
    kept = corpora | {key for record in records if record.key in corpora for key in record.inputs}
    kept |= {r.key for r in records if r.document_key in documents or r.kind in LASTING}
    kept |= _translators(store, records, kept)
    controls = [r for r in records if r.kind == "adapter" and not r.document_key]
    kept |= {record.key for record in controls if kept.issuperset(record.inputs)}
    found = [Piece(r.kind, r.key, r.bytes, store.folder(r.kind, r.key)) for r in records if r.key not in kept]
    return found + [piece for piece in _indexes(store) if piece.key not in kept]


def remove(store: Store, pieces: list[Piece]) -> None:
    """Delete them; each is gone at once, and whatever a kill leaves of it is swept away later.

    Raises:
        StoreError: one cannot be deleted.
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
    """Of the translators those in use, those from elsewhere, and others whose documents are all there, unless one in
    use was trained later with the same settings."""
    used = set(all_latest(store, "translator"))
    translators = [record for record in records if record.kind == "translator"]
    followed = [(record.settings, record.created) for record in translators if record.key in used]

    def stays(record: Record) -> bool:
        if record.key in used or not record.inputs:
            return True
        superseded = any(record.settings == settings and record.created < then for settings, then in followed)
        return kept.issuperset(record.inputs) and not superseded

    return {record.key for record in translators if stays(record)}


def _indexes(store: Store) -> Iterator[Piece]:
    for path in sorted((store.root / "indexes").glob("*")):
        if path.is_dir() and not path.name.startswith("."):
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            yield Piece(INDEX, path.name, size, path)

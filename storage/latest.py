"""Notes about the latest artifacts under given settings: the ingested corpus, the translator in use, imported adapters.

    STORE/latest/KIND-HASH.json     the artifact's key, and the settings whose hash is in the name

Only `ingest` reads the documents' location; all other stages use the corpus that it noted here. Notes of the kind
'sources' record what the ingest could not read, each document's file, and earlier documents that may be among what
could not be read ('kept').
"""

import glob
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dyprag.corpora.documents import content_key
from dyprag.errors import StoreError
from dyprag.storage.artifacts import Store
from dyprag.storage.files import flush


def note_latest(
    store: Store, kind: str, settings: Mapping[str, Any], key: str, more: Mapping[str, Any] | None = None
) -> None:
    """Record an artifact as the latest of its kind under these settings.

    Args:
        more: Further JSON fields of the note.

    Raises:
        StoreError: The note cannot be written.
    """
    path = _path(store, kind, settings)
    note = {"key": key, "settings": dict(settings), "noted": time.time(), **(more or {})}
    try:
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        temporary.write_text(json.dumps(note, ensure_ascii=False, indent=1), encoding="utf-8")
        flush(temporary)
        if store.remote:
            store.remote.write_file(f"latest/{path.name}", temporary.read_bytes())
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(
            f"store {store.root}", f"{path.name} cannot be written ({error.strerror})",
            "Free disk space or fix the folder's permissions, then run again.",
        ) from error  # fmt: skip


def latest(store: Store, kind: str, settings: Mapping[str, Any]) -> str | None:
    """The key of the latest artifact of a kind under these settings; None if there is none."""
    return _key(_path(store, kind, settings))


def newest_note(store: Store, kind: str, key: str) -> dict[str, Any]:
    """The newest note about an artifact, under whatever settings; {} if there is none."""
    return max(notes_of(store, kind, key), key=lambda note: note["noted"], default={})


def notes_of(store: Store, kind: str, key: str) -> Iterator[dict[str, Any]]:
    """All notes about an artifact, one for each settings under which it is the latest of its kind."""
    notes = (_read(path) for path in (store.root / "latest").glob(f"{kind}-*.json"))
    return (note for note in notes if note and note["key"] == key)


def all_latest(store: Store, kind: str) -> Iterator[str]:
    """Keys of the latest artifacts of a kind under all settings.

    Raises:
        StoreError: A note cannot be read, so it is unknown which artifact it refers to.
    """
    return (key for key, _ in all_notes(store, kind))


def all_notes(store: Store, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys of the latest artifacts of a kind, with the settings of their notes.

    Raises:
        StoreError: As in `all_latest`.
    """
    for path in sorted((store.root / "latest").glob(f"{kind}-*.json")):
        note = _read(path)
        if note is None:
            raise StoreError(
                f"store {store.root}", f"latest/{path.name} cannot be read; it records which artifacts are in use",
                "Run the pipeline again with its settings to rewrite it, or delete it if they are obsolete.",
            )  # fmt: skip
        yield note["key"], note["settings"]


def dated_notes(store: Store, kind: str) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """Time, key and settings of each note of a kind. Unreadable notes are skipped."""
    for path in (store.root / "latest").glob(f"{kind}-*.json"):
        if note := _read(path):
            yield note["noted"], note["key"], note["settings"]


def resolved_location(location: str) -> str:
    """A location in its canonical form: absolute, without links and without a trailing slash. URLs are kept; of a
    glob pattern, the part before the first wildcard is resolved."""
    location = location.removeprefix("file://")
    if "://" in location:
        return location.rstrip("/")
    parts = Path(location).expanduser().parts
    count = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    if count < len(parts) and os.path.lexists(Path(*parts)):  # wildcard characters in a file's own name
        count = len(parts)
    return str(Path(*parts[:count]).resolve().joinpath(*parts[count:]))


def forget_latest(store: Store, kind: str, settings: Mapping[str, Any]) -> bool:
    """Remove the note under these settings. Returns whether there was one.

    Raises:
        StoreError: The note cannot be deleted.
    """
    path = _path(store, kind, settings)
    try:
        if store.remote:
            store.remote.delete_file(f"latest/{path.name}")
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        reason = f"{path.name} cannot be deleted ({error.strerror})"
        raise StoreError(f"store {store.root}", reason, "Fix the folder's permissions, then run again.") from error
    return True


def _path(store: Store, kind: str, settings: Mapping[str, Any]) -> Path:
    return store.root / "latest" / f"{kind}-{content_key(f'latest {kind}', [], settings)}.json"


def _key(path: Path) -> str | None:
    note = _read(path)
    return None if note is None else str(note["key"])


def _read(path: Path) -> dict[str, Any] | None:
    """A note with its key, settings and time (0 in notes of earlier versions); None if it is missing or malformed."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        noted = float(note.get("noted", 0.0))
        return {**note, "key": str(note["key"]), "settings": dict(note["settings"]), "noted": noted}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None

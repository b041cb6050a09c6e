"""What was last used under some settings: the corpus that was ingested, the translator that was trained or kept, the
adapter that was imported for a document.

    STORE/latest/KIND-HASH.json     the key of that artifact, and the settings whose hash is in the name

Only `ingest` looks where the documents come from; every other stage works on what it noted here. What it could not
read there, which file each document is of, and the documents of before that may be among what it could not read
('kept'), is in the note of the kind 'sources'.
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
    """Note an artifact as the latest of its kind under these settings.

    Args:
        more: what else is noted with it, as JSON.

    Raises:
        StoreError: the note cannot be written.
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
    """The key of the latest artifact of a kind under these settings; None where none was noted."""
    return _key(_path(store, kind, settings))


def noted(store: Store, kind: str, key: str) -> dict[str, Any]:
    """All that was last noted with an artifact as the latest of a kind, under whatever settings; {} where nothing
    was."""
    return max(notes_of(store, kind, key), key=lambda note: note["noted"], default={})


def notes_of(store: Store, kind: str, key: str) -> Iterator[dict[str, Any]]:
    """All that is noted with an artifact as the latest of a kind, under each of the settings that it is noted under."""
    notes = (_read(path) for path in (store.root / "latest").glob(f"{kind}-*.json"))
    return (note for note in notes if note and note["key"] == key)


def all_latest(store: Store, kind: str) -> Iterator[str]:
    """The keys of the latest artifacts of a kind, under whatever settings.

    Raises:
        StoreError: a note cannot be read, so that what it keeps is not known.
    """
    return (key for key, _ in all_notes(store, kind))


def all_notes(store: Store, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The key of each latest artifact of a kind, and the settings that it was noted under.

    Raises:
        StoreError: as for `all_latest`.
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
    """When each latest artifact of a kind was noted, its key, and its settings; what cannot be read is left out."""
    for path in (store.root / "latest").glob(f"{kind}-*.json"):
        if note := _read(path):
            yield note["noted"], note["key"], note["settings"]


def resolved_location(location: str) -> str:
    """A location under the one name that all its names have in common: absolute, through links, without a slash at the
    end. An address keeps its name; of a pattern, what comes before its first sign is resolved."""
    location = location.removeprefix("file://")
    if "://" in location:
        return location.rstrip("/")
    parts = Path(location).expanduser().parts
    plain = next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    if plain < len(parts) and os.path.lexists(Path(*parts)):  # signs of a pattern in a file's own name
        plain = len(parts)
    return str(Path(*parts[:plain]).resolve().joinpath(*parts[plain:]))


def forget_latest(store: Store, kind: str, settings: Mapping[str, Any]) -> bool:
    """Take back what was noted under these settings; gives whether anything was.

    Raises:
        StoreError: it cannot be deleted.
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
    """A note with its key, its settings and when it was noted (0: an earlier version did not say); None where it is
    not there or no such note."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        noted = float(note.get("noted", 0.0))
        return {**note, "key": str(note["key"]), "settings": dict(note["settings"]), "noted": noted}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None

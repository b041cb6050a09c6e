"""`dyprag gc`: what nobody refers to is deleted, and said how much it was."""

from contextlib import nullcontext
from typing import Any

from dyprag.config import PipelineConfig


def collect(config: PipelineConfig, dry_run: bool) -> dict[str, Any]:
    """Delete what can go, or only find it.

    Returns:
        artifacts and bytes, the same for each kind under `kinds`, and whether they were deleted.

    Raises:
        StoreError: a run is at work on the store, or which documents there are is not known.
    """
    from dyprag.storage.artifacts import Store
    from dyprag.storage.catalogue import Catalogue
    from dyprag.storage.garbage import garbage, remove
    from dyprag.storage.guard import alone

    store = Store(config.store)
    store.refresh()
    with nullcontext() if dry_run else alone(store):
        pieces = garbage(store)
        if not dry_run:
            catalogue = Catalogue(store)
            catalogue.prepare()
            catalogue.forget([piece.key for piece in pieces])  # a row without an artifact would be a fault
            remove(store, pieces)
    kinds: dict[str, dict[str, int]] = {}
    for piece in pieces:
        kind = kinds.setdefault(piece.kind, {"artifacts": 0, "bytes": 0})
        kind["artifacts"] += 1
        kind["bytes"] += piece.bytes
    return {
        "deleted": not dry_run, "artifacts": len(pieces), "bytes": sum(p.bytes for p in pieces), "kinds": kinds,
    }  # fmt: skip


def collected_text(found: dict[str, Any]) -> str:
    """What was or would be deleted, in words."""
    from dyprag.evaluation.report.plots import human_bytes

    if not found["artifacts"]:
        return "Nothing to delete: every artifact is referred to."
    parts = [
        f"{kind['artifacts']:,} {name} ({human_bytes(kind['bytes'])})" for name, kind in sorted(found["kinds"].items())
    ]
    said = "Deleted" if found["deleted"] else "Would be deleted"
    return f"{said}: {found['artifacts']:,} artifacts, {human_bytes(found['bytes'])}: {', '.join(parts)}."

"""Garbage collection: what no document of a corpus refers to is deleted from the store."""

from contextlib import nullcontext
from typing import Any

from dyprag.config import PipelineConfig
from dyprag.storage.garbage import garbage, remove
from dyprag.storage.guard import alone
from dyprag.tasks.workspace import Workspace


def collect(config: PipelineConfig, dry_run: bool) -> dict[str, Any]:
    """Delete what can go, or only find it.

    Returns:
        artifacts and bytes, the same for each kind under `kinds`, and whether they were deleted.

    Raises:
        StoreError: a run is at work on the store, or which documents there are is not known.
    """
    workspace = Workspace(config, writes=True)
    store = workspace.store
    store.refresh()
    with nullcontext() if dry_run else alone(store):
        pieces = garbage(store)
        if not dry_run:
            workspace.catalogue.prepare()
            workspace.catalogue.forget([piece.key for piece in pieces])  # a row without an artifact would be a fault
            remove(store, pieces)
    kinds: dict[str, dict[str, int]] = {}
    for piece in pieces:
        kind = kinds.setdefault(piece.kind, {"artifacts": 0, "bytes": 0})
        kind["artifacts"] += 1
        kind["bytes"] += piece.bytes
    return {
        "deleted": not dry_run, "artifacts": len(pieces), "bytes": sum(p.bytes for p in pieces), "kinds": kinds,
    }  # fmt: skip

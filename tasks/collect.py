"""Garbage collection: delete artifacts that no document of a corpus refers to."""

from contextlib import nullcontext
from typing import Any

from dyprag.config import PipelineConfig
from dyprag.storage.garbage import garbage, remove
from dyprag.storage.guard import alone
from dyprag.tasks.workspace import Workspace


def collect(config: PipelineConfig, dry_run: bool) -> dict[str, Any]:
    """Find artifacts that are not needed any more, and delete them unless `dry_run` is set.

    Returns:
        `artifacts` and `bytes`, the same per kind under `kinds`, and `deleted`.

    Raises:
        StoreError: A run is using the store, or the current documents are not known.
    """
    workspace = Workspace(config, writes=True)
    store = workspace.store
    store.refresh()
    with nullcontext() if dry_run else alone(store):
        pieces = garbage(store)
        if not dry_run:
            workspace.catalogue.prepare()
            workspace.catalogue.forget(
                [piece.key for piece in pieces]
            )  # rows first: a row without an artifact counts as damage
            remove(store, pieces)
    kinds: dict[str, dict[str, int]] = {}
    for piece in pieces:
        kind = kinds.setdefault(piece.kind, {"artifacts": 0, "bytes": 0})
        kind["artifacts"] += 1
        kind["bytes"] += piece.bytes
    return {
        "deleted": not dry_run, "artifacts": len(pieces), "bytes": sum(p.bytes for p in pieces), "kinds": kinds,
    }  # fmt: skip

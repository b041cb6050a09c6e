"""`dyprag import`: adapters trained elsewhere become documents' own."""

from pathlib import Path
from typing import Any

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Document
from dyprag.errors import ArtifactError, ConfigError


def import_adapters(
    folder: Path, document: str | None, config: PipelineConfig, same_model: bool = False
) -> dict[str, Any]:
    """Take a PEFT adapter into the store as a document's, or all that an export holds as their documents'.

    Args:
        folder: with adapter_config.json, or with the index.json of `dyprag export --peft`.
        document: an id of the corpus. Of an export only this one is taken.
        same_model: the adapters are of this model, whatever name they give their own.

    Returns:
        imported: id, key, and rank of each; missing: ids in the export that are not in the corpus.

    Raises:
        ConfigError: it is not said whose adapter it is.
        CorpusError: there is no such document.
        ArtifactError: an adapter cannot be used here; nothing after it is taken.
        StoreError: nothing has been ingested, or the store cannot be written.
    """
    from dyprag.adapters.exchange.export import INDEX
    from dyprag.flows.stage import Stage
    from dyprag.model.base import model_shape
    from dyprag.model.files import read_json
    from dyprag.runtime.batching import compute
    from dyprag.storage.guard import in_use
    from dyprag.tasks.imports import import_adapter

    stage = Stage(config.resolved(), "import")
    documents = {one.id: one for one in stage.plan.corpus.documents}
    base = compute(lambda: model_shape(stage.config.model.name))
    recorded = read_json(folder / INDEX).get("fingerprint") if same_model else None
    folders = _folders(folder, document, documents, stage.config.model.name, recorded or base.fingerprint)
    records = []
    with in_use(stage.store):
        stage.catalogue.prepare()
        try:
            for identity, place in folders.items():
                if identity in documents:
                    records.append(import_adapter(place, _sound(documents[identity]), base, stage.config, same_model))
        finally:
            stage.catalogue.add_artifacts(records)
    done = [identity for identity in folders if identity in documents]
    found = [
        {"document": i, "key": r.key, "rank": r.measures["rank"]} for i, r in zip(done, records, strict=True)
    ]  # fmt: skip
    return {"imported": found, "missing": [identity for identity in folders if identity not in documents]}


def forget(document: str, config: PipelineConfig) -> bool:
    """Take a document's import back; gives whether there was one.

    Raises:
        CorpusError: there is no such document.
        StoreError: nothing has been ingested.
    """
    from dyprag.cli.documents import unknown_document
    from dyprag.flows.stage import Stage
    from dyprag.storage.guard import in_use
    from dyprag.tasks.imports import forget_import

    stage = Stage(config.resolved(), "import")
    documents = {one.id: one for one in stage.plan.corpus.documents}
    if document not in documents:
        raise unknown_document(document, list(documents))
    with in_use(stage.store):
        return forget_import(documents[document], stage.config)


def _folders(
    folder: Path, document: str | None, documents: dict[str, Document], model: str, fingerprint: str
) -> dict[str, Path]:
    """Each adapter's folder by the id of its document."""
    from dyprag.adapters.exchange.export import INDEX, read_index
    from dyprag.cli.documents import unknown_document

    if document is not None and document not in documents:
        raise unknown_document(document, list(documents))
    if (folder / INDEX).is_file():
        named = read_index(folder, model, fingerprint).documents
        if any(not isinstance(name, str) or Path(name).name != name for name in named.values()):
            raise ArtifactError(f"index {folder / INDEX}", "it names folders outside of its own", "Export it again.")
        if document is not None and document not in named:
            raise ArtifactError(f"index {folder / INDEX}", f"it has no {document!r}", "Choose another document.")
        return {i: folder / name for i, name in named.items() if document in (None, i)}
    if document is None:
        raise ConfigError(f"adapter {folder}", "it is not said whose it is", "Name its document: --document ID.")
    return {document: folder}


def _sound(document: Document) -> Document:
    if document.fault:
        raise document.fault
    return document


def imported_text(found: dict[str, Any]) -> str:
    """What was imported, in words."""
    names = [one["document"] for one in found["imported"]]
    few = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    count = f"{len(names)} adapter{'s' * (len(names) != 1)} imported"
    return f"{count}: {few}. `dyprag ask --method prag` answers with what was imported." if names else f"{count}."

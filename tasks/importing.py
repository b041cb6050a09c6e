"""Import adapters that were trained elsewhere, or revert an import: for `dyprag import`."""

from pathlib import Path
from typing import Any

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Document
from dyprag.errors import ArtifactError, ConfigError
from dyprag.storage.guard import in_use
from dyprag.tasks.imports import forget_import, import_adapter
from dyprag.tasks.workspace import Workspace, unknown_document


def import_adapters(
    folder: Path, document: str | None, config: PipelineConfig, same_model: bool = False
) -> dict[str, Any]:
    """Import a PEFT adapter for a document, or all adapters of an export.

    Args:
        folder: Contains adapter_config.json, or the index.json of `dyprag export --peft`.
        document: A document id of the corpus. From an export, only this document's adapter is imported.
        same_model: The adapters belong to this model, whatever base model they name.

    Returns:
        `imported`: document, key and rank of each adapter; `missing`: ids in the export that are not in the corpus.

    Raises:
        ConfigError: No document is given for a single adapter.
        CorpusError: There is no such document.
        ArtifactError: An adapter cannot be used; adapters after it are not imported.
        StoreError: Nothing has been ingested, or the store cannot be written.
    """
    from dyprag.adapters.exchange.export import INDEX
    from dyprag.model.base import model_shape
    from dyprag.model.files import read_json
    from dyprag.runtime.batching import compute

    workspace = Workspace(config, writes=True)
    documents = {document.id: document for document in workspace.corpus.documents}
    model = workspace.config.model.name
    base = compute(lambda: model_shape(model))
    recorded = read_json(folder / INDEX).get("fingerprint") if same_model else None
    folders = _folders(folder, document, documents, model, recorded or base.fingerprint)
    wanted = [identity for identity in folders if identity in documents]
    records = []
    with in_use(workspace.store):
        workspace.catalogue.prepare()
        try:
            for identity in wanted:
                source = _sound(documents[identity])
                records.append(import_adapter(folders[identity], source, base, workspace.config, same_model))
        finally:
            workspace.catalogue.add_artifacts(records)
    imported = [
        {"document": identity, "key": record.key, "rank": record.measures["rank"]}
        for identity, record in zip(wanted, records, strict=True)
    ]
    return {"imported": imported, "missing": [identity for identity in folders if identity not in documents]}


def forget(document: str, config: PipelineConfig) -> bool:
    """Revert a document's import. Returns whether there was one.

    Raises:
        CorpusError: There is no such document.
        StoreError: Nothing has been ingested.
    """
    workspace = Workspace(config, writes=True)
    with in_use(workspace.store):
        return forget_import(workspace.document(document), workspace.config)


def _folders(
    folder: Path, document: str | None, documents: dict[str, Document], model: str, fingerprint: str
) -> dict[str, Path]:
    """Each adapter's folder by document id."""
    from dyprag.adapters.exchange.export import INDEX, read_index

    if document is not None and document not in documents:
        raise unknown_document(document, list(documents))
    if (folder / INDEX).is_file():
        folders = read_index(folder, model, fingerprint).documents
        foreign = [name for name in folders.values() if not isinstance(name, str) or Path(name).name != name]
        if foreign:
            reason = f"it refers to folders outside of the export, such as {foreign[0]!r}"
            raise ArtifactError(
                f"index {folder / INDEX}", reason, "Make the folder again: dyprag export --peft FOLDER."
            )
        if document is not None and document not in folders:
            raise ArtifactError(
                f"index {folder / INDEX}", f"it contains no adapter for {document!r}", "Choose another document."
            )
        return {i: folder / name for i, name in folders.items() if document in (None, i)}
    if document is None:
        raise ConfigError(f"adapter {folder}", "the document it belongs to is not given", "Pass --document ID.")
    return {document: folder}


def _sound(document: Document) -> Document:
    if document.fault:
        raise document.fault
    return document

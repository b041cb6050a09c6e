"""`dyprag import`: a folder of adapters trained elsewhere becomes documents' own, or an import is taken back."""

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
    from dyprag.model.base import model_shape
    from dyprag.model.files import read_json
    from dyprag.runtime.batching import compute

    workspace = Workspace(config, writes=True)
    documents = {document.id: document for document in workspace.corpus.documents}
    model = workspace.config.model.name
    base = compute(lambda: model_shape(model))
    recorded = read_json(folder / INDEX).get("fingerprint") if same_model else None
    folders = _folders(folder, document, documents, model, recorded or base.fingerprint)
    taken = [identity for identity in folders if identity in documents]
    records = []
    with in_use(workspace.store):
        workspace.catalogue.prepare()
        try:
            for identity in taken:
                source = _sound(documents[identity])
                records.append(import_adapter(folders[identity], source, base, workspace.config, same_model))
        finally:
            workspace.catalogue.add_artifacts(records)
    imported = [
        {"document": identity, "key": record.key, "rank": record.measures["rank"]}
        for identity, record in zip(taken, records, strict=True)
    ]
    return {"imported": imported, "missing": [identity for identity in folders if identity not in documents]}


def forget(document: str, config: PipelineConfig) -> bool:
    """Take a document's import back; gives whether there was one.

    Raises:
        CorpusError: there is no such document.
        StoreError: nothing has been ingested.
    """
    workspace = Workspace(config, writes=True)
    with in_use(workspace.store):
        return forget_import(workspace.document(document), workspace.config)


def _folders(
    folder: Path, document: str | None, documents: dict[str, Document], model: str, fingerprint: str
) -> dict[str, Path]:
    """Each adapter's folder by the id of its document."""
    from dyprag.adapters.exchange.export import INDEX, read_index

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
        raise ConfigError(f"adapter {folder}", "no document is named for it", "Name its document: --document ID.")
    return {document: folder}


def _sound(document: Document) -> Document:
    if document.fault:
        raise document.fault
    return document

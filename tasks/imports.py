"""Adapters trained elsewhere, imported as documents' own (§3.1).

An imported adapter has a key made from its content, so that everything made with it has another key than what was made
with the trained adapter. A note in STORE/latest records that it replaces the document's trained adapter for this model,
rank and alpha. The trained adapter is kept, and is used again when the note is removed.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Document
from dyprag.model.files import model_fingerprint
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.files import file_checksum
from dyprag.storage.latest import all_notes, forget_latest, note_latest
from dyprag.tasks.planning.keys import imported_adapter_key

if TYPE_CHECKING:
    from dyprag.model.base import BaseModel

KIND = "import"  # kind of the notes in STORE/latest
FILES = ("adapter_config.json", "adapter_model.safetensors")


def import_adapter(
    folder: Path, document: Document, base: "BaseModel", config: PipelineConfig, same_model: bool = False
) -> Record:
    """Store a PEFT adapter as a document's.

    Args:
        base: The model that the adapter must fit, or its shape.
        same_model: The adapter belongs to this model, whatever base model it names.

    Raises:
        ArtifactError: The adapter does not fit, belongs to another model, or is damaged.
        StoreError: The store cannot be written.
    """
    from dyprag.adapters.exchange.foreign import check_base_model, fitted, read_foreign
    from dyprag.adapters.lora import save_peft

    store, lora = Store(config.store), config.lora
    foreign = read_foreign(folder, base)
    if not same_model:
        check_base_model(folder, config.model.name, base.fingerprint)
    adapter = fitted(foreign, lora.rank, lora.alpha / lora.rank, f"adapter {folder}")
    sums = {name: file_checksum(folder / name) for name in FILES}
    settings = {"imported": sums, **_scope(config)}
    key = imported_adapter_key(document, list(sums.values()), _scope(config))
    record = store.find("adapter", key)
    if record is None:
        source = {"imported_from": str(folder.absolute()), "rank": foreign.rank, "alpha": foreign.scale * foreign.rank}
        new_record = Record("adapter", key, [], settings, document.key, document.id, measures=source)
        record = store.write(new_record, lambda target: save_peft(base, adapter, target, config.model.name))
    note_latest(store, KIND, _note(config, document), key)
    return record


def forget_import(document: Document, config: PipelineConfig) -> bool:
    """Remove the note of a document's imported adapter. Returns whether there was one."""
    return forget_latest(Store(config.store), KIND, _note(config, document))


def imported_adapters(config: PipelineConfig, store: Store) -> dict[str, str]:
    """Keys of sound imported adapters by document key.

    Raises:
        StoreError: A note cannot be read.
    """
    notes = list(all_notes(store, KIND))
    wanted = _scope(config) if notes else {}
    return {
        settings["document"]: key
        for key, settings in notes
        if {**settings, "document": ""} == {**wanted, "document": ""} and store.find("adapter", key)
    }


def _scope(config: PipelineConfig) -> dict[str, object]:
    """The model, rank and alpha that an import is valid for."""
    return {
        "model": model_fingerprint(config.model.name), "rank": config.lora.rank, "alpha": float(config.lora.alpha),
    }  # fmt: skip


def _note(config: PipelineConfig, document: Document) -> dict[str, object]:
    return {**_scope(config), "document": document.key}

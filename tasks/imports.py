"""Adapters trained elsewhere, taken in as documents' own (§3.1): PRAG then answers with them.

An imported adapter is an artifact under a key of its own, which its content makes, so that whatever is made with it has
another key than what was made with the trained one. A note in STORE/latest says that it stands for the document's, for
this model, rank and alpha; the trained one, if there is one, stays and counts again when the note is taken back.
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

KIND = "import"  # of the notes
FILES = ("adapter_config.json", "adapter_model.safetensors")


def import_adapter(
    folder: Path, document: Document, base: "BaseModel", config: PipelineConfig, same_model: bool = False
) -> Record:
    """Take a PEFT adapter into the store, as a document's.

    Args:
        base: the model that it must fit, or its shape.
        same_model: it was trained on this model, whatever name it gives its own.

    Raises:
        ArtifactError: it does not fit, is another model's, or cannot be believed.
        StoreError: the store cannot be written.
    """
    from dyprag.adapters.exchange.foreign import check_base_model, fitted, read_foreign
    from dyprag.adapters.lora import save_peft

    store, lora = Store(config.store), config.lora
    given = read_foreign(folder, base)
    if not same_model:
        check_base_model(folder, config.model.name, base.fingerprint)
    adapter = fitted(given, lora.rank, lora.alpha / lora.rank, f"adapter {folder}")
    sums = {name: file_checksum(folder / name) for name in FILES}
    settings = {"imported": sums, **_for(config)}
    key = imported_adapter_key(document, list(sums.values()), _for(config))
    record = store.find("adapter", key)
    if record is None:
        source = {"imported_from": str(folder.absolute()), "rank": given.rank, "alpha": given.scale * given.rank}
        made = Record("adapter", key, [], settings, document.key, document.id, measures=source)
        record = store.write(made, lambda into: save_peft(base, adapter, into, config.model.name))
    note_latest(store, KIND, _note(config, document), key)
    return record


def forget_import(document: Document, config: PipelineConfig) -> bool:
    """Let a document's imported adapter stand for it no longer; gives whether one did."""
    return forget_latest(Store(config.store), KIND, _note(config, document))


def imported_adapters(config: PipelineConfig, store: Store) -> dict[str, str]:
    """The keys of the imported adapters that are there and sound, by document key.

    Raises:
        StoreError: a note cannot be read.
    """
    notes = list(all_notes(store, KIND))
    wanted = _for(config) if notes else {}
    return {
        settings["document"]: key
        for key, settings in notes
        if {**settings, "document": ""} == {**wanted, "document": ""} and store.find("adapter", key)
    }


def _for(config: PipelineConfig) -> dict[str, object]:
    """What an import holds for."""
    return {
        "model": model_fingerprint(config.model.name), "rank": config.lora.rank, "alpha": float(config.lora.alpha),
    }  # fmt: skip


def _note(config: PipelineConfig, document: Document) -> dict[str, object]:
    return {**_for(config), "document": document.key}

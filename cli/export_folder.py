"""The output of `dyprag export`: adapter folders in PEFT's format, their index, and vLLM's command."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dyprag.adapters.lora import Adapters
    from dyprag.config import PipelineConfig
    from dyprag.model.base import BaseModel


@dataclass(frozen=True)
class Item:
    """An adapter to export."""

    label: str  # the name of its folder is derived from this
    table: str  # the table of the index that lists it: documents, questions or files
    names: tuple[str, ...]  # its entries in that table
    made_of: tuple[str, ...]  # ids of documents or passages
    method: str
    adapter: Callable[[], "Adapters"]
    stored: Path | None = None  # its folder in the store, for a document's trained adapter


def export_peft(
    items: list[Item], folder: Path, whole: bool, config: "PipelineConfig", base_model: str | None = None
) -> dict[str, Any]:
    """Write adapters, the index and vLLM's command.

    Args:
        whole: whether the items are the whole corpus, so that the index drops all other documents.
        base_model: see `export_adapters`.

    Returns:
        adapters (the folders in the index), written (how many of them are new), folder, index, serve (vLLM's
        command), too_high (the highest rank if vLLM does not support it, else None).
    """
    from dyprag.adapters.exchange.export import INDEX, VLLM_RANKS, read_index, serve_command, write_index
    from dyprag.model.base import model_shape
    from dyprag.model.files import public_name

    base = model_shape(config.model.name)
    index = read_index(folder, config.model.name, base.fingerprint)
    index.base_model = index.base_model if base_model is None else base_model
    if whole:
        index.documents = {}
    written = 0
    for item in items:
        placement = _place(folder, item, base, config.model.name, index.base_model or public_name(config.model.name))
        written += placement.made
        getattr(index, item.table).update(dict.fromkeys(item.names, placement.name))
        index.adapters[placement.name] = {
            "method": item.method, "made_of": list(item.made_of), "rank": placement.rank, "alpha": placement.alpha,
            "bytes": placement.bytes,
        }  # fmt: skip
    index.prune()
    write_index(folder, index)
    highest = max(adapter["rank"] for adapter in index.adapters.values())
    return {
        "adapters": list(index.adapters), "written": written, "folder": str(folder), "index": str(folder / INDEX),
        "serve": serve_command(index), "too_high": highest if highest > VLLM_RANKS[-1] else None,
    }  # fmt: skip


def _place(folder: Path, item: Item, base: "BaseModel", model: str, name: str) -> Any:
    from dyprag.adapters.exchange.export import copy_adapter, name_base_model, place, write_adapter

    def fill(temporary: Path) -> None:
        alpha = None
        if item.stored is not None:
            alpha = json.loads((item.stored / "adapter_config.json").read_text())["lora_alpha"]
        if item.stored is not None and isinstance(alpha, int):  # byte for byte as in the store
            copy_adapter(item.stored, temporary)
        else:
            write_adapter(base, item.adapter(), temporary, model)
        name_base_model(temporary, name)

    return place(folder, item.label, fill)

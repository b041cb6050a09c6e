"""What `dyprag export` writes: folders of adapters in PEFT's format, their index, and vLLM's command."""

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
    """An adapter to export: what its folder is called, the table of the index that names it, under which keys, the ids
    that it was made of, and how it is made; `stored` is its folder in the store, if it is one of those."""

    label: str
    table: str
    names: tuple[str, ...]
    made_of: tuple[str, ...]
    method: str
    adapter: Callable[[], "Adapters"]
    stored: Path | None = None


def export_peft(
    items: list[Item], folder: Path, whole: bool, config: "PipelineConfig", base_model: str | None = None
) -> dict[str, Any]:
    """Write adapters, the index and vLLM's command.

    Args:
        whole: whether these are all documents' adapters, so that the index names no other document.
        base_model: see `export`.

    Returns:
        adapters (names of the folders that the index knows), written (how many of them were not there), folder, index,
        serve (vLLM's command, in lines), too_high (the highest rank, where vLLM does not take it).
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
        placed = _place(folder, item, base, config.model.name, index.base_model or public_name(config.model.name))
        written += placed.made
        getattr(index, item.table).update(dict.fromkeys(item.names, placed.name))
        index.adapters[placed.name] = {
            "method": item.method, "made_of": list(item.made_of), "rank": placed.rank, "alpha": placed.alpha,
            "bytes": placed.bytes,
        }  # fmt: skip
    index.prune()
    write_index(folder, index)
    highest = max(told["rank"] for told in index.adapters.values())
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
        if item.stored is not None and isinstance(alpha, int):  # as it is in the store, to the byte
            copy_adapter(item.stored, temporary)
        else:
            write_adapter(base, item.adapter(), temporary, model)
        name_base_model(temporary, name)

    return place(folder, item.label, fill)

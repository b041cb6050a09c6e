"""Merges an adapter into a base model: a plain checkpoint that needs neither PEFT nor this package.

The weights are processed file by file and tensor by tensor, so that at most one dense delta, W + scale · B·A, is in
memory, and no model is built.
"""

import json
import re
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dyprag.adapters.exchange.export import publish, unwritable
from dyprag.adapters.lora import Adapters
from dyprag.errors import ExportError, ModelError
from dyprag.model.base import PROJECTIONS
from dyprag.model.files import (
    ADAPTER_CONFIG,
    WEIGHTS,
    WEIGHTS_INDEX,
    first_line,
    model_fingerprint,
    model_folder,
    read_json,
    weight_files,
    weights_map,
)
from dyprag.runtime.interruption import check

NOTE = "merged.json"
KEPT = ("*.json", "*.jinja", "*.model", "*.txt", "LICENSE*")  # files of a checkpoint besides the weights
_WEIGHT = re.compile(r"(?:.+\.)?layers\.(?P<layer>\d+)\.(?:.+\.)?(?P<proj>gate_proj|up_proj|down_proj)\.weight")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def save_merged(name: str, adapter: Adapters, folder: Path, dtype: str = "auto") -> bool:
    """Write a base model with a merged adapter and its tokenizer, in the layout of `save_pretrained`.

    Args:
        name: the base model's name, as for `load_model`.
        adapter: [1, layers, …].
        folder: the target. It must not exist, or contain the same merge.
        dtype: dtype of the weights, or "auto" for the checkpoint's own. Each sum is rounded to it once; for bfloat16
            the error is up to 0.2 % of each weight.

    Returns:
        Whether it was written; False if the folder already contains the same merge.

    Raises:
        ExportError: the folder has other content, or cannot be written.
        ModelError: the model does not exist, or its weights are quantized or have unknown names.
    """
    source = model_folder(name)
    note = {"model": name, "fingerprint": model_fingerprint(name), "adapter": adapter.digest(), "dtype": dtype}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if _note(folder) == note:
            return False
        reason = "it is not empty" if folder.is_dir() else "it is a file"
        raise ExportError(f"folder {folder}", reason, "Name a new or an empty folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder.parent) as temporary:
            target = Path(temporary) / "model"
            target.mkdir()
            _copy_rest(source, target, dtype)
            _merge_weights(name, source, target, adapter.to("cpu", torch.float32), dtype)
            (target / NOTE).write_text(json.dumps(note, indent=1) + "\n")
            publish(target)
            if folder.exists():
                folder.rmdir()
            target.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    return True


def _merge_weights(name: str, source: Path, target_folder: Path, adapter: Adapters, dtype: str) -> None:
    """Write each file of weights with the adapter merged in."""
    missing = {(layer, p) for layer in range(adapter.a["gate_proj"].shape[1]) for p in PROJECTIONS}
    files = weights_map(source)
    for path in weight_files(source):
        tensors: dict[str, Tensor] = {}
        with safe_open(path, "pt") as file:
            metadata = {"format": "pt", **(file.metadata() or {})}
            for key in file.keys():  # noqa: SIM118
                check()
                if files.get(key, path.name) != path.name and path.name != WEIGHTS:
                    continue  # a duplicate: the index assigns this tensor to another file
                tensor = file.get_tensor(key)
                target = getattr(torch, dtype) if dtype != "auto" and tensor.is_floating_point() else tensor.dtype
                if match := _WEIGHT.fullmatch(key):
                    layer_and_projection = int(match["layer"]), match["proj"]
                    if layer_and_projection not in missing:
                        raise _unusable(name, f"its weight {key} has no counterpart in the adapter")
                    missing.remove(layer_and_projection)
                    tensor = _sum(name, key, tensor, adapter, *layer_and_projection)
                tensors[key] = tensor.to(target)
        try:
            save_file(tensors, target_folder / path.name, metadata=metadata)
        except Exception as error:  # safetensors raises its own exception type, also for a full disk
            raise OSError(0, first_line(error)) from error
    if missing:
        layer, projection = min(missing)
        raise _unusable(name, f"its weights lack {projection} of layer {layer}")
    if not (target_folder / WEIGHTS).is_file():
        index = read_json(source / WEIGHTS_INDEX)
        sizes = [path.stat().st_size for path in target_folder.glob("*.safetensors")]
        index["metadata"] = {**(index.get("metadata") or {}), "total_size": sum(sizes)}
        (target_folder / WEIGHTS_INDEX).write_text(json.dumps(index, indent=2))


def _sum(name: str, key: str, weight: Tensor, adapter: Adapters, layer: int, projection: str) -> Tensor:
    """Compute W + scale · B·A in float32, [out_features, in_features]."""
    a, b = adapter.a[projection][0, layer], adapter.b[projection][0, layer]
    if weight.dtype not in _DTYPES:
        raise ModelError(
            f"model {name!r}",
            f"its weights are quantized ({key} is {weight.dtype})",
            "Use the unquantized model.",
        )
    if weight.shape != (len(b), a.shape[1]):
        shapes = f"{tuple(weight.shape)}, but the adapter expects {(len(b), a.shape[1])}"
        raise _unusable(name, f"its weight {key} has shape {shapes}")
    return torch.addmm(weight.float(), b, a, alpha=adapter.scale)


def _copy_rest(source: Path, target: Path, dtype: str) -> None:
    for path in sorted({path for pattern in KEPT for path in source.glob(pattern) if path.is_file()}):
        if path.name != ADAPTER_CONFIG and not path.name.endswith(".index.json"):
            shutil.copyfile(path, target / path.name)
    if dtype != "auto":
        config = json.loads((source / "config.json").read_text())
        sections = [config, *(part for part in config.values() if isinstance(part, dict))]
        for section in sections:
            section.update({name: dtype for name in ("dtype", "torch_dtype") if name in section})
        if not {"dtype", "torch_dtype"} & config.keys():
            config["dtype"] = dtype
        (target / "config.json").write_text(json.dumps(config, indent=2))


def _note(folder: Path) -> object:
    try:
        return json.loads((folder / NOTE).read_text())
    except (OSError, ValueError):
        return None


def _unusable(name: str, reason: str) -> ModelError:
    return ModelError(f"model {name!r}", reason, "Export for PEFT instead: --peft DIR.")

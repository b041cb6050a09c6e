"""A base model with one adapter merged into its weights: a plain checkpoint that needs neither PEFT nor this package.

The files of the weights are gone through one after the other and tensor by tensor, so that no more than one dense
delta, W + scale · B·A, is ever held, and no model is built.
"""

import hashlib
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
KEPT = ("*.json", "*.jinja", "*.model", "*.txt", "LICENSE*")  # what a checkpoint has beside its weights
_WEIGHT = re.compile(r"(?:.+\.)?layers\.(?P<layer>\d+)\.(?:.+\.)?(?P<proj>gate_proj|up_proj|down_proj)\.weight")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def save_merged(name: str, adapter: Adapters, folder: Path, dtype: str = "auto") -> bool:
    """Write a base model with an adapter merged in, as `save_pretrained` lays it out, its tokenizer with it.

    Args:
        name: the base model's, as `load_model` takes it.
        adapter: one, [1, layers, …].
        folder: where to; it must not be there, or hold the very same.
        dtype: the number format of the weights, or "auto": the checkpoint's own. A sum is rounded to it once, and what
            is smaller than half of a weight's last bit is lost: with bfloat16 up to 0.2 % of each weight.

    Returns:
        Whether it was written: it is not where the same is there already.

    Raises:
        ExportError: something else is there, or it cannot be written.
        ModelError: there is no such model, or its weights are quantized or named in an unknown way.
    """
    source = model_folder(name)
    note = {"model": name, "fingerprint": model_fingerprint(name), "adapter": _digest(adapter), "dtype": dtype}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if _note(folder) == note:
            return False
        raise ExportError(f"folder {folder}", "the folder is not empty", "Name a folder that does not exist yet.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder.parent) as outer:
            made = Path(outer) / "model"
            made.mkdir()
            _copy_rest(source, made, dtype)
            _merge_weights(name, source, made, adapter.to("cpu", torch.float32), dtype)
            (made / NOTE).write_text(json.dumps(note, indent=1) + "\n")
            publish(made)
            if folder.exists():
                folder.rmdir()
            made.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    return True


def _merge_weights(name: str, source: Path, made: Path, adapter: Adapters, dtype: str) -> None:
    """Write every file of the weights anew."""
    wanted = {(layer, p) for layer in range(adapter.a["gate_proj"].shape[1]) for p in PROJECTIONS}
    files = weights_map(source)
    for path in weight_files(source):
        tensors: dict[str, Tensor] = {}
        with safe_open(path, "pt") as file:
            metadata = {"format": "pt", **(file.metadata() or {})}
            for key in file.keys():  # noqa: SIM118
                check()
                if files.get(key, path.name) != path.name and path.name != WEIGHTS:
                    continue  # another file has it too, and its is the one that counts
                tensor = file.get_tensor(key)
                target = getattr(torch, dtype) if dtype != "auto" and tensor.is_floating_point() else tensor.dtype
                if match := _WEIGHT.fullmatch(key):
                    place = int(match["layer"]), match["proj"]
                    if place not in wanted:
                        raise _unknown(name, f"it has a weight {key} that the adapter has no place for")
                    wanted.remove(place)
                    tensor = _sum(name, key, tensor, adapter, *place)
                tensors[key] = tensor.to(target)
        try:
            save_file(tensors, made / path.name, metadata=metadata)
        except Exception as error:  # safetensors' own kind, for a full disk too
            raise OSError(0, first_line(error)) from error
    if wanted:
        layer, projection = min(wanted)
        raise _unknown(name, f"no {projection} of layer {layer} is among its weights")
    if not (made / WEIGHTS).is_file():
        told = read_json(source / WEIGHTS_INDEX)
        sizes = [path.stat().st_size for path in made.glob("*.safetensors")]
        told["metadata"] = {**(told.get("metadata") or {}), "total_size": sum(sizes)}
        (made / WEIGHTS_INDEX).write_text(json.dumps(told, indent=2))


def _sum(name: str, key: str, weight: Tensor, adapter: Adapters, layer: int, projection: str) -> Tensor:
    """W + scale · B·A in float32, [out_features, in_features]."""
    a, b = adapter.a[projection][0, layer], adapter.b[projection][0, layer]
    if weight.dtype not in _DTYPES:
        raise ModelError(
            f"model {name!r}",
            f"its weights are quantized ({key} is {weight.dtype})",
            "Use the unquantized model.",
        )
    if weight.shape != (len(b), a.shape[1]):
        shapes = f"{tuple(weight.shape)} and not {(len(b), a.shape[1])}"
        raise _unknown(name, f"its weight {key} is of shape {shapes}, as the adapter's")
    return torch.addmm(weight.float(), b, a, alpha=adapter.scale)


def _copy_rest(source: Path, made: Path, dtype: str) -> None:
    for path in sorted({path for pattern in KEPT for path in source.glob(pattern) if path.is_file()}):
        if not path.name.endswith(".index.json"):
            shutil.copyfile(path, made / path.name)
    if dtype != "auto":
        config = json.loads((source / "config.json").read_text())
        places = [config, *(part for part in config.values() if isinstance(part, dict))]
        for place in places:
            place.update({name: dtype for name in ("dtype", "torch_dtype") if name in place})
        if not {"dtype", "torch_dtype"} & config.keys():
            config["dtype"] = dtype
        (made / "config.json").write_text(json.dumps(config, indent=2))


def _digest(adapter: Adapters) -> str:
    digest = hashlib.blake2b(f"{adapter.scale}".encode(), digest_size=16)
    for name, tensor in sorted(adapter.tensors().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()


def _note(folder: Path) -> object:
    try:
        return json.loads((folder / NOTE).read_text())
    except (OSError, ValueError):
        return None


def _unknown(name: str, reason: str) -> ModelError:
    return ModelError(f"model {name!r}", reason, "Export for PEFT instead: --peft DIR.")

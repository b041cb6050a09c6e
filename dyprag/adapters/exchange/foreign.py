"""Adapters that were trained elsewhere: PEFT's files, believed only if they are a plain FFN LoRA of this base model."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import pad

from dyprag.adapters.exchange.export import INDEX
from dyprag.adapters.lora import Adapters
from dyprag.errors import ArtifactError
from dyprag.model.base import PROJECTIONS, BaseModel
from dyprag.model.files import first_line, model_folder, public_name, read_json, weights_digest

logger = logging.getLogger("dyprag.models")

# What makes PEFT compute something else than x·Wᵀ + alpha/r · x·Aᵀ·Bᵀ, or from other weights than the base model's.
FEATURES = (
    "use_dora", "use_rslora", "lora_bias", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern",
    "layer_replication", "trainable_token_indices", "target_parameters", "use_qalora", "use_bdlora",
    "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config",
)  # fmt: skip
STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # others change the base model's weights
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def read_foreign(folder: Path, base: BaseModel) -> Adapters:
    """Read an adapter that PEFT saved, as [1, layers, …], in its own number format on the CPU.

    Args:
        base: the model that it is for, or its shape alone (`model_shape`).

    Raises:
        ArtifactError: it is not a plain LoRA on the three FFN projections of each of the model's layers, or not of its
            sizes; its files are missing or damaged; or it is a pickle, which could run code.
    """
    settings = _settings(folder)
    tensors = _tensors(folder)
    names = {module: name for name, module in base.model.named_modules()}
    halves: dict[str, dict[str, Tensor]] = {"A": {}, "B": {}}
    rank = settings["r"]
    for projection in PROJECTIONS:
        fan_in, fan_out = base.features(projection)
        for side, shape in (("A", (rank, fan_in)), ("B", (fan_out, rank))):
            layers = []
            for block in base.blocks:
                key = f"base_model.model.{names[block]}.{projection}.lora_{side}.weight"
                tensor = tensors.pop(key, None)
                if tensor is None:
                    raise _refused(folder, f"it has no {key}: only what adapts each layer's whole FFN can be used")
                if tuple(tensor.shape) != shape:
                    raise _refused(folder, f"its {key} is of shape {tuple(tensor.shape)}, and must be {shape}")
                if tensor.dtype not in _DTYPES or not tensor.isfinite().all():
                    raise _refused(folder, f"its {key} ({tensor.dtype}) holds what is no number")
                layers.append(tensor)
            halves[side][projection] = torch.stack(layers)[None]
    if tensors:
        raise _refused(folder, f"it adapts {min(tensors)} as well, which has no place here")
    return Adapters(halves["A"], halves["B"], settings["lora_alpha"] / rank)


def check_base_model(folder: Path, model: str, fingerprint: str) -> None:
    """Make sure that an adapter was trained on a model, by the fingerprint that an export records beside it, else by
    the name in its adapter_config.json: sizes alone do not tell a model from its fine-tuned sister.

    Two folders are compared by their weights, where both are there. Otherwise names are the same where their last
    parts are, whatever group, folder or machine the model was taken from. Where no name is recorded, a warning says so.

    Args:
        model: its name, as `load_model` takes it.

    Raises:
        ArtifactError: it was trained on another.
    """
    recorded = _recorded_fingerprint(folder)
    if recorded is not None:
        if recorded != fingerprint:
            raise _of_another_model(folder, f"the model {recorded}", f"{model!r} ({fingerprint})")
        return
    name = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(name, str) or not name.strip():
        logger.warning("%s does not say which model it was trained on; only its sizes have been compared.", folder)
        return
    if name in (model, public_name(model)):
        return
    if (Path(name) / "config.json").is_file():
        if weights_digest(Path(name)) != weights_digest(model_folder(model)):
            raise _of_another_model(folder, repr(name), repr(model))
        return
    ours = {_last_part(known) for known in (model, public_name(model))}
    if _last_part(name) not in ours:
        raise _of_another_model(folder, repr(name), repr(model))


def _recorded_fingerprint(folder: Path) -> str | None:
    """The fingerprint of the model that an export's index beside an adapter names."""
    index = read_json(folder.parent / INDEX)
    adapters, found = index.get("adapters"), index.get("fingerprint")
    return found if isinstance(found, str) and isinstance(adapters, dict) and folder.name in adapters else None


def _last_part(name: str) -> str:
    return name.strip().replace("\\", "/").rstrip("/").rpartition("/")[2].lower()


def _of_another_model(folder: Path, theirs: str, ours: str) -> ArtifactError:
    return ArtifactError(
        f"adapter {folder}", f"it was trained on {theirs}, and this model is {ours}",
        "Set model.name to that model. If the two are the same model, say so: --same-model.",
    )  # fmt: skip


def fitted(adapter: Adapters, rank: int, scale: float, name: str) -> Adapters:
    """The same delta with another rank and scale: A and B have zeros added, and B takes up what the scales differ by.

    Args:
        name: what an error calls it.

    Raises:
        ArtifactError: its rank is higher, and would have to be cut.
    """
    more = rank - adapter.rank
    if more < 0:
        raise ArtifactError(
            name, f"its rank is {adapter.rank}, and lora.rank {rank}", f"Use --set lora.rank={adapter.rank}."
        )
    ratio = adapter.scale / scale
    b = adapter.b if ratio == 1 else {p: matrix.float() * ratio for p, matrix in adapter.b.items()}
    a = adapter.a if ratio == 1 else {p: matrix.float() for p, matrix in adapter.a.items()}
    return Adapters(
        {p: pad(matrix, (0, 0, 0, more)) for p, matrix in a.items()},
        {p: pad(matrix, (0, more)) for p, matrix in b.items()}, scale,
    )  # fmt: skip


def _settings(folder: Path) -> dict[str, Any]:
    """The adapter's configuration, if all that it says is of a plain LoRA."""
    try:
        found = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(folder, f"its adapter_config.json cannot be read ({first_line(error)})") from error
    if not isinstance(found, dict) or found.get("peft_type") != "LORA":
        kind = found.get("peft_type") if isinstance(found, dict) else None
        raise _refused(folder, f"it is of type {kind!r}, and not LORA")
    if found.get("bias", "none") != "none":
        raise _refused(folder, f"it has biases (bias={found['bias']!r})")
    for feature in FEATURES:
        if found.get(feature):
            raise _refused(folder, f"it is no plain LoRA ({feature}={found[feature]!r})")
    if found.get("init_lora_weights", True) not in STARTS:
        start = found["init_lora_weights"]
        raise _refused(folder, f"it was trained on changed weights of the model (init_lora_weights={start!r})")
    targets = found.get("target_modules")
    if isinstance(targets, list):
        others = sorted(str(name) for name in targets if str(name).rpartition(".")[2] not in PROJECTIONS)
        if others:
            raise _refused(folder, f"it adapts {', '.join(others)}, and only {', '.join(PROJECTIONS)} have a place")
    rank, alpha = found.get("r"), found.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        raise _refused(folder, f"its rank is {rank!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha <= 0:
        raise _refused(folder, f"its alpha is {alpha!r}")
    return found


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        pickles = [p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in folder.glob(pattern)]
        if pickles:
            raise ArtifactError(
                f"adapter {folder}", f"its weights are a pickle ({pickles[0]}), which can run code when loaded",
                "Save it again with PEFT's save_pretrained as safetensors.",
            )  # fmt: skip
        raise _refused(folder, "it has no adapter_model.safetensors")
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own kind
        raise _refused(folder, f"its adapter_model.safetensors cannot be read ({first_line(error)})") from error


def _refused(folder: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"adapter {folder}", reason,
        "Train a LoRA on gate_proj, up_proj and down_proj of this model, and save it with PEFT's save_pretrained.",
    )  # fmt: skip

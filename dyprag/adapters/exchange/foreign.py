"""Imports adapters that PEFT saved. Only plain FFN LoRA adapters of this base model are accepted."""

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

# Options for which PEFT computes something other than x·Wᵀ + alpha/r · x·Aᵀ·Bᵀ, or changes the base model's weights.
FEATURES = (
    "use_dora", "use_rslora", "lora_bias", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern",
    "layer_replication", "trainable_token_indices", "target_parameters", "use_qalora", "use_bdlora",
    "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config",
)  # fmt: skip
STARTS = (
    True,
    False,
    None,
    "gaussian",
    "eva",
    "orthogonal",
)  # accepted init_lora_weights; others change the base model's weights
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def read_foreign(folder: Path, base: BaseModel) -> Adapters:
    """Read an adapter that PEFT saved: [1, layers, …], in its own dtype, on the CPU.

    Args:
        base: the base model, or only its shape (`model_shape`).

    Raises:
        ArtifactError: the adapter is not a plain LoRA on the three FFN projections of every layer, its sizes do not
            match, files are missing or damaged, or it is a pickle, which could run code.
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
                    raise _invalid(folder, f"it lacks {key}; an adapter must cover the FFN of every layer")
                if tuple(tensor.shape) != shape:
                    raise _invalid(folder, f"its {key} has shape {tuple(tensor.shape)} instead of {shape}")
                if tensor.dtype not in _DTYPES or not tensor.isfinite().all():
                    raise _invalid(
                        folder,
                        f"its {key} ({tensor.dtype}) contains NaN or infinite values, or has an unsupported dtype",
                    )
                layers.append(tensor)
            halves[side][projection] = torch.stack(layers)[None]
    if tensors:
        raise _invalid(folder, f"it also adapts {min(tensors)}, which is not supported")
    return Adapters(halves["A"], halves["B"], settings["lora_alpha"] / rank)


def check_base_model(folder: Path, model: str, fingerprint: str) -> None:
    """Check that an adapter was trained on a model.

    The fingerprint in an export's index is used if there is one, otherwise the name in adapter_config.json; sizes alone
    cannot tell a model from a fine-tuned version. If both models are local folders, their weights are compared.
    Otherwise only the last part of the names must agree, whatever their organisation, folder or machine. If no name is
    recorded, a warning is logged.

    Args:
        model: the model's name, as for `load_model`.

    Raises:
        ArtifactError: the adapter was trained on another model.
    """
    recorded = _recorded_fingerprint(folder)
    if recorded is not None:
        if recorded != fingerprint:
            raise _wrong_model(folder, f"the model {recorded}", f"{model!r} ({fingerprint})")
        return
    name = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(name, str) or not name.strip():
        logger.warning("%s does not say which model it was trained on; only the sizes were compared.", folder)
        return
    if name in (model, public_name(model)):
        return
    if (Path(name) / "config.json").is_file():
        if weights_digest(Path(name)) != weights_digest(model_folder(model)):
            raise _wrong_model(folder, repr(name), repr(model))
        return
    own_names = {_last_part(own_name) for own_name in (model, public_name(model))}
    if _last_part(name) not in own_names:
        raise _wrong_model(folder, repr(name), repr(model))


def _recorded_fingerprint(folder: Path) -> str | None:
    """Return the base model's fingerprint from an export's index beside the adapter, if there is one."""
    index = read_json(folder.parent / INDEX)
    adapters, fingerprint = index.get("adapters"), index.get("fingerprint")
    return (
        fingerprint if isinstance(fingerprint, str) and isinstance(adapters, dict) and folder.name in adapters else None
    )


def _last_part(name: str) -> str:
    return name.strip().replace("\\", "/").rstrip("/").rpartition("/")[2].lower()


def _wrong_model(folder: Path, trained_on: str, this_model: str) -> ArtifactError:
    return ArtifactError(
        f"adapter {folder}", f"it was trained on {trained_on}, but this model is {this_model}",
        "Set model.name to that model. If both are the same model, pass --same-model.",
    )  # fmt: skip


def fitted(adapter: Adapters, rank: int, scale: float, name: str) -> Adapters:
    """Convert an adapter to another rank and scale without changing its delta.

    A and B are padded with zeros, and B is multiplied by the ratio of the scales.

    Args:
        name: the adapter's name in errors.

    Raises:
        ArtifactError: the adapter's rank is higher than `rank`.
    """
    missing = rank - adapter.rank
    if missing < 0:
        raise ArtifactError(
            name, f"its rank is {adapter.rank}, but lora.rank is {rank}", f"Use --set lora.rank={adapter.rank}."
        )
    ratio = adapter.scale / scale
    b = adapter.b if ratio == 1 else {p: matrix.float() * ratio for p, matrix in adapter.b.items()}
    a = adapter.a if ratio == 1 else {p: matrix.float() for p, matrix in adapter.a.items()}
    return Adapters(
        {p: pad(matrix, (0, 0, 0, missing)) for p, matrix in a.items()},
        {p: pad(matrix, (0, missing)) for p, matrix in b.items()}, scale,
    )  # fmt: skip


def _settings(folder: Path) -> dict[str, Any]:
    """Read the adapter's configuration, and check that it is a plain LoRA."""
    try:
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _invalid(folder, f"its adapter_config.json cannot be read ({first_line(error)})") from error
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        kind = settings.get("peft_type") if isinstance(settings, dict) else None
        raise _invalid(folder, f"its type is {kind!r}, not LORA")
    if settings.get("bias", "none") != "none":
        raise _invalid(folder, f"it has biases (bias={settings['bias']!r})")
    for feature in FEATURES:
        if settings.get(feature):
            raise _invalid(folder, f"it is not a plain LoRA ({feature}={settings[feature]!r})")
    if settings.get("init_lora_weights", True) not in STARTS:
        initialisation = settings["init_lora_weights"]
        raise _invalid(folder, f"it was trained on modified base weights (init_lora_weights={initialisation!r})")
    targets = settings.get("target_modules")
    if isinstance(targets, list):
        unsupported = sorted(str(name) for name in targets if str(name).rpartition(".")[2] not in PROJECTIONS)
        if unsupported:
            raise _invalid(
                folder, f"it adapts {', '.join(unsupported)}, but only {', '.join(PROJECTIONS)} are supported"
            )
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        raise _invalid(folder, f"its rank is {rank!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha <= 0:
        raise _invalid(folder, f"its alpha is {alpha!r}")
    return settings


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        pickles = [p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in folder.glob(pattern)]
        if pickles:
            raise ArtifactError(
                f"adapter {folder}", f"its weights are a pickle ({pickles[0]}), which can run code when loaded",
                "Save it again with PEFT's save_pretrained as safetensors.",
            )  # fmt: skip
        raise _invalid(folder, "it has no adapter_model.safetensors")
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own exception type
        raise _invalid(folder, f"its adapter_model.safetensors cannot be read ({first_line(error)})") from error


def _invalid(folder: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"adapter {folder}", reason,
        "Train a LoRA on gate_proj, up_proj and down_proj of this model, and save it with PEFT's save_pretrained.",
    )  # fmt: skip

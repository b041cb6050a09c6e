"""Checkpoints of a translator's training: written atomically, and resumed only by the same training."""

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

logger = logging.getLogger("dyprag.checkpoint")
State = dict[str, Any]  # JSON-serialisable


def save_checkpoint(
    path: Path, name: str, module: nn.Module, optimizer: torch.optim.Optimizer, state: State, best: dict[str, Tensor]
) -> None:
    """Write everything that the next step depends on.

    Args:
        name: the training's name; no other training resumes from this file.
        state: further JSON-serialisable values.
        best: the best weights so far; empty without validation.
    """
    tensors = {f"weights.{key}": tensor for key, tensor in module.state_dict().items()}
    tensors |= {f"best.{key}": tensor for key, tensor in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": tensor for key, tensor in moments.items()}
    tensors["random"] = torch.get_rng_state()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    save_file(contiguous, temporary, {"state": json.dumps({"name": name, **state})})
    with temporary.open("r+b") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(
    path: Path, name: str, module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[State, dict[str, Tensor]] | None:
    """Load a checkpoint into module and optimizer.

    Returns:
        Its state and best weights; None if there is no checkpoint, or it is damaged or belongs to another training.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt", device="cpu") as file:
            state = json.loads(file.metadata()["state"])
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own exception type for a truncated file
        logger.warning("The checkpoint %s cannot be read (%s); starting the training from the beginning.", path, error)
        return None
    if state.pop("name") != name:
        logger.warning("The checkpoint %s belongs to another training; starting from the beginning.", path)
        return None

    def with_prefix(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}

    module.load_state_dict(with_prefix("weights."))
    moments: dict[int, State] = {}
    for key, tensor in with_prefix("optimizer.").items():
        index, _, kind = key.partition(".")
        moments.setdefault(int(index), {})[kind] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    with contextlib.suppress(RuntimeError):  # the state was written by another torch release
        torch.set_rng_state(tensors["random"])
    return state, with_prefix("best.")

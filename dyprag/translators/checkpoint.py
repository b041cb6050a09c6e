"""The state of a translator's training on disk: written whole or not at all, taken up only by the same training."""

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
State = dict[str, Any]  # what JSON holds


def save_checkpoint(
    path: Path, name: str, module: nn.Module, optimizer: torch.optim.Optimizer, state: State, best: dict[str, Tensor]
) -> None:
    """Write everything that the next step depends on.

    Args:
        name: of the training; no other takes this file up.
        state: whatever else there is to know; must be JSON-serialisable.
        best: the best weights seen so far, none where there is no validation.
    """
    tensors = {f"weights.{key}": tensor for key, tensor in module.state_dict().items()}
    tensors |= {f"best.{key}": tensor for key, tensor in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": tensor for key, tensor in moments.items()}
    tensors["random"] = torch.get_rng_state()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    held = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    save_file(held, temporary, {"state": json.dumps({"name": name, **state})})
    with temporary.open("r+b") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(
    path: Path, name: str, module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[State, dict[str, Tensor]] | None:
    """Take up a checkpoint in module and optimizer; gives its state and best weights. One of another training, or a
    damaged one, is passed over."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt", device="cpu") as file:
            state = json.loads(file.metadata()["state"])
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own kind for a truncated file
        logger.warning("The checkpoint %s cannot be read (%s); the training begins anew.", path, error)
        return None
    if state.pop("name") != name:
        logger.warning("The checkpoint %s belongs to another training; this one begins anew.", path)
        return None

    def part(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}

    module.load_state_dict(part("weights."))
    moments: dict[int, State] = {}
    for key, tensor in part("optimizer.").items():
        index, _, kind = key.partition(".")
        moments.setdefault(int(index), {})[kind] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    with contextlib.suppress(RuntimeError):  # a state of another torch release
        torch.set_rng_state(tensors["random"])
    return state, part("best.")

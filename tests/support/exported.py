"""What an exported folder contains, and what PEFT computes from it."""

from pathlib import Path

import torch
from conftest import logits
from peft import PeftModel
from transformers import AutoModelForCausalLM


def of_peft(tiny_model: str, folder: Path) -> torch.Tensor:
    fresh = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    return logits(PeftModel.from_pretrained(fresh, str(folder)).eval())


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and modification time of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

"""The method of DyPRAG: documents become LoRA adapters, and a translator makes them in one forward pass."""

from dyprag.runtime.threads import wait_passively

wait_passively()

"""Parametric retrieval-augmented generation: documents become LoRA adapters, and a translator makes one in a pass.

from dyprag import load

load("smollm2-135m").ask("Who built the lighthouse?", ["The lighthouse was built by Greta Olmsted."]).text
"""

from typing import TYPE_CHECKING, Any

from dyprag.runtime.threads import wait_passively

if TYPE_CHECKING:
    from dyprag.serving.assistant import Assistant, load

__all__ = ["Assistant", "load"]

wait_passively()


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: torch takes seconds to load."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dyprag.serving import assistant

    return getattr(assistant, name)

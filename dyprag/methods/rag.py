"""Standard RAG: the retrieved passages stand in the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from dyprag.documents import Retrieved


@dataclass(frozen=True)
class RAG:
    """Passages in the prompt, no adapter."""

    name: str = "rag"
    passages_in_prompt: bool = True

    def adapter(self, retrieved: Sequence[Retrieved]) -> None:
        """None."""
        return None

"""Vanilla: the base model alone, no retrieval. The floor that every method is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

from dyprag.documents import Retrieved


@dataclass(frozen=True)
class Vanilla:
    """The question alone in the prompt, no adapter."""

    name: str = "vanilla"
    passages_in_prompt: bool = False

    def adapter(self, retrieved: Sequence[Retrieved]) -> None:
        """None."""
        return None

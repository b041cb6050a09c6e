"""Standard RAG: the prompt contains the retrieved passages."""

from collections.abc import Sequence
from dataclasses import dataclass

from dyprag.adapters.generation import Sampling
from dyprag.corpora.documents import Retrieved
from dyprag.methods.protocol import Answer, Asked, answer_questions
from dyprag.methods.spec import MethodSpec, Resources
from dyprag.model.base import BaseModel


@dataclass(frozen=True)
class RAG:
    """Passages in the prompt, no adapter."""

    name: str = "rag"
    passages_in_prompt: bool = True
    asks_as_trained: bool = False
    gate: None = None

    def adapter(self, documents: Sequence[Retrieved]) -> None:
        """Return None: RAG injects nothing."""
        return None

    def answer(self, base: BaseModel, asked: Sequence[Asked], sampling: Sampling, batch_size: int) -> list[Answer]:
        """Answer each question in one generation."""
        return answer_questions(base, self, asked, sampling, batch_size)


def build(spec: MethodSpec, resources: Resources) -> RAG:
    """Build the method; it needs no resources."""
    return RAG()

"""PRAG: the trained adapters of the retrieved documents, merged (arXiv 2501.15915); PRAG-Combine adds the passages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dyprag.adapters.generation import Sampling
from dyprag.adapters.lora import Adapters, merge, stack
from dyprag.corpora.documents import Document, Retrieved
from dyprag.methods.gate import Gate
from dyprag.methods.protocol import Answer, Asked, answer_questions
from dyprag.methods.spec import MethodSpec, Resources
from dyprag.model.base import BaseModel


@dataclass(frozen=True)
class PRAG:
    """Trained adapters, injected.

    `load` gives a document's trained adapter ([1, layers, …]), or None where its training failed: such a document is
    left out of the merge.
    """

    load: Callable[[Document], Adapters | None]
    merge: str
    passages_in_prompt: bool = False
    strength: float = 1.0  # what the merged adapter's delta is multiplied by
    gate: Gate | None = None

    @property
    def name(self) -> str:
        return "prag-combine" if self.passages_in_prompt else "prag"

    @property
    def asks_as_trained(self) -> bool:
        return not self.passages_in_prompt

    def adapter(self, documents: Sequence[Retrieved]) -> Adapters | None:
        """The merged adapter of those documents that have one."""
        loaded = [(self.load(item.document), item.score) for item in documents]
        found = [(adapter, score) for adapter, score in loaded if adapter is not None]
        if not found:
            return None
        merged = merge(stack([adapter for adapter, _ in found]), self.merge, [score for _, score in found])
        return merged.times(self.strength)

    def answer(self, base: BaseModel, asked: Sequence[Asked], sampling: Sampling, batch_size: int) -> list[Answer]:
        """Answers in one go each."""
        return answer_questions(base, self, asked, sampling, batch_size)


def build(spec: MethodSpec, resources: Resources) -> PRAG:
    """It draws on the documents' trained adapters."""
    settings = resources.settings
    return PRAG(
        resources.trained, str(settings.prag_merge), spec.shows_passages, settings.strength_of(spec.name),
        settings.gate_of(spec.name),
    )  # fmt: skip

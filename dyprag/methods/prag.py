"""PRAG (arXiv 2501.15915): merges the retrieved documents' trained adapters. Combine also shows the passages."""

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
    """Injects trained adapters.

    load: returns a document's trained adapter ([1, layers, …]), or None if its training failed. Such a document is left
        out of the merge.
    merge: how adapters are merged, see `dyprag.adapters.lora.merge`.
    """

    load: Callable[[Document], Adapters | None]
    merge: str
    passages_in_prompt: bool = False
    strength: float = 1.0  # factor on the merged adapter's delta
    gate: Gate | None = None

    @property
    def name(self) -> str:
        return "prag-combine" if self.passages_in_prompt else "prag"

    @property
    def asks_as_trained(self) -> bool:
        return not self.passages_in_prompt

    def adapter(self, documents: Sequence[Retrieved]) -> Adapters | None:
        """Merge the adapters of the documents that have one; None if there are none."""
        loaded = [(self.load(item.document), item.score) for item in documents]
        available = [(adapter, score) for adapter, score in loaded if adapter is not None]
        if not available:
            return None
        merged = merge(stack([adapter for adapter, _ in available]), self.merge, [score for _, score in available])
        return merged.times(self.strength)

    def answer(self, base: BaseModel, asked: Sequence[Asked], sampling: Sampling, batch_size: int) -> list[Answer]:
        """Answer each question in one generation."""
        return answer_questions(base, self, asked, sampling, batch_size)


def build(spec: MethodSpec, resources: Resources) -> PRAG:
    """Build the method from the documents' trained adapters."""
    settings = resources.settings
    return PRAG(
        resources.trained, str(settings.prag_merge), spec.shows_passages, settings.strength_of(spec.name),
        settings.gate_of(spec.name),
    )  # fmt: skip

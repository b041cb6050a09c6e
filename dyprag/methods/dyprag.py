"""DyPRAG: translates the retrieved documents into adapters at test time (§3.3). Combine also shows the passages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from dyprag.adapters.generation import Sampling
from dyprag.adapters.lora import Adapters, merge
from dyprag.corpora.documents import Document, Retrieved
from dyprag.methods.gate import Gate
from dyprag.methods.protocol import Answer, Asked, answer_questions
from dyprag.methods.spec import MethodSpec, Resources
from dyprag.model.base import BaseModel


@dataclass(frozen=True)
class DyPRAG:
    """Injects translated adapters.

    translate: returns the adapters of documents, [docs, layers, …].
    merge: how they are merged, see `dyprag.adapters.lora.merge`.
    can_translate: whether a document can be translated; others are left out.
    """

    translate: Callable[[Sequence[Document]], Adapters]
    merge: str
    passages_in_prompt: bool = False
    strength: float = 1.0  # factor on the merged adapter's delta
    gate: Gate | None = None
    can_translate: Callable[[Document], bool] = lambda document: True

    @property
    def name(self) -> str:
        return "dyprag-combine" if self.passages_in_prompt else "dyprag"

    @property
    def asks_as_trained(self) -> bool:
        return not self.passages_in_prompt

    @torch.inference_mode()
    def adapter(self, documents: Sequence[Retrieved]) -> Adapters | None:
        """Merge the adapters of the documents that can be translated; None if there are none."""
        translatable = [item for item in documents if self.can_translate(item.document)]
        if not translatable:
            return None
        adapters = self.translate([item.document for item in translatable])
        return merge(adapters, self.merge, [item.score for item in translatable]).times(self.strength)

    def answer(self, base: BaseModel, asked: Sequence[Asked], sampling: Sampling, batch_size: int) -> list[Answer]:
        """Answer each question in one generation."""
        return answer_questions(base, self, asked, sampling, batch_size)


def build(spec: MethodSpec, resources: Resources) -> DyPRAG:
    """Build the method from the documents' translated adapters."""
    settings = resources.settings
    return DyPRAG(
        resources.translated, str(settings.dyprag_merge), spec.shows_passages, settings.strength_of(spec.name),
        settings.gate_of(spec.name), resources.can_translate,
    )  # fmt: skip

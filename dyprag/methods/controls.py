"""Controls: methods whose adapters know nothing of the question's documents.

Most of the published recipe's gain is answer format, which a control brings as well. A method has carried knowledge
only as far as it beats its controls. The control with wrong documents is the method itself, run with the documents of
other questions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from dyprag.adapters.generation import Sampling
from dyprag.adapters.lora import Adapters
from dyprag.corpora.documents import Retrieved
from dyprag.methods.gate import Gate
from dyprag.methods.protocol import Answer, Asked, answer_questions
from dyprag.methods.spec import MethodSpec, Resources
from dyprag.model.base import BaseModel


@dataclass(frozen=True)
class OneForAll:
    """Injects the same adapter for every question: the mean of the documents' adapters, the generic one, or zero.

    shared: the adapter, [1, layers, …].
    per_document: add the adapter once for each of the question's documents. Needed if the controlled method sums its
        documents' adapters, since a single one would then be weaker.
    """

    name: str
    shared: Adapters
    passages_in_prompt: bool = False
    per_document: bool = False
    strength: float = 1.0
    gate: Gate | None = None

    @property
    def asks_as_trained(self) -> bool:
        return not self.passages_in_prompt

    def adapter(self, documents: Sequence[Retrieved]) -> Adapters | None:
        """Return the shared adapter, whatever the documents."""
        if not self.per_document:
            return self._single
        count = max(1, len(documents))
        shared = Adapters(self.shared.a, {p: count * t for p, t in self.shared.b.items()}, self.shared.scale)
        return shared.times(self.strength)

    @cached_property
    def _single(self) -> Adapters | None:
        """The same object for all rows, so that `stack_rows` computes it once."""
        return self.shared.times(self.strength)

    def answer(self, base: BaseModel, asked: Sequence[Asked], sampling: Sampling, batch_size: int) -> list[Answer]:
        """Answer each question in one generation."""
        return answer_questions(base, self, asked, sampling, batch_size)


def mean_adapter(adapters: Iterable[Adapters]) -> Adapters:
    """Average the A's and the B's of many documents' adapters ([1, layers, …] each).

    The A's stay close to the shared initial adapter (cosine 0.9995 between two documents), so the result is close to
    the mean of the deltas, with the rank of a single adapter.
    """
    rest = iter(adapters)
    first, count = next(rest), 1
    a = {p: t.detach().clone() for p, t in first.a.items()}
    b = {p: t.detach().clone() for p, t in first.b.items()}
    for adapter in rest:
        count += 1
        for sums, matrices in ((a, adapter.a), (b, adapter.b)):
            for projection in sums:
                sums[projection] += matrices[projection]
    return Adapters({p: t / count for p, t in a.items()}, {p: t / count for p, t in b.items()}, first.scale)


def zero_adapter(like: Adapters) -> Adapters:
    """Create an adapter whose delta is zero: the control for injection itself."""
    a, b = ({p: torch.zeros_like(t[:1]) for p, t in half.items()} for half in (like.a, like.b))
    return Adapters(a, b, like.scale)


def build(spec: MethodSpec, resources: Resources) -> OneForAll:
    """Build a control with one adapter for every question."""
    settings = resources.settings
    return OneForAll(
        spec.name, resources.shared(), spec.shows_passages, resources.per_document, settings.strength_of(spec.name),
        settings.gate_of(spec.name),
    )  # fmt: skip

"""Controls: what an adapter brings that has nothing to do with the question's documents (METHOD: most of the published
recipe's gain is answer format). A method has carried knowledge only as far as it beats them.

The control with wrong documents is the method itself: its questions come with others' documents to inject.
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
    """One adapter ([1, layers, …]) for every question: the documents' mean, the generic one, or zero.

    `per_document`: add it once for each of the question's documents, where the method adds up their adapters ("sum"):
    one alone would be weaker than what it controls.
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
        """The same, whatever the documents."""
        if not self.per_document:
            return self._one
        times = max(1, len(documents))
        shared = Adapters(self.shared.a, {p: times * t for p, t in self.shared.b.items()}, self.shared.scale)
        return shared.times(self.strength)

    @cached_property
    def _one(self) -> Adapters | None:
        """One object for all rows: what they share is then computed once."""
        return self.shared.times(self.strength)

    def answer(self, base: BaseModel, asked: Sequence[Asked], sampling: Sampling, batch_size: int) -> list[Answer]:
        """Answers in one go each."""
        return answer_questions(base, self, asked, sampling, batch_size)


def mean_adapter(adapters: Iterable[Adapters]) -> Adapters:
    """The mean of the A's and of the B's of many documents' adapters ([1, layers, …] each).

    The A's hardly leave the initial adapter that all documents share (cosine 0.9995 between two documents), so this is
    close to the mean of the deltas, at the rank of one.
    """
    others = iter(adapters)
    first, count = next(others), 1
    a = {p: t.detach().clone() for p, t in first.a.items()}
    b = {p: t.detach().clone() for p, t in first.b.items()}
    for other in others:
        count += 1
        for mine, theirs in ((a, other.a), (b, other.b)):
            for projection in mine:
                mine[projection] += theirs[projection]
    return Adapters({p: t / count for p, t in a.items()}, {p: t / count for p, t in b.items()}, first.scale)


def zero_adapter(like: Adapters) -> Adapters:
    """An adapter that adds nothing: the way of injection alone."""
    a, b = ({p: torch.zeros_like(t[:1]) for p, t in half.items()} for half in (like.a, like.b))
    return Adapters(a, b, like.scale)


def build(spec: MethodSpec, resources: Resources) -> OneForAll:
    """A control with one adapter for every question."""
    settings = resources.settings
    return OneForAll(
        spec.name, resources.shared(), spec.shows_passages, resources.per_document, settings.strength_of(spec.name),
        settings.gate_of(spec.name),
    )  # fmt: skip

"""The protocol of a method, and the loop that answers questions with one, in batches with an adapter for each row."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import torch
from torch.nn.functional import pad as pad_tensor

from dyprag.documents import Retrieved
from dyprag.generation import Sampling, generate
from dyprag.lora import Adapters, stack
from dyprag.models import PROJECTIONS, BaseModel
from dyprag.prompts import question_prompt


@dataclass(frozen=True)
class Asked:
    """A question with the documents retrieved for it, best first."""

    question: str
    retrieved: tuple[Retrieved, ...]


@dataclass(frozen=True)
class Answer:
    """An answer, its length in tokens, and the seconds it took: making the adapter, and the share of its batch."""

    text: str
    tokens: int
    seconds: float


class Method(Protocol):
    """A way to answer: what stands in the prompt, and which adapter is injected."""

    @property
    def name(self) -> str:
        """As in the paper's tables, in lower case."""
        ...

    @property
    def passages_in_prompt(self) -> bool:
        """Whether the retrieved passages stand in the prompt."""
        ...

    def adapter(self, retrieved: Sequence[Retrieved]) -> Adapters | None:
        """The merged adapter ([1, layers, …]) of the retrieved documents; None for none."""
        ...


def answer_questions(
    base: BaseModel, method: Method, asked: Sequence[Asked], sampling: Sampling, batch_size: int
) -> list[Answer]:
    """Answer questions with one method, greedy or sampled, in the order given."""
    room = base.max_tokens - sampling.max_new_tokens
    prompts = [_prompt(base, item, method.passages_in_prompt, room) for item in asked]
    making = [0.0] * len(asked)

    def adapters(batch: list[int]) -> Adapters | None:
        made = []
        for index in batch:
            began = perf_counter()
            made.append(method.adapter(asked[index].retrieved))
            making[index] = perf_counter() - began
        return _stack_rows(made)

    generations = generate(base, prompts, sampling, adapters, batch_size)
    # the batch's clock starts behind the adapters
    return [Answer(g.text, g.tokens, g.seconds + s) for g, s in zip(generations, making, strict=True)]


def _prompt(base: BaseModel, item: Asked, with_passages: bool, room: int) -> list[int]:
    """The question's prompt; passages that do not fit into `room` tokens are left out, the longest first."""
    passages = [r.document.passage for r in item.retrieved] if with_passages else []
    ids = question_prompt(base.tokenizer, item.question, passages)
    while passages and len(ids) > room:
        passages.remove(max(passages, key=len))
        ids = question_prompt(base.tokenizer, item.question, passages)
    return ids


def _stack_rows(rows: Sequence[Adapters | None]) -> Adapters | None:
    """One adapter for each row of a batch; missing ones are zero, smaller ranks are filled up with zeros."""
    some = next((row for row in rows if row is not None), None)
    if some is None:
        return None
    rank = max(row.rank for row in rows if row is not None)
    zero = Adapters(
        {p: torch.zeros_like(t) for p, t in some.a.items()},
        {p: torch.zeros_like(t) for p, t in some.b.items()},
        some.scale,
    )
    filled = []
    for row in (zero if row is None else row for row in rows):
        missing = rank - row.rank
        a = {p: pad_tensor(row.a[p], (0, 0, 0, missing)) for p in PROJECTIONS}
        b = {p: pad_tensor(row.b[p], (0, missing)) for p in PROJECTIONS}
        filled.append(Adapters(a, b, row.scale))
    return stack(filled)

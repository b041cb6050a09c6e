"""The protocol of a method, and the loop that answers questions with one, in batches with an adapter for each row."""

from collections.abc import Callable, Sequence
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
    """A question with the documents retrieved for it, best first.

    `injected`: the documents whose adapters are injected, where they are others than those retrieved, as the control
    with wrong documents wants it.
    """

    question: str
    retrieved: tuple[Retrieved, ...]
    chain_of_thought: bool = False
    injected: tuple[Retrieved, ...] | None = None

    @property
    def adapted(self) -> tuple[Retrieved, ...]:
        """The documents whose adapters are injected."""
        return self.retrieved if self.injected is None else self.injected


@dataclass(frozen=True)
class Answer:
    """An answer, whole and uncut, and what it took.

    seconds: making the adapter, and the share of its batch; first_token: from the batch's beginning, the making of the
    adapter included, to its first token: what one waits for in a batch of that size;
    prompt: as the model saw it; passages: what stood in it (in the last one, where there were several); retrievals:
    times that passages were looked for while answering.
    """

    text: str
    tokens: int
    seconds: float
    first_token: float
    prompt: str
    passages: tuple[Retrieved, ...] = ()
    retrievals: int = 0


class Method(Protocol):
    """A way to answer."""

    @property
    def name(self) -> str:
        """As in the paper's tables, in lower case."""
        ...

    def answer(self, base: BaseModel, asked: Sequence[Asked], sampling: Sampling, batch_size: int) -> list[Answer]:
        """Answers to the questions, in their order."""
        ...


class Injection(Protocol):
    """What a method that answers in one go decides: what stands in the prompt, and which adapter is injected."""

    @property
    def passages_in_prompt(self) -> bool:
        """Whether the retrieved passages stand in the prompt."""
        ...

    def adapter(self, documents: Sequence[Retrieved]) -> Adapters | None:
        """The merged adapter ([1, layers, …]) of the documents; None for none."""
        ...


def answer_questions(
    base: BaseModel, method: Injection, asked: Sequence[Asked], sampling: Sampling, batch_size: int
) -> list[Answer]:
    """Answer questions in one go each, greedy or sampled, in the order given."""
    prompts = [fitting_prompt(base, item, method.passages_in_prompt, sampling.max_new_tokens) for item in asked]
    making = [0.0] * len(asked)

    def adapters(batch: list[int]) -> Adapters | None:
        made = []
        for index in batch:
            began = perf_counter()
            made.append(method.adapter(asked[index].adapted))
            making[index] = perf_counter() - began
        return _stack_rows(made)

    generations = generate(base, [prompt.ids for prompt in prompts], sampling, adapters, batch_size)
    return [  # the batch's clock starts behind the adapters
        Answer(g.text, g.tokens, g.seconds + s, g.first_token + s, base.tokenizer.decode(prompt.ids), prompt.passages)
        for g, s, prompt in zip(generations, making, prompts, strict=True)
    ]


@dataclass(frozen=True)
class Prompt:
    """A prompt's ids, and the passages in it."""

    ids: list[int]
    passages: tuple[Retrieved, ...]


def fitting_prompt(base: BaseModel, item: Asked, with_passages: bool, new_tokens: int) -> Prompt:
    """The question's prompt; passages that do not fit beside `new_tokens` are left out, the longest first."""
    return fit(
        item.retrieved if with_passages else (),
        lambda texts: question_prompt(base.tokenizer, item.question, texts, item.chain_of_thought),
        base.max_tokens - new_tokens,
    )


def fit(found: Sequence[Retrieved], render: Callable[[Sequence[str]], list[int]], most: int) -> Prompt:
    """A prompt of at most so many ids; passages that do not fit are left out, the longest first.

    Args:
        render: gives the ids of the prompt with some passages. Without any it may be longer than `most`.
    """
    passages = list(found)
    while True:
        ids = render([one.document.passage for one in passages])
        if not passages or len(ids) <= most:
            return Prompt(ids, tuple(passages))
        passages.remove(max(passages, key=lambda one: len(one.document.passage)))


def _stack_rows(rows: Sequence[Adapters | None]) -> Adapters | None:
    """One adapter for each row of a batch; missing ones are zero, smaller ranks are filled up with zeros. Rows that
    share one and the same adapter get it once, so that what they share is computed once."""
    some = next((row for row in rows if row is not None), None)
    if some is None or all(row is some for row in rows):
        return some
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

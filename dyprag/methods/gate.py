"""Whether an adapter is injected beside passages: only where it is sure of the answer without them.

At a strength that helps where the adapter knows its document, it harms where it does not: with documents of a kind that
its translator has not learned, or with the wrong document. How sure it is tells the two apart, and costs a few tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from dyprag import progress
from dyprag.generation import Sampling, generate
from dyprag.lora import Adapters, stack_rows
from dyprag.models import BaseModel
from dyprag.prompts import question_prompt

PROBED = 8  # tokens of the answer without passages that are looked at
_LEAST = 1e-9


@dataclass(frozen=True)
class Gate:
    """confidence: the geometric mean of the probabilities of the answer's first tokens, from which on an adapter is
    injected. alone: what the adapter's delta, as it stands beside passages, is multiplied by to answer without them."""

    confidence: float
    alone: float


def sure(
    base: BaseModel, adapters: Sequence[Adapters | None], questions: Sequence[str], gate: Gate
) -> list[Adapters | None]:
    """The adapters ([1, layers, …] each) of the questions that they are sure of; None for the others."""
    held = [place for place, adapter in enumerate(adapters) if adapter is not None]
    if not held:
        return list(adapters)
    alone = stack_rows([_times(adapters[place], gate.alone) for place in held])
    prompts = [question_prompt(base.tokenizer, questions[place]) for place in held]

    def rows(batch: list[int]) -> Adapters | None:
        return alone if alone is None or alone.docs == 1 else alone.select(batch)

    with progress.part(len(held)):  # of its own: what is looked at is not an answer
        probes = generate(base, prompts, Sampling(PROBED), rows, len(held))
    chosen: list[Adapters | None] = [None] * len(adapters)
    for place, probe in zip(held, probes, strict=True):
        if confidence(probe.probabilities) >= gate.confidence:
            chosen[place] = adapters[place]
    return chosen


def confidence(probabilities: Sequence[float]) -> float:
    """The geometric mean of tokens' probabilities; 0 where there are none: an empty answer knows nothing."""
    if not probabilities:
        return 0.0
    return exp(sum(log(max(one, _LEAST)) for one in probabilities) / len(probabilities))


def _times(adapter: Adapters | None, strength: float) -> Adapters | None:
    return adapter.times(strength) if adapter is not None else None

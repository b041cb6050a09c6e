"""Whether an adapter is injected beside passages: only where the answer that it gives without them stands in them.

At a strength that helps where the adapter knows its document, it harms where it does not: with documents of a kind that
its translator has not learned, or with the wrong document. What it answers alone tells the two apart: the passages are
at hand to look it up in, and it costs a few tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import Adapters, stack_rows
from dyprag.corpora.text.answers import answer_presence, extract_answer
from dyprag.model.base import BaseModel
from dyprag.model.prompts import question_prompt
from dyprag.runtime import progress

PROBED = 16  # tokens of the answer without passages
_SAYS_NOTHING = frozenset({"", "yes", "no"})  # no passage can bear these out


@dataclass(frozen=True)
class Gate:
    """alone: what the adapter's delta, as it stands beside passages, is multiplied by to answer without them."""

    alone: float


def borne_out(
    base: BaseModel,
    adapters: Sequence[Adapters | None],
    questions: Sequence[str],
    passages: Sequence[Sequence[str]],
    gate: Gate,
) -> list[Adapters | None]:
    """The adapters ([1, layers, …] each) whose own answer stands in the passages of their question's prompt; None for
    the others."""
    held = {place: adapter for place, adapter in enumerate(adapters) if adapter is not None}
    if not held:
        return list(adapters)
    alone = stack_rows([adapter.times(gate.alone) for adapter in held.values()])
    prompts = [question_prompt(base.tokenizer, questions[place]) for place in held]

    def rows(batch: list[int]) -> Adapters | None:
        return alone if alone is None or alone.docs == 1 else alone.select(batch)

    with progress.part(len(held)):  # of its own: what is looked at is not an answer
        probes = generate(base, prompts, Sampling(PROBED), rows, len(held))
    chosen: list[Adapters | None] = [None] * len(adapters)
    for place, probe in zip(held, probes, strict=True):
        if stands_in(probe.text, questions[place], passages[place]):
            chosen[place] = adapters[place]
    return chosen


def stands_in(text: str, question: str, passages: Sequence[str]) -> bool:
    """Whether the answer in an output stands in a passage, and not in the question already; a yes or no in none."""
    answer = extract_answer(text)
    if answer.strip().lower() in _SAYS_NOTHING or answer_presence(question, answer):
        return False
    return any(answer_presence(passage, answer) for passage in passages)

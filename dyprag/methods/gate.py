"""The gate: injects an adapter beside passages only if the passages contain the adapter's own answer.

A strength that helps when the adapter knows its document harms when it does not, as with a wrong document or one of a
kind that the translator has not learned. Its answer without passages tells the two cases apart: it is looked up in the
passages, at the cost of a few tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import Adapters, stack_rows
from dyprag.corpora.text.answers import answer_presence, extract_answer
from dyprag.model.base import BaseModel
from dyprag.model.prompts import question_prompt
from dyprag.runtime import progress

PROBED = 16  # maximum tokens of the answer without passages
_SAYS_NOTHING = frozenset({"", "yes", "no"})  # answers that no passage can confirm


@dataclass(frozen=True)
class Gate:
    """Settings of the gate.

    alone: factor on the adapter's delta, relative to its strength beside passages, for the answer without passages.
    """

    alone: float


def borne_out(
    base: BaseModel,
    adapters: Sequence[Adapters | None],
    questions: Sequence[str],
    passages: Sequence[Sequence[str]],
    gate: Gate,
) -> list[Adapters | None]:
    """Return the adapters ([1, layers, …] each) whose own answer is in a passage of their prompt, else None."""
    present = {index: adapter for index, adapter in enumerate(adapters) if adapter is not None}
    if not present:
        return list(adapters)
    alone = stack_rows([adapter.times(gate.alone) for adapter in present.values()])
    prompts = [question_prompt(base.tokenizer, questions[index]) for index in present]

    def batch_adapters(batch: list[int]) -> Adapters | None:
        return alone and alone.of_rows(batch)

    with progress.part(len(present)):  # separate progress: probes are not answers
        probes = generate(base, prompts, Sampling(PROBED), batch_adapters, len(present))
    kept: list[Adapters | None] = [None] * len(adapters)
    for index, probe in zip(present, probes, strict=True):
        if stands_in(probe.text, questions[index], passages[index]):
            kept[index] = adapters[index]
    return kept


def stands_in(text: str, question: str, passages: Sequence[str]) -> bool:
    """Whether a passage contains the answer of an output and the question does not. Yes and no never count."""
    answer = extract_answer(text)
    if answer.strip().lower() in _SAYS_NOTHING or answer_presence(question, answer):
        return False
    return any(answer_presence(passage, answer) for passage in passages)

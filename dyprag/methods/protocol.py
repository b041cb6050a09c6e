"""The protocol of methods, and the loop that answers questions in batches, with one adapter per row."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import Adapters, stack_rows
from dyprag.adapters.stopping import repeats
from dyprag.corpora.documents import Retrieved
from dyprag.corpora.text.sentences import block_sentences
from dyprag.methods.gate import Gate, borne_out
from dyprag.model.base import BaseModel
from dyprag.model.prompts import PLAIN, AskFor, PromptForm, question_prompt


@dataclass(frozen=True)
class Asked:
    """A question with the documents retrieved for it, best first.

    injected: the documents whose adapters are injected, if they differ from the retrieved ones (the control with wrong
        documents).
    form: the form of the prompt.
    """

    question: str
    retrieved: tuple[Retrieved, ...]
    chain_of_thought: bool = False
    injected: tuple[Retrieved, ...] | None = None
    form: PromptForm = PLAIN

    @property
    def adapted(self) -> tuple[Retrieved, ...]:
        """The documents whose adapters are injected."""
        return self.retrieved if self.injected is None else self.injected


@dataclass(frozen=True)
class Answer:
    """An answer with its cost.

    text: the whole output.
    seconds: time to make the adapter, plus the answer's share of its batch.
    first_token: seconds from the start of the batch to the first token, including the time to make the adapter.
    prompt: the prompt as the model saw it.
    passages: the passages in it; in the last prompt, if there were several.
    retrievals: number of retrievals while answering.
    cut: whether generation stopped at the token limit.
    adapted: whether an adapter was injected.
    """

    text: str
    tokens: int
    seconds: float
    first_token: float
    prompt: str
    passages: tuple[Retrieved, ...] = ()
    retrievals: int = 0
    cut: bool = False
    adapted: bool = False


class Method(Protocol):
    """A way to answer questions."""

    @property
    def name(self) -> str:
        """The method's name as in the paper's tables, in lower case."""
        ...

    def answer(self, base: BaseModel, asked: Sequence[Asked], sampling: Sampling, batch_size: int) -> list[Answer]:
        """Answer questions; returns the answers in the same order."""
        ...


class Injection(Protocol):
    """The decisions of a method that answers in one generation: the prompt's content, and the adapter to inject."""

    @property
    def passages_in_prompt(self) -> bool:
        """Whether the prompt contains the retrieved passages."""
        ...

    @property
    def asks_as_trained(self) -> bool:
        """Whether questions are phrased as in the adapters' training, whatever the prompt form says.

        True for methods that inject an adapter and show no passages.
        """
        ...

    @property
    def gate(self) -> Gate | None:
        """The gate that may leave an adapter out; None to inject always."""
        ...

    def adapter(self, documents: Sequence[Retrieved]) -> Adapters | None:
        """Return the merged adapter ([1, layers, …]) of the documents, or None to inject nothing."""
        ...


def answer_questions(
    base: BaseModel, method: Injection, asked: Sequence[Asked], sampling: Sampling, batch_size: int
) -> list[Answer]:
    """Answer each question in one generation; returns the answers in the same order."""
    prompts = [
        fitting_prompt(base, item, method.passages_in_prompt, sampling.max_new_tokens, method.asks_as_trained)
        for item in asked
    ]
    adapter_seconds = [0.0] * len(asked)
    injected = [False] * len(asked)

    def adapters(batch: list[int]) -> Adapters | None:
        batch_adapters = []
        for index in batch:
            start = perf_counter()
            batch_adapters.append(method.adapter(asked[index].adapted))
            adapter_seconds[index] = perf_counter() - start
        if method.gate:
            start = perf_counter()
            questions = [asked[index].question for index in batch]
            passages = [[passage.document.passage for passage in prompts[index].passages] for index in batch]
            batch_adapters = borne_out(base, batch_adapters, questions, passages, method.gate)
            for index in batch:
                adapter_seconds[index] += (perf_counter() - start) / len(batch)
        for index, adapter in zip(batch, batch_adapters, strict=True):
            injected[index] = adapter is not None
        return stack_rows(batch_adapters)

    generations = generate(base, [prompt.ids for prompt in prompts], sampling, adapters, batch_size, stop=repeats)
    answers = []
    for generation, seconds, prompt, adapted in zip(generations, adapter_seconds, prompts, injected, strict=True):
        total, first_token = generation.seconds + seconds, generation.first_token + seconds
        prompt_text = base.tokenizer.decode(prompt.ids)
        answers.append(
            Answer(
                generation.text,
                generation.tokens,
                total,
                first_token,
                prompt_text,
                prompt.passages,
                0,
                generation.cut,
                adapted,
            )
        )
    return answers


@dataclass(frozen=True)
class Prompt:
    """A prompt's token ids, and the passages in it."""

    ids: list[int]
    passages: tuple[Retrieved, ...]


def fitting_prompt(
    base: BaseModel, item: Asked, with_passages: bool, new_tokens: int, as_trained: bool = False
) -> Prompt:
    """Build a question's prompt, shortening passages until `new_tokens` fit into the context as well.

    Args:
        as_trained: whether to phrase the question as in the adapters' training.
    """
    form = item.form
    ask_for: AskFor = "plain" if as_trained else form.ask_for
    return fit(
        form.arranged(item.retrieved) if with_passages else (),
        lambda texts: question_prompt(base.tokenizer, item.question, texts, item.chain_of_thought, ask_for=ask_for),
        form.longest(base.max_tokens - new_tokens),
    )


def fit(retrieved: Sequence[Retrieved], render: Callable[[Sequence[str]], list[int]], limit: int) -> Prompt:
    """Build a prompt of at most `limit` ids.

    If the passages do not fit, all are cut to the same maximum length, at the end of a sentence. A passage whose first
    sentence is longer is left out.

    Args:
        render: returns the ids of the prompt with the given passages. Without any, they may exceed `limit`.
    """

    def cut(length: int) -> Prompt:
        texts = [_beginning(item.document.passage, length) for item in retrieved]
        kept = tuple(item for item, text in zip(retrieved, texts, strict=True) if text)
        return Prompt(render([text for text in texts if text]), kept)

    longest = max((len(item.document.passage) for item in retrieved), default=0)
    full = cut(longest)
    if not retrieved or len(full.ids) <= limit:
        return full
    return cut(bisect_left(range(longest), True, key=lambda length: len(cut(length + 1).ids) > limit))


def _beginning(text: str, length: int) -> str:
    """Return the leading sentences of a text that fit into `length` characters."""
    if len(text) <= length:
        return text
    end = 0
    for sentence in block_sentences(text):
        sentence_end = text.index(sentence, end) + len(sentence)
        if sentence_end > length:
            break
        end = sentence_end
    return text[:end]
